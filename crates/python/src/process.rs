//! The engine as a process opens it: at the first use, and anew in the child of a fork.
//!
//! What a parent opened is never used in its child, and never closed there either: closing would
//! act on files that the parent has open. `flask_doorward` announces forks, which close everything
//! first (`forks`).

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use doorward_core::keys::{CHANGES_BETWEEN_STARTS, KeyError, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::password::Passwords;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::Store;
use doorward_core::{Accounts, Env, Service, SystemEnv};
use doorward_http::Api;
use doorward_stores::SqliteStore;
use pollster::FutureExt;

use crate::forks::Open;
use crate::options::{Options, Place};

/// How often the store's log and keys are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Rows that one step of cleaning up looks at: a few milliseconds.
const SWEEP: u32 = 1_000;
/// Steps of cleaning up a second, at the most.
const SWEEPS: usize = 10;

/// Why the engine does not open, in words.
#[derive(Clone, Debug)]
pub(crate) struct NotOpen(String);

impl fmt::Display for NotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn not_open(error: impl fmt::Display) -> NotOpen {
    NotOpen(error.to_string())
}

/// The place of a door's engine in whichever process asks for it.
pub(crate) struct Home {
    pub(crate) options: Options,
    /// A store in memory is the process's own: a child goes on with a copy.
    memory: Option<Arc<MemoryStore>>,
    /// Swapped without a lock that a fork could leave locked.
    process: ArcSwapOption<Process>,
}

/// One process's.
struct Process {
    id: u32,
    engine: ArcSwapOption<Engine>,
    opening: Mutex<()>,
}

/// Everything that serves.
pub(crate) struct Engine {
    pub(crate) api: Api,
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Arc<Passwords>,
    news: Mutex<News>,
    has_news: AtomicBool,
    ticker: Mutex<Option<Ticker>>,
    /// The last to go.
    _open: Open,
}

impl Home {
    pub(crate) fn new(options: Options) -> Self {
        let memory = match options.place {
            Place::Memory => Some(Arc::new(MemoryStore::new(options.policy.clone()))),
            Place::Sqlite(_) => None,
        };
        Home {
            options,
            memory,
            process: ArcSwapOption::empty(),
        }
    }

    /// The engine, if this process has opened it.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        let process = self.process.load();
        let process = process.as_ref().filter(|process| process.is_this())?;
        process.engine.load_full()
    }

    /// The engine, opened if it is not.
    pub(crate) fn open(&self) -> Result<Arc<Engine>, NotOpen> {
        // Before the lock, which a fork takes to close.
        let open = Open::between_forks()?;
        let process = self.this_process();
        let _opening = locked(&process.opening);
        if let Some(engine) = process.engine.load_full() {
            return Ok(engine);
        }
        let engine = Engine::open(open, &self.options, self.store()?)?;
        process.engine.store(Some(Arc::clone(&engine)));
        Ok(engine)
    }

    pub(crate) fn store(&self) -> Result<Arc<dyn Store>, NotOpen> {
        match (&self.options.place, &self.memory) {
            (Place::Sqlite(path), _) => {
                let store = SqliteStore::open(path, self.options.policy.clone());
                Ok(Arc::new(store.map_err(not_open)?.in_place()))
            }
            (Place::Memory, Some(memory)) => Ok(Arc::clone(memory) as Arc<dyn Store>),
            (Place::Memory, None) => Err(not_open("there is no store")),
        }
    }

    fn this_process(&self) -> Arc<Process> {
        loop {
            let known = self.process.load_full();
            if let Some(process) = known.as_ref().filter(|process| process.is_this()) {
                return Arc::clone(process);
            }
            let new = Some(Arc::new(Process {
                id: std::process::id(),
                engine: ArcSwapOption::empty(),
                opening: Mutex::default(),
            }));
            let _ = self.process.compare_and_swap(&known, new);
            // The parent's: see the module.
            mem::forget(known);
        }
    }

    /// Closes what this process has open. Whoever is in the middle of something ends it first.
    pub(crate) fn close(&self) {
        let process = self.process.load_full();
        let Some(process) = process.filter(|process| process.is_this()) else {
            return;
        };
        let _opening = locked(&process.opening);
        if let Some(engine) = process.engine.swap(None) {
            engine.stop();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let process = self.process.swap(None);
        match process {
            Some(process) if process.is_this() => {
                if let Some(engine) = process.engine.swap(None) {
                    engine.stop();
                }
            }
            parents => mem::forget(parents),
        }
    }
}

impl Process {
    fn is_this(&self) -> bool {
        self.id == std::process::id()
    }
}

impl Engine {
    fn open(open: Open, options: &Options, store: Arc<dyn Store>) -> Result<Arc<Self>, NotOpen> {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let policy = options.policy.clone();
        let ring = KeyRing::open(&*store, options.key.clone(), &policy, Arc::clone(&env));
        let ring = Arc::new(ring.block_on().map_err(not_open)?);
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), store.feed()));
        let service = Service::new(
            Arc::clone(&store),
            ring,
            Arc::clone(&revocations),
            policy,
            Arc::clone(&env),
        );
        service.tick().block_on().map_err(not_open)?;
        let passwords = Arc::new(Passwords::new(options.hashing.clone(), Arc::clone(&env)));
        let accounts = Accounts::new(store, Arc::clone(&passwords), revocations, env);
        let api = Api::new(Arc::new(service), options.settings.clone()).map_err(not_open)?;
        let engine = Arc::new(Engine {
            api,
            accounts,
            passwords,
            news: Mutex::default(),
            has_news: AtomicBool::new(false),
            ticker: Mutex::default(),
            _open: open,
        });
        engine.look(false);
        let ticker = Ticker::start(Arc::downgrade(&engine)).map_err(not_open)?;
        *locked(&engine.ticker) = Some(ticker);
        Ok(engine)
    }

    /// What the door is to log: each line once.
    pub(crate) fn news(&self) -> Vec<(&'static str, String)> {
        if !self.has_news.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        mem::take(&mut locked(&self.news).lines)
    }

    /// Catches up with other processes, and cleans up a little. What fails now is tried again.
    fn tick(&self) {
        let service = self.api.service();
        let ticked = service.tick().block_on();
        self.look(ticked.is_err());
        let more = |_: &usize| matches!(service.purge(SWEEP).block_on(), Ok(true));
        if ticked.is_ok() {
            (0..SWEEPS).take_while(more).for_each(drop);
        }
    }

    fn look(&self, failing: bool) {
        let service = self.api.service();
        let mut news = locked(&self.news);
        news.store(failing);
        news.keys(service.keys().can_sign(service.now()).err());
        news.changing(service.keys().changes_between_starts());
        news.spread(service.store().slow_to_spread());
        self.has_news
            .store(!news.lines.is_empty(), Ordering::Relaxed);
    }

    fn stop(&self) {
        if let Some(ticker) = locked(&self.ticker).take() {
            ticker.stop();
        }
    }
}

