//! Built-in accounts, and resets of their passwords.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::Trail;
use doorward_core::id::{SessionId, UserId};
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::session::EndReason;
use doorward_core::store::{Account, AccountStore, AllEnded, StoreResult, ValidFrom, Write};
use tokio_postgres::Row;

use super::connection::{Failed, Value, step};
use super::view::{Needs, View};
use super::{PostgresStore, lock, took};

/// With the user's `valid_from` of the same moment.
macro_rules! accounts {
    ($which:literal) => {
        concat!(
            "SELECT a.id, a.username, a.password_hash, a.disabled, a.created_at, a.privileged, \
             coalesce(v.at, 0) FROM @accounts a LEFT JOIN @valid_from v ON v.user_id = a.id ",
            $which
        )
    };
}

fn account(row: &Row) -> Result<Account, Failed> {
    lock::account(row, ValidFrom(row.try_get(6)?))
}

#[expect(clippy::needless_pass_by_value, reason = "what reads are given")]
fn first(rows: Vec<Row>) -> Result<Option<Account>, Failed> {
    rows.first().map(account).transpose()
}

#[async_trait]
impl AccountStore for PostgresStore {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        let needs = to_add(&account);
        let trail = trail.clone();
        self.group(needs, move |view| took(view.add_account(&account, &trail)))
            .await
    }

    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        let mut needs = Needs::default();
        for (account, _) in &accounts {
            needs.and(to_add(account));
        }
        let add = move |view: &mut View| {
            let added = accounts.iter();
            let added = added.map(|(account, trail)| took(view.add_account(account, trail)));
            added.collect()
        };
        self.group(needs, add).await
    }

    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        let values: Vec<Value> = vec![Box::new(username.to_owned())];
        self.read(accounts!("WHERE a.username = $1"), values, first)
            .await
    }

    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        let values: Vec<Value> = vec![Box::new(user.as_str().to_owned())];
        self.read(accounts!("WHERE a.id = $1"), values, first).await
    }

    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        let after = after.unwrap_or_default().to_owned();
        let values: Vec<Value> = vec![Box::new(after), Box::new(i64::from(limit))];
        let sql = accounts!("WHERE a.username > $1 ORDER BY a.username LIMIT $2");
        self.read(sql, values, |rows| rows.iter().map(account).collect())
            .await
    }

    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        let sql = "UPDATE @accounts SET password_hash = $3 WHERE id = $1 AND password_hash = $2 RETURNING 1";
        let (user, old, new) = (user.as_str().to_owned(), old.to_owned(), new.to_owned());
        let steps = move || vec![step!(sql, user.clone(), old.clone(), new.clone())];
        let done = self.write(steps).await?;
        Ok(took(done.iter().any(|rows| !rows.is_empty())))
    }

    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let needs = Needs::account(user);
        let (whose, hash, trail) = (of(user), hash.to_owned(), trail.clone());
        let user = user.clone();
        let set = move |view: &mut View| {
            if seen.is_some_and(|seen| seen != view.seen(&user)) {
                return None;
            }
            view.set_password(&user, &hash, at, &trail)
        };
        self.all_ended(needs, whose, set).await
    }

    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let needs = Needs::account(user);
        let (whose, user, trail) = (of(user), user.clone(), trail.clone());
        let set = move |view: &mut View| {
            view.accounts.get_mut(&user)?.disabled = disabled;
            if disabled {
                view.resets.remove(&user);
                return Some(view.end_user(&user, at, EndReason::Disabled, None, &trail));
            }
            view.leave(trail.records(&user, &[]));
            Some(Vec::new())
        };
        self.they_ended(needs, whose, set).await
    }

    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let needs = Needs::account(user);
        let (whose, user, trail) = (of(user), user.clone(), trail.clone());
        let remove = move |view: &mut View| {
            view.resets.remove(&user);
            view.accounts.remove(&user)?;
            Some(view.end_user(&user, at, EndReason::Disabled, None, &trail))
        };
        self.they_ended(needs, whose, remove).await
    }

    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let needs = Needs::account(user);
        let (whose, user, trail) = (of(user), user.clone(), trail.clone());
        let set = move |view: &mut View| {
            view.accounts.get_mut(&user)?.privileged = privileged;
            Some(view.end_user(&user, at, EndReason::EndedByOperator, None, &trail))
        };
        self.they_ended(needs, whose, set).await
    }

    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        let needs = Needs::account(user);
        let (user, trail) = (user.clone(), trail.clone());
        let start = move |view: &mut View| {
            let enabled = view
                .accounts
                .get(&user)
                .is_some_and(|account| !account.disabled);
            if enabled {
                view.resets.set(user.clone(), reset);
                view.leave(trail.records(&user, &[]));
            }
            took(enabled)
        };
        self.group(needs, start).await
    }

    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        let sql =
            accounts!("JOIN @resets r ON r.user_id = a.id WHERE r.hash = $1 AND $2 < r.expires_at");
        let values: Vec<Value> = vec![Box::new(hash.0.to_vec()), Box::new(now.0)];
        self.read(sql, values, first).await
    }

    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let needs = Needs {
            resets: [hash].into(),
            ..Needs::default()
        };
        let (password_hash, trail) = (password_hash.to_owned(), trail.clone());
        let finish = move |view: &mut View| {
            let user = view.reset_of(hash, at)?;
            view.set_password(&user, &password_hash, at, &trail)
        };
        self.all_ended(needs, move |view: &View| view.reset_of(hash, at), finish)
            .await
    }
}

impl PostgresStore {
    /// Decides what ends all sessions of a user, and ends them.
    async fn all_ended(
        &self,
        needs: Needs,
        whose: impl Fn(&View) -> Option<UserId> + Send + Sync + 'static,
        work: impl Fn(&mut View) -> Option<AllEnded> + Send + Sync + 'static,
    ) -> StoreResult<Option<AllEnded>> {
        let (mut ended, more) = self.settled(needs, whose, work).await?;
        if let Some(all) = &mut ended {
            all.sessions.extend(more);
        }
        Ok(ended)
    }

    async fn they_ended(
        &self,
        needs: Needs,
        whose: impl Fn(&View) -> Option<UserId> + Send + Sync + 'static,
        work: impl Fn(&mut View) -> Option<Vec<SessionId>> + Send + Sync + 'static,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let (mut ended, more) = self.settled(needs, whose, work).await?;
        if let Some(ids) = &mut ended {
            ids.extend(more);
        }
        Ok(ended)
    }
}

fn of(user: &UserId) -> impl Fn(&View) -> Option<UserId> + Send + Sync + use<> {
    let user = user.clone();
    move |_| Some(user.clone())
}

fn to_add(account: &Account) -> Needs {
    Needs {
        accounts: [account.id.clone()].into(),
        names: [account.username.clone()].into(),
        ..Needs::default()
    }
}
