//! The rotation rules under fire: the real `Service` in a simulated world.
//!
//! How to read it. A [`World`] has a virtual clock and seeded chance. [`SimStore`] is a store whose
//! every call takes time and may fail before its effect or after it, and which forgets unflushed
//! writes in a crash; ends are durable. Each node is a `Service` with a clock of its own. Tabs share
//! one cookie jar ([`Jar`]); requests and answers are delayed, answers are lost. [`run`] plays one
//! seed: its number chooses among honest use, a thief, ends, and limits with clocks that step.
//!
//! A failure prints its seed; `DOORWARD_SEED=7 cargo test -p doorward-core --test simulation`
//! replays it. `cargo test --release -p doorward-core --test simulation -- --ignored --nocapture`
//! prints the table that docs/refresh-simulation.md quotes.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::assigning_clones,
    clippy::struct_field_names,
    reason = "a model, read from top to bottom"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use doorward_core::error::StoreError;
use doorward_core::keys::{Algorithm, KeyConfig, KeyId, KeyRing, StoredKey};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Ended, Revocations};
use doorward_core::service::{Grant, Terms};
use doorward_core::session::{Delivery, Device, End, EndReason, Session};
use doorward_core::store::{
    Account, AccountStore, AllEnded, KeyStore, SessionStore, StoreResult, ValidFrom, Write,
};
use doorward_core::{Env, Error, Identity, Policy, Service, SessionId, Timestamp, TokenId, UserId};
use pollster::FutureExt as _;

const START: i64 = 1_800_000_000_000;
const W: i64 = 30_000;

// ---- the world ----

struct World {
    state: Mutex<State>,
}

struct State {
    now: i64,
    chance: u64,
    /// When, in what order, which task.
    wakes: BinaryHeap<Reverse<(i64, u64, usize)>>,
    order: u64,
    current: usize,
}

impl World {
    fn new(seed: u64) -> Arc<World> {
        let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
        let wakes = BinaryHeap::new();
        let state = State {
            now: START,
            chance,
            wakes,
            order: 0,
            current: 0,
        };
        Arc::new(World {
            state: Mutex::new(state),
        })
    }

    fn now(&self) -> i64 {
        self.state.lock().unwrap().now
    }

    fn random(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.chance = state.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Milliseconds, 0 to `most`.
    fn up_to(&self, most: i64) -> i64 {
        (self.random() % (most.max(0).cast_unsigned() + 1)).cast_signed()
    }

    fn happens(&self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    fn sleep(self: &Arc<Self>, millis: i64) -> Sleep {
        Sleep {
            world: Arc::clone(self),
            until: self.now() + millis,
            asked: false,
        }
    }

    /// Runs tasks in virtual time until all are done.
    fn play(self: &Arc<Self>, tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
        let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
        for task in 0..tasks.len() {
            self.wake(START, task);
        }
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let next = self.state.lock().unwrap().wakes.pop();
            let Some(Reverse((at, _, task))) = next else {
                break;
            };
            {
                let mut state = self.state.lock().unwrap();
                state.now = state.now.max(at);
                state.current = task;
            }
            if let Some(future) = &mut tasks[task]
                && future.as_mut().poll(&mut context).is_ready()
            {
                tasks[task] = None;
            }
        }
        assert!(tasks.iter().all(Option::is_none), "a task waits for ever");
    }

    fn wake(&self, at: i64, task: usize) {
        let mut state = self.state.lock().unwrap();
        state.order += 1;
        let order = state.order;
        state.wakes.push(Reverse((at, order, task)));
    }
}

struct Sleep {
    world: Arc<World>,
    until: i64,
    asked: bool,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.world.now() >= self.until {
            return Poll::Ready(());
        }
        if !self.asked {
            self.asked = true;
            let current = self.world.state.lock().unwrap().current;
            self.world.wake(self.until, current);
        }
        Poll::Pending
    }
}

/// A node's clock, which may be wrong, and the world's chance.
struct NodeEnv {
    world: Arc<World>,
    skew: Mutex<i64>,
}

impl Env for NodeEnv {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.now() + *self.skew.lock().unwrap())
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.world.random().to_le_bytes()[..chunk.len()]);
        }
    }
}

