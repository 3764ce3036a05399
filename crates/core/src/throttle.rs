//! Failed logins cost: how many attempts there may be, decided by values alone.
//!
//! An attempt is charged to its buckets before its password is looked at, and settled by its outcome.
//! What is under way counts as if it had failed, so that guesses at once pass no more than guesses one
//! by one; success gives it back. Whoever never settles ([`PATIENCE`]) has failed.
//!
//! Guarantees: in any span of time a bucket has no more failures than its [`Budget`] says, and
//! no more than [`Run::most`] in a row without a pause. Left out: who shares a bucket, which
//! [`Throttle`] decides; and who may be asked to wait for whom: buckets know nothing of each other.

mod attempt;
mod budget;
mod turns;

use std::time::Duration;

pub use self::attempt::{Admitted, Attempt, Throttle};
pub use self::budget::{Budget, Budgets, Limit, NotABudget, OFF, Run};

use crate::env::{Timestamp, millis};

/// How long an attempt may take at least before it counts as failed; at most twice that.
pub const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// Names a bucket: a keyed hash of what it is of, so that a store does not list what people typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey(pub [u8; 16]);

/// What a store keeps of a bucket; the default is one that nothing was charged to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When the last failure's share of the budget is back: the theoretical arrival time of GCRA.
    pub refilled_at: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// Until when they count; the pause after too many ends then too.
    pub counted_until: Timestamp,
    /// Number of the span of [`PATIENCE`] in which attempts were last counted.
    pub span: i64,
    /// Attempts under way that began in that span.
    pub under_way: u32,
    /// Those of the span before.
    pub older: u32,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password was right.
    Success,
    /// It was not.
    Failure,
    /// It was not looked at.
    Neither,
}

/// Why an attempt may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Failures used the budget up; how long it takes to come back, in milliseconds.
    Wait(i64),
    /// Attempts under way may use up this bucket: it depends on their outcome.
    Busy(BucketKey),
}

/// A change of several buckets, for a store to carry out: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Which, and what holds for each.
    pub buckets: Vec<(BucketKey, Limit)>,
    /// What is done to each.
    pub step: Step,
}

/// A step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Charge,
    /// It is over.
    Settle {
        /// [`Change::at`] of its beginning.
        charged_at: Timestamp,
        /// How it ended.
        outcome: Outcome,
    },
}

impl Change {
    /// The buckets afterwards, in the order of [`Change::buckets`], which `before` has too.
    ///
    /// # Errors
    /// Those that do not allow it: nothing may be changed.
    pub fn apply(&self, before: &[Bucket]) -> Result<Vec<Bucket>, Refused> {
        let (mut after, mut refused) = (Vec::new(), None);
        for ((key, limit), bucket) in self.buckets.iter().zip(before) {
            match self.step(*key, bucket.at(self.at, limit), limit) {
                Ok(bucket) => after.push(bucket),
                Err(why) => refused = Some(why.or_longer(refused)),
            }
        }
        refused.map_or(Ok(after), Err)
    }

    fn step(&self, key: BucketKey, bucket: Bucket, limit: &Limit) -> Result<Bucket, Refused> {
        match self.step {
            Step::Charge => bucket.charged(key, self.at, limit),
            Step::Settle {
                charged_at,
                outcome,
            } => Ok(bucket.settled(charged_at, outcome, self.at, limit)),
        }
    }
}

impl Refused {
    /// What stands longer in the way: the longest wait, and any before attempts under way.
    fn or_longer(self, other: Option<Refused>) -> Refused {
        match (self, other) {
            (Refused::Wait(one), Some(Refused::Wait(other))) => Refused::Wait(one.max(other)),
            (Refused::Busy(_), Some(other @ Refused::Wait(_))) => other,
            (this, _) => this,
        }
    }
}

impl Bucket {
    /// From when it is surely as if nothing had been charged to it.
    #[must_use]
    pub fn idle_at(&self) -> Timestamp {
        if self.under_way + self.older > 0 {
            // They may have failed without anybody to say so, and what that costs is yet to come.
            return Timestamp((self.span + 2) * millis(PATIENCE)) + Budget::LONGEST;
        }
        let counts = self.failures > 0;
        let counted_until = counts.then_some(self.counted_until);
        self.refilled_at.max(counted_until.unwrap_or_default())
    }

    /// As it is at `now`. What lies further ahead than can be is of a clock that was stepped back.
    fn at(mut self, now: Timestamp, limit: &Limit) -> Bucket {
        let at_most = |time: Timestamp, ahead| time.min(Timestamp(now.0.saturating_add(ahead)));
        self.refilled_at = at_most(self.refilled_at, limit.budget.whole());
        if let Some(run) = limit.run {
            self.counted_until = at_most(self.counted_until, run.pause);
        }
        let span = now.0.div_euclid(millis(PATIENCE));
        while self.span < span && self.under_way + self.older > 0 {
            self.span += 1;
            let given_up = std::mem::replace(&mut self.older, std::mem::take(&mut self.under_way));
            let since = Timestamp(self.span.saturating_mul(millis(PATIENCE)));
            self.fail(given_up, since, limit);
        }
        self.span = span;
        self.forget(now);
        self
    }

    fn fail(&mut self, times: u32, at: Timestamp, limit: &Limit) {
        if times == 0 {
            return;
        }
        let shares = limit.budget.share().saturating_mul(times.into());
        self.refilled_at = Timestamp(self.refilled_at.max(at).0.saturating_add(shares));
        self.forget(at);
        if let Some(run) = limit.run {
            self.failures = self.failures.saturating_add(times);
            self.counted_until = Timestamp(at.0.saturating_add(run.pause));
        }
    }

    /// Failures that are too long ago.
    fn forget(&mut self, now: Timestamp) {
        if self.counted_until <= now {
            self.failures = 0;
        }
    }

    /// With one more attempt under way.
    fn charged(mut self, key: BucketKey, now: Timestamp, limit: &Limit) -> Result<Bucket, Refused> {
        let (budget, under_way) = (limit.budget, self.under_way + self.older);
        let used = self.refilled_at.since(now).max(0) + budget.share();
        let paused = limit.run.filter(|run| self.failures >= run.most);
        let paused = paused.map_or(0, |_| self.counted_until.since(now));
        let wait = paused.max(used - budget.whole());
        if wait > 0 {
            return Err(Refused::Wait(wait));
        }
        let at_most = used + i64::from(under_way) * budget.share();
        let run_ends = limit
            .run
            .is_some_and(|run| self.failures + under_way >= run.most);
        if run_ends || at_most > budget.whole() {
            return Err(Refused::Busy(key));
        }
        self.under_way += 1;
        Ok(self)
    }

    /// With one less. An attempt that was given up meanwhile has failed already.
    fn settled(
        mut self,
        charged_at: Timestamp,
        outcome: Outcome,
        now: Timestamp,
        limit: &Limit,
    ) -> Bucket {
        let count = match self.span - charged_at.0.div_euclid(millis(PATIENCE)) {
            ..=0 => &mut self.under_way,
            1 => &mut self.older,
            _ => return self,
        };
        let Some(fewer) = count.checked_sub(1) else {
            return self;
        };
        *count = fewer;
        match outcome {
            Outcome::Success => self.failures = 0,
            Outcome::Failure => self.fail(1, now, limit),
            Outcome::Neither => {}
        }
        self
    }
}

#[cfg(test)]
mod tests;
