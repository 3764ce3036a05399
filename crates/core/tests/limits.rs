//! Limits are exact: whatever is refreshed when, no session and no token outlives its end, and none ends
//! before it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use doorward_core::env::millis;
use doorward_core::keys::{Algorithm, KeyConfig};
use doorward_core::limits::{Cap, OverCap};
use doorward_core::memory::MemoryStore;
use doorward_core::password::{Hashing, Params, Password};
use doorward_core::reset::{MAX_TTL, ResetHash};
use doorward_core::service::{Grant, Terms};
use doorward_core::session::{Delivery, Device, EndReason};
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{
    Accounts, Engine, EngineConfig, Env, Error, Event, Identity, Policy, Service, Timestamp, UserId,
};
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_123);
const HOUR: Duration = Duration::from_secs(3600);
const MILLI: Duration = Duration::from_millis(1);

/// Each class has limits of its own.
fn policy() -> Policy {
    Policy {
        refresh_ttl: 20 * HOUR,
        session_ttl: 100 * HOUR,
        browser_refresh_ttl: Some(5 * HOUR),
        browser_session_ttl: Some(60 * HOUR),
        privileged_refresh_ttl: Some(HOUR),
        privileged_session_ttl: Some(10 * HOUR),
        ..Policy::default()
    }
}

struct World {
    env: Arc<TestEnv>,
    store: Arc<dyn Store>,
    engine: Engine,
}

impl World {
    fn new(policy: Policy, seed: u64) -> World {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(policy.clone()));
        World::on(store, policy, Arc::new(TestEnv::new(NOW, seed)))
    }

    fn on(store: Arc<dyn Store>, policy: Policy, env: Arc<TestEnv>) -> World {
        policy.check().unwrap();
        let config = EngineConfig {
            policy,
            key: KeyConfig {
                algorithm: Algorithm::HS256,
                ..KeyConfig::default()
            },
            hashing: Hashing {
                params: Params::FAST_FOR_TESTS,
                ..Hashing::default()
            },
            ..EngineConfig::default()
        };
        let engine = Engine::open(Arc::clone(&store), config, Arc::clone(&env) as Arc<dyn Env>);
        World {
            engine: engine.block_on().unwrap(),
            env,
            store,
        }
    }

    /// The same store after a start with other settings.
    fn restarted(self, policy: Policy) -> World {
        World::on(self.store, policy, self.env)
    }

    fn service(&self) -> &Service {
        self.engine.service()
    }

    fn accounts(&self) -> &Accounts {
        self.engine.accounts()
    }

    fn log_in(&self, remember: bool, privileged: bool) -> (Result<Grant, Error>, Vec<Event>) {
        let identity = Identity {
            user: UserId::new("ada").unwrap(),
            username: None,
            valid_from: None,
            claims: None,
            privileged,
        };
        let terms = Terms {
            started_at: self.env.now(),
            remember,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        self.service().login(identity, terms).block_on()
    }

    fn refresh(&self, token: &str) -> Result<Grant, Error> {
        let (refreshed, _) = self.service().refresh(token, Delivery::Body).block_on();
        self.service().grant(refreshed?)
    }
}

const CLASSES: [(bool, bool, Duration, Duration); 4] = [
    (
        true,
        false,
        Duration::from_secs(20 * 3600),
        Duration::from_secs(100 * 3600),
    ),
    (
        false,
        false,
        Duration::from_secs(5 * 3600),
        Duration::from_secs(60 * 3600),
    ),
    (
        true,
        true,
        Duration::from_secs(3600),
        Duration::from_secs(10 * 3600),
    ),
    (
        false,
        true,
        Duration::from_secs(3600),
        Duration::from_secs(10 * 3600),
    ),
];

#[test]
fn each_class_is_over_at_its_idle_limit_and_not_a_millisecond_before() {
    for (remember, privileged, idle, _) in CLASSES {
        let world = World::new(policy(), 1);
        let grant = world.log_in(remember, privileged).0.unwrap();
        assert_eq!(grant.session.expires_at(&policy()), NOW + idle);
        world.env.set(NOW + idle - MILLI);
        let next = world.refresh(grant.refresh.as_str()).unwrap();
        let later = world.env.now() + idle;
        world.env.set(later - MILLI);
        let last = world.refresh(next.refresh.as_str()).unwrap();
        world.env.advance(idle);
        let over = world.refresh(last.refresh.as_str()).unwrap_err();
        assert_eq!(over, Error::SessionEnded(EndReason::Idle));
    }
}

#[test]
fn each_class_is_over_at_its_absolute_limit_however_often_it_is_refreshed() {
    for (remember, privileged, idle, absolute) in CLASSES {
        let world = World::new(policy(), 1);
        let mut grant = world.log_in(remember, privileged).0.unwrap();
        let end = NOW + absolute;
        while world.env.now() + idle / 2 < end {
            world.env.advance(idle / 2);
            grant = world.refresh(grant.refresh.as_str()).unwrap();
        }
        world.env.set(end - MILLI);
        grant = world.refresh(grant.refresh.as_str()).unwrap();
        assert_eq!(grant.session.expires_at(&policy()), end);
        world.env.set(end);
        let over = world.refresh(grant.refresh.as_str()).unwrap_err();
        assert_eq!(over, Error::SessionEnded(EndReason::Absolute));
    }
}

