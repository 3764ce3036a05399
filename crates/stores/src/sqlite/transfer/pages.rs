//! Pages of the tables that are handed over as they are. The bookmark is the key of the last row.

use doorward_core::Timestamp;
use doorward_core::event::Filter;
use doorward_core::id::SessionId;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::store::{Delivery, ValidFrom};
use doorward_core::throttle::BucketKey;
use doorward_core::transfer::{Bookmark, Kind, Rows};
use rusqlite::types::ToSql;
use rusqlite::{Connection, Result, Row, params};

use crate::sqlite::{buckets, events, rows};

type Page = Result<(Rows, Option<Bookmark>)>;

/// A page of a kind whose rows stand in one table.
pub(super) fn page(db: &Connection, kind: Kind, after: Option<&[u8]>, limit: u32) -> Page {
    match kind {
        Kind::Accounts => accounts(db, after, limit),
        Kind::Resets => resets(db, after, limit),
        Kind::ValidFrom => valid_from(db, after, limit),
        Kind::Adopted => adopted(db, after, limit),
        Kind::Ended => ended(db, after, limit),
        Kind::Buckets => buckets(db, after, limit),
        Kind::Events => events(db, after, limit),
        Kind::Outbox => outbox(db, after, limit),
        Kind::Deliveries => deliveries(db, after, limit),
        Kind::Keys | Kind::Sessions => Err(rusqlite::Error::InvalidQuery),
    }
}

fn accounts(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT id, username, password_hash, disabled, created_at, privileged \
        FROM accounts WHERE username > ?1 ORDER BY username LIMIT ?2";
    let rows = select(db, sql, params![text(after), limit], |row| {
        rows::account(db, row)
    })?;
    Ok(cut(
        rows,
        limit,
        |row| row.username.as_bytes().into(),
        Rows::Accounts,
    ))
}

fn resets(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT user, hash, expires_at FROM resets WHERE user > ?1 \
        ORDER BY user LIMIT ?2";
    let rows = select(db, sql, params![text(after), limit], reset)?;
    Ok(cut(
        rows,
        limit,
        |row| row.0.as_str().as_bytes().into(),
        Rows::Resets,
    ))
}

fn valid_from(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT user, at FROM valid_from WHERE user > ?1 ORDER BY user LIMIT ?2";
    let rows = select(db, sql, params![text(after), limit], |row| {
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

fn adopted(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT session, until FROM adopted WHERE session > ?1 \
        ORDER BY session LIMIT ?2";
    let rows = select(db, sql, params![after.unwrap_or_default(), limit], |row| {
        Ok((SessionId(row.get(0)?), Timestamp(row.get(1)?)))
    })?;
    Ok(cut(rows, limit, |row| row.0.0.into(), Rows::Adopted))
}

fn ended(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT seq, session, at, why FROM ended WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let rows = select(db, sql, params![number(after), limit], |row| {
        let end = rows::ended(row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), end))
    })?;
    Ok(cut(
        rows,
        limit,
        |row| row.0.to_be_bytes().into(),
        Rows::Ended,
    ))
}

fn buckets(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT refilled_at, failures, counted_until, span, under_way, older, key \
        FROM throttle WHERE key > ?1 ORDER BY key LIMIT ?2";
    let rows = select(db, sql, params![after.unwrap_or_default(), limit], |row| {
        Ok((BucketKey(row.get(6)?), buckets::bucket(row)?))
    })?;
    Ok(cut(rows, limit, |row| row.0.0.into(), Rows::Buckets))
}

fn events(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let from = number(after).cast_unsigned();
    let (rows, next) = events::after(db, from, &Filter::default(), limit)?;
    let next = (next > from).then(|| next.to_be_bytes().into());
    Ok((Rows::Events(rows), next))
}

fn outbox(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
    let sql = "SELECT address, seq FROM outbox WHERE address > ?1 ORDER BY address LIMIT ?2";
    let rows = select(db, sql, params![text(after), limit], |row| {
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

fn deliveries(db: &Connection, after: Option<&[u8]>, limit: u32) -> Page {
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

fn text(after: Option<&[u8]>) -> String {
    String::from_utf8_lossy(after.unwrap_or_default()).into_owned()
}
