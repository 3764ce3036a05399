//! Cookies as a browser treats them (RFC 6265bis): what it keeps, and to which request it sends what.
//! Values are never shown. Left out: limits on how many, partitioned cookies, what browsers block beyond the
//! standard.

use std::fmt;

use http::HeaderMap;
use http::header::SET_COOKIE;
use zeroize::Zeroizing;

use super::target::Origin;

/// A line of `Set-Cookie`.
#[derive(Clone)]
pub(crate) struct SetCookie {
    pub(crate) name: String,
    value: Zeroizing<String>,
    /// None where the line has none, or one that browsers pass over.
    pub(crate) path: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: Option<SameSite>,
    /// Seconds; none: it goes with the browser.
    pub(crate) max_age: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SameSite {
    Strict,
    Lax,
    None,
}

impl fmt::Debug for SetCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetCookie({})", self.name)
    }
}

impl SetCookie {
    /// The lines of an answer, without those that name no cookie. `now` in seconds.
    pub(crate) fn all(headers: &HeaderMap, now: i64) -> Vec<Self> {
        let lines = headers.get_all(SET_COOKIE).iter();
        let lines = lines.filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
        lines.filter_map(|line| Self::parse(line, now)).collect()
    }

    pub(crate) fn parse(line: &str, now: i64) -> Option<Self> {
        let mut parts = line.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let mut cookie = SetCookie {
            name: name.trim().to_owned(),
            value: Zeroizing::new(value.trim().to_owned()),
            path: None,
            domain: None,
            secure: false,
            http_only: false,
            same_site: None,
            max_age: None,
        };
        let mut expires = None;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (key.trim().to_ascii_lowercase().as_str(), value.trim()) {
                ("expires", value) => expires = http_date(value).map(|at| at - now),
                (key, value) => cookie.take(key, value),
            }
        }
        cookie.max_age = cookie.max_age.or(expires);
        (!cookie.name.is_empty()).then_some(cookie)
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "path" => self.path = value.starts_with('/').then(|| value.to_owned()),
            "domain" => {
                let domain = value.strip_prefix('.').unwrap_or(value);
                self.domain = Some(domain.to_ascii_lowercase()).filter(|name| !name.is_empty());
            }
            "secure" => self.secure = true,
            "httponly" => self.http_only = true,
            "samesite" => self.same_site = SameSite::parse(value),
            "max-age" => self.max_age = value.parse().ok(),
            _ => {}
        }
    }

    /// Its value: a secret.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    /// Whether it clears a cookie.
    pub(crate) fn clears(&self) -> bool {
        self.max_age.is_some_and(|seconds| seconds <= 0)
    }

    /// Its path, or the one that follows from the request's (RFC 6265bis 5.1.4).
    pub(crate) fn path_at(&self, request: &str) -> String {
        let default = match request.rfind('/') {
            None | Some(0) => "/",
            Some(end) => &request[..end],
        };
        self.path.clone().unwrap_or_else(|| default.to_owned())
    }

    /// Why a browser at `origin` would drop it.
    pub(crate) fn refused(&self, origin: &Origin) -> Option<String> {
        self.refused_prefix()
            .or_else(|| self.refused_domain(origin))
            .or_else(|| self.refused_flags(origin))
    }

    fn refused_prefix(&self) -> Option<String> {
        let name = self.name.to_ascii_lowercase();
        let host = name.starts_with("__host-");
        if (host || name.starts_with("__secure-")) && !self.secure {
            Some("its name's prefix asks for Secure".into())
        } else if host && (self.domain.is_some() || self.path.as_deref() != Some("/")) {
            Some("__Host- asks for Path=/ and no Domain".into())
        } else {
            None
        }
    }

    fn refused_domain(&self, origin: &Origin) -> Option<String> {
        let domain = self.domain.as_deref()?;
        let host = origin.host.as_str();
        if domain == host {
            None
        } else if origin.address().is_some() || !is_below(host, domain) {
            Some(format!("Domain={domain} does not cover {host}"))
        } else if psl::suffix_str(domain) == Some(domain) {
            Some(format!("Domain={domain} is a public suffix"))
        } else {
            None
        }
    }

    fn refused_flags(&self, origin: &Origin) -> Option<String> {
        if self.secure && !origin.is_trustworthy() {
            Some("Secure, and the page is not https".into())
        } else if self.same_site == Some(SameSite::None) && !self.secure {
            Some("SameSite=None asks for Secure".into())
        } else if self.name.len() + self.value.len() > 4096 {
            Some("it is over 4,096 bytes".into())
        } else {
            None
        }
    }
}

impl SameSite {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "strict" => Some(SameSite::Strict),
            "lax" => Some(SameSite::Lax),
            "none" => Some(SameSite::None),
            _ => None,
        }
    }
}

/// The cookies that a browser keeps of one host.
#[derive(Default)]
pub(crate) struct Jar(Vec<Kept>);

struct Kept {
    cookie: SetCookie,
    path: String,
}

