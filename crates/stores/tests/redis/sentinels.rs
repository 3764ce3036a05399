//! A primary, a replica and three sentinels, each with a password.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

const SERVERS: &str = "servers-horse";
const SENTINELS: &str = "sentinels-horse";

struct Watched {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Watched {
    fn start() -> Watched {
        let passwords = ["--requirepass", SERVERS, "--masterauth", SERVERS];
        let primary = Server::start(&passwords);
        let of = primary.port.to_string();
        let replica = Server::start(&[&passwords[..], &["--replicaof", "127.0.0.1", &of]].concat());
        let lines = [
            format!("sentinel monitor main 127.0.0.1 {of} 2"),
            format!("sentinel auth-pass main {SERVERS}"),
            "sentinel down-after-milliseconds main 1000".into(),
            "sentinel failover-timeout main 6000".into(),
            format!("requirepass {SENTINELS}"),
            format!("sentinel sentinel-pass {SENTINELS}"),
        ];
        let sentinels = (0..3).map(|_| Server::sentinel(&lines)).collect();
        let watched = Watched {
            servers: vec![primary, replica],
            sentinels,
        };
        eventually(|| watched.all_know_each_other());
        watched
    }

    fn all_know_each_other(&self) -> bool {
        self.sentinels.iter().all(|sentinel| {
            let told = cli(sentinel, SENTINELS, &["SENTINEL", "MASTER", "main"]);
            let is = |name: &str, value: &str| told.contains(&format!("{name}\n{value}\n"));
            is("num-slaves", "1") && is("num-other-sentinels", "2") && replica_works(sentinel)
        })
    }

    fn url(&self, servers: &str, name: &str, sentinels: &str) -> String {
        let hosts = self
            .sentinels
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!(
            "redis+sentinel://:{servers}@{hosts}/{name}?sentinel_password={sentinels}&wait_ms=500"
        )
    }

