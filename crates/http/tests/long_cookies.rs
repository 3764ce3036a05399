//! No answer sets a cookie that browsers drop for its length: name and value have at most 4,096 bytes
//! (RFC 6265bis, section 5.7; ASVS 5.0, 3.3.5).

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::sync::Arc;

use bytes::Bytes;
use doorward_core::access_token::MAX_CUSTOM;
use doorward_core::memory::MemoryStore;
use doorward_core::store::SessionStore as _;
use doorward_core::{Identity, Policy, UserId};
use doorward_http::{Answer, Ask, Client, DoubleSubmit, Endpoint, Reply, Settings};
use http::Request;
use pollster::block_on;
use serde_json::Value;

use crate::engine::Engine;

/// A user with the longest id and the most claims logs in.
fn login(policy: Policy, delivery: &str) -> (Answer, usize) {
    let settings = Settings {
        access_cookie_name: Some("a".repeat(64)),
        double_submit: Some(DoubleSubmit::default()),
        ..Settings::default()
    };
    let store = Arc::new(MemoryStore::new(policy.clone()));
    let engine = block_on(Engine::on(Arc::clone(&store) as _, policy, settings));
    let body = format!(r#"{{"username": "u", "password": "p", "delivery": "{delivery}"}}"#);
    let request = Request::post("/api/v1/login")
        .header("host", "api.example")
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .unwrap();
    let reply = engine.api.call(Endpoint::Login, request, Client::default());
    let Reply::Ask(Ask::Identify { next, .. }) = block_on(reply) else {
        panic!("no question");
    };
    let Reply::Done(answer) = block_on(next.answer(Ok(longest()))) else {
        panic!("another question");
    };
    let sessions = block_on(store.sessions(None, 10)).unwrap().len();
    (answer, sessions)
}

fn longest() -> Identity {
    let claims = format!(r#"{{"c":"{}"}}"#, "x".repeat(MAX_CUSTOM - 8));
    assert_eq!(claims.len(), MAX_CUSTOM);
    Identity {
        user: UserId::new(&"u".repeat(UserId::MAX_BYTES)).unwrap(),
        username: None,
        valid_from: None,
        privileged: false,
        claims: Some(claims.into()),
    }
}

fn policy(issuer: usize) -> Policy {
    Policy {
        csrf: true,
        identity_claim: Some("who".into()),
        issuer: Some("i".repeat(issuer)),
        ..Policy::default()
    }
}

fn cookies(answer: &Answer) -> Vec<usize> {
    let lines = answer.response.headers().get_all("set-cookie").iter();
    let pairs = lines.map(|line| line.to_str().unwrap().split(';').next().unwrap());
    // All but the sign between name and value.
    pairs.map(|pair| pair.len() - 1).collect()
}

#[test]
fn the_longest_id_and_the_most_claims_fit_into_a_cookie() {
    let (answer, sessions) = login(policy(200), "cookie");
    let lengths = cookies(&answer);
    assert_eq!((answer.response.status().as_u16(), sessions), (200, 1));
    assert!(lengths.len() >= 4 && lengths.iter().all(|length| *length <= 4096));
}

#[test]
fn no_cookie_has_more_than_4096_bytes_and_a_login_that_needs_one_opens_no_session() {
    let mut longest = 0;
    for issuer in (0..2_400).step_by(48) {
        let (answer, sessions) = login(policy(issuer), "cookie");
        if answer.response.status() == 200 {
            longest = cookies(&answer).into_iter().max().unwrap().max(longest);
        } else {
            let body: Value = serde_json::from_slice(answer.response.body()).unwrap();
            assert_eq!((body["status"].as_u64(), sessions), (Some(400), 0));
            assert!(body["detail"].as_str().unwrap().contains("4,096 bytes"));
            assert_eq!(cookies(&answer), [0; 0]);
        }
    }
    assert!((4_000..=4_096).contains(&longest), "{longest}");
    assert_eq!(login(policy(2_399), "cookie").0.response.status(), 400);
    assert_eq!(login(policy(2_399), "body").0.response.status(), 200);
}
