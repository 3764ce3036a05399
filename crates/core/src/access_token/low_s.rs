//! One spelling of an ECDSA signature.
//!
//! Of a signature (r, s) anybody can make (r, n - s), which verifies as well (SEC 1, 4.1.4). Ours have
//! the lesser s, and only those are accepted, so that no token has a second text.

/// The order of P-256 (FIPS 186-5; SEC 2, 2.4.2).
const N: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Whether s is the lesser one. Signatures are public: no constant time is needed.
pub(super) fn is_low(signature: &[u8]) -> bool {
    let s = signature.get(32..).and_then(|s| s.try_into().ok());
    s.is_some_and(|s: [u8; 32]| s <= less(N, s))
}

/// The signature with the lesser s.
pub(super) fn lowered(mut signature: Vec<u8>) -> Vec<u8> {
    if let Some(s) = signature.get_mut(32..).and_then(|s| s.try_into().ok()) {
        let s: &mut [u8; 32] = s;
        *s = (*s).min(less(N, *s));
    }
    signature
}

/// a - b, of numbers whose first byte is the greatest.
fn less(mut a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let mut borrowed = false;
    for (a, b) in a.iter_mut().zip(b).rev() {
        let (rest, under) = a.overflowing_sub(b);
        let (rest, under_again) = rest.overflowing_sub(u8::from(borrowed));
        (*a, borrowed) = (rest, under || under_again);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (n - 1) / 2, the greatest s that is low.
    const HALF: [u8; 32] = [
        0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31,
        0x92, 0xa8,
    ];

    fn signature(s: [u8; 32]) -> Vec<u8> {
        [[7; 32], s].concat()
    }

    #[test]
    fn of_s_and_n_less_s_the_lesser_is_low() {
        let mut one = [0; 32];
        one[31] = 1;
        for s in [one, HALF, [3; 32]] {
            let high = less(N, s);
            assert!(is_low(&signature(s)) && !is_low(&signature(high)));
            assert_eq!(lowered(signature(high)), signature(s));
            assert_eq!(lowered(signature(s)), signature(s));
        }
        let mut above = HALF;
        above[31] += 1;
        assert_eq!(less(N, HALF), above);
    }

    #[test]
    fn what_is_no_signature_is_not_low() {
        for bytes in [0, 31, 32, 63, 65] {
            assert!(!is_low(&vec![0; bytes]), "{bytes}");
        }
    }
}
