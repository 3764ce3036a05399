//! Who waits for whom within a process: an attempt that may be one too many waits until one of those
//! under way is over, so that many right passwords at once are not refused for what they might have
//! been.
//!
//! Left out: attempts of other processes, for which nobody waits; and any promise beyond a wait's end,
//! since whoever was waiting asks the store again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot::{Receiver, Sender, channel};

use super::BucketKey;

/// How many may wait for a bucket: they hold threads of their hosts, and what is under way may hang.
const MOST_WAITING: usize = 128;

#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<BucketKey, Turn>>);

#[derive(Default)]
struct Turn {
    under_way: usize,
    waiting: VecDeque<Sender<()>>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<BucketKey, Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins. Before it is charged: who is refused meanwhile must see it.
    pub(super) fn enter(self: &Arc<Self>, keys: Box<[BucketKey]>) -> Entered {
        let mut turns = self.lock();
        for key in &keys {
            turns.entry(*key).or_default().under_way += 1;
        }
        drop(turns);
        Entered {
            turns: Arc::clone(self),
            keys,
        }
    }
}

/// An attempt under way, until it is dropped.
pub(super) struct Entered {
    turns: Arc<Turns>,
    keys: Box<[BucketKey]>,
}

impl Entered {
    /// It was not charged, and waits until one is over that `busy` is charged with. `None`: there is
    /// none in this process, or too many wait already.
    pub(super) fn wait(mut self, busy: BucketKey) -> Option<Receiver<()>> {
        let turns = Arc::clone(&self.turns);
        let mut turns = turns.lock();
        leave(&mut turns, &std::mem::take(&mut self.keys), Leaves::Nothing);
        let turn = turns.get_mut(&busy);
        let turn = turn.filter(|turn| turn.waiting.len() < MOST_WAITING)?;
        let (sender, receiver) = channel();
        turn.waiting.push_back(sender);
        Some(receiver)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        leave(&mut self.turns.lock(), &self.keys, Leaves::APlace);
    }
}

/// What there is for those who wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    APlace,
    Nothing,
}

fn leave(turns: &mut HashMap<BucketKey, Turn>, keys: &[BucketKey], leaves: Leaves) {
    for key in keys {
        let Some(turn) = turns.get_mut(key) else {
            continue;
        };
        turn.under_way -= 1;
        if turn.under_way == 0 {
            // Nobody is left to wait for: dropping them wakes them.
            turns.remove(key);
        } else if leaves == Leaves::APlace {
            turn.wake_one();
        }
    }
}

impl Turn {
    fn wake_one(&mut self) {
        while let Some(waiting) = self.waiting.pop_front() {
            if waiting.send(()).is_ok() {
                return;
            }
        }
    }
}
