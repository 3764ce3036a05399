//! Refreshes on PostgreSQL, of the engine and over HTTP, against pgbench's updates of the same rows.
//!
//! Method: `DOORWARD_ROWS` sessions (1,000,000 unless told) in a PostgreSQL of this benchmark's own, durable
//! (`fsync`, `synchronous_commit`), on the same cores as everything else. pgbench: 16 clients, one thread,
//! prepared statements, each a transaction that sets, in one random row of a copy of that table, the columns
//! that a refresh sets; the copy's key is a number, so that pgbench finds it without looking for it. The
//! engine: `Service::refresh` and `Service::grant`, 256 and 64 in flight, random sessions, every one of them a
//! load and a swap (the window is zero), over the four connections that a store opens. HTTP: the axum door in
//! a process of its own, refreshed over 64 keep-alive connections in a closed loop. Access tokens are signed
//! with HS256; no refresh is the first of its stretch, of which the log of events keeps a record. 5 rounds of
//! `DOORWARD_SECONDS` (5 unless told) for each in turn; judged are the medians of the ratios of neighbouring
//! rounds. Processor time is that of one refresh or update: pgbench's, this process's with the clients in it, or
//! the door's; and the database's. Then the engine with `pool=1`, once. Bytes a session are those of the table `sessions` and its
//! indexes, after they were put and after all rounds.

use std::sync::Arc;
use std::time::Duration;

use doorward_axum::Doorward;
use doorward_benches::holders::{Hand, Holder};
use doorward_benches::load::{Load, Until};
use doorward_benches::pgbench;
use doorward_benches::population::Population;
use doorward_benches::process::{self, serve};
use doorward_benches::servers::Server;
use doorward_benches::{Limit, clock, judge, median, median_ratio, percentile};
use doorward_core::event_log::{EventConfig, EventLog};
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing, RefreshKey};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::transfer::{MovableStore, Rows};
use doorward_core::{Delivery, Env, Policy, Service, SystemEnv};
use doorward_stores::Place;
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
const PAGE: usize = 2_000;
const HOLDERS: usize = 256;
const CONNECTIONS: usize = 64;
/// What is judged, and its limit.
const WHAT: [(&str, f64); 3] = [
    ("refreshes of the engine, 256 in flight", 2.0),
    ("refreshes of the engine, 64 in flight", 2.0),
    ("refreshes over HTTP, 64 connections", 1.0),
];

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [kind, url] if kind == "door" => serve(door(url).await).await,
        _ => contest().await,
    }
}

fn asked(name: &str, unless: usize) -> usize {
    std::env::var(name).map_or(unless, |number| number.parse().expect("a number"))
}

async fn contest() {
    let rows = asked("DOORWARD_ROWS", 1_000_000);
    let span = Duration::from_secs(asked("DOORWARD_SECONDS", 5) as u64);
    let server = Server::postgres();
    let engine = Engine::open(&server.url()).await;
    engine.fill(rows).await;
    copy(&server);
    let size = bytes(&server, rows);
    judge("bytes a session", size, Limit::AtMost(250.0));
    // Half of the sessions for the engine, half for HTTP.
    let mut theirs = Holder::share(engine.population.clone(), &engine.key, rows, 2 * HOLDERS);
    let holders = theirs.split_off(HOLDERS);
    let door = process::Server::start(&["door", &server.url()]);
    let mut bench = Bench {
        http: Load::open(door.address, Hand::of(theirs, CONNECTIONS)).await,
        server,
        door,
        engine,
        holders,
        rows,
        span,
    };
    bench.rounds().await;
    bench.engine = Engine::open(&format!("{}?pool=1", bench.server.url())).await;
    let one = bench.engine_at(HOLDERS).await;
    println!("one connection: {one}");
    let size = bytes(&bench.server, rows);
    println!("bytes a session after all: {size:.0}");
    println!("hot updates: {}", bench.server.ask("SELECT round(100.0 * n_tup_hot_upd / n_tup_upd, 1) FROM pg_stat_user_tables WHERE relname = 'sessions' AND n_tup_upd > 0"));
}

