//! What is SQLite's own: opening, and what may happen to the file meanwhile.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Barrier;

use doorward_core::id::SessionId;
use doorward_core::session::EndReason;
use doorward_core::store::SessionStore;
use doorward_core::{Policy, Timestamp};
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
    let end = store.end(SessionId([1; 16]), NOW, EndReason::Logout);
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
