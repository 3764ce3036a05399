//! A PostgreSQL server for the tests of one binary: on a free port of 127.0.0.1, its data in a temporary
//! directory. It ends with this process however that ends: a shell waits for the end of a pipe.
#![allow(dead_code, reason = "not every test binary uses all of it")]

use std::fs;
use std::io::{Read as _, Seek as _};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use doorward_core::Policy;
use doorward_stores::{PostgresStore, PostgresUrl};

use crate::rings;

/// A server that runs.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) directory: PathBuf,
    _lives: ChildStdin,
}

/// The server that all tests of this binary share: it forgets all when the machine stops.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&["fsync=off", "full_page_writes=off"]))
}

impl Server {
    /// A server of its own, with these settings.
    pub(crate) fn start(settings: &[&str]) -> Server {
        let directory = tempfile::Builder::new()
            .prefix("doorward-pg-")
            .tempdir()
            .unwrap()
            .keep();
        if is_root() && !has_namespaces() {
            chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let lives = watch(&directory);
        let data = directory.join("data");
        let data = data.to_str().unwrap();
        let made = run(
            "initdb",
            &[
                "-D",
                data,
                "-U",
                "doorward",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ],
        );
        assert!(made.is_ok(), "initdb: {made:?}");
        let server = Server {
            port: free_port(),
            directory,
            _lives: lives,
        };
        server.configure(settings);
        server.again();
        server
    }

    fn configure(&self, settings: &[&str]) {
        let own = [
            format!("port={}", self.port),
            "listen_addresses='127.0.0.1'".to_owned(),
            format!("unix_socket_directories='{}'", self.directory.display()),
            "max_connections=300".to_owned(),
            "shared_buffers='32MB'".to_owned(),
            "dynamic_shared_memory_type=mmap".to_owned(),
        ];
        let lines: Vec<_> = own
            .iter()
            .map(String::as_str)
            .chain(settings.iter().copied())
            .collect();
        let file = self.directory.join("data/postgresql.conf");
        fs::write(file, lines.join("\n") + "\n").unwrap();
    }

    /// Starts it where it was stopped.
    pub(crate) fn again(&self) {
        let (data, log) = (self.data(), self.directory.join("log"));
        let log = log.to_str().unwrap();
        let started = run("pg_ctl", &["-D", &data, "-w", "-l", log, "start"]);
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(started.is_ok(), "pg_ctl: {started:?} {said}");
    }

    /// Stops it as a crash does.
    pub(crate) fn stop(&self) {
        run(
            "pg_ctl",
            &["-D", &self.data(), "-w", "-m", "immediate", "stop"],
        )
        .unwrap();
    }

    /// Makes a file the server's own, and nobody else's.
    pub(crate) fn own(file: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() && !has_namespaces() {
            chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    fn data(&self) -> String {
        self.directory.join("data").to_str().unwrap().to_owned()
    }

    /// A place of its own in this server.
    pub(crate) fn fresh(&self) -> Fresh {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!(
            "t{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Fresh::at(format!(
            "postgres://doorward@127.0.0.1:{}/postgres?schema={schema}",
            self.port
        ))
    }

    /// Runs SQL as an operator does; what it prints.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let port = self.port.to_string();
        run(
            "psql",
            &[
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "doorward",
                "-XAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
                "postgres",
            ],
        )
        .unwrap()
    }
}

/// A schema of its own.
pub(crate) struct Fresh(pub(crate) String);

impl Fresh {
    pub(crate) fn at(url: String) -> Fresh {
        let fresh = Fresh(url);
        rings::removed_at_the_end(&fresh.url().to_string());
        fresh
    }

    pub(crate) fn url(&self) -> PostgresUrl {
        self.0.parse().unwrap()
    }

    pub(crate) fn schema(&self) -> &str {
        self.0.split_once("schema=").unwrap().1
    }

    pub(crate) fn with(&self, parameters: &str) -> PostgresUrl {
        format!("{}&{parameters}", self.0).parse().unwrap()
    }

    pub(crate) fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url(), Policy::default())
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Of the newest version that Debian has put here, or whatever is found.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<_> = versions
        .map(|version| version.path().join("bin").join(name))
        .collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// PostgreSQL refuses to be root. In a user namespace it is nobody, and reaches root's files all the same:
/// on some machines nobody else reads even `/`.
fn command(name: &str) -> Command {
    let mut command = if is_root() && has_namespaces() {
        let mut command = Command::new("unshare");
        let nobody = ["--user", "--map-user=65534", "--map-group=65534"];
        command.args(nobody).arg(program(name));
        command
    } else {
        Command::new(program(name))
    };
    if is_root() && !has_namespaces() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .current_dir("/")
        .env("LC_ALL", "C")
        .env_remove("PGPASSWORD");
    command
}

fn has_namespaces() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let tried = Command::new("unshare").args(["--user", "true"]).output();
        tried.is_ok_and(|tried| tried.status.success())
    })
}

fn run(name: &str, arguments: &[&str]) -> Result<String, String> {
    let errors = tempfile::tempfile().unwrap();
    let mut ran = command(name);
    ran.args(arguments)
        .stdin(Stdio::null())
        .stderr(errors.try_clone().unwrap());
    // The server inherits what it may keep open.
    ran.stdout(if arguments.contains(&"start") {
        Stdio::null()
    } else {
        Stdio::piped()
    });
    let output = ran
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}; scripts/install installs PostgreSQL"));
    let output = output.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned());
    }
    let (mut errors, mut said) = (errors, String::new());
    errors.rewind().unwrap();
    errors.read_to_string(&mut said).unwrap();
    Err(said)
}

/// Stops the server and removes its directory once this process has ended.
fn watch(directory: &Path) -> ChildStdin {
    let script = "read _; pid=$(head -n 1 \"$1/data/postmaster.pid\"); kill -QUIT \"$pid\"; \
        while kill -0 \"$pid\" 2>/dev/null; do sleep 0.1; done; rm -rf \"$1\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(directory);
    shell
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Ctrl-C ends the tests, not who cleans up.
    shell.process_group(0);
    shell.spawn().unwrap().stdin.take().unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
