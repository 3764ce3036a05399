//! ROUTES: the table, then one function an endpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::access_token::Claims;
use doorward_core::error::Result as Decided;
use doorward_core::password::Password;
use doorward_core::reset::ResetHash;
use doorward_core::service::{Grant, Refreshed, Terms};
use doorward_core::throttle::Throttle;
use doorward_core::{
    CsrfKind, Delivery, Device, EndReason, Error, Sensitive, Service, Session, SessionId,
};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use serde_json::json;

use crate::answers::{SessionView, UserView, happened, listed, rfc3339};
use crate::asked::{Asked, InBody};
use crate::body::Fields;
use crate::client::Client;
use crate::cookies::Cookies;
use crate::credentials::{self, Found, Places, newest_refresh};
use crate::exchange::Handed;
use crate::exchange::{
    Confirmed, Exchange, Identified, PasswordSet, PasswordWasReset, Registered, Renewed, Step,
};
use crate::guard::Need;
use crate::problem::Problem;
use crate::reply::{Ask, Reply};
use crate::settings::{Location, Settings, SettingsError};
use crate::{body, client, cors, csrf, docs, openapi};

/// Everything the API can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "docs/api.md and the OpenAPI description say what each does"
)]
pub enum Endpoint {
    Login,
    Refresh,
    Logout,
    Session,
    Sessions,
    EndSession,
    EndSessions,
    Events,
    Reauthenticate,
    ChangePassword,
    ResetPassword,
    Register,
    Jwks,
    OpenApi,
    Docs,
    DocsAsset,
    Verify,
}

impl Endpoint {
    /// Whether `settings` mount it. A question that the host cannot answer is not asked.
    #[must_use]
    pub fn is_mounted(self, settings: &Settings) -> bool {
        !settings.unmounted.contains(&self) && self.is_answered(settings)
    }

    fn is_answered(self, settings: &Settings) -> bool {
        match self {
            Endpoint::OpenApi | Endpoint::Docs => settings.docs,
            Endpoint::DocsAsset => Endpoint::Docs.is_mounted(settings),
            Endpoint::Register => settings.register,
            Endpoint::ChangePassword => settings.change_password,
            Endpoint::ResetPassword => settings.reset_password,
            Endpoint::Verify => settings.verify,
            _ => true,
        }
    }

    /// Whether the answer is the same for everybody.
    pub(crate) fn is_public(self) -> bool {
        matches!(
            self,
            Endpoint::Jwks | Endpoint::OpenApi | Endpoint::Docs | Endpoint::DocsAsset
        )
    }
}

/// A line of [`ROUTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How it is asked for.
    pub method: Method,
    /// Below the prefix; `{id}` is a segment.
    pub path: &'static str,
    /// What it is.
    pub endpoint: Endpoint,
}

const fn route(method: Method, path: &'static str, endpoint: Endpoint) -> Route {
    Route {
        method,
        path,
        endpoint,
    }
}

/// The API: what [`Endpoint::is_mounted`] says of it is mounted.
pub static ROUTES: [Route; 18] = [
    route(Method::POST, "/login", Endpoint::Login),
    route(Method::POST, "/refresh", Endpoint::Refresh),
    route(Method::POST, "/logout", Endpoint::Logout),
    route(Method::POST, "/refresh/logout", Endpoint::Logout),
    route(Method::GET, "/session", Endpoint::Session),
    route(Method::GET, "/sessions", Endpoint::Sessions),
    route(Method::DELETE, "/sessions/{id}", Endpoint::EndSession),
    route(Method::DELETE, "/sessions", Endpoint::EndSessions),
    route(Method::GET, "/events", Endpoint::Events),
    route(Method::POST, "/reauthenticate", Endpoint::Reauthenticate),
    route(Method::POST, "/password", Endpoint::ChangePassword),
    route(Method::POST, "/password/reset", Endpoint::ResetPassword),
    route(Method::POST, "/register", Endpoint::Register),
    route(Method::GET, "/jwks.json", Endpoint::Jwks),
    route(Method::GET, "/openapi.json", Endpoint::OpenApi),
    route(Method::GET, "/docs", Endpoint::Docs),
    route(Method::GET, "/docs/{asset}", Endpoint::DocsAsset),
    route(Method::GET, "/verify", Endpoint::Verify),
];

