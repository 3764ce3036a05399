//! Which other origins' pages may read answers (Fetch Standard). Exactly matched, never reflected.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::settings::Settings;

/// The request's origin, if it is an allowed one.
pub(crate) fn allowed(origin: Option<&HeaderValue>, settings: &Settings) -> Option<HeaderValue> {
    let origin = origin?;
    settings
        .allowed_origins
        .iter()
        .any(|allowed| origin == allowed.as_str())
        .then(|| origin.clone())
}

/// The origin that a request names. Two are an attempt to be read in two ways.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

pub(crate) fn apply(headers: &mut HeaderMap, origin: Option<&HeaderValue>, settings: &Settings) {
    if settings.allowed_origins.is_empty() {
        return;
    }
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        let exposed = HeaderValue::from_static("Retry-After, WWW-Authenticate");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The answer to a preflight. Without an allowed origin it allows nothing.
pub(crate) fn preflight(headers: &HeaderMap, settings: &Settings) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let origin = allowed(origin(headers), settings);
    let answer = response.headers_mut();
    if origin.is_some() {
        let methods = HeaderValue::from_static("GET, POST, DELETE");
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        if let Ok(allowed) = HeaderValue::try_from(allowed_headers(settings)) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    apply(answer, origin.as_ref(), settings);
    response
}

fn allowed_headers(settings: &Settings) -> String {
    let mut names = vec![
        settings.header_name.to_ascii_lowercase(),
        "content-type".into(),
    ];
    let csrf = settings.double_submit.iter();
    for own in csrf.flat_map(|csrf| [&csrf.access, &csrf.refresh]) {
        let name = own.header_name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}
