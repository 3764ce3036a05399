//! The part that asks: connects, sends the probes, logs in and out again. It judges nothing.

use std::time::Duration;

use axum::body::Bytes;
use doorward_core::{Env, SystemEnv};
use serde_json::json;
use zeroize::Zeroizing;

use super::client::{Answer, Ask, Client, handshake};
use super::probes::{anonymous, as_page};
use super::seen::{Described, Plain, Probe, Seen, Stopped};
use super::session::Session;
use super::target::{Origin, Target};
use super::tls::Trust;
use crate::Outcome;

/// What the command line asks for.
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) page: Option<Origin>,
    pub(crate) protected: Option<String>,
    pub(crate) login: Option<Credentials>,
    pub(crate) insecure: bool,
    pub(crate) plain_port: u16,
    pub(crate) timeout: Duration,
}

pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: Zeroizing<String>,
}

/// Looks at everything that `wanted` allows.
pub(crate) async fn visit(wanted: Wanted) -> Outcome<Seen> {
    let now = SystemEnv.now().seconds();
    let mut seen = Seen::new(wanted.target.clone(), wanted.page.clone(), now);
    seen.protected.clone_from(&wanted.protected);
    seen.insecure = wanted.insecure;
    let client = match greeted(&wanted, &mut seen).await? {
        Ok(client) => client,
        Err(why) => {
            seen.stopped = Some(why);
            return Ok(seen);
        }
    };
    if client.origin.https {
        seen.plain = Some(plain(&seen, wanted.plain_port, wanted.timeout).await);
    }
    // A password goes over an open network only where that was asked for.
    let sends = client.origin.is_trustworthy() || wanted.insecure;
    seen.withheld = wanted.login.is_some() && !sends;
    let mut visitor = Visitor { client, seen };
    for (probe, ask) in anonymous(&visitor.seen) {
        visitor.ask(probe, &ask).await;
    }
    if let Some(login) = wanted.login.filter(|_| sends) {
        visitor.sign_in(&login).await;
    }
    Ok(visitor.seen)
}

/// A way to ask a Doorward, after a look at its certificate.
async fn greeted(wanted: &Wanted, seen: &mut Seen) -> Outcome<Result<Client, Stopped>> {
    let origin = wanted.target.origin.clone();
    let trust = Trust::of_this_machine();
    if origin.https {
        let certificate = match handshake(&origin, &trust, wanted.timeout).await {
            Ok(certificate) => certificate,
            Err(error) => return Ok(Err(Stopped::Unreachable(error.to_string()))),
        };
        let refused = certificate.refused.is_some();
        seen.certificate = Some(certificate);
        if refused && !wanted.insecure {
            return Ok(Err(Stopped::Untrusted));
        }
    }
    let tls = origin.https.then(|| trust.config(wanted.insecure));
    let client = Client::new(origin, tls.transpose()?, wanted.timeout);
    let introduced = introduced(&client, seen).await;
    Ok(introduced.map(|()| client))
}

/// Whether this is a Doorward, and what it says of itself.
async fn introduced(client: &Client, seen: &mut Seen) -> Result<(), Stopped> {
    let ask = Ask::new("GET", seen.target.path("/openapi.json"));
    let answer = reached(client, &ask).await?;
    if let Some(described) = Described::of(&answer) {
        seen.described = described;
        seen.answers.push((Probe::Description, answer));
        return Ok(());
    }
    // The description may be left out, or be kept from the public.
    let session = Ask::new("GET", seen.target.path("/session"));
    let session = reached(client, &session).await?;
    if session.code() == "token_missing" {
        return Ok(());
    }
    Err(Stopped::NotDoorward(format!(
        "openapi.json is answered {}, and session {}",
        answer.status, session.status
    )))
}

async fn reached(client: &Client, ask: &Ask) -> Result<Answer, Stopped> {
    let answer = client.send(ask).await;
    let answer = answer.map_err(|error| Stopped::Unreachable(error.to_string()))?;
    match answer.redirect() {
        Some(to) => Err(Stopped::Redirected(to)),
        None => Ok(answer),
    }
}

async fn plain(seen: &Seen, port: u16, timeout: Duration) -> Plain {
    let origin = Origin {
        https: false,
        host: seen.target.origin.host.clone(),
        port,
    };
    let ask = Ask::new("GET", seen.target.path("/session"));
    match Client::new(origin, None, timeout).send(&ask).await {
        Err(_) => Plain::Silent,
        Ok(answer) => match answer.redirect() {
            Some(to) => Plain::Redirects(to),
            None => Plain::Answers(answer.status),
        },
    }
}

struct Visitor {
    client: Client,
    seen: Seen,
}

impl Visitor {
    async fn ask(&mut self, probe: Probe, ask: &Ask) -> Option<Answer> {
        match self.client.send(ask).await {
            Ok(answer) => {
                self.seen.answers.push((probe, answer.clone()));
                Some(answer)
            }
            Err(error) => {
                self.seen.unanswered.push((probe, error.to_string()));
                None
            }
        }
    }

