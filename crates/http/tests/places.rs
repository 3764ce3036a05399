//! Wherever tokens are, a request that a cookie decides never escapes the rules for cookies, and it
//! makes no difference in which form a host hands it over.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::memory::MemoryStore;
use doorward_core::testing::TestEnv;
use doorward_core::{Delivery, EndReason, Error, Event, Policy, Timestamp};
use doorward_http::testing::{Door, PASSWORD};
use doorward_http::{
    Api, Asked, DoubleSubmit, Headers, InBody, Location, Need, Problem, Settings, Verified,
};
use http::{Method, Request, Response};
use pollster::block_on;
use serde_json::Value;

use crate::engine::Engine;

const ACCESS: &str = "__Secure-access_token_cookie";
const REFRESH: &str = "__Secure-refresh_token_cookie";

const EVERYWHERE: [Location; 4] = [
    Location::Cookie,
    Location::Header,
    Location::QueryString,
    Location::Json,
];

/// An API in use: tokens of two users, one with cookies and one without.
struct World {
    engine: Engine,
    access: String,
    refresh: String,
    csrf: String,
    csrf_refresh: String,
    bearer: String,
}

impl World {
    fn new(settings: Settings) -> World {
        let policy = Policy {
            csrf: settings.double_submit.is_some(),
            ..Policy::default()
        };
        let store = Arc::new(MemoryStore::new(policy.clone()));
        let mut engine = block_on(Engine::on(store, policy, settings));
        let by_cookie = login(&mut engine, "ada", "cookie");
        let in_body = login(&mut engine, "bob", "body");
        let body: Value = serde_json::from_slice(in_body.body()).unwrap();
        World {
            access: cookie(&by_cookie, ACCESS),
            refresh: cookie(&by_cookie, REFRESH),
            csrf: cookie(&by_cookie, "csrf_access_token"),
            csrf_refresh: cookie(&by_cookie, "csrf_refresh_token"),
            bearer: body["access_token"].as_str().unwrap().into(),
            engine,
        }
    }

    fn api(&self) -> &Api {
        &self.engine.api
    }

    fn lives(&self, token: &str) -> bool {
        self.api().service().verify(token).is_ok()
    }
}

