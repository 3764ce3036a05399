//! What only a Redis can get wrong: servers that die, nodes that die between two scripts, keys that move.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test says what is wrong by failing"
)]

use std::time::{Duration, Instant};

use doorward_core::event::{Actor, Event, EventName, Filter, Record, Trail};
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::KeyId;
use doorward_core::limits::{Cap, Opening, OverCap};
use doorward_core::session::{Delivery, Device, EndReason, Session};
use doorward_core::store::{EventStore as _, Opened, SessionStore as _, ValidFrom, Write};
use doorward_core::testing::TestEnv;
use doorward_core::{Policy, Timestamp};
use doorward_stores::RedisStore;
use pollster::FutureExt as _;

#[path = "servers/redis.rs"]
mod redis;
#[path = "servers/rings.rs"]
mod rings;

#[path = "redis/attacked.rs"]
mod attacked;
#[path = "redis/names.rs"]
mod names;
#[path = "redis/sentinels.rs"]
mod sentinels;
#[path = "redis/tls.rs"]
mod tls;
#[path = "redis/watched.rs"]
mod watched;

use redis::{Cluster, Server, eventually};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn open(url: &str) -> RedisStore {
    RedisStore::open(&url.parse().unwrap(), Policy::default()).unwrap()
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
        refresh_key: KeyId(1),
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

fn rotated(row: &Session) -> Session {
    Session {
        version: row.version + 1,
        ..row.clone()
    }
}

fn insert(store: &RedisStore, row: &Session) {
    let inserted = store.insert(row.clone(), ValidFrom(0)).block_on();
    assert_eq!(inserted.unwrap(), Write::Done);
}

fn trail() -> Trail {
    let record = |name| Record {
        at: NOW,
        event: Event::new(name),
        actor: Actor::User,
        network: None,
        device: None,
        agent: None,
    };
    Trail {
        once: None,
        each: Some(record(EventName::SessionEnded)),
    }
}

fn ends(store: &RedisStore) -> Vec<SessionId> {
    let ends = store.ended_after(0, 1000).block_on().unwrap().0;
    ends.iter().map(|end| end.session).collect()
}

#[test]
fn what_a_node_left_that_died_between_the_two_scripts_is_moved_once() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    let row = session(&TestEnv::new(NOW, 1), "ada");
    insert(&store, &row);
    // The log's script fails, as if its node had died before it.
    assert!(
        server
            .ask(&["SET", "doorward:{logs}ends", "x"])
            .contains("OK")
    );
    let end = |reason| store.end(row.id, NOW, reason, &trail()).block_on();
    assert!(end(EndReason::Logout).is_err());
    assert!(server.ask(&["DEL", "doorward:{logs}ends"]).contains(":1"));
    eventually(|| ends(&store) == [row.id]);
    let again = end(EndReason::Reuse).unwrap().unwrap();
    assert_eq!(again.ended.unwrap().reason, EndReason::Logout);
    let (events, _) = store
        .events_after(0, &Filter::default(), 9)
        .block_on()
        .unwrap();
    assert_eq!((events.len(), ends(&store).len()), (1, 1));
}

#[test]
fn another_node_hears_of_an_end_before_it_polls() {
    for url in [redis::single().url(), redis::cluster().url()] {
        let url = redis::with_prefix(&url);
        let (one, other) = (open(&url), open(&url));
        eventually(|| other.slow_to_spread().is_none());
        let feed = other.feed().unwrap();
        let row = session(&TestEnv::new(NOW, 1), "ada");
        insert(&one, &row);
        let ended = one.end(row.id, NOW, EndReason::Logout, &trail()).block_on();
        assert!(ended.unwrap().is_some());
        let mut heard = Vec::new();
        eventually(|| {
            let _ = feed.read(0, &mut |end| heard.push(end.session));
            heard.contains(&row.id)
        });
    }
}