/// Refreshes, repeated ones, reauthentications and pauses at random, often at the very edge.
#[test]
fn no_sequence_of_refreshes_takes_a_session_or_a_token_past_its_end() {
    for seed in 0..400 {
        let world = World::new(policy(), seed);
        let (remember, privileged, idle, absolute) = CLASSES[usize::try_from(seed % 4).unwrap()];
        let mut grant = world.log_in(remember, privileged).0.unwrap();
        let (id, absolute_end) = (grant.session.id, NOW + absolute);
        let mut idle_end = NOW + idle;
        loop {
            let now = world.env.now();
            let edge = idle_end.min(absolute_end).since(now);
            let step = match world.env.random() % 6 {
                0 => edge - 1,
                1 => edge,
                _ => world.env.random().cast_signed().rem_euclid(millis(idle)),
            };
            world.env.set(Timestamp(now.0 + step.max(0)));
            let now = world.env.now();
            let over = now >= idle_end || now >= absolute_end;
            let tried = if world.env.random().is_multiple_of(4) {
                world.service().reauthenticate(id).block_on().0
            } else {
                world.refresh(grant.refresh.as_str())
            };
            let Ok(next) = tried else {
                assert!(over, "ended {} ms early", idle_end.since(now));
                break;
            };
            assert!(!over, "{} ms past its end", now.since(idle_end));
            let row = &next.session;
            idle_end = row.last_used() + idle;
            assert_eq!(row.expires_at(&policy()), idle_end.min(absolute_end));
            assert!(next.access_expires_at <= row.expires_at(&policy()));
            world.service().tick().block_on().unwrap();
            let verified = world.service().verify(next.access.as_str());
            assert_eq!(verified.is_ok(), next.access_expires_at > now);
            grant = next;
        }
    }
}

#[test]
fn a_shorter_absolute_limit_holds_at_once_and_a_longer_one_brings_nothing_back() {
    let (short, long) = (
        Policy {
            session_ttl: 30 * HOUR,
            ..Policy::default()
        },
        Policy::default(),
    );
    let short = Policy {
        refresh_ttl: 30 * HOUR,
        ..short
    };
    // Opened under the longer one.
    let world = World::new(long.clone(), 1);
    let grant = world.log_in(true, false).0.unwrap();
    let world = world.restarted(short.clone());
    world.env.set(NOW + 29 * HOUR);
    let grant = world.refresh(grant.refresh.as_str()).unwrap();
    assert_eq!(grant.session.expires_at(&short), NOW + 30 * HOUR);
    world.env.set(NOW + 30 * HOUR);
    let over = world.refresh(grant.refresh.as_str()).unwrap_err();
    assert_eq!(over, Error::SessionEnded(EndReason::Absolute));
    // Opened under the shorter one.
    let world = World::new(short, 2);
    let grant = world.log_in(true, false).0.unwrap();
    let world = world.restarted(long);
    world.env.set(NOW + 30 * HOUR);
    let over = world.refresh(grant.refresh.as_str()).unwrap_err();
    assert_eq!(over, Error::SessionEnded(EndReason::Absolute));
}

#[test]
fn the_idle_limit_is_that_of_now() {
    let world = World::new(Policy::default(), 1);
    let grant = world.log_in(false, false).0.unwrap();
    let world = world.restarted(policy());
    world.env.set(NOW + 5 * HOUR);
    let over = world.refresh(grant.refresh.as_str()).unwrap_err();
    assert_eq!(over, Error::SessionEnded(EndReason::Idle));
}

#[test]
fn a_class_has_no_longer_limits_than_all_have() {
    let refused = |change: fn(&mut Policy)| {
        let mut policy = policy();
        change(&mut policy);
        policy.check().err().map(|error| error.0)
    };
    for change in [
        (|policy| policy.browser_refresh_ttl = Some(21 * HOUR)) as fn(&mut Policy),
        |policy| policy.browser_session_ttl = Some(101 * HOUR),
        |policy| policy.privileged_refresh_ttl = Some(21 * HOUR),
        |policy| policy.privileged_session_ttl = Some(101 * HOUR),
        |policy| policy.privileged_session_ttl = Some(policy.access_ttl),
        |policy| policy.browser_refresh_ttl = Some(Duration::ZERO),
        |policy| policy.reset_ttl = MAX_TTL + Duration::from_secs(1),
    ] {
        assert!(refused(change).is_some());
    }
    assert_eq!(refused(|_| ()), None);
}

