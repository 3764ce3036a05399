//! The rule against requests of other sites, held against everything a browser or an attacker may
//! put together: fetch metadata, origin, content type, method, credential, endpoint, settings.
//!
//! What is expected follows from tables and from the rule's words in docs/api.md, never from the
//! code. A refused request leaves the store as it was and sets no cookie.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::memory::MemoryStore;
use doorward_core::password::Password;
use doorward_core::service::Terms;
use doorward_core::{Delivery, Device, EndReason, Error, Identity, Policy, Session, UserId};
use doorward_http::testing::{Door, PASSWORD};
use doorward_http::{Asked, DoubleSubmit, Need, Settings};
use http::{Request, Response};
use pollster::block_on;
use serde_json::Value;

use crate::engine::Engine;

const HOST: &str = "api.example:8443";
const ALLOWED: &str = "https://app.example";
const ACCESS: &str = "access_token_cookie";
const REFRESH: &str = "refresh_token_cookie";

/// What `Sec-Fetch-Site` says, line by line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    Nothing,
    Ours,
    Sibling,
    /// Another site's, or no value that a browser sends.
    Foreign(&'static str),
    /// Two lines: to be read in two ways.
    Twice(&'static str, &'static str),
    None,
}

const SITES: [Site; 11] = [
    Site::Nothing,
    Site::Ours,
    Site::None,
    Site::Sibling,
    Site::Foreign("cross-site"),
    Site::Foreign("SAME-ORIGIN"),
    Site::Foreign("same-origin, cross-site"),
    Site::Foreign("?1"),
    Site::Foreign(""),
    Site::Twice("same-origin", "same-origin"),
    Site::Twice("none", "cross-site"),
];

impl Site {
    fn lines(self) -> Vec<&'static str> {
        match self {
            Site::Nothing => vec![],
            Site::Ours => vec!["same-origin"],
            Site::None => vec!["none"],
            Site::Sibling => vec!["same-site"],
            Site::Foreign(text) => vec![text],
            Site::Twice(first, second) => vec![first, second],
        }
    }
}

/// Whose page an `Origin` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Nobody,
    Ours,
    /// This host without encryption, which is another site where cookies are `Secure`.
    OursInPlain,
    Allowed,
    Foreign,
}

const ORIGINS: [(&[&str], Whose); 25] = [
    (&[], Whose::Nobody),
    (&["https://api.example:8443"], Whose::Ours),
    // Hosts have no case; a browser sends them in lower case.
    (&["https://API.example:8443"], Whose::Ours),
    (&["http://api.example:8443"], Whose::OursInPlain),
    (&["HTTPS://api.example:8443"], Whose::Foreign),
    (&["https://api.example"], Whose::Foreign),
    (&["https://api.example:8444"], Whose::Foreign),
    (&["https://api.example.:8443"], Whose::Foreign),
    (&["https://api.example:8443/"], Whose::Foreign),
    (&["https://api.example:8443/path"], Whose::Foreign),
    (&["https://x@api.example:8443"], Whose::Foreign),
    (&["ws://api.example:8443"], Whose::Foreign),
    (&["//api.example:8443"], Whose::Foreign),
    (&["api.example:8443"], Whose::Foreign),
    (&["null"], Whose::Foreign),
    (&[""], Whose::Foreign),
    (&[ALLOWED], Whose::Allowed),
    (&["https://app.example:443"], Whose::Foreign),
    (&["https://APP.example"], Whose::Foreign),
    (&["http://app.example"], Whose::Foreign),
    (&["https://app.example.evil.example"], Whose::Foreign),
    (&["https://evilapp.example"], Whose::Foreign),
    (&["https://x.api.example:8443"], Whose::Foreign),
    (&["https://evil.example", ALLOWED], Whose::Foreign),
    (
        &["https://api.example:8443", "https://api.example:8443"],
        Whose::Foreign,
    ),
];

