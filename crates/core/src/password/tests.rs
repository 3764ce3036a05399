use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use base64_simd::STANDARD_NO_PAD as BASE64;
use pollster::FutureExt as _;

use super::*;
use crate::account::Accounts;
use crate::memory::MemoryStore;
use crate::policy::Policy;
use crate::revocation::{Bounds, Revocations};
use crate::store::AccountStore as _;
use crate::testing::TestEnv;

/// One thread at work: by a clock that stands still no job waits long enough for the other.
fn passwords(params: Params) -> Passwords {
    Passwords::new(cheap(params), still())
}

fn still() -> Arc<TestEnv> {
    Arc::new(TestEnv::new(Timestamp(1_800_000_000_000), 1))
}

fn cheap(params: Params) -> Hashing {
    Hashing {
        params,
        threads: 1,
        ..Hashing::default()
    }
}

fn typed(text: &str) -> Password {
    Password::new(text).unwrap()
}

fn phc(text: &str) -> PasswordHash {
    PasswordHash::from_phc(text)
}

const STRONGER: Params = Params {
    iterations: 2,
    ..Params::FAST_FOR_TESTS
};

// ---- hashes ----

#[test]
fn a_password_matches_its_own_hash_only() {
    let passwords = passwords(Params::FAST_FOR_TESTS);
    let verify = |text, hash| passwords.verify(typed(text), hash).block_on().unwrap();
    let hash = passwords.hash(typed("correct horse")).block_on().unwrap();
    let right = Verified {
        matches: true,
        rehash: None,
    };
    assert_eq!(verify("correct horse", Some(hash.clone())), right);
    assert!(!verify("correct house", Some(hash)).matches);
    assert!(!verify("x", None).matches);
    assert_eq!(passwords.hashes(), 4);
}

#[test]
fn a_hash_of_another_cost_is_replaced() {
    let before = passwords(Params::FAST_FOR_TESTS);
    let old = before.hash(typed("secret")).block_on().unwrap();
    let passwords = passwords(STRONGER);
    let new = passwords.verify(typed("secret"), Some(old.clone()));
    let new = new.block_on().unwrap();
    assert!(new.matches);
    let text = new.rehash.unwrap();
    assert!(text.as_str().starts_with("$argon2id$v=19$m=8,t=2,p=1$"));
    // The wrong password replaces nothing.
    let wrong = passwords.verify(typed("Secret"), Some(old));
    assert_eq!(wrong.block_on().unwrap().rehash, None);
}

#[test]
fn composed_and_decomposed_spellings_are_one_password() {
    let passwords = passwords(Params::FAST_FOR_TESTS);
    let hash = passwords.hash(typed("caf\u{e9}")).block_on().unwrap();
    let verified = passwords.verify(typed("cafe\u{301}"), Some(hash));
    assert!(verified.block_on().unwrap().matches);
}

#[test]
fn a_hash_that_would_eat_the_machine_is_not_computed() {
    let huge = "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$AAAA";
    assert!(!phc(huge).is_known());
}

