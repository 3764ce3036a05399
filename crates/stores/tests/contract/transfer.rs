//! Moving: what one store hands over the other has, whichever two they are.

use doorward_core::event::{Actor, Event, EventName, Record};
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::store::StoreResult;
use doorward_core::throttle::Bucket;
use doorward_core::transfer::mark::Mark;
use doorward_core::transfer::switching::{MoveError, Switch};
use doorward_core::transfer::{Kind, LEFT, MovableStore, Rows, TransferStore as _};

use super::*;

/// Runs it from each store to each, both new.
fn on_every_pair(contract: impl Fn(&dyn MovableStore, &dyn MovableStore, &TestEnv)) {
    let directory = tempfile::tempdir().unwrap();
    let name = std::cell::Cell::new(0);
    let memory = || -> Box<dyn MovableStore> { Box::new(MemoryStore::new(Policy::default())) };
    let sqlite = || -> Box<dyn MovableStore> {
        name.set(name.get() + 1);
        let path = directory.path().join(format!("{}.db", name.get()));
        Box::new(SqliteStore::open(path, Policy::default()).unwrap())
    };
    #[cfg(feature = "postgres")]
    let schemas = std::cell::RefCell::new(Vec::new());
    #[cfg(feature = "postgres")]
    let postgres = || -> Box<dyn MovableStore> {
        let fresh = postgres::shared().fresh();
        let store = fresh.open();
        schemas.borrow_mut().push(fresh);
        Box::new(store)
    };
    let mut makers: Vec<&dyn Fn() -> Box<dyn MovableStore>> = vec![&memory, &sqlite];
    #[cfg(feature = "postgres")]
    makers.push(&postgres);
    #[cfg(feature = "redis")]
    let (redis, cluster) = (
        || -> Box<dyn MovableStore> { Box::new(redis::single().fresh()) },
        || -> Box<dyn MovableStore> { Box::new(redis::cluster().fresh()) },
    );
    #[cfg(feature = "redis")]
    makers.extend([&redis as &dyn Fn() -> Box<dyn MovableStore>, &cluster]);
    for from in &makers {
        for to in &makers {
            let (from, to) = (from(), to());
            let env = TestEnv::new(NOW, 7);
            let added = from.add_key(key(), true).block_on().unwrap();
            assert_eq!(added, Write::Done);
            contract(&*from, &*to, &env);
        }
    }
}

/// All pages of a kind, so many rows a page.
fn pages(store: &dyn MovableStore, kind: Kind, limit: u32) -> Vec<Rows> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let (rows, next) = store.rows(kind, after, limit).block_on().unwrap();
        pages.push(rows);
        let Some(next) = next else { return pages };
        after = Some(next);
    }
}

fn hand_over(from: &dyn MovableStore, to: &dyn MovableStore, limit: u32) {
    for kind in Kind::ALL {
        for rows in pages(from, kind, limit) {
            to.put(rows).block_on().unwrap();
        }
    }
}

/// In an order of their own: what each row holds.
fn held(store: &dyn MovableStore, kind: Kind) -> Vec<String> {
    let pages = pages(store, kind, 1000).into_iter();
    let mut rows: Vec<_> = pages.flat_map(texts).collect();
    rows.sort();
    rows
}

fn texts(rows: Rows) -> Vec<String> {
    match rows {
        Rows::Sessions(rows) => {
            // An ended row need not know what it had before.
            let ended = |row: Session| match row.ended {
                Some(_) => Session {
                    previous: None,
                    ..row
                },
                None => row,
            };
            rows.into_iter()
                .map(ended)
                .map(|row| format!("{row:?}"))
                .collect()
        }
        Rows::Keys(rows) => each(&rows),
        Rows::Accounts(rows) => {
            let hashes = rows
                .iter()
                .map(|row| format!("{:?}", row.password_hash.as_str()));
            each(&rows).into_iter().chain(hashes).collect()
        }
        Rows::Resets(rows) => each(&rows),
        Rows::ValidFrom(rows) => each(&rows),
        Rows::Adopted(rows) => each(&rows),
        Rows::Ended(rows) => each(&rows),
        Rows::Buckets(rows) => each(&rows),
        Rows::Events(rows) => each(&rows),
        Rows::Outbox(rows) => each(&rows),
        Rows::Deliveries(rows) => each(&rows),
    }
}

fn each<T: std::fmt::Debug>(rows: &[T]) -> Vec<String> {
    rows.iter().map(|row| format!("{row:?}")).collect()
}

fn record(name: EventName) -> Record {
    Record {
        at: NOW,
        event: Event::new(name),
        actor: Actor::User,
        network: None,
        device: Some("laptop".into()),
        agent: None,
    }
}

