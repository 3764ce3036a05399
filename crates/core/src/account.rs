//! Built-in accounts: for those who have no user table of their own.
//!
//! Unknown user, wrong password and disabled account do the same work and give the same answer.

use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use crate::adoption::Names;
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::password::{Password, Passwords};
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

impl From<Identity> for PasswordChange {
    fn from(identity: Identity) -> Self {
        PasswordChange {
            identity,
            ended: None,
        }
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
fn is_invisible(char: char) -> bool {
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
}

impl Accounts {
    /// The accounts of `store`, whose passwords `passwords` hashes. `revocations` are the service's.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        passwords: Arc<Passwords>,
        revocations: Arc<Revocations>,
        env: Arc<dyn Env>,
    ) -> Self {
        Accounts {
            store,
            passwords,
            revocations,
            env,
        }
    }

    /// Whose credentials are these?
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::Overloaded`], [`Error::StoreUnavailable`].
    pub async fn identify(&self, username: &str, password: Password) -> Result<Identity> {
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
            claims: None,
        })
    }

    /// Is this the user's password?
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::Overloaded`], [`Error::StoreUnavailable`].
    pub async fn confirm(&self, user: &UserId, password: Password) -> Result<()> {
        let account = self.store.account_of(user).await?;
        self.check(account, password).await.map(drop)
    }

    /// One hash, whatever there is to compare it with.
    async fn check(&self, account: Option<Account>, password: Password) -> Result<Account> {
        let hash = account
            .as_ref()
            .map(|account| account.password_hash.clone());
        let verified = self.passwords.verify(password, hash.clone()).await?;
        let account = account.filter(|account| verified.matches && !account.disabled);
        let account = account.ok_or(Error::InvalidCredentials)?;
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
        let account = self.store.account_of(user).await?;
        let account = self.check(account, current).await?;
        let ended = self.set(&account, Some(account.valid_from), new).await?;
        let ended = ended.ok_or(Error::InvalidCredentials)?;
        Ok(PasswordChange {
            identity: Identity {
                user: account.id,
                username: Some(account.username),
                valid_from: Some(ended.valid_from),
                claims: None,
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
        let ended = self.set(&account, None, new).await?;
        ended.map(drop).ok_or(Error::NotFound)
    }

    async fn set(
        &self,
        account: &Account,
        seen: Option<ValidFrom>,
        new: Password,
    ) -> Result<Option<AllEnded>> {
        let hash = self.passwords.hash_new(&account.username, new).await?;
        let now = self.env.now();
        let set = self
            .store
            .set_password(&account.id, seen, hash.as_str(), now);
        let set = set.await?;
        if let Some(AllEnded { sessions, .. }) = &set {
            self.ended(sessions, now, EndReason::PasswordChanged);
        }
        Ok(set)
    }

    /// Makes an account.
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
            created_at: now,
            valid_from: ValidFrom::default(),
        };
        match self.store.add_account(account).await? {
            Write::Done => Ok(id),
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
        let at = self.env.now();
        let ended = self.store.set_disabled(user, disabled, at).await?;
        self.ended(&ended.ok_or(Error::NotFound)?, at, EndReason::Disabled);
        Ok(())
    }

    /// Removes the account, which ends all sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreUnavailable`].
    pub async fn remove(&self, user: &UserId) -> Result<()> {
        let at = self.env.now();
        let ended = self.store.remove_account(user, at).await?;
        self.ended(&ended.ok_or(Error::NotFound)?, at, EndReason::Disabled);
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
