//! Properties 2 and 7: an honest client is never refused while one-way delay plus clock difference
//! stays below `W/2`, whatever the store does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorward_core::service::Grant;
use doorward_core::{Error, Policy};
use pollster::FutureExt as _;

use crate::W;
use crate::browser::{Answer, Habit, Network, browse};
use crate::cluster::Cluster;
use crate::store::Faults;
use crate::world::{Task, World};

/// A browser on nodes whose clocks are apart and step, while refresh keys rotate.
pub(crate) fn browser(seed: u64) {
    let dice = World::new(!seed);
    let skew = if dice.happens(50) {
        dice.up_to(9_000)
    } else {
        0
    };
    let slow = if dice.happens(50) { dice.up_to(250) } else { 0 };
    let network = Network {
        delay: W / 2 - skew - 20 * slow - 1,
        lost: [15, 30, 60][dice.pick(3)],
    };
    let habit = [Habit::Visits, Habit::Bursts, Habit::Scattered][dice.pick(3)];
    let cluster = Cluster::new(seed, &Policy::default(), &[0, skew, skew / 2]);
    let faults = Faults {
        slow,
        fail: dice.random() % 10,
        lose_reply: dice.random() % 10,
        ..Faults::default()
    };
    let first = cluster.first_login();
    cluster.store.set(faults);
    let meanwhile: Vec<Task<'_>> = vec![
        Box::pin(clocks(&cluster, skew)),
        Box::pin(key_rotations(&cluster)),
    ];
    let refused = visit(&cluster, &first, (network, habit), 3, meanwhile);
    assert_eq!(refused, None, "an honest client was refused");
}

/// How an honest browser was refused, if it was. Of its requests `passwords` percent make the
/// session fresh instead.
pub(crate) fn visit<'a>(
    cluster: &'a Cluster,
    login: &Grant,
    how: (Network, Habit),
    passwords: u64,
    mut meanwhile: Vec<Task<'a>>,
) -> Option<Error> {
    let (id, first) = (login.session.id, login.refresh.as_str().to_owned());
    let ask = async move |token: String| {
        let node = cluster.any();
        answer(if cluster.world.happens(passwords) {
            cluster.reauthenticate(node, id).await
        } else {
            cluster.refresh(node, &token).await
        })
    };
    let refused = Arc::new(Mutex::new(None));
    let told = Arc::clone(&refused);
    meanwhile.push(Box::pin(async move {
        *told.lock().unwrap() = browse(&cluster.world, first, how, ask).await;
    }));
    cluster.world.play(meanwhile);
    refused.lock().unwrap().take()
}

/// Clocks that step, and stay within `skew` of each other.
async fn clocks(cluster: &Cluster, skew: i64) {
    for _ in 0..60 {
        cluster.world.sleep(cluster.world.up_to(10_000)).await;
        cluster.step(cluster.any(), cluster.world.up_to(skew));
    }
}

async fn key_rotations(cluster: &Cluster) {
    for _ in 0..3 {
        cluster.world.sleep(cluster.world.up_to(200_000)).await;
        cluster.rotate_key().await;
    }
}

pub(crate) fn answer(result: Result<Grant, Error>) -> Answer<String, Error> {
    match result {
        Ok(grant) => Answer::Token(grant.refresh.as_str().to_owned()),
        Err(Error::StoreUnavailable) => Answer::Unavailable,
        Err(error) => Answer::Refused(error),
    }
}

/// Six times in about ten minutes the store loses what was written in the last half minute.
pub(crate) async fn crashes(world: &Arc<World>, flush: impl Fn(), crash: impl Fn()) {
    for _ in 0..6 {
        world.sleep(world.up_to(5 * W)).await;
        flush();
        world.sleep(world.up_to(W)).await;
        crash();
    }
}

/// One that refreshes one at a time and waits for each answer is never refused, without a window,
/// whatever the clocks say: at once again after an answer was lost, or hours later.
pub(crate) fn one_at_a_time(seed: u64) {
    let dice = World::new(!seed);
    let policy = Policy {
        refresh_window: dice.happens(50).then_some(Duration::ZERO),
        ..Policy::default()
    };
    let cluster = Cluster::new(seed, &policy, &[0, 0, 0]);
    let mut token = cluster.first_login().refresh.as_str().to_owned();
    cluster.store.set(Faults {
        fail: dice.random() % 20,
        lose_reply: dice.random() % 20,
        ..Faults::default()
    });
    for _ in 0..60 {
        let pause = if dice.happens(50) {
            3_000
        } else {
            2 * 3600 * 1000
        };
        cluster.world.pass(dice.up_to(pause));
        for node in 0..cluster.nodes.len() {
            cluster.step(node, dice.around(60_000));
        }
        match cluster.refresh(cluster.any(), &token).block_on() {
            Ok(_) if dice.happens(20) => {}
            Ok(grant) => token = grant.refresh.as_str().to_owned(),
            Err(error) => assert_eq!(error, Error::StoreUnavailable),
        }
    }
}

/// The busiest moment: a page that opens 64 requests, at a second attempt, where answers are swaps.
#[test]
fn many_requests_at_once_are_all_answered() {
    for seed in 0..20 {
        let cluster = Cluster::new(seed, &Policy::default(), &[0, 0, 0]);
        let world = &cluster.world;
        let login = cluster.first_login();
        let first = cluster
            .refresh(0, login.refresh.as_str())
            .block_on()
            .unwrap();
        world.pass(W + 1);
        cluster
            .refresh(0, login.refresh.as_str())
            .block_on()
            .unwrap();
        world.pass(1_000);
        cluster.store.set(Faults {
            slow: 10,
            ..Faults::default()
        });
        let ask = |n: usize| {
            let held: [&Grant; 2] = [&login, &first];
            let (cluster, held) = (&cluster, held[n % 2].refresh.as_str());
            Box::pin(async move {
                world.sleep(world.up_to(50)).await;
                let answer = cluster.refresh(cluster.any(), held).await;
                assert_eq!(answer.err(), None, "one of 64 was not answered");
            }) as Task<'_>
        };
        world.play((0..64).map(ask).collect());
    }
}
