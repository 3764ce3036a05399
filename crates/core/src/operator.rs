//! What operators do beside accounts: one way for every command line, and each with its record.
//!
//! Export and erasure are of session data: who logged in when, from where, and what became of it. An
//! erased session does not come back: its end stays in the store's log of ends, where only its id is,
//! and its tokens are refused like those of a session that never was.

mod ending;
mod restoring;

pub use self::restoring::{Happened, Replayed};

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::account::canonical;
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result, StoreError};
use crate::event::{Caller, Entry, Event, EventName, Filter, Record, why_ended};
use crate::event_log::EventLog;
use crate::id::{SessionId, UserId};
use crate::import::{self, Import};
use crate::keys::{KeyId, KeyRing, Purpose, RingError};
use crate::password::Passwords;
use crate::policy::Policy;
use crate::session::{Delivery, EndReason, Session};
use crate::store::Store;

/// How many records are read at a time.
const PAGE: u32 = 1_000;

/// An operator at work on a store.
pub struct Operator {
    store: Arc<dyn Store>,
    events: Arc<EventLog>,
    env: Arc<dyn Env>,
    caller: Caller,
}

impl Operator {
    /// An operator whose doings are logged by `events`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, events: Arc<EventLog>, env: Arc<dyn Env>) -> Self {
        Operator {
            store,
            events,
            env,
            caller: Caller::operator(),
        }
    }

    /// Ends a session; one that is over keeps its reason.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreUnavailable`].
    pub async fn end_session(&self, id: SessionId) -> Result<()> {
        let reason = EndReason::EndedByOperator;
        let event = Event::new(EventName::SessionEnded).because(reason.name());
        let trail = self.events.trail(&self.caller, None, Some(event.clone()));
        let ended = self.store.end(id, self.env.now(), reason, &trail).await?;
        let row = ended.ok_or(Error::NotFound)?;
        self.events.tell(&event.of(&row.user).in_session(id));
        Ok(())
    }

    /// Makes a key that signs once every process knows it.
    ///
    /// # Errors
    /// The ring's.
    pub async fn rotate_key(&self, ring: &KeyRing, purpose: Purpose) -> Result<KeyId, RingError> {
        let id = ring.rotate(&*self.store, purpose).await?;
        let event = Event::new(EventName::KeyRotated).with(id.to_string());
        self.keep(event.because(purpose_name(purpose))).await;
        Ok(id)
    }

    /// Drops a key at once.
    ///
    /// # Errors
    /// The ring's.
    pub async fn retire_key(&self, ring: &KeyRing, id: KeyId) -> Result<(), RingError> {
        ring.retire(&*self.store, id).await?;
        let event = Event::new(EventName::KeyRetired);
        self.keep(event.with(id.to_string())).await;
        Ok(())
    }

    async fn keep(&self, event: Event) {
        self.events.keep(&self.caller, &event).await;
    }

    /// Takes accounts of another program, each with its record.
    #[must_use]
    pub fn import<'a>(&'a self, passwords: &'a Passwords, options: import::Options) -> Import<'a> {
        Import::new(&*self.store, passwords, &*self.env, &self.events, options)
    }

    /// The account of this name.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn account(&self, name: &str) -> Result<Option<UserId>> {
        let Ok(name) = canonical(name) else {
            return Ok(None);
        };
        let found = self.store.account(&name).await?;
        Ok(found.map(|account| account.id))
    }

    /// The user of this name among the built-in accounts, or whose id it is.
    ///
    /// # Errors
    /// [`Error::BadRequest`], [`Error::StoreUnavailable`].
    pub async fn user(&self, name_or_id: &str) -> Result<UserId> {
        if let Some(user) = self.account(name_or_id).await? {
            return Ok(user);
        }
        let no_id = "a user id has 1 to 255 bytes, none of them a control character";
        UserId::new(name_or_id).map_err(|_| Error::BadRequest(no_id))
    }

    /// The filter that was asked for.
    ///
    /// # Errors
    /// [`Error::BadRequest`] with what is wrong, [`Error::StoreUnavailable`].
    pub async fn filter(&self, wanted: &Wanted<'_>) -> Result<Filter> {
        let (bad, now) = (Error::BadRequest, self.env.now());
        let user = match wanted.user {
            Some(user) => Some(self.user(user).await?),
            None => None,
        };
        let session = wanted.session.map(str::parse).transpose();
        let name = |text| EventName::parse(text).ok_or(bad("there is no event of this name"));
        let time = |text| moment(text, now).ok_or(bad(MOMENT));
        Ok(Filter {
            user,
            session: session.map_err(|_| bad("this is no session id"))?,
            name: wanted.event.map(name).transpose()?,
            since: wanted.since.map(time).transpose()?,
            until: wanted.until.map(time).transpose()?,
        })
    }

    /// The last `limit` of the records that are wanted, in order of time, and the place after which new ones
    /// will be.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn last(&self, filter: &Filter, limit: u32) -> Result<(Vec<Entry>, u64)> {
        let newest = self
            .store
            .events_before(None, &Filter::default(), 1)
            .await?;
        let end = newest.first().map_or(0, |entry| entry.place);
        let (mut entries, mut before) = (Vec::new(), end + 1);
        while entries.len() < limit as usize {
            let wanted = PAGE.min(limit - u32::try_from(entries.len()).unwrap_or(limit));
            let page = self.store.events_before(Some(before), filter, wanted);
            let page = page.await?;
            let Some(last) = page.last() else { break };
            before = last.place;
            entries.extend(page);
        }
        entries.reverse();
        // What waited for the tick was appended after what did not.
        entries.sort_by_key(|entry| entry.record.at);
        Ok((entries, end))
    }

    /// What is new after a place, and the place to go on from.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn since(&self, place: u64, filter: &Filter) -> Result<(Vec<Entry>, u64)> {
        Ok(self.store.events_after(place, filter, PAGE).await?)
    }

    /// What happened to a session, in order of time, and in words what became of it.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn why(&self, id: SessionId, policy: &Policy) -> Result<(Vec<Entry>, String)> {
        let filter = Filter {
            session: Some(id),
            ..Filter::default()
        };
        let mut chain = self.all(&filter).await?;
        chain.sort_by_key(|entry| entry.record.at);
        let restored_at = self.store.restored_at().await?;
        let row = self.store.load(id).await?;
        let row = row.map(|row| row.since_restored(restored_at));
        let words = became(row.as_ref(), &chain, self.env.now(), policy);
        Ok((chain, words))
    }

    /// All that is kept of a user's sessions, as JSON: the built-in account without its hash, where
    /// there is one, the sessions, ended ones too, and the events, oldest first.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn export(&self, user: &UserId, policy: &Policy) -> Result<Value> {
        self.keep(Event::new(EventName::UserExported).of(user))
            .await;
        let account = self.store.account_of(user).await?.map(|account| {
            json!({
                "id": account.id.as_str(),
                "username": account.username,
                "disabled": account.disabled,
                "privileged": account.privileged,
                "created_at": time(account.created_at),
            })
        });
        let restored_at = self.store.restored_at().await?;
        let sessions = self.store.kept_of(user).await?.into_iter();
        let sessions = sessions.map(|row| row.since_restored(restored_at));
        let sessions: Vec<_> = sessions.map(|row| session(&row, policy)).collect();
        let filter = Filter {
            user: Some(user.clone()),
            ..Filter::default()
        };
        let events = self.all(&filter).await?;
        Ok(json!({
            "user": user.as_str(),
            "exported_at": time(self.env.now()),
            "account": account,
            "sessions": sessions,
            "events": events.iter().map(event_json).collect::<Vec<_>>(),
        }))
    }

    async fn all(&self, filter: &Filter) -> Result<Vec<Entry>, StoreError> {
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let (page, next) = self.store.events_after(cursor, filter, PAGE).await?;
            all.extend(page);
            if next <= cursor {
                return Ok(all);
            }
            cursor = next;
        }
    }

    /// Ends the user's sessions and removes what is kept of them: rows, devices, addresses, claims and
    /// events. What remains is one record that says an erasure took place, and not whose. An account
    /// stays. Returns how many sessions were removed.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn erase(&self, user: &UserId) -> Result<u64> {
        let event = Event::new(EventName::UserErased);
        let trail = self.events.trail(&self.caller, Some(event.clone()), None);
        let (at, reason) = (self.env.now(), EndReason::EndedByOperator);
        let removed = self.store.erase(user, at, reason, &trail).await?;
        self.events.tell(&event.times(removed));
        Ok(removed)
    }
}

