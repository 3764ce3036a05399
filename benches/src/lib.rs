//! What the benchmarks share.
//!
//! - here: a clock, medians and percentiles, and the line that says whether a limit holds.
//! - [`engine`]: the engine on an `SQLite` file, its sessions and tokens.
//! - [`load`]: HTTP requests in a closed loop.
//! - [`process`]: servers in processes of their own, on cores of their own.
//! - [`servers`]: database servers of a benchmark's own; [`population`]: the sessions in them; [`holders`]: their
//!   clients; [`pgbench`]: what a database does by itself.
//! - [`scale`]: a world of clients, nodes and store shards, simulated.

pub mod engine;
pub mod holders;
pub mod load;
pub mod pgbench;
pub mod population;
pub mod process;
pub mod scale;
pub mod servers;

use std::time::Instant;

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn clock() -> Instant {
    Instant::now()
}

/// Nanoseconds that one of `count` runs of `operation` takes, from all of them.
#[expect(clippy::cast_precision_loss, reason = "a mean to look at")]
pub fn nanos_each(count: usize, mut operation: impl FnMut(usize)) -> f64 {
    let start = clock();
    for number in 0..count {
        operation(number);
    }
    start.elapsed().as_nanos() as f64 / count as f64
}

/// The value in the middle.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The value below which `percent` of the values lie.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// The median of the ratios of values that were measured one right after the other.
#[must_use]
pub fn median_ratio(values: &[f64], bases: &[f64]) -> f64 {
    let ratios: Vec<_> = values.iter().zip(bases).map(|(a, b)| a / b).collect();
    median(&ratios)
}

/// A bound on what is measured.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// It may be more.
    AtLeast(f64),
    /// It may be less.
    AtMost(f64),
}

/// Prints whether a limit holds, in a line that begins with `ok` or `MISSED`: the summary of
/// `make bench` is made of these lines.
pub fn judge(what: &str, measured: f64, limit: Limit) {
    let (holds, words, bound) = match limit {
        Limit::AtLeast(bound) => (measured >= bound, "at least", bound),
        Limit::AtMost(bound) => (measured <= bound, "at most", bound),
    };
    let verdict = if holds { "ok" } else { "MISSED" };
    println!("{verdict:<7} {what}: {measured:.3} ({words} {bound})");
}
