//! Foreign refresh tokens become sessions once, and no honest user notices.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;
use std::time::Duration;

use doorward_core::adoption::{Adoption, AdoptionConfig, Foreign, Names};
use doorward_core::event::Trail;
use doorward_core::jws::{self, Sha, SigningKey};
use doorward_core::keys::{KeyConfig, KeyRing};
use doorward_core::memory::MemoryStore;
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::service::Terms;
use doorward_core::store::{SessionStore as _, ValidFrom, Write};
use doorward_core::testing::TestEnv;
use doorward_core::{
    Delivery, Device, EndReason, Error, Event, EventName, Identity, Policy, Result, Service,
    SessionId, Timestamp, UserId,
};
use pollster::FutureExt as _;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_800_000_000_700);
const SECRET: &[u8] = b"what the old program had";
const DAY: u64 = 24 * 3600;
const HS256: jws::Algorithm = jws::Algorithm::Hs(Sha::Sha256);

fn name(event: Option<Event>) -> Option<EventName> {
    event.map(|event| event.name)
}

struct World {
    service: Service,
    store: Arc<MemoryStore>,
    env: Arc<TestEnv>,
}

fn config() -> AdoptionConfig {
    AdoptionConfig {
        algorithm: HS256,
        key: SECRET.to_vec().into(),
        until: NOW + Duration::from_secs(400 * DAY),
        issuer: None,
        audience: None,
        identity_claim: "sub".into(),
        names: Names::Ids,
    }
}

impl World {
    fn new(seed: u64) -> World {
        World::with(seed, config())
    }

    fn with(seed: u64, config: AdoptionConfig) -> World {
        let policy = Policy::default();
        let env = Arc::new(TestEnv::new(NOW, seed));
        let store = Arc::new(MemoryStore::new(policy.clone()));
        let key = KeyConfig::default();
        let keys = KeyRing::open(&*store, key, &policy, Arc::clone(&env) as _);
        let keys = Arc::new(keys.block_on().unwrap());
        let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
        let (rows, clock) = (Arc::clone(&store) as _, Arc::clone(&env) as _);
        let service = Service::new(rows, keys, revocations, policy, clock);
        let adoption = Arc::new(Adoption::new(config).unwrap());
        let service = service.adopting(Some(adoption));
        service.tick().block_on().unwrap();
        World {
            service,
            store,
            env,
        }
    }

    fn read(&self, token: &str) -> Result<Foreign> {
        self.service.foreign(token)
    }

    fn wait(&self, seconds: u64) {
        self.env.advance(Duration::from_secs(seconds));
        self.service.tick().block_on().unwrap();
    }

    /// As a door does it: adopts what was not, and decides on what was.
    fn present(&self, token: &str) -> (Result<(SessionId, String)>, Option<Event>) {
        let foreign = match self.read(token) {
            Ok(foreign) => foreign,
            Err(error) => return (Err(error), None),
        };
        let decided = self.service.refresh_adopted(&foreign, Delivery::Body);
        let (refreshed, event) = match decided.block_on() {
            Some(outcome) => outcome,
            None => self.adopt(&foreign),
        };
        let granted = refreshed.and_then(|refreshed| {
            let grant = self.service.grant(refreshed)?;
            Ok((grant.session.id, grant.refresh.as_str().to_owned()))
        });
        (granted, event)
    }

    fn adopt(
        &self,
        foreign: &Foreign,
    ) -> doorward_core::service::Outcome<doorward_core::service::Refreshed> {
        let identity = Identity {
            user: foreign.subject().clone(),
            username: None,
            valid_from: None,
            privileged: false,
            claims: None,
        };
        let adopted = self.service.adopt(foreign, identity, self.terms());
        adopted.block_on()
    }

    fn terms(&self) -> Terms {
        Terms {
            started_at: self.service.now(),
            remember: false,
            delivery: Delivery::Body,
            device: Device::default(),
            replaces: None,
        }
    }

