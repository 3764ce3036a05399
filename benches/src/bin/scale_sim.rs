//! What it takes to serve 10^8 and 10^9 sessions, by a discrete-event simulation; nothing is measured here.
//!
//! Method: `doorward_benches::scale` says what is simulated. Clients that sleep and wake over a day, access
//! tokens with the engine's jitter, tabs, back-off after a 503, logins through Argon2; nodes and
//! store shards with the capacities that the other benchmarks measured, and queues as bounded as the engine's.
//! Each world is a sample of its sessions, on capacities divided alike. Judged is whether
//! samples of 10^5, 10^6 and 10^7 agree. Seeded: the same figures each time.
//! Arguments change what is assumed: `scale_sim shard_refreshes=30000 visits=12`.

use std::time::Duration;

use doorward_benches::scale::forms::{FanOut, ends_remembered_one_by_one};
use doorward_benches::scale::habits::{DAY, Habits};
use doorward_benches::scale::needs::{self, Needs, Sizes};
use doorward_benches::scale::plant::Plant;
use doorward_benches::scale::tally::{Second, Tally};
use doorward_benches::scale::world::{Setting, Shock, run};
use doorward_benches::{Limit, clock, judge};
use doorward_core::Policy;

/// The busiest hour of the day, in seconds.
const EVENING: f64 = 20.0 * 3600.0;
/// When something happens in a storm's world.
const STRIKES: u32 = 1_800;
const SAMPLE: u32 = 200_000;

fn main() {
    let begun = clock();
    let mut assumed = Assumed::default();
    for argument in std::env::args().skip(1) {
        assumed.change(&argument);
    }
    assumed.agreement();
    let needs = [1e8, 1e9].map(|sessions| assumed.day(sessions));
    println!(
        "\nan ordinary day: a second's mean; of the busiest minute (logins: hour; records: ten minutes)"
    );
    for (sessions, needs) in [1e8, 1e9].into_iter().zip(&needs) {
        tell_day(sessions, needs);
    }
    assumed.lifetimes();
    assumed.use_plant(&needs[1]);
    assumed.storms();
    assumed.echoes();
    assumed.everybody();
    assumed.fan_out(&needs[1]);
    assumed.breaks();
    println!("\n{:.1} s", begun.elapsed().as_secs_f64());
}

/// What everything follows from.
#[derive(Clone, Default)]
struct Assumed {
    habits: Habits,
    plant: Plant,
    policy: Policy,
    sizes: Sizes,
}

impl Assumed {
    /// `name=value`.
    fn change(&mut self, argument: &str) {
        let known = argument.split_once('=').and_then(|(name, value)| {
            *self.named(name)? = value.parse().ok()?;
            Some(())
        });
        assert!(known.is_some(), "no such assumption: {argument}");
    }

    fn named(&mut self, name: &str) -> Option<&mut f64> {
        let Assumed {
            habits,
            plant,
            sizes,
            ..
        } = self;
        Some(match name {
            "always_on" => &mut habits.always_on,
            "visits" => &mut habits.visits,
            "visit" => &mut habits.visit,
            "swing" => &mut habits.swing,
            "pause" => &mut habits.pause,
            "racing" => &mut habits.racing,
            "life" => &mut habits.life,
            "cores" => &mut plant.cores,
            "verify" => &mut plant.verify,
            "refresh" => &mut plant.refresh,
            "hash" => &mut plant.hash,
            "shard_refreshes" => &mut plant.shard_refreshes,
            "shard_logins" => &mut plant.shard_logins,
            "shard_ends" => &mut plant.shard_ends,
            "load" => &mut plant.load,
            "latency" => &mut plant.latency,
            "row" => &mut sizes.row,
            "record" => &mut sizes.record,
            "shard" => &mut sizes.shard,
            _ => return None,
        })
    }

    fn setting(&self, sessions: f64, sample: u32) -> Setting {
        Setting {
            sessions,
            sample,
            seed: 1,
            begins: EVENING - f64::from(STRIKES),
            lasts: 2 * STRIKES,
            policy: self.policy.clone(),
            habits: self.habits.clone(),
            plant: self.plant.clone(),
            shocks: Vec::new(),
        }
    }

    /// Machines as an ordinary day needs them.
    fn use_plant(&mut self, needs: &Needs) {
        self.plant.nodes = needs.nodes;
        self.plant.shards = needs.all_shards();
    }

