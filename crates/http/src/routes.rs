//! ROUTES: the table; one function an endpoint, in a file of its subject.

mod login;
mod logout;
mod passwords;
mod refresh;
mod sessions;
mod verify;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use doorward_core::access_token::Claims;
use doorward_core::service::Grant;
use doorward_core::throttle::Throttle;
use doorward_core::{Delivery, Device, Error, Service, SessionId};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use crate::asked::{Asked, InBody};
use crate::body::Fields;
use crate::client::Client;
use crate::cookies::Cookies;
use crate::credentials::Places;
use crate::exchange::{Exchange, Handed, Step};
use crate::guard::Need;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::settings::{Location, Settings, SettingsError};
use crate::{body, client, cors, csrf, docs, openapi};

pub(crate) use self::sessions::{PAGES, QUERY};
pub(crate) use self::verify::{MAX_AGE, STRICT};

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
            Endpoint::Verify => self.verify_for_proxy(request, exchange).await,
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
