//! Whatever the settings: a cookie that is set has the flags that they say, and its twin clears it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use doorward_core::memory::MemoryStore;
use doorward_core::service::Terms;
use doorward_core::{Delivery, Device, Identity, Policy};
use doorward_http::testing::Door;
use doorward_http::{DoubleSubmit, SameSite, Settings};
use http::{Request, Response};
use pollster::block_on;

use crate::engine::Engine;

/// The attributes of a cookie by their names, and its value by the empty one.
type Attributes = BTreeMap<String, String>;

fn cookies(answer: &Response<Bytes>) -> BTreeMap<String, Attributes> {
    let lines = answer.headers().get_all("set-cookie").iter();
    let lines: Vec<_> = lines.map(|line| parted(line.to_str().unwrap())).collect();
    let named: BTreeMap<_, _> = lines.iter().cloned().collect();
    assert_eq!(named.len(), lines.len(), "a name stands twice");
    named
}

fn parted(line: &str) -> (String, Attributes) {
    let mut pairs = line.split("; ").map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    });
    let (name, value) = pairs.next().unwrap();
    (name, pairs.chain([(String::new(), value)]).collect())
}

fn every() -> impl Iterator<Item = Settings> {
    let mut all = vec![Settings::default()];
    vary(&mut all, &[true, false], |s, secure| {
        s.cookie_secure = *secure;
    });
    vary(&mut all, &[None, Some("example")], |s, domain| {
        s.cookie_domain = domain.map(Into::into);
    });
    let sites = [
        None,
        Some(SameSite::Strict),
        Some(SameSite::Lax),
        Some(SameSite::None),
    ];
    vary(&mut all, &sites, |s, site| s.same_site = *site);
    vary(&mut all, &["/api/v1", "/api", "/"], |s, path| {
        s.access_cookie_path = Some((*path).into());
    });
    vary(&mut all, &[None, Some("/")], |s, path| {
        s.refresh_cookie_path = path.map(Into::into);
    });
    vary(
        &mut all,
        &[None, Some("__Host-a"), Some("sid")],
        |s, name| {
            s.access_cookie_name = name.map(Into::into);
        },
    );
    vary(&mut all, &[None, Some("/"), Some("/app")], |s, path| {
        s.double_submit = path.map(|path: &str| {
            let mut own = DoubleSubmit::default();
            own.access.cookie_path = path.into();
            own
        });
    });
    all.into_iter().filter(|settings| settings.check().is_ok())
}

fn vary<T>(all: &mut Vec<Settings>, values: &[T], set: impl Fn(&mut Settings, &T)) {
    let before = std::mem::take(all);
    for settings in before {
        for value in values {
            let mut settings = settings.clone();
            set(&mut settings, value);
            all.push(settings);
        }
    }
}

fn engine(settings: &Settings) -> Engine {
    let policy = Policy {
        csrf: true,
        ..Policy::default()
    };
    let store = Arc::new(MemoryStore::new(policy.clone()));
    block_on(Engine::bare(store, policy, settings.clone()))
}

fn login(engine: &Engine, remember: bool) -> Response<Bytes> {
    let identity = Identity {
        user: doorward_core::UserId::new("ada").unwrap(),
        username: None,
        valid_from: None,
        claims: None,
    };
    let terms = Terms {
        started_at: engine.api.service().now(),
        remember,
        delivery: Delivery::Cookie,
        device: Device::default(),
    };
    let (grant, _) = block_on(engine.api.service().login(identity, terms));
    engine.api.granted(&grant.unwrap(), None)
}

fn logout(engine: &mut Engine) -> Response<Bytes> {
    let request = Request::post("/api/v1/logout").body(Bytes::new()).unwrap();
    block_on(engine.send(request))
}

#[test]
fn every_cookie_that_can_be_set_is_cleared_by_its_twin() {
    let mut count = 0;
    for settings in every() {
        let mut engine = engine(&settings);
        for answer in [logout(&mut engine), engine.api.logged_out()] {
            let mut cleared = cookies(&answer);
            for remember in [true, false] {
                let mut set = cookies(&login(&engine, remember));
                assert_eq!(
                    set.keys().collect::<BTreeSet<_>>(),
                    cleared.keys().collect::<BTreeSet<_>>()
                );
                for (name, set) in &mut set {
                    let age = set.remove("Max-Age");
                    assert_eq!(age.is_some(), remember, "{name}");
                    assert!(age.is_none_or(|age| age.parse::<u64>().unwrap() > 0));
                    assert_ne!(set.insert(String::new(), String::new()).unwrap(), "");
                    let twin = cleared.get_mut(name).unwrap();
                    let age = twin.insert("Max-Age".into(), "0".into());
                    assert_eq!(age.as_deref(), Some("0"));
                    set.insert("Max-Age".into(), "0".into());
                    assert_eq!(set, twin, "{name} of {settings:?}");
                }
            }
        }
        count += 1;
    }
    assert!(count > 300, "{count}");
}

#[test]
fn every_cookie_has_the_flags_that_the_settings_say() {
    for settings in every() {
        for (name, cookie) in cookies(&login(&engine(&settings), true)) {
            let is_csrf = name.starts_with("csrf_");
            assert_eq!(cookie.contains_key("Secure"), settings.cookie_secure);
            assert_eq!(cookie.contains_key("HttpOnly"), !is_csrf, "{name}");
            assert_eq!(cookie.get("Domain"), settings.cookie_domain.as_ref());
            assert!(cookie.contains_key("Path") && cookie.contains_key("SameSite"));
            if name.starts_with("__Host-") {
                assert!(cookie["Path"] == "/" && !cookie.contains_key("Domain"));
            }
            if name.starts_with("__") {
                assert!(cookie.contains_key("Secure"), "{name}");
            }
            let by_default = if name.contains("refresh") {
                "Strict"
            } else {
                "Lax"
            };
            let wanted = match settings.same_site {
                None => by_default,
                Some(SameSite::Strict) => "Strict",
                Some(SameSite::Lax) => "Lax",
                Some(SameSite::None) => "None",
            };
            assert_eq!(cookie["SameSite"], wanted, "{name}");
        }
    }
}
