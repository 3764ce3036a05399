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
use doorward_core::SystemEnv;
use doorward_core::engine::{Level, News};
use doorward_core::memory::MemoryStore;
use doorward_core::store::Store;
use doorward_core::throttle::OFF;
use doorward_http::Api;
use doorward_stores::Place;
use doorward_webhooks::Webhooks;
use pollster::FutureExt;

use crate::forks::Open;
use crate::options::Options;

/// How often the engine catches up with its store.
const TICK: Duration = Duration::from_secs(1);
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
    pub(crate) core: doorward_core::Engine,
    news: Mutex<Vec<News>>,
    has_news: AtomicBool,
    ticker: Mutex<Option<Ticker>>,
    webhooks: Option<Webhooks>,
    /// The last to go.
    _open: Open,
}

impl Home {
    pub(crate) fn new(options: Options) -> Self {
        let is_memory = options.place == Place::Memory;
        let memory = is_memory.then(|| Arc::new(MemoryStore::new(options.engine.policy.clone())));
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
            (_, Some(memory)) => Ok(Arc::clone(memory) as Arc<dyn Store>),
            (place, None) => place
                .open_before(
                    self.options.place_next.as_ref(),
                    self.options.engine.policy.clone(),
                    true,
                )
                .map_err(not_open),
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
        let core = doorward_core::Engine::open(store, options.engine.clone(), Arc::new(SystemEnv));
        let core = core.block_on().map_err(not_open)?;
        let api = Api::new(Arc::clone(core.service()), options.settings.clone());
        let webhooks = core.outbox().map(Webhooks::start).transpose();
        let engine = Arc::new(Engine {
            api: api.map_err(not_open)?,
            core,
            news: Mutex::default(),
            has_news: AtomicBool::new(false),
            ticker: Mutex::default(),
            webhooks: webhooks.map_err(not_open)?,
            _open: open,
        });
        engine.tick();
        if options.settings.throttle.is_none() {
            let (level, line) = (Level::Warning, OFF.into());
            engine.tell([News { level, line }]);
        }
        let ticker = Ticker::start(Arc::downgrade(&engine)).map_err(not_open)?;
        *locked(&engine.ticker) = Some(ticker);
        Ok(engine)
    }

    /// What the door is to log: each line once.
    pub(crate) fn news(&self) -> Vec<News> {
        if !self.has_news.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        mem::take(&mut locked(&self.news))
    }

    fn tick(&self) {
        self.tell(self.core.tick().block_on());
    }

    fn tell(&self, since: impl IntoIterator<Item = News>) {
        let mut news = locked(&self.news);
        news.extend(since);
        self.has_news.store(!news.is_empty(), Ordering::Relaxed);
    }

    fn stop(&self) {
        if let Some(ticker) = locked(&self.ticker).take() {
            ticker.stop();
        }
        if let Some(webhooks) = &self.webhooks {
            webhooks.stop();
        }
        self.core.close().block_on();
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
