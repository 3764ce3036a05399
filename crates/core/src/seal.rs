//! Sealing: the secrets of the key ring, encrypted before a store gets them.
//!
//! AES-256-GCM under a key derived from `seal_secret` ([`Derived::Seal`]). A sealed secret is
//! bound to its key's id, purpose and algorithm, so that it cannot be moved to another row; that of an
//! own key also to whom it is for and when it runs out, so that an old one cannot be brought back.
//!
//! While `seal_secret` is being replaced there are several seals, each of which opens what it sealed.
//! Left out: which keys there are and when they sign is not hidden; whoever can write to the store can
//! still remove keys, and make one of the ring's own verify for longer.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::env::Env;
use crate::keys::{Derived, KeyError, Purpose, StoredKey, check_secret};

/// What a sealed secret begins with; then the nonce, the encrypted secret and its tag. No PKCS#8
/// begins like this, and no secret that passed [`check_secret`] by accident.
const MARK: &[u8] = b"doorward sealed 1:";

/// Seals and opens the secrets of one store.
pub(crate) struct Seal(LessSafeKey);

impl Seal {
    /// # Errors
    /// The secret is short, a sample, or can be guessed.
    pub(crate) fn new(secret: &[u8]) -> Result<Seal, KeyError> {
        check_secret(secret).map_err(|_| {
            KeyError(
                "seal_secret is shorter than 32 bytes, a sample, or can be guessed; make one \
                 with: openssl rand -hex 32",
            )
        })?;
        Seal::unchecked(secret)
    }

    /// Of a secret that was once accepted: what it sealed is to be opened.
    fn unchecked(secret: &[u8]) -> Result<Seal, KeyError> {
        let key = UnboundKey::new(&AES_256_GCM, &*Derived::Seal.from(secret));
        key.map(|key| Seal(LessSafeKey::new(key)))
            .map_err(|_| KeyError("seal_secret cannot be used"))
    }

    /// The row as a store may keep it.
    pub(crate) fn seal(&self, row: &StoredKey, env: &dyn Env) -> Result<StoredKey, KeyError> {
        let mut nonce = [0; NONCE_LEN];
        env.fill(&mut nonce);
        let mut secret = row.secret.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(bound_to(row)),
                &mut secret,
            )
            .map_err(|_| KeyError("the key could not be sealed"))?;
        Ok(StoredKey {
            secret: [MARK, &nonce, &secret].concat().into(),
            ..row.clone()
        })
    }

    /// The secret of a row that this seal sealed.
    fn open(&self, row: &StoredKey) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = row.secret.strip_prefix(MARK)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(bound_to(row)), &mut secret);
        let length = opened.ok()?.len();
        secret.truncate(length);
        Some(secret)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal([redacted])")
    }
}

/// The seals of a store, that of `seal_secret` first; none: keys are kept in the clear.
#[derive(Debug, Default)]
pub(crate) struct Seals(Vec<Seal>);

impl Seals {
    /// # Errors
    /// The newest secret is short, a sample, or can be guessed.
    pub(crate) fn new(newest: Option<&[u8]>, previous: &[&[u8]]) -> Result<Seals, KeyError> {
        let newest = newest.map(Seal::new);
        let previous = previous.iter().map(|secret| Seal::unchecked(secret));
        newest
            .into_iter()
            .chain(previous)
            .collect::<Result<_, _>>()
            .map(Seals)
    }

    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret of a row, and the place of the seal that it was sealed by: with seals only what one
    /// of them sealed, without any only what is not sealed.
    pub(crate) fn open(&self, row: &StoredKey) -> Option<(Zeroizing<Vec<u8>>, usize)> {
        if self.are_none() {
            return (!is_sealed(row)).then(|| (Zeroizing::new(row.secret.to_vec()), 0));
        }
        let mut seals = self.0.iter().enumerate();
        seals.find_map(|(place, seal)| Some((seal.open(row)?, place)))
    }

    /// The row as a store may keep it, sealed by the seal at `place`.
    pub(crate) fn seal(
        &self,
        row: &StoredKey,
        place: usize,
        env: &dyn Env,
    ) -> Result<StoredKey, KeyError> {
        match self.0.get(place) {
            Some(seal) => seal.seal(row, env),
            None => Ok(row.clone()),
        }
    }
}

pub(crate) fn is_sealed(row: &StoredKey) -> bool {
    row.secret.starts_with(MARK)
}

/// What a sealed secret cannot be moved away from. What is of no fixed length comes last; no
/// algorithm's name and no scope has a zero byte.
fn bound_to(row: &StoredKey) -> Vec<u8> {
    let purpose = match row.purpose {
        Purpose::Access if row.scopes.is_empty() => 1,
        Purpose::Refresh => 2,
        Purpose::Access => 3,
    };
    let (id, algorithm) = (row.id.0.to_be_bytes(), row.algorithm.as_bytes());
    if purpose != 3 {
        return [&id[..], &[purpose], algorithm].concat();
    }
    let (until, scopes) = (row.verifies_until.0.to_be_bytes(), row.scopes.as_bytes());
    [&id[..], &[purpose], &until, algorithm, &[0], scopes].concat()
}

#[cfg(test)]
mod tests;
