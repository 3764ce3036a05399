//! The contract of `doorward_core::store`, run on every store.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::time::Duration;

use doorward_core::event::Trail;
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::{KeyId, Purpose, StoredKey};
use doorward_core::memory::MemoryStore;
use doorward_core::password::PasswordHash;
use doorward_core::revocation::Ended;
use doorward_core::session::{Delivery, Device, EndReason, Session};
use doorward_core::store::{Account, KeyStore as _, SessionStore as _, Store, ValidFrom, Write};
use doorward_core::testing::TestEnv;
use doorward_core::throttle::{BucketKey, Change, Limit, Outcome, Refused, Run, Step};
use doorward_core::transfer::{MovableStore, Rows};
use doorward_core::{Policy, Timestamp};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

#[path = "contract/events.rs"]
mod events;
#[cfg(feature = "postgres")]
#[path = "servers/postgres.rs"]
mod postgres;
#[cfg(feature = "redis")]
#[path = "servers/redis.rs"]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "servers/rings.rs"]
mod rings;
#[path = "contract/transfer.rs"]
mod transfer;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const KEY: KeyId = KeyId(0xfeed_0000_0000_0001);

fn on_every_store(contract: impl Fn(&dyn MovableStore, &TestEnv)) {
    let memory = MemoryStore::new(Policy::default());
    let directory = tempfile::tempdir().unwrap();
    let sqlite = |name| SqliteStore::open(directory.path().join(name), Policy::default()).unwrap();
    let (by_thread, in_place) = (sqlite("thread.db"), sqlite("place.db").in_place());
    let mut stores: Vec<&dyn MovableStore> = vec![&memory, &by_thread, &in_place];
    #[cfg(feature = "postgres")]
    let fresh = postgres::shared().fresh();
    #[cfg(feature = "postgres")]
    let postgres = fresh.open();
    #[cfg(feature = "postgres")]
    stores.push(&postgres);
    #[cfg(feature = "redis")]
    let (redis, cluster) = (redis::single().fresh(), redis::cluster().fresh());
    #[cfg(feature = "redis")]
    stores.extend([&redis as &dyn MovableStore, &cluster]);
    for store in stores {
        let env = TestEnv::new(NOW, 7);
        assert_eq!(store.add_key(key(), true).block_on().unwrap(), Write::Done);
        contract(store, &env);
    }
}

/// The key of the sessions here.
fn key() -> StoredKey {
    StoredKey {
        id: KEY,
        purpose: Purpose::Refresh,
        algorithm: "HS256".into(),
        secret: [1; 32].into(),
        created_at: NOW,
        signs_from: NOW,
        verifies_until: NOW + Duration::from_secs(1),
        scopes: r#"[null,"app"]"#.into(),
        retired: false,
    }
}

fn none() -> Trail {
    Trail::default()
}

fn session(env: &TestEnv, user: &str) -> Session {
    let user = UserId::new(user).unwrap();
    Session {
        id: SessionId::new(NOW, env).of(&user),
        user,
        confirmed: TokenId::random(env),
        generation: -1,
        previous: None,
        siblings: false,
        attempt: 0,
        confirmed_at: Timestamp::NEVER,
        child_at: Timestamp::NEVER,
        refresh_key: KEY,
        created_at: NOW,
        auth_time: NOW,
        absolute_end: NOW + Duration::from_secs(90 * 24 * 3600),
        remember: true,
        privileged: false,
        delivery: Delivery::Body,
        device: Device::default(),
        claims: None,
        ended: None,
        version: 0,
    }
}

fn rotated(row: &Session, env: &TestEnv) -> Session {
    Session {
        previous: Some(row.confirmed),
        confirmed: TokenId::random(env),
        generation: row.generation + 1,
        confirmed_at: NOW + Duration::from_secs(60),
        child_at: NOW + Duration::from_secs(61),
        siblings: true,
        version: row.version + 1,
        ..row.clone()
    }
}

