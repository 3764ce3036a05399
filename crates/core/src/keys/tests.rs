mod lapse;
mod leaks;
mod seals;

use std::sync::Barrier;

use base64_simd::URL_SAFE_NO_PAD;
use pollster::FutureExt as _;

use super::stored::own_key;
use super::*;
use crate::access_token::AccessKey;
use crate::account::Identity;
use crate::csrf::CsrfKind;
use crate::env::millis;
use crate::id::{SessionId, TokenId, UserId};
use crate::memory::MemoryStore;
use crate::revocation::{Bounds, Revocations};
use crate::seal::{Seal, Seals, is_sealed};
use crate::service::{Service, Terms};
use crate::session::{Delivery, Device};
use crate::store::{KeyStore as _, Write};
use crate::testing::TestEnv;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const SECRET: &str = "7f0c3a9e51d24b86a1c9e3f05b7d2846";
const OTHER_SECRET: &str = "46d8b25f07e3c91a68b42d15e9a3c0f7";
const SEAL: &str = "b1946ac92492d2347c6235b4d2611184";
const OTHER_SEAL: &str = "591785b794601e212b260e25925636fd";

/// A store, and a clock that its nodes share.
struct World {
    store: Arc<MemoryStore>,
    env: Arc<TestEnv>,
    policy: Policy,
}

impl World {
    fn new() -> World {
        let policy = Policy::default();
        World {
            store: Arc::new(MemoryStore::new(policy.clone())),
            env: Arc::new(TestEnv::new(NOW, 1)),
            policy,
        }
    }

    fn try_open(&self, config: KeyConfig) -> Result<KeyRing, RingError> {
        KeyRing::open(
            &*self.store,
            config,
            &self.policy,
            Arc::clone(&self.env) as _,
        )
        .block_on()
    }

    fn open(&self, config: KeyConfig) -> KeyRing {
        self.try_open(config).unwrap()
    }

    fn look(&self, config: KeyConfig) -> KeyRing {
        let looked = KeyRing::look(
            &*self.store,
            config,
            &self.policy,
            Arc::clone(&self.env) as _,
        );
        looked.block_on().unwrap()
    }

    fn refused(&self, config: KeyConfig) -> String {
        self.try_open(config).err().unwrap().to_string()
    }

    fn now(&self) -> Timestamp {
        self.env.now()
    }

    fn sign(&self, ring: &KeyRing) -> String {
        ring.sign_access(&self.claims(&UserId::new("ada").unwrap()), self.now())
            .unwrap()
    }

    fn claims<'a>(&self, user: &'a UserId) -> NewClaims<'a> {
        NewClaims {
            user,
            session: SessionId::new(self.now(), &*self.env),
            token: TokenId::random(&*self.env),
            issued_at: self.now(),
            expires_at: self.now() + self.policy.access_ttl,
            fresh_until: self.now(),
            auth_time: self.now(),
            issuer: None,
            audience: None,
            csrf: None,
            nbf: true,
            identity_claim: None,
            custom: None,
        }
    }

    /// A token that somebody makes who has learnt a key.
    fn sign_by(&self, ring: &KeyRing, id: KeyId) -> String {
        let row = row(ring, id);
        let key = AccessKey::of(&row, &row.secret).unwrap();
        let user = UserId::new("ada").unwrap();
        key.sign(&self.claims(&user)).unwrap()
    }

    /// Lets a process live to a moment.
    fn run(&self, ring: &KeyRing, to: Timestamp) {
        while self.now() < to {
            self.env.advance(SECOND);
            self.tick(ring);
        }
    }

    fn verifies(&self, ring: &KeyRing, token: &str) -> bool {
        ring.verify_access(token, self.now(), &self.policy).is_ok()
    }

    fn logs_out(&self, ring: &KeyRing, token: &str) -> bool {
        ring.verify_access_ignoring_times(token, self.now(), &self.policy)
            .is_ok()
    }

    fn rotate(&self, ring: &KeyRing, purpose: Purpose) -> KeyId {
        ring.rotate(&*self.store, purpose).block_on().unwrap()
    }

    fn reload(&self, ring: &KeyRing) -> Result<(), StoreError> {
        ring.reload(&*self.store).block_on()
    }

    fn retire(&self, ring: &KeyRing, id: KeyId) {
        ring.retire(&*self.store, id).block_on().unwrap();
    }

    /// What a process does every second.
    fn tick(&self, ring: &KeyRing) {
        self.reload(ring).unwrap();
        ring.renew(&*self.store).block_on().unwrap();
        ring.prune(&*self.store).block_on().unwrap();
        self.reload(ring).unwrap();
    }

    fn service(&self, ring: KeyRing) -> Service {
        let revocations = Arc::new(Revocations::new(Bounds::of(&self.policy), None));
        let service = Service::new(
            Arc::clone(&self.store) as _,
            Arc::new(ring),
            revocations,
            self.policy.clone(),
            Arc::clone(&self.env) as _,
        );
        service.tick().block_on().unwrap();
        service
    }
}