#[test]
fn a_server_that_comes_back_is_used_again_at_once() {
    let mut server = Server::start(&[]);
    let store = open(&server.url());
    let row = session(&TestEnv::new(NOW, 1), "ada");
    server.kill();
    let asked = Instant::now();
    assert!(store.load(row.id).block_on().is_err());
    assert!(asked.elapsed() < Duration::from_secs(6));
    server.start_again(&[]);
    let back = Instant::now();
    eventually(|| store.load(row.id).block_on().is_ok());
    assert!(back.elapsed() < Duration::from_secs(2));
    insert(&store, &row);
}

#[test]
fn who_asks_together_with_others_gets_his_own_answer_also_where_scripts_are_forgotten() {
    let server = Server::start(&[]);
    let (store, env) = (open(&server.url()), TestEnv::new(NOW, 1));
    let rows: Vec<_> = (0..32).map(|n| session(&env, &n.to_string())).collect();
    std::thread::scope(|scope| {
        for mut row in rows {
            let (store, server) = (&store, &server);
            scope.spawn(move || {
                insert(store, &row);
                for _ in 0..50 {
                    let next = rotated(&row);
                    let swapped = store.swap(next.clone()).block_on().unwrap();
                    assert_eq!(swapped, Write::Done);
                    assert_eq!(store.swap(next.clone()).block_on().unwrap(), Write::Lost);
                    assert_eq!(store.load(row.id).block_on().unwrap().as_ref(), Some(&next));
                    row = next;
                }
                assert!(server.ask(&["SCRIPT", "FLUSH"]).contains("OK"));
            });
        }
    });
}

/// Whether all fail, the slowest within this time.
fn all_fail_within(span: Duration, store: &RedisStore, row: &Session) {
    let end = || {
        store
            .end(row.id, NOW, EndReason::Logout, &trail())
            .block_on()
    };
    let asked = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(end().is_err()));
        scope.spawn(|| assert!(store.swap(rotated(row)).block_on().is_err()));
        scope.spawn(|| assert!(store.load(row.id).block_on().is_err()));
    });
    assert!(asked.elapsed() < span, "{:?}", asked.elapsed());
}

#[test]
fn whoever_asks_a_server_that_is_gone_is_told_at_once_until_it_is_back() {
    type Fault = fn(&mut Server);
    let killed: [Fault; 2] = [Server::kill, |server| server.start_again(&[])];
    let hangs: [Fault; 2] = [
        |server| server.signal("STOP"),
        |server| server.signal("CONT"),
    ];
    for [gone, back] in [killed, hangs] {
        let mut server = Server::start(&[]);
        let store = open(&server.url());
        let row = session(&TestEnv::new(NOW, 1), "ada");
        insert(&store, &row);
        gone(&mut server);
        // One finds that no answer comes, and one that no connection is to be had.
        all_fail_within(Duration::from_secs(5), &store, &row);
        all_fail_within(Duration::from_secs(2), &store, &row);
        for _ in 0..5 {
            all_fail_within(Duration::from_millis(500), &store, &row);
        }
        back(&mut server);
        let since = Instant::now();
        eventually(|| store.load(row.id).block_on().is_ok());
        eventually(|| {
            store
                .end(row.id, NOW, EndReason::Logout, &trail())
                .block_on()
                .is_ok()
        });
        assert!(
            since.elapsed() < Duration::from_secs(2),
            "{:?}",
            since.elapsed()
        );
    }
}

#[test]
fn a_primary_that_is_killed_is_replaced_and_what_had_ended_stays_so() {
    let mut cluster = Cluster::start();
    let store = open(&cluster.url());
    let env = TestEnv::new(NOW, 1);
    let rows: Vec<_> = (0..60).map(|n| session(&env, &n.to_string())).collect();
    for row in &rows {
        insert(&store, row);
        let ended = store
            .end(row.id, NOW, EndReason::Logout, &trail())
            .block_on();
        assert!(ended.unwrap().is_some());
    }
    cluster.servers[0].kill();
    let all_ended = |store: &RedisStore| {
        rows.iter().all(|row| match store.load(row.id).block_on() {
            Ok(Some(row)) => row.ended.is_some(),
            _ => false,
        })
    };
    eventually(|| all_ended(&store));
    let after = session(&env, "after");
    insert(&store, &after);
    assert_eq!(ends(&store).len(), 60);
    assert!(all_ended(&open(&cluster.url())));
}

