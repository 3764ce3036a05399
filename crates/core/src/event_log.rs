//! The log of events: who is told of them, and how they get into the store.
//!
//! [`crate::service`] and [`crate::account`] say what happened; nobody above them can forget to. What
//! opens or ends a session or changes an account is written in the transaction that does it, by a
//! [`Trail`]. A reauthentication and the like are written before they are answered. Refreshes, and what anybody can make
//! happen as often as he likes, wait for the next tick: a crash loses a second of them at the most,
//! and of alike failures how many came in the minute after the first.
//! Nothing is lost silently: of what does not fit a record says how much it was.
//!
//! Left out: what was typed. A name may be a password in the wrong field.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac::{self, HMAC_SHA256};

use crate::env::{Env, Timestamp, millis};
use crate::event::{Actor, Caller, Entry, Event, EventName, Filter, Record, Trail};
use crate::id::{SessionId, UserId};
use crate::keys::Derived;
use crate::store::{Store, StoreResult};

/// The most records that wait for the tick.
const WAITING: usize = 16 * 1024;
/// The most different failures that are told apart.
const KINDS: usize = 4 * 1024;
/// Failures that are alike make one record in so many milliseconds.
const ALIKE: i64 = 60_000;

/// What is kept, and for how long.
#[derive(Clone, Debug)]
pub struct EventConfig {
    /// Whether there is a log at all.
    pub on: bool,
    /// How the client's address is written.
    pub network: NetworkForm,
    /// How long records are kept.
    pub retention: Duration,
    /// Of a session's refreshes one is kept in so long, the first, counted from when it opened; zero: each.
    pub refreshes: Duration,
    /// Who is told of each event as it happens.
    pub listener: Option<Listener>,
}

impl Default for EventConfig {
    fn default() -> Self {
        EventConfig {
            on: true,
            network: NetworkForm::default(),
            retention: Duration::from_secs(90 * 24 * 3600),
            refreshes: Duration::from_secs(24 * 3600),
            listener: None,
        }
    }
}

impl EventConfig {
    /// Whether records are kept for a time that makes sense.
    ///
    /// # Errors
    /// What is wrong, in words that begin with the setting.
    pub fn check(&self) -> Result<(), &'static str> {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        if !(DAY..=3_660 * DAY).contains(&self.retention) {
            return Err("event_retention must be 1 to 3660 days");
        }
        if self.refreshes > self.retention {
            return Err("event_refreshes must not be longer than event_retention");
        }
        Ok(())
    }
}

/// How the client's address is written.
#[derive(Clone, Debug, Default)]
pub enum NetworkForm {
    /// IPv4 /24, IPv6 /48: an area or a customer, no device.
    #[default]
    Truncated,
    /// As a number that only tells whether two are the same.
    Hashed(NetworkKey),
    /// The address.
    Full,
    /// Not at all.
    None,
}

impl NetworkForm {
    /// The form of this name. `hashed` takes its key from the seal secret, so that every process on
    /// the store writes the same, and nobody who has the store alone can try all addresses.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(name: &str, seal_secret: Option<&[u8]>) -> Result<Self, &'static str> {
        match (name, seal_secret) {
            ("truncated", _) => Ok(NetworkForm::Truncated),
            ("full", _) => Ok(NetworkForm::Full),
            ("none", _) => Ok(NetworkForm::None),
            ("hashed", Some(secret)) => Ok(NetworkForm::Hashed(NetworkKey::of(secret))),
            ("hashed", None) => Err("hashed needs seal_secret, which its key is made from"),
            _ => Err("must be truncated, hashed, full or none"),
        }
    }

    fn write(&self, address: IpAddr) -> Option<Box<str>> {
        match (self, address.to_canonical()) {
            (NetworkForm::None, _) => None,
            (NetworkForm::Full, address) => Some(address.to_string().into()),
            (NetworkForm::Hashed(key), address) => Some(key.hash(address)),
            (NetworkForm::Truncated, IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Some(format!("{a}.{b}.{c}.0/24").into())
            }
            (NetworkForm::Truncated, IpAddr::V6(address)) => {
                let kept = address.to_bits() & (u128::MAX << 80);
                Some(format!("{}/48", std::net::Ipv6Addr::from_bits(kept)).into())
            }
        }
    }
}

