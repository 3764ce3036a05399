//! An exchange from its request to its answer, and how it goes on after a question to the host.

use std::sync::Arc;

use bytes::Bytes;
use doorward_core::account::{PasswordChange, PasswordReset, Refusal};
use doorward_core::adoption::Foreign;
use doorward_core::device_token::DeviceText;
use doorward_core::error::Result as Decided;
use doorward_core::service::{Grant, Refreshed, Terms};
use doorward_core::throttle::{Admitted, Outcome};
use doorward_core::{Caller, Delivery, EndReason, Error, Event, EventName, Identity, Service};
use doorward_core::{SessionId, UserId};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Client;
use crate::answers::{CsrfView, Granted, SessionView, Tokens, UserView, rfc3339};
use crate::cors;
use crate::problem::Problem;
use crate::reply::{Answer, Reply};
use crate::routes::{Api, Endpoint};

/// Either of the ways a step ends.
pub(crate) type Step = Result<Reply, Problem>;

/// Continues a login.
#[derive(Debug)]
pub struct Identified {
    pub(crate) terms: Terms,
    pub(crate) admitted: Admitted,
    /// Tokens of another program that came along: they must not open a session after this one.
    pub(crate) outdated: Vec<(Foreign, Delivery)>,
    pub(crate) exchange: Exchange,
}

impl Identified {
    /// The host says whose credentials they are.
    pub async fn answer(self, identity: Decided<Identity>) -> Reply {
        self.settled(identity.map_err(Refusal::from)).await
    }

    /// As [`Identified::answer`], where it is known why not.
    pub async fn settled(self, identity: Result<Identity, Refusal>) -> Reply {
        let mut exchange = self.exchange;
        let outcome = Outcome::from(&identity);
        let identity = identity.map_err(|refusal| exchange.failed(refusal));
        let settled = self.admitted.settle(outcome).await;
        let opened = match settled.and_then(|device| Ok((identity?, device))) {
            Ok((identity, device)) => opened(self.terms, identity, device, &mut exchange).await,
            Err(error) => Err(error),
        };
        let (grant, username) = match opened {
            Ok(opened) => opened,
            Err(error) => return exchange.refuse(&error.into()),
        };
        // Only now: a login that fails leaves the browser what it has.
        let api = exchange.api.clone();
        let ended = api.end_foreign(&self.outdated, EndReason::Replaced, &mut exchange);
        match ended.await {
            Ok(()) => exchange.granted(&grant, username.as_deref(), Handed::Both),
            Err(error) => exchange.refuse(&error.into()),
        }
    }
}

/// Opens the session of a login.
async fn opened(
    terms: Terms,
    identity: Identity,
    device: Option<DeviceText>,
    exchange: &mut Exchange,
) -> Decided<(Grant, Option<Box<str>>)> {
    let service = exchange.service.clone();
    let username = identity.username.clone();
    let (grant, events) = service.login(identity, terms).await;
    exchange.events.extend(events);
    Ok((Grant { device, ..grant? }, username))
}

/// Continues a reauthentication.
#[derive(Debug)]
pub struct Confirmed {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) admitted: Admitted,
    pub(crate) exchange: Exchange,
}

impl Confirmed {
    /// The host says whether it is the user's password.
    pub async fn answer(self, confirmed: Decided<()>) -> Reply {
        self.settled(confirmed.map_err(Refusal::from)).await
    }

    /// As [`Confirmed::answer`], where it is known why not.
    pub async fn settled(mut self, confirmed: Result<(), Refusal>) -> Reply {
        let settled = self.admitted.settle(Outcome::from(&confirmed)).await;
        if let Err(refusal) = settled.map_err(Refusal::from).and(confirmed) {
            return self
                .exchange
                .password_refused(refusal, &self.user, self.session);
        }
        let service = self.exchange.service.clone();
        let outcome = service.reauthenticate(self.session).await;
        match self.exchange.took(outcome) {
            Ok(grant) => self.exchange.granted(&grant, None, Handed::AccessOnly),
            Err(error) => self.exchange.refuse(&error.into()),
        }
    }
}

/// Continues a change of password.
#[derive(Debug)]
pub struct PasswordSet {
    pub(crate) terms: Terms,
    /// Whether the session is privileged: the next one is too.
    pub(crate) privileged: bool,
    pub(crate) admitted: Admitted,
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) exchange: Exchange,
}

