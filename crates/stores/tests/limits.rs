//! What a store does for limits: which rows it purges, how many sessions a user may have, and how a
//! password is reset. Every store.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use doorward_core::event::Trail;
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::{KeyId, Purpose, StoredKey};
use doorward_core::limits::{Cap, Opening, OverCap};
use doorward_core::memory::MemoryStore;
use doorward_core::password::PasswordHash;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::session::{Delivery, Device, EndReason, Session};
use doorward_core::store::{Account, Opened, Store, ValidFrom, Write};
use doorward_core::testing::TestEnv;
use doorward_core::{Policy, Timestamp};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const KEY: KeyId = KeyId(7);
const NO_TRAIL: Trail = Trail {
    once: None,
    each: None,
};
const HOUR: Duration = Duration::from_secs(3600);

/// Each class has limits of its own.
fn policy() -> Policy {
    let policy = Policy {
        refresh_ttl: 40 * HOUR,
        session_ttl: 90 * HOUR,
        browser_refresh_ttl: Some(10 * HOUR),
        browser_session_ttl: Some(50 * HOUR),
        privileged_refresh_ttl: Some(20 * HOUR),
        privileged_session_ttl: Some(30 * HOUR),
        ..Policy::default()
    };
    policy.check().unwrap();
    policy
}

fn on_every_store(contract: impl Fn(&dyn Store)) {
    let memory = MemoryStore::new(policy());
    let directory = tempfile::tempdir().unwrap();
    let sqlite = sqlite(&directory.path().join("test.db"));
    let stores: [&dyn Store; 2] = [&memory, &sqlite];
    for store in stores {
        let _ = store.add_key(key(), true).block_on().unwrap();
        contract(store);
    }
}

fn sqlite(path: &Path) -> SqliteStore {
    SqliteStore::open(path, policy()).unwrap()
}

fn key() -> StoredKey {
    StoredKey {
        id: KEY,
        purpose: Purpose::Refresh,
        algorithm: "HS256".into(),
        secret: [1; 32].into(),
        created_at: NOW,
        signs_from: NOW,
        verifies_until: NOW,
        scopes: "".into(),
        retired: false,
    }
}

fn user() -> UserId {
    UserId::new("ada").unwrap()
}

fn session(env: &TestEnv, created_at: Timestamp) -> Session {
    Session {
        id: SessionId::new(created_at, env),
        user: user(),
        confirmed: TokenId::random(env),
        generation: -1,
        previous: None,
        siblings: false,
        attempt: 0,
        confirmed_at: Timestamp::NEVER,
        child_at: Timestamp::NEVER,
        refresh_key: KEY,
        created_at,
        auth_time: created_at,
        absolute_end: created_at + 90 * HOUR,
        remember: true,
        privileged: false,
        delivery: Delivery::Body,
        device: Device::default(),
        claims: None,
        ended: None,
        version: 0,
    }
}

fn hours(env: &TestEnv, fewer_than: u64) -> Duration {
    Duration::from_secs(3600 * (env.random() % fewer_than))
}

fn refreshed(row: &Session, env: &TestEnv, at: Timestamp) -> Session {
    Session {
        previous: Some(row.confirmed),
        confirmed: TokenId::random(env),
        generation: row.generation + 1,
        confirmed_at: at,
        child_at: at,
        version: row.version + 1,
        ..row.clone()
    }
}

fn opening(session: Session, cap: u32, over: OverCap) -> Opening {
    Opening {
        session,
        seen: ValidFrom(0),
        replaces: None,
        cap: NonZeroU32::new(cap).map(|sessions| Cap { sessions, over }),
        restored_at: Timestamp(0),
    }
}

fn open(store: &dyn Store, opening: Opening) -> Opened {
    store.open(opening, &NO_TRAIL).block_on().unwrap()
}

