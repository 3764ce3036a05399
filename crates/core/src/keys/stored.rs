//! A key as a store keeps it: what it is for, from when it signs, until when it verifies.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::samples::printed_in;
use super::{KeyError, check_secret};
use crate::access_token::AccessKey;
use crate::env::Timestamp;
use crate::error::Result;

/// Names a key: 64 bits; in a token's `kid` 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = crate::id::NotAnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = u64::from_str_radix(text, 16).ok().filter(|_| hex);
        id.map(KeyId).ok_or(crate::id::NotAnId)
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signs access tokens.
    Access,
    /// Mints refresh tokens.
    Refresh,
}

/// How access tokens are signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    #[default]
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// ECDSA on P-256.
    ES256,
    /// RSASSA-PKCS1-v1_5, 2,048 bits or more.
    RS256,
}

impl Algorithm {
    /// The name in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::EdDSA => "EdDSA",
            Algorithm::HS256 => "HS256",
            Algorithm::ES256 => "ES256",
            Algorithm::RS256 => "RS256",
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        [
            Algorithm::EdDSA,
            Algorithm::HS256,
            Algorithm::ES256,
            Algorithm::RS256,
        ]
        .into_iter()
        .find(|algorithm| algorithm.name() == name)
        .ok_or(KeyError("algorithm must be EdDSA, HS256, ES256 or RS256"))
    }
}

/// A key as a store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// An [`Algorithm`]'s name; `HS256` for refresh keys.
    pub algorithm: Box<str>,
    /// PKCS#8 DER of a private key, or the bytes of a secret; sealed where there is a seal secret.
    /// Empty for a retired key, which is kept to bar it from joining again.
    pub secret: Box<[u8]>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs, until a key that signs from later begins to.
    pub signs_from: Timestamp,
    /// Until when an access key verifies; whoever signs with it moves this on in time.
    pub verifies_until: Timestamp,
    /// Whose tokens an own key verifies: a line for each issuer and audience that it joined for.
    /// Empty: anybody's on the store.
    pub scopes: Box<str>,
    /// Dropped by an operator: verifies nothing any more.
    pub retired: bool,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("id", &self.id)
            .field("purpose", &self.purpose)
            .field("algorithm", &self.algorithm)
            .field("signs_from", &self.signs_from)
            .field("verifies_until", &self.verifies_until)
            .field("scopes", &self.scopes)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

impl StoredKey {
    /// What it is good for at `now`, in a word or two for operators.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        if self.retired {
            "retired"
        } else if self.verifies_until <= now {
            "logout only"
        } else {
            "live"
        }
    }
}

const PRINTED: KeyError = KeyError(
    "the private key is printed in a documentation, so that everybody knows it; make one with: \
     openssl genpkey -algorithm ed25519",
);

/// The row of the operator's own key; its id follows from its secret.
pub(super) fn own_key(
    algorithm: Algorithm,
    secret: &[u8],
    now: Timestamp,
) -> Result<StoredKey, KeyError> {
    if algorithm == Algorithm::HS256 {
        check_secret(secret)?;
    } else if printed_in(secret).is_some() {
        return Err(PRINTED);
    }
    let row = StoredKey {
        id: id_of(secret),
        purpose: Purpose::Access,
        algorithm: algorithm.name().into(),
        secret: secret.into(),
        created_at: now,
        signs_from: now,
        verifies_until: now,
        scopes: "".into(),
        retired: false,
    };
    AccessKey::of(&row, secret)?;
    Ok(row)
}

/// The id of an own key: whoever has the same secret has the same entry.
pub(super) fn id_of(secret: &[u8]) -> KeyId {
    let digest = Sha256::new()
        .chain_update(b"doorward key id")
        .chain_update(secret)
        .finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    KeyId(u64::from_be_bytes(id))
}
