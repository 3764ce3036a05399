//! Logins: what the hashing threads reach, what an answer's time gives away, and what a storm of
//! logins does to verification.
//!
//! Method, throughput: rounds in turn of 64 hashes, by `Passwords` with two threads and by a bare
//! loop of the same Argon2id kernel on two threads that keep their memory, at the same lowest
//! priority. Each round warms up first. Medians of 7.
//! Method, accounts: a wrong password for an existing, an unknown and a disabled account in turn,
//! one login at a time, over the store in memory. Medians of 60.
//! Method, storm: one thread hands a token to another, which verifies it and hands it back, every
//! half millisecond: quiet, while logins keep two hashing threads busy, and while the bare loop does
//! so at normal priority, in turn. p99 of all round trips of 5 rounds. And the same of
//! verifications without a pause, where only the processor's sharing shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use argon2::{Argon2, Block};
use doorward_benches::{clock, median, percentile};
use doorward_core::access_token::NewClaims;
use doorward_core::account::Accounts;
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::password::{Hashing, Params, Password, PasswordHash, Passwords};
use doorward_core::store::Store;
use doorward_core::{Env, Policy, SessionId, SystemEnv, Timestamp, TokenId, UserId};
use pollster::block_on;

const THREADS: usize = 2;
const HASHES: usize = 64;

fn main() {
    let passwords = Arc::new(Passwords::new(
        Hashing {
            threads: THREADS,
            ..Hashing::default()
        },
        Arc::new(SystemEnv),
    ));
    throughput(&passwords);
    accounts(&passwords);
    storm(&passwords);
}

fn throughput(passwords: &Arc<Passwords>) {
    let (mut engine, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        log_in(passwords, 2 * THREADS);
        let start = clock();
        log_in(passwords, HASHES);
        engine.push(rate(start.elapsed()));
        bare.push(rate(bare_loop()));
    }
    let (engine, bare) = (median(&engine), median(&bare));
    println!("bare Argon2id on {THREADS} threads: {bare:.1}/s");
    println!(
        "logins on {THREADS} hashing threads: {engine:.1}/s, {:.3} of bare (limit 0.95)",
        engine / bare
    );
}

#[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
fn rate(took: Duration) -> f64 {
    HASHES as f64 / took.as_secs_f64()
}

/// `count` logins, twice as many at a time as there are threads.
fn log_in(passwords: &Passwords, count: usize) {
    let left = AtomicUsize::new(count);
    thread::scope(|scope| {
        for _ in 0..2 * THREADS {
            scope.spawn(|| {
                while take_one(&left) {
                    block_on(passwords.verify(password(), Some(hash())))
                        .expect("room in the queue");
                }
            });
        }
    });
}

