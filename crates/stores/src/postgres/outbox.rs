//! What webhooks have still to send.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::store::{Delivery, OutboxStore, StoreResult, Write};
use tokio_postgres::Row;

use super::connection::{Failed, Value, step};
use super::{PostgresStore, damaged, took};

#[async_trait]
impl OutboxStore for PostgresStore {
    async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        let sql = "SELECT place FROM @outbox WHERE address = $1";
        let first = |rows: Vec<Row>| {
            let place = rows
                .first()
                .map(|row| row.try_get::<_, i64>(0))
                .transpose()?;
            Ok(place.map(i64::cast_unsigned))
        };
        self.read(sql, vec![Box::new(address.to_owned())], first)
            .await
    }

    async fn enqueue(
        &self,
        address: &str,
        (from, to): (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        const QUEUE: &str = ", queued AS (INSERT INTO @deliveries (address, place, attempts, due) \
            SELECT $1, n.place, 0, $5 FROM moved, unnest($4::bigint[]) AS n (place)) SELECT 1 FROM moved";
        let first = match from {
            Some(_) => {
                "WITH moved AS (UPDATE @outbox SET place = $3 WHERE address = $1 AND place = $2 RETURNING 1)"
            }
            None => {
                "WITH moved AS (INSERT INTO @outbox (address, place) SELECT $1, $3 WHERE $2::bigint IS NULL \
                 ON CONFLICT DO NOTHING RETURNING 1)"
            }
        };
        let (address, from) = (address.to_owned(), from.map(u64::cast_signed));
        let queued: Vec<_> = places.iter().map(|place| place.cast_signed()).collect();
        let steps = move || {
            let sql = format!("{first}{QUEUE}");
            vec![step!(
                sql,
                address.clone(),
                from,
                to.cast_signed(),
                queued.clone(),
                due.0
            )]
        };
        let moved = self.write(steps).await?;
        Ok(took(moved.iter().any(|rows| !rows.is_empty())))
    }

    async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        // A second without anything to send is one without a write.
        let any = "SELECT 1 FROM @deliveries WHERE address = $1 AND due <= $2 LIMIT 1";
        let values: Vec<Value> = vec![Box::new(address.to_owned()), Box::new(now.0)];
        if !self.read(any, values, |rows| Ok(!rows.is_empty())).await? {
            return Ok(Vec::new());
        }
        let sql = "WITH due AS (SELECT place, due FROM @deliveries WHERE address = $1 AND due <= $2 \
            ORDER BY due, place LIMIT $4 FOR UPDATE SKIP LOCKED) \
            UPDATE @deliveries AS d SET due = $3 FROM due WHERE d.address = $1 AND d.place = due.place \
            RETURNING d.place, d.attempts, due.due";
        let address = address.to_owned();
        let steps = move || {
            vec![step!(
                sql,
                address.clone(),
                now.0,
                until.0,
                i64::from(limit)
            )]
        };
        let claimed = self.write(steps).await?;
        let mut claimed: Vec<_> = claimed
            .iter()
            .flatten()
            .map(delivery)
            .collect::<Result<_, Failed>>()?;
        claimed.sort_unstable_by_key(|(due, delivery)| (*due, delivery.place));
        Ok(claimed.into_iter().map(|(_, delivery)| delivery).collect())
    }

    async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        let (address, place) = (address.to_owned(), place.cast_signed());
        let attempts = again.map(|(attempts, _)| i32::try_from(attempts));
        let attempts = attempts.transpose().map_err(|_| damaged("attempts"))?;
        let steps = move || {
            let Some((attempts, (_, due))) = attempts.zip(again) else {
                let sql = "DELETE FROM @deliveries WHERE address = $1 AND place = $2";
                return vec![step!(sql, address.clone(), place)];
            };
            let sql =
                "UPDATE @deliveries SET attempts = $3, due = $4 WHERE address = $1 AND place = $2";
            vec![step!(sql, address.clone(), place, attempts, due.0)]
        };
        self.write(steps).await.map(drop)
    }
}

fn delivery(row: &Row) -> Result<(i64, Delivery), Failed> {
    let attempts = u32::try_from(row.try_get::<_, i32>(1)?);
    let delivery = Delivery {
        place: row.try_get::<_, i64>(0)?.cast_unsigned(),
        attempts: attempts.map_err(|_| Failed::Damaged("attempts"))?,
    };
    Ok((row.try_get(2)?, delivery))
}