/// The API over a service. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    service: Arc<Service>,
    throttle: Arc<Throttle>,
    settings: Settings,
    cookies: Cookies,
    places: Places,
    /// None where no header carries a token.
    vary: Option<HeaderValue>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

/// A session, and where the credential that names it was.
type Named = (SessionId, Location);

impl Api {
    /// The API over `service`.
    ///
    /// # Errors
    /// Settings that cannot be used, in words that say what to change.
    pub fn new(service: Arc<Service>, settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        if settings.double_submit.is_some() && !service.policy().csrf {
            return Err(SettingsError(
                "double_submit needs the policy's csrf, which puts the value into access tokens",
            ));
        }
        let places = Places::new(&settings);
        Ok(Api(Arc::new(Inner {
            cookies: Cookies::new(&settings),
            vary: vary(&settings, &places),
            places,
            throttle: Arc::new(Throttle::new(
                Arc::clone(&service),
                settings.throttle.clone(),
            )),
            service,
            settings,
        })))
    }

    /// Answers a request that the host has routed and read whole.
    pub async fn call(&self, endpoint: Endpoint, request: Request<Bytes>, client: Client) -> Reply {
        let exchange = Exchange::new(self, endpoint, &request, client);
        match self
            .step(endpoint, &request, client, exchange.clone())
            .await
        {
            Ok(reply) => reply,
            Err(problem) => exchange.refuse(&problem),
        }
    }