fn take_one(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

fn password() -> Password {
    Password::new("correct horse battery").expect("a password")
}

/// Of another password, at the default cost.
fn hash() -> PasswordHash {
    let (salt, tag) = ("c2FsdHNhbHRzYWx0c2FsdA", "A".repeat(43));
    PasswordHash::from_phc(&format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${tag}"))
}

/// How long `HASHES` hashes take, their memory at hand.
fn bare_loop() -> Duration {
    let left = AtomicUsize::new(HASHES);
    let warm = std::sync::Barrier::new(THREADS + 1);
    thread::scope(|scope| {
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
    })
    .elapsed()
}

fn lowest_priority() {
    let thread = rustix::thread::gettid();
    rustix::process::setpriority_process(Some(thread), 19).expect("a lower priority");
}

struct Kernel(Argon2<'static>, Vec<Block>);

impl Kernel {
    fn new() -> Kernel {
        let Params {
            memory_kib,
            iterations,
            parallelism,
        } = Params::default();
        let params = argon2::Params::new(memory_kib, iterations, parallelism, Some(32))
            .expect("the default cost");
        let memory = vec![Block::default(); params.block_count()];
        let version = argon2::Version::V0x13;
        Kernel(
            Argon2::new(argon2::Algorithm::Argon2id, version, params),
            memory,
        )
    }

    fn hash(&mut self) {
        let (mut tag, Kernel(kernel, memory)) = ([0; 32], self);
        kernel
            .hash_password_into_with_memory(b"correct horse battery", &[7; 16], &mut tag, memory)
            .expect("a hash");
        std::hint::black_box(tag);
    }
}

fn accounts(passwords: &Arc<Passwords>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Policy::default()));
    let accounts = Accounts::new(store, Arc::clone(passwords), Arc::new(SystemEnv));
    for name in ["existing", "disabled"] {
        let user = block_on(accounts.register(name, password())).expect("an account");
        block_on(accounts.set_disabled(&user, name == "disabled")).expect("an account");
    }
    let names = ["existing", "unknown", "disabled"];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..60 {
        for (times, name) in times.iter_mut().zip(names) {
            let wrong = Password::new("wrong horse battery").expect("a password");
            let start = clock();
            let refused = block_on(accounts.identify(name, wrong));
            times.push(start.elapsed().as_secs_f64() * 1e3);
            assert!(refused.is_err(), "a wrong password is refused");
        }
    }
    let base = median(&times[0]);
    let spread = percentile(&times[0], 75) - percentile(&times[0], 25);
    for (times, name) in times.iter().zip(names) {
        let time = median(times);
        println!("{name:<9} account: {time:.2} ms, {:+.2} ms", time - base);
    }
    println!("(half of the answers for the existing one lie within {spread:.2} ms)");
}

#[derive(Clone, Copy)]
enum Load {
    Quiet,
    Logins,
    NormalPriority,
}

fn storm(passwords: &Arc<Passwords>) {
    let verifier = Arc::new(Verifier::new());
    let loads = [Load::Quiet, Load::Logins, Load::NormalPriority];
    let mut trips = [const { Vec::new() }; 3];
    let mut looks = [const { Vec::new() }; 3];
    for _ in 0..5 {
        for (at, load) in loads.into_iter().enumerate() {
            under(load, passwords, || {
                trips[at].extend(verifier.round_trips());
                looks[at].extend(verifier.without_pause());
            });
        }
    }
    for (what, times) in [("handed over", trips), ("without a pause", looks)] {
        let p99 = times.map(|times| percentile(&times, 99));
        println!(
            "verification {what}, p99: quiet {:.1} us, in a storm {:.1} us, {:.2} of quiet \
             (aim 1.1); hashing at normal priority {:.2}",
            p99[0],
            p99[1],
            p99[1] / p99[0],
            p99[2] / p99[0]
        );
    }
}

/// Runs `work` while `load` goes on.
fn under(load: Load, passwords: &Passwords, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 * THREADS {
            scope.spawn(|| {
                while matches!(load, Load::Logins) && !stop.load(Ordering::Relaxed) {
                    let _ = block_on(passwords.verify(password(), Some(hash())));
                }
            });
        }
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut kernel = Kernel::new();
                while matches!(load, Load::NormalPriority) && !stop.load(Ordering::Relaxed) {
                    kernel.hash();
                }
            });
        }
        thread::sleep(Duration::from_millis(100));
        work();
        stop.store(true, Ordering::Relaxed);
    });
}

struct Verifier {
    keys: KeyRing,
    policy: Policy,
    now: Timestamp,
    token: String,
}

impl Verifier {
    fn new() -> Verifier {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let (policy, now) = (Policy::default(), env.now());
        let store = MemoryStore::new(policy.clone());
        let config = KeyConfig {
            algorithm: Algorithm::HS256,
            key: None,
            ..KeyConfig::default()
        };
        let keys = block_on(KeyRing::open(&store, config, Arc::clone(&env)))
            .expect("a store in memory takes keys");
        let claims = NewClaims {
            user: &UserId::new("u-42").expect("an id"),
            session: SessionId::new(now, &*env),
            token: TokenId::random(&*env),
            issued_at: now,
            expires_at: now + policy.access_ttl,
            fresh_until: now + policy.fresh_ttl,
            auth_time: now,
            issuer: None,
            audience: None,
            csrf: None,
            custom: None,
        };
        let token = keys.sign_access(&claims, now).expect("the ring has a key");
        Verifier {
            keys,
            policy,
            now,
            token,
        }
    }

    fn verify(&self, token: &str) {
        let claims = self.keys.verify_access(token, self.now, &self.policy);
        std::hint::black_box(claims.expect("a good token"));
    }

    /// Microseconds from handing a token to a waiting thread until it is handed back.
    fn round_trips(&self) -> Vec<f64> {
        let (ask, asked) = mpsc::channel::<String>();
        let (answer, answered) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                for token in asked {
                    self.verify(&token);
                    let _ = answer.send(token);
                }
            });
            let mut token = self.token.clone();
            let mut times = Vec::new();
            for _ in 0..1_000 {
                thread::sleep(Duration::from_micros(500));
                let start = clock();
                ask.send(token).expect("a thread that verifies");
                token = answered.recv().expect("a thread that verifies");
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            drop(ask);
            times
        })
    }

    /// Microseconds of each of many verifications.
    fn without_pause(&self) -> Vec<f64> {
        let look = |_| {
            let start = clock();
            self.verify(&self.token);
            start.elapsed().as_secs_f64() * 1e6
        };
        (0..200_000).map(look).collect()
    }
}
