//! SERVICE: login, refresh, verify, logout and the sessions of a user.
//!
//! Puts the other modules together: it loads a row, lets [`Session::refresh`] decide, carries the
//! verdict out with at most one swap, and mints what the client gets. It keeps no session state of
//! its own, so that any number of services may share a store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::access_token::{Claims, MAX_IN_COOKIE, MAX_LIFETIME, NewClaims, check_custom};
use crate::account::{Identity, PasswordChange};
use crate::adoption::Adoption;
use crate::csrf::{CsrfKind, CsrfValue};
use crate::device_token::DeviceText;
use crate::env::{Env, Timestamp, millis};
use crate::error::{Error, Result};
use crate::event::{Caller, Entry, Event, EventName, Failure, Trail};
use crate::event_log::{EventConfig, EventLog};
use crate::id::{SessionId, TokenId, UserId};
use crate::keys::{KeyId, KeyRing, RefreshKey, RingError};
use crate::limits::{Cap, Opening};
use crate::policy::{MAX_EXP_LEEWAY, Policy};
use crate::refresh_token::{RefreshText, RefreshToken, Unverified};
use crate::revocation::{Ended, Revocations};
use crate::session::{Delivery, Device, End, EndReason, Session, Verdict};
use crate::store::{Opened, Store, ValidFrom, Write};

mod adopting;

/// How often a lost swap is decided again before the store counts as unavailable.
const RETRIES: usize = 4;
/// How many log entries one poll reads at a time.
const LOG_BATCH: u32 = 10_000;

/// How long expired rows stay, so that their clients are told `idle` or `absolute`.
const EXPIRED_KEPT: Duration = Duration::from_secs(24 * 3600);

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

/// Whether a decision moves the row on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Rotates,
    Stays,
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

    fn caller_on(&self, terms: &Terms) -> Caller {
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
        let now = session.created_at;
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
            Opened::Done(gone) => self.gone(gone, now),
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
        let limits = self.policy.limits(terms.remember, identity.privileged);
        let session = Session {
            id: SessionId::new(now, &*self.env),
            user: identity.user,
            confirmed: TokenId::random(&*self.env),
            generation: -1,
            previous: None,
            siblings: false,
            attempt: 0,
            confirmed_at: Timestamp::NEVER,
            child_at: Timestamp::NEVER,
            refresh_key: self.keys.current_refresh(now)?.id(),
            created_at: now,
            auth_time: now,
            absolute_end: now + limits.absolute,
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

    async fn decide(&self, token: &RefreshToken, via: Delivery, turn: Turn) -> Outcome<Refreshed> {
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
        let session = self.session(claims.session()).await?;
        match session.over(self.env.now(), &self.policy) {
            Some(reason) => Err(Error::SessionEnded(reason)),
            None => Ok(claims),
        }
    }

    /// The claims of an access token whose signature is good, expired or not: enough to log out.
    pub fn verify_for_logout(&self, token: &str) -> Result<Claims> {
        self.keys
            .verify_access_ignoring_expiry(token, self.env.now(), &self.policy)
    }

    /// A session's row.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if there is none: its token outlived it.
    pub async fn session(&self, id: SessionId) -> Result<Session> {
        self.store.load(id).await?.ok_or(Error::TokenInvalid)
    }

    /// The live sessions of a user, oldest first.
    pub async fn sessions_of(&self, user: &UserId) -> Result<Vec<Session>> {
        let mut sessions = self.store.sessions_of(user).await?;
        let now = self.env.now();
        sessions.retain(|session| session.over(now, &self.policy).is_none());
        Ok(sessions)
    }

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

    /// Sessions that the store has ended: refused from now on, and told of.
    fn ended_together(
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
    async fn end_row(
        &self,
        id: SessionId,
        reason: EndReason,
    ) -> Result<(EndReason, Option<Event>)> {
        let each = Event::new(EventName::SessionEnded);
        self.end_row_by(id, reason, each).await
    }

    async fn end_row_by(
        &self,
        id: SessionId,
        reason: EndReason,
        event: Event,
    ) -> Result<(EndReason, Option<Event>)> {
        let at = self.env.now();
        let event = event.because(reason.name());
        let trail = self.trail(None, event.clone());
        let Some(row) = self.store.end(id, at, reason, &trail).await? else {
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

    fn trail(&self, once: Option<Event>, each: Event) -> Trail {
        self.events.trail(&self.caller, once, Some(each))
    }

    /// Refuses the session's access tokens from now on, whoever ended it.
    fn remember(&self, session: SessionId, End { at, reason }: End) -> EndReason {
        self.revocations.insert(Ended {
            session,
            at,
            reason,
        });
        reason
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

    /// Catches up with the store: keys that others made, sessions that others ended. Doors call it
    /// every second, and once before they serve.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`]; the next call goes on where this one stopped.
    pub async fn tick(&self) -> Result<()> {
        self.keys.reload(&*self.store).await?;
        self.events.flush().await?;
        let mut cursor = self.cursor();
        loop {
            let now = self.env.now();
            let (ends, next) = self.store.ended_after(cursor, LOG_BATCH).await?;
            let done = ends.is_empty();
            for end in ends {
                self.revocations.insert(end);
            }
            *self
                .log_cursor
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = next;
            cursor = next;
            // Within the loop, so that a long log cannot outgrow the cap while it is loaded.
            self.revocations.expire(now);
            if done {
                self.revocations.synced(now);
                return Ok(());
            }
        }
    }

    fn cursor(&self) -> u64 {
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

    /// Whether verification and the store both answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.revocations.is_ready(self.env.now())
    }

    /// Why some requests cannot be served now, for operators; `None`: all can.
    #[must_use]
    pub fn unready(&self) -> Option<&'static str> {
        if !self.is_ready() && self.keys.refused().is_none() {
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

/// A refresh token of a session that had ended before.
fn refused(session: &Session, reason: EndReason) -> Event {
    let event = Event::new(EventName::RefreshRefused).of(&session.user);
    event.in_session(session.id).because(reason.name())
}