fn live(store: &dyn Store) -> Vec<SessionId> {
    let rows = store.sessions_of(&user()).block_on().unwrap();
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn rows_of_each_class_are_purged_once_they_are_over_and_not_before() {
    on_every_store(|store| {
        let env = TestEnv::new(NOW, 3);
        let mut rows = Vec::new();
        for _ in 0..200 {
            let row = session(&env, NOW + hours(&env, 40));
            let mut row = Session {
                remember: env.random().is_multiple_of(2),
                privileged: env.random().is_multiple_of(2),
                absolute_end: row.created_at + HOUR + hours(&env, 90),
                ..row
            };
            if env.random().is_multiple_of(2) {
                let at = row.created_at + hours(&env, 40);
                row = refreshed(&row, &env, at);
            }
            let inserted = store.insert(row.clone(), ValidFrom(0)).block_on();
            assert_eq!(inserted.unwrap(), Write::Done);
            rows.push(row);
        }
        let ends: BTreeSet<_> = rows.iter().map(|row| row.expires_at(&policy())).collect();
        // To the millisecond: what ends now is not over before now.
        let times = ends
            .iter()
            .flat_map(|end| [*end, *end + Duration::from_millis(1)]);
        for now in times {
            for _ in 0..2 {
                let _ = store.purge(now, now, 1_000, &NO_TRAIL).block_on().unwrap();
            }
            for row in &rows {
                let kept = store.load(row.id).block_on().unwrap().is_some();
                assert_eq!(kept, row.expires_at(&policy()) >= now, "{row:?}");
            }
        }
    });
}

#[test]
fn the_oldest_session_goes_where_a_user_has_too_many() {
    on_every_store(|store| {
        let env = TestEnv::new(NOW, 3);
        let at = |seconds| session(&env, NOW + Duration::from_secs(seconds));
        let rows: Vec<_> = (0..4).map(at).collect();
        for row in &rows[..3] {
            let opened = open(store, opening(row.clone(), 3, OverCap::EndOldest));
            assert_eq!(opened, Opened::Done(Vec::new()));
        }
        let Opened::Done(gone) = open(store, opening(rows[3].clone(), 3, OverCap::EndOldest))
        else {
            panic!("no room");
        };
        let ended = gone[0].ended.unwrap();
        assert_eq!((gone.len(), gone[0].id), (1, rows[0].id));
        assert_eq!(
            (ended.reason, ended.at),
            (EndReason::SessionLimit, rows[3].created_at)
        );
        assert_eq!(live(store), [rows[1].id, rows[2].id, rows[3].id]);
        let (log, _) = store.ended_after(0, 10).block_on().unwrap();
        assert_eq!(
            (log.len(), log[0].session, log[0].reason),
            (1, rows[0].id, ended.reason)
        );
        // A smaller cap ends as many as it takes.
        let last = at(9);
        let Opened::Done(gone) = open(store, opening(last.clone(), 1, OverCap::EndOldest)) else {
            panic!("no room");
        };
        assert_eq!(gone.len(), 3);
        assert_eq!(live(store), [last.id]);
    });
}

#[test]
fn a_login_is_refused_where_a_user_has_as_many_as_one_may_have() {
    on_every_store(|store| {
        let env = TestEnv::new(NOW, 3);
        let (first, second) = (session(&env, NOW), session(&env, NOW));
        let refuse = |row: &Session| opening(row.clone(), 1, OverCap::Refuse);
        assert_eq!(open(store, refuse(&first)), Opened::Done(Vec::new()));
        assert_eq!(open(store, refuse(&second)), Opened::Full);
        assert_eq!(store.load(second.id).block_on().unwrap(), None);
        assert_eq!(live(store), [first.id]);
        // In the place of the first there is room, and another user has room anyway.
        let instead = Opening {
            replaces: Some(first.id),
            ..refuse(&second)
        };
        let Opened::Done(gone) = open(store, instead) else {
            panic!("no room");
        };
        assert_eq!(gone[0].ended.unwrap().reason, EndReason::Replaced);
        assert_eq!(live(store), [second.id]);
        let other = Session {
            user: UserId::new("eve").unwrap(),
            ..session(&env, NOW)
        };
        assert_eq!(open(store, refuse(&other)), Opened::Done(Vec::new()));
    });
}

#[test]
fn what_has_expired_takes_no_room_and_what_was_refreshed_does() {
    on_every_store(|store| {
        let env = TestEnv::new(NOW, 3);
        let idle = session(&env, NOW);
        let used = session(&env, NOW);
        for row in [&idle, &used] {
            assert_eq!(
                open(store, opening(row.clone(), 2, OverCap::Refuse)),
                Opened::Done(vec![])
            );
        }
        let next = refreshed(&used, &env, NOW + 39 * HOUR);
        assert_eq!(store.swap(next).block_on().unwrap(), Write::Done);
        let before = session(&env, NOW + 40 * HOUR - Duration::from_millis(1));
        assert_eq!(
            open(store, opening(before, 2, OverCap::Refuse)),
            Opened::Full
        );
        let then = session(&env, NOW + 40 * HOUR);
        assert_eq!(
            open(store, opening(then, 2, OverCap::Refuse)),
            Opened::Done(vec![])
        );
        let one_more = session(&env, NOW + 40 * HOUR);
        assert_eq!(
            open(store, opening(one_more, 2, OverCap::Refuse)),
            Opened::Full
        );
        // It was not ended for that: its client is told that it was idle.
        assert_eq!(store.load(idle.id).block_on().unwrap().unwrap().ended, None);
    });
}

#[test]
fn logins_at_the_same_moment_never_leave_more_sessions_than_the_cap() {
    const CLIENTS: usize = 16;
    const CAP: u32 = 5;
    for over in [OverCap::EndOldest, OverCap::Refuse] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let (one, other) = (sqlite(&path), sqlite(&path).in_place());
        let memory = MemoryStore::new(policy());
        for stores in [[&one as &dyn Store, &other], [&memory, &memory]] {
            let _ = stores[0].add_key(key(), true).block_on().unwrap();
            let begin = Barrier::new(CLIENTS);
            let client = |number: usize| {
                let env = TestEnv::new(NOW, number as u64);
                begin.wait();
                for i in 0..20 {
                    let row = session(&env, NOW + Duration::from_millis(i));
                    let _ = open(stores[number % 2], opening(row, CAP, over));
                    assert!(live(stores[0]).len() <= CAP as usize);
                }
            };
            std::thread::scope(|scope| {
                for number in 0..CLIENTS {
                    scope.spawn(move || client(number));
                }
            });
            assert_eq!(live(stores[0]).len(), CAP as usize);
            assert_eq!(live(stores[1]), live(stores[0]));
        }
    }
}

