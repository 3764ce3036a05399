//! Nodes on one store, and the promises that hold in every world, however bad. Whatever a node
//! answers goes through here and is held against them:
//!
//! - property 1: one row version, one successor;
//! - properties 4 and 6: once a client was told that a session is over, or an end was acknowledged,
//!   no refresh asked for later succeeds on any node, one that raced it is answered within `W/4`,
//!   and no access token verifies: on that node at once, on others from their next poll on;
//! - property 5: nothing is minted past the absolute limit, nor for longer than is allowed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use doorward_core::keys::{Algorithm, KeyConfig, KeyRing, Purpose};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::{Grant, Terms};
use doorward_core::session::{Delivery, Device, EndReason, Session};
use doorward_core::store::ValidFrom;
use doorward_core::{Env as _, Error, Identity, Policy, Service, SessionId, UserId};
use pollster::FutureExt as _;

use crate::store::{Faults, SimStore};
use crate::world::{NodeEnv, World};

pub(crate) struct Node {
    pub(crate) env: Arc<NodeEnv>,
    service: Mutex<Arc<Service>>,
    /// When its last whole poll began.
    synced_from: AtomicI64,
}

pub(crate) struct Cluster {
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<SimStore>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) policy: Policy,
    stepped: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// What was handed out and what was promised.
#[derive(Default)]
struct Ledger {
    children: HashMap<(SessionId, u64), Vec<(Session, String)>>,
    access: Vec<(SessionId, String)>,
    over: HashMap<SessionId, Over>,
}

impl Ledger {
    /// A version counts anew what a crash lost; then the whole row tells.
    fn one_successor(&mut self, grant: &Grant, crashes: u64) {
        let (row, text) = (&grant.session, grant.refresh.as_str());
        let same_version = self.children.entry((row.id, row.version)).or_default();
        if let Some((_, first)) = same_version.iter().find(|(seen, _)| seen == row) {
            assert_eq!(first, text, "two successors of one row version");
        } else {
            let allowed = same_version.is_empty() || crashes > 0;
            assert!(allowed, "two rows of one version");
            same_version.push((row.clone(), text.to_owned()));
        }
    }
}

/// A session whose end somebody was told of: when, and by which node.
#[derive(Clone, Copy)]
struct Over {
    at: i64,
    node: usize,
}

pub(crate) fn user() -> UserId {
    UserId::new("ada").unwrap()
}

impl Cluster {
    pub(crate) fn new(seed: u64, policy: &Policy, skews: &[i64]) -> Cluster {
        policy.check().unwrap();
        let world = World::new(seed);
        let store = Arc::new(SimStore::new(&world, policy));
        let node = |skew: &i64| {
            let env = Arc::new(NodeEnv {
                world: Arc::clone(&world),
                skew: Mutex::new(*skew),
            });
            Node {
                service: Mutex::new(service(&store, policy, &env)),
                env,
                synced_from: AtomicI64::new(i64::MIN),
            }
        };
        let nodes = skews.iter().map(node).collect();
        let cluster = Cluster {
            world,
            store,
            nodes,
            policy: policy.clone(),
            stepped: AtomicBool::new(false),
            ledger: Mutex::default(),
        };
        for node in 0..skews.len() {
            cluster.tick(node).block_on();
        }
        cluster
    }

    pub(crate) fn any(&self) -> usize {
        self.world.pick(self.nodes.len())
    }

    pub(crate) fn service(&self, node: usize) -> Arc<Service> {
        Arc::clone(&self.nodes[node].service.lock().unwrap())
    }

    /// Sets a node's clock to be wrong by so much.
    pub(crate) fn step(&self, node: usize, skew: i64) {
        *self.nodes[node].env.skew.lock().unwrap() = skew;
        self.stepped.store(true, Ordering::Relaxed);
    }

    /// The process dies and comes back with nothing but the store.
    pub(crate) fn restart(&self, node: usize) {
        let faults = std::mem::take(&mut *self.store.faults.lock().unwrap());
        let fresh = service(&self.store, &self.policy, &self.nodes[node].env);
        self.store.set(faults);
        *self.nodes[node].service.lock().unwrap() = fresh;
    }

