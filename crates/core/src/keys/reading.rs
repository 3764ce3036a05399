//! How the ring keeps up with the store: which reading counts, and by what time keys run out.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::ring::Ring;
use super::{KeyError, KeyRing, PUBLISH_DELAY, RingError, StoredKey};
use crate::env::{Timestamp, millis};
use crate::error::StoreError;
use crate::store::Store;

/// The read of the store that the ring is from.
#[derive(Default)]
pub(super) struct Read {
    pub(super) number: u64,
    at: Option<Timestamp>,
    /// When the store last answered again, and when it had before.
    gap: Option<(Timestamp, Timestamp)>,
}

impl Read {
    /// The time by which keys have run out, of a read at `now`: whoever could not renew one while the
    /// store did not answer has a moment to do so.
    fn as_of(&mut self, now: Timestamp) -> Timestamp {
        let before = self.at.replace(now);
        let missed = before.filter(|before| *before + PUBLISH_DELAY < now);
        if let Some(before) = missed {
            self.gap = Some((self.judged_at(before), now));
        }
        self.judged_at(now)
    }

    fn judged_at(&self, now: Timestamp) -> Timestamp {
        let soon_after = |back| (0..millis(PUBLISH_DELAY)).contains(&now.since(back));
        match self.gap {
            Some((before, back)) if soon_after(back) => before,
            _ => now,
        }
    }
}

impl KeyRing {
    /// Takes over what the store has now. Rows that cannot be read are ignored.
    ///
    /// # Errors
    /// The store did not answer, or its keys are sealed otherwise; the ring stays as it was, less what was
    /// retired.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), StoreError> {
        self.take_over(store).await.map_err(|error| match error {
            RingError::Key(error) => StoreError(error.0.into()),
            RingError::Store(error) => error,
        })
    }

    pub(super) async fn take_over(&self, store: &dyn Store) -> Result<(), RingError> {
        let taken = self.read(store).await;
        let refused = match &taken {
            Err(RingError::Key(error)) => Some(Arc::new(error.clone())),
            _ => None,
        };
        self.refused.store(refused);
        taken
    }

    /// Why the store's keys cannot be used, though it answers: the seal secret is not theirs.
    pub(crate) fn refused(&self) -> Option<KeyError> {
        self.refused.load().as_deref().cloned()
    }

    async fn read(&self, store: &dyn Store) -> Result<(), RingError> {
        let read = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let rows = store.keys().await?;
        let mut newest = self
            .newest_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if read < newest.number {
            return Ok(());
        }
        newest.number = read;
        let now = self.env.now();
        let as_of = newest.as_of(now);
        let ring = self.ring.load();
        if rows != ring.rows || ring.lapses(&self.signer, now, as_of) {
            let of = |rows| Ring::of(rows, &ring, &self.seals, &self.signer, (now, as_of));
            match of(rows.clone()) {
                Ok(next) => self.put(next),
                Err(unread) => {
                    let kept = retired_too(&ring.rows, &rows);
                    if kept != ring.rows {
                        self.put(of(kept)?);
                    }
                    return Err(unread.into());
                }
            }
        }
        Ok(())
    }

    fn put(&self, ring: Ring) {
        self.ring.store(Arc::new(ring));
        self.cache.flush();
    }
}

/// The rows as they could be read last, less those that were retired since: for that no row need be
/// opened, and a key that leaked must be over for a process too that lacks the others' seal secret.
fn retired_too(last: &[StoredKey], now: &[StoredKey]) -> Vec<StoredKey> {
    let is_retired = |id| now.iter().any(|row| row.id == id && row.retired);
    let rows = last.iter().map(|row| StoredKey {
        retired: row.retired || is_retired(row.id),
        ..row.clone()
    });
    rows.collect()
}
