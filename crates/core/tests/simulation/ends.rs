//! Property 4: after an acknowledged end nothing of the session lives, whatever raced it. The checks
//! are `Cluster`'s; here are worlds that try to get past them: slow, hanging and failing stores,
//! clocks that are as far apart as the policy allows, nodes that restart, crashes that lose what was
//! not flushed, and then the time until the last access token expired on the slowest clock.

use std::sync::Mutex;
use std::time::Duration;

use doorward_core::session::EndReason;
use doorward_core::store::SessionStore as _;
use doorward_core::{Error, Policy, SessionId};
use pollster::FutureExt as _;

use crate::cluster::{Cluster, user};
use crate::store::Faults;
use crate::world::{Task, World};

/// Short lifetimes, so that each part of the span for which ends are remembered weighs.
fn policy(dice: &World) -> Policy {
    let access_ttl = Duration::from_secs([60, 120, 900][dice.pick(3)]);
    Policy {
        access_ttl,
        refresh_ttl: access_ttl * 3,
        clock_skew: Duration::from_secs([0, 30, 60][dice.pick(3)]),
        refresh_window: [None, Some(Duration::from_secs(5))][dice.pick(2)],
        ..Policy::default()
    }
}

/// Three nodes, as far apart as is allowed.
fn world_of(seed: u64) -> Cluster {
    let dice = World::new(!seed);
    let policy = policy(&dice);
    let skew = i64::try_from(policy.clock_skew.as_millis()).unwrap();
    let mut skews = [0, skew, dice.up_to(skew)];
    skews.rotate_left(dice.pick(3));
    Cluster::new(seed, &policy, &skews)
}

fn faults(world: &World) -> Faults {
    Faults {
        slow: world.up_to(800),
        fail: world.random() % 10,
        lose_reply: world.random() % 10,
        hang: world.random() % 20,
        nth: None,
    }
}

/// One session with three tabs and somebody who ends it.
pub(crate) fn one_session(seed: u64) {
    let cluster = world_of(seed);
    let granted = cluster.first_login();
    let id = granted.session.id;
    let token = Mutex::new(granted.refresh.as_str().to_owned());
    cluster.store.set(faults(&cluster.world));
    let mut tasks: Vec<Task<'_>> = (0..3)
        .map(|_| Box::pin(tab(&cluster, &token)) as Task<'_>)
        .collect();
    tasks.push(Box::pin(polls(&cluster)));
    tasks.push(Box::pin(async {
        cluster.world.sleep(cluster.world.up_to(40_000)).await;
        cluster.end(cluster.any(), id, EndReason::Logout).await;
        if cluster.world.happens(50) {
            cluster.store.crash();
        }
        if cluster.world.happens(50) {
            cluster.restart(cluster.any());
        }
    }));
    cluster.world.play(tasks);
    stays_over(&cluster, &[id]);
    cluster.run_out();
}

/// Refreshes, whatever it is told.
async fn tab(cluster: &Cluster, token: &Mutex<String>) {
    for _ in 0..15 {
        cluster.world.sleep(cluster.world.up_to(5_000)).await;
        let presented = token.lock().unwrap().clone();
        if let Ok(grant) = cluster.refresh(cluster.any(), &presented).await {
            *token.lock().unwrap() = grant.refresh.as_str().to_owned();
        }
    }
}

/// Each node polls every three seconds or so; a poll may fail.
pub(crate) async fn polls(cluster: &Cluster) {
    for _ in 0..20 {
        cluster.world.sleep(cluster.world.up_to(6_000)).await;
        for node in 0..cluster.nodes.len() {
            cluster.tick(node).await;
        }
    }
}

/// What the store and every node say of sessions that are over.
fn stays_over(cluster: &Cluster, ids: &[SessionId]) {
    cluster.store.set(Faults::default());
    for node in 0..cluster.nodes.len() {
        cluster.tick(node).block_on();
        let live = cluster
            .service(node)
            .sessions_of(&user())
            .block_on()
            .unwrap();
        for id in ids {
            assert!(cluster.known_over(*id));
            assert!(live.iter().all(|row| row.id != *id), "it is listed");
            let again = cluster.reauthenticate(node, *id).block_on();
            assert!(matches!(again, Err(Error::SessionEnded(_))), "made fresh");
        }
    }
}

/// Logins whose password was checked before all sessions of the user were ended, and which finish
/// at any time: none of them is live afterwards. Those that began later are.
pub(crate) fn all_sessions_and_logins(seed: u64) {
    let cluster = world_of(seed);
    let kept = cluster.first_login().session.id;
    let except = cluster.world.happens(30).then_some(kept);
    let asked = Mutex::new(i64::MAX);
    let opened = Mutex::new(Vec::new());
    cluster.store.set(faults(&cluster.world));
    let mut tasks: Vec<Task<'_>> = (0..8)
        .map(|_| Box::pin(login(&cluster, &opened)) as Task<'_>)
        .collect();
    tasks.push(Box::pin(async {
        cluster.world.sleep(cluster.world.up_to(8_000)).await;
        *asked.lock().unwrap() = cluster.world.now();
        cluster.end_user(cluster.any(), except).await;
    }));
    cluster.world.play(tasks);
    let asked = *asked.lock().unwrap();
    let rows = cluster.store.rows.lock().unwrap().rows.clone();
    for (began, inserted, id) in opened.into_inner().unwrap() {
        let before = if except.is_some() { inserted } else { began };
        let live = rows[&id].ended.is_none();
        assert!(before >= asked || !live, "a login from before is live");
    }
    assert_eq!(rows[&kept].ended.is_none(), except.is_some());
    cluster.run_out();
}

/// Sees `valid_from`, takes its time over the password, opens the session.
async fn login(cluster: &Cluster, opened: &Mutex<Vec<(i64, i64, SessionId)>>) {
    let world = &cluster.world;
    world.sleep(world.up_to(8_000)).await;
    let Ok(seen) = cluster.store.valid_from(&user()).await else {
        return;
    };
    let began = world.now();
    world.sleep(world.up_to(4_000)).await;
    match cluster.login(cluster.any(), Some(seen)).await {
        Ok(grant) => (opened.lock().unwrap()).push((began, world.now(), grant.session.id)),
        Err(error) => assert!(matches!(
            error,
            Error::InvalidCredentials | Error::StoreUnavailable
        )),
    }
}
