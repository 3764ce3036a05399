//! What is SQLite's own: opening, and what may happen to the file meanwhile.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use doorward_core::id::SessionId;
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::session::EndReason;
use doorward_core::store::{KeyStore as _, SessionStore};
use doorward_core::{Env as _, Policy, SystemEnv, Timestamp};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Policy::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn all_who_open_a_new_file_at_once_get_it() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let together = Barrier::new(6);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    together.wait();
                    open(&path);
                });
            }
        });
    }
}

#[test]
fn opening_what_is_up_to_date_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let _first = open(&path);
    let wal = || {
        std::fs::metadata(directory.path().join("test.db-wal"))
            .unwrap()
            .len()
    };
    let before = wal();
    let _second = open(&path);
    assert_eq!(wal(), before);
}

const SECRET: &[u8] = b"7f0c3a9e51d24b86a1c9e3f05b7d2846";

/// A file as the version before left it: a key that was made, one that joined, one that was retired.
fn of_an_earlier_version(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    for migration in [
        include_str!("../migrations/0001_sessions.sql"),
        include_str!("../migrations/0002_rotations.sql"),
    ] {
        db.execute_batch(migration).unwrap();
    }
    let joined = doorward_core::keys::KeyId::from_str("9a330518164321fa").unwrap();
    for (id, purpose, secret, retired) in [
        (7, "refresh", &[7; 32][..], false),
        (8, "access", &[8; 32], false),
        (joined.0.cast_signed(), "access", SECRET, false),
        (9, "access", &[], true),
    ] {
        let sql = "INSERT INTO keys (id, purpose, algorithm, secret, created_at, signs_from, \
            retired) VALUES (?1, ?2, 'HS256', ?3, 5, 5, ?4)";
        db.execute(sql, (id, purpose, secret, retired)).unwrap();
    }
    db.pragma_update(None, "application_id", 0x4457_5244)
        .unwrap();
    db.pragma_update(None, "user_version", 2).unwrap();
}

#[test]
fn the_keys_of_an_earlier_version_go_on_verifying() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    of_an_earlier_version(&path);
    let (store, policy) = (open(&path), Policy::default());
    let now = SystemEnv.now();
    for row in store.keys().block_on().unwrap() {
        let day = Duration::from_secs(24 * 3600);
        assert!(row.verifies_until > now + day, "{row:?}");
        assert_eq!(&*row.scopes, "");
    }
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        key: Some(SECRET.to_vec().into()),
        ..KeyConfig::default()
    };
    let ring = KeyRing::open(&store, config, &policy, Arc::new(SystemEnv))
        .block_on()
        .unwrap();
    let rows = ring.rows();
    assert_eq!(
        rows.len(),
        4,
        "the configured key is the one that had joined"
    );
    assert_eq!(&*rows[2].scopes, "[null,null]");
    assert_eq!(ring.can_sign(now), Ok(()));
    assert_eq!(ring.current_refresh(now).unwrap().id().0, 7);
}

#[test]
fn a_file_that_was_replaced_takes_no_more_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (
        directory.path().join("test.db"),
        directory.path().join("backup.db"),
    );
    open(&backup);
    let store = open(&path);
    assert!(store.ended_after(0, 10).block_on().is_ok());
    std::fs::rename(&backup, &path).unwrap();
    let trail = doorward_core::event::Trail::default();
    let end = store.end(SessionId([1; 16]), NOW, EndReason::Logout, &trail);
    let error = end.block_on().unwrap_err();
    assert!(error.0.contains("replaced"), "{error}");
    assert!(store.ended_after(0, 10).block_on().is_err());
}

#[test]
fn a_link_and_its_file_are_one_store_with_one_ring() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (
        directory.path().join("test.db"),
        directory.path().join("link.db"),
    );
    let one = open(&path);
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let other = open(&link);
    assert!(!directory.path().join("link.db-ring").exists());
    assert_eq!(one.feed().unwrap().head(), other.feed().unwrap().head());
    assert_eq!(one.slow_to_spread(), None);
}
