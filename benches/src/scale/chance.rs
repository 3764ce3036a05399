//! Randomness from a seed.

use doorward_core::Timestamp;
use doorward_core::testing::TestEnv;

/// A stream of random numbers, the same for the same seed.
pub struct Chance(TestEnv);

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        Chance(TestEnv::new(Timestamp(0), seed))
    }

    /// 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn share(&mut self) -> f64 {
        (self.0.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this likelihood happens.
    pub fn happens(&mut self, likelihood: f64) -> bool {
        self.share() < likelihood
    }

    /// A wait without memory.
    pub fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// One of `0..count`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below count"
    )]
    pub fn one_of(&mut self, count: u32) -> u32 {
        (self.share() * f64::from(count)) as u32
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "what is computed alike is alike")]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..100_000).map(|_| draw()).sum::<f64>() / 1e5
    }

    #[test]
    fn shares_and_waits_have_their_means() {
        let mut chance = Chance::new(1);
        assert!((mean(|| chance.share()) - 0.5).abs() < 0.005);
        assert!((mean(|| chance.wait(7.0)) - 7.0).abs() < 0.1);
        assert!((mean(|| f64::from(chance.one_of(11))) - 5.0).abs() < 0.05);
        assert!((mean(|| f64::from(u8::from(chance.happens(0.3)))) - 0.3).abs() < 0.01);
    }

    #[test]
    fn a_seed_gives_the_same_stream_again() {
        let draws = |seed| {
            let mut chance = Chance::new(seed);
            [chance.share(), chance.share()].map(f64::to_bits)
        };
        assert!(draws(3) == draws(3) && draws(3) != draws(4));
    }
}
