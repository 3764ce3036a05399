//! The key ring between real processes: this binary starts itself, with `DOORWARD_KEYS_CHILD` naming
//! the database. Each child makes a secret of its own, as workers do whose settings are
//! `secrets.token_hex(16)`, and answers by lines that begin with `=>`.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use doorward_core::access_token::NewClaims;
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing};
use doorward_core::{Env as _, Policy, SystemEnv};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const DATABASE: &str = "DOORWARD_KEYS_CHILD";

#[test]
fn child() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let policy = Policy::default();
    let store = SqliteStore::open(path, policy.clone()).unwrap();
    let mut random = [0; 16];
    SystemEnv.fill(&mut random);
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        key: Some(
            format!("{:032x}", u128::from_be_bytes(random))
                .into_bytes()
                .into(),
        ),
        ..KeyConfig::default()
    };
    let ring = KeyRing::open(&store, config, &policy, Arc::new(SystemEnv));
    let ring = ring.block_on().unwrap();
    println!("=> {}", sign(&ring, &policy));
    for token in std::io::stdin().lines() {
        ring.reload(&store).block_on().unwrap();
        ring.renew(&store).block_on().unwrap();
        ring.prune(&store).block_on().unwrap();
        let verified = ring.verify_access(&token.unwrap(), SystemEnv.now(), &policy);
        println!("=> {:?}", verified.map(|_| ring.changes_between_starts()));
    }
}

fn sign(ring: &KeyRing, policy: &Policy) -> String {
    let (now, user) = (SystemEnv.now(), UserId::new("ada").unwrap());
    let claims = NewClaims {
        nbf: true,
        identity_claim: None,
        user: &user,
        session: SessionId::new(now, &SystemEnv),
        token: TokenId::random(&SystemEnv),
        issued_at: now,
        expires_at: now + policy.access_ttl,
        fresh_until: now,
        auth_time: now,
        issuer: None,
        audience: None,
        csrf: None,
        custom: None,
    };
    ring.sign_access(&claims, now).unwrap()
}

struct Worker {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(database: &Path) -> Worker {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DATABASE, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Worker {
            asks: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn answer(&mut self) -> String {
        let lines = self.answers.by_ref().lines().map(Result::unwrap);
        let mut answers =
            lines.filter_map(|line| line.split_once("=> ").map(|(_, a)| a.to_owned()));
        answers.next().expect("the worker has ended")
    }

    fn verify(&mut self, token: &str) -> String {
        writeln!(self.asks, "{token}").unwrap();
        self.answer()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn workers_that_make_a_key_at_every_start_accept_each_others_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    let mut tokens = Vec::new();
    for _ in 0..3 {
        // All at once, and all killed at once.
        let mut workers: Vec<_> = (0..4).map(|_| Worker::start(&path)).collect();
        tokens.extend(workers.iter_mut().map(Worker::answer));
        for worker in &mut workers {
            for token in &tokens {
                assert_eq!(worker.verify(token), "Ok(true)");
            }
        }
    }
}
