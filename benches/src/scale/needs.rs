//! How many machines a day takes.

use doorward_core::Policy;

use super::forms::FanOut;
use super::habits::{DAY, Habits};
use super::plant::Plant;
use super::tally::{Second, Tally};

/// How much of a machine its busiest minute may take: room for one of three to fail, or for a storm.
const FULL: f64 = 0.6;

/// What a shard holds and the log takes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of a session, indexes and the store's own overhead counted.
    pub row: f64,
    /// Of a record in the log of events.
    pub record: f64,
    /// How long records are kept, in days.
    pub kept: f64,
    /// Of the sessions that a shard should hold at most: what fits in its memory.
    pub shard: f64,
}

impl Default for Sizes {
    /// As measured on `PostgreSQL`, each session of a user of its own, whose row counts.
    fn default() -> Sizes {
        Sizes {
            row: 485.0,
            record: 277.0,
            kept: 90.0,
            shard: 64e9,
        }
    }
}

/// What an ordinary day asks for, in the world's numbers. Rates are a second's.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Refreshes, of the whole day and of its busiest minute.
    pub refreshes: [f64; 2],
    /// Writes of session rows: refreshes, logins, ends.
    pub writes: [f64; 2],
    /// Logins, of the day and its busiest hour.
    pub logins: [f64; 2],
    /// Records for the log of events, of the day and its busiest ten minutes.
    pub records: [f64; 2],
    /// Clients awake.
    pub awake: [f64; 2],
    /// Cores in the busiest minute that verify, refresh, and hash.
    pub cores: [f64; 3],
    /// Nodes, three at least.
    pub nodes: f64,
    /// Shards for the work, and for what they hold.
    pub shards: [f64; 2],
    /// Bytes of all sessions, and of the log of events.
    pub bytes: [f64; 2],
    /// How ends reach the nodes.
    pub fan_out: FanOut,
}

impl Needs {
    /// Of what was counted from the second `from` on, in a world `each` times as large.
    #[must_use]
    pub fn of(day: &Tally, from: usize, each: f64, world: &World<'_>) -> Needs {
        let over = |span, count: fn(&Second) -> f64| {
            let mean = day.mean(from, day.seconds.len() - 1, count);
            [mean * each, day.peak(from, span, count) * each]
        };
        // What a sample has little of has no minute that says anything.
        let (both, rare) = (|count| over(60, count), |count| over(3_600, count));
        let (plant, habits) = (world.plant, world.habits);
        let refreshes = both(|second| second.refreshed);
        let logins = rare(|second| second.opened);
        let ends = rare(|second| second.ended);
        let awake = both(|second| second.awake);
        let sent = both(|second| second.sent);
        let cores = [
            awake[1] / habits.pause * plant.verify,
            sent[1] * plant.refresh,
            logins[1] * plant.hash,
        ];
        let nodes = (cores.iter().sum::<f64>() / FULL / plant.cores)
            .ceil()
            .max(3.0);
        let racing = (sent[1] - refreshes[1]).max(0.0) * plant.load;
        let work =
            refreshes[1] + racing + logins[1] * plant.login_work() + ends[1] * plant.end_work();
        let records = over(600, |second| second.logged);
        let bytes = [
            world.sessions * world.sizes.row,
            records[0] * DAY * world.sizes.kept * world.sizes.record,
        ];
        let shards = [
            (work / FULL / plant.shard_refreshes).ceil(),
            (bytes[0] / world.sizes.shard).ceil(),
        ];
        Needs {
            refreshes,
            writes: [0, 1].map(|which| refreshes[which] + logins[which] + ends[which]),
            logins,
            records,
            awake,
            cores,
            nodes,
            shards,
            bytes,
            fan_out: FanOut::of(ends[1], nodes, shards[0].max(shards[1]), world.policy),
        }
    }

    /// Shards for both.
    #[must_use]
    pub fn all_shards(&self) -> f64 {
        self.shards[0].max(self.shards[1])
    }
}

/// What [`Needs::of`] has to know of a world.
pub struct World<'a> {
    /// Sessions.
    pub sessions: f64,
    /// What clients do.
    pub habits: &'a Habits,
    /// What a machine can do.
    pub plant: &'a Plant,
    /// Lifetimes.
    pub policy: &'a Policy,
    /// What rows take.
    pub sizes: Sizes,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 clients of the sample are awake, and in each second 10 refresh and one logs in.
    fn even() -> Tally {
        let mut day = Tally::of(7_200, 0.0);
        for second in &mut day.seconds {
            second.awake = 1_000.0;
            (second.sent, second.refreshed) = (12.0, 10.0);
            (second.opened, second.ended, second.logged) = (1.0, 1.0, 3.0);
        }
        day
    }

    #[test]
    fn needs_are_what_the_busiest_minute_takes() {
        let plant = Plant {
            verify: 1e-5,
            refresh: 1e-4,
            hash: 0.02,
            cores: 4.0,
            shard_refreshes: 5_000.0,
            shard_logins: 2_500.0,
            shard_ends: 2_500.0,
            load: 0.5,
            ..Plant::default()
        };
        let (habits, policy) = (Habits::default(), Policy::default());
        let world = World {
            sessions: 2e8,
            habits: &habits,
            plant: &plant,
            policy: &policy,
            sizes: Sizes::default(),
        };
        let needs = Needs::of(&even(), 0, 1_000.0, &world);
        let near = |measured: f64, told: f64| {
            assert!((measured - told).abs() < 1e-6 * told, "{measured} {told}");
        };
        for (measured, told) in needs.cores.into_iter().zip([1.0, 1.2, 20.0]) {
            near(measured, told);
        }
        // 22.2 cores at 60 % of four each.
        near(needs.nodes, 10.0);
        // 10,000 refreshes, 2,000 loads at half, 1,000 logins and as many ends at two each.
        near(needs.shards[0], 5.0);
        near(needs.shards[1], 2.0);
        near(needs.writes[0], 12_000.0);
        near(needs.fan_out.messages, 10_000.0);
        near(needs.bytes[1], 3_000.0 * DAY * 90.0 * 277.0);
    }
}
