//! Who has the database of a sealed system has no token: everything in it is tried as a key.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD as BASE64URL;
use doorward_core::account::Identity;
use doorward_core::keys::{Algorithm, KeyConfig, KeyId, RefreshKey};
use doorward_core::refresh_token::RefreshToken;
use doorward_core::service::Terms;
use doorward_core::session::{Delivery, Device, Session};
use doorward_core::testing::TestEnv;
use doorward_core::{CsrfKind, Engine, EngineConfig, Env, Policy, Timestamp, UserId};
use doorward_stores::SqliteStore;
use hmac::{Hmac, KeyInit, Mac};
use pollster::FutureExt as _;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::Sha256;

const SEAL: &[u8] = b"b1946ac92492d2347c6235b4d2611184";
const SECRET: &[u8] = b"7f0c3a9e51d24b86a1c9e3f05b7d2846";
const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// What a thief makes of the file that the running system takes.
type Loot = BTreeSet<&'static str>;

struct System {
    engine: Engine,
    sessions: Vec<Session>,
    texts: Vec<String>,
}

fn run(directory: &Path, config: KeyConfig) -> System {
    let policy = Policy {
        csrf: true,
        ..Policy::default()
    };
    let store = Arc::new(SqliteStore::open(directory.join("test.db"), policy.clone()).unwrap());
    let config = EngineConfig {
        policy,
        key: config,
        ..EngineConfig::default()
    };
    let env = Arc::new(TestEnv::new(NOW, 1));
    let engine = Engine::open(store, config, Arc::clone(&env) as _);
    let engine = engine.block_on().unwrap();
    let (mut sessions, mut texts) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let grant = engine.service().login(identity(), terms(env.now()));
        let grant = grant.block_on().0.unwrap();
        let refreshed = engine
            .service()
            .refresh(grant.refresh.as_str(), Delivery::Body);
        let grant = engine
            .service()
            .grant(refreshed.block_on().0.unwrap())
            .unwrap();
        texts.extend([
            grant.refresh.as_str().to_owned(),
            grant.access.as_str().to_owned(),
        ]);
        sessions.push(grant.session);
    }
    System {
        engine,
        sessions,
        texts,
    }
}

fn identity() -> Identity {
    Identity {
        user: UserId::new("ada").unwrap(),
        username: None,
        valid_from: None,
        claims: None,
        privileged: false,
    }
}

fn terms(started_at: Timestamp) -> Terms {
    Terms {
        started_at,
        remember: true,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    }
}

/// Every value of every table, and each piece of it that is as long as a key.
fn values(file: &Path) -> BTreeSet<Vec<u8>> {
    let db = Connection::open(file).unwrap();
    let mut tables = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut found = BTreeSet::new();
    for table in tables.map(Result::unwrap) {
        let mut select = db.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                match row.get_ref(column).unwrap() {
                    ValueRef::Blob(bytes) | ValueRef::Text(bytes) => {
                        found.extend(bytes.windows(32).map(<[u8]>::to_vec));
                        found.insert(bytes.to_vec());
                    }
                    ValueRef::Integer(number) => {
                        found.insert(number.to_be_bytes().to_vec());
                    }
                    ValueRef::Null | ValueRef::Real(_) => {}
                }
            }
        }
    }
    found
}

/// Tries every value as the root of refresh keys, and as the key of access tokens.
fn attack(system: &System, file: &Path) -> Loot {
    let (mut loot, session) = (Loot::new(), &system.sessions[0]);
    let keys = system.engine.service().keys();
    for key in keys.rows() {
        for value in values(file) {
            let forger = RefreshKey::new(key.id, &value);
            let real = keys.refresh_key(key.id);
            let csrf = forger.csrf(session.id, CsrfKind::Access);
            let is_csrf = |real: &RefreshKey| {
                let real = real.csrf(session.id, CsrfKind::Access);
                real.is(csrf.as_str().as_bytes())
            };
            let is_device = |real: &RefreshKey| {
                real.device_tag(b"", &[0; 32], "ada") == forger.device_tag(b"", &[0; 32], "ada")
            };
            let taken = [
                ("access", takes_access(system, key.id, session, &value)),
                ("refresh", takes_refresh(system, session, &forger)),
                ("csrf", real.as_deref().is_some_and(is_csrf)),
                ("device", real.as_deref().is_some_and(is_device)),
            ];
            loot.extend(
                taken
                    .iter()
                    .filter(|(_, taken)| *taken)
                    .map(|(kind, _)| kind),
            );
        }
    }
    loot
}

