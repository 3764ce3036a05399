//! A refresh token of another program, asked about with an app's own users.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use doorward_axum::core::adoption::{Adoption, AdoptionConfig, Foreign, Names};
use doorward_axum::core::event::{EventName, Filter};
use doorward_axum::core::jws::{self, Sha, SigningKey};
use doorward_axum::core::memory::MemoryStore;
use doorward_axum::core::password::Password;
use doorward_axum::core::store::EventStore as _;
use doorward_axum::core::{Delivery, Env as _, Error, Identity, SystemEnv, Timestamp, UserId};
use doorward_axum::{Doorward, Users};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

const SECRET: &[u8] = b"what the old program had";
const HS256: jws::Algorithm = jws::Algorithm::Hs(Sha::Sha256);

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Knows one user, under another id.
struct Own;

impl Users for Own {
    fn identify<'a>(&'a self, _: &'a str, _: Password) -> Answering<'a, Identity> {
        Box::pin(async { Err(Error::InvalidCredentials) })
    }

    fn confirm<'a>(&'a self, _: &'a UserId, _: Password) -> Answering<'a, ()> {
        Box::pin(async { Err(Error::InvalidCredentials) })
    }

    fn adopt<'a>(&'a self, foreign: &'a Foreign) -> Answering<'a, Identity> {
        Box::pin(async {
            if foreign.subject().as_str() != "ada" {
                return Err(Error::InvalidCredentials);
            }
            Ok(Identity {
                user: UserId::new("user-1").unwrap(),
                username: None,
                valid_from: None,
                privileged: false,
                claims: None,
            })
        })
    }
}

fn token(subject: &str) -> String {
    let now = SystemEnv.now().seconds();
    let claims = json!({
        "fresh": false, "iat": now, "nbf": now, "exp": now + 3600, "type": "refresh",
        "jti": format!("of {subject}"), "sub": subject,
    });
    let header = br#"{"alg":"HS256","typ":"JWT"}"#;
    let text = jws::to_be_signed(header, claims.to_string().as_bytes());
    let made = SigningKey::of(HS256, SECRET).unwrap().sign(&text).unwrap();
    jws::token(text, &made.unwrap())
}

async fn refresh(door: &Doorward, subject: &str) -> StatusCode {
    let body = json!({"refresh_token": token(subject)}).to_string();
    let request = Request::post("/api/v1/refresh").header("content-type", "application/json");
    let router = door.router::<()>().with_state(());
    let answer = router.oneshot(request.body(Body::from(body)).unwrap());
    answer.await.unwrap().status()
}

#[tokio::test]
async fn the_apps_users_say_whose_it_is() {
    let store = Arc::new(MemoryStore::default());
    let mut builder = Doorward::store(Arc::clone(&store) as _);
    builder.settings.delivery = vec![Delivery::Body];
    let adoption = Adoption::new(AdoptionConfig {
        algorithm: HS256,
        key: SECRET.to_vec().into(),
        until: Timestamp(i64::MAX / 2),
        issuer: None,
        audience: None,
        identity_claim: "sub".into(),
        names: Names::Ids,
    });
    builder.engine.adoption = Some(Arc::new(adoption.unwrap()));
    builder.users = Some(Arc::new(Own));
    let door = builder.open().await.unwrap();
    assert_eq!(refresh(&door, "eve").await, StatusCode::UNAUTHORIZED);
    assert_eq!(refresh(&door, "ada").await, StatusCode::OK);
    let (all, _) = store.events_after(0, &Filter::default(), 9).await.unwrap();
    let adopted = all.iter().map(|entry| &entry.record.event);
    let told: Vec<_> = adopted
        .map(|event| (event.name, event.user.as_ref()))
        .collect();
    let user = UserId::new("user-1").unwrap();
    assert_eq!(told, [(EventName::Adopted, Some(&user))]);
}