impl PasswordSet {
    /// Who asks, for the log of events.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        self.exchange.service.caller()
    }

    /// The host has checked the current password and set the new one, or says why not. Whoever
    /// logged in by the old one is out; the one who changed it gets a new session.
    pub async fn answer(self, set: Decided<PasswordChange>) -> Reply {
        self.settled(set.map_err(Refusal::from)).await
    }

    /// As [`PasswordSet::answer`], where it is known why not.
    pub async fn settled(mut self, set: Result<PasswordChange, Refusal>) -> Reply {
        let throttle = Arc::clone(self.admitted.throttle());
        let settled = self.admitted.settle(Outcome::from(&set)).await;
        // A password that was changed stays so, whatever became of the count.
        let refused = settled.err().filter(|_| set.is_err());
        let mut change = match refused.map_or(set, |error| Err(error.into())) {
            Ok(change) => change,
            Err(refusal) => {
                return self
                    .exchange
                    .password_refused(refusal, &self.user, self.session);
            }
        };
        change.identity.privileged |= self.privileged;
        let username = change.identity.username.clone();
        let service = self.exchange.service.clone();
        let (opened, events) = service.password_changed(change, self.terms).await;
        self.exchange.events.extend(events);
        match opened {
            Ok(grant) => {
                // By the old password no device is known any more: this one shall be.
                let device = match &username {
                    Some(name) => throttle.known(name).await.ok().flatten(),
                    None => None,
                };
                let grant = Grant { device, ..grant };
                self.exchange
                    .granted(&grant, username.as_deref(), Handed::Both)
            }
            // The password is the new one; only the session that was to go with it ended at once.
            Err(Error::InvalidCredentials) => {
                let ended = Error::SessionEnded(EndReason::PasswordChanged);
                self.exchange.refuse(&ended.into())
            }
            Err(error) => self.exchange.refuse(&error.into()),
        }
    }
}

/// Continues a reset.
#[derive(Debug)]
pub struct PasswordWasReset {
    pub(crate) exchange: Exchange,
}

impl PasswordWasReset {
    /// The password is set and all sessions ended, or why not. Nobody is logged in by it.
    #[must_use]
    pub fn answer(mut self, reset: Decided<PasswordReset>) -> Reply {
        match reset {
            Ok(reset) => {
                self.exchange.events.extend(reset.events());
                self.exchange.ended(false)
            }
            Err(error) => self.exchange.refuse(&error.into()),
        }
    }
}

/// Continues a registration.
#[derive(Debug)]
pub struct Registered {
    pub(crate) admitted: Admitted,
    pub(crate) exchange: Exchange,
}

impl Registered {
    /// The host has made the account, or says why not.
    pub async fn answer(mut self, made: Decided<Identity>) -> Reply {
        if let Ok(Identity { user, .. }) = &made {
            let event = Event::new(EventName::Registered).of(user);
            self.exchange.note(event);
        }
        self.told(made).await
    }

    /// As [`Registered::answer`], by the built-in accounts, which leave the record themselves.
    pub(crate) async fn by_accounts(mut self, made: Decided<Identity>) -> Reply {
        if let Ok(Identity { user, .. }) = &made {
            let event = Event::new(EventName::Registered).of(user);
            self.exchange.events.push(event);
        }
        self.told(made).await
    }

    async fn told(self, made: Decided<Identity>) -> Reply {
        // A name that is taken tells that it is; and accounts are not to be made without number.
        let costs = matches!(made, Ok(_) | Err(Error::UsernameTaken));
        let outcome = if costs {
            Outcome::Failure
        } else {
            Outcome::Neither
        };
        let settled = self.admitted.settle(outcome).await;
        let refused = settled.err().filter(|_| made.is_err());
        match refused.map_or(made, Err) {
            Ok(Identity { user, username, .. }) => {
                let user = UserView {
                    id: &user,
                    username: username.as_deref(),
                };
                self.exchange.json(201, &json!({ "user": user }))
            }
            Err(error) => self.exchange.refuse(&error.into()),
        }
    }
}

/// Continues a refresh.
#[derive(Debug)]
pub struct Renewed {
    pub(crate) refreshed: Refreshed,
    pub(crate) exchange: Exchange,
}