/// The next token of a live session: all that it says is in the row.
fn takes_refresh(system: &System, session: &Session, forger: &RefreshKey) -> bool {
    let token = RefreshToken {
        key: forger.id(),
        session: session.id,
        id: forger.child_id(session.id, session.confirmed, session.attempt),
        parent: session.confirmed,
        generation: u32::try_from(session.generation + 1).unwrap(),
        issued_at: NOW,
    };
    let text = token.sign(forger);
    let refreshed = system
        .engine
        .service()
        .refresh(text.as_str(), Delivery::Body);
    refreshed.block_on().0.is_ok()
}

fn takes_access(system: &System, key: KeyId, session: &Session, secret: &[u8]) -> bool {
    let header = format!(r#"{{"alg":"HS256","kid":"{key}","typ":"JWT"}}"#);
    let now = NOW.seconds();
    let claims = format!(
        r#"{{"sub":"root","sid":"{}","jti":"{}","iat":{now},"nbf":{now},"exp":{},"type":"access","fresh":{now},"auth_time":{now},"csrf":"x"}}"#,
        session.id,
        BASE64URL.encode_to_string([0; 16]),
        now + 600
    );
    let signed = [header, claims]
        .map(|part| BASE64URL.encode_to_string(part))
        .join(".");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    let token = format!(
        "{signed}.{}",
        BASE64URL.encode_to_string(mac.finalize().into_bytes())
    );
    system.engine.service().verify(&token).is_ok()
}

/// All bytes of all files: free pages and the write-ahead log too.
fn lies_in(directory: &Path, plain: &[u8]) -> bool {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .any(|bytes| bytes.windows(plain.len()).any(|part| part == plain))
}

fn configs() -> [KeyConfig; 2] {
    let made = KeyConfig {
        algorithm: Algorithm::HS256,
        ..KeyConfig::default()
    };
    let own = KeyConfig {
        key: Some(SECRET.to_vec().into()),
        ..made.clone()
    };
    [made, own]
}

#[test]
fn a_database_without_a_seal_yields_tokens_of_each_kind() {
    for config in configs() {
        let directory = tempfile::tempdir().unwrap();
        let system = run(directory.path(), config);
        let loot = attack(&system, &directory.path().join("test.db"));
        let all = Loot::from(["access", "refresh", "csrf", "device"]);
        assert_eq!(loot, all);
    }
}

#[test]
fn a_sealed_database_yields_none() {
    for config in configs() {
        let directory = tempfile::tempdir().unwrap();
        let sealed = KeyConfig {
            seal_secret: Some(SEAL.to_vec().into()),
            ..config
        };
        let system = run(directory.path(), sealed);
        let loot = attack(&system, &directory.path().join("test.db"));
        assert_eq!(loot, Loot::new());
        for secret in [SECRET, SEAL] {
            assert!(!lies_in(directory.path(), secret));
        }
    }
}

#[test]
fn no_token_lies_in_a_database_sealed_or_not() {
    for seal_secret in [None, Some(SEAL.to_vec().into())] {
        let directory = tempfile::tempdir().unwrap();
        let [config, _] = configs();
        let config = KeyConfig {
            seal_secret,
            ..config
        };
        let system = run(directory.path(), config);
        for text in &system.texts {
            assert!(!lies_in(directory.path(), text.as_bytes()));
            // Nor what makes it one: its MAC or signature, as text or as bytes.
            let mac = &text[text.len() - 43..];
            assert!(!lies_in(directory.path(), mac.as_bytes()));
            let bytes = BASE64URL.decode_to_vec(mac).unwrap_or_default();
            assert!(bytes.is_empty() || !lies_in(directory.path(), &bytes));
        }
    }
}