#[test]
fn a_hash_that_cannot_be_read_costs_the_work_of_a_good_one() {
    let tag = |bytes: usize| BASE64.encode_to_string(vec![7; bytes]);
    let (good, salt) = (tag(32), BASE64.encode_to_string([1; 16]));
    let with =
        |costs: &str, salt: &str, tag: &str| phc(&format!("$argon2id$v=19${costs}${salt}${tag}"));
    let long = BASE64.encode_to_string([1; 1000]);
    let mut hashes = vec![
        with("m=8,t=1,p=1", &long, &good),
        with("m=8,t=1,p=1", &BASE64.encode_to_string([1; 8]), &good),
        with("m=8,t=1,p=1", &BASE64.encode_to_string([1; 7]), &good),
        with("m=8,t=1,p=1", "", &good),
        with("m=8,t=1,p=1", "!", &good),
        with("m=0,t=1,p=1", &salt, &good),
        with("m=8,t=0,p=1", &salt, &good),
        with("m=8,t=1,p=0", &salt, &good),
        with("m=8,t=1,p=2", &salt, &good),
        with("m=8,t=1,p=1,x=1", &salt, &good),
        with("m=8,t=17,p=1", &salt, &good),
        with("m=-8,t=1,p=1", &salt, &good),
        with("m=8,t=1", &salt, &good),
        with("t=1,m=8,p=1", &salt, &good),
        phc("$argon2id$v=19$m=8,t=1,p=1"),
        phc("$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAA"),
        phc("$argon2id$v=16$m=8,t=1,p=1$AAAAAAAAAAA$AAAA"),
        phc(&format!("$argon2id$v=18$m=8,t=1,p=1${salt}${good}")),
        phc("$2b$12$abcdefghijklmnopqrstuv"),
        phc("\u{0}\u{e9}$$$$$"),
        phc(""),
    ];
    let lengths = [0, 1, 4, 15, 65, 1000];
    hashes.extend(lengths.map(|bytes| with("m=8,t=1,p=1", &salt, &tag(bytes))));
    for hash in hashes {
        let passwords = passwords(Params::FAST_FOR_TESTS);
        let verified = passwords.verify(typed("secret"), Some(hash.clone()));
        let verified = verified.block_on().unwrap();
        assert!(!verified.matches, "{}", hash.as_str());
        assert_eq!(passwords.hashes(), 1, "{}", hash.as_str());
        assert_eq!(passwords.memory(), 8 * 1024);
    }
}

#[test]
fn the_kernel_agrees_with_rfc_9106() {
    use argon2::{Argon2, AssociatedData, ParamsBuilder};
    // Section 5.3.
    const TAG: &str = "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659";
    let mut builder = ParamsBuilder::new();
    builder.m_cost(32).t_cost(3).p_cost(4).output_len(32);
    builder.data(AssociatedData::new(&[4; 12]).unwrap());
    let params = builder.build().unwrap();
    let secret = [3; 8];
    let kernel = Argon2::new_with_secret(
        &secret,
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        params,
    )
    .unwrap();
    let mut tag = [0; 32];
    kernel
        .hash_password_into(&[1; 32], &[2; 16], &mut tag)
        .unwrap();
    let pairs = TAG.as_bytes().chunks(2);
    let expected = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
    let expected: Vec<_> = expected
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect();
    assert_eq!(tag[..], expected);
}

// ---- accounts ----

fn accounts(hashing: Hashing, store: &Arc<MemoryStore>) -> (Accounts, Arc<Passwords>) {
    let env = still();
    let passwords = Arc::new(Passwords::new(hashing, Arc::clone(&env) as _));
    let store = Arc::clone(store) as _;
    let revocations = Arc::new(Revocations::new(Bounds::of(&Policy::default()), None));
    let accounts = Accounts::new(store, Arc::clone(&passwords), revocations, env);
    (accounts, passwords)
}

#[test]
fn existing_unknown_and_disabled_accounts_do_the_same_work() {
    let store = Arc::new(MemoryStore::new(Policy::default()));
    let (accounts, passwords) = accounts(cheap(Params::FAST_FOR_TESTS), &store);
    let register = |name| {
        let id = accounts.register(name, typed("a long sentence"));
        id.block_on().unwrap()
    };
    let (ada, bob) = (register("ada"), register("bob"));
    accounts.set_disabled(&bob, true).block_on().unwrap();
    let long = "x".repeat(1000);
    for (name, password, known) in [
        ("ada", "a long sentence", true),
        ("ada", "another sentence", false),
        ("bob", "a long sentence", false),
        ("bob", "another sentence", false),
        ("eve", "a long sentence", false),
        ("", "a long sentence", false),
        (" ada", "a long sentence", false),
        ("a\0a", "a long sentence", false),
        (&long, "a long sentence", false),
    ] {
        let before = passwords.hashes();
        let identified = accounts.identify(name, typed(password)).block_on();
        assert_eq!(passwords.hashes() - before, 1, "{name}");
        match identified {
            Ok(identity) => assert!(known && identity.user == ada),
            Err(error) => assert!(!known && error == Error::InvalidCredentials),
        }
    }
}

