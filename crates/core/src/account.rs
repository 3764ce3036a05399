//! Built-in accounts: for those who have no user table of their own.
//!
//! Unknown user, wrong password and disabled account do the same work and give the same answer.

use std::sync::Arc;
use std::time::Duration;

use unicode_normalization::UnicodeNormalization;

use crate::adoption::Names;
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result, StoreError};
use crate::event::{Actor, Caller, Event, EventName, Failure, Trail};
use crate::event_log::{EventConfig, EventLog};
use crate::id::{SessionId, UserId};
use crate::password::{Password, Passwords};
use crate::reset::{self, Reset, ResetHash, ResetToken};
use crate::revocation::{Ended, Revocations};
use crate::session::EndReason;
use crate::store::{Account, AllEnded, Store, ValidFrom, Write};

/// Somebody whose credentials were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user: UserId,
    /// By what name, where there is one.
    pub username: Option<Box<str>>,
    /// The value that was read with the password hash. `None`: the host keeps its own users, and
    /// the service compares times instead.
    pub valid_from: Option<ValidFrom>,
    /// The host's own claims, a JSON object: see [`crate::access_token::check_custom`].
    pub claims: Option<Box<str>>,
    /// Whether the session is privileged, and so has shorter limits.
    pub privileged: bool,
}

/// A password that was changed, by somebody who knew the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordChange {
    /// Whose: as at a login, refused where a login would be.
    pub identity: Identity,
    /// The sessions that ended in the transaction that changed it. `None`: ending them is left to
    /// the service.
    pub ended: Option<Vec<SessionId>>,
}

/// A password that was set by the token of a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordReset {
    /// Whose.
    pub user: UserId,
    /// The sessions that ended in the transaction that set it.
    pub ended: Vec<SessionId>,
}

impl PasswordReset {
    /// What happened. The log has it already.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let set = Event::new(EventName::PasswordReset).of(&self.user);
        let ended = ended_together(&self.user, &self.ended, EndReason::PasswordChanged);
        std::iter::once(set).chain(ended).collect()
    }
}

impl From<Identity> for PasswordChange {
    fn from(identity: Identity) -> Self {
        PasswordChange {
            identity,
            ended: None,
        }
    }
}

/// Why credentials were refused, for whoever records that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is answered: it says less.
    pub error: Error,
    /// Whose they were, where there is such an account.
    pub user: Option<UserId>,
    /// Why, if the error is [`Error::InvalidCredentials`].
    pub why: Failure,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal {
            error,
            user: None,
            why: Failure::Refused,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl Refusal {
    /// What happened, if anything did that is worth a record.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        let failed = self.error == Error::InvalidCredentials;
        failed.then(|| Event {
            user: self.user.clone(),
            ..Event::new(EventName::LoginFailed).because(self.why.name())
        })
    }
}

/// The form in which a username is stored and compared: NFC, lower case.
///
/// # Errors
/// [`Error::BadRequest`] for an empty name, one over 128 characters, control characters, or white
/// space at an end.
pub fn canonical(username: &str) -> Result<Box<str>> {
    let name: String = username.nfc().flat_map(char::to_lowercase).nfc().collect();
    let fits = (1..=128).contains(&name.chars().count()) && name.trim() == name;
    if fits && !name.chars().any(is_invisible) {
        Ok(name.into())
    } else {
        Err(Error::BadRequest(
            "username must have 1 to 128 characters, none of them invisible, no space at an end",
        ))
    }
}

/// An id for a new account.
pub(crate) fn new_id(now: Timestamp, env: &dyn Env) -> Result<UserId> {
    let id = SessionId::new(now, env).to_string();
    UserId::new(&id).map_err(|_| Error::StoreUnavailable)
}

