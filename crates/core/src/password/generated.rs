//! A password for somebody who has none yet: 140 random bits, in groups that can be typed.

use zeroize::Zeroizing;

use crate::env::Env;

/// No letter looks like another. Five bits each.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Seven groups of four (ASVS 5.0, 11.5.1 asks for 128 bits, which are 26 letters).
const LENGTH: usize = 28;
const GROUP: usize = 4;

/// One that nobody guesses and that [`super::strength::Rules`] accept.
#[must_use]
pub fn generated(env: &dyn Env) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    env.fill(&mut *bytes);
    let mut text = Zeroizing::new(String::with_capacity(LENGTH + LENGTH / GROUP));
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Timestamp;
    use crate::testing::TestEnv;

    #[test]
    fn every_letter_comes_at_every_place_so_that_there_are_140_bits() {
        let env = TestEnv::new(Timestamp(0), 7);
        let mut seen = vec![std::collections::BTreeSet::new(); LENGTH];
        for _ in 0..1000 {
            let text = generated(&env);
            let groups: Vec<&str> = text.split('-').collect();
            assert!(groups.len() == 7 && groups.iter().all(|group| group.len() == 4));
            for (at, letter) in text.chars().filter(|char| *char != '-').enumerate() {
                seen[at].insert(letter);
            }
        }
        assert!(seen.iter().all(|letters| letters.len() == 32));
    }
}
