//! Sessions to rows and back.

use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::{KeyId, Purpose, StoredKey};
use doorward_core::reset::ResetHash;
use doorward_core::revocation::Ended;
use doorward_core::session::{Delivery, Device, End, EndReason, Session};
use doorward_core::store::{Account, ValidFrom};
use doorward_core::{Policy, Timestamp, env::millis, password::PasswordHash};
use rusqlite::{Connection, OptionalExtension, Result, Row, Statement, params};
use sha2::{Digest, Sha256};

pub(super) const SIBLINGS: i64 = 1;
const REMEMBER: i64 = 2;
const BODY: i64 = 4;
const DETAILS: i64 = 8;
const PRIVILEGED: i64 = 16;

/// Whole sessions: the columns of [`session`], in its order.
macro_rules! sessions {
    ($which:literal) => {
        concat!(
            "SELECT s.id, user, confirmed, previous, generation, attempt, confirmed_at, child_after, ",
            "coalesce(k.id, 0), s.created_at, auth_after, lasts, flags, ended_at, ended_why, version ",
            "FROM sessions s LEFT JOIN keys k ON k.number = s.refresh_key WHERE ",
            $which
        )
    };
}

const ONE: &str = sessions!("s.id = ?1");
/// The live ones of a user, by hash and id.
pub(super) const OF_USER: &str =
    sessions!("user_hash = ?1 AND user = ?2 AND ended_at IS NULL ORDER BY s.id");
/// All that are kept of a user.
pub(super) const KEPT_OF_USER: &str = sessions!("user_hash = ?1 AND user = ?2 ORDER BY s.id");
/// All that are kept after an id, so many.
pub(super) const KEPT_AFTER: &str = sessions!("s.id > ?1 ORDER BY s.id LIMIT ?2");
/// The live ones after an id, so many.
pub(super) const AFTER: &str = sessions!("s.id > ?1 AND ended_at IS NULL ORDER BY s.id LIMIT ?2");

pub(super) fn load(db: &Connection, id: SessionId) -> Result<Option<Session>> {
    db.prepare_cached(ONE)?
        .query_row([id.0], |row| session(db, row))
        .optional()
}

/// A row of `sessions!`, with its details where it has any.
pub(super) fn session(db: &Connection, row: &Row<'_>) -> Result<Session> {
    let id = SessionId(row.get(0)?);
    let created_at = row.get(9)?;
    let flags: i64 = row.get(12)?;
    let (confirmed_at, child_at) = child_times(row.get(6)?, row.get(7)?);
    let (device, claims) = if flags & DETAILS == 0 {
        Default::default()
    } else {
        details(db, id)?
    };
    Ok(Session {
        id,
        user: user(&row.get::<_, String>(1)?)?,
        confirmed: TokenId(row.get(2)?),
        generation: row.get(4)?,
        previous: previous(&row.get::<_, Vec<u8>>(3)?),
        siblings: flags & SIBLINGS != 0,
        attempt: row.get(5)?,
        confirmed_at,
        child_at,
        refresh_key: key_id(row.get(8)?),
        created_at: Timestamp(created_at),
        auth_time: Timestamp(created_at + row.get::<_, i64>(10)?),
        absolute_end: Timestamp(created_at + row.get::<_, i64>(11)?),
        remember: flags & REMEMBER != 0,
        privileged: flags & PRIVILEGED != 0,
        delivery: if flags & BODY == 0 {
            Delivery::Cookie
        } else {
            Delivery::Body
        },
        device,
        claims,
        ended: end(row.get(13)?, row.get(14)?),
        version: row.get::<_, i64>(15)?.cast_unsigned(),
    })
}

