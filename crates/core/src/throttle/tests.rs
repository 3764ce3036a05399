//! The rules by table, and against an exact count.

use super::*;
use crate::testing::TestEnv;

const KEY: BucketKey = BucketKey([1; 16]);
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const PAUSE: i64 = 12 * 3600 * 1000;

fn limit(budget: &str, most: u32) -> Limit {
    Limit {
        budget: budget.parse().unwrap(),
        run: Some(Run { most, pause: PAUSE }),
    }
}

fn later(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1000)
}

fn change(at: Timestamp, limit: Limit, step: Step) -> Change {
    Change {
        at,
        buckets: vec![(KEY, limit)],
        step,
    }
}

/// One bucket, as a store keeps it.
struct Kept(Bucket, Limit);

impl Kept {
    fn charge(&mut self, at: Timestamp) -> Result<(), Refused> {
        self.0 = change(at, self.1, Step::Charge).apply(&[self.0])?[0];
        Ok(())
    }

    fn settle(&mut self, charged_at: Timestamp, at: Timestamp, outcome: Outcome) {
        let step = Step::Settle {
            charged_at,
            outcome,
        };
        self.0 = change(at, self.1, step).apply(&[self.0]).unwrap()[0];
    }

    fn fails(&mut self, at: Timestamp) -> Result<(), Refused> {
        self.charge(at)?;
        self.settle(at, at, Outcome::Failure);
        Ok(())
    }
}

fn kept(budget: &str, most: u32) -> Kept {
    Kept(Bucket::default(), limit(budget, most))
}

#[test]
fn a_budget_is_used_up_and_comes_back_share_by_share() {
    let mut bucket = kept("10/15m", 100);
    for _ in 0..10 {
        assert_eq!(bucket.fails(NOW), Ok(()));
    }
    assert_eq!(bucket.fails(NOW), Err(Refused::Wait(90_000)));
    assert_eq!(bucket.fails(later(89)), Err(Refused::Wait(1_000)));
    assert_eq!(bucket.fails(later(90)), Ok(()));
    assert_eq!(bucket.fails(later(90)), Err(Refused::Wait(90_000)));
    for _ in 0..10 {
        assert_eq!(bucket.fails(later(2 * 900)), Ok(()));
    }
}

#[test]
fn guesses_at_once_pass_no_more_than_one_by_one() {
    let mut bucket = kept("10/15m", 100);
    let passed = (0..64).filter(|_| bucket.charge(NOW).is_ok()).count();
    assert_eq!(passed, 10);
    assert_eq!(bucket.charge(NOW), Err(Refused::Busy(KEY)));
    for _ in 0..10 {
        bucket.settle(NOW, NOW, Outcome::Failure);
    }
    assert_eq!(bucket.charge(NOW), Err(Refused::Wait(90_000)));
}

#[test]
fn success_costs_nothing_and_ends_a_row_of_failures() {
    let mut bucket = kept("10/15m", 9);
    for _ in 0..8 {
        bucket.fails(NOW).unwrap();
    }
    for _ in 0..1_000 {
        bucket.charge(NOW).unwrap();
        bucket.settle(NOW, NOW, Outcome::Success);
    }
    assert_eq!(bucket.0.failures, 0);
    // But it buys no more guesses.
    assert_eq!(bucket.fails(NOW), Ok(()));
    assert_eq!(bucket.fails(NOW), Ok(()));
    assert_eq!(bucket.fails(NOW), Err(Refused::Wait(90_000)));
}

#[test]
fn what_was_not_looked_at_changes_nothing() {
    let mut bucket = kept("10/15m", 100);
    bucket.fails(NOW).unwrap();
    let before = bucket.0;
    bucket.charge(NOW).unwrap();
    bucket.settle(NOW, NOW, Outcome::Neither);
    assert_eq!(bucket.0, before);
}

#[test]
fn too_many_failures_in_a_row_are_followed_by_a_pause() {
    let mut bucket = kept("10/1s", 100);
    let mut at = NOW;
    for _ in 0..100 {
        assert_eq!(bucket.fails(at), Ok(()));
        at = Timestamp(at.0 + 1_000);
    }
    let last = at.0 - 1_000;
    assert_eq!(bucket.fails(at), Err(Refused::Wait(PAUSE - 1_000)));
    assert_eq!(
        bucket.fails(Timestamp(last + PAUSE - 1)),
        Err(Refused::Wait(1))
    );
    assert_eq!(bucket.fails(Timestamp(last + PAUSE)), Ok(()));
    assert_eq!(bucket.0.failures, 1);
}

#[test]
fn those_under_way_count_toward_a_row() {
    let mut bucket = kept("1000/1s", 100);
    for _ in 0..98 {
        bucket.fails(NOW).unwrap();
    }
    assert_eq!((bucket.charge(NOW), bucket.charge(NOW)), (Ok(()), Ok(())));
    assert_eq!(bucket.charge(NOW), Err(Refused::Busy(KEY)));
    bucket.settle(NOW, NOW, Outcome::Failure);
    bucket.settle(NOW, NOW, Outcome::Failure);
    assert_eq!(bucket.charge(NOW), Err(Refused::Wait(PAUSE)));
}

