//! Property 7: any store operation may fail, or be cut off after it took effect, and the client's
//! next try goes through, or the session was really over. One life with every operation of `Service`
//! in it is lived again and again, each time with the next call of the store failing.

use doorward_core::service::Grant;
use doorward_core::session::EndReason;
use doorward_core::{Error, Policy};
use pollster::FutureExt as _;

use crate::W;
use crate::cluster::{Cluster, user};
use crate::store::Faults;

#[test]
fn any_call_may_fail_and_the_next_try_goes_through() {
    let calls = live(None);
    assert!(calls > 50, "{calls}");
    for nth in 0..calls {
        for takes_effect in [false, true] {
            live(Some((nth, takes_effect)));
        }
    }
}

/// Tries again at another node.
fn retried<T>(cluster: &Cluster, ask: impl AsyncFn(usize) -> Result<T, Error>) -> T {
    match ask(0).block_on() {
        Err(Error::StoreUnavailable) => ask(1).block_on(),
        answer => answer,
    }
    .inspect_err(|error| panic!("{error} at {}", cluster.world.now()))
    .unwrap()
}

fn refresh(cluster: &Cluster, pause: i64, grant: &Grant) -> Grant {
    cluster.world.pass(pause);
    let token = grant.refresh.as_str();
    retried(cluster, async |node| cluster.refresh(node, token).await)
}

/// Returns how many calls of the store a life takes.
fn live(nth: Option<(u64, bool)>) -> u64 {
    let cluster = Cluster::new(7, &Policy::default(), &[0, 1_000]);
    let before = cluster.store.rows.lock().unwrap().calls;
    let nth = nth.map(|(nth, takes_effect)| (before + nth, takes_effect));
    cluster.store.set(Faults {
        nth,
        ..Faults::default()
    });
    let [kept, other, third] =
        [(); 3].map(|()| retried(&cluster, async |node| cluster.login(node, None).await));
    every_rule(&cluster, &kept);
    fresh(&cluster, &kept);
    poll(&cluster);
    one_end(&cluster, &other);
    own_end(&cluster, &third);
    all_ends(&cluster, &kept);
    let calls = cluster.store.rows.lock().unwrap().calls;
    calls - before
}

/// Advance, Repeat, Repeat as a new attempt, Settle, Concurrent, and Advance again.
fn every_rule(cluster: &Cluster, login: &Grant) {
    let first = refresh(cluster, W + 1, login);
    refresh(cluster, 1_000, login);
    let again = refresh(cluster, 2 * W, login);
    refresh(cluster, 1_000, &first);
    let second = refresh(cluster, 3 * W, &again);
    refresh(cluster, 1_000, login);
    let third = refresh(cluster, 3 * W, &second);
    refresh(cluster, 3 * W, &third);
}

fn fresh(cluster: &Cluster, login: &Grant) {
    let id = login.session.id;
    let grant = retried(cluster, async |node| cluster.reauthenticate(node, id).await);
    refresh(cluster, W + 1, &grant);
}

fn poll(cluster: &Cluster) {
    for node in 0..2 {
        let service = cluster.service(node);
        retried(cluster, async |_| service.tick().await);
        retried(cluster, async |_| service.purge(10).await);
        let sessions = retried(cluster, async |_| service.sessions_of(&user()).await);
        assert!(sessions.len() >= 3);
    }
}

fn one_end(cluster: &Cluster, login: &Grant) {
    let id = login.session.id;
    retried(cluster, async |node| {
        cluster.service(node).end(id, EndReason::Logout).await.0
    });
    is_over(cluster, login);
}

fn own_end(cluster: &Cluster, login: &Grant) {
    let id = login.session.id;
    retried(cluster, async |node| {
        cluster.service(node).end_own(&user(), id).await.0
    });
    is_over(cluster, login);
}

fn all_ends(cluster: &Cluster, kept: &Grant) {
    for except in [Some(kept.session.id), None] {
        retried(cluster, async |node| {
            let service = cluster.service(node);
            let ended = service.end_user(&user(), EndReason::Disabled, except).await;
            ended.0
        });
    }
    is_over(cluster, kept);
}

/// Refused at both nodes after a poll, at the first try or the second.
fn is_over(cluster: &Cluster, login: &Grant) {
    cluster.world.pass(1_000);
    for node in 0..2 {
        retried(cluster, async |_| cluster.service(node).tick().await);
        assert!(cluster.service(node).verify(login.access.as_str()).is_err());
        let token = login.refresh.as_str();
        let mut answer = cluster.refresh(node, token).block_on();
        if matches!(answer, Err(Error::StoreUnavailable)) {
            answer = cluster.refresh(node, token).block_on();
        }
        assert!(matches!(answer, Err(Error::SessionEnded(_))), "{answer:?}");
    }
}
