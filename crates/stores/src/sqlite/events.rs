//! The log of events: records to rows and back.

use super::SqliteStore;
use super::writer::Group;
use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::{Actor, Entry, Event, EventName, Filter, Record};
use doorward_core::id::{SessionId, UserId};
use doorward_core::store::{EventStore, StoreResult};
use rusqlite::types::ToSql;
use rusqlite::{Connection, Result, Row, Statement, params};

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
        self.read(|db| after(db, cursor, filter, limit))
    }

    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        self.read(|db| preceding(db, before, filter, limit))
    }

    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        // A second without anything to remove is one without a write.
        if !self.read(|db| any_before(db, before))? {
            return Ok(0);
        }
        self.writer
            .run(move |group| purge(group.tx, before, limit))
            .await
    }
}

impl Group<'_> {
    /// Appends to the log of events.
    pub(super) fn leave(&self, records: &[Record]) -> Result<()> {
        append(self.tx, records)
    }
}

const COLUMNS: &str =
    "seq, at, name, actor, count, user, session, reason, detail, network, device, agent";

fn append(db: &Connection, records: &[Record]) -> Result<()> {
    let mut insert = db.prepare_cached(INSERT)?;
    let mut records = records.iter();
    records.try_for_each(|record| insert_at(&mut insert, None, record))
}

/// Records at places of their own.
pub(super) fn put(db: &Connection, entries: &[Entry]) -> Result<()> {
    let mut insert = db.prepare_cached(INSERT)?;
    let mut entries = entries.iter();
    entries.try_for_each(|entry| insert_at(&mut insert, Some(entry.place), &entry.record))
}

const INSERT: &str = "INSERT INTO events (seq, at, name, actor, count, user, session, reason, detail, network, device, \
    agent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

fn insert_at(insert: &mut Statement<'_>, place: Option<u64>, record: &Record) -> Result<()> {
    let event = &record.event;
    insert.execute(params![
        place.map(u64::cast_signed),
        record.at.0,
        event.name.as_str(),
        record.actor.as_str(),
        event.count.cast_signed(),
        event.user.as_ref().map(UserId::as_str),
        event.session.map(|id| id.0),
        event.reason.as_deref(),
        event.detail,
        record.network,
        record.device,
        record.agent,
    ])?;
    Ok(())
}

/// Those after a place, and the place to go on from.
pub(super) fn after(
    db: &Connection,
    cursor: u64,
    filter: &Filter,
    limit: u32,
) -> Result<(Vec<Entry>, u64)> {
    // One look: what is appended between the two questions must not be passed over.
    let look = db.unchecked_transaction()?;
    let place = cursor.cast_signed();
    let (entries, seen) = select(&look, ("seq > ", &place), filter, ("ASC", limit))?;
    let last = look
        .prepare_cached("SELECT max(seq) FROM events")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))?;
    let is_all = seen.count < limit;
    let end = if is_all { last } else { seen.last };
    let end = end.unwrap_or(0).max(place).cast_unsigned();
    Ok((entries, end))
}

/// Those before a place, the last first.
fn preceding(
    db: &Connection,
    place: Option<u64>,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Entry>> {
    let place = place.map_or(i64::MAX, |place| i64::try_from(place).unwrap_or(i64::MAX));
    let (entries, _) = select(db, ("seq < ", &place), filter, ("DESC", limit))?;
    Ok(entries)
}

/// How many rows there were, those that this version cannot read too, and the last of them.
#[derive(Default)]
struct Seen {
    count: u32,
    last: Option<i64>,
}

fn select(
    db: &Connection,
    (from, place): (&'static str, &i64),
    filter: &Filter,
    (order, limit): (&str, u32),
) -> Result<(Vec<Entry>, Seen)> {
    let user = filter.user.as_ref().map(UserId::as_str);
    let session = filter.session.map(|id| id.0);
    let name = filter.name.map(EventName::as_str);
    let (since, until) = (filter.since.map(|at| at.0), filter.until.map(|at| at.0));
    let mut wanted: Vec<(&str, &dyn ToSql)> = vec![(from, place)];
    push(&mut wanted, "user = ", user.as_ref());
    push(&mut wanted, "session = ", session.as_ref());
    push(&mut wanted, "name = ", name.as_ref());
    push(&mut wanted, "at >= ", since.as_ref());
    push(&mut wanted, "at < ", until.as_ref());
    let conditions = wanted.iter().map(|(condition, _)| format!("{condition}?"));
    let conditions: Vec<_> = conditions.collect();
    let conditions = conditions.join(" AND ");
    let sql = format!(
        "SELECT {COLUMNS} FROM events WHERE {conditions} ORDER BY seq {order} LIMIT {limit}"
    );
    let values: Vec<_> = wanted.into_iter().map(|(_, value)| value).collect();
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(&*values)?;
    let (mut entries, mut seen) = (Vec::new(), Seen::default());
    while let Some(row) = rows.next()? {
        seen.count += 1;
        seen.last = Some(row.get(0)?);
        entries.extend(entry(row)?);
    }
    Ok((entries, seen))
}

fn push<'a, T: ToSql>(
    wanted: &mut Vec<(&'static str, &'a (dyn ToSql + 'a))>,
    condition: &'static str,
    value: Option<&'a T>,
) {
    wanted.extend(value.map(|value| (condition, value as &dyn ToSql)));
}

/// `None`: something that only a later version knows.
fn entry(row: &Row<'_>) -> Result<Option<Entry>> {
    let name = EventName::parse(row.get_ref(2)?.as_str()?);
    let actor = Actor::parse(row.get_ref(3)?.as_str()?);
    let (Some(name), Some(actor)) = (name, actor) else {
        return Ok(None);
    };
    let text = |i| {
        row.get::<_, Option<String>>(i)
            .map(|text| text.map(Box::<str>::from))
    };
    let user = text(5)?.and_then(|id| UserId::new(&id).ok());
    let event = Event {
        name,
        user,
        session: row.get::<_, Option<[u8; 16]>>(6)?.map(SessionId),
        reason: row.get::<_, Option<String>>(7)?.map(Into::into),
        detail: text(8)?,
        count: row.get::<_, i64>(4)?.cast_unsigned(),
    };
    let record = Record {
        at: Timestamp(row.get(1)?),
        event,
        actor,
        network: text(9)?,
        device: text(10)?,
        agent: text(11)?,
    };
    Ok(Some(Entry {
        place: row.get::<_, i64>(0)?.cast_unsigned(),
        record,
    }))
}

/// Whether there is a record from before.
fn any_before(db: &Connection, at: Timestamp) -> Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE at < ?1)")?
        .query_row([at.0], |row| row.get(0))
}

/// Removes records from before, the oldest first; how many.
fn purge(db: &Connection, before: Timestamp, limit: u32) -> Result<u32> {
    let old = "DELETE FROM events WHERE seq IN \
        (SELECT seq FROM events WHERE at < ?1 ORDER BY at LIMIT ?2)";
    let gone = db.prepare_cached(old)?.execute(params![before.0, limit])?;
    Ok(u32::try_from(gone).unwrap_or(limit))
}

pub(super) fn erase(db: &Connection, user: &UserId) -> Result<()> {
    db.execute("DELETE FROM events WHERE user = ?1", [user.as_str()])?;
    Ok(())
}
