//! What clients do. These are assumptions: change them to yours.

use super::chance::Chance;

/// Seconds of a day.
pub const DAY: f64 = 86_400.0;

/// What clients do, on average. Times in seconds.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The share of sessions that never sleep: a tab in the background that goes on polling.
    pub always_on: f64,
    /// Visits a day of each other session: an app that is opened, or that a push message wakes.
    pub visits: f64,
    /// How long a visit lasts.
    pub visit: f64,
    /// How far the rate of visits swings about its mean over the day, 0 to 1.
    pub swing: f64,
    /// The hour of the most visits.
    pub peak_hour: f64,
    /// Between two requests of a client that is awake.
    pub pause: f64,
    /// The share of refreshes that a second tab of the same browser sends too, at the same time.
    pub racing: f64,
    /// How long a session lives, from its login to its logout.
    pub life: f64,
    /// How long somebody takes to type a password.
    pub typing: f64,
    /// Until somebody looks at a tab in the background that wants a password.
    pub notice: f64,
    /// What a client does that was answered 503.
    pub retry: Retry,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits {
            always_on: 0.05,
            visits: 6.0,
            visit: 300.0,
            swing: 0.8,
            peak_hour: 20.0,
            pause: 10.0,
            racing: 0.15,
            life: 30.0 * DAY,
            typing: 30.0,
            notice: 2.0 * 3600.0,
            retry: Retry::default(),
        }
    }
}

impl Habits {
    /// Visits a second that a sleeping client begins at a time of the day; the day begins at 0.
    #[must_use]
    pub fn rate(&self, seconds: f64) -> f64 {
        let hour = (seconds / 3600.0 - self.peak_hour) / 24.0;
        self.visits / DAY * (1.0 + self.swing * (hour * std::f64::consts::TAU).cos())
    }

    /// How long a client sleeps that goes to sleep at a time of the day.
    pub fn sleep(&self, from: f64, chance: &mut Chance) -> f64 {
        let most = self.visits / DAY * (1.0 + self.swing);
        let mut slept = 0.0;
        loop {
            slept += chance.wait(1.0 / most);
            if chance.happens(self.rate(from + slept) / most) {
                return slept;
            }
        }
    }

    /// The share of the others that is awake at a time of the day, about.
    #[must_use]
    pub fn awake(&self, seconds: f64) -> f64 {
        let load = self.rate(seconds) * self.visit;
        load / (1.0 + load)
    }
}

/// Back-off: longer after each failure, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The first wait; it doubles.
    pub first: f64,
    /// And is never longer than this.
    pub longest: f64,
    /// Whether a client waits for a random part of it.
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            first: 1.0,
            longest: 60.0,
            jitter: true,
        }
    }
}

impl Retry {
    /// How long to wait after so many failures. `Retry-After` is a second: nobody comes sooner.
    pub fn wait(&self, failures: u8, chance: &mut Chance) -> f64 {
        let most = (self.first * 2_f64.powi(i32::from(failures.min(30)) - 1)).min(self.longest);
        let part = if self.jitter { chance.share() } else { 1.0 };
        1.0 + most * part
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "what is computed alike is alike")]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_visits_as_often_as_the_day_says() {
        let (habits, mut chance) = (Habits::default(), Chance::new(2));
        let (mut now, mut at_peak, mut visits) = (0.0, 0, 0);
        while now < 2_000.0 * DAY {
            now += habits.sleep(now, &mut chance);
            visits += 1;
            at_peak += u32::from((now / 3600.0 % 24.0 - 20.0).abs() < 0.5);
        }
        let (mean, peak) = (f64::from(visits) / 2_000.0, f64::from(at_peak) / 2_000.0);
        assert!((mean - 6.0).abs() < 0.2, "{mean} a day");
        assert!(
            (peak - 6.0 / 24.0 * 1.8).abs() < 0.04,
            "{peak} in the busiest hour"
        );
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry {
            jitter: false,
            ..Retry::default()
        };
        let waits = [1, 2, 3, 7, 200].map(|failures| retry.wait(failures, &mut Chance::new(0)));
        let told = [2.0, 3.0, 5.0, 61.0, 61.0];
        assert_eq!(waits.map(f64::to_bits), told.map(f64::to_bits));
    }
}