fn account(name: &str) -> Account {
    Account {
        id: UserId::new(&format!("id-{name}")).unwrap(),
        username: name.into(),
        password_hash: PasswordHash::from_phc("$argon2id$x"),
        disabled: false,
        privileged: true,
        created_at: NOW,
        valid_from: ValidFrom(0),
    }
}

/// Some of everything.
fn fill(store: &dyn MovableStore, env: &TestEnv) -> Vec<Session> {
    let _ = store.add_key(key(), true).block_on().unwrap();
    let rows: Vec<_> = (0..5)
        .map(|number| session(env, &format!("u{number}")))
        .collect();
    for row in &rows {
        let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
    }
    let _ = store.swap(rotated(&rows[0], env)).block_on().unwrap();
    for row in &rows[1..3] {
        store
            .end(row.id, NOW, EndReason::Logout, &none())
            .block_on()
            .unwrap();
    }
    let all = store
        .end_user(&rows[3].user, NOW, EndReason::Reuse, None, &none())
        .block_on();
    assert_eq!(all.unwrap(), [rows[3].id]);
    for name in ["ada", "bob", "eve"] {
        let added = store.add_account(account(name), &none()).block_on();
        assert_eq!(added.unwrap(), Write::Done);
        let reset = Reset {
            hash: ResetHash([name.as_bytes()[0]; 32]),
            expires_at: NOW + Duration::from_secs(60),
        };
        let started = store
            .start_reset(&account(name).id, reset, &none())
            .block_on();
        assert_eq!(started.unwrap(), Write::Done);
    }
    let foreign = session(env, "foreign");
    let adopted = store.adopt(foreign, ValidFrom(0), NOW, &none()).block_on();
    assert_eq!(adopted.unwrap(), Write::Done);
    let charged = store.change_buckets(charge(&[(ONE, "1/1m"), (OTHER, "2/1m")]));
    assert_eq!(charged.block_on().unwrap(), Ok(()));
    let records = vec![record(EventName::LoggedIn); 3];
    store.append(records).block_on().unwrap();
    let queued = store.enqueue("one", (None, 3), &[1, 2, 3], NOW).block_on();
    assert_eq!(queued.unwrap(), Write::Done);
    rows
}

#[test]
fn all_that_one_hands_over_the_other_has() {
    on_every_pair(|from, to, env| {
        fill(from, env);
        for limit in [2, 1000] {
            hand_over(from, to, limit);
            for kind in Kind::ALL {
                assert!(!held(from, kind).is_empty(), "{kind:?}");
                assert_eq!(held(from, kind), held(to, kind), "{kind:?}");
            }
        }
    });
}

#[test]
fn the_other_goes_on_where_the_first_was() {
    on_every_pair(|from, to, env| {
        let rows = fill(from, env);
        hand_over(from, to, 3);
        let row = from.load(rows[0].id).block_on().unwrap().unwrap();
        assert_eq!(row.version, 1);
        let swapped = to.swap(rotated(&row, env)).block_on().unwrap();
        assert_eq!(swapped, Write::Done);
        let again = to.swap(rotated(&rows[0], env)).block_on().unwrap();
        assert_eq!(again, Write::Lost);
        let (ends, cursor) = to.ended_after(0, 100).block_on().unwrap();
        assert_eq!(
            (ends.len(), from.ended_after(0, 100).block_on().unwrap().1),
            (3, cursor)
        );
        to.end(row.id, NOW, EndReason::Idle, &none())
            .block_on()
            .unwrap();
        let (new, later) = to.ended_after(cursor, 100).block_on().unwrap();
        assert!(new.len() == 1 && later > cursor);
        let place = |store: &dyn MovableStore| {
            let last = store
                .events_before(None, &doorward_core::event::Filter::default(), 1)
                .block_on();
            last.unwrap()[0].place
        };
        let before = place(to);
        to.append(vec![record(EventName::LoggedIn)])
            .block_on()
            .unwrap();
        assert!(place(to) > before && before == place(from));
    });
}

