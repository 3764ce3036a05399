//! What happened, for the door to log, count and signal: ids, never tokens or passwords.

use crate::id::{SessionId, UserId};
use crate::session::EndReason;

/// One thing that happened to a session or a user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session opened.
    LoggedIn {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// A refresh token of another program became a session.
    Adopted {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// Credentials were refused. The name is what was typed, and may be a password typed in the
    /// wrong field: it is not carried.
    LoginFailed,
    /// A refresh was answered without anything out of the ordinary.
    Refreshed {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// An older child took over from a newer one: two clients may hold this session's token.
    ForkSuspected {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// The store had forgotten confirmed rotations.
    StoreBehind {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// A refresh token was used by two holders; its session has ended.
    ReuseDetected {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// The password was checked again within the session.
    Reauthenticated {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
    },
    /// A session ended.
    SessionEnded {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Several sessions of a user ended at once.
    SessionsEnded {
        /// Whose.
        user: UserId,
        /// How many.
        count: u64,
        /// Why.
        reason: EndReason,
    },
    /// The user's password changed.
    PasswordChanged {
        /// Whose.
        user: UserId,
    },
    /// An account was made by registration.
    Registered {
        /// Whose.
        user: UserId,
    },
}

impl Event {
    /// The stable name, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::LoggedIn { .. } => "logged_in",
            Event::Adopted { .. } => "adopted",
            Event::LoginFailed => "login_failed",
            Event::Refreshed { .. } => "refreshed",
            Event::ForkSuspected { .. } => "fork_suspected",
            Event::StoreBehind { .. } => "store_behind",
            Event::ReuseDetected { .. } => "reuse_detected",
            Event::Reauthenticated { .. } => "reauthenticated",
            Event::SessionEnded { .. } => "session_ended",
            Event::SessionsEnded { .. } => "sessions_ended",
            Event::PasswordChanged { .. } => "password_changed",
            Event::Registered { .. } => "registered",
        }
    }
}
