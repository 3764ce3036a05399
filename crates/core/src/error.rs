//! What can be refused, by meaning. The HTTP crate alone knows which status each one is.

use crate::session::EndReason;
use std::time::Duration;

/// Shorthand for results of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the engine refused. No variant carries a secret or a text for clients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Unknown user, wrong password or disabled account: deliberately one answer.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// No token where one is needed.
    #[error("no token")]
    TokenMissing,
    /// Malformed, forged, of another type, not yet valid: deliberately one answer.
    #[error("invalid token")]
    TokenInvalid,
    /// A good access token whose time is over.
    #[error("expired token")]
    TokenExpired,
    /// The session is over, and why.
    #[error("session ended: {0:?}")]
    SessionEnded(EndReason),
    /// This very refresh showed that the token was used by two holders; the session ended.
    #[error("refresh token reused")]
    RefreshReused,
    /// The session is good, but its password check is too long ago.
    #[error("fresh login required")]
    FreshLoginRequired,
    /// The new password is refused, and why in words.
    #[error("password too weak: {0}")]
    PasswordTooWeak(&'static str),
    /// Registration of a name that exists.
    #[error("username taken")]
    UsernameTaken,
    /// The user has as many sessions as one may have.
    #[error("session limit reached")]
    SessionLimitReached,
    /// Unknown, used or expired: deliberately one answer.
    #[error("invalid reset token")]
    ResetTokenInvalid,
    /// No such session of this user, no such account.
    #[error("not found")]
    NotFound,
    /// Input that breaks a documented limit.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// Too many failures before this try.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When to try again.
        retry_after: Duration,
    },
    /// The hashing queue is full.
    #[error("overloaded")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The store did not answer, or four swaps in a row were lost.
    #[error("store unavailable")]
    StoreUnavailable,
}

impl From<StoreError> for Error {
    fn from(_: StoreError) -> Self {
        Error::StoreUnavailable
    }
}

/// A store failed. What it did may or may not have taken effect.
#[derive(Clone, Debug, thiserror::Error)]
#[error("store: {0}")]
pub struct StoreError(
    /// For the operator's log; never holds a value of a row.
    pub String,
);