#[test]
fn a_login_renews_a_hash_of_another_cost_once() {
    let store = Arc::new(MemoryStore::new(Policy::default()));
    let stored = || {
        store
            .account("ada")
            .block_on()
            .unwrap()
            .unwrap()
            .password_hash
    };
    let (old, _) = accounts(cheap(Params::FAST_FOR_TESTS), &store);
    old.register("ada", typed("a long sentence"))
        .block_on()
        .unwrap();
    let (new, passwords) = accounts(cheap(STRONGER), &store);
    let login = |password| new.identify("ada", typed(password)).block_on();
    let before = stored();
    assert!(login("a wrong sentence").is_err());
    assert_eq!(stored(), before);
    assert!(login("a long sentence").is_ok());
    let renewed = stored();
    assert!(renewed.as_str().contains("$m=8,t=2,p=1$"));
    // The old hash and one of the new cost each time, and then only that.
    assert_eq!(passwords.hashes(), 4);
    assert!(login("a long sentence").is_ok());
    assert_eq!((stored(), passwords.hashes()), (renewed, 5));
}

// ---- the threads ----

/// A world in which a thread that wants a salt is held up until it is let go.
struct Gate {
    env: TestEnv,
    state: Mutex<(u32, bool)>,
    moved: Condvar,
}

impl Gate {
    fn closed() -> Arc<Gate> {
        Arc::new(Gate {
            env: TestEnv::new(Timestamp(1_800_000_000_000), 1),
            state: Mutex::new((0, false)),
            moved: Condvar::new(),
        })
    }

    /// Until this many threads are held up.
    fn await_held(&self, count: u32) {
        let state = self.state.lock().unwrap();
        drop(
            self.moved
                .wait_while(state, |state| state.0 < count)
                .unwrap(),
        );
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.moved.notify_all();
    }
}

impl Env for Gate {
    fn now(&self) -> Timestamp {
        self.env.now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.moved.notify_all();
        drop(self.moved.wait_while(state, |state| !state.1).unwrap());
        self.env.fill(bytes);
    }
}

type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Puts a job into the queue, and does not wait for it.
fn begun<'a, T>(job: impl Future<Output = T> + 'a) -> Waiting<'a, T> {
    let mut job: Waiting<'a, T> = Box::pin(job);
    let mut context = Context::from_waker(Waker::noop());
    assert!(job.as_mut().poll(&mut context).is_pending());
    job
}

fn gated(gate: &Arc<Gate>, patience: Duration) -> Passwords {
    let hashing = Hashing {
        patience,
        queue: 2,
        ..cheap(Params::FAST_FOR_TESTS)
    };
    Passwords::new(hashing, Arc::clone(gate) as _)
}

#[test]
fn a_straggler_is_taken_while_the_other_threads_are_busy() {
    let gate = Gate::closed();
    let passwords = gated(&gate, Duration::from_millis(1));
    let busy = begun(passwords.hash(typed("secret")));
    gate.await_held(1);
    let straggler = begun(passwords.verify(typed("secret"), None));
    // Until its time has come, which is the clock's to say, nobody takes it.
    assert_eq!(passwords.hashes(), 0);
    gate.env.advance(Duration::from_millis(2));
    assert!(!straggler.block_on().unwrap().matches);
    assert_eq!(passwords.hashes(), 1);
    gate.open();
    assert!(busy.block_on().is_ok());
}

