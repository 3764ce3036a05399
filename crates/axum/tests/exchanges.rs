//! The recorded exchanges, replayed against the axum door: the router on its SQLite store, and an
//! app's own routes behind the extractors.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use bytes::Bytes;
use doorward_axum::core::password::{Params, Password};
use doorward_axum::http_api::testing::{self, Door, PASSWORD, Recording, USERS};
use doorward_axum::{Doorward, FreshSession, Session};
use http::{Request, Response};
use tower::ServiceExt;

#[tokio::test]
async fn the_axum_door_answers_as_recorded() {
    let exchanges = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../http/exchanges"));
    for recording in testing::recordings(exchanges) {
        if recording.is_for("axum") {
            let mut app = App::open(&recording).await;
            recording.replay(&mut app).await;
        }
    }
}

struct App {
    door: Doorward,
    router: Router,
    directory: PathBuf,
}

impl App {
    async fn open(recording: &Recording) -> Self {
        let name = format!("axum-{}-{}", std::process::id(), recording.name);
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let mut builder = Doorward::sqlite(directory.join("app.db"));
        (builder.engine.policy, builder.settings) = recording.settings();
        builder.settings.verify = true;
        builder.engine.hashing.params = Params::FAST_FOR_TESTS;
        let door = builder.open().await.unwrap();
        for user in USERS {
            let password = Password::new(PASSWORD).unwrap();
            door.accounts().register(user, password).await.unwrap();
        }
        let hello = async |session: Session| format!("hello {}", session.user());
        let payment = async |session: FreshSession| format!("hello {}", session.user());
        let router = Router::new()
            .route("/api/v1/hello", get(hello).post(hello))
            .route("/api/v1/payment", get(payment))
            .merge(door.router())
            .with_state(door.clone());
        App {
            door,
            router,
            directory,
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Door for App {
    async fn send(&mut self, mut request: Request<Bytes>) -> Response<Bytes> {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1234));
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = self.router.clone();
        let answer = router.oneshot(request.map(Body::from)).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Response::from_parts(parts, body)
    }

    async fn operate(&mut self, words: &[&str]) {
        testing::operate(self.door.service(), self.door.accounts(), words).await;
    }

    async fn wait(&mut self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}
