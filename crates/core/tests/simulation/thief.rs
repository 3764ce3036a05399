//! Property 3: if a token is copied and both holders go on, more than `W` apart, the session ends at
//! the latest at the second use of the holder with fewer uses.
//!
//! A use is a holder's tabs all refreshing within two seconds, on nodes whose clocks are apart and on
//! a store that fails. Answers to the holder are lost too: only uses that brought a token count.

use std::sync::Mutex;

use doorward_core::{Error, Policy};
use pollster::FutureExt as _;

use crate::W;
use crate::cluster::Cluster;
use crate::store::Faults;
use crate::world::{Task, together};

struct Holder {
    token: Mutex<String>,
    uses: Mutex<u32>,
    lost: u64,
}

pub(crate) fn copied_token(seed: u64) {
    let cluster = Cluster::new(seed, &Policy::default(), &[0, 0, 0]);
    let world = &cluster.world;
    let skew = world.up_to(10_000);
    for node in 0..cluster.nodes.len() {
        cluster.step(node, world.up_to(skew));
    }
    let mut copied = cluster.first_login().refresh.as_str().to_owned();
    for _ in 0..world.pick(4) {
        // Alone, before the theft; the age of the token at the theft is any.
        world.pass(world.up_to(4 * W));
        let grant = cluster.refresh(cluster.any(), &copied).block_on().unwrap();
        copied = grant.refresh.as_str().to_owned();
    }
    let faults = Faults {
        slow: world.up_to(100),
        fail: world.random() % 10,
        lose_reply: world.random() % 10,
        ..Faults::default()
    };
    cluster.store.set(faults);
    let lost = world.random() % 30;
    let holders = [(); 2].map(|()| Holder {
        token: Mutex::new(copied.clone()),
        uses: Mutex::new(0),
        lost,
    });
    world.play(vec![Box::pin(until_found(&cluster, &holders, skew))]);
}

async fn until_found(cluster: &Cluster, holders: &[Holder; 2], skew: i64) {
    let world = &cluster.world;
    for _ in 0..60 {
        world.sleep(W + skew + 5_000 + world.up_to(2 * W)).await;
        let found = use_once(cluster, &holders[world.pick(2)]).await;
        let uses = [0, 1].map(|who| *holders[who].uses.lock().unwrap());
        if found {
            return;
        }
        assert!(uses[0].min(uses[1]) < 2, "not found: {uses:?}");
    }
}

/// One to three tabs at about the same time. Whether one of them was told of the end.
async fn use_once(cluster: &Cluster, holder: &Holder) -> bool {
    let brought = Mutex::new(false);
    let found = Mutex::new(false);
    let tab = |_| {
        Box::pin(async {
            cluster.world.sleep(cluster.world.up_to(1_000)).await;
            let token = holder.token.lock().unwrap().clone();
            match cluster.refresh(cluster.any(), &token).await {
                Ok(_) if cluster.world.happens(holder.lost) => {}
                Ok(grant) => {
                    *brought.lock().unwrap() = true;
                    *holder.token.lock().unwrap() = grant.refresh.as_str().to_owned();
                }
                Err(Error::StoreUnavailable) => {}
                Err(Error::RefreshReused | Error::SessionEnded(_)) => *found.lock().unwrap() = true,
                Err(error) => panic!("{error}"),
            }
        }) as Task<'_>
    };
    together((0..=cluster.world.pick(3)).map(tab).collect()).await;
    *holder.uses.lock().unwrap() += u32::from(*brought.lock().unwrap());
    *found.lock().unwrap()
}
