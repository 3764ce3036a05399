//! Each store from 10^4 sessions up: refreshes, logins and ends a second, bytes a session, and a purge.
//!
//! Method: servers of the benchmark's own on the loopback, durable as their documentation here has them.
//! Sessions, each of a user of its own, go in by the store's own way for many rows
//! (`TransferStore::put`). At each size five rounds in turn of refreshes, logins and ends by the real
//! `Service`, 64 in flight, on sessions picked at random; a refresh writes (its session is older than the
//! window), and each answer's access token is signed (HS256). Medians of the rounds; p99 of all operations.
//! Bytes: what a row that went in adds to all tables and indexes after VACUUM FREEZE, to the file after a checkpoint, to
//! `used_memory`. Beside each size: what a write of 8 KiB and its sync took on this disk meanwhile, the median. At
//! the greatest size the same by eight nodes, eight requests in flight each. At last a million sessions that
//! have run out are purged, batch after batch without a pause, while refreshes go on.
//! `DOORWARD_ROWS` is the greatest size (a million unless told); arguments pick stores.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorward_benches::engine::user;
use doorward_benches::population::{Population, token};
use doorward_benches::servers::Server;
use doorward_benches::{Limit, clock, judge, median, percentile};
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing, RefreshKey};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::Terms;
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::transfer::{MovableStore, Rows};
use doorward_core::{
    Delivery, Device, EndReason, Env, Identity, Policy, Service, Session, SystemEnv, Timestamp,
};
use doorward_stores::Place;
use tokio::task::JoinSet;

const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 5;
/// Where several nodes are measured.
const NODES: usize = 8;
/// Rows that go in at once.
const PAGE: usize = 5_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::main]
async fn main() {
    let most =
        std::env::var("DOORWARD_ROWS").map_or(1_000_000, |rows| rows.parse().expect("a number"));
    let mut kinds: Vec<String> = std::env::args().skip(1).collect();
    if kinds.is_empty() {
        kinds = ["sqlite", "postgres", "redis"].map(str::to_owned).into();
    }
    for kind in kinds {
        measure(&kind, most).await;
    }
}

async fn measure(kind: &str, most: usize) {
    println!("\n{kind}");
    println!(
        "sessions   bytes each   refreshes/s  p50 ms  p99 ms   logins/s  p99 ms     ends/s  p99 ms  sync ms"
    );
    let mut bench = Bench::open(kind).await;
    let (mut rows, mut rates, mut each) = (10_000, Vec::new(), 0.0);
    while rows <= most {
        each = bench.fill(rows).await;
        rates.push(bench.line(each).await);
        rows *= 10;
    }
    if kind != "sqlite" {
        bench.several().await;
    }
    bench.purge().await;
    match kind {
        "postgres" => judge("bytes a session in PostgreSQL", each, Limit::AtMost(250.0)),
        "redis" => judge("bytes a session in Redis", each, Limit::AtMost(200.0)),
        _ => judge("bytes a session in SQLite", each, Limit::AtMost(200.0)),
    }
    for (which, what) in ["refreshes", "logins", "ends"].into_iter().enumerate() {
        let of = |pick: fn(f64, f64) -> f64| rates.iter().map(|it| it[which]).reduce(pick);
        let (Some(most), Some(least)) = (of(f64::max), of(f64::min)) else {
            continue;
        };
        let what = format!("{what} in {kind}, the fastest size of the slowest");
        if kind == "sqlite" {
            println!("        {what}: {:.2} (no limit)", most / least);
        } else {
            judge(&what, most / least, Limit::AtMost(2.0));
        }
    }
}

/// Where the rows are.
enum Home {
    File {
        path: PathBuf,
        _directory: tempfile::TempDir,
    },
    Server(Server),
}

impl Home {
    fn of(kind: &str) -> Home {
        match kind {
            "sqlite" => {
                let directory = tempfile::tempdir_in(".").expect("a directory");
                let path = directory.path().join("bench.db");
                Home::File {
                    path,
                    _directory: directory,
                }
            }
            "postgres" => Home::Server(Server::postgres()),
            "redis" => Home::Server(Server::redis()),
            _ => panic!("sqlite, postgres or redis"),
        }
    }

