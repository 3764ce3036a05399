//! PBKDF2 (RFC 8018) over HMAC with SHA-1 or SHA-2.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{
    Algorithm, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512, verify,
};
use base64_simd::{STANDARD, STANDARD_NO_PAD};

use super::{TAGS, fields, hex, named, number};

/// Rounds, counted for each block of output.
const ROUNDS: u32 = 5_000_000;

/// A PBKDF2 hash taken apart.
pub(in crate::password) struct Pbkdf2 {
    digest: Digest,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    tag: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Digest {
    algorithm: Algorithm,
    bytes: usize,
}

impl Pbkdf2 {
    pub(super) fn parse(text: &str) -> Option<Pbkdf2> {
        if let Some(rest) = text.strip_prefix("$pbkdf2-") {
            let (digest, rest) = rest.split_once('$')?;
            Self::parse_modular(digest, rest)
        } else if let Some(rest) = text.strip_prefix("$pbkdf2$") {
            Self::parse_modular("sha1", rest)
        } else if let Some(rest) = text.strip_prefix("pbkdf2:") {
            Self::parse_werkzeug(rest)
        } else {
            Self::parse_django(text.strip_prefix("pbkdf2_")?)
        }
    }

    /// passlib's `29000$salt$tag`, whose base 64 has a `.` for a `+`; PHC's `i=600000,l=32$salt$tag`.
    fn parse_modular(digest: &str, text: &str) -> Option<Pbkdf2> {
        let [costs, salt, tag] = fields(text, '$')?;
        let decoded = |text: &str| STANDARD_NO_PAD.decode_to_vec(text.replace('.', "+")).ok();
        let (digest, salt, tag) = (Digest::named(digest)?, decoded(salt)?, decoded(tag)?);
        let full = tag.len() == digest.bytes;
        let written = |length: &str| named(length, "l") == u32::try_from(tag.len()).ok();
        let rounds = match costs.split(',').collect::<Vec<_>>()[..] {
            [rounds] if full => number(rounds).or_else(|| named(rounds, "i"))?,
            [rounds, length] if written(length) => named(rounds, "i")?,
            _ => return None,
        };
        Self::new(digest, rounds, salt, tag)
    }

    /// `sha256:600000$salt$tag`
    fn parse_werkzeug(text: &str) -> Option<Pbkdf2> {
        let [costs, salt, tag] = fields(text, '$')?;
        let [digest, rounds] = fields(costs, ':')?;
        Self::full(digest, rounds, salt, hex(tag)?)
    }

    /// `sha256$600000$salt$tag`
    fn parse_django(text: &str) -> Option<Pbkdf2> {
        let [digest, rounds, salt, tag] = fields(text, '$')?;
        Self::full(digest, rounds, salt, STANDARD.decode_to_vec(tag).ok()?)
    }

    /// What was cut off by a column that is too short is not a hash.
    fn full(digest: &str, rounds: &str, salt: &str, tag: Vec<u8>) -> Option<Pbkdf2> {
        let digest = Digest::named(digest).filter(|digest| digest.bytes == tag.len())?;
        Self::new(digest, number(rounds)?, salt.into(), tag)
    }

    fn new(digest: Digest, rounds: u32, salt: Vec<u8>, tag: Vec<u8>) -> Option<Pbkdf2> {
        let blocks = u32::try_from(tag.len().div_ceil(digest.bytes)).ok()?;
        let bearable = rounds.checked_mul(blocks)? <= ROUNDS && TAGS.contains(&tag.len());
        Some(Pbkdf2 {
            digest,
            rounds: NonZeroU32::new(rounds).filter(|_| bearable)?,
            salt,
            tag,
        })
    }

    /// In constant time.
    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let algorithm = self.digest.algorithm;
        verify(algorithm, self.rounds, &self.salt, password, &self.tag).is_ok()
    }
}

impl Digest {
    fn named(name: &str) -> Option<Digest> {
        let (algorithm, bytes) = match name {
            "sha1" => (PBKDF2_HMAC_SHA1, 20),
            "sha256" => (PBKDF2_HMAC_SHA256, 32),
            "sha384" => (PBKDF2_HMAC_SHA384, 48),
            "sha512" => (PBKDF2_HMAC_SHA512, 64),
            _ => return None,
        };
        Some(Digest { algorithm, bytes })
    }
}
