//! Browsers at two real doors on one store, and at a third that is not there.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use doorward_axum::Doorward;
use doorward_axum::core::Policy;
use doorward_axum::core::memory::MemoryStore;
use doorward_axum::core::password::{Params, Password};
use doorward_axum::core::store::Store;
use doorward_fleet::checker::check;
use doorward_fleet::fleet::{Plan, run};
use doorward_fleet::history::{Action, read};
use doorward_fleet::jar::Account;
use doorward_fleet::summary::Summary;
use doorward_fleet::wire::Patience;
use tokio::runtime::Runtime;

const PASSWORD: &str = "correct horse battery";
const USERS: [&str; 4] = ["ada", "bob", "cyd", "dee"];
/// Nodes hear of ends once a second, and wait for two cores.
const BOUND_MS: u64 = 5_000;

fn free_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

async fn door(store: Arc<dyn Store>) -> SocketAddr {
    let mut builder = Doorward::store(store);
    builder.settings.verify = true;
    builder.engine.hashing.params = Params::FAST_FOR_TESTS;
    let door = builder.open().await.unwrap();
    for user in USERS {
        // The second door finds them there.
        let password = Password::new(PASSWORD).unwrap();
        let _ = door.accounts().register(user, password).await;
    }
    let app: Router = Router::new().merge(door.router()).with_state(door);
    let listener = free_port();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

fn plan(nodes: &[SocketAddr], history: &Path) -> Plan {
    let account = |name: &&str| Account {
        name: (*name).into(),
        password: PASSWORD.into(),
    };
    let url = |address: &SocketAddr| format!("http://{address}/api/v1");
    Plan {
        nodes: nodes.iter().map(url).collect(),
        accounts: USERS.iter().map(account).collect(),
        clients: 20,
        rate: 300.0,
        length: Duration::from_secs(2),
        seed: 1,
        strict_route: "/session".into(),
        mix: [
            Action::Verify,
            Action::VerifyStrict,
            Action::Refresh,
            Action::End,
            Action::Login,
        ]
        .map(|action| (action, 4))
        .into_iter()
        .chain([(Action::EndAll, 1)])
        .collect(),
        body_percent: 50,
        burst_percent: 20,
        patience: Patience {
            connect: Duration::from_secs(1),
            answer: Duration::from_secs(5),
        },
        look_within: Duration::from_millis(200),
        history: Some(history.to_owned()),
    }
}

#[test]
fn honest_browsers_find_doorward_honest() {
    let runtime = Runtime::new().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Policy::default()));
    let doors = [door(store.clone()), door(store)].map(|door| runtime.block_on(door));
    let nobody = free_port().local_addr().unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("history.jsonl");
    let history = run(plan(&[doors[0], doors[1], nobody], &path)).unwrap();
    let broken = check(&history, BOUND_MS * 1000);
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(read(&path).unwrap(), history);
    let summary = Summary::of(&history, &broken, &[history[0].start]);
    assert!(summary.raced > 0);
    assert_eq!(summary.operations.len(), 6);
    for (action, figures) in &summary.operations {
        assert!(
            figures.ok > 0 && figures.unreached > 0,
            "{action:?}: {figures:?}"
        );
        assert!(summary.since[0].first_success_ms[action] > 0.0);
    }
}
