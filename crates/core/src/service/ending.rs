//! How sessions end.

use super::{Outcome, Service};
use crate::error::{Error, Result};
use crate::event::{Event, EventName, Trail};
use crate::id::{SessionId, UserId};
use crate::revocation::Ended;
use crate::session::{End, EndReason};

impl Service {
    /// Ends a session, durably. Idempotent: one that is unknown or over is no error.
    pub async fn end(&self, id: SessionId, reason: EndReason) -> Outcome<()> {
        match self.end_row(id, reason).await {
            Ok((_, event)) => (Ok(()), event),
            Err(error) => (Err(error), None),
        }
    }

    /// Ends one of a user's own sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is unknown or another's.
    pub async fn end_own(&self, user: &UserId, id: SessionId) -> Outcome<()> {
        match self.store.load(id).await {
            Ok(Some(row)) if row.user == *user => self.end(id, EndReason::EndedByUser).await,
            Ok(_) => (Err(Error::NotFound), None),
            Err(error) => (Err(error.into()), None),
        }
    }

    /// Ends all sessions of a user but `except`; returns how many. Hosts that keep their own users
    /// call this when they disable one.
    pub async fn end_user(
        &self,
        user: &UserId,
        reason: EndReason,
        except: Option<SessionId>,
    ) -> Outcome<u64> {
        let at = self.env.now();
        let once = Event::new(EventName::SessionsEnded).of(user);
        let each = Event::new(EventName::SessionEnded).because(reason.name());
        let trail = self.trail(Some(once.because(reason.name())), each);
        let ended = self.store.end_user(user, at, reason, except, &trail).await;
        let sessions = match ended {
            Ok(sessions) => sessions,
            Err(error) => return (Err(error.into()), None),
        };
        // Where none was left, an earlier try may have ended them whose answer was lost.
        if sessions.is_empty()
            && let Err(error) = self.tick().await
        {
            return (Err(error), None);
        }
        self.ended_together(user, &sessions, reason)
    }

    /// Sessions that the store has ended: refused from now on, and told of.
    pub(super) fn ended_together(
        &self,
        user: &UserId,
        sessions: &[SessionId],
        reason: EndReason,
    ) -> Outcome<u64> {
        let at = self.env.now();
        for session in sessions {
            self.revocations.insert(Ended {
                session: *session,
                at,
                reason,
            });
        }
        let event = Event::new(EventName::SessionsEnded).of(user);
        let event = event.because(reason.name()).times(sessions.len() as u64);
        self.events.tell(&event);
        (Ok(event.count), Some(event))
    }

    /// The reason that stays, and the event if it is this end that took effect.
    pub(super) async fn end_row(
        &self,
        id: SessionId,
        reason: EndReason,
    ) -> Result<(EndReason, Option<Event>)> {
        let each = Event::new(EventName::SessionEnded);
        self.end_row_by(id, reason, each).await
    }

    pub(super) async fn end_row_by(
        &self,
        id: SessionId,
        reason: EndReason,
        event: Event,
    ) -> Result<(EndReason, Option<Event>)> {
        let at = self.env.now();
        let event = event.because(reason.name());
        let trail = self.trail(None, event.clone());
        let Some(row) = self.store.end(id, at, reason, &trail).await? else {
            self.end_without_row(Ended {
                session: id,
                at,
                reason,
            })
            .await?;
            return Ok((reason, None));
        };
        let end = row.ended.unwrap_or(End { at, reason });
        self.remember(id, end);
        let ours = end.at == at && end.reason == reason;
        let event = ours.then(|| event.of(&row.user).in_session(id));
        if let Some(event) = &event {
            self.events.tell(event);
        }
        Ok((end.reason, event))
    }

    /// The store lost the row, or has removed it: access tokens of the session may be good all the same, here and at
    /// other nodes. Told once by each node: whoever repeats it fills no log.
    async fn end_without_row(&self, end: Ended) -> Result<()> {
        if self.revocations.has(end.session) {
            return Ok(());
        }
        self.store.tell_end(end).await?;
        self.revocations.insert(end);
        Ok(())
    }

    pub(super) fn trail(&self, once: Option<Event>, each: Event) -> Trail {
        self.events.trail(&self.caller, once, Some(each))
    }

    /// Refuses the session's access tokens from now on, whoever ended it.
    pub(super) fn remember(&self, session: SessionId, End { at, reason }: End) -> EndReason {
        self.revocations.insert(Ended {
            session,
            at,
            reason,
        });
        reason
    }
}
