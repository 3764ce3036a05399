//! The service's part in adoption: see [`crate::adoption`].

use std::sync::Arc;

use super::refreshing::{RETRIES, Turn};
use super::{Outcome, Refreshed, Service, Terms};
use crate::access_token::check_custom;
use crate::account::Identity;
use crate::adoption::{Adoption, Foreign};
use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::event::{Event, EventName, Trail};
use crate::refresh_token::RefreshToken;
use crate::session::{Delivery, EndReason, Session};
use crate::store::{ValidFrom, Write};

impl Service {
    /// With tokens of another program, which become sessions.
    #[must_use]
    pub fn adopting(mut self, adoption: Option<Arc<Adoption>>) -> Self {
        self.adoption = adoption;
        self
    }

    /// Which foreign tokens become sessions.
    #[must_use]
    pub fn adoption(&self) -> Option<&Adoption> {
        self.adoption.as_deref()
    }

    /// A foreign refresh token that may be adopted, or was.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::SessionEnded`].
    pub fn foreign(&self, text: &str) -> Result<Foreign> {
        let adoption = self.adoption.as_ref().ok_or(Error::TokenInvalid)?;
        adoption.read(text, self.env.now(), &self.policy)
    }

    /// The token of a text, whichever kind it is.
    pub(super) async fn presented(&self, text: &str) -> Result<RefreshToken> {
        match self.refresh_token(text).await {
            Err(Error::TokenInvalid) => Ok(self.foreign(text)?.token()),
            read => read,
        }
    }

    /// Whether a foreign token's session is there, or was.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn is_adopted(&self, foreign: &Foreign) -> Result<bool> {
        Ok(self.store.was_adopted(foreign.session).await?)
    }

    /// Decides what a foreign token means whose session is there; `None`: it was not adopted yet.
    pub async fn refresh_adopted(
        &self,
        foreign: &Foreign,
        via: Delivery,
    ) -> Option<Outcome<Refreshed>> {
        match self.store.load(foreign.session).await {
            Ok(None) => None,
            Ok(Some(_)) => Some(self.decide(&foreign.token(), via, Turn::Rotates).await),
            Err(error) => Some((Err(error.into()), None)),
        }
    }

    /// Makes a foreign token a session of somebody whom the host knows. Of several requests at once
    /// one does, and the others are answered as repeats.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it was adopted before and its session is long over, or the user's
    /// sessions were all ended since it was made; [`Error::BadRequest`] as at a login.
    pub async fn adopt(
        &self,
        foreign: &Foreign,
        identity: Identity,
        terms: Terms,
    ) -> Outcome<Refreshed> {
        let delivery = terms.delivery;
        let event = Event::new(EventName::Adopted).of(&identity.user);
        let event = event.in_session(foreign.session);
        match self.open_adopted(foreign, identity, terms, &event).await {
            Ok(Some(refreshed)) => {
                self.events.tell(&event);
                (Ok(refreshed), Some(event))
            }
            Ok(None) => {
                let other = self.refresh_adopted(foreign, delivery).await;
                other.unwrap_or((Err(Error::TokenInvalid), None))
            }
            Err(error) => (Err(error), None),
        }
    }

    /// `None`: it was adopted before.
    async fn open_adopted(
        &self,
        foreign: &Foreign,
        identity: Identity,
        terms: Terms,
        event: &Event,
    ) -> Result<Option<Refreshed>> {
        if let Some(claims) = identity.claims.as_deref() {
            check_custom(claims, self.policy.identity_claim.as_deref())?;
        }
        let seen = match identity.valid_from {
            Some(seen) => seen,
            None => self.store.valid_from(&identity.user).await?,
        };
        // Whether it was adopted before is not known where a backup was restored since.
        let forgotten = foreign.issued_at < self.restored_at();
        if forgotten || seen > ValidFrom(foreign.issued_at.0) {
            return Err(Error::TokenInvalid);
        }
        let now = self.env.now();
        let caller = self.caller_on(&terms);
        let trail = self.events.trail(&caller, Some(event.clone()), None);
        let session = self.adopted_row(foreign, identity, terms, now)?;
        let adopted = self
            .store
            .adopt(session.clone(), seen, foreign.until, &trail);
        Ok(match adopted.await? {
            Write::Done => Some(Refreshed { session, now }),
            Write::Lost => None,
        })
    }

    fn adopted_row(
        &self,
        foreign: &Foreign,
        identity: Identity,
        terms: Terms,
        now: Timestamp,
    ) -> Result<Session> {
        let limits = self.policy.limits(terms.remember, identity.privileged);
        Ok(Session {
            id: foreign.session,
            user: identity.user,
            confirmed: foreign.root,
            generation: -1,
            previous: None,
            siblings: false,
            attempt: 0,
            // The root is with the client, and its child is handed out now.
            confirmed_at: now,
            child_at: now,
            refresh_key: self.keys.current_refresh(now)?.id(),
            created_at: now,
            // Never fresh, whatever age is asked for: nobody here has seen a password.
            auth_time: Timestamp(0),
            absolute_end: foreign.issued_at + limits.absolute,
            remember: terms.remember,
            privileged: identity.privileged,
            delivery: terms.delivery,
            device: terms.device,
            claims: identity.claims,
            ended: None,
            version: 0,
        })
    }

    /// Ends the session of a foreign token; one that was not adopted never will be.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn end_foreign(
        &self,
        foreign: &Foreign,
        terms: &Terms,
        reason: EndReason,
    ) -> Outcome<()> {
        match self.leave_a_row(foreign, terms).await {
            Ok(()) => self.end(foreign.session, reason).await,
            Err(error) => (Err(error), None),
        }
    }

    /// Whoever presents the token later finds a row, or that there was one.
    async fn leave_a_row(&self, foreign: &Foreign, terms: &Terms) -> Result<()> {
        // Its end is told of, and there was nothing before.
        let untold = Trail::default();
        for _ in 0..=RETRIES {
            if self.store.load(foreign.session).await?.is_some() {
                return Ok(());
            }
            let identity = Identity {
                user: foreign.subject().clone(),
                username: None,
                valid_from: None,
                privileged: false,
                claims: None,
            };
            let seen = self.store.valid_from(&identity.user).await?;
            let row = self.adopted_row(foreign, identity, terms.clone(), self.env.now())?;
            if self.store.adopt(row, seen, foreign.until, &untold).await? == Write::Done {
                return Ok(());
            }
        }
        // It had one, which is purged.
        Ok(())
    }
}
