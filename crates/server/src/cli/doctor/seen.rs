//! What was seen, as values: all that the checks judge by.

use serde_json::Value;

use super::client::Answer;
use super::cookies::SetCookie;
use super::target::{Origin, Target};
use super::tls::Certificate;

/// What is asked, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// `openapi.json`: is it Doorward, and what is mounted?
    Description,
    /// Once more: does something in between keep answers?
    Again,
    /// `GET /session` as nobody.
    Session,
    /// The same from a client that takes compressed answers.
    Squeezed,
    /// The same with a worthless bearer token: does `Authorization` arrive?
    BadBearer,
    /// The same from a foreign page.
    ForeignRead,
    /// The same from the page's origin.
    PageRead,
    ForeignPreflight,
    PagePreflight,
    /// An empty login as the page sends it: 400.
    PageLogin,
    /// The same with `Origin` alone, the API's own: does `Host` arrive?
    HostLogin,
    /// From a foreign page.
    ForeignLogin,
    /// From a foreign page, with `Origin` alone.
    OriginLogin,
    /// From a foreign page, with `Sec-Fetch-Site` alone.
    FetchLogin,
    /// From a foreign page, with headers that claim another host and method.
    DisguisedLogin,
    /// A form's media type.
    TextLogin,
    /// A worthless refresh cookie: does `Cookie` arrive, and is nothing cleared?
    BadRefresh,
    /// `DELETE /sessions` as nobody: do methods arrive?
    Delete,
    Verify,
    /// The operator's paths at the public origin.
    Metrics,
    Ready,
    Login,
    /// With headers that claim another address.
    SpoofedLogin,
    Sessions,
    /// `GET /session` as the page.
    Who,
    ProtectedOpen,
    Protected,
    Refresh,
    Logout,
    /// `GET /session` with the old access token.
    AfterLogout,
}

impl Probe {
    /// Whether the answer must be the API's own.
    pub(crate) fn is_api(self) -> bool {
        use Probe as P;
        let passed_on = [P::Metrics, P::Ready, P::Protected, P::ProtectedOpen];
        // Proxies may refuse the first from outside, and answer the others themselves.
        let maybe = [P::Verify, P::ForeignPreflight, P::PagePreflight];
        !passed_on.contains(&self) && !maybe.contains(&self)
    }
}

/// Everything that was seen.
pub(crate) struct Seen {
    pub(crate) target: Target,
    /// The page's origin.
    pub(crate) page: Origin,
    /// A path that needs a session.
    pub(crate) protected: Option<String>,
    /// Whether a certificate that does not verify was accepted.
    pub(crate) insecure: bool,
    /// None where it is http.
    pub(crate) certificate: Option<Certificate>,
    /// What http:// does, where the API is https.
    pub(crate) plain: Option<Plain>,
    pub(crate) stopped: Option<Stopped>,
    pub(crate) described: Described,
    pub(crate) answers: Vec<(Probe, Answer)>,
    /// What was not answered, and why.
    pub(crate) unanswered: Vec<(Probe, String)>,
    /// The names of the cookies that a browser sent along.
    pub(crate) sent: Vec<(Probe, Vec<String>)>,
    /// The names of the cookies that a browser has left after logout.
    pub(crate) left: Vec<String>,
    /// Sessions of the doctor's own that it could not end.
    pub(crate) open: usize,
    /// Whether a login was not sent, as it would have gone in the clear.
    pub(crate) withheld: bool,
    pub(crate) now: i64,
}

/// What http:// does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Silent,
    Redirects(String),
    Answers(u16),
}

/// Why nothing more was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Unreachable(String),
    Untrusted,
    Redirected(String),
    NotDoorward(String),
}