#[test]
fn a_login_or_an_end_that_no_replica_confirms_is_an_error() {
    let server = Server::start(&[]);
    let store = open(&format!("{}?wait=1&wait_ms=100", server.url()));
    let row = session(&TestEnv::new(NOW, 1), "ada");
    let opened = store.insert(row.clone(), ValidFrom(0)).block_on();
    assert!(opened.unwrap_err().0.contains("replicas"));
    let ended = store
        .end(row.id, NOW, EndReason::Logout, &trail())
        .block_on();
    assert!(ended.unwrap_err().0.contains("replicas"));
}

#[test]
fn logins_do_not_wait_for_a_replica_that_has_gone_and_ends_do_while_it_is_believed_to_be_there() {
    // So long the cluster believes in a server that is gone.
    let mut cluster = Cluster::start_with(&["--cluster-node-timeout", "10000"]);
    let store = open(&format!("{}&wait_ms=200", cluster.url()));
    let env = TestEnv::new(NOW, 1);
    let replicas = cluster.servers.split_off(3);
    insert(&store, &session(&env, "before"));
    eventually(|| {
        cluster.servers.iter().all(|primary| {
            let slots = primary.ask(&["CLUSTER", "SLOTS"]);
            let is_known = |replica: &Server| slots.contains(&replica.port.to_string());
            replicas.iter().all(is_known)
        })
    });
    drop(replicas);
    let logs_in = |n: u32| {
        let row = session(&env, &format!("after-{n}"));
        let opened = store.insert(row.clone(), ValidFrom(0)).block_on();
        (opened.is_ok(), row)
    };
    let mut numbers = 0..;
    // Nodes look each second.
    eventually(|| (0..12).all(|_| logs_in(numbers.next().unwrap()).0));
    let (_, row) = logs_in(numbers.next().unwrap());
    let ended = store
        .end(row.id, NOW, EndReason::Logout, &trail())
        .block_on();
    assert!(ended.unwrap_err().0.contains("replicas"));
}

#[test]
fn sessions_are_refreshed_while_their_slots_move() {
    let cluster = Cluster::start();
    let store = open(&cluster.url());
    let env = TestEnv::new(NOW, 1);
    let mut rows: Vec<_> = (0..200).map(|n| session(&env, &n.to_string())).collect();
    for row in &rows {
        insert(&store, row);
    }
    let moved = std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let to = cluster.servers[2].ask(&["CLUSTER", "MYID"]);
            let to = to.lines().nth(1).unwrap().trim().to_owned();
            let from = cluster.servers[0].ask(&["CLUSTER", "MYID"]);
            let from = from.lines().nth(1).unwrap().trim().to_owned();
            let mut reshard = std::process::Command::new("redis-cli");
            reshard.args(["--cluster", "reshard"]);
            reshard.arg(format!("127.0.0.1:{}", cluster.servers[0].port));
            reshard.args(["--cluster-from", &from, "--cluster-to", &to]);
            reshard.args(["--cluster-slots", "1500", "--cluster-yes"]);
            reshard.output().unwrap().status.success()
        });
        while !moving.is_finished() {
            for row in &mut rows {
                let next = rotated(row);
                assert_eq!(store.swap(next.clone()).block_on().unwrap(), Write::Done);
                *row = next;
            }
        }
        moving.join().unwrap()
    });
    assert!(moved);
    for row in rows {
        assert_eq!(store.load(row.id).block_on().unwrap(), Some(row));
    }
}

