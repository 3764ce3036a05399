//! What is counted, second by second.

/// Seconds that a client may wait for a refresh, from its first try, by which answers are told apart.
pub const SOON: [f64; 3] = [1.0, 10.0, 60.0];

/// What happened in a second, in numbers of the sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Refreshes sent, tries after a 503 and racing tabs counted.
    pub sent: f64,
    /// Refreshes that wrote their row.
    pub refreshed: f64,
    /// Refreshes answered 503.
    pub refused: f64,
    /// Logins sent.
    pub logins: f64,
    /// Logins answered 503.
    pub logins_refused: f64,
    /// Sessions opened.
    pub opened: f64,
    /// Sessions ended.
    pub ended: f64,
    /// Records for the log of events: logins, ends, each session's first refresh of its day.
    pub logged: f64,
    /// Clients that are awake, at the end of the second.
    pub awake: f64,
    /// Clients that woke less those that went to sleep.
    pub woke: f64,
    /// The longest wait at the store at the end of the second, in seconds.
    pub store_wait: f64,
    /// The wait for a hashing thread.
    pub hash_wait: f64,
    /// The share of the nodes' cores that was busy with other things than hashing.
    pub busy: f64,
}

/// All seconds of a world, and how soon refreshes were answered.
pub struct Tally {
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Refreshes answered within [`SOON`], and later, of those answered after `from`.
    pub soon: [f64; 4],
    /// Seconds.
    pub from: f64,
}

impl Tally {
    /// Nothing yet. How soon answers come is counted from a second on.
    #[must_use]
    pub fn of(seconds: usize, from: f64) -> Tally {
        Tally {
            seconds: vec![Second::default(); seconds],
            soon: [0.0; 4],
            from,
        }
    }

    /// The second of a time. What happens past the horizon is counted in its last.
    pub fn at(&mut self, seconds: f64) -> &mut Second {
        let last = self.seconds.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "past neither end"
        )]
        &mut self.seconds[(seconds.max(0.0) as usize).min(last)]
    }

    /// A refresh was answered, so many seconds after its first try.
    pub fn answered(&mut self, at: f64, after: f64) {
        if at >= self.from {
            let class = SOON.iter().position(|soon| after <= *soon);
            self.soon[class.unwrap_or(SOON.len())] += 1.0;
        }
    }

    /// The mean of a count, of the seconds from one to another.
    #[must_use]
    pub fn mean(&self, from: usize, to: usize, count: impl Fn(&Second) -> f64) -> f64 {
        let seconds = &self.seconds[from..to];
        seconds.iter().map(count).sum::<f64>() / as_f64(seconds.len())
    }

    /// The greatest mean of `span` seconds in a row.
    #[must_use]
    pub fn peak(&self, from: usize, span: usize, count: impl Fn(&Second) -> f64) -> f64 {
        let counts: Vec<f64> = self.seconds[from..].iter().map(count).collect();
        let sums = counts
            .windows(span)
            .map(|window| window.iter().sum::<f64>());
        sums.fold(0.0, f64::max) / as_f64(span)
    }

    /// Seconds after `from` until the end of the last ten of which more than a fiftieth of what one count
    /// says is what the other says: those refused, say, of those sent.
    #[must_use]
    pub fn troubled(
        &self,
        from: usize,
        refused: impl Fn(&Second) -> f64,
        sent: impl Fn(&Second) -> f64,
    ) -> usize {
        let last = self.seconds[from..].chunks(10).rposition(|ten| {
            let sum = |count: &dyn Fn(&Second) -> f64| ten.iter().map(count).sum::<f64>();
            sum(&refused) > sum(&sent) / 50.0
        });
        last.map_or(0, |last| (last + 1) * 10)
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a day")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "what is computed alike is alike")]
mod tests {
    use super::*;

    #[test]
    fn means_peaks_and_ends_are_those_of_the_seconds() {
        let mut tally = Tally::of(10, 0.0);
        for (at, count) in [(2.5, 6.0), (3.0, 4.0), (7.9, 9.0), (99.0, 1.0)] {
            tally.at(at).sent += count;
        }
        let sent = |second: &Second| second.sent;
        assert!((tally.mean(0, 10, sent) - 2.0).abs() < 1e-9);
        assert!((tally.peak(0, 1, sent) - 9.0).abs() < 1e-9);
        assert!((tally.peak(0, 2, sent) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn trouble_lasts_until_fewer_than_a_fiftieth_are_refused() {
        let mut tally = Tally::of(60, 0.0);
        for (number, second) in tally.seconds.iter_mut().enumerate() {
            second.sent = 10.0;
            second.refused = if number < 25 { 1.0 } else { 0.1 };
        }
        let troubled = |from| tally.troubled(from, |it| it.refused, |it| it.sent);
        assert_eq!((troubled(0), troubled(20), troubled(30)), (30, 10, 0));
    }

    #[test]
    fn answers_are_told_apart_by_how_long_they_took() {
        let mut tally = Tally::of(1, 5.0);
        tally.answered(4.0, 0.1);
        for after in [0.2, 1.0, 3.0, 59.0, 600.0] {
            tally.answered(5.0, after);
        }
        let told: [f64; 4] = [2.0, 1.0, 1.0, 1.0];
        assert_eq!(tally.soon.map(f64::to_bits), told.map(f64::to_bits));
    }
}
