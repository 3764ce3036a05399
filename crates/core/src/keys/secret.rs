//! Which secrets can be guessed: those that are printed somewhere, samples, words that say "replace me", sequences, keyboard rows.
//!
//! Random hexadecimal digits and base64 pass, whatever they happen to contain. A phrase of uncommon
//! words passes too: this is no measure of entropy.

use super::KeyError;
use super::samples::is_printed;

/// What no secret contains by chance: as long as that is improbable in base64.
const SAMPLES: [&str; 25] = [
    "secret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "example",
    "your-256-bit",
    "your_256_bit",
    "0123456789",
    "insecure",
    "unsafe",
    "default",
    "development",
    "production",
    "replace",
    "placeholder",
    "do-not-use",
    "do_not_use",
    "donotuse",
    "testing",
    "sample",
    "qwerty",
    "asdfgh",
    "letmein",
    "doorward",
];
/// What a random secret may contain: it does not count.
const WORDS: [&str; 12] = [
    "test", "todo", "dummy", "demo", "temp", "admin", "token", "local", "fixme", "user", "key",
    "dev",
];
/// What lies side by side on keyboards.
const ROWS: [&str; 11] = [
    "1234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "qazwsxedcrfvtgbyhnujmikolp",
];
/// So many letters in a row, or on a keyboard, are a sequence.
const RUN: usize = 4;
/// So many bytes must be left without words and sequences, and so many different ones.
const LEAST: usize = 16;
const LEAST_DIFFERENT: usize = 8;

/// Refuses secrets that can be guessed.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    if secret.len() < 32 {
        return Err(KeyError(
            "the secret is shorter than 32 bytes; make one with: openssl rand -hex 32",
        ));
    }
    if is_guessable(&secret.to_ascii_lowercase()) {
        return Err(KeyError(
            "the secret is a sample or can be guessed; make one with: openssl rand -hex 32",
        ));
    }
    Ok(())
}

fn is_guessable(lower: &[u8]) -> bool {
    let mut samples = SAMPLES.iter();
    if is_printed(lower) {
        return true;
    }
    if samples.any(|sample| find(lower, sample.as_bytes()).next().is_some()) || repeats(lower) {
        return true;
    }
    let rest = unforeseen(lower);
    let mut different = rest.clone();
    different.sort_unstable();
    different.dedup();
    rest.len() < LEAST || different.len() < LEAST_DIFFERENT
}

/// Whether it is a shorter text again and again.
fn repeats(text: &[u8]) -> bool {
    (1..=text.len() / 2).any(|period| text[period..] == text[..text.len() - period])
}

/// The bytes outside of words and sequences, without what separates words.
fn unforeseen(lower: &[u8]) -> Vec<u8> {
    let mut foreseen = vec![false; lower.len()];
    for word in WORDS {
        for at in find(lower, word.as_bytes()) {
            foreseen[at..at + word.len()].fill(true);
        }
    }
    for at in 0..lower.len() {
        let run = run(&lower[at..]);
        if run >= RUN {
            foreseen[at..at + run].fill(true);
        }
    }
    let rest = lower.iter().zip(foreseen).filter(|(_, seen)| !seen);
    let rest = rest.map(|(byte, _)| *byte);
    rest.filter(|byte| !b" -_.:".contains(byte)).collect()
}

fn find<'a>(text: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let windows = text.windows(word.len()).enumerate();
    windows.filter_map(move |(at, window)| (window == word).then_some(at))
}

/// How many bytes from the first are a sequence: up or down the alphabet, the same byte, or along a
/// keyboard.
fn run(text: &[u8]) -> usize {
    let steps = [-1, 0, 1].map(|step| {
        let next = |pair: &&[u8]| i16::from(pair[1]) - i16::from(pair[0]) == step;
        1 + text.windows(2).take_while(next).count()
    });
    let rows = ROWS.iter().map(|row| along(row.as_bytes(), text));
    rows.chain(steps).max().unwrap_or(0)
}

fn along(row: &[u8], text: &[u8]) -> usize {
    let Some(at) = row.iter().position(|key| text.first() == Some(key)) else {
        return 0;
    };
    let same = |(key, byte): &(&u8, &u8)| key == byte;
    let right = row[at..].iter().zip(text).take_while(same).count();
    let left = row[..=at].iter().rev().zip(text).take_while(same).count();
    right.max(left)
}

#[cfg(test)]
mod tests {
    use base64_simd::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;
    use crate::env::{Env, Timestamp};
    use crate::testing::TestEnv;

    #[test]
    fn samples_and_sequences_are_refused() {
        for secret in [
            "insecure-default-key-do-not-use-me",
            "ThisIsMyDevelopmentKeyPleaseReplace",
            "abcdefghijklmnopqrstuvwxyzabcdef",
            "qwertyuiopasdfghjklzxcvbnmqwerty",
            "zyxwvutsrqponmlkjihgfedcba98765432",
            "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
            "poiuytrewqlkjhgfdsamnbvcxz0987654321",
            "test-key-test-token-todo-dummy-dev-demo",
            "todo: dummy key of the local admin user",
            "Pa55w0rt-Xy81Pa55w0rt-Xy81Pa55w0rt-Xy81",
            "0000000000000000000000000000000000000000",
            "abcd1234abcd5678efgh1234ijkl5678mnop",
            "a-string-secret-at-least-256-bits-long",
            "09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7",
            "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        ] {
            let refused = check_secret(secret.as_bytes()).map_err(|error| error.0);
            assert!(
                refused.is_err_and(|why| why.contains("openssl")),
                "{secret}"
            );
        }
    }

    #[test]
    fn no_random_secret_is_refused() {
        let env = TestEnv::new(Timestamp(0), 7);
        let mut bytes = [0; 32];
        for round in 0..100_000 {
            env.fill(&mut bytes);
            let digits = format!(
                "{:032x}",
                u128::from_be_bytes(bytes[..16].try_into().unwrap())
            );
            let texts = [
                digits,
                STANDARD.encode_to_string(&bytes[..24]),
                STANDARD.encode_to_string(bytes),
                URL_SAFE_NO_PAD.encode_to_string(bytes),
            ];
            for text in texts {
                assert_eq!(check_secret(text.as_bytes()), Ok(()), "{round}: {text}");
            }
            assert_eq!(check_secret(&bytes), Ok(()), "{round}: {bytes:?}");
        }
    }

    #[test]
    fn a_phrase_may_hold_a_short_word() {
        let phrase = "the latest marmot donkeys walk to Graz by night";
        assert_eq!(check_secret(phrase.as_bytes()), Ok(()));
    }
}