    fn own_url(&self) -> String {
        self.url(SERVERS, "main", SENTINELS)
    }
}

fn replica_works(sentinel: &Server) -> bool {
    let told = cli(sentinel, SENTINELS, &["SENTINEL", "REPLICAS", "main"]);
    told.contains("master-link-status\nok") && told.contains("flags\nslave\n")
}

fn cli(server: &Server, password: &str, words: &[&str]) -> String {
    let mut cli = Command::new("redis-cli");
    cli.args([
        "-p",
        &server.port.to_string(),
        "-a",
        password,
        "--no-auth-warning",
    ])
    .args(words);
    String::from_utf8_lossy(&cli.output().unwrap().stdout).into()
}

/// What was acknowledged to clients.
#[derive(Default)]
struct Acknowledged {
    ended: Mutex<Vec<SessionId>>,
    live: Mutex<Vec<Session>>,
    refused: AtomicU32,
}

impl Acknowledged {
    /// Logins, refreshes and ends, at one node after another.
    fn work(&self, stores: &[RedisStore], seed: u64, stop: &AtomicBool) {
        let env = TestEnv::new(NOW, seed);
        for number in 0.. {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let (one, other) = (&stores[number % 2], &stores[(number + 1) % 2]);
            if self
                .life(
                    one,
                    other,
                    &session(&env, &format!("{seed}-{number}")),
                    number % 2 == 0,
                )
                .is_none()
            {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn life(&self, one: &RedisStore, other: &RedisStore, row: &Session, ends: bool) -> Option<()> {
        let opened = one.insert(row.clone(), ValidFrom(0)).block_on().ok()?;
        assert_eq!(opened, Write::Done);
        assert_eq!(other.swap(rotated(row)).block_on().ok()?, Write::Done);
        if ends {
            let ended = other
                .end(row.id, NOW, EndReason::Logout, &trail())
                .block_on();
            ended
                .ok()?
                .map(|row| self.ended.lock().unwrap().push(row.id))
        } else {
            self.live.lock().unwrap().push(row.clone());
            Some(())
        }
    }
}

fn ends_at(store: &RedisStore, env: &TestEnv) -> bool {
    let row = session(env, "late");
    let opened = store.insert(row.clone(), ValidFrom(0)).block_on();
    opened.is_ok()
        && matches!(
            store
                .end(row.id, NOW, EndReason::Logout, &trail())
                .block_on(),
            Ok(Some(_))
        )
}

#[test]
fn sessions_go_on_where_the_sentinels_say_and_what_ended_stays_so() {
    let mut watched = Watched::start();
    let stores = [open(&watched.own_url()), open(&watched.own_url())];
    let (all, stop, env) = (
        Acknowledged::default(),
        AtomicBool::new(false),
        TestEnv::new(NOW, 99),
    );
    let back = std::thread::scope(|scope| {
        for seed in 0..6 {
            let (all, stores, stop) = (&all, &stores, &stop);
            scope.spawn(move || all.work(stores, seed, stop));
        }
        eventually(|| all.ended.lock().unwrap().len() > 100);
        watched.servers[0].kill();
        let killed = Instant::now();
        eventually(|| cli(&watched.servers[1], SERVERS, &["ROLE"]).starts_with("master"));
        let promoted = killed.elapsed();
        eventually(|| ends_at(&stores[0], &env) && ends_at(&stores[1], &env));
        let back = killed.elapsed();
        let before = all.ended.lock().unwrap().len();
        eventually(|| all.ended.lock().unwrap().len() > before + 100);
        stop.store(true, Ordering::Release);
        println!("promoted after {promoted:?}, ends again after {back:?}");
        back
    });
    assert!(back < Duration::from_secs(25));
    judge(&all, &stores);
    // The one that was killed comes back as a replica, and is waited for again.
    let of = watched.servers[1].port.to_string();
    let settings = [
        "--requirepass",
        SERVERS,
        "--masterauth",
        SERVERS,
        "--replicaof",
        "127.0.0.1",
        &of,
    ];
    watched.servers[0].start_again(&settings);
    eventually(|| watched.sentinels.iter().all(replica_works));
    let replica = &watched.servers[0];
    eventually(|| attacked::hangs_while(replica, || !ends_at(&stores[0], &env)));
    eventually(|| ends_at(&stores[0], &env));
}

/// What ended is over and in the log, and who logged in is there.
fn judge(all: &Acknowledged, stores: &[RedisStore]) {
    let (ended, live) = (all.ended.lock().unwrap(), all.live.lock().unwrap());
    let logged: std::collections::HashSet<_> = ends_of(&stores[1]).into_iter().collect();
    for id in ended.iter() {
        let row = stores[0].load(*id).block_on().unwrap();
        assert!(row.is_some_and(|row| row.ended.is_some()), "{id} is back");
        assert!(logged.contains(id), "{id} is told to nobody");
    }
    let lost = live
        .iter()
        .filter(|row| stores[0].load(row.id).block_on().unwrap().is_none());
    let (lost, refused) = (lost.count(), all.refused.load(Ordering::Relaxed));
    println!(
        "{} ended, {} live, of which lost {lost}; {refused} refused",
        ended.len(),
        live.len()
    );
    assert_eq!(lost, 0);
}

fn ends_of(store: &RedisStore) -> Vec<SessionId> {
    let (ends, _) = store.ended_after(0, 1_000_000).block_on().unwrap();
    ends.into_iter().map(|end| end.session).collect()
}

#[test]
fn a_wrong_password_or_name_is_refused_at_once_and_no_password_told() {
    let watched = Watched::start();
    let refused = |url: String| {
        let asked = Instant::now();
        let refused = RedisStore::open(&url.parse().unwrap(), Policy::default())
            .err()
            .unwrap();
        assert!(asked.elapsed() < Duration::from_secs(4));
        let told = format!("{refused} {refused:?}");
        assert!(!told.contains("horse"), "{told}");
        told
    };
    let _ = refused(watched.url("wrong-horse", "main", SENTINELS));
    let _ = refused(watched.url(SERVERS, "main", "wrong-horse"));
    let named = refused(watched.url(SERVERS, "other", SENTINELS));
    assert!(named.contains("no primary of that name"), "{named}");
    insert(
        &open(&watched.own_url()),
        &session(&TestEnv::new(NOW, 1), "ada"),
    );
}
