//! Any store, with every operation measured, and in a span of its own within a request's.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::{Instrument, Span};

use super::{Meter, now};
use crate::env::Timestamp;
use crate::event::{Entry, Filter, Record, Trail};
use crate::id::{SessionId, UserId};
use crate::keys::{KeyId, StoredKey};
use crate::limits::Opening;
use crate::reset::{Reset, ResetHash};
use crate::revocation::{Ended, Feed};
use crate::session::{EndReason, Session};
use crate::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, Store, StoreResult, ThrottleStore, ValidFrom, Write,
};
use crate::throttle::{Change, Refused};

/// A store that is measured.
pub struct Measured {
    store: Arc<dyn Store>,
    meter: Arc<Meter>,
}

impl Measured {
    /// Measures a store by its own meter, where it has one.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let meter = store.meter().unwrap_or_default();
        Measured { store, meter }
    }

    async fn measure<T: Send>(
        &self,
        operation: usize,
        session: Option<SessionId>,
        work: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let (span, start) = (span(NAMES[operation], session), now());
        let outcome = work.instrument(span.clone()).await;
        self.meter
            .took(operation, start.elapsed(), outcome.is_err());
        if outcome.is_err() {
            // The error's words may be the database's, which quotes what it was given.
            span.record("otel.status_code", "ERROR");
        }
        outcome
    }
}

/// Only within a span of somebody's: what is done every second would be traces of nothing else.
fn span(operation: &'static str, session: Option<SessionId>) -> Span {
    if !tracing::span_enabled!(tracing::Level::DEBUG) || Span::current().is_none() {
        return Span::none();
    }
    tracing::debug_span!(
        "store",
        otel.name = format!("store {operation}"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        db.operation.name = operation,
        db.operation.batch.size = tracing::field::Empty,
        session.id = session.map(tracing::field::display),
    )
}

macro_rules! measured {
    ($($trait:ident {
        $($name:ident($($arg:ident: $of:ty),*) -> $value:ty $(, session $session:expr)?;)*
    } $(+ { $($rest:item)* })?)*) => {
        /// Every operation.
        pub(super) const NAMES: &[&str] = &[$($(stringify!($name),)*)*];

        $(#[async_trait]
        impl $trait for Measured {
            $(async fn $name(&self, $($arg: $of),*) -> StoreResult<$value> {
                const AT: usize = place(stringify!($name));
                let session = None $(.or(Some($session)))?;
                self.measure(AT, session, self.store.$name($($arg),*)).await
            })*
            $($($rest)*)?
        })*
    };
}

/// Where in the table a name is.
const fn place(name: &str) -> usize {
    let mut at = 0;
    while !is_same(NAMES[at], name) {
        at += 1;
    }
    at
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

measured! {
    SessionStore {
        insert(row: Session, seen: ValidFrom) -> Write, session row.id;
        open(opening: Opening, trail: &Trail) -> Opened, session opening.session.id;
        adopt(row: Session, seen: ValidFrom, until: Timestamp, trail: &Trail) -> Write, session row.id;
        was_adopted(id: SessionId) -> bool, session id;
        load(id: SessionId) -> Option<Session>, session id;
        swap(row: Session) -> Write, session row.id;
        end(id: SessionId, at: Timestamp, reason: EndReason, trail: &Trail) -> Option<Session>, session id;
        tell_end(end: Ended) -> (), session end.session;
        end_user(
            user: &UserId, at: Timestamp, reason: EndReason, except: Option<SessionId>, trail: &Trail
        ) -> Vec<SessionId>;
        valid_from(user: &UserId) -> ValidFrom;
        sessions_of(user: &UserId) -> Vec<Session>;
        sessions(after: Option<SessionId>, limit: u32) -> Vec<Session>;
        ended_after(cursor: u64, limit: u32) -> (Vec<Ended>, u64);
        kept_of(user: &UserId) -> Vec<Session>;
        erase(user: &UserId, at: Timestamp, reason: EndReason, trail: &Trail) -> u64;
        restored_at() -> Timestamp;
        set_restored(at: Timestamp, trail: &Trail) -> ();
        purge(now: Timestamp, log_before: Timestamp, limit: u32, trail: &Trail) -> u32;
    } + {
        fn notice(&self) -> Option<String> {
            self.store.notice()
        }

        fn at_risk(&self) -> Option<String> {
            self.store.at_risk()
        }

        fn slow_to_spread(&self) -> Option<String> {
            self.store.slow_to_spread()
        }
        fn feed(&self) -> Option<Arc<dyn Feed>> {
            self.store.feed()
        }
        fn meter(&self) -> Option<Arc<Meter>> {
            Some(Arc::clone(&self.meter))
        }
    }
    AccountStore {
        add_account(account: Account, trail: &Trail) -> Write;
        add_accounts(accounts: Vec<(Account, Trail)>) -> Vec<Write>;
        account(username: &str) -> Option<Account>;
        account_of(user: &UserId) -> Option<Account>;
        accounts(after: Option<&str>, limit: u32) -> Vec<Account>;
        rehash(user: &UserId, old: &str, new: &str) -> Write;
        set_password(
            user: &UserId, seen: Option<ValidFrom>, hash: &str, at: Timestamp, trail: &Trail
        ) -> Option<AllEnded>;
        set_disabled(user: &UserId, disabled: bool, at: Timestamp, trail: &Trail) -> Option<Vec<SessionId>>;
        remove_account(user: &UserId, at: Timestamp, trail: &Trail) -> Option<Vec<SessionId>>;
        set_privileged(user: &UserId, privileged: bool, at: Timestamp, trail: &Trail) -> Option<Vec<SessionId>>;
        start_reset(user: &UserId, reset: Reset, trail: &Trail) -> Write;
        reset_of(hash: ResetHash, now: Timestamp) -> Option<Account>;
        finish_reset(hash: ResetHash, password_hash: &str, at: Timestamp, trail: &Trail) -> Option<AllEnded>;
    }
    KeyStore {
        keys() -> Vec<StoredKey>;
        add_key(key: StoredKey, only_if_none: bool) -> Write;
        update_keys(keys: Vec<StoredKey>) -> Write;
        remove_key(id: KeyId) -> Write;
    }
    ThrottleStore {
        change_buckets(change: Change) -> Result<(), Refused>;
        purge_buckets(now: Timestamp, limit: u32) -> u32;
    }
    EventStore {
        append(records: Vec<Record>) -> ();
        events_after(cursor: u64, filter: &Filter, limit: u32) -> (Vec<Entry>, u64);
        events_before(before: Option<u64>, filter: &Filter, limit: u32) -> Vec<Entry>;
        purge_events(before: Timestamp, limit: u32) -> u32;
    }
    OutboxStore {
        outbox_cursor(address: &str) -> Option<u64>;
        enqueue(address: &str, cursor: (Option<u64>, u64), places: &[u64], due: Timestamp) -> Write;
        claim(address: &str, now: Timestamp, until: Timestamp, limit: u32) -> Vec<Delivery>;
        settle(address: &str, place: u64, again: Option<(u32, Timestamp)>) -> ();
    }
}
