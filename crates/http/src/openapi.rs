//! The description of the API (OpenAPI 3.1), made from [`ROUTES`]: each operation lists exactly its
//! own codes, worded by [`Problem`] itself. A test holds it against the recorded exchanges.

mod credentials;

use std::collections::BTreeMap;
use std::time::Duration;

use doorward_core::{Delivery, EndReason, Error, EventName};
use http::Method;
use serde_json::{Map, Value, json};

use crate::body;
use crate::problem::Problem;
use crate::routes::{Endpoint, MAX_AGE, PAGES, QUERY, ROUTES, Route, STRICT};
use crate::settings::{Location, Settings};

use self::credentials::{asks, security, security_schemes, submitted};

/// The API's version, not the package's: which release runs is nobody's business.
const API_VERSION: &str = "1";

/// The description of the API as `settings` mount it.
#[must_use]
pub fn describe(settings: &Settings) -> Value {
    let mut paths = Map::new();
    let described = |route: &&Route| {
        route.endpoint.is_mounted(settings) && route.endpoint != Endpoint::DocsAsset
    };
    for route in ROUTES.iter().filter(described) {
        let method = route.method.as_str().to_lowercase();
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation(route, settings);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Doorward",
            "version": API_VERSION,
            "description": "User sessions: login, short-lived access tokens, rotating refresh tokens, logout. \
                A request that takes too long is answered 400 or 503 on any path.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": settings.url_prefix }],
        "paths": paths,
        "components": { "schemas": schemas(settings), "securitySchemes": security_schemes(settings) }
    })
}

