//! What the Flask door costs, beside what Flask-JWT-Extended costs: `benches/flask`.
//!
//! In process (`in_process.py`): calls of `app.wsgi_app` with environs that were made before, 256
//! tokens (HS256) in turn, 41 rounds in which the apps take turns; judged are medians of the ratios of
//! one round. What a guard adds is the same view protected less the same view open, measured as
//! open, protected, protected, open. A refresh that writes is a `POST /refresh` of one client, to
//! `SQLite` files that are synced with every commit (WAL, `synchronous = FULL`): the table of
//! Flask-JWT-Extended's has a row for each token, as its documentation has it (Flask-SQLAlchemy), and
//! by hand (`sqlite3`, one connection that stays open); the new one is added and the old one revoked
//! in one transaction.
//!
//! Served: the same two routes of one gunicorn (gthread, 2 workers of 4 threads) on the first core,
//! 8 keep-alive connections in a closed loop from the second; after a warm-up 15 rounds of 500 ms
//! for each route in turn; judged is the median of the ratios of neighbouring rounds.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use doorward_benches::load::{Load, Same, Until};
use doorward_benches::process::{Server, pin};
use doorward_benches::{Limit, judge, median, median_ratio};

const CONNECTIONS: usize = 8;
const ROUNDS: usize = 15;
const SPAN: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().expect("a directory");
    in_process(folder.path());
    pin(1);
    let ours = served("doorward", folder.path()).await;
    let theirs = served("flask_jwt_extended", folder.path()).await;
    let what = "under gunicorn, a protected route, of the same open";
    judge(what, ours, Limit::AtLeast(0.93));
    println!("        of Flask-JWT-Extended: {theirs:.3}");
}

/// The interpreter that has the requirements and the package.
fn python() -> Command {
    let mut python = Command::new("target/bench-venv/bin/python");
    python.env("PYTHONPATH", "benches/flask");
    python
}

fn in_process(folder: &Path) {
    let mut python = python();
    python
        .arg("benches/flask/in_process.py")
        .env("BENCH_FOLDER", folder);
    let ended = python.status().expect("an interpreter");
    assert!(ended.success(), "in_process.py did not run to its end");
}

/// The throughput of the protected route, of that of the open one.
async fn served(app: &str, folder: &Path) -> f64 {
    let (token, server) = (token(app, folder), gunicorn(app, folder).await);
    let mut open = load(&server, "open", &token).await;
    let mut protected = load(&server, "protected", &token).await;
    let (mut bare, mut guarded) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (route, rates) in [(&mut open, &mut bare), (&mut protected, &mut guarded)] {
            let measured = route.round(Until::Elapsed(SPAN)).await;
            // The first round warms up.
            if round > 0 {
                rates.push(measured.rate);
            }
        }
    }
    let (open, protected) = (median(&bare), median(&guarded));
    println!("\n{app} under gunicorn: open {open:.0}/s, protected {protected:.0}/s");
    median_ratio(&guarded, &bare)
}

fn token(app: &str, folder: &Path) -> String {
    let made = python()
        .args([
            "-c",
            "import sys, apps; print(apps.token(sys.argv[1]))",
            app,
        ])
        .envs(environment(folder))
        .output()
        .expect("an interpreter");
    assert!(made.status.success(), "{}", made.stderr.escape_ascii());
    let token = String::from_utf8(made.stdout).expect("a token");
    token.trim().to_owned()
}

/// The apps of a benchmark share a folder and a key.
fn environment(folder: &Path) -> [(&'static str, PathBuf); 2] {
    let secret = "5d0c7b1e9f3a48628c1d7e0b6a94f2c3";
    [
        ("BENCH_FOLDER", folder.into()),
        ("BENCH_SECRET", secret.into()),
    ]
}

async fn gunicorn(app: &str, folder: &Path) -> Server {
    pin(0);
    let address = free_address();
    let child = python()
        .args([
            "-m",
            "gunicorn",
            &format!("apps:{app}()"),
            "--bind",
            &address.to_string(),
        ])
        .args([
            "--workers",
            "2",
            "--worker-class",
            "gthread",
            "--threads",
            "4",
        ])
        .args([
            "--keep-alive",
            "600",
            "--no-control-socket",
            "--log-level",
            "error",
        ])
        .envs(environment(folder))
        .stdin(Stdio::null())
        .spawn()
        .expect("gunicorn");
    pin(1);
    while TcpStream::connect(address).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Server::of(child, address)
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

async fn load(server: &Server, path: &str, token: &str) -> Load<Same> {
    let request = format!(
        "GET /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\
         Cookie: access_token_cookie={token}\r\n\r\n"
    );
    let clients = (0..CONNECTIONS).map(|_| Same(request.clone().into_bytes()));
    Load::open(server.address, clients).await
}
