//! What is PostgreSQL's own: few connections, several nodes at once, servers that go and come back.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use doorward_core::event::{Actor, Event, EventName, Filter, Record, Trail};
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::{KeyId, Purpose, StoredKey};
use doorward_core::limits::{Cap, Opening, OverCap};
use doorward_core::session::{Delivery, Device, EndReason, Session};
use doorward_core::store::{
    EventStore as _, KeyStore as _, Opened, SessionStore as _, ValidFrom, Write,
};
use doorward_core::testing::TestEnv;
use doorward_core::{Policy, Timestamp};
use doorward_stores::{Place, PostgresStore, PostgresUrl};
use pollster::FutureExt as _;

#[path = "postgres/endings.rs"]
mod endings;
#[path = "servers/postgres.rs"]
mod postgres;
#[path = "servers/rings.rs"]
mod rings;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn session(env: &TestEnv, user: &str) -> Session {
    let user = UserId::new(user).unwrap();
    Session {
        id: SessionId::new(NOW, env).of(&user),
        user,
        confirmed: TokenId::random(env),
        generation: -1,
        previous: None,
        siblings: false,
        attempt: 0,
        confirmed_at: Timestamp::NEVER,
        child_at: Timestamp::NEVER,
        refresh_key: KeyId(1),
        created_at: NOW,
        auth_time: NOW,
        absolute_end: NOW + Duration::from_secs(90 * 24 * 3600),
        remember: true,
        privileged: false,
        delivery: Delivery::Body,
        device: Device::default(),
        claims: None,
        ended: None,
        version: 0,
    }
}

fn next(row: &Session, env: &TestEnv) -> Session {
    Session {
        previous: Some(row.confirmed),
        confirmed: TokenId::random(env),
        generation: row.generation + 1,
        version: row.version + 1,
        ..row.clone()
    }
}

fn open(url: &PostgresUrl) -> PostgresStore {
    PostgresStore::open(url, Policy::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn one_connection_serves_64_parallel_refreshes() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    std::thread::scope(|scope| {
        for number in 0..64 {
            let row = session(&env, &format!("u{number}"));
            let (store, env) = (&store, &env);
            let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
            scope.spawn(move || {
                for version in 0..10 {
                    let row = store.load(row.id).block_on().unwrap().unwrap();
                    assert_eq!(row.version, version);
                    let swapped = store.swap(next(&row, env)).block_on();
                    assert_eq!(swapped.unwrap(), Write::Done);
                }
            });
        }
    });
}

#[test]
fn callers_that_have_gone_leave_room_for_others() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    insert(&store, &row);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..10_000 {
        let _ = store.load(row.id).as_mut().poll(&mut context);
    }
    let deadline = deadline();
    while store.load(row.id).block_on().is_err() {
        assert!(!deadline());
    }
}

#[test]
fn of_swaps_of_one_version_one_wins() {
    let fresh = postgres::shared().fresh();
    let (stores, env) = ([fresh.open(), fresh.open()], TestEnv::new(NOW, 7));
    let mut row = session(&env, "ada");
    let _ = stores[0]
        .insert(row.clone(), ValidFrom(0))
        .block_on()
        .unwrap();
    for _ in 0..10 {
        let won: usize = std::thread::scope(|scope| {
            let swaps: Vec<_> = (0..16)
                .map(|number| {
                    let (store, row) = (&stores[number % 2], next(&row, &env));
                    scope.spawn(move || store.swap(row).block_on().unwrap())
                })
                .collect();
            let wins = swaps.into_iter().map(|swap| swap.join().unwrap());
            wins.filter(|written| *written == Write::Done).count()
        });
        assert_eq!(won, 1);
        row = stores[0].load(row.id).block_on().unwrap().unwrap();
    }
    assert_eq!(row.version, 10);
}

