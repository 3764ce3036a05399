//! The recorded exchanges, replayed against the server: the binary with its flags, over TCP, on each store.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::http::{HeaderValue, Request, Response};
use doorward_http::testing::{self, Door, PASSWORD, Recording, USERS};

#[path = "../../stores/tests/servers/postgres.rs"]
mod postgres;
#[path = "../../stores/tests/servers/redis.rs"]
mod redis;
#[path = "../../stores/tests/servers/rings.rs"]
mod rings;

/// What a body is read as.
type Bytes = axum::body::Bytes;

#[tokio::test]
async fn the_server_answers_as_recorded() {
    replay(|| "sqlite://doorward.db".into()).await;
}

#[tokio::test]
async fn the_server_answers_as_recorded_on_postgres() {
    replay(|| postgres::shared().fresh().0).await;
}

#[tokio::test]
async fn the_server_answers_as_recorded_on_redis() {
    replay(|| redis::with_prefix(&redis::single().url())).await;
}

/// Each recording on a store of its own.
async fn replay(store: impl Fn() -> String) {
    let exchanges = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../http/exchanges"));
    for recording in testing::recordings(exchanges) {
        if recording.is_for("server") {
            let mut server = Server::start(&recording, &store()).await;
            recording.replay(&mut server).await;
        }
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
    directory: PathBuf,
    store: String,
}

impl Server {
    async fn start(recording: &Recording, store: &str) -> Self {
        let kind = store.split(':').next().unwrap();
        let name = format!("{kind}-{}-{}", std::process::id(), recording.name);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        for user in USERS {
            add_user(&directory, store, user);
        }
        let address = free_address();
        let mut serve = doorward(&directory, store);
        serve.args(["serve", "--operator-listen", "off", "--listen"]);
        serve.arg(address.to_string());
        for (key, value) in &recording.with {
            serve.arg(format!("--{}", key.replace('_', "-"))).arg(value);
        }
        let server = Server {
            process: serve.spawn().unwrap(),
            address,
            directory,
            store: store.to_owned(),
        };
        server.listening().await;
        server
    }

    async fn listening(&self) {
        for _ in 0..500 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not listen on {}", self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Door for Server {
    async fn send(&mut self, request: Request<Bytes>) -> Response<Bytes> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(&as_bytes(request)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        parsed(&answer)
    }

    async fn operate(&mut self, words: &[&str]) -> String {
        let mut command = doorward(&self.directory, &self.store);
        let done = command.args(words).stdout(Stdio::piped()).output().unwrap();
        assert!(done.status.success(), "{words:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    async fn wait(&mut self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// The binary in `directory` on a store, with hashing that costs nothing.
fn doorward(directory: &Path, store: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DOORWARD_")) {
        command.env_remove(name);
    }
    command
        .current_dir(directory)
        .args(["--password-memory-kib", "8", "--password-iterations", "1"])
        .args(["--log-level", "error", "--store", store])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn add_user(directory: &Path, store: &str, name: &str) {
    let mut command = doorward(directory, store);
    command.args(["user", "add", name, "--password-stdin"]);
    let mut adding = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = adding.stdin.take().unwrap();
    stdin.write_all(PASSWORD.as_bytes()).unwrap();
    drop(stdin);
    assert!(adding.wait().unwrap().success(), "user add {name}");
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// The request in HTTP/1.1, on a connection of its own.
fn as_bytes(mut request: Request<Bytes>) -> Vec<u8> {
    let length = HeaderValue::from(request.body().len());
    let headers = request.headers_mut();
    headers.insert("content-length", length);
    headers.insert("connection", HeaderValue::from_static("close"));
    let mut out = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    for (name, value) in request.headers() {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out.extend(request.body());
    out
}

/// The answer, whose body ends with the connection.
fn parsed(answer: &[u8]) -> Response<Bytes> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.expect("a whole head"));
    let head = std::str::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut response = Response::builder().status(status);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        assert_ne!(name, "transfer-encoding", "bodies are of known length");
        response = response.header(name, value);
    }
    response.body(Bytes::copy_from_slice(&body[4..])).unwrap()
}
