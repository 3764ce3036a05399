//! The table of buckets: read, decided on by core, and written back in the same transaction.

use super::SqliteStore;
use super::writer::Group;
use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::store::{StoreResult, ThrottleStore};
use doorward_core::throttle::{Bucket, BucketKey, Change, Refused};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

#[async_trait]
impl ThrottleStore for SqliteStore {
    async fn change_buckets(
        &self,
        change: Change,
    ) -> StoreResult<std::result::Result<(), Refused>> {
        let changed = self.writer.run(move |group| carry_out(group.tx, &change));
        changed.await
    }

    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        if !self.read(|db| any_idle(db, now))? {
            return Ok(0);
        }
        let purge = move |group: &mut Group<'_>| purge(group.tx, now, limit);
        let gone = self.writer.run(purge).await?;
        Ok(u32::try_from(gone).unwrap_or(limit))
    }
}

fn carry_out(tx: &Connection, change: &Change) -> Result<Result<(), Refused>> {
    let keys = || change.buckets.iter().map(|(key, _)| *key);
    let before: Result<Vec<_>> = keys().map(|key| load(tx, key)).collect();
    let after = match change.apply(&before?) {
        Ok(after) => after,
        Err(refused) => return Ok(Err(refused)),
    };
    for (key, bucket) in keys().zip(after) {
        save(tx, key, &bucket)?;
    }
    Ok(Ok(()))
}

fn load(tx: &Connection, key: BucketKey) -> Result<Bucket> {
    let sql = "SELECT refilled_at, failures, counted_until, span, under_way, older FROM throttle \
        WHERE key = ?1";
    let found = tx
        .prepare_cached(sql)?
        .query_row([key.0], bucket)
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn bucket(row: &Row<'_>) -> Result<Bucket> {
    Ok(Bucket {
        refilled_at: Timestamp(row.get(0)?),
        failures: row.get(1)?,
        counted_until: Timestamp(row.get(2)?),
        span: row.get(3)?,
        under_way: row.get(4)?,
        older: row.get(5)?,
    })
}

pub(super) fn save(tx: &Connection, key: BucketKey, bucket: &Bucket) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO throttle (key, refilled_at, failures, counted_until, span, under_way, \
        older, idle_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![
        key.0,
        bucket.refilled_at.0,
        bucket.failures,
        bucket.counted_until.0,
        bucket.span,
        bucket.under_way,
        bucket.older,
        bucket.idle_at().0
    ];
    tx.prepare_cached(sql)?.execute(values).map(drop)
}

/// Whether there is anything to purge: a second without it is one without a write.
fn any_idle(db: &Connection, now: Timestamp) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM throttle WHERE idle_at < ?1)";
    db.prepare_cached(sql)?.query_row([now.0], |row| row.get(0))
}

fn purge(tx: &Connection, now: Timestamp, limit: u32) -> Result<usize> {
    let sql = "DELETE FROM throttle WHERE key IN \
        (SELECT key FROM throttle WHERE idle_at < ?1 ORDER BY idle_at LIMIT ?2)";
    tx.prepare_cached(sql)?.execute(params![now.0, limit])
}