/// `Content-Type`, line by line, and whether a body of it is JSON.
const TYPES: [(&[&str], bool); 10] = [
    (&["application/json"], true),
    (&["application/json; charset=x"], true),
    (&["Application/JSON"], true),
    (&["text/plain"], false),
    (&["application/x-www-form-urlencoded"], false),
    (&["multipart/form-data; boundary=x"], false),
    (&["application/jsonx"], false),
    (&["text/plain; x=application/json"], false),
    (&["application/json", "text/plain"], false),
    (&[], false),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    Missing,
    Cookie,
    Bearer,
    Both,
}

const CREDENTIALS: [Credential; 4] = [
    Credential::Missing,
    Credential::Cookie,
    Credential::Bearer,
    Credential::Both,
];

/// What repeats the value of the double submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Nothing,
    Right,
    /// The value that goes with the other cookie.
    OfTheOther,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Login,
    Register,
    Refresh,
    Logout(&'static str),
    EndSession,
    EndSessions,
    Reauthenticate,
    Password,
    /// What changes nothing.
    Read(&'static str),
    /// A route of the host's own.
    Guarded(&'static str),
    /// `GET /verify`, with the methods that a proxy tells of, and whether all of them are safe.
    Verify(&'static [(&'static str, &'static str)], bool),
}

const CALLS: [Call; 33] = [
    Call::Login,
    Call::Register,
    Call::Refresh,
    Call::Logout("/logout"),
    Call::Logout("/refresh/logout"),
    Call::EndSession,
    Call::EndSessions,
    Call::Reauthenticate,
    Call::Password,
    Call::Read("/session"),
    Call::Read("/sessions"),
    Call::Guarded("GET"),
    Call::Guarded("HEAD"),
    Call::Guarded("OPTIONS"),
    Call::Guarded("POST"),
    Call::Guarded("PUT"),
    Call::Guarded("PATCH"),
    Call::Guarded("DELETE"),
    Call::Guarded("TRACE"),
    Call::Guarded("PROPFIND"),
    Call::Guarded("get"),
    Call::Verify(&[], false),
    Call::Verify(&[("x-original-method", "GET")], true),
    Call::Verify(&[("x-original-method", "HEAD")], true),
    Call::Verify(&[("x-original-method", "get")], false),
    Call::Verify(&[("x-original-method", "")], false),
    Call::Verify(&[("x-original-method", "DELETE")], false),
    Call::Verify(&[("x-forwarded-method", "OPTIONS")], true),
    Call::Verify(&[("x-forwarded-method", "POST")], false),
    Call::Verify(
        &[("x-original-method", "GET"), ("x-forwarded-method", "PUT")],
        false,
    ),
    Call::Verify(
        &[("x-original-method", "PUT"), ("x-original-method", "GET")],
        false,
    ),
    Call::Verify(
        &[("x-forwarded-method", "GET"), ("x-original-method", "GET")],
        true,
    ),
    Call::Verify(&[("x-http-method-override", "GET")], false),
];

impl Call {
    fn method(self) -> &'static str {
        match self {
            Call::Guarded(method) => method,
            Call::Read(_) | Call::Verify(..) => "GET",
            Call::EndSession | Call::EndSessions => "DELETE",
            _ => "POST",
        }
    }

    fn is_unsafe(self) -> bool {
        match self {
            Call::Verify(_, all_safe) => !all_safe,
            _ => !["GET", "HEAD", "OPTIONS"].contains(&self.method()),
        }
    }

    /// Whether the API reads a body, and refuses one that is no JSON.
    fn has_body(self) -> bool {
        !matches!(self, Call::Read(_) | Call::Guarded(_) | Call::Verify(..))
    }

    fn needs_credential(self) -> bool {
        !matches!(self, Call::Login | Call::Register | Call::Logout(_))
    }

    /// Whether the refresh token is what counts.
    fn is_of_refresh(self) -> bool {
        matches!(self, Call::Refresh | Call::Logout(_))
    }

    fn success(self) -> u16 {
        match self {
            Call::Register => 201,
            Call::Logout(_) | Call::EndSession => 204,
            _ => 200,
        }
    }
}

/// What differs between the tests.
#[derive(Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches are what varies"
)]
struct Variant {
    allow_same_site: bool,
    strict: bool,
    allowed: bool,
    double_submit: bool,
    plain: bool,
    header_first: bool,
}