/// Control characters, and those that only change how others are shown: two names that differ by
/// them look the same.
pub(crate) fn is_invisible(char: char) -> bool {
    let shows_nothing = matches!(char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    char.is_control() || shows_nothing
}

/// The accounts of a store.
#[derive(Clone)]
pub struct Accounts {
    store: Arc<dyn Store>,
    passwords: Arc<Passwords>,
    revocations: Arc<Revocations>,
    env: Arc<dyn Env>,
    events: Arc<EventLog>,
    caller: Caller,
}

impl Accounts {
    /// The accounts of `store`, whose passwords `passwords` hashes. `revocations` are the service's.
    /// They log events as [`EventConfig`] does by default.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        passwords: Arc<Passwords>,
        revocations: Arc<Revocations>,
        env: Arc<dyn Env>,
    ) -> Self {
        let (log, log_env) = (Arc::clone(&store), Arc::clone(&env));
        Accounts {
            store,
            passwords,
            revocations,
            env,
            events: Arc::new(EventLog::new(log, EventConfig::default(), log_env)),
            caller: Caller::default(),
        }
    }

    /// The accounts with another log of events: the service's.
    #[must_use]
    pub fn logging_to(self, events: Arc<EventLog>) -> Self {
        Accounts { events, ..self }
    }

    /// The accounts on behalf of somebody, whom the log of events names.
    #[must_use]
    pub fn on_behalf_of(&self, caller: Caller) -> Self {
        Accounts {
            caller,
            ..self.clone()
        }
    }

    /// Whose credentials are these?
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::Overloaded`], [`Error::StoreUnavailable`].
    pub async fn identify(&self, username: &str, password: Password) -> Result<Identity> {
        let identity = self.try_identify(username, password).await;
        identity.map_err(|refusal| self.record(refusal))
    }

    /// As [`Accounts::identify`], for who records a refusal by himself.
    ///
    /// # Errors
    /// The same.
    pub async fn try_identify(
        &self,
        username: &str,
        password: Password,
    ) -> Result<Identity, Refusal> {
        let account = match canonical(username) {
            Ok(name) => self.store.account(&name).await?,
            Err(_) => None,
        };
        let account = self.check(account, password).await?;
        Ok(Identity {
            user: account.id,
            username: Some(account.username),
            valid_from: Some(account.valid_from),
            claims: None,
            privileged: account.privileged,
        })
    }

    /// Whom a foreign token names.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if there is no such account, or it is disabled;
    /// [`Error::StoreUnavailable`].
    pub async fn named(&self, subject: &UserId, names: Names) -> Result<Identity> {
        let account = match names {
            Names::Ids => self.store.account_of(subject).await?,
            Names::Usernames => match canonical(subject.as_str()) {
                Ok(name) => self.store.account(&name).await?,
                Err(_) => None,
            },
        };
        let account = account.filter(|account| !account.disabled);
        let account = account.ok_or(Error::InvalidCredentials)?;
        Ok(Identity {
            user: account.id,
            username: Some(account.username),
            valid_from: Some(account.valid_from),
            privileged: account.privileged,
            claims: None,
        })
    }

    /// Is this the user's password?
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::Overloaded`], [`Error::StoreUnavailable`].
    pub async fn confirm(&self, user: &UserId, password: Password) -> Result<()> {
        let confirmed = self.try_confirm(user, password).await;
        confirmed.map_err(|refusal| self.record(refusal))
    }

    /// As [`Accounts::confirm`], for who records a refusal by himself.
    ///
    /// # Errors
    /// The same.
    pub async fn try_confirm(&self, user: &UserId, password: Password) -> Result<(), Refusal> {
        let account = self.store.account_of(user).await?;
        self.check(account, password).await.map(drop)
    }

    fn record(&self, refusal: Refusal) -> Error {
        if let Some(event) = refusal.event() {
            self.events.note(&self.caller, &event);
        }
        refusal.error
    }

    /// One hash, whatever there is to compare it with.
    async fn check(
        &self,
        account: Option<Account>,
        password: Password,
    ) -> Result<Account, Refusal> {
        let hash = account
            .as_ref()
            .map(|account| account.password_hash.clone());
        let verified = self.passwords.verify(password, hash.clone()).await?;
        let account = accepted(account, verified.matches)?;
        if let (Some(old), Some(new)) = (hash, verified.rehash) {
            // A hash that cannot be renewed now is renewed at another login.
            let _ = self
                .store
                .rehash(&account.id, old.as_str(), new.as_str())
                .await;
        }
        Ok(account)
    }

    /// Changes a password for somebody who knows the current one, which ends all sessions of the
    /// user. Of two changes at once, and of a change and a disabling, only the first takes effect.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::PasswordTooWeak`], [`Error::Overloaded`],
    /// [`Error::StoreUnavailable`].
    pub async fn change_password(
        &self,
        user: &UserId,
        current: Password,
        new: Password,
    ) -> Result<PasswordChange> {
        let changed = self.try_change_password(user, current, new).await;
        changed.map_err(|refusal| self.record(refusal))
    }

    /// As [`Accounts::change_password`], for who records a refusal by himself.
    ///
    /// # Errors
    /// The same.
    pub async fn try_change_password(
        &self,
        user: &UserId,
        current: Password,
        new: Password,
    ) -> Result<PasswordChange, Refusal> {
        let account = self.store.account_of(user).await?;
        let account = self.check(account, current).await?;
        let seen = Some(account.valid_from);
        let ended = self.set(&account, seen, new, EventName::PasswordChanged);
        let ended = ended.await?.ok_or_else(|| overtaken(&account.id))?;
        Ok(PasswordChange {
            identity: Identity {
                user: account.id,
                username: Some(account.username),
                valid_from: Some(ended.valid_from),
                claims: None,
                privileged: account.privileged,
            },
            ended: Some(ended.sessions),
        })
    }

    /// Sets a new password, whatever the current one is, which ends all sessions of the user.
    ///
    /// # Errors
    /// [`Error::PasswordTooWeak`], [`Error::NotFound`], and as above.
    pub async fn set_password(&self, user: &UserId, new: Password) -> Result<()> {
        let account = self.store.account_of(user).await?.ok_or(Error::NotFound)?;
        let name = EventName::PasswordSet;
        let ended = self.set(&account, None, new, name).await?;
        let ended = ended.ok_or(Error::NotFound)?;
        self.tell(name, user, &ended.sessions, EndReason::PasswordChanged);
        Ok(())
    }

    async fn set(
        &self,
        account: &Account,
        seen: Option<ValidFrom>,
        new: Password,
        name: EventName,
    ) -> Result<Option<AllEnded>> {
        let hash = self.passwords.hash_new(&account.username, new).await?;
        let now = self.env.now();
        let trail = self.trail(name, &account.id, EndReason::PasswordChanged);
        let set = self
            .store
            .set_password(&account.id, seen, hash.as_str(), now, &trail);
        let set = set.await?;
        if let Some(AllEnded { sessions, .. }) = &set {
            self.ended(sessions, now, EndReason::PasswordChanged);
        }
        Ok(set)
    }

    fn trail(&self, name: EventName, user: &UserId, reason: EndReason) -> Trail {
        self.trail_of(Event::new(name).of(user), reason)
    }

    fn trail_of(&self, once: Event, reason: EndReason) -> Trail {
        let each = Event::new(EventName::SessionEnded).because(reason.name());
        self.events.trail(&self.caller, Some(once), Some(each))
    }

    /// Tells of what has its records in the store.
    fn tell(&self, name: EventName, user: &UserId, ended: &[SessionId], reason: EndReason) {
        self.tell_of(&Event::new(name).of(user), user, ended, reason);
    }

    fn tell_of(&self, event: &Event, user: &UserId, ended: &[SessionId], reason: EndReason) {
        self.events.tell(event);
        if let Some(event) = ended_together(user, ended, reason) {
            self.events.tell(&event);
        }
    }

    /// Makes an account: a registration, or an operator's doing if he is the caller.
    ///
    /// # Errors
    /// [`Error::UsernameTaken`], [`Error::PasswordTooWeak`], and as above.
    pub async fn register(&self, username: &str, password: Password) -> Result<UserId> {
        let username = canonical(username)?;
        let password_hash = self.passwords.hash_new(&username, password).await?;
        let now = self.env.now();
        let id = new_id(now, &*self.env)?;
        let account = Account {
            id: id.clone(),
            username,
            password_hash,
            disabled: false,
            privileged: false,
            created_at: now,
            valid_from: ValidFrom::default(),
        };
        let name = match self.caller.actor {
            Some(Actor::Operator) => EventName::AccountAdded,
            _ => EventName::Registered,
        };
        let trail = self.trail(name, &id, EndReason::Disabled);
        match self.store.add_account(account, &trail).await? {
            Write::Done => {
                self.tell(name, &id, &[], EndReason::Disabled);
                Ok(id)
            }
            Write::Lost => Err(Error::UsernameTaken),
        }
    }

    /// The account of a name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreUnavailable`].
    pub async fn find(&self, username: &str) -> Result<Account> {
        let name = canonical(username)?;
        self.store.account(&name).await?.ok_or(Error::NotFound)
    }

    /// Disables, which ends all sessions, or enables.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreUnavailable`].
    pub async fn set_disabled(&self, user: &UserId, disabled: bool) -> Result<()> {
        let (at, reason) = (self.env.now(), EndReason::Disabled);
        let name = if disabled {
            EventName::AccountDisabled
        } else {
            EventName::AccountEnabled
        };
        let trail = self.trail(name, user, reason);
        let ended = self.store.set_disabled(user, disabled, at, &trail).await?;
        let ended = ended.ok_or(Error::NotFound)?;
        self.ended(&ended, at, reason);
        self.tell(name, user, &ended, reason);
        Ok(())
    }

    /// Whether sessions of this user are privileged; not those of somebody who has no account.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn is_privileged(&self, user: &UserId) -> Result<bool> {
        let account = self.store.account_of(user).await?;
        Ok(account.is_some_and(|account| account.privileged))
    }

    /// Says whether sessions of the account are privileged, which ends those that are open.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreUnavailable`].
    pub async fn set_privileged(&self, user: &UserId, privileged: bool) -> Result<()> {
        let (at, reason) = (self.env.now(), EndReason::EndedByOperator);
        let switch = if privileged { "on" } else { "off" };
        let changed = Event::new(EventName::PrivilegeChanged).of(user);
        let changed = changed.with(switch);
        let trail = self.trail_of(changed.clone(), reason);
        let ended = self
            .store
            .set_privileged(user, privileged, at, &trail)
            .await?;
        let ended = ended.ok_or(Error::NotFound)?;
        self.ended(&ended, at, reason);
        self.tell_of(&changed, user, &ended, reason);
        Ok(())
    }

    /// Starts a reset of the password: whoever has the token may set a new one, once, for `ttl` from
    /// now. It voids the one before; a change of the password and disabling void it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such account or it is disabled, [`Error::StoreUnavailable`].
    pub async fn start_reset(
        &self,
        username: &str,
        ttl: Duration,
    ) -> Result<(ResetToken, Timestamp)> {
        let account = self.find(username).await?;
        let token = ResetToken::random(&*self.env);
        let expires_at = self.env.now() + ttl.min(reset::MAX_TTL);
        let hash = token.hash();
        let reset = Reset { hash, expires_at };
        let started = Event::new(EventName::ResetStarted).of(&account.id);
        let trail = self.events.trail(&self.caller, Some(started.clone()), None);
        match self.store.start_reset(&account.id, reset, &trail).await? {
            Write::Done => {
                self.events.tell(&started);
                Ok((token, expires_at))
            }
            Write::Lost => Err(Error::NotFound),
        }
    }

    /// Sets a new password by the token of a reset, which ends all sessions of the user. A password
    /// that is refused does not use the token up; of two uses at once one takes effect.
    ///
    /// # Errors
    /// [`Error::ResetTokenInvalid`], [`Error::PasswordTooWeak`], [`Error::Overloaded`],
    /// [`Error::StoreUnavailable`].
    pub async fn reset_password(&self, token: ResetHash, new: Password) -> Result<PasswordReset> {
        // Before the password is hashed: a token that is none costs no hash.
        let account = self.store.reset_of(token, self.env.now()).await?;
        let account = account.ok_or(Error::ResetTokenInvalid)?;
        let hash = self.passwords.hash_new(&account.username, new).await?;
        let (at, reason) = (self.env.now(), EndReason::PasswordChanged);
        let trail = self.trail(EventName::PasswordReset, &account.id, reason);
        let set = self.store.finish_reset(token, hash.as_str(), at, &trail);
        let AllEnded { sessions, .. } = set.await?.ok_or(Error::ResetTokenInvalid)?;
        self.ended(&sessions, at, reason);
        let reset = PasswordReset {
            user: account.id,
            ended: sessions,
        };
        for event in reset.events() {
            self.events.tell(&event);
        }
        Ok(reset)
    }

    /// Removes the account, which ends all sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreUnavailable`].
    pub async fn remove(&self, user: &UserId) -> Result<()> {
        let (at, reason) = (self.env.now(), EndReason::Disabled);
        let trail = self.trail(EventName::AccountRemoved, user, reason);
        let ended = self.store.remove_account(user, at, &trail).await?;
        let ended = ended.ok_or(Error::NotFound)?;
        self.ended(&ended, at, reason);
        self.tell(EventName::AccountRemoved, user, &ended, reason);
        Ok(())
    }

    /// The verifiers of this process hear of it at once, whatever becomes of the ways to the others.
    fn ended(&self, sessions: &[SessionId], at: Timestamp, reason: EndReason) {
        for session in sessions {
            self.revocations.insert(Ended {
                session: *session,
                at,
                reason,
            });
        }
    }
}

fn ended_together(user: &UserId, ended: &[SessionId], reason: EndReason) -> Option<Event> {
    let event = Event::new(EventName::SessionsEnded).of(user);
    let event = event.because(reason.name()).times(ended.len() as u64);
    (!ended.is_empty()).then_some(event)
}

fn accepted(account: Option<Account>, matches: bool) -> Result<Account, Refusal> {
    let Some(account) = account else {
        return Err(Refusal {
            why: Failure::UnknownUser,
            ..Error::InvalidCredentials.into()
        });
    };
    let why = match (matches, account.disabled) {
        (true, false) => return Ok(account),
        (true, true) => Failure::Disabled,
        (false, _) => Failure::WrongPassword,
    };
    Err(Refusal {
        error: Error::InvalidCredentials,
        user: Some(account.id),
        why,
    })
}

fn overtaken(user: &UserId) -> Refusal {
    Refusal {
        error: Error::InvalidCredentials,
        user: Some(user.clone()),
        why: Failure::Overtaken,
    }
}