    /// One storm in samples of three sizes.
    fn agreement(&self) {
        println!("a push that wakes 10 % of 10^8 within a minute, by the size of the sample");
        println!("   sample  usual/s  peak/s (10 s)  refused  calm after");
        let mut assumed = self.clone();
        assumed.use_plant(&self.day(1e8));
        let storms = [100_000, 1_000_000, 10_000_000].map(|sample| {
            let mut setting = assumed.setting(1e8, sample);
            setting.shocks = vec![(STRIKES, push(0.1))];
            setting.lasts = STRIKES + 900;
            let storm = Storm::of(&setting);
            let (usual, peak, calm) = (storm.usual, storm.peak, storm.calm);
            println!(
                "{sample:>9} {usual:>8.0} {peak:>14.0} {:>8.3} {calm:>9} s",
                storm.refused
            );
            storm
        });
        for (which, storm) in ["10^5", "10^6"].into_iter().zip(&storms) {
            let exact = &storms[2];
            let apart = [
                storm.usual / exact.usual,
                storm.peak / exact.peak,
                storm.refused / exact.refused,
            ];
            let most = apart
                .map(|ratio| (ratio - 1.0).abs())
                .into_iter()
                .fold(0.0, f64::max);
            let what = format!("the sample of {which} and that of 10^7, apart at most");
            judge(&what, most, Limit::AtMost(0.05));
        }
    }

    /// What a day takes, and begins with an evening for the clients to find their rhythm.
    fn day(&self, sessions: f64) -> Needs {
        let (tally, from, each) = self.days(sessions);
        let world = needs::World {
            sessions,
            habits: &self.habits,
            plant: &self.plant,
            policy: &self.policy,
            sizes: self.sizes,
        };
        Needs::of(&tally, from, each, &world)
    }

    fn days(&self, sessions: f64) -> (Tally, usize, f64) {
        let from = 4 * 3_600;
        let mut setting = self.setting(sessions, SAMPLE / 2);
        setting.begins = DAY - f64::from(from);
        setting.lasts = from + 86_400;
        // Of machines there are enough: how many are needed is asked here.
        (setting.plant.nodes, setting.plant.shards) = (1e6, 1e6);
        let each = setting.each();
        (run(setting), from as usize, each)
    }

    fn lifetimes(&self) {
        println!("\nby the lifetime of an access token, 10^9 sessions");
        println!(
            "access_ttl  refreshes/s mean  busiest minute  shards  ends remembered one by one, a second"
        );
        for minutes in [5, 15, 60] {
            let mut assumed = self.clone();
            assumed.policy.access_ttl = Duration::from_secs(minutes * 60);
            let needs = assumed.day(1e9);
            let [mean, most] = needs.refreshes;
            let ends = ends_remembered_one_by_one(&assumed.policy);
            println!(
                "{minutes:>6} min {mean:>17.0} {most:>15.0} {:>7} {ends:>12.0}",
                needs.shards[0]
            );
        }
    }

    fn storms(&self) {
        println!(
            "\nstorms at the busiest hour, 10^9 sessions, {} nodes, {} shards",
            self.plant.nodes, self.plant.shards
        );
        println!(
            "{:<52} peak/s (10 s)   refused  within 1 s   10 s   60 s  calm after",
            ""
        );
        let down = |share, lasts| {
            vec![
                (STRIKES, Shock::ShardsDown(share)),
                (STRIKES + lasts, Shock::ShardsDown(0.0)),
            ]
        };
        let storms = [
            ("nothing", vec![(STRIKES, Shock::NodesDown(0.0))]),
            (
                "a push wakes 3 % within a minute",
                vec![(STRIKES, push(0.03))],
            ),
            ("a push wakes 10 %", vec![(STRIKES, push(0.1))]),
            ("a push wakes 30 %", vec![(STRIKES, push(0.3))]),
            (
                "a push wakes 30 % within ten minutes",
                vec![(
                    STRIKES,
                    Shock::Wake {
                        share: 0.3,
                        within: 600.0,
                    },
                )],
            ),
            (
                "a third back within 10 s, after 20 min without network",
                vec![(STRIKES - 1_200, network(10.0))],
            ),
            ("one shard of eight down for a minute", down(0.125, 60)),
            ("all shards down for a minute", down(1.0, 60)),
            ("all shards down for ten minutes", down(1.0, 600)),
            (
                "a third of the nodes lost",
                vec![(STRIKES, Shock::NodesDown(1.0 / 3.0))],
            ),
            (
                "ends collapse: no token older than 115 s",
                vec![(STRIKES, Shock::Collapse(115.0))],
            ),
        ];
        for (name, shocks) in storms {
            self.storm(name, shocks, |_| {});
        }
        println!("the same, with something changed");
        self.storm(
            "a push wakes 30 %, retries without jitter",
            vec![(STRIKES, push(0.3))],
            |setting| {
                setting.habits.retry.jitter = false;
            },
        );
        self.storm(
            "all down for ten minutes, retries without jitter",
            down(1.0, 600),
            |setting| {
                setting.habits.retry.jitter = false;
            },
        );
        for (times, name) in [(2.0, "twice"), (4.0, "4 times"), (16.0, "16 times")] {
            let name = format!("a push wakes 10 %, {name} the machines");
            self.storm(&name, vec![(STRIKES, push(0.1))], |setting| {
                setting.plant.nodes *= times;
                setting.plant.shards *= times;
            });
        }
        for minutes in [5_u8, 10, 20] {
            let name = format!("a push wakes 10 %, spread over {minutes} minutes");
            let within = f64::from(minutes) * 60.0;
            let wake = Shock::Wake { share: 0.1, within };
            self.storm(&name, vec![(STRIKES, wake)], |_| {});
        }
    }

