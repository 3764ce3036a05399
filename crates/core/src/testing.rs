//! For tests: a clock that is set by hand and randomness from a seed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::env::{Env, Timestamp, millis};

/// A world that a test decides. The randomness is predictable: for tests only.
#[derive(Debug)]
pub struct TestEnv {
    now: AtomicI64,
    random: AtomicU64,
}

impl TestEnv {
    /// A world at `now`, whose randomness follows from `seed`.
    #[must_use]
    pub fn new(now: Timestamp, seed: u64) -> Self {
        TestEnv {
            now: AtomicI64::new(now.0),
            random: AtomicU64::new(seed),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(millis(span), Ordering::SeqCst);
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::SeqCst);
    }

    /// The next 64 bits (SplitMix64).
    pub fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .random
            .fetch_add(STEP, Ordering::SeqCst)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Env for TestEnv {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.random().to_le_bytes()[..chunk.len()]);
        }
    }
}