#[test]
fn a_row_reads_back_as_it_was_written() {
    on_every_store(|store, env| {
        let plain = session(env, "ada");
        let full = Session {
            device: Device {
                name: Some("laptop".into()),
                address: Some("2001:db8::1".parse().unwrap()),
                agent: Some("curl".into()),
            },
            claims: Some(r#"{"role":"teacher"}"#.into()),
            delivery: Delivery::Cookie,
            remember: false,
            ..session(env, "ada")
        };
        for row in [plain, full] {
            assert_eq!(
                store.insert(row.clone(), ValidFrom(0)).block_on().unwrap(),
                Write::Done
            );
            assert_eq!(store.load(row.id).block_on().unwrap(), Some(row.clone()));
            let next = rotated(&row, env);
            assert_eq!(store.swap(next.clone()).block_on().unwrap(), Write::Done);
            assert_eq!(store.load(row.id).block_on().unwrap(), Some(next));
        }
        assert_eq!(store.load(SessionId([9; 16])).block_on().unwrap(), None);
    });
}

#[test]
fn a_store_remembers_that_it_was_restored() {
    on_every_store(|store, _| {
        let at = |millis| NOW + Duration::from_millis(millis);
        assert_eq!(store.restored_at().block_on().unwrap(), Timestamp(0));
        for (set, then) in [(5, 5), (3, 5), (9, 9)] {
            store.set_restored(at(set), &none()).block_on().unwrap();
            assert_eq!(store.restored_at().block_on().unwrap(), at(then));
        }
    });
}

#[test]
fn insert_refuses_an_existing_id() {
    on_every_store(|store, env| {
        let row = session(env, "ada");
        assert_eq!(
            store.insert(row.clone(), ValidFrom(0)).block_on().unwrap(),
            Write::Done
        );
        let thief = Session {
            user: UserId::new("eve").unwrap(),
            ..row.clone()
        };
        assert_eq!(
            store.insert(thief, ValidFrom(0)).block_on().unwrap(),
            Write::Lost
        );
        assert_eq!(store.load(row.id).block_on().unwrap(), Some(row));
    });
}

#[test]
fn a_swap_of_an_old_version_is_lost() {
    on_every_store(|store, env| {
        let row = session(env, "ada");
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        let (one, other) = (rotated(&row, env), rotated(&row, env));
        assert_eq!(store.swap(one.clone()).block_on().unwrap(), Write::Done);
        assert_eq!(store.swap(other).block_on().unwrap(), Write::Lost);
        assert_eq!(store.load(row.id).block_on().unwrap(), Some(one));
        assert_eq!(
            store
                .swap(rotated(&session(env, "x"), env))
                .block_on()
                .unwrap(),
            Write::Lost
        );
    });
}

#[test]
fn an_ended_row_stays_ended_for_its_first_reason() {
    on_every_store(|store, env| {
        let row = session(env, "ada");
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        let ended = store
            .end(row.id, NOW, EndReason::Logout, &none())
            .block_on()
            .unwrap()
            .unwrap();
        assert_eq!(ended.ended.map(|end| end.reason), Some(EndReason::Logout));
        assert_eq!(ended.version, 1);
        let next = Session {
            version: 2,
            ..rotated(&row, env)
        };
        assert_eq!(store.swap(next).block_on().unwrap(), Write::Lost);
        let again = store
            .end(row.id, NOW, EndReason::Reuse, &none())
            .block_on()
            .unwrap()
            .unwrap();
        assert_eq!(again.ended.map(|end| end.reason), Some(EndReason::Logout));
        assert_eq!(
            store.insert(row, ValidFrom(0)).block_on().unwrap(),
            Write::Lost
        );
        let (log, cursor) = store.ended_after(0, 10).block_on().unwrap();
        assert_eq!(log.len(), 1);
        assert_eq!(store.ended_after(cursor, 10).block_on().unwrap().0, []);
        assert_eq!(
            store
                .end(SessionId([9; 16]), NOW, EndReason::Idle, &none())
                .block_on()
                .unwrap(),
            None
        );
    });
}

#[test]
fn ending_all_sessions_moves_valid_from() {
    on_every_store(|store, env| {
        let user = UserId::new("ada").unwrap();
        let rows: Vec<_> = (0..3).map(|_| session(env, "ada")).collect();
        for row in &rows {
            let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        }
        let other = session(env, "eve");
        let _ = store
            .insert(other.clone(), ValidFrom(0))
            .block_on()
            .unwrap();
        let reason = EndReason::EndedByUser;
        let but_one = store
            .end_user(&user, NOW, reason, Some(rows[0].id), &none())
            .block_on()
            .unwrap();
        assert_eq!(but_one.len(), 2);
        let moved = store.valid_from(&user).block_on().unwrap();
        assert!(moved > ValidFrom(0));
        assert_eq!(
            store.sessions_of(&user).block_on().unwrap(),
            [rows[0].clone()]
        );
        let rest = store
            .end_user(&user, NOW, reason, None, &none())
            .block_on()
            .unwrap();
        assert_eq!(rest, [rows[0].id]);
        let before = moved;
        let moved = store.valid_from(&user).block_on().unwrap();
        assert!(moved > before);
        let late = session(env, "ada");
        assert_eq!(
            store.insert(late.clone(), ValidFrom(0)).block_on().unwrap(),
            Write::Lost
        );
        assert_eq!(store.insert(late, moved).block_on().unwrap(), Write::Done);
        let _ = store
            .end_user(&user, NOW, reason, None, &none())
            .block_on()
            .unwrap();
        assert!(store.valid_from(&user).block_on().unwrap() > moved);
        assert_eq!(store.sessions(None, 10).block_on().unwrap(), [other]);
    });
}

#[test]
fn a_thousand_sessions_of_a_user_end_together() {
    on_every_store(|store, env| {
        let rows: Vec<_> = (0..1_000).map(|_| session(env, "robot")).collect();
        for some in rows.chunks(500) {
            store.put(Rows::Sessions(some.to_vec())).block_on().unwrap();
        }
        let (user, why, none) = (&rows[0].user, EndReason::EndedByOperator, none());
        let ended = store.end_user(user, NOW, why, Some(rows[0].id), &none);
        assert_eq!(ended.block_on().unwrap().len(), rows.len() - 1);
        let left = store.sessions_of(user).block_on().unwrap();
        assert_eq!(left, [rows[0].clone()]);
        let (ends, _) = store.ended_after(0, 10_000).block_on().unwrap();
        assert_eq!(ends.len(), rows.len() - 1);
        let erased = store.erase(user, NOW, why, &none).block_on().unwrap();
        assert_eq!(erased, rows.len() as u64);
        assert_eq!(store.kept_of(user).block_on().unwrap(), []);
        let (ends, _) = store.ended_after(0, 10_000).block_on().unwrap();
        assert_eq!(ends.len(), rows.len());
    });
}

#[test]
fn expired_rows_are_purged_and_ended_ones_keep_their_reason_until_then() {
    on_every_store(|store, env| {
        let row = session(env, "ada");
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        let _ = store
            .end(row.id, NOW, EndReason::Logout, &none())
            .block_on()
            .unwrap();
        let purge = |now| {
            for _ in 0..3 {
                let _ = store.purge(now, now, 100, &none()).block_on().unwrap();
            }
        };
        purge(NOW + Duration::from_secs(29 * 24 * 3600));
        assert!(store.load(row.id).block_on().unwrap().is_some());
        assert_eq!(store.ended_after(0, 10).block_on().unwrap().0, []);
        purge(NOW + Duration::from_secs(31 * 24 * 3600));
        assert_eq!(store.load(row.id).block_on().unwrap(), None);
    });
}

#[test]
fn accounts_are_unique_and_their_changes_end_sessions() {
    on_every_store(|store, env| {
        let id = UserId::new("1").unwrap();
        let account = Account {
            id: id.clone(),
            username: "ada".into(),
            password_hash: PasswordHash::from_phc("$old"),
            disabled: false,
            privileged: false,
            created_at: NOW,
            valid_from: ValidFrom(0),
        };
        for written in [Write::Done, Write::Lost] {
            let add = none();
            let add = store.add_account(account.clone(), &add);
            assert_eq!(add.block_on().unwrap(), written);
        }
        assert_eq!(
            store.account("ada").block_on().unwrap(),
            Some(account.clone())
        );
        assert_eq!(
            store.account_of(&id).block_on().unwrap(),
            Some(account.clone())
        );
        assert_eq!(store.accounts(None, 9).block_on().unwrap().len(), 1);
        assert_eq!(store.accounts(Some("ada"), 9).block_on().unwrap(), []);
        assert_eq!(
            store.rehash(&id, "$older", "$new").block_on().unwrap(),
            Write::Lost
        );
        assert_eq!(
            store.rehash(&id, "$old", "$new").block_on().unwrap(),
            Write::Done
        );

        let disable = |disabled| {
            let set = none();
            let set = store.set_disabled(&id, disabled, NOW, &set);
            set.block_on().unwrap()
        };
        let row = session(env, "1");
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        let set = |seen, hash| {
            store
                .set_password(&id, seen, hash, NOW, &none())
                .block_on()
                .unwrap()
        };
        assert_eq!(set(Some(ValidFrom(7)), "$stale"), None);
        let all = set(Some(ValidFrom(0)), "$newest").unwrap();
        assert_eq!(all.sessions, [row.id]);
        let ended = store
            .load(row.id)
            .block_on()
            .unwrap()
            .unwrap()
            .ended
            .unwrap();
        assert_eq!(ended.reason, EndReason::PasswordChanged);
        let seen = store.account("ada").block_on().unwrap().unwrap();
        assert_eq!(seen.password_hash.as_str(), "$newest");
        assert!(seen.valid_from > ValidFrom(0));
        assert_eq!(seen.valid_from, all.valid_from);
        assert_eq!(set(Some(ValidFrom(0)), "$late"), None);
        let again = set(None, "$newest").unwrap();
        assert_eq!(
            (again.sessions.len(), again.valid_from > all.valid_from),
            (0, true)
        );
        let seen = store.account("ada").block_on().unwrap().unwrap();

        let row = session(env, "1");
        let _ = store
            .insert(row.clone(), seen.valid_from)
            .block_on()
            .unwrap();
        assert_eq!(disable(true), Some(vec![row.id]));
        assert_eq!(disable(false), Some(Vec::new()));
        let _ = disable(true);
        assert!(
            store
                .load(row.id)
                .block_on()
                .unwrap()
                .unwrap()
                .ended
                .is_some()
        );
        assert!(store.account("ada").block_on().unwrap().unwrap().disabled);
        let remove = || store.remove_account(&id, NOW, &none()).block_on().unwrap();
        assert_eq!((remove(), remove()), (Some(Vec::new()), None));
        let gone = disable(true);
        assert_eq!(gone, None);
        assert_eq!(store.account("ada").block_on().unwrap(), None);
    });
}

#[test]
fn one_first_key_of_a_purpose_wins() {
    on_every_store(|store, _| {
        let known = store.keys().block_on().unwrap();
        // Keys come in the order in which they were added, whatever they say.
        let second = StoredKey {
            id: KeyId(2),
            created_at: NOW - Duration::from_secs(1),
            ..known[0].clone()
        };
        assert_eq!(
            store.add_key(second.clone(), true).block_on().unwrap(),
            Write::Lost
        );
        assert_eq!(
            store.add_key(second.clone(), false).block_on().unwrap(),
            Write::Done
        );
        assert_eq!(
            store.add_key(second.clone(), false).block_on().unwrap(),
            Write::Lost
        );
        let retired = StoredKey {
            retired: true,
            secret: [].into(),
            ..second
        };
        let update = |keys| store.update_keys(keys).block_on().unwrap();
        assert_eq!(update(vec![retired.clone()]), Write::Done);
        assert_eq!(store.keys().block_on().unwrap()[1], retired);
        assert_eq!(store.remove_key(KeyId(2)).block_on().unwrap(), Write::Done);
        assert_eq!(store.remove_key(KeyId(2)).block_on().unwrap(), Write::Lost);
    });
}

#[test]
fn keys_are_updated_together_and_a_retired_one_never() {
    on_every_store(|store, _| {
        let first = store.keys().block_on().unwrap().remove(0);
        let with_id = |id| StoredKey {
            id,
            ..first.clone()
        };
        let second = with_id(KeyId(2));
        assert_eq!(
            store.add_key(second.clone(), false).block_on().unwrap(),
            Write::Done
        );
        let changed = |key: &StoredKey| StoredKey {
            secret: [2; 32].into(),
            verifies_until: Timestamp(i64::MAX),
            scopes: "[\"\u{e4}\",null]\n[null,null]".into(),
            ..key.clone()
        };
        let update = |keys| store.update_keys(keys).block_on().unwrap();
        let (one, two) = (changed(&first), changed(&second));
        let unknown = with_id(KeyId(3));
        assert_eq!(update(vec![one.clone(), unknown]), Write::Lost);
        assert_eq!(
            store.keys().block_on().unwrap(),
            [first.clone(), second.clone()]
        );
        assert_eq!(update(vec![one.clone(), two.clone()]), Write::Done);
        assert_eq!(store.keys().block_on().unwrap(), [one.clone(), two.clone()]);
        let retired = StoredKey {
            retired: true,
            ..two.clone()
        };
        assert_eq!(update(vec![retired.clone()]), Write::Done);
        assert_eq!(update(vec![first, two]), Write::Lost);
        assert_eq!(store.keys().block_on().unwrap(), [one, retired]);
    });
}

#[test]
fn an_end_whose_news_was_lost_is_told_by_whoever_asks_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let open = || SqliteStore::open(&path, Policy::default()).unwrap();
    let (one, other) = (open(), open());
    let row = session(&TestEnv::new(NOW, 7), "ada");
    assert_eq!(one.add_key(key(), true).block_on().unwrap(), Write::Done);
    let inserted = one.insert(row.clone(), ValidFrom(0)).block_on();
    assert_eq!(inserted.unwrap(), Write::Done);
    // As a process leaves it that is killed after the commit.
    let db = rusqlite::Connection::open(&path).unwrap();
    let sql = "UPDATE sessions SET ended_at = ?1, ended_why = ?2, version = version + 1";
    let ended = rusqlite::params![NOW.0, EndReason::Logout as u8];
    assert_eq!(db.execute(sql, ended).unwrap(), 1);
    let feed = other.feed().unwrap();
    let (head, mut told) = (feed.head(), Vec::new());
    let later = NOW + Duration::from_secs(1);
    let (again, trail) = (EndReason::Logout, none());
    let again = one.end(row.id, later, again, &trail);
    assert!(again.block_on().unwrap().unwrap().ended.is_some());
    feed.read(head, &mut |ended| told.push(ended)).unwrap();
    let end = Ended {
        session: row.id,
        at: NOW,
        reason: EndReason::Logout,
    };
    assert_eq!(told, [end]);
}

