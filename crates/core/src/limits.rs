//! How long a session of which class may last, and how many a user may have at once.
//!
//! The class is fixed when a session opens and stands in its row: whether it is remembered, and
//! whether it is privileged. A session has the shortest limits of all that apply to it.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use crate::env::Timestamp;
use crate::id::SessionId;
use crate::policy::{Policy, PolicyError};
use crate::session::{EndReason, Session};
use crate::store::ValidFrom;

/// The limits of a class of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A session not refreshed for this long is over.
    pub idle: Duration,
    /// A session this old is over, however often it is refreshed.
    pub absolute: Duration,
}

impl Limits {
    /// The shorter of these and what is set.
    pub(crate) fn within(self, idle: Option<Duration>, absolute: Option<Duration>) -> Limits {
        let shorter = |own: Duration, other: Option<Duration>| other.map_or(own, |it| own.min(it));
        Limits {
            idle: shorter(self.idle, idle),
            absolute: shorter(self.absolute, absolute),
        }
    }
}

/// The most sessions that a user may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// How many.
    pub sessions: NonZeroU32,
    /// What happens at one more.
    pub over: OverCap,
}

/// What happens at one session more than a user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverCap {
    /// Those that were opened first end.
    EndOldest,
    /// The login is refused.
    Refuse,
}

impl FromStr for OverCap {
    type Err = PolicyError;

    fn from_str(name: &str) -> Result<Self, PolicyError> {
        match name {
            "end_oldest" => Ok(OverCap::EndOldest),
            "refuse" => Ok(OverCap::Refuse),
            _ => Err(PolicyError(
                "sessions_over_cap must be end_oldest or refuse",
            )),
        }
    }
}

/// A session that is to be added, and what must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The row.
    pub session: Session,
    /// What the user's `valid_from` must still be.
    pub seen: ValidFrom,
    /// A session whose place it takes, whoever's that is.
    pub replaces: Option<SessionId>,
    /// How many sessions the user may have.
    pub cap: Option<Cap>,
    /// Sessions opened before are over: see [`crate::store::SessionStore::restored_at`].
    pub restored_at: Timestamp,
}

impl Opening {
    /// Which sessions end for this one, and why; `theirs` are the user's that have not ended. `None`:
    /// there is no room. What has expired takes none, nor does the one that is replaced.
    #[must_use]
    pub fn ends(&self, theirs: &[Session], policy: &Policy) -> Option<Vec<(SessionId, EndReason)>> {
        let replaced = self.replaces.map(|id| (id, EndReason::Replaced));
        let Some(cap) = self.cap else {
            return Some(replaced.into_iter().collect());
        };
        let now = self.session.created_at;
        let counts = |row: &&Session| {
            row.created_at >= self.restored_at
                && row.over(now, policy).is_none()
                && Some(row.id) != self.replaces
        };
        let mut live: Vec<(Timestamp, SessionId)> = theirs
            .iter()
            .filter(counts)
            .map(|row| (row.created_at, row.id))
            .collect();
        let too_many = (live.len() + 1).saturating_sub(cap.sessions.get() as usize);
        if too_many > 0 && cap.over == OverCap::Refuse {
            return None;
        }
        live.sort_unstable();
        let oldest = live.into_iter().take(too_many);
        let oldest = oldest.map(|(_, id)| (id, EndReason::SessionLimit));
        Some(replaced.into_iter().chain(oldest).collect())
    }
}
