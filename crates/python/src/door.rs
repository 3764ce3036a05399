//! The calls that `flask_doorward` makes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::Event as Happened;
use doorward_core::account::Identity as Who;
use doorward_core::device_token::DeviceText;
use doorward_core::engine::News;
use doorward_core::operator::Operator as Doings;
use doorward_core::password::{Password, PasswordHash};
use doorward_core::service::{Grant, Terms};
use doorward_core::throttle::Outcome as Tried;
use doorward_core::{Caller, CsrfValue, Device, EndReason, Error, Service, SessionId, SystemEnv};
use doorward_http::{
    Answer as Finished, Ask, Client, Endpoint, Headers, InBody, Need, Problem, ROUTES, Reply,
    settle,
};
use http::{HeaderMap, Response};
use pollster::FutureExt;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAny, PyBool, PyDateTime, PyDict, PyMapping};

use crate::answer::{Answer, Event};
use crate::attempt::Attempt;
use crate::environ::{self, Reads};
use crate::operator::Operator;
use crate::options::{Options, delivery, endpoint};
use crate::process::{Engine, Home, NotOpen};
use crate::question::{Identity, Question, checked, user_id};
use crate::session::{Refreshed, Session, SessionRow, Tokens, date};
use doorward_stores::Place;

/// The name of each endpoint, as in `url_for`.
pub(crate) const NAMES: [(Endpoint, &str); 16] = [
    (Endpoint::Login, "login"),
    (Endpoint::Refresh, "refresh"),
    (Endpoint::Logout, "logout"),
    (Endpoint::Session, "session"),
    (Endpoint::Sessions, "sessions"),
    (Endpoint::EndSession, "end_session"),
    (Endpoint::EndSessions, "end_sessions"),
    (Endpoint::Events, "events"),
    (Endpoint::Reauthenticate, "reauthenticate"),
    (Endpoint::ChangePassword, "change_password"),
    (Endpoint::ResetPassword, "reset_password"),
    (Endpoint::Register, "register"),
    (Endpoint::Jwks, "jwks"),
    (Endpoint::OpenApi, "openapi"),
    (Endpoint::Docs, "docs"),
    (Endpoint::DocsAsset, "docs_asset"),
];

/// Method, path and name of each endpoint that a Flask app may mount.
pub(crate) fn routes() -> Vec<(String, String, &'static str)> {
    let routes = ROUTES.iter().filter_map(|route| {
        let (_, name) = NAMES.iter().find(|(known, _)| *known == route.endpoint)?;
        Some((route.method.to_string(), route.path.to_owned(), *name))
    });
    routes.collect()
}

/// Whether a hash is of a form that passwords are checked against, within the ceilings.
#[pyfunction]
pub(crate) fn knows_hash(password_hash: &str) -> bool {
    PasswordHash::from_phc(password_hash).is_known()
}

/// The engine over one store.
#[pyclass(frozen, weakref, module = "flask_doorward._native")]
pub(crate) struct Door {
    home: Home,
    refused: Py<PyAny>,
    tell: Py<PyAny>,
    reads: PyOnceLock<Reads>,
}

#[pymethods]
impl Door {
    /// Checks the options; opens nothing.
    #[new]
    fn new(options: &Bound<'_, PyMapping>, refused: Py<PyAny>, tell: Py<PyAny>) -> PyResult<Self> {
        let home = Home::new(Options::read(options)?);
        Ok(Door {
            home,
            refused,
            tell,
            reads: PyOnceLock::new(),
        })
    }

    #[getter]
    fn store(&self) -> String {
        match &self.home.options.place {
            Place::Sqlite(path) => {
                let (file, metadata) = (resolved(path, LINKS), std::fs::metadata(path));
                metadata.map_or_else(
                    |_| format!("sqlite://{}", file.display()),
                    |file| format!("sqlite:{}:{}", file.dev(), file.ino()),
                )
            }
            Place::Memory => format!("memory:{:p}", &raw const self.home),
            shared => shared.to_string(),
        }
    }

