//! A protected route behind the axum door against the same route unprotected.
//!
//! Method: an app with two routes that answer the same, one of them with the extractor `Session`,
//! runs in a process of its own on the first core, on one thread. This process sends from the
//! second core, on 64 keep-alive connections for each route, in a closed loop, 1,024 tokens in turn,
//! the same ones in the same header or cookie to both routes. After a warm-up, 15 rounds of 300 ms
//! for each route in turn; judged are medians of the ratios of neighbouring rounds. `busy` is the
//! share of the time in which the server computed: near 1 it is the slower side, as it must be.
//! `processor time` is the server's, for one request. A token is seen once the server has verified
//! it; those not seen are sent once each.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use doorward_axum::{Doorward, Session};
use doorward_benches::engine::{Engine, user};
use doorward_benches::load::{Client, Load, Round, Until};
use doorward_benches::process::{Server, pin, serve};
use doorward_benches::{Limit, clock, judge, median, median_ratio};
use doorward_core::Policy;
use doorward_core::keys::Algorithm;

const CONNECTIONS: usize = 64;
/// Tokens that a connection sends in turn.
const TOKENS: usize = 16;
const ROUNDS: usize = 15;
const SPAN: Duration = Duration::from_millis(300);
/// Tokens that a connection can send once in a round: more than it gets to.
const UNSEEN: usize = 150;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [algorithm, path] = &arguments[..] {
        pin(0);
        return serve(app(algorithm, path).await).await;
    }
    pin(1);
    let directory = tempfile::tempdir().expect("a directory");
    for algorithm in [Algorithm::HS256, Algorithm::EdDSA] {
        let path = directory.path().join(algorithm.name());
        let side = Side::open(algorithm, &path);
        for (via, every) in contests(algorithm) {
            side.contest(via, every).await;
        }
    }
}

/// How tokens travel, and which of them are new to the server: none, or each n-th.
fn contests(algorithm: Algorithm) -> Vec<(Via, Option<usize>)> {
    let mut contests = vec![(Via::Bearer, None), (Via::Cookie, None)];
    if algorithm != Algorithm::HS256 {
        contests.extend([(Via::Bearer, Some(100)), (Via::Bearer, Some(10))]);
    }
    contests
}

async fn app(algorithm: &str, path: &str) -> Router {
    let mut door = Doorward::sqlite(path);
    door.engine.key.algorithm = algorithm.parse().expect("an algorithm");
    let door = door.open().await.expect("a store");
    Router::new()
        .route("/open", get(open))
        .route("/protected", get(protected))
        .with_state(door)
}

async fn open() -> &'static str {
    "hello"
}

async fn protected(_session: Session) -> &'static str {
    "hello"
}

#[derive(Clone, Copy)]
enum Via {
    Bearer,
    Cookie,
}

/// A server, and what signs tokens for it.
struct Side {
    algorithm: Algorithm,
    engine: Engine,
    server: Server,
}

impl Side {
    fn open(algorithm: Algorithm, path: &Path) -> Side {
        let engine = Engine::open(path, Policy::default(), algorithm);
        let path = path.to_str().expect("a path in UTF-8");
        let server = Server::start(&[algorithm.name(), path]);
        Side {
            algorithm,
            engine,
            server,
        }
    }

    async fn contest(&self, via: Via, every: Option<usize>) {
        let tokens: Vec<_> = (0..CONNECTIONS * TOKENS).map(|i| self.token(i)).collect();
        let mut open = self.load("/open", via, every, &tokens).await;
        let mut protected = self.load("/protected", via, every, &tokens).await;
        let (mut bare, mut guarded) = (Figures::default(), Figures::default());
        for round in 0..=ROUNDS {
            for (route, figures) in [(&mut open, &mut bare), (&mut protected, &mut guarded)] {
                self.hand_out_unseen(route);
                let measured = self.measure(route).await;
                // The first round warms up.
                if round > 0 {
                    figures.push(measured);
                }
            }
        }
        report(&self.title(via, every), every, &bare, &guarded);
    }

    fn token(&self, number: usize) -> String {
        self.engine.access_token(&user(number))
    }