impl Renewed {
    /// The host gives the claims that the new access token carries; `None`: those of the login. An
    /// error other than [`Error::StoreUnavailable`] ends the session.
    pub async fn answer(mut self, claims: Decided<Option<Box<str>>>) -> Reply {
        let service = self.exchange.service.clone();
        match claims {
            Ok(claims) => self.refreshed.session.claims = claims.or(self.refreshed.session.claims),
            Err(Error::StoreUnavailable) => {
                return self.exchange.refuse(&Error::StoreUnavailable.into());
            }
            Err(_) => {
                let ended = service
                    .end(self.refreshed.session.id, EndReason::Disabled)
                    .await;
                let error = self.exchange.took(ended).err();
                let error = error.unwrap_or(Error::SessionEnded(EndReason::Disabled));
                return self.exchange.refuse(&error.into());
            }
        }
        match service.grant(self.refreshed) {
            Ok(grant) => self.exchange.granted(&grant, None, Handed::Both),
            Err(error) => self.exchange.refuse(&error.into()),
        }
    }
}

/// Continues an adoption.
#[derive(Debug)]
pub struct Adopted {
    pub(crate) foreign: Arc<Foreign>,
    pub(crate) terms: Terms,
    pub(crate) exchange: Exchange,
}

impl Adopted {
    /// The host says who it is. Whatever is against it, the client learns that the token does not
    /// count.
    pub async fn answer(mut self, identity: Decided<Identity>) -> Reply {
        match self.open(identity).await {
            Ok(reply) => reply,
            Err(error) => self.exchange.refuse(&error.into()),
        }
    }

    async fn open(&mut self, identity: Decided<Identity>) -> Decided<Reply> {
        let identity = identity.map_err(|error| match error {
            Error::InvalidCredentials | Error::NotFound => Error::TokenInvalid,
            error => error,
        })?;
        let service = self.exchange.service.clone();
        let username = identity.username.clone();
        let adopted = service.adopt(&self.foreign, identity, self.terms.clone());
        let refreshed = self.exchange.took(adopted.await)?;
        let grant = service.grant(refreshed)?;
        let exchange = self.exchange.clone();
        let mut reply = exchange.granted(&grant, username.as_deref(), Handed::Both);
        if let (Reply::Done(answer), Delivery::Cookie) = (&mut reply, self.terms.delivery) {
            let headers = answer.response.headers_mut();
            self.exchange.api.cookies().clear_foreign(headers);
        }
        Ok(reply)
    }
}

/// Which tokens an answer carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    Both,
    AccessOnly,
}

/// What an exchange needs until its end.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) api: Api,
    pub(crate) origin: Option<HeaderValue>,
    pub(crate) varies: bool,
    /// On behalf of the client.
    pub(crate) service: Arc<Service>,
    pub(crate) events: Vec<Event>,
}

impl Exchange {
    pub(crate) fn new(
        api: &Api,
        endpoint: Endpoint,
        request: &Request<Bytes>,
        client: Client,
    ) -> Self {
        let origin = cors::allowed(cors::origin(request.headers()), api.settings());
        Exchange {
            api: api.clone(),
            origin,
            varies: !endpoint.is_public(),
            service: Arc::new(api.service().on_behalf_of(client.caller(request.headers()))),
            events: Vec::new(),
        }
    }

    /// For an answer that a host's own view gives.
    pub(crate) fn of_host(api: &Api) -> Self {
        Exchange {
            api: api.clone(),
            origin: None,
            varies: true,
            service: Arc::clone(api.service()),
            events: Vec::new(),
        }
    }

    /// Records that credentials were refused; what is answered.
    pub(crate) fn failed(&mut self, refusal: Refusal) -> Error {
        self.failed_in(refusal, |event| event)
    }

    fn failed_in(&mut self, refusal: Refusal, place: impl FnOnce(Event) -> Event) -> Error {
        if let Some(event) = refusal.event().map(place) {
            self.note(event);
        }
        refusal.error
    }

    fn note(&mut self, event: Event) {
        self.service.events().note(self.service.caller(), &event);
        self.events.push(event);
    }

    /// Keeps the event of an outcome.
    pub(crate) fn took<T>(&mut self, (result, event): (Decided<T>, Option<Event>)) -> Decided<T> {
        self.events.extend(event);
        result
    }

    pub(crate) fn done(self, mut response: Response<Bytes>) -> Reply {
        if self.varies {
            self.api.vary(&mut response);
        }
        self.api.finish(&mut response, self.origin.as_ref());
        Reply::Done(Answer {
            response,
            events: self.events,
        })
    }

