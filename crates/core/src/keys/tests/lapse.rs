//! How long keys verify: those of processes that come and go, and those that were superseded.

use super::*;

/// As `secrets.token_hex(16)`.
fn fresh_secret(env: &TestEnv) -> String {
    format!("{:016x}{:016x}", env.random(), env.random())
}

fn for_audience(audience: &str) -> Policy {
    Policy {
        audience: Some(audience.into()),
        ..Policy::default()
    }
}

impl World {
    fn open_for(&self, policy: &Policy, config: KeyConfig) -> KeyRing {
        let ring = KeyRing::open(&*self.store, config, policy, Arc::clone(&self.env) as _);
        ring.block_on().unwrap()
    }

    fn fresh(&self) -> KeyRing {
        self.open(own(&fresh_secret(&self.env)))
    }

    fn own_id(ring: &KeyRing) -> KeyId {
        ring.signer.configured.as_ref().unwrap().id
    }

    fn signs(ring: &KeyRing) -> KeyId {
        let own = ring.ring.load();
        own.own(&ring.signer, ring.env.now()).unwrap().row.id
    }

    fn access_rows(&self) -> Vec<StoredKey> {
        let mut rows = self.store.keys().block_on().unwrap();
        rows.retain(|row| row.purpose == Purpose::Access);
        rows
    }
}

// ---- processes that come and go ----

/// A clock that is off.
struct Off {
    env: Arc<TestEnv>,
    by: i64,
}

impl Env for Off {
    fn now(&self) -> Timestamp {
        Timestamp(self.env.now().0 + self.by)
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.env.fill(bytes);
    }
}

struct Worker {
    ring: KeyRing,
    env: Arc<Off>,
    ticked: Timestamp,
}

struct Signed {
    token: String,
    at: Timestamp,
    expires_at: Timestamp,
}

/// Workers, each with a secret and a clock of its own, that start, die and lose the store.
struct Life {
    world: World,
    workers: Vec<Option<Worker>>,
    signed: Vec<Signed>,
    down_until: Timestamp,
    checked: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        let policy = Policy {
            access_ttl: Duration::from_secs(600),
            refresh_window: Some(Duration::from_secs(120)),
            session_ttl: Duration::from_secs(30 * 24 * 3600),
            ..Policy::default()
        };
        policy.check().unwrap();
        let world = World {
            store: Arc::new(MemoryStore::new(policy.clone())),
            env: Arc::new(TestEnv::new(NOW, seed)),
            policy,
        };
        Life {
            world,
            workers: (0..4).map(|_| None).collect(),
            signed: Vec::new(),
            down_until: NOW,
            checked: 0,
        }
    }

    fn chance(&self, one_in: u64) -> bool {
        self.world.env.random().is_multiple_of(one_in)
    }

    fn second(&mut self) {
        self.world.env.advance(SECOND);
        let now = self.world.now();
        if self.chance(4_000) {
            self.down_until = now + Duration::from_secs(self.world.env.random() % 2_000);
        }
        if self.chance(3_000) {
            self.workers.iter_mut().for_each(|worker| *worker = None);
        }
        for slot in 0..self.workers.len() {
            if self.chance(900) {
                self.workers[slot] = None;
            }
            if now >= self.down_until {
                self.live(slot);
            }
        }
        self.check();
    }

    fn live(&mut self, slot: usize) {
        let (now, world) = (self.world.now(), &self.world);
        if self.workers[slot].is_none() && self.chance(100) {
            let by = i64::try_from(world.env.random() % 60_000).unwrap() - 30_000;
            let env = Arc::new(Off {
                env: Arc::clone(&world.env),
                by,
            });
            let config = own(&fresh_secret(&world.env));
            let ring = KeyRing::open(&*world.store, config, &world.policy, Arc::clone(&env) as _);
            let (ring, ticked) = (ring.block_on().unwrap(), now);
            self.workers[slot] = Some(Worker { ring, env, ticked });
        }
        let polls = !self.chance(5);
        let signs = self.chance(10);
        let Some(worker) = &mut self.workers[slot] else {
            return;
        };
        if polls {
            self.world.tick(&worker.ring);
            worker.ticked = now;
        }
        if signs {
            let at = worker.env.now();
            let user = UserId::new("ada").unwrap();
            let claims = NewClaims {
                issued_at: at,
                expires_at: at + self.world.policy.access_ttl,
                ..self.world.claims(&user)
            };
            self.signed.push(Signed {
                token: worker.ring.sign_access(&claims, at).unwrap(),
                at: now,
                expires_at: Timestamp::from_seconds(claims.expires_at.seconds()),
            });
        }
    }

    /// In its first second at a worker that has polled since, in its last one and in the one after.
    fn check(&mut self) {
        let (now, policy) = (self.world.now(), &self.world.policy);
        for worker in self.workers.iter().flatten() {
            let clock = worker.env.now();
            for token in self.signed.iter().filter(|token| worker.ticked > token.at) {
                let left = token.expires_at.since(clock);
                let verified = || worker.ring.verify_access(&token.token, clock, policy);
                if (1..=1000).contains(&left) || now.since(token.at) < 3000 {
                    verified().unwrap_or_else(|error| panic!("{error} with {left} ms left"));
                    self.checked += 1;
                } else if (-1000..=0).contains(&left) {
                    let known =
                        worker
                            .ring
                            .verify_access_ignoring_times(&token.token, clock, policy);
                    assert_eq!(verified().unwrap_err(), Error::TokenExpired);
                    assert!(known.is_ok());
                }
            }
        }
        let over = now - Duration::from_secs(60);
        self.signed.retain(|token| token.expires_at > over);
    }
}

