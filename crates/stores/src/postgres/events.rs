//! The log of events: records to rows and back.

use std::fmt::Write as _;

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::{Actor, Entry, Event, EventName, Filter, Record};
use doorward_core::id::{SessionId, UserId};
use doorward_core::store::{EventStore, StoreResult};
use tokio_postgres::Row;

use super::PostgresStore;
use super::connection::{Failed, Value, step};
use super::rows::{self, Uuid};
use super::view::Needs;

const COLUMNS: &str =
    "place, at, name, actor, count, user_id, session, reason, detail, network, device, agent";

#[async_trait]
impl EventStore for PostgresStore {
    async fn append(&self, records: Vec<Record>) -> StoreResult<()> {
        self.group(Needs::default(), move |view| view.leave(records.clone()))
            .await
    }

    async fn events_after(
        &self,
        cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        let mut values: Vec<Value> = vec![Box::new(cursor.cast_signed())];
        let wanted = wanted(filter, &mut values);
        // One look: what is appended between two questions must not be passed over.
        let sql = format!(
            "SELECT e.*, h.place FROM @heads h LEFT JOIN LATERAL (SELECT {COLUMNS} FROM @events \
             WHERE place > $1{wanted} ORDER BY place LIMIT {limit}) e ON true WHERE h.name = 'events' \
             ORDER BY e.place"
        );
        self.read(sql, values, move |rows| after(&rows, cursor, limit))
            .await
    }

    async fn events_before(
        &self,
        before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        let before = before.map_or(i64::MAX, |place| i64::try_from(place).unwrap_or(i64::MAX));
        let mut values: Vec<Value> = vec![Box::new(before)];
        let wanted = wanted(filter, &mut values);
        let sql = format!(
            "SELECT {COLUMNS} FROM @events WHERE place < $1{wanted} ORDER BY place DESC LIMIT {limit}"
        );
        let entries = |rows: Vec<Row>| {
            let entries: Result<Vec<_>, _> = rows.iter().map(entry).collect();
            Ok(entries?.into_iter().flatten().collect())
        };
        self.read(sql, values, entries).await
    }

    async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        let any = "SELECT 1 FROM @events WHERE at < $1 LIMIT 1";
        let any = self.read(any, vec![Box::new(before.0)], |rows| Ok(!rows.is_empty()));
        // A second without anything to remove is one without a write.
        if !any.await? || !self.may_purge().await? {
            return Ok(0);
        }
        let sql = "DELETE FROM @events WHERE place IN \
            (SELECT place FROM @events WHERE at < $1 ORDER BY at LIMIT $2) RETURNING 1";
        let gone = self
            .write(move || vec![step!(sql, before.0, i64::from(limit))])
            .await?;
        Ok(u32::try_from(gone.iter().flatten().count()).unwrap_or(limit))
    }
}

/// What a filter adds to a condition.
fn wanted(filter: &Filter, values: &mut Vec<Value>) -> String {
    let mut wanted = String::new();
    let mut push = |condition: &str, value: Value| {
        values.push(value);
        let _ = write!(wanted, " AND {condition} ${}", values.len());
    };
    if let Some(user) = &filter.user {
        push("user_id =", Box::new(user.as_str().to_owned()));
    }
    if let Some(session) = filter.session {
        push("session =", Box::new(Uuid(session.0)));
    }
    if let Some(name) = filter.name {
        push("name =", Box::new(name.as_str()));
    }
    if let Some(since) = filter.since {
        push("at >=", Box::new(since.0));
    }
    if let Some(until) = filter.until {
        push("at <", Box::new(until.0));
    }
    wanted
}

/// Entries and the place to go on from.
fn after(rows: &[Row], cursor: u64, limit: u32) -> Result<(Vec<Entry>, u64), Failed> {
    let (mut entries, mut seen, mut last, mut head) = (Vec::new(), 0, 0, 0);
    for row in rows {
        head = row.try_get::<_, i64>(12)?;
        if let Some(place) = row.try_get::<_, Option<i64>>(0)? {
            (seen, last) = (seen + 1, place);
            entries.extend(entry(row)?);
        }
    }
    let end = if seen < limit { head } else { last };
    Ok((entries, end.cast_unsigned().max(cursor)))
}

/// `None`: something that only a later version knows.
fn entry(row: &Row) -> Result<Option<Entry>, Failed> {
    let (name, actor) = (
        EventName::parse(row.try_get(2)?),
        Actor::parse(row.try_get(3)?),
    );
    let (Some(name), Some(actor)) = (name, actor) else {
        return Ok(None);
    };
    let session: Option<Uuid> = row.try_get(6)?;
    let event = Event {
        name,
        user: rows::text(row, 5)?.and_then(|id| UserId::new(&id).ok()),
        session: session.map(|id| SessionId(id.0)),
        reason: row.try_get::<_, Option<String>>(7)?.map(Into::into),
        detail: rows::text(row, 8)?,
        count: row.try_get::<_, i64>(4)?.cast_unsigned(),
    };
    let record = Record {
        at: Timestamp(row.try_get(1)?),
        event,
        actor,
        network: rows::text(row, 9)?,
        device: rows::text(row, 10)?,
        agent: rows::text(row, 11)?,
    };
    Ok(Some(Entry {
        place: row.try_get::<_, i64>(0)?.cast_unsigned(),
        record,
    }))
}
