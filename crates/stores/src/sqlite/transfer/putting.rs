//! Taking rows in.

use doorward_core::event::Entry;
use doorward_core::id::SessionId;
use doorward_core::store::Account;
use doorward_core::transfer::{Kind, Rows};
use rusqlite::{Connection, Result, Statement, params};

use crate::sqlite::writer::Group;
use crate::sqlite::{buckets, events, rows};

/// Takes rows in.
pub(super) fn put(group: &mut Group<'_>, all: &Rows) -> Result<()> {
    let tx = group.tx;
    match all {
        Rows::Keys(all) => all.iter().try_for_each(|row| rows::put_key(tx, row)),
        Rows::Accounts(all) => all.iter().try_for_each(|row| put_account(tx, row)),
        Rows::Resets(all) => {
            let sql = "INSERT OR REPLACE INTO resets (user, hash, expires_at) VALUES (?1, ?2, ?3)";
            each(tx, sql, all, |insert, (user, row)| {
                insert.execute(params![user.as_str(), row.hash.0, row.expires_at.0])
            })
        }
        Rows::ValidFrom(all) => {
            let sql = "INSERT INTO valid_from (user, at) VALUES (?1, ?2) \
                ON CONFLICT (user) DO UPDATE SET at = max(at, excluded.at)";
            each(tx, sql, all, |insert, (user, at)| {
                insert.execute(params![user.as_str(), at.0])
            })
        }
        Rows::Sessions(all) => all.iter().try_for_each(|row| put_session(group, row)),
        Rows::Adopted(all) => {
            let sql = "INSERT OR REPLACE INTO adopted (session, until) VALUES (?1, ?2)";
            each(tx, sql, all, |insert, (id, until)| {
                insert.execute(params![id.0, until.0])
            })
        }
        Rows::Ended(all) => {
            group.ended.extend(all.iter().map(|(_, end)| *end));
            let sql =
                "INSERT OR REPLACE INTO ended (seq, session, at, why) VALUES (?1, ?2, ?3, ?4)";
            each(tx, sql, all, |insert, (place, end)| {
                let why = end.reason as u8;
                insert.execute(params![place.cast_signed(), end.session.0, end.at.0, why])
            })
        }
        Rows::Buckets(all) => {
            let mut all = all.iter();
            all.try_for_each(|(key, bucket)| buckets::save(tx, *key, bucket))
        }
        Rows::Events(all) => put_events(tx, all),
        Rows::Outbox(all) => {
            let sql = "INSERT OR REPLACE INTO outbox (address, seq) VALUES (?1, ?2)";
            each(tx, sql, all, |insert, (name, cursor)| {
                insert.execute(params![name, cursor.cast_signed()])
            })
        }
        Rows::Deliveries(all) => {
            let sql = "INSERT OR REPLACE INTO deliveries (address, seq, attempts, due) \
                VALUES (?1, ?2, ?3, ?4)";
            each(tx, sql, all, |insert, (name, row, due)| {
                insert.execute(params![name, row.place.cast_signed(), row.attempts, due.0])
            })
        }
    }
}

fn each<T>(
    tx: &Connection,
    sql: &str,
    rows: &[T],
    put: impl Fn(&mut Statement<'_>, &T) -> Result<usize>,
) -> Result<()> {
    let mut insert = tx.prepare_cached(sql)?;
    let mut rows = rows.iter();
    rows.try_for_each(|row| put(&mut insert, row).map(drop))
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
    remove(tx, id)?;
    if !rows::insert(tx, row)? {
        return Err(rusqlite::Error::InvalidParameterName(
            "a session whose key did not come before it".into(),
        ));
    }
    Ok(())
}

/// Removes a session and its details.
pub(super) fn remove(tx: &Connection, id: SessionId) -> Result<()> {
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

/// Removes all rows of a kind.
pub(super) fn clear(group: &mut Group<'_>, kind: Kind) -> Result<()> {
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
