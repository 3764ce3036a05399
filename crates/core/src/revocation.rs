//! The sessions ended within one access lifetime, held in memory and asked by every verification.
//!
//! Guarantees: an end that this process knows of is refused from the next check on; ends of other
//! processes on the machine are caught up with before each check, at the price of one atomic load
//! when there are none. Nothing verifies before the first full load, nor when the store was out of
//! reach for longer than the allowance. Memory is bounded: over the cap the oldest ends become one
//! moment, before which no token is accepted any more, and that costs a refresh, not a logout.
//!
//! An entry is found by the last 64 bits of the session id, 62 of them random. Ids are minted here
//! and arrive only inside signed tokens, so nobody can choose them; among a million entries the
//! odds that another session shares these bits are one in 4 x 10^12.
//!
//! Clocks may be wrong for a while. Ends are remembered for [`WRONG_CLOCK`] longer than the skew asks
//! for, as a node that is ahead mints tokens that last longer. Where this node's own clock steps back, the
//! log is read again, as what expired by the wrong time was forgotten; by more, nothing verifies before.

mod table;

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use self::table::{Key, Table};
use crate::env::{Timestamp, millis};
use crate::error::{Error, Result, StoreError};
use crate::id::SessionId;
use crate::policy::Policy;
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
    /// Reads the store's log from its beginning, blocking: only after [`Lapped`]. Returns a head
    /// that was read before the log was.
    ///
    /// # Errors
    /// The store did not answer.
    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError>;
}

/// More ends were published than the ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapped;

/// By how much a clock may be ahead for a while, beyond what is allowed, and still no session comes back.
pub const WRONG_CLOCK: Duration = Duration::from_secs(600);

/// For how long, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long an end is remembered at least: as long as a token of the session can be accepted.
    pub span: Duration,
    /// How long the store may be out of reach before verification stops.
    pub allowance: Duration,
    /// How far the clocks of two nodes may be apart.
    pub skew: Duration,
    /// The most entries, of at most 20 bytes each; ends of the last two `skew` come on top.
    pub cap: usize,
}

impl Bounds {
    /// What follows from a policy; two million entries (36 MB).
    #[must_use]
    pub fn of(policy: &Policy) -> Bounds {
        Bounds {
            span: policy.revocation_span() + WRONG_CLOCK,
            allowance: policy.allowance(),
            skew: policy.clock_skew,
            cap: 2_000_000,
        }
    }
}

const SHARDS: usize = 64;
const NEVER: i64 = i64::MIN;
/// Into how many steps of age the span is cut to find out what collapses.
const STEPS: u16 = 256;

/// The set of ended sessions.
pub struct Revocations {
    shards: [Shard; SHARDS],
    len: AtomicUsize,
    bounds: Bounds,
    /// Tokens issued in this second or before are refused.
    collapsed: AtomicI64,
    /// Sessions opened before are over: see [`crate::store::SessionStore::restored_at`].
    restored_at: AtomicI64,
    synced_at: AtomicI64,
    feed: Option<Arc<dyn Feed>>,
    position: AtomicU64,
    catching_up: Mutex<()>,
    failures: AtomicU64,
}

/// On cache lines of its own: verifiers of different sessions do not wait for each other.
#[derive(Default)]
#[repr(align(128))]
struct Shard(RwLock<Table>);

