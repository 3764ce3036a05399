//! The ring between real processes: this binary starts itself, with `DOORWARD_RING_CHILD` naming
//! what the child is to be. Children answer by lines that begin with `=>`.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::id::SessionId;
use doorward_core::revocation::{Bounds, Ended, Feed, Lapped, Revocations};
use doorward_core::session::EndReason;
use doorward_core::{Policy, Timestamp};
use doorward_stores::ring::{CAPACITY, Ring};

const ROLE: &str = "DOORWARD_RING_CHILD";
const DIR: &str = "DOORWARD_RING_DIR";
const NOW: Timestamp = Timestamp(1_900_000_000_000);

fn end(number: u64) -> Ended {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Ended {
        session: SessionId(id),
        at: NOW,
        reason: EndReason::Logout,
    }
}

/// A ring, and beside it a log: how many ends there were.
struct RingAndLog {
    ring: Ring,
    log: PathBuf,
}

impl RingAndLog {
    fn open(dir: &Path) -> RingAndLog {
        RingAndLog {
            ring: Ring::open(&dir.join("ring")).unwrap(),
            log: dir.join("log"),
        }
    }

    /// What a store does: the log first, then the ring.
    fn publish(&self, from: u64, to: u64) {
        std::fs::write(&self.log, to.to_string()).unwrap();
        self.ring
            .append(&(from..to).map(end).collect::<Vec<_>>())
            .unwrap();
    }
}

impl Feed for RingAndLog {
    fn head(&self) -> u64 {
        self.ring.head()
    }

    fn read(&self, from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        self.ring.read(from, entry)
    }

    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError> {
        println!("=> reload");
        let head = self.ring.head();
        let count = std::fs::read_to_string(&self.log).map_err(|e| StoreError(e.to_string()))?;
        (0..count.parse().unwrap()).map(end).for_each(entry);
        Ok(head)
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("doorward-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Process {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, dir: &Dir) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(ROLE, role)
            .env(DIR, &dir.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ask = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Process {
            child,
            ask,
            answers,
        }
    }

    fn ask(&mut self, number: u64) {
        writeln!(self.ask, "{number}").unwrap();
    }

    /// `None`: it is gone.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            if let Some((_, answer)) = line.split_once("=> ") {
                return Some(answer.trim().to_owned());
            }
            line.clear();
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    match role.as_str() {
        "verifier" => verifier(&dir),
        "writer" => writer(&dir),
        other => panic!("no role {other}"),
    }
}

/// Answers whether it would refuse each number it is asked about.
fn verifier(dir: &Path) {
    let bounds = Bounds {
        allowance: Duration::MAX,
        ..Bounds::of(&Policy::default())
    };
    let set = Revocations::new(bounds, Some(Arc::new(RingAndLog::open(dir))));
    set.synced(NOW);
    println!("=> ready");
    for line in std::io::stdin().lines() {
        let session = end(line.unwrap().parse().unwrap()).session;
        let refused = set.check(session, NOW, NOW).is_err();
        println!("=> {}", if refused { "refused" } else { "accepted" });
    }
}

/// Appends ends of its own until it is killed, and acknowledges each.
fn writer(dir: &Path) {
    let ring = Ring::open(&dir.join("ring")).unwrap();
    let first = u64::from(std::process::id()) << 32;
    for number in first.. {
        ring.append(&[end(number)]).unwrap();
        println!("=> {number}");
    }
}

#[test]
fn what_one_process_ended_every_other_refuses_at_its_next_check() {
    let dir = Dir::new("verifiers");
    let ring = RingAndLog::open(&dir.0);
    let mut verifiers: Vec<_> = (0..3).map(|_| Process::start("verifier", &dir)).collect();
    for verifier in &mut verifiers {
        assert_eq!(verifier.answer().as_deref(), Some("ready"));
    }
    for number in 0..2_000 {
        for verifier in &mut verifiers {
            verifier.ask(number);
            assert_eq!(
                verifier.answer().as_deref(),
                Some("accepted"),
                "{number} before"
            );
        }
        ring.publish(number, number + 1);
        for verifier in &mut verifiers {
            verifier.ask(number);
            assert_eq!(
                verifier.answer().as_deref(),
                Some("refused"),
                "{number} after"
            );
        }
    }
}

#[test]
fn a_lapped_process_reads_the_log_and_goes_on_from_the_ring() {
    let dir = Dir::new("lapped");
    let ring = RingAndLog::open(&dir.0);
    let mut verifier = Process::start("verifier", &dir);
    assert_eq!(verifier.answer().as_deref(), Some("ready"));
    for number in (0..CAPACITY + 512).step_by(512) {
        ring.publish(number, number + 512);
    }
    let ended = CAPACITY + 512;
    let mut expect = |number, answers: &[&str]| {
        verifier.ask(number);
        for expected in answers {
            assert_eq!(verifier.answer().as_deref(), Some(*expected), "{number}");
        }
    };
    expect(0, &["reload", "refused"]);
    expect(ended - 1, &["refused"]);
    expect(ended, &["accepted"]);
    ring.publish(ended, ended + 1);
    expect(ended, &["refused"]);
}

#[test]
fn a_writer_killed_at_any_moment_loses_nothing_it_acknowledged() {
    let dir = Dir::new("killed");
    let ring = Ring::open(&dir.0.join("ring")).unwrap();
    for round in 0..30_u64 {
        let start = ring.head();
        let mut writers: Vec<_> = (0..2).map(|_| Process::start("writer", &dir)).collect();
        let mut acknowledged: Vec<u64> = Vec::new();
        for writer in &mut writers {
            for _ in 0..20 + round * 7 {
                acknowledged.push(writer.answer().unwrap().parse().unwrap());
            }
            writer.child.kill().unwrap();
            while let Some(answer) = writer.answer() {
                acknowledged.push(answer.parse().unwrap());
            }
        }
        drop(writers);

        let mut published = Vec::new();
        ring.read(start, &mut |end| published.push(end.session))
            .unwrap();
        for number in acknowledged {
            assert!(published.contains(&end(number).session), "round {round}");
        }
        let head = ring.head();
        ring.append(&[end(round)]).unwrap();
        assert_eq!(ring.head(), head + 1, "round {round}");
    }
}