// ---- the store ----

#[derive(Clone, Copy, Default)]
struct Faults {
    /// Milliseconds that a call takes at most.
    slow: i64,
    /// Percent of calls that fail before their effect, and after it.
    fail: u64,
    lose_reply: u64,
    /// The call to fail, counted from 0, and whether it takes effect.
    nth: Option<(u64, bool)>,
}

struct SimStore {
    world: Arc<World>,
    others: MemoryStore,
    rows: Mutex<Rows>,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Rows {
    rows: HashMap<SessionId, Session>,
    flushed: HashMap<SessionId, Session>,
    valid_from: HashMap<UserId, ValidFrom>,
    log: Vec<Ended>,
    calls: u64,
}

impl SimStore {
    /// One call: time passes, it may fail, the effect happens at one moment, time passes, the reply
    /// may be lost.
    async fn call<T>(&self, effect: impl FnOnce(&mut Rows) -> T + Send) -> StoreResult<T> {
        let faults = *self.faults.lock().unwrap();
        let call = {
            let mut rows = self.rows.lock().unwrap();
            rows.calls += 1;
            rows.calls - 1
        };
        let failed = || StoreError("simulated".into());
        if faults.slow > 0 {
            self.world.sleep(self.world.up_to(faults.slow)).await;
        }
        if self.world.happens(faults.fail) || faults.nth == Some((call, false)) {
            return Err(failed());
        }
        let value = effect(&mut self.rows.lock().unwrap());
        if faults.slow > 0 {
            self.world.sleep(self.world.up_to(faults.slow)).await;
        }
        if self.world.happens(faults.lose_reply) || faults.nth == Some((call, true)) {
            return Err(failed());
        }
        Ok(value)
    }

    fn flush(&self) {
        let mut rows = self.rows.lock().unwrap();
        rows.flushed = rows.rows.clone();
    }

    /// Forgets what was not flushed. What ended stays ended.
    fn crash(&self) {
        let mut rows = self.rows.lock().unwrap();
        let mut after = rows.flushed.clone();
        for (id, row) in rows.rows.iter().filter(|(_, row)| row.ended.is_some()) {
            after.insert(*id, row.clone());
        }
        rows.rows = after;
    }
}

impl Rows {
    fn end(&mut self, id: SessionId, at: Timestamp, reason: EndReason) -> Option<Session> {
        let row = self.rows.get_mut(&id)?;
        if row.ended.is_none() {
            row.ended = Some(End { at, reason });
            row.version += 1;
            self.log.push(Ended {
                session: id,
                at,
                reason,
            });
        }
        Some(row.clone())
    }
}

fn done(holds: bool) -> Write {
    if holds { Write::Done } else { Write::Lost }
}

#[async_trait]
impl SessionStore for SimStore {
    async fn insert(&self, session: Session, seen: ValidFrom) -> StoreResult<Write> {
        self.call(move |rows| {
            let now = rows
                .valid_from
                .get(&session.user)
                .copied()
                .unwrap_or_default();
            let fits = now == seen && !rows.rows.contains_key(&session.id);
            if fits {
                rows.rows.insert(session.id, session);
            }
            done(fits)
        })
        .await
    }

    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        self.call(move |rows| rows.rows.get(&id).cloned()).await
    }