/// The rows for pgbench.
fn copy(server: &Server) {
    let _ = server.ask("CREATE TABLE theirs WITH (fillfactor = 97) AS SELECT row_number() OVER ()::int AS n, s.* FROM doorward.sessions s");
    let _ = server.ask("ALTER TABLE theirs ADD PRIMARY KEY (n)");
    let _ = server.ask("CREATE INDEX theirs_by_user ON theirs (user_hash)");
    let _ = server.ask("VACUUM (FREEZE, ANALYZE)");
    let _ = server.ask("CHECKPOINT");
}

#[expect(clippy::cast_precision_loss, reason = "a mean to look at")]
fn bytes(server: &Server, rows: usize) -> f64 {
    let size = server.ask("SELECT pg_total_relation_size('doorward.sessions')");
    size.parse::<f64>().expect("a number") / rows as f64
}

/// What a round came to.
struct Round {
    /// A second.
    rate: f64,
    /// Milliseconds: the median, and what 99 of 100 took no longer than. pgbench tells neither.
    took: Option<(f64, f64)>,
    /// Processor time of one, in microseconds: the node's and the database's.
    node: f64,
    database: f64,
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (node, database) = (self.node, self.database);
        write!(
            f,
            "{:>6.0} a second, processor time {node:.0} + {database:.0} us",
            self.rate
        )?;
        let Some((p50, p99)) = self.took else {
            return Ok(());
        };
        write!(f, ", p50 {p50:.1} ms, p99 {p99:.1} ms")
    }
}

fn said(what: &str, round: Round) -> Round {
    println!("{what:<39} {round}");
    round
}

fn report(what: &str, limit: f64, ours: &[Round], theirs: &[Round]) {
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| -> Vec<f64> {
        rounds.iter().map(figure).collect()
    };
    let rate = |round: &Round| round.rate;
    let ratio = median_ratio(&of(ours, rate), &of(theirs, rate));
    let name = format!("{what}, per update of pgbench");
    judge(&name, ratio, Limit::AtLeast(limit));
    let time = |round: &Round| round.node + round.database;
    let (ours, theirs) = (median(&of(ours, time)), median(&of(theirs, time)));
    println!("        processor time of one {ours:.0} us, of pgbench's {theirs:.0} us");
}

struct Bench {
    server: Server,
    door: process::Server,
    engine: Engine,
    holders: Vec<Holder>,
    http: Load<Hand>,
    rows: usize,
    span: Duration,
}

impl Bench {
    /// Each in turn.
    async fn rounds(&mut self) {
        // The first round finds nothing in the caches.
        let _ = (self.engine_at(HOLDERS).await, self.over_http().await);
        let (mut theirs, mut ours) = (Vec::new(), [const { Vec::new() }; 3]);
        for _ in 0..ROUNDS {
            theirs.push(said("pgbench", self.pgbench()));
            ours[0].push(said(WHAT[0].0, self.engine_at(HOLDERS).await));
            ours[1].push(said(WHAT[1].0, self.engine_at(CONNECTIONS).await));
            ours[2].push(said(WHAT[2].0, self.over_http().await));
        }
        for ((what, limit), ours) in WHAT.into_iter().zip(&ours) {
            report(what, limit, ours, &theirs);
        }
    }

    fn pgbench(&self) -> Round {
        let updates = pgbench::update(&self.server, "theirs", self.rows, self.span);
        Round {
            rate: updates.rate,
            took: None,
            node: updates.client,
            database: updates.database,
        }
    }

    /// Refreshes by the engine, so many at once.
    async fn engine_at(&mut self, at_once: usize) -> Round {
        let own = || process::busy(std::process::id());
        let (node, database, begun) = (own(), self.server.busy(), clock());
        let (mut running, mut times) = (JoinSet::new(), Vec::new());
        for hand in Hand::of(std::mem::take(&mut self.holders), at_once) {
            running.spawn(refresh(Arc::clone(&self.engine.service), hand, self.span));
        }
        while let Some(ended) = running.join_next().await {
            let (hand, some) = ended.expect("refreshes");
            self.holders.extend(hand.into_holders());
            times.extend(some);
        }
        Round::of(
            &times,
            begun.elapsed(),
            own() - node,
            self.server.busy() - database,
        )
    }