#[test]
fn workers_that_come_and_go_refuse_no_good_token() {
    for seed in 0..6 {
        let mut life = Life::new(seed);
        (0..12_000).for_each(|_| life.second());
        let lapsed = life.world.access_rows().into_iter();
        let lapsed = lapsed.filter(|row| row.verifies_until < life.world.now());
        assert!(lapsed.count() > 20);
        assert!(life.checked > 5_000, "{}", life.checked);
    }
}

#[test]
fn the_key_of_a_process_that_is_gone_is_known_to_logout_only() {
    let world = World::new();
    let (gone, node) = (world.fresh(), world.fresh());
    let (token, id) = (world.sign(&gone), World::own_id(&gone));
    drop(gone);
    world.run(&node, row(&node, id).verifies_until);
    assert!(!world.verifies(&node, &token) && world.logs_out(&node, &token));
    // Whoever learns it later can make no token that anybody takes.
    let forged = world.sign_by(&node, id);
    assert!(!world.verifies(&node, &forged) && !world.logs_out(&node, &forged));
    assert!(!world.verifies(&world.fresh(), &forged));
    let lasted = row(&node, id).verifies_until.since(NOW);
    assert!(lasted <= millis(world.policy.access_ttl + Duration::from_secs(10 * 60)));
}

#[test]
fn nobody_signs_with_a_key_that_runs_out_before_its_token() {
    let world = World::new();
    let gone = world.fresh();
    let until = row(&gone, World::own_id(&gone)).verifies_until;
    world.env.set(until - world.policy.access_ttl);
    let (lends, ring) = (kid(&world.sign(&gone)), world.fresh());
    assert_eq!(kid(&world.sign(&ring)), lends);
    world.env.advance(Duration::from_millis(1));
    assert_eq!(kid(&world.sign(&ring)), World::own_id(&ring).to_string());
}

#[test]
fn renewing_writes_seldom() {
    let world = World::new();
    let rings: Vec<_> = (0..4).map(|_| world.fresh()).collect();
    let mut writes = 0;
    for _ in 0..3600 {
        world.env.advance(SECOND);
        for ring in &rings {
            let before = world.access_rows();
            world.tick(ring);
            writes += usize::from(world.access_rows() != before);
        }
    }
    assert!((4 * 20..=4 * 26).contains(&writes), "{writes}");
}

#[test]
fn keys_do_not_run_out_while_the_store_does_not_answer() {
    let world = World::new();
    let (one, two) = (world.fresh(), world.fresh());
    world.tick(&one);
    world.env.advance(Duration::from_secs(24 * 3600));
    let user = UserId::new("ada").unwrap();
    let tokens = [&one, &two].map(|ring| {
        let own = World::own_id(ring);
        let token = ring.sign_access(&world.claims(&user), world.now()).unwrap();
        assert_eq!(kid(&token), own.to_string());
        token
    });
    let all_verify = |ring| tokens.iter().all(|token| world.verifies(ring, token));
    assert!(all_verify(&one) && all_verify(&two));
    // It is back, gone again, and back: one process hears of it some seconds before the other.
    world.tick(&one);
    world.env.advance(PUBLISH_DELAY + SECOND);
    world.tick(&one);
    assert!(all_verify(&one));
    world.env.advance(Duration::from_secs(9));
    world.tick(&one);
    assert!(all_verify(&one));
    world.tick(&two);
    world.env.advance(SECOND);
    world.tick(&one);
    assert!(all_verify(&one) && all_verify(&two));
    // One that does not come back runs out.
    drop(two);
    world.env.advance(Duration::from_secs(24 * 3600));
    world.tick(&one);
    world.run(&one, world.now() + PUBLISH_DELAY);
    assert!(!world.verifies(&one, &world.sign_by(&one, kid(&tokens[1]).parse().unwrap())));
}

