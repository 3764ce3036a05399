//! A refresh: one load, one decision, at most one write.

use std::sync::Arc;
use std::time::Duration;

use super::{Grant, Outcome, Refreshed, Service};
use crate::csrf::{CsrfKind, CsrfValue};
use crate::env::{Timestamp, millis};
use crate::error::{Error, Result};
use crate::event::{Event, EventName};
use crate::id::SessionId;
use crate::keys::{KeyId, RefreshKey};
use crate::refresh_token::{RefreshToken, Unverified};
use crate::session::{Delivery, EndReason, Session, Verdict};
use crate::store::Write;

/// How often a lost swap is decided again before the store counts as unavailable.
pub(super) const RETRIES: usize = 4;

/// Whether a decision moves the row on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Rotates,
    Stays,
}

impl Service {
    /// Decides what a refresh token that arrived by `via` means, and carries it out.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::SessionEnded`], [`Error::RefreshReused`],
    /// [`Error::StoreUnavailable`].
    pub async fn refresh(&self, text: &str, via: Delivery) -> Outcome<Refreshed> {
        match self.presented(text).await {
            Ok(token) => self.decide(&token, via, Turn::Rotates).await,
            Err(error) => (Err(error), None),
        }
    }

    /// Decides as [`Service::refresh`] does, but without rotating: whatever that would answer with
    /// tokens passes, and nothing is written. What has ended is refused; reuse ends the session.
    ///
    /// # Errors
    /// As [`Service::refresh`].
    pub async fn check_refresh(&self, text: &str, via: Delivery) -> Outcome<Session> {
        let decided = match self.presented(text).await {
            Ok(token) => self.decide(&token, via, Turn::Stays).await,
            Err(error) => (Err(error), None),
        };
        match decided {
            (Ok(passed), _) => (Ok(passed.session), None),
            (Err(error), event) => (Err(error), event),
        }
    }

    /// What a request with this refresh token, whose MAC was checked, must repeat where the double
    /// submit is on.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if its key was retired meanwhile.
    pub fn refresh_csrf(&self, token: &RefreshToken) -> Result<CsrfValue> {
        let key = self.keys.refresh_key(token.key);
        let key = key.ok_or(Error::TokenInvalid)?;
        Ok(key.csrf(token.session, CsrfKind::Refresh))
    }

    /// Checks a refresh token's MAC. An unknown key id reloads the ring once.
    pub async fn refresh_token(&self, text: &str) -> Result<RefreshToken> {
        let token = Unverified::parse(text)?;
        let key = self.known_refresh_key(token.key()).await?;
        token.verify(&key)
    }

    async fn known_refresh_key(&self, id: KeyId) -> Result<Arc<RefreshKey>> {
        if let Some(key) = self.keys.refresh_key(id) {
            return Ok(key);
        }
        self.keys.reload(&*self.store).await?;
        self.keys.refresh_key(id).ok_or(Error::TokenInvalid)
    }

