//! How many failures are had for nothing, and how soon they are forgotten.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::env::{duration, millis};

/// So many failures at once; then one more each time that its share of `span` has passed. In any
/// span of time there are `attempts` and one for each share of it, never more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    attempts: u32,
    /// A failure's share of the span, in milliseconds.
    share: i64,
}

impl Budget {
    /// The most that a budget may allow at once.
    const MOST: u32 = 1_000_000;
    /// The longest time in which it may come back; of a pause too.
    pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
    /// And the shortest.
    const SHORTEST: Duration = Duration::from_secs(1);

    /// `attempts` in `span`: 1 to 1,000,000 in 1 second to 30 days.
    #[must_use]
    pub const fn new(attempts: u32, span: Duration) -> Option<Budget> {
        let (span, attempts_fit) = (span.as_millis(), attempts >= 1 && attempts <= Self::MOST);
        let fits = Self::SHORTEST.as_millis() <= span && span <= Self::LONGEST.as_millis();
        if !attempts_fit || !fits || span < attempts as u128 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "30 days are 2.6e9 ms")]
        let share = span as i64 / attempts as i64;
        Some(Budget { attempts, share })
    }

    /// One that is written down here.
    const fn known(attempts: u32, span: u64) -> Budget {
        match Budget::new(attempts, Duration::from_secs(span)) {
            Some(budget) => budget,
            None => panic!("a budget that cannot be used"),
        }
    }

    /// In milliseconds.
    pub(super) fn share(self) -> i64 {
        self.share
    }

    /// All of them, in milliseconds.
    pub(super) fn whole(self) -> i64 {
        self.share * i64::from(self.attempts)
    }

    /// How many failures at once.
    #[must_use]
    pub fn attempts(self) -> u32 {
        self.attempts
    }
}

/// A budget that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be failures and the time in which they come back: 10/15m; 1 to 1,000,000 of them in 1s to 30d, \
     no more than one a millisecond"
)]
pub struct NotABudget;

impl FromStr for Budget {
    type Err = NotABudget;

    /// Such as `10/15m`.
    fn from_str(text: &str) -> Result<Self, NotABudget> {
        let (attempts, span) = text.split_once('/').ok_or(NotABudget)?;
        let digits = !attempts.is_empty() && attempts.bytes().all(|b| b.is_ascii_digit());
        let attempts = attempts.parse().ok().filter(|_| digits);
        let budget = Budget::new(
            attempts.ok_or(NotABudget)?,
            duration(span).ok_or(NotABudget)?,
        );
        budget.ok_or(NotABudget)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.attempts, self.whole() / 1000)
    }
}

const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What failed logins cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Of an account, for devices that never logged in to it.
    pub account: Budget,
    /// Of a network: an IPv4 address, or a /64 of IPv6. `None`: whole networks are not limited.
    pub network: Option<Budget>,
    /// Of all such devices together. `None`: not limited.
    pub overall: Option<Budget>,
    /// Of a device that has logged in to the account before, and of a session whose password is asked
    /// for again.
    pub device: Budget,
    /// How many failures in a row an account or device may have before it pauses.
    pub in_a_row: u32,
    /// How long it does; and how long without a failure until earlier ones no longer count.
    pub pause: Duration,
    /// How long a device is known after its last login.
    pub device_ttl: Duration,
}

impl Default for Budgets {
    fn default() -> Self {
        Budgets {
            account: Budget::known(10, 15 * 60),
            network: Some(Budget::known(100, 15 * 60)),
            overall: Some(Budget::known(3_000, 10 * 60)),
            device: Budget::known(5, 5 * 60),
            in_a_row: 100,
            pause: Duration::from_secs(12 * 3600),
            device_ttl: Duration::from_secs(180 * 24 * 3600),
        }
    }
}

/// What operators are told where nothing limits failures.
pub const OFF: &str = "failed logins cost nothing: throttle is off, and passwords can be guessed as fast as they are hashed";

impl Budgets {
    /// Sets the budget of a setting's name, such as `throttle_network`. `off` there and overall: none.
    ///
    /// # Errors
    /// There is no such budget, or it cannot be used.
    pub fn set(&mut self, setting: &str, text: &str) -> Result<(), NotABudget> {
        let or_off = || (text != "off").then(|| text.parse()).transpose();
        match setting {
            "throttle_account" => self.account = text.parse()?,
            "throttle_device" => self.device = text.parse()?,
            "throttle_network" => self.network = or_off()?,
            "throttle_overall" => self.overall = or_off()?,
            _ => return Err(NotABudget),
        }
        Ok(())
    }

    /// Whether they keep what is promised: at most 100 failures in a row (NIST SP 800-63B-4, 3.2.2), then
    /// a pause of an hour or more; and a time that devices can be known for.
    #[must_use]
    pub fn are_usable(&self) -> bool {
        let hour = Duration::from_secs(3600);
        (1..=100).contains(&self.in_a_row)
            && (hour..=Budget::LONGEST).contains(&self.pause)
            && (hour..=TEN_YEARS).contains(&self.device_ttl)
    }

    /// Of an account or device: at most so many failures in a row.
    pub(super) fn with_pause(&self, budget: Budget) -> Limit {
        Limit {
            budget,
            run: Some(Run {
                most: self.in_a_row,
                pause: millis(self.pause),
            }),
        }
    }
}

/// What holds for a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many failures.
    pub budget: Budget,
    /// How many in a row. `None`: as many as the budget lets through.
    pub run: Option<Run>,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many at the most.
    pub most: u32,
    /// And then none for so long, in milliseconds. Those before a failure that is as long ago do not count.
    pub pause: i64,
}

impl From<Budget> for Limit {
    fn from(budget: Budget) -> Self {
        Limit { budget, run: None }
    }
}
