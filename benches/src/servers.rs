//! Database servers of a benchmark's own: on a free port of the loopback, data in a temporary directory, gone
//! with the value.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A server, its data, and how to ask it.
pub struct Server {
    child: Child,
    port: u16,
    bin: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    /// `PostgreSQL` as Debian has it, durable, with a quarter of an ordinary machine's memory. `initdb` refuses
    /// root: then all of it runs as `nobody`.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn postgres() -> Server {
        let bin = newest(Path::new("/usr/lib/postgresql")).join("bin");
        let directory = tempfile::tempdir_in(".").expect("a directory");
        let root = std::path::absolute(directory.path()).expect("a path");
        if let Some(id) = nobody().filter(|_| !has_namespaces()) {
            std::os::unix::fs::chown(&root, Some(id), Some(id)).expect("a directory of nobody's");
        }
        let data = root.join("data");
        let mut initdb = unprivileged(&bin.join("initdb"));
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ]);
        assert!(quiet(initdb.arg(&data)).status().expect("initdb").success());
        let port = free_port();
        let mut server = unprivileged(&bin.join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(&root);
        server.args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "shared_buffers=2GB",
            "max_wal_size=4GB",
            "checkpoint_timeout=15min",
            "max_connections=200",
        ] {
            server.args(["-c", setting]);
        }
        let child = quiet(&mut server).spawn().expect("postgres");
        Server {
            child,
            port,
            bin,
            _directory: directory,
        }
        .awaited("SELECT 1")
    }

    /// `Redis`, with a log that is synced once a second.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn redis() -> Server {
        let directory = tempfile::tempdir_in(".").expect("a directory");
        let port = free_port();
        let mut server = Command::new("redis-server");
        server.arg("--dir").arg(directory.path());
        server.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
        ]);
        server.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
        let child = quiet(&mut server).spawn().expect("redis-server");
        let bin = PathBuf::from("/usr/bin");
        Server {
            child,
            port,
            bin,
            _directory: directory,
        }
        .awaited("PING")
    }

    fn awaited(self, question: &str) -> Server {
        for _ in 0..600 {
            if self.try_ask(question).is_some() {
                return self;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("a server that does not answer");
    }

    /// The URL of its store.
    #[must_use]
    pub fn url(&self) -> String {
        if self.is_redis() {
            format!("redis://127.0.0.1:{}", self.port)
        } else {
            format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
        }
    }

    /// What it answers to a statement or a command, by its own client.
    ///
    /// # Panics
    /// It refuses.
    #[must_use]
    pub fn ask(&self, question: &str) -> String {
        self.try_ask(question).expect("an answer")
    }

    /// Processor time of its processes, in seconds, those that have ended too.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn busy(&self) -> f64 {
        let own = self.child.id();
        let processes = std::fs::read_dir("/proc").expect("processes");
        let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let children = numbers.filter_map(times).filter(|one| one.parent == own);
        let own = times(own).expect("a server that runs");
        own.itself + own.ended + children.map(|child| child.itself).sum::<f64>()
    }

    fn try_ask(&self, question: &str) -> Option<String> {
        let port = self.port.to_string();
        let mut client = if self.is_redis() {
            let mut client = Command::new("redis-cli");
            client.args(["-p", &port]).args(question.split(' '));
            client
        } else {
            let mut client = Command::new(self.bin.join("psql"));
            client.args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "postgres",
                "-AtXc",
                question,
            ]);
            client
        };
        let answer = client.stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(answer.stdout).ok()?;
        answer.status.success().then(|| text.trim().to_owned())
    }

    fn is_redis(&self) -> bool {
        self.bin == Path::new("/usr/bin")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fast shutdown of the one, an ordinary end of the other.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.child.wait();
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// In a user namespace it is nobody, and reaches root's files all the same: on some machines nobody else
/// reads even `/`.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    match nobody() {
        Some(_) if has_namespaces() => {
            command = Command::new("unshare");
            command
                .args(["--user", "--map-user=65534", "--map-group=65534"])
                .arg(program);
        }
        Some(id) => drop(command.uid(id).gid(id)),
        None => {}
    }
    command
}

fn has_namespaces() -> bool {
    let tried = Command::new("unshare").args(["--user", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// The id to become, where this runs as root.
fn nobody() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(65_534)
}

/// Processor time of the children that this process has waited for, in seconds.
///
/// # Panics
/// There is no `/proc`.
#[must_use]
pub fn waited_for() -> f64 {
    times(std::process::id()).expect("this process").ended
}

/// Whose child a process is, and processor time: its own, and that of its children that have ended.
struct Times {
    parent: u32,
    itself: f64,
    ended: f64,
}

fn times(process: u32) -> Option<Times> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let each = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).ok()?);
    Some(Times {
        parent: fields.get(1)?.parse().ok()?,
        itself: (ticks(11)? + ticks(12)?) / each,
        ended: (ticks(13)? + ticks(14)?) / each,
    })
}

fn newest(versions: &Path) -> PathBuf {
    let entries = std::fs::read_dir(versions).expect("an installation");
    let newest = entries.filter_map(|entry| Some(entry.ok()?.path())).max();
    newest.expect("an installation")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("a port").port()
}