#[test]
fn accounts_are_added_together_each_where_name_and_id_are_free() {
    on_every_store(|store, _| {
        let account = |id: &str, name: &str| Account {
            id: UserId::new(id).unwrap(),
            username: name.into(),
            password_hash: PasswordHash::from_phc(name),
            disabled: id == "2",
            created_at: NOW,
            privileged: false,
            valid_from: ValidFrom(0),
        };
        let add = |accounts: Vec<Account>| {
            let accounts = accounts.into_iter();
            let with_trails = accounts.map(|account| (account, Trail::default()));
            store
                .add_accounts(with_trails.collect())
                .block_on()
                .unwrap()
        };
        assert_eq!(add(Vec::new()), []);
        let some = [account("1", "ada"), account("2", "bob")];
        assert_eq!(add(some.to_vec()), [Write::Done, Write::Done]);
        let more = vec![
            account("3", "ada"),
            account("4", "cy"),
            account("4", "di"),
            account("2", "bob"),
        ];
        let writes = [Write::Lost, Write::Done, Write::Lost, Write::Lost];
        assert_eq!(add(more), writes);
        let kept = store.accounts(None, 10).block_on().unwrap();
        assert_eq!(kept[..2], some);
        assert_eq!((kept.len(), &*kept[2].username), (3, "cy"));
    });
}

