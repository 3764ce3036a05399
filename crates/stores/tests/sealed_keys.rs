//! With a seal secret the database's files hold no key in the clear.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::path::Path;
use std::sync::Arc;

use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::testing::TestEnv;
use doorward_core::{Policy, Timestamp};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const SECRET: &[u8] = b"7f0c3a9e51d24b86a1c9e3f05b7d2846";
const SEAL: &[u8] = b"b1946ac92492d2347c6235b4d2611184";

fn open(directory: &Path, seal_secret: Option<&[u8]>) -> Result<KeyRing, String> {
    let store = SqliteStore::open(directory.join("test.db"), Policy::default()).unwrap();
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        key: Some(SECRET.to_vec().into()),
        seal_secret: seal_secret.map(|secret| secret.to_vec().into()),
        ..KeyConfig::default()
    };
    let env = Arc::new(TestEnv::new(Timestamp(1_800_000_000_000), 1));
    let ring = KeyRing::open(&store, config, &Policy::default(), env).block_on();
    ring.map_err(|error| error.to_string())
}

/// Whether any file, the write-ahead log too, holds the bytes.
fn lies_in(directory: &Path, plain: &[u8]) -> bool {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .any(|bytes| bytes.windows(plain.len()).any(|part| part == plain))
}

#[test]
fn a_sealed_database_holds_no_secret_in_the_clear() {
    let (plain, sealed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let unsealed = open(plain.path(), None).unwrap().rows();
    let ring = open(sealed.path(), Some(SEAL)).unwrap();
    assert!(lies_in(plain.path(), SECRET));
    for row in unsealed {
        assert!(lies_in(plain.path(), &row.secret));
        assert!(!lies_in(sealed.path(), &row.secret));
    }
    assert!(!lies_in(sealed.path(), SEAL));
    assert_eq!(open(sealed.path(), Some(SEAL)).unwrap().rows(), ring.rows());
}

#[test]
fn a_sealed_database_opens_with_its_own_secret_only() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), None).unwrap());
    let upgraded = open(directory.path(), Some(SEAL)).unwrap();
    for wrong in [None, Some(&b"591785b794601e212b260e25925636fd"[..])] {
        let error = open(directory.path(), wrong).err().unwrap();
        assert!(error.contains("seal_secret"), "{error}");
    }
    let again = open(directory.path(), Some(SEAL)).unwrap();
    assert_eq!(again.rows(), upgraded.rows());
}

#[test]
fn keys_that_are_sealed_later_leave_nothing_behind_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let plain = open(directory.path(), None).unwrap().rows();
    assert!(
        plain
            .iter()
            .all(|row| lies_in(directory.path(), &row.secret))
    );
    drop(open(directory.path(), Some(SEAL)).unwrap());
    for row in plain {
        assert!(!lies_in(directory.path(), &row.secret));
    }
}