fn of(algorithm: Algorithm) -> KeyConfig {
    KeyConfig {
        algorithm,
        ..KeyConfig::default()
    }
}

fn own(secret: &str) -> KeyConfig {
    KeyConfig {
        key: Some(secret.as_bytes().to_vec().into()),
        ..of(Algorithm::HS256)
    }
}

fn sealed(config: KeyConfig, seal_secret: &str) -> KeyConfig {
    KeyConfig {
        seal_secret: Some(seal_secret.as_bytes().to_vec().into()),
        ..config
    }
}

/// The key that a token names.
fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = URL_SAFE_NO_PAD.decode_to_vec(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

fn only(ring: &KeyRing, purpose: Purpose) -> StoredKey {
    let mut rows = ring.rows();
    rows.retain(|row| row.purpose == purpose && !row.retired);
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn row(ring: &KeyRing, id: KeyId) -> StoredKey {
    ring.rows().into_iter().find(|row| row.id == id).unwrap()
}

fn ids(ring: &KeyRing, purpose: Purpose) -> Vec<KeyId> {
    let rows = ring.rows().into_iter();
    rows.filter(|row| row.purpose == purpose)
        .map(|row| row.id)
        .collect()
}

// ---- rotation ----

#[test]
fn a_new_key_is_published_before_it_signs() {
    let world = World::new();
    let (node, other) = (
        world.open(KeyConfig::default()),
        world.open(KeyConfig::default()),
    );
    let old = only(&node, Purpose::Access).id;
    let new = world.rotate(&node, Purpose::Access);
    assert_eq!(node.jwks()["keys"].as_array().unwrap().len(), 2);
    assert_eq!(kid(&world.sign(&node)), old.to_string());
    world
        .env
        .set(NOW + PUBLISH_DELAY - Duration::from_millis(1));
    assert_eq!(kid(&world.sign(&node)), old.to_string());
    // The other node polls once in all that time, and knows the key before its first token.
    world.reload(&other).unwrap();
    world.env.advance(Duration::from_millis(1));
    let token = world.sign(&node);
    assert_eq!(kid(&token), new.to_string());
    assert!(world.verifies(&other, &token));
    assert_eq!(kid(&world.sign(&other)), new.to_string());
}

#[test]
fn a_superseded_key_verifies_its_tokens_to_their_end_and_is_known_to_logout_for_a_session() {
    let world = World::new();
    let node = world.open(KeyConfig::default());
    world.env.advance(SECOND);
    let old = only(&node, Purpose::Access).id;
    world.rotate(&node, Purpose::Access);
    world.env.set(world.now() + PUBLISH_DELAY - SECOND);
    let last = world.sign(&node);
    assert_eq!(kid(&last), old.to_string());
    world
        .env
        .set(world.now() + world.policy.access_ttl - SECOND);
    assert!(world.verifies(&node, &last));
    world.env.advance(SECOND);
    assert!(!world.verifies(&node, &last) && world.logs_out(&node, &last));

    let until = row(&node, old).verifies_until;
    world.run(&node, until);
    let forged = world.sign_by(&node, old);
    assert!(!world.verifies(&node, &forged) && !world.logs_out(&node, &forged));
    let span = world.policy.session_ttl + world.policy.revocation_span();
    world.env.set(until + span);
    world.tick(&node);
    assert!(world.logs_out(&node, &last));
    world.env.advance(SECOND);
    world.tick(&node);
    assert_eq!(ids(&node, Purpose::Access).len(), 1);
    assert!(!world.logs_out(&node, &last));
    assert!(world.verifies(&node, &world.sign(&node)));
}

#[test]
fn a_hundred_rotations_refuse_no_good_token() {
    for algorithm in [Algorithm::EdDSA, Algorithm::HS256, Algorithm::ES256] {
        let world = World::new();
        let nodes = [world.open(of(algorithm)), world.open(of(algorithm))];
        let mut tokens = Vec::new();
        for round in 0..100 {
            world.rotate(&nodes[round % 2], Purpose::Access);
            world.env.advance(Duration::from_millis(900));
            world.reload(&nodes[(round + 1) % 2]).unwrap();
            world.tick(&nodes[round % 2]);
            world.env.advance(Duration::from_millis(1900));
            tokens.extend(nodes.iter().map(|node| world.sign(node)));
        }
        let signers: std::collections::BTreeSet<_> =
            tokens.iter().map(|token| kid(token)).collect();
        assert!(signers.len() > 90);
        for node in &nodes {
            assert!(tokens.iter().all(|token| world.verifies(node, token)));
        }
    }
}

#[test]
fn another_algorithm_is_published_before_it_signs() {
    let world = World::new();
    let before = world.open(of(Algorithm::EdDSA));
    let after = world.open(of(Algorithm::ES256));
    let (old, new) = (world.sign(&before), world.sign(&after));
    assert!(world.verifies(&before, &new) && world.verifies(&after, &old));
    world.reload(&before).unwrap();
    world.env.advance(PUBLISH_DELAY);
    let new = world.sign(&after);
    assert_ne!(kid(&new), kid(&old));
    assert!(world.verifies(&before, &new) && world.verifies(&after, &old));
    // Each goes on signing as configured.
    assert_eq!(kid(&world.sign(&before)), kid(&old));
}

#[test]
fn rotating_the_refresh_key_keeps_sessions_alive() {
    let world = World::new();
    let service = world.service(world.open(KeyConfig::default()));
    let keys = Arc::clone(service.keys());
    let identity = Identity {
        user: UserId::new("ada").unwrap(),
        username: None,
        valid_from: None,
        claims: None,
        privileged: false,
    };
    let terms = Terms {
        started_at: world.now(),
        remember: false,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    };
    let mut grant = service.login(identity, terms).block_on().0.unwrap();
    let first = grant.session.refresh_key;
    for _ in 0..100 {
        let _ = world.rotate(&keys, Purpose::Refresh);
        world.env.advance(world.policy.access_ttl);
        world.tick(&keys);
        let refreshed = service.refresh(grant.refresh.as_str(), Delivery::Body);
        grant = service.grant(refreshed.block_on().0.unwrap()).unwrap();
    }
    // Two rotations on, the row has left its first key: retiring that ends no session.
    assert_ne!(grant.session.refresh_key, first);
    world.retire(&keys, first);
    let refreshed = service.refresh(grant.refresh.as_str(), Delivery::Body);
    assert!(refreshed.block_on().0.is_ok());
    service.tick().block_on().unwrap();
    assert!(service.verify(grant.access.as_str()).is_ok());
}

#[test]
fn a_session_on_a_retired_refresh_key_is_over() {
    let world = World::new();
    let service = world.service(world.open(KeyConfig::default()));
    let keys = Arc::clone(service.keys());
    let identity = Identity {
        user: UserId::new("ada").unwrap(),
        username: None,
        valid_from: None,
        claims: None,
        privileged: false,
    };
    let terms = Terms {
        started_at: world.now(),
        remember: false,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    };
    let grant = service
        .login(identity.clone(), terms.clone())
        .block_on()
        .0
        .unwrap();
    world.retire(&keys, grant.session.refresh_key);
    let refused = service
        .refresh(grant.refresh.as_str(), Delivery::Body)
        .block_on()
        .0;
    assert_eq!(refused.unwrap_err(), Error::TokenInvalid);
    // A new key took its place.
    assert!(service.login(identity, terms).block_on().0.is_ok());
}

// ---- retirement ----

#[test]
fn a_retired_key_verifies_nothing_even_what_was_cached() {
    let world = World::new();
    let (node, other) = (
        world.open(KeyConfig::default()),
        world.open(KeyConfig::default()),
    );
    let token = world.sign(&node);
    assert!(world.verifies(&node, &token) && world.verifies(&other, &token));
    let id = only(&node, Purpose::Access).id;
    world.retire(&node, id);
    world.reload(&other).unwrap();
    for ring in [&node, &other] {
        assert!(!world.verifies(ring, &token) && !world.logs_out(ring, &token));
        let new = world.sign(ring);
        assert_ne!(kid(&new), id.to_string());
        assert!(world.verifies(&node, &new) && world.verifies(&other, &new));
    }
    let row = node.rows().into_iter().find(|row| row.id == id).unwrap();
    assert!(row.retired && row.secret.is_empty());
    // Once more changes nothing, and an unknown id is told.
    world.retire(&node, id);
    let unknown = node.retire(&*world.store, KeyId(1)).block_on();
    assert!(unknown.unwrap_err().to_string().contains("keys list"));
}

#[test]
fn a_retired_configured_key_signs_nothing_and_never_joins_again() {
    let world = World::new();
    let node = world.open(own(SECRET));
    let id = only(&node, Purpose::Access).id;
    world.retire(&node, id);
    let user = UserId::new("ada").unwrap();
    let signed = node.sign_access(&world.claims(&user), world.now());
    assert_eq!(signed.unwrap_err(), Error::StoreUnavailable);
    assert!(world.refused(own(SECRET)).contains("retired"));
    world.env.advance(Duration::from_secs(10 * 366 * 24 * 3600));
    let next = world.open(own(OTHER_SECRET));
    let token = world.sign(&next);
    assert!(world.verifies(&next, &token));
    let later = world.open(own("9a0364b9e99bb480dd25e1f0284c8555"));
    world.env.advance(Duration::from_secs(10 * 366 * 24 * 3600));
    world.tick(&later);
    assert!(world.refused(own(SECRET)).contains("retired"));
}

#[test]
fn the_successor_of_a_retired_key_has_its_algorithm_whoever_retires_it() {
    let world = World::new();
    let server = world.open(of(Algorithm::ES256));
    let command = world.look(of(Algorithm::EdDSA));
    world.retire(&command, only(&server, Purpose::Access).id);
    world.reload(&server).unwrap();
    let successor = only(&server, Purpose::Access);
    assert_eq!(&*successor.algorithm, "ES256");
    assert_eq!(kid(&world.sign(&server)), successor.id.to_string());
    world.rotate(&command, Purpose::Access);
    let rows = server.rows();
    assert!(
        rows.iter()
            .all(|row| row.purpose == Purpose::Refresh || &*row.algorithm == "ES256")
    );
}

#[test]
fn a_key_that_another_algorithm_superseded_gets_no_successor() {
    let world = World::new();
    let old = only(&world.open(of(Algorithm::EdDSA)), Purpose::Access).id;
    let node = world.open(of(Algorithm::ES256));
    world.retire(&node, old);
    assert_eq!(&*only(&node, Purpose::Access).algorithm, "ES256");
}

#[test]
fn a_look_at_the_ring_writes_nothing() {
    let world = World::new();
    let rows = || world.store.keys().block_on().unwrap();
    for config in [
        of(Algorithm::EdDSA),
        own(SECRET),
        sealed(of(Algorithm::HS256), SEAL),
    ] {
        world.look(config);
        assert_eq!(rows(), []);
    }
    let node = world.open(of(Algorithm::EdDSA));
    let before = rows();
    for config in [
        of(Algorithm::ES256),
        own(SECRET),
        sealed(KeyConfig::default(), SEAL),
    ] {
        world.look(config);
        assert_eq!(rows(), before);
    }
    assert!(node.can_sign(world.now()).is_ok());
}

#[test]
fn a_look_refuses_what_a_start_would() {
    let world = World::new();
    let node = world.open(sealed(own(SECRET), SEAL));
    let looks = |config| {
        let env = Arc::clone(&world.env) as _;
        KeyRing::look(&*world.store, config, &world.policy, env).block_on()
    };
    assert!(looks(own(SECRET)).is_err() && looks(sealed(own(SECRET), OTHER_SEAL)).is_err());
    world.retire(&node, only(&node, Purpose::Access).id);
    let refused = looks(sealed(own(SECRET), SEAL)).err().unwrap();
    assert!(refused.to_string().contains("retired"), "{refused}");
}

#[test]
fn a_ring_that_cannot_sign_says_why() {
    let world = World::new();
    let node = world.open(own(SECRET));
    assert_eq!(node.can_sign(world.now()), Ok(()));
    world.retire(&node, only(&node, Purpose::Access).id);
    assert_eq!(node.can_sign(world.now()), Err(RETIRED));
    let empty = World::new().look(KeyConfig::default());
    assert_eq!(empty.can_sign(world.now()), Err(NO_KEY));
}

#[test]
fn where_every_key_was_retired_a_start_makes_a_new_one() {
    let world = World::new();
    let node = world.open(own(SECRET));
    world.retire(&node, only(&node, Purpose::Access).id);
    let next = world.open(of(Algorithm::HS256));
    assert!(world.verifies(&next, &world.sign(&next)));
    // As after a crash between the two writes of a retirement.
    let refresh = only(&next, Purpose::Refresh);
    let retired = StoredKey {
        retired: true,
        secret: [].into(),
        ..refresh
    };
    assert_eq!(
        world.store.update_keys(vec![retired]).block_on().unwrap(),
        Write::Done
    );
    let next = world.open(of(Algorithm::HS256));
    assert!(next.current_refresh(world.now()).is_ok());
}

#[test]
fn a_key_that_superseded_and_was_retired_outlives_nothing() {
    let world = World::new();
    let node = world.open(KeyConfig::default());
    let old = only(&node, Purpose::Access).id;
    let new = world.rotate(&node, Purpose::Access);
    world.env.advance(PUBLISH_DELAY);
    world.retire(&node, new);
    assert_eq!(kid(&world.sign(&node)), old.to_string());
    world.env.advance(world.policy.session_ttl * 2);
    world.tick(&node);
    assert!(world.verifies(&node, &world.sign(&node)));
}

// ---- the operator's own key ----

#[test]
fn a_configured_key_joins_before_it_signs() {
    let world = World::new();
    let (old, new) = (world.open(own(SECRET)), world.open(own(OTHER_SECRET)));
    let first = world.sign(&old);
    assert!(world.verifies(&new, &first));
    assert!(world.verifies(&old, &world.sign(&new)));
    world.env.advance(PUBLISH_DELAY);
    world.reload(&old).unwrap();
    let second = world.sign(&new);
    assert_ne!(kid(&first), kid(&second));
    assert!(world.verifies(&old, &second) && world.verifies(&new, &first));
    // The same key again is the same entry, and signs at once.
    let again = world.open(own(OTHER_SECRET));
    assert_eq!(kid(&world.sign(&again)), kid(&second));
    assert_eq!(ids(&again, Purpose::Access).len(), 2);
}

#[test]
fn a_configured_key_is_not_rotated_but_replaced() {
    let world = World::new();
    let node = world.open(own(SECRET));
    let refused = node.rotate(&*world.store, Purpose::Access).block_on();
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("configure another")
    );
    assert!(
        node.rotate(&*world.store, Purpose::Refresh)
            .block_on()
            .is_ok()
    );
}

#[test]
fn a_configured_key_in_use_is_not_pruned_by_others() {
    let world = World::new();
    let (one, two) = (world.open(own(SECRET)), world.open(own(OTHER_SECRET)));
    for _ in 0..40 {
        world.env.advance(Duration::from_secs(20 * 24 * 3600));
        for ring in [&one, &two, &one] {
            world.tick(ring);
        }
        world.env.advance(PUBLISH_DELAY);
        let (a, b) = (world.sign(&one), world.sign(&two));
        assert_ne!(kid(&a), kid(&b));
        assert!([&a, &b].iter().all(|token| world.verifies(&one, token)));
        assert!([&a, &b].iter().all(|token| world.verifies(&two, token)));
    }
}

#[test]
fn a_configured_key_is_not_pruned_by_its_own_process_after_a_long_sleep() {
    let world = World::new();
    let (one, _) = (world.open(own(SECRET)), world.open(own(OTHER_SECRET)));
    world.reload(&one).unwrap();
    world.env.advance(world.policy.session_ttl * 3);
    world.tick(&one);
    assert!(world.verifies(&one, &world.sign(&one)));
}

#[test]
fn weak_secrets_are_refused_in_words() {
    let world = World::new();
    for weak in [
        "",
        "0f1e2d3c4b5a69788796a5b4c3d2e1f",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abcabcabcabcabcabcabcabcabcabcabcabc",
        "this-is-a-SECRET-that-I-typed-myself",
        "Your-256-Bit-key-of-the-tutorial-page",
    ] {
        assert!(world.refused(own(weak)).contains("openssl rand"), "{weak}");
    }
    assert!(world.store.keys().block_on().unwrap().is_empty());
}

// ---- the first start ----

#[test]
fn processes_that_start_together_agree_on_one_key() {
    for round in 0..40 {
        let world = World::new();
        let start = Barrier::new(4);
        let config = if round % 2 == 0 {
            KeyConfig::default()
        } else {
            sealed(of(Algorithm::HS256), SEAL)
        };
        let open = || {
            start.wait();
            world.open(config.clone())
        };
        let rings: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(world.store.keys().block_on().unwrap().len(), 2);
        let tokens: Vec<_> = rings.iter().map(|ring| world.sign(ring)).collect();
        for ring in &rings {
            assert!(tokens.iter().all(|token| world.verifies(ring, token)));
        }
    }
}

// ---- JWKS ----

#[test]
fn the_jwks_has_the_public_members_of_each_algorithm_and_no_others() {
    for (algorithm, members) in [
        (
            Algorithm::EdDSA,
            &["alg", "crv", "kid", "kty", "use", "x"][..],
        ),
        (
            Algorithm::ES256,
            &["alg", "crv", "kid", "kty", "use", "x", "y"],
        ),
        (Algorithm::RS256, &["alg", "e", "kid", "kty", "n", "use"]),
        (Algorithm::PS256, &["alg", "e", "kid", "kty", "n", "use"]),
    ] {
        let world = World::new();
        let node = world.open(of(algorithm));
        let jwks = node.jwks();
        let key = jwks["keys"][0].as_object().unwrap();
        assert_eq!(key.keys().collect::<Vec<_>>(), members);
        assert_eq!(key["alg"], algorithm.name());
        assert_eq!(key["use"], "sig");
        assert_eq!(key["kid"], only(&node, Purpose::Access).id.to_string());
        let bytes = |name: &str| {
            let text = key[name].as_str().unwrap();
            URL_SAFE_NO_PAD.decode_to_vec(text).unwrap()
        };
        match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => {
                assert_eq!((bytes("n").len(), bytes("e").len()), (384, 3));
            }
            _ => assert_eq!(bytes("x").len(), 32),
        }
    }
    let secret = World::new().open(of(Algorithm::HS256)).jwks();
    assert_eq!(secret, serde_json::json!({"keys": []}));
}

