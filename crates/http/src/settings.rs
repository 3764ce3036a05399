//! What a host may configure of the wire. Lifetimes are in [`doorward_core::Policy`].

use doorward_core::{CsrfKind, Delivery};
use http::{HeaderName, Method};

use crate::problem;
use crate::routes::Endpoint;

/// Paths, cookies, origins, and where tokens are found. The defaults are those of docs/settings.md.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches that operators know by name"
)]
pub struct Settings {
    /// Where the API is mounted; starts with `/` and does not end with it.
    pub url_prefix: String,
    /// Allowed deliveries; the first is the default, and their order is the order in which an
    /// access token is looked for where `locations` does not say: cookie, or header.
    pub delivery: Vec<Delivery>,
    /// Whether cookies are `Secure`, and the names that are not configured begin with `__Secure-`.
    pub cookie_secure: bool,
    /// `Domain` of the cookies. `None`: this host only.
    pub cookie_domain: Option<String>,
    /// `SameSite` of all cookies. `None`: `Lax` for the access token, `Strict` for the refresh token.
    pub same_site: Option<SameSite>,
    /// Name of the access cookie. `None`: `access_token_cookie`, after `__Secure-` where it is.
    pub access_cookie_name: Option<String>,
    /// Name of the refresh cookie. `None`: `refresh_token_cookie`, after `__Secure-` where it is.
    pub refresh_cookie_name: Option<String>,
    /// The name of the cookie that holds another program's refresh token, where the service adopts
    /// those; `None`: that of ours.
    pub adopted_cookie_name: Option<String>,
    /// `Path` of the access cookie, at or above `url_prefix`, which is what `None` says.
    pub access_cookie_path: Option<String>,
    /// `Path` of the refresh cookie, at or above `/refresh` under `url_prefix`, which is what `None`
    /// says.
    pub refresh_cookie_path: Option<String>,
    /// Whether cookies go with the browser (no `Max-Age`). `None`: as `remember` says at login.
    pub session_cookie: Option<bool>,
    /// Where an access token is looked for, in this order. `None`: as `delivery` says.
    pub locations: Option<Vec<Location>>,
    /// The header that carries an access token.
    pub header_name: String,
    /// The scheme before the token in it, in any case. Empty: the whole value is the token.
    pub header_type: String,
    /// The parameter of the query string that carries an access token.
    pub query_name: String,
    /// What stands before the token in it; a value without it carries none.
    pub query_value_prefix: String,
    /// The field of a JSON body that carries an access token.
    pub json_key: String,
    /// The field of a JSON body that carries a refresh token.
    pub refresh_json_key: String,
    /// The member of a problem document that repeats its `detail`.
    pub message_key: String,
    /// Other origins whose pages may call the API with credentials, as `https://app.example`.
    pub allowed_origins: Vec<String>,
    /// Whether pages of sibling subdomains (`Sec-Fetch-Site: same-site`) may call the API.
    pub allow_same_site: bool,
    /// Refuses unsafe cookie requests that carry neither `Sec-Fetch-Site` nor `Origin`.
    pub csrf_strict: bool,
    /// What requests with a cookie must repeat, beyond the rule for origins. `None`: nothing.
    /// [`doorward_core::Policy::csrf`] must be on for it.
    pub double_submit: Option<DoubleSubmit>,
    /// What is not mounted, whatever the others say.
    pub unmounted: Vec<Endpoint>,
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
            same_site: None,
            access_cookie_name: None,
            refresh_cookie_name: None,
            adopted_cookie_name: None,
            access_cookie_path: None,
            refresh_cookie_path: None,
            session_cookie: None,
            locations: None,
            header_name: "Authorization".into(),
            header_type: "Bearer".into(),
            query_name: "jwt".into(),
            query_value_prefix: String::new(),
            json_key: "access_token".into(),
            refresh_json_key: "refresh_token".into(),
            message_key: "msg".into(),
            allowed_origins: Vec::new(),
            allow_same_site: false,
            csrf_strict: false,
            double_submit: None,
            unmounted: Vec::new(),
            register: false,
            change_password: true,
            verify: false,
            renew: false,
        }
    }
}

