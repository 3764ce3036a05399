//! Sessions: as a token tells of them, and as the store has them.

use doorward_core::device_token::DeviceText;
use doorward_core::service::Grant;
use doorward_core::{Claims, Delivery, Policy, Session as Row, Timestamp};
use doorward_http::Answer as Finished;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAny, PyDateTime, PyDict, PyTzInfo};

use crate::answer::Answer;

/// The claims of a verified access token. What is not asked for is not made.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Session {
    claims: Claims,
    token: Box<str>,
    as_dict: PyOnceLock<Py<PyAny>>,
}

impl Session {
    pub(crate) fn new(claims: Claims, token: &str) -> Self {
        Session {
            claims,
            token: token.into(),
            as_dict: PyOnceLock::new(),
        }
    }

    pub(crate) fn verified(&self) -> &Claims {
        &self.claims
    }
}

#[pymethods]
impl Session {
    #[getter]
    fn id(&self) -> String {
        self.claims.session().to_string()
    }

    #[getter]
    fn user_id(&self) -> &str {
        self.claims.user().as_str()
    }

    #[getter]
    fn issued_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.claims.issued_at())
    }

    #[getter]
    fn expires_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.claims.expires_at())
    }

    #[getter]
    fn auth_time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.claims.auth_time())
    }

    #[getter]
    fn fresh_until<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.claims.fresh_until())
    }

    /// All claims, registered ones and the host's own.
    #[getter]
    fn claims(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let parse = || parsed(py, self.claims.json()).map(Bound::unbind);
        let claims = self.as_dict.get_or_try_init(py, parse)?;
        Ok(claims.clone_ref(py))
    }

    #[getter]
    fn token(&self) -> &str {
        &self.token
    }

    fn __repr__(&self) -> String {
        format!("<Session {} of {:?}>", self.id(), self.user_id())
    }
}

/// A session as the store has it.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct SessionRow {
    row: Row,
    expires_at: Timestamp,
    fresh_until: Timestamp,
}

impl SessionRow {
    pub(crate) fn new(row: Row, policy: &Policy) -> Self {
        SessionRow {
            expires_at: row.expires_at(policy),
            fresh_until: row.fresh_until(policy),
            row,
        }
    }
}

#[pymethods]
impl SessionRow {
    #[getter]
    fn id(&self) -> String {
        self.row.id.to_string()
    }

    #[getter]
    fn user_id(&self) -> &str {
        self.row.user.as_str()
    }

    #[getter]
    fn created_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.row.created_at)
    }

    #[getter]
    fn last_used_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.row.last_used())
    }

    #[getter]
    fn expires_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.expires_at)
    }

    #[getter]
    fn fresh_until<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.fresh_until)
    }

    #[getter]
    fn delivery(&self) -> &'static str {
        match self.row.delivery {
            Delivery::Cookie => "cookie",
            Delivery::Body => "body",
        }
    }

    #[getter]
    fn remember(&self) -> bool {
        self.row.remember
    }

    #[getter]
    fn privileged(&self) -> bool {
        self.row.privileged
    }

    #[getter]
    fn device(&self) -> Option<&str> {
        self.row.device.name.as_deref()
    }

    #[getter]
    fn address(&self) -> Option<String> {
        self.row.device.address.map(|address| address.to_string())
    }

    #[getter]
    fn agent(&self) -> Option<&str> {
        self.row.device.agent.as_deref()
    }

    /// The host's own claims.
    #[getter]
    fn claims<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.row.claims {
            Some(claims) => parsed(py, claims.as_bytes()),
            None => Ok(PyDict::new(py).into_any()),
        }
    }

    fn __repr__(&self) -> String {
        format!("<SessionRow {} of {:?}>", self.id(), self.user_id())
    }
}

/// A refresh that was decided: its tokens are still to be made.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Refreshed(pub(crate) doorward_core::service::Refreshed);

#[pymethods]
impl Refreshed {
    #[getter]
    fn user_id(&self) -> &str {
        self.0.session.user.as_str()
    }

    #[getter]
    fn session_id(&self) -> String {
        self.0.session.id.to_string()
    }
}

/// What a login or a refresh hands out.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Tokens {
    grant: Grant,
    answer: http::Response<bytes::Bytes>,
    policy: Policy,
}

impl Tokens {
    pub(crate) fn new(grant: Grant, answer: http::Response<bytes::Bytes>, policy: &Policy) -> Self {
        Tokens {
            grant,
            answer,
            policy: policy.clone(),
        }
    }
}

#[pymethods]
impl Tokens {
    #[getter]
    fn access_token(&self) -> &str {
        self.grant.access.as_str()
    }

    #[getter]
    fn refresh_token(&self) -> &str {
        self.grant.refresh.as_str()
    }

    /// By which the device is known at its next login, where there was an attempt.
    #[getter]
    fn device_token(&self) -> Option<&str> {
        self.grant.device.as_ref().map(DeviceText::as_str)
    }

    #[getter]
    fn access_expires_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.grant.access_expires_at)
    }

    #[getter]
    fn session(&self) -> SessionRow {
        SessionRow::new(self.grant.session.clone(), &self.policy)
    }

    /// The answer to a login, in the session's own delivery.
    #[getter]
    fn answer(&self) -> Answer {
        Answer::of(Finished {
            response: self.answer.clone(),
            events: Vec::new(),
        })
    }

    fn __repr__(&self) -> String {
        format!("<Tokens of session {}>", self.grant.session.id)
    }
}

/// In UTC.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of this era fit a double"
)]
pub(crate) fn date(py: Python<'_>, time: Timestamp) -> PyResult<Bound<'_, PyDateTime>> {
    let utc = PyTzInfo::utc(py)?;
    PyDateTime::from_timestamp(py, time.0 as f64 / 1000.0, Some(&utc.to_owned()))
}

fn parsed<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let loads = py
        .import(intern!(py, "json"))?
        .getattr(intern!(py, "loads"))?;
    loads.call1((json,))
}
