//! Servers that forget, run full, are demoted, or tell the time wrongly.

use doorward_core::password::PasswordHash;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::store::{Account, AccountStore as _, ThrottleStore as _};

use super::*;

const LATE: Timestamp = Timestamp(NOW.0 + 200 * 24 * 3600 * 1000);

/// The key of the only slot that holds anything.
fn slot_of(server: &Server) -> String {
    let keys = server.ask(&["KEYS", "doorward:{???}"]);
    keys.lines().nth(2).unwrap().trim().to_owned()
}

fn end(store: &RedisStore, row: &Session) -> bool {
    let trail = trail();
    let ended = store.end(row.id, NOW, EndReason::Logout, &trail);
    ended.block_on().is_ok()
}

#[test]
fn what_ends_is_told_after_a_failover_to_a_server_whose_clock_is_behind() {
    let server = Server::start(&[]);
    let (store, other) = (open(&server.url()), open(&server.url()));
    let env = TestEnv::new(NOW, 1);
    let rows: Vec<_> = (0..4).map(|_| session(&env, "ada")).collect();
    for row in &rows {
        insert(&store, row);
    }
    let (slot, logs) = (slot_of(&server), "doorward:{logs}");
    // In microseconds: far ahead of this server's clock.
    let ahead = "4000000000000000";
    let _ = server.ask(&["HSET", &slot, "n", ahead]);
    assert!(end(&store, &rows[0]));
    let _ = server.ask(&["HDEL", &slot, "n"]);
    assert!(end(&store, &rows[1]));
    assert_eq!(ends(&store), [rows[0].id, rows[1].id]);
    // Another node has only polled.
    let (_, cursor) = other.ended_after(0, 9).block_on().unwrap();
    let _ = server.ask(&["HDEL", &slot, "n"]);
    let _ = server.ask(&["HDEL", logs, "p"]);
    let _ = server.ask(&["DEL", "doorward:{logs}ends"]);
    assert!(end(&other, &rows[2]));
    let (after, cursor) = store.ended_after(cursor, 9).block_on().unwrap();
    assert_eq!(after[0].session, rows[2].id);
    assert!(end(&store, &rows[3]));
    let (after, _) = other.ended_after(cursor, 9).block_on().unwrap();
    assert_eq!(after[0].session, rows[3].id);
}

#[test]
fn where_the_memory_is_full_sessions_end_and_are_purged_and_no_login_is_done_by_half() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    let env = TestEnv::new(NOW, 1);
    let rows: Vec<_> = (0..3).map(|n| session(&env, &n.to_string())).collect();
    for row in &rows {
        insert(&store, row);
    }
    assert!(
        server
            .ask(&["CONFIG", "SET", "maxmemory", "1"])
            .contains("OK")
    );
    let late = session(&env, "late");
    let opened = store.insert(late.clone(), ValidFrom(0)).block_on();
    assert!(opened.unwrap_err().0.contains("OOM"));
    assert!(store.swap(rotated(&rows[0])).block_on().is_err());
    assert!(end(&store, &rows[0]));
    let user = &rows[1].user;
    let trail = trail();
    let all = store.end_user(user, NOW, EndReason::Disabled, None, &trail);
    assert_eq!(all.block_on().unwrap(), [rows[1].id]);
    assert_eq!(ends(&store), [rows[0].id, rows[1].id]);
    let purged = store.purge(LATE, LATE, 1000, &trail).block_on();
    assert_eq!(purged.unwrap(), 3);
    assert!(store.purge_buckets(LATE, 9).block_on().is_ok());
    assert!(store.load(late.id).block_on().unwrap().is_none());
    assert!(store.load(rows[2].id).block_on().unwrap().is_none());
}

#[test]
fn a_server_that_became_a_replica_is_not_read() {
    let (server, primary) = (Server::start(&[]), Server::start(&[]));
    let store = open(&server.url());
    let row = session(&TestEnv::new(NOW, 1), "ada");
    insert(&store, &row);
    let port = primary.port.to_string();
    let _ = server.ask(&["REPLICAOF", "127.0.0.1", &port]);
    eventually(|| store.load(row.id).block_on().is_err());
    let _ = server.ask(&["REPLICAOF", "NO", "ONE"]);
    eventually(|| store.load(row.id).block_on().is_ok());
    insert(&store, &session(&TestEnv::new(NOW, 2), "ada"));
}

#[test]
fn ends_wait_for_the_replicas_that_there_are_at_the_time() {
    let mut cluster = Cluster::start();
    let store = open(&format!("{}&wait_ms=300", cluster.url()));
    let env = TestEnv::new(NOW, 1);
    let ends_all = |store: &RedisStore| {
        (0..30).all(|n| {
            let row = session(&env, &n.to_string());
            let opened = store.insert(row.clone(), ValidFrom(0)).block_on();
            opened.is_ok() && end(store, &row)
        })
    };
    assert!(ends_all(&store));
    let is_replica = |server: &Server| server.ask(&["INFO", "replication"]).contains("role:slave");
    let replica = cluster.servers.iter().position(is_replica).unwrap();
    cluster.servers[replica].kill();
    // Until the cluster has seen it, they fail; and then there is nothing to wait for.
    eventually(|| ends_all(&store));
    let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    cluster.servers[replica].start_again(&settings);
    let server = &cluster.servers[replica];
    eventually(|| {
        let replication = server.ask(&["INFO", "replication"]);
        replication.contains("master_link_status:up")
    });
    // It is waited for again: where it hangs, they fail.
    eventually(|| hangs_while(server, || !ends_all(&store)));
}

