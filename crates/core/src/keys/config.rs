//! What an operator configures of the keys.

use std::fmt;

use zeroize::Zeroizing;

use super::stored::own_key;
use super::{Algorithm, KeyError, StoredKey};
use crate::env::Timestamp;
use crate::seal::Seals;

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
    /// Those before it, which still open what they sealed until [`super::KeyRing::reseal`].
    pub seal_secret_previous: Vec<Zeroizing<Vec<u8>>>,
}

impl KeyConfig {
    /// Whether a ring can be opened with it, as far as the store has no say.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), KeyError> {
        self.own_key(Timestamp::NEVER)?;
        self.seals().map(drop)
    }

    pub(super) fn own_key(&self, now: Timestamp) -> Result<Option<StoredKey>, KeyError> {
        let secret = self.key.as_ref();
        let own = secret.map(|secret| own_key(self.algorithm, secret, now));
        own.transpose()
    }

    pub(super) fn seals(&self) -> Result<Seals, KeyError> {
        self.check_seal_secrets()?;
        let newest = self.seal_secret.as_ref().map(|secret| secret.as_slice());
        let previous = self.seal_secret_previous.iter();
        let previous: Vec<_> = previous.map(|secret| secret.as_slice()).collect();
        Seals::new(newest, &previous)
    }

    /// Each secret has one use, and each of the previous ones had another value.
    fn check_seal_secrets(&self) -> Result<(), KeyError> {
        let previous = &self.seal_secret_previous;
        let refused = if self.seal_secret.is_some() && self.seal_secret == self.key {
            "seal_secret must differ from secret"
        } else if self.seal_secret.is_none() && !previous.is_empty() {
            "seal_secret_previous is set without seal_secret, which is to replace it: set that too"
        } else if previous.iter().any(|secret| secret.is_empty()) {
            "seal_secret_previous is empty: leave it out where there is none"
        } else if previous
            .iter()
            .any(|old| self.seal_secret.as_ref() == Some(old))
        {
            "seal_secret_previous must differ from seal_secret, which replaces it"
        } else if previous.iter().any(|old| self.key.as_ref() == Some(old)) {
            "seal_secret_previous must differ from secret"
        } else {
            return Ok(());
        };
        Err(KeyError(refused))
    }
}

impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyConfig")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
