//! A store whose every call takes time and may fail before its effect or after it, whose loads may
//! hang, and which forgets unflushed writes in a crash. Ends are durable.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use doorward_core::error::StoreError;
use doorward_core::event::{Entry, Filter, Record, Trail};
use doorward_core::keys::{KeyId, StoredKey};
use doorward_core::limits::Opening;
use doorward_core::memory::MemoryStore;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::revocation::Ended;
use doorward_core::session::{End, EndReason, Session};
use doorward_core::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, StoreResult, ThrottleStore, ValidFrom, Write,
};
use doorward_core::throttle::{Change, Refused};
use doorward_core::{Policy, SessionId, Timestamp, UserId};

use crate::world::World;

#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Milliseconds to the effect of a call at most, and again from there to its reply.
    pub(crate) slow: i64,
    /// Percent of calls that fail before their effect, and after it.
    pub(crate) fail: u64,
    pub(crate) lose_reply: u64,
    /// Percent of loads whose reply takes up to a minute more.
    pub(crate) hang: u64,
    /// The call to fail, counted from 0, and whether it takes effect.
    pub(crate) nth: Option<(u64, bool)>,
}

pub(crate) struct SimStore {
    pub(crate) world: Arc<World>,
    /// Keys, accounts and buckets, which the rules do not touch.
    others: MemoryStore,
    policy: Policy,
    pub(crate) rows: Mutex<Rows>,
    pub(crate) faults: Mutex<Faults>,
}

#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) rows: HashMap<SessionId, Session>,
    flushed: HashMap<SessionId, Session>,
    valid_from: HashMap<UserId, ValidFrom>,
    /// The log of ends; `None` where it was purged.
    log: Vec<Option<Ended>>,
    pub(crate) calls: u64,
    pub(crate) swaps: u64,
    pub(crate) crashes: u64,
}

impl SimStore {
    pub(crate) fn new(world: &Arc<World>, policy: &Policy) -> SimStore {
        SimStore {
            world: Arc::clone(world),
            others: MemoryStore::new(policy.clone()),
            policy: policy.clone(),
            rows: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    /// One call: time passes, it may fail, the effect happens at one moment, time passes, the reply
    /// may be lost.
    async fn call<T>(&self, effect: impl FnOnce(&mut Rows) -> T + Send) -> StoreResult<T> {
        let faults = *self.faults.lock().unwrap();
        let call = {
            let mut rows = self.rows.lock().unwrap();
            rows.calls += 1;
            rows.calls - 1
        };
        let failed = || StoreError("simulated".into());
        if faults.slow > 0 {
            self.world.sleep(self.world.up_to(faults.slow)).await;
        }
        if self.world.happens(faults.fail) || faults.nth == Some((call, false)) {
            return Err(failed());
        }
        let value = effect(&mut self.rows.lock().unwrap());
        if faults.slow > 0 {
            self.world.sleep(self.world.up_to(faults.slow)).await;
        }
        if self.world.happens(faults.lose_reply) || faults.nth == Some((call, true)) {
            return Err(failed());
        }
        Ok(value)
    }

    pub(crate) fn flush(&self) {
        let mut rows = self.rows.lock().unwrap();
        rows.flushed = rows.rows.clone();
    }

    /// Forgets what was not flushed. What ended stays ended.
    pub(crate) fn crash(&self) {
        let mut rows = self.rows.lock().unwrap();
        rows.rows = rows.flushed.clone();
        rows.crashes += 1;
    }
}

impl Rows {
    fn end(&mut self, id: SessionId, at: Timestamp, reason: EndReason) -> Option<Session> {
        let row = self.rows.get_mut(&id)?;
        if row.ended.is_none() {
            row.ended = Some(End { at, reason });
            row.version += 1;
            self.flushed.insert(id, row.clone());
            self.log.push(Some(Ended {
                session: id,
                at,
                reason,
            }));
        }
        Some(row.clone())
    }
}

fn done(holds: bool) -> Write {
    if holds { Write::Done } else { Write::Lost }
}

#[async_trait]
impl SessionStore for SimStore {
    /// Without a cap and without a session to replace, which no run here has.
    async fn open(&self, opening: Opening, _: &Trail) -> StoreResult<Opened> {
        let Opening { session, seen, .. } = opening;
        self.call(move |rows| {
            let now = rows
                .valid_from
                .get(&session.user)
                .copied()
                .unwrap_or_default();
            let fits = now == seen && !rows.rows.contains_key(&session.id);
            if !fits {
                return Opened::Lost;
            }
            rows.rows.insert(session.id, session);
            Opened::Done(Vec::new())
        })
        .await
    }

    async fn adopt(&self, _: Session, _: ValidFrom, _: Timestamp, _: &Trail) -> StoreResult<Write> {
        Err(StoreError("nothing is adopted here".into()))
    }

    async fn was_adopted(&self, _: SessionId) -> StoreResult<bool> {
        Ok(false)
    }

    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        let row = self.call(move |rows| rows.rows.get(&id).cloned()).await;
        let hang = self.faults.lock().unwrap().hang;
        if self.world.happens(hang) {
            self.world.sleep(self.world.up_to(60_000)).await;
        }
        row
    }

    async fn swap(&self, session: Session) -> StoreResult<Write> {
        self.call(move |rows| {
            rows.swaps += 1;
            let row = rows.rows.get_mut(&session.id);
            let row = row.filter(|row| row.ended.is_none() && row.version + 1 == session.version);
            done(row.map(|row| *row = session).is_some())
        })
        .await
    }

    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        _: &Trail,
    ) -> StoreResult<Option<Session>> {
        self.call(move |rows| rows.end(id, at, reason)).await
    }

    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        self.call(move |rows| rows.log.push(Some(end))).await
    }

    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        _: &Trail,
    ) -> StoreResult<Vec<SessionId>> {
        let user = user.clone();
        self.call(move |rows| {
            let valid_from = rows.valid_from.entry(user.clone()).or_default();
            valid_from.0 = at.0.max(valid_from.0 + 1);
            let theirs = rows
                .rows
                .values()
                .filter(|row| row.user == user && row.ended.is_none());
            let ids: Vec<_> = theirs
                .map(|row| row.id)
                .filter(|id| Some(*id) != except)
                .collect();
            for id in &ids {
                rows.end(*id, at, reason);
            }
            ids
        })
        .await
    }

    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        let user = user.clone();
        self.call(move |rows| rows.valid_from.get(&user).copied().unwrap_or_default())
            .await
    }

    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let user = user.clone();
        self.call(move |rows| {
            rows.rows
                .values()
                .filter(|row| row.user == user && row.ended.is_none())
                .cloned()
                .collect()
        })
        .await
    }

    async fn sessions(&self, _: Option<SessionId>, _: u32) -> StoreResult<Vec<Session>> {
        self.call(|rows| rows.rows.values().cloned().collect())
            .await
    }

    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.call(move |rows| {
            let new = rows.log.iter().skip(cursor as usize).take(limit as usize);
            let new: Vec<_> = new.copied().collect();
            let next = cursor + new.len() as u64;
            (new.into_iter().flatten().collect(), next)
        })
        .await
    }

    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        self.sessions_of(user).await
    }

    async fn erase(&self, _: &UserId, _: Timestamp, _: EndReason, _: &Trail) -> StoreResult<u64> {
        unreachable!("nobody is erased here")
    }

    async fn restored_at(&self) -> StoreResult<Timestamp> {
        self.others.restored_at().await
    }
    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        self.others.set_restored(at, trail).await
    }
    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        _: u32,
        _: &Trail,
    ) -> StoreResult<u32> {
        self.call(|rows| {
            let keep = |row: &Session| row.expires_at(&self.policy) >= now;
            rows.rows.retain(|_, row| keep(row));
            rows.flushed.retain(|_, row| keep(row));
            for entry in &mut rows.log {
                *entry = entry.filter(|end| end.at >= log_before);
            }
            0
        })
        .await
    }
}

