//! Refreshes on SQLite against the same compare-and-swap on raw SQLite.
//!
//! Method: a file of `DOORWARD_ROWS` sessions (a million unless told), each of a user of its own, made
//! through the store. Then seven rounds in turn: (a) raw, one connection, WAL, `synchronous = FULL`,
//! `BEGIN IMMEDIATE`, 64 times the row's UPDATE on random rows, `COMMIT`; (b) the engine, 512 refreshes
//! at once by the real `Service`, each of a session older than the window, so that each writes, signed
//! tokens (Ed25519) included. Judged is the ratio of the medians. Short: 10,240 refreshes a round, whose log of
//! rotations is folded after the round. Sustained: 400,000 without a pause, folding counted. Before and
//! after: one client alone, a refresh and one raw synced UPDATE in turn, medians of 400.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods
)]
#![allow(missing_docs, clippy::cast_possible_truncation)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_benches::{Limit, judge};
use doorward_core::keys::{KeyConfig, KeyRing};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::Terms;
use doorward_core::store::Store;
use doorward_core::testing::TestEnv;
use doorward_core::{Delivery, Device, Env, Identity, Policy, Service, Timestamp, UserId};
use doorward_stores::SqliteStore;
use rusqlite::{Connection, params};

const ROUNDS: usize = 7;
const AT_ONCE: usize = 512;
/// Refreshes in a short round.
const PER_ROUND: usize = 20 * AT_ONCE;
/// Refreshes in the long one: several times what the log of rotations takes before it is folded.
const SUSTAINED: usize = 400_000;

#[tokio::main]
async fn main() {
    let rows: usize = std::env::var("DOORWARD_ROWS").map_or(1_000_000, |n| n.parse().unwrap());
    let directory = tempfile::tempdir_in(".").unwrap();
    let path = directory.path().join("bench.db");
    let env = Arc::new(TestEnv::new(Timestamp(1_800_000_000_000), 1));
    let policy = Policy::default();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, policy.clone()).unwrap());
    let shared = Arc::clone(&env) as Arc<dyn Env>;
    let keys = KeyRing::open(&*store, KeyConfig::default(), &policy, Arc::clone(&shared))
        .await
        .unwrap();
    let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
    let service = Arc::new(Service::new(
        Arc::clone(&store),
        Arc::new(keys),
        revocations,
        policy,
        shared,
    ));

    let tokens = fill(&service, rows).await;
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA synchronous = FULL")
        .unwrap();
    raw.busy_timeout(Duration::from_secs(5)).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len() as f64 / rows as f64;
    println!("{rows} sessions of as many users");
    judge("bytes a session in the file", bytes, Limit::AtMost(200.0));
    let ids: Vec<Vec<u8>> = raw
        .prepare("SELECT id FROM sessions")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();

    let mut tokens = tokens;
    one_alone(&service, &mut tokens, &raw, &ids, &env).await;
    let (mut raw_rates, mut engine_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        folded(&raw);
        raw_rates.push(raw_groups(&raw, &ids, &env, PER_ROUND / 64));
        env.advance(Duration::from_secs(61));
        engine_rates.push(refresh_many(&service, &mut tokens, &env, PER_ROUND).await);
    }
    told("short", median(&mut raw_rates), median(&mut engine_rates));
    folded(&raw);
    one_alone(&service, &mut tokens, &raw, &ids, &env).await;
    folded(&raw);
    let many = tokens.len().min(SUSTAINED);
    let raw_rate = raw_groups(&raw, &ids, &env, many / 64);
    env.advance(Duration::from_secs(61));
    let engine_rate = refresh_many(&service, &mut tokens, &env, many).await;
    told("sustained, folding counted", raw_rate, engine_rate);
}

