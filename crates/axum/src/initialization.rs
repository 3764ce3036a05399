//! INITIALIZATION: what an app configures once, and the work that goes on in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorward_core::keys::{CHANGES_BETWEEN_STARTS, KeyConfig, KeyError, KeyRing, RingError};
use doorward_core::password::{Hashing, Passwords};
use doorward_core::policy::PolicyError;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::Store;
use doorward_core::{Accounts, Env, Event, Policy, Service, SystemEnv};
use doorward_http::{Api, Settings, SettingsError};
use doorward_stores::SqliteStore;
use ipnet::IpNet;

use crate::routes::Users;

/// How often the store's log and keys are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Rows that one step of cleaning up looks at: a few milliseconds.
const SWEEP: u32 = 1_000;
/// Steps of cleaning up a second, at the most.
const SWEEPS: usize = 10;

/// Sessions for an app. Cheap to clone; its background work ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Doorward {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) api: Api,
    pub(crate) users: Arc<dyn Users>,
    pub(crate) own_users: bool,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) on_event: Box<dyn Fn(&Event) + Send + Sync>,
    accounts: Accounts,
    passwords: Arc<Passwords>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

/// Where sessions are kept.
enum Place {
    Sqlite(PathBuf),
    Store(Arc<dyn Store>),
}

/// What an app configures: public fields with defaults, then [`Builder::open`].
pub struct Builder {
    place: Place,
    /// Lifetimes and limits.
    pub policy: Policy,
    /// Paths, cookies and origins.
    pub settings: Settings,
    /// Which key signs access tokens.
    pub key: KeyConfig,
    /// How passwords of built-in accounts are hashed, and which new ones are refused.
    pub hashing: Hashing,
    /// The app's own users; `None`: the built-in accounts.
    pub users: Option<Arc<dyn Users>>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Told of each event; by default it is logged with `tracing`.
    pub on_event: Box<dyn Fn(&Event) + Send + Sync>,
}

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A lifetime or limit.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A path, cookie or origin.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database file.
    #[error(transparent)]
    Sqlite(#[from] doorward_stores::OpenError),
    /// A key, or the store that keeps it.
    #[error(transparent)]
    Keys(#[from] RingError),
    /// The store did not answer.
    #[error("the session store does not answer")]
    Store,
}

impl Doorward {
    /// Sessions in an SQLite file, which is made where there is none.
    #[must_use]
    pub fn sqlite(path: impl AsRef<Path>) -> Builder {
        Builder::new(Place::Sqlite(path.as_ref().into()))
    }

    /// Sessions in any store.
    #[must_use]
    pub fn store(store: Arc<dyn Store>) -> Builder {
        Builder::new(Place::Store(store))
    }

    /// The business logic, for views written by hand.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        self.inner.api.service()
    }

    /// The wire, for hosts that route themselves.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.inner.api
    }

    /// The built-in accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.inner.accounts
    }

    /// Why some requests cannot be served now, for operators; `None`: all can.
    #[must_use]
    pub fn unready(&self) -> Option<&'static str> {
        self.service().unready()
    }

    /// The hashing threads.
    #[must_use]
    pub fn passwords(&self) -> &Arc<Passwords> {
        &self.inner.passwords
    }
}

impl Builder {
    fn new(place: Place) -> Self {
        Builder {
            place,
            policy: Policy::default(),
            settings: Settings::default(),
            key: KeyConfig::default(),
            hashing: Hashing::default(),
            users: None,
            trusted_proxies: Vec::new(),
            on_event: Box::new(log),
        }
    }

