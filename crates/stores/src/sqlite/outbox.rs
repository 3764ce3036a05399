//! What webhooks have still to send.

use super::SqliteStore;
use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::store::Delivery;
use doorward_core::store::{OutboxStore, StoreResult, Write};
use rusqlite::{Connection, OptionalExtension, Result, params};

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        self.read(|db| cursor(db, address))
    }

    async fn enqueue(
        &self,
        address: &str,
        cursor: (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        let (address, places) = (address.to_owned(), places.to_vec());
        self.write(move |group| enqueue(group.tx, &address, cursor, &places, due))
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
        if !self.read(|db| is_any_due(db, address, now))? {
            return Ok(Vec::new());
        }
        let address = address.to_owned();
        self.writer
            .run(move |group| claim(group.tx, &address, now, until, limit))
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
            .run(move |group| settle(group.tx, &address, place, again))
            .await
    }
}

fn cursor(db: &Connection, address: &str) -> Result<Option<u64>> {
    let sql = "SELECT seq FROM outbox WHERE address = ?1";
    let seq = db
        .prepare_cached(sql)?
        .query_row([address], |row| row.get(0));
    Ok(seq.optional()?.map(i64::cast_unsigned))
}

/// Whether the cursor was where it was said to be.
fn enqueue(
    db: &Connection,
    address: &str,
    (from, to): (Option<u64>, u64),
    places: &[u64],
    due: Timestamp,
) -> Result<bool> {
    if cursor(db, address)? != from {
        return Ok(false);
    }
    let sql = "INSERT OR REPLACE INTO outbox (address, seq) VALUES (?1, ?2)";
    db.prepare_cached(sql)?
        .execute(params![address, to.cast_signed()])?;
    let mut insert = db.prepare_cached(
        "INSERT INTO deliveries (address, seq, attempts, due) VALUES (?1, ?2, 0, ?3)",
    )?;
    for place in places {
        insert.execute(params![address, place.cast_signed(), due.0])?;
    }
    Ok(true)
}

fn is_any_due(db: &Connection, address: &str, now: Timestamp) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE address = ?1 AND due <= ?2)";
    db.prepare_cached(sql)?
        .query_row(params![address, now.0], |row| row.get(0))
}

fn claim(
    db: &Connection,
    address: &str,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<Delivery>> {
    let sql = "SELECT seq, attempts FROM deliveries WHERE address = ?1 AND due <= ?2 \
        ORDER BY due, seq LIMIT ?3";
    let mut due = db.prepare_cached(sql)?;
    let due = due.query_map(params![address, now.0, limit], |row| {
        Ok(Delivery {
            place: row.get::<_, i64>(0)?.cast_unsigned(),
            attempts: row.get(1)?,
        })
    })?;
    let due: Vec<_> = due.collect::<Result<_>>()?;
    for delivery in &due {
        settle(
            db,
            address,
            delivery.place,
            Some((delivery.attempts, until)),
        )?;
    }
    Ok(due)
}

fn settle(
    db: &Connection,
    address: &str,
    place: u64,
    again: Option<(u32, Timestamp)>,
) -> Result<()> {
    let place = place.cast_signed();
    let Some((attempts, due)) = again else {
        let sql = "DELETE FROM deliveries WHERE address = ?1 AND seq = ?2";
        return db
            .prepare_cached(sql)?
            .execute(params![address, place])
            .map(drop);
    };
    let sql = "UPDATE deliveries SET attempts = ?3, due = ?4 WHERE address = ?1 AND seq = ?2";
    db.prepare_cached(sql)?
        .execute(params![address, place, attempts, due.0])
        .map(drop)
}