/// Where an access token is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In the access cookie. Browsers send it unasked, so the rules against CSRF apply.
    Cookie,
    /// In the header of [`Settings::header_name`].
    Header,
    /// In the query string, as [`Settings::query_name`], from where it gets into logs and histories.
    QueryString,
    /// In a JSON body, as [`Settings::json_key`].
    Json,
}

/// `SameSite` (RFC 6265bis).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SameSite {
    /// Sent by this site's pages only.
    Strict,
    /// And when a link of another site leads here.
    Lax,
    /// Sent always; browsers ask for `Secure` then.
    None,
}

impl SameSite {
    pub(crate) fn name(self) -> &'static str {
        match self {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        }
    }
}

/// The double submit of Flask-JWT-Extended: a request whose credential came by cookie repeats a
/// value that only pages of this site can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubleSubmit {
    /// The methods that ask for it, in any case.
    pub methods: Vec<Method>,
    /// Whether the values are in cookies of their own, which pages can read. If not, the answers
    /// that set the tokens' cookies carry them as `csrf`.
    pub in_cookies: bool,
    /// Whether a guarded form may carry the value instead of the header.
    pub check_form: bool,
    /// For access tokens.
    pub access: CsrfNames,
    /// For refresh tokens.
    pub refresh: CsrfNames,
}

/// Where a value of the double submit is, for one kind of token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsrfNames {
    /// The header that repeats it.
    pub header_name: String,
    /// The field of a form that repeats it.
    pub field_name: String,
    /// The cookie that tells it.
    pub cookie_name: String,
    /// `Path` of that cookie: where the pages are that read it.
    pub cookie_path: String,
}

impl CsrfNames {
    fn of(cookie_name: &str) -> Self {
        CsrfNames {
            header_name: "X-CSRF-TOKEN".into(),
            field_name: "csrf_token".into(),
            cookie_name: cookie_name.into(),
            cookie_path: "/".into(),
        }
    }
}

impl Default for DoubleSubmit {
    fn default() -> Self {
        DoubleSubmit {
            methods: vec![Method::POST, Method::PUT, Method::PATCH, Method::DELETE],
            in_cookies: true,
            check_form: false,
            access: CsrfNames::of("csrf_access_token"),
            refresh: CsrfNames::of("csrf_refresh_token"),
        }
    }
}

impl DoubleSubmit {
    /// Whether requests of this method must repeat the value.
    pub(crate) fn applies(&self, method: &str) -> bool {
        let mut methods = self.methods.iter();
        methods.any(|own| own.as_str().eq_ignore_ascii_case(method))
    }

    pub(crate) fn names(&self, kind: CsrfKind) -> &CsrfNames {
        match kind {
            CsrfKind::Access => &self.access,
            CsrfKind::Refresh => &self.refresh,
        }
    }

    fn both(&self) -> [&CsrfNames; 2] {
        [&self.access, &self.refresh]
    }
}