/// Which records somebody asks for, as it was typed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// A name or an id.
    pub user: Option<&'a str>,
    /// An id.
    pub session: Option<&'a str>,
    /// A name of [`EventName`].
    pub event: Option<&'a str>,
    /// A moment: see [`MOMENT`].
    pub since: Option<&'a str>,
    /// A moment.
    pub until: Option<&'a str>,
}

/// How a moment is written.
pub const MOMENT: &str = "a time is written 2h or 30d, so long ago, or 2026-11-26T09:00:00Z";

/// So long ago, or at this time (RFC 3339).
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => {
            let time: jiff::Timestamp = text.parse().ok()?;
            return Some(Timestamp(time.as_millisecond()));
        }
    };
    let ago = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    Some(now - Duration::from_secs(ago))
}

/// What became of a session, in words.
fn became(row: Option<&Session>, chain: &[Entry], now: Timestamp, policy: &Policy) -> String {
    let by_row = row.and_then(|row| match row.ended {
        Some(end) => Some((end.at, end.reason.name().to_owned())),
        None => row.over(now, policy).map(|_| {
            let end = row.ran_out(policy);
            (end.at, end.reason.name().to_owned())
        }),
    });
    let by_log = || {
        let mut ends = chain.iter().filter_map(|entry| {
            let (_, reason) = entry.record.event.ends()?;
            Some((entry.record.at, reason.to_owned()))
        });
        ends.next_back()
    };
    match (by_row.or_else(by_log), row) {
        (Some((at, reason)), _) => {
            format!("it ended at {} ({reason}): {}", time(at), why_ended(&reason))
        }
        (None, Some(row)) => format!(
            "it is live: last used at {}, it ends at {} if it is not used again",
            time(row.last_used()),
            time(row.expires_at(policy)),
        ),
        (None, None) if chain.is_empty() => {
            "nothing is known of it: it never was, was erased, or ended longer ago than records are kept"
                .into()
        }
        (None, None) => "its row is gone, and the log does not say why it ended".into(),
    }
}

