//! Logins: what the hashing threads reach, what an answer's time gives away, and what a storm of
//! logins does to verification.
//!
//! Method, throughput: rounds in turn of 96 hashes at the default cost, by whole logins (account
//! looked up, password verified by `Passwords` with two threads, session stored durably in `SQLite`,
//! tokens signed) four at a time, and by a bare loop of the same Argon2id kernel on two threads that
//! keep their memory, at the same lowest priority. Each round warms up first. The median of the
//! ratios of 7 pairs.
//! Method, accounts: four kinds of refused logins, one at a time, their order rotating; medians of
//! the differences to the existing account of the same turn, 80 turns.
//! Method, storm: a token is handed to a thread that waits for one, which verifies it and hands it
//! back: 1,000 times with half a millisecond between, quiet, while logins keep two hashing threads
//! busy, and while the bare loop does so at normal priority. p99 of the time from handing over to
//! having it back; the median of the ratios of 7 such turns. And the same of a thread that verifies
//! without a pause, in pieces of 64 verifications.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use argon2::{Argon2, Block};
use doorward_benches::engine::{Engine, user};
use doorward_benches::{Limit, clock, judge, median, median_ratio, percentile};
use doorward_core::keys::Algorithm;
use doorward_core::password::{Hashing, Params, Password, Passwords};
use doorward_core::{Accounts, Policy, SystemEnv};
use pollster::block_on;

const THREADS: usize = 2;
const HASHES: usize = 96;
const ROUNDS: usize = 7;
const TURNS: usize = 80;

fn main() {
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let bench = Bench::open(&directory.path().join("bench.db"));
    bench.throughput();
    bench.refusals();
    bench.storm();
}

struct Bench {
    engine: Engine,
    accounts: Accounts,
}

impl Bench {
    fn open(path: &Path) -> Bench {
        let hashing = Hashing {
            threads: THREADS,
            ..Hashing::default()
        };
        let engine = Engine::open(path, Policy::default(), Algorithm::HS256);
        let passwords = Arc::new(Passwords::new(hashing, Arc::new(SystemEnv)));
        let store = Arc::clone(&engine.store);
        let revocations = Arc::clone(&engine.revocations);
        let accounts = Accounts::new(store, passwords, revocations, Arc::new(SystemEnv));
        for name in ["existing", "disabled"] {
            let user = block_on(accounts.register(name, right())).expect("an account");
            block_on(accounts.set_disabled(&user, name == "disabled")).expect("an account");
        }
        Bench { engine, accounts }
    }

    fn throughput(&self) {
        let (mut logins, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            self.log_in(2 * THREADS);
            logins.push(rate(self.log_in(HASHES)));
            bare.push(rate(bare_loop()));
        }
        println!("bare Argon2id on {THREADS} threads: {:.1}/s", median(&bare));
        println!(
            "logins on {THREADS} hashing threads: {:.1}/s",
            median(&logins)
        );
        let ratio = median_ratio(&logins, &bare);
        judge("logins, of a bare loop", ratio, Limit::AtLeast(0.95));
    }

    /// How long `count` logins take, twice as many at a time as there are threads.
    fn log_in(&self, count: usize) -> Duration {
        let (left, start) = (AtomicUsize::new(count), clock());
        thread::scope(|scope| {
            for _ in 0..2 * THREADS {
                scope.spawn(|| {
                    while take_one(&left) {
                        let identity = block_on(self.accounts.identify("existing", right()));
                        block_on(self.engine.log_in(identity.expect("an account")));
                    }
                });
            }
        });
        start.elapsed()
    }

    fn refusals(&self) {
        let kinds = [
            ("existing, wrong password", "existing", wrong()),
            ("unknown", "unknown", wrong()),
            ("disabled, wrong password", "disabled", wrong()),
            ("disabled, right password", "disabled", right()),
        ];
        let mut times = [const { Vec::new() }; 4];
        for turn in 0..TURNS {
            for at in (0..kinds.len()).map(|at| (at + turn) % kinds.len()) {
                let (_, name, password) = &kinds[at];
                times[at].push(self.refused(name, password));
            }
        }
        let spread = percentile(&times[0], 75) - percentile(&times[0], 25);
        for (times_of, (kind, _, _)) in times.iter().zip(&kinds) {
            let more: Vec<_> = times_of.iter().zip(&times[0]).map(|(a, b)| a - b).collect();
            let (time, more) = (median(times_of), median(&more));
            println!("refused, {kind:<24}: {time:.2} ms, {more:+.3} ms");
        }
        println!("(half of the answers of the first kind lie within {spread:.2} ms)");
    }

    /// Milliseconds.
    fn refused(&self, name: &str, password: &Password) -> f64 {
        let (password, start) = (password.clone(), clock());
        let answer = block_on(self.accounts.identify(name, password));
        assert!(answer.is_err(), "this login is refused");
        start.elapsed().as_secs_f64() * 1e3
    }