/// The key of hashed networks.
#[derive(Clone)]
pub struct NetworkKey(Arc<hmac::Key>);

impl NetworkKey {
    fn of(seal_secret: &[u8]) -> Self {
        let derived = Derived::Network.from(seal_secret);
        NetworkKey(Arc::new(hmac::Key::new(HMAC_SHA256, &*derived)))
    }

    fn hash(&self, address: IpAddr) -> Box<str> {
        let tag = hmac::sign(&self.0, address.to_string().as_bytes());
        let short = tag.as_ref().first_chunk().copied().unwrap_or_default();
        format!("#{:016x}", u64::from_be_bytes(short)).into()
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Who is told of each event as it happens, also of those that no record is kept of. It must not wait.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(&Event) + Send + Sync>);

impl Listener {
    /// This one.
    pub fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Listener(Arc::new(listener))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a listener")
    }
}

/// The log of one process.
pub struct EventLog {
    store: Arc<dyn Store>,
    config: EventConfig,
    env: Arc<dyn Env>,
    waiting: Mutex<Waiting>,
}

/// What waits for the tick.
#[derive(Default)]
struct Waiting {
    records: Vec<Record>,
    failures: HashMap<Alike, Failures>,
    dropped: u64,
}

/// What makes two failures one.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    name: EventName,
    user: Option<UserId>,
    session: Option<SessionId>,
    reason: Option<std::borrow::Cow<'static, str>>,
    network: Option<Box<str>>,
}

/// Failures that are alike, since the last record of them.
struct Failures {
    last: Record,
    count: u64,
    due: Timestamp,
}

