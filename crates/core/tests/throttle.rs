//! Attempts as a door makes them: an attacker at full rate, an owner who goes on logging in, and many
//! at once.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use doorward_core::engine::{Engine, EngineConfig};
use doorward_core::memory::MemoryStore;
use doorward_core::testing::TestEnv;
use doorward_core::throttle::{Admitted, Attempt, Budgets, Outcome, Throttle};
use doorward_core::{Env as _, Error, Policy, Result, SessionId, Timestamp};
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_700);
const DAY: i64 = 24 * 3600 * 1000;
const HOUR: i64 = 3600 * 1000;

struct World {
    throttle: Arc<Throttle>,
    env: Arc<TestEnv>,
}

impl World {
    fn new(budgets: Budgets) -> World {
        let env = Arc::new(TestEnv::new(NOW, 7));
        let store = Arc::new(MemoryStore::new(Policy::default()));
        let engine = Engine::open(store, EngineConfig::default(), Arc::clone(&env) as _);
        let engine = engine.block_on().unwrap();
        let throttle = Throttle::new(Arc::clone(engine.service()), Some(budgets));
        World {
            throttle: Arc::new(throttle),
            env,
        }
    }

    fn with(change: impl FnOnce(&mut Budgets)) -> World {
        let mut budgets = Budgets::default();
        change(&mut budgets);
        World::new(budgets)
    }

    fn admit(
        &self,
        username: &str,
        device: Option<&str>,
        address: Option<&str>,
    ) -> Result<Admitted> {
        let devices: Vec<_> = device.into_iter().collect();
        let attempt = Attempt::Login {
            username,
            devices: &devices,
            address: address.map(|text| text.parse::<IpAddr>().unwrap()),
        };
        self.throttle.admit(attempt).block_on()
    }

    fn fails(&self, username: &str, device: Option<&str>, address: Option<&str>) -> Result<()> {
        let admitted = self.admit(username, device, address)?;
        admitted.settle(Outcome::Failure).block_on().map(drop)
    }

    /// Logs in; the device's token from then on.
    fn succeeds(
        &self,
        username: &str,
        device: Option<&str>,
        address: Option<&str>,
    ) -> Result<String> {
        let admitted = self.admit(username, device, address)?;
        let token = admitted.settle(Outcome::Success).block_on()?.unwrap();
        Ok(token.as_str().to_owned())
    }

    fn use_up(&self, username: &str) {
        while self.fails(username, None, None).is_ok() {}
    }
}

fn retry_after(refused: &Error) -> Duration {
    match refused {
        Error::TooManyAttempts { retry_after } => *retry_after,
        error => panic!("{error}"),
    }
}

#[test]
fn a_year_of_attack_at_full_rate_keeps_no_owner_out_and_gets_few_guesses() {
    let world = World::new(Budgets::default());
    let mut device = world.succeeds("ada", None, None).unwrap();
    let (mut guesses, mut days) = (Vec::new(), 0);
    while world.env.now().since(NOW) < 365 * DAY {
        match world.fails("ada", None, None) {
            Ok(()) => guesses.push(world.env.now().0),
            Err(refused) => {
                // Whoever comes back when he is told to finds that it was true.
                world.env.advance(retry_after(&refused));
                world.fails("ada", None, None).unwrap();
                guesses.push(world.env.now().0);
            }
        }
        while world.env.now().since(NOW) > days * DAY {
            // From an address that the attacker has used up too.
            device = world.succeeds("ada", Some(&device), None).unwrap();
            days += 1;
        }
    }
    assert!(days >= 365);
    let mut in_a_row = 1;
    for pair in guesses.windows(2) {
        in_a_row = if pair[1] - pair[0] >= 12 * HOUR {
            1
        } else {
            in_a_row + 1
        };
        assert!(in_a_row <= 100);
    }
    // 100 in two and a quarter hours and a pause.
    assert!(
        (50_000..65_000).contains(&guesses.len()),
        "{}",
        guesses.len()
    );
}