    async fn step(
        &self,
        endpoint: Endpoint,
        request: &Request<Bytes>,
        client: Client,
        exchange: Exchange,
    ) -> Step {
        match endpoint {
            Endpoint::Login => self.login(request, client, exchange).await,
            Endpoint::Refresh => self.refresh(request, client, exchange).await,
            Endpoint::Logout => self.logout(request, exchange).await,
            Endpoint::Session => self.session(request, exchange).await,
            Endpoint::Sessions => self.sessions(request, exchange).await,
            Endpoint::EndSession => self.end_session(request, exchange).await,
            Endpoint::EndSessions => self.end_sessions(request, exchange).await,
            Endpoint::Events => self.events(request, exchange).await,
            Endpoint::Reauthenticate => self.reauthenticate(request, exchange).await,
            Endpoint::ChangePassword => self.change_password(request, client, exchange).await,
            Endpoint::ResetPassword => self.reset_password(request, exchange),
            Endpoint::Register => self.register(request, client, exchange).await,
            Endpoint::Jwks => Ok(exchange.json(200, &self.service().keys().jwks())),
            Endpoint::OpenApi => Ok(exchange.json(200, &openapi::describe(self.settings()))),
            Endpoint::Docs => Ok(exchange.done(docs::page(&self.settings().url_prefix))),
            Endpoint::DocsAsset => Ok(exchange.done(docs::asset(last_segment(request))?)),
            Endpoint::Verify => self.verify_for_proxy(request, exchange),
        }
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.0.service
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The answer to a preflight request (Fetch Standard) for any path of the API.
    #[must_use]
    pub fn preflight(&self, request: &http::request::Parts) -> Response<Bytes> {
        cors::preflight(&request.headers, self.settings())
    }

    /// The answer to a request whose body the host stopped reading at [`Api::MAX_BODY`].
    #[must_use]
    pub fn too_large(&self, request: &http::request::Parts) -> Response<Bytes> {
        self.refusal(&request.headers, &Problem::PayloadTooLarge)
    }

    /// A finished refusal, for what the host finds wrong itself in a request with these headers.
    #[must_use]
    pub fn refusal(&self, headers: &HeaderMap, problem: &Problem) -> Response<Bytes> {
        self.refusal_to(cors::origin(headers), problem)
    }

    pub(crate) fn refusal_to(
        &self,
        origin: Option<&HeaderValue>,
        problem: &Problem,
    ) -> Response<Bytes> {
        let mut response = problem.response(self.settings());
        self.vary(&mut response);
        let origin = cors::allowed(origin, self.settings());
        self.finish(&mut response, origin.as_ref());
        response
    }

    /// The answer to a login that a host's own view has made.
    #[must_use]
    pub fn granted(&self, grant: &Grant, username: Option<&str>) -> Response<Bytes> {
        self.response(Exchange::of_host(self).granted(grant, username, Handed::Both))
    }

    /// The answer to a logout by a host's own view: it clears the cookies.
    #[must_use]
    pub fn logged_out(&self) -> Response<Bytes> {
        self.response(Exchange::of_host(self).ended(true))
    }

    fn response(&self, reply: Reply) -> Response<Bytes> {
        match reply {
            Reply::Done(answer) => answer.response,
            Reply::Ask(_) => unavailable(self.settings()),
        }
    }

    /// The largest body that is read, in bytes.
    pub const MAX_BODY: usize = body::MAX_BYTES;

    pub(crate) fn cookies(&self) -> &Cookies {
        &self.0.cookies
    }

    pub(crate) fn throttle(&self) -> &Arc<Throttle> {
        &self.0.throttle
    }

    pub(crate) fn places(&self) -> &Places {
        &self.0.places
    }

    /// What every answer has.
    pub(crate) fn finish(&self, response: &mut Response<Bytes>, origin: Option<&HeaderValue>) {
        let headers = response.headers_mut();
        always(headers);
        cors::apply(headers, origin, self.settings());
    }

    /// For answers that depend on a credential.
    pub(crate) fn vary(&self, response: &mut Response<Bytes>) {
        if let Some(vary) = &self.0.vary {
            response.headers_mut().append(VARY, vary.clone());
        }
    }

    fn csrf(&self, request: &Request<Bytes>) -> Result<(), Problem> {
        csrf::check(&Asked::of_request(request), self.settings())
    }

    fn session_of(&self, request: &Request<Bytes>) -> Result<(Claims, Location), Problem> {
        let token = self.token_in_body(request);
        let asked = Asked::of_request(request).with(InBody {
            token: token.as_deref(),
            csrf: None,
        });
        let verified = self.verify(&asked, Need::Session)?;
        Ok((verified.claims, verified.location))
    }

    /// Before anything else is asked of a body: one that is malformed has none.
    fn token_in_body(&self, request: &Request<Bytes>) -> Option<String> {
        let fields = self.places().include(Location::Json).then_some(request);
        let mut fields = Fields::of(fields?).ok()?;
        fields.take(&self.settings().json_key).ok().flatten()
    }

    /// The body's fields, less the access token that was looked at before.
    fn fields(&self, request: &Request<Bytes>) -> Result<Fields, Problem> {
        let mut fields = Fields::of(request)?;
        if self.places().include(Location::Json) {
            fields.take(&self.settings().json_key)?;
        }
        Ok(fields)
    }

    // ---- login ----

    async fn login(&self, request: &Request<Bytes>, client: Client, exchange: Exchange) -> Step {
        self.csrf(request)?;
        let asked: body::Login = body::json(request)?;
        let delivery = self.delivery(asked.delivery)?;
        let terms = Terms {
            started_at: self.service().now(),
            remember: asked.remember,
            delivery,
            device: device(asked.device, request.headers(), client)?,
            // Where it opens: a login that fails leaves the browser the session it has.
            replaces: self.replaced_by_login(request, delivery),
        };
        let (username, password) = (typed(asked.username)?, Password::new(&asked.password)?);
        let (token, headers) = (
            asked.device_token.as_deref(),
            Asked::of_request(request).headers,
        );
        let next = Identified {
            terms,
            admitted: self.admit(&username, token, headers, client).await?,
            outdated: self.foreign_cookies(request, delivery),
            exchange,
        };
        Ok(Reply::Ask(Ask::Identify {
            username,
            password,
            next,
        }))
    }

    fn delivery(&self, asked: Option<Delivery>) -> Result<Delivery, Problem> {
        let allowed = &self.settings().delivery;
        match asked {
            Some(asked) if !allowed.contains(&asked) => {
                Err(Problem::BadRequest("this delivery is not allowed here"))
            }
            Some(asked) => Ok(asked),
            None => Ok(allowed.first().copied().unwrap_or(Delivery::Cookie)),
        }
    }

    /// The session whose access cookie a cookie login carries: the same browser's.
    fn replaced_by_login(&self, request: &Request<Bytes>, to: Delivery) -> Option<SessionId> {
        let headers = Asked::of_request(request).headers;
        let tokens = self.cookies().access.find(headers);
        let verify = |token: &str| self.service().verify_for_logout(token);
        let newest = credentials::newest(&tokens, verify).ok();
        newest
            .filter(|_| to == Delivery::Cookie)
            .map(|(claims, _)| claims.session())
    }

    // ---- refresh ----

    async fn refresh(
        &self,
        request: &Request<Bytes>,
        client: Client,
        mut exchange: Exchange,
    ) -> Step {
        let mut fields = Fields::of(request)?;
        let in_body = fields.take(&self.settings().refresh_json_key)?;
        let body::Nothing {} = fields.rest()?;
        let asked = Asked::of_request(request);
        let found = self.refresh_found(&asked, in_body.as_deref())?;
        let found = found.or_else(|| self.foreign_found(&asked));
        let found = found.ok_or(Error::TokenMissing)?;
        let service = exchange.service.clone();
        let outcome = match self.refresh_token(&asked, &found).await {
            Ok(token) => service.refresh(token, found.via()).await,
            Err(Problem::Engine(Error::TokenInvalid)) => {
                let foreign = self.newest_foreign(&asked, &found)?;
                match service.refresh_adopted(&foreign, found.via()).await {
                    Some(outcome) => outcome,
                    None => return self.adopt(foreign, found.via(), request, client, exchange),
                }
            }
            Err(problem) => return Err(problem),
        };
        match exchange.took(outcome) {
            Ok(refreshed) => self.refreshed(refreshed, exchange),
            Err(error) => Ok(exchange.refuse(&error.into())),
        }
    }

    fn refreshed(&self, refreshed: Refreshed, exchange: Exchange) -> Step {
        if self.settings().renew {
            let user = refreshed.session.user.clone();
            return Ok(Reply::Ask(Ask::Renew {
                user,
                next: Renewed {
                    refreshed,
                    exchange,
                },
            }));
        }
        let grant = self.service().grant(refreshed)?;
        Ok(exchange.granted(&grant, None, Handed::Both))
    }

    // ---- logout ----

    async fn logout(&self, request: &Request<Bytes>, mut exchange: Exchange) -> Step {
        let in_json = self.token_in_body(request);
        let mut fields = self.fields(request)?;
        let in_body = fields.take(&self.settings().refresh_json_key)?;
        let body::Nothing {} = fields.rest()?;
        let asked = Asked::of_request(request).with(InBody {
            token: in_json.as_deref(),
            csrf: None,
        });
        let refresh = self.refresh_found(&asked, in_body.as_deref())?;
        let elsewhere = self.foreign_found(&asked);
        let mut foreign = self.foreign_among(&asked, refresh.as_ref())?;
        foreign.extend(self.foreign_among(&asked, elsewhere.as_ref())?);
        let used = match self.named_by_refresh(&asked, refresh).await? {
            Some(used) => Some(used),
            None => self.named_by_access(&asked)?,
        };
        // By what counts, not by what came along: a page that adds a worthless token to the
        // cookies of its visitor is still another site.
        let by_cookie = used.map(|(_, at)| at == Location::Cookie);
        let clears = by_cookie.unwrap_or(true) && self.settings().allows(Delivery::Cookie);
        if clears || by_cookie == Some(true) {
            self.csrf(request)?;
        }
        if let Some((session, _)) = used {
            let service = exchange.service.clone();
            exchange.took(service.end(session, EndReason::Logout).await)?;
        }
        self.end_foreign(&foreign, EndReason::Logout, &mut exchange)
            .await?;
        Ok(exchange.ended(clears))
    }

    async fn named_by_refresh(
        &self,
        asked: &Asked<'_>,
        found: Option<Found<'_>>,
    ) -> Result<Option<Named>, Problem> {
        let Some(found) = found else { return Ok(None) };
        let token = match newest_refresh(&found, self.service()).await {
            Ok((token, _)) => token,
            Err(Error::StoreUnavailable) => return Err(Error::StoreUnavailable.into()),
            Err(_) => return Ok(None),
        };
        if found.at == Location::Cookie {
            self.check_submitted_for(asked, &token)?;
        }
        Ok(Some((token.session, found.at)))
    }

    fn named_by_access(&self, asked: &Asked<'_>) -> Result<Option<Named>, Problem> {
        let Some(found) = self.places().access(asked, self.cookies()) else {
            return Ok(None);
        };
        let verify = |token: &str| self.service().verify_for_logout(token);
        let Ok((claims, _)) = credentials::newest(&found.tokens, verify) else {
            return Ok(None);
        };
        if found.at == Location::Cookie {
            let (kind, value) = (CsrfKind::Access, claims.csrf());
            csrf::check_submitted(asked, kind, value, self.settings())?;
        }
        Ok(Some((claims.session(), found.at)))
    }

    pub(crate) fn refresh_found<'a>(
        &self,
        asked: &Asked<'a>,
        in_body: Option<&'a str>,
    ) -> Result<Option<Found<'a>>, Problem> {
        credentials::refresh(asked.headers, in_body, self.cookies(), self.settings())
    }

    // ---- sessions ----

    async fn session(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let row = self.live_row(claims.session()).await?;
        let answer = json!({
            "user": UserView { id: claims.user(), username: None },
            "session": SessionView::of(&row, self.service()),
            "access_expires_at": rfc3339(claims.expires_at()),
            "server_time": rfc3339(self.service().now()),
        });
        Ok(exchange.json(200, &answer))
    }

    async fn live_row(&self, id: SessionId) -> Decided<Session> {
        let row = self.service().session(id).await?;
        match row.over(self.service().now(), self.service().policy()) {
            Some(reason) => Err(Error::SessionEnded(reason)),
            None => Ok(row),
        }
    }

    async fn sessions(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let rows = self.service().sessions_of(claims.user()).await?;
        let sessions: Vec<_> = rows
            .iter()
            .map(|row| listed(row, claims.session(), self.service()))
            .collect();
        Ok(exchange.json(200, &json!({ "sessions": sessions })))
    }

    async fn end_session(&self, request: &Request<Bytes>, mut exchange: Exchange) -> Step {
        let (claims, at) = self.session_of(request)?;
        let body::Nothing {} = self.fields(request)?.rest()?;
        let id = last_segment(request).parse().map_err(|_| Error::NotFound)?;
        // To end this one is to log out.
        if id != claims.session() {
            self.check_may(Sensitive::EndSessions, &claims)?;
        }
        let ended = exchange.service.end_own(claims.user(), id).await;
        exchange.took(ended)?;
        Ok(exchange.ended(at == Location::Cookie && id == claims.session()))
    }

    async fn end_sessions(&self, request: &Request<Bytes>, mut exchange: Exchange) -> Step {
        let (claims, at) = self.session_of(request)?;
        self.check_may(Sensitive::EndSessions, &claims)?;
        let body::Nothing {} = self.fields(request)?.rest()?;
        let query = request.uri().query().unwrap_or_default();
        let except = match self.places().rest_of(query).as_str() {
            "" => None,
            "except=current" => Some(claims.session()),
            _ => return Err(Problem::BadRequest(QUERY)),
        };
        let ended = exchange
            .service
            .end_user(claims.user(), EndReason::EndedByUser, except)
            .await;
        let ended = exchange.took(ended)?;
        let clear = at == Location::Cookie && except.is_none();
        Ok(
            exchange.json_and(200, &json!({ "ended": ended }), |api, response| {
                if clear {
                    api.cookies().clear(response.headers_mut());
                }
            }),
        )
    }

    // ---- events ----

    /// What happened to the user, the last first.
    async fn events(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let query = request.uri().query().unwrap_or_default();
        let page = Page::parse(&self.places().rest_of(query))?;
        let (user, limit) = (claims.user(), page.limit);
        let entries = self.service().history(user, page.before, limit).await?;
        let events = entries.iter();
        let events: Vec<_> = events
            .map(|entry| happened(&entry.record, claims.session()))
            .collect();
        let mut answer = json!({ "events": events });
        let last = entries.last().filter(|_| entries.len() >= limit as usize);
        if let Some(last) = last {
            answer["next"] = format!("{:x}", last.place).into();
        }
        Ok(exchange.json(200, &answer))
    }

    // ---- passwords ----

    async fn reauthenticate(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let asked: body::Reauthenticate = self.fields(request)?.rest()?;
        let (user, password) = (claims.user().clone(), Password::new(&asked.password)?);
        let row = self.row_to_answer(claims.session(), request).await?;
        Ok(Reply::Ask(Ask::Confirm {
            user,
            password,
            next: Confirmed {
                user: row.user,
                session: row.id,
                admitted: self.admit_check(row.id).await?,
                exchange,
            },
        }))
    }

    /// The row of a session that is about to be answered in its own delivery, which may set
    /// cookies even if the credential was none.
    async fn row_to_answer(
        &self,
        session: SessionId,
        request: &Request<Bytes>,
    ) -> Result<Session, Problem> {
        let row = self.live_row(session).await?;
        if row.delivery == Delivery::Cookie {
            self.csrf(request)?;
        }
        Ok(row)
    }

    async fn change_password(
        &self,
        request: &Request<Bytes>,
        client: Client,
        exchange: Exchange,
    ) -> Step {
        let (claims, _) = self.session_of(request)?;
        self.check_may(Sensitive::ChangePassword, &claims)?;
        let asked: body::ChangePassword = self.fields(request)?.rest()?;
        let (current, new) = (Password::new(&asked.current)?, Password::new(&asked.new)?);
        let row = self.row_to_answer(claims.session(), request).await?;
        let terms = Terms {
            started_at: self.service().now(),
            remember: row.remember,
            delivery: row.delivery,
            device: Device {
                name: row.device.name,
                ..device(None, request.headers(), client)?
            },
            replaces: None,
        };
        Ok(Reply::Ask(Ask::SetPassword {
            user: claims.user().clone(),
            current,
            new,
            next: PasswordSet {
                terms,
                privileged: row.privileged,
                admitted: self.admit_check(row.id).await?,
                user: row.user,
                session: row.id,
                exchange,
            },
        }))
    }

    fn reset_password(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        self.csrf(request)?;
        let asked: body::ResetPassword = body::json(request)?;
        Ok(Reply::Ask(Ask::ResetPassword {
            token: ResetHash::of(&asked.token).ok_or(Error::ResetTokenInvalid)?,
            new: Password::new(&asked.new)?,
            next: PasswordWasReset { exchange },
        }))
    }

    async fn register(&self, request: &Request<Bytes>, client: Client, exchange: Exchange) -> Step {
        if !self.settings().register {
            return Err(Error::NotFound.into());
        }
        self.csrf(request)?;
        let asked: body::Register = body::json(request)?;
        let (username, password) = (typed(asked.username)?, Password::new(&asked.password)?);
        Ok(Reply::Ask(Ask::Register {
            username,
            password,
            next: Registered {
                admitted: self.admit_registration(client).await?,
                exchange,
            },
        }))
    }

    // ---- for proxies ----

    /// The methods that a proxy reports decide about CSRF; without one the request counts as
    /// unsafe.
    fn verify_for_proxy(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let asked = Asked::of_request(request);
        let told = ["x-original-method", "x-forwarded-method"];
        let told = told.iter().flat_map(|name| asked.headers.all(name));
        let told: Vec<_> = told
            .map(|method| std::str::from_utf8(method).unwrap_or("POST"))
            .collect();
        let unsafe_one = told.iter().find(|method| !csrf::is_safe(method));
        let method = unsafe_one.or(told.first()).copied().unwrap_or("POST");
        let asked = Asked { method, ..asked };
        let need = max_age(request.uri().query().unwrap_or_default())?;
        let claims = self.verify(&asked, need)?.claims;
        let mut response = Response::new(Bytes::new());
        let session = claims.session().to_string();
        for (name, value) in [
            ("doorward-user", claims.user().as_str()),
            ("doorward-session", &session),
        ] {
            let value =
                HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Error::TokenInvalid)?;
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        Ok(exchange.done(response))
    }
}