fn account(store: &dyn Store) -> UserId {
    let account = Account {
        id: user(),
        username: "ada".into(),
        password_hash: PasswordHash::from_phc("$old"),
        disabled: false,
        privileged: false,
        created_at: NOW,
        valid_from: ValidFrom(0),
    };
    assert_eq!(
        store.add_account(account, &NO_TRAIL).block_on().unwrap(),
        Write::Done
    );
    user()
}

fn start(store: &dyn Store, hash: u8) -> Write {
    let hash = ResetHash([hash; 32]);
    let expires_at = NOW + HOUR;
    let (ada, reset) = (user(), Reset { hash, expires_at });
    store
        .start_reset(&ada, reset, &NO_TRAIL)
        .block_on()
        .unwrap()
}

fn finish(store: &dyn Store, hash: u8, at: Timestamp) -> bool {
    let done = store.finish_reset(ResetHash([hash; 32]), "$new", at, &NO_TRAIL);
    done.block_on().unwrap().is_some()
}

fn known(store: &dyn Store, hash: u8, at: Timestamp) -> bool {
    let found = store
        .reset_of(ResetHash([hash; 32]), at)
        .block_on()
        .unwrap();
    found.is_some_and(|account| account.id == user())
}

#[test]
fn a_reset_sets_a_password_once_and_ends_all_sessions() {
    on_every_store(|store| {
        let env = TestEnv::new(NOW, 3);
        assert_eq!(start(store, 1), Write::Lost);
        account(store);
        let row = session(&env, NOW);
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        assert_eq!(start(store, 1), Write::Done);
        assert!(known(store, 1, NOW) && !known(store, 2, NOW));
        assert!(!finish(store, 2, NOW));
        let end = NOW + HOUR;
        assert!(known(store, 1, end - Duration::from_millis(1)));
        assert!(!known(store, 1, end) && !finish(store, 1, end));
        let done = store.finish_reset(
            ResetHash([1; 32]),
            "$new",
            end - Duration::from_millis(1),
            &NO_TRAIL,
        );
        let done = done.block_on().unwrap().unwrap();
        assert_eq!(done.sessions, [row.id]);
        let seen = store.account("ada").block_on().unwrap().unwrap();
        assert_eq!(seen.password_hash.as_str(), "$new");
        assert_eq!(seen.valid_from, done.valid_from);
        assert!(!known(store, 1, NOW) && !finish(store, 1, NOW));
        let row = store.load(row.id).block_on().unwrap().unwrap();
        assert_eq!(row.ended.unwrap().reason, EndReason::PasswordChanged);
    });
}