    async fn swap(&self, session: Session) -> StoreResult<Write> {
        self.call(move |rows| {
            let row = rows.rows.get_mut(&session.id);
            let row = row.filter(|row| row.ended.is_none() && row.version + 1 == session.version);
            done(row.map(|row| *row = session).is_some())
        })
        .await
    }

    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
    ) -> StoreResult<Option<Session>> {
        self.call(move |rows| rows.end(id, at, reason)).await
    }

    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
    ) -> StoreResult<Vec<SessionId>> {
        let user = user.clone();
        self.call(move |rows| {
            let valid_from = rows.valid_from.entry(user.clone()).or_default();
            valid_from.0 = at.0.max(valid_from.0 + 1);
            let theirs = rows
                .rows
                .values()
                .filter(|row| row.user == user && row.ended.is_none());
            let ids: Vec<_> = theirs
                .map(|row| row.id)
                .filter(|id| Some(*id) != except)
                .collect();
            for id in &ids {
                rows.end(*id, at, reason);
            }
            ids
        })
        .await
    }

    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        let user = user.clone();
        self.call(move |rows| rows.valid_from.get(&user).copied().unwrap_or_default())
            .await
    }

    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let user = user.clone();
        self.call(move |rows| {
            rows.rows
                .values()
                .filter(|row| row.user == user)
                .cloned()
                .collect()
        })
        .await
    }

    async fn sessions(&self, _: Option<SessionId>, _: u32) -> StoreResult<Vec<Session>> {
        self.call(|rows| rows.rows.values().cloned().collect())
            .await
    }

    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.call(move |rows| {
            let new = rows.log.iter().skip(cursor as usize).take(limit as usize);
            let new: Vec<_> = new.copied().collect();
            let next = cursor + new.len() as u64;
            (new, next)
        })
        .await
    }

    async fn purge(&self, _: Timestamp, _: Timestamp, _: u32) -> StoreResult<u32> {
        Ok(0)
    }
}

#[async_trait]
impl AccountStore for SimStore {
    async fn add_account(&self, account: Account) -> StoreResult<Write> {
        self.others.add_account(account).await
    }
    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        self.others.account(username).await
    }
    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        self.others.account_of(user).await
    }
    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        self.others.accounts(after, limit).await
    }
    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        self.others.rehash(user, old, new).await
    }
    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
    ) -> StoreResult<Option<AllEnded>> {
        self.others.set_password(user, seen, hash, at).await
    }
    async fn set_disabled(
        &self,
        user: &UserId,
        off: bool,
        at: Timestamp,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.others.set_disabled(user, off, at).await
    }
    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.others.remove_account(user, at).await
    }
}

#[async_trait]
impl KeyStore for SimStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.others.keys().await
    }
    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        self.others.add_key(key, only_if_none).await
    }
    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        self.others.update_keys(keys).await
    }
    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        self.others.remove_key(id).await
    }
}

// ---- nodes and clients ----

struct Node {
    service: Service,
    env: Arc<NodeEnv>,
}

/// A row as it was when it was answered from. Without crashes its version alone would do.
type Successor = (SessionId, u64, TokenId, Timestamp);

/// A cluster on one store, and what it handed out.
struct Cluster {
    world: Arc<World>,
    store: Arc<SimStore>,
    nodes: Vec<Node>,
    children: Mutex<HashMap<Successor, String>>,
}

fn cluster(seed: u64, policy: &Policy, skews: &[i64]) -> Cluster {
    let world = World::new(seed);
    let store = Arc::new(SimStore {
        world: Arc::clone(&world),
        others: MemoryStore::new(policy.clone()),
        rows: Mutex::default(),
        faults: Mutex::default(),
    });
    let node = |skew: &i64| {
        let env = Arc::new(NodeEnv {
            world: Arc::clone(&world),
            skew: Mutex::new(*skew),
        });
        let secret = b"0f1e2d3c4b5a69788796a5b4c3d2e1f0".to_vec();
        let config = KeyConfig {
            algorithm: Algorithm::HS256,
            key: Some(secret.into()),
            ..KeyConfig::default()
        };
        let keys = KeyRing::open(&*store, config, Arc::clone(&env) as _)
            .block_on()
            .unwrap();
        let revocations = Arc::new(Revocations::new(Bounds::of(policy), None));
        let shared = Arc::clone(&store) as _;
        let service = Service::new(
            shared,
            Arc::new(keys),
            revocations,
            policy.clone(),
            Arc::clone(&env) as _,
        );
        service.tick().block_on().unwrap();
        Node { service, env }
    };
    let nodes = skews.iter().map(node).collect();
    Cluster {
        world,
        store,
        nodes,
        children: Mutex::default(),
    }
}

impl Cluster {
    fn any(&self) -> &Node {
        &self.nodes[self.world.random() as usize % self.nodes.len()]
    }

    fn login(&self) -> Grant {
        let service = &self.nodes[0].service;
        let identity = Identity {
            user: UserId::new("ada").unwrap(),
            username: None,
            valid_from: None,
            claims: None,
        };
        let terms = Terms {
            started_at: service.now(),
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
        };
        let grant = service.login(identity, terms).block_on().0.unwrap();
        self.store.flush();
        grant
    }