#[test]
fn a_process_that_cannot_renew_its_key_goes_on_by_itself() {
    let world = World::new();
    for config in [KeyConfig::default(), own(SECRET)] {
        let (node, other) = (world.open(config), world.fresh());
        for _ in 0..1_500 {
            world.env.advance(SECOND);
            world.reload(&node).unwrap();
            world.tick(&other);
        }
        let own = world.sign_by(&node, World::signs(&node));
        assert!(world.verifies(&node, &own) && !world.verifies(&other, &own));
    }
}

#[test]
fn a_process_that_slept_so_long_that_its_key_went_joins_again() {
    let world = World::new();
    let (sleeps, node) = (world.fresh(), world.fresh());
    world.tick(&sleeps);
    world.env.advance(world.policy.session_ttl * 2);
    world.tick(&node);
    assert!(
        !node
            .rows()
            .iter()
            .any(|row| row.id == World::own_id(&sleeps))
    );
    world.tick(&sleeps);
    world.env.advance(PUBLISH_DELAY);
    world.tick(&node);
    let token = world.sign(&sleeps);
    assert_eq!(kid(&token), World::own_id(&sleeps).to_string());
    assert!(world.verifies(&node, &token));
}

#[test]
fn too_many_keys_that_have_run_out_are_not_kept() {
    let world = World::new();
    let node = world.fresh();
    for id in 0..u64::try_from(LAPSED_KEPT).unwrap() + 5 {
        let old = StoredKey {
            id: KeyId(id),
            verifies_until: NOW - SECOND - Duration::from_secs(id),
            ..row(&node, World::own_id(&node))
        };
        assert_eq!(
            world.store.add_key(old, false).block_on().unwrap(),
            Write::Done
        );
    }
    world.tick(&node);
    let kept = ids(&node, Purpose::Access);
    assert_eq!(kept.len(), LAPSED_KEPT + 1);
    assert!(kept.contains(&KeyId(0)) && kept.contains(&World::own_id(&node)));
}

// ---- starts ----

#[test]
fn workers_that_start_together_agree_and_the_first_signs_at_once() {
    for round in 0..40 {
        let world = World::new();
        if round % 2 == 0 {
            // All of an earlier day are gone.
            drop((world.fresh(), world.fresh()));
            world.env.advance(Duration::from_secs(24 * 3600));
        }
        let (start, secrets) = (Barrier::new(4), [(); 4].map(|()| fresh_secret(&world.env)));
        let open = |secret: &String| {
            start.wait();
            world.open(own(secret))
        };
        let rings: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = secrets.iter().map(|s| scope.spawn(|| open(s))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.collect()
        });
        let tokens: Vec<_> = rings.iter().map(|ring| world.sign(ring)).collect();
        assert!(tokens.iter().all(|token| kid(token) == kid(&tokens[0])));
        for ring in &rings {
            assert!(tokens.iter().all(|token| world.verifies(ring, token)));
            world.tick(ring);
        }
        world.env.advance(PUBLISH_DELAY);
        for ring in &rings {
            world.tick(ring);
            assert_eq!(kid(&world.sign(ring)), World::own_id(ring).to_string());
        }
    }
}

#[test]
fn workers_with_one_secret_have_one_entry_and_renew_it() {
    let world = World::new();
    let (one, two) = (world.open(own(SECRET)), world.open(own(SECRET)));
    assert_eq!(ids(&two, Purpose::Access).len(), 1);
    let token = world.sign(&two);
    assert!(world.verifies(&one, &token));
    drop(one);
    world.run(&two, NOW + world.policy.access_ttl * 3);
    let third = world.open(own(SECRET));
    assert!(world.verifies(&third, &world.sign(&two)));
    assert!(world.verifies(&two, &world.sign(&third)));
}

#[test]
fn a_secret_that_comes_back_after_it_ran_out_is_published_first() {
    let world = World::new();
    drop(world.open(own(SECRET)));
    let node = world.fresh();
    world.run(&node, NOW + world.policy.access_ttl * 3);
    let back = world.open(own(SECRET));
    let token = world.sign(&back);
    assert_eq!(kid(&token), World::own_id(&node).to_string());
    world.env.advance(PUBLISH_DELAY);
    world.tick(&node);
    let token = world.sign(&back);
    assert_eq!(kid(&token), World::own_id(&back).to_string());
    assert!(world.verifies(&node, &token));
}

