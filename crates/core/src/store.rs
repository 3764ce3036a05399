//! What a database must do. Stores are dumb: no rotation logic in SQL or Lua.
//!
//! The contract, for each of the traits:
//!
//! - An operation that returned `Ok` has taken effect for every process. One that returned `Err`
//!   may or may not have.
//! - *What ends a session is durable before it is acknowledged*: [`SessionStore::end`],
//!   [`SessionStore::end_user`], and every write of an account or key. Inserts and swaps may be
//!   lost by a crash; a lost session cannot come back to life because [`SessionStore::insert`]
//!   refuses an existing id and there is no blind save.
//! - An ended row keeps its reason until it would have expired (`expires_at` at the time of the
//!   last write), then [`SessionStore::purge`] may remove it.
//! - Futures complete on any executor and survive being dropped half-way: the operation then takes
//!   effect wholly or not at all.

use std::sync::Arc;

use async_trait::async_trait;

use crate::env::Timestamp;
use crate::error::StoreError;
use crate::event::{Entry, Filter, Record, Trail};
use crate::id::{SessionId, UserId};
use crate::keys::{KeyId, StoredKey};
use crate::limits::Opening;
use crate::meter::Meter;
use crate::reset::{Reset, ResetHash};
use crate::revocation::{Ended, Feed};
use crate::session::{EndReason, Session};
use crate::throttle::{Change, Refused};

/// Shorthand for results of stores.
pub type StoreResult<T> = std::result::Result<T, StoreError>;

/// Moves when the sessions of a user are ended together: a login that was checked before does not
/// survive. 0 for a user to whom that never happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValidFrom(pub i64);

/// All sessions of a user have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllEnded {
    /// Those that had not ended before.
    pub sessions: Vec<SessionId>,
    /// Where the user's `valid_from` is now.
    pub valid_from: ValidFrom,
}

/// Whether a conditional write took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Write {
    /// It did.
    Done,
    /// The condition did not hold; nothing was changed.
    Lost,
}

/// What became of a session that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Opened {
    /// It was, and these ended for it in the same transaction: their rows afterwards.
    Done(Vec<Session>),
    /// The user's `valid_from` moved, or the id exists; nothing was changed.
    Lost,
    /// The user has as many sessions as one may have; nothing was changed.
    Full,
}

