//! What asking for ended sessions adds to a verification, and what a million of them weigh.
//!
//! Method: rounds of 512 HS256 tokens that the ring has not seen, of as many sessions; a round verifies
//! 512 without the check and 512 with it, so that both meet the same state of the machine. Judged is
//! a set that was asked for these sessions a moment before, as it is on a busy server; `cold` is
//! the ratio where it was not. (A token that was seen is found in a cache, in some 60 ns: there the
//! check alone says what is added.)
//! Printed are medians of 301 rounds. None of the sessions has ended: that is the usual case, and
//! the longest way through the table. The set hangs on a mapped ring, as beside `SQLite`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use doorward_benches::{Limit, clock, judge, median, median_ratio};
use doorward_core::access_token::NewClaims;
use doorward_core::error::StoreError;
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Ended, Feed, Lapped, Revocations};
use doorward_core::{EndReason, Env, Policy, SessionId, SystemEnv, Timestamp, TokenId, UserId};
use doorward_stores::ring::Ring;

const SESSIONS: usize = 512;
const ROUNDS: usize = 301;

fn main() {
    let path = std::env::temp_dir().join(format!("doorward-bench-{}-ring", std::process::id()));
    let bench = Bench::new();
    println!("ended sessions   verify   + check   check alone   ratio    cold   bytes each");
    for count in [0, 1, 10_000, 100_000, 1_000_000] {
        let set = bench.set(count, &path);
        bench.line(count, &set);
        if count == 1_000_000 {
            println!("\n{}", bench.sweep(&set));
        }
    }
    println!("{}", appends(&path));
    let _ = std::fs::remove_file(&path);
}

struct Bench {
    env: Arc<dyn Env>,
    now: Timestamp,
    keys: KeyRing,
    policy: Policy,
}

impl Bench {
    fn new() -> Bench {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let (now, policy) = (env.now(), Policy::default());
        let store = MemoryStore::new(policy.clone());
        let config = KeyConfig {
            algorithm: Algorithm::HS256,
            key: None,
            ..KeyConfig::default()
        };
        let keys = pollster::block_on(KeyRing::open(&store, config, &policy, Arc::clone(&env)))
            .expect("a store in memory takes keys");
        Bench {
            env,
            now,
            keys,
            policy,
        }
    }

    fn tokens(&self) -> Vec<(SessionId, String)> {
        let user = UserId::new("3f6c1f1e-8d0a-4f0e-9a55-2b6c0a1d7e44").expect("an id");
        let token = |_| {
            let session = SessionId::new(self.now, &*self.env);
            let claims = NewClaims {
                user: &user,
                session,
                token: TokenId::random(&*self.env),
                issued_at: self.now,
                expires_at: self.now + self.policy.access_ttl,
                fresh_until: self.now + self.policy.fresh_ttl,
                auth_time: self.now,
                issuer: None,
                audience: None,
                csrf: None,
                nbf: true,
                identity_claim: None,
                custom: None,
            };
            let token = self.keys.sign_access(&claims, self.now);
            (session, token.expect("there is a key"))
        };
        (0..SESSIONS).map(token).collect()
    }

    /// A set with `count` ends, spread over the span.
    fn set(&self, count: u32, path: &std::path::Path) -> Revocations {
        let ring = RingOnly(Ring::open(path).expect("a ring in the temporary directory"));
        let bounds = Bounds::of(&self.policy);
        let set = Revocations::new(bounds, Some(Arc::new(ring)));
        set.synced(self.now);
        for i in 0..count {
            let at = self.now - bounds.span * i / count;
            let session = SessionId::new(at, &*self.env);
            set.insert(Ended {
                session,
                at,
                reason: EndReason::Logout,
            });
        }
        set
    }