fn vary(settings: &Settings, places: &Places) -> Option<HeaderValue> {
    let cookie = settings.allows(Delivery::Cookie) || places.include(Location::Cookie);
    let header = places.include(Location::Header);
    let header = header.then_some(settings.header_name.as_str());
    let names: Vec<_> = cookie
        .then_some("Cookie")
        .into_iter()
        .chain(header)
        .collect();
    let vary = HeaderValue::try_from(names.join(", ")).ok();
    vary.filter(|vary| !vary.is_empty())
}

/// The headers of every answer, for hosts that answer something themselves: 404, a time-out.
pub fn always(headers: &mut HeaderMap) {
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(CACHE_CONTROL).or_insert(no_store);
    let policy = HeaderValue::from_static(NO_PAGE);
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(policy);
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// An answer is no page: opened as one it loads, sends and frames nothing.
const NO_PAGE: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; sandbox";
/// Other sites' pages embed no answer, which keeps it out of their processes (Fetch Standard). Pages
/// of `allowed_origins` ask by CORS, which this leaves alone.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The answer of a door whose engine does not open.
#[must_use]
pub fn unavailable(settings: &Settings) -> Response<Bytes> {
    let mut response = Problem::Engine(Error::StoreUnavailable).response(settings);
    always(response.headers_mut());
    response
}

/// What `max_age` in a query asks of a session: that its password was checked at most so many seconds
/// ago. Of two that differ neither counts.
fn max_age(query: &str) -> Result<Need, Problem> {
    let mut ages = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "max_age");
    let Some((_, age)) = ages.next() else {
        return Ok(Need::Session);
    };
    let is_number = (1..=9).contains(&age.len()) && age.bytes().all(|b| b.is_ascii_digit());
    match age.parse() {
        Ok(seconds) if is_number && ages.next().is_none() => {
            Ok(Need::FreshWithin(Duration::from_secs(seconds)))
        }
        _ => Err(Problem::BadRequest(MAX_AGE)),
    }
}

