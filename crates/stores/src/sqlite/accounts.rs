//! Built-in accounts, and resets of their passwords.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::Trail;
use doorward_core::id::{SessionId, UserId};
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::session::EndReason;
use doorward_core::store::{Account, AccountStore, AllEnded, StoreResult, ValidFrom, Write};
use rusqlite::{OptionalExtension, params};

use super::writer::Group;
use super::{SqliteStore, rows, took};

const ACCOUNT: &str =
    "SELECT id, username, password_hash, disabled, created_at, privileged FROM accounts ";

#[async_trait]
impl AccountStore for SqliteStore {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        let trail = trail.clone();
        self.write(move |group| group.add_account(&account, &trail))
            .await
    }

    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        self.writer
            .run(move |group| {
                let added = accounts.iter();
                let added = added.map(|(account, trail)| group.add_account(account, trail));
                added.map(|added| added.map(took)).collect()
            })
            .await
    }

    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        self.read(|db| {
            db.prepare_cached(&format!("{ACCOUNT}WHERE username = ?1"))?
                .query_row([username], |row| rows::account(db, row))
                .optional()
        })
    }

    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        self.read(|db| {
            db.prepare_cached(&format!("{ACCOUNT}WHERE id = ?1"))?
                .query_row([user.as_str()], |row| rows::account(db, row))
                .optional()
        })
    }

    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        self.read(|db| {
            let sql = "WHERE username > ?1 ORDER BY username LIMIT ?2";
            db.prepare_cached(&format!("{ACCOUNT}{sql}"))?
                .query_map(params![after.unwrap_or(""), limit], |row| {
                    rows::account(db, row)
                })?
                .collect()
        })
    }

    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        let (user, old, new) = (user.clone(), old.to_owned(), new.to_owned());
        self.write(move |group| {
            let sql = "UPDATE accounts SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2";
            group.account(sql, params![user.as_str(), old, new])
        })
        .await
    }

    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let (user, hash, trail) = (user.clone(), hash.to_owned(), trail.clone());
        self.writer
            .run(move |group| {
                let now = rows::valid_from(group.tx, &user)?;
                if seen.is_some_and(|seen| seen != now) {
                    return Ok(None);
                }
                group.set_password(&user, &hash, at, &trail)
            })
            .await
    }

    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let (user, trail) = (user.clone(), trail.clone());
        self.writer
            .run(move |group| {
                let sql = "UPDATE accounts SET disabled = ?2 WHERE id = ?1";
                if !group.account(sql, params![user.as_str(), disabled])? {
                    return Ok(None);
                }
                if disabled {
                    group.void_reset(&user)?;
                    let ended = group.end_user(&user, at, EndReason::Disabled, None, &trail);
                    return ended.map(Some);
                }
                group.leave(&trail.records(&user, &[]))?;
                Ok(Some(Vec::new()))
            })
            .await
    }

    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let (user, trail) = (user.clone(), trail.clone());
        self.writer
            .run(move |group| {
                let sql = "DELETE FROM accounts WHERE id = ?1";
                let found = group.account(sql, params![user.as_str()])?;
                group.void_reset(&user)?;
                let end = || group.end_user(&user, at, EndReason::Disabled, None, &trail);
                found.then(end).transpose()
            })
            .await
    }

    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let (user, trail) = (user.clone(), trail.clone());
        self.writer
            .run(move |group| {
                let sql = "UPDATE accounts SET privileged = ?2 WHERE id = ?1";
                let found = group.account(sql, params![user.as_str(), privileged])?;
                let reason = EndReason::EndedByOperator;
                let end = found.then(|| group.end_user(&user, at, reason, None, &trail));
                end.transpose()
            })
            .await
    }

    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        let (user, trail) = (user.clone(), trail.clone());
        self.write(move |group| group.start_reset(&user, reset, &trail))
            .await
    }

    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        self.read(|db| {
            let sql = "JOIN resets ON user = id WHERE hash = ?1 AND ?2 < expires_at";
            db.prepare_cached(&format!("{ACCOUNT}{sql}"))?
                .query_row(params![hash.0, now.0], |row| rows::account(db, row))
                .optional()
        })
    }

    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let (password_hash, trail) = (password_hash.to_owned(), trail.clone());
        self.writer
            .run(move |group| match rows::reset_of(group.tx, hash, at)? {
                Some(user) => group.set_password(&user, &password_hash, at, &trail),
                None => Ok(None),
            })
            .await
    }
}

impl Group<'_> {
    /// Sets a password, which voids a reset and ends all sessions. `None`: no account.
    pub(super) fn set_password(
        &mut self,
        user: &UserId,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> rusqlite::Result<Option<AllEnded>> {
        let sql = "UPDATE accounts SET password_hash = ?2 WHERE id = ?1";
        if !self.account(sql, params![user.as_str(), hash])? {
            return Ok(None);
        }
        self.void_reset(user)?;
        let sessions = self.end_user(user, at, EndReason::PasswordChanged, None, trail)?;
        let valid_from = rows::valid_from(self.tx, user)?;
        Ok(Some(AllEnded {
            sessions,
            valid_from,
        }))
    }

    pub(super) fn void_reset(&self, user: &UserId) -> rusqlite::Result<()> {
        let sql = "DELETE FROM resets WHERE user = ?1";
        self.account(sql, params![user.as_str()]).map(drop)
    }

    /// Keeps a reset in place of the one before.
    pub(super) fn start_reset(
        &self,
        user: &UserId,
        reset: Reset,
        trail: &Trail,
    ) -> rusqlite::Result<bool> {
        self.void_reset(user)?;
        let sql = "INSERT INTO resets (hash, user, expires_at) SELECT ?1, id, ?3 FROM accounts \
             WHERE id = ?2 AND NOT disabled";
        let values = params![reset.hash.0, user.as_str(), reset.expires_at.0];
        let started = self.account(sql, values)?;
        if started {
            self.leave(&trail.records(user, &[]))?;
        }
        Ok(started)
    }

    pub(super) fn add_account(&self, account: &Account, trail: &Trail) -> rusqlite::Result<bool> {
        let values = params![
            account.id.as_str(),
            account.username,
            account.password_hash.as_str(),
            account.disabled,
            account.created_at.0,
            account.privileged
        ];
        let sql = "INSERT INTO accounts (id, username, password_hash, disabled, created_at, \
            privileged) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
        let added = self.account(sql, values)?;
        if added {
            self.leave(&trail.records(&account.id, &[]))?;
        }
        Ok(added)
    }

    /// Changes one account by a statement whose first parameter is its id.
    pub(super) fn account(
        &self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> rusqlite::Result<bool> {
        Ok(self.tx.prepare_cached(sql)?.execute(values)? == 1)
    }
}
