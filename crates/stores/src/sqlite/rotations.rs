//! The log of rotations: what a swap changes, appended, and folded into the rows of `sessions` later.
//!
//! Guarantees: a session is its row or its newest rotation, whichever has the greater version. So a
//! process that lags behind, or an entry that is folded twice, never shows an older state. Versions
//! only grow, and an end has a greater one than every rotation before it.
//!
//! Every process keeps the entries that are not folded in memory, some 200 bytes each, and reads what
//! others appended before it looks at a row: a search for the end of the log while there is nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorward_core::Timestamp;
use doorward_core::id::{SessionId, TokenId};
use doorward_core::keys::KeyId;
use doorward_core::session::Session;
use rusqlite::{Connection, Result, Row, params};

use super::rows;

/// With this many entries the writer begins to fold them when it has nothing else to do.
pub(super) const MANY: usize = 10_000;
/// With this many it folds some after each group, whatever waits.
pub(super) const FULL: usize = 128 * 1024;

/// The columns that a swap changes, as they are stored.
#[derive(Clone, Copy)]
pub(super) struct Rotation {
    confirmed: [u8; 16],
    previous: [u8; 16],
    generation: i64,
    attempt: u32,
    confirmed_at: i64,
    child_after: i64,
    refresh_key: i64,
    auth_after: i64,
    flags: i64,
    version: i64,
}

impl Rotation {
    pub(super) fn of(session: &Session) -> Rotation {
        let (confirmed_at, child_after) = rows::stored_child_times(session);
        Rotation {
            confirmed: session.confirmed.0,
            previous: session.previous.map_or([0; 16], |id| id.0),
            generation: session.generation,
            attempt: session.attempt,
            confirmed_at,
            child_after,
            refresh_key: session.refresh_key.0.cast_signed(),
            auth_after: session.auth_time.since(session.created_at),
            flags: rows::flags(session),
            version: session.version.cast_signed(),
        }
    }

    /// The row with this rotation, if the row does not hold it yet.
    fn onto(&self, row: Session) -> Session {
        if self.version <= row.version.cast_signed() {
            return row;
        }
        let (confirmed_at, child_at) = rows::child_times(self.confirmed_at, self.child_after);
        Session {
            confirmed: TokenId(self.confirmed),
            previous: rows::previous(&self.previous),
            generation: self.generation,
            siblings: self.flags & rows::SIBLINGS != 0,
            attempt: self.attempt,
            confirmed_at,
            child_at,
            refresh_key: KeyId(self.refresh_key.cast_unsigned()),
            auth_time: Timestamp(row.created_at.0 + self.auth_after),
            version: self.version.cast_unsigned(),
            ..row
        }
    }

    fn read(row: &Row<'_>) -> Result<(i64, SessionId, Rotation)> {
        let rotation = Rotation {
            confirmed: row.get(2)?,
            previous: row.get(3)?,
            generation: row.get(4)?,
            attempt: row.get(5)?,
            confirmed_at: row.get(6)?,
            child_after: row.get(7)?,
            refresh_key: row.get(8)?,
            auth_after: row.get(9)?,
            flags: row.get(10)?,
            version: row.get(11)?,
        };
        Ok((row.get(0)?, SessionId(row.get(1)?), rotation))
    }

    fn append(&self, db: &Connection, seq: i64, session: SessionId) -> Result<()> {
        let insert = "INSERT INTO rotations (seq, session, confirmed, previous, generation, attempt, \
             confirmed_at, child_after, refresh_key, auth_after, flags, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        db.prepare_cached(insert)?.execute(params![
            seq,
            session.0,
            self.confirmed,
            self.previous,
            self.generation,
            self.attempt,
            self.confirmed_at,
            self.child_after,
            self.refresh_key,
            self.auth_after,
            self.flags,
            self.version,
        ])?;
        Ok(())
    }

    /// Writes it into its row, unless the row is as new.
    fn fold(&self, db: &Connection, session: SessionId) -> Result<()> {
        db.prepare_cached(
            "UPDATE sessions SET confirmed = ?2, previous = ?3, generation = ?4, attempt = ?5, \
             confirmed_at = ?6, child_after = ?7, refresh_key = \
             coalesce((SELECT number FROM keys WHERE id = ?8), refresh_key), auth_after = ?9, \
             flags = ?10, version = ?11 WHERE id = ?1 AND version < ?11",
        )?
        .execute(params![
            session.0,
            self.confirmed,
            self.previous,
            self.generation,
            self.attempt,
            self.confirmed_at,
            self.child_after,
            self.refresh_key,
            self.auth_after,
            self.flags,
            self.version,
        ])?;
        Ok(())
    }
}

