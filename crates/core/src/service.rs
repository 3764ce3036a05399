//! SERVICE: login, refresh, verify, logout and the sessions of a user.
//!
//! Puts the other modules together: it loads a row, lets [`Session::refresh`] decide, carries the
//! verdict out with at most one swap, and mints what the client gets. It keeps no session state of
//! its own, so that any number of services may share a store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::access_token::{Claims, MAX_IN_COOKIE, MAX_LIFETIME, NewClaims};
use crate::adoption::Adoption;
use crate::csrf::{CsrfKind, CsrfValue};
use crate::device_token::DeviceText;
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result};
use crate::event::{Caller, Entry, Event, EventName};
use crate::event_log::{EventConfig, EventLog};
use crate::id::{SessionId, TokenId, UserId};
use crate::keys::{KeyRing, RingError};
use crate::meter::Way;
use crate::policy::{MAX_EXP_LEEWAY, Policy};
use crate::refresh_token::RefreshText;
use crate::revocation::{Ended, Revocations};
use crate::session::{Delivery, Device, Session};
use crate::store::Store;

mod adopting;
mod ending;
mod opening;
mod refreshing;

/// How many log entries one poll reads at a time.
const LOG_BATCH: u32 = 10_000;

/// How long expired rows stay, so that their clients are told `idle` or `absolute`.
const EXPIRED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long a store may be silent until readiness tells: some ticks, of which one may take its time.
const SILENCE: Duration = Duration::from_secs(5);

const TOO_LONG_FOR_A_COOKIE: Error = Error::BadRequest(
    "the user id, claims, issuer and audience make an access token too long for a cookie, which has at most 4,096 bytes",
);

/// An answer, and what happened on the way. The log has it already; this is for doors that tell
/// others of it in a world of their own.
pub type Outcome<T> = (Result<T>, Option<Event>);

/// The business logic of sessions, on somebody's behalf. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    revocations: Arc<Revocations>,
    policy: Arc<Policy>,
    env: Arc<dyn Env>,
    log_cursor: Arc<Mutex<u64>>,
    adoption: Option<Arc<Adoption>>,
    events: Arc<EventLog>,
    caller: Caller,
}

/// How a session is to be opened.
#[derive(Clone, Debug)]
pub struct Terms {
    /// When the request came in, before the credentials were looked at.
    pub started_at: Timestamp,
    /// Whether cookies outlive the browser.
    pub remember: bool,
    /// How tokens travel.
    pub delivery: Delivery,
    /// What is known of the client.
    pub device: Device,
    /// The session whose place the new one takes: the same browser's. It ends where that opens.
    pub replaces: Option<SessionId>,
}

/// What a login or a refresh hands out.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The session, as it is in the store.
    pub session: Session,
    /// The new access token.
    pub access: AccessText,
    /// When it expires.
    pub access_expires_at: Timestamp,
    /// The refresh token to use next.
    pub refresh: RefreshText,
    /// What requests with these tokens repeat, where [`Policy::csrf`] is on.
    pub csrf: Option<Csrf>,
    /// By which the device is known at its next login, where somebody put it here.
    pub device: Option<DeviceText>,
    /// The time by which all this was decided.
    pub now: Timestamp,
}

/// The values of a double submit.
#[derive(Clone, Debug)]
pub struct Csrf {
    /// Beside the access token, which carries it too.
    pub access: CsrfValue,
    /// Beside the refresh token.
    pub refresh: CsrfValue,
}

/// A refresh that was decided; [`Service::grant`] makes its tokens.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The session, as it is in the store.
    pub session: Session,
    /// The time of the decision: whatever is minted is dated by it.
    pub now: Timestamp,
}

/// The text of an access token. It never appears in a `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessText(String);

