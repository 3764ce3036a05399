//! The traits of the contract, each operation carried out in the store's thread.

use std::sync::Arc;

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::{Entry, Filter, Record, Trail};
use doorward_core::id::{SessionId, UserId};
use doorward_core::keys::{KeyId, StoredKey};
use doorward_core::limits::Opening;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::revocation::{Ended, Feed};
use doorward_core::session::{EndReason, Session};
use doorward_core::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, StoreResult, ThrottleStore, ValidFrom, Write,
};
use doorward_core::throttle::{Change, Refused};

use super::RedisStore;
use super::accounts::{Change as UserChange, Ending};
use super::base::int;
use super::batches::Mode;
use super::sessions::{busy, done};

#[async_trait]
impl SessionStore for RedisStore {
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        let trail = trail.clone();
        self.run(|base| async move { base.open(&opening, None, &trail).await })
            .await
    }

    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write> {
        let opening = Opening {
            session,
            seen,
            replaces: None,
            cap: None,
            restored_at: Timestamp(0),
        };
        let trail = trail.clone();
        let opened = self.run(|base| async move { base.open(&opening, Some(until), &trail).await });
        Ok(match opened.await? {
            Opened::Done(_) => Write::Done,
            Opened::Lost | Opened::Full => Write::Lost,
        })
    }

    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        self.run(|base| async move { base.was_adopted(id).await })
            .await
    }

    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        let read = |tag, command| self.ask(tag, command, true);
        self.base.load_by(id, read).await
    }

    async fn swap(&self, session: Session) -> StoreResult<Write> {
        let Some((tag, command)) = self.base.swap(&session)? else {
            return Ok(Write::Lost);
        };
        Ok(done(int(self.ask(tag, command, false).await?)? == 1))
    }

    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<Option<Session>> {
        let end = Ended {
            session: id,
            at,
            reason,
        };
        let trail = trail.clone();
        self.run(|base| async move { base.end(end, Mode::Ended, &trail).await })
            .await
    }

    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        self.run(|base| async move { base.tell_end(end).await })
            .await
    }

    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> StoreResult<Vec<SessionId>> {
        let (user, trail) = (user.clone(), trail.clone());
        let work = |base: Arc<super::Base>| async move {
            let change = UserChange {
                ending: Some(Ending { at, reason, except }),
                trail: Some(&trail),
                ..UserChange::default()
            };
            let changed = base.change(&user, change).await?;
            Ok(changed.ok_or_else(busy)?.all.sessions)
        };
        self.run(work).await
    }

    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        let user = user.clone();
        self.run(|base| async move { base.valid_from(&user).await })
            .await
    }

    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let mut rows = self.kept_of(user).await?;
        rows.retain(|row| row.ended.is_none());
        Ok(rows)
    }

    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>> {
        self.run(|base| async move { base.live_after(after, limit).await })
            .await
    }

    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.run(|base| async move { base.ended_after(cursor, limit).await })
            .await
    }

    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let user = user.clone();
        self.run(|base| async move { base.kept_of(&user).await })
            .await
    }

    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64> {
        let (user, trail) = (user.clone(), trail.clone());
        let work = |base: Arc<super::Base>| async move {
            let change = UserChange {
                ending: Some(Ending::all(at, reason)),
                erase: true,
                trail: Some(&trail),
                ..UserChange::default()
            };
            let changed = base.change(&user, change).await?;
            Ok(changed.ok_or_else(busy)?.erased)
        };
        self.run(work).await
    }

    async fn restored_at(&self) -> StoreResult<Timestamp> {
        self.run(|base| async move { base.restored_at().await })
            .await
    }

    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        let trail = trail.clone();
        self.run(|base| async move { base.set_restored(at, &trail).await })
            .await
    }

    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        let trail = trail.clone();
        let work = |base: Arc<super::Base>| async move {
            base.purge(now, log_before, limit, &trail).await
        };
        self.run(work).await
    }

    fn at_risk(&self) -> Option<String> {
        self.base.risk.told()
    }

    fn slow_to_spread(&self) -> Option<String> {
        self.base.hearing.deaf().or_else(|| self.base.spread.mute())
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        Some(Arc::clone(&self.base.spread) as Arc<dyn Feed>)
    }
}

