//! The log of events.

use doorward_core::event::{Actor, Entry, Event, EventName, Filter, Record};
use doorward_core::limits::{Cap, Opening, OverCap};
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::store::Opened;

use super::*;

fn record(at: i64, event: Event) -> Record {
    Record {
        at: NOW + Duration::from_secs(u64::try_from(at).unwrap()),
        event,
        actor: Actor::User,
        network: Some("192.0.2.0/24".into()),
        device: None,
        agent: Some("curl \u{e4}".into()),
    }
}

fn of(name: EventName, user: &str) -> Event {
    Event::new(name).of(&UserId::new(user).unwrap())
}

fn all(store: &dyn Store) -> Vec<Record> {
    let (entries, _) = store
        .events_after(0, &Filter::default(), 1000)
        .block_on()
        .unwrap();
    entries.into_iter().map(|entry| entry.record).collect()
}

fn trail() -> Trail {
    Trail {
        once: Some(record(0, of(EventName::SessionsEnded, "ada"))),
        each: Some(record(
            0,
            Event::new(EventName::SessionEnded).because("idle"),
        )),
    }
}

#[test]
fn a_record_reads_back_as_it_was_appended() {
    on_every_store(|store, _| {
        let full = Event::new(EventName::KeyRotated)
            .of(&UserId::new("\u{e4}da").unwrap())
            .in_session(SessionId([7; 16]))
            .because("access")
            .with("a key")
            .times(1 << 40);
        let bare = Record {
            network: None,
            agent: None,
            actor: Actor::System,
            ..record(1, Event::new(EventName::EventsDropped))
        };
        let records = vec![record(0, full), bare];
        store.append(records.clone()).block_on().unwrap();
        assert_eq!(all(store), records);
    });
}

#[test]
fn a_cursor_misses_nothing_and_passes_over_what_is_not_wanted() {
    on_every_store(|store, _| {
        let some = |n: i64| {
            let user = if n % 2 == 0 { "ada" } else { "bob" };
            record(n, of(EventName::LoggedIn, user))
        };
        store
            .append((0..10).map(some).collect())
            .block_on()
            .unwrap();
        let read = |cursor, filter: &Filter, limit| {
            store
                .events_after(cursor, filter, limit)
                .block_on()
                .unwrap()
        };
        let (mut seen, mut cursor) = (Vec::new(), 0);
        loop {
            let (page, next) = read(cursor, &Filter::default(), 3);
            if page.is_empty() {
                assert_eq!(next, cursor);
                break;
            }
            seen.extend(page);
            cursor = next;
        }
        let times: Vec<_> = seen.iter().map(|entry| entry.record.at).collect();
        assert_eq!(times.len(), 10);
        assert!(seen.windows(2).all(|two| two[0].place < two[1].place));
        let nobody = Filter {
            user: UserId::new("eve").ok(),
            ..Filter::default()
        };
        assert_eq!(read(0, &nobody, 3), (Vec::new(), cursor));
        store.append(vec![some(10)]).block_on().unwrap();
        let (new, next) = read(cursor, &Filter::default(), 3);
        assert_eq!((new.len(), new[0].place), (1, next));
        // Removed records leave their places empty.
        let _ = store
            .purge_events(NOW + Duration::from_secs(99), 99)
            .block_on();
        store.append(vec![some(11)]).block_on().unwrap();
        assert!(read(0, &Filter::default(), 3).0[0].place > next);
    });
}

