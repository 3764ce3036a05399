//! Versions beside each other: every schema there ever was opens, and a process goes on while a newer
//! version changes the file under it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::KeyId;
use doorward_core::session::{EndReason, Session};
use doorward_core::store::{
    AccountStore as _, KeyStore as _, SessionStore as _, Store, ValidFrom, Write,
};
use doorward_core::transfer::{Kind, MovableStore, TransferStore as _};
use doorward_core::{Policy, Timestamp, event::Trail};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;
use rusqlite::Connection;

#[cfg(feature = "postgres")]
#[path = "servers/postgres.rs"]
mod postgres;
#[cfg(feature = "postgres")]
#[path = "servers/rings.rs"]
mod rings;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Each as its version left it, with the same three sessions in it.
const FIXTURES: [&str; 9] = [
    include_str!("fixtures/0001_sessions.sql"),
    include_str!("fixtures/0002_rotations.sql"),
    include_str!("fixtures/0003_keys.sql"),
    include_str!("fixtures/0004_throttle.sql"),
    include_str!("fixtures/0005_events.sql"),
    include_str!("fixtures/0006_limits.sql"),
    include_str!("fixtures/0007_adopted.sql"),
    include_str!("fixtures/0008_outbox.sql"),
    include_str!("fixtures/0009_marks.sql"),
];

#[cfg(feature = "postgres")]
const POSTGRES: [&str; 2] = [
    include_str!("fixtures/postgres/0001_sessions.sql"),
    include_str!("fixtures/postgres/0002_endings.sql"),
];

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Policy::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn id(number: u8) -> SessionId {
    let mut bytes = [number; 16];
    bytes[..6].copy_from_slice(&NOW.0.to_be_bytes()[2..]);
    bytes[6..9].copy_from_slice(&[0x70, number, 0x80]);
    SessionId(bytes)
}

fn next(row: Session) -> Session {
    Session {
        confirmed: TokenId([9; 16]),
        previous: Some(row.confirmed),
        generation: row.generation + 1,
        version: row.version + 1,
        ..row
    }
}

#[test]
fn a_database_of_every_version_opens_and_its_sessions_go_on() {
    let migrations = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"));
    let files = migrations.unwrap().map(|entry| entry.unwrap().path());
    let count = files.filter(|path| path.is_file()).count();
    assert_eq!(count, FIXTURES.len(), "keep one of each");
    for (version, dump) in (1..).zip(FIXTURES) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(dump)
            .unwrap();
        let store = open(&path);
        // The log of rotations came with the second version.
        goes_on(&store, version, u64::from(version >= 2));
        drop(store);
        let again = open(&path);
        let kept = again.load(id(1)).block_on().unwrap().unwrap();
        assert_eq!(kept.confirmed, TokenId([9; 16]), "{version}");
    }
}

