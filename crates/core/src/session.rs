//! A session, and the one decision taken about it: what a presented refresh token means.
//!
//! [`Session::refresh`] is a pure function of the row, the token, the time and the policy. It
//! guarantees that an honest client is not logged out by a lost answer, a second tab, a retry or
//! answers out of order, and that two holders of a copied token are found out. It reads no clock,
//! draws no randomness and touches no store; [`crate::service`] carries out what it says.

use std::net::IpAddr;
use std::time::Duration;

use crate::env::{Timestamp, millis};
use crate::id::{SessionId, TokenId, UserId};
use crate::keys::{KeyId, RefreshKey};
use crate::limits::Limits;
use crate::policy::Policy;
use crate::refresh_token::RefreshToken;

/// What a login opens: one row in the store. Holds nothing that can be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The row's key.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// The newest refresh token known to have reached the client, because the client presented it.
    pub confirmed: TokenId,
    /// How many rotations led to `confirmed`; -1 for the root, which nobody holds.
    pub generation: i64,
    /// The confirmed token before this one.
    pub previous: Option<TokenId>,
    /// Whether other children of `previous` may still be on their way.
    pub siblings: bool,
    /// Tells a child handed out later from one handed out earlier.
    pub attempt: u32,
    /// When `confirmed` was first presented; [`Timestamp::NEVER`] for the root.
    pub confirmed_at: Timestamp,
    /// When the current child was first handed out; [`Timestamp::NEVER`] for the root's.
    pub child_at: Timestamp,
    /// The key that mints this row's child.
    pub refresh_key: KeyId,
    /// When the login was.
    pub created_at: Timestamp,
    /// When a password was last checked.
    pub auth_time: Timestamp,
    /// When the session is over, however often it is refreshed; sooner if the policy says so by now:
    /// [`Session::last_end`].
    pub absolute_end: Timestamp,
    /// Whether cookies outlive the browser. With `privileged` its class: see [`Policy::limits`].
    pub remember: bool,
    /// Whether its user may do more than others, and has shorter limits for it.
    pub privileged: bool,
    /// How tokens travel.
    pub delivery: Delivery,
    /// Where it was opened, for the list that users see.
    pub device: Device,
    /// The host's own claims, a JSON object of at most 1 KiB, repeated in each access token.
    pub claims: Option<Box<str>>,
    /// When and why it ended.
    pub ended: Option<End>,
    /// Incremented by each write.
    pub version: u64,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
}

/// How tokens travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// By `Set-Cookie` only.
    Cookie,
    /// In JSON bodies, and as `Authorization: Bearer`.
    Body,
}

/// What is known of the client that opened a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The name that the client gave itself.
    pub name: Option<Box<str>>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its `User-Agent`.
    pub agent: Option<Box<str>>,
}

/// Why a session ended. The first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndReason {
    /// The client logged out.
    Logout = 1,
    /// The user ended it from another session.
    EndedByUser = 2,
    /// An operator ended it.
    EndedByOperator = 3,
    /// Not refreshed for `refresh_ttl`.
    Idle = 4,
    /// Older than `session_ttl`.
    Absolute = 5,
    /// Its refresh token was used by two holders.
    Reuse = 6,
    /// The user's password changed.
    PasswordChanged = 7,
    /// The account was disabled or removed.
    Disabled = 8,
    /// A login in the same browser took its place.
    Replaced = 9,
    /// The user opened more sessions than one may have.
    SessionLimit = 10,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [EndReason; 10] = [
        EndReason::Logout,
        EndReason::EndedByUser,
        EndReason::EndedByOperator,
        EndReason::Idle,
        EndReason::Absolute,
        EndReason::Reuse,
        EndReason::PasswordChanged,
        EndReason::Disabled,
        EndReason::Replaced,
        EndReason::SessionLimit,
    ];

    /// The reason that is stored as `code`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<EndReason> {
        EndReason::ALL
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }

    /// The reason that is stored as `code`. One of a newer version is taken for an operator's: whatever it says,
    /// the session has ended.
    #[must_use]
    pub fn stored(code: u8) -> EndReason {
        EndReason::from_code(code).unwrap_or(EndReason::EndedByOperator)
    }

    /// The stable name that clients see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Logout => "logout",
            EndReason::EndedByUser => "ended_by_user",
            EndReason::EndedByOperator => "ended_by_operator",
            EndReason::Idle => "idle",
            EndReason::Absolute => "absolute",
            EndReason::Reuse => "reuse",
            EndReason::PasswordChanged => "password_changed",
            EndReason::Disabled => "disabled",
            EndReason::Replaced => "replaced",
            EndReason::SessionLimit => "session_limit",
        }
    }
}