#[test]
fn every_filter_takes_what_it_says() {
    on_every_store(|store, _| {
        let session = SessionId([3; 16]);
        let records = vec![
            record(0, of(EventName::LoggedIn, "ada")),
            record(1, of(EventName::Refreshed, "ada").in_session(session)),
            record(2, of(EventName::LoggedIn, "bob")),
            record(3, Event::new(EventName::LoginFailed)),
        ];
        store.append(records.clone()).block_on().unwrap();
        let at = |n| Some(NOW + Duration::from_secs(n));
        let filters = [
            Filter::default(),
            Filter {
                user: UserId::new("ada").ok(),
                ..Filter::default()
            },
            Filter {
                session: Some(session),
                ..Filter::default()
            },
            Filter {
                name: Some(EventName::LoggedIn),
                ..Filter::default()
            },
            Filter {
                since: at(1),
                until: at(3),
                ..Filter::default()
            },
            Filter {
                user: UserId::new("ada").ok(),
                until: at(1),
                ..Filter::default()
            },
        ];
        for filter in filters {
            let wanted: Vec<_> = records
                .iter()
                .filter(|record| filter.takes(record))
                .collect();
            let (after, _) = store.events_after(0, &filter, 9).block_on().unwrap();
            let mut before = store.events_before(None, &filter, 9).block_on().unwrap();
            before.reverse();
            assert_eq!(after, before, "{filter:?}");
            let found: Vec<_> = after.iter().map(|entry| &entry.record).collect();
            assert_eq!(found, wanted, "{filter:?}");
        }
        let newest = store
            .events_before(None, &Filter::default(), 1)
            .block_on()
            .unwrap();
        let Entry { place, record } = &newest[0];
        assert_eq!(record.event.name, EventName::LoginFailed);
        let everything = Filter::default();
        let next = store.events_before(Some(*place), &everything, 1);
        assert_eq!(next.block_on().unwrap()[0].record, records[2]);
    });
}

#[test]
fn what_ends_leaves_its_trail_and_what_does_not_leaves_none() {
    on_every_store(|store, env| {
        let rows: Vec<_> = (0..3).map(|_| session(env, "ada")).collect();
        for row in &rows {
            let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        }
        let end = |id| {
            store
                .end(id, NOW, EndReason::Logout, &trail())
                .block_on()
                .unwrap()
        };
        end(rows[0].id);
        end(rows[0].id);
        end(SessionId([9; 16]));
        let user = UserId::new("ada").unwrap();
        let trail = trail();
        let ended = store.end_user(&user, NOW, EndReason::EndedByUser, None, &trail);
        assert_eq!(ended.block_on().unwrap().len(), 2);
        let none = store.set_password(&user, None, "$x", NOW, &trail);
        assert_eq!(none.block_on().unwrap(), None);
        let none = store.set_disabled(&user, true, NOW, &trail);
        assert_eq!(none.block_on().unwrap(), None);
        let left = all(store);
        let left: Vec<_> = left.iter().map(|record| &record.event).collect();
        let each = |id| {
            of(EventName::SessionEnded, "ada")
                .in_session(id)
                .because("idle")
        };
        let once = |count| of(EventName::SessionsEnded, "ada").times(count);
        let (first, second) = (each(rows[1].id), each(rows[2].id));
        assert_eq!(
            left,
            [&once(1), &each(rows[0].id), &once(2), &first, &second]
        );
    });
}

#[test]
fn an_accounts_changes_leave_their_trail() {
    on_every_store(|store, env| {
        let id = UserId::new("ada").unwrap();
        let account = Account {
            id: id.clone(),
            username: "ada".into(),
            password_hash: PasswordHash::from_phc("$old"),
            disabled: false,
            privileged: false,
            created_at: NOW,
            valid_from: ValidFrom(0),
        };
        let trail = |name| Trail {
            once: Some(record(0, of(name, "ada"))),
            ..trail()
        };
        let added = trail(EventName::AccountAdded);
        for _ in 0..2 {
            let _ = store
                .add_account(account.clone(), &added)
                .block_on()
                .unwrap();
        }
        let row = session(env, "ada");
        let _ = store.insert(row, ValidFrom(0)).block_on().unwrap();
        let set = trail(EventName::PasswordSet);
        store
            .set_password(&id, None, "$x", NOW, &set)
            .block_on()
            .unwrap();
        for (disabled, name) in [
            (true, EventName::AccountDisabled),
            (false, EventName::AccountEnabled),
        ] {
            let trail = trail(name);
            let set = store.set_disabled(&id, disabled, NOW, &trail);
            assert!(set.block_on().unwrap().is_some());
        }
        let row = session(env, "ada");
        let seen = store.valid_from(&id).block_on().unwrap();
        let _ = store.insert(row, seen).block_on().unwrap();
        let marked = trail(EventName::PrivilegeChanged);
        let set = store.set_privileged(&id, true, NOW, &marked);
        assert!(set.block_on().unwrap().is_some());
        let (hash, expires_at) = (ResetHash([1; 32]), NOW + Duration::from_secs(60));
        let reset = Reset { hash, expires_at };
        let started = trail(EventName::ResetStarted);
        let start = store.start_reset(&id, reset, &started);
        assert_eq!(start.block_on().unwrap(), Write::Done);
        let used = trail(EventName::PasswordReset);
        for _ in 0..2 {
            let _ = store.finish_reset(hash, "$y", NOW, &used).block_on();
        }
        let removed = trail(EventName::AccountRemoved);
        for _ in 0..2 {
            let _ = store.remove_account(&id, NOW, &removed).block_on().unwrap();
        }
        for trail in [&marked, &started] {
            let set = store.set_privileged(&id, true, NOW, trail).block_on();
            assert_eq!(set.unwrap(), None);
            let start = store.start_reset(&id, reset, trail).block_on();
            assert_eq!(start.unwrap(), Write::Lost);
        }
        let names: Vec<_> = all(store)
            .iter()
            .map(|record| record.event.name.as_str())
            .collect();
        let wanted = [
            "account_added",
            "password_set",
            "session_ended",
            "account_disabled",
            "account_enabled",
            "privilege_changed",
            "session_ended",
            "reset_started",
            "password_reset",
            "account_removed",
        ];
        assert_eq!(names, wanted);
    });
}