impl Variant {
    fn settings(self) -> Settings {
        let mut settings = Settings {
            allow_same_site: self.allow_same_site,
            csrf_strict: self.strict,
            double_submit: self.double_submit.then(DoubleSubmit::default),
            cookie_secure: !self.plain,
            access_cookie_name: Some(ACCESS.into()),
            refresh_cookie_name: Some(REFRESH.into()),
            register: true,
            verify: true,
            ..Settings::default()
        };
        if self.allowed {
            settings.allowed_origins = vec!["https://first.example".into(), ALLOWED.into()];
        }
        if self.header_first {
            settings.delivery = vec![Delivery::Body, Delivery::Cookie];
        }
        settings
    }

    fn repeats(self) -> &'static [Repeats] {
        if self.double_submit {
            &[Repeats::Nothing, Repeats::Right, Repeats::OfTheOther]
        } else {
            &[Repeats::Nothing]
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    call: Call,
    credential: Credential,
    site: Site,
    origin: (&'static [&'static str], Whose),
    media_type: (&'static [&'static str], bool),
    has_body: bool,
    repeats: Repeats,
}

// ---- the rule, in its own words ----

impl Case {
    /// What this request may be refused for; nothing: it succeeds.
    fn refusals(&self, variant: Variant) -> Vec<u16> {
        let mut refusals = Vec::new();
        if self.call.is_unsafe() && self.is_by_browser(variant) && !self.is_ours(variant) {
            refusals.push(403);
        }
        if variant.double_submit && self.must_repeat(variant) && self.repeats != Repeats::Right {
            refusals.push(403);
        }
        if self.call.has_body() && self.has_body && !self.media_type.1 {
            refusals.push(415);
        }
        if self.call.needs_credential() && !self.carries_credential() {
            refusals.push(401);
        }
        if self.is_ambiguous() {
            refusals.push(400);
        }
        refusals
    }

    /// "For every unsafe request whose credential came from a cookie or whose answer may set or
    /// clear one, login included; bearer requests are exempt."
    fn is_by_browser(&self, variant: Variant) -> bool {
        match self.call {
            Call::Login | Call::Register => true,
            Call::Logout(_) => self.credential != Credential::Bearer,
            _ => self.counts_by_cookie(variant),
        }
    }

    /// "The first configured location that holds one wins"; refresh cookies stand for themselves.
    fn counts_by_cookie(&self, variant: Variant) -> bool {
        match self.credential {
            Credential::Cookie => true,
            Credential::Both => self.call.is_of_refresh() || !variant.header_first,
            Credential::Missing | Credential::Bearer => false,
        }
    }

    /// "`Sec-Fetch-Site` of `same-origin` or `none` (or `same-site` where allowed) passes; otherwise
    /// `Origin` must be this site or an allowed one; a request with neither header passes
    /// (`csrf_strict` refuses it)."
    fn is_ours(&self, variant: Variant) -> bool {
        match self.site {
            Site::Ours | Site::None => return true,
            Site::Sibling if variant.allow_same_site => return true,
            Site::Twice(..) => return false,
            _ => {}
        }
        match self.origin.1 {
            Whose::Ours => true,
            Whose::OursInPlain => variant.plain,
            Whose::Allowed => variant.allowed,
            Whose::Foreign => false,
            Whose::Nobody => self.site == Site::Nothing && !variant.strict,
        }
    }

    fn must_repeat(&self, variant: Variant) -> bool {
        let opens = matches!(self.call, Call::Login | Call::Register);
        let method = match self.call {
            Call::Verify(told, false) => unsafe_among(told),
            _ => self.call.method(),
        };
        let asked = ["POST", "PUT", "PATCH", "DELETE"].contains(&method);
        !opens && asked && self.counts_by_cookie(variant)
    }

    /// A token for `/refresh` travels by body or cookie, so that the header of a bearer is none.
    fn carries_credential(&self) -> bool {
        match self.call {
            Call::Refresh if self.credential == Credential::Bearer => self.has_body,
            _ => self.credential != Credential::Missing,
        }
    }

    /// "A refresh token in the body and another in a cookie: 400."
    fn is_ambiguous(&self) -> bool {
        self.call == Call::Refresh && self.credential == Credential::Both && self.has_body
    }
}