#[test]
fn a_ring_without_a_key_of_its_own_makes_one_beside_those_of_others() {
    let world = World::new();
    let joined = world.open(own(SECRET));
    let node = world.open(of(Algorithm::HS256));
    assert_eq!(kid(&world.sign(&node)), World::own_id(&joined).to_string());
    world.tick(&joined);
    world.env.advance(PUBLISH_DELAY);
    let token = world.sign(&node);
    assert_ne!(kid(&token), World::own_id(&joined).to_string());
    assert!(world.verifies(&joined, &token));
}

#[test]
fn a_ring_that_was_left_for_long_goes_on_with_its_key() {
    let world = World::new();
    let id = only(&world.open(KeyConfig::default()), Purpose::Access).id;
    world.env.advance(world.policy.session_ttl / 2);
    let nodes = [(); 2].map(|()| world.open(KeyConfig::default()));
    for node in &nodes {
        assert_eq!(only(node, Purpose::Access).id, id);
        assert!(world.verifies(&nodes[0], &world.sign(node)));
    }
}

#[test]
fn the_successor_of_a_retired_key_is_not_one_that_has_run_out() {
    let world = World::new();
    let node = world.open(KeyConfig::default());
    let old = only(&node, Purpose::Access).id;
    let new = world.rotate(&node, Purpose::Access);
    world.run(&node, NOW + world.policy.access_ttl * 3);
    world.retire(&node, new);
    let signs = kid(&world.sign(&node));
    assert!(signs != old.to_string() && signs != new.to_string());
    assert!(!world.verifies(&node, &world.sign_by(&node, old)));
}

#[test]
fn an_own_key_that_is_retired_has_no_successor() {
    let world = World::new();
    let node = world.open(own(SECRET));
    let command = world.look(of(Algorithm::HS256));
    world.retire(&command, World::own_id(&node));
    assert_eq!(world.access_rows().len(), 1);
    world.reload(&node).unwrap();
    assert_eq!(node.can_sign(world.now()), Err(RETIRED));
}

#[test]
fn a_key_that_changes_from_start_to_start_is_told_from_one_that_does_not() {
    let world = World::new();
    let stable: Vec<_> = (0..8).map(|_| world.open(own(SECRET))).collect();
    let replaced = world.open(own(OTHER_SECRET));
    world.tick(&stable[0]);
    let mut all = stable.iter().chain([&replaced]);
    assert!(!all.any(KeyRing::changes_between_starts));

    let workers = [(); 4].map(|()| world.fresh());
    for worker in &workers {
        world.tick(worker);
        assert!(worker.changes_between_starts());
    }
    // Another door with one that does not change is not meant.
    assert!(!world.open(own(SECRET)).changes_between_starts());
    assert!(!world.open(KeyConfig::default()).changes_between_starts());
}

// ---- issuers and audiences ----

#[test]
fn an_own_key_is_for_its_own_audience_only() {
    let world = World::new();
    let (a, b) = (for_audience("a"), for_audience("b"));
    let one = world.open_for(&a, own(SECRET));
    let two = world.open_for(&b, own(OTHER_SECRET));
    let user = UserId::new("ada").unwrap();
    let claims = NewClaims {
        audience: Some("b"),
        ..world.claims(&user)
    };
    // Not to sign with either, while its own is new.
    let token = two.sign_access(&claims, world.now()).unwrap();
    assert_eq!(kid(&token), World::own_id(&two).to_string());
    assert!(two.verify_access(&token, world.now(), &b).is_ok());
    let forged = one.sign_access(&claims, world.now()).unwrap();
    for ring in [&two, &world.open_for(&b, KeyConfig::default())] {
        assert!(ring.verify_access(&forged, world.now(), &b).is_err());
        let known = ring.verify_access_ignoring_times(&forged, world.now(), &b);
        assert!(known.is_err());
    }
}

#[test]
fn one_secret_for_two_audiences_is_one_entry_for_both() {
    let world = World::new();
    let rings = ["a", "b"].map(|name| (world.open_for(&for_audience(name), own(SECRET)), name));
    let user = UserId::new("ada").unwrap();
    for (ring, name) in &rings {
        world.tick(ring);
        let other = world.open_for(&for_audience(name), own(OTHER_SECRET));
        let claims = NewClaims {
            audience: Some(name),
            ..world.claims(&user)
        };
        let token = ring.sign_access(&claims, world.now()).unwrap();
        let policy = for_audience(name);
        assert!(other.verify_access(&token, world.now(), &policy).is_ok());
    }
    let [(one, _), (two, _)] = &rings;
    assert_eq!(row(one, World::own_id(one)).scopes.lines().count(), 2);
    // Who has learnt it has learnt it for both.
    world.retire(one, World::own_id(one));
    world.reload(two).unwrap();
    assert_eq!(two.can_sign(world.now()), Err(RETIRED));
}