    /// Logs in twice, looks at what the first session can do, and ends both.
    async fn sign_in(&mut self, login: &Credentials) {
        let ask = self.login(login);
        let first = self.ask(Probe::Login, &ask).await;
        let Some(first) = first.and_then(|answer| Session::of(&answer, &self.seen)) else {
            return;
        };
        let spoofed = [
            "x-forwarded-for",
            "x-real-ip",
            "true-client-ip",
            "cf-connecting-ip",
        ];
        let claim = |ask: Ask, name| ask.header(name, SPOOFED);
        let ask = spoofed.into_iter().fold(ask, claim);
        let ask = ask.header("forwarded", format!("for={SPOOFED}"));
        let second = self.ask(Probe::SpoofedLogin, &ask).await;
        let second = second.and_then(|answer| Session::of(&answer, &self.seen));
        let first = self.lived(first).await;
        for session in std::iter::once(first).chain(second) {
            self.end(&session).await;
        }
    }

    fn login(&self, login: &Credentials) -> Ask {
        let cookies = self.seen.described.refresh_cookie.is_some();
        let delivery = if cookies { "cookie" } else { "body" };
        let mut body = json!({
            "username": login.username,
            "password": login.password.as_str(),
            "device": "doorward doctor",
        });
        if self.seen.described.is_there {
            body["delivery"] = delivery.into();
        }
        let body = Zeroizing::new(body.to_string());
        let ask = Ask::new("POST", self.seen.target.path("/login"));
        self.as_page(ask.json(Bytes::copy_from_slice(body.as_bytes())))
    }

    fn as_page(&self, ask: Ask) -> Ask {
        as_page(ask, &self.seen.page, &self.seen.target.origin)
    }

    /// The life of a session as its page leads it.
    async fn lived(&mut self, mut session: Session) -> Session {
        for (probe, path) in [(Probe::Sessions, "/sessions"), (Probe::Who, "/session")] {
            if self.seen.described.mounts("get", path) {
                let ask = Ask::new("GET", self.seen.target.path(path));
                self.ask_as(probe, &session, ask).await;
            }
        }
        if let Some(path) = self.seen.protected.clone() {
            let ask = Ask::new("GET", path);
            self.ask(Probe::ProtectedOpen, &ask).await;
            self.ask_as(Probe::Protected, &session, ask).await;
        }
        let path = self.seen.target.path("/refresh");
        let ask = session.with_refresh(self.as_page(Ask::new("POST", path)));
        let refreshed = self.ask_as(Probe::Refresh, &session, ask).await;
        if let Some(answer) = refreshed.filter(|answer| answer.status == 200) {
            session.renew(&answer, &self.seen, "/refresh");
        }
        let ask = Ask::new("POST", self.seen.target.path("/refresh/logout"));
        let ask = session.with_refresh(self.as_page(ask));
        if let Some(answer) = self.ask_as(Probe::Logout, &session, ask).await {
            session.forget(&answer, &self.seen);
        }
        self.seen.left = session.jar.names();
        let ask = Ask::new("GET", self.seen.target.path("/session"));
        self.ask(Probe::AfterLogout, &session.with_all(ask)).await;
        session
    }

    /// Asks with what a browser, or a client with tokens, sends along.
    async fn ask_as(&mut self, probe: Probe, session: &Session, mut ask: Ask) -> Option<Answer> {
        let sent = session.jar.sent(&ask.path, true);
        let sent = sent.iter().map(|cookie| cookie.name.clone()).collect();
        self.seen.sent.push((probe, sent));
        if let Some(cookies) = session.jar.header(&ask.path, true) {
            ask = ask.header("cookie", cookies.as_str());
        }
        if let Some(token) = &session.bearer {
            ask = ask.header("authorization", format!("Bearer {}", token.as_str()));
        }
        self.ask(probe, &ask).await
    }

    /// Ends a session by its tokens, whatever a browser would have kept, first as the API's own page
    /// and then as no browser.
    async fn end(&mut self, session: &Session) {
        let path = self.seen.target.path("/refresh/logout");
        let bare = session.with_all(session.with_refresh(Ask::new("POST", path)));
        let own = &self.client.origin;
        for ask in [as_page(bare.clone(), own, own), bare] {
            let answer = self.client.send(&ask).await;
            if answer.is_ok_and(|answer| answer.status == 204) && self.is_over(session).await {
                return;
            }
        }
        self.seen.open += 1;
    }

    async fn is_over(&self, session: &Session) -> bool {
        let ask = Ask::new("GET", self.seen.target.path("/session"));
        let answer = self.client.send(&session.with_all(ask)).await;
        session.has_tokens() && answer.is_ok_and(|answer| answer.status != 200)
    }
}

/// An address that belongs to nobody (RFC 5737).
pub(crate) const SPOOFED: &str = "203.0.113.77";