// ---- sealing ----

/// Remembers every secret that was drawn.
struct Recording {
    env: TestEnv,
    drawn: Mutex<Vec<Vec<u8>>>,
}

impl Env for Recording {
    fn now(&self) -> Timestamp {
        self.env.now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.env.fill(bytes);
        self.drawn.lock().unwrap().push(bytes.to_vec());
    }
}

fn contains(rows: &[StoredKey], plain: &[u8]) -> bool {
    let within = |row: &StoredKey| row.secret.windows(plain.len()).any(|part| part == plain);
    rows.iter().any(within)
}

#[test]
fn a_sealed_store_gets_no_secret_in_the_clear() {
    for seals in [true, false] {
        for config in [KeyConfig::default(), of(Algorithm::HS256), own(SECRET)] {
            let seal_secret = seals.then(|| SEAL.as_bytes().to_vec().into());
            let config = KeyConfig {
                seal_secret,
                ..config
            };
            let configured = config.key.is_some();
            let world = World::new();
            let env = Arc::new(Recording {
                env: TestEnv::new(NOW, 5),
                drawn: Mutex::default(),
            });
            let ring = KeyRing::open(&*world.store, config, &world.policy, Arc::clone(&env) as _);
            let ring = ring.block_on().unwrap();
            if !configured {
                world.rotate(&ring, Purpose::Access);
            }
            world.rotate(&ring, Purpose::Refresh);
            let rows = world.store.keys().block_on().unwrap();
            let drawn = env.drawn.lock().unwrap();
            let mut secrets: Vec<_> = drawn.iter().filter(|drawn| drawn.len() == 32).collect();
            let own = SECRET.as_bytes().to_vec();
            secrets.extend(configured.then_some(&own));
            assert_eq!(secrets.len(), rows.len());
            assert!(
                secrets
                    .iter()
                    .all(|secret| contains(&rows, secret) != seals)
            );
        }
    }
}

