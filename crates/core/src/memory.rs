//! The reference implementation of the store traits: a few maps behind one lock. Nothing survives
//! the process.

mod transfer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::env::Timestamp;
use crate::error::StoreError;
use crate::event::{Entry, Filter, Record, Trail};
use crate::id::{SessionId, UserId};
use crate::keys::{KeyId, StoredKey};
use crate::limits::Opening;
use crate::password::PasswordHash;
use crate::policy::Policy;
use crate::reset::{Reset, ResetHash};
use crate::revocation::Ended;
use crate::session::{End, EndReason, Session};
use crate::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, StoreResult, ThrottleStore, ValidFrom, Write,
};
use crate::throttle::{Bucket, BucketKey, Change, Refused};
use crate::transfer::LEFT;

/// A store that lives as long as the process.
#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    policy: Policy,
}

#[derive(Default)]
struct Tables {
    sessions: BTreeMap<SessionId, Session>,
    valid_from: HashMap<UserId, ValidFrom>,
    /// By canonical username.
    accounts: BTreeMap<Box<str>, Account>,
    resets: HashMap<UserId, Reset>,
    keys: Vec<StoredKey>,
    buckets: HashMap<BucketKey, Bucket>,
    ended: BTreeMap<u64, Ended>,
    adopted: HashMap<SessionId, Timestamp>,
    last_end: u64,
    restored_at: Timestamp,
    events: BTreeMap<u64, Record>,
    last_event: u64,
    outbox: HashMap<Box<str>, Queue>,
    left: Option<Box<str>>,
}

/// What is to be sent to an address.
#[derive(Default)]
struct Queue {
    cursor: u64,
    /// By place, and when each is due.
    deliveries: BTreeMap<u64, (Timestamp, Delivery)>,
}

impl MemoryStore {
    /// An empty store. `policy` says when rows may be purged.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        MemoryStore {
            tables: Mutex::default(),
            policy,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To write to; a store that was left takes nothing.
    fn writable(&self) -> StoreResult<MutexGuard<'_, Tables>> {
        let tables = self.tables();
        match tables.left {
            Some(_) => Err(StoreError(LEFT.into())),
            None => Ok(tables),
        }
    }
}

impl Tables {
    fn end(&mut self, id: SessionId, at: Timestamp, reason: EndReason) -> bool {
        let Some(row) = self.sessions.get_mut(&id).filter(|row| row.ended.is_none()) else {
            return false;
        };
        row.ended = Some(End { at, reason });
        row.version += 1;
        self.last_end += 1;
        self.ended.insert(
            self.last_end,
            Ended {
                session: id,
                at,
                reason,
            },
        );
        true
    }