/// What a presented refresh token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session is over. (Rule 0)
    Ended(EndReason),
    /// The answer to this token was lost, or a second request raced. (Rule 1)
    Repeat,
    /// The client rotated a moment ago. (Rule 2)
    Settle,
    /// The client presents the child: it becomes the confirmed token. (Rule 3)
    Advance {
        /// The token was handed out before the row's newest child: two clients may hold it.
        fork_suspected: bool,
    },
    /// A late request of the same client. (Rule 4)
    Concurrent,
    /// The store forgot confirmed steps. (Rule 5)
    StoreBehind,
    /// Two holders. (Rule 6)
    Reuse,
}

/// A verdict, and what the row must become before it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the token means.
    pub verdict: Verdict,
    /// The row to swap in first; its child is what the client gets.
    pub swap: Option<Session>,
}

impl Decision {
    fn answer(verdict: Verdict) -> Self {
        Decision {
            verdict,
            swap: None,
        }
    }

    fn swap(verdict: Verdict, row: Session) -> Self {
        Decision {
            verdict,
            swap: Some(row),
        }
    }
}

impl Session {
    /// Decides what `token`, whose MAC was checked, means for this row at `now`.
    ///
    /// `row_key` is the key named by [`Session::refresh_key`]; `current` the one that mints for
    /// rows written from now on. The first rule that matches wins; the numbers are those of
    /// ARCHITECTURE.md, "Refresh rotation".
    #[must_use]
    pub fn refresh(
        &self,
        token: &RefreshToken,
        now: Timestamp,
        policy: &Policy,
        row_key: &RefreshKey,
        current: KeyId,
    ) -> Decision {
        if let Some(reason) = self.over(now, policy) {
            return Decision::answer(Verdict::Ended(reason));
        }
        let window = Window::of(policy);
        let age = window.age(now, self.confirmed_at);
        let child_age = window.age(now, self.child_at);
        let generation = i64::from(token.generation);
        let descends = token.parent == self.confirmed && generation == self.generation + 1;

        if token.id == self.confirmed {
            self.repeat(now, &window, child_age > window.repeat)
        } else if descends && self.settles(token, row_key, &window, age, child_age) {
            self.hand_out(Verdict::Settle, now, &window)
        } else if descends {
            let siblings = child_age <= window.siblings;
            let fork_suspected = !self.is_child(token, row_key, self.attempt);
            let row = self.confirm(token, now, siblings, current);
            Decision::swap(Verdict::Advance { fork_suspected }, row)
        } else if window.matches(age) && self.is_late(token) {
            Decision::answer(Verdict::Concurrent)
        } else if generation > self.generation + 1
            && token.issued_at + window.width >= self.confirmed_at
        {
            Decision::swap(
                Verdict::StoreBehind,
                self.confirm(token, now, false, current),
            )
        } else {
            Decision::answer(Verdict::Reuse)
        }
    }

    /// Why the session is over at `now`, if it is.
    #[must_use]
    pub fn over(&self, now: Timestamp, policy: &Policy) -> Option<EndReason> {
        match self.ended {
            Some(end) => Some(end.reason),
            None if now >= self.last_end(policy) => Some(EndReason::Absolute),
            None if now >= self.idle_end(policy) => Some(EndReason::Idle),
            None => None,
        }
    }

    /// The row as it counts since [`crate::store::SessionStore::restored_at`]: an operator ended it then,
    /// if it was opened before and nobody had.
    #[must_use]
    pub fn since_restored(self, at: Timestamp) -> Session {
        if self.ended.is_some() || self.created_at >= at {
            return self;
        }
        let reason = EndReason::EndedByOperator;
        Session {
            ended: Some(End { at, reason }),
            ..self
        }
    }

    /// When the session is over if it is not refreshed.
    #[must_use]
    pub fn idle_end(&self, policy: &Policy) -> Timestamp {
        self.last_used() + self.limits(policy).idle
    }

    /// When the session is over, however often it is refreshed: what was said when it opened, or what
    /// the policy says now, whichever is sooner. So a shorter limit holds for open sessions too, and a
    /// longer one brings none back.
    #[must_use]
    pub fn last_end(&self, policy: &Policy) -> Timestamp {
        self.absolute_end
            .min(self.created_at + self.limits(policy).absolute)
    }

    fn limits(&self, policy: &Policy) -> Limits {
        policy.limits(self.remember, self.privileged)
    }

    /// When the session is over at the latest if it is not refreshed: idle or absolute.
    #[must_use]
    pub fn expires_at(&self, policy: &Policy) -> Timestamp {
        self.idle_end(policy).min(self.last_end(policy))
    }