    /// A refresh on some node. Property 1: one row version, one successor.
    async fn refresh(&self, node: &Node, token: &str) -> Result<Grant, Error> {
        let refreshed = node.service.refresh(token, Delivery::Body).await.0?;
        let grant = node.service.grant(refreshed)?;
        let row = &grant.session;
        let key = (row.id, row.version, row.confirmed, row.child_at);
        let text = grant.refresh.as_str().to_owned();
        let mut children = self.children.lock().unwrap();
        let first = children.entry(key).or_insert_with(|| text.clone());
        assert_eq!(*first, text, "two successors of one row version");
        Ok(grant)
    }
}

/// What tabs of one browser share: the cookie that arrived last.
struct Jar {
    token: Mutex<String>,
    refused: Mutex<Option<Error>>,
}

impl Jar {
    fn new(grant: &Grant) -> Jar {
        let token = Mutex::new(grant.refresh.as_str().to_owned());
        Jar {
            token,
            refused: Mutex::new(None),
        }
    }
}

#[derive(Clone, Copy)]
struct Network {
    /// One way, in milliseconds, at most.
    delay: i64,
    /// Percent of answers that are lost.
    lost: u64,
}

/// A tab refreshes, waits for the answer, and tries again what was not answered.
async fn tab(cluster: &Cluster, jar: &Jar, network: Network, times: u32, pause: i64) {
    let world = &cluster.world;
    for _ in 0..times {
        // Half of the time in step with the other tabs: a burst.
        let now = world.now();
        let next = if world.happens(70) {
            now - now % pause + pause
        } else {
            now + world.up_to(pause)
        };
        world.sleep(next - now).await;
        if jar.refused.lock().unwrap().is_some() {
            return;
        }
        let token = jar.token.lock().unwrap().clone();
        world.sleep(world.up_to(network.delay)).await;
        let answer = cluster.refresh(cluster.any(), &token).await;
        if world.happens(network.lost) {
            continue;
        }
        world.sleep(world.up_to(network.delay)).await;
        match answer {
            Ok(grant) => *jar.token.lock().unwrap() = grant.refresh.as_str().to_owned(),
            Err(Error::StoreUnavailable) => {}
            Err(error) => *jar.refused.lock().unwrap() = Some(error),
        }
    }
}

