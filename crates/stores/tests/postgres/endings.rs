//! Ends of all sessions of a user who has more than fit in one transaction, and rows that cannot be read.

use std::sync::OnceLock;

use doorward_core::transfer::{Rows, TransferStore as _};

use super::*;

/// Two batches and a little, beyond what is locked at once.
const MANY: usize = 6_100;

fn user() -> &'static UserId {
    static USER: OnceLock<UserId> = OnceLock::new();
    USER.get_or_init(|| UserId::new("robot").unwrap())
}

fn put_many(store: &PostgresStore, env: &TestEnv, count: usize) -> Vec<SessionId> {
    let rows: Vec<_> = (0..count).map(|_| session(env, "robot")).collect();
    for page in rows.chunks(2_500) {
        let put = store.put(Rows::Sessions(page.to_vec()));
        put.block_on().unwrap();
    }
    rows.iter().map(|row| row.id).collect()
}

/// What an end of all by an operator leaves.
fn trail() -> Trail {
    let record = |name| Record {
        at: NOW,
        event: Event::new(name).because(EndReason::EndedByOperator.name()),
        actor: Actor::Operator,
        network: None,
        device: None,
        agent: None,
    };
    let mut once = record(EventName::SessionsEnded);
    once.event = once.event.of(user());
    Trail {
        once: Some(once),
        each: Some(record(EventName::SessionEnded)),
    }
}

fn end_all(store: &PostgresStore, except: Option<SessionId>) -> Vec<SessionId> {
    let (reason, trail) = (EndReason::EndedByOperator, trail());
    let ended = store.end_user(user(), NOW, reason, except, &trail);
    ended.block_on().unwrap()
}

fn count(fresh: &postgres::Fresh, what: &str) -> usize {
    let sql = format!("SELECT count(*) FROM {}.{what}", fresh.schema());
    postgres::shared().sql(&sql).parse().unwrap()
}

const LIVE: &str = "sessions WHERE flags & 32 = 0";

#[test]
fn a_hundred_thousand_sessions_of_a_user_end_together() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    let ids = put_many(&store, &env, 100_000);
    let ended: HashSet<_> = end_all(&store, Some(ids[0])).into_iter().collect();
    assert_eq!(ended.len(), 99_999);
    assert!(!ended.contains(&ids[0]));
    assert_eq!(count(&fresh, LIVE), 1);
    assert_eq!(count(&fresh, "ended"), 99_999);
    let told = "events WHERE reason = 'ended_by_operator' AND actor = 'operator'";
    assert_eq!(count(&fresh, told), 100_000);
    assert_eq!(count(&fresh, "events WHERE count = 99999"), 1);
    assert_eq!(count(&fresh, "endings"), 0);
    assert!(store.valid_from(user()).block_on().unwrap() >= ValidFrom(NOW.0));
    assert_eq!(end_all(&store, None), [ids[0]]);
}

/// What a node leaves that stops right after the first write.
fn leave_half_done(fresh: &postgres::Fresh, kept: SessionId) {
    let schema = fresh.schema();
    postgres::shared().sql(&format!(
        "INSERT INTO {schema}.endings (user_id, at, why, kept, actor, begun) \
         VALUES ('robot', {}, 3, '{kept}', 'operator', now() - interval '1 min')",
        NOW.0
    ));
}

#[test]
fn an_end_of_all_that_stopped_half_way_is_gone_on_with_by_whoever_purges() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    let ids = put_many(&store, &env, 2 * MANY);
    leave_half_done(&fresh, ids[0]);
    let mut purges = 0;
    while count(&fresh, "endings") > 0 {
        let trail = Trail::default();
        store.purge(NOW, NOW, 10, &trail).block_on().unwrap();
        purges += 1;
    }
    assert_eq!(purges, 2, "each for a bounded time");
    assert_eq!(count(&fresh, LIVE), 1);
    let (ends, _) = store.ended_after(0, 100_000).block_on().unwrap();
    assert_eq!(ends.len(), ids.len() - 1);
    assert!(
        ends.iter()
            .all(|end| end.at == NOW && end.session != ids[0])
    );
    assert_eq!(count(&fresh, "events"), ids.len() - 1);
}

#[test]
fn a_login_comes_after_an_end_of_all_that_was_decided() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    let ids = put_many(&store, &env, MANY);
    leave_half_done(&fresh, ids[0]);
    let new = session(&env, "robot");
    insert(&store, &new);
    assert_eq!(count(&fresh, LIVE), 2);
    let mut left = store.sessions_of(user()).block_on().unwrap();
    left.retain(|row| row.id != ids[0]);
    assert_eq!(left, [new]);
    leave_half_done(&fresh, ids[0]);
    assert_eq!(end_all(&store, None), [ids[0]]);
    assert_eq!(count(&fresh, LIVE), 0);
}

