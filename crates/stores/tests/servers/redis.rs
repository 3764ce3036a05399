//! A Redis of its own for a test binary: one server, and a cluster of six. They listen on free ports of this
//! machine, keep nothing on disk, and end with the test binary, however it ends.

#![allow(dead_code, unreachable_pub, reason = "not every test needs all of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use doorward_core::Policy;
use doorward_stores::RedisStore;
use doorward_stores::redis::Address;
use tempfile::TempDir;

use crate::rings;

/// A server that is ended with it.
pub struct Server {
    pub port: u16,
    child: (Child, String),
    directory: TempDir,
}

impl Server {
    /// Starts one with these further settings.
    pub fn start(settings: &[&str]) -> Server {
        let server = Server::begin(|_| settings.iter().map(|it| (*it).to_owned()).collect());
        eventually(|| !server.ask(&["PING"]).is_empty());
        server
    }

    /// Starts one with settings that depend on its port, and waits for nothing.
    pub fn begin(settings: impl Fn(u16) -> Vec<String>) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let settings = settings(port);
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        Server {
            port,
            child: started(directory.path(), port, &settings),
            directory,
        }
    }

    /// A sentinel by a file of these lines.
    pub fn sentinel(lines: &[String]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let file = directory.path().join("sentinel.conf");
        let home = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n",
            directory.path().display()
        );
        std::fs::write(&file, home + &lines.join("\n")).unwrap();
        let child = held(
            Command::new("sh"),
            &["redis-server", file.to_str().unwrap(), "--sentinel"],
        );
        Server {
            port,
            child,
            directory,
        }
    }

    /// A user who may do what the documentation says that the store needs, and nothing else; the URL to log in.
    pub fn with_documented_user(&self) -> String {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        let (_, rules) = docs
            .split_once("ACL SETUSER doorward on >PASSWORD ")
            .unwrap();
        let (rules, _) = rules.split_once("```").unwrap();
        let mut command = vec!["ACL", "SETUSER", "doorward", "on", ">right-horse"];
        command.extend(rules.split_whitespace());
        let set = self.ask(&command);
        assert!(set.contains("OK"), "{set}");
        format!("redis://doorward:right-horse@127.0.0.1:{}/", self.port)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn fresh(&self) -> RedisStore {
        fresh(&self.url())
    }

    /// As somebody kills it.
    pub fn kill(&mut self) {
        let (shell, process) = &mut self.child;
        let _ = Command::new("kill")
            .args(["-9", process])
            .stderr(Stdio::null())
            .status();
        drop(shell.stdin.take());
        let _ = shell.wait();
    }

    /// As `kill -SIGNAL`.
    pub fn signal(&self, signal: &str) {
        let signal = format!("-{signal}");
        let sent = Command::new("kill").args([&signal, &self.child.1]).status();
        assert!(sent.unwrap().success());
    }

    pub fn start_again(&mut self, settings: &[&str]) {
        self.child = started(self.directory.path(), self.port, settings);
        eventually(|| !self.ask(&["PING"]).is_empty());
    }

    /// The raw answer to a command; empty: none.
    pub fn ask(&self, command: &[&str]) -> String {
        ask(self.port, command).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server, and the number of its process.
fn started(directory: &Path, port: u16, settings: &[&str]) -> (Child, String) {
    let port = port.to_string();
    let mut words = vec!["redis-server", "--port", &port, "--bind", "127.0.0.1"];
    words.extend(["--save", "", "--appendonly", "no", "--dir"]);
    words.push(directory.to_str().unwrap());
    words.extend(settings);
    held(Command::new("sh"), &words)
}

/// A process, and its number. The shell ends it when this process is gone, which closes the pipe that it reads.
fn held(mut shell: Command, words: &[&str]) -> (Child, String) {
    let script = "\"$@\" </dev/null >/dev/null 2>&1 & echo $!; read gone; kill -9 $!; wait";
    let command = shell.args(["-c", script, "sh"]).args(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut shell = command.spawn().unwrap();
    let mut process = String::new();
    let output = shell.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut process).unwrap();
    (shell, process.trim().to_owned())
}

fn ask(port: u16, command: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = format!("*{}\r\n", command.len());
    for word in command {
        let length = word.len();
        text.extend(["$", &length.to_string(), "\r\n", word, "\r\n"]);
    }
    stream.write_all(text.as_bytes())?;
    let mut answer = vec![0; 1 << 16];
    let count = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..count]).into())
}

fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // A cluster's bus is 10,000 above.
        if port < 55_000 {
            return port;
        }
    }
}

/// Waits for what a server does in its own time.
pub fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come to that within 30 s");
}

/// Three primaries with a replica each.
pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    pub fn start_with(more: &[&str]) -> Cluster {
        let mut settings = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        settings.extend(more);
        let servers: Vec<_> = (0..6).map(|_| Server::start(&settings)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(
            servers
                .iter()
                .map(|server| format!("127.0.0.1:{}", server.port)),
        );
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = create.output().unwrap();
        assert!(
            created.status.success(),
            "{}",
            String::from_utf8_lossy(&created.stdout)
        );
        let cluster = Cluster { servers };
        eventually(|| cluster.is_whole());
        cluster
    }

    fn is_whole(&self) -> bool {
        self.servers.iter().all(|server| {
            let is_ok = server
                .ask(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok");
            let replication = server.ask(&["INFO", "replication"]);
            let is_linked = replication.contains("master_link_status:up")
                || replication.contains("connected_slaves:1");
            is_ok && is_linked
        })
    }

    pub fn url(&self) -> String {
        let hosts = self
            .servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port));
        format!("redis://{}/?cluster", hosts.collect::<Vec<_>>().join(","))
    }
}

impl Cluster {
    pub fn fresh(&self) -> RedisStore {
        fresh(&self.url())
    }
}

/// Both, started once; a `static` is never dropped, so their shells end them.
pub fn single() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[]))
}

/// An empty store in the server, by the user whose rights are documented.
pub fn with_few_rights() -> RedisStore {
    fresh(&single().with_documented_user())
}

pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

/// An empty store at a URL: under a prefix that nobody else has.
fn fresh(url: &str) -> RedisStore {
    RedisStore::open(&with_prefix(url).parse().unwrap(), Policy::default()).unwrap()
}

/// The URL with a prefix that nobody else has.
pub fn with_prefix(url: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let mark = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{mark}prefix=doorward:t{number}:");
    rings::removed_at_the_end(&url.parse::<Address>().unwrap().to_string());
    url
}
