//! Ending many sessions at once. What ends is durable and told to every process, as
//! [`crate::store::SessionStore::end_user`] promises, and has its records.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::{Operator, PAGE};
use crate::error::Result;
use crate::event::{Event, EventName};
use crate::id::UserId;
use crate::session::EndReason;

/// How many users' sessions end together: a store writes what is asked for at once in one go.
const AT_ONCE: usize = 64;
const WHY: EndReason = EndReason::EndedByOperator;

impl Operator {
    /// Ends the sessions of a user; returns how many. No login survives that was checked before.
    ///
    /// # Errors
    /// [`crate::Error::StoreUnavailable`].
    pub async fn end_user(&self, user: &UserId) -> Result<usize> {
        let each = Event::new(EventName::SessionEnded).because(WHY.name());
        let once = Event::new(EventName::SessionsEnded).of(user);
        let once = once.because(WHY.name());
        let trail = self
            .events
            .trail(&self.caller, Some(once.clone()), Some(each));
        let ended = self.store.end_user(user, self.env.now(), WHY, None, &trail);
        let ended = ended.await?.len();
        self.events.tell(&once.times(ended as u64));
        Ok(ended)
    }

    /// Ends the sessions of all users; returns how many.
    ///
    /// Every session that there was when it began is over when it returns, and no login survives that
    /// was checked before its user's were ended. Whoever logs in meanwhile may stay or be out. If it
    /// fails half-way, those of some users have ended; it can be begun again.
    ///
    /// # Errors
    /// [`crate::Error::StoreUnavailable`].
    pub async fn end_all(&self) -> Result<usize> {
        let (mut ended, mut after) = (0, None);
        loop {
            // Ids are ordered by time: what is opened meanwhile comes later, and costs its opener a
            // password check, so this arrives at the end.
            let page = self.store.sessions(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(ended);
            };
            after = Some(last.id);
            let users: HashSet<UserId> = page.into_iter().map(|session| session.user).collect();
            let users: Vec<UserId> = users.into_iter().collect();
            for some in users.chunks(AT_ONCE) {
                let ends = some.iter().map(|user| self.end_user(user));
                for end in join_all(ends).await {
                    ended += end?;
                }
            }
        }
    }
}