    fn place(&self) -> Place {
        let url = match self {
            Home::File { path, .. } => format!("sqlite://{}", path.display()),
            Home::Server(server) => server.url(),
        };
        url.parse().expect("a place")
    }

    /// What logins leave beside the session: `PostgreSQL` has a row for each user, to be locked.
    fn know_users(&self) {
        if let Home::Server(server) = self
            && !server.url().starts_with("redis")
        {
            let _ = server.ask(
                "INSERT INTO doorward.valid_from SELECT user_id, 0 FROM doorward.sessions \
                 ON CONFLICT DO NOTHING",
            );
        }
    }

    /// Everything that is kept, after what the store does when it has time.
    fn bytes(&self) -> f64 {
        match self {
            Home::File { path, .. } => file_bytes(path),
            Home::Server(server) if server.url().starts_with("redis") => {
                let info = server.ask("INFO memory");
                let used = info
                    .lines()
                    .find_map(|line| line.strip_prefix("used_memory:"));
                number(used.expect("used_memory"))
            }
            Home::Server(server) => {
                let _ = server.ask("VACUUM (FREEZE, ANALYZE)");
                let _ = server.ask("CHECKPOINT");
                number(&server.ask(
                    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class \
                     WHERE relkind = 'r' AND relnamespace NOT IN \
                     (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$')",
                ))
            }
        }
    }
}

/// Milliseconds that a small write takes to be on the disk: the median of some.
fn sync() -> f64 {
    let mut file = tempfile::tempfile_in(".").expect("a file");
    let mut took = Vec::new();
    for _ in 0..50 {
        let start = clock();
        file.write_all(&[7; 8192]).expect("room");
        file.sync_data().expect("a disk");
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    median(&took)
}

fn file_bytes(path: &Path) -> f64 {
    let file = rusqlite::Connection::open(path).expect("a database");
    file.busy_timeout(Duration::from_secs(60))
        .expect("patience");
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("a checkpoint");
    #[expect(clippy::cast_precision_loss, reason = "a size to look at")]
    let bytes = std::fs::metadata(path).expect("a file").len() as f64;
    bytes
}

fn number(text: &str) -> f64 {
    text.trim().parse().expect("a number")
}

struct Bench {
    store: Arc<dyn MovableStore>,
    /// Of as many nodes, each with connections of its own.
    services: Vec<Arc<Service>>,
    /// How many of them take part.
    nodes: usize,
    env: Arc<TestEnv>,
    key: Arc<RefreshKey>,
    population: Population,
    rows: usize,
    logged_in: usize,
    /// Sessions that are no longer as their login left them.
    changed: HashMap<usize, Session>,
    ended: HashSet<usize>,
    home: Home,
}

impl Bench {
    async fn open(kind: &str) -> Bench {
        let (home, policy, now) = (Home::of(kind), Policy::default(), SystemEnv.now());
        let env = Arc::new(TestEnv::new(now, 1));
        let (store, first, key) = node(&home, &policy, &env).await;
        let mut services = vec![first];
        for _ in 1..if kind == "sqlite" { 1 } else { NODES } {
            services.push(node(&home, &policy, &env).await.1);
        }
        let population = Population {
            since: now - 10 * DAY,
            key: key.id(),
            policy,
            first_user: 0,
        };
        Bench {
            store,
            services,
            nodes: 1,
            env,
            key,
            population,
            rows: 0,
            logged_in: 0,
            changed: HashMap::new(),
            ended: HashSet::new(),
            home,
        }
    }

    /// The same on so many nodes, among which the requests in flight are spread.
    async fn several(&mut self) {
        self.nodes = NODES;
        println!("by {NODES} nodes:");
        self.line(f64::NAN).await;
        self.nodes = 1;
    }

    fn service(&self, number: usize) -> Arc<Service> {
        Arc::clone(&self.services[number % self.nodes])
    }

    /// Adds sessions until there are so many; what each takes.
    #[expect(clippy::cast_precision_loss, reason = "a mean to look at")]
    async fn fill(&mut self, rows: usize) -> f64 {
        let (before, from) = (self.home.bytes(), std::mem::replace(&mut self.rows, rows));
        self.put(&self.population, from, rows).await;
        self.home.know_users();
        (self.home.bytes() - before) / (rows - from) as f64
    }

    async fn put(&self, population: &Population, from: usize, to: usize) {
        for start in (from..to).step_by(PAGE) {
            let numbers = start..to.min(start + PAGE);
            let sessions = numbers.map(|number| population.session(number)).collect();
            let put = self.store.put(Rows::Sessions(sessions)).await;
            put.expect("a store that takes rows");
        }
    }

    /// Refreshes, logins and ends a second.
    async fn line(&mut self, each: f64) -> [f64; 3] {
        let (mut refreshes, mut logins, mut ends) =
            (Timed::default(), Timed::default(), Timed::default());
        let mut syncs = Vec::new();
        for _ in 0..ROUNDS {
            syncs.push(sync());
            self.env.advance(Duration::from_secs(61));
            refreshes.add(self.refresh(8_192).await);
            logins.add(self.log_in(4_096.min(self.rows / 20)).await);
            ends.add(self.end(4_096.min(self.rows / 20)).await);
        }
        let rates = [refreshes.rate(), logins.rate(), ends.rate()];
        println!(
            "{:>8} {each:>12.1} {:>13.0} {:>7.2} {:>7.2} {:>10.0} {:>7.2} {:>10.0} {:>7.2} {:>8.2}",
            self.rows,
            rates[0],
            refreshes.at(50),
            refreshes.at(99),
            rates[1],
            logins.at(99),
            rates[2],
            ends.at(99),
            median(&syncs)
        );
        rates
    }

    /// Numbers of sessions that have not ended, each once, in no order.
    fn pick(&self, count: usize) -> Vec<usize> {
        let mut seen = HashSet::new();
        let count = count.min(self.rows / 3);
        while seen.len() < count {
            #[expect(clippy::cast_possible_truncation, reason = "64 bits")]
            let number = self.env.random() as usize % self.rows;
            if !self.ended.contains(&number) {
                seen.insert(number);
            }
        }
        seen.into_iter().collect()
    }

    async fn refresh(&mut self, count: usize) -> Times {
        let mut sent = Vec::new();
        for number in self.pick(count) {
            let row = self.changed.get(&number);
            let token = match row {
                Some(row) => token(row, &self.key),
                None => token(&self.population.session(number), &self.key),
            };
            sent.push((number, token));
        }
        let sent = sent
            .into_iter()
            .map(|(number, token)| (self.service(number), number, token));
        let (times, rows) = in_flight(sent.collect(), move |(service, number, token)| async move {
            let (refreshed, _) = service.refresh(&token, Delivery::Body).await;
            let refreshed = refreshed.expect("a refresh");
            let row = refreshed.session.clone();
            service.grant(refreshed).expect("tokens");
            (number, row)
        })
        .await;
        self.changed.extend(rows);
        times
    }

    async fn log_in(&mut self, count: usize) -> Times {
        // Users that have no session yet.
        let first = 1_000_000_000 + self.logged_in;
        self.logged_in += count;
        let users = (first..first + count).map(|number| (self.service(number), number));
        let (times, _) = in_flight(users.collect(), move |(service, number)| async move {
            let (granted, _) = service.login(somebody(number), terms(service.now())).await;
            granted.expect("a session");
        })
        .await;
        times
    }

    async fn end(&mut self, count: usize) -> Times {
        let picked = self.pick(count);
        self.ended.extend(&picked);
        let session = |number| (self.service(number), self.population.session(number).id);
        let sessions = picked.into_iter().map(session).collect();
        let (times, _) = in_flight(sessions, move |(service, session)| async move {
            let (ended, _) = service.end(session, EndReason::Logout).await;
            ended.expect("an end");
        })
        .await;
        times
    }

    /// Refreshes while rows that have run out go.
    async fn purge(&mut self) {
        let many = 1_000_000.min(self.rows);
        let old = Population {
            since: self.population.since - 190 * DAY,
            first_user: 2_000_000_000,
            ..self.population.clone()
        };
        self.put(&old, 0, many).await;
        let _ = self.home.bytes();
        let mut before = Timed::default();
        for _ in 0..ROUNDS {
            self.env.advance(Duration::from_secs(61));
            before.add(self.refresh(8_192).await);
        }
        let (service, store) = (self.service(0), Arc::clone(&self.store));
        let start = clock();
        let purging = tokio::spawn(async move {
            let looked_for = [0, many / 3, many / 2, many - 1].map(|number| old.session(number).id);
            loop {
                for _ in 0..20 {
                    service.purge(1_000).await.expect("a purge");
                }
                let mut left = false;
                for session in looked_for {
                    left |= store.load(session).await.expect("an answer").is_some();
                }
                if !left {
                    return start.elapsed().as_secs_f64();
                }
            }
        });
        let mut during = Timed::default();
        while !purging.is_finished() {
            self.env.advance(Duration::from_secs(61));
            during.add(self.refresh(8_192).await);
        }
        let took = purging.await.expect("a purge");
        println!(
            "purge of {many} of {}: {took:.1} s; refreshes before {:.0}/s, p99 {:.2} ms; meanwhile {:.0}/s, p99 {:.2} ms, longest {:.0} ms",
            self.rows + many,
            before.rate(),
            before.at(99),
            during.rate(),
            during.at(99),
            during.at(100)
        );
        let what = "p99 of refreshes while a million rows are purged, of p99 before";
        judge(what, during.at(99) / before.at(99), Limit::AtMost(3.0));
    }
}

/// A node: its store, its service, and the key of refresh tokens.
async fn node(
    home: &Home,
    policy: &Policy,
    env: &Arc<TestEnv>,
) -> (Arc<dyn MovableStore>, Arc<Service>, Arc<RefreshKey>) {
    let store = home.place().open_movable(policy.clone()).expect("a store");
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        ..KeyConfig::default()
    };
    let clock = Arc::clone(env) as Arc<dyn Env>;
    let keys = KeyRing::open(&*shared, config, policy, Arc::clone(&clock)).await;
    let keys = Arc::new(keys.expect("keys"));
    let key = keys.current_refresh(env.now()).expect("a key");
    let set = Arc::new(Revocations::new(Bounds::of(policy), shared.feed()));
    let service = Service::new(shared, keys, set, policy.clone(), clock);
    service.tick().await.expect("a store that answers");
    (store, Arc::new(service), key)
}

/// Operations of a round: how many a second, and how long each took, in milliseconds.
type Times = (f64, Vec<f64>);

#[derive(Default)]
struct Timed {
    rates: Vec<f64>,
    millis: Vec<f64>,
}

impl Timed {
    fn add(&mut self, (rate, millis): Times) {
        self.rates.push(rate);
        self.millis.extend(millis);
    }