impl Seen {
    pub(crate) fn new(target: Target, page: Option<Origin>, now: i64) -> Self {
        Seen {
            page: page.unwrap_or_else(|| target.origin.clone()),
            target,
            protected: None,
            insecure: false,
            certificate: None,
            plain: None,
            stopped: None,
            described: Described::default(),
            answers: Vec::new(),
            unanswered: Vec::new(),
            sent: Vec::new(),
            left: Vec::new(),
            open: 0,
            withheld: false,
            now,
        }
    }

    pub(crate) fn answer(&self, probe: Probe) -> Option<&Answer> {
        let mut answers = self.answers.iter();
        let (_, answer) = answers.find(|(asked, _)| *asked == probe)?;
        Some(answer)
    }

    /// An answer that says something of the question: neither a failure nor a throttled one.
    pub(crate) fn settled(&self, probe: Probe) -> Option<&Answer> {
        let answer = self.answer(probe)?;
        (answer.status < 500 && answer.status != 429).then_some(answer)
    }

    /// The status of such an answer.
    pub(crate) fn status(&self, probe: Probe) -> Option<u16> {
        Some(self.settled(probe)?.status)
    }

    /// Whether the page is of another origin than the API.
    pub(crate) fn is_cross_origin(&self) -> bool {
        self.page != self.target.origin
    }

    /// The answers of the API itself.
    pub(crate) fn api_answers(&self) -> impl Iterator<Item = &(Probe, Answer)> {
        self.answers.iter().filter(|(probe, _)| probe.is_api())
    }

    /// The cookies that login sets.
    pub(crate) fn cookies(&self) -> Vec<SetCookie> {
        let login = self.settled(Probe::Login);
        login.map_or_else(Vec::new, |login| {
            SetCookie::all(&login.headers, login.read_at)
        })
    }

    /// Whether a login was answered with a session.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.status(Probe::Login) == Some(200)
    }

    pub(crate) fn sent(&self, probe: Probe) -> &[String] {
        let mut sent = self.sent.iter();
        let sent = sent.find(|(asked, _)| *asked == probe);
        sent.map_or(&[], |(_, names)| names)
    }
}

/// What `openapi.json` says. The default knows nothing, and leaves out what depends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Described {
    pub(crate) is_there: bool,
    /// Where the API takes itself to be.
    pub(crate) prefix: Option<String>,
    pub(crate) access_cookie: Option<String>,
    pub(crate) refresh_cookie: Option<String>,
    /// Whether `Authorization: Bearer` is looked at.
    pub(crate) bearer: bool,
    /// The header of the double submit, for refresh tokens.
    pub(crate) csrf_header: Option<String>,
    paths: Value,
}

impl Described {
    /// The description of a Doorward.
    pub(crate) fn of(answer: &Answer) -> Option<Self> {
        let all = answer.json();
        if answer.status != 200 || all["info"]["title"] != "Doorward" {
            return None;
        }
        let schemes = &all["components"]["securitySchemes"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let submits = &all["paths"]["/refresh"]["post"]["parameters"][0];
        Some(Described {
            is_there: true,
            prefix: text(&all["servers"][0]["url"]),
            access_cookie: text(&schemes["access_cookie"]["name"]),
            refresh_cookie: text(&schemes["refresh_cookie"]["name"]),
            bearer: schemes["bearer"]["scheme"] == "bearer",
            csrf_header: text(&submits["name"]),
            paths: all["paths"].clone(),
        })
    }

    /// Whether it is mounted; where there is no description, it may be.
    pub(crate) fn mounts(&self, method: &str, path: &str) -> bool {
        !self.is_there || !self.paths[path][method].is_null()
    }

    /// Whether a cookie holds the access token, by its name.
    pub(crate) fn is_access(&self, name: &str) -> bool {
        match &self.access_cookie {
            Some(access) => access == name,
            None => name.ends_with("access_token_cookie"),
        }
    }

    /// Whether a cookie holds the refresh token, by its name.
    pub(crate) fn is_refresh(&self, name: &str) -> bool {
        match &self.refresh_cookie {
            Some(refresh) => refresh == name,
            None => name.ends_with("refresh_token_cookie"),
        }
    }
}
