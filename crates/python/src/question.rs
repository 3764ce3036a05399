//! What only the host can answer. Each question is answered once.

use std::sync::{Arc, Mutex, PoisonError};

use doorward_core::access_token::check_custom;
use doorward_core::account::{Refusal, canonical};
use doorward_core::adoption::Foreign;
use doorward_core::event::Failure;
use doorward_core::password::{Password, PasswordHash};
use doorward_core::{Error, Identity as Who, PasswordChange, Policy, UserId};
use doorward_http::{Ask, Reply, settle};
use pollster::FutureExt;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::answer::Answer;
use crate::process::Engine;

/// Somebody whose credentials were checked.
#[pyclass(frozen, module = "flask_doorward._native")]
#[derive(Clone)]
pub(crate) struct Identity(pub(crate) Who);

#[pymethods]
impl Identity {
    #[getter]
    fn user_id(&self) -> &str {
        self.0.user.as_str()
    }

    #[getter]
    fn username(&self) -> Option<&str> {
        self.0.username.as_deref()
    }

    #[getter]
    fn privileged(&self) -> bool {
        self.0.privileged
    }

    fn __repr__(&self) -> String {
        format!("<Identity of {:?}>", self.user_id())
    }
}

/// A question.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Question {
    kind: &'static str,
    username: Option<String>,
    user: Option<UserId>,
    password: Option<Password>,
    new: Option<Password>,
    foreign: Option<Arc<Foreign>>,
    ask: Mutex<Option<Ask>>,
    engine: Arc<Engine>,
}

/// A value for the host, or the answer that ends the exchange.
#[derive(IntoPyObject)]
pub(crate) enum Or<T> {
    Value(T),
    Answer(Answer),
}

impl Question {
    pub(crate) fn new(ask: Ask, engine: Arc<Engine>) -> Self {
        let (kind, username, user, password, new) = match &ask {
            Ask::Identify {
                username, password, ..
            } => (
                "identify",
                Some(username.clone()),
                None,
                Some(password),
                None,
            ),
            Ask::Confirm { user, password, .. } => {
                ("confirm", None, Some(user.clone()), Some(password), None)
            }
            Ask::SetPassword {
                user, current, new, ..
            } => (
                "set_password",
                None,
                Some(user.clone()),
                Some(current),
                Some(new),
            ),
            Ask::Register {
                username, password, ..
            } => (
                "register",
                Some(username.clone()),
                None,
                Some(password),
                None,
            ),
            Ask::ResetPassword { new, .. } => ("reset_password", None, None, None, Some(new)),
            Ask::Adopt { foreign, .. } => {
                let subject = Some(foreign.subject().clone());
                ("adopt", None, subject, None, None)
            }
            Ask::Renew { user, .. } => ("renew", None, Some(user.clone()), None, None),
        };
        Question {
            kind,
            username,
            user,
            password: password.cloned(),
            new: new.cloned(),
            foreign: match &ask {
                Ask::Adopt { foreign, .. } => Some(Arc::clone(foreign)),
                _ => None,
            },
            ask: Mutex::new(Some(ask)),
            engine,
        }
    }

    fn take(&self) -> PyResult<Ask> {
        let mut ask = self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        ask.take()
            .ok_or_else(|| PyRuntimeError::new_err("the question was answered already"))
    }

    fn not_of_this_kind<T>(&self) -> PyResult<T> {
        let text = format!("this is no answer to a question of kind {}", self.kind);
        Err(PyRuntimeError::new_err(text))
    }

    fn policy(&self) -> &Policy {
        self.engine.api.service().policy()
    }

    fn password(&self) -> PyResult<Password> {
        match &self.password {
            Some(password) => Ok(password.clone()),
            None => self.not_of_this_kind(),
        }
    }

    /// The refusal that `error` is in this exchange.
    fn refused(&self, py: Python<'_>, error: Error) -> PyResult<Answer> {
        self.refused_because(py, error.into())
    }

    fn refused_because(&self, py: Python<'_>, why: Refusal) -> PyResult<Answer> {
        let ask = self.take()?;
        let reply = py.detach(|| match ask {
            Ask::Identify { next, .. } => next.settled(Err(why)).block_on(),
            Ask::Confirm { next, .. } => next.settled(Err(why)).block_on(),
            Ask::SetPassword { next, .. } => next.settled(Err(why)).block_on(),
            Ask::ResetPassword { next, .. } => next.answer(Err(why.error)),
            Ask::Register { next, .. } => next.answer(Err(why.error)).block_on(),
            Ask::Adopt { next, .. } => next.answer(Err(why.error)).block_on(),
            Ask::Renew { next, .. } => next.answer(Err(why.error)).block_on(),
        });
        finished(reply)
    }
}

