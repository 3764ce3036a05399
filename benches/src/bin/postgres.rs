//! Refreshes of the engine on PostgreSQL against pgbench's updates of the same rows.
//!
//! Method: `DOORWARD_ROWS` sessions (1,000,000 unless told) in a PostgreSQL of this benchmark's own, durable
//! (`fsync`, `synchronous_commit`), on the same cores as everything else. pgbench: 16 clients, one thread,
//! prepared statements, each a transaction that sets, in one random row of a copy of that table, the columns
//! that a refresh sets; the copy's key is a number, so that pgbench finds it without looking for it. The
//! engine: `Service::refresh` and `Service::grant`, 256 in flight, random sessions, every one of them a load
//! and a swap (the window is zero), over the four connections that a store opens. 5 rounds of
//! `DOORWARD_SECONDS` (5 unless told) for each in turn; judged is the median of the ratios of neighbouring
//! rounds. Then the engine at 64 in flight, and with `pool=1`, once. Bytes a session are those of the table
//! `sessions` and its indexes, after they were put and after all rounds.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use doorward_benches::population::{Population, token};
use doorward_benches::servers::Server;
use doorward_benches::{Limit, clock, judge, median_ratio, percentile};
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing, RefreshKey};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::transfer::{MovableStore, Rows};
use doorward_core::{Delivery, Env, Policy, Service, Session, SystemEnv};
use doorward_stores::Place;
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
const PAGE: usize = 2_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(contest());
}

fn asked(name: &str, unless: usize) -> usize {
    std::env::var(name).map_or(unless, |number| number.parse().expect("a number"))
}

async fn contest() {
    let (rows, span) = (
        asked("DOORWARD_ROWS", 1_000_000),
        asked("DOORWARD_SECONDS", 5),
    );
    let span = Duration::from_secs(span as u64);
    let server = Server::postgres();
    let mut engine = Engine::open(&server.url(), rows).await;
    engine.fill().await;
    let _ = server.ask("CREATE TABLE theirs WITH (fillfactor = 97) AS SELECT row_number() OVER ()::int AS n, s.* FROM doorward.sessions s");
    let _ = server.ask("ALTER TABLE theirs ADD PRIMARY KEY (n)");
    let _ = server.ask("CREATE INDEX theirs_by_user ON theirs (user_hash)");
    let _ = server.ask("VACUUM (FREEZE, ANALYZE)");
    let _ = server.ask("CHECKPOINT");
    judge(
        "bytes a session",
        bytes(&server, rows),
        Limit::AtMost(250.0),
    );
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let _ = engine.round(256, span).await;
    for _ in 0..ROUNDS {
        theirs.push(pgbench(&server, rows, span));
        ours.push(engine.round(256, span).await);
        println!(
            "pgbench {:.0} a second, engine {:.0}",
            theirs[theirs.len() - 1],
            ours[ours.len() - 1]
        );
    }
    judge(
        "refreshes per update of pgbench",
        median_ratio(&ours, &theirs),
        Limit::AtLeast(2.0),
    );
    println!("64 in flight: {:.0} a second", engine.round(64, span).await);
    let mut one = Engine::open(&format!("{}?pool=1", server.url()), rows).await;
    (one.changed, one.population) = (engine.changed, engine.population);
    println!("one connection: {:.0} a second", one.round(256, span).await);
    println!("bytes a session after them: {:.0}", bytes(&server, rows));
    println!("hot updates: {}", server.ask("SELECT round(100.0 * n_tup_hot_upd / n_tup_upd, 1) FROM pg_stat_user_tables WHERE relname = 'sessions' AND n_tup_upd > 0"));
}

#[expect(clippy::cast_precision_loss, reason = "a mean to look at")]
fn bytes(server: &Server, rows: usize) -> f64 {
    let size = server.ask("SELECT pg_total_relation_size('doorward.sessions')");
    size.parse::<f64>().expect("a number") / rows as f64
}