/// What is in the log and may not be in the rows yet.
#[derive(Default)]
pub(super) struct Log(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    newest: HashMap<SessionId, Entry>,
    /// All entries up to here were taken in.
    read_to: i64,
    /// All entries up to here are in their rows; unknown before the first entry.
    folded_to: Option<i64>,
    /// How often entries were forgotten.
    forgotten: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    seq: i64,
    rotation: Rotation,
}

impl Entries {
    fn take(&mut self, seq: i64, session: SessionId, rotation: Rotation) {
        self.read_to = self.read_to.max(seq);
        self.folded_to.get_or_insert(seq - 1);
        let entry = Entry { seq, rotation };
        let kept = self.newest.entry(session).or_insert(entry);
        if kept.rotation.version < rotation.version {
            *kept = entry;
        }
    }
}

impl Log {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what other processes appended.
    fn catch_up(&self, db: &Connection) -> Result<()> {
        let read_to = self.entries().read_to;
        let mut log = db.prepare_cached(
            "SELECT seq, session, confirmed, previous, generation, attempt, confirmed_at, child_after, \
             refresh_key, auth_after, flags, version FROM rotations WHERE seq > ?1 ORDER BY seq",
        )?;
        let mut rows = log.query([read_to])?;
        while let Some(row) = rows.next()? {
            let (seq, session, rotation) = Rotation::read(row)?;
            self.entries().take(seq, session, rotation);
        }
        Ok(())
    }

    /// Reads rows of sessions, with what is newer than they are. Anew, if entries were forgotten
    /// meanwhile: the rows may have been read before they were folded.
    pub(super) fn read<T>(
        &self,
        db: &Connection,
        rows: impl Fn(&Connection) -> Result<T>,
    ) -> Result<T> {
        loop {
            let forgotten = self.entries().forgotten;
            self.catch_up(db)?;
            let value = rows(db)?;
            if forgotten == self.entries().forgotten {
                return Ok(value);
            }
        }
    }

    /// A row that [`Log::read`] reads, with its newest rotation.
    pub(super) fn onto(&self, row: Session) -> Session {
        let entry = self.entries().newest.get(&row.id).copied();
        match entry {
            Some(entry) => entry.rotation.onto(row),
            None => row,
        }
    }

    /// The version that the log has of a session; 0: none.
    pub(super) fn version(&self, session: SessionId) -> i64 {
        let entries = self.entries();
        let entry = entries.newest.get(&session);
        entry.map_or(0, |entry| entry.rotation.version)
    }

    /// Drops the entries up to `seq`, which are in their rows.
    fn forget(&self, seq: i64) {
        let mut entries = self.entries();
        entries.forgotten += 1;
        entries.folded_to = entries.folded_to.max(Some(seq));
        entries.newest.retain(|_, entry| entry.seq > seq);
        entries.newest.shrink_to_fit();
    }

    /// Whether a session has an entry that may not be in its row.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.entries().newest.contains_key(&session)
    }

    /// How many entries the log has that are not in their rows, as far as this process knows.
    pub(super) fn len(&self) -> usize {
        let entries = self.entries();
        let folded_to = entries.folded_to.unwrap_or(entries.read_to);
        usize::try_from(entries.read_to - folded_to).unwrap_or(0)
    }

    /// Forgets what other processes have folded.
    pub(super) fn trim(&self, db: &Connection) -> Result<()> {
        let first = db
            .prepare_cached("SELECT min(seq) FROM rotations")?
            .query_row([], |row| row.get::<_, Option<i64>>(0))?;
        if let Some(first) = first.filter(|first| Some(first - 1) > self.entries().folded_to) {
            self.forget(first - 1);
        }
        Ok(())
    }
}

/// What one transaction appends, before it is committed.
pub(super) struct Appending {
    log: Arc<Log>,
    next: i64,
    fresh: HashMap<SessionId, Entry>,
    /// What the log holds of these counts no more.
    gone: HashSet<SessionId>,
}

impl Appending {
    /// Begins where the log ends. The caller holds the write lock of the database.
    pub(super) fn begin(log: &Arc<Log>, db: &Connection) -> Result<Self> {
        log.catch_up(db)?;
        let next = log.entries().read_to + 1;
        Ok(Appending {
            log: Arc::clone(log),
            next,
            fresh: HashMap::new(),
            gone: HashSet::new(),
        })
    }