    fn end_user(
        &mut self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> Vec<SessionId> {
        let valid_from = self.valid_from.entry(user.clone()).or_default();
        valid_from.0 = at.0.max(valid_from.0 + 1);
        let theirs = self.sessions.values().filter(|row| row.user == *user);
        let mut ids: Vec<_> = theirs
            .map(|row| row.id)
            .filter(|id| Some(*id) != except)
            .collect();
        ids.retain(|id| self.end(*id, at, reason));
        self.append(trail.records(user, &ids));
        ids
    }

    /// The user's sessions that have not ended, oldest first.
    fn live(&self, user: &UserId) -> Vec<Session> {
        let theirs = self.sessions.values();
        theirs
            .filter(|row| row.user == *user && row.ended.is_none())
            .cloned()
            .collect()
    }

    /// Ends a session for another that opens; its row afterwards.
    fn end_for(
        &mut self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> Option<Session> {
        let took = self.end(id, at, reason);
        let row = self.sessions.get(&id).cloned()?;
        if took {
            let record = trail.ended(&row.user, id, End { at, reason });
            self.append(record.into_iter().collect());
        }
        Some(row)
    }

    /// Sets a password, which voids a reset and ends all sessions.
    fn set_password(
        &mut self,
        user: &UserId,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> Option<AllEnded> {
        let account = self.account_mut(user)?;
        account.password_hash = PasswordHash::from_phc(hash);
        self.resets.remove(user);
        let sessions = self.end_user(user, at, EndReason::PasswordChanged, None, trail);
        Some(AllEnded {
            sessions,
            valid_from: self.seen(user),
        })
    }

    fn reset_of(&self, hash: ResetHash, now: Timestamp) -> Option<UserId> {
        let mut resets = self.resets.iter();
        let found = resets.find(|(_, reset)| reset.hash == hash && now < reset.expires_at);
        found.map(|(user, _)| user.clone())
    }

    fn append(&mut self, records: Vec<Record>) {
        for record in records {
            self.last_event += 1;
            self.events.insert(self.last_event, record);
        }
    }

    /// Removes a row that is over; of one that ran out by itself, when and how.
    fn expire(&mut self, id: SessionId, trail: &Trail, policy: &Policy) -> Option<Record> {
        let row = self.sessions.remove(&id)?;
        let end = row.ran_out(policy);
        let unseen = row.ended.is_none();
        unseen.then(|| trail.ended(&row.user, id, end)).flatten()
    }

    fn seen(&self, user: &UserId) -> ValidFrom {
        self.valid_from.get(user).copied().unwrap_or_default()
    }

    fn with_seen(&self, account: &Account) -> Account {
        Account {
            valid_from: self.seen(&account.id),
            ..account.clone()
        }
    }

    fn add_account(&mut self, account: Account, trail: &Trail) -> Write {
        let fits = !self.accounts.contains_key(&account.username)
            && self.account_mut(&account.id).is_none();
        if fits {
            self.append(trail.records(&account.id, &[]));
            self.accounts.insert(account.username.clone(), account);
        }
        done(fits)
    }

    fn account_mut(&mut self, user: &UserId) -> Option<&mut Account> {
        self.accounts
            .values_mut()
            .find(|account| account.id == *user)
    }
}

fn done(holds: bool) -> Write {
    if holds { Write::Done } else { Write::Lost }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        let mut tables = self.writable()?;
        let Session { id, ref user, .. } = opening.session;
        if tables.seen(user) != opening.seen || tables.sessions.contains_key(&id) {
            return Ok(Opened::Lost);
        }
        let Some(ends) = opening.ends(&tables.live(user), &self.policy) else {
            return Ok(Opened::Full);
        };
        let at = opening.session.created_at;
        tables.append(trail.records(user, &[]));
        tables.sessions.insert(id, opening.session);
        let ends = ends.into_iter();
        let gone = ends.filter_map(|(id, reason)| tables.end_for(id, at, reason, trail));
        Ok(Opened::Done(gone.collect()))
    }

    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write> {
        let (mut tables, id) = (self.writable()?, session.id);
        let fits = tables.seen(&session.user) == seen
            && !tables.sessions.contains_key(&id)
            && !tables.adopted.contains_key(&id);
        if fits {
            tables.append(trail.records(&session.user, &[]));
            tables.sessions.insert(id, session);
            tables.adopted.insert(id, until);
        }
        Ok(done(fits))
    }

    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        Ok(self.tables().adopted.contains_key(&id))
    }

    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        Ok(self.tables().sessions.get(&id).cloned())
    }