#[test]
fn an_address_moves_on_only_from_where_it_is() {
    on_every_store(|store, _| {
        let at = |cursor, places: &[u64]| {
            let queued = store.enqueue("one", cursor, places, Timestamp(5));
            queued.block_on().unwrap()
        };
        assert_eq!(store.outbox_cursor("one").block_on().unwrap(), None);
        assert_eq!(at((Some(0), 3), &[1]), Write::Lost);
        assert_eq!(at((None, 0), &[]), Write::Done);
        assert_eq!(at((None, 0), &[]), Write::Lost);
        assert_eq!(at((Some(0), 3), &[1, 3]), Write::Done);
        assert_eq!(at((Some(0), 3), &[1, 3]), Write::Lost);
        assert_eq!(store.outbox_cursor("one").block_on().unwrap(), Some(3));
        assert_eq!(store.outbox_cursor("other").block_on().unwrap(), None);
    });
}

#[test]
fn an_id_is_adopted_once_whatever_becomes_of_its_row() {
    on_every_store(|store, env| {
        let row = Session {
            absolute_end: NOW + Duration::from_secs(10),
            ..session(env, "ada")
        };
        let (day, untold) = (Duration::from_secs(24 * 3600), Trail::default());
        let adopt = |row: &Session, seen| {
            let adopted = store.adopt(row.clone(), ValidFrom(seen), NOW + day, &untold);
            adopted.block_on().unwrap()
        };
        let purge = |now| {
            let purged = store.purge(now, NOW, 100, &untold);
            purged.block_on().map(drop).unwrap();
        };
        assert_eq!(adopt(&row, 1), Write::Lost);
        assert_eq!(adopt(&row, 0), Write::Done);
        assert_eq!(store.load(row.id).block_on().unwrap(), Some(row.clone()));
        assert_eq!(adopt(&row, 0), Write::Lost);
        purge(NOW + day);
        assert!(store.was_adopted(row.id).block_on().unwrap());
        assert_eq!(store.load(row.id).block_on().unwrap(), None);
        assert_eq!(adopt(&row, 0), Write::Lost);
        assert_eq!(store.load(row.id).block_on().unwrap(), None);
        purge(NOW + 2 * day);
        assert!(!store.was_adopted(row.id).block_on().unwrap());
        assert_eq!(adopt(&row, 0), Write::Done);
        // A session of ours with that id, should there ever be one, is not overwritten.
        let own = session(env, "eve");
        let _ = store.insert(own.clone(), ValidFrom(0)).block_on().unwrap();
        assert_eq!(adopt(&own, 0), Write::Lost);
    });
}

