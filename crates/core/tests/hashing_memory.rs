//! Memory of the hashing threads, as the system sees it: alone in its process, so that nothing else
//! counts.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;
use std::time::Duration;

use doorward_core::SystemEnv;
use doorward_core::password::{Hashing, Params, Password, Passwords};
use pollster::FutureExt as _;

const MIB: u64 = 1024 * 1024;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn burst(passwords: &Passwords) {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let password = Password::new("correct horse battery").unwrap();
                passwords.hash(password).block_on().unwrap();
            });
        }
    });
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
    let before = resident();
    for _ in 0..5 {
        burst(&passwords);
        while passwords.memory() > 0 {
            std::thread::yield_now();
        }
    }
    let more = resident().saturating_sub(before) / MIB;
    assert!(more < 16, "{more} MiB are kept");
}
