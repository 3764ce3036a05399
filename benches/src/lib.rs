//! What the benchmarks share: a clock, medians and percentiles.

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
