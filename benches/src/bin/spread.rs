//! How soon three nodes know of what one of them ended, at 1,000 ends a second.
//!
//! Method: three processes, each a node with a store of its own on one server, durable, started by this
//! benchmark; each in a mount namespace with a `/dev/shm` of its own, as machines have, so that they share no
//! mapped ring. Each opens a third of the sessions and ends 333 a second for `DOORWARD_SECONDS` (20 unless
//! told), 16 at once at the most. Two threads of each look what they hear: one asks the feed 2,000 times a second,
//! as requests do; one polls the log each second, as the tick does, with its cursor. Printed is the time from
//! the acknowledgement of an end at one node to the moment when another has it, by either way, for every end
//! and both other nodes; 0 where it was known before it was acknowledged.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use doorward_benches::population::Population;
use doorward_benches::servers::Server;
use doorward_benches::{Limit, clock, judge, percentile};
use doorward_core::event::Trail;
use doorward_core::keys::KeyId;
use doorward_core::store::{Store, ValidFrom};
use doorward_core::{EndReason, Env as _, Policy, SessionId, SystemEnv};
use doorward_stores::Place;
use pollster::FutureExt as _;

const NODES: usize = 3;
const RATE: usize = 1_000;
/// The same, as a divisor of time.
const EVERY: u32 = 1_000;
const AT_ONCE: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, url, node] = &arguments[..] {
        return Node::open(url, node.parse().expect("a number")).live();
    }
    for server in [Server::postgres(), Server::redis()] {
        measure(&server);
    }
}

fn span() -> usize {
    std::env::var("DOORWARD_SECONDS").map_or(20, |text| text.parse().expect("a number"))
}

/// What the nodes say they saw, each line a way, a session and a time of the machine's one clock, in
/// microseconds.
fn measure(server: &Server) {
    let url = server.url();
    let kind = url.split(':').next().unwrap_or_default();
    let nodes: Vec<Child> = (0..NODES).map(|node| start(&url, node)).collect();
    let mut acknowledged = HashMap::new();
    let mut seen: HashMap<(&str, usize), HashMap<String, u64>> = HashMap::new();
    for (node, child) in nodes.into_iter().enumerate() {
        let told = child.wait_with_output().expect("a node");
        for line in BufReader::new(&told.stdout[..]).lines() {
            let line = line.expect("a line");
            let mut words = line.split(' ');
            let (way, id) = (words.next().expect("a way"), words.next().expect("an id"));
            let at: u64 = words.next().and_then(|at| at.parse().ok()).expect("a time");
            match way {
                "acknowledged" => drop(acknowledged.insert(id.to_owned(), (node, at))),
                "pushed" => drop(
                    seen.entry(("pushed", node))
                        .or_default()
                        .insert(id.into(), at),
                ),
                _ => drop(
                    seen.entry(("polled", node))
                        .or_default()
                        .insert(id.into(), at),
                ),
            }
        }
    }
    for (way, limit) in [("pushed", 50.0), ("polled", 1_100.0)] {
        let mut late = Vec::new();
        let mut missed = 0;
        for (id, (ender, at)) in &acknowledged {
            for node in (0..NODES).filter(|node| node != ender) {
                match seen.get(&(way, node)).and_then(|seen| seen.get(id)) {
                    #[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
                    Some(heard) => late.push(heard.saturating_sub(*at) as f64 / 1000.0),
                    None => missed += 1,
                }
            }
        }
        late.sort_by(f64::total_cmp);
        let (half, most) = (percentile(&late, 50), late.last().copied().unwrap_or(0.0));
        println!(
            "{kind}, {way}: {} ends, median {half:.1} ms, most {most:.1} ms, {missed} not seen",
            acknowledged.len()
        );
        judge(
            &format!("{kind}: p99 until other nodes know, {way}, in ms"),
            percentile(&late, 99),
            Limit::AtMost(limit),
        );
        judge(
            &format!("{kind}: ends that a node never saw, {way}"),
            f64::from(missed),
            Limit::AtMost(0.0),
        );
    }
}

fn start(url: &str, node: usize) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mount = "mount -t tmpfs none /dev/shm && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount]).arg(program);
    let node = command
        .args([url, &node.to_string()])
        .stdout(Stdio::piped());
    node.spawn().expect("a node")
}

struct Node {
    store: Arc<dyn Store>,
    sessions: Vec<SessionId>,
    seen: Mutex<Vec<(&'static str, SessionId, u64)>>,
    over: AtomicBool,
}

impl Node {
    fn open(url: &str, node: usize) -> Node {
        let place: Place = url.parse().expect("a store");
        let store = place.open(Policy::default()).expect("a store");
        let count = RATE / NODES * span();
        let population = Population {
            since: SystemEnv.now(),
            key: KeyId(1),
            policy: Policy::default(),
            first_user: 0,
        };
        let rows = (0..count).map(|number| population.session(node * count + number));
        let sessions: Vec<_> = rows.map(|row| (row.id, row)).collect();
        for some in sessions.chunks(64) {
            let inserts = some
                .iter()
                .map(|(_, row)| store.insert(row.clone(), ValidFrom(0)));
            for insert in inserts {
                let _ = insert.block_on().expect("an answer");
            }
        }
        Node {
            store,
            sessions: sessions.into_iter().map(|(id, _)| id).collect(),
            seen: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    fn live(&self) {
        thread::scope(|scope| {
            scope.spawn(|| self.hear());
            scope.spawn(|| self.poll());
            self.end_all();
            thread::sleep(Duration::from_secs(3));
            self.over.store(true, Ordering::Release);
        });
        let mut out = std::io::stdout().lock();
        for (way, id, at) in &*self.seen.lock().expect("the list") {
            writeln!(out, "{way} {id} {at}").expect("a reader");
        }
    }

    fn saw(&self, way: &'static str, id: SessionId) {
        let at = micros();
        self.seen.lock().expect("the list").push((way, id, at));
    }

    /// One after another at this node's share of the rate, by as many threads as may be at once.
    fn end_all(&self) {
        let (next, start) = (AtomicUsize::new(0), clock());
        let share = Duration::from_millis(1000 * NODES as u64) / EVERY;
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(id) = self.sessions.get(number) else {
                            return;
                        };
                        let due = share * u32::try_from(number).unwrap_or(u32::MAX);
                        thread::sleep(due.saturating_sub(start.elapsed()));
                        let trail = Trail::default();
                        let (now, reason) = (SystemEnv.now(), EndReason::Logout);
                        let ended = self.store.end(*id, now, reason, &trail).block_on();
                        assert!(ended.expect("an answer").is_some());
                        self.saw("acknowledged", *id);
                    }
                });
            }
        });
    }

    fn hear(&self) {
        let feed = self.store.feed().expect("a feed");
        let mut position = 0;
        while !self.over.load(Ordering::Acquire) {
            if feed.head() != position {
                let read = feed.read(position, &mut |end| self.saw("pushed", end.session));
                position = read.expect("a feed that was not lapped");
            }
            thread::sleep(Duration::from_micros(500));
        }
    }

    fn poll(&self) {
        let mut cursor = 0;
        while !self.over.load(Ordering::Acquire) {
            loop {
                let page = self.store.ended_after(cursor, 10_000).block_on();
                let (ends, next) = page.expect("a page");
                cursor = next;
                if ends.is_empty() {
                    break;
                }
                for end in ends {
                    self.saw("polled", end.session);
                }
            }
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// The machine's clock that never steps, the same in every process.
fn micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    seconds * 1_000_000 + nanos / 1000
}