    /// Opens the store and starts the background work on the current tokio runtime.
    ///
    /// # Errors
    /// What cannot be used, in words that say what to change.
    pub async fn open(self) -> Result<Doorward, OpenError> {
        self.policy.check()?;
        let issuer = self.policy.issuer.clone();
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let store: Arc<dyn Store> = match self.place {
            Place::Sqlite(path) => Arc::new(SqliteStore::open(&path, self.policy.clone())?),
            Place::Store(store) => store,
        };
        let keys =
            Arc::new(KeyRing::open(&*store, self.key, &self.policy, Arc::clone(&env)).await?);
        let revocations = Arc::new(Revocations::new(Bounds::of(&self.policy), store.feed()));
        let service = Service::new(
            Arc::clone(&store),
            keys,
            Arc::clone(&revocations),
            self.policy,
            Arc::clone(&env),
        );
        let service = Arc::new(service);
        service.tick().await.map_err(|_| OpenError::Store)?;
        let mut hashing = self.hashing;
        hashing.rules.name_after(issuer.as_deref());
        let passwords = Arc::new(Passwords::new(hashing, Arc::clone(&env)));
        let accounts = Accounts::new(store, Arc::clone(&passwords), revocations, env);
        let own_users = self.users.is_some();
        let users = self.users.unwrap_or_else(|| Arc::new(accounts.clone()));
        let settings = Settings {
            change_password: self.settings.change_password && users.sets_passwords(),
            ..self.settings
        };
        let inner = Arc::new(Inner {
            api: Api::new(service, settings)?,
            users,
            own_users,
            trusted_proxies: self.trusted_proxies,
            on_event: self.on_event,
            accounts,
            passwords,
        });
        tokio::spawn(background(Arc::downgrade(&inner)));
        Ok(Doorward { inner })
    }
}

/// Every second: keys and ends of other processes, and a little cleaning up. What fails now is
/// tried again; readiness tells.
async fn background(door: std::sync::Weak<Inner>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        ticks.tick().await;
        let Some(door) = door.upgrade() else { return };
        let service = door.api.service();
        let ticked = service.tick().await;
        told.store(ticked.is_err());
        told.keys(service.keys().can_sign(service.now()).err());
        told.changing(service.keys().changes_between_starts());
        told.spread(service.store().slow_to_spread());
        if ticked.is_ok() {
            clean_up(service).await;
        }
    }
}

async fn clean_up(service: &Service) {
    for _ in 0..SWEEPS {
        if !matches!(service.purge(SWEEP).await, Ok(true)) {
            return;
        }
    }
}

/// What the log was told last, so that it hears of changes only.
#[derive(Default)]
struct Told {
    failing: bool,
    keyless: Option<KeyError>,
    changing: bool,
    slow: Option<String>,
    fast: bool,
}

impl Told {
    fn store(&mut self, failing: bool) {
        if std::mem::replace(&mut self.failing, failing) == failing {
            return;
        }
        if failing {
            tracing::error!("the session store does not answer");
        } else {
            tracing::info!("the session store answers again");
        }
    }

    fn keys(&mut self, keyless: Option<KeyError>) {
        if self.keyless == keyless {
            return;
        }
        if let Some(why) = &keyless {
            tracing::error!(%why, "logins and refreshes are refused");
        } else {
            tracing::info!("a key signs again");
        }
        self.keyless = keyless;
    }

    fn changing(&mut self, changes: bool) {
        if changes && !std::mem::replace(&mut self.changing, true) {
            tracing::warn!("{CHANGES_BETWEEN_STARTS}");
        }
    }

    /// Which bound holds for processes that share the store.
    fn spread(&mut self, slow: Option<String>) {
        let told = self.fast || self.slow.is_some();
        if told && self.slow == slow {
            return;
        }
        if let Some(reason) = &slow {
            tracing::warn!(
                reason,
                "other processes hear of ended sessions within a second"
            );
        } else {
            tracing::info!("other processes on this machine hear of ended sessions at once");
        }
        self.fast = slow.is_none();
        self.slow = slow;
    }
}

/// One line an event: ids and reasons, never a token or a password.
pub fn log(event: &Event) {
    let (name, detail) = (event.name(), event);
    match event {
        Event::ReuseDetected { .. } | Event::ForkSuspected { .. } | Event::StoreBehind { .. } => {
            tracing::warn!(event = name, ?detail, "session");
        }
        Event::Refreshed { .. } => tracing::debug!(event = name, ?detail, "session"),
        _ => tracing::info!(event = name, ?detail, "session"),
    }
}
