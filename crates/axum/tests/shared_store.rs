//! The axum door on a store that several nodes share, opened by its URL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use doorward_axum::core::password::{Params, Password};
use doorward_axum::{Doorward, Session};
use http::{Request, Response, StatusCode};
use tower::ServiceExt as _;

#[path = "../../stores/tests/servers/postgres.rs"]
mod postgres;
#[path = "../../stores/tests/servers/redis.rs"]
mod redis;
#[path = "../../stores/tests/servers/rings.rs"]
mod rings;

const PASSWORD: &str = "correct horse battery";

async fn node(url: &str) -> (Doorward, Router) {
    let mut builder = Doorward::at(url.parse().unwrap());
    builder.engine.hashing.params = Params::FAST_FOR_TESTS;
    let door = builder.open().await.unwrap();
    let hello = async |session: Session| format!("hello {}", session.user());
    let router = Router::new().route("/api/v1/hello", get(hello));
    (door.clone(), router.merge(door.router()).with_state(door))
}

async fn ask(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

async fn hello(router: &Router, token: &str) -> StatusCode {
    let request = Request::get("/api/v1/hello").header("authorization", format!("Bearer {token}"));
    ask(router, request.body(Body::empty()).unwrap())
        .await
        .status()
}

async fn login(router: &Router) -> String {
    let body = format!(r#"{{"username":"ada","password":"{PASSWORD}","delivery":"body"}}"#);
    let request = Request::post("/api/v1/login")
        .header("host", "api.example")
        .header("content-type", "application/json");
    let answer = ask(router, request.body(body.into()).unwrap()).await;
    assert_eq!(answer.status(), 200);
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
    let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_one_node_opens_and_ends_another_lets_in_and_refuses() {
    let fresh = postgres::shared().fresh();
    for url in [fresh.0.clone(), redis::with_prefix(&redis::single().url())] {
        let ((one, its), (_other, others)) = (node(&url).await, node(&url).await);
        let password = Password::new(PASSWORD).unwrap();
        one.accounts().register("ada", password).await.unwrap();
        let token = login(&its).await;
        assert_eq!(hello(&its, &token).await, 200);
        assert_eq!(hello(&others, &token).await, 200);
        let logout = Request::post("/api/v1/logout").header("host", "api.example");
        let logout = logout.header("authorization", format!("Bearer {token}"));
        let ended = ask(&its, logout.body(Body::empty()).unwrap()).await;
        assert_eq!(ended.status(), 204);
        assert_eq!(hello(&its, &token).await, 401);
        assert_eq!(hello(&others, &token).await, 401);
    }
}
