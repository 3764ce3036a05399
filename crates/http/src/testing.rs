//! For tests: recorded exchanges, read and replayed through any door.
//!
//! The files in `exchanges/` are the specification of the wire. One looks like this:
//!
//! ```text
//! # What the file shows.
//! with register = on
//!
//! ### A fact, as a sentence
//! POST /api/v1/login
//! Content-Type: application/json
//!
//! {"username": "ada", "password": "{{password}}", "delivery": "body"}
//!
//! => 200
//! Content-Type: application/json
//!
//! {"access_token": "<token access>", "expires_in": "<number>", ...}
//! ```
//!
//! - `with KEY = VALUE` is a setting of docs/settings.md, or, where only some doors play the file, of
//!   [`Settings`]; `doors engine, axum` says where the file
//!   is played, if not everywhere. Each file starts with an empty store that has the enabled users
//!   `ada` and `bob`.
//! - Before a request, `wait 2s` lets time pass and `operator user disable ada` is a command of the
//!   server's command line.
//! - `{{name}}` is a value known from before. `{{a*17000}}` is a long text, `{{byte ff}}` one byte.
//! - `<token>`, `<id>`, `<time>`, `<number>` and `<any>` stand for values of that form;
//!   `<token access>` keeps the value as `{{access}}`.
//! - [`STATED`] headers are compared both ways: one that the file does not name must not be there.
//!   [`ALWAYS`] holds for every answer that the file does not say otherwise of, `OPTIONS` apart.
//!   `<none>` says that a header is not there. JSON is compared as values, other bodies as text.

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::{Accounts, Delivery, EndReason, Policy, Service};
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response};
use serde_json::Value;

use crate::settings::{DoubleSubmit, Location, SameSite, Settings};

/// The password of every user of the exchanges.
pub const PASSWORD: &str = "correct horse battery staple";

/// The users that each file starts with.
pub const USERS: [&str; 2] = ["ada", "bob"];

/// Headers that an answer has exactly as the file says, or not at all.
pub const STATED: [&str; 12] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "content-type",
    "doorward-session",
    "doorward-user",
    "location",
    "set-cookie",
    "www-authenticate",
];

/// Headers of every answer.
pub const ALWAYS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "content-security-policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    ),
];

/// Something that speaks the API.
pub trait Door {
    /// Sends a request and reads the answer whole.
    fn send(&mut self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>>;

    /// Runs a command of the operator's: `user disable ada`.
    fn operate(&mut self, words: &[&str]) -> impl Future<Output = ()>;

    /// Lets time pass.
    fn wait(&mut self, span: Duration) -> impl Future<Output = ()>;
}

/// A file of exchanges.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The file's name without its ending.
    pub name: String,
    /// Keys and values of docs/settings.md that differ from the defaults.
    pub with: Vec<(String, String)>,
    /// In order: each goes on where the one before stopped.
    pub exchanges: Vec<Exchange>,
    doors: Vec<String>,
}

/// One request and its answer, as written.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The fact that it shows.
    pub title: String,
    /// What happens first: `wait 2s`, `operator ...`.
    pub before: Vec<String>,
    /// Method and path.
    pub request: (String, String),
    /// Headers of the request.
    pub headers: Vec<(String, String)>,
    /// Body of the request.
    pub body: String,
    /// Status of the answer.
    pub status: u16,
    /// Headers of the answer.
    pub answer_headers: Vec<(String, String)>,
    /// Body of the answer.
    pub answer_body: String,
}

/// The recordings of a directory, by name.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn recordings(directory: &Path) -> Vec<Recording> {
    let files = fs::read_dir(directory).expect("the directory of exchanges");
    let paths = files.map(|file| file.expect("a file").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "http"))
        .collect();
    paths.sort();
    paths.iter().map(|path| Recording::read(path)).collect()
}