#[test]
fn the_queue_is_bounded_and_what_nobody_waits_for_leaves_it() {
    let gate = Gate::closed();
    let passwords = gated(&gate, Duration::from_secs(3600));
    let busy = begun(passwords.hash(typed("secret")));
    gate.await_held(1);
    let left = begun(passwords.verify(typed("secret"), None));
    let kept = begun(passwords.verify(typed("secret"), None));
    let refused = passwords.verify(typed("secret"), None).block_on();
    assert!(matches!(refused, Err(Error::Overloaded { retry_after }) if !retry_after.is_zero()));
    drop(left);
    let late = begun(passwords.verify(typed("secret"), None));
    // This one is skipped when its turn comes, the other was when `late` came.
    drop(kept);
    gate.open();
    assert!(busy.block_on().is_ok());
    assert!(late.block_on().is_ok());
    assert_eq!(passwords.hashes(), 2);
}

#[test]
fn a_queue_without_room_answers_at_once() {
    let hashing = Hashing {
        queue: 0,
        ..Hashing::default()
    };
    let passwords = Passwords::new(hashing, still());
    let refused = passwords.hash(typed("secret")).block_on();
    assert!(matches!(refused, Err(Error::Overloaded { .. })));
}

#[test]
fn memory_is_taken_at_the_first_login_kept_and_given_back_after_a_quiet_time() {
    let hashing = Hashing {
        idle_release: Duration::from_secs(3600),
        ..cheap(Params::FAST_FOR_TESTS)
    };
    let keeps = Passwords::new(hashing.clone(), still());
    assert_eq!(keeps.memory(), 0);
    for _ in 0..3 {
        assert!(keeps.hash(typed("secret")).block_on().is_ok());
        assert_eq!(keeps.memory(), 8 * 1024);
    }
    let hashing = Hashing {
        idle_release: Duration::from_millis(1),
        ..hashing
    };
    let gives = Passwords::new(hashing, still());
    for _ in 0..3 {
        assert!(gives.hash(typed("secret")).block_on().is_ok());
        while gives.memory() > 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn threads_end_with_their_passwords() {
    let passwords = passwords(Params::FAST_FOR_TESTS);
    assert!(passwords.hash(typed("secret")).block_on().is_ok());
    let pool = passwords.pool();
    drop(passwords);
    while Arc::strong_count(&pool) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(pool.counts.memory.load(Ordering::Relaxed), 0);
}

#[test]
fn a_forked_child_starts_threads_of_its_own() {
    let passwords = passwords(Params::FAST_FOR_TESTS);
    // As a child finds it: another process's pool, whose lock a thread held that is no more.
    let parents = Pool::new(&passwords, std::process::id() + 1);
    let held = parents.lock();
    passwords.pool.store(Some(Arc::clone(&parents)));
    assert!(passwords.hash(typed("secret")).block_on().is_ok());
    assert!(!Arc::ptr_eq(&passwords.pool(), &parents));
    passwords.pool.store(Some(Arc::clone(&parents)));
    drop(passwords);
    assert!(!held.closed);
}

#[test]
fn threads_that_start_the_pool_at_once_share_one() {
    let passwords = passwords(Params::FAST_FOR_TESTS);
    let pools: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| passwords.pool())).collect();
        let pools = threads.into_iter().map(|thread| thread.join().unwrap());
        pools.collect()
    });
    assert!(pools.iter().all(|pool| Arc::ptr_eq(pool, &pools[0])));
    assert!(passwords.hash(typed("secret")).block_on().is_ok());
}

#[test]
fn a_cost_under_the_least_that_owasp_advises_is_pointed_out() {
    let advised = |memory_kib, iterations| {
        let params = Params {
            memory_kib,
            iterations,
            parallelism: 1,
        };
        params.advice().is_some()
    };
    for (memory_kib, iterations) in [
        (47_104, 1),
        (19_456, 2),
        (12_288, 3),
        (9_216, 4),
        (7_168, 5),
        (7_168, 16),
    ] {
        assert!(
            !advised(memory_kib, iterations),
            "{memory_kib} {iterations}"
        );
        assert!(
            advised(memory_kib - 1, iterations),
            "{memory_kib} {iterations}"
        );
    }
    assert_eq!(Params::default().advice(), None);
    assert!(Params::FAST_FOR_TESTS.advice().is_some());
}
