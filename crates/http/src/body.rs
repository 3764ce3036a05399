//! JSON in: strict, small, and of one reading only.

use bytes::Bytes;
use doorward_core::Delivery;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The largest body, in bytes. Hosts stop reading there.
pub(crate) const MAX_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: String,
    #[serde(default)]
    pub(crate) remember: bool,
    pub(crate) device: Option<String>,
    #[serde(default, deserialize_with = "delivery")]
    pub(crate) delivery: Option<Delivery>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    pub(crate) refresh_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reauthenticate {
    pub(crate) password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    pub(crate) current: String,
    pub(crate) new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    pub(crate) username: String,
    pub(crate) password: String,
}

fn delivery<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Delivery>, D::Error> {
    match Option::<String>::deserialize(input)?.as_deref() {
        None => Ok(None),
        Some("cookie") => Ok(Some(Delivery::Cookie)),
        Some("body") => Ok(Some(Delivery::Body)),
        Some(_) => Err(serde::de::Error::custom("delivery")),
    }
}

/// What is said of a body that is not as documented.
pub(crate) const FORM: &str = "the body must be a JSON object with the documented fields only";

/// The body as `T`.
pub(crate) fn json<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, Problem> {
    check(request)?;
    // A derived `Deserialize` takes an array of the fields' values too.
    if !request.body().trim_ascii_start().starts_with(b"{") {
        return Err(Problem::BadRequest(FORM));
    }
    serde_json::from_slice(request.body()).map_err(|_| Problem::BadRequest(FORM))
}

/// As [`json`]; an empty body is an empty object.
pub(crate) fn json_or_empty<T: DeserializeOwned + Default>(
    request: &Request<Bytes>,
) -> Result<T, Problem> {
    if request.body().is_empty() {
        Ok(T::default())
    } else {
        json(request)
    }
}

fn check(request: &Request<Bytes>) -> Result<(), Problem> {
    if request.body().len() > MAX_BYTES {
        return Err(Problem::PayloadTooLarge);
    }
    if request.body().is_empty() || is_json(request.headers()) {
        Ok(())
    } else {
        Err(Problem::UnsupportedMediaType)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return false;
    };
    let media_type = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes<T: DeserializeOwned>(body: &'static str) -> bool {
        let request = Request::post("/x").header(CONTENT_TYPE, "application/json");
        let request = request.body(Bytes::from_static(body.as_bytes()));
        json::<T>(&request.unwrap()).is_ok()
    }

    #[test]
    fn only_an_object_is_an_object() {
        assert!(takes::<Login>(r#" {"username": "ada", "password": "pw"}"#));
        assert!(!takes::<Login>(r#"["ada", "pw", false, null, null]"#));
        assert!(takes::<Refresh>("\r\n\t{}") && !takes::<Refresh>(r#"["dwr_x"]"#));
        assert!(!takes::<Refresh>("[null]") && !takes::<Refresh>("null"));
        assert!(!takes::<Register>(r#"["ada", "pw"]"#));
        assert!(!takes::<ChangePassword>(r#"["old", "new"]"#));
        assert!(!takes::<Reauthenticate>(r#"["pw"]"#));
    }
}
