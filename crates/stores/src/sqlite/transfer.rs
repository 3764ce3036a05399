//! What an SQLite store hands over and takes in.
//!
//! Sessions are read through the log of rotations. A store that was left has triggers on each table, so
//! that older versions of this program, which know nothing of the mark, are refused too. Whoever moves
//! rows is let through for a transaction, in which `filling` is marked: nobody else ever sees that.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::{Entry, Filter};
use doorward_core::id::SessionId;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::store::{Account, Delivery, KeyStore, StoreResult, ValidFrom};
use doorward_core::throttle::BucketKey;
use doorward_core::transfer::{Bookmark, Kind, LEFT, Rows, TransferStore};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::writer::Group;
use super::{SqliteStore, buckets, events, rows};

const TABLES: [&str; 13] = [
    "sessions",
    "details",
    "valid_from",
    "ended",
    "accounts",
    "keys",
    "rotations",
    "throttle",
    "events",
    "resets",
    "adopted",
    "outbox",
    "deliveries",
];

#[async_trait]
impl TransferStore for SqliteStore {
    async fn rows(
        &self,
        kind: Kind,
        after: Option<Bookmark>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)> {
        match kind {
            // Few, and in an order that is not theirs.
            Kind::Keys => Ok((Rows::Keys(self.keys().await?), None)),
            Kind::Sessions => self.session_page(after.as_deref(), limit),
            _ => self.read(|db| page(db, kind, after.as_deref(), limit)),
        }
    }

    async fn versions(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<u64>>> {
        self.read_sessions(|db| {
            let mut version = db.prepare_cached("SELECT version FROM sessions WHERE id = ?1")?;
            let mut version = |id: &SessionId| {
                let kept = version.query_row([id.0], |row| row.get(0)).optional()?;
                Ok(kept.map(|kept: i64| self.log.version(*id).max(kept).cast_unsigned()))
            };
            ids.iter().map(|id| version(id)).collect()
        })
    }

    async fn put(&self, rows: Rows) -> StoreResult<()> {
        let fill = move |group: &mut Group<'_>| filling(group, |group| put(group, &rows));
        self.writer.run(fill).await
    }

    async fn clear(&self, kinds: &[Kind]) -> StoreResult<()> {
        let kinds = kinds.to_vec();
        let clear = move |group: &mut Group<'_>| {
            filling(group, |group| {
                kinds.iter().try_for_each(|kind| clear(group, *kind))
            })
        };
        self.writer.run(clear).await
    }

    async fn remove(&self, sessions: &[SessionId]) -> StoreResult<()> {
        let sessions = sessions.to_vec();
        let remove = move |group: &mut Group<'_>| {
            filling(group, |group| {
                sessions.iter().try_for_each(|id| {
                    remove_row(group.tx, *id)?;
                    group.rotations.remove(group.tx, *id)
                })
            })
        };
        self.writer.run(remove).await
    }

    async fn leave(&self, mark: Option<&str>) -> StoreResult<()> {
        let mark = mark.map(ToOwned::to_owned);
        let leave = move |group: &mut Group<'_>| match &mark {
            Some(mark) => leave(group.tx, mark),
            None => come_back(group.tx),
        };
        self.writer.run(leave).await
    }

    async fn left(&self) -> StoreResult<Option<Box<str>>> {
        self.read(left)
    }
}

/// The mark of a file that was left.
pub(super) fn left(db: &Connection) -> Result<Option<Box<str>>> {
    let sql = "SELECT value FROM marks WHERE name = 'left'";
    let mark = db.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(mark.optional()?.map(|mark: String| mark.into()))
}

impl SqliteStore {
    /// Ended ones too, in order of id.
    fn session_page(
        &self,
        after: Option<&[u8]>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)> {
        let after = after.unwrap_or_default();
        let rows: Vec<_> = self.read_sessions(|db| {
            db.prepare_cached(rows::KEPT_AFTER)?
                .query_map(params![after, limit], |row| {
                    Ok(self.log.onto(rows::session(db, row)?))
                })?
                .collect()
        })?;
        let next = rows.last().map(|row| row.id.0.into());
        let full = rows.len() == limit as usize;
        Ok((Rows::Sessions(rows), next.filter(|_| full)))
    }
}

