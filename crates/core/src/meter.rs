//! What a node counts of its work with the store: how long operations take and wait, how large batches
//! are, how late it hears of ends.
//!
//! Guarantees: counting takes no lock and decides nothing. Names of operations are those of the store's
//! traits, so that they can be labels; no id, and nothing of a user, is ever counted by itself.
//!
//! [`Measured`] measures every operation of any store, from the outside. What only a store knows it tells
//! its [`Meter`] itself: see [`Meter::wait`]. Left out: operations whose caller went away.

mod histogram;
mod measured;
mod text;

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Span;

use self::histogram::{Histogram, SECONDS, SIZES, micros};
pub use self::measured::Measured;
use self::measured::NAMES;
pub use self::text::TYPE;
pub(crate) use self::text::text;
use crate::env::Timestamp;

/// Counters of one store in one process.
#[derive(Debug)]
pub struct Meter {
    operations: [Operation; NAMES.len()],
    batches: [Batched; Batch::ALL.len()],
    lags: [Histogram; Way::ALL.len()],
    waiting: AtomicU64,
    connections: AtomicU64,
}

/// An operation of the store's traits.
#[derive(Debug)]
struct Operation {
    took: Histogram,
    errors: AtomicU64,
}

/// What goes to the database together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Whatever waits to be written.
    Write,
    /// Loads.
    Load,
    /// Swaps.
    Swap,
}

#[derive(Debug)]
struct Batched {
    sizes: Histogram,
    waits: Histogram,
}

/// How a node hears of an end that another caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The database told it.
    Pushed,
    /// It read the log of ends.
    Polled,
}

impl Batch {
    const ALL: [Batch; 3] = [Batch::Write, Batch::Load, Batch::Swap];

    fn name(self) -> &'static str {
        match self {
            Batch::Write => "write",
            Batch::Load => "load",
            Batch::Swap => "swap",
        }
    }
}

impl Way {
    const ALL: [Way; 2] = [Way::Pushed, Way::Polled];

    fn name(self) -> &'static str {
        match self {
            Way::Pushed => "pushed",
            Way::Polled => "polled",
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            operations: array::from_fn(|_| Operation {
                took: Histogram::new(&SECONDS),
                errors: AtomicU64::new(0),
            }),
            batches: array::from_fn(|_| Batched {
                sizes: Histogram::new(&SIZES),
                waits: Histogram::new(&SECONDS),
            }),
            lags: array::from_fn(|_| Histogram::new(&SECONDS)),
            waiting: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }
}

impl Meter {
    /// An operation begins to wait for its batch: for as long as what this returns lives.
    #[must_use]
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting {
            meter: Arc::clone(self),
            since: now(),
            span: Span::current(),
        }
    }

    /// A batch begins, with these operations. Each one's span is told the size.
    pub fn begin<'a>(&self, batch: Batch, operations: impl IntoIterator<Item = &'a Waiting>) {
        let operations: Vec<_> = operations.into_iter().collect();
        let begins = now();
        let batched = &self.batches[batch as usize];
        batched.sizes.observe(operations.len() as u64);
        // Signed: the only integers that OpenTelemetry knows.
        let size = i64::try_from(operations.len()).unwrap_or(i64::MAX);
        for operation in operations {
            let waited = begins.saturating_duration_since(operation.since);
            batched.waits.observe(micros(waited));
            operation.span.record("db.operation.batch.size", size);
        }
    }

    /// How many connections to the database there are now.
    pub fn connections(&self, count: usize) {
        self.connections.store(count as u64, Ordering::Relaxed);
    }

    /// This node hears `now` of an end at `at` that another caused. By two clocks: what they are apart is
    /// in it, and never less than nothing.
    pub fn heard(&self, way: Way, at: Timestamp, now: Timestamp) {
        let lag = u64::try_from(now.since(at)).unwrap_or(0);
        self.lags[way as usize].observe(lag.saturating_mul(1_000));
    }

    fn took(&self, operation: usize, time: Duration, failed: bool) {
        let operation = &self.operations[operation];
        operation.took.observe(micros(time));
        if failed {
            operation.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An operation that waits for its batch.
#[derive(Debug)]
pub struct Waiting {
    meter: Arc<Meter>,
    since: Instant,
    span: Span,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.meter.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures how long something takes, and decides nothing"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
