//! The engine as a process runs it: store, key ring, service and accounts, put together once, and what
//! is to be done every second.
//!
//! Doors open one, call [`Engine::tick`] each second, and log the [`News`] that it brings. Left to them:
//! the store, the thread or task that ticks, and the log.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::account::Accounts;
use crate::adoption::Adoption;
use crate::env::{Env, Timestamp};
use crate::event_log::{EventConfig, EventLog};
use crate::keys::{CHANGES_BETWEEN_STARTS, KeyConfig, KeyError, KeyRing, RingError, SEALED_BEFORE};
use crate::meter::{self, Measured};
use crate::password::{Hashing, Passwords};
use crate::policy::{Policy, PolicyError};
use crate::revocation::{Bounds, Revocations};
use crate::service::Service;
use crate::store::Store;
use crate::webhook::{Outbox, WebhookConfig, WebhookError};

/// Rows that one step of cleaning up looks at: a few milliseconds.
const SWEEP: u32 = 1_000;
/// Steps of cleaning up a tick, at the most.
const SWEEPS: usize = 10;

/// What an engine is made of, beside its store.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// Lifetimes and limits.
    pub policy: Policy,
    /// Which key signs access tokens.
    pub key: KeyConfig,
    /// How passwords of built-in accounts are hashed, and which new ones are refused.
    pub hashing: Hashing,
    /// Which refresh tokens of another program become sessions; `None`: none.
    pub adoption: Option<Arc<Adoption>>,
    /// What is kept of events.
    pub events: EventConfig,
    /// Where they are sent.
    pub webhooks: WebhookConfig,
}

impl EngineConfig {
    /// What works and is weaker than it need be: for the log of whoever opens an engine.
    #[must_use]
    pub fn advice(&self) -> Vec<&'static str> {
        let hashing = self.hashing.params.advice();
        self.key.advice().chain(hashing).collect()
    }
}

/// Why an engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A lifetime or limit.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A key, or the store that keeps it.
    #[error(transparent)]
    Keys(#[from] RingError),
    /// Where events are sent.
    #[error(transparent)]
    Webhooks(#[from] WebhookError),
    /// The store did not answer.
    #[error("the session store does not answer")]
    Store,
}

/// Everything that serves one store's sessions in one process.
pub struct Engine {
    service: Arc<Service>,
    accounts: Accounts,
    passwords: Arc<Passwords>,
    outbox: Option<Arc<Outbox>>,
    told: Mutex<Told>,
}

impl Engine {
    /// Opens the ring, and loads what the store knows of ended sessions: from then on it verifies.
    ///
    /// # Errors
    /// What cannot be used, in words that say what to change.
    pub async fn open(
        store: Arc<dyn Store>,
        config: EngineConfig,
        env: Arc<dyn Env>,
    ) -> Result<Engine, EngineError> {
        let EngineConfig {
            policy,
            key,
            mut hashing,
            adoption,
            events,
            webhooks,
        } = config;
        let store: Arc<dyn Store> = Arc::new(Measured::new(store));
        policy.check()?;
        webhooks.check(events.on)?;
        hashing.rules.name_after(policy.issuer.as_deref());
        let keys = Arc::new(KeyRing::open(&*store, key, &policy, Arc::clone(&env)).await?);
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), store.feed()));
        let passwords = Arc::new(Passwords::new(hashing, Arc::clone(&env)));
        let events = Arc::new(EventLog::new(Arc::clone(&store), events, Arc::clone(&env)));
        let accounts = Accounts::new(
            Arc::clone(&store),
            Arc::clone(&passwords),
            Arc::clone(&revocations),
            Arc::clone(&env),
        );
        let accounts = accounts.logging_to(Arc::clone(&events));
        let outbox = (!webhooks.urls.is_empty()).then(|| {
            let (store, events, env) = (Arc::clone(&store), Arc::clone(&events), Arc::clone(&env));
            Arc::new(Outbox::new(store, events, webhooks, env))
        });
        if let Some(outbox) = &outbox {
            outbox.begin().await.map_err(|_| EngineError::Store)?;
        }
        let service = Service::new(store, keys, revocations, policy, env);
        let service = service.logging_to(events).adopting(adoption);
        service.tick().await.map_err(|_| EngineError::Store)?;
        Ok(Engine {
            service: Arc::new(service),
            accounts,
            passwords,
            outbox,
            told: Mutex::default(),
        })
    }

    /// The business logic.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The built-in accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The hashing threads.
    #[must_use]
    pub fn passwords(&self) -> &Arc<Passwords> {
        &self.passwords
    }

    /// What is to be sent, where there are webhooks: a door starts `doorward-webhooks` for it.
    #[must_use]
    pub fn outbox(&self) -> Option<&Arc<Outbox>> {
        self.outbox.as_ref()
    }

    /// Catches up with other processes, and cleans up a little. What fails now is tried again at the
    /// next tick; readiness tells. Returns what has changed for operators since the last.
    pub async fn tick(&self) -> Vec<News> {
        let ticked = self.service.tick().await;
        if ticked.is_ok() {
            self.clean_up().await;
        }
        self.look(ticked.is_err())
    }

    /// What is counted, for Prometheus: the text format, version 0.0.4.
    #[must_use]
    pub fn metrics(&self) -> String {
        meter::text(&self.service, &self.passwords)
    }

    /// Writes what the log of events still holds back. Doors call it when they are done.
    pub async fn close(&self) {
        let _ = self.service.events().close().await;
    }

    async fn clean_up(&self) {
        for _ in 0..SWEEPS {
            if !matches!(self.service.purge(SWEEP).await, Ok(true)) {
                return;
            }
        }
    }

    fn look(&self, failing: bool) -> Vec<News> {
        let (service, store) = (&self.service, self.service.store());
        let keys = service.keys();
        // A store whose keys are sealed otherwise does answer.
        let failing = failing && keys.refused().is_none();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = [
            told.store(failing),
            told.keys(keys.can_sign(service.now()).err()),
            told.changing(keys.changes_between_starts()),
            told.sealed_before(keys.is_sealed_before()),
            told.adoption(service.adoption(), service.now()),
            told.spread(store.feed().is_some(), store.slow_to_spread()),
            told.at_risk(store.at_risk()),
            told.notice(store.notice()),
            told.webhooks(self.outbox.as_ref().map(|outbox| outbox.failing())),
        ];
        news.into_iter().flatten().collect()
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Works, but not as well as it could.
    Warning,
    /// Requests are refused.
    Error,
}