    fn line(&self, count: u32, set: &Revocations) {
        let [mut without, mut with, mut cold, mut alone] = [const { Vec::new() }; 4];
        let seen = self.tokens();
        let claims: Vec<_> = seen.iter().map(|(_, token)| self.verify(token)).collect();
        for _ in 0..ROUNDS {
            let [one, other, third] = [self.tokens(), self.tokens(), self.tokens()];
            without.push(time(|i| drop(black_box(self.verify(&one[i].1)))));
            cold.push(time(|i| {
                let claims = self.verify(&third[i].1);
                let ended = set.check(claims.session(), claims.issued_at(), self.now);
                black_box(ended.is_ok());
            }));
            for (session, _) in &other {
                let _ = black_box(set.check(*session, self.now, self.now));
            }
            with.push(time(|i| {
                let claims = self.verify(&other[i].1);
                let ended = set.check(claims.session(), claims.issued_at(), self.now);
                black_box(ended.is_ok());
            }));
            alone.push(time(|i| {
                let ended = set.check(claims[i].session(), claims[i].issued_at(), self.now);
                black_box(ended.is_ok());
            }));
        }
        let (ratio, cold) = (median_ratio(&with, &without), median_ratio(&cold, &without));
        let (without, with, alone) = (median(&without), median(&with), median(&alone));
        let mut line = format!("{count:>14} {without:>6.0}ns {with:>7.0}ns {alone:>11.1}ns");
        let _ = write!(line, " {ratio:>7.3} {cold:>7.3}");
        #[expect(clippy::cast_precision_loss, reason = "a ratio to look at")]
        let each = set.bytes() as f64 / f64::from(count.max(1));
        if count > 1 {
            let _ = write!(line, " {each:>12.1}");
        }
        println!("{line}");
        match count {
            10_000 => judge(
                "verification, 10,000 ended, with the check / without",
                ratio,
                Limit::AtMost(1.05),
            ),
            1_000_000 => judge(
                "bytes an ended session, of a million",
                each,
                Limit::AtMost(20.0),
            ),
            _ => {}
        }
    }

    /// How long a verifier may wait for the tick: one shard is swept at a time.
    fn sweep(&self, set: &Revocations) -> String {
        let before = set.len();
        let start = clock();
        set.expire(self.now + Bounds::of(&self.policy).span / 4);
        let shard = micros(start.elapsed()) / 64.0;
        let gone = before - set.len();
        format!("forgetting {gone} of {before}: {shard:.0}us a shard, 64 shards one by one")
    }

    fn verify(&self, token: &str) -> doorward_core::Claims {
        self.keys
            .verify_access(black_box(token), self.now, &self.policy)
            .expect("a good token")
    }
}

/// Nanoseconds an operation, over all sessions.
#[expect(clippy::cast_precision_loss, reason = "a mean to look at")]
fn time(mut operation: impl FnMut(usize)) -> f64 {
    let start = clock();
    for i in 0..SESSIONS {
        operation(i);
    }
    start.elapsed().as_nanos() as f64 / (SESSIONS) as f64
}

/// What publishing costs a writer, beside a commit of a millisecond.
fn appends(path: &std::path::Path) -> String {
    let ring = Ring::open(path).expect("a ring in the temporary directory");
    let mut line = "publishing to the ring:".to_owned();
    for group in [1, 64, 512] {
        let end = Ended {
            session: SessionId([7; 16]),
            at: Timestamp(0),
            reason: EndReason::Logout,
        };
        let ends = vec![end; group];
        let mut times = Vec::new();
        for _ in 0..2_000 {
            let start = clock();
            ring.append(&ends).expect("room for a ring");
            times.push(start.elapsed());
        }
        times.sort();
        let (p50, p99) = (micros(times[1_000]), micros(times[1_980]));
        let _ = write!(line, "  {group} at once {p50:.1}us (p99 {p99:.1}us)");
    }
    line
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A ring without a log behind it.
struct RingOnly(Ring);

impl Feed for RingOnly {
    fn head(&self) -> u64 {
        self.0.head()
    }

    fn read(&self, from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        self.0.read(from, entry)
    }

    fn reload(&self, _: &mut dyn FnMut(Ended)) -> Result<u64, StoreError> {
        Err(StoreError("there is no log here".into()))
    }
}
