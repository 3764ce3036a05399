//! Buckets of failed logins: read, decided on by core, and written if nobody else did meanwhile.
//!
//! Changes that wait in one process are decided on together, one after the other, and written by one script:
//! a storm of logins costs as many round trips as there are, not as many tries as there are logins.

use std::collections::BTreeMap;
use std::sync::Arc;

use doorward_core::Timestamp;
use doorward_core::error::StoreError;
use doorward_core::store::StoreResult;
use doorward_core::throttle::{Bucket, BucketKey, Change, Refused};
use futures_channel::oneshot;

use super::base::{Base, args, int, list, perhaps};
use super::packed::{Packer, Reader};
use super::scripts;
use super::servers::lock;
use super::sessions::busy;
use super::tags::Tag;

/// So many are decided on together at most.
const TOGETHER: usize = 128;
/// How often others may come between.
const TRIES: u32 = 64;

type Outcome = Result<(), Refused>;

/// A change that waits for its turn.
pub(super) struct Waiting {
    change: Change,
    reply: oneshot::Sender<StoreResult<Outcome>>,
}

/// Buckets as they are stored, and as they will be.
type Buckets = BTreeMap<BucketKey, (Vec<u8>, Bucket)>;

impl Base {
    pub(super) async fn change_buckets(self: &Arc<Self>, change: Change) -> StoreResult<Outcome> {
        let (reply, mut answer) = oneshot::channel();
        lock(&self.buckets).push(Waiting { change, reply });
        // Whoever gets the turn decides for all who wait, and may find that his own is done.
        let _turn = self.changing.lock().await;
        loop {
            let gone = |_| StoreError("the change was given up".into());
            if let Some(outcome) = answer.try_recv().map_err(gone)? {
                return outcome;
            }
            let mut some = std::mem::take(&mut *lock(&self.buckets));
            let later = some.split_off(some.len().min(TOGETHER));
            lock(&self.buckets).splice(0..0, later);
            self.decide(some).await;
        }
    }

    async fn decide(&self, some: Vec<Waiting>) {
        let changes: Vec<_> = some.iter().map(|waiting| &waiting.change).collect();
        let outcomes = self.carry_out_all(&changes).await;
        for (number, waiting) in some.into_iter().enumerate() {
            let outcome = match &outcomes {
                Ok(outcomes) => Ok(outcomes[number]),
                Err(error) => Err(error.clone()),
            };
            // Whoever no longer waits need not be told.
            let _ = waiting.reply.send(outcome);
        }
    }

    async fn carry_out_all(&self, changes: &[&Change]) -> StoreResult<Vec<Outcome>> {
        let mut keys: Vec<_> = changes.iter().flat_map(|change| &change.buckets).collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        keys.dedup_by_key(|(key, _)| *key);
        let keys: Vec<_> = keys.into_iter().map(|(key, _)| *key).collect();
        let mut buckets = self.load_buckets(&keys).await?;
        for tried in 0..TRIES {
            let outcomes = changes.iter().map(|change| apply(change, &mut buckets));
            let outcomes: Vec<_> = outcomes.collect();
            if self.save_buckets(&buckets).await? {
                return Ok(outcomes);
            }
            tokio::time::sleep(std::time::Duration::from_millis((tried / 4).into())).await;
            buckets = self.load_buckets(&keys).await?;
        }
        Err(busy())
    }

    async fn load_buckets(&self, keys: &[BucketKey]) -> StoreResult<Buckets> {
        if keys.is_empty() {
            return Ok(Buckets::new());
        }
        let mut command = self.command("HMGET", Tag::Throttle, "buckets");
        args(&mut command, keys.iter().map(|key| &key.0));
        let stored = list(self.read_one(Tag::Throttle, command).await?)?;
        let buckets = keys.iter().zip(stored).map(|(key, stored)| {
            let stored = perhaps(stored)?.unwrap_or_default();
            let bucket = unpack(&stored)?;
            Ok((*key, (stored, bucket)))
        });
        buckets.collect()
    }

    /// Whether they were still what was read; what did not change is not written, and need not be.
    async fn save_buckets(&self, buckets: &Buckets) -> StoreResult<bool> {
        let mut command = self.script(&scripts::BUCKETS, Tag::Throttle, &["buckets", "idle"]);
        let mut changed = 0;
        for (key, (stored, bucket)) in buckets {
            let packed = pack(bucket);
            if *stored != packed && *bucket != unpack(stored)? {
                changed += 1;
                command
                    .arg(&key.0)
                    .arg(stored)
                    .arg(packed)
                    .arg(bucket.idle_at().0);
            }
        }
        if changed == 0 {
            return Ok(true);
        }
        Ok(list(self.write(Tag::Throttle, command).await?)?.is_empty())
    }

    pub(super) async fn purge_buckets(&self, now: Timestamp, limit: u32) -> StoreResult<u32> {
        let mut command = self.script(&scripts::PURGE_BUCKETS, Tag::Throttle, &["buckets", "idle"]);
        command.arg(now.0).arg(limit);
        let gone = int(self.write(Tag::Throttle, command).await?)?;
        Ok(u32::try_from(gone).unwrap_or(limit))
    }
}

/// Carries a change out on what was read; nothing where it is refused.
fn apply(change: &Change, buckets: &mut Buckets) -> Outcome {
    let keys = || change.buckets.iter().map(|(key, _)| *key);
    let of = |key: BucketKey| {
        buckets
            .get(&key)
            .map(|(_, bucket)| *bucket)
            .unwrap_or_default()
    };
    let before: Vec<_> = keys().map(of).collect();
    let after = change.apply(&before)?;
    for (key, after) in keys().zip(after) {
        if let Some((_, bucket)) = buckets.get_mut(&key) {
            *bucket = after;
        }
    }
    Ok(())
}

pub(super) fn pack(bucket: &Bucket) -> Vec<u8> {
    let mut packer = Packer::default();
    packer
        .i64(bucket.refilled_at.0)
        .number(bucket.failures.into());
    packer.i64(bucket.counted_until.0).signed(bucket.span);
    packer
        .number(bucket.under_way.into())
        .number(bucket.older.into());
    packer.0
}

/// Nothing is the default one.
pub(super) fn unpack(bytes: &[u8]) -> StoreResult<Bucket> {
    if bytes.is_empty() {
        return Ok(Bucket::default());
    }
    let mut reader = Reader::new(bytes, "a bucket");
    let count = |reader: &mut Reader<'_>| {
        let number = reader.number()?;
        u32::try_from(number).map_err(|_| reader.damaged())
    };
    Ok(Bucket {
        refilled_at: Timestamp(reader.i64()?),
        failures: count(&mut reader)?,
        counted_until: Timestamp(reader.i64()?),
        span: reader.signed()?,
        under_way: count(&mut reader)?,
        older: count(&mut reader)?,
    })
}