fn filling(group: &mut Group<'_>, work: impl FnOnce(&mut Group<'_>) -> Result<()>) -> Result<()> {
    let tx = group.tx;
    tx.execute("INSERT OR REPLACE INTO marks VALUES ('filling', 1)", [])?;
    work(group)?;
    tx.execute("DELETE FROM marks WHERE name = 'filling'", [])?;
    Ok(())
}

fn leave(tx: &Connection, mark: &str) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO marks VALUES ('left', ?1)";
    tx.execute(sql, [mark])?;
    let words = format!("BEGIN SELECT RAISE(ABORT, '{LEFT}'); END");
    let unless = "WHEN NOT EXISTS (SELECT 1 FROM marks WHERE name = 'filling')";
    for table in TABLES {
        for operation in ["INSERT", "UPDATE", "DELETE"] {
            let sql = format!(
                "CREATE TRIGGER IF NOT EXISTS left_{table}_{operation} \
                 BEFORE {operation} ON {table} {unless} {words}"
            );
            tx.execute(&sql, [])?;
        }
    }
    for operation in ["INSERT", "UPDATE"] {
        let sql = format!(
            "CREATE TRIGGER IF NOT EXISTS left_marks_{operation} \
             BEFORE {operation} ON marks WHEN NEW.name = 'restored_at' {words}"
        );
        tx.execute(&sql, [])?;
    }
    Ok(())
}

fn come_back(tx: &Connection) -> Result<()> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'left_*'";
    let mut names = tx.prepare(sql)?;
    let names: Result<Vec<String>> = names.query_map([], |row| row.get(0))?.collect();
    for name in names? {
        tx.execute(&format!("DROP TRIGGER {name}"), [])?;
    }
    tx.execute("DELETE FROM marks WHERE name = 'left'", [])?;
    Ok(())
}