impl Recording {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("UTF-8");
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut blocks = text.split("\n### ");
        let mut recording = Recording {
            name: name.into_owned(),
            with: Vec::new(),
            exchanges: Vec::new(),
            doors: Vec::new(),
        };
        for line in blocks.next().unwrap_or_default().lines() {
            recording.head(line);
        }
        recording.exchanges = blocks.map(Exchange::parse).collect();
        recording
    }

    fn head(&mut self, line: &str) {
        if let Some((key, value)) = line.strip_prefix("with ").and_then(|w| w.split_once(" = ")) {
            self.with.push((key.into(), value.into()));
        } else if let Some(doors) = line.strip_prefix("doors ") {
            self.doors = doors.split(", ").map(Into::into).collect();
        } else {
            let prose = line.is_empty() || line.starts_with('#');
            assert!(prose, "{}: what is {line:?}?", self.name);
        }
    }

    /// Whether this door plays it.
    #[must_use]
    pub fn is_for(&self, door: &str) -> bool {
        self.doors.is_empty() || self.doors.iter().any(|name| name == door)
    }

    /// What the file asks of lifetimes and of the wire.
    ///
    /// # Panics
    /// If a setting is none that a file may ask for.
    #[must_use]
    pub fn settings(&self) -> (Policy, Settings) {
        let (mut policy, mut settings) = (Policy::default(), Settings::default());
        for (key, value) in &self.with {
            if sets_place(&mut settings, key, value) {
                continue;
            }
            match key.as_str() {
                "double_submit" => {
                    policy.csrf = true;
                    let (in_cookies, form) = (value != "in body", value == "form");
                    settings.double_submit = Some(DoubleSubmit {
                        in_cookies,
                        check_form: form,
                        ..DoubleSubmit::default()
                    });
                }
                "access_ttl" => policy.access_ttl = seconds(value),
                "refresh_ttl" => policy.refresh_ttl = seconds(value),
                "session_ttl" => policy.session_ttl = seconds(value),
                "fresh_ttl" => policy.fresh_ttl = seconds(value),
                "refresh_window" => policy.refresh_window = Some(seconds(value)),
                "register" => settings.register = value == "on",
                "csrf_strict" => settings.csrf_strict = value == "true",
                "cookie_secure" => settings.cookie_secure = value == "true",
                "cookie_domain" => settings.cookie_domain = Some(value.clone()),
                "access_cookie_path" => settings.access_cookie_path = Some(value.clone()),
                "delivery" if value == "body" => settings.delivery = vec![Delivery::Body],
                "allowed_origins" => settings.allowed_origins = vec![value.clone()],
                _ => panic!("{}: no file may set {key} to {value}", self.name),
            }
        }
        (policy, settings)
    }

    /// Plays all exchanges, in order.
    ///
    /// # Panics
    /// At the first answer that differs, in words that say where and how.
    pub async fn replay(&self, door: &mut impl Door) {
        let mut known = Known::new();
        for exchange in &self.exchanges {
            if let Err(difference) = exchange.replay(door, &mut known).await {
                panic!("{}: {}\n{difference}", self.name, exchange.title);
            }
        }
    }
}

/// The settings of names and places: they have no key in docs/settings.md.
fn sets_place(settings: &mut Settings, key: &str, value: &str) -> bool {
    let text = || value.to_owned();
    match key {
        "access_cookie_name" => settings.access_cookie_name = Some(text()),
        "refresh_cookie_name" => settings.refresh_cookie_name = Some(text()),
        "refresh_cookie_path" => settings.refresh_cookie_path = Some(text()),
        "same_site" if value == "strict" => settings.same_site = Some(SameSite::Strict),
        "same_site" if value == "none" => settings.same_site = Some(SameSite::None),
        "session_cookie" => settings.session_cookie = Some(value == "true"),
        "locations" => settings.locations = Some(value.split(',').map(location).collect()),
        "header_name" => settings.header_name = text(),
        "header_type" if value == "<empty>" => settings.header_type.clear(),
        "header_type" => settings.header_type = text(),
        "query_name" => settings.query_name = text(),
        "query_value_prefix" => settings.query_value_prefix = text(),
        "json_key" => settings.json_key = text(),
        "refresh_json_key" => settings.refresh_json_key = text(),
        "message_key" => settings.message_key = text(),
        _ => return false,
    }
    true
}

fn location(name: &str) -> Location {
    match name {
        "cookie" => Location::Cookie,
        "header" => Location::Header,
        "query" => Location::QueryString,
        "json" => Location::Json,
        _ => panic!("{name:?} is no location"),
    }
}

