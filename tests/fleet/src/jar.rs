//! What a browser has of its session: cookies, or tokens in the pages' memory. Its tabs share it.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::history::{Action, Micros};

/// How tokens travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By `Set-Cookie`.
    Cookie,
    /// In bodies.
    Body,
}

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
}

/// The session that the tokens are of.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its id.
    pub session: String,
    /// When the access token expires, on the histories' clock.
    pub expires: Micros,
    access: String,
    refresh: String,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    path: String,
}

/// Cookies or tokens, and whether the pages take themselves to be logged in.
#[derive(Clone, Debug)]
pub struct Jar {
    delivery: Delivery,
    cookies: Vec<Cookie>,
    held: Option<Held>,
    over: bool,
}

impl Jar {
    /// An empty one.
    #[must_use]
    pub fn new(delivery: Delivery) -> Self {
        Jar {
            delivery,
            cookies: Vec::new(),
            held: None,
            over: false,
        }
    }

    /// The session, while the pages are logged in.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref().filter(|_| !self.over)
    }

    /// The session whose place a login takes, by the access cookie that goes along.
    #[must_use]
    pub fn replaced(&self) -> Option<String> {
        let held = self.held.as_ref();
        held.filter(|_| self.delivery == Delivery::Cookie)
            .map(|held| held.session.clone())
    }

    /// The pages were told that it is over. They cannot reach the cookies, which stay.
    pub fn give_up(&mut self, session: &str) {
        self.over |= self.held().is_some_and(|held| held.session == session);
    }

    /// A request to `path`, with the credentials that go along.
    #[must_use]
    pub fn request(&self, action: Action, path: &str, account: &Account) -> Request<Full<Bytes>> {
        let body = self.body(action, account);
        let mut request = Request::builder().method(method(action)).uri(path);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request = match (self.delivery, &self.held) {
            (Delivery::Cookie, _) => request
                .header("sec-fetch-site", "same-origin")
                .header(header::COOKIE, self.cookies_for(path)),
            (Delivery::Body, Some(held)) if action != Action::Login => {
                request.header(header::AUTHORIZATION, format!("Bearer {}", held.access))
            }
            (Delivery::Body, _) => request,
        };
        let body = Full::new(Bytes::from(body));
        request.body(body).unwrap_or_default()
    }

    /// Where the session is ended: browsers send both cookies to a route of their own.
    #[must_use]
    pub fn logout_route(&self) -> &'static str {
        match self.delivery {
            Delivery::Cookie => "/refresh/logout",
            Delivery::Body => "/logout",
        }
    }

    fn body(&self, action: Action, account: &Account) -> String {
        let Account { name, password } = account;
        let body = match (action, self.delivery, &self.held) {
            (Action::Login, Delivery::Cookie, _) => {
                json!({ "username": name, "password": password, "delivery": "cookie", "remember": true })
            }
            (Action::Login, Delivery::Body, _) => {
                json!({ "username": name, "password": password, "delivery": "body" })
            }
            (Action::Refresh | Action::End, Delivery::Body, Some(held)) => {
                json!({ "refresh_token": held.refresh })
            }
            _ => return String::new(),
        };
        body.to_string()
    }

    fn cookies_for(&self, path: &str) -> String {
        let under = |cookie: &&Cookie| {
            let rest = path.strip_prefix(&cookie.path);
            rest.is_some_and(|rest| {
                cookie.path.ends_with('/') || rest.is_empty() || rest.starts_with('/')
            })
        };
        let pairs = self.cookies.iter().filter(under);
        let pairs: Vec<_> = pairs
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        pairs.join("; ")
    }

    /// Takes in what an answer brings, and says of which session it grants tokens.
    pub fn take(&mut self, response: &Response<Bytes>, now: Micros) -> Option<String> {
        self.take_cookies(response.headers());
        let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        if let Some(held) = granted(&body, now) {
            (self.held, self.over) = (Some(held), false);
        }
        if self.delivery == Delivery::Cookie && !self.has_tokens() {
            self.held = None;
        }
        text(&body, "/session/id")
    }

    fn has_tokens(&self) -> bool {
        self.cookies
            .iter()
            .any(|cookie| cookie.path.ends_with("/refresh"))
    }

    fn take_cookies(&mut self, headers: &HeaderMap) {
        let lines = headers.get_all(header::SET_COOKIE).iter();
        for cookie in lines.filter_map(|line| line.to_str().ok()) {
            let Some((name, value, path)) = read_cookie(cookie) else {
                continue;
            };
            self.cookies
                .retain(|old| old.name != name || old.path != path);
            if !value.is_empty() {
                let (name, value, path) = (name.to_owned(), value.to_owned(), path.to_owned());
                self.cookies.push(Cookie { name, value, path });
            }
        }
    }
}