/// Rows of sessions.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Adds a session whose user's `valid_from` is still `seen`. Lost: it moved, or the id exists.
    async fn insert(&self, session: Session, seen: ValidFrom) -> StoreResult<Write> {
        let opening = Opening {
            session,
            seen,
            replaces: None,
            cap: None,
            restored_at: Timestamp(0),
        };
        Ok(match self.open(opening, &Trail::default()).await? {
            Opened::Done(_) => Write::Done,
            Opened::Lost | Opened::Full => Write::Lost,
        })
    }

    /// Adds a session on its conditions, and ends those that [`Opening::ends`] names: in one
    /// transaction, so that logins at the same moment never leave more than the cap. What ends is
    /// durable and spread as by [`SessionStore::end`]. The log of events gets the trail's record of what
    /// opened, and [`Trail::ended`] of each that ended.
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened>;

    /// As [`SessionStore::insert`], of a foreign token's session, and remembers its id until then:
    /// until a `purge` of a later `now`. Lost too if the id is remembered, whatever became of the row.
    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write>;

    /// Whether [`SessionStore::adopt`] remembers an id.
    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool>;

    /// The row, ended or not.
    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>>;

    /// Replaces the row, if it has not ended and its version is one less than `session.version`.
    async fn swap(&self, session: Session) -> StoreResult<Write>;

    /// Ends a session that has not ended, incrementing its version; its row afterwards, so that the
    /// reason that stays is known. `None`: no such row.
    ///
    /// `Feed`s and [`SessionStore::ended_after`] show the end before this returns. If it took
    /// effect, the trail's records are appended to the log of events, durably with it; so it is with
    /// every trail.
    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<Option<Session>>;

    /// Tells every process that a session has ended of which there is no row, since the store lost it or has
    /// removed it: as by [`SessionStore::end`], durably. For ends of tokens that were verified, and not again
    /// and again: each call may take a place in the log.
    async fn tell_end(&self, end: Ended) -> StoreResult<()>;

    /// Ends every session of a user but `except`, and moves `valid_from`: to `at`, or to one more
    /// than it was if that is greater. Returns the ids that ended.
    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> StoreResult<Vec<SessionId>>;

    /// The user's `valid_from`.
    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom>;

    /// The user's sessions that have not ended, oldest first; some may have expired.
    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>>;

    /// Sessions of all users that have not ended, those after `after`, at most `limit`; fewer are the last. The order
    /// is the store's and does not change: by id, or by what ids tell of their users and then by id.
    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>>;

    /// The log of ends, in the order they took effect: those after `cursor` (0: all), at most
    /// `limit`, and the cursor to go on from. An end is never given a place before one that was
    /// already readable. Entries may be dropped once `at` is before the time given to `purge`.
    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)>;

    /// The user's sessions, ended and expired ones too, oldest first: all that is kept of them.
    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>>;

    /// Ends the user's sessions and removes their rows and events, in one transaction; a store may do so in
    /// several where they are very many, and ends all before it removes any. As after [`SessionStore::end_user`],
    /// no login survives that was checked before, and the ends stay in the log of ends. Returns how
    /// many rows went.
    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64>;

    /// From when on sessions count: those that were opened before have ended. 0 where that never was said.
    async fn restored_at(&self) -> StoreResult<Timestamp>;

    /// Ends every session that was opened before `at`, in one write, durably: a backup was restored, which
    /// does not know what ended since. An earlier `at` than before changes nothing. The log of events gets
    /// the trail's record.
    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()>;

    /// Removes at most `limit` rows that expired before `now` and log entries of ends before
    /// `log_before`. Returns how many rows went; fewer than `limit` means that it is done. Of rows
    /// that had not ended the log of events gets [`Trail::ended`].
    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32>;

    /// Why other processes hear of ends by polling the log only, where there is a faster way that
    /// does not work now. For the operator's log.
    fn slow_to_spread(&self) -> Option<String> {
        None
    }

    /// What of that which was acknowledged may be lost, or is out of reach, as the servers of the store are set
    /// now. For the operator's log.
    fn at_risk(&self) -> Option<String> {
        None
    }

    /// What is wrong with where the store is, if something is. For the operator's log.
    fn notice(&self) -> Option<String> {
        None
    }

    /// Ends as they happen on this machine, where the store has a faster way than the log.
    fn feed(&self) -> Option<Arc<dyn Feed>> {
        None
    }

    /// What the store counts of its own work, where it does: batches, waits, connections.
    fn meter(&self) -> Option<Arc<Meter>> {
        None
    }
}

/// A built-in account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Never changes; `sub` of its tokens.
    pub id: UserId,
    /// Canonical, as made by [`crate::account::canonical`]; unique.
    pub username: Box<str>,
    /// A PHC string.
    pub password_hash: crate::password::PasswordHash,
    /// Whether logins are refused.
    pub disabled: bool,
    /// Whether its sessions are privileged.
    pub privileged: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// See [`ValidFrom`].
    pub valid_from: ValidFrom,
}

/// Built-in accounts.
#[async_trait]
pub trait AccountStore: Send + Sync {
    /// Adds an account. Lost: the username or id exists.
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write>;

    /// Adds accounts in one transaction, each as [`AccountStore::add_account`] does, with its trail, in this order.
    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>>;

    /// The account of a canonical username, with the user's `valid_from` of the same moment.
    async fn account(&self, username: &str) -> StoreResult<Option<Account>>;

    /// The account of an id.
    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>>;