impl Level {
    /// As loggers write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// Something that an operator should know, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// How much it matters.
    pub level: Level,
    /// In words.
    pub line: String,
}

impl News {
    fn new(level: Level, line: impl Into<String>) -> News {
        let line = line.into();
        News { level, line }
    }
}

/// What was told last.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
struct Told {
    failing: bool,
    keyless: Option<KeyError>,
    changing: bool,
    adopting: bool,
    sealed_before: bool,
    /// Whether at once, and if not, why.
    spread: (bool, Option<String>),
    /// What the store said.
    notice: Option<String>,
    at_risk: Option<String>,
    /// Addresses that do not take their messages.
    unheard: BTreeSet<Box<str>>,
}

impl Told {
    fn store(&mut self, failing: bool) -> Option<News> {
        let changed = mem::replace(&mut self.failing, failing) != failing;
        let failed = || News::new(Level::Error, "the session store does not answer");
        let mended = || News::new(Level::Info, "the session store answers again");
        changed.then(if failing { failed } else { mended })
    }

    fn keys(&mut self, keyless: Option<KeyError>) -> Option<News> {
        let changed = mem::replace(&mut self.keyless, keyless.clone()) != keyless;
        let unready = |why| format!("not ready: {why}");
        changed.then(|| match keyless {
            Some(why) => News::new(Level::Error, unready(why)),
            None => News::new(Level::Info, "a key signs again"),
        })
    }

    fn changing(&mut self, changes: bool) -> Option<News> {
        let first = changes && !mem::replace(&mut self.changing, true);
        first.then(|| News::new(Level::Warning, CHANGES_BETWEEN_STARTS))
    }

    fn sealed_before(&mut self, is: bool) -> Option<News> {
        let changed = mem::replace(&mut self.sealed_before, is) != is;
        let before = || News::new(Level::Warning, SEALED_BEFORE);
        let resealed = || {
            News::new(
                Level::Info,
                "the keys in the store are sealed by seal_secret",
            )
        };
        changed.then(if is { before } else { resealed })
    }