    fn storm(&self, name: &str, shocks: Vec<(u32, Shock)>, change: impl Fn(&mut Setting)) {
        let mut setting = self.setting(1e9, SAMPLE);
        setting.shocks = shocks;
        change(&mut setting);
        let storm = Storm::of(&setting);
        let [one, ten, sixty] = storm.within;
        println!(
            "{name:<52} {:>13.0} {:>8.1}% {one:>10.1}% {ten:>5.1}% {sixty:>5.1}% {:>8} s",
            storm.peak,
            storm.refused * 100.0,
            storm.calm
        );
    }

    /// Clients that came back together expire together.
    fn echoes(&self) {
        println!(
            "\na third cut off for 20 min is back within 10 s: peaks (10 s) of its echoes, of the usual rate"
        );
        println!("expiry_jitter_percent   1st   2nd   4th   8th");
        for percent in [0, 5, 20, 50] {
            let mut setting = self.setting(1e9, SAMPLE);
            setting.policy.expiry_jitter_percent = percent;
            setting.lasts = STRIKES + 9 * 900;
            // What is served must not be what spreads them.
            (setting.plant.nodes, setting.plant.shards) = (1e6, 1e6);
            setting.shocks = vec![(STRIKES - 1_200, network(10.0))];
            let tally = run(setting);
            let usual = tally.mean(100, 600, |second| second.refreshed);
            let peaks = [1, 2, 4, 8].map(|echo| {
                let around = STRIKES as usize + echo * 880;
                let window = 880 * usize::from(percent) / 200 * echo / 2 + 120;
                peak_around(&tally, around, window) / usual
            });
            println!(
                "{percent:>21} {:>5.1} {:>5.1} {:>5.1} {:>5.1}",
                peaks[0], peaks[1], peaks[2], peaks[3]
            );
        }
    }

    /// Every session ends at the busiest hour.
    fn everybody(&self) {
        println!("\nall 10^9 sessions end: how their users get in again");
        println!("   nodes  logins/s  refused at first  in after 1 h   6 h  24 h");
        for times in [1.0, 2.0, 4.0, 1e3] {
            let mut setting = self.setting(1e9, SAMPLE / 2);
            setting.plant.nodes *= times;
            setting.plant.shards *= times;
            setting.lasts = STRIKES + 86_400;
            setting.shocks = vec![(STRIKES, Shock::EndAll)];
            let (nodes, each, sample) = (setting.plant.nodes, setting.each(), setting.sample);
            let (tally, from) = (run(setting), STRIKES as usize);
            let opened = |second: &Second| second.opened;
            let first = tally.mean(from, from + 600, |second| second.logins_refused)
                / tally.mean(from, from + 600, |second| second.logins);
            let [one, six, day] = [1.0, 6.0, 24.0].map(|hours| {
                let seconds = hours * 3_600.0;
                let until = from + to_usize(seconds);
                tally.mean(from, until, opened) * seconds / f64::from(sample) * 100.0
            });
            println!(
                "{nodes:>8.0} {:>9.0} {:>16.0}% {one:>12.1}% {six:>4.0}% {day:>4.0}%",
                tally.peak(from, 600, opened) * each,
                first * 100.0
            );
        }
    }

    fn fan_out(&self, needs: &Needs) {
        println!(
            "\nends of sessions to {} nodes, from {} logs",
            self.plant.nodes, self.plant.shards
        );
        println!(
            "ends/s     messages/s    MB/s  polls/s  remembered  MB a node  oldest token  refreshes"
        );
        let usual = needs.fan_out.messages / needs.nodes;
        for ends in [usual, 1_000.0, 5_000.0, 10_000.0, 100_000.0] {
            let out = FanOut::of(ends, self.plant.nodes, self.plant.shards, &self.policy);
            println!(
                "{ends:>7.0} {:>13.0} {:>7.1} {:>8.0} {:>11.0} {:>10.1} {:>11.0} s {:>8.1} x",
                out.messages,
                out.bytes / 1e6,
                out.polls,
                out.remembered,
                out.memory / 1e6,
                out.oldest_token,
                out.more_refreshes(&self.policy)
            );
        }
        println!(
            "every end is remembered up to {:.0} a second",
            ends_remembered_one_by_one(&self.policy)
        );
    }