impl Exchange {
    fn parse(block: &str) -> Self {
        let (asked, answer) = block
            .split_once("\n=> ")
            .unwrap_or_else(|| panic!("an exchange has no answer:\n{block}"));
        let mut lines = asked.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let is_step = |line: &&str| line.starts_with("wait ") || line.starts_with("operator ");
        let (mut before, mut line) = (Vec::new(), lines.next().unwrap_or_default());
        while is_step(&line) {
            before.push(line.to_owned());
            line = lines.next().unwrap_or_default();
        }
        let (method, path) = line
            .split_once(' ')
            .unwrap_or_else(|| panic!("{title}: {line:?} is no request"));
        let (headers, body) = headers_and_body(lines);
        let mut answer = answer.lines();
        let status = answer.next().and_then(|status| status.trim().parse().ok());
        let (answer_headers, answer_body) = headers_and_body(answer);
        Exchange {
            before,
            request: (method.into(), path.into()),
            headers,
            body,
            status: status.unwrap_or_else(|| panic!("{title}: no status")),
            answer_headers,
            answer_body,
            title,
        }
    }

    async fn replay(&self, door: &mut impl Door, known: &mut Known) -> Result<(), String> {
        for step in &self.before {
            let step = known.expand(step);
            let step = String::from_utf8_lossy(&step);
            match step.split_once(' ') {
                Some(("wait", span)) => door.wait(seconds(span)).await,
                Some((_, command)) => {
                    door.operate(&command.split(' ').collect::<Vec<_>>()).await;
                }
                None => {}
            }
        }
        let answer = door.send(self.asked(known)).await;
        let outcome = self.compare(&answer, known);
        outcome.map_err(|difference| format!("{difference}\nThe answer was:\n{}", shown(&answer)))
    }

    fn asked(&self, known: &Known) -> Request<Bytes> {
        let text = |text: &str| String::from_utf8_lossy(&known.expand(text)).into_owned();
        let (method, path) = &self.request;
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::builder().method(method).uri(text(path));
        for (name, value) in &self.headers {
            request = request.header(name, known.expand(value));
        }
        let body = known.expand(&self.body);
        let mut request = request.body(body.into()).expect("a request");
        let host = http::HeaderValue::from_static("api.example");
        request.headers_mut().entry(HOST).or_insert(host);
        request
    }

    fn compare(&self, answer: &Response<Bytes>, known: &mut Known) -> Result<(), String> {
        if answer.status() != self.status {
            return Err(format!("the status must be {}", self.status));
        }
        self.compare_headers(answer.headers(), known)?;
        let body = String::from_utf8_lossy(answer.body());
        let (wanted, is_json) = (self.answer_body.as_str(), is_json(answer.headers()));
        if wanted == "<any>" {
            return Ok(());
        }
        if !is_json || wanted.is_empty() {
            return known.matches(wanted, &body, "body");
        }
        let parse = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|error| format!("{error} in {text}"))
        };
        known.json_matches(&parse(wanted)?, &parse(&body)?, "body")
    }

    fn compare_headers(&self, actual: &HeaderMap, known: &mut Known) -> Result<(), String> {
        let wanted = |name: &str| -> Vec<&str> {
            let all = self.answer_headers.iter();
            all.filter(|(header, _)| header.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
                .collect()
        };
        let named = self.answer_headers.iter().map(|(name, _)| name.as_str());
        for name in named.chain(STATED) {
            let (mut wanted, actual) = (wanted(name), values(actual, name));
            wanted.retain(|value| *value != "<none>");
            if wanted.len() != actual.len() {
                return Err(format!("{name} must be {wanted:?}, is {actual:?}"));
            }
            for (wanted, actual) in wanted.iter().zip(&actual) {
                known.matches(wanted, actual, name)?;
            }
        }
        for (name, value) in ALWAYS {
            let held = self.request.0 == "OPTIONS" || !wanted(name).is_empty();
            if !held && values(actual, name) != [value] {
                return Err(format!("{name} must be {value:?}, as always"));
            }
        }
        Ok(())
    }
}

/// `Vary` and its like may come in several lines that mean one: they are joined. Cookies may not.
fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .collect();
    if lines.is_empty() || name.eq_ignore_ascii_case("set-cookie") {
        lines
    } else {
        vec![lines.join(", ")]
    }
}