/// No exchange asks twice.
fn finished(reply: Reply) -> PyResult<Answer> {
    match reply {
        Reply::Done(answer) => Ok(Answer::of(answer)),
        Reply::Ask(_) => Err(PyRuntimeError::new_err("a question led to another")),
    }
}

pub(crate) fn user_id(text: &str) -> PyResult<UserId> {
    UserId::new(text).map_err(|_| {
        PyValueError::new_err(
            "a user id must have 1 to 255 bytes, none of them a control character",
        )
    })
}

#[pymethods]
impl Question {
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind
    }

    #[getter]
    fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    #[getter]
    fn user_id(&self) -> Option<&str> {
        self.user.as_ref().map(UserId::as_str)
    }

    #[getter(password)]
    fn password_text<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        let password = self.password.as_ref();
        password.map(|password| PyString::new(py, password.as_str()))
    }

    #[getter]
    fn new_password<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        let password = self.new.as_ref();
        password.map(|password| PyString::new(py, password.as_str()))
    }

    /// For `adopt`: header and claims of the token, as JSON.
    #[getter]
    fn foreign(&self) -> Option<(&str, &str)> {
        let foreign = self.foreign.as_ref();
        foreign.map(|foreign| (foreign.header(), foreign.claims()))
    }

    /// For `adopt`: whom the built-in accounts know.
    fn named_by_accounts(&self, py: Python<'_>) -> PyResult<Or<Identity>> {
        let Some(foreign) = &self.foreign else {
            return self.not_of_this_kind();
        };
        let accounts = self.engine.core.accounts();
        let named = accounts.named(foreign.subject(), foreign.names());
        match py.detach(|| named.block_on()) {
            Ok(identity) => Ok(Or::Value(Identity(identity))),
            Err(error) => self.refused(py, error).map(Or::Answer),
        }
    }

    /// For `identify`: as the built-in accounts say.
    fn by_accounts(&self, py: Python<'_>) -> PyResult<Or<Identity>> {
        let (Some(username), password) = (&self.username, self.password()?) else {
            return self.not_of_this_kind();
        };
        let accounts = self.engine.core.accounts();
        match py.detach(|| accounts.try_identify(username, password).block_on()) {
            Ok(identity) => Ok(Or::Value(Identity(identity))),
            Err(refusal) => self.refused_because(py, refusal).map(Or::Answer),
        }
    }

    /// What `password_set` would raise of these claims, for before the new hash is saved.
    #[pyo3(signature = (claims))]
    fn check_claims(&self, claims: Option<&str>) -> PyResult<()> {
        checked(claims, self.policy()).map(drop)
    }

    /// Any question, as the built-in accounts answer it. `claims`, `privileged`: of a session that
    /// opens.
    #[pyo3(signature = (claims=None, privileged=false))]
    fn settle(&self, py: Python<'_>, claims: Option<&str>, privileged: bool) -> PyResult<Answer> {
        let claims = checked(claims, self.policy())?;
        let (ask, accounts) = (self.take()?, self.engine.core.accounts());
        let reply = py.detach(|| match ask {
            Ask::SetPassword {
                user,
                current,
                new,
                next,
            } => {
                let accounts = accounts.on_behalf_of(next.caller().clone());
                let changed = accounts.try_change_password(&user, current, new);
                let changed = changed.block_on();
                let with_claims = changed.map(|mut change| {
                    change.identity.claims = claims;
                    change.identity.privileged |= privileged;
                    change
                });
                next.settled(with_claims).block_on()
            }
            ask => Reply::Done(settle(Reply::Ask(ask), accounts).block_on()),
        });
        finished(reply)
    }

    /// Whether it is the password behind a hash, and a new hash where that was of other making or
    /// cost.
    #[pyo3(signature = (password_hash))]
    fn verify(
        &self,
        py: Python<'_>,
        password_hash: Option<&str>,
    ) -> PyResult<Or<(bool, Option<String>)>> {
        let password = self.password()?;
        let hash = password_hash.map(PasswordHash::from_phc);
        match py.detach(|| {
            self.engine
                .core
                .passwords()
                .verify(password, hash)
                .block_on()
        }) {
            Ok(verified) => {
                let rehash = verified.rehash.map(|hash| hash.as_str().to_owned());
                Ok(Or::Value((verified.matches, rehash)))
            }
            Err(error) => self.refused(py, error).map(Or::Answer),
        }
    }

    /// A hash of the new password, if that is not refused.
    fn hash(&self, py: Python<'_>) -> PyResult<Or<String>> {
        let new = self.new.clone();
        let new = new.map_or_else(|| self.password(), Ok)?;
        // Of a session only the id is known, which may well be a name.
        let id = self.user.as_ref().map(UserId::as_str);
        let name = self.username.as_deref().or(id).unwrap_or_default();
        let passwords = self.engine.core.passwords();
        match py.detach(|| passwords.hash_new(name, new).block_on()) {
            Ok(hash) => Ok(Or::Value(hash.as_str().to_owned())),
            Err(error) => self.refused(py, error).map(Or::Answer),
        }
    }

    #[pyo3(signature = (identity, username=None, claims=None, privileged=false))]
    fn identified(
        &self,
        py: Python<'_>,
        identity: &Bound<'_, PyAny>,
        username: Option<&str>,
        claims: Option<&str>,
        privileged: bool,
    ) -> PyResult<Answer> {
        let mut identity = who(identity, username, claims, self.policy())?;
        identity.privileged |= privileged;
        match self.take()? {
            Ask::Identify { next, .. } => {
                finished(py.detach(|| next.answer(Ok(identity)).block_on()))
            }
            Ask::Adopt { next, .. } => finished(py.detach(|| next.answer(Ok(identity)).block_on())),
            _ => self.not_of_this_kind(),
        }
    }

    fn confirmed(&self, py: Python<'_>) -> PyResult<Answer> {
        match self.take()? {
            Ask::Confirm { next, .. } => finished(py.detach(|| next.answer(Ok(())).block_on())),
            _ => self.not_of_this_kind(),
        }
    }

    /// The host has set the new password.
    #[pyo3(signature = (username=None, claims=None, privileged=false))]
    fn password_set(
        &self,
        py: Python<'_>,
        username: Option<&str>,
        claims: Option<&str>,
        privileged: bool,
    ) -> PyResult<Answer> {
        let claims = checked(claims, self.policy())?;
        match self.take()? {
            Ask::SetPassword { next, user, .. } => {
                let mut identity = host_identity(user, username, claims.as_deref());
                identity.privileged = privileged;
                let change = PasswordChange::from(identity);
                finished(py.detach(|| next.answer(Ok(change)).block_on()))
            }
            _ => self.not_of_this_kind(),
        }
    }

    #[pyo3(signature = (user_id, username=None))]
    fn registered(
        &self,
        py: Python<'_>,
        user_id: &str,
        username: Option<&str>,
    ) -> PyResult<Answer> {
        let user = self::user_id(user_id)?;
        match self.take()? {
            Ask::Register { next, .. } => {
                let identity = host_identity(user, username, None);
                finished(py.detach(|| next.answer(Ok(identity)).block_on()))
            }
            _ => self.not_of_this_kind(),
        }
    }

    fn taken(&self, py: Python<'_>) -> PyResult<Answer> {
        self.refused(py, Error::UsernameTaken)
    }

    #[pyo3(signature = (claims=None))]
    fn renewed(&self, py: Python<'_>, claims: Option<&str>) -> PyResult<Answer> {
        let claims = checked(claims, self.policy())?;
        match self.take()? {
            Ask::Renew { next, .. } => finished(py.detach(|| next.answer(Ok(claims)).block_on())),
            _ => self.not_of_this_kind(),
        }
    }

    /// `why`, and whose it was where that is known: for the log of events.
    #[pyo3(signature = (why=None, user_id=None))]
    fn refuse(&self, py: Python<'_>, why: Option<&str>, user_id: Option<&str>) -> PyResult<Answer> {
        let why = match why {
            Some("unknown_user") => Failure::UnknownUser,
            Some("wrong_password") => Failure::WrongPassword,
            Some("disabled") => Failure::Disabled,
            _ => Failure::Refused,
        };
        let refusal = Refusal {
            error: Error::InvalidCredentials,
            user: user_id.map(self::user_id).transpose()?,
            why,
        };
        self.refused_because(py, refusal)
    }

    fn __repr__(&self) -> String {
        format!("<Question {}>", self.kind)
    }
}

/// An identity from the built-in accounts, or the id of a user of the host's own.
fn who(
    identity: &Bound<'_, PyAny>,
    username: Option<&str>,
    claims: Option<&str>,
    policy: &Policy,
) -> PyResult<Who> {
    let claims = checked(claims, policy)?;
    if let Ok(Identity(known)) = identity.cast::<Identity>().map(Bound::get) {
        return Ok(Who {
            claims,
            ..known.clone()
        });
    }
    let user = user_id(&identity.extract::<String>()?)?;
    Ok(host_identity(user, username, claims.as_deref()))
}

fn host_identity(user: UserId, username: Option<&str>, claims: Option<&str>) -> Who {
    Who {
        user,
        username: username.map(|name| canonical(name).unwrap_or_else(|_| name.into())),
        valid_from: None,
        claims: claims.map(Into::into),
        privileged: false,
    }
}

/// The host's claims; what is wrong with them is the host's to mend.
pub(crate) fn checked(claims: Option<&str>, policy: &Policy) -> PyResult<Option<Box<str>>> {
    let Some(claims) = claims else {
        return Ok(None);
    };
    match check_custom(claims, policy.identity_claim.as_deref()) {
        Ok(()) => Ok(Some(claims.into())),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}