/// Three nodes do everything to the same few users, with two connections each.
#[test]
fn nodes_that_do_everything_to_the_same_users_never_fail() {
    let fresh = postgres::shared().fresh();
    let stores = [(); 3].map(|()| open(&fresh.with("pool=2")));
    let env = TestEnv::new(NOW, 7);
    let cap = Cap {
        sessions: 3.try_into().unwrap(),
        over: OverCap::EndOldest,
    };
    std::thread::scope(|scope| {
        for number in 0..24_usize {
            let (store, env) = (&stores[number % 3], &env);
            scope.spawn(move || {
                for turn in 0..12 {
                    let user = UserId::new(&format!("u{}", (number + turn) % 4)).unwrap();
                    let opening = Opening {
                        session: session(env, user.as_str()),
                        seen: store.valid_from(&user).block_on().unwrap(),
                        replaces: None,
                        cap: Some(cap),
                        restored_at: Timestamp(0),
                    };
                    let opened = store.open(opening.clone(), &Trail::default()).block_on();
                    opened.map(drop).unwrap();
                    let row = next(&opening.session, env);
                    let _ = store.swap(row).block_on().unwrap();
                    let (id, reason) = (opening.session.id, EndReason::Logout);
                    if turn % 3 == 0 {
                        let trail = Trail::default();
                        let all = store.end_user(&user, NOW, reason, None, &trail);
                        all.block_on().unwrap();
                    } else {
                        store
                            .end(id, NOW, reason, &Trail::default())
                            .block_on()
                            .unwrap();
                    }
                }
            });
        }
    });
    for number in 0..4 {
        let user = UserId::new(&format!("u{number}")).unwrap();
        assert!(stores[0].sessions_of(&user).block_on().unwrap().len() <= 3);
    }
}

/// Readers go on from where they were while three nodes end sessions and leave records.
#[test]
fn a_reader_of_the_logs_misses_nothing() {
    let fresh = postgres::shared().fresh();
    let (stores, env) = ([(); 3].map(|()| fresh.open()), TestEnv::new(NOW, 7));
    let reader = fresh.open();
    let record = Record {
        at: NOW,
        event: Event::new(EventName::SessionEnded),
        actor: Actor::User,
        network: None,
        device: None,
        agent: None,
    };
    let trail = Trail {
        once: Some(record),
        each: None,
    };
    let over = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let (mut ends, mut events, mut places) = (Vec::new(), 0, (0, 0));
            loop {
                let last = over.load(Ordering::SeqCst);
                let (some, next) = reader.ended_after(places.0, 1000).block_on().unwrap();
                let (entries, after) = reader
                    .events_after(places.1, &Filter::default(), 1000)
                    .block_on()
                    .unwrap();
                ends.extend(some.into_iter().map(|end| end.session));
                (events, places) = (events + entries.len(), (next, after));
                if last {
                    return (ends, events);
                }
            }
        });
        let ended: Vec<_> = (0..12_usize)
            .map(|number| {
                let (store, env, trail) = (&stores[number % 3], &env, &trail);
                scope.spawn(move || {
                    let end = |_| {
                        let row = session(env, &format!("u{number}"));
                        let id = row.id;
                        let _ = store.insert(row, ValidFrom(0)).block_on().unwrap();
                        store
                            .end(id, NOW, EndReason::Logout, trail)
                            .block_on()
                            .unwrap();
                        id
                    };
                    (0..25).map(end).collect::<Vec<_>>()
                })
            })
            .collect();
        let ended: HashSet<_> = ended
            .into_iter()
            .flat_map(|done| done.join().unwrap())
            .collect();
        over.store(true, Ordering::SeqCst);
        let (ends, events) = read.join().unwrap();
        assert_eq!(ended.len(), 300);
        (
            ends.len(),
            ends.into_iter().collect::<HashSet<_>>() == ended,
            events,
        )
    });
    assert_eq!(read, (300, true, 300));
}

#[test]
fn another_node_is_told_of_an_end() {
    let fresh = postgres::shared().fresh();
    // By another name of the machine, so that they share no ring.
    let other = fresh.0.replace("127.0.0.1", "localhost");
    let other = postgres::Fresh::at(other);
    let (one, other, env) = (fresh.open(), other.open(), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    let _ = one.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
    let feed = other.feed().unwrap();
    let deadline = deadline();
    // Until it listens, and it hears one of these.
    loop {
        let row = session(&env, "ada");
        let _ = one.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
        one.end(row.id, NOW, EndReason::Logout, &Trail::default())
            .block_on()
            .unwrap();
        let mut heard = Vec::new();
        feed.read(0, &mut |end| heard.push(end.session)).unwrap();
        if !heard.is_empty() {
            break;
        }
        assert!(!deadline(), "no notification came");
    }
}

/// Whether ten seconds are over.
fn deadline() -> impl Fn() -> bool {
    #[expect(clippy::disallowed_methods, reason = "how long a test waits at most")]
    let now = std::time::Instant::now;
    let begun = now();
    move || now().duration_since(begun) > Duration::from_secs(10)
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let server = postgres::Server::start(&["fsync=off"]);
    let fresh = server.fresh();
    let (store, env) = (fresh.open(), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    let _ = store.insert(row.clone(), ValidFrom(0)).block_on().unwrap();
    for _ in 0..2 {
        server.stop();
        let deadline = deadline();
        while store.load(row.id).block_on().is_ok() {
            assert!(!deadline());
        }
        assert!(store.swap(next(&row, &env)).block_on().is_err());
        server.again();
        // Asked all the time, and back in two seconds.
        let begun = doorward_core::Env::now(&doorward_core::SystemEnv);
        while store.load(row.id).block_on().is_err() {
            let now = doorward_core::Env::now(&doorward_core::SystemEnv);
            assert!(now.since(begun) < 2_000, "{}", now.since(begun));
        }
    }
    let found = store.load(row.id).block_on().unwrap();
    assert_eq!(found, Some(row));
}

#[test]
fn all_who_open_a_new_schema_at_once_get_it() {
    for _ in 0..3 {
        let fresh = postgres::shared().fresh();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| fresh.open());
            }
        });
    }
}

