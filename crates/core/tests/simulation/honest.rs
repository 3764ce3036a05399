//! Properties 2 and 7: an honest client is never refused while one-way delay plus clock difference
//! stays below `W/2`, whatever the store does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorward_core::{Error, Policy};
use pollster::FutureExt as _;

use crate::W;
use crate::browser::{Answer, Habit, Network, browse};
use crate::cluster::Cluster;
use crate::store::Faults;
use crate::world::{Task, World};

/// A browser on nodes whose clocks are apart and step, with refresh keys rotated and passwords
/// asked for again meanwhile.
pub(crate) fn browser(seed: u64) {
    let dice = World::new(!seed);
    let skew = if dice.happens(50) { dice.up_to(9_000) } else { 0 };
    let slow = if dice.happens(50) { dice.up_to(250) } else { 0 };
    let network = Network {
        delay: W / 2 - skew - 20 * slow - 1,
        lost: dice.random() % 40,
    };
    let habit = if dice.happens(50) { Habit::Visits } else { Habit::Bursts };
    let cluster = Cluster::new(seed, &Policy::default(), &[0, skew, skew / 2]);
    let faults = Faults {
        slow,
        fail: dice.random() % 10,
        lose_reply: dice.random() % 10,
        ..Faults::default()
    };
    let refused = visit(&cluster, (network, habit), faults, false);
    assert_eq!(refused, None, "an honest client was refused");
}

/// How an honest browser was refused, if it was.
pub(crate) fn visit(
    cluster: &Cluster,
    how: (Network, Habit),
    faults: Faults,
    crashes: bool,
) -> Option<Error> {
    let first = cluster.first_login().refresh.as_str().to_owned();
    cluster.store.set(faults);
    let refused = Mutex::new(None);
    let mut tasks: Vec<Task<'_>> = vec![Box::pin(async {
        let ask = async |token: String| answer(cluster.refresh(cluster.any(), &token).await);
        *refused.lock().unwrap() = browse(&cluster.world, first, how, ask).await;
    })];
    if crashes {
        let (flush, crash) = (|| cluster.store.flush(), || cluster.store.crash());
        tasks.push(Box::pin(self::crashes(&cluster.world, flush, crash)));
    }
    cluster.world.play(tasks);
    refused.into_inner().unwrap()
}

pub(crate) fn answer(result: Result<doorward_core::service::Grant, Error>) -> Answer<String, Error> {
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
        refresh_window: dice.happens(50).then(|| Duration::ZERO),
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
        let pause = if dice.happens(50) { 3_000 } else { 2 * 3600 * 1000 };
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
