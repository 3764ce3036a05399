//! How sessions open: by a login, or after a change of password.

use super::{Grant, Refreshed, Service, Terms};
use crate::access_token::check_custom;
use crate::account::{Identity, PasswordChange};
use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::event::{Caller, Event, EventName, Failure};
use crate::id::{SessionId, TokenId, UserId};
use crate::limits::{Cap, Opening};
use crate::session::{EndReason, Session};
use crate::store::{Opened, ValidFrom};

impl Service {
    /// Opens a session for somebody whose credentials were checked.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if all sessions of the user were ended meanwhile,
    /// [`Error::SessionLimitReached`] if the user has as many as one may have,
    /// [`Error::BadRequest`] if [`check_custom`] refuses the host's claims, or if they make a token that
    /// no cookie can carry.
    pub async fn login(&self, identity: Identity, terms: Terms) -> (Result<Grant>, Vec<Event>) {
        self.open(identity, terms, self.policy.cap).await
    }

    async fn open(
        &self,
        identity: Identity,
        terms: Terms,
        cap: Option<Cap>,
    ) -> (Result<Grant>, Vec<Event>) {
        let user = identity.user.clone();
        let caller = self.caller_on(&terms);
        match self.opened(&caller, identity, terms, cap).await {
            Ok((grant, events)) => (Ok(grant), events),
            Err(Error::InvalidCredentials) => {
                let event = Event::new(EventName::LoginFailed).of(&user);
                let event = event.because(Failure::Overtaken.name());
                self.events.keep(&caller, &event).await;
                (Err(Error::InvalidCredentials), vec![event])
            }
            Err(error) => (Err(error), Vec::new()),
        }
    }

    pub(super) fn caller_on(&self, terms: &Terms) -> Caller {
        Caller {
            device: terms.device.name.as_deref().map(Into::into),
            ..self.caller.clone()
        }
    }

    /// The session's tokens, and what happened: it opened, and others ended for it. The records are in the
    /// transaction that did it.
    async fn opened(
        &self,
        caller: &Caller,
        identity: Identity,
        terms: Terms,
        cap: Option<Cap>,
    ) -> Result<(Grant, Vec<Event>)> {
        let opening = self.opening(identity, terms, cap).await?;
        let session = opening.session.clone();
        let (opened_at, now) = (session.created_at, session.auth_time);
        let event = Event::new(EventName::LoggedIn).of(&session.user);
        let event = event.in_session(session.id);
        let each = Event::new(EventName::SessionEnded);
        let trail = self.events.trail(caller, Some(event.clone()), Some(each));
        // Failures that wait for the tick happened before: they stand before it. Should the store
        // fail, they go on waiting.
        let _ = self.events.flush().await;
        // Before the session is there: one whose tokens cannot be made must not be.
        let grant = self.grant(Refreshed { session, now })?;
        let gone = match self.store.open(opening, &trail).await? {
            Opened::Done(gone) => self.gone(gone, opened_at),
            Opened::Lost => return Err(Error::InvalidCredentials),
            Opened::Full => return Err(Error::SessionLimitReached),
        };
        let events: Vec<_> = std::iter::once(event).chain(gone).collect();
        for event in &events {
            self.events.tell(event);
        }
        Ok((grant, events))
    }

    /// The sessions that ended `at` the opening of another.
    fn gone(&self, rows: Vec<Session>, at: Timestamp) -> Vec<Event> {
        let ended = rows.into_iter().filter_map(|row| {
            let end = row.ended?;
            let reason = self.remember(row.id, end);
            let event = Event::ended(&row.user, row.id, reason);
            (end.at == at).then_some(event)
        });
        ended.collect()
    }

    async fn opening(&self, identity: Identity, terms: Terms, cap: Option<Cap>) -> Result<Opening> {
        if let Some(claims) = identity.claims.as_deref() {
            check_custom(claims, self.policy.identity_claim.as_deref())?;
        }
        let seen = match identity.valid_from {
            Some(seen) => seen,
            None => {
                self.valid_from_since(&identity.user, terms.started_at)
                    .await?
            }
        };
        let now = self.env.now();
        let restored_at = self.restored_at();
        // By a clock that is behind the one of whoever restored, it would be over as it opens.
        let opened_at = now.max(restored_at);
        let limits = self.policy.limits(terms.remember, identity.privileged);
        let session = Session {
            id: SessionId::new(opened_at, &*self.env).of(&identity.user),
            user: identity.user,
            confirmed: TokenId::random(&*self.env),
            generation: -1,
            previous: None,
            siblings: false,
            attempt: 0,
            confirmed_at: Timestamp::NEVER,
            child_at: Timestamp::NEVER,
            refresh_key: self.keys.current_refresh(now)?.id(),
            created_at: opened_at,
            auth_time: now,
            absolute_end: opened_at + limits.absolute,
            remember: terms.remember,
            privileged: identity.privileged,
            delivery: terms.delivery,
            device: terms.device,
            claims: identity.claims,
            ended: None,
            version: 0,
        };
        Ok(Opening {
            session,
            seen,
            replaces: terms.replaces,
            cap,
            restored_at,
        })
    }

    /// The `valid_from` of a user whose credentials the host checked, if it has not moved since the
    /// request came in. One in the future is of a clock that stepped back, and no reason to refuse.
    async fn valid_from_since(&self, user: &UserId, started: Timestamp) -> Result<ValidFrom> {
        let seen = self.store.valid_from(user).await?;
        let moved = seen.0 > started.0 && seen.0 <= self.env.now().0;
        if moved {
            Err(Error::InvalidCredentials)
        } else {
            Ok(seen)
        }
    }

    /// Opens a session for somebody whose password was changed, and ends all others of the user:
    /// even if the new one cannot be opened, so that whoever knew the old password is out.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if the account was disabled meanwhile.
    pub async fn password_changed(
        &self,
        change: PasswordChange,
        terms: Terms,
    ) -> (Result<Grant>, Vec<Event>) {
        let user = change.identity.user.clone();
        let changed = Event::new(EventName::PasswordChanged).of(&user);
        // Built-in accounts leave the record with the change itself.
        match change.ended {
            Some(_) => self.events.tell(&changed),
            None => self.events.keep(&self.caller, &changed).await,
        }
        let mut events = vec![changed];
        // All others end: there is room for one.
        let (opened, login) = self.open(change.identity, terms, None).await;
        let kept = opened.as_ref().ok().map(|grant| grant.session.id);
        let reason = EndReason::PasswordChanged;
        let (ended, others) = match change.ended {
            Some(sessions) => self.ended_together(&user, &sessions, reason),
            None => self.end_user(&user, reason, kept).await,
        };
        events.extend(others.into_iter().chain(login));
        (ended.and(opened), events)
    }
}