#[test]
fn a_session_gives_way_to_a_later_one_only() {
    on_every_pair(|from, to, env| {
        let row = session(env, "ada");
        let _ = from.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        hand_over(from, to, 10);
        // By swaps of its own the new store is two ahead, then the old one three, then one behind.
        let (first, mut versions) = (rotated(&row, env), Vec::new());
        let second = rotated(&first, env);
        for row in [&first, &second] {
            assert_eq!(to.swap(row.clone()).block_on().unwrap(), Write::Done);
        }
        let third = rotated(&second, env);
        for comes in [&first, &third, &second] {
            to.put(Rows::Sessions(vec![comes.clone()]))
                .block_on()
                .unwrap();
            versions.extend(to.versions(&[row.id]).block_on().unwrap());
        }
        assert_eq!(versions, [Some(2), Some(3), Some(3)]);
        assert_eq!(to.load(row.id).block_on().unwrap(), Some(third.clone()));
        let fourth = rotated(&third, env);
        assert_eq!(to.swap(fourth.clone()).block_on().unwrap(), Write::Done);
        let unknown = SessionId([9; 16]);
        assert_eq!(
            to.versions(&[unknown, row.id]).block_on().unwrap(),
            [None, Some(4)]
        );
        to.remove(&[row.id]).block_on().unwrap();
        assert_eq!(to.load(row.id).block_on().unwrap(), None);
        to.put(Rows::Sessions(vec![row.clone()]))
            .block_on()
            .unwrap();
        assert_eq!(to.load(row.id).block_on().unwrap(), Some(row.clone()));
    });
}

#[test]
fn what_was_ended_at_the_new_store_stays_so() {
    on_every_pair(|from, to, env| {
        let row = session(env, "ada");
        let _ = from.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        let user = &row.user;
        to.end_user(user, NOW, EndReason::Disabled, None, &none())
            .block_on()
            .unwrap();
        to.put(Rows::ValidFrom(vec![(user.clone(), ValidFrom(5))]))
            .block_on()
            .unwrap();
        assert_eq!(to.valid_from(user).block_on().unwrap(), ValidFrom(NOW.0));
    });
}

#[test]
fn a_store_that_was_left_takes_nothing_but_what_is_moved_in() {
    on_every_pair(|store, to, env| {
        let rows = fill(store, env);
        assert_eq!(store.left().block_on().unwrap(), None);
        store.leave(Some("a mark")).block_on().unwrap();
        store.leave(Some("another")).block_on().unwrap();
        assert_eq!(store.left().block_on().unwrap().as_deref(), Some("another"));
        let before: Vec<_> = Kind::ALL.iter().map(|kind| held(store, *kind)).collect();
        refuses_all(store, &rows, env);
        let after: Vec<_> = Kind::ALL.iter().map(|kind| held(store, *kind)).collect();
        assert_eq!(before, after);
        assert_eq!(
            store.load(rows[4].id).block_on().unwrap(),
            Some(rows[4].clone())
        );
        fill(to, &TestEnv::new(NOW, 8));
        store
            .clear(&[Kind::Buckets, Kind::Resets])
            .block_on()
            .unwrap();
        assert!(held(store, Kind::Buckets).is_empty() && held(store, Kind::Resets).is_empty());
        hand_over(to, store, 10);
        assert_eq!(held(store, Kind::Buckets), held(to, Kind::Buckets));
        store.leave(None).block_on().unwrap();
        assert_eq!(store.left().block_on().unwrap(), None);
        let swapped = store.swap(rotated(&rows[4], env)).block_on().unwrap();
        assert_eq!(swapped, Write::Done);
    });
}

fn refuses_all(store: &dyn MovableStore, rows: &[Session], env: &TestEnv) {
    let (ada, id, at) = (account("ada").id, rows[4].id, NOW + Duration::from_secs(1));
    let new = session(env, "new");
    let why = EndReason::Logout;
    refused(store.insert(new.clone(), ValidFrom(0)).block_on());
    refused(store.adopt(new, ValidFrom(0), NOW, &none()).block_on());
    refused(store.swap(rotated(&rows[4], env)).block_on());
    refused(store.end(id, at, why, &none()).block_on());
    refused(store.end_user(&ada, at, why, None, &none()).block_on());
    refused(store.erase(&ada, at, why, &none()).block_on());
    refused(store.set_restored(at, &none()).block_on());
    refused(store.add_account(account("new"), &none()).block_on());
    refused(store.rehash(&ada, "$argon2id$x", "$y").block_on());
    refused(store.set_password(&ada, None, "$y", at, &none()).block_on());
    refused(store.set_disabled(&ada, true, at, &none()).block_on());
    refused(store.remove_account(&ada, at, &none()).block_on());
    refused(store.set_privileged(&ada, false, at, &none()).block_on());
    let hash = ResetHash([b'a'; 32]);
    refused(store.finish_reset(hash, "$y", NOW, &none()).block_on());
    let other = StoredKey {
        id: KeyId(9),
        ..key()
    };
    refused(store.add_key(other, false).block_on());
    refused(store.update_keys(vec![key()]).block_on());
    refused(store.remove_key(KEY).block_on());
    refused(store.change_buckets(charge(&[(OTHER, "9/1m")])).block_on());
    refused(store.append(vec![record(EventName::LoggedIn)]).block_on());
    refused(store.enqueue("two", (None, 3), &[1], NOW).block_on());
    refused(store.settle("one", 1, None).block_on());
    refused(
        store
            .claim("one", at, at + Duration::from_secs(1), 9)
            .block_on(),
    );
}

