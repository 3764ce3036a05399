//! What the API answers, as JSON: shapes only.

use doorward_core::event::Record;
use doorward_core::{Service, Session, SessionId, Timestamp, UserId};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
pub(crate) struct Granted<'a> {
    pub(crate) user: UserView<'a>,
    pub(crate) session: SessionView,
    pub(crate) access_expires_at: String,
    pub(crate) refresh_expires_at: String,
    pub(crate) server_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) csrf: Option<CsrfView<'a>>,
    #[serde(flatten)]
    pub(crate) tokens: Option<Tokens<'a>>,
}

#[derive(Serialize)]
pub(crate) struct Tokens<'a> {
    pub(crate) access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<&'a str>,
    pub(crate) token_type: &'a str,
    pub(crate) expires_in: i64,
}

/// What requests with these cookies repeat, where no cookie tells.
#[derive(Serialize)]
pub(crate) struct CsrfView<'a> {
    pub(crate) access: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refresh: Option<&'a str>,
}

#[derive(Serialize)]
pub(crate) struct UserView<'a> {
    #[serde(serialize_with = "display")]
    pub(crate) id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<&'a str>,
}

fn display<S: serde::Serializer>(id: &UserId, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(id.as_str())
}

#[derive(Serialize)]
pub(crate) struct SessionView {
    pub(crate) id: String,
    pub(crate) created_at: String,
    pub(crate) expires_at: String,
    pub(crate) fresh_until: String,
}

impl SessionView {
    pub(crate) fn of(session: &Session, service: &Service) -> Self {
        SessionView {
            id: session.id.to_string(),
            created_at: rfc3339(session.created_at),
            expires_at: rfc3339(session.expires_at(service.policy())),
            fresh_until: rfc3339(session.fresh_until(service.policy())),
        }
    }
}

/// A line of the list of sessions.
pub(crate) fn listed(session: &Session, current: SessionId, service: &Service) -> Value {
    json!({
        "id": session.id.to_string(),
        "created_at": rfc3339(session.created_at),
        "last_used_at": rfc3339(session.last_used()),
        "expires_at": rfc3339(session.expires_at(service.policy())),
        "device": session.device.name,
        "address": session.device.address,
        "agent": session.device.agent,
        "current": session.id == current,
    })
}

/// A line of a user's history.
pub(crate) fn happened(record: &Record, current: SessionId) -> Value {
    let event = &record.event;
    let mut line = json!({
        "at": rfc3339(record.at),
        "event": event.name.as_str(),
        "session": event.session.map(|id| id.to_string()),
        "device": record.device,
        "agent": record.agent,
        "network": record.network,
    });
    if event.session == Some(current) {
        line["current"] = true.into();
    }
    if let Some(reason) = &event.reason {
        line["reason"] = reason.as_ref().into();
    }
    if event.count != 1 {
        line["count"] = event.count.into();
    }
    line
}

/// UTC, whole seconds (RFC 3339).
pub(crate) fn rfc3339(time: Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds())
        .unwrap_or_default()
        .to_string()
}
