//! A node whose database is taken away: what it goes on doing, and for how long.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doorward_core::memory::MemoryStore;
use doorward_core::service::Terms;
use doorward_core::session::{Delivery, Device, EndReason};
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{
    Claims, Engine, EngineConfig, Env, Error, Identity, Policy, SessionId, Timestamp, UserId,
};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const ALLOWANCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

struct Node {
    env: Arc<TestEnv>,
    engine: Engine,
}

impl Node {
    fn start(path: &PathBuf) -> Node {
        Node::over(Arc::new(
            SqliteStore::open(path, Policy::default()).unwrap(),
        ))
    }

    fn over(store: Arc<dyn Store>) -> Node {
        let env = Arc::new(TestEnv::new(NOW, 7));
        let config = EngineConfig {
            policy: Policy {
                revocation_allowance: Some(ALLOWANCE),
                ..Policy::default()
            },
            ..EngineConfig::default()
        };
        let engine = Engine::open(store, config, Arc::clone(&env) as Arc<dyn Env>);
        Node {
            env,
            engine: engine.block_on().unwrap(),
        }
    }

    fn login(&self) -> String {
        let user = UserId::new("ada").unwrap();
        let seen = self.engine.service().store().valid_from(&user).block_on();
        let identity = Identity {
            user,
            username: None,
            valid_from: Some(seen.unwrap()),
            claims: None,
            privileged: false,
        };
        let terms = Terms {
            started_at: self.env.now(),
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        let (opened, _) = self.engine.service().login(identity, terms).block_on();
        opened.unwrap().access.as_str().to_owned()
    }

    fn end(&self, session: SessionId) {
        let service = self.engine.service();
        let ended = service.end(session, EndReason::Logout).block_on();
        ended.0.unwrap();
    }

    fn verify(&self, token: &str) -> Result<Claims, Error> {
        self.engine.service().verify(token)
    }

    fn verify_strict(&self, token: &str) -> Result<Claims, Error> {
        self.engine.service().verify_strict(token).block_on()
    }

    fn unready(&self) -> Option<&'static str> {
        self.engine.service().unready()
    }

    /// So many seconds go by, with a tick in each.
    fn wait(&self, seconds: u32) {
        for _ in 0..seconds {
            self.env.advance(SECOND);
            self.engine.tick().block_on();
        }
    }

    fn counts(&self, line: &str) -> bool {
        self.engine.metrics().lines().any(|counted| counted == line)
    }
}

/// A database that can be taken away, and its nodes.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        Place { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("a.db")
    }

    fn take_away(&self) {
        fs::rename(self.path(), self.directory.path().join("away")).unwrap();
    }

    fn bring_back(&self) {
        fs::rename(self.directory.path().join("away"), self.path()).unwrap();
    }
}

#[test]
fn without_its_store_a_node_is_unready_at_once_and_verifies_for_its_allowance() {
    let place = Place::new();
    let node = Node::start(&place.path());
    let token = node.login();
    place.take_away();
    node.wait(3);
    assert_eq!(node.unready(), None, "a tick or two may fail");
    node.wait(3);
    assert!(node.unready().unwrap().contains("does not answer"));
    assert!(node.counts("doorward_ready 0") && node.counts("doorward_verifies 1"));
    assert!(node.counts("doorward_store_last_contact_seconds 6"));
    node.wait(54);
    assert!(node.verify(&token).is_ok());
    node.wait(1);
    assert_eq!(node.verify(&token).err(), Some(Error::StoreUnavailable));
    assert!(node.counts("doorward_verifies 0"));
    place.bring_back();
    node.wait(1);
    assert_eq!(node.unready(), None);
    assert!(node.verify(&token).is_ok());
}

#[test]
fn a_strict_look_finds_what_nobody_has_told_yet() {
    // In memory nobody tells: another node hears at its next tick.
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Policy::default()));
    let (node, other) = (Node::over(Arc::clone(&store)), Node::over(store));
    let token = node.login();
    other.engine.tick().block_on();
    let session = other.verify_strict(&token).unwrap().session();
    node.env.advance(SECOND);
    node.end(session);
    assert!(other.verify(&token).is_ok());
    let refused = other.verify_strict(&token).err();
    assert_eq!(refused, Some(Error::SessionEnded(EndReason::Logout)));
    other.wait(2);
    assert!(other.verify(&token).is_err());
    let heard = "doorward_revocation_lag_seconds_bucket{way=\"polled\",le=\"1\"} 1";
    assert!(other.counts(heard), "{}", other.engine.metrics());
}

#[test]
fn a_node_that_starts_late_knows_what_ended_before_it_serves() {
    let place = Place::new();
    let early = Node::start(&place.path());
    let token = early.login();
    let session = early.verify(&token).unwrap().session();
    let other = early.login();
    early.end(session);
    let late = Node::start(&place.path());
    let refused = late.verify(&token).err();
    assert_eq!(refused, Some(Error::SessionEnded(EndReason::Logout)));
    assert!(late.verify(&other).is_ok());
    let never = "doorward_revocation_lag_seconds_count{way=\"polled\"} 0";
    assert!(late.counts(never), "what was loaded did not come late");
}

#[test]
fn what_the_store_does_is_counted_by_name() {
    let place = Place::new();
    let node = Node::start(&place.path());
    let token = node.login();
    node.verify_strict(&token).unwrap();
    let counted =
        |name| format!("doorward_store_operation_seconds_count{{operation=\"{name}\"}} 1");
    assert!(node.counts(&counted("open")) && node.counts(&counted("load")));
    let text = node.engine.metrics();
    assert!(text.contains("doorward_store_batch_size_bucket{batch=\"write\",le=\"1\"}"));
    assert!(!text.contains(&token) && !text.contains("ada"));
    place.take_away();
    node.wait(1);
    let failed = "doorward_store_operation_errors_total{operation=\"ended_after\"} 1";
    assert!(node.counts(failed), "{}", node.engine.metrics());
}