/// `bobs`: the version of one session's row.
fn goes_on(store: &dyn MovableStore, version: usize, bobs: u64) {
    let load = |number| store.load(id(number)).block_on().unwrap().unwrap();
    let (ada, over, bob) = (load(1), load(2), load(3));
    assert_eq!(ada.user, UserId::new("ada").unwrap());
    assert_eq!(ada.device.name.as_deref(), Some("laptop"));
    assert_eq!(ada.claims.as_deref(), Some(r#"{"role":"teacher"}"#));
    assert_eq!(ada.refresh_key, KeyId(7));
    assert_eq!(over.ended.unwrap().reason, EndReason::Logout);
    assert_eq!(bob.version, bobs);
    let swapped = store.swap(next(ada)).block_on().unwrap();
    assert_eq!(swapped, Write::Done, "{version}");
    assert_eq!(store.swap(next(bob)).block_on().unwrap(), Write::Done);
    let (ends, _) = store.ended_after(0, 10).block_on().unwrap();
    assert_eq!(ends.len(), 1);
    assert!(store.keys().block_on().unwrap()[1].retired);
    let account = store.account("ada").block_on().unwrap().unwrap();
    assert!(!account.privileged && account.valid_from == ValidFrom(NOW.0));
    for kind in Kind::ALL {
        store.rows(kind, None, 10).block_on().unwrap();
    }
}

#[cfg(feature = "postgres")]
#[test]
fn a_schema_of_every_version_opens_in_postgres_and_its_sessions_go_on() {
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let count = std::fs::read_dir(migrations).unwrap().count();
    assert_eq!(count, POSTGRES.len(), "keep one of each");
    for (version, dump) in (1..).zip(POSTGRES) {
        let fresh = postgres::shared().fresh();
        let schema = fresh.schema();
        let dump = dump.replace('@', &format!("{schema}."));
        postgres::shared().sql(&format!("CREATE SCHEMA {schema}; {dump}"));
        let store = fresh.open();
        goes_on(&store, version, 1);
        drop(store);
        every_write(&fresh.open(), 1);
    }
}

/// What a later version does to the file that says it is compatible: a column more in each table.
fn expand(path: &Path, since: u32) {
    let db = Connection::open(path).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'";
    let mut names = db.prepare(tables).unwrap();
    let names: Vec<String> = names
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for name in names {
        let sql = format!("ALTER TABLE {name} ADD COLUMN later TEXT NOT NULL DEFAULT 'x'");
        db.execute(&sql, []).unwrap();
    }
    db.execute_batch("CREATE TABLE later (a)").unwrap();
    let sql = "INSERT OR REPLACE INTO marks (name, value) VALUES ('compatible_since', ?1)";
    db.execute(sql, [since]).unwrap();
    db.pragma_update(
        None,
        "user_version",
        i64::try_from(FIXTURES.len()).unwrap() + 1,
    )
    .unwrap();
}

#[test]
fn a_process_goes_on_while_a_newer_version_adds_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let dump = FIXTURES[FIXTURES.len() - 1];
    Connection::open(&path)
        .unwrap()
        .execute_batch(dump)
        .unwrap();
    let running = open(&path);
    // Statements are prepared before the file changes.
    let row = running.load(id(1)).block_on().unwrap().unwrap();
    assert_eq!(running.swap(next(row)).block_on().unwrap(), Write::Done);
    expand(&path, u32::try_from(FIXTURES.len()).unwrap());
    every_write(&running, 1);
    // One of this version that starts later, beside it.
    every_write(&open(&path), 2);
}

#[test]
fn a_newer_version_that_is_not_compatible_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    drop(open(&path));
    expand(&path, u32::try_from(FIXTURES.len() + 1).unwrap());
    let error = SqliteStore::open(&path, Policy::default()).err().unwrap();
    assert!(error.to_string().contains("upgrade this binary"), "{error}");
}

/// Each statement that adds a row.
fn every_write(store: &dyn MovableStore, turn: u8) {
    let from = doorward_core::memory::MemoryStore::new(Policy::default());
    let rows = [
        Kind::Keys,
        Kind::Accounts,
        Kind::Resets,
        Kind::ValidFrom,
        Kind::Sessions,
        Kind::Adopted,
        Kind::Ended,
        Kind::Buckets,
        Kind::Events,
        Kind::Outbox,
        Kind::Deliveries,
    ];
    for kind in rows {
        let (page, _) = store.rows(kind, None, 10).block_on().unwrap();
        from.put(page.clone()).block_on().unwrap();
        store.put(page).block_on().unwrap();
    }
    let row = from.load(id(1)).block_on().unwrap().unwrap();
    let new = Session {
        id: id(10 + turn),
        version: 0,
        ended: None,
        ..row
    };
    writes(store, &new);
    let ended = store.load(new.id).block_on().unwrap().unwrap().ended;
    assert_eq!(ended.unwrap().reason, EndReason::Idle);
}

fn writes(store: &(impl Store + ?Sized), new: &Session) {
    let (none, user) = (Trail::default(), new.user.clone());
    let seen = store.valid_from(&user).block_on().unwrap();
    let opened = store.insert(new.clone(), seen).block_on().unwrap();
    assert_eq!(opened, Write::Done);
    assert_eq!(
        store.swap(next(new.clone())).block_on().unwrap(),
        Write::Done
    );
    let gone = store.end_user(&user, NOW, EndReason::Idle, None, &none);
    assert!(gone.block_on().unwrap().contains(&new.id));
    let foreign = Session {
        id: SessionId([new.id.0[7] + 100; 16]),
        ..new.clone()
    };
    let seen = store.valid_from(&user).block_on().unwrap();
    let adopted = store.adopt(foreign, seen, NOW, &none).block_on().unwrap();
    assert_eq!(adopted, Write::Done);
    let address = format!("{}", new.id);
    let queued = store.enqueue(&address, (None, 1), &[1], NOW).block_on();
    assert_eq!(queued.unwrap(), Write::Done);
    store.purge(NOW, NOW, 10, &none).block_on().unwrap();
    store.set_restored(NOW, &none).block_on().unwrap();
}