fn method(action: Action) -> Method {
    match action {
        Action::Login | Action::Refresh | Action::End => Method::POST,
        Action::Verify | Action::VerifyStrict => Method::GET,
        Action::EndAll => Method::DELETE,
    }
}

/// Name, value and path. A cleared one has no value.
fn read_cookie(line: &str) -> Option<(&str, &str, &str)> {
    let mut parts = line.split("; ");
    let (name, value) = parts.next()?.split_once('=')?;
    let path = parts.find_map(|part| part.strip_prefix("Path="));
    Some((name, value, path.unwrap_or("/")))
}

/// The tokens in an answer to a login or a refresh; with cookies only what it says of them.
fn granted(body: &Value, now: Micros) -> Option<Held> {
    text(body, "/refresh_expires_at")?;
    let moment = |pointer: &str| text(body, pointer)?.parse::<Timestamp>().ok();
    let left = moment("/access_expires_at")?.duration_since(moment("/server_time")?);
    Some(Held {
        session: text(body, "/session/id")?,
        expires: now.saturating_add(u64::try_from(left.as_micros()).unwrap_or_default()),
        access: text(body, "/access_token").unwrap_or_default(),
        refresh: text(body, "/refresh_token").unwrap_or_default(),
    })
}

fn text(body: &Value, pointer: &str) -> Option<String> {
    Some(body.pointer(pointer)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = r#"{"session": {"id": "s1"}, "access_expires_at": "2026-01-01T12:15:00Z",
        "refresh_expires_at": "2026-01-31T12:00:00Z", "server_time": "2026-01-01T12:00:00Z"}"#;

    fn answer(cookies: &[&str], body: &'static str) -> Response<Bytes> {
        let answer = cookies.iter().fold(Response::builder(), |answer, cookie| {
            answer.header(header::SET_COOKIE, *cookie)
        });
        answer.body(Bytes::from(body)).unwrap()
    }

    #[test]
    fn cookies_go_to_their_paths_until_they_are_cleared() {
        let mut jar = Jar::new(Delivery::Cookie);
        let set = [
            "access=a; Path=/api/v1; HttpOnly",
            "refresh=r; Path=/api/v1/refresh; Secure",
        ];
        assert_eq!(jar.take(&answer(&set, GRANT), 7).as_deref(), Some("s1"));
        assert_eq!(jar.held().unwrap().expires, 900_000_007);
        assert_eq!(jar.cookies_for("/api/v1/verify?x=1"), "access=a");
        assert_eq!(
            jar.cookies_for("/api/v1/refresh/logout"),
            "access=a; refresh=r"
        );
        assert_eq!(jar.cookies_for("/api/v1/refreshed"), "access=a");
        assert_eq!(jar.cookies_for("/"), "");
        let cleared = [
            "access=; Max-Age=0; Path=/api/v1",
            "refresh=; Max-Age=0; Path=/api/v1/refresh",
        ];
        jar.take(&answer(&cleared, ""), 8);
        assert!(jar.held().is_none() && jar.replaced().is_none() && jar.cookies.is_empty());
    }

    #[test]
    fn what_pages_give_up_stays_in_the_jar() {
        let mut jar = Jar::new(Delivery::Cookie);
        jar.take(&answer(&["refresh=r; Path=/api/v1/refresh"], GRANT), 0);
        jar.give_up("another");
        assert!(jar.held().is_some());
        jar.give_up("s1");
        assert!(jar.held().is_none());
        assert_eq!(jar.replaced().as_deref(), Some("s1"));
    }

    #[test]
    fn a_look_grants_nothing() {
        let body = r#"{"session": {"id": "s2"}, "access_expires_at": "2026-01-01T12:15:00Z",
            "server_time": "2026-01-01T12:00:00Z"}"#;
        let mut jar = Jar::new(Delivery::Body);
        assert_eq!(jar.take(&answer(&[], body), 0).as_deref(), Some("s2"));
        assert!(jar.held().is_none());
    }
}
