//! Ends as a node hears of them, where sessions are kept on another machine.
//!
//! Two ways lead here: the database tells every node ([`Spread::heard`]), and processes of one machine
//! tell each other by a mapped ring, before the end is acknowledged ([`Spread::told`]). A verification looks
//! at both, at the price of two atomic loads. What neither brought is in the store's log, which is polled.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorward_core::error::StoreError;
use doorward_core::revocation::{Ended, Feed, Lapped};
use sha2::{Digest, Sha256};

use crate::ring::Ring;

/// How many ends are held for a verification to come; whoever lags by more reads the store's log.
const HELD: usize = 1 << 16;

/// Reads the store's log from its beginning, blocking.
pub(crate) type Reload = Box<dyn Fn(&mut dyn FnMut(Ended)) -> Result<(), StoreError> + Send + Sync>;

/// What a node has heard.
pub(crate) struct Spread {
    ring: Result<Ring, String>,
    mute: Mutex<Option<String>>,
    heard: AtomicU64,
    held: Mutex<Held>,
    reload: Reload,
}

/// What was heard and not read yet, and how far the ring was read.
struct Held {
    ends: VecDeque<Ended>,
    lapped: bool,
    ring: u64,
    heard: u64,
}

impl Spread {
    /// `store` tells this store from others that this user of this machine has: nothing secret.
    pub(crate) fn new(store: &str, reload: Reload) -> Arc<Self> {
        let ring = Ring::open(&ring_of(store));
        let ring = ring.map_err(|error| error.to_string());
        let at = ring.as_ref().map_or(0, Ring::head);
        Arc::new(Spread {
            ring,
            mute: Mutex::default(),
            heard: AtomicU64::new(0),
            held: Mutex::new(Held {
                ends: VecDeque::new(),
                lapped: false,
                ring: at,
                heard: 0,
            }),
            reload,
        })
    }

    /// The database said that these ended.
    pub(crate) fn heard(&self, ends: impl IntoIterator<Item = Ended>) {
        let mut held = self.held();
        let before = held.ends.len();
        held.ends.extend(ends);
        let more = held.ends.len() - before;
        let over = held.ends.len().saturating_sub(HELD);
        if over > 0 {
            held.lapped = true;
            held.ends.drain(..over);
        }
        self.heard.fetch_add(more as u64, Ordering::Release);
    }

    /// This process ended them: before it acknowledges that, its verifiers know, and those of the others
    /// on the machine.
    pub(crate) fn told(&self, ends: &[Ended]) {
        if ends.is_empty() {
            return;
        }
        let told = match &self.ring {
            Ok(ring) => ring.append(ends).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        if told.is_err() {
            self.heard(ends.iter().copied());
        }
        *self.mute.lock().unwrap_or_else(PoisonError::into_inner) = told.err();
    }

    /// Why the other processes of this machine hear later, if they do.
    pub(crate) fn mute(&self) -> Option<String> {
        let mute = self.mute.lock().unwrap_or_else(PoisonError::into_inner);
        mute.clone().or_else(|| self.ring.as_ref().err().cloned())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring_head(&self) -> u64 {
        self.ring.as_ref().map_or(0, Ring::head)
    }
}

/// Its positions count both ways together: each only grows, so that the sum stands still when both do.
impl Feed for Spread {
    fn head(&self) -> u64 {
        let heard = self.heard.load(Ordering::Acquire);
        self.ring_head().wrapping_add(heard)
    }

    fn read(&self, _from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        let mut held = self.held();
        if held.lapped {
            return Err(Lapped);
        }
        if let Ok(ring) = &self.ring {
            held.ring = ring.read(held.ring, entry)?;
        }
        held.heard = self.heard.load(Ordering::Acquire);
        held.ends.drain(..).for_each(entry);
        Ok(held.ring.wrapping_add(held.heard))
    }

    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError> {
        // Before the log: what comes meanwhile is read the next time.
        let position = {
            let mut held = self.held();
            held.lapped = false;
            held.ring = self.ring_head();
            held.heard = self.heard.load(Ordering::Acquire);
            held.ends.drain(..).for_each(&mut *entry);
            held.ring.wrapping_add(held.heard)
        };
        (self.reload)(entry).inspect_err(|_| self.held().lapped = true)?;
        Ok(position)
    }
}

/// The ring's file: of this user and this store, in memory.
fn ring_of(store: &str) -> PathBuf {
    let mut name = format!("doorward-{}-", rustix::process::geteuid().as_raw());
    for byte in &Sha256::digest(store)[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    let memory = PathBuf::from("/dev/shm");
    let directory = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    directory.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_core::Timestamp;
    use doorward_core::id::SessionId;
    use doorward_core::session::EndReason;

    fn end(number: u64) -> Ended {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        Ended {
            session: SessionId(id),
            at: Timestamp(1),
            reason: EndReason::Logout,
        }
    }

    /// A store of its own, whose ring is removed with it.
    struct Store(Arc<Spread>, String);

    impl Store {
        fn new(name: &str, log: Vec<Ended>) -> Store {
            let name = format!("test {name} {}", std::process::id());
            let reload: Reload = Box::new(move |entry| {
                log.iter().copied().for_each(entry);
                Ok(())
            });
            Store(Spread::new(&name, reload), name)
        }

        fn read(&self) -> Result<Vec<Ended>, Lapped> {
            let mut ends = Vec::new();
            let position = self.0.read(0, &mut |end| ends.push(end))?;
            assert_eq!(position, self.0.head());
            Ok(ends)
        }
    }

    impl Drop for Store {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(ring_of(&self.1));
        }
    }

    #[test]
    fn both_ways_lead_to_a_verification() {
        let store = Store::new("both", vec![]);
        let before = store.0.head();
        store.0.heard([end(1)]);
        store.0.told(&[end(2)]);
        assert_ne!(store.0.head(), before);
        let mut ends = store.read().unwrap();
        ends.sort_by_key(|end| end.session);
        assert_eq!(ends, [end(1), end(2)]);
        assert_eq!(store.read().unwrap(), []);
    }

    #[test]
    fn another_process_of_the_machine_hears_what_was_told() {
        let store = Store::new("other", vec![]);
        let other = Spread::new(&store.1, Box::new(|_| Ok(())));
        store.0.told(&[end(3)]);
        let mut ends = Vec::new();
        other.read(0, &mut |end| ends.push(end)).unwrap();
        assert_eq!(ends, [end(3)]);
    }

    #[test]
    fn who_lags_too_far_reads_the_log() {
        let store = Store::new("lapped", vec![end(7)]);
        store.0.heard((0..=HELD as u64).map(end));
        assert_eq!(store.read(), Err(Lapped));
        let mut ends = Vec::new();
        let position = store.0.reload(&mut |end| ends.push(end)).unwrap();
        assert_eq!(position, store.0.head());
        assert_eq!(ends.last(), Some(&end(7)));
        store.0.heard([end(8)]);
        assert_eq!(store.read().unwrap(), [end(8)]);
    }
}
