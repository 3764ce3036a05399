//! Errors on the wire (RFC 9457): the only place where a meaning becomes a status.

use bytes::Bytes;
use doorward_core::Error;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::settings::Settings;

/// Whatever a request can be refused for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The engine refused.
    Engine(Error),
    /// The password check inside a session failed: 403, so that clients do not refresh and retry.
    PasswordRefused,
    /// The request breaks the form that the API asks for, and how.
    BadRequest(&'static str),
    /// A body that is not JSON.
    UnsupportedMediaType,
    /// A body over the limit.
    PayloadTooLarge,
    /// An unsafe request that another site may have caused.
    CsrfFailed,
}

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Problem::Engine(error.into())
    }
}

/// Status, code, detail.
type Words = (u16, &'static str, &'static str);

impl Problem {
    /// Every code and the status it comes with.
    pub const CODES: [(&'static str, u16); 19] = [
        ("bad_request", 400),
        ("reset_token_invalid", 400),
        ("invalid_credentials", 401),
        ("token_missing", 401),
        ("token_invalid", 401),
        ("token_expired", 401),
        ("session_ended", 401),
        ("refresh_reused", 401),
        ("fresh_login_required", 401),
        ("csrf_failed", 403),
        ("not_found", 404),
        ("username_taken", 409),
        ("session_limit_reached", 409),
        ("payload_too_large", 413),
        ("unsupported_media_type", 415),
        ("password_too_weak", 422),
        ("too_many_attempts", 429),
        ("overloaded", 503),
        ("store_unavailable", 503),
    ];

    fn words(&self) -> Words {
        match self {
            Problem::Engine(error) => engine_words(error),
            Problem::PasswordRefused => (403, "invalid_credentials", "the password is wrong"),
            Problem::BadRequest(detail) => (400, "bad_request", detail),
            Problem::UnsupportedMediaType => (
                415,
                "unsupported_media_type",
                "the body must be application/json",
            ),
            Problem::PayloadTooLarge => (413, "payload_too_large", "the body is too large"),
            Problem::CsrfFailed => (
                403,
                "csrf_failed",
                "the request does not come from this site or an allowed origin",
            ),
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.words().1
    }

    /// What is wrong, in words for clients.
    #[must_use]
    pub fn detail(&self) -> &'static str {
        self.words().2
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.words().0
    }

    /// The document that tells of it, its `detail` once more as `message_key`.
    pub(crate) fn document<'a>(&self, message_key: &'a str) -> impl Serialize + use<'a> {
        let (status, code, detail) = self.words();
        Document {
            r#type: format!("urn:doorward:problem:{code}"),
            title: title(code),
            status,
            detail,
            code,
            message_key,
            reason: match self {
                Problem::Engine(Error::SessionEnded(reason)) => Some(reason.name()),
                _ => None,
            },
        }
    }

    /// The finished answer, without the headers that every answer has.
    #[must_use]
    pub fn response(&self, settings: &Settings) -> Response<Bytes> {
        let status = StatusCode::from_u16(self.status());
        let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let body = serde_json::to_vec(&self.document(&settings.message_key)).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            let challenge = format!("{}{}", settings.scheme(), self.challenge());
            if let Ok(challenge) = HeaderValue::try_from(challenge) {
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// What follows the scheme. RFC 6750, section 3; RFC 9470 for a login that is too long ago.
    fn challenge(&self) -> &'static str {
        match self {
            Problem::Engine(Error::TokenMissing | Error::InvalidCredentials) => "",
            Problem::Engine(Error::FreshLoginRequired) => {
                " error=\"insufficient_user_authentication\""
            }
            _ => " error=\"invalid_token\"",
        }
    }

    /// In seconds.
    fn retry_after(&self) -> Option<u64> {
        match self {
            Problem::Engine(
                Error::Overloaded { retry_after } | Error::TooManyAttempts { retry_after },
            ) => Some(retry_after.as_secs().max(1)),
            Problem::Engine(Error::StoreUnavailable) => Some(1),
            _ => None,
        }
    }
}

fn engine_words(error: &Error) -> Words {
    match error {
        Error::InvalidCredentials => (401, "invalid_credentials", "username or password is wrong"),
        Error::TokenMissing => (401, "token_missing", "a token is required"),
        Error::TokenInvalid => (401, "token_invalid", "the token is not valid"),
        Error::TokenExpired => (
            401,
            "token_expired",
            "the access token has expired; refresh it",
        ),
        Error::SessionEnded(_) => (401, "session_ended", "the session has ended; log in again"),
        Error::RefreshReused => (
            401,
            "refresh_reused",
            "the refresh token was used by two holders; the session has ended",
        ),
        Error::FreshLoginRequired => (
            401,
            "fresh_login_required",
            "the last password check is too long ago",
        ),
        Error::PasswordTooWeak(detail) => (422, "password_too_weak", detail),
        Error::ResetTokenInvalid => (
            400,
            "reset_token_invalid",
            "the token is unknown, used or expired; ask for another",
        ),
        Error::SessionLimitReached => (
            409,
            "session_limit_reached",
            "there are as many sessions of this user as there may be; end one of them first",
        ),
        Error::UsernameTaken => (409, "username_taken", "the username is taken"),
        Error::NotFound => (
            404,
            "not_found",
            "there is no such thing, or it is not yours",
        ),
        Error::BadRequest(detail) => (400, "bad_request", detail),
        Error::TooManyAttempts { .. } => (
            429,
            "too_many_attempts",
            "too many failed attempts; try again later",
        ),
        Error::Overloaded { .. } => (503, "overloaded", "too much to do at once; try again soon"),
        _ => (
            503,
            "store_unavailable",
            "the session store does not answer; try again soon",
        ),
    }
}

fn title(code: &str) -> String {
    let mut title = code.replace('_', " ");
    title[..1].make_ascii_uppercase();
    title
}

/// The members of a document whose names are not configured.
pub(crate) const MEMBERS: [&str; 6] = ["type", "title", "status", "detail", "code", "reason"];

struct Document<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: &'static str,
    code: &'static str,
    message_key: &'a str,
    reason: Option<&'static str>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut members = out.serialize_map(None)?;
        members.serialize_entry("type", &self.r#type)?;
        members.serialize_entry("title", &self.title)?;
        members.serialize_entry("status", &self.status)?;
        members.serialize_entry("detail", self.detail)?;
        members.serialize_entry("code", self.code)?;
        members.serialize_entry(self.message_key, self.detail)?;
        if let Some(reason) = self.reason {
            members.serialize_entry("reason", reason)?;
        }
        members.end()
    }
}
