//! What a host may configure of the wire. Lifetimes are in [`doorward_core::Policy`].

mod check;

use doorward_core::throttle::Budgets;
use doorward_core::{CsrfKind, Delivery};
use http::Method;

use crate::routes::Endpoint;

pub use self::check::check_proxies;

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
    /// Whether both cookies are named `__Host-` and have the path `/`, so that a sibling subdomain can
    /// set neither (RFC 6265bis, section 4.1.3.2). The refresh cookie then goes with every request.
    pub host_cookies: bool,
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
    /// `Path` of the device cookie, at or above `/login` under `url_prefix`, which is what `None` says.
    /// A view of the host's own that logs in must lie below it.
    pub device_cookie_path: Option<String>,
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
    /// Whether the description is mounted: `GET /openapi.json`, `GET /docs` and its files.
    pub docs: bool,
    /// What is not mounted, whatever the others say.
    pub unmounted: Vec<Endpoint>,
    /// What failed logins cost. `None`: nothing, and anybody may guess at any rate.
    pub throttle: Option<Budgets>,
    /// Whether `POST /register` is mounted.
    pub register: bool,
    /// Whether `POST /password` is mounted: not where a host cannot set passwords.
    pub change_password: bool,
    /// Whether `POST /password/reset` is mounted: only where the accounts are the built-in ones.
    pub reset_password: bool,
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
            host_cookies: false,
            same_site: None,
            access_cookie_name: None,
            refresh_cookie_name: None,
            adopted_cookie_name: None,
            access_cookie_path: None,
            refresh_cookie_path: None,
            device_cookie_path: None,
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
            docs: true,
            unmounted: Vec::new(),
            throttle: Some(Budgets::default()),
            register: false,
            change_password: true,
            reset_password: true,
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

impl Settings {
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
        let prefix = match (self.host_cookies, self.cookie_secure) {
            (true, _) => "__Host-",
            (false, true) => "__Secure-",
            (false, false) => "",
        };
        configured.map_or_else(|| format!("{prefix}{default}"), Into::into)
    }

    pub(crate) fn access_path(&self) -> String {
        let path = self.access_cookie_path.clone();
        path.unwrap_or_else(|| self.or_root(self.url_prefix.clone()))
    }

    pub(crate) fn refresh_path(&self) -> String {
        let path = self.refresh_cookie_path.clone();
        path.unwrap_or_else(|| self.or_root(format!("{}/refresh", self.url_prefix)))
    }

    fn or_root(&self, path: String) -> String {
        if self.host_cookies { "/".into() } else { path }
    }

    pub(crate) fn device_name(&self) -> String {
        self.cookie_name(None, "device_token_cookie")
    }

    pub(crate) fn device_path(&self) -> String {
        let path = self.device_cookie_path.clone();
        path.unwrap_or_else(|| self.or_root(format!("{}/login", self.url_prefix)))
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