/// Whether an honest browser stayed logged in.
fn browse(cluster: &Cluster, network: Network, faults: Faults, crashes: bool) -> Result<(), Error> {
    let jar = Jar::new(&cluster.login());
    *cluster.store.faults.lock().unwrap() = faults;
    let tabs = 1 + cluster.world.random() as u32 % 8;
    let pause = W / 2 + cluster.world.up_to(3 * W);
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for _ in 0..tabs {
        tasks.push(Box::pin(tab(cluster, &jar, network, 60 / tabs, pause)));
    }
    if crashes {
        tasks.push(Box::pin(async {
            for _ in 0..6 {
                cluster.world.sleep(cluster.world.up_to(20 * W)).await;
                cluster.store.crash();
                cluster.world.sleep(cluster.world.up_to(W)).await;
                cluster.store.flush();
            }
        }));
    }
    cluster.world.play(tasks);
    match jar.refused.into_inner().unwrap() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

// ---- the seeds ----

/// Property 2 and 7: an honest client is never refused while delay plus clock difference stays
/// below `W/2`, whatever the store does.
fn honest(seed: u64) {
    let dice = World::new(!seed);
    let skew = dice.up_to(6_000);
    let slow = dice.up_to(300);
    let network = Network {
        delay: W / 2 - skew - 10 * slow - 100,
        lost: dice.random() % 40,
    };
    let cluster = cluster(seed, &Policy::default(), &[0, skew, skew / 2]);
    let faults = Faults {
        slow,
        fail: dice.random() % 10,
        lose_reply: dice.random() % 10,
        nth: None,
    };
    assert_eq!(
        browse(&cluster, network, faults, false),
        Ok(()),
        "an honest client was refused"
    );
}

/// Property 3: a copied token is found out at the second use of the holder with fewer uses.
fn thief(seed: u64) {
    let cluster = cluster(seed, &Policy::default(), &[0, 0]);
    let mut client = cluster.login().refresh.as_str().to_owned();
    for _ in 0..cluster.world.random() % 4 {
        client = use_token(&cluster, &client)
            .unwrap()
            .refresh
            .as_str()
            .to_owned();
    }
    let mut holders = [client.clone(), client];
    let mut uses = [0; 2];
    loop {
        let who = cluster.world.random() as usize % 2;
        uses[who] += 1;
        match use_token(&cluster, &holders[who]) {
            Ok(grant) => holders[who] = grant.refresh.as_str().to_owned(),
            Err(Error::RefreshReused | Error::SessionEnded(EndReason::Reuse)) => return,
            Err(error) => panic!("{error}"),
        }
        assert!(
            uses[0].min(uses[1]) < 2,
            "the thief was not found: {uses:?}"
        );
        if uses[0].max(uses[1]) > 50 {
            return;
        }
    }
}

/// A refresh more than `W` after whatever was before.
fn use_token(cluster: &Cluster, token: &str) -> Result<Grant, Error> {
    cluster.world.state.lock().unwrap().now += W + 1 + cluster.world.up_to(W);
    cluster.refresh(cluster.any(), token).block_on()
}

/// Property 4: after an acknowledged end nothing of the session lives, whatever raced it.
fn ends(seed: u64) {
    let cluster = cluster(seed, &Policy::default(), &[0, 0, 0]);
    let world = &cluster.world;
    let granted = cluster.login();
    let handed = Mutex::new(vec![granted.access.as_str().to_owned()]);
    let token = Mutex::new(granted.refresh.as_str().to_owned());
    let acknowledged = Mutex::new(None);
    let faults = Faults {
        slow: world.up_to(800),
        fail: 5,
        lose_reply: 5,
        nth: None,
    };
    *cluster.store.faults.lock().unwrap() = faults;
    let crashes = world.happens(50);
    let client = |_| {
        Box::pin(async {
            for _ in 0..20 {
                world.sleep(world.up_to(3_000)).await;
                let asked = world.now();
                let presented = token.lock().unwrap().clone();
                if let Ok(grant) = cluster.refresh(cluster.any(), &presented).await {
                    let ended: Option<i64> = *acknowledged.lock().unwrap();
                    assert!(ended.is_none_or(|at| asked < at), "a refresh after the end");
                    handed
                        .lock()
                        .unwrap()
                        .push(grant.access.as_str().to_owned());
                    *token.lock().unwrap() = grant.refresh.as_str().to_owned();
                }
            }
        }) as Pin<Box<dyn Future<Output = ()> + '_>>
    };
    let mut tasks: Vec<_> = (0..3).map(client).collect();
    tasks.push(Box::pin(async {
        world.sleep(world.up_to(20_000)).await;
        let node = cluster.any();
        while node
            .service
            .end(granted.session.id, EndReason::Logout)
            .await
            .0
            .is_err()
        {
            world.sleep(50).await;
        }
        *acknowledged.lock().unwrap() = Some(world.now());
        for access in handed.lock().unwrap().iter() {
            assert!(node.service.verify(access).is_err(), "on that node at once");
        }
        if crashes {
            cluster.store.crash();
        }
    }));
    world.play(tasks);
    *cluster.store.faults.lock().unwrap() = Faults::default();
    for node in &cluster.nodes {
        node.service.tick().block_on().unwrap();
        for access in handed.lock().unwrap().iter() {
            assert!(
                node.service.verify(access).is_err(),
                "elsewhere after a poll"
            );
        }
    }
}

/// Property 5 and 6: limits are exact, and no clock step revives what is over.
fn limits(seed: u64) {
    let policy = Policy {
        refresh_ttl: Duration::from_secs(3600),
        session_ttl: Duration::from_secs(2 * 3600),
        ..Policy::default()
    };
    let cluster = cluster(seed, &policy, &[0]);
    let world = &cluster.world;
    let granted = cluster.login();
    let mut token = granted.refresh.as_str().to_owned();
    let (mut last, mut over) = (world.now(), false);
    for _ in 0..30 {
        world.state.lock().unwrap().now += world.up_to(50 * 60 * 1000);
        let step = if over {
            -world.up_to(4 * 3600 * 1000)
        } else {
            0
        };
        *cluster.nodes[0].env.skew.lock().unwrap() = step;
        let now = world.now();
        match cluster.refresh(&cluster.nodes[0], &token).block_on() {
            Ok(grant) => {
                assert!(!over, "a clock step revived it");
                assert!(now < START + 2 * 3600 * 1000, "past the absolute limit");
                assert!(now - last <= 3600 * 1000, "past the idle limit");
                assert!(grant.access_expires_at <= granted.session.absolute_end);
                (token, last) = (grant.refresh.as_str().to_owned(), now);
            }
            Err(Error::SessionEnded(reason)) => {
                let absolute = now >= START + 2 * 3600 * 1000;
                let idle = now - last >= 3600 * 1000 - W;
                assert!(over || absolute || idle, "refused early: {reason:?}");
                over = true;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(seed: u64) {
    match seed % 4 {
        0 => honest(seed),
        1 => thief(seed),
        2 => ends(seed),
        _ => limits(seed),
    }
}

#[test]
fn ten_thousand_seeds() {
    if let Ok(seed) = std::env::var("DOORWARD_SEED") {
        return run(seed.parse().unwrap());
    }
    let next = std::sync::atomic::AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= 10_000 {
                        return;
                    }
                    let done = std::panic::catch_unwind(|| run(seed));
                    assert!(
                        done.is_ok(),
                        "seed {seed}: replay with DOORWARD_SEED={seed}"
                    );
                }
            });
        }
    });
}

