//! Which new passwords are refused, and why in words.
//!
//! By length and by what is guessed first (NIST SP 800-63B-4, 3.1.1.2; ASVS 5.0, 6.2): no rules of
//! composition. Every character counts, and a sentence of common words passes.
//!
//! Left out: passwords that exist are not looked at again.

use super::Password;
use super::breached::Breached;
use super::guess::{Spellings, folded, guesses};
use crate::error::{Error, Result};

/// Fewer guesses than this are within reach of one who tries: 10^8, in tenths of a decade. The
/// bound of zxcvbn's score 3. Three common words pass, two do not.
const ENOUGH: u32 = 80;
/// The shortest name that is looked for.
const SHORTEST: usize = 3;
const PRODUCT: &str = "doorward";

const SHORT: Error = Error::PasswordTooWeak("too short; a sentence is long and easy to remember");
const COMMON: Error = Error::PasswordTooWeak("one of the most common passwords, or little more");
const NAMED: Error = Error::PasswordTooWeak("mostly the username or the name of this service");
const PATTERN: Error = Error::PasswordTooWeak(
    "mostly common words, repetitions or rows of keys, which are guessed first",
);
const BREACHED: Error =
    Error::PasswordTooWeak("among the passwords of a data breach, which are guessed first");

/// What a new password must be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The shortest, in characters.
    pub min_length: usize,
    /// What the service is called, so that passwords made from it are refused.
    pub service_name: Option<String>,
    /// The passwords of data breaches.
    pub breached: Option<Breached>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            // NIST SP 800-63B-4 for a password that is the only factor.
            min_length: 15,
            service_name: None,
            breached: None,
        }
    }
}

impl Rules {
    /// Calls the service what its tokens call it, unless it has a name. Of a URL the host counts.
    pub fn name_after(&mut self, issuer: Option<&str>) {
        let host = |url: &str| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            rest.split(['/', ':', '?', '#']).next().map(str::to_owned)
        };
        if self.service_name.is_none() {
            self.service_name = issuer.and_then(host);
        }
    }

    /// Refuses what is guessed first. Reads a file where [`Rules::breached`] is given.
    ///
    /// # Errors
    /// [`Error::PasswordTooWeak`] with the reason in words; [`Error::StoreUnavailable`] where the
    /// passwords of data breaches cannot be read.
    pub fn check(&self, username: &str, password: &Password) -> Result<()> {
        if password.as_str().chars().count() < self.min_length {
            return Err(SHORT);
        }
        self.check_guessable(&folded(password.as_str()), &self.names(username))?;
        self.check_breached(password)
    }

    fn check_guessable(&self, text: &[char], names: &[Vec<char>]) -> Result<()> {
        let beside = Spellings::of(text).beside(names);
        if is_little_more_than_common(text) {
            Err(COMMON)
        } else if beside < self.min_length / 2 {
            Err(NAMED)
        } else if guesses(text, names) >= ENOUGH {
            Ok(())
        } else if guesses(text, &[]) >= ENOUGH {
            Err(NAMED)
        } else {
            Err(PATTERN)
        }
    }

    fn check_breached(&self, password: &Password) -> Result<()> {
        match self
            .breached
            .as_ref()
            .map(|breached| breached.contains(password))
        {
            None | Some(Ok(false)) => Ok(()),
            Some(Ok(true)) => Err(BREACHED),
            Some(Err(_)) => Err(Error::StoreUnavailable),
        }
    }

    /// The names that a guesser tries, and their parts.
    fn names(&self, username: &str) -> Vec<Vec<char>> {
        let service = self.service_name.as_deref().unwrap_or_default();
        let mut names: Vec<_> = [username, service, PRODUCT]
            .into_iter()
            .flat_map(parts)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A name, and each word of it.
fn parts(name: &str) -> Vec<Vec<char>> {
    let whole = folded(name);
    let words = whole
        .split(|char| !char.is_alphanumeric())
        .map(<[char]>::to_vec);
    let all = words.chain([whole.clone()]);
    all.filter(|part| part.len() >= SHORTEST).collect()
}

/// Whether at least half of it is one common password, and the rest surrounds that with digits and
/// signs.
fn is_little_more_than_common(text: &[char]) -> bool {
    let is_letter = |char: &char| char.is_alphabetic();
    let from = text.iter().position(is_letter).unwrap_or(0);
    let to = text
        .iter()
        .rposition(is_letter)
        .map_or(text.len(), |at| at + 1);
    let core = &text[from..to];
    let is_half = core.len() * 2 >= text.len();
    Spellings::of(text).is_common() || is_half && Spellings::of(core).is_common()
}

#[cfg(test)]
mod tests;
