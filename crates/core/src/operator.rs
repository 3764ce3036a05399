//! What operators do beside accounts: one way for every command line, and each with its record.
//!
//! Export and erasure are of session data: who logged in when, from where, and what became of it. An
//! erased session does not come back: its end stays in the store's log of ends, where only its id is,
//! and its tokens are refused like those of a session that never was.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::env::{Env, Timestamp};
use crate::error::{Error, Result, StoreError};
use crate::event::{Caller, Entry, Event, EventName, Filter, Record};
use crate::event_log::EventLog;
use crate::id::{SessionId, UserId};
use crate::keys::{KeyId, KeyRing, Purpose, RingError};
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
                "created_at": time(account.created_at),
            })
        });
        let sessions = self.store.kept_of(user).await?;
        let sessions: Vec<_> = sessions.iter().map(|row| session(row, policy)).collect();
        let events = self.events_of(user).await?;
        Ok(json!({
            "user": user.as_str(),
            "exported_at": time(self.env.now()),
            "account": account,
            "sessions": sessions,
            "events": events.iter().map(event_json).collect::<Vec<_>>(),
        }))
    }

    async fn events_of(&self, user: &UserId) -> Result<Vec<Entry>, StoreError> {
        let filter = Filter {
            user: Some(user.clone()),
            ..Filter::default()
        };
        let (mut all, mut cursor) = (Vec::new(), 0);
        loop {
            let (page, next) = self.store.events_after(cursor, &filter, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
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

fn session(row: &Session, policy: &Policy) -> Value {
    json!({
        "id": row.id.to_string(),
        "created_at": time(row.created_at),
        "last_used_at": time(row.last_used()),
        "last_password_at": time(row.auth_time),
        "expires_at": time(row.expires_at(policy)),
        "remember": row.remember,
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
