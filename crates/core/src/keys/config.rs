//! What an operator configures of the keys.

use std::fmt;

use zeroize::Zeroizing;

use super::stored::own_key;
use super::{Algorithm, KeyError, StoredKey};
use crate::env::Timestamp;
use crate::seal::Seal;

/// Which key signs access tokens, and how the store keeps keys.
#[derive(Clone, Default)]
pub struct KeyConfig {
    /// How access tokens are signed.
    pub algorithm: Algorithm,
    /// The operator's own key: a secret for HS256, else a private key in PKCS#8 DER. Without one a
    /// key is made and kept in the store.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// Seals all keys in the store; those that lie there unsealed are sealed when it is first given.
    pub seal_secret: Option<Zeroizing<Vec<u8>>>,
}

impl KeyConfig {
    /// Whether a ring can be opened with it, as far as the store has no say.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), KeyError> {
        self.own_key(Timestamp::NEVER)?;
        self.seal().map(drop)
    }

    pub(super) fn own_key(&self, now: Timestamp) -> Result<Option<StoredKey>, KeyError> {
        let secret = self.key.as_ref();
        let own = secret.map(|secret| own_key(self.algorithm, secret, now));
        own.transpose()
    }

    pub(super) fn seal(&self) -> Result<Option<Seal>, KeyError> {
        if self.seal_secret.is_some() && self.seal_secret == self.key {
            return Err(KeyError("seal_secret must differ from secret"));
        }
        let secret = self.seal_secret.as_deref();
        secret.map(|secret| Seal::new(secret)).transpose()
    }
}

impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyConfig")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
