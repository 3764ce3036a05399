//! Refreshes over HTTP on one core against a bare axum POST of the same sizes.
//!
//! Method: `DOORWARD_ROWS` sessions (100,000 unless told) in an `SQLite` file. The axum door with its
//! router and its store's threads runs in a process of its own, all on the first core; the bare
//! server likewise: it parses a JSON body of the same size and answers JSON with the fields and
//! sizes of a refresh. This process sends from the second core, on 64 keep-alive connections to
//! each, in a closed loop. Every refresh writes: the window is zero, and each token is used once.
//! Durable: WAL, `synchronous = FULL`. After a warm-up, 9 rounds of 1 s for each in turn; judged is
//! the median of the ratios of neighbouring rounds. `processor time` is the server's for one request,
//! all its threads together; `busy` the share of the time in which they computed.

use std::path::Path;
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use doorward_axum::Doorward;
use doorward_benches::engine::Engine;
use doorward_benches::load::{Client, Load, Round, Same, Until, refresh_of, token_of};
use doorward_benches::process::{Server, pin, serve};
use doorward_benches::{Limit, clock, judge, median, median_ratio};
use doorward_core::Policy;
use doorward_core::keys::Algorithm;
use serde::{Deserialize, Serialize};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 9;
const SPAN: Duration = Duration::from_secs(1);
/// Coprime to the number of sessions, so that neighbours in time are none in the file.
const STRIDE: usize = 7_919;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [kind, what] = &arguments[..] {
        pin(0);
        return match &kind[..] {
            "door" => serve(door(what).await).await,
            _ => serve(bare(what)).await,
        };
    }
    let rows =
        std::env::var("DOORWARD_ROWS").map_or(100_000, |rows| rows.parse().expect("a number"));
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let path = directory.path().join("bench.db");
    let tokens = fill(&path, rows).await;
    pin(1);
    contest(&path, tokens).await;
}

fn policy() -> Policy {
    Policy {
        refresh_window: Some(Duration::ZERO),
        ..Policy::default()
    }
}

async fn fill(path: &Path, rows: usize) -> Vec<String> {
    let grants = Engine::open(path, policy(), Algorithm::EdDSA)
        .fill(rows)
        .await;
    let token = |at: usize| grants[at * STRIDE % rows].refresh.as_str().to_owned();
    (0..rows).map(token).collect()
}

async fn door(path: &str) -> Router {
    let mut door = Doorward::sqlite(path);
    door.engine.policy = policy();
    door.open().await.expect("a store").router()
}

/// What a refresh answers.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct Answer<'a> {
    #[serde(borrow)]
    user: User<'a>,
    session: Session<'a>,
    access_expires_at: &'a str,
    refresh_expires_at: &'a str,
    server_time: &'a str,
    access_token: &'a str,
    refresh_token: &'a str,
    token_type: &'a str,
    expires_in: i64,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct User<'a> {
    id: &'a str,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Session<'a> {
    id: &'a str,
    created_at: &'a str,
    expires_at: &'a str,
    fresh_until: &'a str,
}

#[derive(Deserialize)]
struct Asked {
    refresh_token: String,
}

/// A server that answers as `sample`.
fn bare(sample: &str) -> Router {
    let sample: &'static str = sample.to_owned().leak();
    let answer: Answer<'static> = serde_json::from_str(sample).expect("an answer");
    let handle = async move |Json(asked): Json<Asked>| {
        std::hint::black_box(asked.refresh_token);
        Json(answer)
    };
    Router::new().route("/api/v1/refresh", post(handle))
}

async fn contest(path: &Path, tokens: Vec<String>) {
    let door = Server::start(&["door", path.to_str().expect("a path in UTF-8")]);
    let share = tokens.len() / CONNECTIONS;
    let request = refresh_of(&tokens[0]);
    let clients = tokens
        .chunks_exact(share)
        .take(CONNECTIONS)
        .map(Refreshes::of);
    let mut refreshes = Load::open(door.address, clients).await;
    refreshes.round(Until::Answered(1)).await;
    let sample = refreshes.clients().next().expect("a client").sample.clone();
    println!(
        "{} sessions, {} bytes asked, {} answered",
        tokens.len(),
        request.len(),
        sample.len()
    );
    let plain = Server::start(&["bare", &sample]);
    let same = vec![Same(request); CONNECTIONS];
    let mut posts = Load::open(plain.address, same).await;
    posts.round(Until::Elapsed(SPAN / 2)).await;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(measure(&plain, &mut posts).await);
        ours.push(measure(&door, &mut refreshes).await);
    }
    report(&ours, &floor);
}

/// A round, and the server's processor time in it: microseconds for one request, and its share.
struct Measured {
    round: Round,
    each: f64,
    busy: f64,
}

async fn measure<C: Client>(server: &Server, load: &mut Load<C>) -> Measured {
    let (busy, start) = (server.busy(), clock());
    let round = load.round(Until::Elapsed(SPAN)).await;
    let busy = server.busy() - busy;
    Measured {
        each: busy * 1e6 / round.answers,
        busy: busy / start.elapsed().as_secs_f64(),
        round,
    }
}

fn report(ours: &[Measured], floor: &[Measured]) {
    let of = |rounds: &[Measured], figure: fn(&Measured) -> f64| -> Vec<f64> {
        rounds.iter().map(figure).collect()
    };
    for (name, rounds) in [("bare POST", floor), ("refresh", ours)] {
        println!(
            "{name:<9} {:>7.0}/s, p50 {:.0} us, p99 {:.0} us, processor time {:.1} us, busy {:.2}",
            median(&of(rounds, |measured| measured.round.rate)),
            median(&of(rounds, |measured| measured.round.p50)),
            median(&of(rounds, |measured| measured.round.p99)),
            median(&of(rounds, |measured| measured.each)),
            median(&of(rounds, |measured| measured.busy))
        );
    }
    let rate = |measured: &Measured| measured.round.rate;
    let ratio = median_ratio(&of(ours, rate), &of(floor, rate));
    let what = "refreshes over HTTP on one core, of a bare POST (aim 0.4)";
    judge(what, ratio, Limit::AtLeast(0.15));
}

/// Refreshes the sessions of its share in turn.
struct Refreshes {
    tokens: Vec<String>,
    at: usize,
    request: Vec<u8>,
    /// The first answer.
    sample: String,
}

impl Refreshes {
    fn of(tokens: &[String]) -> Refreshes {
        Refreshes {
            tokens: tokens.to_vec(),
            at: 0,
            request: Vec::new(),
            sample: String::new(),
        }
    }
}

impl Client for Refreshes {
    fn request(&mut self) -> &[u8] {
        self.at = (self.at + 1) % self.tokens.len();
        self.request = refresh_of(&self.tokens[self.at]);
        &self.request
    }

    fn answered(&mut self, body: &[u8]) {
        self.tokens[self.at] = token_of(body);
        if self.sample.is_empty() {
            self.sample = String::from_utf8_lossy(body).into_owned();
        }
    }
}
