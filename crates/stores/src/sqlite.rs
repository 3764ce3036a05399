//! Embedded SQLite: the default store. One file, which several processes may share.
//!
//! Guarantees: every write is on disk before it is acknowledged (WAL, `synchronous = FULL`); all
//! waiting writes share one transaction; readers go on beside the writer. The file is 0600. Swaps go
//! into a log, which is folded into the rows later: see `rotations.rs`.
//!
//! Reads run on the caller's thread: with the page in memory they take microseconds, less than a
//! change of threads would.

mod buckets;
mod events;
mod open;
mod outbox;
mod readers;
mod rotations;
mod rows;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::error::StoreError;
use doorward_core::event::{Entry, Filter, Record, Trail};
use doorward_core::id::{SessionId, UserId};
use doorward_core::keys::{KeyId, StoredKey};
use doorward_core::limits::Opening;
use doorward_core::policy::Policy;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::revocation::{Ended, Feed, Lapped};
use doorward_core::session::{End, EndReason, Session};
use doorward_core::store::{
    Account, AccountStore, AllEnded, Delivery, EventStore, KeyStore, Opened, OutboxStore,
    SessionStore, StoreResult, ThrottleStore, ValidFrom, Write,
};
use doorward_core::throttle::{Change, Refused};
use rusqlite::{Connection, OptionalExtension, params};

pub use self::open::OpenError;
use self::open::{File, beside};
use self::readers::Readers;
use self::rotations::Log;
use self::rows::Over;
use self::writer::{Group, Writer};
use crate::ring::Ring;

/// Expired rows that go in one write: a few milliseconds at the most.
const PURGED_AT_ONCE: usize = 50;

const ACCOUNT: &str =
    "SELECT id, username, password_hash, disabled, created_at, privileged FROM accounts ";

/// A store in one SQLite file.
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    log: Arc<Log>,
    ring: Option<Arc<Ring>>,
    no_ring: Option<String>,
    policy: Policy,
    /// Where [`SessionStore::purge`] goes on looking.
    swept: Mutex<[u8; 16]>,
}

impl SqliteStore {
    /// Opens the file, making it where there is none. `policy` says when rows may be purged.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn open(path: impl AsRef<Path>, policy: Policy) -> Result<Self, OpenError> {
        let (file, connections) = File::prepare(path.as_ref())?;
        let (ring, no_ring) = match Ring::open(&beside(file.path(), "-ring")) {
            Ok(ring) => (Some(Arc::new(ring)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (file, log) = (Arc::new(file), Arc::new(Log::default()));
        let writer = Writer::start(
            connections,
            Arc::clone(&file),
            Arc::clone(&log),
            ring.clone(),
        );
        let writer = writer.map_err(|source| OpenError::File {
            path: file.path().into(),
            source,
        })?;
        let readers = Arc::new(Readers::new(file));
        Ok(SqliteStore {
            writer,
            readers,
            log,
            ring,
            no_ring,
            policy,
            swept: Mutex::default(),
        })
    }

    /// For hosts whose threads may wait for the disk: who finds nobody writing commits in its own
    /// thread, which spares a lone client the waking of two.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.writer.in_place();
        self
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        self.readers.read(read)
    }

    /// Reads rows of sessions, and the log for what is newer than they are.
    fn read_sessions<T>(
        &self,
        read: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        self.read(|db| self.log.read(db, read))
    }

    fn swept(&self) -> MutexGuard<'_, [u8; 16]> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(
        &self,
        write: impl Fn(&mut Group<'_>) -> rusqlite::Result<bool> + Send + 'static,
    ) -> StoreResult<Write> {
        Ok(took(self.writer.run(write).await?))
    }
}

fn took(effect: bool) -> Write {
    if effect { Write::Done } else { Write::Lost }
}

fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError(error.to_string())
}