#[test]
fn of_nodes_that_start_together_one_makes_the_first_key() {
    let fresh = postgres::shared().fresh();
    let nodes = [(); 8].map(|()| fresh.open());
    let key = |id| StoredKey {
        id: KeyId(id),
        purpose: Purpose::Access,
        algorithm: "HS256".into(),
        secret: [1; 32].into(),
        created_at: NOW,
        signs_from: NOW,
        verifies_until: NOW,
        scopes: "".into(),
        retired: false,
    };
    let made: usize = std::thread::scope(|scope| {
        let adds = nodes
            .iter()
            .zip(1..)
            .map(|(node, id)| scope.spawn(move || node.add_key(key(id), true).block_on().unwrap()));
        let adds: Vec<_> = adds.collect();
        let written = adds.into_iter().map(|add| add.join().unwrap());
        written.filter(|written| *written == Write::Done).count()
    });
    assert_eq!((made, nodes[0].keys().block_on().unwrap().len()), (1, 1));
}

#[test]
fn a_newer_schema_is_refused_only_if_it_says_so() {
    let server = postgres::shared();
    let fresh = server.fresh();
    drop(fresh.open());
    let set = |version, since| {
        let table = format!("{}.doorward_schema", fresh.schema());
        let sql = format!("UPDATE {table} SET version = {version}, compatible_since = {since}");
        server.sql(&sql);
    };
    set(99, 1);
    drop(fresh.open());
    set(99, 98);
    let refused = PostgresStore::open(&fresh.url(), Policy::default())
        .err()
        .unwrap();
    assert!(refused.to_string().contains("newer Doorward"), "{refused}");
}

#[test]
fn a_role_that_owns_the_schema_needs_no_other_right() {
    let server = postgres::shared();
    let fresh = server.fresh();
    let (schema, port) = (fresh.schema().to_owned(), server.port);
    server.sql(&format!("CREATE ROLE {schema} LOGIN"));
    server.sql(&format!("CREATE SCHEMA {schema} AUTHORIZATION {schema}"));
    let url = format!("postgres://{schema}@127.0.0.1:{port}/postgres?schema={schema}");
    let own = postgres::Fresh::at(url);
    let env = TestEnv::new(NOW, 7);
    let inserted = own
        .open()
        .insert(session(&env, "ada"), ValidFrom(0))
        .block_on();
    assert_eq!(inserted.unwrap(), Write::Done);
}

#[test]
fn the_first_host_that_takes_writes_is_used() {
    let fresh = postgres::shared().fresh();
    let several = fresh.0.replace("127.0.0.1:", "127.0.0.1:1,127.0.0.1:");
    let several = postgres::Fresh::at(several);
    let env = TestEnv::new(NOW, 7);
    let inserted = several
        .open()
        .insert(session(&env, "ada"), ValidFrom(0))
        .block_on();
    assert_eq!(inserted.unwrap(), Write::Done);
}

#[test]
fn a_host_that_takes_the_connection_and_says_nothing_is_passed_by() {
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hangs.local_addr().unwrap();
    let fresh = postgres::shared().fresh();
    let several = fresh
        .0
        .replace("127.0.0.1:", &format!("{address},127.0.0.1:"));
    let several = postgres::Fresh::at(several);
    let env = TestEnv::new(NOW, 7);
    let inserted = several
        .open()
        .insert(session(&env, "ada"), ValidFrom(0))
        .block_on();
    assert_eq!(inserted.unwrap(), Write::Done);
}

