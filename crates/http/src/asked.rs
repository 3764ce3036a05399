//! A request as far as a guard reads it: of a host's own types, or of a few strings.

use std::fmt;

use http::request::Parts;
use http::{HeaderMap, Request};

/// What a guard is asked about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The query string, without its question mark.
    pub query: Option<&'a str>,
    /// Host and port of the request's target, where it says so itself (HTTP/2), for want of a
    /// `Host`.
    pub authority: Option<&'a str>,
    /// The headers.
    pub headers: Headers<'a>,
    /// What only the host can read.
    pub body: InBody<'a>,
}

/// The headers of a request: all, or at least those that [`crate::Api::reads`] names.
#[derive(Clone, Copy)]
pub enum Headers<'a> {
    /// As the `http` crate has them.
    Map(&'a HeaderMap),
    /// Names in any case, and values; a header of several lines is there several times.
    Pairs(&'a [(&'a str, &'a [u8])]),
}

/// What the body of a host's own request says. The host reads it where the settings ask for it; an
/// API's own requests are read by the API.
#[derive(Clone, Copy, Default)]
pub struct InBody<'a> {
    /// The access token, by [`crate::Settings::json_key`] of a JSON object. Only of a body whose
    /// type is `application/json`: any page can send others.
    pub token: Option<&'a str>,
    /// What a form has in the field that [`crate::settings::CsrfNames::field_name`] names.
    pub csrf: Option<&'a str>,
}

impl fmt::Debug for Asked<'_> {
    /// A token may be anywhere else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Asked");
        shown.field("method", &self.method).finish_non_exhaustive()
    }
}

impl<'a> Asked<'a> {
    /// By the head of a request.
    #[must_use]
    pub fn of(parts: &'a Parts) -> Self {
        Asked {
            method: parts.method.as_str(),
            query: parts.uri.query(),
            authority: parts.uri.authority().map(http::uri::Authority::as_str),
            headers: Headers::Map(&parts.headers),
            body: InBody::default(),
        }
    }

    pub(crate) fn of_request<T>(request: &'a Request<T>) -> Self {
        Asked {
            method: request.method().as_str(),
            query: request.uri().query(),
            authority: request.uri().authority().map(http::uri::Authority::as_str),
            headers: Headers::Map(request.headers()),
            body: InBody::default(),
        }
    }

    /// With what only the host could read.
    #[must_use]
    pub fn with(self, body: InBody<'a>) -> Self {
        Asked { body, ..self }
    }
}

impl<'a> Headers<'a> {
    /// Every line of a header, in order. `name` in lower case.
    pub(crate) fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        let (map, pairs) = match self {
            Headers::Map(map) => (Some(map), [].as_slice()),
            Headers::Pairs(pairs) => (None, pairs),
        };
        let of_map = map.into_iter().flat_map(move |map| map.get_all(name));
        let of_pairs = pairs
            .iter()
            .filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        of_map
            .map(http::HeaderValue::as_bytes)
            .chain(of_pairs.map(|(_, value)| *value))
    }

    /// The one value of a header; two are an attempt to be read in two ways.
    pub(crate) fn only(self, name: &str) -> Result<Option<&'a [u8]>, Ambiguous> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Ambiguous),
        }
    }
}

/// A header that may stand once stands twice.
pub(crate) struct Ambiguous;
