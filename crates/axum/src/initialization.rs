//! INITIALIZATION: what an app configures once, and the work that goes on in the background.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorward_core::engine::{EngineError, Level, News};
use doorward_core::event::{EventName, Outcome};
use doorward_core::event_log::Listener;
use doorward_core::password::Passwords;
use doorward_core::store::Store;
use doorward_core::throttle::OFF;
use doorward_core::{Accounts, Engine, EngineConfig, Event, Service, SystemEnv};
use doorward_http::{Api, Settings, SettingsError, check_proxies};
use doorward_stores::Place;
use doorward_webhooks::Webhooks;
use ipnet::IpNet;
use tracing::field;

use crate::routes::Users;

/// How often the engine catches up with its store.
const TICK: Duration = Duration::from_secs(1);

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
    engine: Engine,
    /// Ends when it is dropped.
    _webhooks: Option<Webhooks>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

/// Where sessions are kept.
enum Home {
    At(Place),
    In(Arc<dyn Store>),
}

/// What an app configures: public fields with defaults, then [`Builder::open`].
pub struct Builder {
    home: Home,
    /// The store that the one named is to be left for: this process goes over to it by itself, when
    /// `doorward store switch` has cut over.
    pub store_next: Option<Place>,
    /// Lifetimes, keys, passwords.
    pub engine: EngineConfig,
    /// Paths, cookies and origins.
    pub settings: Settings,
    /// The app's own users; `None`: the built-in accounts.
    pub users: Option<Arc<dyn Users>>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Told of each event, whoever caused it; by default it is logged with `tracing`.
    pub on_event: Box<dyn Fn(&Event) + Send + Sync>,
}

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A lifetime, a key, or what the store keeps of it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A path, cookie or origin.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No thread can be started.
    #[error("webhooks cannot be sent: {0}")]
    Webhooks(#[source] std::io::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] doorward_stores::OpenError),
}

impl Doorward {
    /// Sessions in an SQLite file, which is made where there is none.
    #[must_use]
    pub fn sqlite(path: impl AsRef<Path>) -> Builder {
        Doorward::at(Place::Sqlite(path.as_ref().into()))
    }

    /// Sessions in the store that a URL names: `Doorward::at("postgres://doorward@db/doorward".parse()?)`.
    #[must_use]
    pub fn at(place: Place) -> Builder {
        Builder::new(Home::At(place))
    }

    /// Sessions in any store.
    #[must_use]
    pub fn store(store: Arc<dyn Store>) -> Builder {
        Builder::new(Home::In(store))
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
        self.inner.engine.accounts()
    }

    /// Why some requests cannot be served now, for operators; `None`: all can.
    #[must_use]
    pub fn unready(&self) -> Option<&'static str> {
        self.service().unready()
    }

    /// What is counted of the store, of ended sessions and of verification, as Prometheus reads it:
    /// [`doorward_core::meter::TYPE`].
    #[must_use]
    pub fn metrics(&self) -> String {
        self.inner.engine.metrics()
    }

    /// Writes what the log of events holds back for the next tick. For when the app is done.
    pub async fn close(&self) {
        self.inner.engine.close().await;
    }

    /// The hashing threads.
    #[must_use]
    pub fn passwords(&self) -> &Arc<Passwords> {
        self.inner.engine.passwords()
    }
}

impl Builder {
    fn new(home: Home) -> Self {
        Builder {
            home,
            store_next: None,
            engine: EngineConfig::default(),
            settings: Settings::default(),
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
        // Before a file is made.
        self.engine.policy.check().map_err(EngineError::from)?;
        check_proxies(&self.trusted_proxies)?;
        let advice = self.settings.advice(&self.engine.policy);
        for advice in advice.into_iter().chain(self.engine.advice()) {
            tracing::warn!("{advice}");
        }
        let store = match self.home {
            Home::At(place) => {
                place.open_before(self.store_next.as_ref(), self.engine.policy.clone(), false)?
            }
            Home::In(store) => store,
        };
        let mut config = self.engine;
        config.events.listener = Some(Listener::new(self.on_event));
        let engine = Engine::open(store, config, Arc::new(SystemEnv)).await?;
        let webhooks = engine.outbox().map(Webhooks::start).transpose();
        let webhooks = webhooks.map_err(OpenError::Webhooks)?;
        let own_users = self.users.is_some();
        let users = self
            .users
            .unwrap_or_else(|| Arc::new(engine.accounts().clone()));
        let settings = Settings {
            change_password: self.settings.change_password && users.sets_passwords(),
            reset_password: self.settings.reset_password && !own_users,
            ..self.settings
        };
        if settings.throttle.is_none() {
            tracing::warn!("{OFF}");
        }
        let inner = Arc::new(Inner {
            api: Api::new(Arc::clone(engine.service()), settings)?,
            users,
            own_users,
            trusted_proxies: self.trusted_proxies,
            engine,
            _webhooks: webhooks,
        });
        tokio::spawn(background(Arc::downgrade(&inner)));
        Ok(Doorward { inner })
    }
}

/// Every second: see [`Engine::tick`].
async fn background(door: std::sync::Weak<Inner>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(door) = door.upgrade() else { return };
        door.engine.tick().await.into_iter().for_each(tell);
    }
}

fn tell(News { level, line }: News) {
    match level {
        Level::Info => tracing::info!("{line}"),
        Level::Warning => tracing::warn!("{line}"),
        Level::Error => tracing::error!("{line}"),
    }
}

/// One line an event: ids and reasons, never a token or a password.
pub fn log(event: &Event) {
    let name = event.name.as_str();
    let user = event.user.as_ref().map(field::display);
    let session = event.session.map(field::display);
    let (reason, detail, count) = (
        event.reason.as_deref(),
        event.detail.as_deref(),
        event.count,
    );
    match event.name.outcome() {
        Outcome::Alarm => {
            tracing::warn!(
                event = name,
                user,
                session,
                reason,
                detail,
                count,
                "session"
            );
        }
        _ if event.name == EventName::Refreshed => {
            tracing::debug!(event = name, user, session, "session");
        }
        _ => tracing::info!(
            event = name,
            user,
            session,
            reason,
            detail,
            count,
            "session"
        ),
    }
}