/// The mapped ring, with the file's log behind it.
struct RingFeed {
    ring: Arc<Ring>,
    readers: Arc<Readers>,
}

impl Feed for RingFeed {
    fn head(&self) -> u64 {
        self.ring.head()
    }

    fn read(&self, from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        self.ring.read(from, entry)
    }

    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError> {
        const PAGE: u32 = 10_000;
        let head = self.ring.head();
        let mut cursor = 0;
        loop {
            let (ends, next) = self.readers.read(|db| log_after(db, cursor, PAGE))?;
            if ends.is_empty() {
                return Ok(head);
            }
            ends.into_iter().for_each(&mut *entry);
            cursor = next;
        }
    }
}

fn log_after(db: &Connection, cursor: u64, limit: u32) -> rusqlite::Result<(Vec<Ended>, u64)> {
    let mut log = db.prepare_cached(
        "SELECT seq, session, at, why FROM ended WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = log.query(params![cursor.cast_signed(), limit])?;
    let (mut ends, mut last) = (Vec::new(), cursor);
    while let Some(row) = rows.next()? {
        last = row.get::<_, i64>(0)?.cast_unsigned();
        ends.push(rows::ended(row.get(1)?, row.get(2)?, row.get(3)?)?);
    }
    Ok((ends, last))
}

fn live_ids(db: &Connection, user: &UserId) -> rusqlite::Result<Vec<SessionId>> {
    db.prepare_cached(
        "SELECT id FROM sessions WHERE user_hash = ?1 AND user = ?2 AND ended_at IS NULL",
    )?
    .query_map(params![rows::user_hash(user), user.as_str()], |row| {
        Ok(SessionId(row.get(0)?))
    })?
    .collect()
}

impl Group<'_> {
    fn end(&mut self, end: Ended) -> rusqlite::Result<bool> {
        self.rotations.settle(self.tx, end.session)?;
        let took = rows::end_session(self.tx, end)?;
        if took {
            self.ended.push(end);
        }
        Ok(took)
    }

    /// Adds a session, and ends those that end for it.
    fn open(
        &mut self,
        opening: &Opening,
        policy: &Policy,
        trail: &Trail,
    ) -> rusqlite::Result<Opened> {
        let session = &opening.session;
        if rows::valid_from(self.tx, &session.user)? != opening.seen {
            return Ok(Opened::Lost);
        }
        let theirs = match opening.cap {
            Some(_) => self.live(&session.user)?,
            None => Vec::new(),
        };
        let Some(ends) = opening.ends(&theirs, policy) else {
            return Ok(Opened::Full);
        };
        if !rows::insert(self.tx, session)? {
            return Ok(Opened::Lost);
        }
        self.leave(&trail.records(&session.user, &[]))?;
        let (mut gone, at) = (Vec::new(), session.created_at);
        for (session, reason) in ends {
            let end = Ended {
                session,
                at,
                reason,
            };
            let told = |row: &Session| trail.ended(&row.user, session, End { at, reason });
            gone.extend(self.end_and_load(end, |row| told(row).into_iter().collect())?);
        }
        Ok(Opened::Done(gone))
    }

    /// The user's sessions that have not ended, as they are in this transaction.
    fn live(&self, user: &UserId) -> rusqlite::Result<Vec<Session>> {
        self.tx
            .prepare_cached(rows::OF_USER)?
            .query_map(params![rows::user_hash(user), user.as_str()], |row| {
                Ok(self.rotations.onto(rows::session(self.tx, row)?))
            })?
            .collect()
    }

    /// Sets a password, which voids a reset and ends all sessions. `None`: no account.
    fn set_password(
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

    fn void_reset(&self, user: &UserId) -> rusqlite::Result<()> {
        let sql = "DELETE FROM resets WHERE user = ?1";
        self.account(sql, params![user.as_str()]).map(drop)
    }

    /// Keeps a reset in place of the one before.
    fn start_reset(&self, user: &UserId, reset: Reset, trail: &Trail) -> rusqlite::Result<bool> {
        self.void_reset(user)?;
        let sql =
            "INSERT INTO resets SELECT ?1, id, ?3 FROM accounts WHERE id = ?2 AND NOT disabled";
        let values = params![reset.hash.0, user.as_str(), reset.expires_at.0];
        let started = self.account(sql, values)?;
        if started {
            self.leave(&trail.records(user, &[]))?;
        }
        Ok(started)
    }

    /// Ends a session if it has not ended, which leaves these records; its row afterwards.
    fn end_and_load(
        &mut self,
        end: Ended,
        records: impl Fn(&Session) -> Vec<Record>,
    ) -> rusqlite::Result<Option<Session>> {
        let took = self.end(end)?;
        let row = rows::load(self.tx, end.session)?;
        if let (true, Some(row)) = (took, &row) {
            self.leave(&records(row))?;
        }
        if let (false, Some(End { at, reason })) = (took, row.as_ref().and_then(|row| row.ended)) {
            // Who ended it may not have lived to tell the other processes.
            self.ended.push(Ended { at, reason, ..end });
        }
        Ok(row)
    }

    /// Ends a user's sessions, and moves `valid_from`.
    fn end_user(
        &mut self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> rusqlite::Result<Vec<SessionId>> {
        self.tx
            .prepare_cached(
                "INSERT INTO valid_from VALUES (?1, max(?2, 1)) \
                 ON CONFLICT (user) DO UPDATE SET at = max(excluded.at, at + 1)",
            )?
            .execute(params![user.as_str(), at.0])?;
        let mut ids = live_ids(self.tx, user)?;
        ids.retain(|id| Some(*id) != except);
        for session in &ids {
            self.end(Ended {
                session: *session,
                at,
                reason,
            })?;
        }
        self.leave(&trail.records(user, &ids))?;
        Ok(ids)
    }

    fn add_account(&self, account: &Account, trail: &Trail) -> rusqlite::Result<bool> {
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

    /// Appends to the log of events.
    fn leave(&self, records: &[Record]) -> rusqlite::Result<()> {
        events::append(self.tx, records)
    }

    /// Removes all of a user's sessions, ended ones too, and the user's events; returns how many
    /// sessions. What is removed is overwritten, in the file if not in its write-ahead log.
    fn erase(
        &mut self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> rusqlite::Result<u64> {
        let ended = self.end_user(user, at, reason, None, &Trail::default())?;
        self.tx.pragma_update(None, "secure_delete", "on")?;
        let removed = rows::erase(self.tx, user).and_then(|removed| {
            events::erase(self.tx, user)?;
            Ok(removed)
        });
        self.tx.pragma_update(None, "secure_delete", "off")?;
        self.leave(&trail.records(user, &ended))?;
        removed
    }

    /// Removes a row that is over, and tells of one that ran out by itself.
    fn purge(
        &self,
        id: SessionId,
        over: &Over,
        policy: &Policy,
        trail: &Trail,
    ) -> rusqlite::Result<()> {
        let row = rows::load(self.tx, id)?;
        let ran_out = row.filter(|row| row.ended.is_none()).and_then(|row| {
            let end = row.ran_out(policy);
            trail.ended(&row.user, id, end)
        });
        if rows::purge(self.tx, id, over)? {
            self.leave(ran_out.as_slice())?;
        }
        Ok(())
    }

    /// Changes one account by a statement whose first parameter is its id.
    fn account(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<bool> {
        Ok(self.tx.prepare_cached(sql)?.execute(values)? == 1)
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        let (policy, trail) = (self.policy.clone(), trail.clone());
        self.writer
            .run(move |group| group.open(&opening, &policy, &trail))
            .await
    }

    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write> {
        let trail = trail.clone();
        self.write(move |group| {
            // Before the row, without which nothing is remembered: a lost write changes nothing.
            let adopted = rows::valid_from(group.tx, &session.user)? == seen
                && !rows::was_adopted(group.tx, session.id)?
                && rows::insert(group.tx, &session)?
                && rows::remember_adopted(group.tx, session.id, until)?;
            if adopted {
                group.leave(&trail.records(&session.user, &[]))?;
            }
            Ok(adopted)
        })
        .await
    }

    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        self.read(|db| rows::was_adopted(db, id))
    }

    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        self.read_sessions(|db| Ok(rows::load(db, id)?.map(|row| self.log.onto(row))))
    }

    async fn swap(&self, session: Session) -> StoreResult<Write> {
        self.write(move |group| group.rotations.swap(group.tx, &session))
            .await
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
        self.writer
            .run(move |group| group.end_and_load(end, |row| trail.records(&row.user, &[id])))
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
        self.writer
            .run(move |group| group.end_user(&user, at, reason, except, &trail))
            .await
    }

    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        self.read(|db| rows::valid_from(db, user))
    }

    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        self.read_sessions(|db| {
            db.prepare_cached(rows::OF_USER)?
                .query_map(params![rows::user_hash(user), user.as_str()], |row| {
                    Ok(self.log.onto(rows::session(db, row)?))
                })?
                .collect()
        })
    }

    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>> {
        self.read_sessions(|db| {
            let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
            db.prepare_cached(rows::AFTER)?
                .query_map(params![after, limit], |row| {
                    Ok(self.log.onto(rows::session(db, row)?))
                })?
                .collect()
        })
    }

    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.read(|db| {
            self.readers.file.check()?;
            log_after(db, cursor, limit)
        })
    }

    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        self.read_sessions(|db| {
            db.prepare_cached(rows::KEPT_OF_USER)?
                .query_map(params![rows::user_hash(user), user.as_str()], |row| {
                    Ok(self.log.onto(rows::session(db, row)?))
                })?
                .collect()
        })
    }

    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64> {
        let (user, trail) = (user.clone(), trail.clone());
        self.writer
            .run(move |group| group.erase(&user, at, reason, &trail))
            .await
    }

    /// Looks at `limit` rows a call, going round in order of id, so that no index on expiry is
    /// needed; `limit` is returned while there is more to look at in this round.
    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        let from = *self.swept();
        let over = Over::at(now, &self.policy);
        let looked = self.read_sessions(|db| rows::look(db, from, limit, &over))?;
        let log_is_old = self.read(|db| rows::log_is_old(db, log_before))?;
        if self.read(|db| rows::adopted_is_old(db, now))? {
            let old = move |group: &mut Group<'_>| rows::purge_adopted(group.tx, now, limit);
            self.writer.run(old).await?;
        }
        // What was refreshed since is not as old as its row says.
        let gone: Vec<_> = looked
            .over
            .into_iter()
            .filter(|id| !self.log.has(*id))
            .collect();
        // A second without anything to remove is one without a write.
        if log_is_old {
            let old = move |group: &mut Group<'_>| rows::purge_log(group.tx, log_before, limit);
            self.writer.run(old).await?;
        }
        for some in gone.chunks(PURGED_AT_ONCE) {
            let (some, over) = (some.to_vec(), over.clone());
            let (policy, trail) = (self.policy.clone(), trail.clone());
            let purge = move |group: &mut Group<'_>| {
                some.iter()
                    .try_for_each(|id| group.purge(*id, &over, &policy, &trail))
            };
            self.writer.run(purge).await?;
        }
        *self.swept() = if looked.count < limit {
            [0; 16]
        } else {
            looked.last
        };
        Ok(looked.count)
    }

    fn slow_to_spread(&self) -> Option<String> {
        self.no_ring.clone().or_else(|| self.writer.mute())
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        let ring = self.ring.clone()?;
        Some(Arc::new(RingFeed {
            ring,
            readers: Arc::clone(&self.readers),
        }))
    }
}

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

