//! What `doorward serve` weighs against a bare axum server.
//!
//! Method: both in processes of their own, of the same release profile, each on a runtime with a
//! thread a core: `target/release/doorward serve` with its operator listener and an `SQLite` file,
//! and an axum server of one route. Resident memory (`VmRSS`, code pages that were touched
//! included) two seconds after start-up, and a second after 10,000 requests on 16 connections:
//! `GET /session` with a token, which reads the store, against that one route.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use doorward_benches::engine::Engine;
use doorward_benches::load::{Load, Same, Until};
use doorward_benches::process::{Server, serve};
use doorward_benches::{Limit, judge};
use doorward_core::Policy;
use doorward_core::keys::Algorithm;

const CONNECTIONS: usize = 16;
const REQUESTS: usize = 10_000;

#[tokio::main]
async fn main() {
    if std::env::args().len() > 1 {
        let router = Router::new().route("/", get(async || "hello"));
        return serve(router).await;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("doorward.db");
    let grants = Engine::open(&path, Policy::default(), Algorithm::EdDSA)
        .fill(CONNECTIONS)
        .await;
    let sessions = grants.iter().map(|grant| {
        let token = grant.access.as_str();
        get_of(
            "/api/v1/session",
            &format!("Authorization: Bearer {token}\r\n"),
        )
    });
    let (bare, ours) = (Server::start(&["bare"]), doorward(directory.path()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    report("after start-up", &bare, &ours);
    send(&bare, (0..CONNECTIONS).map(|_| get_of("/", ""))).await;
    send(&ours, sessions).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    report("after 10,000 requests", &bare, &ours);
}

/// The stand-alone server on the file in `directory`.
fn doorward(directory: &Path) -> Server {
    let program = std::env::current_exe()
        .expect("a program")
        .with_file_name("doorward");
    let (api, operator) = (free_address(), free_address());
    let child = Command::new(program)
        .arg("serve")
        .current_dir(directory)
        .env("DOORWARD_LISTEN", api.to_string())
        .env("DOORWARD_OPERATOR_LISTEN", operator.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Server::of(child.expect("target/release/doorward"), api);
    while TcpStream::connect(api).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    listener.local_addr().expect("an address")
}

fn get_of(path: &str, header: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n").into_bytes()
}

async fn send(server: &Server, requests: impl Iterator<Item = Vec<u8>>) {
    let mut load = Load::open(server.address, requests.map(Same)).await;
    load.round(Until::Answered(REQUESTS / CONNECTIONS)).await;
}

fn report(when: &str, bare: &Server, ours: &Server) {
    let [bare, ours] = [bare, ours].map(|server| f64::from(server.resident()) / 1024.0);
    println!("{when}: bare axum {bare:.1} MiB, doorward serve {ours:.1} MiB");
    let what = format!("resident memory {when}, of a bare axum server");
    judge(&what, ours / bare, Limit::AtMost(2.0));
}