#[test]
fn the_same_seal_secret_opens_the_ring_again() {
    for config in [KeyConfig::default(), of(Algorithm::ES256), own(SECRET)] {
        let world = World::new();
        let node = world.open(sealed(config.clone(), SEAL));
        let token = world.sign(&node);
        let again = world.open(sealed(config, SEAL));
        assert_eq!(again.rows(), node.rows());
        assert!(world.verifies(&again, &token));
        assert!(world.verifies(&node, &world.sign(&again)));
        let refresh = |ring: &KeyRing| ring.current_refresh(world.now()).unwrap().tag(b"x");
        assert_eq!(refresh(&node), refresh(&again));
    }
}

#[test]
fn a_wrong_or_missing_seal_secret_refuses_to_start_and_changes_nothing() {
    for config in [KeyConfig::default(), own(SECRET)] {
        let world = World::new();
        let node = world.open(sealed(config.clone(), SEAL));
        for wrong in [config.clone(), sealed(config.clone(), OTHER_SEAL)] {
            let error = world.refused(wrong);
            assert!(error.contains("seal_secret"), "{error}");
        }
        assert_eq!(world.store.keys().block_on().unwrap(), node.rows());
    }
}

#[test]
fn one_sealed_key_is_enough_to_ask_for_the_seal_secret() {
    let world = World::new();
    let node = world.open(KeyConfig::default());
    let seal = Seal::new(SEAL.as_bytes()).unwrap();
    let one = StoredKey {
        id: KeyId(1),
        ..only(&node, Purpose::Access)
    };
    let one = seal.seal(&one, &*world.env).unwrap();
    let added = world.store.add_key(one, false).block_on();
    assert_eq!(added.unwrap(), Write::Done);
    let error = world.refused(KeyConfig::default());
    assert!(error.contains("seal_secret is missing"), "{error}");
    assert!(world.reload(&node).is_err());
}