/// Property 7, for every n: the n-th call of the store fails, with its effect or without.
#[test]
fn any_call_may_fail_and_the_next_try_goes_through() {
    for nth in 0..40 {
        for takes_effect in [false, true] {
            let cluster = cluster(nth, &Policy::default(), &[0]);
            let mut token = cluster.login().refresh.as_str().to_owned();
            let calls = cluster.store.rows.lock().unwrap().calls;
            let faults = Faults {
                nth: Some((calls + nth, takes_effect)),
                ..Faults::default()
            };
            *cluster.store.faults.lock().unwrap() = faults;
            for _ in 0..8 {
                let grant = match use_token(&cluster, &token) {
                    Err(Error::StoreUnavailable) => use_token(&cluster, &token),
                    answer => answer,
                };
                token = grant.unwrap().refresh.as_str().to_owned();
            }
        }
    }
}

// ---- the table ----

/// Rule sets to compare with, as pure models of one row: a random child for each answer, and one
/// fixed by buckets of the clock. Both have a window of grace for the previous token.
#[derive(Clone, Copy, PartialEq)]
enum Model {
    RandomChild,
    ClockBuckets,
}

/// id, parent.
type Token = (u64, u64);

#[derive(Clone, Copy)]
struct ModelRow {
    confirmed: u64,
    previous: u64,
    confirmed_at: i64,
}

impl Model {
    fn refresh(self, row: &mut ModelRow, token: Token, now: i64, world: &World) -> Option<Token> {
        let in_window = now - row.confirmed_at <= W;
        if token.0 != row.confirmed {
            if token.1 == row.confirmed {
                let at = if self == Model::ClockBuckets && in_window {
                    row.confirmed_at
                } else {
                    now
                };
                *row = ModelRow {
                    confirmed: token.0,
                    previous: token.1,
                    confirmed_at: at,
                };
            } else if !(in_window && token.0 == row.previous) {
                return None;
            }
        }
        let child = match self {
            Model::RandomChild => world.random(),
            Model::ClockBuckets => mix(row.confirmed ^ (now / W).cast_unsigned().rotate_left(32)),
        };
        Some((child, row.confirmed))
    }
}

fn mix(x: u64) -> u64 {
    let z = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 29)
}

