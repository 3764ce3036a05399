//! Cookies (RFC 6265): read, set, cleared.

use std::borrow::Cow;

use doorward_core::CsrfKind;
use doorward_core::service::Csrf;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::asked::Headers;
use crate::credentials::text;
use crate::settings::{SameSite, Settings};

/// Stale paths and domains leave more than one cookie of a name; this many are looked at.
const MOST: usize = 4;

/// The names, paths and attributes of all cookies, made once.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    pub(crate) access: Cookie,
    pub(crate) refresh: Cookie,
    /// Not a session's: a logout leaves it.
    pub(crate) device: Cookie,
    /// The refresh token of another program that goes by another name, at its usual path.
    pub(crate) foreign: Option<Cookie>,
    /// Beside those, where the double submit is by cookie.
    csrf: Option<[Cookie; 2]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    attributes: String,
}

impl Cookies {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (lax, strict) = (SameSite::Lax, SameSite::Strict);
        let cookie = |name: &str, path: &str, access, same_site| {
            Cookie::new(settings, name, path, access, same_site)
        };
        let csrf = settings.double_submit.as_ref();
        let csrf = csrf.filter(|csrf| csrf.in_cookies).map(|csrf| {
            [(CsrfKind::Access, lax), (CsrfKind::Refresh, strict)].map(|(kind, same_site)| {
                let names = csrf.names(kind);
                cookie(
                    &names.cookie_name,
                    &names.cookie_path,
                    Read::ByPages,
                    same_site,
                )
            })
        });
        let (access, refresh) = (settings.access_name(), settings.refresh_name());
        Cookies {
            access: cookie(&access, &settings.access_path(), Read::ByUsOnly, lax),
            refresh: cookie(&refresh, &settings.refresh_path(), Read::ByUsOnly, strict),
            device: cookie(
                &settings.device_name(),
                &settings.device_path(),
                Read::ByUsOnly,
                strict,
            ),
            foreign: settings
                .adopted_cookie_name
                .as_ref()
                .filter(|name| **name != refresh)
                .map(|name| cookie(name, "/", Read::ByUsOnly, strict)),
            csrf,
        }
    }

    pub(crate) fn clear_foreign(&self, headers: &mut HeaderMap) {
        if let Some(foreign) = &self.foreign {
            foreign.set(headers, "", Some(0));
        }
    }

    pub(crate) fn set_access(
        &self,
        headers: &mut HeaderMap,
        token: &str,
        csrf: Option<&Csrf>,
        max_age: Option<i64>,
    ) {
        self.access.set(headers, token, max_age);
        if let (Some([access, _]), Some(csrf)) = (&self.csrf, csrf) {
            access.set(headers, csrf.access.as_str(), max_age);
        }
    }

    pub(crate) fn set_refresh(
        &self,
        headers: &mut HeaderMap,
        token: &str,
        csrf: Option<&Csrf>,
        max_age: Option<i64>,
    ) {
        self.refresh.set(headers, token, max_age);
        if let (Some([_, refresh]), Some(csrf)) = (&self.csrf, csrf) {
            refresh.set(headers, csrf.refresh.as_str(), max_age);
        }
    }

    pub(crate) fn clear(&self, headers: &mut HeaderMap) {
        let csrf = self.csrf.iter().flatten();
        for cookie in [&self.access, &self.refresh].into_iter().chain(csrf) {
            cookie.set(headers, "", Some(0));
        }
    }
}

/// Who may read a cookie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    ByUsOnly,
    ByPages,
}

impl Cookie {
    fn new(settings: &Settings, name: &str, path: &str, read: Read, same_site: SameSite) -> Self {
        let domain = settings.cookie_domain.as_ref();
        let domain = domain.map_or_else(String::new, |domain| format!("; Domain={domain}"));
        let http_only = if read == Read::ByUsOnly {
            "; HttpOnly"
        } else {
            ""
        };
        let secure = if settings.cookie_secure {
            "; Secure"
        } else {
            ""
        };
        let same_site = settings.same_site.unwrap_or(same_site).name();
        Cookie {
            name: name.into(),
            attributes: format!("; Path={path}{domain}{http_only}{secure}; SameSite={same_site}"),
        }
    }

    /// The values of this name, in the order sent, four at most.
    pub(crate) fn find<'a>(&self, headers: Headers<'a>) -> Vec<Cow<'a, str>> {
        // As bytes: another application's cookie may be of any kind, and must not hide ours.
        let pairs = headers
            .all("cookie")
            .flat_map(|line| line.split(|byte| *byte == b';'));
        let values = pairs.filter_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(self.name.as_bytes())?;
            Some(value.strip_prefix(b"=")?).filter(|value| !value.is_empty())
        });
        values.map(text).take(MOST).collect()
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
