//! What failed logins cost on the wire: how many hashes, from which network, and with a store that fails.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use doorward_core::memory::MemoryStore;
use doorward_core::{EventName, Policy};
use doorward_http::testing::{Door as _, PASSWORD};
use doorward_http::{Client, Endpoint, Settings, client_address, settle};
use http::{Request, Response};
use pollster::block_on;
use serde_json::{Value, json};

use crate::engine::Engine;

fn opened(change: impl FnOnce(&mut Settings)) -> Engine {
    let mut settings = Settings::default();
    change(&mut settings);
    let store = Arc::new(MemoryStore::new(Policy::default()));
    block_on(Engine::on(store, Policy::default(), settings))
}

fn login(username: &str, password: &str) -> Request<Bytes> {
    let body = json!({ "username": username, "password": password, "delivery": "body" });
    Request::post("/api/v1/login")
        .header("host", "api.example")
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .unwrap()
}

fn code(answer: &Response<Bytes>) -> String {
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    body["code"].as_str().unwrap_or("granted").into()
}

#[test]
fn existing_unknown_and_disabled_accounts_take_one_hash_each_and_throttled_ones_none() {
    let mut engine = opened(|settings| {
        let budgets = settings.throttle.as_mut().unwrap();
        budgets.account = "4/15m".parse().unwrap();
    });
    block_on(engine.operate(&["user", "disable", "bob"]));
    for name in ["ada", "bob", "nobody", "no name at all\u{200b}"] {
        for number in 0..6 {
            let before = engine.passwords.hashes();
            let answer = block_on(engine.send(login(name, "wrong wrong wrong")));
            let hashes = engine.passwords.hashes() - before;
            let expected = if number < 4 {
                ("invalid_credentials", 1)
            } else {
                ("too_many_attempts", 0)
            };
            assert_eq!((&*code(&answer), hashes), expected, "{name}");
        }
    }
    // The right password of a disabled account is a wrong one.
    let before = engine.passwords.hashes();
    let answer = block_on(engine.send(login("bob", PASSWORD)));
    assert_eq!(
        (&*code(&answer), engine.passwords.hashes() - before),
        ("too_many_attempts", 0)
    );
}

/// As a host asks, whose peer is not the client.
fn from(engine: &Engine, peer: &str, request: Request<Bytes>) -> Response<Bytes> {
    let trusted = ["10.0.0.0/8".parse().unwrap()];
    let peer: IpAddr = peer.parse().unwrap();
    let address = Some(client_address(peer, request.headers(), &trusted));
    let reply = engine
        .api
        .call(Endpoint::Login, request, Client { address });
    block_on(async { settle(reply.await, &engine.accounts).await.response })
}

#[test]
fn headers_of_untrusted_peers_do_not_choose_the_network() {
    let engine = opened(|settings| {
        let budgets = settings.throttle.as_mut().unwrap();
        budgets.network = Some("3/15m".parse().unwrap());
    });
    let asked = |number: usize| {
        let mut request = login(&format!("user{number}"), "wrong wrong wrong");
        let address = format!("198.51.100.{number}");
        let forwarded = format!("for={address}");
        let headers = [
            ("x-forwarded-for", &address),
            ("x-real-ip", &address),
            ("forwarded", &forwarded),
        ];
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let codes = |peer: &str| -> Vec<_> {
        let answers = (0..5).map(|number| code(&from(&engine, peer, asked(number))));
        answers.collect()
    };
    let few = [
        ["invalid_credentials"; 3].as_slice(),
        &["too_many_attempts"; 2],
    ]
    .concat();
    assert_eq!(codes("203.0.113.9"), few);
    assert_eq!(codes("10.0.0.1"), ["invalid_credentials"; 5]);
}

#[test]
fn an_office_may_log_in_and_a_load_of_right_passwords_too() {
    let mut engine = opened(|_| ());
    for number in 0..500 {
        let answer = block_on(engine.send(login(["ada", "bob"][number % 2], PASSWORD)));
        assert_eq!(code(&answer), "granted");
    }
}

#[test]
fn a_throttled_attempt_is_an_event() {
    let engine = opened(|settings| {
        let budgets = settings.throttle.as_mut().unwrap();
        budgets.account = "1/15m".parse().unwrap();
    });
    let events = || {
        let reply = engine.api.call(
            Endpoint::Login,
            login("ada", "wrong wrong wrong"),
            Client::default(),
        );
        let events = block_on(async { settle(reply.await, &engine.accounts).await.events });
        events.iter().map(|event| event.name).collect::<Vec<_>>()
    };
    assert_eq!(
        (events(), events()),
        (
            vec![EventName::LoginFailed],
            vec![EventName::LoginThrottled]
        )
    );
}

fn field(answer: &Response<Bytes>, name: &str) -> String {
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    body[name].as_str().unwrap().into()
}

fn with_device(password: &str, device: &str) -> Request<Bytes> {
    let body = json!({
        "username": "ada", "password": password, "delivery": "body", "device_token": device,
    });
    login("ada", password).map(|_| body.to_string().into())
}

#[test]
fn devices_that_were_made_known_by_a_password_are_forgotten_with_it() {
    const NEW: &str = "a much better passphrase";
    let mut engine = opened(|settings| {
        let budgets = settings.throttle.as_mut().unwrap();
        budgets.account = "4/15m".parse().unwrap();
    });
    let mut devices = Vec::new();
    let mut access = String::new();
    for _ in 0..20 {
        let answer = block_on(engine.send(login("ada", PASSWORD)));
        devices.push(field(&answer, "device_token"));
        access = field(&answer, "access_token");
    }
    let change = Request::post("/api/v1/password")
        .header("host", "api.example")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {access}"))
        .body(
            json!({ "current": PASSWORD, "new": NEW })
                .to_string()
                .into(),
        )
        .unwrap();
    let changed = block_on(engine.send(change));
    let own = field(&changed, "device_token");
    let before = engine.passwords.hashes();
    for device in &devices {
        block_on(engine.send(with_device("wrong wrong wrong", device)));
    }
    assert_eq!(
        engine.passwords.hashes() - before,
        4,
        "one account's budget"
    );
    // Whoever changed it is known by the new one.
    let answer = block_on(engine.send(with_device(NEW, &own)));
    assert_eq!(code(&answer), "granted");
    let old = block_on(engine.send(with_device(NEW, &devices[0])));
    assert_eq!(code(&old), "too_many_attempts");
}