/// The thread that ticks.
struct Ticker {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Ticker {
    fn start(engine: Weak<Engine>) -> std::io::Result<Self> {
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let until = Arc::clone(&stopped);
        let thread = std::thread::Builder::new().name("doorward-ticker".into());
        let thread = thread.spawn(move || {
            while !has_stopped(&until)
                && let Some(engine) = engine.upgrade()
            {
                engine.tick();
            }
        })?;
        Ok(Ticker { stopped, thread })
    }

    fn stop(self) {
        *locked(&self.stopped.0) = true;
        self.stopped.1.notify_one();
        // The engine may be dropped by its own ticker, which held it last.
        if self.thread.thread().id() != std::thread::current().id() {
            let _ = self.thread.join();
        }
    }
}

/// Waits for the next tick.
fn has_stopped(stopped: &(Mutex<bool>, Condvar)) -> bool {
    let waits = |stopped: &mut bool| !*stopped;
    let waited = stopped
        .1
        .wait_timeout_while(locked(&stopped.0), TICK, waits);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

/// What an operator should know, each once.
#[derive(Default)]
struct News {
    lines: Vec<(&'static str, String)>,
    failing: bool,
    keyless: Option<KeyError>,
    changing: bool,
    slow: Option<String>,
}

impl News {
    fn store(&mut self, failing: bool) {
        if mem::replace(&mut self.failing, failing) == failing {
            return;
        }
        self.lines.push(if failing {
            ("error", "the session store does not answer".into())
        } else {
            ("info", "the session store answers again".into())
        });
    }

    fn keys(&mut self, keyless: Option<KeyError>) {
        if self.keyless == keyless {
            return;
        }
        self.lines.push(match &keyless {
            Some(why) => ("error", format!("logins and refreshes are refused: {why}")),
            None => ("info", "a key signs again".into()),
        });
        self.keyless = keyless;
    }

    fn changing(&mut self, changes: bool) {
        if changes && !mem::replace(&mut self.changing, true) {
            self.lines.push(("warning", CHANGES_BETWEEN_STARTS.into()));
        }
    }

    fn spread(&mut self, slow: Option<String>) {
        if self.slow == slow {
            return;
        }
        self.lines.push(match &slow {
            Some(why) => (
                "warning",
                format!("other processes hear of ended sessions within a second: {why}"),
            ),
            None => (
                "info",
                "other processes hear of ended sessions at once".into(),
            ),
        });
        self.slow = slow;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