fn operation(route: &Route, settings: &Settings) -> Value {
    let told = told(route.endpoint);
    let mut operation = json!({
        "operationId": operation_id(route, &told),
        "summary": told.summary,
        "responses": responses(route, &told, settings),
        "security": security(route.endpoint, settings),
    });
    if let Some((schema, required, examples)) = told.body {
        let takes_both = settings.locations().contains(&Location::Json);
        let schema = match route.endpoint {
            Endpoint::Logout if takes_both => "Logout",
            _ => schema,
        };
        let media = json!({
            "schema": { "$ref": format!("#/components/schemas/{schema}") },
            "examples": named(examples(settings)),
        });
        operation["requestBody"] =
            json!({ "required": required, "content": { "application/json": media } });
    }
    let mut parameters = parameters(route.endpoint);
    parameters.extend(submitted(route, settings));
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn operation_id(route: &Route, told: &Told) -> String {
    let is_second = route.path == "/refresh/logout";
    let suffix = if is_second { "_by_refresh_cookie" } else { "" };
    format!("{}{suffix}", told.name)
}

/// Examples by name.
type Examples = Vec<(&'static str, Value)>;

fn named(examples: Examples) -> Value {
    let examples = examples.into_iter();
    let examples: Map<_, _> = examples
        .map(|(name, value)| (name.to_owned(), json!({ "value": value })))
        .collect();
    examples.into()
}

/// Its schema, whether there must be one, examples.
type Body = (&'static str, bool, fn(&Settings) -> Examples);

/// What an operation is, in a line of the table below.
struct Told {
    name: &'static str,
    summary: &'static str,
    body: Option<Body>,
    /// Status, schema.
    success: (u16, Option<&'static str>),
}

fn told(endpoint: Endpoint) -> Told {
    let told = |name, summary, success| Told {
        name,
        summary,
        body: None,
        success,
    };
    let asks = |name, summary, body: Body, success| Told {
        body: Some(body),
        ..told(name, summary, success)
    };
    let granted = (200, Some("Granted"));
    match endpoint {
        Endpoint::Login => {
            let body: Body = ("Login", true, logins);
            asks("login", "Opens a session", body, granted)
        }
        Endpoint::Refresh => {
            let summary = "New access token, rotated refresh token";
            asks("refresh", summary, ("Refresh", false, refreshes), granted)
        }
        Endpoint::Logout => {
            let summary = "Ends this session; idempotent";
            asks(
                "logout",
                summary,
                ("Refresh", false, refreshes),
                (204, None),
            )
        }
        Endpoint::Session => {
            let summary = "Who am I, until when, how fresh";
            told("session", summary, (200, Some("Current")))
        }
        Endpoint::Sessions => told("sessions", "My sessions", (200, Some("Sessions"))),
        Endpoint::EndSession => told("end_session", "Ends one of my sessions", (204, None)),
        Endpoint::EndSessions => told("end_sessions", "Ends all my sessions", (200, Some("Ended"))),
        Endpoint::Events => {
            let summary = "What happened to me, the last first";
            told("events", summary, (200, Some("Events")))
        }
        Endpoint::Reauthenticate => {
            let summary = "The session is fresh again, new access token";
            let body: Body = ("Reauthenticate", true, passwords);
            asks("reauthenticate", summary, body, granted)
        }
        Endpoint::ChangePassword => {
            let summary = "Ends all my sessions, opens a new one";
            let body: Body = ("ChangePassword", true, changes);
            asks("change_password", summary, body, granted)
        }
        Endpoint::ResetPassword => {
            let summary = "Sets a new password by the token of a reset; ends all sessions";
            let body: Body = ("ResetPassword", true, resets);
            asks("reset_password", summary, body, (204, None))
        }
        Endpoint::Register => {
            let body: Body = ("Register", true, registrations);
            asks(
                "register",
                "Makes an account",
                body,
                (201, Some("Registered")),
            )
        }
        Endpoint::Jwks => {
            let summary = "Public keys (RFC 7517); none for HS256";
            told("jwks", summary, (200, Some("Jwks")))
        }
        Endpoint::OpenApi => told("openapi", "This description", (200, Some("Description"))),
        Endpoint::Docs | Endpoint::DocsAsset => {
            told("docs", "A page to read and try it", (200, None))
        }
        Endpoint::Verify => {
            let summary = "For proxies: is this the request of a session? X-Original-Method or \
                X-Forwarded-Method tells its method";
            told("verify", summary, (200, None))
        }
    }
}

const PASSWORD: &str = "correct horse battery staple";

fn logins(settings: &Settings) -> Examples {
    let login = |delivery| json!({ "username": "ada", "password": PASSWORD, "delivery": delivery });
    let remembered = json!({
        "username": "ada", "password": PASSWORD, "remember": true, "device": "Ada's telephone"
    });
    let mut examples = vec![("remembered", remembered)];
    if settings.allows(Delivery::Cookie) {
        examples.push(("cookie", login("cookie")));
    }
    if settings.allows(Delivery::Body) {
        examples.push(("body", login("body")));
    }
    examples
}

fn refreshes(settings: &Settings) -> Examples {
    let mut examples = Vec::new();
    if settings.allows(Delivery::Cookie) {
        examples.push(("cookie", json!({})));
    }
    if settings.allows(Delivery::Body) {
        let body = json!({ &settings.refresh_json_key: "the last refresh token" });
        examples.push(("body", body));
    }
    examples
}

fn passwords(_: &Settings) -> Examples {
    vec![("again", json!({ "password": PASSWORD }))]
}

fn changes(_: &Settings) -> Examples {
    let change = json!({ "current": PASSWORD, "new": "a much better passphrase" });
    vec![("change", change)]
}

fn resets(_: &Settings) -> Examples {
    let reset = json!({ "token": "dwp_ and what follows", "new": "a much better passphrase" });
    vec![("reset", reset)]
}

fn registrations(_: &Settings) -> Examples {
    let account = json!({ "username": "eve", "password": PASSWORD });
    vec![("account", account)]
}

fn parameters(endpoint: Endpoint) -> Vec<Value> {
    match endpoint {
        Endpoint::EndSession => vec![json!({
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" }, "example": ID
        })],
        Endpoint::EndSessions => vec![json!({
            "name": "except", "in": "query", "required": false,
            "schema": { "type": "string", "enum": ["current"] },
            "description": "current: this session goes on"
        })],
        Endpoint::Events => vec![
            json!({ "name": "before", "in": "query", "required": false,
                "schema": { "type": "string", "pattern": "^[0-9a-f]{1,16}$" },
                "description": "next of the page before" }),
            json!({ "name": "limit", "in": "query", "required": false,
                "schema": { "type": "integer", "minimum": 1, "maximum": 100, "default": 50 } }),
        ],
        Endpoint::Verify => {
            let method = |name| {
                json!({ "name": name, "in": "header", "required": false, "schema": { "type": "string" },
                    "example": "GET" })
            };
            let max_age = json!({ "name": "max_age", "in": "query", "required": false,
                "schema": { "type": "integer", "minimum": 0 },
                "description": "the password was checked at most so many seconds ago" });
            let strict = json!({ "name": "strict", "in": "query", "required": false,
                "schema": { "type": "integer", "enum": [1] },
                "description": "1: the store is asked too whether the session is over" });
            vec![
                method("X-Original-Method"),
                method("X-Forwarded-Method"),
                max_age,
                strict,
            ]
        }
        _ => Vec::new(),
    }
}

// ---- answers ----

fn responses(route: &Route, told: &Told, settings: &Settings) -> Value {
    let mut responses = Map::new();
    responses.insert(
        told.success.0.to_string(),
        success(route.endpoint, told, settings),
    );
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for problem in problems(route, settings) {
        by_status.entry(problem.status()).or_default().push(problem);
    }
    for (status, problems) in by_status {
        responses.insert(status.to_string(), refusal(status, &problems, settings));
    }
    responses.into()
}

fn success(endpoint: Endpoint, told: &Told, settings: &Settings) -> Value {
    let mut success = json!({ "description": told.summary });
    if endpoint == Endpoint::Docs {
        success["content"] = json!({ "text/html": { "schema": { "type": "string" } } });
    }
    if let Some(schema) = told.success.1 {
        success["content"] = json!({ "application/json": {
            "schema": { "$ref": format!("#/components/schemas/{schema}") },
            "examples": named(answers(endpoint, settings)),
        } });
    }
    if let Some(headers) = success_headers(endpoint, settings) {
        success["headers"] = headers;
    }
    success
}

fn success_headers(endpoint: Endpoint, settings: &Settings) -> Option<Value> {
    let text = |about| json!({ "schema": { "type": "string" }, "description": about });
    let cookies = match endpoint {
        Endpoint::Verify => {
            let told = |about| json!({ "schema": { "type": "string" }, "required": true, "description": about });
            return Some(json!({
                "Doorward-User": told("id of the user"), "Doorward-Session": told("id of the session")
            }));
        }
        Endpoint::Login | Endpoint::Refresh | Endpoint::ChangePassword => {
            "both cookies, in cookie delivery; after a login that of the device too"
        }
        Endpoint::Reauthenticate => "the access cookie, in cookie delivery",
        Endpoint::Logout => {
            "clears both cookies, unless a token in the body or a bearer token counted"
        }
        Endpoint::EndSession | Endpoint::EndSessions => {
            "clears both cookies if this session ended and came by cookie"
        }
        _ => return None,
    };
    settings
        .allows(Delivery::Cookie)
        .then(|| json!({ "Set-Cookie": text(cookies) }))
}

/// Every way in which an operation is refused, as the API itself words it.
#[must_use]
pub fn problems(route: &Route, settings: &Settings) -> Vec<Problem> {
    let endpoint = route.endpoint;
    let retry_after = Duration::from_secs(1);
    let mut problems: Vec<Problem> = Vec::new();
    if told(endpoint).body.is_some() {
        problems.push(Problem::BadRequest(body::FORM));
        problems.extend([Problem::PayloadTooLarge, Problem::UnsupportedMediaType]);
    }
    if is_protected(endpoint) {
        problems.extend([Error::TokenMissing, Error::TokenInvalid].map(Problem::from));
        let ended = Error::SessionEnded(EndReason::Logout);
        problems.extend([Error::TokenExpired, ended].map(Problem::from));
    }
    let submits = settings.double_submit.as_ref();
    let submits = submits.is_some_and(|own| asks(own, route));
    if route.method != Method::GET || endpoint == Endpoint::Verify || submits {
        problems.push(Problem::CsrfFailed);
    }
    problems.extend(own_problems(endpoint));
    if hashes(endpoint) {
        // A token cannot be guessed, and costs a hash only if it is one: resets have no budget.
        if endpoint != Endpoint::ResetPassword {
            problems.push(Error::TooManyAttempts { retry_after }.into());
        }
        problems.push(Error::Overloaded { retry_after }.into());
    }
    if !endpoint.is_public() {
        problems.push(Error::StoreUnavailable.into());
    }
    problems
}

fn is_protected(endpoint: Endpoint) -> bool {
    let open = matches!(
        endpoint,
        Endpoint::Login
            | Endpoint::Refresh
            | Endpoint::Logout
            | Endpoint::Register
            | Endpoint::ResetPassword
    );
    !open && !endpoint.is_public()
}

fn hashes(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::Login
            | Endpoint::Reauthenticate
            | Endpoint::ChangePassword
            | Endpoint::ResetPassword
            | Endpoint::Register
    )
}

fn own_problems(endpoint: Endpoint) -> Vec<Problem> {
    let weak = || {
        Problem::from(Error::PasswordTooWeak(
            "mostly common words, repetitions or rows of keys, which are guessed first",
        ))
    };
    let stale = || Problem::from(Error::FreshLoginRequired);
    match endpoint {
        Endpoint::Login => {
            let refused = [Error::InvalidCredentials, Error::SessionLimitReached];
            refused.map(Problem::from).into()
        }
        Endpoint::Refresh => {
            let ended = Error::SessionEnded(EndReason::Logout);
            let token = [
                Error::TokenMissing,
                Error::TokenInvalid,
                ended,
                Error::RefreshReused,
            ];
            token.map(Problem::from).into()
        }
        Endpoint::EndSession => vec![Error::NotFound.into(), stale()],
        Endpoint::EndSessions => vec![Problem::BadRequest(QUERY), stale()],
        Endpoint::Events => vec![Problem::BadRequest(PAGES)],
        Endpoint::Verify => vec![
            Problem::BadRequest(MAX_AGE),
            Problem::BadRequest(STRICT),
            stale(),
        ],
        Endpoint::ResetPassword => vec![Error::ResetTokenInvalid.into(), weak()],
        Endpoint::Reauthenticate => vec![Problem::PasswordRefused],
        Endpoint::ChangePassword => vec![Problem::PasswordRefused, weak(), stale()],
        Endpoint::Register => vec![Error::UsernameTaken.into(), weak()],
        _ => Vec::new(),
    }
}

/// One response: its codes, each with the document that carries it.
fn refusal(status: u16, problems: &[Problem], settings: &Settings) -> Value {
    let codes: Vec<_> = problems.iter().map(Problem::code).collect();
    let examples = problems.iter().map(|problem| {
        let document = serde_json::to_value(problem.document(&settings.message_key));
        (problem.code(), document.unwrap_or_default())
    });
    let schema = json!({ "allOf": [
        { "$ref": "#/components/schemas/Problem" },
        { "properties": { "code": { "enum": codes }, "status": { "const": status } } }
    ] });
    json!({
        "description": codes.join(", "),
        "headers": headers(status, settings.scheme()),
        "content": { "application/problem+json": {
            "schema": schema, "examples": named(examples.collect())
        } }
    })
}

fn headers(status: u16, scheme: &str) -> Value {
    match status {
        401 => json!({ "WWW-Authenticate": { "schema": { "type": "string" }, "required": true,
            "example": scheme } }),
        429 | 503 => json!({ "Retry-After": { "schema": { "type": "integer", "minimum": 1 },
            "required": true, "description": "seconds" } }),
        _ => json!({}),
    }
}

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const NOW: &str = "2026-01-01T12:00:00Z";

fn answers(endpoint: Endpoint, settings: &Settings) -> Examples {
    match endpoint {
        Endpoint::Session => vec![(
            "session",
            json!({
                "user": { "id": ID }, "session": session(),
                "access_expires_at": "2026-01-01T12:15:00Z", "server_time": NOW
            }),
        )],
        Endpoint::Sessions => vec![(
            "sessions",
            json!({ "sessions": [{
            "id": ID, "created_at": NOW, "last_used_at": NOW, "expires_at": "2026-01-31T12:00:00Z",
            "device": "Ada's telephone", "address": "192.0.2.7", "agent": null, "current": true
        }] }),
        )],
        Endpoint::Events => vec![(
            "events",
            json!({ "events": [{
                "at": NOW, "event": "session_ended", "session": ID, "current": true,
                "device": "Ada's telephone", "agent": null, "network": "192.0.2.0/24",
                "reason": "logout"
            }], "next": "3f" }),
        )],
        Endpoint::EndSessions => vec![("ended", json!({ "ended": 2 }))],
        Endpoint::Register => vec![(
            "account",
            json!({ "user": { "id": ID, "username": "eve" } }),
        )],
        Endpoint::Jwks => vec![(
            "ed25519",
            json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "1",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        }] }),
        )],
        Endpoint::OpenApi => vec![("description", json!({ "openapi": "3.1.0" }))],
        _ => granted(endpoint, settings),
    }
}