    fn newest(&self, session: SessionId) -> Option<Rotation> {
        let fresh = self.fresh.get(&session).copied();
        let kept = || {
            let entries = self.log.entries();
            let kept = entries.newest.get(&session).copied();
            kept.filter(|_| !self.gone.contains(&session))
        };
        let entry = fresh.or_else(kept);
        entry.map(|entry| entry.rotation)
    }

    /// A row that this transaction reads, with its newest rotation.
    pub(super) fn onto(&self, row: Session) -> Session {
        match self.newest(row.id) {
            Some(rotation) => rotation.onto(row),
            None => row,
        }
    }

    /// Appends the state of `session`, if its row has not ended and is one version older.
    pub(super) fn swap(&mut self, db: &Connection, session: &Session) -> Result<bool> {
        let rotation = Rotation::of(session);
        let row = rows::live_version(db, session.id)?;
        let newest = self.newest(session.id).map(|newest| newest.version);
        let fits = row.is_some_and(|row| row.max(newest.unwrap_or(row)) + 1 == rotation.version);
        if fits {
            rotation.append(db, self.next, session.id)?;
            let seq = self.next;
            self.fresh.insert(session.id, Entry { seq, rotation });
            self.next += 1;
        }
        Ok(fits)
    }

    /// Takes a session that was removed out of the log, so that it says nothing of one that comes again.
    /// Other processes must not have the file open.
    pub(super) fn remove(&mut self, db: &Connection, session: SessionId) -> Result<()> {
        self.fresh.remove(&session);
        self.gone.insert(session);
        let sql = "UPDATE rotations SET version = 0 WHERE session = ?1";
        db.prepare_cached(sql)?.execute([session.0]).map(drop)
    }

    /// As [`Appending::remove`], of all.
    pub(super) fn remove_all(&mut self, db: &Connection) -> Result<()> {
        self.fresh.clear();
        self.gone.extend(self.log.entries().newest.keys());
        db.execute("UPDATE rotations SET version = 0", []).map(drop)
    }

    /// Brings the row of a session up to date, before something else is written to it.
    pub(super) fn settle(&self, db: &Connection, session: SessionId) -> Result<()> {
        match self.newest(session) {
            Some(rotation) => rotation.fold(db, session),
            None => Ok(()),
        }
    }

    /// After the commit: what was appended is there for readers.
    pub(super) fn committed(self) {
        let mut entries = self.log.entries();
        for session in &self.gone {
            entries.newest.remove(session);
        }
        for (session, Entry { seq, rotation }) in self.fresh {
            entries.take(seq, session, rotation);
        }
        entries.read_to = entries.read_to.max(self.next - 1);
    }
}

/// One pass over the log, in order of id, some entries a transaction.
pub(super) struct Folding {
    entries: Vec<(SessionId, Rotation)>,
    folded: usize,
    /// How many more a transaction folded that is not committed yet.
    uncommitted: usize,
    up_to: i64,
}

impl Folding {
    /// Everything that is in the log now.
    pub(super) fn of(log: &Log) -> Folding {
        let all = log.entries();
        let each = all.newest.iter();
        let mut entries: Vec<_> = each.map(|(id, entry)| (*id, entry.rotation)).collect();
        entries.sort_unstable_by_key(|(id, _)| *id);
        Folding {
            entries,
            folded: 0,
            uncommitted: 0,
            up_to: all.read_to,
        }
    }

    /// Folds the next entries, and at the end of the pass empties the log of all of them.
    pub(super) fn some(&mut self, db: &Connection, count: usize) -> Result<()> {
        let left = &self.entries[self.folded..];
        let some = &left[..left.len().min(count)];
        for (session, rotation) in some {
            rotation.fold(db, *session)?;
        }
        self.uncommitted = some.len();
        if some.len() == left.len() {
            let all = "DELETE FROM rotations WHERE seq <= ?1 \
                AND seq < (SELECT max(seq) FROM rotations)";
            db.prepare_cached(all)?.execute([self.up_to])?;
        }
        Ok(())
    }

    /// After the commit of [`Folding::some`]; `true` when the pass is over.
    pub(super) fn committed(&mut self, log: &Log) -> bool {
        self.folded += std::mem::take(&mut self.uncommitted);
        let over = self.folded == self.entries.len();
        if over {
            log.forget(self.up_to);
        }
        over
    }
}

#[cfg(test)]
pub(super) mod tests;