#[test]
fn one_purpose_whose_keys_do_not_authenticate_is_enough_to_refuse() {
    let world = World::new();
    let node = world.open(sealed(KeyConfig::default(), SEAL));
    let mut damaged = only(&node, Purpose::Refresh);
    let last = damaged.secret.len() - 1;
    damaged.secret[last] ^= 1;
    let update = world.store.update_keys(vec![damaged]);
    assert_eq!(update.block_on().unwrap(), Write::Done);
    let error = world.refused(sealed(KeyConfig::default(), SEAL));
    assert!(error.contains("seal_secret"), "{error}");
}

#[test]
fn a_key_that_raced_the_sealing_is_no_key_and_stops_nobody() {
    let world = World::new();
    let node = world.open(KeyConfig::default());
    let plain = only(&node, Purpose::Access);
    let seal = Seal::new(SEAL.as_bytes()).unwrap();
    let refresh = seal
        .seal(&only(&node, Purpose::Refresh), &*world.env)
        .unwrap();
    let update = world.store.update_keys(vec![refresh]);
    assert_eq!(update.block_on().unwrap(), Write::Done);
    let raced = world.sign(&node);
    let sealed = world.open(sealed(KeyConfig::default(), SEAL));
    let token = world.sign(&sealed);
    assert!(world.verifies(&sealed, &token));
    assert_ne!(kid(&token), plain.id.to_string());
    assert!(
        !world.verifies(&sealed, &raced),
        "whoever wrote it, it was not sealed"
    );
}

