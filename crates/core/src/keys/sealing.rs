//! Which rows of the store are sealed, and when.

use super::{KeyError, KeyRing, RETRIES, RingError, StoredKey};
use crate::error::StoreError;
use crate::seal::is_sealed;
use crate::store::{Store, Write};

impl KeyRing {
    /// Seals what lies in the store unsealed, all at once, if nothing there is sealed yet. After
    /// that an unsealed entry is somebody else's, and is ignored.
    pub(super) async fn seal_all(&self, store: &dyn Store) -> Result<(), RingError> {
        for _ in 0..RETRIES {
            let rows = self.to_seal(store).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let sealed: Result<Vec<_>, _> = rows.iter().map(|row| self.sealed(row)).collect();
            if store.update_keys(sealed?).await? == Write::Done {
                return Ok(());
            }
        }
        Err(StoreError("the keys changed while they were sealed".into()).into())
    }

    pub(super) async fn to_seal(&self, store: &dyn Store) -> Result<Vec<StoredKey>, StoreError> {
        let mut rows = store.keys().await?;
        rows.retain(|row| !row.retired);
        if self.seals.are_none() || rows.iter().any(is_sealed) {
            rows.clear();
        }
        Ok(rows)
    }

    /// As the store may keep it, by the seal that the other keys there have.
    pub(super) fn sealed(&self, row: &StoredKey) -> Result<StoredKey, KeyError> {
        self.seals.seal(row, self.ring.load().seal(), &*self.env)
    }

    /// Seals every key in the store by `seal_secret`: those that a previous one sealed, and those that
    /// lie there unsealed. All at once, so that no crash leaves a store which nobody can open; each
    /// process must know `seal_secret` by then. Returns how many were sealed otherwise.
    ///
    /// # Errors
    /// There is no seal secret, or the store did not answer.
    pub async fn reseal(&self, store: &dyn Store) -> Result<usize, RingError> {
        if self.seals.are_none() {
            return Err(KeyError("seal_secret is missing: configure it to seal the keys").into());
        }
        let unsealed = self.to_seal(store).await?.len();
        self.seal_all(store).await?;
        let resealed = self.reseal_rest(store).await?;
        Ok(unsealed + resealed)
    }

    /// What another process wrote by the seal before, as the keys were sealed anew: nobody must miss
    /// it once that secret is gone.
    pub(super) async fn reseal_missed(&self, store: &dyn Store) -> Result<(), RingError> {
        let is_mixed = {
            let ring = self.ring.load();
            ring.seal() == 0 && ring.sealed_before().next().is_some()
        };
        if is_mixed {
            self.reseal_rest(store).await?;
        }
        Ok(())
    }

    async fn reseal_rest(&self, store: &dyn Store) -> Result<usize, RingError> {
        let mut resealed = 0;
        for _ in 0..=RETRIES {
            self.take_over(store).await?;
            let rows = self.resealed()?;
            let count = rows.len();
            if count == 0 {
                return Ok(resealed);
            }
            if store.update_keys(rows).await? == Write::Done {
                resealed += count;
            }
        }
        Err(StoreError("the keys changed while they were sealed".into()).into())
    }

    /// The rows that are sealed otherwise, sealed by `seal_secret`.
    fn resealed(&self) -> Result<Vec<StoredKey>, KeyError> {
        let ring = self.ring.load();
        let opened = ring.sealed_before().filter_map(|row| {
            let (secret, _) = self.seals.open(row)?;
            let secret = secret.as_slice().into();
            Some(StoredKey {
                secret,
                ..row.clone()
            })
        });
        opened
            .map(|row| self.seals.seal(&row, 0, &*self.env))
            .collect()
    }

    /// Whether the store's keys are sealed by a secret that is about to go.
    #[must_use]
    pub fn is_sealed_before(&self) -> bool {
        self.ring.load().sealed_before().next().is_some()
    }
}
