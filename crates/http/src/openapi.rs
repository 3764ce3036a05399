//! The description of the API (OpenAPI 3.1), made from [`ROUTES`].

use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::routes::{Endpoint, ROUTES};
use crate::settings::Settings;

/// The description of the API as `settings` mount it.
#[must_use]
pub fn describe(settings: &Settings) -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        if route.endpoint == Endpoint::Register && !settings.register {
            continue;
        }
        if let Some(operation) = operation(route.endpoint, route.path) {
            let method = route.method.as_str().to_lowercase();
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[method] = operation;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Doorward",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "User sessions: login, short-lived access tokens, rotating refresh tokens, logout.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": settings.url_prefix }],
        "paths": paths,
        "components": { "schemas": schemas(), "responses": problems(), "securitySchemes": security(settings) }
    })
}

/// What an operation is, in a line of the table below.
struct Told {
    name: &'static str,
    summary: &'static str,
    body: Option<(&'static str, bool)>,
    success: (u16, Option<&'static str>),
    protected: bool,
    problems: &'static [&'static str],
}

const SESSION: &[&str] = &[
    "token_missing",
    "token_invalid",
    "token_expired",
    "session_ended",
    "store_unavailable",
];

#[expect(clippy::too_many_lines, reason = "a table, a few lines an endpoint")]
fn told(endpoint: Endpoint) -> Option<Told> {
    let told = |name, summary, body, success, protected, problems| {
        Some(Told {
            name,
            summary,
            body,
            success,
            protected,
            problems,
        })
    };
    match endpoint {
        Endpoint::Login => told(
            "login",
            "Opens a session",
            Some(("Login", true)),
            (200, Some("Granted")),
            false,
            &[
                "invalid_credentials",
                "csrf_failed",
                "too_many_attempts",
                "overloaded",
                "store_unavailable",
            ],
        ),
        Endpoint::Refresh => told(
            "refresh",
            "New access token, rotated refresh token",
            Some(("Refresh", false)),
            (200, Some("Granted")),
            false,
            &[
                "token_missing",
                "token_invalid",
                "session_ended",
                "refresh_reused",
                "csrf_failed",
                "store_unavailable",
            ],
        ),
        Endpoint::Logout => told(
            "logout",
            "Ends this session; idempotent",
            Some(("Refresh", false)),
            (204, None),
            false,
            &["csrf_failed", "store_unavailable"],
        ),
        Endpoint::Session => told(
            "session",
            "Who am I, until when, how fresh",
            None,
            (200, Some("Current")),
            true,
            &[],
        ),
        Endpoint::Sessions => told(
            "sessions",
            "My sessions",
            None,
            (200, Some("Sessions")),
            true,
            &[],
        ),
        Endpoint::EndSession => told(
            "end_session",
            "Ends one of my sessions",
            None,
            (204, None),
            true,
            &["not_found"],
        ),
        Endpoint::EndSessions => told(
            "end_sessions",
            "Ends all my sessions",
            None,
            (200, Some("Ended")),
            true,
            &["bad_request"],
        ),
        Endpoint::Reauthenticate => told(
            "reauthenticate",
            "The session is fresh again, new access token",
            Some(("Reauthenticate", true)),
            (200, Some("Granted")),
            true,
            &["invalid_credentials", "too_many_attempts", "overloaded"],
        ),
        Endpoint::ChangePassword => told(
            "change_password",
            "Ends all my sessions, opens a new one",
            Some(("ChangePassword", true)),
            (200, Some("Granted")),
            true,
            &[
                "invalid_credentials",
                "password_too_weak",
                "too_many_attempts",
                "overloaded",
            ],
        ),
        Endpoint::Register => told(
            "register",
            "Makes an account",
            Some(("Register", true)),
            (201, Some("Registered")),
            false,
            &[
                "username_taken",
                "password_too_weak",
                "csrf_failed",
                "too_many_attempts",
                "overloaded",
                "store_unavailable",
            ],
        ),
        Endpoint::Jwks => told(
            "jwks",
            "Public keys (RFC 7517); none for HS256",
            None,
            (200, Some("Jwks")),
            false,
            &[],
        ),
        Endpoint::OpenApi => told(
            "openapi",
            "This description",
            None,
            (200, Some("Description")),
            false,
            &[],
        ),
        Endpoint::Docs => told(
            "docs",
            "A page to read and try it",
            None,
            (200, None),
            false,
            &[],
        ),
        Endpoint::DocsAsset | Endpoint::Verify => None,
    }
}

fn operation(endpoint: Endpoint, path: &str) -> Option<Value> {
    let told = told(endpoint)?;
    let suffix = if path == "/refresh/logout" {
        "_by_refresh_cookie"
    } else {
        ""
    };
    let mut operation = json!({
        "operationId": format!("{}{suffix}", told.name),
        "summary": told.summary,
        "responses": responses(endpoint, &told),
        "security": if told.protected { json!([{ "bearer": [] }, { "access_cookie": [] }]) } else { json!([]) },
    });
    if let Some((schema, required)) = told.body {
        let media = json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } });
        operation["requestBody"] =
            json!({ "required": required, "content": { "application/json": media } });
    }
    if let Some(parameters) = parameters(endpoint) {
        operation["parameters"] = parameters;
    }
    Some(operation)
}