#[test]
fn a_new_seal_secret_seals_what_lies_there_and_loses_nothing() {
    let world = World::new();
    let node = world.open(own(SECRET));
    world.rotate(&node, Purpose::Refresh);
    let token = world.sign(&node);
    let plain = world.store.keys().block_on().unwrap();
    let upgraded = world.open(sealed(own(SECRET), SEAL));
    let rows = world.store.keys().block_on().unwrap();
    assert_eq!(rows.len(), plain.len());
    assert!(plain.iter().all(|row| !contains(&rows, &row.secret)));
    assert!(world.verifies(&upgraded, &token));
    // A node that was not told goes on with what it has, and says that it cannot follow.
    let error = world.reload(&node).unwrap_err();
    assert!(error.0.contains("seal_secret"), "{error}");
    assert!(world.verifies(&node, &world.sign(&upgraded)));
    assert!(
        node.rotate(&*world.store, Purpose::Refresh)
            .block_on()
            .is_err()
    );
}

#[test]
fn a_retired_key_stays_retired_when_the_others_are_sealed() {
    let world = World::new();
    let node = world.open(KeyConfig::default());
    let id = only(&node, Purpose::Access).id;
    world.retire(&node, id);
    let upgraded = world.open(sealed(KeyConfig::default(), SEAL));
    let row = upgraded
        .rows()
        .into_iter()
        .find(|row| row.id == id)
        .unwrap();
    assert!(row.retired && row.secret.is_empty());
}