#[async_trait]
impl KeyStore for SqliteStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT id, purpose, algorithm, secret, created_at, signs_from, retired, verifies_until, \
                 scopes FROM keys ORDER BY number",
            )?
            .query_map([], rows::key)?
            .collect()
        })
    }

    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        self.write(move |group| {
            let purpose = rows::purpose(key.purpose);
            let sql = "INSERT INTO keys (id, purpose, algorithm, secret, created_at, signs_from, \
                retired, verifies_until, scopes) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9, ?10 WHERE NOT ?8 \
                OR NOT EXISTS (SELECT 1 FROM keys WHERE purpose = ?2) ON CONFLICT DO NOTHING";
            let added = group.tx.prepare_cached(sql)?.execute(params![
                key.id.0.cast_signed(),
                purpose,
                key.algorithm,
                key.secret,
                key.created_at.0,
                key.signs_from.0,
                key.retired,
                only_if_none,
                key.verifies_until.0,
                key.scopes
            ])?;
            Ok(added == 1)
        })
        .await
    }

    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        self.write(move |group| {
            let sql = "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1 AND retired = 0)";
            for key in &keys {
                let mut live = group.tx.prepare_cached(sql)?;
                if !live.query_row([key.id.0.cast_signed()], |row| row.get(0))? {
                    return Ok(false);
                }
            }
            let sql = "UPDATE keys SET purpose = ?2, algorithm = ?3, secret = ?4, created_at = ?5, \
                signs_from = ?6, retired = ?7, verifies_until = ?8, scopes = ?9 WHERE id = ?1";
            for key in &keys {
                group.tx.prepare_cached(sql)?.execute(params![
                    key.id.0.cast_signed(),
                    rows::purpose(key.purpose),
                    key.algorithm,
                    key.secret,
                    key.created_at.0,
                    key.signs_from.0,
                    key.retired,
                    key.verifies_until.0,
                    key.scopes
                ])?;
            }
            Ok(true)
        })
        .await
    }

    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        self.write(move |group| {
            let sql = "DELETE FROM keys WHERE id = ?1";
            Ok(group
                .tx
                .prepare_cached(sql)?
                .execute([id.0.cast_signed()])?
                == 1)
        })
        .await
    }
}