/// What is said of a `max_age` that cannot be read.
pub(crate) const MAX_AGE: &str = "max_age must be a number of seconds, once";

/// A page of [`Endpoint::Events`].
struct Page {
    before: Option<u64>,
    limit: u32,
}

impl Page {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut page = Page {
            before: None,
            limit: 50,
        };
        let bad = || Problem::BadRequest(PAGES);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').ok_or_else(bad)? {
                ("before", place) if place.len() <= 16 => {
                    page.before = Some(u64::from_str_radix(place, 16).map_err(|_| bad())?);
                }
                ("limit", limit) => page.limit = limit.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        if (1..=100).contains(&page.limit) {
            Ok(page)
        } else {
            Err(bad())
        }
    }
}

/// What is said of another query to [`Endpoint::Events`].
pub(crate) const PAGES: &str =
    "the query may be limit, from 1 to 100, and before, with the value of next";

/// What is said of another query to [`Endpoint::EndSessions`].
pub(crate) const QUERY: &str = "the query may be except=current only";

/// Names are looked up as they are typed; what no name can contain is refused before any work.
fn typed(username: String) -> Result<String, Problem> {
    if username.chars().any(char::is_control) || username.is_empty() || username.len() > 1024 {
        return Err(Problem::BadRequest(
            "username must not be empty or have control characters",
        ));
    }
    Ok(username)
}

/// What is kept of a client.
///
/// # Errors
/// [`Problem::BadRequest`] for a name that it cannot have.
pub fn device(
    name: Option<String>,
    headers: &HeaderMap,
    client: Client,
) -> Result<Device, Problem> {
    let fits = |name: &String| {
        (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    };
    if !name.as_ref().is_none_or(fits) {
        let detail = "device must have 1 to 100 characters and no control characters";
        return Err(Problem::BadRequest(detail));
    }
    let agent = client::agent(headers).map(Into::into);
    Ok(Device {
        name: name.map(Into::into),
        address: client.address,
        agent,
    })
}

fn last_segment(request: &Request<Bytes>) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}