fn session(row: &Session, policy: &Policy) -> Value {
    json!({
        "id": row.id.to_string(),
        "created_at": time(row.created_at),
        "last_used_at": time(row.last_used()),
        // None where it was adopted, and no password was checked since.
        "last_password_at": (row.auth_time > Timestamp(0)).then(|| time(row.auth_time)),
        "expires_at": time(row.expires_at(policy)),
        "remember": row.remember,
        "privileged": row.privileged,
        "delivery": match row.delivery {
            Delivery::Cookie => "cookie",
            Delivery::Body => "body",
        },
        "device": row.device.name,
        "address": row.device.address,
        "agent": row.device.agent,
        "claims": row.claims.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
        "ended_at": row.ended.map(|end| time(end.at)),
        "ended_reason": row.ended.map(|end| end.reason.name()),
    })
}

/// A record as commands and exports write it: absent fields are null.
#[must_use]
pub fn event_json(entry: &Entry) -> Value {
    let Record {
        at, event, actor, ..
    } = &entry.record;
    json!({
        "place": entry.place,
        "at": time(*at),
        "event": event.name.as_str(),
        "outcome": event.name.outcome().as_str(),
        "actor": actor.as_str(),
        "user": event.user.as_ref().map(UserId::as_str),
        "session": event.session.map(|id| id.to_string()),
        "reason": event.reason,
        "detail": event.detail,
        "count": event.count,
        "network": entry.record.network,
        "device": entry.record.device,
        "agent": entry.record.agent,
    })
}

/// A record as a line for people: fields that are absent are left out. What users made up themselves
/// is escaped: it must neither act on a terminal nor hide in it.
#[must_use]
pub fn event_line(entry: &Entry) -> String {
    let Record { at, event, .. } = &entry.record;
    let record = &entry.record;
    let session = event.session.map(|id| id.to_string());
    let count = (event.count != 1).then(|| event.count.to_string());
    let fields = [
        ("user", event.user.as_ref().map(UserId::as_str)),
        ("session", session.as_deref()),
        ("reason", event.reason.as_deref()),
        ("detail", event.detail.as_deref()),
        ("count", count.as_deref()),
        ("by", Some(record.actor.as_str())),
        ("network", record.network.as_deref()),
        ("device", record.device.as_deref()),
        ("agent", record.agent.as_deref()),
    ];
    let told = fields.iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        let free = matches!(*name, "user" | "device" | "agent");
        Some(if free && value.contains([' ', '"', '\\']) {
            format!(" {name}={value:?}")
        } else {
            format!(" {name}={}", value.escape_debug())
        })
    });
    let told: String = told.collect();
    format!("{} {}{told}", time(*at), event.name.as_str())
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Access => "access",
        Purpose::Refresh => "refresh",
    }
}

/// UTC with milliseconds (RFC 3339).
#[must_use]
pub fn time(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(time.0).unwrap_or_default();
    format!("{time:.3}")
}