/// Writes a new session.
pub(super) fn insert(db: &Connection, session: &Session) -> Result<bool> {
    let (confirmed_at, child_after) = stored_child_times(session);
    let added =
        db.prepare_cached(
            "INSERT INTO sessions (id, user, user_hash, confirmed, previous, generation, attempt, \
             confirmed_at, child_after, refresh_key, created_at, auth_after, lasts, flags, ended_at, \
             ended_why, version) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, number, ?11, ?12, \
             ?13, ?14, ?15, ?16, ?17 FROM keys WHERE id = ?10 ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            session.id.0,
            session.user.as_str(),
            user_hash(&session.user),
            session.confirmed.0,
            session.previous.map_or([0; 16], |id| id.0),
            session.generation,
            session.attempt,
            confirmed_at,
            child_after,
            session.refresh_key.0.cast_signed(),
            session.created_at.0,
            session.auth_time.since(session.created_at),
            session.absolute_end.since(session.created_at),
            flags(session),
            session.ended.map(|end| end.at.0),
            session.ended.map(|end| end.reason as u8),
            session.version.cast_signed(),
        ])? == 1;
    if added && flags(session) & DETAILS != 0 {
        insert_details(db, session)?;
    }
    Ok(added)
}

/// Whether a session's id is that of a foreign token that was adopted.
pub(super) fn was_adopted(db: &Connection, id: SessionId) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM adopted WHERE session = ?1)")?
        .query_row([id.0], |row| row.get(0))
}

pub(super) fn remember_adopted(db: &Connection, id: SessionId, until: Timestamp) -> Result<bool> {
    let added = db
        .prepare_cached("INSERT INTO adopted (session, until) VALUES (?1, ?2)")?
        .execute(params![id.0, until.0])?;
    Ok(added == 1)
}

/// Whether there are adopted tokens that have been over since before `now`.
pub(super) fn adopted_is_old(db: &Connection, now: Timestamp) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM adopted WHERE until < ?1)")?
        .query_row([now.0], |row| row.get(0))
}

pub(super) fn purge_adopted(db: &Connection, now: Timestamp, limit: u32) -> Result<()> {
    let old = "DELETE FROM adopted WHERE session IN \
        (SELECT session FROM adopted WHERE until < ?1 LIMIT ?2)";
    db.prepare_cached(old)?.execute(params![now.0, limit])?;
    Ok(())
}

/// The version of a row that has not ended.
pub(super) fn live_version(db: &Connection, id: SessionId) -> Result<Option<i64>> {
    db.prepare_cached("SELECT version FROM sessions WHERE id = ?1 AND ended_at IS NULL")?
        .query_row([id.0], |row| row.get(0))
        .optional()
}

/// Ends the row if it has not ended, and logs that.
pub(super) fn end_session(db: &Connection, ended: Ended) -> Result<bool> {
    let Ended {
        session,
        at,
        reason,
    } = ended;
    let took = db
        .prepare_cached(
            "UPDATE sessions SET ended_at = ?2, ended_why = ?3, previous = x'', \
             version = version + 1 WHERE id = ?1 AND ended_at IS NULL",
        )?
        .execute(params![session.0, at.0, reason as u8])?
        == 1;
    if took {
        log_end(db, ended)?;
    }
    Ok(took)
}

/// Appends to the log of ends.
pub(super) fn log_end(db: &Connection, ended: Ended) -> Result<()> {
    db.prepare_cached("INSERT INTO ended (session, at, why) VALUES (?1, ?2, ?3)")?
        .execute(params![ended.session.0, ended.at.0, ended.reason as u8])
        .map(drop)
}

/// When a row is over and may go: `idle` after its last use, at the latest `absolute` after its
/// beginning or at its own end, whichever is sooner. Both depend on its class.
#[derive(Clone)]
pub(super) struct Over {
    now: i64,
    /// By [`class`].
    idle: [i64; 4],
    absolute: [i64; 4],
}