#[test]
fn what_opens_leaves_its_record_and_what_ends_for_it_its_own() {
    on_every_store(|store, env| {
        let rows = [(); 4].map(|()| session(env, "ada"));
        let [replaced, oldest, last, refused] = rows.clone();
        let trail = |row: &Session| Trail {
            once: Some(record(0, of(EventName::LoggedIn, "ada").in_session(row.id))),
            each: Some(record(0, Event::new(EventName::SessionEnded))),
        };
        let open = |row: Session, replaces, cap: Option<(u32, OverCap)>| {
            let trail = trail(&row);
            let opening = Opening {
                session: row,
                seen: ValidFrom(0),
                replaces,
                cap: cap.map(|(sessions, over)| Cap {
                    sessions: sessions.try_into().unwrap(),
                    over,
                }),
                restored_at: Timestamp(0),
            };
            store.open(opening, &trail).block_on().unwrap()
        };
        let _ = open(oldest.clone(), None, None);
        let _ = open(replaced.clone(), None, None);
        let cap = |over| Some((1, over));
        let _ = open(last.clone(), Some(replaced.id), cap(OverCap::EndOldest));
        assert_eq!(open(refused, None, cap(OverCap::Refuse)), Opened::Full);
        assert_eq!(open(last.clone(), None, None), Opened::Lost);
        let left = all(store);
        let left: Vec<_> = left
            .iter()
            .map(|record| {
                let Event { name, session, .. } = record.event;
                let reason = record.event.reason.as_deref().unwrap_or_default();
                (name.as_str(), session.unwrap(), reason, record.actor)
            })
            .collect();
        let wanted = [
            ("logged_in", oldest.id, "", Actor::User),
            ("logged_in", replaced.id, "", Actor::User),
            ("logged_in", last.id, "", Actor::User),
            ("session_ended", replaced.id, "replaced", Actor::User),
            ("session_ended", oldest.id, "session_limit", Actor::System),
        ];
        assert_eq!(left, wanted);
    });
}

#[test]
fn accounts_that_are_added_together_and_adoptions_leave_a_record_each_if_they_take_effect() {
    on_every_store(|store, env| {
        let once = |name, user: &str| Trail {
            once: Some(record(0, of(name, user))),
            each: None,
        };
        let account = |name: &str| Account {
            id: UserId::new(name).unwrap(),
            username: name.into(),
            password_hash: PasswordHash::from_phc("$old"),
            disabled: false,
            created_at: NOW,
            valid_from: ValidFrom(0),
            privileged: false,
        };
        let added = ["ada", "bob", "ada"];
        let added = added.map(|name| (account(name), once(EventName::AccountAdded, name)));
        let writes = store.add_accounts(added.to_vec()).block_on().unwrap();
        assert_eq!(writes, [Write::Done, Write::Done, Write::Lost]);
        let (row, trail) = (session(env, "ada"), once(EventName::Adopted, "ada"));
        for write in [Write::Done, Write::Lost] {
            let adopted = store.adopt(row.clone(), ValidFrom(0), NOW, &trail);
            assert_eq!(adopted.block_on().unwrap(), write);
        }
        let mut left: Vec<_> = all(store).into_iter().map(|record| record.event).collect();
        let added = |name| of(EventName::AccountAdded, name);
        let adopted = of(EventName::Adopted, "ada");
        // Those that are added together may be added in any order.
        left[..2]
            .sort_unstable_by_key(|event| event.user.as_ref().map(|user| user.as_str().to_owned()));
        assert_eq!(left, [added("ada"), added("bob"), adopted]);
    });
}