#[async_trait]
impl AccountStore for SimStore {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        self.others.add_account(account, trail).await
    }
    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        self.others.add_accounts(accounts).await
    }
    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        self.others.account(username).await
    }
    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        self.others.account_of(user).await
    }
    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        self.others.accounts(after, limit).await
    }
    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        self.others.rehash(user, old, new).await
    }
    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        self.others.set_password(user, seen, hash, at, trail).await
    }
    async fn set_disabled(
        &self,
        user: &UserId,
        off: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.others.set_disabled(user, off, at, trail).await
    }
    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.others.remove_account(user, at, trail).await
    }
    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        self.others
            .set_privileged(user, privileged, at, trail)
            .await
    }
    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        self.others.start_reset(user, reset, trail).await
    }
    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        self.others.reset_of(hash, now).await
    }
    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        self.others
            .finish_reset(hash, password_hash, at, trail)
            .await
    }
}

#[async_trait]
impl KeyStore for SimStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.call(|_| ()).await?;
        self.others.keys().await
    }
    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        self.others.add_key(key, only_if_none).await
    }
    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        self.others.update_keys(keys).await
    }
    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        self.others.remove_key(id).await
    }
}

#[async_trait]
impl ThrottleStore for SimStore {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        self.others.change_buckets(change).await
    }
    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        self.others.purge_buckets(now, limit).await
    }
}

#[async_trait]
impl EventStore for SimStore {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        self.others.append(records).await
    }
    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        self.others.events_after(cursor, filter, limit).await
    }
    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        self.others.events_before(before, filter, limit).await
    }
    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        self.others.purge_events(before, limit).await
    }
}

#[async_trait]
impl OutboxStore for SimStore {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        self.others.outbox_cursor(address).await
    }
    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        self.others.enqueue(address, cursor, places, due).await
    }
    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        self.others.claim(address, now, until, limit).await
    }
    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        self.others.settle(address, place, again).await
    }
}
