//! The keys behind refresh tokens, and what is derived along with them.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::KeyId;
use super::derive::Derived;
use crate::csrf::{CsrfKind, CsrfValue};
use crate::id::{SessionId, TokenId};
use crate::throttle::BucketKey;

/// What a refresh key's row is the root of: the keys behind refresh tokens, the double submit, what
/// devices show, and what failed logins are counted by.
pub struct RefreshKey {
    id: KeyId,
    ids: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
    csrf: Hmac<Sha256>,
    devices: Hmac<Sha256>,
    buckets: Hmac<Sha256>,
}

impl RefreshKey {
    /// Derives them from the secret of the ring's row.
    #[must_use]
    pub fn new(id: KeyId, secret: &[u8]) -> Self {
        RefreshKey {
            id,
            ids: Derived::RefreshId.mac_from(secret),
            tokens: Derived::RefreshToken.mac_from(secret),
            csrf: Derived::Csrf.mac_from(secret),
            devices: Derived::Device.mac_from(secret),
            buckets: Derived::Bucket.mac_from(secret),
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

    /// The MAC over a device token's fixed-length fields, what follows from the account's password, and
    /// the account that it is for.
    #[must_use]
    pub fn device_tag(&self, fields: &[u8], password: &[u8; 32], account: &str) -> [u8; 32] {
        let mut mac = self.devices.clone();
        mac.update(fields);
        mac.update(password);
        mac.update(account.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The bucket of something of a kind, whose name no other kind's begins with.
    #[must_use]
    pub fn bucket(&self, kind: &str, what: &[u8]) -> BucketKey {
        let mut mac = self.buckets.clone();
        mac.update(kind.as_bytes());
        mac.update(what);
        let mut key = [0; 16];
        key.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        BucketKey(key)
    }
}
