//! Refreshes in Redis against the same script on a raw connection, by how the server syncs.
//!
//! Method: a server of the benchmark's own on the loopback, with `DOORWARD_ROWS` sessions (100,000 unless told), each of a
//! user of its own, put in by the store. For each policy seven rounds in turn, all with 64 in flight on one
//! multiplexed connection: (a) raw, by the client library alone, in one thread, which is fastest for it: a script
//! that compares and replaces a row of the same size; (b) the same by the same library after a read of that row, one after the other, as any refresh must;
//! (c) the store's `swap`, which is the script of (a); (d) refreshes by the real `Service`, which read, swap, and
//! sign tokens (HS256). Judged are the medians of the ratios of neighbouring rounds: (c) and (d) of (a), and (d) of (b).
//! Beside each: the processor time it takes in this process (clients and the service) and in the server, which
//! something else on the machine changes less than it changes rates. The same of the engine alone: refreshes one after
//! the other in a store in memory. Bytes: what the sessions add to `used_memory`.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::sync::Arc;

use doorward_benches::population::{Population, token};
use doorward_benches::servers::Server;
use doorward_benches::{Limit, clock, judge, median, median_ratio};
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing, RefreshKey};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::{Store, Write};
use doorward_core::testing::TestEnv;
use doorward_core::transfer::{MovableStore, Rows, TransferStore as _};
use doorward_core::{Delivery, Env, Policy, Service, Session, SystemEnv};
use doorward_stores::Place;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::runtime::{Builder, Handle};
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
    bench.engine_alone().await;
}

struct Bench {
    server: Server,
    store: Arc<dyn MovableStore>,
    service: Arc<Service>,
    env: Arc<TestEnv>,
    sessions: Vec<Session>,
    tokens: Vec<String>,
    raw: MultiplexedConnection,
    alone: Handle,
    name: String,
}