    async fn swap(&self, session: Session) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        let row = tables.sessions.get_mut(&session.id);
        let row = row.filter(|row| row.ended.is_none() && row.version + 1 == session.version);
        Ok(done(row.map(|row| *row = session).is_some()))
    }

    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<Option<Session>> {
        let mut tables = self.writable()?;
        let took = tables.end(id, at, reason);
        let row = tables.sessions.get(&id).cloned();
        if let Some(row) = row.as_ref().filter(|_| took) {
            tables.append(trail.records(&row.user, &[id]));
        }
        Ok(row)
    }

    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        let mut tables = self.writable()?;
        tables.last_end += 1;
        let place = tables.last_end;
        tables.ended.insert(place, end);
        Ok(())
    }

    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> StoreResult<Vec<SessionId>> {
        Ok(self.writable()?.end_user(user, at, reason, except, trail))
    }

    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        Ok(self.tables().seen(user))
    }

    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        Ok(self.tables().live(user))
    }

    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>> {
        let tables = self.tables();
        let rows = tables.sessions.values();
        let rows =
            rows.filter(|row| after.is_none_or(|after| row.id > after) && row.ended.is_none());
        Ok(rows.take(limit as usize).cloned().collect())
    }

    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        let tables = self.tables();
        let entries = tables.ended.range(cursor + 1..).take(limit as usize);
        let entries: Vec<_> = entries.map(|(place, end)| (*place, *end)).collect();
        let last = entries.last().map_or(cursor, |(place, _)| *place);
        Ok((entries.into_iter().map(|(_, end)| end).collect(), last))
    }

    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let tables = self.tables();
        let theirs = tables.sessions.values().filter(|row| row.user == *user);
        Ok(theirs.cloned().collect())
    }

    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64> {
        let mut tables = self.writable()?;
        let ended = tables.end_user(user, at, reason, None, &Trail::default());
        let before = tables.sessions.len();
        tables.sessions.retain(|_, row| row.user != *user);
        let theirs = |record: &Record| record.event.user.as_ref() == Some(user);
        tables.events.retain(|_, record| !theirs(record));
        tables.append(trail.records(user, &ended));
        Ok((before - tables.sessions.len()) as u64)
    }

    async fn restored_at(&self) -> StoreResult<Timestamp> {
        Ok(self.tables().restored_at)
    }

    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        let mut tables = self.writable()?;
        if at > tables.restored_at {
            tables.restored_at = at;
            tables.append(trail.once.iter().cloned().collect());
        }
        Ok(())
    }

    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        let mut tables = self.writable()?;
        tables.ended.retain(|_, end| end.at >= log_before);
        tables.adopted.retain(|_, until| *until >= now);
        let over = tables
            .sessions
            .values()
            .filter(|row| row.expires_at(&self.policy) < now);
        let ids: Vec<_> = over.take(limit as usize).map(|row| row.id).collect();
        for id in &ids {
            let ran_out = tables.expire(*id, trail, &self.policy);
            tables.append(ran_out.into_iter().collect());
        }
        Ok(u32::try_from(ids.len()).unwrap_or(limit))
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn add_account(&self, account: Account, trail: &Trail) -> StoreResult<Write> {
        Ok(self.writable()?.add_account(account, trail))
    }

    async fn add_accounts(&self, accounts: Vec<(Account, Trail)>) -> StoreResult<Vec<Write>> {
        let mut tables = self.writable()?;
        let added = accounts.into_iter();
        Ok(added
            .map(|(account, trail)| tables.add_account(account, &trail))
            .collect())
    }

    async fn account(&self, username: &str) -> StoreResult<Option<Account>> {
        let tables = self.tables();
        Ok(tables
            .accounts
            .get(username)
            .map(|account| tables.with_seen(account)))
    }

    async fn account_of(&self, user: &UserId) -> StoreResult<Option<Account>> {
        let tables = self.tables();
        let account = tables.accounts.values().find(|account| account.id == *user);
        Ok(account.map(|account| tables.with_seen(account)))
    }

    async fn accounts(&self, after: Option<&str>, limit: u32) -> StoreResult<Vec<Account>> {
        let tables = self.tables();
        let rows = tables.accounts.values();
        let rows = rows.filter(|account| after.is_none_or(|after| &*account.username > after));
        Ok(rows
            .take(limit as usize)
            .map(|account| tables.with_seen(account))
            .collect())
    }

    async fn rehash(&self, user: &UserId, old: &str, new: &str) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        let account = tables.account_mut(user);
        let account = account.filter(|account| account.password_hash.as_str() == old);
        Ok(done(
            account
                .map(|account| account.password_hash = PasswordHash::from_phc(new))
                .is_some(),
        ))
    }

    async fn set_password(
        &self,
        user: &UserId,
        seen: Option<ValidFrom>,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let mut tables = self.writable()?;
        if seen.is_some_and(|seen| tables.seen(user) != seen) {
            return Ok(None);
        }
        Ok(tables.set_password(user, hash, at, trail))
    }

    async fn set_disabled(
        &self,
        user: &UserId,
        disabled: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let mut tables = self.writable()?;
        let Some(account) = tables.account_mut(user) else {
            return Ok(None);
        };
        account.disabled = disabled;
        if disabled {
            tables.resets.remove(user);
            return Ok(Some(tables.end_user(
                user,
                at,
                EndReason::Disabled,
                None,
                trail,
            )));
        }
        tables.append(trail.records(user, &[]));
        Ok(Some(Vec::new()))
    }

    async fn remove_account(
        &self,
        user: &UserId,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let mut tables = self.writable()?;
        let before = tables.accounts.len();
        tables.accounts.retain(|_, account| account.id != *user);
        let removed = tables.accounts.len() < before;
        tables.resets.remove(user);
        Ok(removed.then(|| tables.end_user(user, at, EndReason::Disabled, None, trail)))
    }

    async fn set_privileged(
        &self,
        user: &UserId,
        privileged: bool,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<Vec<SessionId>>> {
        let mut tables = self.writable()?;
        let Some(account) = tables.account_mut(user) else {
            return Ok(None);
        };
        account.privileged = privileged;
        Ok(Some(tables.end_user(
            user,
            at,
            EndReason::EndedByOperator,
            None,
            trail,
        )))
    }

    async fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        let enabled = tables.account_mut(user).is_some_and(|it| !it.disabled);
        if enabled {
            tables.resets.insert(user.clone(), reset);
            tables.append(trail.records(user, &[]));
        }
        Ok(done(enabled))
    }

    async fn reset_of(&self, hash: ResetHash, now: Timestamp) -> StoreResult<Option<Account>> {
        let mut tables = self.tables();
        let user = tables.reset_of(hash, now);
        let account = user.and_then(|user| tables.account_mut(&user).cloned());
        Ok(account.map(|account| tables.with_seen(&account)))
    }

    async fn finish_reset(
        &self,
        hash: ResetHash,
        password_hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Option<AllEnded>> {
        let mut tables = self.writable()?;
        let user = tables.reset_of(hash, at);
        Ok(user.and_then(|user| tables.set_password(&user, password_hash, at, trail)))
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        Ok(self.tables().keys.clone())
    }

    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        let clash =
            |old: &StoredKey| old.id == key.id || only_if_none && old.purpose == key.purpose;
        let fits = !tables.keys.iter().any(clash);
        if fits {
            tables.keys.push(key);
        }
        Ok(done(fits))
    }

    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        let mut updated = tables.keys.clone();
        let all = keys.into_iter().all(|key| {
            let old = updated.iter_mut().find(|old| old.id == key.id);
            let old = old.filter(|old| !old.retired);
            old.map(|old| *old = key).is_some()
        });
        if all {
            tables.keys = updated;
        }
        Ok(done(all))
    }

    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        let before = tables.keys.len();
        tables.keys.retain(|key| key.id != id);
        Ok(done(tables.keys.len() < before))
    }
}

