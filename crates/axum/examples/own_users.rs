//! An app with a user table of its own, other state beside the sessions, and protected routes
//! outside the prefix.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRef, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use doorward_axum::core::password::{Hashing, Password, PasswordHash, Passwords};
use doorward_axum::core::{Error, Identity, SystemEnv, UserId};
use doorward_axum::routes::Answering;
use doorward_axum::{Doorward, FreshSession, OptionalSession, SessionClaims, Users};

/// A row of the app's table.
struct Person {
    id: UserId,
    hash: PasswordHash,
    role: &'static str,
}

/// The app's table.
struct People {
    by_name: HashMap<&'static str, Person>,
    passwords: Passwords,
}

impl People {
    async fn check(&self, person: Option<&Person>, password: Password) -> Result<(), Error> {
        // One hash, whether the person exists or not.
        let hash = person.map(|person| person.hash.clone());
        let verified = self.passwords.verify(password, hash).await?;
        if verified.matches && person.is_some() {
            Ok(())
        } else {
            Err(Error::InvalidCredentials)
        }
    }
}

impl Users for People {
    fn identify<'a>(&'a self, username: &'a str, password: Password) -> Answering<'a, Identity> {
        Box::pin(async move {
            let person = self.by_name.get(username);
            self.check(person, password).await?;
            let person = person.ok_or(Error::InvalidCredentials)?;
            Ok(Identity {
                user: person.id.clone(),
                username: Some(username.into()),
                valid_from: None,
                claims: Some(format!(r#"{{"role":"{}"}}"#, person.role).into()),
            })
        })
    }

    fn confirm<'a>(&'a self, user: &'a UserId, password: Password) -> Answering<'a, ()> {
        let person = self.by_name.values().find(|person| person.id == *user);
        Box::pin(self.check(person, password))
    }
}

#[derive(Clone, FromRef)]
struct App {
    doorward: Doorward,
    greeting: &'static str,
}

#[derive(serde::Deserialize)]
struct Role {
    role: String,
}

async fn greet(State(greeting): State<&'static str>, session: OptionalSession) -> String {
    match session.0 {
        Some(claims) => format!("{greeting}, {}\n", claims.user()),
        None => format!("{greeting}, stranger\n"),
    }
}

async fn role(SessionClaims(claims): SessionClaims<Role>) -> String {
    format!("you are a {}\n", claims.role)
}

async fn pay(session: FreshSession) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "paid_by": session.user().as_str() }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let passwords = Passwords::new(Hashing::default(), Arc::new(SystemEnv));
    let hash = passwords
        .hash(Password::new("correct horse battery")?)
        .await?;
    let id = UserId::new("7").map_err(|_| "no id")?;
    let by_name = HashMap::from([(
        "ada",
        Person {
            id,
            hash,
            role: "teacher",
        },
    )]);

    let mut door = Doorward::sqlite("own_users.db");
    door.users = Some(Arc::new(People { by_name, passwords }));
    // Cookies reach routes outside the prefix.
    door.settings.access_cookie_path = Some("/".into());
    let doorward = door.open().await?;

    let app = Router::new()
        .route("/", get(greet))
        .route("/role", get(role))
        .route("/pay", post(pay))
        .merge(doorward.router())
        .with_state(App {
            doorward,
            greeting: "hello",
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!(
        "http://{}/   user ada, password correct horse battery",
        listener.local_addr()?
    );
    Ok(axum::serve(listener, app).await?)
}