/// A page of a kind whose rows stand in one table.
fn page(
    db: &Connection,
    kind: Kind,
    after: Option<&[u8]>,
    limit: u32,
) -> Result<(Rows, Option<Bookmark>)> {
    let text = || String::from_utf8_lossy(after.unwrap_or_default()).into_owned();
    let blob = || after.unwrap_or_default().to_vec();
    match kind {
        Kind::Accounts => {
            let sql = "SELECT id, username, password_hash, disabled, created_at, privileged \
                FROM accounts WHERE username > ?1 ORDER BY username LIMIT ?2";
            let rows = select(db, sql, params![text(), limit], |row| {
                rows::account(db, row)
            })?;
            Ok(cut(
                rows,
                limit,
                |row| row.username.as_bytes().into(),
                Rows::Accounts,
            ))
        }
        Kind::Resets => {
            let sql = "SELECT user, hash, expires_at FROM resets WHERE user > ?1 \
                ORDER BY user LIMIT ?2";
            let rows = select(db, sql, params![text(), limit], reset)?;
            Ok(cut(
                rows,
                limit,
                |row| row.0.as_str().as_bytes().into(),
                Rows::Resets,
            ))
        }
        Kind::ValidFrom => {
            let sql = "SELECT user, at FROM valid_from WHERE user > ?1 ORDER BY user LIMIT ?2";
            let rows = select(db, sql, params![text(), limit], |row| {
                let user = rows::user(&row.get::<_, String>(0)?)?;
                Ok((user, ValidFrom(row.get(1)?)))
            })?;
            Ok(cut(
                rows,
                limit,
                |row| row.0.as_str().as_bytes().into(),
                Rows::ValidFrom,
            ))
        }
        Kind::Adopted => {
            let sql = "SELECT session, until FROM adopted WHERE session > ?1 \
                ORDER BY session LIMIT ?2";
            let rows = select(db, sql, params![blob(), limit], |row| {
                Ok((SessionId(row.get(0)?), Timestamp(row.get(1)?)))
            })?;
            Ok(cut(rows, limit, |row| row.0.0.into(), Rows::Adopted))
        }
        Kind::Ended => {
            let sql =
                "SELECT seq, session, at, why FROM ended WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            let rows = select(db, sql, params![number(after), limit], |row| {
                let end = rows::ended(row.get(1)?, row.get(2)?, row.get(3)?)?;
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), end))
            })?;
            Ok(cut(
                rows,
                limit,
                |row| row.0.to_be_bytes().into(),
                Rows::Ended,
            ))
        }
        Kind::Buckets => {
            let sql = "SELECT refilled_at, failures, counted_until, span, under_way, older, key \
                FROM throttle WHERE key > ?1 ORDER BY key LIMIT ?2";
            let rows = select(db, sql, params![blob(), limit], |row| {
                Ok((BucketKey(row.get(6)?), buckets::bucket(row)?))
            })?;
            Ok(cut(rows, limit, |row| row.0.0.into(), Rows::Buckets))
        }
        Kind::Events => {
            let from = number(after).cast_unsigned();
            let (rows, next) = events::after(db, from, &Filter::default(), limit)?;
            let next = (next > from).then(|| next.to_be_bytes().into());
            Ok((Rows::Events(rows), next))
        }
        Kind::Outbox => {
            let sql =
                "SELECT address, seq FROM outbox WHERE address > ?1 ORDER BY address LIMIT ?2";
            let rows = select(db, sql, params![text(), limit], |row| {
                let name: Box<str> = row.get::<_, String>(0)?.into();
                Ok((name, row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            Ok(cut(
                rows,
                limit,
                |row| row.0.as_bytes().into(),
                Rows::Outbox,
            ))
        }
        Kind::Deliveries => {
            let (place, address) = delivery_key(after);
            let sql = "SELECT address, seq, attempts, due FROM deliveries \
                WHERE (address, seq) > (?1, ?2) ORDER BY address, seq LIMIT ?3";
            let rows = select(db, sql, params![address, place, limit], delivery)?;
            let key = |row: &(Box<str>, Delivery, Timestamp)| {
                [&row.1.place.to_be_bytes(), row.0.as_bytes()]
                    .concat()
                    .into()
            };
            Ok(cut(rows, limit, key, Rows::Deliveries))
        }
        Kind::Keys | Kind::Sessions => Err(rusqlite::Error::InvalidQuery),
    }
}

fn select<T>(
    db: &Connection,
    sql: &str,
    values: &[&dyn ToSql],
    row: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(values, row)?.collect()
}

/// The rows, and the key of the last if there may be more.
fn cut<T>(
    rows: Vec<T>,
    limit: u32,
    key: impl Fn(&T) -> Bookmark,
    kind: impl Fn(Vec<T>) -> Rows,
) -> (Rows, Option<Bookmark>) {
    let full = rows.len() == limit as usize;
    let next = rows.last().filter(|_| full).map(key);
    (kind(rows), next)
}

fn number(after: Option<&[u8]>) -> i64 {
    let bytes = after.and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i64::from_be_bytes)
}

fn delivery_key(after: Option<&[u8]>) -> (i64, String) {
    let split = after.and_then(|bytes| bytes.split_at_checked(8));
    let Some((place, address)) = split else {
        return (0, String::new());
    };
    let address = String::from_utf8_lossy(address).into_owned();
    (number(Some(place)), address)
}

fn reset(row: &Row<'_>) -> Result<(doorward_core::UserId, Reset)> {
    let reset = Reset {
        hash: ResetHash(row.get(1)?),
        expires_at: Timestamp(row.get(2)?),
    };
    Ok((rows::user(&row.get::<_, String>(0)?)?, reset))
}

fn delivery(row: &Row<'_>) -> Result<(Box<str>, Delivery, Timestamp)> {
    let delivery = Delivery {
        place: row.get::<_, i64>(1)?.cast_unsigned(),
        attempts: row.get(2)?,
    };
    let name: Box<str> = row.get::<_, String>(0)?.into();
    Ok((name, delivery, Timestamp(row.get(3)?)))
}

fn put(group: &mut Group<'_>, all: &Rows) -> Result<()> {
    let tx = group.tx;
    match all {
        Rows::Keys(all) => all.iter().try_for_each(|row| rows::put_key(tx, row)),
        Rows::Accounts(all) => all.iter().try_for_each(|row| put_account(tx, row)),
        Rows::Resets(all) => {
            let sql = "INSERT OR REPLACE INTO resets (user, hash, expires_at) VALUES (?1, ?2, ?3)";
            let mut insert = tx.prepare_cached(sql)?;
            all.iter().try_for_each(|(user, row)| {
                insert.execute(params![user.as_str(), row.hash.0, row.expires_at.0])?;
                Ok(())
            })
        }
        Rows::ValidFrom(all) => {
            let sql = "INSERT INTO valid_from VALUES (?1, ?2) \
                ON CONFLICT (user) DO UPDATE SET at = max(at, excluded.at)";
            let mut insert = tx.prepare_cached(sql)?;
            all.iter().try_for_each(|(user, at)| {
                insert.execute(params![user.as_str(), at.0])?;
                Ok(())
            })
        }
        Rows::Sessions(all) => all.iter().try_for_each(|row| put_session(group, row)),
        Rows::Adopted(all) => {
            let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO adopted VALUES (?1, ?2)")?;
            all.iter().try_for_each(|(id, until)| {
                insert.execute(params![id.0, until.0])?;
                Ok(())
            })
        }
        Rows::Ended(all) => {
            let sql = "INSERT OR REPLACE INTO ended VALUES (?1, ?2, ?3, ?4)";
            let mut insert = tx.prepare_cached(sql)?;
            for (place, end) in all {
                let why = end.reason as u8;
                insert.execute(params![place.cast_signed(), end.session.0, end.at.0, why])?;
            }
            group.ended.extend(all.iter().map(|(_, end)| *end));
            Ok(())
        }
        Rows::Buckets(all) => {
            let mut all = all.iter();
            all.try_for_each(|(key, bucket)| buckets::save(tx, *key, bucket))
        }
        Rows::Events(all) => put_events(tx, all),
        Rows::Outbox(all) => {
            let mut insert = tx.prepare_cached("INSERT OR REPLACE INTO outbox VALUES (?1, ?2)")?;
            all.iter().try_for_each(|(name, cursor)| {
                insert.execute(params![name, cursor.cast_signed()])?;
                Ok(())
            })
        }
        Rows::Deliveries(all) => {
            let sql = "INSERT OR REPLACE INTO deliveries VALUES (?1, ?2, ?3, ?4)";
            let mut insert = tx.prepare_cached(sql)?;
            all.iter().try_for_each(|(name, row, due)| {
                insert.execute(params![name, row.place.cast_signed(), row.attempts, due.0])?;
                Ok(())
            })
        }
    }
}

/// Another account of its name is one that was removed meanwhile.
fn put_account(tx: &Connection, row: &Account) -> Result<()> {
    let sql = "DELETE FROM accounts WHERE id = ?1 OR username = ?2";
    tx.prepare_cached(sql)?
        .execute(params![row.id.as_str(), row.username])?;
    let sql = "INSERT INTO accounts (id, username, password_hash, disabled, created_at, privileged) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    tx.prepare_cached(sql)?.execute(params![
        row.id.as_str(),
        row.username,
        row.password_hash.as_str(),
        row.disabled,
        row.created_at.0,
        row.privileged
    ])?;
    Ok(())
}