#[test]
fn logins_at_the_same_moment_never_leave_more_than_the_cap() {
    let url = redis::with_prefix(&redis::cluster().url());
    let stores = [open(&url), open(&url)];
    std::thread::scope(|scope| {
        for number in 0..16 {
            let store = &stores[number % 2];
            scope.spawn(move || {
                let env = TestEnv::new(NOW, number as u64);
                let opening = Opening {
                    session: session(&env, "ada"),
                    seen: ValidFrom(0),
                    replaces: None,
                    cap: Some(Cap {
                        sessions: 3.try_into().unwrap(),
                        over: OverCap::EndOldest,
                    }),
                    restored_at: Timestamp(0),
                };
                let opened = store.open(opening, &trail()).block_on().unwrap();
                assert!(matches!(opened, Opened::Done(_)));
            });
        }
    });
    let ada = UserId::new("ada").unwrap();
    assert_eq!(stores[0].sessions_of(&ada).block_on().unwrap().len(), 3);
    assert_eq!(ends(&stores[1]).len(), 13);
}

#[test]
fn a_session_whose_id_does_not_tell_its_slot_is_found_and_ended() {
    for url in [redis::single().url(), redis::cluster().url()] {
        let store = open(&redis::with_prefix(&url));
        let env = TestEnv::new(NOW, 1);
        let ada = session(&env, "ada");
        let row = Session {
            user: UserId::new("bob").unwrap(),
            ..ada
        };
        assert_ne!(row.id.slot(), row.user.slot());
        let until = NOW + Duration::from_secs(3600);
        let adopt = |row: &Session| {
            let trail = Trail::default();
            store
                .adopt(row.clone(), ValidFrom(0), until, &trail)
                .block_on()
                .unwrap()
        };
        assert_eq!(adopt(&row), Write::Done);
        assert_eq!(store.load(row.id).block_on().unwrap(), Some(row.clone()));
        assert_eq!(store.swap(rotated(&row)).block_on().unwrap(), Write::Done);
        let thief = Session {
            user: UserId::new("eve").unwrap(),
            ..row.clone()
        };
        assert_eq!(adopt(&thief), Write::Lost);
        assert!(store.was_adopted(row.id).block_on().unwrap());
        let ended = store
            .end(row.id, NOW, EndReason::Logout, &trail())
            .block_on();
        assert_eq!(ended.unwrap().unwrap().user, row.user);
        assert_eq!(ends(&store), [row.id]);
        let late = NOW + Duration::from_secs(100 * 24 * 3600);
        for _ in 0..2 {
            let _ = store.purge(late, late, 1000, &trail()).block_on().unwrap();
        }
        assert_eq!(store.load(row.id).block_on().unwrap(), None);
        assert!(!store.was_adopted(row.id).block_on().unwrap());
    }
}

#[test]
fn a_login_that_replaces_another_users_session_ends_it() {
    let store = redis::cluster().fresh();
    let env = TestEnv::new(NOW, 1);
    let (old, new) = (session(&env, "ada"), session(&env, "bob"));
    insert(&store, &old);
    let opening = Opening {
        session: new,
        seen: ValidFrom(0),
        replaces: Some(old.id),
        cap: None,
        restored_at: Timestamp(0),
    };
    let opened = store.open(opening, &trail()).block_on().unwrap();
    let Opened::Done(gone) = opened else {
        panic!("{opened:?}")
    };
    assert_eq!(gone[0].ended.unwrap().reason, EndReason::Replaced);
    let (events, _) = store
        .events_after(0, &Filter::default(), 9)
        .block_on()
        .unwrap();
    let event = &events[0].record.event;
    assert_eq!((events.len(), &event.user), (1, &Some(old.user)));
}

#[test]
fn a_server_that_throws_rows_away_or_a_wrong_password_is_refused_and_the_password_not_told() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let address = server.url().parse().unwrap();
    let refused = RedisStore::open(&address, Policy::default()).err().unwrap();
    assert!(refused.to_string().contains("noeviction"));
    let server = Server::start(&["--requirepass", "right-horse"]);
    let url = |password| format!("redis://:{password}@127.0.0.1:{}/", server.port);
    let address = url("wrong-horse").parse().unwrap();
    let refused = RedisStore::open(&address, Policy::default()).err().unwrap();
    for told in [
        refused.to_string(),
        format!("{refused:?}"),
        format!("{address:?}"),
    ] {
        assert!(!told.contains("horse"), "{told}");
    }
    assert!(RedisStore::open(&url("right-horse").parse().unwrap(), Policy::default()).is_ok());
}