    fn storm(&self) {
        let token = self.engine.access_token(&user(42));
        let loads = [Load::Quiet, Load::Logins, Load::NormalPriority];
        let mut handed = [const { Vec::new() }; 3];
        let mut pieces = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (at, load) in loads.into_iter().enumerate() {
                self.under(load, || {
                    handed[at].push(percentile(&self.round_trips(&token), 99));
                    pieces[at].push(percentile(&self.without_pause(&token), 99));
                });
            }
        }
        report("handed over", &handed);
        report("without a pause", &pieces);
    }

    /// Runs `work` while `load` goes on.
    fn under(&self, load: Load, work: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (stop, bench) = (&stop, self);
            match load {
                Load::Quiet => {}
                Load::Logins => {
                    for _ in 0..2 * THREADS {
                        scope.spawn(move || bench.log_in_until(stop));
                    }
                }
                Load::NormalPriority => {
                    for _ in 0..THREADS {
                        scope.spawn(move || hash_until(stop));
                    }
                }
            }
            thread::sleep(Duration::from_millis(100));
            work();
            stop.store(true, Ordering::Relaxed);
        });
    }

    fn log_in_until(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let identity = block_on(self.accounts.identify("existing", right()));
            block_on(self.engine.log_in(identity.expect("an account")));
        }
    }

    fn verify(&self, token: &str) {
        let (keys, service) = (&self.engine.keys, &self.engine.service);
        let claims = keys.verify_access(token, service.now(), service.policy());
        std::hint::black_box(claims.expect("a good token"));
    }

    /// Microseconds from handing a token to a waiting thread until it is handed back.
    fn round_trips(&self, token: &str) -> Vec<f64> {
        let (ask, asked) = mpsc::channel::<&str>();
        let (answer, answered) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                for token in asked {
                    self.verify(token);
                    let _ = answer.send(());
                }
            });
            let trip = |_| {
                thread::sleep(Duration::from_micros(500));
                let start = clock();
                ask.send(token).expect("a thread that verifies");
                answered.recv().expect("a thread that verifies");
                micros(start)
            };
            let times = (0..1_000).map(trip).collect();
            drop(ask);
            times
        })
    }

    /// Microseconds of pieces of 64 verifications, for half a second.
    fn without_pause(&self, token: &str) -> Vec<f64> {
        let (from, mut times) = (clock(), Vec::new());
        while from.elapsed() < Duration::from_millis(500) {
            let start = clock();
            (0..64).for_each(|_| self.verify(token));
            times.push(micros(start));
        }
        times
    }
}

#[derive(Clone, Copy)]
enum Load {
    Quiet,
    Logins,
    NormalPriority,
}

/// Of p99s, quiet, in a storm, and with hashing at normal priority.
fn report(how: &str, [quiet, storm, normal]: &[Vec<f64>; 3]) {
    println!(
        "verification {how}, p99: quiet {:.1} us, in a storm {:.1} us, \
         with hashing at normal priority {:.1} us",
        median(quiet),
        median(storm),
        median(normal)
    );
    let (ratio, normal) = (median_ratio(storm, quiet), median_ratio(normal, quiet));
    println!("  hashing at normal priority would make it {normal:.1} of quiet");
    let what = format!("verification {how} in a storm, p99, of quiet");
    judge(&what, ratio, Limit::AtMost(1.1));
}

fn right() -> Password {
    Password::new("correct horse battery").expect("a password")
}

fn wrong() -> Password {
    Password::new("wrong horse battery").expect("a password")
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
fn rate(took: Duration) -> f64 {
    HASHES as f64 / took.as_secs_f64()
}

fn take_one(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// How long `HASHES` hashes take, their memory at hand.
fn bare_loop() -> Duration {
    let (left, warm) = (AtomicUsize::new(HASHES), Barrier::new(THREADS + 1));
    let start = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                lowest_priority();
                let mut kernel = Kernel::new();
                kernel.hash();
                warm.wait();
                while take_one(&left) {
                    kernel.hash();
                }
            });
        }
        warm.wait();
        clock()
    });
    start.elapsed()
}

fn hash_until(stop: &AtomicBool) {
    let mut kernel = Kernel::new();
    while !stop.load(Ordering::Relaxed) {
        kernel.hash();
    }
}

fn lowest_priority() {
    let thread = rustix::thread::gettid();
    rustix::process::setpriority_process(Some(thread), 19).expect("a lower priority");
}

struct Kernel(Argon2<'static>, Vec<Block>);

impl Kernel {
    fn new() -> Kernel {
        let cost = Params::default();
        let params =
            argon2::Params::new(cost.memory_kib, cost.iterations, cost.parallelism, Some(32));
        let params = params.expect("the default cost");
        let memory = vec![Block::default(); params.block_count()];
        let version = argon2::Version::V0x13;
        let kernel = Argon2::new(argon2::Algorithm::Argon2id, version, params);
        Kernel(kernel, memory)
    }

    fn hash(&mut self) {
        let (mut tag, Kernel(kernel, memory)) = ([0; 32], self);
        kernel
            .hash_password_into_with_memory(b"correct horse battery", &[7; 16], &mut tag, memory)
            .expect("a hash");
        std::hint::black_box(tag);
    }
}