impl Over {
    pub(super) fn at(now: Timestamp, policy: &Policy) -> Over {
        let (mut idle, mut absolute) = ([0; 4], [0; 4]);
        for class in 0..4 {
            let limits = policy.limits(class & 1 != 0, class & 2 != 0);
            idle[class] = millis(limits.idle);
            absolute[class] = millis(limits.absolute);
        }
        let now = now.0;
        Over {
            now,
            idle,
            absolute,
        }
    }

    /// The values of ?1 to ?9 in `over!`.
    fn values(&self) -> [i64; 9] {
        let mut values = [self.now; 9];
        values[1..5].copy_from_slice(&self.idle);
        values[5..].copy_from_slice(&self.absolute);
        values
    }
}

/// Of the flags, which limits a row has: 1 remembered, 2 privileged.
macro_rules! class {
    () => {
        "(((flags >> 1) & 1) | ((flags >> 3) & 2))"
    };
}
const _: () = assert!(REMEMBER >> 1 == 1 && PRIVILEGED >> 3 == 2);

macro_rules! over {
    () => {
        concat!(
            "created_at + min(lasts, max(confirmed_at + child_after - created_at, 0) + CASE ",
            class!(),
            " WHEN 0 THEN ?2 WHEN 1 THEN ?3 WHEN 2 THEN ?4 ELSE ?5 END, CASE ",
            class!(),
            " WHEN 0 THEN ?6 WHEN 1 THEN ?7 WHEN 2 THEN ?8 ELSE ?9 END) < ?1"
        )
    };
}

/// A stretch of rows, and which of them are over.
pub(super) struct Looked {
    pub(super) count: u32,
    pub(super) last: [u8; 16],
    pub(super) over: Vec<SessionId>,
}

pub(super) fn look(db: &Connection, from: [u8; 16], limit: u32, over: &Over) -> Result<Looked> {
    let mut looked = Looked {
        count: 0,
        last: from,
        over: Vec::new(),
    };
    let mut rows = db.prepare_cached(concat!(
        "SELECT id, ",
        over!(),
        " FROM sessions WHERE id > ?10 ORDER BY id LIMIT ?11"
    ))?;
    bind(&mut rows, over)?;
    rows.raw_bind_parameter(10, from)?;
    rows.raw_bind_parameter(11, limit)?;
    let mut rows = rows.raw_query();
    while let Some(row) = rows.next()? {
        looked.count += 1;
        looked.last = row.get(0)?;
        if row.get(1)? {
            looked.over.push(SessionId(looked.last));
        }
    }
    Ok(looked)
}

/// Removes all rows of a user, and their details; how many.
pub(super) fn erase(db: &Connection, user: &UserId) -> Result<u64> {
    let theirs = params![user_hash(user), user.as_str()];
    let details = "DELETE FROM details WHERE session IN \
        (SELECT id FROM sessions WHERE user_hash = ?1 AND user = ?2)";
    db.execute(details, theirs)?;
    let sessions = "DELETE FROM sessions WHERE user_hash = ?1 AND user = ?2";
    db.execute(sessions, theirs).map(|gone| gone as u64)
}

fn bind(statement: &mut Statement<'_>, over: &Over) -> Result<()> {
    let numbered = over.values().into_iter().zip(1..);
    numbered
        .into_iter()
        .try_for_each(|(value, at)| statement.raw_bind_parameter(at, value))
}

/// Removes a row, if it is still over, and its details; whether it was.
pub(super) fn purge(db: &Connection, id: SessionId, over: &Over) -> Result<bool> {
    let mut delete = db.prepare_cached(concat!(
        "DELETE FROM sessions WHERE ",
        over!(),
        " AND id = ?10"
    ))?;
    bind(&mut delete, over)?;
    delete.raw_bind_parameter(10, id.0)?;
    let gone = delete.raw_execute()?;
    if gone == 1 {
        db.prepare_cached("DELETE FROM details WHERE session = ?1")?
            .execute([id.0])?;
    }
    Ok(gone == 1)
}