/// What the log of rotations holds of it is older than what comes, and counts no more.
fn put_session(group: &Group<'_>, row: &doorward_core::Session) -> Result<()> {
    let (tx, id) = (group.tx, row.id);
    let kept = rows::load(tx, id)?.map(|kept| group.rotations.onto(kept).version);
    if kept.is_some_and(|kept| kept >= row.version) {
        return Ok(());
    }
    remove_row(tx, id)?;
    if !rows::insert(tx, row)? {
        return Err(rusqlite::Error::InvalidParameterName(
            "a session whose key did not come before it".into(),
        ));
    }
    Ok(())
}

fn remove_row(tx: &Connection, id: SessionId) -> Result<()> {
    for sql in [
        "DELETE FROM details WHERE session = ?1",
        "DELETE FROM sessions WHERE id = ?1",
    ] {
        tx.prepare_cached(sql)?.execute([id.0])?;
    }
    Ok(())
}

fn put_events(tx: &Connection, entries: &[Entry]) -> Result<()> {
    let mut gone = tx.prepare_cached("DELETE FROM events WHERE seq = ?1")?;
    for entry in entries {
        gone.execute([entry.place.cast_signed()])?;
    }
    events::put(tx, entries)
}

fn clear(group: &mut Group<'_>, kind: Kind) -> Result<()> {
    let tables: &[&str] = match kind {
        Kind::Keys => &["keys"],
        Kind::Accounts => &["accounts"],
        Kind::Resets => &["resets"],
        Kind::ValidFrom => &["valid_from"],
        Kind::Sessions => &["details", "sessions"],
        Kind::Adopted => &["adopted"],
        Kind::Ended => &["ended"],
        Kind::Buckets => &["throttle"],
        Kind::Events => &["events"],
        Kind::Outbox => &["outbox"],
        Kind::Deliveries => &["deliveries"],
    };
    for table in tables {
        group.tx.execute(&format!("DELETE FROM {table}"), [])?;
    }
    if kind == Kind::Sessions {
        group.rotations.remove_all(group.tx)?;
    }
    Ok(())
}