impl Bench {
    async fn open(rows: usize) -> Bench {
        let (server, policy, now) = (Server::redis(), Policy::default(), SystemEnv.now());
        let place: Place = server.url().parse().unwrap();
        let store = place.open_movable(policy.clone()).unwrap();
        let env = Arc::new(TestEnv::new(now, 1));
        let (service, key) = service(store.clone(), &env).await;
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
        let alone = alone();
        let (raw, name) = alone.spawn(connected(server.url())).await.unwrap();
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
            alone,
            name,
        }
    }

    async fn measure(&mut self, policy: &str) {
        let mut rounds: [Vec<Round>; 4] = Default::default();
        for _ in 0..ROUNDS {
            rounds[0].push(self.raw_round(false).await);
            rounds[1].push(self.raw_round(true).await);
            rounds[2].push(self.swap_round().await);
            rounds[3].push(self.refresh_round().await);
        }
        println!("{policy}:");
        for (what, rounds) in ["raw", "pairs", "swaps", "refreshes"].iter().zip(&rounds) {
            let of = |part: fn(&Round) -> f64| median(&rounds.iter().map(part).collect::<Vec<_>>());
            let (rate, here, there) = (of(|it| it.rate), of(|it| it.here), of(|it| it.there));
            println!(
                "        {what}: {rate:.0}/s, {here:.1} µs here and {there:.1} µs in the server each"
            );
        }
        let rates = rounds.map(|rounds| rounds.iter().map(|it| it.rate).collect::<Vec<_>>());
        let [raw, pairs, swaps, refreshes] = &rates;
        for (what, of, base) in [
            ("swaps of raw scripts", swaps, raw),
            ("refreshes of raw scripts", refreshes, raw),
            ("refreshes of raw pairs", refreshes, pairs),
        ] {
            let ratio = median_ratio(of, base);
            judge(&format!("{what}, {policy}"), ratio, Limit::AtLeast(0.8));
        }
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

    async fn raw_round(&self, reads: bool) -> Round {
        let work = self.picked(1).into_iter().map(|at| {
            let (mut raw, name) = (self.raw.clone(), self.name.clone());
            let mut id = vec![b's'];
            id.extend(self.sessions[at].id.0);
            async move {
                let (row, key) = ([7; 78], format!("raw:{{{}}}", at % 4096));
                if reads {
                    let read = redis::cmd("HGET").arg(&key).arg(&id).to_owned();
                    let _: Option<Vec<u8>> = read.query_async(&mut raw).await.unwrap();
                }
                let mut script = redis::cmd("EVALSHA");
                script.arg(name).arg(1).arg(key);
                script.arg(id).arg(&row[..5]).arg(&row[..]);
                let done: i64 = script.query_async(&mut raw).await.unwrap();
                assert_eq!(done, 1);
            }
        });
        self.round(&self.alone, work.collect()).await.0
    }

    async fn swap_round(&mut self) -> Round {
        let picked = self.picked(1);
        for at in &picked {
            self.sessions[*at].version += 1;
        }
        let work = picked.into_iter().map(|at| {
            let (store, row) = (Arc::clone(&self.store), self.sessions[at].clone());
            async move { assert_eq!(store.swap(row).await.unwrap(), Write::Done) }
        });
        self.round(&Handle::current(), work.collect()).await.0
    }

    async fn refresh_round(&mut self) -> Round {
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
        let (round, done) = self.round(&Handle::current(), work.collect()).await;
        for (at, token) in done {
            self.tokens[at] = token;
        }
        round
    }

    /// How many a second, what each took, and what they answered.
    async fn round<T: Send + 'static>(
        &self,
        threads: &Handle,
        work: Vec<impl Future<Output = T> + Send + 'static>,
    ) -> (Round, Vec<T>) {
        let each = 1e6 / work.len() as f64;
        let (here, there) = (own_time(), server_time(&self.server));
        let (rate, done) = threads.spawn(rate(work)).await.unwrap();
        let round = Round {
            rate,
            here: (own_time() - here) * each,
            there: (server_time(&self.server) - there) * each,
        };
        (round, done)
    }

    async fn engine_alone(&self) {
        let store = Arc::new(MemoryStore::new(Policy::default()));
        let (service, key) = service(store.clone(), &self.env).await;
        let some = self.sessions.iter().take(PER_ROUND);
        let rows: Vec<_> = some
            .map(|row| Session {
                refresh_key: key.id(),
                ..row.clone()
            })
            .collect();
        let tokens: Vec<_> = rows.iter().map(|row| token(row, &key)).collect();
        store.put(Rows::Sessions(rows)).await.unwrap();
        let before = own_time();
        for token in &tokens {
            let refreshed = service.refresh(token, Delivery::Body).await.0.unwrap();
            let _ = service.grant(refreshed).unwrap();
        }
        let each = (own_time() - before) * 1e6 / tokens.len() as f64;
        println!("the engine alone: {each:.1} µs each");
    }
}

async fn service(store: Arc<dyn Store>, env: &Arc<TestEnv>) -> (Service, Arc<RefreshKey>) {
    let (policy, time): (_, Arc<dyn Env>) = (Policy::default(), env.clone());
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        ..KeyConfig::default()
    };
    let keys = KeyRing::open(&*store, config, &policy, time.clone()).await;
    let keys = Arc::new(keys.unwrap());
    let key = keys.current_refresh(env.now()).unwrap();
    let set = Arc::new(Revocations::new(Bounds::of(&policy), store.feed()));
    (Service::new(store, keys, set, policy, time), key)
}

/// A thread in which a connection and those who use it live.
fn alone() -> Handle {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// A connection, and what its server knows the script by.
async fn connected(url: String) -> (MultiplexedConnection, String) {
    let client = redis::Client::open(url).unwrap();
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let raw = client.get_multiplexed_async_connection_with_config(&patient);
    let mut raw = raw.await.unwrap();
    let load = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).to_owned();
    let name = load.query_async(&mut raw).await.unwrap();
    (raw, name)
}

struct Round {
    rate: f64,
    /// Microseconds of processor time in this process.
    here: f64,
    /// The same in the server.
    there: f64,
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

/// Seconds of processor time that this process has taken.
fn own_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The same of the server.
fn server_time(server: &Server) -> f64 {
    let info = server.ask("INFO cpu");
    told(&info, "used_cpu_sys:") + told(&info, "used_cpu_user:")
}

fn used(server: &Server) -> f64 {
    told(&server.ask("INFO memory"), "used_memory:")
}

fn told(info: &str, what: &str) -> f64 {
    let found = info.lines().find_map(|line| line.strip_prefix(what));
    found.unwrap().trim().parse().unwrap()
}
