//! Device tokens: who holds one has logged in to the account before, so that somebody else's failures
//! do not stand in his way (OWASP, "device cookies"). It opens nothing: the password is asked for all
//! the same.
//!
//! `dwd_` and the unpadded base64url of: version (1 byte, 1), key id (8), device (16), issued at (8, ms
//! since the epoch), HMAC-SHA-256 over all before it, the account's password hash and its name (32).
//! Neither is in it, and a token says nothing of another account. Whoever knew a password that was changed
//! holds no token any more, however many devices he made known; of users that a host keeps the hash is not
//! known here, and their tokens stay. It is the name as it was typed, to the letter: a host may
//! tell `Ada` from `ada`, and whoever has one of them must get no budget for the other. Left out: a list of
//! devices in the store; a token is good until its time is over or the key that made it is retired.

use std::fmt;
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::env::{Env, Timestamp, millis};
use crate::keys::{KeyId, KeyRing, RefreshKey};

const PREFIX: &str = "dwd_";
const VERSION: u8 = 1;
const FIELDS: usize = 33;
const BYTES: usize = FIELDS + 32;
/// The length of a device token, in characters.
pub const LENGTH: usize = PREFIX.len() + (BYTES * 4).div_ceil(3);

/// A device that logs in to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId([u8; 16]);

impl DeviceId {
    pub(crate) fn random(env: &dyn Env) -> Self {
        let mut id = [0; 16];
        env.fill(&mut id);
        DeviceId(id)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The text of a token. It never appears in a `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceText(String);

impl DeviceText {
    /// For the client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dwd_[redacted]")
    }
}

/// What a token is for: the account of a name, as long as it has this password.
pub(crate) struct Holder<'a> {
    /// As it was typed.
    pub(crate) username: &'a str,
    /// SHA-256 of the password's hash; zeros where the host keeps its users.
    pub(crate) password: [u8; 32],
}

/// The token of a device that has just logged in.
pub(crate) fn sign(
    device: DeviceId,
    holder: &Holder<'_>,
    now: Timestamp,
    key: &RefreshKey,
) -> DeviceText {
    let mut bytes = [0; BYTES];
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&key.id().0.to_be_bytes());
    bytes[9..25].copy_from_slice(&device.0);
    bytes[25..33].copy_from_slice(&now.0.to_be_bytes());
    let tag = key.device_tag(&bytes[..FIELDS], &holder.password, holder.username);
    bytes[FIELDS..].copy_from_slice(&tag);
    let text = base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    DeviceText(format!("{PREFIX}{text}"))
}

/// The device whose token `text` is, if it is one for this account and password, and not older than
/// `ttl`.
pub(crate) fn verify(
    text: &str,
    holder: &Holder<'_>,
    (now, ttl): (Timestamp, Duration),
    keys: &KeyRing,
) -> Option<DeviceId> {
    let bytes = decoded(text)?;
    let (fields, tag) = bytes.split_at(FIELDS);
    let key = keys.refresh_key(KeyId(u64::from_be_bytes(field(fields, 1))))?;
    let tag_is_ours = key
        .device_tag(fields, &holder.password, holder.username)
        .ct_eq(tag);
    let issued_at = Timestamp(i64::from_be_bytes(field(fields, 25)));
    let known = bool::from(tag_is_ours) && now.since(issued_at) <= millis(ttl);
    known.then(|| DeviceId(field(fields, 9)))
}

fn decoded(text: &str) -> Option<[u8; BYTES]> {
    let body = text.strip_prefix(PREFIX).filter(|_| text.len() == LENGTH)?;
    let mut bytes = [0; BYTES];
    let out = base64_simd::Out::from_slice(&mut bytes);
    let decoded = base64_simd::URL_SAFE_NO_PAD
        .decode(body.as_bytes(), out)
        .ok()?;
    let fits = decoded.len() == BYTES && decoded[0] == VERSION;
    fits.then_some(bytes)
}

fn field<const N: usize>(fields: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&fields[at..at + N]);
    field
}