#[async_trait]
impl AccountStore for RedisStore {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        let trail = trail.clone();
        self.run(|base| async move { base.add_account(&account, &trail).await })
            .await
    }

    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        self.run(|base| async move { base.add_accounts(accounts).await })
            .await
    }

    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        let username = username.to_owned();
        self.run(|base| async move { base.account(&username).await })
            .await
    }

    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        let user = user.clone();
        self.run(|base| async move { base.account_of(&user).await })
            .await
    }

    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        let after = after.map(str::to_owned);
        self.run(|base| async move { base.accounts(after.as_deref(), limit).await })
            .await
    }

    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        let (user, old, new) = (user.clone(), old.to_owned(), new.to_owned());
        self.run(|base| async move { base.rehash(&user, &old, &new).await })
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
        let set = |base: Arc<super::Base>| async move {
            base.set_password(&user, seen, &hash, at, &trail).await
        };
        self.run(set).await
    }

    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let (user, trail) = (user.clone(), trail.clone());
        self.run(|base| async move { base.set_disabled(&user, disabled, at, &trail).await })
            .await
    }

    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let (user, trail) = (user.clone(), trail.clone());
        self.run(|base| async move { base.remove_account(&user, at, &trail).await })
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
        let set = |base: Arc<super::Base>| async move {
            base.set_privileged(&user, privileged, at, &trail).await
        };
        self.run(set).await
    }

    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        let (user, trail) = (user.clone(), trail.clone());
        self.run(|base| async move { base.start_reset(&user, reset, &trail).await })
            .await
    }

    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        self.run(|base| async move { base.reset_of(hash, now).await })
            .await
    }

    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let (password_hash, trail) = (password_hash.to_owned(), trail.clone());
        let finish = |base: Arc<super::Base>| async move {
            base.finish_reset(hash, &password_hash, at, &trail).await
        };
        self.run(finish).await
    }
}

#[async_trait]
impl KeyStore for RedisStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.run(|base| async move { base.keys().await }).await
    }

    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        self.run(|base| async move { base.add_key(&key, only_if_none).await })
            .await
    }

    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        self.run(|base| async move { base.update_keys(&keys).await })
            .await
    }

    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        self.run(|base| async move { base.remove_key(id).await })
            .await
    }
}

#[async_trait]
impl ThrottleStore for RedisStore {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        self.run(|base| async move { base.change_buckets(change).await })
            .await
    }

    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        self.run(|base| async move { base.purge_buckets(now, limit).await })
            .await
    }
}

#[async_trait]
impl EventStore for RedisStore {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        self.run(|base| async move { base.append(&records).await })
            .await
    }

    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        let filter = filter.clone();
        self.run(|base| async move { base.events_after(cursor, &filter, limit).await })
            .await
    }

    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        let filter = filter.clone();
        self.run(|base| async move { base.events_before(before, &filter, limit).await })
            .await
    }

    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        self.run(|base| async move { base.purge_events(before, limit).await })
            .await
    }
}

#[async_trait]
impl OutboxStore for RedisStore {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        let address = address.to_owned();
        self.run(|base| async move { base.outbox_cursor(&address).await })
            .await
    }

    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        let (address, places) = (address.to_owned(), places.to_vec());
        self.run(|base| async move { base.enqueue(&address, cursor, &places, due).await })
            .await
    }

    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        let address = address.to_owned();
        self.run(|base| async move { base.claim(&address, now, until, limit).await })
            .await
    }

    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        let address = address.to_owned();
        self.run(|base| async move { base.settle(&address, place, again).await })
            .await
    }
}
