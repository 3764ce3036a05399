//! When access tokens expire: spread, so that clients do not refresh in step, and never late.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::{Grant, Refreshed, Terms};
use doorward_core::session::{Delivery, Device, EndReason};
use doorward_core::store::SessionStore as _;
use doorward_core::testing::TestEnv;
use doorward_core::{Error, Identity, Policy, Service, Session, Timestamp, UserId};
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_700);

struct World {
    service: Service,
    session: Session,
}

impl World {
    fn new(access_ttl: u64, jitter: u8) -> World {
        let policy = Policy {
            access_ttl: Duration::from_secs(access_ttl),
            expiry_jitter_percent: jitter,
            ..Policy::default()
        };
        policy.check().unwrap();
        let env = Arc::new(TestEnv::new(NOW, access_ttl));
        let store = Arc::new(MemoryStore::new(policy.clone()));
        let config = KeyConfig {
            algorithm: Algorithm::HS256,
            ..KeyConfig::default()
        };
        let keys = KeyRing::open(&*store, config, &policy, Arc::clone(&env) as _);
        let keys = Arc::new(keys.block_on().unwrap());
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
        let service = Service::new(store, keys, revocations, policy, env);
        service.tick().block_on().unwrap();
        let identity = Identity {
            user: UserId::new("ada").unwrap(),
            username: None,
            valid_from: None,
            claims: None,
            privileged: false,
        };
        let terms = Terms {
            started_at: NOW,
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        let session = service.login(identity, terms).block_on().0.unwrap().session;
        World { service, session }
    }

    fn grant(&self, session: &Session, now: Timestamp) -> Grant {
        let session = session.clone();
        self.service.grant(Refreshed { session, now }).unwrap()
    }

    fn many(&self) -> impl Iterator<Item = Grant> {
        (0..2_000).map(|i| self.grant(&self.session, NOW + Duration::from_millis(i)))
    }
}

#[test]
fn a_token_lives_between_95_and_100_percent_of_its_time() {
    for ttl in [1, 2, 19, 20, 60, 900, 24 * 3600] {
        for grant in World::new(ttl, 5).many() {
            let expires = grant.access_expires_at.since(Timestamp::default());
            let latest = grant.now.since(Timestamp::default()) + i64::try_from(ttl).unwrap() * 1000;
            // Times are whole seconds, cut off.
            let earliest = latest - i64::try_from(ttl).unwrap() * 50 - 1000;
            assert!((earliest + 1..=latest).contains(&expires), "{ttl}");
        }
    }
}

#[test]
fn expiries_are_spread_over_the_jitter() {
    let ends = |jitter| -> BTreeSet<_> {
        let world = World::new(900, jitter);
        let grants = (0..2_000).map(|_| world.grant(&world.session, NOW));
        grants.map(|grant| grant.access_expires_at).collect()
    };
    assert!(ends(5).len() >= 44, "{}", ends(5).len());
    assert_eq!(ends(0).len(), 1);
}

#[test]
fn the_shortest_lifetime_is_still_one() {
    let world = World::new(1, 5);
    for grant in world.many() {
        assert!(grant.access_expires_at > grant.now);
    }
    let grant = world.grant(&world.session, NOW);
    assert!(world.service.verify(grant.access.as_str()).is_ok());
}

#[test]
fn a_token_lives_no_longer_than_the_policy_says_now() {
    let world = World::new(24 * 3600, 0);
    let long = world.grant(&world.session, NOW);
    let env = Arc::new(TestEnv::new(NOW, 1));
    let policy = Policy {
        access_ttl: Duration::from_secs(900),
        ..Policy::default()
    };
    // Another node on the same store, or the same one after a change of its settings.
    let keys = Arc::clone(world.service.keys());
    let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
    let store = Arc::clone(world.service.store());
    let other = Service::new(store, keys, revocations, policy, Arc::clone(&env) as _);
    other.tick().block_on().unwrap();
    assert!(other.verify(long.access.as_str()).is_ok());
    env.advance(Duration::from_secs(900));
    other.tick().block_on().unwrap();
    let expired = other.verify(long.access.as_str()).unwrap_err();
    assert_eq!(expired, Error::TokenExpired);
    assert!(other.verify_for_logout(long.access.as_str()).is_ok());
}

#[test]
fn ends_stay_in_the_log_for_the_longest_lifetime_that_any_node_may_have() {
    let world = World::new(60, 0);
    let id = world.session.id;
    let (ended, _) = world.service.end(id, EndReason::Logout).block_on();
    ended.unwrap();
    let later = Arc::new(TestEnv::new(NOW + Duration::from_secs(24 * 3600), 1));
    let policy = world.service.policy().clone();
    let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
    let (store, keys) = (world.service.store(), world.service.keys());
    let purging = Service::new(
        Arc::clone(store),
        Arc::clone(keys),
        revocations,
        policy,
        later,
    );
    purging.purge(100).block_on().unwrap();
    let (log, _) = store.ended_after(0, 10).block_on().unwrap();
    assert_eq!(log.len(), 1);
}

#[test]
fn a_token_never_outlives_its_session() {
    let world = World::new(900, 5);
    let end = world.session.absolute_end;
    for before in [1, 500, 1_000, 60_000, 899_000, 901_000] {
        let now = end - Duration::from_millis(before);
        for _ in 0..200 {
            assert!(world.grant(&world.session, now).access_expires_at <= end);
        }
    }
}

#[test]
fn a_session_that_the_store_lost_is_ended_at_every_node_and_told_of_once() {
    let world = World::new(900, 0);
    let token = world.grant(&world.session, NOW).access;
    let policy = world.service.policy().clone();
    // As after the failover of a store that replicates later.
    let lost = Arc::new(MemoryStore::new(policy.clone()));
    let node = || {
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
        revocations.synced(NOW);
        let keys = Arc::clone(world.service.keys());
        let env = Arc::new(TestEnv::new(NOW, 1));
        Service::new(
            Arc::clone(&lost) as _,
            keys,
            revocations,
            policy.clone(),
            env,
        )
    };
    let (one, other) = (node(), node());
    assert!(one.verify(token.as_str()).is_ok() && other.verify(token.as_str()).is_ok());
    // Whoever repeats it takes no more room in the log.
    for _ in 0..3 {
        let (ended, _) = one.end(world.session.id, EndReason::Logout).block_on();
        ended.unwrap();
    }
    let (told, _) = lost.ended_after(0, 9).block_on().unwrap();
    assert_eq!(told.len(), 1);
    for end in told {
        let _ = other.revocations().insert(end);
    }
    for node in [one, other] {
        assert!(matches!(
            node.verify(token.as_str()),
            Err(Error::SessionEnded(_))
        ));
    }
}