    async fn load(
        &self,
        path: &'static str,
        via: Via,
        every: Option<usize>,
        tokens: &[String],
    ) -> Load<Gets> {
        let clients = tokens
            .chunks(TOKENS)
            .enumerate()
            .map(|(client, tokens)| Gets {
                path,
                via,
                seen: tokens
                    .iter()
                    .map(|token| get_with(path, via, token))
                    .collect(),
                every: every.unwrap_or(usize::MAX),
                unseen: Vec::new(),
                last: Vec::new(),
                // Out of step, or all clients would send their unseen tokens at the same time.
                sent: client,
            });
        Load::open(self.server.address, clients).await
    }

    fn hand_out_unseen(&self, route: &mut Load<Gets>) {
        for client in route.clients().filter(|client| client.every < usize::MAX) {
            while client.unseen.len() < UNSEEN {
                let token = self.token(client.unseen.len());
                client
                    .unseen
                    .push(get_with(client.path, client.via, &token));
            }
        }
    }

    /// A round, and the server's processor time in it.
    async fn measure(&self, route: &mut Load<Gets>) -> (Round, f64, f64) {
        let (busy, start) = (self.server.busy(), clock());
        let round = route.round(Until::Elapsed(SPAN)).await;
        let busy = self.server.busy() - busy;
        let each = busy * 1e6 / round.answers;
        (round, each, busy / start.elapsed().as_secs_f64())
    }

    fn title(&self, via: Via, every: Option<usize>) -> String {
        let (name, via) = (self.algorithm.name(), via.name());
        let news = match every {
            None if self.algorithm == Algorithm::HS256 => String::new(),
            None => ", all seen".to_owned(),
            Some(every) => format!(", 1 of {every} unseen"),
        };
        format!("{name} by {via}{news}")
    }
}

impl Via {
    fn name(self) -> &'static str {
        match self {
            Via::Bearer => "bearer",
            Via::Cookie => "cookie",
        }
    }
}

/// Sends tokens in turn, each `every`-th time one that was never sent.
struct Gets {
    path: &'static str,
    via: Via,
    seen: Vec<Vec<u8>>,
    every: usize,
    unseen: Vec<Vec<u8>>,
    last: Vec<u8>,
    sent: usize,
}

impl Client for Gets {
    fn request(&mut self) -> &[u8] {
        self.sent += 1;
        if self.sent.is_multiple_of(self.every) {
            self.last = self.unseen.pop().expect("enough unseen tokens for a round");
            return &self.last;
        }
        &self.seen[self.sent % self.seen.len()]
    }
}

fn get_with(path: &str, via: Via, token: &str) -> Vec<u8> {
    let header = match via {
        Via::Bearer => "Authorization: Bearer ",
        Via::Cookie => "Cookie: __Secure-access_token_cookie=",
    };
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n{header}{token}\r\n\r\n")
        .into_bytes()
}

/// Of a route, round by round.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p99: Vec<f64>,
    each: Vec<f64>,
    busy: Vec<f64>,
}

impl Figures {
    fn push(&mut self, (round, each, busy): (Round, f64, f64)) {
        self.rate.push(round.rate);
        self.p99.push(round.p99);
        self.each.push(each);
        self.busy.push(busy);
    }
}

fn report(title: &str, every: Option<usize>, bare: &Figures, guarded: &Figures) {
    println!("\n{title}");
    for (name, figures) in [("unprotected", bare), ("protected", guarded)] {
        println!(
            "  {name:<11} {:>7.0}/s, p99 {:>5.0} us, processor time {:.2} us, busy {:.2}",
            median(&figures.rate),
            median(&figures.p99),
            median(&figures.each),
            median(&figures.busy)
        );
    }
    let rate = median_ratio(&guarded.rate, &bare.rate);
    let p99 = median_ratio(&guarded.p99, &bare.p99);
    let each = median_ratio(&bare.each, &guarded.each);
    println!("  unprotected / protected in processor time {each:.3}");
    if every.is_some_and(|every| every < 100) {
        println!("  throughput {rate:.3}, p99 {p99:.2} (no limit: to show what a signature costs)");
        return;
    }
    let (what, slower) = (format!("throughput, {title}"), format!("p99, {title}"));
    judge(&format!("{what} (aim 0.92)"), rate, Limit::AtLeast(0.85));
    judge(&slower, p99, Limit::AtMost(1.3));
}
