//! The engine on an `SQLite` file, as the doors open it, without a door.

use std::path::Path;
use std::sync::Arc;

use doorward_core::access_token::NewClaims;
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::{Grant, Terms};
use doorward_core::store::Store;
use doorward_core::{
    Delivery, Device, Env, Identity, Policy, Service, SessionId, SystemEnv, TokenId, UserId,
};
use doorward_stores::SqliteStore;
use pollster::block_on;
use tokio::task::JoinSet;

/// How many sessions are opened at once.
const AT_ONCE: usize = 512;

/// A store, its keys, and the service over both.
#[derive(Clone)]
pub struct Engine {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its keys.
    pub keys: Arc<KeyRing>,
    /// The ended sessions.
    pub revocations: Arc<Revocations>,
    /// The service.
    pub service: Arc<Service>,
}

impl Engine {
    /// Opens the file, which is made where there is none.
    ///
    /// # Panics
    /// The file cannot be used.
    #[must_use]
    pub fn open(path: &Path, policy: Policy, algorithm: Algorithm) -> Engine {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let store = SqliteStore::open(path, policy.clone()).expect("a file that can be written");
        let store: Arc<dyn Store> = Arc::new(store);
        let config = KeyConfig {
            algorithm,
            ..KeyConfig::default()
        };
        let keys =
            block_on(KeyRing::open(&*store, config, &policy, Arc::clone(&env))).expect("keys");
        let (keys, bounds) = (Arc::new(keys), Bounds::of(&policy));
        let revocations = Arc::new(Revocations::new(bounds, store.feed()));
        let (shared, ring) = (Arc::clone(&store), Arc::clone(&keys));
        let set = Arc::clone(&revocations);
        let service = Arc::new(Service::new(shared, ring, set, policy, env));
        Engine {
            store,
            keys,
            revocations,
            service,
        }
    }

    /// Opens a session.
    ///
    /// # Panics
    /// The store does not answer.
    pub async fn log_in(&self, identity: Identity) -> Grant {
        let terms = Terms {
            started_at: self.service.now(),
            remember: true,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        let (granted, _) = self.service.login(identity, terms).await;
        granted.expect("a session")
    }

    /// Opens `count` sessions, each of a user of its own. Needs a tokio runtime.
    ///
    /// # Panics
    /// The store does not answer.
    pub async fn fill(&self, count: usize) -> Vec<Grant> {
        let (mut opening, mut grants) = (JoinSet::new(), Vec::with_capacity(count));
        for number in 0..count {
            if opening.len() == AT_ONCE {
                grants.extend(opening.join_next().await);
            }
            let engine = self.clone();
            opening.spawn(async move { engine.log_in(somebody(number)).await });
        }
        grants.extend(opening.join_all().await.into_iter().map(Ok));
        grants
            .into_iter()
            .map(|grant| grant.expect("a session"))
            .collect()
    }

    /// An access token of a session that no store knows: a verification asks none.
    ///
    /// # Panics
    /// The ring has no key.
    #[must_use]
    pub fn access_token(&self, user: &UserId) -> String {
        let (now, policy) = (self.service.now(), self.service.policy());
        let claims = NewClaims {
            user,
            session: SessionId::new(now, &SystemEnv),
            token: TokenId::random(&SystemEnv),
            issued_at: now,
            expires_at: now + policy.access_ttl,
            fresh_until: now + policy.fresh_ttl,
            auth_time: now,
            issuer: None,
            audience: None,
            csrf: None,
            nbf: true,
            identity_claim: None,
            custom: None,
        };
        self.keys.sign_access(&claims, now).expect("a key")
    }
}

/// The id of user `number`, as long as a UUID.
///
/// # Panics
/// Never.
#[must_use]
pub fn user(number: usize) -> UserId {
    UserId::new(&format!("01890a5d-ac96-774b-bcce-{number:012x}")).expect("an id")
}

fn somebody(number: usize) -> Identity {
    Identity {
        user: user(number),
        username: None,
        valid_from: None,
        claims: None,
        privileged: false,
    }
}
