//! Everything at once: a browser and a thief with a copy of its token, clocks apart and stepping,
//! a store that fails, hangs and forgets, nodes that restart, keys that rotate, passwords asked for
//! again, and an end. What is promised even then is what `Cluster` checks; beyond that nobody is
//! told anything but a token, that the session is over, or to try again.

use std::sync::Mutex;

use doorward_core::session::EndReason;
use doorward_core::{Error, Policy, SessionId};

use crate::browser::{Answer, Habit, Network, browse};
use crate::cluster::Cluster;
use crate::ends::polls;
use crate::store::Faults;
use crate::world::Task;
use crate::{W, honest};

pub(crate) fn everything(seed: u64) {
    let cluster = Cluster::new(seed, &Policy::default(), &[0, 0, 0]);
    let world = &cluster.world;
    let granted = cluster.first_login();
    let (id, first) = (granted.session.id, granted.refresh.as_str().to_owned());
    cluster.store.set(Faults {
        slow: world.up_to(500),
        fail: world.random() % 10,
        lose_reply: world.random() % 10,
        hang: world.random() % 5,
        nth: None,
    });
    let network = Network {
        delay: world.up_to(W),
        lost: world.random() % 40,
    };
    let stolen = Mutex::new(first.clone());
    let ask = async |token: String| {
        stolen.lock().unwrap().clone_from(&token);
        answer(cluster.refresh(cluster.any(), &token).await)
    };
    let mut tasks: Vec<Task<'_>> = vec![
        Box::pin(async { _ = browse(world, first, (network, Habit::Bursts), ask).await }),
        Box::pin(polls(&cluster)),
        Box::pin(trouble(&cluster)),
        Box::pin(end_at_some_time(&cluster, id)),
    ];
    if world.happens(50) {
        tasks.push(Box::pin(thief(&cluster, &stolen)));
    }
    world.play(tasks);
    cluster.run_out();
}

fn answer(result: Result<doorward_core::service::Grant, Error>) -> Answer<String, Error> {
    let told = honest::answer(result);
    if let Answer::Refused(error) = &told {
        let over = matches!(error, Error::SessionEnded(_) | Error::RefreshReused);
        assert!(over, "{error}");
    }
    told
}

/// Copies the token that was last sent, and goes on with it for a while.
async fn thief(cluster: &Cluster, stolen: &Mutex<String>) {
    cluster.world.sleep(cluster.world.up_to(3 * W)).await;
    let mut token = stolen.lock().unwrap().clone();
    for _ in 0..10 {
        cluster.world.sleep(cluster.world.up_to(W)).await;
        if let Answer::Token(next) = answer(cluster.refresh(cluster.any(), &token).await) {
            token = next;
        }
    }
}

async fn trouble(cluster: &Cluster) {
    let world = &cluster.world;
    for _ in 0..20 {
        world.sleep(world.up_to(W / 2)).await;
        match world.pick(5) {
            0 => cluster.store.flush(),
            1 => cluster.store.crash(),
            2 => cluster.restart(cluster.any()),
            3 => cluster.rotate_key().await,
            _ => cluster.step(cluster.any(), world.around(W)),
        }
    }
}

async fn end_at_some_time(cluster: &Cluster, id: SessionId) {
    cluster.world.sleep(cluster.world.up_to(4 * W)).await;
    _ = cluster.reauthenticate(cluster.any(), id).await;
    cluster.world.sleep(cluster.world.up_to(4 * W)).await;
    cluster.end(cluster.any(), id, EndReason::Logout).await;
}
