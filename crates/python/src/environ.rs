//! A WSGI environ (PEP 3333) as a request. Its texts are bytes in disguise: a character is a byte.

use std::fmt::Write;

use bytes::Bytes;
use doorward_http::{Asked, Client, Headers, InBody, address, client_address};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use ipnet::IpNet;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// The whole request.
pub(crate) fn request(environ: &Bound<'_, PyDict>, body: Bytes) -> PyResult<Request<Bytes>> {
    let mut request = Request::new(body);
    *request.method_mut() = method(environ)?;
    *request.uri_mut() = uri(environ)?;
    *request.headers_mut() = headers(environ);
    Ok(request)
}

pub(crate) fn method(environ: &Bound<'_, PyDict>) -> PyResult<Method> {
    let text = text(environ, intern!(environ.py(), "REQUEST_METHOD"))?;
    let method = text.map(|text| Method::from_bytes(text.as_bytes()));
    // What is no method is at least not a safe one.
    Ok(method.and_then(Result::ok).unwrap_or(Method::POST))
}

/// The other side of the connection, as far as the environ and the trusted proxies tell.
pub(crate) fn client(
    environ: &Bound<'_, PyDict>,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> PyResult<Client> {
    let peer = text(environ, intern!(environ.py(), "REMOTE_ADDR"))?;
    let peer = peer.and_then(|peer| address(&peer));
    Ok(Client {
        address: peer.map(|peer| client_address(peer, headers, trusted)),
    })
}

/// Path and query; whatever an URI may not hold is percent-encoded.
pub(crate) fn uri(environ: &Bound<'_, PyDict>) -> PyResult<Uri> {
    let py = environ.py();
    let path = text(environ, intern!(py, "PATH_INFO"))?.unwrap_or_default();
    let query = text(environ, intern!(py, "QUERY_STRING"))?.unwrap_or_default();
    let mut whole = encoded(&path, b"?#%");
    if !whole.starts_with('/') {
        whole.insert(0, '/');
    }
    if !query.is_empty() {
        whole.push('?');
        whole.push_str(&encoded(&query, b"#"));
    }
    // Only its length can be wrong now: nothing of ours is so long.
    Ok(whole.parse().unwrap_or_else(|_| Uri::from_static("/")))
}

fn encoded(text: &str, reserved: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in latin_1(text) {
        let plain = byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
        if plain && !reserved.contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

pub(crate) fn headers(environ: &Bound<'_, PyDict>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (key, value) in environ.iter() {
        let (Ok(key), Ok(value)) = (key.cast::<PyString>(), value.cast::<PyString>()) else {
            continue;
        };
        if let Some(name) = header_name(key.to_str().unwrap_or_default()) {
            headers.append(name, header_value(value));
        }
    }
    headers
}

fn header_name(key: &str) -> Option<HeaderName> {
    if key == "CONTENT_TYPE" {
        return Some(CONTENT_TYPE);
    }
    let name = key.strip_prefix("HTTP_")?.replace('_', "-");
    HeaderName::from_bytes(name.as_bytes()).ok()
}

/// What cannot be a value is not the same as no value: it matches nothing.
pub(crate) fn header_value(value: &Bound<'_, PyString>) -> HeaderValue {
    let bytes = value.to_str().map(latin_1).unwrap_or_default();
    let value = HeaderValue::from_maybe_shared(Bytes::from(bytes));
    value.unwrap_or_else(|_| HeaderValue::from_static("?"))
}

fn latin_1(text: &str) -> Vec<u8> {
    if text.is_ascii() {
        return text.as_bytes().to_vec();
    }
    let byte = |char| u8::try_from(u32::from(char)).unwrap_or(b'?');
    text.chars().map(byte).collect()
}

/// The keys that a guard reads: a map of all headers would cost more than the guard does.
pub(crate) struct Reads(Vec<(Py<PyString>, String)>);

/// What they have.
pub(crate) struct Read<'a> {
    method: String,
    query: Option<String>,
    headers: Vec<(&'a str, Vec<u8>)>,
}

impl Reads {
    /// For the headers of [`doorward_http::Api::reads`].
    pub(crate) fn new(py: Python<'_>, names: Vec<String>) -> Self {
        let key = |name: &str| format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        let read = |name: String| (PyString::intern(py, &key(&name)).unbind(), name);
        Reads(names.into_iter().map(read).collect())
    }

    pub(crate) fn of(&self, environ: &Bound<'_, PyDict>) -> PyResult<Read<'_>> {
        let py = environ.py();
        let mut headers = Vec::with_capacity(self.0.len());
        for (key, name) in &self.0 {
            if let Some(value) = environ.get_item(key)? {
                headers.push((name.as_str(), latin_1(value.cast::<PyString>()?.to_str()?)));
            }
        }
        let method = text(environ, intern!(py, "REQUEST_METHOD"))?;
        Ok(Read {
            method: method.unwrap_or_default(),
            query: text(environ, intern!(py, "QUERY_STRING"))?,
            headers,
        })
    }
}

impl Read<'_> {
    pub(crate) fn headers(&self) -> Vec<(&str, &[u8])> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (*name, &value[..])).collect()
    }

    pub(crate) fn asked<'a>(&'a self, headers: &'a [(&'a str, &'a [u8])]) -> Asked<'a> {
        Asked {
            method: &self.method,
            query: self.query.as_deref(),
            authority: None,
            headers: Headers::Pairs(headers),
            body: InBody::default(),
        }
    }
}

fn text<'py>(environ: &Bound<'py, PyDict>, key: &Bound<'py, PyString>) -> PyResult<Option<String>> {
    let value = environ.get_item(key)?;
    value.map(|value| value.extract()).transpose()
}