    /// A first login, on a store without faults, flushed.
    pub(crate) fn first_login(&self) -> Grant {
        let grant = self.login(0, None).block_on().unwrap();
        self.store.flush();
        grant
    }

    pub(crate) async fn login(
        &self,
        node: usize,
        valid_from: Option<ValidFrom>,
    ) -> Result<Grant, Error> {
        let asked = self.world.now();
        let service = self.service(node);
        let identity = Identity {
            user: user(),
            username: None,
            valid_from,
            claims: None,
            privileged: false,
        };
        let terms = Terms {
            started_at: service.now(),
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        };
        let grant = service.login(identity, terms).await.0?;
        Ok(self.handed(node, asked, grant))
    }

    pub(crate) async fn refresh(&self, node: usize, token: &str) -> Result<Grant, Error> {
        let asked = self.world.now();
        let service = self.service(node);
        let id = session_of(token);
        match service.refresh(token, Delivery::Body).await.0 {
            Ok(refreshed) => Ok(self.handed(node, asked, service.grant(refreshed)?)),
            Err(error) => {
                if matches!(error, Error::SessionEnded(_) | Error::RefreshReused) {
                    self.is_over(id, node, &service);
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn reauthenticate(&self, node: usize, id: SessionId) -> Result<Grant, Error> {
        let asked = self.world.now();
        let grant = self.service(node).reauthenticate(id).await.0?;
        assert_eq!(grant.session.auth_time, grant.now);
        Ok(self.handed(node, asked, grant))
    }

    /// Asks again until it is acknowledged.
    pub(crate) async fn end(&self, node: usize, id: SessionId, reason: EndReason) {
        let mut service = self.service(node);
        while service.end(id, reason).await.0.is_err() {
            self.world.sleep(50).await;
            service = self.service(node);
        }
        self.is_over(id, node, &service);
    }

    pub(crate) async fn end_user(&self, node: usize, except: Option<SessionId>) {
        let before = self.ids();
        let reason = EndReason::PasswordChanged;
        while let Err(error) = (self.service(node))
            .end_user(&user(), reason, except)
            .await
            .0
        {
            assert_eq!(error, Error::StoreUnavailable);
            self.world.sleep(50).await;
        }
        for id in before.into_iter().filter(|id| Some(*id) != except) {
            // The first try may have ended them and lost its reply: then its node has yet to poll.
            self.over_elsewhere(id);
        }
    }

    fn ids(&self) -> Vec<SessionId> {
        let rows = self.store.rows.lock().unwrap();
        rows.rows.keys().copied().collect()
    }

    /// A client was told so, by a process that may have died since.
    fn is_over(&self, id: SessionId, node: usize, told_by: &Arc<Service>) {
        if !Arc::ptr_eq(told_by, &self.service(node)) {
            return self.over_elsewhere(id);
        }
        let at = self.world.now();
        let mut ledger = self.ledger.lock().unwrap();
        ledger.over.entry(id).or_insert(Over { at, node });
        drop(ledger);
        self.check(node);
    }

    fn over_elsewhere(&self, id: SessionId) {
        let at = self.world.now();
        let over = Over {
            at,
            node: usize::MAX,
        };
        self.ledger.lock().unwrap().over.entry(id).or_insert(over);
    }

    pub(crate) fn known_over(&self, id: SessionId) -> bool {
        self.ledger.lock().unwrap().over.contains_key(&id)
    }

    /// Polls, and removes what expired. What ended before the poll is refused after it.
    pub(crate) async fn tick(&self, node: usize) {
        let began = self.world.now();
        let service = self.service(node);
        if service.tick().await.is_err() {
            return;
        }
        if Arc::ptr_eq(&service, &self.service(node)) {
            self.nodes[node].synced_from.store(began, Ordering::Relaxed);
        }
        let _ = service.purge(100).await;
        self.check(node);
    }

    /// A new refresh key, known to all nodes before it signs, as their polls would bring about.
    pub(crate) async fn rotate_key(&self) {
        let keys = Arc::clone(self.service(0).keys());
        let rotated = keys.rotate(&*self.store, Purpose::Refresh).await;
        if rotated.is_ok() {
            for node in 0..self.nodes.len() {
                self.tick(node).await;
            }
        }
    }

    /// No token of a session that is known to be over verifies here.
    pub(crate) fn check(&self, node: usize) {
        let service = self.service(node);
        let synced_from = self.nodes[node].synced_from.load(Ordering::Relaxed);
        let ledger = self.ledger.lock().unwrap();
        for (id, access) in &ledger.access {
            let known = |over: &Over| over.node == node || synced_from > over.at;
            if ledger.over.get(id).is_some_and(known) {
                assert!(
                    service.verify(access).is_err(),
                    "an access token of an ended session verifies"
                );
            }
        }
    }

    /// Lets the last access token expire on the slowest clock, and checks it all the way there.
    pub(crate) fn run_out(&self) {
        self.store.set(Faults::default());
        let span = self.policy.access_ttl + self.policy.leeway() + self.policy.clock_skew;
        let steps = 40;
        let step = i64::try_from(span.as_millis()).unwrap() * 2 / steps;
        for _ in 0..steps {
            self.world.pass(self.world.up_to(2 * step));
            if self.world.happens(20) {
                self.restart(self.any());
            }
            for node in 0..self.nodes.len() {
                self.tick(node).block_on();
            }
        }
    }

    /// Holds what a node hands out against the promises.
    fn handed(&self, node: usize, asked: i64, grant: Grant) -> Grant {
        let row = &grant.session;
        let mut ledger = self.ledger.lock().unwrap();
        if let Some(over) = ledger.over.get(&row.id) {
            assert!(asked <= over.at, "a refresh after the end");
            let late = self.world.now() - over.at;
            let slow = 2 * self.store.faults.lock().unwrap().slow;
            let quarter = (self.policy.window().as_millis() as i64 / 4).max(1_000);
            // How long a load took is told by the same clock.
            let in_time = late <= quarter + slow || self.stepped.load(Ordering::Relaxed);
            assert!(in_time, "answered {late} ms after the end");
        }
        ledger.one_successor(&grant, self.store.rows.lock().unwrap().crashes);
        let access = grant.access.as_str().to_owned();
        ledger.access.push((row.id, access));
        drop(ledger);
        self.within_limits(&grant);
        self.verifies(node, &grant);
        grant
    }

    fn within_limits(&self, grant: &Grant) {
        let (row, expires_at) = (&grant.session, grant.access_expires_at);
        assert!(grant.now < row.absolute_end, "past the absolute limit");
        assert!(expires_at <= row.absolute_end);
        assert!(expires_at <= grant.now + self.policy.access_ttl);
        assert!(row.absolute_end <= row.created_at + self.policy.session_ttl);
        assert!(row.ended.is_none(), "answered from an ended row");
    }

    /// A token is good where it was made, unless its session is over or its time is up.
    fn verifies(&self, node: usize, grant: &Grant) {
        let now = self.nodes[node].env.now();
        let early = now < grant.now - self.policy.leeway();
        let ended = {
            let rows = self.store.rows.lock().unwrap();
            let row = rows.rows.get(&grant.session.id);
            row.is_none_or(|row| row.ended.is_some())
        };
        let service = self.service(node);
        if !early && !ended && now < grant.access_expires_at && service.is_ready() {
            assert_eq!(
                service.verify(grant.access.as_str()).err(),
                None,
                "a new access token is refused"
            );
        }
    }
}

/// The session that a refresh token names: bytes 9 to 24.
fn session_of(token: &str) -> SessionId {
    let bytes = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(&token[4..])
        .unwrap();
    SessionId(bytes[9..25].try_into().unwrap())
}

fn service(store: &Arc<SimStore>, policy: &Policy, env: &Arc<NodeEnv>) -> Arc<Service> {
    let secret = b"0f1e2d3c4b5a69788796a5b4c3d2e1f0".to_vec();
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        key: Some(secret.into()),
        ..KeyConfig::default()
    };
    let keys = KeyRing::open(&**store, config, policy, Arc::clone(env) as _)
        .block_on()
        .unwrap();
    let revocations = Arc::new(Revocations::new(Bounds::of(policy), None));
    Arc::new(Service::new(
        Arc::clone(store) as _,
        Arc::new(keys),
        revocations,
        policy.clone(),
        Arc::clone(env) as _,
    ))
}