#[test]
fn a_text_that_the_database_cannot_hold_fails_alone() {
    let fresh = postgres::shared().fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    std::thread::scope(|scope| {
        for number in 0..32 {
            let mut row = session(&env, &format!("u{number}"));
            row.device.agent = Some(if number == 7 { "\0" } else { "curl" }.into());
            let store = &store;
            scope.spawn(move || {
                let inserted = store.insert(row, ValidFrom(0)).block_on();
                assert_eq!(inserted.is_err(), number == 7, "{inserted:?}");
            });
        }
    });
}

#[test]
fn the_password_is_in_no_text() {
    let url = "postgres://ada:hunter2@127.0.0.1:1/db?sslmode=disable";
    let place: Place = url.parse().unwrap();
    assert!(place.is_secret());
    let error = place.open(Policy::default()).err().unwrap();
    for text in [format!("{place} {place:?}"), format!("{error} {error:?}")] {
        assert!(
            !text.contains("hunter2") && text.contains("ada@127.0.0.1:1/db"),
            "{text}"
        );
    }
    let wrong = "postgres://ada:hunter2@127.0.0.1:port/db?hunter2=1".parse::<Place>();
    assert!(!format!("{:?}", wrong.unwrap_err()).contains("hunter2"));
    for cut in ["hun@ter2", "hun@te/r2", "hun?te@r2"] {
        let wrong = format!("postgres://ada:{cut}@127.0.0.1:1/db").parse::<Place>();
        let told = wrong.unwrap_err().to_string();
        assert!(told.contains("%40") && !told.contains("r2"), "{told}");
    }
    assert!(
        !"postgres://ada@127.0.0.1/db"
            .parse::<Place>()
            .unwrap()
            .is_secret()
    );
}