    pub(crate) fn refuse(mut self, problem: &Problem) -> Reply {
        if matches!(problem, Problem::Engine(Error::TooManyAttempts { .. })) {
            self.note(Event::new(EventName::LoginThrottled));
        }
        let response = problem.response(self.api.settings());
        self.done(response)
    }

    /// Within a session a wrong password is no lack of one.
    pub(crate) fn password_refused(
        mut self,
        refusal: Refusal,
        user: &UserId,
        session: SessionId,
    ) -> Reply {
        let place = |event: Event| event.of(user).in_session(session);
        match self.failed_in(refusal, place) {
            Error::InvalidCredentials => self.refuse(&Problem::PasswordRefused),
            error => self.refuse(&error.into()),
        }
    }

    pub(crate) fn json(self, status: u16, value: &Value) -> Reply {
        self.json_and(status, value, |_, _| ())
    }

    pub(crate) fn json_and(
        self,
        status: u16,
        value: &impl Serialize,
        and: impl FnOnce(&Api, &mut Response<Bytes>),
    ) -> Reply {
        let mut response = Response::new(serde_json::to_vec(value).unwrap_or_default().into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        and(&self.api, &mut response);
        self.done(response)
    }

    pub(crate) fn ended(self, clear: bool) -> Reply {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if clear && self.api.settings().allows(Delivery::Cookie) {
            self.api.cookies().clear(response.headers_mut());
            self.api.cookies().clear_foreign(response.headers_mut());
        }
        self.done(response)
    }

    /// The answer to a login or a refresh, its tokens in the session's own delivery.
    pub(crate) fn granted(self, grant: &Grant, username: Option<&str>, handed: Handed) -> Reply {
        let api = self.api.clone();
        let session = &grant.session;
        let in_body = session.delivery == Delivery::Body;
        let answer = Granted {
            user: UserView {
                id: &session.user,
                username,
            },
            session: SessionView::of(session, api.service()),
            access_expires_at: rfc3339(grant.access_expires_at),
            refresh_expires_at: rfc3339(session.expires_at(api.service().policy())),
            server_time: rfc3339(grant.now),
            csrf: csrf_told(&api, grant, handed),
            tokens: in_body.then(|| Tokens {
                access_token: grant.access.as_str(),
                refresh_token: (handed == Handed::Both).then(|| grant.refresh.as_str()),
                device_token: grant.device.as_ref().map(DeviceText::as_str),
                token_type: api.settings().scheme(),
                expires_in: grant.access_expires_at.since(grant.now) / 1000,
            }),
        };
        self.json_and(200, &answer, |api, response| {
            if !in_body {
                set_cookies(api, grant, handed, response);
            }
        })
    }
}

/// Both live as long as what remains of a remembered session, so that an expired access token
/// still reaches logout.
fn set_cookies(api: &Api, grant: &Grant, handed: Handed, response: &mut Response<Bytes>) {
    let remains = grant
        .session
        .expires_at(api.service().policy())
        .since(grant.now)
        / 1000;
    let goes_with_the_browser = api.settings().session_cookie;
    let goes_with_the_browser = goes_with_the_browser.unwrap_or(!grant.session.remember);
    let max_age = (!goes_with_the_browser).then_some(remains);
    let (headers, cookies, csrf) = (response.headers_mut(), api.cookies(), grant.csrf.as_ref());
    cookies.set_access(headers, grant.access.as_str(), csrf, max_age);
    if handed == Handed::Both {
        cookies.set_refresh(headers, grant.refresh.as_str(), csrf, max_age);
    }
    if let (Some(device), Some(budgets)) = (&grant.device, &api.settings().throttle) {
        let max_age = i64::try_from(budgets.device_ttl.as_secs()).ok();
        cookies.device.set(headers, device.as_str(), max_age);
    }
}

/// What cookies do not tell of the double submit of a session whose tokens are in cookies.
fn csrf_told<'a>(api: &Api, grant: &'a Grant, handed: Handed) -> Option<CsrfView<'a>> {
    let double_submit = api.settings().double_submit.as_ref()?;
    let by_cookie = grant.session.delivery == Delivery::Cookie;
    let csrf = grant
        .csrf
        .as_ref()
        .filter(|_| by_cookie && !double_submit.in_cookies)?;
    Some(CsrfView {
        access: csrf.access.as_str(),
        refresh: (handed == Handed::Both).then(|| csrf.refresh.as_str()),
    })
}
