//! Failed logins through the axum door: hashes, and a view of the app's own.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use doorward_axum::Doorward;
use doorward_axum::core::Policy;
use doorward_axum::core::memory::MemoryStore;
use doorward_axum::core::password::{Params, Password};
use doorward_axum::core::throttle::Outcome;
use doorward_axum::http_api::{Client, Headers};
use http::{HeaderMap, Request, StatusCode};
use tower::ServiceExt as _;

const PASSWORD: &str = "correct horse battery staple";

async fn open() -> (Doorward, Router) {
    let mut builder = Doorward::store(Arc::new(MemoryStore::new(Policy::default())));
    builder.engine.hashing.params = Params::FAST_FOR_TESTS;
    let door = builder.open().await.unwrap();
    for user in ["ada", "bob"] {
        let password = Password::new(PASSWORD).unwrap();
        door.accounts().register(user, password).await.unwrap();
    }
    let bob = door.accounts().find("bob").await.unwrap();
    door.accounts().set_disabled(&bob.id, true).await.unwrap();
    let router = door.router().with_state(door.clone());
    (door, router)
}

async fn login(router: &Router, username: &str) -> StatusCode {
    let body = format!(r#"{{"username": "{username}", "password": "wrong wrong wrong"}}"#);
    let request = Request::post("/api/v1/login").header("content-type", "application/json");
    let request = request.body(Body::from(body)).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn every_name_costs_one_hash_and_a_throttled_one_none() {
    let (door, router) = open().await;
    for name in ["ada", "bob", "nobody"] {
        let before = door.passwords().hashes();
        for number in 0..15 {
            let expected = if number < 10 { 401 } else { 429 };
            assert_eq!(login(&router, name).await, expected, "{name}");
        }
        assert_eq!(door.passwords().hashes() - before, 10);
    }
}

#[tokio::test]
async fn a_view_of_the_apps_own_shares_the_budgets() {
    let (door, router) = open().await;
    let admit = async |device: Option<&str>| {
        let headers = HeaderMap::new();
        let client = Client::default();
        door.api()
            .admit("ada", device, Headers::Map(&headers), client)
            .await
    };
    let device = admit(None).await.unwrap().settle(Outcome::Success).await;
    let device = device.unwrap().unwrap();
    for _ in 0..10 {
        admit(None)
            .await
            .unwrap()
            .settle(Outcome::Failure)
            .await
            .unwrap();
    }
    assert!(admit(None).await.is_err());
    assert_eq!(login(&router, "ada").await, 429);
    assert!(admit(Some(device.as_str())).await.is_ok());
}
