//! Servers in processes of their own, on cores of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::net::TcpListener;

/// A server of a benchmark; ends with it.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Runs this program once more, with arguments that make it [`serve`].
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Server {
        let program = std::env::current_exe().expect("a program");
        let mut command = Command::new(program);
        command.args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("the server's address");
        let address = line.trim().parse().expect("the server's address");
        Server { child, address }
    }

    /// A process that was started otherwise and listens at `address`.
    #[must_use]
    pub fn of(child: Child, address: SocketAddr) -> Server {
        Server { child, address }
    }

    /// Processor time of all its threads, in seconds.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn busy(&self) -> f64 {
        busy(self.child.id())
    }

    /// Resident memory, in KiB.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn resident(&self) -> u32 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("a process that runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads of a process that runs, in seconds.
///
/// # Panics
/// It has ended.
#[must_use]
pub fn busy(process: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("a process that runs");
    let nanos = tasks.filter_map(|task| {
        let spent = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        spent.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum()).as_secs_f64()
}

/// Serves, prints where, and ends the process when its standard input is closed.
///
/// # Panics
/// There is no address to listen on.
pub async fn serve(router: Router) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    println!("{}", listener.local_addr().expect("an address"));
    std::io::stdout().flush().expect("a pipe");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.expect("a listener");
}

/// Keeps this thread, and those that it starts from now on, to the first (0) or the second (1) of
/// the machine's cores.
///
/// # Panics
/// There are fewer than two.
pub fn pin(which: usize) {
    // A process that was started by a pinned one is let loose first.
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|core| all.set(core));
    sched_setaffinity(None, &all).expect("the cores");
    let allowed = sched_getaffinity(None).expect("the cores");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let core = cores.nth(which).expect("this benchmark needs two cores");
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).expect("a core");
}
