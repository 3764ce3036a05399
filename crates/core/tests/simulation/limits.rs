//! Properties 5 and 6: the absolute limit is exact however often the client refreshes, idle is exact
//! to `W`, and no clock step revives what is over.

use std::sync::Mutex;
use std::time::Duration;

use doorward_core::session::EndReason;
use doorward_core::{Env as _, Error, Policy, Timestamp};

use crate::W;
use crate::cluster::Cluster;
use crate::store::Faults;
use crate::world::Task;

const HOUR: i64 = 3600 * 1000;

fn policy() -> Policy {
    Policy {
        refresh_ttl: Duration::from_secs(3600),
        session_ttl: Duration::from_secs(4 * 3600),
        ..Policy::default()
    }
}

/// The newest token, and the time of the last refresh.
struct Browser {
    token: String,
    last: Timestamp,
}

/// Up to four tabs on two nodes whose clocks are right.
pub(crate) fn exact(seed: u64) {
    let cluster = Cluster::new(seed, &policy(), &[0, 0]);
    let granted = cluster.first_login();
    let absolute_end = granted.session.absolute_end;
    let browser = Mutex::new(Browser {
        token: granted.refresh.as_str().to_owned(),
        last: granted.now,
    });
    let tab = |_| Box::pin(exact_tab(&cluster, &browser, absolute_end)) as Task<'_>;
    let tabs = 1 + cluster.world.pick(4);
    cluster.world.play((0..tabs).map(tab).collect());
}

async fn exact_tab(cluster: &Cluster, browser: &Mutex<Browser>, absolute_end: Timestamp) {
    let world = &cluster.world;
    loop {
        let pause = [W, HOUR + W, 2 * HOUR][world.pick(3)];
        world.sleep(world.up_to(pause)).await;
        let token = browser.lock().unwrap().token.clone();
        let answer = cluster.refresh(cluster.any(), &token).await;
        let now = Timestamp(world.now());
        let idle = now.since(browser.lock().unwrap().last);
        match answer {
            Ok(grant) => {
                assert!(now < absolute_end, "past the absolute limit");
                assert!(idle < HOUR, "past the idle limit");
                let mut browser = browser.lock().unwrap();
                browser.token = grant.refresh.as_str().to_owned();
                browser.last = now;
            }
            Err(Error::SessionEnded(EndReason::Absolute)) => {
                return assert!(now >= absolute_end, "before the absolute limit");
            }
            Err(Error::SessionEnded(EndReason::Idle)) => {
                return assert!(idle >= HOUR - W, "{idle} ms is not idle");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Clocks that step by hours either way, on each node for itself, also while a request is between
/// its load and its swap. That nothing is revived is `Cluster`'s check.
pub(crate) fn stepping_clocks(seed: u64) {
    let cluster = Cluster::new(seed, &policy(), &[0, 0, 0]);
    let granted = cluster.first_login();
    let limits = (
        granted.session.absolute_end,
        granted.now + policy().refresh_ttl,
    );
    let world = &cluster.world;
    cluster.store.set(Faults {
        slow: world.up_to(1_000),
        fail: world.random() % 10,
        lose_reply: world.random() % 10,
        ..Faults::default()
    });
    let token = Mutex::new(granted.refresh.as_str().to_owned());
    let latest = Mutex::new(granted.now);
    let tab = |_| Box::pin(stepping_tab(&cluster, &token, &latest, limits)) as Task<'_>;
    let mut tasks: Vec<_> = (0..3).map(tab).collect();
    tasks.push(Box::pin(async {
        for _ in 0..60 {
            world.sleep(world.up_to(1_500)).await;
            let furthest = [2_000, 40_000, 5 * HOUR][world.pick(3)];
            let node = cluster.any();
            cluster.step(node, world.around(furthest));
            let mut latest = latest.lock().unwrap();
            *latest = latest.max(cluster.nodes[node].env.now() + Duration::from_secs(10));
        }
    }));
    world.play(tasks);
}

/// Ended by time only if some clock was there. With clocks that step it may also count as reuse.
async fn stepping_tab(
    cluster: &Cluster,
    token: &Mutex<String>,
    latest: &Mutex<Timestamp>,
    (absolute_end, idle_end): (Timestamp, Timestamp),
) {
    for _ in 0..20 {
        cluster.world.sleep(cluster.world.up_to(5_000)).await;
        let presented = token.lock().unwrap().clone();
        let answer = cluster.refresh(cluster.any(), &presented).await;
        let latest = *latest.lock().unwrap();
        match answer {
            Ok(grant) => *token.lock().unwrap() = grant.refresh.as_str().to_owned(),
            Err(Error::SessionEnded(EndReason::Absolute)) => assert!(latest >= absolute_end),
            // A clock that is behind may have dated the last refresh before the login.
            Err(Error::SessionEnded(EndReason::Idle)) => assert!(latest >= idle_end),
            Err(
                Error::SessionEnded(EndReason::Reuse)
                | Error::RefreshReused
                | Error::StoreUnavailable,
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