fn parameters(endpoint: Endpoint) -> Option<Value> {
    match endpoint {
        Endpoint::EndSession => Some(json!([{
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
            "example": "01890a5d-ac96-774b-bcce-b302099a8057"
        }])),
        Endpoint::EndSessions => Some(json!([{
            "name": "except", "in": "query", "required": false,
            "schema": { "type": "string", "enum": ["current"] },
            "description": "current: this session goes on"
        }])),
        _ => None,
    }
}

fn responses(endpoint: Endpoint, told: &Told) -> Value {
    let (status, schema) = told.success;
    let mut success = json!({ "description": told.summary });
    if endpoint == Endpoint::Docs {
        success["content"] = json!({ "text/html": { "schema": { "type": "string" } } });
    }
    if let Some(schema) = schema {
        let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
        success["content"] = json!({ "application/json": { "schema": reference } });
    }
    let mut responses = json!({ status.to_string(): success });
    for status in statuses(endpoint, told) {
        responses[status.to_string()] =
            json!({ "$ref": format!("#/components/responses/{status}") });
    }
    responses
}

fn statuses(endpoint: Endpoint, told: &Told) -> Vec<u16> {
    let status = |code: &&str| {
        Problem::CODES
            .iter()
            .find(|(known, _)| known == code)
            .map(|(_, s)| *s)
    };
    let mut statuses: Vec<u16> = told.problems.iter().filter_map(&status).collect();
    if told.protected {
        statuses.extend(SESSION.iter().filter_map(status));
        statuses.push(403);
    }
    if told.body.is_some() {
        statuses.extend([400, 413, 415]);
    }
    if matches!(
        endpoint,
        Endpoint::Reauthenticate | Endpoint::ChangePassword
    ) {
        statuses.push(403);
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

/// One response a status, with an example of each of its codes.
fn problems() -> Value {
    let mut responses = json!({});
    for (_, status) in Problem::CODES {
        let codes = Problem::CODES
            .iter()
            .filter(|(_, of)| *of == status)
            .map(|(code, _)| *code);
        let forbidden = (status == 403).then_some("invalid_credentials");
        let codes: Vec<_> = codes.chain(forbidden).collect();
        let examples: Map<String, Value> = codes
            .iter()
            .map(|code| {
                (
                    (*code).to_owned(),
                    json!({ "value": example(code, status) }),
                )
            })
            .collect();
        responses[status.to_string()] = json!({
            "description": codes.join(", "),
            "headers": headers(status),
            "content": { "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" }, "examples": examples
            } }
        });
    }
    responses
}

fn headers(status: u16) -> Value {
    let text = json!({ "schema": { "type": "string" } });
    match status {
        401 => json!({ "WWW-Authenticate": text }),
        429 | 503 => {
            json!({ "Retry-After": { "schema": { "type": "integer" }, "description": "seconds" } })
        }
        _ => json!({}),
    }
}

fn example(code: &str, status: u16) -> Value {
    let words = code.replace('_', " ");
    let mut example = json!({
        "type": format!("urn:doorward:problem:{code}"), "title": words, "status": status,
        "detail": words, "code": code, "msg": words
    });
    if code == "session_ended" {
        example["reason"] = "logout".into();
    }
    example
}