    fn refresh(&self, token: &str) -> Result<String> {
        let (refreshed, _) = self.service.refresh(token, Delivery::Body).block_on();
        Ok(self.service.grant(refreshed?)?.refresh.as_str().to_owned())
    }
}

/// As Flask-JWT-Extended makes them, a day ago, for 300 days.
fn claims() -> Value {
    let iat = NOW.seconds() - 24 * 3600;
    json!({
        "fresh": false, "iat": iat, "jti": "5f0c", "type": "refresh", "sub": "ada",
        "nbf": iat, "csrf": "c", "exp": iat + 300 * 24 * 3600,
    })
}

fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value == "absent" {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn signed(claims: &Value, algorithm: jws::Algorithm, key: &[u8]) -> String {
    let header = format!(r#"{{"alg":"{}","typ":"JWT"}}"#, algorithm.name());
    let text = jws::to_be_signed(header.as_bytes(), claims.to_string().as_bytes());
    let made = SigningKey::of(algorithm, key).unwrap().sign(&text).unwrap();
    jws::token(text, &made.unwrap())
}

fn token() -> String {
    signed(&claims(), HS256, SECRET)
}

#[test]
fn only_good_refresh_tokens_are_read() {
    let world = World::new(1);
    assert!(world.read(&token()).is_ok());
    let over = Err(Error::SessionEnded(EndReason::Absolute));
    let now = NOW.seconds();
    for (changes, wanted) in [
        (json!({"type": "access"}), Err(Error::TokenInvalid)),
        (json!({"type": "absent"}), Err(Error::TokenInvalid)),
        (json!({"type": ["refresh"]}), Err(Error::TokenInvalid)),
        (json!({"sub": "absent"}), Err(Error::TokenInvalid)),
        (json!({"sub": ""}), Err(Error::TokenInvalid)),
        (json!({"sub": "a\u{1}"}), Err(Error::TokenInvalid)),
        (json!({"sub": {"id": 1}}), Err(Error::TokenInvalid)),
        (json!({"sub": 1.5}), Err(Error::TokenInvalid)),
        (json!({"sub": 7}), Ok(())),
        (json!({"iat": "absent"}), Err(Error::TokenInvalid)),
        (json!({"iat": true}), Err(Error::TokenInvalid)),
        (json!({"iat": -1}), Err(Error::TokenInvalid)),
        (json!({"iat": now + 100}), Err(Error::TokenInvalid)),
        (json!({"nbf": now + 100}), Err(Error::TokenInvalid)),
        (json!({"exp": now}), over.clone()),
        (json!({"exp": "absent"}), Ok(())),
        (json!({"exp": "soon"}), Err(Error::TokenInvalid)),
        // As old as no session gets.
        (json!({"iat": now - 90 * 24 * 3600, "exp": "absent"}), over),
    ] {
        let token = signed(&with(&changes), HS256, SECRET);
        assert_eq!(world.read(&token).map(drop), wanted, "{changes}");
    }
    for token in [
        signed(&claims(), HS256, b"another"),
        signed(&claims(), jws::Algorithm::Hs(Sha::Sha512), SECRET),
        String::new(),
        "a.b.c".into(),
        "a".repeat(100_000),
    ] {
        assert_eq!(world.read(&token).map(drop), Err(Error::TokenInvalid));
    }
}

#[test]
fn issuer_audience_and_date_are_asked_for() {
    let strict = AdoptionConfig {
        issuer: Some(vec!["old".into()]),
        audience: Some(vec!["app".into(), "web".into()]),
        ..config()
    };
    let world = World::with(1, strict);
    let made = |changes| signed(&with(&changes), HS256, SECRET);
    assert!(
        world
            .read(&made(json!({"iss": "old", "aud": "web"})))
            .is_ok()
    );
    for changes in [
        json!({}),
        json!({"iss": "old"}),
        json!({"iss": "x", "aud": "web"}),
    ] {
        assert!(world.read(&made(changes)).is_err());
    }
    let world = World::new(1);
    world.env.set(config().until);
    assert_eq!(world.read(&token()).map(drop), Err(Error::TokenInvalid));
}

#[test]
fn every_changed_character_is_refused() {
    let (world, token) = (World::new(1), token());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(world.read(&changed).is_err(), "position {at}");
    }
}

#[test]
fn an_adopted_session_is_as_old_as_its_token_and_never_fresh() {
    for age in [0, 24 * 3600] {
        let world = World::new(1);
        let iat = NOW.seconds() - age;
        let token = signed(&with(&json!({"iat": iat, "nbf": iat})), HS256, SECRET);
        let (granted, event) = world.present(&token);
        assert_eq!(name(event), Some(EventName::Adopted));
        let row = world
            .service
            .session(granted.unwrap().0)
            .block_on()
            .unwrap();
        let (policy, issued) = (world.service.policy(), Timestamp::from_seconds(iat));
        assert_eq!(row.absolute_end, issued + policy.session_ttl);
        assert!(row.fresh_until(policy) <= NOW && row.auth_time <= issued);
        assert_eq!(row.user.as_str(), "ada");
    }
}

#[test]
fn a_lost_answer_is_given_again_and_a_second_tab_is_the_same_session() {
    for pause in [0, 10, 31, 3600, 3 * DAY] {
        let (world, token) = (World::new(1), token());
        let (first, _) = world.present(&token);
        world.wait(pause);
        let (second, event) = world.present(&token);
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.0, second.0);
        assert_eq!(name(event), Some(EventName::Refreshed));
        // A client that got either goes on.
        assert!(world.refresh(&second.1).is_ok());
        if pause <= 30 {
            assert_eq!(first.1, second.1);
        }
    }
}

