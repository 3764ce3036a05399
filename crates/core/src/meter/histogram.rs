//! A histogram that any number of threads count in without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of spans of time, in microseconds.
pub(super) const SECONDS: [u64; BOUNDS] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];
/// Bounds of sizes of batches.
pub(super) const SIZES: [u64; BOUNDS] = [
    1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1_024, 4_096,
];
pub(super) const BOUNDS: usize = 16;

#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64; BOUNDS],
    /// By the first bound that is not exceeded; the last exceed all.
    counts: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Histogram {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Each bound with how many did not exceed it.
    pub(super) fn up_to(&self) -> impl Iterator<Item = (u64, u64)> {
        let bounds = self.bounds.iter().zip(&self.counts);
        bounds.scan(0, |below, (bound, count)| {
            *below += count.load(Ordering::Relaxed);
            Some((*bound, *below))
        })
    }

    pub(super) fn count(&self) -> u64 {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