    async fn over_http(&mut self) -> Round {
        let (node, database) = (self.door.busy(), self.server.busy());
        let round = self.http.round(Until::Elapsed(self.span)).await;
        let each = |busy: f64| busy * 1e6 / round.answers;
        Round {
            rate: round.rate,
            took: Some((round.p50 / 1e3, round.p99 / 1e3)),
            node: each(self.door.busy() - node),
            database: each(self.server.busy() - database),
        }
    }
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
    fn of(millis: &[f64], took: Duration, node: f64, database: f64) -> Round {
        let count = millis.len() as f64;
        Round {
            rate: count / took.as_secs_f64(),
            took: Some((percentile(millis, 50), percentile(millis, 99))),
            node: node * 1e6 / count,
            database: database * 1e6 / count,
        }
    }
}

/// One refresh after the other; the milliseconds of each.
async fn refresh(service: Arc<Service>, mut hand: Hand, span: Duration) -> (Hand, Vec<f64>) {
    let (begun, mut times) = (clock(), Vec::new());
    while begun.elapsed() < span {
        let (token, sent) = (hand.next(), clock());
        let (refreshed, _) = service.refresh(&token, Delivery::Body).await;
        let grant = service.grant(refreshed.expect("a refresh"));
        hand.keep(grant.expect("tokens").refresh.as_str());
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    (hand, times)
}

fn policy() -> Policy {
    Policy {
        refresh_window: Some(Duration::ZERO),
        ..Policy::default()
    }
}

fn keys() -> KeyConfig {
    KeyConfig {
        algorithm: Algorithm::HS256,
        ..KeyConfig::default()
    }
}

fn events() -> EventConfig {
    let unless = EventConfig::default();
    EventConfig {
        refreshes: unless.retention,
        ..unless
    }
}

async fn door(url: &str) -> axum::Router {
    let mut door = Doorward::at(url.parse().expect("a place"));
    door.engine.policy = policy();
    door.engine.key = keys();
    door.engine.events = events();
    door.open().await.expect("a store").router()
}

struct Engine {
    store: Arc<dyn MovableStore>,
    service: Arc<Service>,
    key: Arc<RefreshKey>,
    population: Population,
}

impl Engine {
    async fn open(url: &str) -> Engine {
        let policy = policy();
        let place: Place = url.parse().expect("a place");
        let store = place.open_movable(policy.clone()).expect("a store");
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let shared = Arc::clone(&store) as Arc<dyn doorward_core::store::Store>;
        let keys = KeyRing::open(&*shared, keys(), &policy, Arc::clone(&env)).await;
        let keys = Arc::new(keys.expect("keys"));
        let now = env.now();
        let key = keys.current_refresh(now).expect("a key");
        let set = Arc::new(Revocations::new(Bounds::of(&policy), shared.feed()));
        let log = EventLog::new(Arc::clone(&shared), events(), Arc::clone(&env));
        let service = Service::new(shared, keys, set, policy.clone(), env);
        let service = service.logging_to(Arc::new(log));
        service.tick().await.expect("a store that answers");
        let population = Population {
            // All within a day, so that none is over.
            since: now - Duration::from_secs(24 * 3600),
            key: key.id(),
            policy,
            first_user: 0,
        };
        Engine {
            store,
            service: Arc::new(service),
            key,
            population,
        }
    }

    async fn fill(&self, rows: usize) {
        let mut pages = JoinSet::new();
        for start in (0..rows).step_by(PAGE) {
            // In their order, as logins come.
            let _ = pages.join_next().await;
            let (store, population) = (Arc::clone(&self.store), self.population.clone());
            let numbers = start..rows.min(start + PAGE);
            pages.spawn(async move {
                let sessions = numbers.map(|number| population.session(number)).collect();
                store.put(Rows::Sessions(sessions)).await.expect("rows");
            });
        }
        pages.join_all().await;
    }
}