#[test]
fn parameters_say_what_is_wrong_with_them() {
    for (parameter, word) in [
        ("pool=0", "pool"),
        ("schema=Robert'", "schema"),
        ("swaps=maybe", "swaps"),
        ("sslrootcert=", "path"),
    ] {
        let url = format!("postgres://ada@localhost/db?{parameter}");
        let error = url.parse::<Place>().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_certificate_is_verified_where_that_is_asked() {
    let server = postgres::Server::start(&["fsync=off"]);
    let (key, certificate) = (
        server.directory.join("key.pem"),
        server.directory.join("cert.pem"),
    );
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=doorward-test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    postgres::Server::own(&key);
    server.sql(&format!(
        "ALTER SYSTEM SET ssl_cert_file = '{}'",
        certificate.display()
    ));
    server.sql(&format!(
        "ALTER SYSTEM SET ssl_key_file = '{}'",
        key.display()
    ));
    server.sql("ALTER SYSTEM SET ssl = on");
    server.stop();
    server.again();
    let fresh = server.fresh();
    let with = |parameters: &str| fresh.with(parameters);
    let encrypted = |url: &PostgresUrl| {
        let _store = open(url);
        let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
            WHERE application_name = 'doorward'";
        server.sql(sql)
    };
    let root = format!("sslrootcert={}", certificate.display());
    assert_eq!(
        encrypted(&with(&format!("sslmode=verify-full&{root}"))),
        "t"
    );
    assert_eq!(encrypted(&with("sslmode=require")), "t");
    assert_eq!(encrypted(&with("sslmode=disable")), "f");
    let unknown = PostgresStore::open(&with("sslmode=verify-full"), Policy::default());
    assert!(unknown.is_err());
    let named = fresh.0.replace("127.0.0.1", "localhost");
    let named: PostgresUrl = format!("{named}&sslmode=verify-full&{root}")
        .parse()
        .unwrap();
    assert!(PostgresStore::open(&named, Policy::default()).is_err());
}

/// A role of its own, which owns its schema; what opens as it.
fn role_of_its_own(server: &postgres::Server) -> postgres::Fresh {
    let (fresh, port) = (server.fresh(), server.port);
    let schema = fresh.schema().to_owned();
    server.sql(&format!("CREATE ROLE {schema} LOGIN"));
    server.sql(&format!("CREATE SCHEMA {schema} AUTHORIZATION {schema}"));
    let url = format!("postgres://{schema}@127.0.0.1:{port}/postgres?schema={schema}");
    postgres::Fresh(url)
}

fn insert(store: &PostgresStore, row: &Session) {
    let inserted = store.insert(row.clone(), ValidFrom(0)).block_on();
    assert_eq!(inserted.unwrap(), Write::Done);
}

#[test]
fn functions_of_other_roles_are_never_called() {
    let server = postgres::Server::start(&["fsync=off"]);
    for (name, of) in [("cardinality", "uuid[]"), ("unnest", "uuid[]")] {
        let returns = if name == "unnest" {
            "SETOF uuid"
        } else {
            "int"
        };
        server.sql(&format!(
            "CREATE FUNCTION public.{name}({of}) RETURNS {returns} LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'stolen'; END $$"
        ));
    }
    let (store, env) = (role_of_its_own(&server).open(), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    insert(&store, &row);
    let trail = Trail::default();
    let ended = store.end(row.id, NOW, EndReason::Logout, &trail);
    assert!(ended.block_on().unwrap().is_some());
}

#[test]
fn a_session_ends_where_nothing_can_be_notified() {
    let server = postgres::Server::start(&["fsync=off"]);
    server.sql("REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC");
    let (store, env) = (role_of_its_own(&server).open(), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    insert(&store, &row);
    let trail = Trail::default();
    let ended = store.end(row.id, NOW, EndReason::Logout, &trail);
    assert!(ended.block_on().unwrap().unwrap().ended.is_some());
    let (ends, _) = store.ended_after(0, 10).block_on().unwrap();
    assert_eq!(ends.len(), 1);
}

#[test]
fn a_connection_that_takes_no_writes_is_not_kept() {
    let server = postgres::Server::start(&["fsync=off"]);
    let fresh = server.fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    insert(&store, &session(&env, "ada"));
    let set = |on| {
        server.sql(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {on}"
        ));
        server.sql("SELECT pg_reload_conf()");
    };
    set("on");
    let deadline = deadline();
    let end = || {
        let row = session(&env, "ada");
        store.insert(row, ValidFrom(0)).block_on()
    };
    while end().is_ok() {
        assert!(!deadline());
    }
    let of_this = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'doorward' \
        AND query NOT LIKE 'LISTEN%' AND query <> ''";
    while server.sql(of_this) != "0" {
        assert!(!deadline(), "{}", server.sql(of_this));
    }
}

#[test]
fn the_databases_own_isolation_and_its_reloads_do_not_matter() {
    let server =
        postgres::Server::start(&["fsync=off", "default_transaction_isolation=serializable"]);
    let fresh = server.fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    insert(&store, &row);
    let schema = fresh.schema();
    server.sql(&format!(
        "CREATE TABLE {schema}.seen (commits text, isolation text); \
         CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO {schema}.seen VALUES (current_setting('synchronous_commit'), \
         current_setting('transaction_isolation')); RETURN NULL; END $$; \
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON {schema}.sessions \
         FOR EACH STATEMENT EXECUTE FUNCTION {schema}.see()"
    ));
    server.sql("ALTER SYSTEM SET synchronous_commit = off");
    server.sql("SELECT pg_reload_conf()");
    let deadline = deadline();
    while server.sql("SHOW synchronous_commit") != "off" {
        assert!(!deadline());
    }
    let _ = store.swap(next(&row, &env)).block_on().unwrap();
    store
        .end(row.id, NOW, EndReason::Logout, &Trail::default())
        .block_on()
        .unwrap();
    let seen = server.sql(&format!("SELECT DISTINCT * FROM {schema}.seen"));
    assert_eq!(seen, "on|read committed");
}

#[test]
fn a_row_that_cannot_be_read_fails_alone() {
    let server = postgres::shared();
    let fresh = server.fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    let rows: Vec<_> = (0..32)
        .map(|number| session(&env, &format!("u{number}")))
        .collect();
    for row in &rows {
        insert(&store, row);
    }
    let set = format!("UPDATE {}.sessions SET version = -1", fresh.schema());
    server.sql(&format!("{set} WHERE user_id = 'u7'"));
    std::thread::scope(|scope| {
        for row in &rows {
            let store = &store;
            scope.spawn(move || {
                let loaded = store.load(row.id).block_on();
                assert_eq!(loaded.is_err(), row.user.as_str() == "u7", "{loaded:?}");
            });
        }
    });
}

#[test]
fn statements_of_before_a_change_of_the_tables_are_prepared_anew() {
    let server = postgres::shared();
    let fresh = server.fresh();
    let (store, env) = (open(&fresh.with("pool=1")), TestEnv::new(NOW, 7));
    let row = session(&env, "ada");
    insert(&store, &row);
    store.load(row.id).block_on().unwrap();
    let table = format!("{}.details", fresh.schema());
    server.sql(&format!(
        "ALTER TABLE {table} ALTER COLUMN agent TYPE varchar(500)"
    ));
    let deadline = deadline();
    while store.load(row.id).block_on().is_err() {
        assert!(!deadline());
    }
}