#[test]
fn a_session_that_ends_for_another_is_refused_at_once_and_told_of() {
    let cap = |over| {
        Some(Cap {
            sessions: NonZeroU32::MIN,
            over,
        })
    };
    let oldest = Policy {
        cap: cap(OverCap::EndOldest),
        ..Policy::default()
    };
    let world = World::new(oldest, 1);
    let first = world.log_in(true, false).0.unwrap();
    world.env.advance(MILLI);
    let (second, events) = world.log_in(true, false);
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["logged_in", "session_ended"]);
    let reason = EndReason::SessionLimit;
    let ended = Event::ended(&first.session.user, first.session.id, reason);
    assert_eq!(events[1], ended);
    let refused = world.service().verify(first.access.as_str()).unwrap_err();
    assert_eq!(refused, Error::SessionEnded(reason));
    assert!(
        world
            .service()
            .verify(second.unwrap().access.as_str())
            .is_ok()
    );

    let refuse = Policy {
        cap: cap(OverCap::Refuse),
        ..Policy::default()
    };
    let world = World::new(refuse, 2);
    assert!(world.log_in(true, false).0.is_ok());
    let (refused, events) = world.log_in(true, false);
    assert_eq!(refused.unwrap_err(), Error::SessionLimitReached);
    assert_eq!(events, []);
}

fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

const OLD: &str = "correct horse battery staple";
const NEW: &str = "a much better passphrase";

fn with_ada() -> World {
    let world = World::new(Policy::default(), 1);
    let made = world.accounts().register("ada", password(OLD));
    made.block_on().unwrap();
    world
}

impl World {
    fn started(&self) -> ResetHash {
        let started = self.accounts().start_reset("ada", MAX_TTL).block_on();
        ResetHash::of(started.unwrap().0.as_str()).unwrap()
    }

    fn reset(&self, token: ResetHash, new: &str) -> Result<(), Error> {
        let reset = self.accounts().reset_password(token, password(new));
        reset.block_on().map(drop)
    }

    fn knows(&self, text: &str) -> bool {
        let identity = self.accounts().identify("ada", password(text));
        identity.block_on().is_ok()
    }
}

#[test]
fn a_token_sets_a_password_once_within_its_time() {
    let world = with_ada();
    let token = world.started();
    let weak = world.reset(token, "short").unwrap_err();
    assert!(matches!(weak, Error::PasswordTooWeak(_)));
    let named = world.reset(token, "ada ada ada ada ada").unwrap_err();
    assert!(matches!(named, Error::PasswordTooWeak(_)));
    let end = world.env.now() + MAX_TTL;
    world.env.set(end - MILLI);
    assert_eq!(world.reset(token, NEW), Ok(()));
    assert!(world.knows(NEW) && !world.knows(OLD));
    assert_eq!(world.reset(token, OLD), Err(Error::ResetTokenInvalid));
    let token = world.started();
    world.env.advance(MAX_TTL);
    assert_eq!(world.reset(token, OLD), Err(Error::ResetTokenInvalid));
    assert!(world.knows(NEW));
}

#[test]
fn a_token_is_good_for_twenty_minutes_at_most() {
    let world = with_ada();
    let started = world.accounts().start_reset("ADA", 100 * MAX_TTL);
    let (_, until) = started.block_on().unwrap();
    assert_eq!(until, world.env.now() + MAX_TTL);
    let unknown = world.accounts().start_reset("eve", MAX_TTL).block_on();
    assert_eq!(unknown.unwrap_err(), Error::NotFound);
}

#[test]
fn a_login_does_not_void_a_token_and_a_change_of_password_does() {
    let world = with_ada();
    let token = world.started();
    assert!(world.knows(OLD));
    let user = world.accounts().find("ada").block_on().unwrap().id;
    let change = world
        .accounts()
        .change_password(&user, password(OLD), password(NEW));
    change.block_on().unwrap();
    assert_eq!(world.reset(token, OLD), Err(Error::ResetTokenInvalid));
    let token = world.started();
    let set = world.accounts().set_password(&user, password(OLD));
    set.block_on().unwrap();
    assert_eq!(world.reset(token, NEW), Err(Error::ResetTokenInvalid));
}

#[test]
fn a_login_that_was_checked_before_a_reset_does_not_survive_it() {
    let world = with_ada();
    let identity = world.accounts().identify("ada", password(OLD));
    let identity = identity.block_on().unwrap();
    let token = world.started();
    assert_eq!(world.reset(token, NEW), Ok(()));
    let terms = Terms {
        started_at: world.env.now(),
        remember: false,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    };
    let (opened, _) = world.service().login(identity, terms).block_on();
    assert_eq!(opened.unwrap_err(), Error::InvalidCredentials);
}

#[test]
fn of_many_uses_at_once_one_sets_its_password() {
    let world = with_ada();
    let token = world.started();
    let mine = |number: usize| format!("the passphrase of number {number}");
    let took: Vec<usize> = std::thread::scope(|scope| {
        let uses: Vec<_> = (0..8)
            .map(|number| {
                let world = &world;
                (
                    number,
                    scope.spawn(move || world.reset(token, &mine(number)).is_ok()),
                )
            })
            .collect();
        let took = uses.into_iter();
        took.filter_map(|(number, used)| used.join().unwrap().then_some(number))
            .collect()
    });
    assert_eq!(took.len(), 1);
    assert!(world.knows(&mine(took[0])));
}
