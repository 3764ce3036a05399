//! A refresh token that is looked at and not used: decided on as a refresh, and nothing moves.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;
use std::time::Duration;

use doorward_core::keys::{KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::{Grant, Terms};
use doorward_core::session::{Delivery, Device, EndReason};
use doorward_core::testing::TestEnv;
use doorward_core::{
    Error, Event, EventName, Identity, Policy, Result, Service, Session, Timestamp, UserId,
};
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_700);

struct World {
    service: Service,
    env: Arc<TestEnv>,
}

impl World {
    fn new(seed: u64) -> World {
        let policy = Policy::default();
        let env = Arc::new(TestEnv::new(NOW, seed));
        let store = Arc::new(MemoryStore::new(policy.clone()));
        let keys = KeyRing::open(
            &*store,
            KeyConfig::default(),
            &policy,
            Arc::clone(&env) as _,
        );
        let keys = Arc::new(keys.block_on().unwrap());
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
        let service = Service::new(store, keys, revocations, policy, Arc::clone(&env) as _);
        service.tick().block_on().unwrap();
        World { service, env }
    }

    fn login(&self) -> Grant {
        let identity = Identity {
            user: UserId::new("ada").unwrap(),
            username: None,
            valid_from: None,
            claims: None,
        };
        let terms = Terms {
            started_at: self.service.now(),
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
        };
        self.service.login(identity, terms).block_on().0.unwrap()
    }

    fn check(&self, token: &str) -> (Result<Session>, Option<Event>) {
        self.service.check_refresh(token, Delivery::Body).block_on()
    }

    fn refresh(&self, token: &str) -> Result<String> {
        let (refreshed, _) = self.service.refresh(token, Delivery::Body).block_on();
        let grant = self.service.grant(refreshed?)?;
        Ok(grant.refresh.as_str().to_owned())
    }

    fn row(&self, of: &Grant) -> Session {
        self.service.session(of.session.id).block_on().unwrap()
    }

    fn wait(&self, seconds: u64) {
        self.env.advance(Duration::from_secs(seconds));
        self.service.tick().block_on().unwrap();
    }

    /// A moment, a while, or longer than any window.
    fn wait_somewhat(&self) {
        let spans = [0, 1, 20, 31, 100, 1000, 40_000];
        let at = usize::try_from(self.env.random() % 7).unwrap();
        self.wait(spans[at]);
    }
}

#[test]
fn a_look_passes_and_leaves_the_row_alone() {
    let world = World::new(1);
    let grant = world.login();
    let before = world.row(&grant);
    for _ in 0..3 {
        world.wait(100);
        let (session, event) = world.check(grant.refresh.as_str());
        assert_eq!(session.unwrap(), before);
        assert_eq!(event, None);
        assert_eq!(world.row(&grant), before);
    }
}

#[test]
fn what_ended_is_refused_with_its_reason() {
    let world = World::new(1);
    let grant = world.login();
    let (ended, _) = world
        .service
        .end(grant.session.id, EndReason::Logout)
        .block_on();
    ended.unwrap();
    let (refused, event) = world.check(grant.refresh.as_str());
    assert_eq!(refused, Err(Error::SessionEnded(EndReason::Logout)));
    assert!(event.is_some_and(|event| event.name == EventName::RefreshRefused));
}

#[test]
fn an_idle_session_ends_by_a_look_as_by_a_refresh() {
    let world = World::new(1);
    let grant = world.login();
    world.wait(31 * 24 * 3600);
    let (refused, event) = world.check(grant.refresh.as_str());
    assert_eq!(refused, Err(Error::SessionEnded(EndReason::Idle)));
    assert!(event.is_some_and(|event| event.name == EventName::SessionEnded));
    assert!(world.row(&grant).ended.is_some());
}

#[test]
fn reuse_ends_the_session_and_says_so_once() {
    let world = World::new(1);
    let grant = world.login();
    let mut token = grant.refresh.as_str().to_owned();
    for _ in 0..3 {
        world.wait(100);
        token = world.refresh(&token).unwrap();
    }
    world.wait(100);
    let (refused, event) = world.check(grant.refresh.as_str());
    assert_eq!(refused, Err(Error::RefreshReused));
    assert!(event.is_some_and(|event| event.name == EventName::ReuseDetected));
    let ended = Err(Error::SessionEnded(EndReason::Reuse));
    assert_eq!(world.check(&token).0.map(drop), ended);
    assert_eq!(world.refresh(&token).map(drop), ended);
    assert!(world.service.verify(grant.access.as_str()).is_err());
}

#[test]
fn another_delivery_or_a_forgery_is_refused() {
    let world = World::new(1);
    let grant = world.login();
    let text = grant.refresh.as_str();
    let (refused, event) = world
        .service
        .check_refresh(text, Delivery::Cookie)
        .block_on();
    assert_eq!((refused, event), (Err(Error::TokenInvalid), None));
    let other = World::new(2).login();
    assert_eq!(
        world.check(other.refresh.as_str()).0.map(drop),
        Err(Error::TokenInvalid)
    );
    assert_eq!(
        world.check("nonsense").0.map(drop),
        Err(Error::TokenInvalid)
    );
}

/// Whatever came before: any of the tokens handed out, at any time.
#[test]
fn a_look_passes_exactly_where_a_refresh_would() {
    let (mut passed, mut refused) = (0, 0);
    for seed in 0..300 {
        let world = World::new(seed);
        let grant = world.login();
        let mut held = vec![grant.refresh.as_str().to_owned()];
        for _ in 0..12 {
            world.wait_somewhat();
            // Mostly one of the newest.
            let back = usize::try_from(world.env.random() % 8).unwrap() / 3;
            let token = held[held.len().saturating_sub(back + 1)].clone();
            let before = world.row(&grant);
            let (looked, _) = world.check(&token);
            if looked.is_ok() {
                assert_eq!(world.row(&grant), before, "seed {seed}");
            }
            match (looked, world.refresh(&token)) {
                (Ok(_), Ok(next)) => {
                    held.push(next);
                    passed += 1;
                }
                (Err(Error::RefreshReused), Err(after)) => {
                    assert_eq!(after, Error::SessionEnded(EndReason::Reuse));
                    refused += 1;
                }
                (Err(looked), Err(after)) => assert_eq!(looked, after, "seed {seed}"),
                (looked, after) => panic!("seed {seed}: {looked:?}, then {after:?}"),
            }
        }
    }
    assert!(passed > 500 && refused > 50, "{passed} {refused}");
}
