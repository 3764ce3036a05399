//! Origins, sites, and the URL that is looked at.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// Scheme, host and port (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// In lower case; an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// An origin as pages have it; a path but `/` is refused.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match split(text)? {
            (origin, path) if path.is_empty() => Ok(origin),
            _ => Err(format!("{text}: an origin has no path")),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        let named = self.host == "localhost" || self.host.ends_with(".localhost");
        named || self.address().is_some_and(|address| address.is_loopback())
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether browsers take it for encrypted, or for the machine itself.
    pub(crate) fn is_trustworthy(&self) -> bool {
        self.https || self.is_loopback()
    }

    /// Host and port as `Host` has them.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.https) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Scheme and registrable domain are the same ("schemeful same-site", RFC 6265bis 5.2), by the
    /// public suffix list.
    pub(crate) fn is_same_site(&self, other: &Origin) -> bool {
        self.https == other.https && self.site() == other.site()
    }

    fn site(&self) -> &str {
        match self.address() {
            Some(_) => &self.host,
            None => psl::domain_str(&self.host).unwrap_or(&self.host),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Where the API is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) origin: Origin,
    /// As the browser has it, without a slash at the end.
    pub(crate) prefix: String,
}

impl Target {
    /// The API's URL, or its site's, where it is below `prefix`.
    pub(crate) fn parse(url: &str, prefix: &str) -> Result<Self, String> {
        let (origin, path) = split(url)?;
        let path = if path.is_empty() { prefix } else { &path };
        let path = path.trim_end_matches('/');
        if !path.is_empty() && !path.starts_with('/') {
            return Err(format!("{path}: a prefix begins with a slash"));
        }
        Ok(Target {
            origin,
            prefix: path.to_owned(),
        })
    }

    /// A path of the API.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}{below}", self.prefix)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

fn split(url: &str) -> Result<(Origin, String), String> {
    let wrong = || format!("{url}: not a URL such as https://app.example/api/v1");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let https = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    let host = authority.host().trim_matches(['[', ']']);
    if host.is_empty() || authority.as_str().contains('@') || uri.query().is_some() {
        return Err(wrong());
    }
    let origin = Origin {
        https,
        host: host.to_ascii_lowercase(),
        port: authority.port_u16().unwrap_or(default_port(https)),
    };
    Ok((origin, uri.path().trim_end_matches('/').to_owned()))
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn a_url_is_that_of_the_api_or_of_its_site() {
        for (url, shown) in [
            ("https://App.Example", "https://app.example/api/v1"),
            ("https://app.example:443/", "https://app.example/api/v1"),
            ("http://[::1]:8080/auth/", "http://[::1]:8080/auth"),
        ] {
            let target = Target::parse(url, "/api/v1").unwrap();
            assert_eq!(target.to_string(), shown);
        }
        for wrong in [
            "",
            "app.example",
            "ftp://app.example",
            "https://",
            "https://ada:pw@app.example",
            "https://app.example/?a",
        ] {
            assert!(Target::parse(wrong, "/api/v1").is_err(), "{wrong}");
        }
        assert!(Target::parse("https://app.example", "api").is_err());
        assert!(Origin::parse("https://app.example/app").is_err());
    }

    #[test]
    fn sites_follow_the_public_suffix_list() {
        for (one, other, same) in [
            ("https://app.example.com", "https://api.example.com", true),
            ("https://app.example.com", "http://app.example.com", false),
            ("https://app.example.co.uk", "https://example.co.uk", true),
            ("https://a.co.uk", "https://b.co.uk", false),
            ("https://ada.github.io", "https://bob.github.io", false),
            ("http://localhost:3000", "http://localhost:8080", true),
            ("http://127.0.0.1:3000", "http://127.0.0.1:8080", true),
            ("http://127.0.0.1", "http://127.1.0.1", false),
            ("http://127.0.0.1", "http://localhost", false),
        ] {
            assert_eq!(origin(one).is_same_site(&origin(other)), same, "{one}");
        }
    }
}
