//! What a host may configure of the wire. Lifetimes are in [`doorward_core::Policy`].

use doorward_core::Delivery;

/// Paths, cookies and origins. The defaults are those of docs/settings.md.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches that operators know by name"
)]
pub struct Settings {
    /// Where the API is mounted; starts with `/` and does not end with it.
    pub url_prefix: String,
    /// Allowed deliveries; the first is the default, and their order is the order in which an
    /// access token is looked for: cookie, or `Authorization: Bearer`.
    pub delivery: Vec<Delivery>,
    /// Whether cookies are `Secure`, and their names begin with `__Secure-`.
    pub cookie_secure: bool,
    /// `Domain` of the cookies. `None`: this host only.
    pub cookie_domain: Option<String>,
    /// `Path` of the access cookie. `None`: `url_prefix`.
    pub access_cookie_path: Option<String>,
    /// Other origins whose pages may call the API with credentials, as `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// Whether pages of sibling subdomains (`Sec-Fetch-Site: same-site`) may call the API.
    pub allow_same_site: bool,
    /// Refuses unsafe cookie requests that carry neither `Sec-Fetch-Site` nor `Origin`.
    pub csrf_strict: bool,
    /// Whether `POST /register` is mounted.
    pub register: bool,
    /// Whether `POST /password` is mounted: not where a host cannot set passwords.
    pub change_password: bool,
    /// Whether `GET /verify` is mounted, for proxies.
    pub verify: bool,
    /// Whether each refresh asks the host for the claims of its user.
    pub renew: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            url_prefix: "/api/v1".into(),
            delivery: vec![Delivery::Cookie, Delivery::Body],
            cookie_secure: true,
            cookie_domain: None,
            access_cookie_path: None,
            allowed_origins: Vec::new(),
            allow_same_site: false,
            csrf_strict: false,
            register: false,
            change_password: true,
            verify: false,
            renew: false,
        }
    }
}

/// What is wrong with the settings, in words that say what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub &'static str);

impl Settings {
    /// Checks that the values can be used.
    ///
    /// # Errors
    /// The first rule broken, in words that say what to change.
    pub fn check(&self) -> Result<(), SettingsError> {
        let rule = |holds, text| {
            if holds {
                Ok(())
            } else {
                Err(SettingsError(text))
            }
        };
        let path = |path: &str| {
            path.starts_with('/')
                && path
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b";,\"\\?#{}".contains(&b))
        };
        // Routers read `:` and `*` at the start of a segment as a pattern; clients resolve dots.
        let plain = |segment: &str| {
            !segment.is_empty() && !segment.starts_with([':', '*']) && !segment.starts_with('.')
        };
        rule(
            path(&self.url_prefix) && self.url_prefix.split('/').skip(1).all(plain),
            "url_prefix must look like /api/v1: a slash before each part, no special characters",
        )?;
        rule(
            !self.delivery.is_empty(),
            "delivery must name cookie, body, or both",
        )?;
        rule(
            self.access_cookie_path.as_deref().is_none_or(path),
            "access_cookie_path must start with a slash and have no special characters",
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
        )
    }

    pub(crate) fn allows(&self, delivery: Delivery) -> bool {
        self.delivery.contains(&delivery)
    }

    pub(crate) fn refresh_path(&self) -> String {
        format!("{}/refresh", self.url_prefix)
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_plain_path() {
        let accepts = |prefix: &str| {
            let settings = Settings {
                url_prefix: prefix.into(),
                ..Settings::default()
            };
            settings.check().is_ok()
        };
        for prefix in ["/api", "/api/v1", "/auth-2/x_y", "/a:b", "/~me"] {
            assert!(accepts(prefix), "{prefix}");
        }
        for prefix in [
            "", "/", "api", "/api/", "//api", "/a//b", "/:a", "/a/:b", "/*a", "/{x}", "/{*x}",
            "/..", "/a/../b", "/a b", "/a?b", "/a#b",
        ] {
            assert!(!accepts(prefix), "{prefix}");
        }
    }
}
