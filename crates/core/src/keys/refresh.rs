//! The keys behind refresh tokens, and what is derived along with them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::KeyId;
use crate::csrf::{CsrfKind, CsrfValue};
use crate::id::{SessionId, TokenId};

/// The MAC key behind refresh tokens.
pub struct RefreshKey {
    id: KeyId,
    ids: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
    csrf: Hmac<Sha256>,
}

impl RefreshKey {
    /// Derives the three labelled keys.
    #[must_use]
    pub fn new(id: KeyId, secret: &[u8]) -> Self {
        let derive = |label: &[u8]| {
            let mut mac = hmac_key(secret);
            mac.update(label);
            hmac_key(&mac.finalize().into_bytes())
        };
        RefreshKey {
            id,
            ids: derive(b"doorward refresh id"),
            tokens: derive(b"doorward refresh token"),
            csrf: derive(b"doorward csrf"),
        }
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The id of the child of `confirmed`.
    #[must_use]
    pub fn child_id(&self, session: SessionId, confirmed: TokenId, attempt: u32) -> TokenId {
        let mut mac = self.ids.clone();
        mac.update(&session.0);
        mac.update(&confirmed.0);
        mac.update(&attempt.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        TokenId(id)
    }

    /// What a session's requests repeat where the double submit is on.
    #[must_use]
    pub fn csrf(&self, session: SessionId, kind: CsrfKind) -> CsrfValue {
        let mut mac = self.csrf.clone();
        mac.update(match kind {
            CsrfKind::Access => b"access",
            CsrfKind::Refresh => b"refresh",
        });
        mac.update(&session.0);
        CsrfValue::of(&mac.finalize().into_bytes()[..16])
    }

    /// The MAC over a refresh token's fixed-length fields.
    #[must_use]
    pub fn tag(&self, fields: &[u8]) -> [u8; 32] {
        let mut mac = self.tokens.clone();
        mac.update(fields);
        mac.finalize().into_bytes().into()
    }
}

/// HMAC-SHA-256 with its key already mixed in: cloned for each message.
pub(crate) fn hmac_key(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}
