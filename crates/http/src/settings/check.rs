//! Which settings make sense together: what is never right is refused, what may be wrong is told.

use std::net::IpAddr;
use std::time::Duration;

use doorward_core::{Delivery, Policy};
use http::HeaderName;
use ipnet::IpNet;

use super::{CsrfNames, DoubleSubmit, Location, SameSite, Settings, SettingsError};
use crate::problem;

/// An access token that lives longer is pointed out.
const LONG: Duration = Duration::from_secs(3600);

type Checked = Result<(), SettingsError>;

fn rule(holds: bool, text: &'static str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(SettingsError(text))
    }
}

impl Settings {
    /// Checks that the values can be used.
    ///
    /// # Errors
    /// The first rule broken, in words that say what to change.
    pub fn check(&self) -> Checked {
        rule(
            is_path(&self.url_prefix) && self.url_prefix.split('/').skip(1).all(is_plain),
            "url_prefix must look like /api/v1: a slash before each part, no special characters",
        )?;
        rule(
            !self.delivery.is_empty(),
            "delivery must name cookie, body, or both",
        )?;
        rule(
            self.cookie_domain.as_deref().is_none_or(|domain| {
                !domain.is_empty()
                    && domain
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
            }),
            "cookie_domain must be a host name",
        )?;
        rule(
            self.allowed_origins.iter().all(|origin| is_origin(origin)),
            "allowed_origins must look like https://app.example: scheme, host, port if not the default, nothing after",
        )?;
        rule(
            self.allowed_origins.iter().all(|origin| is_safe(origin)),
            "allowed_origins must begin with https://, except on localhost: whoever is on the way writes the pages of http",
        )?;
        rule(
            !self.message_key.is_empty() && !problem::MEMBERS.contains(&&*self.message_key),
            "message_key must not be empty or one of type, title, status, detail, code and reason, which problem documents have already",
        )?;
        self.check_places()?;
        self.check_paths()?;
        self.check_cookies()
    }