#[test]
fn an_entry_that_does_not_authenticate_is_ignored() {
    let world = World::new();
    let node = world.open(sealed(of(Algorithm::HS256), SEAL));
    let foreign = Seal::new(OTHER_SEAL.as_bytes()).unwrap();
    let planted = StoredKey {
        id: KeyId(0xbad),
        secret: OTHER_SECRET.as_bytes().into(),
        signs_from: world.now(),
        ..only(&node, Purpose::Access)
    };
    let elsewhere = StoredKey {
        id: KeyId(0xbad2),
        ..foreign.seal(&planted, &*world.env).unwrap()
    };
    let moved = StoredKey {
        id: KeyId(0xbad3),
        ..only(&node, Purpose::Access)
    };
    for row in [planted.clone(), elsewhere, moved] {
        assert_eq!(
            world.store.add_key(row, false).block_on().unwrap(),
            Write::Done
        );
    }
    world.reload(&node).unwrap();
    let culprit = AccessKey::of(&planted, &planted.secret).unwrap();
    let user = UserId::new("ada").unwrap();
    let forged = culprit.sign(&world.claims(&user)).unwrap();
    // A restart seals nothing that somebody planted.
    for ring in [node, world.open(sealed(of(Algorithm::HS256), SEAL))] {
        assert!(!world.verifies(&ring, &forged));
        assert!(!kid(&world.sign(&ring)).contains("bad"));
        assert!(world.verifies(&ring, &world.sign(&ring)));
    }
}