async fn model_tab(
    world: &Arc<World>,
    model: Model,
    state: &Mutex<(ModelRow, Token, bool)>,
    network: Network,
    skews: &[i64],
    times: u32,
    pause: i64,
) {
    for _ in 0..times {
        let now = world.now();
        let next = if world.happens(70) {
            now - now % pause + pause
        } else {
            now + world.up_to(pause)
        };
        world.sleep(next - now).await;
        let token = state.lock().unwrap().1;
        world.sleep(world.up_to(network.delay)).await;
        let skew = skews[world.random() as usize % skews.len()];
        let answer = {
            let mut state = state.lock().unwrap();
            model.refresh(&mut state.0, token, world.now() + skew, world)
        };
        if world.happens(network.lost) {
            continue;
        }
        world.sleep(world.up_to(network.delay)).await;
        let mut state = state.lock().unwrap();
        match answer {
            Some(token) => state.1 = token,
            None => state.2 = true,
        }
        if state.2 {
            return;
        }
    }
}

fn model_refuses(seed: u64, model: Model, network: Network, skews: &[i64], crashes: bool) -> bool {
    let world = World::new(seed);
    let row = ModelRow {
        confirmed: 1,
        previous: 0,
        confirmed_at: i64::MIN / 2,
    };
    let state = Mutex::new((row, (2, 1), false));
    let tabs = 1 + world.random() as u32 % 8;
    let pause = W / 2 + world.up_to(3 * W);
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for _ in 0..tabs {
        tasks.push(Box::pin(model_tab(
            &world,
            model,
            &state,
            network,
            skews,
            60 / tabs,
            pause,
        )));
    }
    if crashes {
        tasks.push(Box::pin(async {
            let mut flushed = row;
            for _ in 0..6 {
                world.sleep(world.up_to(20 * W)).await;
                state.lock().unwrap().0 = flushed;
                world.sleep(world.up_to(W)).await;
                flushed = state.lock().unwrap().0;
            }
        }));
    }
    world.play(tasks);
    state.into_inner().unwrap().2
}

struct Line {
    name: &'static str,
    network: Network,
    skews: &'static [i64],
    crashes: bool,
}

const LINES: [Line; 4] = [
    Line {
        name: "one-way delays to 4 s",
        network: Network {
            delay: 4_000,
            lost: 0,
        },
        skews: &[0],
        crashes: false,
    },
    Line {
        name: "to 14.9 s, 15 % of answers lost, bursts",
        network: Network {
            delay: 14_900,
            lost: 15,
        },
        skews: &[0],
        crashes: false,
    },
    Line {
        name: "lost unflushed writes, 15 % of answers lost, to 12 s",
        network: Network {
            delay: 12_000,
            lost: 15,
        },
        skews: &[0],
        crashes: true,
    },
    Line {
        name: "to 14.9 s, and nodes skewed by up to 14 s",
        network: Network {
            delay: 14_900,
            lost: 15,
        },
        skews: &[0, 14_000, 7_000],
        crashes: false,
    },
];

/// Runs of `line` in which the honest user was logged out, by rule set.
fn logged_out(line: &Line, runs: u64) -> [u64; 3] {
    let model = |model| {
        let refused =
            |seed: &u64| model_refuses(*seed, model, line.network, line.skews, line.crashes);
        (0..runs).filter(refused).count() as u64
    };
    let ours = |seed: &u64| {
        let cluster = cluster(*seed, &Policy::default(), line.skews);
        browse(&cluster, line.network, Faults::default(), line.crashes).is_err()
    };
    let ours = (0..runs).filter(ours).count() as u64;
    [model(Model::RandomChild), model(Model::ClockBuckets), ours]
}

/// The models refuse honest users in the same world: the simulation can fail.
#[test]
fn these_rules_log_nobody_out_where_others_do() {
    for (line, least) in LINES.iter().zip([1, 50]) {
        let [random, buckets, ours] = logged_out(line, 200);
        assert!(
            random.min(buckets) >= least,
            "{}: {random}, {buckets}",
            line.name
        );
        assert_eq!(ours, 0, "{}", line.name);
    }
}

#[test]
#[ignore = "prints the table of docs/refresh-simulation.md; a minute or two"]
fn the_table() {
    println!("| | a random child per answer | child fixed by clock buckets | these rules |");
    println!("|---|---|---|---|");
    for line in &LINES {
        let [random, buckets, ours] = logged_out(line, 4_000);
        println!("| {} | {random} | {buckets} | {ours} |", line.name);
    }
}