#[test]
fn a_claimed_delivery_is_one_callers_alone_until_the_claim_runs_out() {
    on_every_store(|store, _| {
        let claim = |now: i64, limit| {
            let (now, until) = (Timestamp(now), Timestamp(now + 100));
            let claimed = store.claim("one", now, until, limit).block_on();
            let claimed = claimed.unwrap().into_iter();
            claimed
                .map(|one| (one.place, one.attempts))
                .collect::<Vec<_>>()
        };
        let settle = |place, again| store.settle("one", place, again).block_on().unwrap();
        assert_eq!(claim(0, 9), []);
        let all = store.enqueue("one", (None, 9), &[4, 7, 9], Timestamp(10));
        assert_eq!(all.block_on().unwrap(), Write::Done);
        assert_eq!(claim(9, 9), []);
        assert_eq!(claim(10, 2), [(4, 0), (7, 0)]);
        assert_eq!(claim(10, 2), [(9, 0)]);
        assert_eq!(claim(109, 9), []);
        settle(7, Some((1, Timestamp(50))));
        settle(9, None);
        assert_eq!(claim(60, 9), [(7, 1)]);
        assert_eq!(claim(110, 9), [(4, 0)]);
        settle(9, Some((3, Timestamp(0))));
        assert_eq!(claim(300, 9), [(7, 1), (4, 0)]);
    });
}

