//! Every key that is derived from another secret, in one table: nothing else in the tree derives.
//!
//! HKDF-SHA-256 (RFC 5869), salted by what the secret is and labelled by what the key is for. So
//! whoever learns a derived key learns neither its root nor its siblings, and one that signs access
//! tokens is the root of none: those keys are used as they are, since any JOSE library is to verify
//! by them.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The secrets that keys are derived from.
const SEAL_SECRET: &str = "doorward seal secret";
const REFRESH_ROW: &str = "doorward refresh key";

/// What a derived key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derived {
    /// Seals the keys in the store.
    Seal,
    /// Names networks in the log of events.
    Network,
    /// The MAC of refresh tokens.
    RefreshToken,
    /// The ids of refresh tokens that are not made yet.
    RefreshId,
    /// What requests repeat where the double submit is on.
    Csrf,
    /// The MAC of what a device shows that has logged in before.
    Device,
}

/// The table: from what, and by which label.
const LABELS: [(Derived, &str, &str); 6] = [
    (
        Derived::Network,
        SEAL_SECRET,
        "networks of events, HMAC-SHA-256",
    ),
    (Derived::Seal, SEAL_SECRET, "doorward key ring, AES-256-GCM"),
    (
        Derived::RefreshToken,
        REFRESH_ROW,
        "refresh token, HMAC-SHA-256",
    ),
    (Derived::RefreshId, REFRESH_ROW, "refresh id, HMAC-SHA-256"),
    (Derived::Csrf, REFRESH_ROW, "csrf, HMAC-SHA-256"),
    (Derived::Device, REFRESH_ROW, "device, HMAC-SHA-256"),
];

/// All derived keys are this long.
const LENGTH: usize = 32;

struct Bytes;

impl KeyType for Bytes {
    fn len(&self) -> usize {
        LENGTH
    }
}

impl Derived {
    /// The key, from the secret that the table says.
    pub(crate) fn from(self, secret: &[u8]) -> Zeroizing<[u8; LENGTH]> {
        let (root, label) = self.labels();
        let root = Salt::new(HKDF_SHA256, root.as_bytes()).extract(secret);
        let mut key = Zeroizing::new([0; LENGTH]);
        let label = [label.as_bytes()];
        let filled = root
            .expand(&label, Bytes)
            .and_then(|okm| okm.fill(&mut *key));
        filled.expect("HKDF-SHA-256 gives up to 8,160 bytes");
        key
    }

    /// The same, with HMAC-SHA-256 at hand: cloned for each message.
    pub(super) fn mac_from(self, secret: &[u8]) -> Hmac<Sha256> {
        hmac_key(&*self.from(secret))
    }

    fn labels(self) -> (&'static str, &'static str) {
        let [first, rest @ ..] = LABELS;
        let line = rest.into_iter().find(|(derived, ..)| *derived == self);
        let (_, root, label) = line.unwrap_or(first);
        (root, label)
    }
}

/// HMAC-SHA-256 with its key already mixed in: cloned for each message.
pub(crate) fn hmac_key(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_keys_have_a_label_or_a_byte_string_in_common() {
        let labels: BTreeSet<_> = LABELS.iter().map(|(_, _, label)| label).collect();
        assert_eq!(labels.len(), LABELS.len());
        // Even from one secret, which start-up refuses where it can.
        let keys: BTreeSet<_> = LABELS.iter().map(|(key, ..)| *key.from(&[7; 32])).collect();
        assert_eq!(keys.len(), LABELS.len());
        assert!(!keys.contains(&[7; 32]));
    }

    #[test]
    fn each_key_has_the_label_of_its_line() {
        for (key, root, label) in LABELS {
            assert_eq!(key.labels(), (root, label));
        }
    }

    /// RFC 5869 by hand, so that the bytes are those of any other implementation.
    #[test]
    fn the_bytes_are_those_of_the_rfc() {
        use hmac::Mac as _;
        let mac = |key: &[u8], message: &[u8]| -> [u8; 32] {
            let mut mac = hmac_key(key);
            mac.update(message);
            mac.finalize().into_bytes().into()
        };
        for (key, root, label) in LABELS {
            let extracted = mac(root.as_bytes(), b"a secret");
            let expanded = mac(&extracted, &[label.as_bytes(), &[1]].concat());
            assert_eq!(*key.from(b"a secret"), expanded);
        }
    }
}
