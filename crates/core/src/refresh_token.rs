//! Refresh tokens: opaque to clients, 139 characters, verified by a MAC. No JWT, so that one can
//! never be taken for an access token; no expiry, because the row decides.
//!
//! `dwr_` and the unpadded base64url of: version (1 byte, 1), key id (8), session (16), id (16),
//! parent (16), generation (4), issued at (8, ms since the epoch), HMAC-SHA-256 over all before it (32).

use std::fmt;

use subtle::ConstantTimeEq;

use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::id::{SessionId, TokenId};
use crate::keys::{KeyId, RefreshKey};

const PREFIX: &str = "dwr_";
const VERSION: u8 = 1;
const FIELDS: usize = 69;
const BYTES: usize = FIELDS + 32;
/// The length of a refresh token, in characters.
pub const LENGTH: usize = PREFIX.len() + (BYTES * 4).div_ceil(3);

/// What a refresh token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// Which key made its MAC.
    pub key: KeyId,
    /// Which session it belongs to.
    pub session: SessionId,
    /// Its own id.
    pub id: TokenId,
    /// The id of the token that it descends from.
    pub parent: TokenId,
    /// The parent's generation plus one; the first is 0.
    pub generation: u32,
    /// When it was first handed out.
    pub issued_at: Timestamp,
}

/// A token whose MAC was not checked yet: only its key id may be used.
pub struct Unverified([u8; BYTES]);

/// The text of a token. It never appears in a `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshText(String);

impl RefreshText {
    /// For the client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RefreshText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dwr_[redacted]")
    }
}

impl RefreshToken {
    /// The text that the client gets. `key` is the one that [`RefreshToken::key`] names.
    #[must_use]
    pub fn sign(&self, key: &RefreshKey) -> RefreshText {
        let mut bytes = [0; BYTES];
        self.write(&mut bytes);
        let tag = key.tag(&bytes[..FIELDS]);
        bytes[FIELDS..].copy_from_slice(&tag);
        RefreshText(format!(
            "{PREFIX}{}",
            base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
        ))
    }

    fn write(&self, bytes: &mut [u8; BYTES]) {
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.key.0.to_be_bytes());
        bytes[9..25].copy_from_slice(&self.session.0);
        bytes[25..41].copy_from_slice(&self.id.0);
        bytes[41..57].copy_from_slice(&self.parent.0);
        bytes[57..61].copy_from_slice(&self.generation.to_be_bytes());
        bytes[61..69].copy_from_slice(&self.issued_at.0.to_be_bytes());
    }
}

impl Unverified {
    /// Takes the text apart.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] for anything that is not exactly the form above.
    pub fn parse(text: &str) -> Result<Self> {
        let body = text.strip_prefix(PREFIX).filter(|_| text.len() == LENGTH);
        let body = body.ok_or(Error::TokenInvalid)?;
        let mut bytes = [0; BYTES];
        let out = base64_simd::Out::from_slice(&mut bytes);
        let decoded = base64_simd::URL_SAFE_NO_PAD.decode(body.as_bytes(), out);
        match decoded {
            Ok(decoded) if decoded.len() == BYTES && decoded[0] == VERSION => Ok(Unverified(bytes)),
            _ => Err(Error::TokenInvalid),
        }
    }

    /// Which key to check it with.
    #[must_use]
    pub fn key(&self) -> KeyId {
        KeyId(u64::from_be_bytes(self.field(1)))
    }

    /// Checks the MAC, in constant time.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`].
    pub fn verify(&self, key: &RefreshKey) -> Result<RefreshToken> {
        let (fields, tag) = self.0.split_at(FIELDS);
        if !bool::from(key.tag(fields).ct_eq(tag)) {
            return Err(Error::TokenInvalid);
        }
        Ok(RefreshToken {
            key: self.key(),
            session: SessionId(self.field(9)),
            id: TokenId(self.field(25)),
            parent: TokenId(self.field(41)),
            generation: u32::from_be_bytes(self.field(57)),
            issued_at: Timestamp(i64::from_be_bytes(self.field(61))),
        })
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[at..at + N]);
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> RefreshToken {
        RefreshToken {
            key: KeyId(7),
            session: SessionId([1; 16]),
            id: TokenId([2; 16]),
            parent: TokenId([3; 16]),
            generation: 4,
            issued_at: Timestamp(5),
        }
    }

    #[test]
    fn a_signed_token_reads_back() {
        let key = RefreshKey::new(KeyId(7), b"secret");
        let text = token().sign(&key);
        assert_eq!(text.as_str().len(), LENGTH);
        let read = Unverified::parse(text.as_str()).unwrap();
        assert_eq!(read.key(), KeyId(7));
        assert_eq!(read.verify(&key), Ok(token()));
        assert_eq!(format!("{text:?}"), "dwr_[redacted]");
    }

    #[test]
    fn every_changed_character_is_refused() {
        let key = RefreshKey::new(KeyId(7), b"secret");
        let text = token().sign(&key).as_str().to_owned();
        for at in 0..text.len() {
            for other in (0..128u8).filter(|other| *other != text.as_bytes()[at]) {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = other;
                let changed = String::from_utf8(bytes).unwrap();
                let read = Unverified::parse(&changed).and_then(|token| token.verify(&key));
                assert_eq!(read, Err(Error::TokenInvalid), "position {at}");
            }
        }
    }

    #[test]
    fn every_character_more_or_less_is_refused() {
        let key = RefreshKey::new(KeyId(7), b"secret");
        let text = token().sign(&key).as_str().to_owned();
        let refused = |changed: &str| {
            let read = Unverified::parse(changed).and_then(|token| token.verify(&key));
            assert_eq!(read, Err(Error::TokenInvalid), "{changed}");
        };
        for at in 0..=text.len() {
            let (before, after) = text.split_at(at);
            for more in ["A", "_", "=", ".", " ", "\n", "\0", "\u{e9}"] {
                refused(&format!("{before}{more}{after}"));
            }
            if let Some(own) = after.chars().next() {
                refused(&format!("{before}{own}{after}"));
                refused(&format!("{before}{}", &after[1..]));
                // In the place of a character, a longer one.
                refused(&format!("{before}\u{e9}{}", &after[1..]));
            }
        }
    }

    #[test]
    fn another_key_is_refused() {
        let text = token().sign(&RefreshKey::new(KeyId(7), b"secret"));
        let other = RefreshKey::new(KeyId(7), b"other");
        assert!(
            Unverified::parse(text.as_str())
                .unwrap()
                .verify(&other)
                .is_err()
        );
    }
}