impl AccessText {
    /// For the client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// A service over a store, its ring of keys and its set of ended sessions, which logs events as
    /// [`EventConfig`] does by default. Verification answers [`Error::StoreUnavailable`] until the first [`Service::tick`] has gone through.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        keys: Arc<KeyRing>,
        revocations: Arc<Revocations>,
        policy: Policy,
        env: Arc<dyn Env>,
    ) -> Self {
        let (log, log_env) = (Arc::clone(&store), Arc::clone(&env));
        Service {
            store,
            keys,
            revocations,
            policy: Arc::new(policy),
            env,
            log_cursor: Arc::default(),
            adoption: None,
            events: Arc::new(EventLog::new(log, EventConfig::default(), log_env)),
            caller: Caller::default(),
        }
    }

    /// The service with another log of events.
    #[must_use]
    pub fn logging_to(self, events: Arc<EventLog>) -> Self {
        Service { events, ..self }
    }

    /// The service on behalf of somebody, whom the log of events names.
    #[must_use]
    pub fn on_behalf_of(&self, caller: Caller) -> Self {
        Service {
            caller,
            ..self.clone()
        }
    }

    /// The tokens of a refreshed session, with the claims that its row holds.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if the row's key was retired.
    pub fn grant(&self, refreshed: Refreshed) -> Result<Grant> {
        let Refreshed { session, now } = refreshed;
        let key = self
            .keys
            .refresh_key(session.refresh_key)
            .ok_or(Error::TokenInvalid)?;
        let refresh = session.child(&key).sign(&key);
        let csrf = self.policy.csrf.then(|| Csrf {
            access: key.csrf(session.id, CsrfKind::Access),
            refresh: key.csrf(session.id, CsrfKind::Refresh),
        });
        let (access, access_expires_at) = self.access_token(&session, csrf.as_ref(), now)?;
        Ok(Grant {
            session,
            access,
            access_expires_at,
            refresh,
            csrf,
            device: None,
            now,
        })
    }

    fn access_token(
        &self,
        session: &Session,
        csrf: Option<&Csrf>,
        now: Timestamp,
    ) -> Result<(AccessText, Timestamp)> {
        let expires_at = self.access_expiry(session, now);
        let claims = NewClaims {
            user: &session.user,
            session: session.id,
            token: TokenId::random(&*self.env),
            issued_at: now,
            expires_at,
            fresh_until: session.fresh_until(&self.policy),
            auth_time: session.auth_time,
            issuer: self.policy.issuer.as_deref(),
            audience: self.policy.audience.as_deref(),
            csrf: csrf.map(|csrf| csrf.access.as_str()),
            nbf: self.policy.nbf,
            identity_claim: self.policy.identity_claim.as_deref(),
            custom: session.claims.as_deref(),
        };
        let token = self.keys.sign_access(&claims, now)?;
        if session.delivery == Delivery::Cookie && token.len() > MAX_IN_COOKIE {
            return Err(TOO_LONG_FOR_A_COOKIE);
        }
        Ok((AccessText(token), expires_at))
    }

    /// `access_ttl` from now, up to 5 % earlier, and never past the end that the session has if it is
    /// not refreshed.
    fn access_expiry(&self, session: &Session, now: Timestamp) -> Timestamp {
        let mut random = [0; 4];
        self.env.fill(&mut random);
        let share = f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX);
        let most = self
            .policy
            .access_ttl
            .mul_f64(f64::from(self.policy.expiry_jitter_percent) / 100.0);
        // In whole seconds, so that the shortest lifetime is not cut to nothing.
        let early = Duration::from_secs(most.mul_f64(share).as_secs());
        let expires_at = Timestamp::from_seconds(now.seconds()) + self.policy.access_ttl - early;
        let end = session.expires_at(&self.policy);
        Timestamp::from_seconds(expires_at.min(end).seconds())
    }

    /// Verifies an access token. Touches no store: signature, times, type, ended sessions.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::TokenExpired`], [`Error::SessionEnded`], and
    /// [`Error::StoreUnavailable`] once the store was out of reach for longer than is allowed.
    pub fn verify(&self, token: &str) -> Result<Claims> {
        let now = self.env.now();
        let claims = self.keys.verify_access(token, now, &self.policy)?;
        self.revocations
            .check(claims.session(), claims.issued_at(), now)?;
        Ok(claims)
    }

    /// [`Service::verify`], and then asks the store: for routes on which no bound is short enough.
    pub async fn verify_strict(&self, token: &str) -> Result<Claims> {
        let claims = self.verify(token)?;
        self.check_in_store(&claims).await?;
        Ok(claims)
    }

    /// Asks the store whether a session that was verified is over.
    ///
    /// # Errors
    /// [`Error::SessionEnded`], [`Error::TokenInvalid`] if there is no such session, and
    /// [`Error::StoreUnavailable`].
    pub async fn check_in_store(&self, claims: &Claims) -> Result<()> {
        let session = self.session(claims.session()).await?;
        let over = session.over(self.env.now(), &self.policy);
        over.map_or(Ok(()), |reason| Err(Error::SessionEnded(reason)))
    }

    /// The claims of an access token whose signature is good, whatever its times: enough to log out.
    pub fn verify_for_logout(&self, token: &str) -> Result<Claims> {
        self.keys
            .verify_access_ignoring_times(token, self.env.now(), &self.policy)
    }

    /// A session's row.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if there is none: its token outlived it.
    pub async fn session(&self, id: SessionId) -> Result<Session> {
        let row = self.store.load(id).await?.ok_or(Error::TokenInvalid)?;
        Ok(row.since_restored(self.restored_at()))
    }

    /// From when on sessions count, as of the last [`Service::tick`].
    #[must_use]
    pub fn restored_at(&self) -> Timestamp {
        self.revocations.restored_at()
    }

    /// The live sessions of a user, oldest first.
    pub async fn sessions_of(&self, user: &UserId) -> Result<Vec<Session>> {
        let mut sessions = self.store.sessions_of(user).await?;
        let (now, restored_at) = (self.env.now(), self.restored_at());
        sessions.retain(|session| {
            session.created_at >= restored_at && session.over(now, &self.policy).is_none()
        });
        Ok(sessions)
    }

    /// Catches up with the store: keys that others made, sessions that others ended. Doors call it
    /// every second, and once before they serve.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`]; the next call goes on where this one stopped.
    pub async fn tick(&self) -> Result<()> {
        self.keys.reload(&*self.store).await?;
        // A store that takes no writes for a while still tells what ended.
        let flushed = self.events.flush().await;
        let restored_at = self.store.restored_at().await?;
        // The places of a restored log begin anew.
        let mut cursor = if restored_at > self.restored_at() {
            0
        } else {
            self.cursor()
        };
        self.revocations.restored(restored_at);
        self.revocations.listen();
        loop {
            let now = self.env.now();
            let (ends, next) = self.store.ended_after(cursor, LOG_BATCH).await?;
            let done = ends.is_empty();
            self.hear(ends);
            *self
                .log_cursor
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = next;
            cursor = next;
            // Within the loop, so that a long log cannot outgrow the cap while it is loaded.
            self.revocations.expire(now);
            if done {
                self.revocations.synced(now);
                return Ok(flushed?);
            }
        }
    }

    /// What is loaded at first, or anew, did not come late.
    fn hear(&self, ends: Vec<Ended>) {
        let now = self.env.now();
        let loaded = self.revocations.synced_at().is_some() && !self.revocations.stepped_back(now);
        let meter = loaded.then(|| self.store.meter()).flatten();
        for end in ends {
            let is_new = self.revocations.insert(end);
            if let (true, Some(meter)) = (is_new, &meter) {
                meter.heard(Way::Polled, end.at, self.env.now());
            }
        }
    }

    /// Where to go on in the store's log of ends.
    fn cursor(&self) -> u64 {
        if self.revocations.stepped_back(self.env.now()) {
            return 0;
        }
        *self
            .log_cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews the key that this process signs with, and removes one small batch of expired rows, and
    /// keys that no session needs any more, and old events; `true` when there may be more. Doors call it every
    /// second.
    pub async fn purge(&self, limit: u32) -> Result<bool> {
        // A configured key that was retired is no reason to stop: `KeyRing::can_sign` tells.
        if let Err(RingError::Store(error)) = self.keys.renew(&*self.store).await {
            return Err(error.into());
        }
        self.keys.prune(&*self.store).await?;
        let now = self.env.now();
        self.store.purge_buckets(now, limit).await?;
        // Others on the store may have longer lifetimes than this one: the longest there is counts.
        // Twice the skew: a node that starts and whose clock is behind still needs what is old here.
        let longest = Duration::from_secs(MAX_LIFETIME) + MAX_EXP_LEEWAY + self.policy.leeway();
        let log_before = now - longest - 2 * self.policy.clock_skew;
        let trail = self.trail(None, Event::new(EventName::SessionEnded));
        let looked = self
            .store
            .purge(now - EXPIRED_KEPT, log_before, limit, &trail);
        let more_rows = looked.await? >= limit;
        let more_events = self.events.purge(limit).await?;
        Ok(more_rows || more_events)
    }

    /// Whether tokens are verified: the store was heard of within the allowance.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.revocations.is_ready(self.env.now())
    }

    /// Why some requests cannot be served now, for operators; `None`: all can. A store that does not
    /// answer is told at once, while verification goes on.
    #[must_use]
    pub fn unready(&self) -> Option<&'static str> {
        let heard = self.revocations.is_within(SILENCE, self.env.now());
        if !heard && self.keys.refused().is_none() {
            return Some("the session store does not answer");
        }
        self.keys.can_sign(self.now()).err().map(|why| why.0)
    }

    /// What happened to a user, newest first, before a place in the log; at most `limit`.
    pub async fn history(
        &self,
        user: &UserId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Entry>> {
        Ok(self.events.history(user, before, limit).await?)
    }

    /// The log of events.
    #[must_use]
    pub fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// On whose behalf this is called.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The clock that everything is dated by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.env.now()
    }

    pub(crate) fn env(&self) -> &dyn Env {
        &*self.env
    }

    /// Lifetimes and limits.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The ended sessions that this process knows of.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The key ring.
    #[must_use]
    pub fn keys(&self) -> &Arc<KeyRing> {
        &self.keys
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}
