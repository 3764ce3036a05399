//! The value that a double submit repeats: in a cookie that pages may read, and in a header that
//! only pages of this site can set.
//!
//! It is derived from the session and its key, so that it stays the same while tokens rotate: two
//! tabs, one of which has just refreshed, do not refuse each other. A value is of no use without
//! the token that it belongs to.

use std::borrow::Cow;
use std::fmt;

use subtle::ConstantTimeEq;

/// Which token a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CsrfKind {
    /// An access token, which carries it as `csrf`.
    Access,
    /// A refresh token, which is opaque and does not.
    Refresh,
}

/// A value. It never appears in a `Debug`.
#[derive(Clone)]
pub struct CsrfValue(Box<str>);

impl CsrfValue {
    pub(crate) fn new(text: Cow<'_, str>) -> Self {
        CsrfValue(text.into())
    }

    pub(crate) fn of(mac: &[u8]) -> Self {
        CsrfValue(base64_simd::URL_SAFE_NO_PAD.encode_to_string(mac).into())
    }

    /// For the client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request repeats it. In constant time; nothing repeats an empty one.
    #[must_use]
    pub fn is(&self, sent: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(sent))
    }
}

impl fmt::Debug for CsrfValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mutation_repeats_it() {
        let value = CsrfValue::of(&[0xa5; 16]);
        let text = value.as_str().as_bytes();
        for at in 0..text.len() {
            for letter in (0..=255).filter(|letter| *letter != text[at]) {
                let mut changed = text.to_vec();
                changed[at] = letter;
                assert!(!value.is(&changed));
                changed.insert(at, text[at]);
                assert!(!value.is(&changed));
            }
            assert!(!value.is(&[&text[..at], &text[at + 1..]].concat()));
        }
        assert!(value.is(text));
    }

    #[test]
    fn only_the_whole_value_repeats_it() {
        let value = CsrfValue::new("abc".into());
        assert!(value.is(b"abc"));
        for other in ["", "ab", "abcd", "ABC", "abc "] {
            assert!(!value.is(other.as_bytes()), "{other:?}");
        }
        assert!(!CsrfValue::new("".into()).is(b""));
        assert_eq!(format!("{value:?}"), "[redacted]");
    }
}