#[test]
fn the_token_is_late_for_a_moment_and_reused_later() {
    let (world, token) = (World::new(1), token());
    let (_, child) = world.present(&token).0.unwrap();
    world.wait(31);
    let next = world.refresh(&child).unwrap();
    world.wait(20);
    assert_eq!(world.present(&token).0.unwrap().1, next);
    world.wait(20);
    let (refused, event) = world.present(&token);
    assert_eq!(refused, Err(Error::RefreshReused));
    assert_eq!(name(event), Some(EventName::ReuseDetected));
    assert_eq!(
        world.refresh(&next),
        Err(Error::SessionEnded(EndReason::Reuse))
    );
}

#[test]
fn of_two_adoptions_at_once_one_opens_and_both_get_its_child() {
    let (world, token) = (World::new(1), token());
    let foreign = world.read(&token).unwrap();
    let (first, second) = (world.adopt(&foreign), world.adopt(&foreign));
    assert_eq!(name(first.1), Some(EventName::Adopted));
    assert_eq!(name(second.1), Some(EventName::Refreshed));
    let child = |refreshed| world.service.grant(refreshed).unwrap().refresh;
    assert_eq!(child(first.0.unwrap()), child(second.0.unwrap()));
    let user = UserId::new("ada").unwrap();
    assert_eq!(
        world.service.sessions_of(&user).block_on().unwrap().len(),
        1
    );
}

#[test]
fn whatever_ended_a_session_its_token_opens_no_other() {
    for purges in [false, true] {
        let (world, token) = (World::new(1), token());
        let (id, _) = world.present(&token).0.unwrap();
        let (ended, _) = world.service.end(id, EndReason::Logout).block_on();
        ended.unwrap();
        let wanted = if purges {
            // The row goes long before the token would be over.
            world.wait(32 * DAY);
            world.service.purge(1000).block_on().unwrap();
            assert!(world.service.session(id).block_on().is_err());
            Error::TokenInvalid
        } else {
            Error::SessionEnded(EndReason::Logout)
        };
        for _ in 0..2 {
            assert_eq!(world.present(&token).0, Err(wanted.clone()));
        }
    }
}