#[test]
fn another_reset_a_change_of_password_disabling_and_removing_void_a_reset() {
    on_every_store(|store| {
        let ada = account(store);
        let void = |change: &dyn Fn()| {
            assert_eq!(start(store, 1), Write::Done);
            change();
            assert!(!known(store, 1, NOW) && !finish(store, 1, NOW));
        };
        void(&|| {
            assert_eq!(start(store, 2), Write::Done);
            assert!(known(store, 2, NOW));
        });
        void(&|| {
            let set = store
                .set_password(&ada, None, "$other", NOW, &NO_TRAIL)
                .block_on();
            assert!(set.unwrap().is_some());
        });
        void(&|| {
            let _ = store
                .set_disabled(&ada, true, NOW, &NO_TRAIL)
                .block_on()
                .unwrap();
            assert_eq!(start(store, 3), Write::Lost);
            let _ = store
                .set_disabled(&ada, false, NOW, &NO_TRAIL)
                .block_on()
                .unwrap();
        });
        // A hash that is renewed is the same password's.
        assert_eq!(start(store, 4), Write::Done);
        let rehash = store.rehash(&ada, "$other", "$stronger").block_on();
        assert_eq!(rehash.unwrap(), Write::Done);
        assert!(known(store, 4, NOW));
        void(&|| {
            let _ = store
                .remove_account(&ada, NOW, &NO_TRAIL)
                .block_on()
                .unwrap();
        });
    });
}

#[test]
fn of_many_uses_of_a_reset_at_once_one_takes_effect() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let (one, other) = (sqlite(&path), sqlite(&path).in_place());
    let memory = MemoryStore::new(policy());
    for stores in [[&one as &dyn Store, &other], [&memory, &memory]] {
        account(stores[0]);
        assert_eq!(start(stores[0], 1), Write::Done);
        let begin = Barrier::new(16);
        let took: usize = std::thread::scope(|scope| {
            let uses = (0..16).map(|number| {
                let begin = &begin;
                scope.spawn(move || {
                    begin.wait();
                    finish(stores[number % 2], 1, NOW)
                })
            });
            let uses: Vec<_> = uses.collect();
            let took = uses.into_iter().map(|one| usize::from(one.join().unwrap()));
            took.sum()
        });
        assert_eq!(took, 1);
    }
}

#[test]
fn an_account_is_privileged_or_not_and_its_open_sessions_end() {
    on_every_store(|store| {
        let env = TestEnv::new(NOW, 3);
        let set = |on| {
            store
                .set_privileged(&user(), on, NOW, &NO_TRAIL)
                .block_on()
                .unwrap()
        };
        assert_eq!(set(true), None);
        let ada = account(store);
        let row = session(&env, NOW);
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        assert_eq!(set(true), Some(vec![row.id]));
        let seen = store.account_of(&ada).block_on().unwrap().unwrap();
        assert!(seen.privileged && seen.valid_from > ValidFrom(0));
        assert_eq!(set(false), Some(Vec::new()));
        assert!(
            !store
                .account_of(&ada)
                .block_on()
                .unwrap()
                .unwrap()
                .privileged
        );
        let privileged = Session {
            privileged: true,
            ..session(&env, NOW)
        };
        let seen = store.valid_from(&ada).block_on().unwrap();
        let _ = store.insert(privileged.clone(), seen).block_on().unwrap();
        let next = refreshed(&privileged, &env, NOW);
        let _ = store.swap(next.clone()).block_on().unwrap();
        assert_eq!(store.load(privileged.id).block_on().unwrap(), Some(next));
    });
}