impl EventLog {
    /// A log in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, config: EventConfig, env: Arc<dyn Env>) -> Self {
        EventLog {
            store,
            config,
            env,
            waiting: Mutex::default(),
        }
    }

    /// Tells of something whose record is written elsewhere.
    pub(crate) fn tell(&self, event: &Event) {
        if let Some(Listener(listener)) = &self.config.listener {
            listener(event);
        }
    }

    /// What a write leaves in its own transaction.
    pub(crate) fn trail(&self, caller: &Caller, once: Option<Event>, each: Option<Event>) -> Trail {
        let record = |event: Event| self.config.on.then(|| self.record(caller, event));
        Trail {
            once: once.and_then(record),
            each: each.and_then(record),
        }
    }

    /// Something that needs a record before it is answered. Should the store fail, the record waits.
    pub async fn keep(&self, caller: &Caller, event: &Event) {
        self.tell(event);
        if self.config.on {
            let record = self.record(caller, event.clone());
            let mut records = self.waiting().due(record.at, false);
            records.push(record);
            let _ = self.write(records).await;
        }
    }

    /// Something whose record may wait for the tick.
    pub fn note(&self, caller: &Caller, event: &Event) {
        self.tell(event);
        if self.config.on {
            self.wait(self.record(caller, event.clone()));
        }
    }

    /// A refresh of a session that was used at `before`, of which not each is kept. Stretches begin when
    /// the session did: were they days of the calendar, all sessions would write at midnight.
    pub(crate) fn note_refresh(&self, caller: &Caller, event: &Event, before: Timestamp) {
        let stretch = millis(self.config.refreshes).max(1);
        let opened = event.session.map_or(Timestamp(0), |id| id.opened_at());
        let number = |at: Timestamp| (at.0 - opened.0).div_euclid(stretch);
        let is_first = number(before) != number(self.env.now());
        if is_first {
            self.note(caller, event);
        } else {
            self.tell(event);
        }
    }

    fn record(&self, caller: &Caller, event: Event) -> Record {
        let network = &self.config.network;
        let text = |text: &Option<Arc<str>>| text.as_deref().map(Into::into);
        Record {
            at: self.env.now(),
            actor: caller.actor.unwrap_or_else(|| event.actor()),
            network: caller.address.and_then(|address| network.write(address)),
            device: text(&caller.device),
            agent: text(&caller.agent),
            event,
        }
    }

    fn wait(&self, record: Record) {
        if record.event.name.may_flood() {
            self.waiting().count(record);
        } else {
            self.waiting().take(record);
        }
    }

    /// Writes what waits. Doors do by ticking, and once more when they close.
    ///
    /// # Errors
    /// The store's; what waits goes on waiting.
    pub async fn flush(&self) -> StoreResult<()> {
        let records = self.waiting().due(self.env.now(), false);
        self.write(records).await
    }

    /// As [`EventLog::flush`], failures too of which a record was written less than a minute ago.
    ///
    /// # Errors
    /// The store's.
    pub async fn close(&self) -> StoreResult<()> {
        let records = self.waiting().due(self.env.now(), true);
        self.write(records).await
    }

    /// Writes these in order of time. The store takes them at the first poll: who gives up waiting
    /// loses none.
    async fn write(&self, mut records: Vec<Record>) -> StoreResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        records.sort_by_key(|record| record.at);
        let written = self.store.append(records.clone()).await;
        if written.is_err() {
            self.waiting().back(records);
        }
        written
    }

    /// Removes records that are older than the retention; `true` while there may be more.
    pub(crate) async fn purge(&self, limit: u32) -> StoreResult<bool> {
        let before = self.env.now() - self.config.retention;
        Ok(self.store.purge_events(before, limit).await? >= limit)
    }

    /// The user's own history, newest first, before a place.
    pub(crate) async fn history(
        &self,
        user: &UserId,
        before: Option<u64>,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        let filter = Filter {
            user: Some(user.clone()),
            ..Filter::default()
        };
        self.store.events_before(before, &filter, limit).await
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self, record: Record) {
        if self.records.len() < WAITING {
            self.records.push(record);
        } else {
            self.dropped += record.event.count;
        }
    }

    fn count(&mut self, record: Record) {
        let alike = Alike::of(&record);
        if self.failures.len() >= KINDS && !self.failures.contains_key(&alike) {
            self.dropped += record.event.count;
            return;
        }
        let at = record.at;
        let failures = self.failures.entry(alike).or_insert_with(|| Failures {
            last: record.clone(),
            count: 0,
            due: at,
        });
        failures.count += record.event.count;
        failures.last = record;
    }

    /// What is to be written now.
    fn due(&mut self, now: Timestamp, all: bool) -> Vec<Record> {
        let mut records = mem::take(&mut self.records);
        self.failures.retain(|_, failures| {
            let is_due = all || failures.due <= now || failures.due.since(now) > ALIKE;
            if is_due && failures.count > 0 {
                let mut record = failures.last.clone();
                record.event.count = mem::take(&mut failures.count);
                records.push(record);
                failures.due = Timestamp(now.0 + ALIKE);
                return true;
            }
            !is_due
        });
        if self.dropped > 0 {
            records.push(dropped(mem::take(&mut self.dropped), now));
        }
        records
    }

    /// Takes back what could not be written.
    fn back(&mut self, records: Vec<Record>) {
        let newer = mem::take(&mut self.records);
        for record in records.into_iter().chain(newer) {
            if record.event.name == EventName::EventsDropped {
                self.dropped += record.event.count;
            } else {
                self.take(record);
            }
        }
    }
}

fn dropped(count: u64, at: Timestamp) -> Record {
    Record {
        at,
        event: Event::new(EventName::EventsDropped).times(count),
        actor: Actor::System,
        network: None,
        device: None,
        agent: None,
    }
}

impl Alike {
    fn of(record: &Record) -> Self {
        let event = &record.event;
        Alike {
            name: event.name,
            user: event.user.clone(),
            session: event.session,
            reason: event.reason.clone(),
            network: record.network.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