/// What is wrong with the settings, in words that say what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub &'static str);

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
            !self.message_key.is_empty() && !problem::MEMBERS.contains(&&*self.message_key),
            "message_key must not be empty or one of type, title, status, detail, code and reason, which problem documents have already",
        )?;
        self.check_places()?;
        self.check_paths()?;
        self.check_cookies()
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

    pub(crate) fn allows(&self, delivery: Delivery) -> bool {
        self.delivery.contains(&delivery)
    }

    /// Where an access token is looked for, in this order.
    pub(crate) fn locations(&self) -> Vec<Location> {
        let of_delivery = |delivery: &Delivery| match delivery {
            Delivery::Cookie => Location::Cookie,
            Delivery::Body => Location::Header,
        };
        let configured = self.locations.clone();
        configured.unwrap_or_else(|| self.delivery.iter().map(of_delivery).collect())
    }

    pub(crate) fn access_name(&self) -> String {
        self.cookie_name(self.access_cookie_name.as_deref(), "access_token_cookie")
    }

    pub(crate) fn refresh_name(&self) -> String {
        self.cookie_name(self.refresh_cookie_name.as_deref(), "refresh_token_cookie")
    }

    fn cookie_name(&self, configured: Option<&str>, default: &str) -> String {
        let prefix = if self.cookie_secure { "__Secure-" } else { "" };
        configured.map_or_else(|| format!("{prefix}{default}"), Into::into)
    }

    pub(crate) fn access_path(&self) -> String {
        let path = self.access_cookie_path.clone();
        path.unwrap_or_else(|| self.url_prefix.clone())
    }

    pub(crate) fn refresh_path(&self) -> String {
        let path = self.refresh_cookie_path.clone();
        path.unwrap_or_else(|| format!("{}/refresh", self.url_prefix))
    }

    /// The scheme that clients use, as challenges and answers name it.
    pub(crate) fn scheme(&self) -> &str {
        let named = !self.header_type.is_empty();
        let is_usual = self.header_name.eq_ignore_ascii_case("authorization");
        if named && is_usual {
            &self.header_type
        } else {
            "Bearer"
        }
    }
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

    fn refused(change: impl FnOnce(&mut Settings)) -> Option<&'static str> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().err().map(|error| error.0)
    }

    fn refused_csrf(change: impl FnOnce(&mut DoubleSubmit)) -> Option<&'static str> {
        let mut double_submit = DoubleSubmit::default();
        change(&mut double_submit);
        refused(|settings| settings.double_submit = Some(double_submit))
    }

    #[test]
    fn cookie_paths_cover_the_routes_as_browsers_see_it() {
        let access = |path: &str| refused(|s| s.access_cookie_path = Some(path.into())).is_none();
        for path in ["/", "/api", "/api/", "/api/v1", "/api/v1/"] {
            assert!(access(path), "{path}");
        }
        for path in [
            "",
            "api/v1",
            "/ap",
            "/api/v",
            "/api/v10",
            "/API/v1",
            "/api/v1/x",
            "/api//v1",
            "//",
            "/api/v1;x",
            "/other",
        ] {
            assert!(!access(path), "{path}");
        }
        let refresh = |path: &str| refused(|s| s.refresh_cookie_path = Some(path.into())).is_none();
        for path in ["/", "/api/v1", "/api/v1/", "/api/v1/refresh"] {
            assert!(refresh(path), "{path}");
        }
        for path in [
            "/api/v1/refresh/",
            "/api/v1/refres",
            "/api/v1/refreshed",
            "/refresh",
        ] {
            assert!(!refresh(path), "{path}");
        }
    }

    #[test]
    fn names_of_cookies_are_tokens_and_keep_their_promises() {
        let named = |name: &str, change: fn(&mut Settings)| {
            refused(|settings| {
                settings.access_cookie_name = Some(name.into());
                change(settings);
            })
            .is_none()
        };
        let plain = |settings: &mut Settings| settings.cookie_secure = false;
        let root = |settings: &mut Settings| settings.access_cookie_path = Some("/".into());
        let wide = |settings: &mut Settings| {
            settings.access_cookie_path = Some("/".into());
            settings.cookie_domain = Some("example".into());
        };
        for name in ["a", "access_token_cookie", "__Secure-a", "__Http-a", "a.b!"] {
            assert!(named(name, |_| ()), "{name}");
        }
        for name in [
            "", "a b", "a;b", "a=b", "a,b", "a\"", "\u{e9}", "a\n", "a/b", "(a)",
        ] {
            assert!(!named(name, |_| ()), "{name:?}");
        }
        assert!(named("a", plain));
        for name in [
            "__Secure-a",
            "__secure-a",
            "__HOST-a",
            "__Host-a",
            "__Http-a",
        ] {
            assert!(!named(name, plain), "{name}");
        }
        for name in ["__Host-a", "__host-a", "__Host-Http-a"] {
            assert!(named(name, root), "{name}");
            assert!(!named(name, |_| ()) && !named(name, wide), "{name}");
        }
        let csrf = |name: &str| refused_csrf(|csrf| csrf.access.cookie_name = name.into());
        assert_eq!(csrf("__Host-csrf"), None);
        // Pages could not read them.
        assert!(csrf("__Http-csrf").is_some() && csrf("__Host-Http-csrf").is_some());
    }

    #[test]
    fn two_cookies_of_one_name_do_not_meet() {
        let twice = refused(|settings| {
            settings.access_cookie_name = Some("a".into());
            settings.refresh_cookie_name = Some("a".into());
        });
        assert!(twice.is_some());
        let same = |path: &str| {
            refused_csrf(|csrf| {
                csrf.refresh.cookie_name = csrf.access.cookie_name.clone();
                csrf.access.cookie_path = "/shop".into();
                csrf.refresh.cookie_path = path.into();
            })
        };
        assert!(same("/shop/x").is_some() && same("/").is_some() && same("/shop").is_some());
        assert!(same("/shopping").is_none() && same("/account").is_none());
        let as_token = |csrf: &mut DoubleSubmit| {
            csrf.access.cookie_name = "__Secure-access_token_cookie".into();
        };
        assert!(refused_csrf(as_token).is_some());
        let none_set = |csrf: &mut DoubleSubmit| {
            as_token(csrf);
            csrf.in_cookies = false;
        };
        assert!(refused_csrf(none_set).is_none());
    }

    #[test]
    fn same_site_none_needs_secure() {
        let with = |same_site, cookie_secure| {
            refused(|settings| {
                settings.same_site = Some(same_site);
                settings.cookie_secure = cookie_secure;
            })
        };
        let why = with(SameSite::None, false).unwrap();
        assert!(why.contains("cookie_secure"), "{why}");
        assert_eq!(with(SameSite::None, true), None);
        assert_eq!(with(SameSite::Strict, false), None);
    }

    #[test]
    fn every_delivery_has_a_place_where_its_tokens_are_found() {
        let found = |delivery: &[Delivery], locations: &[Location]| {
            refused(|settings| {
                settings.delivery = delivery.to_vec();
                settings.locations = Some(locations.to_vec());
            })
            .is_none()
        };
        let (cookie, body) = ([Delivery::Cookie], [Delivery::Body]);
        assert!(found(&cookie, &[Location::Cookie]) && !found(&cookie, &[Location::Header]));
        for location in [Location::Header, Location::QueryString, Location::Json] {
            assert!(found(&body, &[location]));
        }
        assert!(!found(&body, &[Location::Cookie]) && !found(&body, &[]));
        assert!(found(&body, &[Location::Cookie, Location::Json]));
    }

    #[test]
    fn headers_fields_and_members_with_a_meaning_keep_it() {
        let header = |name: &str| refused(|s| s.header_name = name.into()).is_none();
        assert!(header("authorization") && header("X-Token"));
        for name in [
            "",
            "Cookie",
            "HOST",
            "origin",
            "Sec-Fetch-Site",
            "X Token",
            "X:",
            "X\n",
        ] {
            assert!(!header(name), "{name:?}");
        }
        let scheme = |name: &str| refused(|s| s.header_type = name.into()).is_none();
        assert!(scheme("") && scheme("JWT") && !scheme("JWT ") && !scheme("a b"));
        let csrf = |name: &str| refused_csrf(|csrf| csrf.refresh.header_name = name.into());
        assert!(csrf("X-XSRF").is_none() && csrf("authorization").is_some());
        assert!(csrf("cookie").is_some() && csrf("").is_some());
        let json = |name: &str| refused(|s| s.json_key = name.into()).is_none();
        assert!(json("token") && !json("password") && !json("remember") && !json(""));
        let message = |name: &str| refused(|s| s.message_key = name.into()).is_none();
        assert!(message("message") && message("error") && !message(""));
        for name in problem::MEMBERS {
            assert!(!message(name), "{name}");
        }
    }
}