fn headers_and_body<'a>(lines: impl Iterator<Item = &'a str>) -> (Vec<(String, String)>, String) {
    let (mut headers, mut body, mut in_body) = (Vec::new(), Vec::new(), false);
    for line in lines {
        match line.split_once(": ") {
            _ if in_body => body.push(line),
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => {
                assert!(line.is_empty(), "{line:?} is no header");
                in_body = true;
            }
        }
    }
    (headers, body.join("\n").trim().to_owned())
}

fn is_json(headers: &HeaderMap) -> bool {
    values(headers, "content-type")
        .first()
        .is_some_and(|media_type| media_type.ends_with("json"))
}

fn shown(answer: &Response<Bytes>) -> String {
    let headers: String = answer.headers().iter().fold(String::new(), |all, (k, v)| {
        format!("{all}{k}: {}\n", String::from_utf8_lossy(v.as_bytes()))
    });
    let body: String = String::from_utf8_lossy(answer.body())
        .chars()
        .take(2000)
        .collect();
    format!("{}\n{headers}\n{body}", answer.status())
}

fn seconds(text: &str) -> Duration {
    let number = text.trim_end_matches('s').parse();
    Duration::from_secs(number.unwrap_or_else(|_| panic!("{text:?} is no number of seconds")))
}

/// Values by name, as they become known.
struct Known(HashMap<String, String>);

impl Known {
    fn new() -> Self {
        Known(HashMap::from([("password".into(), PASSWORD.into())]))
    }

    /// `text` with each `{{name}}` replaced. Bytes, as `{{byte ff}}` need not be UTF-8.
    fn expand(&self, text: &str) -> Vec<u8> {
        let mut pieces = text.split("{{");
        let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
        for piece in pieces {
            let (name, rest) = piece.split_once("}}").expect("}} after {{");
            out.extend(self.value(name));
            out.extend(rest.as_bytes());
        }
        out
    }

    fn value(&self, name: &str) -> Vec<u8> {
        if let Some(byte) = name.strip_prefix("byte ") {
            return vec![u8::from_str_radix(byte, 16).expect("two hex digits")];
        }
        if let Some((text, times)) = name.split_once('*') {
            return text.repeat(times.parse().expect("a number")).into();
        }
        let value = self.0.get(name);
        value
            .unwrap_or_else(|| panic!("nothing is known as {name}"))
            .clone()
            .into()
    }

    fn json_matches(&mut self, wanted: &Value, actual: &Value, at: &str) -> Result<(), String> {
        match (wanted, actual) {
            (Value::Object(wanted), Value::Object(actual)) => {
                if let Some(key) = actual.keys().find(|key| !wanted.contains_key(*key)) {
                    return Err(format!("{at}.{key} must not be there"));
                }
                wanted.iter().try_for_each(|(key, wanted)| {
                    let at = format!("{at}.{key}");
                    let actual = actual.get(key).ok_or_else(|| format!("{at} is missing"))?;
                    self.json_matches(wanted, actual, &at)
                })
            }
            (Value::Array(wanted), Value::Array(actual)) if wanted.len() == actual.len() => {
                let mut pairs = wanted.iter().zip(actual).enumerate();
                pairs.try_for_each(|(i, (wanted, actual))| {
                    self.json_matches(wanted, actual, &format!("{at}[{i}]"))
                })
            }
            (Value::String(wanted), Value::String(actual)) => self.matches(wanted, actual, at),
            (Value::String(wanted), actual) if wanted == "<any>" || wanted == "<number>" => {
                self.matches(wanted, &actual.to_string(), at)
            }
            (wanted, actual) if wanted == actual => Ok(()),
            (wanted, actual) => Err(format!("{at} must be {wanted}, is {actual}")),
        }
    }

