//! Where time and randomness come from, so that a simulation can decide both.

use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// A moment that has not come: what a new session says of its first rotation.
    pub const NEVER: Timestamp = Timestamp(i64::MIN);

    /// Whole seconds since the epoch, rounded down (RFC 7519 `NumericDate`).
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The moment `seconds` after the epoch.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Timestamp(seconds.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to `self`; negative if `earlier` is later, huge for [`Self::NEVER`].
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time, as 2027-03-31 or 2027-03-31T08:30:00Z or in seconds since 1970")]
pub struct NotATime;

impl FromStr for Timestamp {
    type Err = NotATime;

    /// RFC 3339, as databases write it (UTC where there is no offset, midnight where there is only a
    /// date), or seconds since the epoch.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text
                .parse()
                .map(Timestamp::from_seconds)
                .map_err(|_| NotATime);
        }
        let in_utc = || {
            jiff::tz::TimeZone::UTC
                .to_timestamp(text.parse().ok()?)
                .ok()
        };
        let time = text.parse::<jiff::Timestamp>().ok().or_else(in_utc);
        time.map(|time| Timestamp(time.as_millisecond()))
            .ok_or(NotATime)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis(span)))
    }
}

/// A duration in whole milliseconds, saturating.
#[must_use]
pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A length of time as people write it: `15m`, `30d`, or plain seconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(seconds)
        .map(Duration::from_secs)
}

/// The world outside: a clock and randomness.
pub trait Env: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Fills `bytes` with unpredictable ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's clock and randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        use std::time::{SystemTime, UNIX_EPOCH};
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp(millis(since)),
            Err(before) => Timestamp(-millis(before.duration())),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws randomness"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        // A system without randomness cannot make a secret: ending the process is the safe answer.
        getrandom::fill(bytes).expect("the operating system has no randomness");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_databases_write_them() {
        let day = Timestamp(1_711_843_200_000);
        for text in [
            "2024-03-31",
            "2024-03-31T00:00:00Z",
            "2024-03-31 02:00:00+02:00",
            "2024-03-31 00:00:00.000",
            " 1711843200 ",
        ] {
            assert_eq!(text.parse(), Ok(day), "{text}");
        }
        for text in [
            "",
            "soon",
            "2024-02-30",
            "1e9",
            "-1",
            "99999999999999999999",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATime), "{text}");
        }
    }
}
