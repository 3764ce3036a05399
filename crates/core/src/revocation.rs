//! The sessions ended within one access lifetime, held in memory and asked by every verification.
//!
//! Guarantees: an end that this process knows of is refused from the next check on; ends of other
//! processes on the machine are caught up with before each check, at the price of one atomic load
//! when there are none. Nothing verifies before the first full load, nor when the store was out of
//! reach for longer than the allowance.
//!
//! An entry is found by the last 64 bits of the session id, 62 of them random. Ids are minted here
//! and arrive only inside signed tokens, so nobody can choose them; among a million entries the
//! odds that another session shares these bits are one in 4 x 10^12.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::env::{Timestamp, millis};
use crate::error::{Error, Result, StoreError};
use crate::id::SessionId;
use crate::session::EndReason;

/// An entry of the log of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which session.
    pub session: SessionId,
    /// When it ended.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
}

/// Ends as they happen on this machine, read without I/O while nothing changed.
pub trait Feed: Send + Sync {
    /// How many ends were ever published: one atomic load.
    fn head(&self) -> u64;
    /// Passes on those after `from`; returns the new position.
    ///
    /// # Errors
    /// The ring was overwritten past `from`, or cannot be read: read the store's log instead.
    fn read(&self, from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped>;
    /// Reads the store's log from its beginning, blocking: only after [`Lapped`].
    ///
    /// # Errors
    /// The store did not answer.
    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError>;
}

/// More ends were published than the ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapped;

const SHARDS: usize = 64;
const NEVER: i64 = i64::MIN;

/// The set of ended sessions.
pub struct Revocations {
    shards: Vec<RwLock<HashMap<u64, (Timestamp, EndReason)>>>,
    len: AtomicUsize,
    span: Duration,
    allowance: Duration,
    synced_at: AtomicI64,
    feed: Option<Arc<dyn Feed>>,
    position: AtomicU64,
    catching_up: Mutex<()>,
}

impl Revocations {
    /// Entries are kept for `span` after the end; the store may be out of reach for `allowance`.
    #[must_use]
    pub fn new(span: Duration, allowance: Duration, feed: Option<Arc<dyn Feed>>) -> Self {
        Revocations {
            shards: std::iter::repeat_with(RwLock::default)
                .take(SHARDS)
                .collect(),
            len: AtomicUsize::new(0),
            span,
            allowance,
            synced_at: AtomicI64::new(NEVER),
            // What is in the ring already is in the log too, which is read before anything verifies.
            position: AtomicU64::new(feed.as_ref().map_or(0, |feed| feed.head())),
            feed,
            catching_up: Mutex::default(),
        }
    }

    /// Remembers an end. The first reason stays.
    pub fn insert(&self, end: Ended) {
        let (shard, key) = self.place(end.session);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.insert(key, (end.at, end.reason)).is_none() {
            self.len.fetch_add(1, Ordering::Release);
        }
    }

    /// Refuses the token of a session that ended.
    ///
    /// # Errors
    /// [`Error::SessionEnded`]; [`Error::StoreUnavailable`] when this set may be out of date.
    pub fn check(&self, session: SessionId, now: Timestamp) -> Result<()> {
        if !self.is_ready(now) {
            return Err(Error::StoreUnavailable);
        }
        self.catch_up()?;
        if self.len.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let (shard, key) = self.place(session);
        match shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            Some((_, reason)) => Err(Error::SessionEnded(*reason)),
            None => Ok(()),
        }
    }

    /// Whether the set is complete and the store was heard of recently enough.
    #[must_use]
    pub fn is_ready(&self, now: Timestamp) -> bool {
        let synced = self.synced_at.load(Ordering::Acquire);
        synced != NEVER && now.since(Timestamp(synced)) <= millis(self.allowance)
    }

    /// The store's log was read to its end at `now`.
    pub fn synced(&self, now: Timestamp) {
        self.synced_at.store(now.0, Ordering::Release);
    }

    /// Forgets ends whose tokens have all expired.
    pub fn expire(&self, now: Timestamp) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            shard.retain(|_, (at, _)| *at + self.span > now);
            self.len.fetch_sub(before - shard.len(), Ordering::Release);
        }
    }

    /// Takes in what other processes ended. Whoever finds the ring moved waits until it is read:
    /// a verifier that went on meanwhile would accept what was already acknowledged as ended.
    fn catch_up(&self) -> Result<()> {
        let Some(feed) = &self.feed else {
            return Ok(());
        };
        if feed.head() == self.position.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self
            .catching_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let from = self.position.load(Ordering::Acquire);
        let mut insert = |end| self.insert(end);
        let position = match feed.read(from, &mut insert) {
            Ok(position) => position,
            Err(Lapped) => feed.reload(&mut insert)?,
        };
        self.position.store(position, Ordering::Release);
        Ok(())
    }

    fn place(&self, session: SessionId) -> (&RwLock<HashMap<u64, (Timestamp, EndReason)>>, u64) {
        let mut key = [0; 8];
        key.copy_from_slice(&session.0[8..]);
        (
            &self.shards[usize::from(session.0[15]) % SHARDS],
            u64::from_be_bytes(key),
        )
    }
}