fn session() -> Value {
    json!({ "id": ID, "created_at": NOW, "expires_at": "2026-01-31T12:00:00Z",
        "fresh_until": "2026-01-01T12:10:00Z" })
}

fn granted(endpoint: Endpoint, settings: &Settings) -> Examples {
    let mut user = json!({ "id": ID });
    if matches!(endpoint, Endpoint::Login | Endpoint::ChangePassword) {
        user["username"] = "ada".into();
    }
    let cookie = json!({
        "user": user, "session": session(), "access_expires_at": "2026-01-01T12:15:00Z",
        "refresh_expires_at": "2026-01-31T12:00:00Z", "server_time": NOW
    });
    let mut body = cookie.clone();
    body["access_token"] = "the access token, a JWT".into();
    if endpoint != Endpoint::Reauthenticate {
        body["refresh_token"] = "the next refresh token".into();
    }
    if endpoint == Endpoint::Login && settings.throttle.is_some() {
        body["device_token"] = "by which the device is known at its next login".into();
    }
    body["token_type"] = settings.scheme().into();
    body["expires_in"] = 900.into();
    let both = [
        ("cookie", Delivery::Cookie, cookie),
        ("body", Delivery::Body, body),
    ];
    let allowed = both
        .into_iter()
        .filter(|(_, delivery, _)| settings.allows(*delivery));
    allowed.map(|(name, _, value)| (name, value)).collect()
}

