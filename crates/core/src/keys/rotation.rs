//! New keys, and the end of old ones.

use super::ring::Ring;
use super::{
    Algorithm, EVER, KeyError, KeyId, KeyRing, LAPSED_KEPT, LEASE, PUBLISH_DELAY, Purpose,
    RingError, StoredKey,
};
use crate::access_token::AccessKey;
use crate::env::Timestamp;
use crate::error::StoreError;
use crate::store::Store;

impl KeyRing {
    /// Adds a key that will sign once every node knows it, of the algorithm that signs now.
    ///
    /// # Errors
    /// Another key than the ring's own signs, or the store did not answer.
    pub async fn rotate(&self, store: &dyn Store, purpose: Purpose) -> Result<KeyId, RingError> {
        if purpose == Purpose::Access && self.signer.configured.is_some() {
            return Err(KeyError(
                "access tokens are signed by the configured key; configure another one instead",
            )
            .into());
        }
        self.seal_all(store).await?;
        self.take_over(store).await?;
        let algorithm = self.signing_algorithm(purpose);
        let key = self.new_key(purpose, algorithm, self.env.now() + PUBLISH_DELAY)?;
        let _ = store.add_key(self.sealed(&key)?, false).await?;
        self.take_over(store).await?;
        Ok(key.id)
    }

    /// The processes that sign may be configured otherwise than this one: the rows tell.
    fn signing_algorithm(&self, purpose: Purpose) -> Algorithm {
        let (ring, now) = (self.ring.load(), self.env.now());
        let signing = match purpose {
            Purpose::Access => {
                let own = ring.own(&self.signer, now).map(|own| &own.row);
                own.or_else(|| ring.newest_made(now))
            }
            Purpose::Refresh => None,
        };
        let algorithm = signing.and_then(|row| row.algorithm.parse().ok());
        algorithm.unwrap_or_else(|| self.algorithm_of(purpose))
    }

    /// Drops a key at once, for logout too. If no other of its algorithm could sign, a new one takes
    /// its place first, unless it is somebody's own, or was superseded by another algorithm.
    ///
    /// # Errors
    /// No such key, or the store did not answer.
    pub async fn retire(&self, store: &dyn Store, id: KeyId) -> Result<(), RingError> {
        self.seal_all(store).await?;
        self.take_over(store).await?;
        let row = self.ring.load().row(id).cloned();
        let row = row.ok_or(KeyError("no key with this id; `keys list` shows them"))?;
        if row.retired {
            return Ok(());
        }
        if self.ring.load().is_last(&row, self.env.now()) {
            let algorithm = row.algorithm.parse()?;
            let key = self.new_key(row.purpose, algorithm, self.env.now())?;
            let _ = store.add_key(self.sealed(&key)?, false).await?;
        }
        let retired = StoredKey {
            secret: [].into(),
            retired: true,
            ..row
        };
        let _ = store.update_keys(vec![retired]).await?;
        self.take_over(store).await
    }

    /// Removes keys whose last token was over a longest session ago, and of those that have run out
    /// the oldest if there are too many. Retired ones stay, without their secret.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn prune(&self, store: &dyn Store) -> Result<(), StoreError> {
        let ring = self.ring.load_full();
        for row in self.unneeded(&ring) {
            let _ = store.remove_key(row.id).await?;
        }
        Ok(())
    }

    fn unneeded<'a>(&self, ring: &'a Ring) -> Vec<&'a StoredKey> {
        let now = self.env.now();
        let long_ago = now - self.policy.session_ttl - self.policy.revocation_span();
        let lapsed = ring.lapsed(now);
        let too_many = lapsed.len().saturating_sub(LAPSED_KEPT);
        let access = lapsed.into_iter().enumerate();
        let access =
            access.filter(|(place, row)| *place < too_many || row.verifies_until < long_ago);
        let access = access.map(|(_, row)| row);
        access.chain(ring.outlived(long_ago)).collect()
    }

    pub(super) fn new_key(
        &self,
        purpose: Purpose,
        algorithm: Algorithm,
        signs_from: Timestamp,
    ) -> Result<StoredKey, KeyError> {
        let mut id = [0; 8];
        self.env.fill(&mut id);
        Ok(StoredKey {
            id: KeyId(u64::from_be_bytes(id)),
            purpose,
            algorithm: algorithm.name().into(),
            secret: AccessKey::generate(algorithm, &*self.env)?,
            created_at: self.env.now(),
            signs_from,
            verifies_until: match purpose {
                Purpose::Access => signs_from + self.promise() + LEASE,
                Purpose::Refresh => EVER,
            },
            scopes: "".into(),
            retired: false,
        })
    }
}
