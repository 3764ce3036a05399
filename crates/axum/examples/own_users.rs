//! An app with a user table of its own, other state beside the sessions, and protected routes
//! outside the prefix.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRef, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use doorward_axum::core::password::{Hashing, Password, PasswordHash, Passwords};
use doorward_axum::core::{Error, Identity, PasswordChange, SystemEnv, UserId};
use doorward_axum::routes::Answering;
use doorward_axum::{Doorward, FreshSession, OptionalSession, SessionClaims, Users};

/// A row of the app's table.
struct Person {
    id: UserId,
    name: &'static str,
    hash: Mutex<PasswordHash>,
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
        let hash = person.map(Person::hash);
        let verified = self.passwords.verify(password, hash).await?;
        if verified.matches && person.is_some() {
            Ok(())
        } else {
            Err(Error::InvalidCredentials)
        }
    }

    fn by_id(&self, user: &UserId) -> Option<&Person> {
        self.by_name.values().find(|person| person.id == *user)
    }

    async fn change(
        &self,
        user: &UserId,
        current: Password,
        new: Password,
    ) -> Result<Identity, Error> {
        let person = self.by_id(user);
        let before = person.map(Person::hash);
        self.check(person, current).await?;
        let person = person.ok_or(Error::InvalidCredentials)?;
        let after = self.passwords.hash_new(person.name, new).await?;
        // In a database: UPDATE ... WHERE hash = the one that was checked.
        let mut hash = person.hash.lock().unwrap_or_else(PoisonError::into_inner);
        if Some(&*hash) != before.as_ref() {
            return Err(Error::InvalidCredentials);
        }
        *hash = after;
        Ok(person.identity())
    }
}

impl Person {
    fn hash(&self) -> PasswordHash {
        self.hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn identity(&self) -> Identity {
        Identity {
            user: self.id.clone(),
            username: Some(self.name.into()),
            valid_from: None,
            claims: Some(format!(r#"{{"role":"{}"}}"#, self.role).into()),
            privileged: false,
        }
    }
}

impl Users for People {
    fn identify<'a>(&'a self, username: &'a str, password: Password) -> Answering<'a, Identity> {
        Box::pin(async move {
            let person = self.by_name.get(username);
            self.check(person, password).await?;
            person
                .map(Person::identity)
                .ok_or(Error::InvalidCredentials)
        })
    }

    fn confirm<'a>(&'a self, user: &'a UserId, password: Password) -> Answering<'a, ()> {
        Box::pin(self.check(self.by_id(user), password))
    }

    fn set_password<'a>(
        &'a self,
        user: &'a UserId,
        current: Password,
        new: Password,
    ) -> Answering<'a, PasswordChange> {
        Box::pin(async move { Ok(self.change(user, current, new).await?.into()) })
    }

    fn sets_passwords(&self) -> bool {
        true
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
            name: "ada",
            hash: Mutex::new(hash),
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
