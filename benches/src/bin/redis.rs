//! Refreshes in Redis against the same script on a raw connection, by how the server syncs.
//!
//! Method: a server of the benchmark's own on the loopback, with `DOORWARD_ROWS` sessions (100,000 unless told), each of a
//! user of its own, put in by the store. For each policy seven rounds in turn, all with 64 in flight on one
//! multiplexed connection: (a) raw, by the client library alone: a script that compares and replaces a row of the
//! same size; (b) the store's `swap`, which is that script; (c) refreshes by the real `Service`, which
//! read the row before, and sign tokens (HS256). Judged is the ratio of the medians of (b) and (a).
//! Bytes: what the sessions add to `used_memory`.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::sync::Arc;

use doorward_benches::population::{Population, token};
use doorward_benches::servers::Server;
use doorward_benches::{Limit, clock, judge, median};
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::{Store, Write};
use doorward_core::testing::TestEnv;
use doorward_core::transfer::{MovableStore, Rows};
use doorward_core::{Delivery, Env, Policy, Service, Session, SystemEnv};
use doorward_stores::Place;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 7;
const PER_ROUND: usize = 10_000;
const SCRIPT: &str = "local row = redis.call('HGET', KEYS[1], ARGV[1]) \
    if row and string.sub(row, 1, 5) ~= ARGV[2] then return 0 end \
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) return 1";

#[tokio::main]
async fn main() {
    let rows = std::env::var("DOORWARD_ROWS").map_or(100_000, |rows| rows.parse().unwrap());
    let mut bench = Bench::open(rows).await;
    for (policy, settings) in [
        ("no log", ["appendonly no", "appendfsync no"]),
        (
            "a log synced each second",
            ["appendonly yes", "appendfsync everysec"],
        ),
        (
            "a log synced at each write",
            ["appendonly yes", "appendfsync always"],
        ),
    ] {
        for setting in settings {
            let _ = bench.server.ask(&format!("CONFIG SET {setting}"));
        }
        bench.measure(policy).await;
    }
}

struct Bench {
    server: Server,
    store: Arc<dyn MovableStore>,
    service: Arc<Service>,
    env: Arc<TestEnv>,
    sessions: Vec<Session>,
    tokens: Vec<String>,
    raw: MultiplexedConnection,
    name: String,
}

impl Bench {
    async fn open(rows: usize) -> Bench {
        let (server, policy, now) = (Server::redis(), Policy::default(), SystemEnv.now());
        let place: Place = server.url().parse().unwrap();
        let store = place.open_movable(policy.clone()).unwrap();
        let env = Arc::new(TestEnv::new(now, 1));
        let (shared, time): (Arc<dyn Store>, Arc<dyn Env>) = (store.clone(), env.clone());
        let config = KeyConfig {
            algorithm: Algorithm::HS256,
            ..KeyConfig::default()
        };
        let keys = KeyRing::open(&*shared, config, &policy, time.clone()).await;
        let keys = Arc::new(keys.unwrap());
        let key = keys.current_refresh(now).unwrap();
        let set = Arc::new(Revocations::new(Bounds::of(&policy), shared.feed()));
        let service = Service::new(shared, keys, set, policy.clone(), time);
        let population = Population {
            since: now - std::time::Duration::from_secs(10 * 24 * 3600),
            key: key.id(),
            policy,
            first_user: 0,
        };
        let sessions: Vec<_> = (0..rows).map(|number| population.session(number)).collect();
        let before = used(&server);
        for some in sessions.chunks(5000) {
            store.put(Rows::Sessions(some.to_vec())).await.unwrap();
        }
        println!("{rows} sessions of as many users");
        let bytes = (used(&server) - before) / rows as f64;
        judge("bytes a session in Redis", bytes, Limit::AtMost(200.0));
        let client = redis::Client::open(server.url()).unwrap();
        let mut raw = client.get_multiplexed_async_connection().await.unwrap();
        let load = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(SCRIPT)
            .query_async(&mut raw)
            .await;
        let tokens = sessions
            .iter()
            .map(|session| token(session, &key))
            .collect();
        Bench {
            server,
            store,
            service: Arc::new(service),
            env,
            sessions,
            tokens,
            raw,
            name: load.unwrap(),
        }
    }