/// Whether the log of ends begins with one from before.
pub(super) fn log_is_old(db: &Connection, before: Timestamp) -> Result<bool> {
    let first = "SELECT at < ?1 FROM ended ORDER BY seq LIMIT 1";
    let old = db
        .prepare_cached(first)?
        .query_row([before.0], |row| row.get(0))
        .optional()?;
    Ok(old.unwrap_or(false))
}

/// Drops entries of the log of ends, the oldest first.
pub(super) fn restored_at(db: &Connection) -> Result<Timestamp> {
    let sql = "SELECT value FROM marks WHERE name = 'restored_at'";
    let at = db.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(Timestamp(at.optional()?.unwrap_or(0)))
}

pub(super) fn set_restored(db: &Connection, at: Timestamp) -> Result<usize> {
    let sql = "INSERT INTO marks (name, value) VALUES ('restored_at', ?1) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    db.prepare_cached(sql)?.execute([at.0])
}

pub(super) fn purge_log(db: &Connection, before: Timestamp, limit: u32) -> Result<()> {
    // The log is nearly in order of time: what is not among its first entries can wait.
    let old = "DELETE FROM ended WHERE seq IN (SELECT seq FROM \
        (SELECT seq, at FROM ended ORDER BY seq LIMIT ?2) WHERE at < ?1)";
    db.prepare_cached(old)?.execute(params![before.0, limit])?;
    Ok(())
}

/// The end that a row of `session, at, why` tells of.
pub(super) fn ended(session: [u8; 16], at: i64, why: u8) -> Ended {
    Ended {
        session: SessionId(session),
        at: Timestamp(at),
        reason: EndReason::stored(why),
    }
}

/// 32 bits that find a user's sessions: an index on them takes less room than one on the id.
pub(super) fn user_hash(user: &UserId) -> i32 {
    let digest = Sha256::digest(user.as_str().as_bytes());
    i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// A row of `id, username, password_hash, disabled, created_at, privileged`, and the user's `valid_from`.
pub(super) fn account(db: &Connection, row: &Row<'_>) -> Result<Account> {
    let id = user(&row.get::<_, String>(0)?)?;
    Ok(Account {
        valid_from: valid_from(db, &id)?,
        id,
        username: row.get::<_, String>(1)?.into(),
        password_hash: PasswordHash::from_phc(&row.get::<_, String>(2)?),
        disabled: row.get(3)?,
        created_at: Timestamp(row.get(4)?),
        privileged: row.get(5)?,
    })
}

/// Whose reset it is that is not over.
pub(super) fn reset_of(db: &Connection, hash: ResetHash, now: Timestamp) -> Result<Option<UserId>> {
    let sql = "SELECT user FROM resets WHERE hash = ?1 AND ?2 < expires_at";
    db.prepare_cached(sql)?
        .query_row(params![hash.0, now.0], |row| {
            self::user(&row.get::<_, String>(0)?)
        })
        .optional()
}

pub(super) fn valid_from(db: &Connection, user: &UserId) -> Result<ValidFrom> {
    let at = db
        .prepare_cached("SELECT at FROM valid_from WHERE user = ?1")?
        .query_row([user.as_str()], |row| row.get(0))
        .optional()?;
    Ok(ValidFrom(at.unwrap_or(0)))
}

/// A row of `id, purpose, algorithm, secret, created_at, signs_from, retired, verifies_until, scopes`.
pub(super) fn key(row: &Row<'_>) -> Result<StoredKey> {
    Ok(StoredKey {
        id: key_id(row.get(0)?),
        purpose: match row.get::<_, String>(1)?.as_str() {
            "access" => Purpose::Access,
            "refresh" => Purpose::Refresh,
            _ => return Err(damaged("keys.purpose")),
        },
        algorithm: row.get::<_, String>(2)?.into(),
        secret: row.get::<_, Vec<u8>>(3)?.into(),
        created_at: Timestamp(row.get(4)?),
        signs_from: Timestamp(row.get(5)?),
        retired: row.get(6)?,
        verifies_until: Timestamp(row.get(7)?),
        scopes: row.get::<_, String>(8)?.into(),
    })
}

/// Keeps the place of one that is there: sessions refer to it.
pub(super) fn put_key(db: &Connection, key: &StoredKey) -> Result<()> {
    let sql = "INSERT INTO keys (id, purpose, algorithm, secret, created_at, signs_from, retired, \
        verifies_until, scopes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE \
        SET purpose = ?2, algorithm = ?3, secret = ?4, created_at = ?5, signs_from = ?6, retired = ?7, \
        verifies_until = ?8, scopes = ?9";
    db.prepare_cached(sql)?.execute(params![
        key.id.0.cast_signed(),
        purpose(key.purpose),
        key.algorithm,
        key.secret,
        key.created_at.0,
        key.signs_from.0,
        key.retired,
        key.verifies_until.0,
        key.scopes
    ])?;
    Ok(())
}

pub(super) fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Access => "access",
        Purpose::Refresh => "refresh",
    }
}