impl Jar {
    /// Keeps, replaces and clears as an answer to a request for `path` says.
    pub(crate) fn take(&mut self, cookies: Vec<SetCookie>, origin: &Origin, path: &str) {
        for cookie in cookies {
            if cookie.refused(origin).is_some() {
                continue;
            }
            let path = cookie.path_at(path);
            let same = |kept: &Kept| {
                let both = (&kept.cookie.name, &kept.cookie.domain, &kept.path);
                both == (&cookie.name, &cookie.domain, &path)
            };
            let place = self.0.iter().position(same);
            match (place, cookie.clears()) {
                (Some(place), true) => drop(self.0.remove(place)),
                (Some(place), false) => self.0[place] = Kept { cookie, path },
                (None, true) => {}
                (None, false) => self.0.push(Kept { cookie, path }),
            }
        }
    }

    /// What goes with a request for `path`, from a page of the same site or not: longer paths
    /// first, then the older.
    pub(crate) fn sent(&self, path: &str, same_site: bool) -> Vec<&SetCookie> {
        let crosses = |cookie: &SetCookie| same_site || cookie.same_site == Some(SameSite::None);
        let kept = self.0.iter();
        let kept = kept.filter(|kept| covers(&kept.path, path) && crosses(&kept.cookie));
        let mut kept: Vec<_> = kept.collect();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        kept.into_iter().map(|kept| &kept.cookie).collect()
    }

    pub(crate) fn header(&self, path: &str, same_site: bool) -> Option<Zeroizing<String>> {
        let sent = self.sent(path, same_site);
        let pairs = sent.iter();
        let pairs: Vec<_> = pairs
            .map(|cookie| Zeroizing::new(format!("{}={}", cookie.name, cookie.value())))
            .collect();
        let pairs: Vec<&str> = pairs.iter().map(|pair| pair.as_str()).collect();
        (!pairs.is_empty()).then(|| Zeroizing::new(pairs.join("; ")))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|kept| kept.cookie.name.clone()).collect()
    }
}

/// RFC 6265bis 5.1.4: path-match.
pub(crate) fn covers(cookie: &str, request: &str) -> bool {
    let request = request.split('?').next().unwrap_or_default();
    match request.strip_prefix(cookie) {
        Some(rest) => rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    let above = host.strip_suffix(domain);
    above.is_some_and(|above| above.ends_with('.'))
}

/// An HTTP date in seconds since the epoch.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let date = parser.parse_timestamp(text).ok()?;
    Some(date.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(line: &str) -> SetCookie {
        SetCookie::parse(line, 0).unwrap()
    }

    #[test]
    fn what_a_browser_drops() {
        for (line, url, kept) in [
            ("a=1; Path=/", "https://app.example.com", true),
            ("__Secure-a=1", "https://app.example.com", false),
            ("__Secure-a=1; Secure", "https://app.example.com", true),
            ("__secure-a=1", "https://app.example.com", false),
            (
                "__Host-a=1; Secure; Path=/",
                "https://app.example.com",
                true,
            ),
            (
                "__Host-a=1; Secure; Path=/x",
                "https://app.example.com",
                false,
            ),
            ("a=1; Secure", "http://app.example.com", false),
            ("a=1; Secure", "http://localhost:8080", true),
            ("a=1; Secure", "http://127.0.0.1:8080", true),
            ("a=1; SameSite=None", "https://app.example.com", false),
            ("a=1; Domain=example.com", "https://app.example.com", true),
            ("a=1; Domain=.example.com", "https://app.example.com", true),
            ("a=1; Domain=com", "https://app.example.com", false),
            ("a=1; Domain=ample.com", "https://app.example.com", false),
            ("a=1; Domain=co.uk", "https://app.co.uk", false),
            ("a=1; Domain=other.com", "https://app.example.com", false),
            ("a=1; Domain=0.0.1", "http://127.0.0.1", false),
        ] {
            let refused = cookie(line).refused(&Origin::parse(url).unwrap());
            assert_eq!(refused.is_none(), kept, "{line} at {url}: {refused:?}");
        }
    }

    #[test]
    fn paths_match_by_segments() {
        for (path, request, matches) in [
            ("/", "/x", true),
            ("/api", "/api", true),
            ("/api", "/api/v1", true),
            ("/api", "/api?x", true),
            ("/api/", "/api", false),
            ("/api", "/apix", false),
            ("/API", "/api", false),
        ] {
            assert_eq!(covers(path, request), matches, "{path} {request}");
        }
        assert_eq!(cookie("a=1; Path=x").path_at("/api/v1/login"), "/api/v1");
        assert_eq!(cookie("a=1").path_at("/login"), "/");
    }

    #[test]
    fn a_jar_sends_the_longer_path_first_and_forgets_what_is_cleared() {
        let origin = Origin::parse("https://app.example").unwrap();
        let mut jar = Jar::default();
        let lines = [
            "a=1; Path=/",
            "b=2; Path=/api; SameSite=None; Secure",
            "a=3",
        ];
        jar.take(lines.map(cookie).into(), &origin, "/api/login");
        assert_eq!(
            jar.header("/api/x", true).unwrap().as_str(),
            "b=2; a=3; a=1"
        );
        assert_eq!(jar.header("/api/x", false).unwrap().as_str(), "b=2");
        assert_eq!(jar.header("/x", true).unwrap().as_str(), "a=1");
        jar.take(vec![cookie("a=; Path=/; Max-Age=0")], &origin, "/api/login");
        let old = "b=; Path=/api; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        jar.take(
            vec![SetCookie::parse(old, 1).unwrap()],
            &origin,
            "/api/login",
        );
        assert_eq!(jar.names(), ["a"]);
        assert!(!format!("{:?}", cookie("a=secret")).contains("secret"));
    }
}