fn security(settings: &Settings) -> Value {
    let prefix = if settings.cookie_secure {
        "__Secure-"
    } else {
        ""
    };
    json!({
        "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
        "access_cookie": { "type": "apiKey", "in": "cookie", "name": format!("{prefix}access_token_cookie") }
    })
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let time =
        json!({ "type": "string", "format": "date-time", "examples": ["2026-01-01T12:00:00Z"] });
    let name = json!({ "type": "string", "minLength": 1, "maxLength": 128, "examples": ["ada"] });
    let password =
        json!({ "type": "string", "format": "password", "minLength": 1, "maxLength": 1024 });
    let maybe = json!({ "type": ["string", "null"] });
    let session = json!({ "$ref": "#/components/schemas/Session" });
    let user = json!({ "$ref": "#/components/schemas/User" });
    let reasons: Vec<_> = doorward_core::EndReason::ALL
        .iter()
        .map(|reason| reason.name())
        .collect();
    let codes: Vec<_> = Problem::CODES.iter().map(|(code, _)| *code).collect();
    json!({
        "Login": object(&json!({
            "username": name, "password": password, "remember": { "type": "boolean" },
            "device": { "type": ["string", "null"], "minLength": 1, "maxLength": 100 },
            "delivery": { "type": ["string", "null"], "enum": ["cookie", "body", null] }
        }), &["username", "password"]),
        "Refresh": object(&json!({ "refresh_token": maybe }), &[]),
        "Reauthenticate": object(&json!({ "password": password }), &["password"]),
        "ChangePassword": object(&json!({ "current": password, "new": password }), &["current", "new"]),
        "Register": object(&json!({ "username": name, "password": password }), &["username", "password"]),
        "User": object(&json!({ "id": text, "username": text }), &["id"]),
        "Session": object(&json!({
            "id": text, "created_at": time, "expires_at": time, "fresh_until": time
        }), &["id", "created_at", "expires_at", "fresh_until"]),
        "Granted": object(&json!({
            "user": user, "session": session, "access_expires_at": time, "refresh_expires_at": time,
            "server_time": time, "access_token": text, "refresh_token": text,
            "token_type": { "const": "Bearer" }, "expires_in": { "type": "integer", "description": "seconds" }
        }), &["user", "session", "access_expires_at", "refresh_expires_at", "server_time"]),
        "Current": object(&json!({
            "user": user, "session": session, "access_expires_at": time, "server_time": time
        }), &["user", "session", "access_expires_at", "server_time"]),
        "Sessions": object(&json!({ "sessions": { "type": "array", "items": object(&json!({
            "id": text, "created_at": time, "last_used_at": time, "expires_at": time,
            "device": maybe, "address": maybe, "agent": maybe, "current": { "type": "boolean" }
        }), &["id", "created_at", "last_used_at", "expires_at", "device", "address", "agent", "current"]) } }), &["sessions"]),
        "Ended": object(&json!({ "ended": { "type": "integer" } }), &["ended"]),
        "Registered": object(&json!({ "user": user }), &["user"]),
        "Jwks": object(&json!({ "keys": { "type": "array", "items": { "type": "object" } } }), &["keys"]),
        "Description": { "type": "object" },
        "Problem": object(&json!({
            "type": text, "title": text, "status": { "type": "integer" }, "detail": text,
            "code": { "type": "string", "enum": codes }, "msg": text,
            "reason": { "type": "string", "enum": reasons }
        }), &["type", "title", "status", "detail", "code", "msg"])
    })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn the_description_equals_the_route_table() {
        let settings = Settings {
            register: true,
            ..Settings::default()
        };
        let described = describe(&settings);
        let mut told = Vec::new();
        for (path, methods) in described["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                told.push((method.to_uppercase(), path.clone()));
            }
        }
        let hidden = [Endpoint::DocsAsset, Endpoint::Verify];
        let routes = ROUTES
            .iter()
            .filter(|route| !hidden.contains(&route.endpoint));
        let mut routes: Vec<_> = routes
            .map(|route| (route.method.to_string(), route.path.to_owned()))
            .collect();
        told.sort();
        routes.sort();
        assert_eq!(told, routes);
        assert!(
            ROUTES
                .iter()
                .all(|route| matches!(route.method, Method::GET | Method::POST | Method::DELETE))
        );
    }
}