impl Shard {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revocations {
    /// An empty set, which refuses everything until [`Revocations::synced`] is called.
    #[must_use]
    pub fn new(bounds: Bounds, feed: Option<Arc<dyn Feed>>) -> Self {
        Revocations {
            shards: std::array::from_fn(|_| Shard::default()),
            len: AtomicUsize::new(0),
            bounds,
            collapsed: AtomicI64::new(NEVER),
            restored_at: AtomicI64::new(0),
            synced_at: AtomicI64::new(NEVER),
            // What is in the ring already is in the log too, which is read before anything verifies.
            position: AtomicU64::new(feed.as_ref().map_or(0, |feed| feed.head())),
            feed,
            catching_up: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Remembers an end; whether it was not known before. The first reason stays.
    pub fn insert(&self, end: Ended) -> bool {
        let key = Key::of(end.session);
        let mut shard = self.shards[key.shard()].write();
        let is_new = shard.insert(key, &end);
        if is_new {
            self.len.fetch_add(1, Ordering::Release);
        }
        is_new
    }

    /// Whether the end of a session is remembered.
    #[must_use]
    pub fn has(&self, session: SessionId) -> bool {
        self.reason(session).is_some()
    }

    /// Refuses the token of a session that ended.
    ///
    /// # Errors
    /// [`Error::SessionEnded`]; [`Error::TokenExpired`] when the token is older than what is
    /// remembered one by one; [`Error::StoreUnavailable`] when this set may be out of date.
    pub fn check(&self, session: SessionId, issued_at: Timestamp, now: Timestamp) -> Result<()> {
        if !self.is_ready(now) {
            return Err(Error::StoreUnavailable);
        }
        self.catch_up()?;
        if let Some(reason) = self.reason(session) {
            return Err(Error::SessionEnded(reason));
        }
        if session.opened_at() < self.restored_at() {
            return Err(Error::SessionEnded(EndReason::EndedByOperator));
        }
        // Read last: what collapsed meanwhile left its table only after this moment had risen.
        if issued_at.seconds() <= self.collapsed.load(Ordering::Acquire) {
            return Err(Error::TokenExpired);
        }
        Ok(())
    }

    fn reason(&self, session: SessionId) -> Option<EndReason> {
        if self.is_empty() {
            return None;
        }
        let key = Key::of(session);
        self.shards[key.shard()].read().reason(key)
    }

    /// From when on sessions count. Their ids tell exactly, whatever the clocks that date their tokens.
    #[must_use]
    pub fn restored_at(&self) -> Timestamp {
        Timestamp(self.restored_at.load(Ordering::Acquire))
    }

    /// Sessions opened before `at` are over, as the store says. It only grows.
    pub fn restored(&self, at: Timestamp) {
        self.restored_at.fetch_max(at.0, Ordering::AcqRel);
    }

    /// Whether the set is complete and the store was heard of recently enough, by a clock that did not step
    /// far back since. The next poll puts a clock right that stepped.
    #[must_use]
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.is_within(self.bounds.allowance, now) && !self.went_back(WRONG_CLOCK, now)
    }

    /// Whether the store was heard of within a span, and the set is complete.
    #[must_use]
    pub fn is_within(&self, span: Duration, now: Timestamp) -> bool {
        let synced = self.synced_at();
        synced.is_some_and(|synced| now.since(synced) <= millis(span))
    }

    /// When the store's log was read to its end. `None`: not yet.
    #[must_use]
    pub fn synced_at(&self) -> Option<Timestamp> {
        let synced = self.synced_at.load(Ordering::Acquire);
        (synced != NEVER).then_some(Timestamp(synced))
    }

    /// For how long, and how many.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether the clock went back by more than it may since the store's log was read, which then has to be
    /// read from its beginning.
    #[must_use]
    pub fn stepped_back(&self, now: Timestamp) -> bool {
        self.went_back(self.bounds.skew.max(Duration::from_secs(1)), now)
    }

    fn went_back(&self, by: Duration, now: Timestamp) -> bool {
        let synced = self.synced_at();
        synced.is_some_and(|synced| synced.since(now) > millis(by))
    }

    /// The store's log was read to its end at `now`.
    pub fn synced(&self, now: Timestamp) {
        self.synced_at.store(now.0, Ordering::Release);
    }

    /// Forgets ends whose tokens have all expired, a sixteenth of the span late at most, and what
    /// the cap leaves no room for. Called every second; holds up a verifier for one shard at most.
    pub fn expire(&self, now: Timestamp) {
        let span = seconds_up(self.bounds.span);
        for shard in &self.shards {
            // Late, so that a shard is swept sixteen times in a span and not every second.
            if shard.read().is_older(span + span / 16, now.seconds()) {
                self.sweep(shard, span, now);
            }
        }
        if self.len() > self.bounds.cap {
            self.collapse(now);
        }
    }

    fn sweep(&self, shard: &Shard, age: i64, now: Timestamp) {
        let mut shard = shard.write();
        let gone = shard.sweep(age, now.seconds());
        self.len.fetch_sub(gone, Ordering::Release);
    }

    /// Turns the oldest ends into one moment, down to seven eighths of the cap.
    fn collapse(&self, now: Timestamp) {
        let skew = seconds_up(self.bounds.skew);
        // Were younger ones to collapse, tokens that are minted now would be refused at once.
        let age = self.age_to_keep(now).max(skew.saturating_mul(2) + 1);
        let before = now.seconds().saturating_sub(age).saturating_add(skew);
        self.collapsed.fetch_max(before, Ordering::AcqRel);
        for shard in &self.shards {
            self.sweep(shard, age, now);
        }
    }

    /// The age up to which at most seven eighths of the cap are.
    fn age_to_keep(&self, now: Timestamp) -> i64 {
        let step = seconds_up(self.bounds.span) / i64::from(STEPS) + 1;
        let mut counts = vec![0; usize::from(STEPS)];
        for shard in &self.shards {
            for age in shard.read().ages(now.seconds()) {
                let step = usize::try_from(age.max(0) / step).unwrap_or(0);
                counts[step.min(usize::from(STEPS - 1))] += 1;
            }
        }
        let mut kept = 0;
        let fit = counts.iter().take_while(|count| {
            kept += **count;
            kept <= self.bounds.cap / 8 * 7
        });
        i64::try_from(fit.count()).unwrap_or(0) * step - 1
    }

    /// How many ends are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the entries take, free places included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().bytes()).sum()
    }