#[test]
fn whoever_never_settles_has_failed() {
    for (wait, failures) in [(0, 0), (119, 0), (120, 0), (240, 10), (1_000, 10)] {
        let mut bucket = kept("10/15m", 100);
        // Aligned, so that the spans are these.
        let start = Timestamp(NOW.0 / 120_000 * 120_000);
        for _ in 0..10 {
            bucket.charge(start).unwrap();
        }
        let at = Timestamp(start.0 + wait * 1000);
        let asked = bucket.charge(at);
        let expected = match wait {
            240 => Err(Refused::Wait(90_000)),
            1_000 => Ok(()),
            _ => Err(Refused::Busy(KEY)),
        };
        assert_eq!(asked, expected, "{wait}");
        // Too late: it is counted already.
        let asked = u32::from(asked.is_ok());
        bucket.settle(start, at, Outcome::Failure);
        let left = bucket.0.under_way + bucket.0.older;
        assert_eq!(
            (left, bucket.0.failures),
            if failures == 0 { (9, 1) } else { (asked, 10) }
        );
    }
}

#[test]
fn a_clock_that_was_set_back_locks_nobody_out_for_longer() {
    let mut bucket = kept("10/15m", 100);
    let future = later(30 * 24 * 3600);
    for _ in 0..10 {
        bucket.fails(future).unwrap();
    }
    assert_eq!(bucket.charge(NOW), Err(Refused::Wait(90_000)));
    assert_eq!(bucket.fails(later(90)), Err(Refused::Wait(90_000)));
    let mut bucket = kept("1000/1s", 10);
    for _ in 0..10 {
        bucket.fails(future).unwrap();
    }
    assert_eq!(bucket.charge(NOW), Err(Refused::Wait(PAUSE)));
}

#[test]
fn all_buckets_are_charged_or_none() {
    let (wide, narrow) = (limit("100/1m", 100), limit("1/1h", 100));
    let both = Change {
        at: NOW,
        buckets: vec![(KEY, wide), (BucketKey([2; 16]), narrow)],
        step: Step::Charge,
    };
    let after = both.apply(&[Bucket::default(); 2]).unwrap();
    assert_eq!(after.iter().map(|bucket| bucket.under_way).sum::<u32>(), 2);
    assert_eq!(both.apply(&after), Err(Refused::Busy(BucketKey([2; 16]))));
    let settle = Change {
        step: Step::Settle {
            charged_at: NOW,
            outcome: Outcome::Failure,
        },
        ..both.clone()
    };
    let failed = settle.apply(&after).unwrap();
    assert_eq!(both.apply(&failed), Err(Refused::Wait(3_600_000)));
}

#[test]
fn an_idle_bucket_is_as_good_as_none() {
    let env = TestEnv::new(NOW, 11);
    for _ in 0..2_000 {
        let mut bucket = kept("3/1m", 5);
        for _ in 0..env.random() % 12 {
            step(&mut bucket, &env, &mut Vec::new());
        }
        let idle = bucket.0.idle_at();
        let fresh = Kept(Bucket::default(), bucket.1);
        let mut both = [bucket, fresh];
        for at in [idle, Timestamp(idle.0 + 5_000)] {
            let [old, new] = &mut both;
            assert_eq!(old.charge(at), new.charge(at));
            old.settle(at, at, Outcome::Failure);
            new.settle(at, at, Outcome::Failure);
        }
        assert_eq!(both[0].0.failures, both[1].0.failures);
    }
}

/// Something that happens to a bucket, some time after what happened before; whether it failed.
fn step(bucket: &mut Kept, env: &TestEnv, open: &mut Vec<Timestamp>) -> bool {
    use crate::env::Env as _;
    env.advance(Duration::from_millis(env.random() % 9_000));
    let now = env.now();
    if env.random().is_multiple_of(2) || open.is_empty() {
        if bucket.charge(now).is_ok() {
            open.push(now);
        }
        return false;
    }
    let place = usize::try_from(env.random()).unwrap_or(0) % open.len();
    let charged_at = open.swap_remove(place);
    let outcomes = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Neither,
    ];
    let outcome = outcomes[usize::try_from(env.random() % 4).unwrap_or(0)];
    bucket.settle(charged_at, now, outcome);
    outcome == Outcome::Failure
}

#[test]
fn no_span_of_time_has_more_failures_than_the_budget() {
    use crate::env::Env as _;
    for seed in 0..200 {
        let env = TestEnv::new(NOW, seed);
        let mut bucket = kept("4/1m", 1_000);
        let (mut open, mut failures) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            if step(&mut bucket, &env, &mut open) {
                failures.push(env.now().0);
            }
        }
        for (first, from) in failures.iter().enumerate() {
            for (last, to) in failures.iter().enumerate().skip(first) {
                let count = i64::try_from(last - first).unwrap() + 1;
                assert!(
                    count <= 4 + (to - from) / 15_000,
                    "{seed}: {count} in {}",
                    to - from
                );
            }
        }
    }
}

#[test]
fn budgets_are_written_as_failures_and_a_time() {
    let budget: Budget = "10/15m".parse().unwrap();
    assert_eq!((budget.attempts(), budget.share()), (10, 90_000));
    assert_eq!(budget.to_string(), "10/900s");
    for text in [
        "",
        "10",
        "10/",
        "/15m",
        "0/1m",
        "+1/1m",
        "-1/1m",
        "1/0",
        "1/31d",
        "1.5/1m",
        "10/15 m",
        "10/15x",
        "1000001/1d",
        "2000/1s",
        "10/15m/2",
        "9999999999999/1d",
        " 1/1m",
    ] {
        assert_eq!(text.parse::<Budget>(), Err(NotABudget), "{text}");
    }
}