#[test]
fn a_session_that_ran_out_unseen_is_told_of_once() {
    on_every_store(|store, env| {
        let (idle, ended, absolute) = (
            session(env, "ada"),
            session(env, "ada"),
            session(env, "ada"),
        );
        let absolute = Session {
            absolute_end: NOW + Duration::from_secs(3600),
            ..absolute
        };
        for row in [&idle, &ended, &absolute] {
            let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        }
        let _ = store
            .end(ended.id, NOW, EndReason::Logout, &none())
            .block_on();
        let later = NOW + Duration::from_secs(40 * 24 * 3600);
        for _ in 0..4 {
            let _ = store.purge(later, later, 100, &trail()).block_on().unwrap();
        }
        let mut left = all(store);
        left.sort_by_key(|record| record.at);
        let left = left.iter().map(|record| {
            (
                record.at,
                record.event.session,
                record.event.reason.as_deref(),
            )
        });
        let wanted = [
            (absolute.absolute_end, Some(absolute.id), Some("absolute")),
            (
                NOW + Policy::default().refresh_ttl,
                Some(idle.id),
                Some("idle"),
            ),
        ];
        assert_eq!(left.collect::<Vec<_>>(), wanted);
    });
}

#[test]
fn what_is_erased_is_gone_and_does_not_come_back() {
    on_every_store(|store, env| {
        let (live, ended, other) = (
            session(env, "ada"),
            session(env, "ada"),
            session(env, "bob"),
        );
        let live = Session {
            device: Device {
                name: Some("laptop".into()),
                ..Device::default()
            },
            ..live
        };
        for row in [&live, &ended, &other] {
            let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        }
        let _ = store
            .end(ended.id, NOW, EndReason::Logout, &trail())
            .block_on();
        let _ = store.swap(rotated(&live, env)).block_on().unwrap();
        store
            .append(vec![record(0, of(EventName::LoggedIn, "bob"))])
            .block_on()
            .unwrap();
        let user = UserId::new("ada").unwrap();
        assert_eq!(store.kept_of(&user).block_on().unwrap().len(), 2);
        let erased = Trail {
            once: Some(record(0, Event::new(EventName::UserErased))),
            each: None,
        };
        let erase = || {
            store
                .erase(&user, NOW, EndReason::EndedByOperator, &erased)
                .block_on()
        };
        assert_eq!(erase().unwrap(), 2);
        assert_eq!(store.kept_of(&user).block_on().unwrap(), []);
        assert_eq!(store.load(live.id).block_on().unwrap(), None);
        let next = Session {
            version: 2,
            ..rotated(&live, env)
        };
        assert_eq!(store.swap(next).block_on().unwrap(), Write::Lost);
        let late = session(env, "ada");
        assert_eq!(
            store.insert(late, ValidFrom(0)).block_on().unwrap(),
            Write::Lost
        );
        let (ends, _) = store.ended_after(0, 9).block_on().unwrap();
        let ends: Vec<_> = ends.iter().map(|end| end.session).collect();
        assert_eq!(ends, [ended.id, live.id]);
        let left: Vec<_> = all(store).into_iter().map(|record| record.event).collect();
        assert_eq!(
            left,
            [
                of(EventName::LoggedIn, "bob"),
                Event::new(EventName::UserErased)
            ]
        );
        assert_eq!(erase().unwrap(), 0);
        assert_eq!(store.load(other.id).block_on().unwrap(), Some(other));
    });
}
