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
        if self.seal.is_none() || rows.iter().any(is_sealed) {
            rows.clear();
        }
        Ok(rows)
    }

    pub(super) fn sealed(&self, row: &StoredKey) -> Result<StoredKey, KeyError> {
        match &self.seal {
            Some(seal) => seal.seal(row, &*self.env),
            None => Ok(row.clone()),
        }
    }
}
