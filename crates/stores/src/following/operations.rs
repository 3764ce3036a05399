//! Each operation, carried out by the store that counts now.

use std::sync::Arc;

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::{Entry, Filter, Record, Trail};
use doorward_core::id::{SessionId, UserId};
use doorward_core::keys::{KeyId, StoredKey};
use doorward_core::limits::Opening;
use doorward_core::meter::Meter;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::revocation::{Ended, Feed};
use doorward_core::session::{EndReason, Session};
use doorward_core::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, StoreResult, ThrottleStore, ValidFrom, Write,
};
use doorward_core::throttle::{Change, Refused};

use super::{Following, TRIES, is_left};

/// Asks the store that counts now; where it was left meanwhile, the one that took over, within a second.
macro_rules! ask {
    ($self:ident, $store:ident => $asked:expr) => {{
        let mut tries = TRIES;
        loop {
            let $store = $self.now().await?;
            match $asked.await {
                Err(error) if is_left(&error) => $self.wait(&mut tries, error).await?,
                answer => return answer,
            }
        }
    }};
}

#[async_trait]
impl SessionStore for Following {
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        ask!(self, store => store.open(opening.clone(), trail))
    }
    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write> {
        ask!(self, store => store.adopt(session.clone(), seen, until, trail))
    }
    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        ask!(self, store => store.was_adopted(id))
    }
    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        ask!(self, store => store.load(id))
    }
    async fn swap(&self, session: Session) -> StoreResult<Write> {
        ask!(self, store => store.swap(session.clone()))
    }
    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<Option<Session>> {
        ask!(self, store => store.end(id, at, reason, trail))
    }
    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        ask!(self, store => store.tell_end(end))
    }
    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> StoreResult<Vec<SessionId>> {
        ask!(self, store => store.end_user(user, at, reason, except, trail))
    }
    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        ask!(self, store => store.valid_from(user))
    }
    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        ask!(self, store => store.sessions_of(user))
    }
    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>> {
        ask!(self, store => store.sessions(after, limit))
    }
    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.look().await?;
        let cursor = self.cursor(cursor);
        ask!(self, store => store.ended_after(cursor, limit))
    }
    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        ask!(self, store => store.kept_of(user))
    }
    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64> {
        ask!(self, store => store.erase(user, at, reason, trail))
    }
    async fn restored_at(&self) -> StoreResult<Timestamp> {
        ask!(self, store => store.restored_at())
    }
    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        ask!(self, store => store.set_restored(at, trail))
    }
    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        ask!(self, store => store.purge(now, log_before, limit, trail))
    }

    fn slow_to_spread(&self) -> Option<String> {
        self.current().ok()?.slow_to_spread()
    }

    fn at_risk(&self) -> Option<String> {
        self.current().ok()?.at_risk()
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        self.current().ok()?.meter()
    }

    fn notice(&self) -> Option<String> {
        self.said()
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        let feed: Arc<dyn Feed> = self.feed.clone();
        Some(feed)
    }
}

#[async_trait]
impl AccountStore for Following {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        ask!(self, store => store.add_account(account.clone(), trail))
    }
    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        ask!(self, store => store.add_accounts(accounts.clone()))
    }
    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        ask!(self, store => store.account(username))
    }
    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        ask!(self, store => store.account_of(user))
    }
    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        ask!(self, store => store.accounts(after, limit))
    }
    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        ask!(self, store => store.rehash(user, old, new))
    }
    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        ask!(self, store => store.set_password(user, seen, hash, at, trail))
    }
    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        ask!(self, store => store.set_disabled(user, disabled, at, trail))
    }
    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        ask!(self, store => store.remove_account(user, at, trail))
    }
    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        ask!(self, store => store.set_privileged(user, privileged, at, trail))
    }
    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        ask!(self, store => store.start_reset(user, reset, trail))
    }
    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        ask!(self, store => store.reset_of(hash, now))
    }
    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        ask!(self, store => store.finish_reset(hash, password_hash, at, trail))
    }
}

#[async_trait]
impl KeyStore for Following {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.look().await?;
        ask!(self, store => store.keys())
    }
    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        ask!(self, store => store.add_key(key.clone(), only_if_none))
    }
    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        ask!(self, store => store.update_keys(keys.clone()))
    }
    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        ask!(self, store => store.remove_key(id))
    }
}

#[async_trait]
impl ThrottleStore for Following {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        ask!(self, store => store.change_buckets(change.clone()))
    }
    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        ask!(self, store => store.purge_buckets(now, limit))
    }
}

#[async_trait]
impl EventStore for Following {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        ask!(self, store => store.append(records.clone()))
    }
    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        ask!(self, store => store.events_after(cursor, filter, limit))
    }
    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        ask!(self, store => store.events_before(before, filter, limit))
    }
    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        ask!(self, store => store.purge_events(before, limit))
    }
}

#[async_trait]
impl OutboxStore for Following {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        ask!(self, store => store.outbox_cursor(address))
    }
    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        ask!(self, store => store.enqueue(address, cursor, places, due))
    }
    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        ask!(self, store => store.claim(address, now, until, limit))
    }
    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        ask!(self, store => store.settle(address, place, again))
    }
}