const ONE: BucketKey = BucketKey([1; 16]);
const OTHER: BucketKey = BucketKey([2; 16]);

fn charge(buckets: &[(BucketKey, &str)]) -> Change {
    let limited = |(key, budget): &(BucketKey, &str)| {
        let limit = Limit {
            budget: budget.parse().unwrap(),
            run: Some(Run {
                most: 100,
                pause: 3_600_000,
            }),
        };
        (*key, limit)
    };
    Change {
        at: NOW,
        buckets: buckets.iter().map(limited).collect(),
        step: Step::Charge,
    }
}

fn settled(charge: Change, outcome: Outcome) -> Change {
    let charged_at = charge.at;
    Change {
        step: Step::Settle {
            charged_at,
            outcome,
        },
        ..charge
    }
}

#[test]
fn buckets_are_changed_together_or_not_at_all() {
    on_every_store(|store, _| {
        let ask = |change| store.change_buckets(change).block_on().unwrap();
        let narrow = charge(&[(ONE, "1/1m")]);
        let both = charge(&[(OTHER, "2/1m"), (ONE, "1/1m")]);
        assert_eq!(ask(narrow.clone()), Ok(()));
        for _ in 0..5 {
            assert_eq!(ask(both.clone()), Err(Refused::Busy(ONE)));
        }
        assert_eq!(ask(settled(narrow.clone(), Outcome::Success)), Ok(()));
        assert_eq!(ask(both.clone()), Ok(()));
        assert_eq!(ask(settled(both.clone(), Outcome::Failure)), Ok(()));
        assert_eq!(ask(both), Err(Refused::Wait(60_000)));
        let wide = charge(&[(OTHER, "2/1m")]);
        assert_eq!(ask(wide.clone()), Ok(()));
        assert_eq!(ask(wide), Err(Refused::Busy(OTHER)));
        let later = Change {
            at: NOW + Duration::from_secs(60),
            ..narrow
        };
        assert_eq!(ask(later), Ok(()));
    });
}