fn insert_details(db: &Connection, session: &Session) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO details (session, device, address, agent, claims) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        session.id.0,
        session.device.name,
        session.device.address.map(|address| address.to_string()),
        session.device.agent,
        session.claims,
    ])?;
    Ok(())
}

fn details(db: &Connection, id: SessionId) -> Result<(Device, Option<Box<str>>)> {
    let found = db
        .prepare_cached("SELECT device, address, agent, claims FROM details WHERE session = ?1")?
        .query_row([id.0], |row| {
            let text = |i| {
                row.get::<_, Option<String>>(i)
                    .map(|text| text.map(String::into))
            };
            let address: Option<String> = row.get(1)?;
            let address = address.and_then(|address| address.parse().ok());
            Ok((
                Device {
                    name: text(0)?,
                    address,
                    agent: text(2)?,
                },
                text(3)?,
            ))
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn flags(session: &Session) -> i64 {
    let flag = |holds, flag| if holds { flag } else { 0 };
    let has_details = session.device != Device::default() || session.claims.is_some();
    flag(session.siblings, SIBLINGS)
        | flag(session.remember, REMEMBER)
        | flag(session.privileged, PRIVILEGED)
        | flag(session.delivery == Delivery::Body, BODY)
        | flag(has_details, DETAILS)
}

/// `confirmed_at` and `child_at - confirmed_at`; [`Timestamp::NEVER`] is 0.
pub(super) fn stored_child_times(session: &Session) -> (i64, i64) {
    let stored = |time: Timestamp| if time == Timestamp::NEVER { 0 } else { time.0 };
    let confirmed_at = stored(session.confirmed_at);
    (confirmed_at, stored(session.child_at) - confirmed_at)
}

pub(super) fn child_times(confirmed_at: i64, child_after: i64) -> (Timestamp, Timestamp) {
    let time = |stored| {
        if stored == 0 {
            Timestamp::NEVER
        } else {
            Timestamp(stored)
        }
    };
    (time(confirmed_at), time(confirmed_at + child_after))
}

pub(super) fn previous(bytes: &[u8]) -> Option<TokenId> {
    let id: [u8; 16] = bytes.try_into().ok()?;
    (id != [0; 16]).then_some(TokenId(id))
}

fn end(at: Option<i64>, why: Option<u8>) -> Option<End> {
    Some(End {
        at: Timestamp(at?),
        reason: EndReason::stored(why?),
    })
}

fn key_id(stored: i64) -> KeyId {
    KeyId(stored.cast_unsigned())
}

pub(super) fn user(text: &str) -> Result<UserId> {
    UserId::new(text).map_err(|_| damaged("user"))
}

fn damaged(column: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnName(format!("{column} holds what no version of Doorward wrote"))
}
