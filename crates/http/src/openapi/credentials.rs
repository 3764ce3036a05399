//! What a request must carry, by the names and in the places that are configured.

use doorward_core::{CsrfKind, Delivery};
use serde_json::{Map, Value, json};

use super::is_protected;
use crate::routes::{Endpoint, Route};
use crate::settings::{DoubleSubmit, Location, Settings};

/// Any one of them; an empty one where the body may hold the credential instead.
pub(super) fn security(endpoint: Endpoint, settings: &Settings) -> Value {
    let schemes: &[&str] = match endpoint {
        Endpoint::Refresh => &["refresh_cookie", ""],
        Endpoint::Logout => &["refresh_cookie", "access_cookie", "bearer", "query", ""],
        Endpoint::Reauthenticate | Endpoint::ChangePassword => {
            &["bearer", "query", "access_cookie", "json"]
        }
        _ if is_protected(endpoint) => &["bearer", "query", "access_cookie"],
        _ => &[],
    };
    let locations = settings.locations();
    let allowed = |scheme: &&&str| match **scheme {
        "" => true,
        "bearer" => locations.contains(&Location::Header),
        "query" => locations.contains(&Location::QueryString),
        "json" => locations.contains(&Location::Json),
        "access_cookie" => locations.contains(&Location::Cookie),
        _ => settings.allows(Delivery::Cookie),
    };
    let requirement = |scheme: &&str| match *scheme {
        "" | "json" => json!({}),
        scheme => json!({ scheme: [] }),
    };
    schemes.iter().filter(allowed).map(requirement).collect()
}

pub(super) fn security_schemes(settings: &Settings) -> Value {
    let mut schemes = Map::new();
    let mut key = |scheme: &str, place: &str, name: &str| {
        let key = json!({ "type": "apiKey", "in": place, "name": name });
        schemes.insert(scheme.into(), key);
    };
    let locations = settings.locations();
    if locations.contains(&Location::QueryString) {
        key("query", "query", &settings.query_name);
    }
    if locations.contains(&Location::Cookie) {
        key("access_cookie", "cookie", &settings.access_name());
    }
    if settings.allows(Delivery::Cookie) {
        key("refresh_cookie", "cookie", &settings.refresh_name());
    }
    if locations.contains(&Location::Header) {
        schemes.insert("bearer".into(), header_scheme(settings));
    }
    schemes.into()
}

/// Only `Authorization` with a scheme is what OpenAPI calls one.
fn header_scheme(settings: &Settings) -> Value {
    let (name, scheme) = (&settings.header_name, &settings.header_type);
    if name.eq_ignore_ascii_case("authorization") && !scheme.is_empty() {
        let scheme = scheme.to_ascii_lowercase();
        return json!({ "type": "http", "scheme": scheme, "bearerFormat": "JWT" });
    }
    let before = format!("{scheme} ");
    let about = format!("{}the access token", before.trim_start());
    json!({ "type": "apiKey", "in": "header", "name": name, "description": about })
}

/// The headers of the double submit that an operation may ask for.
pub(super) fn submitted(route: &Route, settings: &Settings) -> Vec<Value> {
    let double_submit = settings.double_submit.as_ref();
    let Some(double_submit) = double_submit.filter(|own| asks(own, route)) else {
        return Vec::new();
    };
    let kinds: &[CsrfKind] = match route.endpoint {
        Endpoint::Refresh => &[CsrfKind::Refresh],
        Endpoint::Logout => &[CsrfKind::Refresh, CsrfKind::Access],
        _ => &[CsrfKind::Access],
    };
    let names = kinds
        .iter()
        .map(|kind| &double_submit.names(*kind).header_name);
    let mut names: Vec<_> = names.collect();
    names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    let about = "with a token in a cookie: the value that belongs to it";
    let parameter = |name| {
        json!({ "name": name, "in": "header", "required": false, "schema": { "type": "string" },
            "description": about })
    };
    names.into_iter().map(parameter).collect()
}

/// Whether a credential may come by cookie, and the method asks for more then. Proxies ask for
/// requests of any method.
pub(super) fn asks(double_submit: &DoubleSubmit, route: &Route) -> bool {
    let endpoint = route.endpoint;
    let credential =
        is_protected(endpoint) || matches!(endpoint, Endpoint::Refresh | Endpoint::Logout);
    let method = double_submit.applies(route.method.as_str());
    credential && (method || endpoint == Endpoint::Verify)
}