#[test]
fn a_key_that_joins_for_another_audience_too_is_published_first() {
    let world = World::new();
    let first = world.open_for(&for_audience("a"), own(SECRET));
    let other = world.open_for(&for_audience("b"), own(OTHER_SECRET));
    for _ in 0..60 {
        world.env.advance(SECOND);
        world.tick(&first);
        world.tick(&other);
    }
    let second = world.open_for(&for_audience("b"), own(SECRET));
    assert_eq!(kid(&world.sign(&second)), World::own_id(&other).to_string());
}

#[test]
fn the_jwks_lists_what_verifies() {
    let world = World::new();
    let node = world.open(of(Algorithm::ES256));
    let new = world.rotate(&node, Purpose::Access);
    assert_eq!(node.jwks()["keys"].as_array().unwrap().len(), 2);
    world.run(&node, NOW + world.policy.access_ttl * 3);
    let jwks = node.jwks();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    assert_eq!(jwks["keys"][0]["kid"], new.to_string());
}

// ---- under a seal, and of an earlier version ----

#[test]
fn under_a_seal_own_keys_live_and_end_as_without() {
    let world = World::new();
    let open = || world.open(sealed(own(&fresh_secret(&world.env)), SEAL));
    let (gone, node) = (open(), open());
    let (token, id) = (world.sign(&gone), World::own_id(&gone));
    drop(gone);
    world.run(&node, NOW + world.policy.access_ttl - SECOND);
    assert!(world.verifies(&node, &token));
    let before = row(&node, id);
    world.run(&node, before.verifies_until);
    assert!(world.logs_out(&node, &token));
    assert!(world.access_rows().iter().all(is_sealed));
    // Who can write to the store, and has learnt the secret, cannot bring it back.
    let brought_back = StoredKey {
        verifies_until: EVER,
        ..before
    };
    let update = world.store.update_keys(vec![brought_back]).block_on();
    assert_eq!(update.unwrap(), Write::Done);
    world.reload(&node).unwrap();
    assert!(!world.logs_out(&node, &token));
}

#[test]
fn an_entry_in_the_place_of_the_own_key_is_replaced() {
    let world = World::new();
    let node = world.open(sealed(own(SECRET), SEAL));
    let junk = StoredKey {
        secret: OTHER_SECRET.as_bytes().into(),
        ..row(&node, World::own_id(&node))
    };
    let update = world.store.update_keys(vec![junk]).block_on();
    assert_eq!(update.unwrap(), Write::Done);
    let again = world.open(sealed(own(SECRET), SEAL));
    assert!(world.verifies(&again, &world.sign(&again)));
    world.tick(&node);
    assert!(world.verifies(&node, &world.sign(&again)));
}

#[test]
fn own_keys_of_an_earlier_version_verify_for_all_and_are_taken_on_by_their_own() {
    let world = World::new();
    let earlier = |secret: &str| StoredKey {
        verifies_until: NOW + Duration::from_secs(2 * 24 * 3600),
        ..own_key(Algorithm::HS256, secret.as_bytes(), NOW).unwrap()
    };
    for secret in [SECRET, OTHER_SECRET] {
        let add = world.store.add_key(earlier(secret), false).block_on();
        assert_eq!(add.unwrap(), Write::Done);
    }
    world.env.advance(SECOND);
    let (node, made) = (world.open(own(SECRET)), world.open(of(Algorithm::HS256)));
    world.tick(&node);
    let old = [SECRET, OTHER_SECRET].map(|secret| earlier(secret).id);
    for (ring, id) in [&node, &made]
        .into_iter()
        .flat_map(|ring| old.map(|id| (ring, id)))
    {
        assert!(world.verifies(ring, &world.sign_by(&node, id)));
    }
    assert_eq!(kid(&world.sign(&node)), old[0].to_string());
    for _ in 0..=2 * 24 {
        world.env.advance(Duration::from_secs(3600));
        world.tick(&node);
        world.tick(&made);
    }
    world.run(&node, world.now() + PUBLISH_DELAY);
    assert!(world.verifies(&node, &world.sign(&node)));
    let forged = world.sign_by(&node, old[1]);
    assert!(!world.verifies(&node, &forged));
    assert!(!old.contains(&kid(&world.sign(&made)).parse().unwrap()));
}
