//! Rows of sessions, and the log of ends.

use std::sync::Arc;

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::error::StoreError;
use doorward_core::event::{Record, Trail};
use doorward_core::id::{SessionId, UserId};
use doorward_core::limits::Opening;
use doorward_core::meter::Meter;
use doorward_core::policy::Policy;
use doorward_core::revocation::{Ended, Feed, Lapped};
use doorward_core::session::{End, EndReason, Session};
use doorward_core::store::{Opened, SessionStore, StoreResult, ValidFrom, Write};
use doorward_core::transfer::LEFT;
use doorward_core::transfer::mark::{FILLING, Mark};
use rusqlite::{Connection, params};

use super::readers::Readers;
use super::rows::Over;
use super::writer::Group;
use super::{SqliteStore, events, rows, transfer};
use crate::ring::Ring;

/// Expired rows that go in one write: a few milliseconds at the most.
const PURGED_AT_ONCE: usize = 50;

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

    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        self.writer
            .run(move |group| {
                rows::log_end(group.tx, end)?;
                group.ended.push(end);
                Ok(())
            })
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

    async fn restored_at(&self) -> StoreResult<Timestamp> {
        self.read(rows::restored_at)
    }

    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        let record = trail.once.clone();
        self.writer
            .run(move |group| {
                if rows::restored_at(group.tx)? < at {
                    rows::set_restored(group.tx, at)?;
                    group.leave(record.as_slice())?;
                }
                Ok(())
            })
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

    fn meter(&self) -> Option<Arc<Meter>> {
        Some(Arc::clone(&self.meter))
    }

    fn notice(&self) -> Option<String> {
        let mark = self.read(transfer::left).ok()??;
        Some(match Mark::read(&mark) {
            Mark::Filling(_) => FILLING.into(),
            _ => format!("{LEFT}: set `store` to that one and restart"),
        })
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        let ring = self.ring.clone()?;
        Some(Arc::new(RingFeed {
            ring,
            readers: Arc::clone(&self.readers),
        }))
    }
}

impl Group<'_> {
    pub(super) fn end(&mut self, end: Ended) -> rusqlite::Result<bool> {
        self.rotations.settle(self.tx, end.session)?;
        let took = rows::end_session(self.tx, end)?;
        if took {
            self.ended.push(end);
        }
        Ok(took)
    }

    /// Adds a session, and ends those that end for it.
    pub(super) fn open(
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
    pub(super) fn live(&self, user: &UserId) -> rusqlite::Result<Vec<Session>> {
        self.tx
            .prepare_cached(rows::OF_USER)?
            .query_map(params![rows::user_hash(user), user.as_str()], |row| {
                Ok(self.rotations.onto(rows::session(self.tx, row)?))
            })?
            .collect()
    }

    /// Ends a session if it has not ended, which leaves these records; its row afterwards.
    pub(super) fn end_and_load(
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
    pub(super) fn end_user(
        &mut self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> rusqlite::Result<Vec<SessionId>> {
        self.tx
            .prepare_cached(
                "INSERT INTO valid_from (user, at) VALUES (?1, max(?2, 1)) \
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

    /// Removes all of a user's sessions, ended ones too, and the user's events; returns how many
    /// sessions. What is removed is overwritten, in the file if not in its write-ahead log.
    pub(super) fn erase(
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
    pub(super) fn purge(
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
        ends.push(rows::ended(row.get(1)?, row.get(2)?, row.get(3)?));
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
