//! bcrypt, alone or over a digest.
//!
//! It reads 72 bytes of a password and forgets the rest. So it does here, for else nobody with a
//! longer one could move in; the new hash is of all that was typed, and from then on all of it
//! counts. Over a digest there is no such trap. NUL, the other trap, no [`super::super::Password`]
//! has.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64_simd::STANDARD as BASE64;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{fields, named, number};

/// The costs that are computed.
const COSTS: std::ops::RangeInclusive<u32> = 4..=15;

/// How much of a password is read, in bytes.
const READS: usize = 72;

/// What is written of the 24 bytes that come out.
const TAG: usize = 23;

const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A bcrypt hash taken apart.
pub(in crate::password) struct Bcrypt {
    key: Key,
    cost: u32,
    salt: [u8; 16],
    tag: [u8; TAG],
}

/// What bcrypt hashes.
enum Key {
    Password,
    /// Django's `bcrypt_sha256`.
    HexDigest,
    /// passlib's `bcrypt-sha256`, version 1.
    Digest,
    /// passlib's `bcrypt-sha256`, version 2: an HMAC by the salt, as it is written.
    Keyed(Box<str>),
}

impl Bcrypt {
    pub(super) fn parse(text: &str) -> Option<Bcrypt> {
        if let Some(rest) = text.strip_prefix("$bcrypt-sha256$") {
            Self::parse_passlib(rest)
        } else if let Some(rest) = text.strip_prefix("bcrypt_sha256$") {
            Self::parse_modular(rest, Key::HexDigest)
        } else {
            let rest = text.strip_prefix("bcrypt$").unwrap_or(text);
            Self::parse_modular(rest, Key::Password)
        }
    }

    /// `$2b$12$`, 22 characters of salt, 31 of tag.
    fn parse_modular(text: &str, key: Key) -> Option<Bcrypt> {
        let [nothing, variant, cost, rest] = fields(text, '$')?;
        let known = nothing.is_empty() && matches!(variant, "2a" | "2b" | "2y") && cost.len() == 2;
        let (salt, tag) = rest.split_at_checked(22).filter(|_| known)?;
        let cost = number(cost.strip_prefix('0').unwrap_or(cost))?;
        Self::new(key, cost, salt, tag)
    }

    /// `v=2,t=2b,r=12$salt$tag`, and before that `2b,12$salt$tag`.
    fn parse_passlib(text: &str) -> Option<Bcrypt> {
        let [costs, salt, tag] = fields(text, '$')?;
        match costs.split(',').collect::<Vec<_>>()[..] {
            ["v=2", "t=2b", cost] => {
                Self::new(Key::Keyed(salt.into()), named(cost, "r")?, salt, tag)
            }
            ["2a" | "2b", cost] => Self::new(Key::Digest, number(cost)?, salt, tag),
            _ => None,
        }
    }

    fn new(key: Key, cost: u32, salt: &str, tag: &str) -> Option<Bcrypt> {
        COSTS.contains(&cost).then_some(Bcrypt {
            key,
            cost,
            salt: decoded(salt)?,
            tag: decoded(tag)?,
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let mut key = self.key.of(password);
        key.truncate(READS);
        let tag = Zeroizing::new(::bcrypt::bcrypt(self.cost, self.salt, &key));
        tag[..TAG].ct_eq(&self.tag).into()
    }
}

impl Key {
    /// With the NUL at its end that bcrypt hashes too.
    fn of(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        let sha256 = || digest(&SHA256, password);
        let key = match self {
            Key::Password => [password, &[0]].concat(),
            Key::HexDigest => hex_digits(sha256().as_ref()),
            Key::Digest => base64(sha256().as_ref()),
            Key::Keyed(salt) => {
                let salt = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
                base64(hmac::sign(&salt, password).as_ref())
            }
        };
        Zeroizing::new(key)
    }
}

fn hex_digits(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    digits.chain([0]).collect()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut text = BASE64.encode_to_string(bytes).into_bytes();
    text.push(0);
    text
}

/// bcrypt's own base 64. Bits at the end that are of no byte are not looked at, as some set them.
fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(N), 0_u32, 0);
    for char in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == char)?;
        held = held << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            let [.., byte] = (held >> bits).to_be_bytes();
            bytes.push(byte);
        }
    }
    bytes.try_into().ok()
}