#[test]
fn keys_are_rotated_and_retired_under_a_seal() {
    let world = World::new();
    let node = world.open(sealed(KeyConfig::default(), SEAL));
    let (old, token) = (only(&node, Purpose::Access).id, world.sign(&node));
    let new = world.rotate(&node, Purpose::Access);
    world.env.advance(PUBLISH_DELAY);
    assert_eq!(kid(&world.sign(&node)), new.to_string());
    assert!(world.verifies(&node, &token));
    world.retire(&node, old);
    assert!(!world.verifies(&node, &token));
    world.retire(&node, new);
    let again = world.open(sealed(KeyConfig::default(), SEAL));
    assert!(world.verifies(&again, &world.sign(&node)));
    let rows = world.store.keys().block_on().unwrap();
    assert!(rows.iter().all(|row| row.retired || is_sealed(row)));
}

#[test]
fn a_seal_secret_is_strong_and_its_own() {
    let world = World::new();
    let error = world.refused(sealed(own(SECRET), SECRET));
    assert!(error.contains("seal_secret must differ"), "{error}");
    let error = world.refused(sealed(KeyConfig::default(), "short"));
    assert!(error.contains("seal_secret"), "{error}");
    assert!(world.store.keys().block_on().unwrap().is_empty());
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let config = sealed(own(SECRET), SEAL);
    let world = World::new();
    let ring = world.open(own(SECRET));
    let shown = format!("{config:?} {:?}", ring.rows());
    let secret = format!("{:?}", SECRET.as_bytes());
    assert!(!shown.contains(&SECRET[..8]) && !shown.contains(&SEAL[..8]));
    assert!(!shown.contains(&secret[1..20]), "{shown}");
}

#[test]
fn what_requests_repeat_differs_by_session_kind_and_key() {
    let key = RefreshKey::new(KeyId(1), &[7; 32]);
    let of = |key: &RefreshKey, session, kind| key.csrf(SessionId([session; 16]), kind);
    let value = of(&key, 1, CsrfKind::Refresh);
    assert!(value.is(of(&key, 1, CsrfKind::Refresh).as_str().as_bytes()));
    let others = [
        of(&key, 2, CsrfKind::Refresh),
        of(&key, 1, CsrfKind::Access),
        of(&RefreshKey::new(KeyId(1), &[8; 32]), 1, CsrfKind::Refresh),
    ];
    for other in others {
        assert!(!value.is(other.as_str().as_bytes()));
    }
}
