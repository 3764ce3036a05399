//! A store that is about to be left, and the one after it: a node that has both goes over by itself.
//!
//! One of the two is the truth at each moment, and the marks in them say which. While it is calm the mark is
//! looked at each second, with the poll. Once a move is announced it is looked at before each operation,
//! so that nothing is read from a store that was left when the other has opened. Reads go on meanwhile;
//! what writes waits for a second, and then fails.
//!
//! What ended is heard of from both. After a change the log is read from its beginning.
//!
//! Left out: a node that stood still from before the announcement until the other has opened may answer
//! from the old store, until its next poll.

mod operations;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::policy::Policy;
use doorward_core::revocation::{Ended, Feed, Lapped};
use doorward_core::store::StoreResult;
use doorward_core::transfer::mark::{FILLING, Mark, MoveId, is_announced, is_signed};
use doorward_core::transfer::{LEFT, MovableStore};

use crate::remote::Remote;
use crate::{OpenError, Place};

/// How often a write is tried while neither store takes it, and how long is waited in between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

type Opened = Arc<dyn MovableStore>;

/// Two stores of which one counts.
pub(crate) struct Following {
    places: [Place; 2],
    opened: [OnceLock<Opened>; 2],
    policy: Policy,
    in_place: bool,
    /// Which of the two counts.
    at: AtomicUsize,
    /// Whether to look at its mark before each operation.
    alert: AtomicBool,
    /// How often another of the two began to count, and of which time the caller's cursor is.
    changes: AtomicU64,
    cursor_of: AtomicU64,
    said: Mutex<Option<String>>,
    feed: Arc<Both>,
    thread: Remote,
}

impl Following {
    /// Opens the first; the second once it counts.
    pub(crate) fn open(
        places: [Place; 2],
        policy: Policy,
        in_place: bool,
    ) -> Result<Self, OpenError> {
        let thread = Remote::start().map_err(|source| OpenError::File {
            path: "a thread".into(),
            source,
        })?;
        let following = Following {
            places,
            opened: [OnceLock::new(), OnceLock::new()],
            policy,
            in_place,
            at: AtomicUsize::new(0),
            // Until the first look.
            alert: AtomicBool::new(true),
            changes: AtomicU64::new(0),
            cursor_of: AtomicU64::new(0),
            said: Mutex::default(),
            feed: Arc::default(),
            thread,
        };
        following.opened_at(0)?;
        Ok(following)
    }

    fn opened_at(&self, at: usize) -> Result<Opened, OpenError> {
        if let Some(store) = self.opened[at].get() {
            return Ok(Arc::clone(store));
        }
        let (place, policy) = (&self.places[at], self.policy.clone());
        let store = if self.in_place {
            place.open_movable_in_place(policy)?
        } else {
            place.open_movable(policy)?
        };
        // Whoever comes second uses the first's.
        let store = Arc::clone(self.opened[at].get_or_init(|| store));
        self.feed.join(store.feed(), at);
        Ok(store)
    }

    fn store(&self, at: usize) -> StoreResult<Opened> {
        self.opened_at(at)
            .map_err(|error| StoreError(error.to_string()))
    }

    fn current(&self) -> StoreResult<Opened> {
        self.store(self.at.load(Ordering::Acquire))
    }

    /// The store that counts.
    async fn now(&self) -> StoreResult<Opened> {
        if self.alert.load(Ordering::Acquire) {
            self.look().await?;
        }
        self.current()
    }

    /// Looks at the mark of the store that counts, and goes over if it says so.
    async fn look(&self) -> StoreResult<()> {
        let at = self.at.load(Ordering::Acquire);
        let here = self.store(at)?;
        let mark = Mark::of(&*here).await?;
        let alert = match mark {
            None => is_announced(&*here).await?,
            Some(_) => true,
        };
        self.alert.store(alert, Ordering::Release);
        self.say(mark);
        match mark {
            // The first of all looks may find that it is filled for the way back.
            Some(Mark::Left(id) | Mark::Filling(id)) => self.go_over(at, id).await,
            _ => Ok(()),
        }
    }