#[async_trait]
impl ThrottleStore for SqliteStore {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        let changed = self
            .writer
            .run(move |group| buckets::change(group.tx, &change));
        changed.await
    }

    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        if !self.read(|db| buckets::any_idle(db, now))? {
            return Ok(0);
        }
        let purge = move |group: &mut Group<'_>| buckets::purge(group.tx, now, limit);
        let gone = self.writer.run(purge).await?;
        Ok(u32::try_from(gone).unwrap_or(limit))
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        self.writer.run(move |group| group.leave(&records)).await
    }

    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        self.read(|db| events::after(db, cursor, filter, limit))
    }

    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        self.read(|db| events::before(db, before, filter, limit))
    }

    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        // A second without anything to remove is one without a write.
        if !self.read(|db| events::any_before(db, before))? {
            return Ok(0);
        }
        self.writer
            .run(move |group| events::purge(group.tx, before, limit))
            .await
    }
}

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        self.read(|db| outbox::cursor(db, address))
    }

    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        let (address, places) = (address.to_owned(), places.to_vec());
        self.write(move |group| outbox::enqueue(group.tx, &address, cursor, &places, due))
            .await
    }

    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        // A second without anything to send is one without a write.
        if !self.read(|db| outbox::is_any_due(db, address, now))? {
            return Ok(Vec::new());
        }
        let address = address.to_owned();
        self.writer
            .run(move |group| outbox::claim(group.tx, &address, now, until, limit))
            .await
    }

    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        let address = address.to_owned();
        self.writer
            .run(move |group| outbox::settle(group.tx, &address, place, again))
            .await
    }
}
