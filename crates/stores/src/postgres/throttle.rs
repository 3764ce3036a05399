//! The table of buckets: locked, decided on by core, and written back in the same transaction.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::store::{StoreResult, ThrottleStore};
use doorward_core::throttle::{Change, Refused};

use super::PostgresStore;
use super::connection::step;
use super::view::{Needs, View};

#[async_trait]
impl ThrottleStore for PostgresStore {
    async fn change_buckets(&self, change: Change) -> StoreResult<Result<(), Refused>> {
        let needs = Needs {
            buckets: change.buckets.iter().map(|(key, _)| *key).collect(),
            ..Needs::default()
        };
        let carry_out = move |view: &mut View| {
            let keys = || change.buckets.iter().map(|(key, _)| *key);
            let before: Vec<_> = keys()
                .map(|key| view.buckets.get(&key).copied().unwrap_or_default())
                .collect();
            for (key, bucket) in keys().zip(change.apply(&before)?) {
                view.buckets.set(key, bucket);
            }
            Ok(())
        };
        self.group(needs, carry_out).await
    }

    async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        let any = "SELECT 1 FROM @throttle WHERE idle_at < $1 LIMIT 1";
        let any = self.read(any, vec![Box::new(now.0)], |rows| Ok(!rows.is_empty()));
        // A second without anything to remove is one without a write.
        if !any.await? || !self.may_purge().await? {
            return Ok(0);
        }
        let sql = "WITH old AS (SELECT key FROM @throttle WHERE idle_at < $1 ORDER BY idle_at LIMIT $2), \
            locked AS (SELECT key FROM @throttle WHERE key IN (SELECT key FROM old) AND idle_at < $1 \
            ORDER BY key FOR UPDATE SKIP LOCKED) \
            DELETE FROM @throttle WHERE key IN (SELECT key FROM locked) RETURNING 1";
        let steps = move || vec![step!(sql, now.0, i64::from(limit))];
        let gone = self.write(steps).await?;
        Ok(u32::try_from(gone.iter().flatten().count()).unwrap_or(limit))
    }
}