    /// What may be right but seldom is, in words about options.
    #[getter]
    fn advice(&self) -> Vec<&'static str> {
        let options = &self.home.options;
        let advice = options.settings.advice(&options.engine.policy);
        advice.into_iter().chain(options.engine.advice()).collect()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.home.close());
    }

    /// Why some requests cannot be served now; `None`: all can.
    fn unready(&self, py: Python<'_>) -> Option<String> {
        match self.engine(py) {
            Ok(engine) => engine.api.service().unready().map(str::to_owned),
            Err(why) => Some(why.to_string()),
        }
    }

    /// Answers a request to an endpoint, or asks.
    fn call<'py>(
        &self,
        py: Python<'py>,
        endpoint: &str,
        environ: &Bound<'py, PyDict>,
        body: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let endpoint = self::endpoint(endpoint)?;
        let request = environ::request(environ, Bytes::copy_from_slice(body))?;
        let trusted = &self.home.options.trusted_proxies;
        let client = environ::client(environ, request.headers(), trusted)?;
        let engine = self.open(py)?;
        let reply = py.detach(|| {
            let reply = engine.api.call(endpoint, request, client).block_on();
            // Whether the old program had revoked the token only the app knows.
            let asks_app = matches!(reply, Reply::Ask(Ask::Adopt { .. }));
            if self.home.options.settles && !asks_app {
                Reply::Done(settle(reply, engine.core.accounts()).block_on())
            } else {
                reply
            }
        });
        Ok(match reply {
            Reply::Done(answer) => Bound::new(py, Answer::of(answer))?.into_any(),
            Reply::Ask(ask) => Bound::new(py, Question::new(ask, engine))?.into_any(),
        })
    }

    /// The refusal of a body that is too large.
    fn too_large(&self, environ: &Bound<'_, PyDict>) -> PyResult<Answer> {
        self.refusal_of(environ, &Problem::PayloadTooLarge)
    }

    /// The refusal of a body that did not arrive whole.
    fn unreadable(&self, environ: &Bound<'_, PyDict>) -> PyResult<Answer> {
        self.refusal_of(
            environ,
            &Problem::BadRequest("the body did not arrive whole"),
        )
    }

    /// The refusal of a session whose user the app no longer has.
    fn gone(&self, environ: &Bound<'_, PyDict>) -> PyResult<Answer> {
        let ended = Error::SessionEnded(EndReason::Disabled);
        self.refusal_of(environ, &ended.into())
    }

    /// The answer to a CORS preflight.
    fn preflight(&self, environ: &Bound<'_, PyDict>) -> PyResult<Answer> {
        let (parts, _) = environ::request(environ, Bytes::new())?.into_parts();
        let engine = self.open(environ.py())?;
        Ok(answer(engine.api.preflight(&parts)))
    }

    /// The session that sent a request. Touches no store.
    #[pyo3(signature = (environ, optional=false, fresh=None, token=None, csrf=None))]
    fn guard(
        &self,
        environ: &Bound<'_, PyDict>,
        optional: bool,
        fresh: Option<&Bound<'_, PyAny>>,
        token: Option<&str>,
        csrf: Option<&str>,
    ) -> PyResult<Option<Session>> {
        let py = environ.py();
        let engine = self.open(py)?;
        let need = fresh.map_or(Ok(Need::Session), need)?;
        let read = self.reads(py, &engine).of(environ)?;
        let headers = read.headers();
        let asked = read.asked(&headers).with(InBody { token, csrf });
        match engine.api.verify(&asked, need) {
            Ok(verified) => Ok(Some(Session::new(verified.claims, &verified.token))),
            Err(Problem::Engine(Error::TokenMissing)) if optional => Ok(None),
            Err(problem) => Err(self.refused(py, engine.api.refuse(&asked, &problem))),
        }
    }

    /// Asks the store whether a session that a guard let pass is over.
    fn check_in_store(
        &self,
        environ: &Bound<'_, PyDict>,
        session: &Bound<'_, Session>,
    ) -> PyResult<()> {
        let py = environ.py();
        let engine = self.open(py)?;
        let claims = session.get().verified();
        let checked = py.detach(|| engine.api.service().check_in_store(claims).block_on());
        checked.map_err(|error| match self.refusal_of(environ, &error.into()) {
            Ok(answer) => self.raised_by(py, answer),
            Err(error) => error,
        })
    }

    /// What is counted, as Prometheus reads it.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.open(py)?.core.metrics())
    }

    /// Refuses what another site may have sent.
    fn check_origin(&self, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = environ.py();
        let engine = self.open(py)?;
        let read = self.reads(py, &engine).of(environ)?;
        let headers = read.headers();
        let asked = read.asked(&headers);
        let checked = engine.api.check_origin(&asked);
        checked.map_err(|problem| self.refused(py, engine.api.refuse(&asked, &problem)))
    }

    /// The session of an access token.
    fn verify(&self, py: Python<'_>, token: &str) -> PyResult<Session> {
        let engine = self.open(py)?;
        let claims = engine.api.service().verify(token);
        let claims = claims.map_err(|error| self.error(py, &engine, error))?;
        Ok(Session::new(claims, token))
    }

    /// Admits a login by a view of the app's own, before it looks at the password.
    #[pyo3(signature = (username, device_token=None, environ=None))]
    fn attempt(
        &self,
        py: Python<'_>,
        username: &str,
        device_token: Option<&str>,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Attempt> {
        let (client, headers) = self.client(environ)?;
        let engine = self.open(py)?;
        let headers = Headers::Map(&headers);
        let admitted = py.detach(|| {
            let admit = engine.api.admit(username, device_token, headers, client);
            admit.block_on()
        });
        let admitted = admitted.map_err(|error| self.error(py, &engine, error))?;
        Ok(Attempt::new(admitted, engine))
    }

    /// How an attempt ended; after a success the device's new token.
    fn settle(
        &self,
        py: Python<'_>,
        attempt: &Attempt,
        succeeded: bool,
    ) -> PyResult<Option<String>> {
        let outcome = if succeeded {
            Tried::Success
        } else {
            Tried::Failure
        };
        let device = self.settled(py, attempt, outcome)?;
        Ok(device.map(|token| token.as_str().to_owned()))
    }

    /// Opens a session for somebody whose credentials were checked.
    #[pyo3(signature = (user_id, username=None, claims=None, remember=false, delivery=None,
        device=None, environ=None, privileged=false, attempt=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords, in Python")]
    fn login(
        &self,
        py: Python<'_>,
        user_id: &str,
        username: Option<&str>,
        claims: Option<&str>,
        remember: bool,
        delivery: Option<&str>,
        device: Option<String>,
        environ: Option<&Bound<'_, PyDict>>,
        privileged: bool,
        attempt: Option<&Attempt>,
    ) -> PyResult<(Tokens, Vec<Event>)> {
        let mut identity = Who {
            user: self::user_id(user_id)?,
            username: username.map(Into::into),
            valid_from: None,
            claims: checked(claims, &self.home.options.engine.policy)?,
            privileged,
        };
        let engine = self.open(py)?;
        let allowed = &engine.api.settings().delivery;
        let asked = delivery.map(self::delivery).transpose()?;
        let delivery = asked.or_else(|| allowed.first().copied());
        let delivery = delivery.filter(|delivery| allowed.contains(delivery));
        let terms = Terms {
            started_at: engine.api.service().now(),
            remember,
            delivery: delivery
                .ok_or_else(|| PyValueError::new_err("this delivery is not allowed here"))?,
            device: self.device(device, environ)?,
            replaces: None,
        };
        // A built-in account's own mark counts, whoever opens the session.
        let accounts = engine.core.accounts();
        let marked = py.detach(|| accounts.is_privileged(&identity.user).block_on());
        identity.privileged |= marked.map_err(|error| self.error(py, &engine, error))?;
        let device = match attempt {
            Some(attempt) => self.settled(py, attempt, Tried::Success)?,
            None => None,
        };
        let service = self.service(&engine, environ)?;
        let outcome = py.detach(|| service.login(identity, terms).block_on());
        let (grant, events) = self.outcome(py, &engine, outcome)?;
        let grant = Grant { device, ..grant };
        Ok((tokens(&engine, grant, username), events))
    }

    /// Decides what a refresh token that came in by `delivery` means, and carries it out.
    #[pyo3(signature = (refresh_token, delivery, environ=None))]
    fn refresh(
        &self,
        py: Python<'_>,
        refresh_token: &str,
        delivery: &str,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<(Refreshed, Vec<Event>)> {
        let via = self::delivery(delivery)?;
        let engine = self.open(py)?;
        let service = self.service(&engine, environ)?;
        let outcome = py.detach(|| service.refresh(refresh_token, via).block_on());
        let (refreshed, events) = self.outcome(py, &engine, outcome)?;
        Ok((Refreshed(refreshed), events))
    }

    /// The tokens of a refreshed session.
    #[pyo3(signature = (refreshed, claims=None))]
    fn grant(
        &self,
        py: Python<'_>,
        refreshed: &Refreshed,
        claims: Option<&str>,
    ) -> PyResult<Tokens> {
        let mut refreshed = refreshed.0.clone();
        let claims = checked(claims, &self.home.options.engine.policy)?;
        refreshed.session.claims = claims.or(refreshed.session.claims);
        let engine = self.open(py)?;
        let grant = engine.api.service().grant(refreshed);
        let grant = grant.map_err(|error| self.error(py, &engine, error))?;
        Ok(tokens(&engine, grant, None))
    }

    /// Decides as `refresh` does, without rotating.
    fn check_refresh(
        &self,
        py: Python<'_>,
        refresh_token: &str,
        delivery: &str,
    ) -> PyResult<(SessionRow, Vec<Event>)> {
        let via = self::delivery(delivery)?;
        let engine = self.open(py)?;
        let service = engine.api.service();
        let outcome = py.detach(|| service.check_refresh(refresh_token, via).block_on());
        let (row, events) = self.outcome(py, &engine, outcome)?;
        Ok((SessionRow::new(row, service.policy()), events))
    }

    /// Whether a foreign refresh token has become a session; its double-submit value.
    fn adopted(&self, py: Python<'_>, token: &str) -> PyResult<Option<String>> {
        let engine = self.open(py)?;
        let service = engine.api.service();
        let Ok(foreign) = service.foreign(token) else {
            return Ok(None);
        };
        let row = py.detach(|| service.is_adopted(&foreign).block_on());
        let is_adopted = row.map_err(|error| self.error(py, &engine, error))?;
        let csrf = foreign.csrf().map_or("", CsrfValue::as_str);
        Ok(is_adopted.then(|| csrf.to_owned()))
    }

    /// The double-submit value that goes with a refresh token.
    fn refresh_csrf(&self, py: Python<'_>, refresh_token: &str) -> PyResult<String> {
        let engine = self.open(py)?;
        let service = engine.api.service();
        let token = py.detach(|| service.refresh_token(refresh_token).block_on());
        let value = token.and_then(|token| service.refresh_csrf(&token));
        let value = value.map_err(|error| self.error(py, &engine, error))?;
        Ok(value.as_str().to_owned())
    }

    fn sessions_of(&self, py: Python<'_>, user_id: &str) -> PyResult<Vec<SessionRow>> {
        let user = self::user_id(user_id)?;
        let engine = self.open(py)?;
        let service = engine.api.service();
        let rows = py.detach(|| service.sessions_of(&user).block_on());
        let rows = rows.map_err(|error| self.error(py, &engine, error))?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|row| SessionRow::new(row, service.policy()))
            .collect())
    }

    /// Ends a session; one that is unknown or over is no error.
    #[pyo3(signature = (session_id, reason, environ=None))]
    fn end(
        &self,
        py: Python<'_>,
        session_id: &str,
        reason: &str,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Event>> {
        let (id, reason) = (session(session_id)?, self::reason(reason)?);
        let engine = self.open(py)?;
        let service = self.service(&engine, environ)?;
        let outcome = py.detach(|| service.end(id, reason).block_on());
        Ok(self.outcome(py, &engine, outcome)?.1)
    }

    /// Ends all sessions of a user but one.
    #[pyo3(signature = (user_id, reason, except_=None, environ=None))]
    fn end_user(
        &self,
        py: Python<'_>,
        user_id: &str,
        reason: &str,
        except_: Option<&str>,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<Event>> {
        let (user, reason) = (self::user_id(user_id)?, self::reason(reason)?);
        let except = except_.map(session).transpose()?;
        let engine = self.open(py)?;
        let service = self.service(&engine, environ)?;
        let outcome = py.detach(|| service.end_user(&user, reason, except).block_on());
        Ok(self.outcome(py, &engine, outcome)?.1)
    }

    /// The answer to a logout: it clears the cookies.
    fn logged_out(&self, py: Python<'_>) -> PyResult<Answer> {
        Ok(answer(self.open(py)?.api.logged_out()))
    }

    #[pyo3(signature = (username, password, environ=None))]
    fn identify(
        &self,
        py: Python<'_>,
        username: &str,
        password: &str,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Identity> {
        let engine = self.open(py)?;
        let caller = self.caller(environ)?;
        let accounts = engine.core.accounts().on_behalf_of(caller);
        let identity = Password::new(password)
            .and_then(|password| py.detach(|| accounts.identify(username, password).block_on()));
        let identity = identity.map_err(|error| self.error(py, &engine, error))?;
        Ok(Identity(identity))
    }

    /// Starts a reset of a built-in account's password: its token, and until when that is good.
    #[pyo3(signature = (username, environ=None))]
    fn start_password_reset<'py>(
        &self,
        py: Python<'py>,
        username: &str,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<(String, Bound<'py, PyDateTime>)> {
        let engine = self.open(py)?;
        let accounts = engine.core.accounts().on_behalf_of(Caller {
            actor: Caller::operator().actor,
            ..self.caller(environ)?
        });
        let ttl = engine.api.service().policy().reset_ttl;
        let started = py.detach(|| accounts.start_reset(username, ttl).block_on());
        let (token, until) = started.map_err(|error| self.error(py, &engine, error))?;
        Ok((token.as_str().to_owned(), date(py, until)?))
    }

    /// Without a request it is the app's own doing.
    #[pyo3(signature = (username, password, environ=None))]
    fn register(
        &self,
        py: Python<'_>,
        username: &str,
        password: &str,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<String> {
        let engine = self.open(py)?;
        let caller = match environ {
            Some(_) => self.caller(environ)?,
            None => Caller::operator(),
        };
        let accounts = engine.core.accounts().on_behalf_of(caller);
        let user = Password::new(password)
            .and_then(|password| py.detach(|| accounts.register(username, password).block_on()));
        let user = user.map_err(|error| self.error(py, &engine, error))?;
        Ok(user.to_string())
    }

    /// All that is kept of a user's sessions, as JSON.
    fn export(&self, py: Python<'_>, user_id: &str) -> PyResult<String> {
        let user = self::user_id(user_id)?;
        let engine = self.open(py)?;
        let service = engine.api.service();
        let operator = operator_of(service);
        let export = py.detach(|| operator.export(&user, service.policy()).block_on());
        let export = export.map_err(|error| self.error(py, &engine, error))?;
        Ok(export.to_string())
    }

    /// Ends the user's sessions and removes what is kept of them; returns how many.
    fn erase(&self, py: Python<'_>, user_id: &str) -> PyResult<u64> {
        let user = self::user_id(user_id)?;
        let engine = self.open(py)?;
        let service = engine.api.service();
        let erased = py.detach(|| {
            let erased = operator_of(service).erase(&user).block_on()?;
            // The ends reach this process's verifiers now, where no ring tells of them.
            service.tick().block_on()?;
            Ok(erased)
        });
        erased.map_err(|error: Error| self.error(py, &engine, error))
    }

    fn hash_new_password(
        &self,
        py: Python<'_>,
        username: &str,
        password: &str,
    ) -> PyResult<String> {
        let engine = self.open(py)?;
        let hash = Password::new(password).and_then(|password| {
            py.detach(|| {
                engine
                    .core
                    .passwords()
                    .hash_new(username, password)
                    .block_on()
            })
        });
        let hash = hash.map_err(|error| self.error(py, &engine, error))?;
        Ok(hash.as_str().to_owned())
    }

    fn hash_password(&self, py: Python<'_>, password: &str) -> PyResult<String> {
        let engine = self.open(py)?;
        let hash = Password::new(password)
            .and_then(|password| py.detach(|| engine.core.passwords().hash(password).block_on()));
        let hash = hash.map_err(|error| self.error(py, &engine, error))?;
        Ok(hash.as_str().to_owned())
    }

    #[pyo3(signature = (password, password_hash))]
    fn verify_password(
        &self,
        py: Python<'_>,
        password: &str,
        password_hash: Option<&str>,
    ) -> PyResult<(bool, Option<String>)> {
        let engine = self.open(py)?;
        let hash = password_hash.map(PasswordHash::from_phc);
        let verified = Password::new(password).and_then(|password| {
            py.detach(|| engine.core.passwords().verify(password, hash).block_on())
        });
        let verified = verified.map_err(|error| self.error(py, &engine, error))?;
        let rehash = verified.rehash.map(|hash| hash.as_str().to_owned());
        Ok((verified.matches, rehash))
    }

    /// How many passwords this process has hashed.
    fn hashes(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.open(py)?.core.passwords().hashes())
    }

    /// The public keys.
    fn jwks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let jwks = self.open(py)?.api.service().keys().jwks().to_string();
        py.import("json")?.call_method1("loads", (jwks,))
    }

    /// The store for an operator's command.
    fn operator(&self, py: Python<'_>) -> PyResult<Operator> {
        py.detach(|| Operator::open(&self.home))
    }
}

impl Door {
    fn engine(&self, py: Python<'_>) -> Result<Arc<Engine>, NotOpen> {
        match self.home.engine() {
            Some(engine) => Ok(engine),
            None => py.detach(|| self.home.open()),
        }
    }

    /// The engine; where it does not open, a 503 whose cause is the operator's reason.
    fn open(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        let engine = self.engine(py).map_err(|why| {
            let refused = self.refused(py, doorward_http::unavailable(&self.home.options.settings));
            refused.set_cause(py, Some(PyRuntimeError::new_err(why.to_string())));
            refused
        })?;
        for News { level, line } in engine.news() {
            self.tell.call1(py, (level.name(), line))?;
        }
        Ok(engine)
    }

    fn reads(&self, py: Python<'_>, engine: &Engine) -> &Reads {
        let reads = || Reads::new(py, engine.api.reads());
        self.reads.get_or_init(py, reads)
    }

    fn refusal_of(&self, environ: &Bound<'_, PyDict>, problem: &Problem) -> PyResult<Answer> {
        let (parts, _) = environ::request(environ, Bytes::new())?.into_parts();
        let engine = self.open(environ.py())?;
        Ok(answer(engine.api.refusal(&parts.headers, problem)))
    }

    fn device(
        &self,
        name: Option<String>,
        environ: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Device> {
        let (client, headers) = self.client(environ)?;
        let device = doorward_http::device(name, &headers, client);
        device.map_err(|problem| PyValueError::new_err(problem.detail()))
    }

    fn client(&self, environ: Option<&Bound<'_, PyDict>>) -> PyResult<(Client, HeaderMap)> {
        let Some(environ) = environ else {
            return Ok((Client::default(), HeaderMap::new()));
        };
        let headers = environ::headers(environ);
        let client = environ::client(environ, &headers, &self.home.options.trusted_proxies)?;
        Ok((client, headers))
    }

    fn settled(
        &self,
        py: Python<'_>,
        attempt: &Attempt,
        outcome: Tried,
    ) -> PyResult<Option<DeviceText>> {
        let engine = self.open(py)?;
        let settled = py.detach(|| attempt.settle(outcome));
        let settled =
            settled.ok_or_else(|| PyRuntimeError::new_err("the attempt was settled already"))?;
        settled.map_err(|error| self.error(py, &engine, error))
    }

    /// Who sent a request, for the log of events.
    fn caller(&self, environ: Option<&Bound<'_, PyDict>>) -> PyResult<Caller> {
        let (client, headers) = self.client(environ)?;
        Ok(client.caller(&headers))
    }

    fn service(&self, engine: &Engine, environ: Option<&Bound<'_, PyDict>>) -> PyResult<Service> {
        let caller = self.caller(environ)?;
        Ok(engine.api.service().on_behalf_of(caller))
    }

    fn outcome<T>(
        &self,
        py: Python<'_>,
        engine: &Engine,
        (result, events): (Result<T, Error>, impl IntoIterator<Item = Happened>),
    ) -> PyResult<(T, Vec<Event>)> {
        let events: Vec<_> = events.into_iter().collect();
        match result {
            Ok(value) => Ok((value, events.iter().map(Event::of).collect())),
            Err(error) => {
                let problem = Problem::from(error);
                let response = engine.api.refusal(&HeaderMap::new(), &problem);
                Err(self.raised(py, Finished { response, events }))
            }
        }
    }

    fn error(&self, py: Python<'_>, engine: &Engine, error: Error) -> PyErr {
        self.refused(py, engine.api.refusal(&HeaderMap::new(), &error.into()))
    }

    fn refused(&self, py: Python<'_>, response: Response<Bytes>) -> PyErr {
        let events = Vec::new();
        self.raised(py, Finished { response, events })
    }

    /// The exception that Python makes of a refusal.
    fn raised(&self, py: Python<'_>, finished: Finished) -> PyErr {
        self.raised_by(py, Answer::of(finished))
    }

    fn raised_by(&self, py: Python<'_>, answer: Answer) -> PyErr {
        match self.refused.call1(py, (answer,)) {
            Ok(exception) => PyErr::from_value(exception.into_bound(py)),
            Err(error) => error,
        }
    }
}

fn operator_of(service: &Service) -> Doings {
    let (store, events) = (Arc::clone(service.store()), Arc::clone(service.events()));
    Doings::new(store, events, Arc::new(SystemEnv))
}

/// `True`: within `fresh_ttl`; a number: at most so many seconds ago.
fn need(fresh: &Bound<'_, PyAny>) -> PyResult<Need> {
    if let Ok(fresh) = fresh.cast::<PyBool>() {
        let needs = [Need::Session, Need::Fresh];
        return Ok(needs[usize::from(fresh.is_true())]);
    }
    let span = Duration::try_from_secs_f64(fresh.extract()?);
    let span = span.map_err(|_| PyValueError::new_err("fresh must not be negative"))?;
    Ok(Need::FreshWithin(span))
}

fn answer(response: Response<Bytes>) -> Answer {
    let events = Vec::new();
    Answer::of(Finished { response, events })
}

fn tokens(engine: &Engine, grant: Grant, username: Option<&str>) -> Tokens {
    let answer = engine.api.granted(&grant, username);
    Tokens::new(grant, answer, engine.api.service().policy())
}

pub(crate) fn session(id: &str) -> PyResult<SessionId> {
    id.parse()
        .map_err(|_| PyValueError::new_err("this is no session id"))
}

fn reason(name: &str) -> PyResult<EndReason> {
    let reason = EndReason::ALL
        .into_iter()
        .find(|reason| reason.name() == name);
    reason.ok_or_else(|| PyValueError::new_err("there is no such reason for an end"))
}

/// Links after which a file is none.
const LINKS: u8 = 8;

/// The one name of a file that has many, even where it does not exist yet.
fn resolved(path: &Path, links: u8) -> PathBuf {
    if let Ok(file) = path.canonicalize() {
        return file;
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    match path.read_link() {
        Ok(target) if links > 0 => resolved(&folder.join(target), links - 1),
        _ => folder.join(path.file_name().unwrap_or_default()),
    }
}