    /// Accounts in order of username after `after`, at most `limit`.
    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>>;

    /// Replaces `old` by `new`, whose password it hashes too. Lost: it is no longer `old`.
    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write>;

    /// Sets a new password and ends all sessions of the user, in one transaction; where `seen` is
    /// given, only if the user's `valid_from` is still that: no other change of password and no
    /// disabling came between. `None`: it moved, or there is no account; nothing was changed.
    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>>;

    /// Disables (ending all sessions, in one transaction) or enables. Returns the sessions that
    /// ended; `None`: no account.
    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>>;

    /// Removes the account, ending all its sessions, in one transaction. Returns the sessions that
    /// ended; `None`: no account.
    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>>;

    /// Says whether the account's sessions are privileged, and ends all that are open, in one
    /// transaction. Returns the sessions that ended; `None`: no account.
    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>>;

    /// Keeps a reset, in place of any that the user has. Every other change of the password, disabling
    /// and removing drop it. Lost: no account, or a disabled one.
    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write>;

    /// The account whose reset this is, if it is not over at `now`.
    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>>;

    /// Uses a reset up and sets a new password, as [`AccountStore::set_password`] does, in one
    /// transaction. `None`: there is no such reset, or it is over at `at`; nothing was changed.
    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>>;
}

/// The key ring's rows. See [`crate::keys`].
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Every key, in the order in which they were added.
    async fn keys(&self) -> StoreResult<Vec<StoredKey>>;

    /// Adds a key. Lost: the id exists, or `only_if_none` and there is a key of its purpose already.
    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write>;

    /// Replaces the keys of the same ids, in one transaction. Lost: one is unknown or was retired;
    /// nothing was changed.
    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write>;

    /// Removes a key for good. Lost: no such key.
    async fn remove_key(&self, id: KeyId) -> StoreResult<Write>;
}

/// What failed logins have cost. See [`crate::throttle`].
#[async_trait]
pub trait ThrottleStore: Send + Sync {
    /// Carries out [`Change::apply`] on its buckets, durably, as if nobody else did anything meanwhile;
    /// nothing is changed where it refuses. A bucket that is not there is the default one.
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>>;

    /// Removes at most `limit` buckets whose [`crate::throttle::Bucket::idle_at`] is before `now`.
    /// Returns how many went.
    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32>;
}

/// The log of events. See [`crate::event_log`].
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Appends records, durably. Who polled this once has appended them.
    async fn append(&self, records: Vec<Record>) -> StoreResult<()>;

    /// Records after a place (0: from the first), in order of place, at most `limit`, and the place to
    /// go on from, which is past what the filter left out. A record is never given a place before one
    /// that was already readable, nor one that was given before: a cursor misses nothing.
    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)>;

    /// Records before a place (`None`: from the last), the last first, at most `limit`.
    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>>;

    /// Removes at most `limit` records of before; returns how many went.
    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32>;
}

/// A record that an address has not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The record's place in the log of events.
    pub place: u64,
    /// How often it was tried in vain.
    pub attempts: u32,
}

/// What webhooks have still to send. See [`crate::webhook::outbox`].
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// How far the log was looked through for an address. `None`: the address is new.
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>>;

    /// Moves an address's cursor on (`None`: it is new) and queues the records at `places`, to be sent
    /// from `due` on, in one transaction. Lost: the cursor is another; nothing was changed.
    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write>;

    /// Takes at most `limit` that are due, the longest due first, for the caller alone until `until`.
    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>>;

    /// Removes a delivery, or says how often it was tried and when it is due again.
    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()>;
}

/// A whole store.
pub trait Store:
    SessionStore + AccountStore + KeyStore + ThrottleStore + EventStore + OutboxStore + 'static
{
}

impl<T> Store for T where
    T: SessionStore + AccountStore + KeyStore + ThrottleStore + EventStore + OutboxStore + 'static
{
}