    /// Takes in what other processes ended. Whoever finds the ring moved waits until it is read:
    /// a verifier that went on meanwhile would accept what was already acknowledged as ended.
    fn catch_up(&self) -> Result<()> {
        match &self.feed {
            Some(feed) if !self.is_at_head(&**feed) => self.read_feed(&**feed),
            _ => Ok(()),
        }
    }

    /// Takes in what other processes of the machine ended, so that a poll brings only what nobody told.
    pub(crate) fn listen(&self) {
        if let Some(feed) = &self.feed
            && !self.is_at_head(&**feed)
        {
            self.take_in(&**feed);
        }
    }

    /// Where the feed was lapped, the next verification reads the log: it must, and this need not.
    fn take_in(&self, feed: &dyn Feed) {
        let _turn = self.turn();
        let mut insert = |end| {
            self.insert(end);
        };
        if let Ok(position) = feed.read(self.position.load(Ordering::Acquire), &mut insert) {
            self.position.store(position, Ordering::Release);
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        let turn = self.catching_up.lock();
        turn.unwrap_or_else(PoisonError::into_inner)
    }

    fn is_at_head(&self, feed: &dyn Feed) -> bool {
        feed.head() == self.position.load(Ordering::Acquire)
    }

    #[cold]
    fn read_feed(&self, feed: &dyn Feed) -> Result<()> {
        let failures = self.failures.load(Ordering::Acquire);
        let _turn = self.turn();
        if self.is_at_head(feed) {
            return Ok(());
        }
        // Those who waited for a store that does not answer do not ask it once more, each in turn.
        if failures != self.failures.load(Ordering::Acquire) {
            return Err(Error::StoreUnavailable);
        }
        let mut insert = |end| {
            self.insert(end);
        };
        let position = match feed.read(self.position.load(Ordering::Acquire), &mut insert) {
            Ok(position) => position,
            Err(Lapped) => feed.reload(&mut insert).inspect_err(|_| {
                self.failures.fetch_add(1, Ordering::Release);
            })?,
        };
        self.position.store(position, Ordering::Release);
        Ok(())
    }
}

/// Whole seconds, rounded up.
fn seconds_up(span: Duration) -> i64 {
    Timestamp(millis(span).saturating_add(999)).seconds()
}

#[cfg(test)]
mod tests;
