//! Identifiers: of sessions, of tokens, of users.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::env::{Env, Timestamp};

/// A session's id: 128 bits, time-ordered (UUID version 7, RFC 9562). Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// A new id, whose first 48 bits are the time in milliseconds.
    #[must_use]
    pub fn new(now: Timestamp, env: &dyn Env) -> Self {
        let mut bytes = [0; 16];
        env.fill(&mut bytes);
        SessionId::at(now, bytes)
    }

    /// The id with its user's slot in the 12 bits after the time (`rand_a` of RFC 9562): a store on
    /// many machines finds a user and all sessions of that user in one place.
    #[must_use]
    pub fn of(mut self, user: &UserId) -> Self {
        let [high, low] = user.slot().to_be_bytes();
        self.0[6] = 0x70 | high;
        self.0[7] = low;
        self
    }

    /// Its user's [`UserId::slot`]; any other number in ids that were made before they carried it.
    #[must_use]
    pub fn slot(&self) -> u16 {
        u16::from_be_bytes([self.0[6] & 0x0f, self.0[7]])
    }

    /// The time that it was made of: when the session opened, or when the token was issued that it adopts.
    #[must_use]
    pub fn opened_at(&self) -> Timestamp {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0[..6]);
        Timestamp(i64::from_be_bytes(millis))
    }

    /// The id of a time, whatever it is besides.
    pub(crate) fn at(now: Timestamp, mut bytes: [u8; 16]) -> Self {
        let millis = u64::try_from(now.0).unwrap_or(0).to_be_bytes();
        bytes[..6].copy_from_slice(&millis[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        SessionId(bytes)
    }
}

impl fmt::Display for SessionId {
    /// Lower-case hex in the grouping of RFC 9562: 36 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl FromStr for SessionId {
    type Err = NotAnId;

    /// Exactly what `Display` writes: one spelling, so that equal ids are equal strings.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let text = text.as_bytes();
        if text.len() != 36 {
            return Err(NotAnId);
        }
        let (mut bytes, mut seen) = ([0; 16], 0);
        let mut at = 0;
        for (i, byte) in bytes.iter_mut().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                if text[at] != b'-' {
                    return Err(NotAnId);
                }
                at += 1;
            }
            let (high, low) = (hex(text[at]), hex(text[at + 1]));
            seen |= high | low;
            *byte = high << 4 | low & 15;
            at += 2;
        }
        // Asked once: every verified token carries an id.
        if seen & NO_DIGIT != 0 {
            return Err(NotAnId);
        }
        Ok(SessionId(bytes))
    }
}

const NO_DIGIT: u8 = 16;

/// What a digit stands for, lower case only; [`NO_DIGIT`] for anything else.
fn hex(digit: u8) -> u8 {
    static VALUES: [u8; 256] = {
        let (mut values, mut digit) = ([NO_DIGIT; 256], 0);
        while digit < 16 {
            values[b"0123456789abcdef"[digit as usize] as usize] = digit;
            digit += 1;
        }
        values
    };
    VALUES[usize::from(digit)]
}

/// A refresh token's own id: 128 bits, worthless without the refresh key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 16]);

impl TokenId {
    /// A random one: the root of a new session.
    #[must_use]
    pub fn random(env: &dyn Env) -> Self {
        let mut bytes = [0; 16];
        env.fill(&mut bytes);
        TokenId(bytes)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Who a session belongs to: an opaque text of 1 to 255 bytes that never changes, as in `sub`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Parses an id; control characters are refused.
    pub fn new(text: &str) -> Result<Self, NotAnId> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        let controls = if text.is_ascii() {
            text.bytes().any(|byte| byte.is_ascii_control())
        } else {
            text.chars().any(char::is_control)
        };
        if fits && !controls {
            Ok(UserId(text.into()))
        } else {
            Err(NotAnId)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of 4,096 places a store on many machines keeps the user in.
    #[must_use]
    pub fn slot(&self) -> u16 {
        let hash = Sha256::digest(self.0.as_bytes());
        u16::from_be_bytes([hash[0] & 0x0f, hash[1]])
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_has_one_spelling() {
        let text = "01890a5d-ac96-774b-bcce-0123456789ab";
        let id: SessionId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        for at in 0..text.len() {
            for other in ["g", "A", "F", "/", ":", "`", "\0", "-", "0"] {
                let mut wrong = text.to_owned();
                wrong.replace_range(at..=at, other);
                let digit = other == "0" && &text[at..=at] != "-";
                let same = wrong == text;
                assert_eq!(wrong.parse::<SessionId>().is_ok(), digit || same, "{wrong}");
            }
        }
        assert_eq!(text[1..].parse::<SessionId>(), Err(NotAnId));
    }

    #[test]
    fn a_session_id_tells_where_its_user_is() {
        let ada = UserId::new("ada").unwrap();
        let id = SessionId([0xff; 16]).of(&ada);
        assert_eq!(id.slot(), ada.slot());
        assert_eq!(id.to_string().as_bytes()[14], b'7');
        assert_eq!(id.0[..6], [0xff; 6]);
        assert_eq!(id.0[8..], [0xff; 8]);
        let slots = (0..100_000).map(|i| UserId::new(&i.to_string()).unwrap().slot());
        let mut counts = [0_u32; 4096];
        slots.for_each(|slot| counts[usize::from(slot)] += 1);
        assert!(counts.iter().all(|count| (1..80).contains(count)));
    }
}
