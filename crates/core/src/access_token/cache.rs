//! Verified tokens, so that the second look at one costs neither a signature nor a parse.
//!
//! Bounded. Holds only tokens that passed everything but the times, and finds one only by all of its
//! bytes; the last of them, where the signature is, say where to look.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Claims;

const SHARDS: usize = 16;
const PER_SHARD: usize = 512;
/// How many tokens are known to have been looked at once.
const SEEN: usize = 8 * 1024;
/// How much of a token's end is hashed, in bytes.
const TAIL: usize = 16;

type Shard = HashMap<u64, (Box<str>, Claims), BuildHasherDefault<Mixed>>;

/// The tokens that were verified lately.
pub(crate) struct Cache {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    seen: Box<[AtomicU64]>,
}

/// A keyed hash of a token: nobody outside can choose tokens that share one.
#[derive(Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Default for Cache {
    fn default() -> Self {
        Cache {
            hasher: RandomState::new(),
            shards: Default::default(),
            seen: std::iter::repeat_with(AtomicU64::default)
                .take(SEEN)
                .collect(),
        }
    }
}

impl Cache {
    pub(crate) fn fingerprint(&self, token: &str) -> Fingerprint {
        let token = token.as_bytes();
        let tail = &token[token.len().saturating_sub(TAIL)..];
        Fingerprint(self.hasher.hash_one(tail))
    }

    /// Whether the token was looked at before; remembers that it was now.
    pub(crate) fn seen(&self, Fingerprint(print): Fingerprint) -> bool {
        let place = &self.seen[below(print, SEEN)];
        let seen = place.load(Ordering::Relaxed) == print;
        if !seen {
            place.store(print, Ordering::Relaxed);
        }
        seen
    }

    pub(crate) fn find(&self, print: Fingerprint, token: &str) -> Option<Claims> {
        let shard = self.shard(print);
        let (kept, claims) = shard.get(&print.0)?;
        (**kept == *token).then(|| claims.clone())
    }

    /// A full shard starts anew: cheaper than an order of use, and a look-up never writes.
    pub(crate) fn keep(&self, print: Fingerprint, token: &str, claims: &Claims) {
        let mut shard = self.shard(print);
        if shard.len() >= PER_SHARD {
            shard.clear();
        }
        shard.insert(print.0, (token.into(), claims.clone()));
    }

    pub(crate) fn flush(&self) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn shard(&self, Fingerprint(print): Fingerprint) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[below(print.rotate_left(32), SHARDS)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn below(print: u64, places: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    let print = print as usize;
    print % places
}

/// Fingerprints are hashes already.
#[derive(Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
