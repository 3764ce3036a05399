//! What a process signs with is in the store, and verifies for as long as its tokens live.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{
    Algorithm, KeyRing, LEASE, PUBLISH_DELAY, Purpose, RETIRED, RETRIES, RingError, StoredKey,
};
use crate::env::Timestamp;
use crate::seal::is_sealed;
use crate::store::{Store, Write};

impl KeyRing {
    /// Makes a key where none fits. Of a purpose's first key there is only one.
    pub(super) async fn ensure(
        &self,
        store: &dyn Store,
        purpose: Purpose,
    ) -> Result<(), RingError> {
        for only_if_none in [true, false] {
            if self.has(purpose) {
                break;
            }
            let algorithm = self.algorithm_of(purpose);
            let key = self.new_key(purpose, algorithm, self.first_signs(purpose))?;
            let _ = store.add_key(self.sealed(&key)?, only_if_none).await?;
            self.take_over(store).await?;
        }
        Ok(())
    }

    fn has(&self, purpose: Purpose) -> bool {
        let ring = self.ring.load();
        match purpose {
            Purpose::Access => ring.own(&self.signer, self.env.now()).is_some(),
            Purpose::Refresh => !ring.refresh.is_empty(),
        }
    }

    /// From when a key signs that is made now: at once, if no other could until it is known to all.
    fn first_signs(&self, purpose: Purpose) -> Timestamp {
        let now = self.env.now();
        let ring = self.ring.load();
        let another = match purpose {
            Purpose::Access => ring.lent(&self.signer, now).is_some(),
            Purpose::Refresh => !ring.refresh.is_empty(),
        };
        if another { now + PUBLISH_DELAY } else { now }
    }

    /// Sees to it that the store has what this process signs with, and that it verifies for as long
    /// as its tokens live: publishes the operator's own key, makes one where there is none, or moves
    /// on the time at which it runs out. Doors call it every second, through
    /// [`crate::Service::purge`]; it writes once in some minutes.
    ///
    /// # Errors
    /// The configured key was retired, or the store did not answer.
    pub async fn renew(&self, store: &dyn Store) -> Result<(), RingError> {
        for _ in 0..RETRIES {
            if self.is_retired() {
                return Err(RETIRED.into());
            }
            self.reseal_missed(store).await?;
            if self.signer.configured.is_none() {
                self.ensure(store, Purpose::Access).await?;
            }
            let Some(row) = self.unrenewed() else { break };
            self.write(store, row).await?;
            self.take_over(store).await?;
        }
        Ok(())
    }

    async fn write(&self, store: &dyn Store, row: StoredKey) -> Result<(), RingError> {
        // One that was sealed and is for anybody stays sealed as it is.
        let sealed = if is_sealed(&row) {
            row
        } else {
            self.sealed(&row)?
        };
        if self.ring.load().row(sealed.id).is_some() {
            let _ = store.update_keys(vec![sealed]).await?;
        } else if store.add_key(sealed, false).await? == Write::Done {
            self.is_new.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The row that this process signs with as the store should have it; `None`: the store does.
    fn unrenewed(&self) -> Option<StoredKey> {
        let (ring, now) = (self.ring.load(), self.env.now());
        let published = ring.own(&self.signer, now).map(|own| &own.row);
        let until = now + self.promise() + LEASE;
        let in_time = |row: &&StoredKey| row.verifies_until >= until - LEASE / 2;
        let Some(own) = &self.signer.configured else {
            let late = published.filter(|row| !in_time(row));
            return late.map(|row| StoredKey {
                verifies_until: until,
                ..row.clone()
            });
        };
        if published.is_some_and(|row| in_time(&row) && self.signer.has_joined(row)) {
            return None;
        }
        let fresh = StoredKey {
            created_at: now,
            signs_from: now + PUBLISH_DELAY,
            verifies_until: until,
            ..own.clone()
        };
        Some(published.map_or(fresh.clone(), |row| self.rejoined(row, fresh)))
    }

    /// The row of a configured key that was in the store before. While it verified, all knew it.
    fn rejoined(&self, row: &StoredKey, fresh: StoredKey) -> StoredKey {
        let for_all = row.scopes.is_empty() || self.signer.has_joined(row);
        let known = for_all && row.verifies_until > self.env.now();
        let others = row.scopes.lines().filter(|scope| **scope != *fresh.scopes);
        let scopes: Vec<_> = others.chain([&*fresh.scopes]).collect();
        StoredKey {
            scopes: scopes.join("\n").into(),
            created_at: row.created_at,
            signs_from: if known {
                row.signs_from
            } else {
                fresh.signs_from
            },
            verifies_until: row.verifies_until.max(fresh.verifies_until),
            ..fresh
        }
    }

    /// How long a key must verify after it signed: as long as its token lives, by any node's clock.
    pub(super) fn promise(&self) -> Duration {
        self.policy.revocation_span() + PUBLISH_DELAY
    }

    pub(super) fn algorithm_of(&self, purpose: Purpose) -> Algorithm {
        match purpose {
            Purpose::Access => self.signer.algorithm,
            Purpose::Refresh => Algorithm::HS256,
        }
    }
}
