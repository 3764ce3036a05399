//! Something that serves one job after the other, in order, and refuses what would wait too long.

/// Jobs are amounts of work, of which a station does `speed` a second.
#[derive(Clone, Debug)]
pub struct Station {
    free_at: f64,
    speed: f64,
    longest_wait: f64,
    done: f64,
}

impl Station {
    /// One that is idle. Jobs that would wait for more than `longest_wait` seconds are refused.
    #[must_use]
    pub fn new(speed: f64, longest_wait: f64) -> Station {
        Station {
            free_at: 0.0,
            speed,
            longest_wait,
            done: 0.0,
        }
    }

    /// When a job that arrives now will be done; `None`: refused. Times in seconds.
    pub fn serve(&mut self, now: f64, work: f64) -> Option<f64> {
        if self.speed <= 0.0 || self.wait(now) > self.longest_wait {
            return None;
        }
        self.free_at = self.free_at.max(now) + work / self.speed;
        self.done += work;
        Some(self.free_at)
    }

    /// How long a job that arrives now would wait.
    #[must_use]
    pub fn wait(&self, now: f64) -> f64 {
        (self.free_at - now).max(0.0)
    }

    /// From now on it is so fast. What waits goes on at the new speed; at none it is lost.
    pub fn set_speed(&mut self, now: f64, speed: f64) {
        let waiting = self.wait(now) * self.speed;
        self.speed = speed;
        self.free_at = now + if speed > 0.0 { waiting / speed } else { 0.0 };
    }

    /// Work taken since the last time this was asked.
    pub fn taken(&mut self) -> f64 {
        std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::chance::Chance;
    use crate::scale::forms::mean_wait;

    #[test]
    fn random_arrivals_wait_as_long_as_theory_says() {
        for load in [0.3, 0.6, 0.8] {
            let (mut chance, mut now, mut waited) = (Chance::new(5), 0.0, 0.0);
            let mut station = Station::new(100.0, f64::INFINITY);
            let count = 400_000;
            for _ in 0..count {
                now += chance.wait(1.0 / (100.0 * load));
                waited += station.wait(now);
                station.serve(now, 1.0);
            }
            let (measured, theory) = (waited / f64::from(count), mean_wait(load, 0.01));
            assert!(
                (measured / theory - 1.0).abs() < 0.05,
                "{load}: {measured} {theory}"
            );
        }
    }

    #[test]
    fn at_twice_its_capacity_half_is_refused() {
        let mut station = Station::new(10.0, 2.0);
        let served = (0..10_000).filter(|i| station.serve(f64::from(*i) / 20.0, 1.0).is_some());
        let served = served.count();
        assert!((5_000..5_050).contains(&served), "{served}");
    }

    #[test]
    fn a_slower_station_takes_longer_for_what_waits() {
        let mut station = Station::new(10.0, 9.0);
        assert_eq!(station.serve(0.0, 20.0), Some(2.0));
        station.set_speed(1.0, 5.0);
        assert!((station.wait(1.0) - 2.0).abs() < 1e-9);
        station.set_speed(1.0, 0.0);
        assert_eq!(station.serve(1.0, 1.0), None);
        station.set_speed(2.0, 10.0);
        assert_eq!(station.serve(2.0, 10.0), Some(3.0));
        assert!((station.taken() - 30.0).abs() < 1e-9);
    }
}