    fn rate(&self) -> f64 {
        median(&self.rates)
    }

    fn at(&self, percent: usize) -> f64 {
        percentile(&self.millis, percent)
    }
}

/// Does something with each of these, so many at once.
async fn in_flight<T, R, F>(of: Vec<T>, operation: impl Fn(T) -> F) -> (Times, Vec<R>)
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let (start, mut running) = (clock(), JoinSet::new());
    let (mut millis, mut results) = (Vec::with_capacity(of.len()), Vec::with_capacity(of.len()));
    let mut waiting = of.into_iter();
    loop {
        while running.len() < IN_FLIGHT {
            let Some(next) = waiting.next() else { break };
            let done = operation(next);
            running.spawn(async move {
                let start = clock();
                let result = done.await;
                (start.elapsed().as_secs_f64() * 1e3, result)
            });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (took, result) = ended.expect("an operation that works");
        millis.push(took);
        results.push(result);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
    let rate = millis.len() as f64 / start.elapsed().as_secs_f64();
    ((rate, millis), results)
}

fn somebody(number: usize) -> Identity {
    Identity {
        user: user(number),
        username: None,
        valid_from: None,
        claims: None,
        privileged: false,
    }
}

fn terms(now: Timestamp) -> Terms {
    Terms {
        started_at: now,
        remember: true,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    }
}
