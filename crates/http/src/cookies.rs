//! Cookies (RFC 6265): read, set, cleared.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::settings::Settings;

/// Stale paths and domains leave more than one cookie of a name; this many are looked at.
const MOST: usize = 4;

/// The names, paths and attributes of both cookies, made once.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    pub(crate) access: Cookie,
    pub(crate) refresh: Cookie,
}

#[derive(Clone, Debug)]
pub(crate) struct Cookie {
    name: String,
    attributes: String,
}

impl Cookies {
    pub(crate) fn new(settings: &Settings) -> Self {
        let prefix = if settings.cookie_secure {
            "__Secure-"
        } else {
            ""
        };
        let cookie = |name: &str, path: &str, same_site: &str| {
            let domain = settings.cookie_domain.as_ref();
            let domain = domain.map_or_else(String::new, |domain| format!("; Domain={domain}"));
            let secure = if settings.cookie_secure {
                "; Secure"
            } else {
                ""
            };
            Cookie {
                name: format!("{prefix}{name}"),
                attributes: format!(
                    "; Path={path}{domain}; HttpOnly{secure}; SameSite={same_site}"
                ),
            }
        };
        let path = settings
            .access_cookie_path
            .as_deref()
            .unwrap_or(&settings.url_prefix);
        Cookies {
            access: cookie("access_token_cookie", path, "Lax"),
            refresh: cookie("refresh_token_cookie", &settings.refresh_path(), "Strict"),
        }
    }

    pub(crate) fn clear(&self, headers: &mut HeaderMap) {
        self.access.set(headers, "", Some(0));
        self.refresh.set(headers, "", Some(0));
    }
}

impl Cookie {
    /// The values of this name, in the order sent, four at most.
    pub(crate) fn find<'a>(&'a self, headers: &'a HeaderMap) -> Vec<&'a str> {
        // As bytes: another application's cookie may be of any kind, and must not hide ours.
        let pairs = headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let values = pairs.filter_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(self.name.as_bytes())?;
            Some(value.strip_prefix(b"=")?).filter(|value| !value.is_empty())
        });
        // What is no text is no token either.
        let values = values.map(|value| std::str::from_utf8(value).unwrap_or("?"));
        values.take(MOST).collect()
    }

    /// `max_age` in seconds; without one the cookie goes with the browser.
    pub(crate) fn set(&self, headers: &mut HeaderMap, value: &str, max_age: Option<i64>) {
        let max_age = max_age.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
        let line = format!("{}={value}{max_age}{}", self.name, self.attributes);
        if let Ok(mut line) = HeaderValue::from_str(&line) {
            line.set_sensitive(true);
            headers.append(SET_COOKIE, line);
        }
    }
}
