//! Handlers that ask the store, through the axum door.
#![allow(clippy::unwrap_used, reason = "a test may")]

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use doorward_axum::Doorward;
use doorward_axum::core::session::{Delivery, Device};
use doorward_axum::core::{EndReason, Identity, UserId, service::Terms};
use doorward_axum::extract::{FreshSession, Session, Strict};
use http::{Request, StatusCode};
use tower::ServiceExt as _;

async fn status(router: &Router, path: &str, token: &str) -> StatusCode {
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    let request = request.body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

async fn login(door: &Doorward) -> String {
    let user = UserId::new("ada").unwrap();
    let service = door.service();
    let identity = Identity {
        valid_from: Some(service.store().valid_from(&user).await.unwrap()),
        user,
        username: None,
        claims: None,
        privileged: false,
    };
    let terms = Terms {
        started_at: service.now(),
        remember: false,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    };
    let (opened, _) = service.login(identity, terms).await;
    opened.unwrap().access.as_str().to_owned()
}

fn router(door: &Doorward) -> Router {
    let router = Router::new()
        .route("/any", get(|_: Session| async {}))
        .route("/strict", get(|_: Strict| async {}))
        .route("/both", get(|_: Strict<FreshSession>| async {}));
    router.with_state(door.clone())
}

#[tokio::test]
async fn a_strict_handler_is_a_503_without_the_store_and_a_401_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let door = Doorward::sqlite(&path).open().await.unwrap();
    let (router, token) = (router(&door), login(&door).await);
    let db = rusqlite::Connection::open(&path).unwrap();
    for (change, expected) in [
        ("SELECT 1", 200),
        ("ALTER TABLE sessions RENAME TO away", 503),
        ("ALTER TABLE away RENAME TO sessions", 200),
        ("DELETE FROM sessions", 401),
    ] {
        db.execute_batch(change).unwrap();
        assert_eq!(status(&router, "/any", &token).await, 200, "{change}");
        for path in ["/strict", "/both"] {
            assert_eq!(status(&router, path, &token).await, expected, "{change}");
        }
    }
    let token = login(&door).await;
    let session = door.service().verify(&token).unwrap().session();
    let (ended, _) = door.service().end(session, EndReason::Logout).await;
    ended.unwrap();
    assert_eq!(status(&router, "/strict", &token).await, 401);
}