#[async_trait]
impl ThrottleStore for MemoryStore {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        let mut tables = self.writable()?;
        let of = |(key, _): &(BucketKey, _)| tables.buckets.get(key).copied().unwrap_or_default();
        let before: Vec<_> = change.buckets.iter().map(of).collect();
        let after = change.apply(&before);
        Ok(after.map(|after| {
            let keys = change.buckets.iter().map(|(key, _)| *key);
            tables.buckets.extend(keys.zip(after));
        }))
    }

    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        let mut tables = self.writable()?;
        let idle = tables
            .buckets
            .iter()
            .filter(|(_, bucket)| bucket.idle_at() < now);
        let idle: Vec<_> = idle.map(|(key, _)| *key).take(limit as usize).collect();
        for key in &idle {
            tables.buckets.remove(key);
        }
        Ok(u32::try_from(idle.len()).unwrap_or(limit))
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        self.writable()?.append(records);
        Ok(())
    }

    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        let tables = self.tables();
        let after = tables.events.range(cursor + 1..);
        let wanted = after.filter(|(_, record)| filter.takes(record));
        let entries: Vec<_> = wanted.take(limit as usize).map(entry).collect();
        let is_all = entries.len() < limit as usize;
        let seen = entries.last().map_or(cursor, |entry| entry.place);
        let last = cursor.max(tables.last_event);
        Ok((entries, if is_all { last } else { seen }))
    }

    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        let tables = self.tables();
        let earlier = tables.events.range(..before.unwrap_or(u64::MAX)).rev();
        let wanted = earlier.filter(|(_, record)| filter.takes(record));
        Ok(wanted.take(limit as usize).map(entry).collect())
    }

    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        let mut tables = self.writable()?;
        let old = tables.events.iter();
        let old = old.filter(|(_, record)| record.at < before);
        let old: Vec<_> = old.take(limit as usize).map(|(place, _)| *place).collect();
        for place in &old {
            tables.events.remove(place);
        }
        Ok(u32::try_from(old.len()).unwrap_or(limit))
    }
}

fn entry((place, record): (&u64, &Record)) -> Entry {
    Entry {
        place: *place,
        record: record.clone(),
    }
}

#[async_trait]
impl OutboxStore for MemoryStore {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        Ok(self.tables().outbox.get(address).map(|queue| queue.cursor))
    }

    async fn enqueue(
        &self,
        address: &str,
        (from, to): (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        let mut tables = self.writable()?;
        if tables.outbox.get(address).map(|queue| queue.cursor) != from {
            return Ok(Write::Lost);
        }
        let queue = tables.outbox.entry(address.into()).or_default();
        queue.cursor = to;
        let delivery = |place| Delivery { place, attempts: 0 };
        let added = places.iter().map(|place| (*place, (due, delivery(*place))));
        queue.deliveries.extend(added);
        Ok(Write::Done)
    }

    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        let mut tables = self.writable()?;
        let Some(queue) = tables.outbox.get_mut(address) else {
            return Ok(Vec::new());
        };
        let mut due: Vec<_> = queue.deliveries.values_mut().collect();
        due.retain(|(due, _)| *due <= now);
        due.sort_by_key(|(due, delivery)| (*due, delivery.place));
        due.truncate(limit as usize);
        let claim = |(due, delivery): &mut (Timestamp, Delivery)| {
            *due = until;
            *delivery
        };
        Ok(due.into_iter().map(claim).collect())
    }

    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        let mut tables = self.writable()?;
        let Some(queue) = tables.outbox.get_mut(address) else {
            return Ok(());
        };
        match (again, queue.deliveries.get_mut(&place)) {
            (Some((attempts, due)), Some(kept)) => *kept = (due, Delivery { place, attempts }),
            (None, _) => drop(queue.deliveries.remove(&place)),
            (Some(_), None) => {}
        }
        Ok(())
    }
}