    pub(super) async fn decide(
        &self,
        token: &RefreshToken,
        via: Delivery,
        turn: Turn,
    ) -> Outcome<Refreshed> {
        for _ in 0..=RETRIES {
            match self.attempt(token, via, turn).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => return (Err(error), None),
            }
        }
        (Err(Error::StoreUnavailable), None)
    }

    /// One load, one decision, at most one write. `None`: the swap was lost, or the load was so
    /// slow that its row may be history.
    async fn attempt(
        &self,
        token: &RefreshToken,
        via: Delivery,
        turn: Turn,
    ) -> Result<Option<Outcome<Refreshed>>> {
        let now = self.env.now();
        let row = self.store.load(token.session).await?;
        let row = row.map(|row| row.since_restored(self.restored_at()));
        if self.is_stale(now) {
            return Ok(None);
        }
        let Some(row) = row else {
            return Ok(Some((Err(Error::TokenInvalid), None)));
        };
        if row.delivery != via {
            return Ok(Some((Err(Error::TokenInvalid), None)));
        }
        let row_key = self.known_refresh_key(row.refresh_key).await?;
        let current = self.keys.current_refresh(now)?.id();
        let decision = row.refresh(token, now, &self.policy, &row_key, current);
        let before = row.last_used();
        let session = match decision.swap.filter(|_| turn == Turn::Rotates) {
            None => row,
            Some(next) => match self.store.swap(next.clone()).await? {
                Write::Done => next,
                Write::Lost => return Ok(None),
            },
        };
        let outcome = self.carry_out(decision.verdict, session, now).await?;
        // A look that passes is no refresh.
        if let (decided, Some(event)) = &outcome
            && (turn == Turn::Rotates || decided.is_err())
        {
            self.log_decision(event, before).await;
        }
        Ok(Some(outcome))
    }

    async fn carry_out(
        &self,
        verdict: Verdict,
        session: Session,
        now: Timestamp,
    ) -> Result<Outcome<Refreshed>> {
        let id = session.id;
        let name = match verdict {
            Verdict::Ended(reason) => {
                let (reason, event) = match session.ended {
                    Some(end) => (self.remember(id, end), Some(refused(&session, end.reason))),
                    None => self.end_row(id, reason).await?,
                };
                return Ok((Err(Error::SessionEnded(reason)), event));
            }
            Verdict::Reuse => return self.reused(id).await,
            Verdict::Advance {
                fork_suspected: true,
            } => EventName::ForkSuspected,
            Verdict::StoreBehind => EventName::StoreBehind,
            Verdict::Advance { .. } | Verdict::Repeat | Verdict::Settle | Verdict::Concurrent => {
                EventName::Refreshed
            }
        };
        let event = Event::new(name).of(&session.user).in_session(id);
        Ok((Ok(Refreshed { session, now }), Some(event)))
    }

    /// What ended a session has its record already.
    async fn log_decision(&self, event: &Event, before: Timestamp) {
        match event.name {
            EventName::Refreshed => self.events.note_refresh(&self.caller, event, before),
            EventName::RefreshRefused => self.events.note(&self.caller, event),
            EventName::ForkSuspected | EventName::StoreBehind => {
                self.events.keep(&self.caller, event).await;
            }
            _ => {}
        }
    }

    async fn reused(&self, id: SessionId) -> Result<Outcome<Refreshed>> {
        let each = Event::new(EventName::ReuseDetected);
        let (reason, event) = self.end_row_by(id, EndReason::Reuse, each).await?;
        let is_news = event
            .as_ref()
            .is_some_and(|event| event.name == EventName::ReuseDetected);
        let error = if is_news {
            Error::RefreshReused
        } else {
            Error::SessionEnded(reason)
        };
        Ok((Err(error), event))
    }

    /// A load that took over `W/4`, at least 1 s, tells of a past that may be over.
    fn is_stale(&self, loaded_from: Timestamp) -> bool {
        let limit = (self.policy.window() / 4).max(Duration::from_secs(1));
        self.env.now().since(loaded_from) > millis(limit)
    }

    /// Makes a session fresh again after its user's password was checked.
    ///
    /// # Errors
    /// [`Error::SessionEnded`], [`Error::StoreUnavailable`].
    pub async fn reauthenticate(&self, id: SessionId) -> Outcome<Grant> {
        for _ in 0..=RETRIES {
            match self.freshen(id).await {
                Ok(Some(refreshed)) => {
                    let Session { user, id, .. } = &refreshed.session;
                    let event = Event::new(EventName::Reauthenticated).of(user);
                    let event = event.in_session(*id);
                    self.events.keep(&self.caller, &event).await;
                    return (self.grant(refreshed), Some(event));
                }
                Ok(None) => {}
                Err(error) => return (Err(error), None),
            }
        }
        (Err(Error::StoreUnavailable), None)
    }

    async fn freshen(&self, id: SessionId) -> Result<Option<Refreshed>> {
        let now = self.env.now();
        let row = self.session(id).await?;
        if let Some(reason) = row.over(now, &self.policy) {
            return Err(Error::SessionEnded(reason));
        }
        self.known_refresh_key(row.refresh_key).await?;
        let session = Session {
            auth_time: now,
            version: row.version + 1,
            ..row
        };
        Ok(match self.store.swap(session.clone()).await? {
            Write::Done => Some(Refreshed { session, now }),
            Write::Lost => None,
        })
    }
}

/// A refresh token of a session that had ended before.
fn refused(session: &Session, reason: EndReason) -> Event {
    let event = Event::new(EventName::RefreshRefused).of(&session.user);
    event.in_session(session.id).because(reason.name())
}
