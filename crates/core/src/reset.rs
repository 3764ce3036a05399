//! A token by which a password is set anew, once: an operator starts a reset, and whoever gets the
//! token chooses the password.
//!
//! The store holds a SHA-256 of it, no more. That is enough where it would not be for a password: the
//! token is 256 random bits, so there is nothing to guess, and no hash of it is worth slowing down. The
//! row is found by the hash, and how far two hashes agree tells nothing of a token.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::env::{Env, Timestamp};

const PREFIX: &str = "dwp_";
const BYTES: usize = 32;
/// The length of a token, in characters.
pub const LENGTH: usize = PREFIX.len() + (BYTES * 4).div_ceil(3);
/// How long a token is good for at most (OWASP ASVS and NIST SP 800-63B-4 ask for a short time).
pub const MAX_TTL: Duration = Duration::from_secs(20 * 60);

/// A token, as its user gets it. It never appears in a `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ResetToken(String);

/// What a store keeps of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResetHash(pub [u8; 32]);

/// A reset that was started, as a store keeps it: one a user, the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Of its token.
    pub hash: ResetHash,
    /// From when on the token is worth nothing.
    pub expires_at: Timestamp,
}

impl ResetToken {
    /// A new one.
    #[must_use]
    pub fn random(env: &dyn Env) -> Self {
        let mut bytes = [0; BYTES];
        env.fill(&mut bytes);
        let text = base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
        ResetToken(format!("{PREFIX}{text}"))
    }

    /// For whoever hands it to the user.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a store keeps of it.
    #[must_use]
    pub fn hash(&self) -> ResetHash {
        ResetHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl ResetHash {
    /// Of a token as it was sent; `None` for what has not the form of one.
    #[must_use]
    pub fn of(sent: &str) -> Option<ResetHash> {
        let token = ResetToken(sent.to_owned());
        (sent.len() == LENGTH && sent.starts_with(PREFIX)).then(|| token.hash())
    }
}

impl fmt::Debug for ResetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dwp_[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEnv;

    #[test]
    fn a_token_is_told_by_its_hash_and_never_shown() {
        let env = TestEnv::new(Timestamp(0), 1);
        let (one, other) = (ResetToken::random(&env), ResetToken::random(&env));
        assert_eq!(one.as_str().len(), LENGTH);
        assert_eq!(ResetHash::of(one.as_str()), Some(one.hash()));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(format!("{one:?}"), "dwp_[redacted]");
        for at in 0..LENGTH {
            let mut changed = one.as_str().to_owned();
            let letter = if &changed[at..=at] == "A" { "B" } else { "A" };
            changed.replace_range(at..=at, letter);
            assert_ne!(ResetHash::of(&changed), Some(one.hash()), "{at}");
        }
        assert_eq!(ResetHash::of(""), None);
        assert_eq!(ResetHash::of(&one.as_str()[1..]), None);
    }
}
