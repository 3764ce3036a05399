//! Clocks that are wrong for a while bring no ended session back.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;
use std::time::Duration;

use doorward_core::id::SessionId;
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Revocations, WRONG_CLOCK};
use doorward_core::service::{Refreshed, Terms};
use doorward_core::session::{Delivery, Device, EndReason};
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{Error, Identity, Policy, Service, Timestamp, UserId};
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_700);
const MINUTE: Duration = Duration::from_secs(60);

/// A node with a clock of its own.
struct Node {
    service: Service,
    env: Arc<TestEnv>,
}

fn nodes() -> [Node; 2] {
    let policy = Policy::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(policy.clone()));
    let env = Arc::new(TestEnv::new(NOW, 1));
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        ..KeyConfig::default()
    };
    let keys = KeyRing::open(&*store, config, &policy, Arc::clone(&env) as _).block_on();
    let keys = Arc::new(keys.unwrap());
    [1, 2].map(|seed| {
        let env = Arc::new(TestEnv::new(NOW, seed));
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
        let (store, keys) = (Arc::clone(&store), Arc::clone(&keys));
        let clock = Arc::clone(&env) as _;
        let service = Service::new(store, keys, revocations, policy.clone(), clock);
        service.tick().block_on().unwrap();
        Node { service, env }
    })
}

impl Node {
    fn set(&self, now: Timestamp) {
        self.env.set(now);
        self.service.tick().block_on().unwrap();
    }

    /// An access token of a session that this node opens now, and that another one ends at once.
    fn token_of_an_ended_session(&self, other: &Node, now: Timestamp) -> String {
        let (session, token) = self.opened(now);
        let ended = other.service.end(session, EndReason::Logout).block_on();
        ended.0.unwrap();
        token
    }

    /// A session that this node opens now, and its access token.
    fn opened(&self, now: Timestamp) -> (SessionId, String) {
        let identity = Identity {
            user: UserId::new("ada").unwrap(),
            username: None,
            valid_from: None,
            claims: None,
            privileged: false,
        };
        let terms = Terms {
            started_at: now,
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        let opened = self.service.login(identity, terms).block_on().0.unwrap();
        let session = opened.session;
        let id = session.id;
        let grant = self.service.grant(Refreshed { session, now }).unwrap();
        (id, grant.access.as_str().to_owned())
    }
}

#[test]
fn a_clock_that_jumps_ahead_and_back_forgets_no_end() {
    for ahead in [WRONG_CLOCK, 180 * MINUTE] {
        let [one, other] = nodes();
        let token = one.token_of_an_ended_session(&one, NOW);
        other.set(NOW);
        assert!(matches!(
            other.service.verify(&token),
            Err(Error::SessionEnded(_))
        ));
        other.set(NOW + ahead);
        assert!(other.service.verify(&token).is_err());
        // More than is remembered for such a case: nothing is verified until the log was read again.
        other.env.set(NOW + MINUTE);
        let refused = other.service.verify(&token).unwrap_err();
        assert_eq!(
            refused == Error::StoreUnavailable,
            ahead > WRONG_CLOCK,
            "{refused}"
        );
        other.set(NOW + MINUTE);
        assert!(matches!(
            other.service.verify(&token),
            Err(Error::SessionEnded(_))
        ));
    }
}

#[test]
fn a_token_of_a_node_that_is_ahead_stays_refused_for_as_long_as_it_lives() {
    let [one, other] = nodes();
    let ahead = NOW + WRONG_CLOCK;
    one.set(ahead);
    let token = one.token_of_an_ended_session(&other, ahead);
    for minutes in 0..=30 {
        other.set(NOW + minutes * MINUTE);
        assert!(other.service.verify(&token).is_err(), "{minutes}");
    }
}

#[test]
fn a_token_of_a_node_that_is_ahead_is_enough_to_log_out() {
    let [one, other] = nodes();
    one.set(NOW + WRONG_CLOCK);
    let (_, token) = one.opened(NOW + WRONG_CLOCK);
    assert!(other.service.verify(&token).is_err());
    let named = other.service.verify_for_logout(&token).unwrap();
    let ended = other.service.end(named.session(), EndReason::Logout);
    ended.block_on().0.unwrap();
    one.service.tick().block_on().unwrap();
    let refused = one.service.verify(&token).unwrap_err();
    assert!(matches!(refused, Error::SessionEnded(_)), "{refused}");
}
