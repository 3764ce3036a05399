//! Moving to another store: what one hands over, and the other takes in.
//!
//! Rows go over in pages while both stores serve. A row that is there already gives way to a later
//! one only: sessions have versions, places are never given twice, and what has neither is taken as it
//! comes while the new store serves nobody. In the end [`TransferStore::leave`] makes the old store refuse
//! every write, whoever asks, so that the last pages are the whole truth.

pub mod mark;
pub mod pass;
pub mod switching;

use async_trait::async_trait;

use crate::env::Timestamp;
use crate::error::StoreError;
use crate::event::Entry;
use crate::id::{SessionId, UserId};
use crate::keys::StoredKey;
use crate::reset::Reset;
use crate::revocation::Ended;
use crate::session::Session;
use crate::store::{Account, Delivery, Store, StoreResult, ValidFrom};
use crate::throttle::{Bucket, BucketKey};

/// What a store keeps, in the order in which it goes over: a session's key before the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Rows::Keys`]
    Keys,
    /// [`Rows::Accounts`]
    Accounts,
    /// [`Rows::Resets`]
    Resets,
    /// [`Rows::ValidFrom`]
    ValidFrom,
    /// [`Rows::Sessions`]
    Sessions,
    /// [`Rows::Adopted`]
    Adopted,
    /// [`Rows::Ended`]
    Ended,
    /// [`Rows::Buckets`]
    Buckets,
    /// [`Rows::Events`]
    Events,
    /// [`Rows::Outbox`]
    Outbox,
    /// [`Rows::Deliveries`]
    Deliveries,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 11] = [
        Kind::Keys,
        Kind::Accounts,
        Kind::Resets,
        Kind::ValidFrom,
        Kind::Sessions,
        Kind::Adopted,
        Kind::Ended,
        Kind::Buckets,
        Kind::Events,
        Kind::Outbox,
        Kind::Deliveries,
    ];
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// In the order in which they were added.
    Keys(Vec<StoredKey>),
    /// Their `valid_from` is that of [`Rows::ValidFrom`].
    Accounts(Vec<Account>),
    /// Passwords that may be set anew.
    Resets(Vec<(UserId, Reset)>),
    /// Users whose sessions were all ended at least once.
    ValidFrom(Vec<(UserId, ValidFrom)>),
    /// Ended ones too.
    Sessions(Vec<Session>),
    /// Ids that [`crate::store::SessionStore::adopt`] remembers, and until when.
    Adopted(Vec<(SessionId, Timestamp)>),
    /// The log of ends, each at its place.
    Ended(Vec<(u64, Ended)>),
    /// What failed logins have cost.
    Buckets(Vec<(BucketKey, Bucket)>),
    /// The log of events.
    Events(Vec<Entry>),
    /// How far the log was looked through for each address.
    Outbox(Vec<(Box<str>, u64)>),
    /// What each address has not acknowledged, and when it is due.
    Deliveries(Vec<(Box<str>, Delivery, Timestamp)>),
}

/// Where the next page begins, in the store's own terms.
pub type Bookmark = Box<[u8]>;

/// A store that can be moved from and to.
#[async_trait]
pub trait TransferStore: Send + Sync {
    /// About `limit` rows of a kind after a bookmark (`None`: from the first), and where to go on; no
    /// bookmark: that was all. What changes meanwhile may be missed, or come twice.
    async fn rows(
        &self,
        kind: Kind,
        after: Option<Bookmark>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)>;

    /// The versions of these sessions, in this order; `None`: there is no such row.
    async fn versions(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<u64>>>;

    /// Takes rows in, durably, also into a store that was left. A session replaces an earlier version of itself only, `valid_from` only
    /// grows, records and ends keep their places (later ones get greater places); of everything else the
    /// given row replaces the one that is there.
    async fn put(&self, rows: Rows) -> StoreResult<()>;

    /// Removes every row of these kinds, as [`TransferStore::put`] does: what the old store no longer had
    /// when it was left.
    async fn clear(&self, kinds: &[Kind]) -> StoreResult<()>;

    /// Removes sessions that the old store no longer had: whoever erased them erased them here too.
    async fn remove(&self, sessions: &[SessionId]) -> StoreResult<()> {
        let _ = sessions;
        Err(StoreError("it cannot remove single sessions".into()))
    }

    /// From when this returns, every write but those of this trait fails, of older versions of this program
    /// too, with [`LEFT`] in its error. `None` takes that back.
    async fn leave(&self, mark: Option<&str>) -> StoreResult<()>;

    /// The mark of a store that was left.
    async fn left(&self) -> StoreResult<Option<Box<str>>>;
}

/// What the error of a write to a store that was left begins with.
pub const LEFT: &str = "this store was left for another";

/// A whole store that can be moved from and to.
pub trait MovableStore: Store + TransferStore {}

impl<T: Store + TransferStore> MovableStore for T {}
