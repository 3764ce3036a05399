//! Hashes that other programs wrote: verified once, and replaced by one of ours.
//!
//! | | written by |
//! |---|---|
//! | `$argon2id$`, `$argon2i$`, `$argon2d$`, of version 16 or 19 | PHC strings, argon2-cffi, passlib; Django with `argon2` before it |
//! | `$2a$`, `$2b$`, `$2y$` | bcrypt, passlib, PHP; Django with `bcrypt$` or `bcrypt_sha256$` before it |
//! | `$bcrypt-sha256$` | passlib, both versions |
//! | `scrypt:N:r:p$`, `scrypt$N$`, `$scrypt$ln=` | Werkzeug, Django, PHC strings and passlib |
//! | `pbkdf2:sha256:`, `pbkdf2_sha256$`, `$pbkdf2-sha256$`; other digests alike | Werkzeug, Django, passlib and PHC strings |
//!
//! All else is of no known form, and no password matches it: plain digests and HMACs, such as
//! Werkzeug's of old (`sha256$salt$hex`), `$2x$`, and Argon2 with a key or with associated data. So
//! is what is cut short, and what would cost more than a ceiling allows:
//!
//! | | at most |
//! |---|---|
//! | Argon2 | 256 MiB, 16 passes, 16 lanes |
//! | scrypt | 256 MiB (128 N r), 512 MiB times the lanes (128 N r p), 64 for r and for p |
//! | PBKDF2 | 5 million rounds, counted for each block of output |
//! | bcrypt | a cost of 15 |
//!
//! That is three seconds at most, or about, of one thread of the lowest priority.

use super::{Memory, Params};

mod argon2;
mod bcrypt;
mod pbkdf2;
mod refused;
mod scrypt;

pub(super) use self::argon2::Argon2Hash;
use self::bcrypt::Bcrypt;
use self::pbkdf2::Pbkdf2;
pub(super) use self::refused::refusal;
use self::scrypt::Scrypt;

/// A hash taken apart.
pub(super) enum Stored {
    Argon2(Argon2Hash),
    Bcrypt(Bcrypt),
    Scrypt(Scrypt),
    Pbkdf2(Pbkdf2),
}

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 1024;

/// Lengths of what Argon2 and PBKDF2 put out, in bytes: less would be guessed, more is not written.
const TAGS: std::ops::RangeInclusive<usize> = 16..=64;

impl Stored {
    /// `None`: of no known form, or beyond a ceiling.
    pub(super) fn parse(text: &str) -> Option<Stored> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let argon2 = || Argon2Hash::parse(text).map(Stored::Argon2);
        let bcrypt = || Bcrypt::parse(text).map(Stored::Bcrypt);
        let scrypt = || Scrypt::parse(text).map(Stored::Scrypt);
        let pbkdf2 = || Pbkdf2::parse(text).map(Stored::Pbkdf2);
        argon2().or_else(bcrypt).or_else(scrypt).or_else(pbkdf2)
    }

    /// Whether a new hash would be like it.
    pub(super) fn is_current(&self, params: Params) -> bool {
        matches!(self, Stored::Argon2(hash) if hash.is_current(params))
    }

    /// `None`: the machine has no memory for it.
    pub(super) fn matches(&self, password: &str, memory: &mut Memory) -> Option<bool> {
        let password = password.as_bytes();
        match self {
            Stored::Argon2(hash) => hash.matches(password, memory),
            Stored::Bcrypt(hash) => Some(hash.matches(password)),
            Stored::Scrypt(hash) => hash.matches(password, memory),
            Stored::Pbkdf2(hash) => Some(hash.matches(password)),
        }
    }
}

/// A text of exactly so many fields.
fn fields<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    let fields: Vec<_> = text.split(separator).take(N + 1).collect();
    fields.try_into().ok()
}

/// A number as programs write it: neither sign nor leading zero.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// The number of `name=number`.
fn named(text: &str, name: &str) -> Option<u32> {
    number(text.strip_prefix(name)?.strip_prefix('=')?)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests;
