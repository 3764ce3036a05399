//! What an operator is told of servers that may lose something, and what listings and erasures cost.

use super::*;

#[test]
fn a_server_that_keeps_nothing_on_its_disk_is_pointed_out_and_one_that_does_is_not() {
    let server = Server::start(&["--maxmemory-policy", "volatile-lru"]);
    let told = open(&server.url()).at_risk().unwrap();
    assert!(
        told.contains("appendonly") && told.contains("volatile-lru"),
        "{told}"
    );
    let settings = [["appendonly", "yes"], ["maxmemory-policy", "noeviction"]];
    for [name, value] in settings {
        assert!(server.ask(&["CONFIG", "SET", name, value]).contains("OK"));
    }
    eventually(|| open(&server.url()).at_risk().is_none());
}

#[test]
fn a_cluster_that_lost_a_shard_is_pointed_out() {
    let mut cluster = Cluster::start_with(&[
        "--appendonly",
        "yes",
        "--cluster-require-full-coverage",
        "no",
    ]);
    let is_of_first =
        |server: &Server, first: &str| server.ask(&["INFO", "replication"]).contains(first);
    let store = open(&cluster.url());
    assert_eq!(store.at_risk(), None);
    let port = format!("master_port:{}", cluster.servers[0].port);
    let replica = cluster
        .servers
        .iter()
        .position(|server| is_of_first(server, &port))
        .unwrap();
    for server in [replica, 0] {
        cluster.servers[server].kill();
    }
    eventually(|| {
        let told = store.at_risk().unwrap_or_default();
        told.contains("hash slots have no server")
    });
}

#[test]
fn a_server_of_a_cluster_is_not_taken_for_one_that_is_alone() {
    let address = redis::cluster().servers[0].url().parse().unwrap();
    let refused = RedisStore::open(&address, Policy::default()).err().unwrap();
    assert!(refused.to_string().contains("?cluster"), "{refused}");
}

#[test]
fn every_session_is_listed_once_whatever_the_size_of_a_page() {
    let store = open(&redis::with_prefix(&redis::cluster().url()));
    let env = TestEnv::new(NOW, 1);
    let mut all: Vec<_> = (0..40)
        .map(|n| session(&env, &(n % 13).to_string()))
        .collect();
    for row in &all {
        insert(&store, row);
    }
    // One that is found by way of another's slot.
    let foreign = Session {
        user: UserId::new("bob").unwrap(),
        ..session(&env, "eve")
    };
    let until = NOW + Duration::from_secs(3600);
    let trail = trail();
    let adopted = store.adopt(foreign.clone(), ValidFrom(0), until, &trail);
    assert_eq!(adopted.block_on().unwrap(), Write::Done);
    all.push(foreign);
    let gone = all.remove(3);
    assert!(
        store
            .end(gone.id, NOW, EndReason::Logout, &trail)
            .block_on()
            .is_ok()
    );
    all.sort_unstable_by_key(|row| row.id);
    for limit in [1, 2, 7, 100] {
        let (mut after, mut listed) = (None, Vec::new());
        loop {
            let page = store.sessions(after, limit).block_on().unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.id);
            listed.extend(page);
        }
        listed.sort_unstable_by_key(|row| row.id);
        assert_eq!(listed, all);
    }
}

#[test]
fn of_a_long_log_a_user_is_erased_and_the_rest_is_purged() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    let record = |n: usize| Record {
        at: NOW,
        event: Event {
            user: Some(UserId::new(&format!("user-{}", n % 100)).unwrap()),
            ..Event::new(EventName::LoggedIn)
        },
        actor: Actor::User,
        network: None,
        device: None,
        agent: None,
    };
    for page in 0..24 {
        let records = (0..1000).map(|n| record(page * 1000 + n)).collect();
        store.append(records).block_on().unwrap();
    }
    let user = UserId::new("user-7").unwrap();
    let begun = Instant::now();
    let none = Trail::default();
    let erased = store.erase(&user, NOW, EndReason::Disabled, &none);
    assert_eq!(erased.block_on().unwrap(), 0);
    println!("erased of 24,000 events: {:?}", begun.elapsed());
    let count = || server.ask(&["ZCARD", "doorward:{logs}events"]);
    assert_eq!(count().trim(), ":23760");
    let begun = Instant::now();
    while store
        .purge_events(NOW + Duration::from_secs(1), 1000)
        .block_on()
        .unwrap()
        == 1000
    {}
    println!("purged the others: {:?}", begun.elapsed());
    assert_eq!(count().trim(), ":0");
}