/// "Neither: unsafe", which counts as a POST.
fn unsafe_among(told: &[(&str, &'static str)]) -> &'static str {
    let known = told
        .iter()
        .filter(|(name, _)| *name != "x-http-method-override");
    let mut methods = known.map(|(_, method)| *method);
    methods
        .find(|method| !["GET", "HEAD", "OPTIONS"].contains(method))
        .unwrap_or("POST")
}

// ---- the world it is tried in ----

/// An API in use: a session of ada's with cookies, and one of hers without.
struct World {
    engine: Engine,
    user: UserId,
    access: String,
    refresh: String,
    csrf: [String; 2],
    bearer: [String; 2],
    sessions: Vec<Session>,
}

impl World {
    fn new(variant: Variant) -> World {
        let policy = Policy {
            csrf: variant.double_submit,
            ..Policy::default()
        };
        let store = Arc::new(MemoryStore::new(policy.clone()));
        let engine = block_on(Engine::on(store, policy, variant.settings()));
        let user = block_on(engine.accounts.find("ada")).unwrap().id;
        World::open(engine, user)
    }

    fn open(engine: Engine, user: UserId) -> World {
        let by_cookie = opened(&engine, &user, Delivery::Cookie);
        let in_body = opened(&engine, &user, Delivery::Body);
        let body: Value = serde_json::from_slice(in_body.body()).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let mut world = World {
            access: cookie(&by_cookie, ACCESS),
            refresh: cookie(&by_cookie, REFRESH),
            csrf: ["csrf_access_token", "csrf_refresh_token"].map(|name| cookie(&by_cookie, name)),
            bearer: [text("access_token"), text("refresh_token")],
            sessions: Vec::new(),
            user,
            engine,
        };
        world.sessions = world.rows();
        world
    }

    /// After `call` has changed something: as at the start.
    fn again(self, call: Call) -> World {
        let accounts = &self.engine.accounts;
        match call {
            Call::Register => {
                let mallory = block_on(accounts.find("mallory")).unwrap();
                block_on(accounts.remove(&mallory.id)).unwrap();
            }
            Call::Password => {
                let password = Password::new(PASSWORD).unwrap();
                block_on(accounts.set_password(&self.user, password)).unwrap();
            }
            _ => {}
        }
        self.engine.env.advance(Duration::from_millis(1));
        let service = self.engine.api.service();
        let ended = service.end_user(&self.user, EndReason::Logout, None);
        block_on(ended).0.unwrap();
        self.engine.env.advance(Duration::from_millis(1));
        World::open(self.engine, self.user)
    }

    fn rows(&self) -> Vec<Session> {
        block_on(self.engine.api.service().sessions_of(&self.user)).unwrap()
    }

    /// Whether nothing happened to any session or account.
    fn is_untouched(&self) -> bool {
        let registered = block_on(self.engine.accounts.find("mallory"));
        self.rows() == self.sessions && registered == Err(Error::NotFound)
    }

    fn send(&mut self, case: &Case) -> Response<Bytes> {
        let request = self.request(case);
        if let Call::Guarded("OPTIONS") = case.call {
            let parts = request.into_parts().0;
            return match self.engine.api.guard(&parts, Need::Session) {
                Ok(_) => Response::new(Bytes::new()),
                Err(refusal) => *refusal,
            };
        }
        block_on(self.engine.send(request))
    }

    fn request(&self, case: &Case) -> Request<Bytes> {
        let path = format!("/api/v1{}", self.path(case.call));
        let mut request = Request::builder().method(case.call.method()).uri(path);
        for (name, value) in self.headers(case) {
            request = request.header(name, value);
        }
        let body = if case.has_body {
            self.body(case)
        } else {
            String::new()
        };
        request.body(body.into()).unwrap()
    }

    fn path(&self, call: Call) -> String {
        match call {
            Call::Login => "/login".into(),
            Call::Register => "/register".into(),
            Call::Refresh => "/refresh".into(),
            Call::Logout(path) | Call::Read(path) => path.into(),
            Call::EndSession => format!("/sessions/{}", self.sessions[0].id),
            Call::EndSessions => "/sessions".into(),
            Call::Reauthenticate => "/reauthenticate".into(),
            Call::Password => "/password".into(),
            Call::Guarded(_) => "/hello".into(),
            Call::Verify(..) => "/verify".into(),
        }
    }

    fn headers(&self, case: &Case) -> Vec<(&'static str, String)> {
        let mut headers = vec![("host", HOST.to_owned())];
        // A body that another site's form overrides the method of is still what it is.
        headers.push(("x-http-method", "GET".into()));
        let lines = case.site.lines().into_iter();
        headers.extend(lines.map(|line| ("sec-fetch-site", line.to_owned())));
        headers.extend(case.origin.0.iter().map(|line| ("origin", (*line).into())));
        let types = case.media_type.0.iter();
        headers.extend(types.map(|line| ("content-type", (*line).into())));
        if let Call::Verify(told, _) = case.call {
            headers.extend(told.iter().map(|(name, value)| (*name, (*value).into())));
        }
        let csrf = usize::from(case.call.is_of_refresh());
        match case.repeats {
            Repeats::Nothing => {}
            Repeats::Right => headers.push(("x-csrf-token", self.csrf[csrf].clone())),
            Repeats::OfTheOther => headers.push(("x-csrf-token", self.csrf[1 - csrf].clone())),
        }
        headers.extend(self.credential(case.credential));
        headers
    }

    fn credential(&self, credential: Credential) -> Vec<(&'static str, String)> {
        let cookies = format!("{ACCESS}={}; {REFRESH}={}", self.access, self.refresh);
        let cookies = ("cookie", cookies);
        let bearer = ("authorization", format!("Bearer {}", self.bearer[0]));
        match credential {
            Credential::Missing => vec![],
            Credential::Cookie => vec![cookies],
            Credential::Bearer => vec![bearer],
            Credential::Both => vec![cookies, bearer],
        }
    }

    fn body(&self, case: &Case) -> String {
        let by_bearer = matches!(case.credential, Credential::Bearer | Credential::Both);
        match case.call {
            Call::Login => format!(r#"{{"username": "ada", "password": "{PASSWORD}"}}"#),
            Call::Register => format!(r#"{{"username": "mallory", "password": "{PASSWORD}"}}"#),
            Call::Reauthenticate => format!(r#"{{"password": "{PASSWORD}"}}"#),
            Call::Password => {
                format!(r#"{{"current": "{PASSWORD}", "new": "nineteen purple otters sing"}}"#)
            }
            Call::Refresh if by_bearer => format!(r#"{{"refresh_token": "{}"}}"#, self.bearer[1]),
            _ => "{}".into(),
        }
    }
}

/// A new session, and the answer that a host's own view would give to its login.
fn opened(engine: &Engine, user: &UserId, delivery: Delivery) -> Response<Bytes> {
    let identity = Identity {
        user: user.clone(),
        username: None,
        valid_from: None,
        claims: None,
    };
    let terms = Terms {
        started_at: engine.api.service().now(),
        remember: false,
        delivery,
        device: Device::default(),
    };
    let (grant, _) = block_on(engine.api.service().login(identity, terms));
    engine.api.granted(&grant.unwrap(), None)
}

/// What a cookie was set to; nothing if it was not.
fn cookie(answer: &Response<Bytes>, name: &str) -> String {
    let lines = answer.headers().get_all("set-cookie").iter();
    let mut values = lines.filter_map(|line| line.to_str().unwrap().strip_prefix(name));
    let value = values.find_map(|rest| rest.strip_prefix('=')?.split(';').next());
    value.unwrap_or_default().to_owned()
}

// ---- the matrix ----

/// Sends every case of `cases`, and holds each answer against the rule.
fn hold(variant: Variant, cases: impl Iterator<Item = Case>) -> usize {
    let mut world = World::new(variant);
    let (mut count, mut changes) = (0, 0);
    for case in cases {
        let answer = world.send(&case);
        let (status, refusals) = (answer.status().as_u16(), case.refusals(variant));
        let told = || {
            format!(
                "{case:?}\n{status} {:?}\nwanted: {refusals:?}",
                answer.body()
            )
        };
        if refusals.is_empty() {
            assert_eq!(status, case.call.success(), "{}", told());
        } else {
            assert!(refusals.contains(&status), "{}", told());
            assert!(!answer.headers().contains_key("set-cookie"), "{}", told());
            assert!(world.is_untouched(), "{}", told());
        }
        if refusals.is_empty() && !world.is_untouched() {
            changes += 1;
            // Ended sessions are kept, and cost their time.
            world = match changes % 50 {
                0 => World::new(variant),
                _ => world.again(case.call),
            };
        }
        count += 1;
    }
    count
}

/// Every site and origin, for each call and credential.
fn origins(variant: Variant) -> impl Iterator<Item = Case> {
    let calls = CALLS
        .iter()
        .flat_map(|call| CREDENTIALS.map(|by| (*call, by)));
    calls.flat_map(move |(call, credential)| {
        let repeats = variant.repeats().iter();
        repeats.flat_map(move |repeats| {
            SITES.iter().flat_map(move |site| {
                ORIGINS.iter().map(move |origin| Case {
                    call,
                    credential,
                    site: *site,
                    origin: *origin,
                    media_type: TYPES[0],
                    has_body: call.has_body(),
                    repeats: *repeats,
                })
            })
        })
    })
}

/// Every content type, with and without a body, from here, from there and from nowhere.
fn types(variant: Variant) -> impl Iterator<Item = Case> {
    let places = [
        (Site::Ours, ORIGINS[1]),
        (
            Site::Foreign("cross-site"),
            (&["https://evil.example"] as &[_], Whose::Foreign),
        ),
        (Site::Nothing, ORIGINS[0]),
    ];
    let calls = CALLS.iter().filter(|call| call.has_body());
    let calls = calls.flat_map(|call| CREDENTIALS.map(|by| (*call, by)));
    calls.flat_map(move |(call, credential)| {
        places.into_iter().flat_map(move |(site, origin)| {
            TYPES.iter().flat_map(move |media_type| {
                let without = matches!(
                    call,
                    Call::Refresh | Call::Logout(_) | Call::EndSession | Call::EndSessions
                );
                let bodies: &[bool] = if without { &[true, false] } else { &[true] };
                bodies.iter().map(move |has_body| Case {
                    call,
                    credential,
                    site,
                    origin,
                    media_type: *media_type,
                    has_body: *has_body,
                    repeats: variant.repeats()[variant.repeats().len() / 2],
                })
            })
        })
    })
}

fn rule_holds(variant: Variant) {
    let count = hold(variant, origins(variant)) + hold(variant, types(variant));
    assert!(count > 30_000, "{count}");
}

#[test]
fn only_this_site_causes_what_cookies_decide() {
    rule_holds(Variant::default());
}

#[test]
fn an_allowed_origin_may_too_and_none_that_looks_like_it() {
    rule_holds(Variant {
        allowed: true,
        ..Variant::default()
    });
}

#[test]
fn siblings_may_where_they_are_allowed() {
    rule_holds(Variant {
        allow_same_site: true,
        header_first: true,
        ..Variant::default()
    });
}

#[test]
fn a_strict_server_wants_to_be_told_where_a_request_comes_from() {
    rule_holds(Variant {
        strict: true,
        allowed: true,
        ..Variant::default()
    });
}

#[test]
fn without_encryption_this_host_is_this_site_in_plain() {
    rule_holds(Variant {
        plain: true,
        ..Variant::default()
    });
}

#[test]
fn a_double_submit_comes_on_top_of_it() {
    rule_holds(Variant {
        double_submit: true,
        allowed: true,
        ..Variant::default()
    });
}

#[test]
fn what_a_host_is_asked_by_hand_follows_the_same_rule() {
    let world = World::new(Variant::default());
    for case in origins(Variant::default()).filter(|case| case.credential == Credential::Cookie) {
        let Call::Guarded(_) = case.call else {
            continue;
        };
        let request = world.request(&case);
        let parts = request.into_parts().0;
        let passes = world.engine.api.check_origin(&Asked::of(&parts)).is_ok();
        assert_eq!(
            passes,
            case.refusals(Variant::default()).is_empty(),
            "{case:?}"
        );
    }
}