/// Transactions a second.
fn pgbench(server: &Server, rows: usize, span: Duration) -> f64 {
    let script = format!(
        "\\set n random(1, {rows})\n\
         UPDATE theirs SET confirmed = gen_random_uuid(), previous = confirmed, generation = :n, \
         attempt = 1, confirmed_at = :n, child_after = 1, refresh_key = refresh_key, auth_after = 0, \
         flags = flags, version = version WHERE n = :n;\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("update.sql");
    std::fs::write(&file, script).expect("a file");
    let url = server.url();
    let mut command = Command::new("pgbench");
    command.args([
        "-n",
        "-M",
        "prepared",
        "-c",
        "16",
        "-j",
        "1",
        "-T",
        &span.as_secs().to_string(),
        "-f",
    ]);
    let output = command.arg(&file).arg(&url).output().expect("pgbench");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("tps = "));
    let rate = line.and_then(|line| line.split(' ').nth(2)?.parse().ok());
    rate.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

struct Engine {
    store: Arc<dyn MovableStore>,
    service: Arc<Service>,
    key: Arc<RefreshKey>,
    population: Population,
    rows: usize,
    changed: HashMap<usize, Session>,
    random: u64,
}

impl Engine {
    async fn open(url: &str, rows: usize) -> Engine {
        let policy = Policy {
            refresh_window: Some(Duration::ZERO),
            ..Policy::default()
        };
        let place: Place = url.parse().expect("a place");
        let store = place.open_movable(policy.clone()).expect("a store");
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let shared = Arc::clone(&store) as Arc<dyn doorward_core::store::Store>;
        let config = KeyConfig {
            algorithm: Algorithm::HS256,
            ..KeyConfig::default()
        };
        let keys = KeyRing::open(&*shared, config, &policy, Arc::clone(&env)).await;
        let keys = Arc::new(keys.expect("keys"));
        let now = env.now();
        let key = keys.current_refresh(now).expect("a key");
        let set = Arc::new(Revocations::new(Bounds::of(&policy), shared.feed()));
        let service = Service::new(shared, keys, set, policy.clone(), env);
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
            rows,
            changed: HashMap::new(),
            random: 7,
        }
    }

    async fn fill(&mut self) {
        let mut pages = JoinSet::new();
        for start in (0..self.rows).step_by(PAGE) {
            // In their order, as logins come.
            let _ = pages.join_next().await;
            let (store, population) = (Arc::clone(&self.store), self.population.clone());
            let numbers = start..self.rows.min(start + PAGE);
            pages.spawn(async move {
                let sessions = numbers.map(|number| population.session(number)).collect();
                store.put(Rows::Sessions(sessions)).await.expect("rows");
            });
        }
        pages.join_all().await;
    }

    fn pick(&mut self) -> usize {
        // An odd multiplier goes round all numbers.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.random >> 33).unwrap_or(0) % self.rows
    }

    /// Refreshes a second, so many at once.
    async fn round(&mut self, at_once: usize, span: Duration) -> f64 {
        let (begun, mut running, mut busy) =
            (clock(), JoinSet::new(), std::collections::HashSet::new());
        let (mut done, mut times) = (0, Vec::new());
        loop {
            while running.len() < at_once && begun.elapsed() < span {
                let number = self.pick();
                if !busy.insert(number) {
                    continue;
                }
                let token = match self.changed.get(&number) {
                    Some(row) => token(row, &self.key),
                    None => token(&self.population.session(number), &self.key),
                };
                let service = Arc::clone(&self.service);
                running.spawn(async move {
                    let sent = clock();
                    let (refreshed, _) = service.refresh(&token, Delivery::Body).await;
                    let refreshed = refreshed.expect("a refresh");
                    let row = refreshed.session.clone();
                    service.grant(refreshed).expect("tokens");
                    (number, row, sent.elapsed().as_secs_f64() * 1e3)
                });
            }
            let Some(ended) = running.join_next().await else {
                break;
            };
            let (number, row, millis) = ended.expect("a refresh");
            busy.remove(&number);
            self.changed.insert(number, row);
            times.push(millis);
            done += 1;
        }
        println!(
            "  p50 {:.1} ms, p99 {:.1} ms",
            percentile(&times, 50),
            percentile(&times, 99)
        );
        f64::from(done) / begun.elapsed().as_secs_f64()
    }
}