    /// The end that it comes to by itself.
    #[must_use]
    pub fn ran_out(&self, policy: &Policy) -> End {
        let at = self.expires_at(policy);
        let unended = Session {
            ended: None,
            ..self.clone()
        };
        let reason = unended.over(at, policy).unwrap_or(EndReason::Idle);
        End { at, reason }
    }

    /// When it was last refreshed, to within `W`.
    #[must_use]
    pub fn last_used(&self) -> Timestamp {
        self.child_at.max(self.created_at)
    }

    /// Until when the last password check counts as fresh.
    #[must_use]
    pub fn fresh_until(&self, policy: &Policy) -> Timestamp {
        self.auth_time + policy.fresh_ttl
    }

    /// The successor of the confirmed token, wholly determined by the row: whoever asks while the
    /// row stays the same gets the same, from any node.
    #[must_use]
    pub fn child(&self, row_key: &RefreshKey) -> RefreshToken {
        RefreshToken {
            key: self.refresh_key,
            session: self.id,
            id: row_key.child_id(self.id, self.confirmed, self.attempt),
            parent: self.confirmed,
            generation: u32::try_from(self.generation + 1).unwrap_or(u32::MAX),
            issued_at: self.last_used(),
        }
    }

    /// Rule 1: the child again; after the window as a new attempt.
    fn repeat(&self, now: Timestamp, window: &Window, later: bool) -> Decision {
        if !later {
            return self.hand_out(Verdict::Repeat, now, window);
        }
        let row = Session {
            attempt: self.attempt.saturating_add(1),
            child_at: now,
            version: self.version + 1,
            ..self.clone()
        };
        Decision::swap(Verdict::Repeat, row)
    }

    /// The child once more. Where an earlier attempt's child may be held too, `child_at` follows:
    /// the client's requests with the one may cross this answer with the other, and rule 2 must
    /// still know them for the same client's, a window after the last answer and not the first. Not
    /// for each of many requests at once, whose swaps would fail each other.
    fn hand_out(&self, verdict: Verdict, now: Timestamp, window: &Window) -> Decision {
        if self.attempt == 0 || now <= self.child_at + window.width / 8 {
            return Decision::answer(verdict);
        }
        let row = Session {
            child_at: now,
            version: self.version + 1,
            ..self.clone()
        };
        Decision::swap(verdict, row)
    }

    /// Rule 2: is this the child that a request of a moment ago was answered with?
    fn settles(
        &self,
        token: &RefreshToken,
        key: &RefreshKey,
        window: &Window,
        age: i64,
        child_age: i64,
    ) -> bool {
        let recent = |attempt| self.is_child(token, key, attempt);
        window.matches(age)
            || window.matches(child_age)
                && (recent(self.attempt) || self.attempt.checked_sub(1).is_some_and(recent))
    }

    /// Rules 3 and 5: the presented token is the confirmed one from now on.
    fn confirm(&self, token: &RefreshToken, now: Timestamp, siblings: bool, key: KeyId) -> Session {
        Session {
            previous: Some(token.parent),
            confirmed: token.id,
            generation: i64::from(token.generation),
            siblings,
            confirmed_at: now,
            child_at: now,
            attempt: 0,
            refresh_key: key,
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// Rule 4: the confirmed token's own parent, or one of its siblings.
    fn is_late(&self, token: &RefreshToken) -> bool {
        self.previous == Some(token.id) || self.siblings && self.previous == Some(token.parent)
    }

    fn is_child(&self, token: &RefreshToken, key: &RefreshKey, attempt: u32) -> bool {
        token.id == key.child_id(self.id, self.confirmed, attempt)
    }
}

/// `W` as each rule reads it, in milliseconds.
struct Window {
    width: Duration,
    /// For rule 1 and the clock test, where no window counts as 2 s.
    repeat: i64,
    siblings: i64,
}

impl Window {
    fn of(policy: &Policy) -> Window {
        let width = policy.window();
        let repeat = if width.is_zero() {
            2_000
        } else {
            millis(width)
        };
        Window {
            width,
            repeat,
            siblings: 3 * millis(width),
        }
    }

    /// How long ago `then` was. A clock that stepped back makes it infinite.
    fn age(&self, now: Timestamp, then: Timestamp) -> i64 {
        let age = now.since(then);
        if age < -self.repeat / 2 {
            i64::MAX
        } else {
            age
        }
    }

    /// Rules 2 and 4: without a window they never match.
    fn matches(&self, age: i64) -> bool {
        !self.width.is_zero() && age <= millis(self.width)
    }
}