    /// What may be right but seldom is, in words that say what to do: for the operator's log.
    #[must_use]
    pub fn advice(&self, policy: &Policy) -> Vec<&'static str> {
        let cookies = self.delivery.contains(&Delivery::Cookie);
        let from_anywhere = cookies && self.same_site == Some(SameSite::None);
        let unasked = self.double_submit.is_none() && !self.csrf_strict;
        let found = [
            (
                cookies && !self.cookie_secure,
                "cookie_secure is off, so that whoever is on the way can take the cookies: switch it on, except for a trial on this machine",
            ),
            (
                from_anywhere && self.allowed_origins.is_empty(),
                "same_site None without allowed_origins lets no page in, and sends the cookies along with every site's requests: leave it out, or name the origins",
            ),
            (
                from_anywhere && unasked,
                "same_site None leaves it to the browser's word where a request is from: switch csrf_strict on, or double_submit",
            ),
            (
                self.locations().contains(&Location::QueryString),
                "locations has query_string, from where tokens get into logs and histories: leave it out where clients can send a header",
            ),
            (
                policy.access_ttl > LONG,
                "access_ttl is longer than an hour, for which a stolen token is good, and services that verify by /jwks.json alone accept those of ended sessions: 15m is usual",
            ),
        ];
        let told = found.into_iter().filter(|(holds, _)| *holds);
        told.map(|(_, words)| words).collect()
    }

    /// Where tokens, and what goes with them, are found.
    fn check_places(&self) -> Checked {
        let finds = |delivery: &Delivery| {
            let in_cookie = *delivery == Delivery::Cookie;
            let mut locations = self.locations().into_iter();
            locations.any(|location| in_cookie == (location == Location::Cookie))
        };
        rule(
            self.delivery.iter().all(finds),
            "locations must name cookie where delivery does, and another place where delivery names body",
        )?;
        rule(
            is_free_header(&self.header_name),
            "header_name must be the name of a header that has no other meaning, as Authorization",
        )?;
        rule(
            self.header_type.is_empty() || is_token(&self.header_type),
            "header_type must be one word, as Bearer, or empty",
        )?;
        rule(
            ![&self.query_name, &self.json_key, &self.refresh_json_key]
                .iter()
                .any(|name| name.is_empty()),
            "query_name, json_key and refresh_json_key must not be empty",
        )?;
        rule(
            ![&self.json_key, &self.refresh_json_key]
                .iter()
                .any(|name| FIELDS.contains(&name.as_str())),
            "json_key and refresh_json_key must not be the names of other fields: username, password, remember, device, delivery, current, new",
        )?;
        let csrf = self.double_submit.as_ref();
        let header = |names: &CsrfNames| {
            is_free_header(&names.header_name)
                && !names.header_name.eq_ignore_ascii_case("authorization")
                && !names.header_name.eq_ignore_ascii_case(&self.header_name)
        };
        rule(
            csrf.is_none_or(|csrf| csrf.both().into_iter().all(header)),
            "the header_name of a double_submit must be the name of a header that has no other meaning, as X-CSRF-TOKEN",
        )?;
        rule(
            csrf.is_none_or(|csrf| csrf.both().iter().all(|names| !names.field_name.is_empty())),
            "the field_name of a double_submit must not be empty",
        )
    }

    fn check_paths(&self) -> Checked {
        let (access, refresh) = (self.access_path(), self.refresh_path());
        let csrf = self.double_submit.iter().flat_map(DoubleSubmit::both);
        let mut csrf = csrf.map(|names| &names.cookie_path);
        rule(
            is_path(&access) && is_path(&refresh) && csrf.all(|path| is_path(path)),
            "access_cookie_path, refresh_cookie_path and those of a double_submit must start with a slash and have no special characters",
        )?;
        rule(
            covers(&access, &format!("{}/", self.url_prefix)),
            "access_cookie_path must be url_prefix or a path above it: browsers would not send the cookie to the API otherwise",
        )?;
        rule(
            covers(&refresh, &format!("{}/refresh", self.url_prefix)),
            "refresh_cookie_path must be /refresh under url_prefix or a path above it: browsers would not send the cookie to refresh otherwise",
        )
    }

    fn check_cookies(&self) -> Checked {
        let named = self.named_cookies();
        rule(
            named.iter().all(|cookie| is_token(&cookie.name)),
            "names of cookies must be of letters, digits and !#$%&'*+-.^_`|~",
        )?;
        rule(
            self.cookie_secure || self.same_site != Some(SameSite::None),
            "same_site None needs cookie_secure: browsers drop such cookies otherwise",
        )?;
        rule(
            named.iter().all(|cookie| self.keeps_promise(cookie)),
            "cookies named __Secure- or __Http- need cookie_secure, those named __Host- also the path / and no cookie_domain, and the cookies of a double_submit cannot be __Http- or __Host-Http-",
        )?;
        let clash = |at: usize, cookie: &Named| {
            let mut before = named[..at].iter();
            before.any(|other| {
                let overlap =
                    covers(&other.path, &cookie.path) || covers(&cookie.path, &other.path);
                other.name == cookie.name && overlap
            })
        };
        rule(
            !named
                .iter()
                .enumerate()
                .any(|(at, cookie)| clash(at, cookie)),
            "cookies with overlapping paths need names of their own",
        )
    }

    /// What the name of a cookie promises (RFC 6265bis, section 4.1.3); browsers compare it in any
    /// case and drop a cookie that breaks it.
    fn keeps_promise(&self, cookie: &Named) -> bool {
        let starts = |prefix: &str| {
            let start = cookie.name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let host = starts("__Host-");
        let http_only = starts("__Http-") || starts("__Host-Http-");
        (self.cookie_secure || !(host || http_only || starts("__Secure-")))
            && (!host || cookie.path == "/" && self.cookie_domain.is_none())
            && (!http_only || cookie.http_only)
    }

    /// Every cookie that may be set.
    fn named_cookies(&self) -> Vec<Named> {
        let cookie = |name: String, path: String, http_only| Named {
            name,
            path,
            http_only,
        };
        let mut named = vec![
            cookie(self.access_name(), self.access_path(), true),
            cookie(self.refresh_name(), self.refresh_path(), true),
        ];
        let csrf = self.double_submit.as_ref().filter(|csrf| csrf.in_cookies);
        let csrf = csrf.into_iter().flat_map(DoubleSubmit::both);
        named.extend(
            csrf.map(|names| cookie(names.cookie_name.clone(), names.cookie_path.clone(), false)),
        );
        named
    }
}

/// Refuses proxies that could be anybody.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_proxies(trusted: &[IpNet]) -> Checked {
    // The widest private networks are 10.0.0.0/8 and fc00::/7.
    let is_narrow = |net: &IpNet| net.prefix_len() >= if net.addr().is_ipv4() { 8 } else { 7 };
    rule(
        trusted.iter().all(is_narrow),
        "trusted_proxies must name the proxies alone: with so wide a network everybody could say which address is theirs",
    )
}

struct Named {
    name: String,
    path: String,
    http_only: bool,
}

/// The fields of the API's own bodies.
const FIELDS: [&str; 7] = [
    "username", "password", "remember", "device", "delivery", "current", "new",
];

/// Headers that say something else, or that something between client and host changes.
const TAKEN: [&str; 17] = [
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "origin",
    "referer",
    "sec-fetch-site",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

fn is_free_header(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !TAKEN.contains(&name.as_str()))
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let all = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    all && !text.is_empty()
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b";,\"\\?#{}".contains(&b))
}

/// Routers read `:` and `*` at the start of a segment as a pattern; clients resolve dots.
fn is_plain(segment: &str) -> bool {
    !segment.is_empty() && !segment.starts_with([':', '*', '.'])
}

/// Whether browsers send a cookie of this path along with a request for that (RFC 6265, section
/// 5.1.4).
fn covers(cookie: &str, request: &str) -> bool {
    let rest = request.strip_prefix(cookie);
    rest.is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

/// Whether nobody between a page of this origin and its reader can write it.
fn is_safe(origin: &str) -> bool {
    let Some(host) = origin.strip_prefix("http://") else {
        return true;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = if host.ends_with(']') { host } else { name };
    name == "localhost" || name.ends_with(".localhost") || is_loopback(name)
}

fn is_loopback(name: &str) -> bool {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b))
    })
}

#[cfg(test)]
mod tests;
