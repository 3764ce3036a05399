//! The description against what is: the route table and the recorded exchanges.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod engine;

use std::collections::BTreeSet;
use std::path::Path;

use doorward_http::openapi::describe;
use doorward_http::testing;
use doorward_http::{DoubleSubmit, Endpoint, Location, ROUTES, Settings};
use http::Method;
use serde_json::Value;

use crate::engine::matching;

/// Route, status, code; no code for a success.
type Told = (String, String, String);

/// Not in the exchanges: these come of load and of faults, as tests/faults.rs shows.
const OF_LOAD_AND_FAULTS: [&str; 2] = ["overloaded", "store_unavailable"];

fn everything() -> Settings {
    Settings {
        register: true,
        verify: true,
        ..Settings::default()
    }
}

fn operations(described: &Value) -> Vec<(String, &Value)> {
    let mut operations = Vec::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((format!("{} {path}", method.to_uppercase()), operation));
        }
    }
    operations
}

fn documented() -> BTreeSet<Told> {
    let described = describe(&everything());
    let mut told = BTreeSet::new();
    for (route, operation) in operations(&described) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let problem = &response["content"]["application/problem+json"]["examples"];
            let codes = problem
                .as_object()
                .into_iter()
                .flat_map(|codes| codes.keys());
            let mut codes: Vec<_> = codes.cloned().collect();
            if codes.is_empty() {
                codes.push(String::new());
            }
            told.extend(
                codes
                    .into_iter()
                    .map(|code| (route.clone(), status.clone(), code)),
            );
        }
    }
    told
}

fn recorded() -> BTreeSet<Told> {
    let exchanges = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/exchanges"));
    let mut told = BTreeSet::new();
    for exchange in testing::recordings(exchanges)
        .iter()
        .flat_map(|file| &file.exchanges)
    {
        let (method, path) = &exchange.request;
        let route = matching(method, path);
        let Some(route) = route.filter(|route| route.endpoint != Endpoint::DocsAsset) else {
            continue;
        };
        let body: Value = serde_json::from_str(&exchange.answer_body).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        let route = format!("{} {}", route.method, route.path);
        told.insert((route, exchange.status.to_string(), code));
    }
    told
}

#[test]
fn what_is_recorded_is_described() {
    let missing: Vec<_> = recorded().difference(&documented()).cloned().collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn what_is_described_is_recorded() {
    let documented = documented();
    let recorded = recorded();
    let missing = documented.difference(&recorded);
    let missing = missing.filter(|(_, _, code)| !OF_LOAD_AND_FAULTS.contains(&code.as_str()));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Each way in which a request gives somebody a password, by the fields of its body.
#[test]
fn no_request_sets_a_password_without_the_current_one_or_a_token() {
    let described = describe(&everything());
    let mut setting = BTreeSet::new();
    for (route, operation) in operations(&described) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(name) = schema.as_str().and_then(|path| path.rsplit('/').next()) else {
            continue;
        };
        let schema = &described["components"]["schemas"][name];
        let fields = schema["properties"].as_object().unwrap().keys();
        let fields: BTreeSet<_> = fields.map(String::as_str).collect();
        assert_eq!(schema["additionalProperties"], false, "{route}");
        // `password` is one that is checked, but where a name gets its first one.
        if fields.contains("new") || route == "POST /register" {
            setting.insert((route, schema["required"].to_string()));
        }
    }
    let known = [
        ("POST /password", r#"["current","new"]"#),
        ("POST /password/reset", r#"["token","new"]"#),
        ("POST /register", r#"["username","password"]"#),
    ];
    let known = known.map(|(route, fields)| (route.to_owned(), fields.to_owned()));
    assert_eq!(setting, BTreeSet::from(known));
    let told = ROUTES.iter().map(|route| route.endpoint);
    let asking = told.filter(|endpoint| {
        !matches!(
            endpoint,
            Endpoint::Jwks | Endpoint::OpenApi | Endpoint::Docs | Endpoint::DocsAsset
        )
    });
    // Whoever adds an endpoint looks here, and at what it may do to a password.
    assert_eq!(asking.count(), 14);
}

#[test]
fn the_description_equals_the_route_table_as_it_is_mounted() {
    let bare = Settings {
        change_password: false,
        ..Settings::default()
    };
    let undescribed = Settings {
        docs: false,
        ..Settings::default()
    };
    for settings in [everything(), bare, undescribed] {
        let described = describe(&settings);
        let told: BTreeSet<_> = operations(&described)
            .into_iter()
            .map(|(route, _)| route)
            .collect();
        let routes = ROUTES.iter().filter(|route| {
            route.endpoint.is_mounted(&settings) && route.endpoint != Endpoint::DocsAsset
        });
        let routes = routes
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        assert_eq!(told, routes);
    }
}

#[test]
fn without_docs_nothing_of_the_description_is_mounted() {
    let settings = Settings {
        docs: false,
        ..everything()
    };
    for route in &ROUTES {
        let describes = ["/openapi.json", "/docs", "/docs/{asset}"].contains(&route.path);
        let mounted = route.endpoint.is_mounted(&settings);
        assert_eq!(mounted, !describes, "{}", route.path);
    }
}

#[test]
fn the_description_tells_no_release() {
    let described = describe(&everything());
    assert_eq!(described["info"]["version"], "1");
    assert!(!described.to_string().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn examples_are_words_of_the_api_itself() {
    let text = describe(&everything()).to_string();
    assert!(text.contains("the access token has expired; refresh it"));
    assert!(text.contains(r#""reason":"logout""#));
}

#[test]
fn the_description_has_the_configured_names_and_places() {
    let settings = Settings {
        locations: Some(vec![
            Location::Cookie,
            Location::Header,
            Location::QueryString,
            Location::Json,
        ]),
        access_cookie_name: Some("shop".into()),
        header_name: "X-Token".into(),
        query_name: "token".into(),
        json_key: "own_access".into(),
        refresh_json_key: "own_refresh".into(),
        message_key: "message".into(),
        double_submit: Some(DoubleSubmit {
            in_cookies: false,
            methods: vec![Method::POST, Method::GET],
            ..DoubleSubmit::default()
        }),
        ..everything()
    };
    let described = describe(&settings);
    let schemes = &described["components"]["securitySchemes"];
    let name = |scheme: &str| schemes[scheme]["name"].as_str().unwrap();
    assert_eq!(name("access_cookie"), "shop");
    assert_eq!(name("refresh_cookie"), "__Secure-refresh_token_cookie");
    assert_eq!((name("bearer"), name("query")), ("X-Token", "token"));
    let bodies = &described["components"]["schemas"];
    let has = |schema: &str, field: &str| bodies[schema]["properties"].get(field).is_some();
    assert!(has("Refresh", "own_refresh") && !has("Refresh", "own_access"));
    assert!(has("Logout", "own_refresh") && has("Logout", "own_access"));
    assert!(has("Reauthenticate", "own_access") && has("Granted", "csrf"));
    assert!(has("Problem", "message") && !has("Problem", "msg"));
    let submits = |path: &str, method: &str| {
        let operation = &described["paths"][path][method];
        let parameters = operation["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "X-CSRF-TOKEN"))
    };
    assert!(submits("/refresh", "post") && submits("/session", "get"));
    assert!(submits("/logout", "post") && submits("/verify", "get"));
    assert!(!submits("/login", "post") && !submits("/sessions", "delete"));
    let refused = &described["paths"]["/session"]["get"]["responses"]["403"];
    assert!(refused.to_string().contains("csrf_failed"));
}