    /// Whoever has the old key can make tokens: nobody should forget that it counts.
    fn adoption(&mut self, adoption: Option<&Adoption>, now: Timestamp) -> Option<News> {
        let adoption = adoption.filter(|_| !mem::replace(&mut self.adopting, true))?;
        Some(match adoption.weakness() {
            _ if now >= adoption.until() => News::new(
                Level::Warning,
                "adopt_until has passed: nothing is adopted; remove the adopt_ settings",
            ),
            Some(why) => News::new(
                Level::Warning,
                format!("adopt_secret lets others make tokens that are adopted: {why}"),
            ),
            None => News::new(Level::Info, "refresh tokens of the old program are adopted"),
        })
    }

    fn notice(&mut self, notice: Option<String>) -> Option<News> {
        let changed = mem::replace(&mut self.notice, notice.clone()) != notice;
        changed.then(|| match notice {
            Some(words) => News::new(Level::Error, words),
            None => News::new(Level::Info, "the store takes logins and refreshes"),
        })
    }

    fn at_risk(&mut self, at_risk: Option<String>) -> Option<News> {
        let changed = mem::replace(&mut self.at_risk, at_risk.clone()) != at_risk;
        changed.then(|| match at_risk {
            Some(words) => News::new(Level::Warning, words),
            None => News::new(
                Level::Info,
                "the store's servers keep what they acknowledge",
            ),
        })
    }

    fn webhooks(&mut self, failing: Option<BTreeSet<Box<str>>>) -> Option<News> {
        let failing = failing.unwrap_or_default();
        let hosts: Vec<&str> = failing.iter().map(|host| &**host).collect();
        let hosts = hosts.join(", ");
        let before = mem::replace(&mut self.unheard, failing);
        let changed = before != self.unheard;
        changed.then(|| match hosts.as_str() {
            "" => News::new(Level::Info, "every webhook is taken again"),
            hosts => News::new(Level::Warning, format!("webhooks are not taken by {hosts}")),
        })
    }

    /// Which bound holds for processes that share the store.
    fn spread(&mut self, fast: bool, slow: Option<String>) -> Option<News> {
        let is = (fast && slow.is_none(), slow);
        let changed = mem::replace(&mut self.spread, is.clone()) != is;
        let hear = "other processes on this machine hear of ended sessions";
        changed.then(|| match is.1 {
            Some(why) => News::new(Level::Warning, format!("{hear} within a second: {why}")),
            None => News::new(Level::Info, format!("{hear} at once")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;
    use crate::password::Params;

    #[test]
    fn each_change_is_told_once() {
        let mut told = Told::default();
        assert_eq!(told.store(false), None);
        assert_eq!(told.store(true).unwrap().level, Level::Error);
        assert_eq!(told.store(true), None);
        assert_eq!(told.store(false).unwrap().level, Level::Info);
        assert_eq!(told.changing(true).unwrap().level, Level::Warning);
        assert_eq!(told.changing(true), None);
    }

    #[test]
    fn what_is_weaker_than_it_need_be_is_pointed_out() {
        let mut config = EngineConfig::default();
        assert_eq!(config.advice(), [""; 0]);
        config.hashing.params = Params::FAST_FOR_TESTS;
        config.key.algorithm = Algorithm::RS256;
        let advice = config.advice();
        assert!(advice[0].contains("RS256") && advice[1].contains("Argon2id"));
        assert_eq!(advice.len(), 2);
    }

    #[test]
    fn an_address_that_takes_nothing_is_told_of_once() {
        let mut told = Told::default();
        let hosts = |hosts: &[&str]| Some(hosts.iter().map(|host| (*host).into()).collect());
        assert_eq!(told.webhooks(None), None);
        assert_eq!(told.webhooks(hosts(&[])), None);
        let news = told.webhooks(hosts(&["a.example"])).unwrap();
        assert!(news.level == Level::Warning && news.line.contains("a.example"));
        assert_eq!(told.webhooks(hosts(&["a.example"])), None);
        assert_eq!(told.webhooks(hosts(&[])).unwrap().level, Level::Info);
    }

    #[test]
    fn the_bound_is_told_at_the_start_and_when_it_changes() {
        let mut told = Told::default();
        assert_eq!(told.spread(true, None).unwrap().level, Level::Info);
        assert_eq!(told.spread(true, None), None);
        let why = || Some("no shared memory".to_owned());
        assert_eq!(told.spread(true, why()).unwrap().level, Level::Warning);
        assert_eq!(told.spread(true, why()), None);
        assert_eq!(told.spread(true, None).unwrap().level, Level::Info);
    }

    #[test]
    fn a_store_of_one_process_has_nothing_to_tell_others() {
        assert_eq!(Told::default().spread(false, None), None);
    }
}