#[test]
fn a_known_device_is_admitted_whatever_others_do() {
    let world = World::with(|budgets| budgets.overall = Some("50/1m".parse().unwrap()));
    let (env, here) = (&world.env, Some("192.0.2.1"));
    let mut devices = Vec::new();
    for name in ["ada", "bob"] {
        devices.push((name, world.succeeds(name, None, here).unwrap()));
    }
    let mut refused = 0;
    for _ in 0..20_000 {
        env.advance(Duration::from_millis(env.random() % 2_000));
        let name = ["ada", "bob", "nobody"][usize::try_from(env.random() % 3).unwrap()];
        match world.admit(name, None, here) {
            // Never settled.
            Ok(admitted) if env.random().is_multiple_of(4) => drop(admitted),
            Ok(admitted) => drop(admitted.settle(Outcome::Failure).block_on().unwrap()),
            Err(_) => refused += 1,
        }
        let (name, token) = &mut devices[usize::try_from(env.random() % 2).unwrap()];
        *token = world.succeeds(name, Some(token), here).unwrap();
    }
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn guesses_at_once_are_as_many_as_one_by_one() {
    let world = World::new(Budgets::default());
    let passed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                if world.fails("ada", None, None).is_ok() {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 10);
}

#[test]
fn right_passwords_at_once_are_all_admitted() {
    let world = World::new(Budgets::default());
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..20 {
                    world.succeeds("ada", None, Some("192.0.2.1")).unwrap();
                }
            });
        }
    });
}

#[test]
fn whoever_waits_is_told_when_those_before_are_gone() {
    let world = World::with(|budgets| budgets.account = "1/15m".parse().unwrap());
    let first = world.admit("ada", None, None).unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| world.succeeds("ada", None, None)))
            .collect();
        drop(first);
        for waiting in waiting {
            // It was never settled, and may have failed.
            let refused = waiting.join().unwrap().unwrap_err();
            assert_eq!(retry_after(&refused), Duration::from_secs(1));
        }
    });
    world.env.advance(Duration::from_secs(240));
    let refused = world.fails("ada", None, None).unwrap_err();
    assert!(retry_after(&refused) > Duration::from_secs(600));
}

#[test]
fn a_device_is_known_to_its_own_account_for_its_time() {
    let world = World::new(Budgets::default());
    let token = world.succeeds("ada", None, None).unwrap();
    for name in ["ada", "bob"] {
        world.use_up(name);
    }
    assert!(world.succeeds("ada", Some(&token), None).is_ok());
    assert!(world.succeeds("bob", Some(&token), None).is_err());
    world
        .env
        .advance(Duration::from_millis(u64::try_from(180 * DAY).unwrap()));
    world.use_up("ada");
    assert!(world.succeeds("ada", Some(&token), None).is_ok());
    world.env.advance(Duration::from_millis(1));
    assert!(world.succeeds("ada", Some(&token), None).is_err());
}

#[test]
fn a_device_of_one_spelling_is_none_of_another_that_may_be_somebody_elses() {
    let world = World::new(Budgets::default());
    let token = world.succeeds("Ada", None, None).unwrap();
    world.use_up("ada");
    for name in ["ada", "ADA", "\u{e1}da", "ada "] {
        assert!(world.fails(name, Some(&token), None).is_err(), "{name}");
    }
    assert!(world.succeeds("Ada", Some(&token), None).is_ok());
}

#[test]
fn no_token_with_a_changed_character_is_one() {
    let world = World::new(Budgets::default());
    let token = world.succeeds("ada", None, None).unwrap();
    world.use_up("ada");
    assert!(world.succeeds("ada", Some(&token), None).is_ok());
    for at in 0..token.len() {
        for other in ["A", "z", "_", "=", "0"] {
            let mut changed = token.clone();
            changed.replace_range(at..=at, other);
            let known = world.succeeds("ada", Some(&changed), None).is_ok();
            assert_eq!(known, changed == token, "{changed}");
        }
    }
    let odd = [
        "",
        "dwd_",
        &token[4..],
        &format!("{token}A"),
        &token[..token.len() - 1],
    ];
    for text in odd {
        assert!(world.succeeds("ada", Some(text), None).is_err(), "{text}");
    }
}

