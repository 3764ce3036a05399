//! What an SQLite store hands over and takes in.
//!
//! Sessions are read through the log of rotations. A store that was left has triggers on each table, so
//! that older versions of this program, which know nothing of the mark, are refused too. Whoever moves
//! rows is let through for a transaction, in which `filling` is marked: nobody else ever sees that.

mod pages;
mod putting;

use async_trait::async_trait;
use doorward_core::id::SessionId;
use doorward_core::store::{KeyStore, StoreResult};
use doorward_core::transfer::{Bookmark, Kind, LEFT, Rows, TransferStore};
use rusqlite::{Connection, OptionalExtension, Result, params};

use self::pages::page;
use self::putting::{clear, put, remove};
use super::writer::Group;
use super::{SqliteStore, rows};

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
            let version = |id: &SessionId| {
                let kept = version.query_row([id.0], |row| row.get(0)).optional()?;
                Ok(kept.map(|kept: i64| self.log.version(*id).max(kept).cast_unsigned()))
            };
            ids.iter().map(version).collect()
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
                    remove(group.tx, *id)?;
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
    tx.execute(
        "INSERT OR REPLACE INTO marks (name, value) VALUES ('filling', 1)",
        [],
    )?;
    work(group)?;
    tx.execute("DELETE FROM marks WHERE name = 'filling'", [])?;
    Ok(())
}

fn leave(tx: &Connection, mark: &str) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO marks (name, value) VALUES ('left', ?1)";
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