    /// Whether `actual` is `wanted` with its placeholders filled; keeps the named ones.
    fn matches(&mut self, wanted: &str, actual: &str, at: &str) -> Result<(), String> {
        let expanded = self.expand(wanted);
        let wanted = String::from_utf8_lossy(&expanded);
        let difference = || format!("{at} must be {wanted:?}, is {actual:?}");
        let (mut template, mut text) = (&*wanted, actual);
        while let Some((literal, form, rest)) = placeholder(template) {
            text = text.strip_prefix(literal).ok_or_else(difference)?;
            let next = rest.chars().next();
            let end = next.map_or(Some(text.len()), |next| text.find(next));
            let (value, after) = text.split_at(end.ok_or_else(difference)?);
            let (kind, name) = form.split_once(' ').unwrap_or((form, ""));
            if !is_of(kind, value) {
                return Err(format!("{at}: {value:?} is no {kind}"));
            }
            if !name.is_empty() {
                self.0.insert(name.into(), value.into());
            }
            (template, text) = (rest, after);
        }
        if template == text {
            Ok(())
        } else {
            Err(difference())
        }
    }
}

/// What is before the first placeholder, the placeholder, and what is after it.
fn placeholder(template: &str) -> Option<(&str, &str, &str)> {
    let (literal, rest) = template.split_once('<')?;
    let (form, rest) = rest.split_once('>')?;
    Some((literal, form, rest))
}

fn is_of(kind: &str, value: &str) -> bool {
    let all = |of: fn(u8) -> bool| !value.is_empty() && value.bytes().all(of);
    match kind {
        "any" => true,
        "number" => all(|b| b.is_ascii_digit()),
        "token" => value.len() >= 40 && all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
        "id" => value.len() == 36 && all(|b| b.is_ascii_hexdigit() || b == b'-'),
        "time" => value.ends_with('Z') && value.parse::<jiff::Timestamp>().is_ok(),
        _ => panic!("<{kind}> is no placeholder"),
    }
}

/// The operator's commands, for doors that run in the test's own process.
///
/// # Panics
/// If the command is unknown or fails.
pub async fn operate(service: &Service, accounts: &Accounts, words: &[&str]) {
    match words {
        ["user", command @ ("disable" | "enable"), name] => {
            let user = accounts.find(name).await.expect("the account").id;
            let set = accounts.set_disabled(&user, *command == "disable");
            set.await.expect("the store");
        }
        ["session", "end", id] => {
            let id = id.parse().expect("an id");
            let (ended, _) = service.end(id, EndReason::EndedByOperator).await;
            ended.expect("the store");
        }
        _ => panic!("the operator knows no {words:?}"),
    }
    service.tick().await.expect("the store");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differs(wanted: &str, actual: &str) -> bool {
        Known::new().matches(wanted, actual, "it").is_err()
    }

    #[test]
    fn placeholders_stand_for_their_form_only() {
        assert!(!differs("a=<number>; b", "a=12; b"));
        assert!(differs("a=<number>; b", "a=; b"));
        assert!(differs("a=<number>; b", "a=12; c"));
        assert!(differs("a=<number>", "a=12; b"));
        assert!(differs("<time>", "2027-01-15T08:00:00+01:00"));
        assert!(!differs("<time>", "2027-01-15T08:00:00Z"));
        assert!(differs("<token>", "nonsense"));
    }

    #[test]
    fn json_has_all_fields_and_no_others() {
        let differs = |wanted: &str, actual: &str| {
            let value = |text| serde_json::from_str::<Value>(text).unwrap();
            let outcome = Known::new().json_matches(&value(wanted), &value(actual), "body");
            outcome.is_err()
        };
        assert!(!differs(r#"{"a": "<number>"}"#, r#"{"a": 7}"#));
        assert!(differs(r#"{"a": "<number>"}"#, r#"{"a": 7, "b": 2}"#));
        assert!(differs(r#"{"a": 1, "b": 2}"#, r#"{"a": 1}"#));
        assert!(differs("[1]", "[1, 2]"));
    }

    #[test]
    fn headers_that_the_file_does_not_name_must_not_be_there() {
        let exchange = Exchange::parse("t\nGET /x\n\n=> 200\nSet-Cookie: a=<number n>\n");
        let cookies = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for (name, value) in ALWAYS {
                headers.insert(name, value.parse().unwrap());
            }
            for line in lines {
                headers.append("set-cookie", line.parse().unwrap());
            }
            exchange.compare_headers(&headers, &mut Known::new())
        };
        assert_eq!(cookies(&["a=1"]), Ok(()));
        assert!(cookies(&[]).is_err());
        assert!(cookies(&["a=1", "b=1"]).is_err());
    }
}
