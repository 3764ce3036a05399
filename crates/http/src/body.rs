//! JSON in: strict, small, and of one reading only.

use std::fmt;

use bytes::Bytes;
use doorward_core::Delivery;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use serde::Deserialize;
use serde::de::{DeserializeOwned, MapAccess};
use serde_json::{Map, Value};

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
    pub(crate) device_token: Option<String>,
    #[serde(default, deserialize_with = "delivery")]
    pub(crate) delivery: Option<Delivery>,
}

/// A body that holds tokens only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

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
pub(crate) struct ResetPassword {
    pub(crate) token: String,
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

/// The fields of a body that may hold a token, each of which stands once.
#[derive(Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// An empty body has none.
    pub(crate) fn of(request: &Request<Bytes>) -> Result<Self, Problem> {
        check(request)?;
        if request.body().is_empty() {
            return Ok(Fields::default());
        }
        serde_json::from_slice(request.body()).map_err(|_| Problem::BadRequest(FORM))
    }

    /// Takes a token out of a field; `null` is none.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(token)) => Ok(Some(token)),
            Some(_) => Err(Problem::BadRequest(FORM)),
        }
    }

    /// What is left as `T`.
    pub(crate) fn rest<T: DeserializeOwned>(self) -> Result<T, Problem> {
        serde_json::from_value(self.0.into()).map_err(|_| Problem::BadRequest(FORM))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry()? {
                    if fields.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a field stands twice"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        input.deserialize_map(Visitor)
    }
}

/// The body as `T`.
pub(crate) fn json<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, Problem> {
    Fields::of(request)?.rest()
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
        assert!(takes::<Nothing>("\r\n\t{}") && !takes::<Nothing>(r#"["dwr_x"]"#));
        assert!(!takes::<Nothing>("[null]") && !takes::<Nothing>("null"));
        assert!(!takes::<Nothing>(r#"{"x": 1}"#) && !takes::<Nothing>("{}{}"));
        let twice = r#"{"username": "ada", "username": "bob", "password": "pw"}"#;
        assert!(!takes::<Login>(twice));
        assert!(!takes::<Register>(r#"["ada", "pw"]"#));
        assert!(!takes::<ChangePassword>(r#"["old", "new"]"#));
        assert!(!takes::<Reauthenticate>(r#"["pw"]"#));
    }
}
