//! Sealing: the secrets of the key ring, encrypted before a store gets them.
//!
//! AES-256-GCM under a key derived from `seal_secret` by HKDF-SHA-256 (RFC 5869). A sealed secret is
//! bound to its key's id, purpose and algorithm, so that it cannot be moved to another row; that of an
//! own key also to whom it is for and when it runs out, so that an old one cannot be brought back.
//! Left out: which keys there are and when they sign is not hidden; whoever can write to the store can
//! still remove keys, and make one of the ring's own verify for longer; the seal secret itself cannot
//! be changed yet.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::env::Env;
use crate::keys::{KeyError, Purpose, StoredKey, check_secret};

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
        let derived = Salt::new(HKDF_SHA256, b"doorward seal secret").extract(secret);
        let key = derived.expand(&[b"doorward key ring, AES-256-GCM"], &AES_256_GCM);
        let key = key.map(|okm| LessSafeKey::new(UnboundKey::from(okm)));
        key.map(Seal)
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

/// The secret of a row: with a seal only what it sealed, without one only what is not sealed.
pub(crate) fn opened(seal: Option<&Seal>, row: &StoredKey) -> Option<Zeroizing<Vec<u8>>> {
    match seal {
        Some(seal) => seal.open(row),
        None => (!is_sealed(row)).then(|| Zeroizing::new(row.secret.to_vec())),
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