#[test]
fn a_bucket_goes_once_it_is_idle() {
    on_every_store(|store, _| {
        let purge = |after, limit| {
            let now = NOW + Duration::from_secs(after);
            store.purge_buckets(now, limit).block_on().unwrap()
        };
        for (key, outcome) in [(ONE, Outcome::Success), (OTHER, Outcome::Failure)] {
            let charge = charge(&[(key, "1/1m")]);
            assert_eq!(
                store.change_buckets(charge.clone()).block_on().unwrap(),
                Ok(())
            );
            let settle = settled(charge, outcome);
            assert_eq!(store.change_buckets(settle).block_on().unwrap(), Ok(()));
        }
        assert_eq!((purge(1, 10), purge(61, 10), purge(3_600, 10)), (1, 0, 0));
        assert_eq!(
            (purge(3_601, 0), purge(3_601, 10), purge(3_601, 10)),
            (0, 1, 0)
        );
    });
}

#[test]
fn no_more_is_charged_than_the_budget_however_many_ask_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let open = || SqliteStore::open(&path, Policy::default()).unwrap();
    let memory = MemoryStore::new(Policy::default());
    let (one, other, third) = (open(), open(), open().in_place());
    let mut together: Vec<[&dyn Store; 3]> = vec![[&one, &other, &third], [&memory; 3]];
    #[cfg(feature = "postgres")]
    let fresh = postgres::shared().fresh();
    #[cfg(feature = "postgres")]
    let nodes = [(); 3].map(|()| fresh.open());
    #[cfg(feature = "postgres")]
    together.push([&nodes[0], &nodes[1], &nodes[2]]);
    for stores in together {
        let charged = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for number in 0..64 {
                let (store, charged) = (stores[number % 3], &charged);
                scope.spawn(move || {
                    let asked = charge(&[(ONE, "10/15m"), (OTHER, "1000/1h")]);
                    if store.change_buckets(asked).block_on().unwrap().is_ok() {
                        charged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(charged.into_inner(), 10);
        // What was refused was not charged to the others either.
        let left = charge(&[(OTHER, "11/1h")]);
        let ask = |change| stores[0].change_buckets(change).block_on().unwrap();
        assert_eq!(
            (ask(left.clone()), ask(left)),
            (Ok(()), Err(Refused::Busy(OTHER)))
        );
    }
}