// ---- schemas ----

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The access token in a body, where one is looked for there.
fn with_token(mut properties: Value, settings: &Settings) -> Value {
    if settings.locations().contains(&Location::Json) {
        properties[&settings.json_key] = json!({ "type": ["string", "null"] });
    }
    properties
}

fn granted_schema(settings: &Settings) -> Value {
    let (text, time) = (json!({ "type": "string" }), time());
    let mut properties = json!({
        "user": { "$ref": "#/components/schemas/User" },
        "session": { "$ref": "#/components/schemas/Session" },
        "access_expires_at": time, "refresh_expires_at": time,
        "server_time": time, "access_token": text, "refresh_token": text, "device_token": text,
        "token_type": { "const": settings.scheme() },
        "expires_in": { "type": "integer", "description": "seconds" }
    });
    let double_submit = settings.double_submit.as_ref();
    if double_submit.is_some_and(|own| !own.in_cookies) {
        properties["csrf"] = object(&json!({ "access": text, "refresh": text }), &["access"]);
    }
    let required = [
        "user",
        "session",
        "access_expires_at",
        "refresh_expires_at",
        "server_time",
    ];
    object(&properties, &required)
}

fn problem_schema(settings: &Settings) -> Value {
    let text = json!({ "type": "string" });
    let reasons = EndReason::ALL.iter().map(|reason| reason.name());
    let codes = Problem::CODES.iter().map(|(code, _)| *code);
    let message = settings.message_key.as_str();
    let properties = json!({
        "type": text, "title": text, "status": { "type": "integer" }, "detail": text,
        "code": { "type": "string", "enum": codes.collect::<Vec<_>>() }, message: text,
        "reason": { "type": "string", "enum": reasons.collect::<Vec<_>>() }
    });
    let required = ["type", "title", "status", "detail", "code", message];
    object(&properties, &required)
}