fn login(engine: &mut Engine, user: &str, delivery: &str) -> Response<Bytes> {
    let body =
        format!(r#"{{"username": "{user}", "password": "{PASSWORD}", "delivery": "{delivery}"}}"#);
    let request = Request::post("/api/v1/login")
        .header("host", "api.example")
        .header("content-type", "application/json")
        .body(body.into());
    let answer = block_on(engine.send(request.unwrap()));
    assert_eq!(answer.status(), 200);
    answer
}

/// What a cookie was set to; nothing if it was not.
fn cookie(answer: &Response<Bytes>, name: &str) -> String {
    let lines = answer.headers().get_all("set-cookie").iter();
    let mut values = lines.filter_map(|line| line.to_str().unwrap().strip_prefix(name));
    let value = values.find_map(|rest| rest.strip_prefix('=')?.split(';').next());
    value.unwrap_or_default().to_owned()
}

/// A request as an attacker, a browser or an app may put it together.
#[derive(Clone, Debug, Default)]
struct Sent {
    method: &'static str,
    headers: Vec<(&'static str, String)>,
    query: Option<String>,
    token: Option<String>,
    form: Option<String>,
}

impl Sent {
    fn with<T>(&self, then: impl FnOnce(&Asked<'_>) -> T) -> T {
        let pairs = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let pairs: Vec<_> = pairs.collect();
        then(&Asked {
            method: self.method,
            query: self.query.as_deref(),
            authority: None,
            headers: Headers::Pairs(&pairs),
            body: self.body(),
        })
    }

    fn body(&self) -> InBody<'_> {
        InBody {
            token: self.token.as_deref(),
            csrf: self.form.as_deref(),
        }
    }

    fn request(&self, path: &str) -> Request<Bytes> {
        let query = self
            .query
            .as_deref()
            .map_or_else(String::new, |q| format!("?{q}"));
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("{path}{query}"));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = self
            .token
            .as_ref()
            .map(|token| format!(r#"{{"access_token": "{token}"}}"#));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        request.body(body.unwrap_or_default().into()).unwrap()
    }
}

fn one_of<T: Clone>(env: &TestEnv, of: &[T]) -> T {
    let at = env.random() % u64::try_from(of.len()).unwrap();
    of[usize::try_from(at).unwrap()].clone()
}

fn in_any_order(env: &TestEnv) -> Vec<Location> {
    let mut locations = EVERYWHERE.to_vec();
    for at in (1..locations.len()).rev() {
        let other = env.random() % u64::try_from(at + 1).unwrap();
        locations.swap(at, usize::try_from(other).unwrap());
    }
    locations
}

/// Tokens, good ones, worthless ones and none, wherever one may be; and whatever browsers say.
fn anything(env: &TestEnv, world: &World) -> Sent {
    let nothing = String::new;
    let tokens = [
        world.access.clone(),
        world.bearer.clone(),
        world.refresh.clone(),
        "nonsense".into(),
        nothing(),
    ];
    let token = || one_of(env, &tokens);
    let often = || env.random().is_multiple_of(2);
    let mut sent = Sent {
        method: one_of(
            env,
            &["POST", "post", "PUT", "DELETE", "PATCH", "GET", "BREW"],
        ),
        headers: vec![("Host", "api.example".into())],
        ..Sent::default()
    };
    for _ in 0..env.random() % 3 {
        let name = one_of(
            env,
            &[ACCESS, "__secure-access_token_cookie", "csrf_access_token"],
        );
        sent.headers
            .push(("Cookie", format!("x=y; {name}={}", token())));
    }
    if often() {
        sent.headers
            .push(("Cookie", format!("{ACCESS}={}", world.access)));
    }
    for _ in 0..env.random() % 3 {
        let scheme = one_of(env, &["Bearer ", "bearer  ", "Basic ", "Bearer", ""]);
        sent.headers
            .push(("AUTHORIZATION", format!("{scheme}{}", token())));
    }
    sent.query = often().then(|| {
        let name = one_of(env, &["jwt", "JWT", "%6Awt", "x"]);
        format!("{name}={}", token())
    });
    sent.token = often().then(token);
    let values = [
        world.csrf.clone(),
        world.csrf_refresh.clone(),
        "other".into(),
        nothing(),
    ];
    if often() {
        sent.headers.push(("X-Csrf-Token", one_of(env, &values)));
    }
    sent.form = often().then(|| one_of(env, &values));
    sent
}

fn everywhere(env: &TestEnv, double_submit: Option<DoubleSubmit>) -> Settings {
    Settings {
        locations: Some(in_any_order(env)),
        double_submit,
        ..Settings::default()
    }
}

#[test]
fn another_site_never_acts_by_a_cookie_whatever_it_adds() {
    let env = TestEnv::new(Timestamp(0), 1);
    let mut by_others = 0;
    for _ in 0..40 {
        let world = World::new(everywhere(&env, None));
        for _ in 0..250 {
            let mut sent = anything(&env, &world);
            sent.headers.push(("Sec-Fetch-Site", "cross-site".into()));
            let verified = sent.with(|asked| {
                let verified = world.api().verify(asked, Need::Session).ok()?;
                Some((verified.location, verified.token.into_owned()))
            });
            let Some((location, token)) = verified else {
                continue;
            };
            let safe = sent.method == "GET";
            assert!(safe || location != Location::Cookie, "{sent:?}");
            assert!(location == Location::Cookie || token != "nonsense");
            by_others += 1;
        }
    }
    assert!(by_others > 100, "{by_others}");
}

#[test]
fn another_site_never_ends_a_session_by_a_cookie_whatever_it_adds() {
    let env = TestEnv::new(Timestamp(0), 2);
    for _ in 0..40 {
        let mut world = World::new(everywhere(&env, None));
        for path in [
            "/api/v1/logout",
            "/api/v1/refresh/logout",
            "/api/v1/sessions",
        ] {
            for _ in 0..25 {
                let mut sent = anything(&env, &world);
                sent.method = if path.ends_with("sessions") {
                    "DELETE"
                } else {
                    "POST"
                };
                sent.headers.push(("Sec-Fetch-Site", "cross-site".into()));
                if path.contains("refresh") {
                    let cookie = format!("{REFRESH}={}", world.refresh);
                    sent.headers.push(("Cookie", cookie));
                }
                // What another site cannot know.
                let stolen = |text: &String| text.contains(&world.access);
                sent.headers
                    .retain(|(name, value)| *name != "AUTHORIZATION" || !stolen(value));
                sent.query = sent.query.filter(|query| !stolen(query));
                sent.token = sent.token.filter(|token| !stolen(token));
                let answer = block_on(world.engine.send(sent.request(path)));
                assert!(world.lives(&world.access), "{path} {sent:?}");
                let cleared = answer.headers().contains_key("set-cookie");
                assert!(!cleared, "{path} {sent:?}");
            }
        }
    }
}

#[test]
fn a_cookie_counts_only_with_the_value_of_its_token() {
    let env = TestEnv::new(Timestamp(0), 3);
    let mut passed = 0;
    for _ in 0..40 {
        let double_submit = DoubleSubmit {
            check_form: env.random().is_multiple_of(2),
            ..DoubleSubmit::default()
        };
        let check_form = double_submit.check_form;
        let world = World::new(everywhere(&env, Some(double_submit)));
        for _ in 0..250 {
            let sent = anything(&env, &world);
            let verified = sent.with(|asked| {
                let verified = world.api().verify(asked, Need::Session);
                verified.map(|verified| verified.location)
            });
            if verified != Ok(Location::Cookie) || matches!(sent.method, "GET" | "BREW") {
                continue;
            }
            let mut headers = sent.headers.iter();
            let header = headers.find(|(name, _)| *name == "X-Csrf-Token");
            let header = header
                .map(|(_, value)| value)
                .filter(|value| !value.is_empty());
            let form = sent.form.as_ref().filter(|_| check_form);
            assert_eq!(header.or(form), Some(&world.csrf), "{sent:?}");
            passed += 1;
        }
    }
    assert!(passed > 20, "{passed}");
}

#[test]
fn a_few_strings_and_a_requests_head_are_judged_alike() {
    let env = TestEnv::new(Timestamp(0), 4);
    let told = |verified: Result<Verified<'_>, Problem>| {
        verified.map(|verified| (verified.location, verified.token.into_owned()))
    };
    for _ in 0..20 {
        let world = World::new(everywhere(&env, Some(DoubleSubmit::default())));
        let reads = world.api().reads();
        for _ in 0..200 {
            let mut sent = anything(&env, &world);
            let site = one_of(&env, &["same-origin", "cross-site", "none", ""]);
            sent.headers.push(("Sec-Fetch-Site", site.into()));
            let origin = one_of(&env, &["https://api.example", "https://evil.example"]);
            sent.headers.push(("origin", origin.into()));
            let (parts, _) = sent.request("/x").into_parts();
            let whole = Asked::of(&parts).with(sent.body());
            let whole = told(world.api().verify(&whole, Need::Session));
            // Only what a guard says that it reads.
            let lower = |name: &str| name.to_ascii_lowercase();
            sent.headers
                .retain(|(name, _)| reads.contains(&lower(name)));
            let few = sent.with(|asked| told(world.api().verify(asked, Need::Session)));
            assert_eq!(few, whole, "{sent:?}");
        }
    }
}

// ---- how fresh ----

#[test]
fn a_password_check_is_fresh_for_less_than_the_span_asked_for() {
    let mut world = World::new(Settings::default());
    let header = format!("Bearer {}", world.bearer);
    let fresh = |world: &World, span| {
        let sent = Sent {
            method: "GET",
            headers: vec![("authorization", header.clone())],
            ..Sent::default()
        };
        let need = Need::FreshWithin(Duration::from_secs(span));
        sent.with(|asked| world.api().verify(asked, need).is_ok())
    };
    assert!(fresh(&world, 1) && fresh(&world, 600) && fresh(&world, u64::MAX));
    assert!(!fresh(&world, 0), "nothing is that fresh");
    block_on(world.engine.wait(Duration::from_secs(100)));
    assert!(!fresh(&world, 100) && fresh(&world, 101));
}

// ---- refresh tokens at a host's own routes ----

fn look(world: &World, headers: &[(&'static str, String)]) -> (Result<(), Problem>, Option<Event>) {
    let sent = Sent {
        method: "POST",
        headers: headers.to_vec(),
        ..Sent::default()
    };
    let (session, event) = sent.with(|asked| block_on(world.api().check_refresh(asked, None)));
    (session.map(drop), event)
}

#[test]
fn a_refresh_token_in_a_cookie_is_looked_at_by_the_rules_for_cookies() {
    let world = World::new(Settings {
        double_submit: Some(DoubleSubmit::default()),
        ..Settings::default()
    });
    let cookie = ("cookie", format!("{REFRESH}={}", world.refresh));
    let value = ("x-csrf-token", world.csrf_refresh.clone());
    let other = ("x-csrf-token", world.csrf.clone());
    let cross = ("sec-fetch-site", "cross-site".into());
    let both = [cookie.clone(), value.clone()];
    assert_eq!(look(&world, &both), (Ok(()), None));
    for headers in [
        vec![cookie.clone()],
        vec![cookie.clone(), other],
        vec![cookie.clone(), value.clone(), cross],
        vec![cookie.clone(), value.clone(), value.clone()],
    ] {
        assert_eq!(look(&world, &headers), (Err(Problem::CsrfFailed), None));
    }
    let missing = Err(Error::TokenMissing.into());
    assert_eq!(look(&world, &[value]).0, missing);
    let claims = world.api().service().verify(&world.access).unwrap();
    let ended = world
        .api()
        .service()
        .end(claims.session(), EndReason::Logout);
    block_on(ended).0.unwrap();
    let ended = Err(Error::SessionEnded(EndReason::Logout).into());
    assert_eq!(look(&world, &both).0, ended);
}

// ---- settings that need each other ----

#[test]
fn the_double_submit_needs_tokens_that_carry_its_value() {
    let world = World::new(Settings::default());
    let settings = Settings {
        double_submit: Some(DoubleSubmit::default()),
        ..Settings::default()
    };
    let refused = Api::new(Arc::clone(world.api().service()), settings).unwrap_err();
    assert!(refused.to_string().contains("csrf"), "{refused}");
}

/// A host may put an access token into a cookie itself.
#[test]
fn a_cookie_that_is_no_delivery_is_guarded_all_the_same() {
    let mut world = World::new(Settings {
        delivery: vec![Delivery::Body, Delivery::Cookie],
        ..Settings::default()
    });
    let settings = Settings {
        delivery: vec![Delivery::Body],
        locations: Some(vec![Location::Header, Location::Cookie]),
        ..Settings::default()
    };
    world.engine.api = Api::new(Arc::clone(world.api().service()), settings).unwrap();
    let request = |site: &str| {
        Request::builder()
            .method(Method::POST)
            .uri("/api/v1/logout")
            .header("cookie", format!("{ACCESS}={}", world.bearer))
            .header("sec-fetch-site", site)
            .body(Bytes::new())
            .unwrap()
    };
    let (cross, same) = (request("cross-site"), request("same-origin"));
    assert_eq!(block_on(world.engine.send(cross)).status(), 403);
    assert!(world.lives(&world.bearer));
    assert_eq!(block_on(world.engine.send(same)).status(), 204);
    assert!(!world.lives(&world.bearer));
}