/// What holds while a server does not go on.
pub(super) fn hangs_while(server: &Server, holds: impl Fn() -> bool) -> bool {
    server.signal("STOP");
    let held = holds();
    server.signal("CONT");
    held
}

#[test]
fn the_record_of_an_erasure_stays_where_its_node_died_after_it() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    let row = session(&TestEnv::new(NOW, 1), "ada");
    insert(&store, &row);
    let slot = slot_of(&server);
    let erased = Record {
        event: Event {
            user: Some(row.user.clone()),
            ..Event::new(EventName::UserErased)
        },
        ..trail().each.unwrap()
    };
    let trail = Trail {
        once: Some(erased),
        each: None,
    };
    let logs = "doorward:{logs}ends";
    let _ = server.ask(&["SET", logs, "x"]);
    let erase = store.erase(&row.user, NOW, EndReason::Disabled, &trail);
    assert!(erase.block_on().is_err());
    let copy = |from: [&str; 2], to: [&str; 2]| {
        let script =
            "return redis.call('HSET', KEYS[2], ARGV[2], redis.call('HGET', KEYS[1], ARGV[1]))";
        server.ask(&["EVAL", script, "2", from[0], to[0], from[1], to[1]])
    };
    assert!(copy([&slot, "o"], ["kept", "o"]).contains(":1"));
    let _ = server.ask(&["DEL", logs]);
    let is_left = || !server.ask(&["HSTRLEN", &slot, "o"]).contains(":0");
    eventually(|| !is_left());
    assert!(copy(["kept", "o"], [&slot, "o"]).contains(":1"));
    eventually(|| !is_left());
    let all = store.events_after(0, &Filter::default(), 9).block_on();
    assert_eq!(all.unwrap().0.len(), 1);
    assert_eq!(ends(&store), [row.id]);
}

#[test]
fn a_damaged_row_holds_up_no_other_and_what_is_over_leaves_nothing() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    let env = TestEnv::new(NOW, 1);
    let (row, damaged) = (session(&env, "ada"), session(&env, "ada"));
    insert(&store, &row);
    insert(&store, &damaged);
    let slot = slot_of(&server);
    let account = Account {
        id: row.user.clone(),
        username: "ada".into(),
        password_hash: PasswordHash::from_phc("$x"),
        disabled: false,
        privileged: false,
        created_at: NOW,
        valid_from: ValidFrom(0),
    };
    let none = Trail::default();
    let added = store.add_account(account, &none).block_on();
    assert_eq!(added.unwrap(), Write::Done);
    for number in 0..20 {
        let reset = Reset {
            hash: ResetHash([number; 32]),
            expires_at: NOW,
        };
        let started = store.start_reset(&row.user, reset, &none).block_on();
        assert_eq!(started.unwrap(), Write::Done);
    }
    let script = "for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
        if string.sub(field, 1, 1) == 's' then redis.call('HSET', KEYS[1], field, ARGV[1]) return 1 end end";
    assert!(
        server
            .ask(&["EVAL", script, "1", &slot, "\u{7f}?"])
            .contains(":1")
    );
    let loaded = [&row, &damaged].map(|row| store.load(row.id).block_on());
    assert_eq!(loaded.iter().filter(|row| row.is_err()).count(), 1);
    assert!(store.purge(LATE, LATE, 1000, &none).block_on().is_ok());
    let left = [&row, &damaged].map(|row| store.load(row.id).block_on());
    assert!(left.iter().any(Result::is_err) && left.iter().any(|row| matches!(row, Ok(None))));
    let resets = server.ask(&["HLEN", "doorward:{names}resets"]);
    assert!(resets.contains(":0"), "{resets}");
}

#[test]
fn sessions_that_came_and_went_leave_nothing_but_their_users_times() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    let env = TestEnv::new(NOW, 1);
    for number in 0..1000 {
        let row = session(&env, &(number % 100).to_string());
        insert(&store, &row);
        if number % 2 == 0 {
            assert!(end(&store, &row));
        }
    }
    while store.purge(LATE, LATE, 500, &trail()).block_on().unwrap() == 500 {}
    while store.purge_events(LATE, 500).block_on().unwrap() == 500 {}
    let script = "local left = {} for _, key in ipairs(redis.call('KEYS', 'doorward:{???}')) do
        for _, field in ipairs(redis.call('HKEYS', key)) do
        if field ~= 'n' then left[#left + 1] = field end end end return #left";
    assert_eq!(server.ask(&["EVAL", script, "0"]).trim(), ":0");
    assert!(server.ask(&["XLEN", "doorward:{logs}ends"]).contains(":0"));
    assert!(
        server
            .ask(&["ZCARD", "doorward:{logs}events"])
            .contains(":0")
    );
}