/// Waits until the store has folded its log, if it is about to: it would do so in the raw round.
fn folded(raw: &Connection) {
    let count = || {
        raw.query_row("SELECT count(*) FROM rotations", [], |row| {
            row.get::<_, u32>(0)
        })
    };
    while count().unwrap() > 10_000 {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn told(how: &str, raw: f64, engine: f64) {
    println!("{how}: raw {raw:.0}/s, engine {engine:.0}/s");
    let what = format!("refreshes by the engine, {how}, of raw");
    judge(&what, engine / raw, Limit::AtLeast(1.0));
}

/// One client alone, and one raw transaction, in turn.
async fn one_alone(
    service: &Arc<Service>,
    tokens: &mut [String],
    raw: &Connection,
    ids: &[Vec<u8>],
    env: &TestEnv,
) {
    let (mut alone, mut synced) = (Vec::new(), Vec::new());
    for token in tokens.iter_mut().take(400) {
        env.advance(Duration::from_secs(61));
        let start = Instant::now();
        raw_group(raw, ids, env, 1);
        synced.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let refreshed = service.refresh(token, Delivery::Body).await.0.unwrap();
        let grant = service.grant(refreshed).unwrap();
        alone.push(start.elapsed().as_secs_f64());
        grant.refresh.as_str().clone_into(token);
    }
    let (alone, synced) = (median(&mut alone), median(&mut synced));
    let (alone_us, synced_us) = (alone * 1e6, synced * 1e6);
    println!(
        "one client alone: p50 {alone_us:.0} us; one raw synced transaction: {synced_us:.0} us"
    );
    let what = "one client alone, p50, of one raw synced transaction";
    judge(what, alone / synced, Limit::AtMost(1.5));
}

async fn fill(service: &Arc<Service>, rows: usize) -> Vec<String> {
    let mut tokens = Vec::with_capacity(rows);
    for from in (0..rows).step_by(AT_ONCE) {
        let logins = (from..rows.min(from + AT_ONCE)).map(|number| {
            let service = Arc::clone(service);
            tokio::spawn(async move {
                let user = UserId::new(&format!("01890a5d-ac96-774b-bcce-{number:012x}")).unwrap();
                let identity = Identity {
                    user,
                    username: None,
                    valid_from: None,
                    claims: None,
                    privileged: false,
                };
                let (delivery, device) = (Delivery::Body, Device::default());
                let terms = Terms {
                    started_at: service.now(),
                    remember: true,
                    delivery,
                    device,
                    replaces: None,
                };
                let grant = service.login(identity, terms).await.0.unwrap();
                grant.refresh.as_str().to_owned()
            })
        });
        for login in logins.collect::<Vec<_>>() {
            tokens.push(login.await.unwrap());
        }
    }
    tokens
}

/// Per second.
async fn refresh_many(
    service: &Arc<Service>,
    tokens: &mut [String],
    env: &TestEnv,
    count: usize,
) -> f64 {
    let picked: Vec<usize> = (0..count)
        .map(|i| (env.random() as usize / 3 + i) % tokens.len())
        .collect();
    // Each once, in no order.
    let mut seen = std::collections::HashSet::new();
    let picked: Vec<usize> = picked.into_iter().filter(|at| seen.insert(*at)).collect();
    let start = Instant::now();
    let (mut running, mut done) = (tokio::task::JoinSet::new(), 0);
    let mut next = picked.iter();
    loop {
        while running.len() < AT_ONCE {
            let Some(&at) = next.next() else { break };
            let (service, token) = (Arc::clone(service), tokens[at].clone());
            running.spawn(async move {
                let refreshed = service.refresh(&token, Delivery::Body).await.0.unwrap();
                (
                    at,
                    service
                        .grant(refreshed)
                        .unwrap()
                        .refresh
                        .as_str()
                        .to_owned(),
                )
            });
        }
        let Some(answer) = running.join_next().await else {
            break;
        };
        let (at, token) = answer.unwrap();
        tokens[at] = token;
        done += 1;
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}

/// Per second.
fn raw_groups(raw: &Connection, ids: &[Vec<u8>], env: &TestEnv, groups: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..groups {
        raw_group(raw, ids, env, 64);
    }
    (groups * 64) as f64 / start.elapsed().as_secs_f64()
}

/// The store's own UPDATE on columns that leave the rows good.
fn raw_group(raw: &Connection, ids: &[Vec<u8>], env: &TestEnv, size: usize) {
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut update = raw
        .prepare_cached(
            "UPDATE sessions SET confirmed = confirmed, previous = previous, generation = ?2 + generation, \
             attempt = attempt, confirmed_at = confirmed_at, child_after = child_after, \
             refresh_key = (SELECT min(number) FROM keys WHERE purpose = 'refresh'), auth_after = auth_after, flags = flags, \
             version = version + 1 WHERE id = ?1 AND version >= 0 AND ended_at IS NULL",
        )
        .unwrap();
    for _ in 0..size {
        let id = &ids[env.random() as usize % ids.len()];
        assert_eq!(update.execute(params![id, 0]).unwrap(), 1);
    }
    raw.execute_batch("COMMIT").unwrap();
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
