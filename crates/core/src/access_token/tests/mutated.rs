//! A token has one text: whatever differs from it by a bit, a character, or a signature that the
//! algorithm would take for the same, is refused.
//!
//! A single-bit change of the bytes behind the base64url is a change of one character, so that it
//! is among these.

use super::*;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What is at home in other spellings of base64, or between segments.
const FOREIGN: &[u8] = b".=+/ \n\0%";

/// Every other text of `token` that one change makes.
fn mutations(token: &str) -> impl Iterator<Item = String> {
    let bytes = token.as_bytes();
    let changed = (0..bytes.len()).flat_map(move |at| {
        let letters = ALPHABET.iter().chain(FOREIGN).copied();
        let flips = (0..8).map(move |bit| bytes[at] ^ 1 << bit);
        let replaced = letters
            .chain(flips)
            .map(move |letter| with(bytes, at, letter));
        let inserted = [b'A', b'_', b'.', b'=', bytes[at]];
        let inserted = inserted.map(|letter| [&bytes[..at], &[letter], &bytes[at..]].concat());
        let cut = [&bytes[..at], &bytes[at + 1..]].concat();
        replaced.chain(inserted).chain([cut])
    });
    changed.map(text).filter(move |changed| changed != token)
}

fn with(bytes: &[u8], at: usize, letter: u8) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] = letter;
    changed
}

/// A high bit makes no UTF-8: such bytes are taken as Latin-1, as a WSGI server would.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}

fn refuses_every_mutation(algorithm: Algorithm) {
    let world = World::new(algorithm);
    let token = world.token();
    let mut count = 0;
    for changed in mutations(&token) {
        let refused = world.verify(&changed);
        assert_eq!(refused.err(), Some(Error::TokenInvalid), "{changed}");
        count += 1;
    }
    assert!(count > 75 * token.len(), "{count}");
    // Known by now, and still nothing that looks like it.
    let _ = (world.verify(&token).unwrap(), world.verify(&token).unwrap());
    let ends = token.match_indices('.').map(|(dot, _)| dot - 1);
    for end in ends.chain([token.len() - 1]) {
        let bytes = token.as_bytes();
        let spellings = ALPHABET
            .iter()
            .map(|letter| text(with(bytes, end, *letter)));
        assert_eq!(spellings.filter(|text| !world.refuses(text)).count(), 1);
    }
}

#[test]
fn every_mutation_of_an_eddsa_token_is_refused() {
    refuses_every_mutation(Algorithm::EdDSA);
}

#[test]
fn every_mutation_of_an_hs256_token_is_refused() {
    refuses_every_mutation(Algorithm::HS256);
}

#[test]
fn every_mutation_of_an_es256_token_is_refused() {
    refuses_every_mutation(Algorithm::ES256);
}

#[test]
fn every_mutation_of_an_rs256_token_is_refused() {
    refuses_every_mutation(Algorithm::RS256);
}

// ---- signatures that are the same number ----

/// a + b, of numbers whose first byte is the greatest, if it is no longer than a.
fn sum(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let (mut sum, mut carry) = (a.to_vec(), 0);
    for at in 1..=a.len() {
        let other = b.len().checked_sub(at).map_or(0, |at| b[at]);
        let both = u16::from(a[a.len() - at]) + u16::from(other) + carry;
        sum[a.len() - at] = both.to_le_bytes()[0];
        carry = both >> 8;
    }
    (carry == 0).then_some(sum)
}

/// a - b.
fn difference(a: &[u8], b: &[u8]) -> Vec<u8> {
    let complement: Vec<u8> = b.iter().map(|byte| !byte).collect();
    let mut less: Vec<u8> = a.to_vec();
    let mut carry = 1;
    for at in (0..a.len()).rev() {
        let both = u16::from(a[at]) + u16::from(complement[at]) + carry;
        less[at] = both.to_le_bytes()[0];
        carry = both >> 8;
    }
    less
}

/// A token of `world` and what its signature is made into.
fn with_signature(world: &World, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<String> {
    let tokens = (0..64).map(|n| world.signed_payload(good_with("n", n)));
    let changed = tokens.filter_map(|token| {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let changed = change(&BASE64URL.decode_to_vec(signature).unwrap())?;
        assert!(world.verify(&token).is_ok());
        Some(format!("{signed}.{}", encode(changed)))
    });
    changed.collect()
}

const P256_ORDER: &str = "/////wAAAAD//////////7zm+q2nF56E87nKwvxjJVE=";

#[test]
fn an_ecdsa_signature_has_one_s() {
    let world = World::new(Algorithm::ES256);
    let order = der(P256_ORDER);
    let twins = with_signature(&world, |signature| {
        Some([&signature[..32], &difference(&order, &signature[32..])].concat())
    });
    assert_eq!(twins.len(), 64);
    assert!(twins.iter().all(|twin| world.refuses(twin)));
    let swapped = with_signature(&world, |s| Some([&s[32..], &s[..32]].concat()));
    assert!(swapped.iter().all(|token| world.refuses(token)));
    for nothing in [[0; 64], [0xff; 64]] {
        let nothing = with_signature(&world, |_| Some(nothing.to_vec()));
        assert!(nothing.iter().all(|token| world.refuses(token)));
    }
}

/// The order of the base point (RFC 8032, 5.1), its first byte the greatest.
const ED25519_ORDER: &str = "EAAAAAAAAAAAAAAAAAAAABTe+d6i95zWWBJjGlz10+0=";

#[test]
fn an_ed25519_signature_has_one_s() {
    let world = World::new(Algorithm::EdDSA);
    let order = der(ED25519_ORDER);
    let twins = with_signature(&world, |signature| {
        let s: Vec<u8> = signature[32..].iter().rev().copied().collect();
        let s = sum(&s, &order)?.into_iter().rev().collect::<Vec<u8>>();
        Some([&signature[..32], &s].concat())
    });
    assert_eq!(twins.len(), 64);
    assert!(twins.iter().all(|twin| world.refuses(twin)));
}

#[test]
fn an_rsa_signature_is_less_than_the_modulus() {
    let world = World::new(Algorithm::RS256);
    let Pair::Rsa(pair) = &world.key.pair else {
        panic!("an RSA key");
    };
    let modulus = pair.public_key().modulus();
    let modulus = modulus.big_endian_without_leading_zero().to_vec();
    let twins = with_signature(&world, |signature| sum(signature, &modulus));
    assert!(!twins.is_empty());
    assert!(twins.iter().all(|twin| world.refuses(twin)));
}
