//! Clients of a population of sessions: each refreshes random ones of its own, by the token that it was last
//! given.

use std::collections::HashMap;
use std::sync::Arc;

use doorward_core::keys::RefreshKey;

use crate::load::{Client, refresh_of, token_of};
use crate::population::{Population, token};

/// Who holds the tokens of each so-many-th session.
pub struct Holder {
    population: Arc<Population>,
    key: Arc<RefreshKey>,
    first: usize,
    step: usize,
    rows: usize,
    /// What was given for the sessions that were refreshed.
    held: HashMap<usize, Box<str>>,
    random: u64,
}

impl Holder {
    /// `count` holders that share `rows` sessions.
    #[must_use]
    pub fn share(
        population: Population,
        key: &Arc<RefreshKey>,
        rows: usize,
        count: usize,
    ) -> Vec<Holder> {
        let population = Arc::new(population);
        let holder = |first| Holder {
            population: Arc::clone(&population),
            key: Arc::clone(key),
            first,
            step: count,
            rows,
            held: HashMap::new(),
            random: first as u64,
        };
        (0..count).map(holder).collect()
    }

    /// A random session's number.
    fn pick(&mut self) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let own = self.rows / self.step;
        usize::try_from(self.random >> 33).unwrap_or(0) % own * self.step + self.first
    }

    fn token(&self, number: usize) -> Box<str> {
        let held = self.held.get(&number).cloned();
        held.unwrap_or_else(|| token(&self.population.session(number), &self.key).into())
    }
}

/// One that refreshes, of the sessions of one or more holders in turn.
pub struct Hand {
    holders: Vec<Holder>,
    turn: usize,
    number: usize,
    request: Vec<u8>,
}

impl Hand {
    /// `count` hands, which all have the same.
    #[must_use]
    pub fn of(mut holders: Vec<Holder>, count: usize) -> Vec<Hand> {
        let share = holders.len() / count;
        let hand = |holders| Hand {
            holders,
            turn: 0,
            number: 0,
            request: Vec::new(),
        };
        (0..count)
            .map(|_| hand(holders.drain(..share).collect()))
            .collect()
    }

    /// The token to be sent.
    ///
    /// # Panics
    /// There are fewer sessions than holders.
    pub fn next(&mut self) -> Box<str> {
        self.turn = (self.turn + 1) % self.holders.len();
        let holder = &mut self.holders[self.turn];
        self.number = holder.pick();
        holder.token(self.number)
    }

    /// Keeps what was given for it.
    pub fn keep(&mut self, token: &str) {
        self.holders[self.turn]
            .held
            .insert(self.number, token.into());
    }

    /// The holders back.
    #[must_use]
    pub fn into_holders(self) -> Vec<Holder> {
        self.holders
    }
}

impl Client for Hand {
    fn request(&mut self) -> &[u8] {
        let token = self.next();
        self.request = refresh_of(&token);
        &self.request
    }

    fn answered(&mut self, body: &[u8]) {
        self.keep(&token_of(body));
    }
}