    /// Goes over if the other has opened, and is the one that was meant.
    async fn go_over(&self, at: usize, id: MoveId) -> StoreResult<()> {
        let there = self.store(1 - at)?;
        if Mark::of(&*there).await?.is_none() && is_signed(&*there, id).await? {
            let went = self
                .at
                .compare_exchange(at, 1 - at, Ordering::AcqRel, Ordering::Acquire);
            if went.is_ok() {
                self.changes.fetch_add(1, Ordering::AcqRel);
                self.feed.change();
                *self.lock_said() = None;
            }
        }
        Ok(())
    }

    /// Until it is worth trying again.
    async fn wait(&self, tries: &mut u32, error: StoreError) -> StoreResult<()> {
        self.alert.store(true, Ordering::Release);
        let at = self.at.load(Ordering::Acquire);
        self.look().await?;
        if at != self.at.load(Ordering::Acquire) {
            return Ok(());
        }
        *tries = tries.checked_sub(1).ok_or(error)?;
        let pause = async {
            tokio::time::sleep(PAUSE).await;
            Ok(())
        };
        self.thread.run(pause).await
    }

    /// A cursor of the other store counts no more.
    fn cursor(&self, cursor: u64) -> u64 {
        let changes = self.changes.load(Ordering::Acquire);
        let of = self.cursor_of.swap(changes, Ordering::AcqRel);
        if of == changes { cursor } else { 0 }
    }

    fn say(&self, mark: Option<Mark>) {
        *self.lock_said() = match mark {
            None => None,
            Some(Mark::Leaving(_)) => {
                Some("the store is being left for store_next: logins and refreshes wait".into())
            }
            Some(Mark::Filling(_)) => Some(FILLING.into()),
            Some(_) => Some(format!("{LEFT}, which is not the one of store_next")),
        };
    }

    fn said(&self) -> Option<String> {
        self.lock_said().clone()
    }

    fn lock_said(&self) -> MutexGuard<'_, Option<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_left(error: &StoreError) -> bool {
    error.0.contains(LEFT)
}

/// The ends of both stores, for verifications. Its positions are its own: each change moves them.
#[derive(Default)]
struct Both {
    feeds: [OnceLock<Arc<dyn Feed>>; 2],
    changes: AtomicU64,
    read: Mutex<Read>,
}

/// How far each was read.
#[derive(Default)]
struct Read {
    positions: [u64; 2],
    /// Something may have been missed.
    lapped: bool,
}

impl Both {
    fn join(&self, feed: Option<Arc<dyn Feed>>, at: usize) {
        let Some(feed) = feed else { return };
        let head = feed.head();
        if self.feeds[at].set(feed).is_ok() {
            let mut read = self.lock();
            read.positions[at] = head;
            // What the second held before is in its log. The first is read whole before it serves.
            read.lapped |= at == 1;
        }
    }

    fn change(&self) {
        self.lock().lapped = true;
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn each(&self) -> impl Iterator<Item = (usize, &Arc<dyn Feed>)> {
        let feeds = self.feeds.iter().enumerate();
        feeds.filter_map(|(at, feed)| Some((at, feed.get()?)))
    }
}

impl Feed for Both {
    fn head(&self) -> u64 {
        let heads = self.each().map(|(_, feed)| feed.head());
        let changes = self.changes.load(Ordering::Acquire);
        heads.fold(changes, u64::wrapping_add)
    }

    fn read(&self, _from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        let mut read = self.lock();
        if read.lapped {
            return Err(Lapped);
        }
        let mut position = self.changes.load(Ordering::Acquire);
        for (at, feed) in self.each() {
            read.positions[at] = feed.read(read.positions[at], entry)?;
            position = position.wrapping_add(read.positions[at]);
        }
        Ok(position)
    }

    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError> {
        let mut read = self.lock();
        let mut position = self.changes.load(Ordering::Acquire);
        for (at, feed) in self.each() {
            read.positions[at] = feed.reload(entry)?;
            position = position.wrapping_add(read.positions[at]);
        }
        read.lapped = false;
        Ok(position)
    }
}