#[test]
fn a_success_of_a_known_device_leaves_the_failures_of_others() {
    let world = World::with(|budgets| budgets.account = "1000/1s".parse().unwrap());
    let device = world.succeeds("ada", None, None).unwrap();
    for _ in 0..100 {
        world.fails("ada", None, None).unwrap();
        world.succeeds("ada", Some(&device), None).unwrap();
    }
    let refused = world.fails("ada", None, None).unwrap_err();
    assert_eq!(retry_after(&refused), Duration::from_secs(12 * 3600));
}

#[test]
fn a_stolen_device_gets_no_more_than_its_own_budget_and_row() {
    let world = World::new(Budgets::default());
    let device = world.succeeds("ada", None, None).unwrap();
    let mut guesses = 0;
    while world.env.now().since(NOW) < DAY {
        match world.fails("ada", Some(&device), None) {
            Ok(()) => guesses += 1,
            Err(refused) => world.env.advance(retry_after(&refused)),
        }
    }
    assert!((100..=200).contains(&guesses), "{guesses}");
    // Others of the owner's are devices of their own, and so is what he has no token on.
    assert!(world.succeeds("ada", None, None).is_ok());
}

#[test]
fn a_name_is_counted_in_every_spelling_that_a_host_may_take_for_it() {
    let world = World::new(Budgets::default());
    world.use_up("jose");
    for name in [
        "JOSE",
        "jos\u{e9}",
        "jose\u{301}",
        " jose ",
        "jo\u{200b}se",
        "\u{ff4a}ose",
    ] {
        assert!(world.fails(name, None, None).is_err(), "{name}");
    }
    assert!(world.fails("josef", None, None).is_ok());
}

#[test]
fn networks_are_addresses_of_version_4_and_64_bits_of_version_6() {
    let world = World::with(|budgets| budgets.network = Some("1/15m".parse().unwrap()));
    let from = |address| world.fails(address, None, Some(address)).is_ok();
    assert!(from("192.0.2.1") && !from("192.0.2.1") && !from("::ffff:192.0.2.1"));
    assert!(from("192.0.2.2"));
    assert!(from("2001:db8:0:1::1") && !from("2001:db8:0:1:ffff::2"));
    assert!(from("2001:db8:0:2::1"));
    let nowhere = |_| world.fails("ada", None, None).is_ok();
    assert!((0..10).all(nowhere));
}

#[test]
fn a_session_has_a_budget_of_its_own() {
    let world = World::new(Budgets::default());
    world.use_up("ada");
    let sessions = [(); 2].map(|()| SessionId::new(NOW, &*world.env));
    let fails = |session| {
        let admitted = world.throttle.admit(Attempt::Confirm(session)).block_on()?;
        admitted.settle(Outcome::Failure).block_on()
    };
    for session in sessions {
        assert_eq!((0..64).filter(|_| fails(session).is_ok()).count(), 5);
    }
}

#[test]
fn without_a_throttle_everything_is_admitted_and_no_device_known() {
    let world = World::new(Budgets::default());
    let engine = Engine::open(
        Arc::new(MemoryStore::new(Policy::default())),
        EngineConfig::default(),
        Arc::clone(&world.env) as _,
    );
    let engine = engine.block_on().unwrap();
    let off = World {
        throttle: Arc::new(Throttle::new(Arc::clone(engine.service()), None)),
        env: world.env,
    };
    assert!((0..1_000).all(|_| off.fails("ada", None, Some("192.0.2.1")).is_ok()));
    let admitted = off.admit("ada", None, None).unwrap();
    assert_eq!(admitted.settle(Outcome::Success).block_on(), Ok(None));
}