fn event_schema() -> Value {
    let maybe = json!({ "type": ["string", "null"] });
    let names = EventName::ALL.iter().map(|name| name.as_str());
    let properties = json!({
        "at": time(), "event": { "type": "string", "enum": names.collect::<Vec<_>>() },
        "session": maybe, "current": { "const": true },
        "device": maybe, "agent": maybe, "network": maybe,
        "reason": { "type": "string" },
        "count": { "type": "integer", "description": "how often, where it is not once" }
    });
    let required = ["at", "event", "session", "device", "agent", "network"];
    object(&properties, &required)
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time", "examples": ["2026-01-01T12:00:00Z"] })
}

fn schemas(settings: &Settings) -> Value {
    let mut schemas = fixed_schemas(settings);
    if settings.locations().contains(&Location::Json) {
        let tokens = with_token(refresh_token(settings), settings);
        schemas["Logout"] = object(&tokens, &[]);
    }
    schemas
}

fn refresh_token(settings: &Settings) -> Value {
    json!({ &settings.refresh_json_key: { "type": ["string", "null"] } })
}

fn fixed_schemas(settings: &Settings) -> Value {
    let text = json!({ "type": "string" });
    let time = time();
    let name = json!({ "type": "string", "minLength": 1, "maxLength": 128, "examples": ["ada"] });
    let password =
        json!({ "type": "string", "format": "password", "minLength": 1, "maxLength": 1024 });
    let maybe = json!({ "type": ["string", "null"] });
    let session = json!({ "$ref": "#/components/schemas/Session" });
    let user = json!({ "$ref": "#/components/schemas/User" });
    let again = json!({ "password": password });
    let change = json!({ "current": password, "new": password });
    json!({
        "Login": object(&json!({
            "username": name, "password": password, "remember": { "type": "boolean" },
            "device": { "type": ["string", "null"], "minLength": 1, "maxLength": 100 },
            "device_token": maybe,
            "delivery": { "type": ["string", "null"], "enum": ["cookie", "body", null] }
        }), &["username", "password"]),
        "Refresh": object(&refresh_token(settings), &[]),
        "Reauthenticate": object(&with_token(again, settings), &["password"]),
        "ChangePassword": object(&with_token(change, settings), &["current", "new"]),
        "ResetPassword": object(&json!({ "token": text, "new": password }), &["token", "new"]),
        "Register": object(&json!({ "username": name, "password": password }), &["username", "password"]),
        "User": object(&json!({ "id": text, "username": text }), &["id"]),
        "Session": object(&json!({
            "id": text, "created_at": time, "expires_at": time, "fresh_until": time
        }), &["id", "created_at", "expires_at", "fresh_until"]),
        "Granted": granted_schema(settings),
        "Current": object(&json!({
            "user": user, "session": session, "access_expires_at": time, "server_time": time
        }), &["user", "session", "access_expires_at", "server_time"]),
        "Sessions": object(&json!({ "sessions": { "type": "array", "items": object(&json!({
            "id": text, "created_at": time, "last_used_at": time, "expires_at": time,
            "device": maybe, "address": maybe, "agent": maybe, "current": { "type": "boolean" }
        }), &["id", "created_at", "last_used_at", "expires_at", "device", "address", "agent", "current"]) } }), &["sessions"]),
        "Events": object(&json!({
            "events": { "type": "array", "items": event_schema() },
            "next": { "type": "string", "description": "before of the next page, where there is one" }
        }), &["events"]),
        "Ended": object(&json!({ "ended": { "type": "integer" } }), &["ended"]),
        "Registered": object(&json!({ "user": user }), &["user"]),
        "Jwks": object(&json!({ "keys": { "type": "array", "items": { "type": "object" } } }), &["keys"]),
        "Description": { "type": "object" },
        "Problem": problem_schema(settings)
    })
}
