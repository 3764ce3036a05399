//! What needs no simulation: closed forms, which the simulation's parts are tested against too.

use std::time::Duration;

use doorward_core::Policy;
use doorward_core::revocation::Bounds;

/// Bytes of an ended session in a verifier's memory, at most (`scripts/bench revocation`).
pub const BYTES_REMEMBERED: f64 = 20.0;
/// Bytes of an ended session on its way to a node: id, time, reason, and 40 of framing.
pub const BYTES_TOLD: f64 = 16.0 + 8.0 + 1.0 + 40.0;

/// The mean wait at a station of random arrivals and equal services (M/D/1), in the unit of `service`.
#[must_use]
pub fn mean_wait(load: f64, service: f64) -> f64 {
    load * service / (2.0 * (1.0 - load))
}

/// How long an access token lives on average, jitter counted.
#[must_use]
pub fn mean_lifetime(policy: &Policy) -> f64 {
    let early = f64::from(policy.expiry_jitter_percent) / 100.0 / 2.0;
    policy.access_ttl.as_secs_f64() * (1.0 - early)
}

/// Refreshes a second of so many clients that never sleep and ask something each `pause` seconds.
#[must_use]
pub fn steady_refreshes(clients: f64, policy: &Policy, pause: f64) -> f64 {
    clients / (mean_lifetime(policy) + pause)
}

/// What ends of sessions come to, for `nodes` that each hear of all of them.
#[derive(Clone, Copy, Debug)]
pub struct FanOut {
    /// Messages a second, of all nodes.
    pub messages: f64,
    /// Bytes a second, of all nodes.
    pub bytes: f64,
    /// Polls a second, of all nodes: each asks each log once a second.
    pub polls: f64,
    /// Ends that a node remembers.
    pub remembered: f64,
    /// Bytes of a node's memory.
    pub memory: f64,
    /// How old a token may get before it must be refreshed, because older ends have collapsed, in seconds.
    pub oldest_token: f64,
}

impl FanOut {
    /// Of `ends` a second, from `logs` stores that each have a log of ends.
    #[must_use]
    pub fn of(ends: f64, nodes: f64, logs: f64, policy: &Policy) -> FanOut {
        let bounds = Bounds::of(policy);
        let (cap, skew) = (count(bounds.cap), bounds.skew.as_secs_f64());
        // A sweep comes a sixteenth of the span late.
        let span = bounds.span.as_secs_f64() * (1.0 + 1.0 / 16.0);
        let kept = if ends * span > cap {
            (cap * 7.0 / 8.0 / ends).max(2.0 * skew)
        } else {
            span
        };
        let whole = policy.access_ttl.as_secs_f64();
        FanOut {
            messages: ends * nodes,
            bytes: ends * nodes * BYTES_TOLD,
            polls: nodes * logs,
            remembered: ends * kept,
            memory: ends * kept * BYTES_REMEMBERED,
            oldest_token: if kept < span {
                (kept - skew).min(whole)
            } else {
                whole
            },
        }
    }

    /// How many times as many refreshes the clients that are awake send, since ends have collapsed.
    #[must_use]
    pub fn more_refreshes(&self, policy: &Policy) -> f64 {
        (mean_lifetime(policy) / self.oldest_token).max(1.0)
    }
}

/// Ends a second up to which every node remembers each of them.
#[must_use]
pub fn ends_remembered_one_by_one(policy: &Policy) -> f64 {
    let bounds = Bounds::of(policy);
    count(bounds.cap) / (bounds.span.as_secs_f64() * (1.0 + 1.0 / 16.0))
}

/// How long it takes to end `users` one after the other, each write durable before the next.
#[must_use]
pub fn one_by_one(users: f64, write: Duration, at_once: f64) -> f64 {
    users * write.as_secs_f64() / at_once
}

#[expect(clippy::cast_precision_loss, reason = "millions")]
fn count(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(measured: f64, told: f64) {
        assert!((measured / told - 1.0).abs() < 0.001, "{measured} {told}");
    }

    #[test]
    fn few_ends_are_remembered_for_the_span() {
        let policy = Policy::default();
        let fan_out = FanOut::of(100.0, 50.0, 4.0, &policy);
        near(fan_out.messages, 5_000.0);
        near(fan_out.polls, 200.0);
        let span = Bounds::of(&policy).span.as_secs_f64();
        near(fan_out.remembered, 100.0 * span * 17.0 / 16.0);
        near(fan_out.more_refreshes(&policy), 1.0);
    }

    #[test]
    fn past_the_cap_tokens_get_less_old() {
        let policy = Policy::default();
        let most = ends_remembered_one_by_one(&policy);
        near(FanOut::of(most * 0.9995, 1.0, 1.0, &policy).remembered, 2e6);
        let fan_out = FanOut::of(10_000.0, 50.0, 4.0, &policy);
        near(fan_out.remembered, 1_750_000.0);
        near(fan_out.oldest_token, 115.0);
        near(fan_out.more_refreshes(&policy), 877.5 / 115.0);
    }

    #[test]
    fn what_tokens_minted_now_need_never_collapses() {
        let fan_out = FanOut::of(1e6, 50.0, 4.0, &Policy::default());
        near(fan_out.remembered, 120e6);
        near(fan_out.oldest_token, 60.0);
    }
}