#[test]
fn a_token_that_was_never_used_is_over_after_a_logout_with_it() {
    for purges in [false, true] {
        let (world, token) = (World::new(1), token());
        let (foreign, terms) = (world.read(&token).unwrap(), world.terms());
        for _ in 0..2 {
            let ended = world
                .service
                .end_foreign(&foreign, &terms, EndReason::Logout);
            ended.block_on().0.unwrap();
        }
        if purges {
            world.wait(32 * DAY);
            world.service.purge(1000).block_on().unwrap();
        }
        assert!(world.present(&token).0.is_err());
    }
}

#[test]
fn ending_all_sessions_of_a_user_ends_what_was_not_adopted_yet() {
    let (world, token) = (World::new(1), token());
    let user = UserId::new("ada").unwrap();
    let ended = world.service.end_user(&user, EndReason::EndedByUser, None);
    ended.block_on().0.unwrap();
    assert_eq!(world.present(&token).0, Err(Error::TokenInvalid));
    world.wait(10);
    let iat = NOW.seconds() + 5;
    let later = signed(&with(&json!({"iat": iat, "nbf": iat})), HS256, SECRET);
    assert!(world.present(&later).0.is_ok());
}

#[test]
fn what_is_remembered_of_a_token_goes_when_the_token_is_over() {
    let world = World::new(1);
    let iat = NOW.seconds();
    let short = signed(
        &with(&json!({"iat": iat, "exp": iat + 3600})),
        HS256,
        SECRET,
    );
    let foreign = world.read(&short).unwrap();
    let (id, _) = world.present(&short).0.unwrap();
    let row = world.service.session(id).block_on().unwrap();
    world.wait(40 * DAY);
    world.service.purge(1000).block_on().unwrap();
    // The store forgot it; the token expired.
    let again = world
        .store
        .adopt(row, ValidFrom::default(), Timestamp(0), &Trail::default())
        .block_on();
    assert_eq!(again.unwrap(), Write::Done);
    assert!(world.read(&short).is_err() && foreign.subject().as_str() == "ada");
}

/// A client that loses answers, opens tabs and waits, and never holds what it was not given: it is
/// logged in until the end.
#[test]
fn no_honest_client_is_logged_out_however_its_answers_are_lost() {
    for seed in 0..500 {
        let (world, old) = (World::new(seed), token());
        let mut held = old.clone();
        let mut opened = None;
        for _ in 0..30 {
            world.wait(
                [0, 1, 20, 31, 500, 50_000][usize::try_from(world.env.random() % 6).unwrap()],
            );
            let tabs = 1 + world.env.random() % 2;
            for _ in 0..tabs {
                let answer = if held == old {
                    world.present(&held).0.map(|(id, child)| {
                        assert_eq!(*opened.get_or_insert(id), id);
                        child
                    })
                } else {
                    world.refresh(&held)
                };
                let answer = answer.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                if world.env.random().is_multiple_of(2) {
                    held = answer;
                }
            }
        }
        let user = UserId::new("ada").unwrap();
        assert_eq!(
            world.service.sessions_of(&user).block_on().unwrap().len(),
            1
        );
    }
}

#[test]
fn a_token_that_was_adopted_is_looked_at_as_the_sessions() {
    let (world, token) = (World::new(1), token());
    let check = || {
        world
            .service
            .check_refresh(&token, Delivery::Body)
            .block_on()
            .0
    };
    assert_eq!(check().map(drop), Err(Error::TokenInvalid));
    let (id, _) = world.present(&token).0.unwrap();
    assert_eq!(check().unwrap().id, id);
    world
        .service
        .end(id, EndReason::Logout)
        .block_on()
        .0
        .unwrap();
    assert_eq!(
        check().map(drop),
        Err(Error::SessionEnded(EndReason::Logout))
    );
}
