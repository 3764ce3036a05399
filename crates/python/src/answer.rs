//! What comes back: a finished answer, and what happened on the way.

use doorward_core::{Event as Happened, EventName};
use doorward_http::Answer as Finished;
use http::HeaderMap;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A finished answer.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Answer(Finished);

impl Answer {
    pub(crate) fn of(answer: Finished) -> Self {
        Answer(answer)
    }
}

#[pymethods]
impl Answer {
    #[getter]
    fn status(&self) -> u16 {
        self.0.response.status().as_u16()
    }

    #[getter]
    fn headers(&self) -> Vec<(&str, String)> {
        lines(self.0.response.headers())
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.response.body())
    }

    #[getter]
    fn events(&self) -> Vec<Event> {
        self.0.events.iter().map(Event::of).collect()
    }
}

/// Header values as WSGI has them: a character is a byte.
fn lines(headers: &HeaderMap) -> Vec<(&str, String)> {
    let latin_1 =
        |value: &http::HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    let lines = headers.iter();
    lines
        .map(|(name, value)| (name.as_str(), latin_1(value)))
        .collect()
}

/// What happened: ids and reasons, never a token or a password.
#[pyclass(frozen, get_all, module = "flask_doorward._native")]
pub(crate) struct Event {
    name: &'static str,
    user_id: Option<String>,
    session_id: Option<String>,
    reason: Option<String>,
    count: Option<u64>,
}

impl Event {
    pub(crate) fn of(event: &Happened) -> Self {
        let is_several = event.name == EventName::SessionsEnded;
        Event {
            name: event.name.as_str(),
            user_id: event.user.as_ref().map(ToString::to_string),
            session_id: event.session.map(|id| id.to_string()),
            reason: event.reason.as_deref().map(str::to_owned),
            count: is_several.then_some(event.count),
        }
    }
}

#[pymethods]
impl Event {
    fn __repr__(&self) -> String {
        let fields = [("user_id", &self.user_id), ("session_id", &self.session_id)];
        let ids = fields
            .iter()
            .filter_map(|(name, value)| Some(format!(" {name}={}", value.as_ref()?)));
        let reason = self
            .reason
            .as_ref()
            .map(|reason| format!(" reason={reason}"));
        let details: String = ids.chain(reason).collect();
        format!("<Event {}{details}>", self.name)
    }
}