    async fn measure(&mut self, policy: &str) {
        let (mut raw, mut swaps, mut refreshes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(self.raw_round().await);
            swaps.push(self.swap_round().await);
            refreshes.push(self.refresh_round().await);
        }
        let [raw, swaps, refreshes] = [raw, swaps, refreshes].map(|rates| median(&rates));
        println!("{policy}: raw {raw:.0}/s, swaps {swaps:.0}/s, refreshes {refreshes:.0}/s");
        judge(
            &format!("swaps of raw scripts, {policy}"),
            swaps / raw,
            Limit::AtLeast(0.8),
        );
        println!(
            "        refreshes of raw scripts, {policy}: {:.2}",
            refreshes / raw
        );
    }

    /// Sessions at random, each once, from among the second half: the first is refreshed.
    fn picked(&self, half: usize) -> Vec<usize> {
        let size = self.sessions.len() / 2;
        let step = 7919;
        let from = usize::try_from(self.env.random() % 1000).unwrap();
        (0..PER_ROUND.min(size))
            .map(|n| half * size + (from + n * step) % size)
            .collect()
    }

    async fn raw_round(&self) -> f64 {
        let work = self.picked(1).into_iter().map(|at| {
            let (mut raw, name) = (self.raw.clone(), self.name.clone());
            let mut id = vec![b's'];
            id.extend(self.sessions[at].id.0);
            async move {
                let row = [7; 78];
                let mut script = redis::cmd("EVALSHA");
                script
                    .arg(name)
                    .arg(1)
                    .arg(format!("raw:{{{}}}", at % 4096));
                script.arg(id).arg(&row[..5]).arg(&row[..]);
                let done: i64 = script.query_async(&mut raw).await.unwrap();
                assert_eq!(done, 1);
            }
        });
        rate(work.collect()).await.0
    }

    async fn swap_round(&mut self) -> f64 {
        let picked = self.picked(1);
        for at in &picked {
            self.sessions[*at].version += 1;
        }
        let work = picked.into_iter().map(|at| {
            let (store, row) = (Arc::clone(&self.store), self.sessions[at].clone());
            async move { assert_eq!(store.swap(row).await.unwrap(), Write::Done) }
        });
        rate(work.collect()).await.0
    }

    async fn refresh_round(&mut self) -> f64 {
        self.env.advance(std::time::Duration::from_secs(61));
        let picked = self.picked(0);
        let work = picked.into_iter().map(|at| {
            let (service, token) = (Arc::clone(&self.service), self.tokens[at].clone());
            async move {
                let refreshed = service.refresh(&token, Delivery::Body).await.0.unwrap();
                let grant = service.grant(refreshed).unwrap();
                (at, grant.refresh.as_str().to_owned())
            }
        });
        let (rate, done) = rate(work.collect()).await;
        for (at, token) in done {
            self.tokens[at] = token;
        }
        rate
    }
}

/// How many a second, and what they answered.
async fn rate<T: Send + 'static>(
    work: Vec<impl Future<Output = T> + Send + 'static>,
) -> (f64, Vec<T>) {
    let (count, start) = (work.len(), clock());
    let (mut running, mut done) = (JoinSet::new(), Vec::with_capacity(count));
    for one in work {
        if running.len() >= IN_FLIGHT {
            done.extend(running.join_next().await.transpose().unwrap());
        }
        running.spawn(one);
    }
    while let Some(one) = running.join_next().await {
        done.push(one.unwrap());
    }
    (count as f64 / start.elapsed().as_secs_f64(), done)
}

fn used(server: &Server) -> f64 {
    let info = server.ask("INFO memory");
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().trim().parse().unwrap()
}
