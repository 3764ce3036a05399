//! What operators do to many sessions at once, on every store.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;

use doorward_core::event::Filter;
use doorward_core::memory::MemoryStore;
use doorward_core::operator::Operator;
use doorward_core::service::Terms;
use doorward_core::session::{Delivery, Device};
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{
    Engine, EngineConfig, Env, Error, EventLog, Identity, Policy, Timestamp, UserId,
};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// An engine, and an operator beside it.
struct World {
    store: Arc<dyn Store>,
    engine: Engine,
    operator: Operator,
}

fn on_every_store(check: impl Fn(World)) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(directory.path().join("a.db"), Policy::default()).unwrap();
    let stores: [Arc<dyn Store>; 2] = [
        Arc::new(MemoryStore::new(Policy::default())),
        Arc::new(sqlite.in_place()),
    ];
    for store in stores {
        let env: Arc<dyn Env> = Arc::new(TestEnv::new(NOW, 7));
        let engine = Engine::open(
            Arc::clone(&store),
            EngineConfig::default(),
            Arc::clone(&env),
        );
        let config = EngineConfig::default().events;
        let log = Arc::new(EventLog::new(Arc::clone(&store), config, Arc::clone(&env)));
        check(World {
            engine: engine.block_on().unwrap(),
            operator: Operator::new(Arc::clone(&store), log, env),
            store,
        });
    }
}

impl World {
    /// A login of credentials that were checked by now.
    fn checked(&self, user: &str) -> Identity {
        let user = UserId::new(user).unwrap();
        let seen = self.store.valid_from(&user).block_on().unwrap();
        Identity {
            user,
            username: None,
            valid_from: Some(seen),
            claims: None,
            privileged: false,
        }
    }

    fn login(&self, identity: Identity) -> Result<String, Error> {
        let terms = Terms {
            started_at: NOW,
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        let (opened, _) = self.engine.service().login(identity, terms).block_on();
        opened.map(|grant| grant.access.as_str().to_owned())
    }

    fn end_all(&self) -> usize {
        let ended = self.operator.end_all().block_on().unwrap();
        self.engine.tick().block_on();
        ended
    }
}

#[test]
fn ending_everybody_leaves_no_session_of_before_and_no_login_that_was_checked_before() {
    on_every_store(|world| {
        let users = (0..1_100).map(|number| format!("user-{}", number % 600));
        let logins = users.map(|user| world.login(world.checked(&user)).unwrap());
        let tokens: Vec<String> = logins.collect();
        let checked_before = world.checked("user-7");
        assert_eq!(world.end_all(), 1_100);
        assert_eq!(world.store.sessions(None, 10).block_on().unwrap(), []);
        for token in &tokens {
            assert!(world.engine.service().verify(token).is_err());
        }
        let late = world.login(checked_before);
        assert_eq!(late.err(), Some(Error::InvalidCredentials));
        assert!(world.login(world.checked("user-7")).is_ok());
        assert_eq!((world.end_all(), world.end_all()), (1, 0));
    });
}

#[test]
fn ending_a_users_sessions_leaves_those_of_others_and_a_record_of_each() {
    on_every_store(|world| {
        for user in ["ada", "ada", "bob"] {
            world.login(world.checked(user)).unwrap();
        }
        let ada = UserId::new("ada").unwrap();
        assert_eq!(world.operator.end_user(&ada).block_on(), Ok(2));
        assert_eq!(world.store.sessions(None, 10).block_on().unwrap().len(), 1);
        let filter = Filter {
            user: Some(ada),
            ..Filter::default()
        };
        let entries = world.store.events_before(None, &filter, 100);
        let events = entries.block_on().unwrap().into_iter();
        let names: Vec<_> = events
            .map(|entry| entry.record.event.name.as_str())
            .collect();
        let count = |name| names.iter().filter(|one| **one == name).count();
        assert_eq!((count("sessions_ended"), count("session_ended")), (1, 2));
    });
}
