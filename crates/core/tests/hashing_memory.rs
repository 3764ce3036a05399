//! Memory of the hashing threads, as the system sees it: alone in its process, so that nothing else
//! counts.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;
use std::time::Duration;

use doorward_core::SystemEnv;
use doorward_core::password::{Hashing, Params, Password, PasswordHash, Passwords};
use pollster::FutureExt as _;

const MIB: u64 = 1024 * 1024;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Each thread of a pool has something to do.
fn burst(job: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(&job);
        }
    });
}

fn password() -> Password {
    Password::new("correct horse battery").unwrap()
}

/// With the memory that passlib's and Werkzeug's default costs take.
fn foreign() -> impl Iterator<Item = PasswordHash> {
    let salt = "c29tZXNhbHRzb21lc2FsdA";
    let costs = ["argon2id$v=19$m=65536,t=1,p=4", "scrypt$ln=15,r=8,p=1"];
    let tag = "uAVXsrMM+mZ5G2ryARPVtpZaov+ngefVDKuvausM2kk";
    let hash = move |costs| PasswordHash::from_phc(&format!("${costs}${salt}${tag}"));
    costs.into_iter().map(hash)
}

/// How much more is resident after bursts of jobs and a quiet time each, in bytes.
fn kept(passwords: &Passwords, job: impl Fn() + Sync) -> u64 {
    let before = resident();
    for _ in 0..5 {
        burst(&job);
        while passwords.memory() > 0 {
            std::thread::yield_now();
        }
    }
    resident().saturating_sub(before)
}

#[test]
fn the_system_gets_the_memory_back_burst_after_burst() {
    let hashing = Hashing {
        params: Params {
            iterations: 1,
            ..Params::default()
        },
        threads: 4,
        idle_release: Duration::from_millis(20),
        ..Hashing::default()
    };
    let passwords = Passwords::new(hashing, Arc::new(SystemEnv));
    let hashed = kept(&passwords, || {
        passwords.hash(password()).block_on().unwrap();
    });
    assert!(hashed < 16 * MIB, "{hashed} bytes are kept");
    for hash in foreign() {
        assert!(hash.is_known());
        let verified = kept(&passwords, || {
            let verified = passwords.verify(password(), Some(hash.clone()));
            assert!(!verified.block_on().unwrap().matches);
        });
        assert!(
            verified < 16 * MIB,
            "{verified} bytes of {} are kept",
            hash.as_str()
        );
    }
}