#[test]
fn ends_of_all_by_two_nodes_at_once_end_each_session_once() {
    let fresh = postgres::shared().fresh();
    let (stores, env) = ([fresh.open(), fresh.open()], TestEnv::new(NOW, 7));
    let ids = put_many(&stores[0], &env, MANY);
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| end_all(store, None));
        }
    });
    assert_eq!(count(&fresh, LIVE), 0);
    assert_eq!(count(&fresh, "ended"), ids.len());
    assert_eq!(count(&fresh, "events WHERE session IS NOT NULL"), ids.len());
}

#[test]
fn who_has_far_more_sessions_than_the_cap_loses_the_oldest() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    put_many(&store, &env, 2 * MANY);
    let opening = Opening {
        session: session(&env, "robot"),
        seen: ValidFrom(0),
        replaces: None,
        cap: Some(Cap {
            sessions: 3.try_into().unwrap(),
            over: OverCap::EndOldest,
        }),
        restored_at: Timestamp(0),
    };
    let opened = store.open(opening.clone(), &trail()).block_on().unwrap();
    assert!(matches!(opened, Opened::Done(_)));
    assert_eq!(count(&fresh, LIVE), 3);
    assert_eq!(count(&fresh, "ended"), 2 * MANY - 2);
}

#[test]
fn nothing_is_left_of_a_user_with_many_sessions_who_is_erased() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    put_many(&store, &env, MANY);
    let (reason, trail) = (EndReason::EndedByOperator, Trail::default());
    let erased = store.erase(user(), NOW, reason, &trail);
    assert_eq!(erased.block_on().unwrap(), MANY as u64);
    assert_eq!(count(&fresh, "sessions") + count(&fresh, "events"), 0);
    assert_eq!(count(&fresh, "ended"), MANY);
}

#[test]
fn a_row_that_cannot_be_read_hides_no_other_and_ends_with_them() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    let rows = [(); 3].map(|()| session(&env, "robot"));
    for row in &rows {
        insert(&store, row);
    }
    let (schema, bad) = (fresh.schema(), rows[1].id);
    let damage = format!("UPDATE {schema}.sessions SET version = -1 WHERE id = '{bad}'");
    postgres::shared().sql(&damage);
    for listed in [
        store.sessions_of(user()).block_on().unwrap(),
        store.kept_of(user()).block_on().unwrap(),
        store.sessions(None, 10).block_on().unwrap(),
    ] {
        assert_eq!(listed, [rows[0].clone(), rows[2].clone()]);
    }
    assert!(store.load(bad).block_on().is_err());
    end_all(&store, None);
    let (ends, _) = store.ended_after(0, 10).block_on().unwrap();
    assert!(ends.iter().any(|end| end.session == bad), "access tokens");
    let (reason, trail) = (EndReason::EndedByOperator, Trail::default());
    let erased = store.erase(user(), NOW, reason, &trail);
    erased.block_on().unwrap();
    assert_eq!(count(&fresh, "sessions"), 0);
}

#[test]
fn what_a_newer_version_ended_has_ended() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    let rows = [(); 2].map(|()| session(&env, "robot"));
    for row in &rows {
        insert(&store, row);
        let trail = Trail::default();
        let ended = store.end(row.id, NOW, EndReason::Logout, &trail);
        ended.block_on().unwrap();
    }
    let (schema, first) = (fresh.schema(), rows[0].id);
    let server = postgres::shared();
    server.sql(&format!(
        "UPDATE {schema}.ended SET why = 99 WHERE session = '{first}'"
    ));
    let newer = "overlay(previous::text placing '63' from 20 for 2)::uuid";
    server.sql(&format!(
        "UPDATE {schema}.sessions SET previous = {newer} WHERE id = '{first}'"
    ));
    let (ends, cursor) = store.ended_after(0, 10).block_on().unwrap();
    let ids: Vec<_> = ends.iter().map(|end| end.session).collect();
    assert_eq!((ids, cursor), (rows.iter().map(|row| row.id).collect(), 2));
    let end = store.load(first).block_on().unwrap().unwrap().ended;
    assert_eq!(end.unwrap().reason, EndReason::EndedByOperator);
}

/// Whoever gives up in the middle leaves no transaction open on a connection that others get.
#[test]
fn what_is_given_up_in_the_middle_leaves_no_transaction() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    let trail = trail();
    for turn in 0..200 {
        let row = session(&env, "robot");
        let mut opened = std::pin::pin!(store.insert(row.clone(), ValidFrom(0)));
        let mut ended =
            std::pin::pin!(store.end_user(user(), NOW, EndReason::Logout, None, &trail));
        let mut purged = std::pin::pin!(store.purge(NOW, NOW, 10, &trail));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = opened.as_mut().poll(&mut context);
        let _ = ended.as_mut().poll(&mut context);
        let _ = purged.as_mut().poll(&mut context);
        if turn % 4 == 0 {
            store.load(row.id).block_on().unwrap();
        }
    }
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    let deadline = deadline();
    while postgres::shared().sql(idle) != "0" {
        assert!(!deadline(), "a transaction was left open");
    }
    let seen = store.valid_from(user()).block_on().unwrap();
    let opened = store.insert(session(&env, "robot"), seen).block_on();
    assert_eq!(opened.unwrap(), Write::Done);
}