fn refused<T: std::fmt::Debug>(answer: StoreResult<T>) {
    let error = answer.unwrap_err();
    assert!(error.0.contains(LEFT), "{error:?}");
}

#[test]
fn an_open_store_of_another_process_is_refused_too() {
    let directory = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(directory.path().join("a.db"), Policy::default()).unwrap();
    let (one, other, env) = (open(), open(), TestEnv::new(NOW, 7));
    let _ = other.add_key(key(), true).block_on().unwrap();
    let row = session(&env, "ada");
    let _ = other.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
    one.leave(Some("mark")).block_on().unwrap();
    refused(other.swap(rotated(&row, &env)).block_on());
    // As any program would be that writes to the file.
    let db = rusqlite::Connection::open(directory.path().join("a.db")).unwrap();
    let gone = db.execute("DELETE FROM sessions", []).unwrap_err();
    assert!(gone.to_string().contains(LEFT));
    one.leave(None).block_on().unwrap();
    let swapped = other.swap(rotated(&row, &env)).block_on().unwrap();
    assert_eq!(swapped, Write::Done);
}

#[test]
fn an_empty_bucket_is_none() {
    on_every_pair(|_, to, _| {
        to.put(Rows::Buckets(vec![(ONE, Bucket::default())]))
            .block_on()
            .unwrap();
        let charged = to.change_buckets(charge(&[(ONE, "1/1m")])).block_on();
        assert_eq!(charged.unwrap(), Ok(()));
    });
}

fn begin<'a>(from: &'a dyn MovableStore, to: &'a dyn MovableStore, seed: u64) -> Switch<'a> {
    let env = std::sync::Arc::new(TestEnv::new(NOW, seed));
    Switch::begin(from, to, env).block_on().unwrap()
}

#[test]
fn of_two_moves_at_once_the_first_writes_nothing_more() {
    on_every_pair(|from, to, env| {
        fill(from, env);
        let mut first = begin(from, to, 8);
        first.copy(&mut |_, _, _| {}).block_on().unwrap();
        let mut second = begin(from, to, 9);
        assert!(first.copy(&mut |_, _, _| {}).block_on().is_err());
        assert!(first.finish(&mut |_, _, _| {}).block_on().is_err());
        let mark = Mark::of(to).block_on().unwrap();
        assert!(matches!(mark, Some(Mark::Filling(_))));
        assert_eq!(from.left().block_on().unwrap(), None);
        second.finish(&mut |_, _, _| {}).block_on().unwrap();
        let ada = account("ada").id;
        let changed = to.set_disabled(&ada, true, NOW, &none()).block_on();
        assert!(changed.unwrap().is_some());
        let after = held(to, Kind::Accounts);
        for mut late in [first, second] {
            assert!(late.copy(&mut |_, _, _| {}).block_on().is_err());
        }
        assert_eq!(held(to, Kind::Accounts), after);
        assert_eq!(to.left().block_on().unwrap(), None);
    });
}

#[test]
fn a_move_that_is_given_up_leaves_one_store_open_and_can_be_gone_on_with() {
    on_every_pair(|from, to, env| {
        let give_up = |from: &dyn MovableStore, to: &dyn MovableStore| {
            Switch::take_back(from, Some(to), env).block_on()
        };
        let unmoved = give_up(to, from);
        assert!(matches!(unmoved, Err(MoveError::NotThese(_))));
        fill(from, env);
        let mut first = begin(from, to, 8);
        first.copy(&mut |_, _, _| {}).block_on().unwrap();
        // As if it had been stopped after the second opened, and before the first was said to be left.
        let filling = to.left().block_on().unwrap().unwrap();
        let id = filling.strip_prefix("filling ").unwrap();
        from.leave(Some(&format!("leaving {id}")))
            .block_on()
            .unwrap();
        let signed = vec![(format!("moving:{id}").into(), 1)];
        to.put(Rows::Outbox(signed)).block_on().unwrap();
        to.leave(None).block_on().unwrap();
        assert!(give_up(from, to).unwrap());
        assert_eq!(from.left().block_on().unwrap(), None);
        assert!(to.left().block_on().unwrap().is_some());
        begin(from, to, 9)
            .finish(&mut |_, _, _| {})
            .block_on()
            .unwrap();
        assert_eq!(to.left().block_on().unwrap(), None);
        assert!(!give_up(from, to).unwrap());
    });
}