    /// Limits that are no matter of more machines, and the sessions at which each is met.
    fn breaks(&self) {
        println!("\nwhat more machines do not move, and the sessions at which it is met");
        let life = self.habits.life;
        // A failed attempt in ten logins, from devices that are not known.
        let failures = 3_000.0 / 600.0 / 0.1 * life;
        let rows = [
            (
                "`session end --all`, 10,000 users a second, in an hour",
                3_600.0 * 10_000.0,
            ),
            (
                "the budget of all failed logins, 3000/10m, one failure in ten logins",
                failures,
            ),
            (
                "purge of the log of events, 10,000 records a second",
                10_000.0 * DAY,
            ),
            (
                "a round of the purge of sessions, 10,000 rows a second, in a day",
                10_000.0 * DAY,
            ),
            (
                "the last place of a log: a commit for each login and end, 1,000 a second",
                500.0 * life,
            ),
            (
                "ends remembered one by one",
                ends_remembered_one_by_one(&self.policy) * life,
            ),
        ];
        for (what, sessions) in rows {
            println!("{what:<75} {sessions:>8.1e}");
        }
    }
}

fn push(share: f64) -> Shock {
    Shock::Wake {
        share,
        within: 60.0,
    }
}

fn network(within: f64) -> Shock {
    Shock::CutOff {
        share: 0.33,
        lasts: 1_200.0,
        within,
    }
}

/// What came of a storm, in the world's numbers.
struct Storm {
    usual: f64,
    peak: f64,
    refused: f64,
    /// Of the refreshes answered afterwards, in percent.
    within: [f64; 3],
    calm: usize,
}

impl Storm {
    fn of(setting: &Setting) -> Storm {
        let (each, from) = (setting.each(), STRIKES as usize);
        let tally = run(setting.clone());
        let sent = |second: &Second| second.sent;
        let answers: f64 = tally.soon.iter().sum();
        let mut sum = 0.0;
        let within = [0, 1, 2].map(|class| {
            sum += tally.soon[class];
            sum / answers * 100.0
        });
        let until = tally.seconds.len() - 1;
        Storm {
            usual: tally.mean(100, 600, sent) * each,
            peak: tally.peak(from, 10, sent) * each,
            refused: tally.mean(from, until, |second| second.refused)
                / tally.mean(from, until, sent),
            within,
            calm: tally.troubled(from, |second| second.refused, sent),
        }
    }
}

fn peak_around(tally: &Tally, around: usize, window: usize) -> f64 {
    let seconds = &tally.seconds[around - window..around + window];
    let sums = seconds
        .windows(10)
        .map(|window| window.iter().map(|second| second.refreshed).sum::<f64>());
    sums.fold(0.0, f64::max) / 10.0
}

fn tell_day(sessions: f64, needs: &Needs) {
    let pair = |[mean, most]: [f64; 2]| format!("{mean:.0}; {most:.0}");
    println!("{sessions:.0e} sessions");
    println!("  refreshes a second   {}", pair(needs.refreshes));
    println!("  writes of rows       {}", pair(needs.writes));
    println!("  logins               {}", pair(needs.logins));
    println!("  records of events    {}", pair(needs.records));
    println!("  clients awake        {}", pair(needs.awake));
    let [verify, refresh, hash] = needs.cores;
    println!(
        "  cores                {verify:.1} verify, {refresh:.1} refresh, {hash:.1} hash: {} nodes",
        needs.nodes
    );
    println!(
        "  shards               {} for the work, {} for the rows",
        needs.shards[0], needs.shards[1]
    );
    println!(
        "  GB                   {:.0} of sessions, {:.0} of events",
        needs.bytes[0] / 1e9,
        needs.bytes[1] / 1e9
    );
    // Each session's row and each record goes one day.
    println!(
        "  purged a second      {:.0} rows, {:.0} records",
        needs.logins[0], needs.records[0]
    );
    let out = needs.fan_out;
    println!(
        "  ends                 {:.0} messages and {:.2} MB a second, {:.0} polls, {:.1} MB a node",
        out.messages,
        out.bytes / 1e6,
        out.polls,
        out.memory / 1e6
    );
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a day"
)]
fn to_usize(seconds: f64) -> usize {
    seconds as usize
}
