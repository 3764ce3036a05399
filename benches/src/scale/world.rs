//! Clients, nodes and shards: what happens, one event after the other.
//!
//! A client sleeps, or is awake and asks something now and then. Its first request after its access token
//! has expired is a refresh: processor time of a node, then a shard. A client that is answered 503 backs off.
//! A session that ended is one that its user logs in to again: a hash, then an insert. All nodes are one
//! station, and all their hashing threads another, which gets what the first leaves: a balancer that
//! spreads requests evenly. Users are spread over shards by their number.

use doorward_core::Policy;

use super::agenda::{Agenda, Millis};
use super::chance::Chance;
use super::habits::{DAY, Habits};
use super::plant::Plant;
use super::station::Station;
use super::tally::Tally;

/// Shards are simulated as so many: users are spread over all evenly, so that more of them differ in
/// nothing.
pub const SHARDS: usize = 8;
/// Hashing threads are never starved wholly: one of normal priority takes over after two seconds.
const LEAST_HASHING: f64 = 0.1;
/// Refused logins after which somebody leaves the tab alone again.
const PATIENT: u8 = 6;
/// Whoever left before it sleeps.
const DAWN: Millis = 1;

/// Everything that a run follows from.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Sessions in the world.
    pub sessions: f64,
    /// Sessions that are simulated.
    pub sample: u32,
    /// Of all randomness.
    pub seed: u64,
    /// The time of the day when it begins, in seconds.
    pub begins: f64,
    /// How long it lasts, in seconds.
    pub lasts: u32,
    /// Lifetimes.
    pub policy: Policy,
    /// What clients do.
    pub habits: Habits,
    /// What serves them.
    pub plant: Plant,
    /// What goes wrong, and when: in order of time.
    pub shocks: Vec<(u32, Shock)>,
}

/// Something that happens to many clients at once, or to what serves them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shock {
    /// A share of the sleeping clients wakes within so many seconds: a push message.
    Wake {
        /// Of the clients asleep.
        share: f64,
        /// Seconds.
        within: f64,
    },
    /// A share of all clients hears nothing for so many seconds, and is then back within so many:
    /// a mobile network.
    CutOff {
        /// Of all clients.
        share: f64,
        /// Seconds that it lasts.
        lasts: f64,
        /// Seconds in which they come back.
        within: f64,
    },
    /// A share of the shards answers nothing from now on; 0: all answer again.
    ShardsDown(f64),
    /// A share of the nodes is gone from now on.
    NodesDown(f64),
    /// Every session ends.
    EndAll,
    /// A share of the sessions ends.
    End(f64),
    /// No token is accepted that is older than so many seconds: ends have collapsed.
    Collapse(f64),
}

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Second,
    Shock(u8),
    /// Somebody's session ends.
    End,
    Wake,
    Refresh,
    LogIn,
    /// The password was right.
    Open,
}

/// Which client, what, and its [`Client::plan`] when this was planned.
type Planned = (Step, u32, u8);

#[derive(Clone)]
struct Client {
    issued: Millis,
    expires: Millis,
    /// Until when it is awake.
    leaves: Millis,
    first_try: Millis,
    failures: u8,
    /// Counts up when what was planned is no longer so.
    plan: u8,
    ended: bool,
    always_on: bool,
}

/// A world under way.
pub struct World {
    setting: Setting,
    chance: Chance,
    agenda: Agenda<Planned>,
    clients: Vec<Client>,
    nodes: Station,
    hashing: Station,
    shards: Vec<Station>,
    /// Sessions of the world for one of the sample.
    each: f64,
    nodes_up: f64,
    awake: f64,
    tally: Tally,
}

/// Runs a world to its end. Counts are of the sample: times [`Setting::each`] they are the world's.
#[must_use]
pub fn run(setting: Setting) -> Tally {
    let mut world = World::new(setting);
    world.begin();
    while let Some((now, (step, who, plan))) = world.agenda.pop() {
        world.happens(now, step, who, plan);
    }
    world.tally
}

impl Setting {
    /// Sessions of the world for one of the sample.
    #[must_use]
    pub fn each(&self) -> f64 {
        self.sessions / f64::from(self.sample)
    }
}

impl World {
    fn new(setting: Setting) -> World {
        let (each, plant) = (setting.each(), &setting.plant);
        let shard = Station::new(1.0, plant.patience);
        let shocked = setting.shocks.first().map_or(0, |(at, _)| *at);
        let mut world = World {
            chance: Chance::new(setting.seed),
            agenda: Agenda::until(setting.lasts * 1000),
            clients: Vec::with_capacity(setting.sample as usize),
            nodes: Station::new(plant.all_cores() / each, plant.patience),
            hashing: Station::new(plant.all_cores() / each, plant.hash_patience()),
            shards: vec![shard; SHARDS],
            each,
            nodes_up: 1.0,
            awake: 0.0,
            tally: Tally::of(setting.lasts as usize + 1, f64::from(shocked)),
            setting,
        };
        world.shards_up(0.0, 1.0);
        world
    }

    /// Puts everybody where an ordinary day has them at this time.
    fn begin(&mut self) {
        let (habits, begins) = (self.setting.habits.clone(), self.setting.begins);
        let awake = habits.awake(begins);
        for who in 0..self.setting.sample {
            let always_on = self.chance.happens(habits.always_on);
            self.clients.push(Client {
                issued: 0,
                expires: 0,
                leaves: if always_on { Millis::MAX } else { 0 },
                first_try: 0,
                failures: 0,
                plan: 0,
                ended: false,
                always_on,
            });
            if always_on {
                self.awake += 1.0;
                self.hold(who, true);
            } else if self.chance.happens(awake) {
                self.stay(who, DAWN);
                self.hold(who, false);
            }
            self.go_on(who, DAWN);
        }
        for (number, (at, _)) in (0..).zip(self.setting.shocks.clone()) {
            self.agenda.plan(at * 1000, (Step::Shock(number), 0, 0));
        }
        self.agenda.plan(1000, (Step::Second, 0, 0));
        self.plan_end(DAWN);
    }

    /// A token from before the world began: how much of it is left is anybody's guess.
    fn hold(&mut self, who: u32, surely: bool) {
        let ttl = self.setting.policy.access_ttl.as_secs_f64();
        let visit = self.setting.habits.visit;
        // Whoever opened the app so long ago refreshed then.
        let age = if surely {
            self.chance.share() * ttl
        } else {
            self.chance.wait(visit) % ttl
        };
        self.clients[who as usize].expires = millis(ttl - age);
    }

    fn happens(&mut self, now: Millis, step: Step, who: u32, plan: u8) {
        match step {
            Step::Second => self.second(now),
            Step::Shock(number) => self.shock(now, self.setting.shocks[usize::from(number)].1),
            Step::End => self.end_somebodys(now),
            _ if self.clients[who as usize].plan != plan => {}
            Step::Wake => {
                self.stay(who, now);
                self.go_on(who, now);
            }
            Step::Refresh => self.refresh(who, now),
            Step::LogIn => self.log_in(who, now),
            Step::Open => self.open(who, now),
        }
    }

    fn plan(&mut self, at: Millis, step: Step, who: u32) {
        let plan = self.clients[who as usize].plan;
        self.agenda.plan(at, (step, who, plan));
    }

    /// In place of whatever the client had in mind.
    fn replan(&mut self, at: Millis, step: Step, who: u32) {
        let client = &mut self.clients[who as usize];
        client.plan = client.plan.wrapping_add(1);
        self.plan(at, step, who);
    }

    /// A visit begins.
    fn stay(&mut self, who: u32, now: Millis) {
        let visit = self.chance.wait(self.setting.habits.visit);
        let leaves = later(now, visit);
        self.clients[who as usize].leaves = leaves;
        self.tally.at(seconds(now)).woke += 1.0;
        self.tally.at(seconds(leaves)).woke -= 1.0;
    }

    /// What a client does that is done with something.
    fn go_on(&mut self, who: u32, now: Millis) {
        let client = self.clients[who as usize].clone();
        let pause = self.chance.wait(self.setting.habits.pause);
        if client.ended {
            let typed = self.chance.wait(self.setting.habits.typing);
            self.plan(later(now, typed), Step::LogIn, who);
        } else if client.expires <= now && client.leaves >= now {
            self.clients[who as usize].first_try = now;
            self.plan(now, Step::Refresh, who);
        } else {
            let due = later(client.expires, pause).max(now);
            self.unless_asleep(who, now, due);
        }
    }

    /// A refresh at a time, or a visit later if the client is asleep then.
    fn unless_asleep(&mut self, who: u32, now: Millis, due: Millis) {
        let client = &mut self.clients[who as usize];
        if due > client.leaves {
            return self.leave(who, now);
        }
        if client.failures == 0 {
            client.first_try = due;
        }
        self.plan(due, Step::Refresh, who);
    }

    /// Nothing more until the next visit.
    fn leave(&mut self, who: u32, now: Millis) {
        let client = &mut self.clients[who as usize];
        client.failures = 0;
        let from = client.leaves.max(now);
        let day = self.setting.begins + seconds(from);
        let sleep = self.setting.habits.sleep(day, &mut self.chance);
        self.plan(later(from, sleep), Step::Wake, who);
    }

    fn refresh(&mut self, who: u32, now: Millis) {
        let at = seconds(now);
        self.tally.at(at).sent += 1.0;
        if self.chance.happens(self.setting.habits.racing) {
            // Decided by one load: the row has been moved, or will be, by the other tab's.
            self.tally.at(at).sent += 1.0;
            let _ = self.ask(who, at, self.setting.plant.load);
        }
        match self.ask(who, at, 1.0) {
            Some(done) => self.refreshed(who, done),
            None => self.refused(who, now),
        }
    }

    /// A request by way of a node to the client's shard: when the answer is there.
    fn ask(&mut self, who: u32, at: f64, work: f64) -> Option<f64> {
        let plant = &self.setting.plant;
        let shard = &mut self.shards[who as usize % SHARDS];
        // A shard that has too much to do is not asked: the node answers for it.
        if shard.wait(at) > plant.patience {
            self.nodes.serve(at, plant.refusal);
            return None;
        }
        let read = self.nodes.serve(at, plant.refresh)?;
        Some(shard.serve(read, work)? + plant.latency)
    }

    fn refreshed(&mut self, who: u32, done: f64) {
        if self.day(who, done) != self.day(who, seconds(self.clients[who as usize].issued)) {
            self.tally.at(done).logged += 1.0;
        }
        let (issued, expires) = (millis(done), millis(done + self.lifetime()));
        let client = &mut self.clients[who as usize];
        client.issued = issued;
        client.expires = expires;
        client.failures = 0;
        let took = done - seconds(client.first_try);
        self.tally.at(done).refreshed += 1.0;
        self.tally.answered(done, took);
        self.go_on(who, issued);
    }

    /// The day of the session's life, as `EventLog` counts them: of its refreshes the first is written to the
    /// log of events. They opened at all times of day alike.
    #[expect(clippy::cast_possible_truncation, reason = "days")]
    fn day(&self, who: u32, at: f64) -> i64 {
        let apart = f64::from(who) / f64::from(self.setting.sample) * DAY;
        ((self.setting.begins + at + apart) / DAY).floor() as i64
    }

    /// As `Service::access_expiry` has it.
    fn lifetime(&mut self) -> f64 {
        let ttl = self.setting.policy.access_ttl.as_secs_f64();
        let most = ttl * f64::from(self.setting.policy.expiry_jitter_percent) / 100.0;
        ttl - (most * self.chance.share()).floor()
    }

    fn refused(&mut self, who: u32, now: Millis) {
        self.tally.at(seconds(now)).refused += 1.0;
        let wait = self.backs_off(who);
        self.unless_asleep(who, now, later(now, wait));
    }

    fn backs_off(&mut self, who: u32) -> f64 {
        let client = &mut self.clients[who as usize];
        client.failures = client.failures.saturating_add(1);
        self.setting
            .habits
            .retry
            .wait(client.failures, &mut self.chance)
    }

    fn log_in(&mut self, who: u32, now: Millis) {
        let at = seconds(now);
        self.tally.at(at).logins += 1.0;
        match self.hashing.serve(at, self.setting.plant.hash) {
            Some(hashed) => self.plan(millis(hashed), Step::Open, who),
            None => self.login_refused(who, now),
        }
    }

    /// Who has tried for long enough tries again another time.
    fn login_refused(&mut self, who: u32, now: Millis) {
        self.tally.at(seconds(now)).logins_refused += 1.0;
        self.nodes.serve(seconds(now), self.setting.plant.refusal);
        let again = later(now, self.backs_off(who));
        let client = &mut self.clients[who as usize];
        if client.always_on && client.failures > PATIENT {
            client.failures = 0;
            let noticed = self.chance.wait(self.setting.habits.notice);
            self.plan(later(now, noticed), Step::LogIn, who);
        } else if again <= client.leaves {
            self.plan(again, Step::LogIn, who);
        } else {
            self.leave(who, now);
        }
    }

    fn open(&mut self, who: u32, now: Millis) {
        let work = self.setting.plant.login_work();
        match self.ask(who, seconds(now), work) {
            Some(done) => {
                let (issued, expires) = (millis(done), millis(done + self.lifetime()));
                let client = &mut self.clients[who as usize];
                client.ended = false;
                client.issued = issued;
                client.expires = expires;
                client.failures = 0;
                self.tally.at(done).opened += 1.0;
                self.tally.at(done).logged += 1.0;
                self.go_on(who, issued);
            }
            None => self.login_refused(who, now),
        }
    }

    fn plan_end(&mut self, now: Millis) {
        let gap = self.setting.habits.life / f64::from(self.setting.sample);
        let at = later(now, self.chance.wait(gap));
        self.agenda.plan(at, (Step::End, 0, 0));
    }

    /// In an ordinary hour: a logout, and somebody who logs in at the next visit.
    fn end_somebodys(&mut self, now: Millis) {
        let who = self.chance.one_of(self.setting.sample);
        if !self.clients[who as usize].ended {
            let work = self.setting.plant.end_work();
            let _ = self.ask(who, seconds(now), work);
            self.end(who, now);
        }
        self.plan_end(now);
    }

    fn end(&mut self, who: u32, now: Millis) {
        self.tally.at(seconds(now)).ended += 1.0;
        self.tally.at(seconds(now)).logged += 1.0;
        let client = &mut self.clients[who as usize];
        client.ended = true;
        let (always_on, is_awake) = (client.always_on, client.leaves >= now);
        if is_awake {
            let habits = &self.setting.habits;
            let mean = if always_on {
                habits.notice
            } else {
                habits.typing
            };
            let wait = self.chance.wait(habits.pause) + self.chance.wait(mean);
            self.replan(later(now, wait), Step::LogIn, who);
        }
    }

    /// What requests leave of the nodes is for hashing.
    fn second(&mut self, now: Millis) {
        let (at, plant) = (seconds(now), &self.setting.plant);
        self.awake += self.tally.at(at - 1.0).woke;
        let cores = plant.all_cores() * self.nodes_up / self.each;
        let verifying = self.awake / self.setting.habits.pause * plant.verify;
        let busy = self.nodes.taken() + verifying;
        self.nodes.set_speed(at, (cores - verifying).max(0.0));
        let left = (cores - busy).max(cores * LEAST_HASHING);
        self.hashing.set_speed(at, left);
        let waits = self.shards.iter().map(|shard| shard.wait(at));
        let store_wait = waits.fold(0.0, f64::max);
        let (hash_wait, awake) = (self.hashing.wait(at), self.awake);
        let second = self.tally.at(at - 1.0);
        second.awake = awake;
        second.store_wait = store_wait;
        second.hash_wait = hash_wait;
        second.busy = busy / cores;
        self.agenda.plan(now + 1000, (Step::Second, 0, 0));
    }

    fn shock(&mut self, now: Millis, shock: Shock) {
        match shock {
            Shock::Wake { share, within } => self.wake_many(now, share, within),
            Shock::CutOff {
                share,
                lasts,
                within,
            } => self.cut_off(now, share, lasts, within),
            Shock::ShardsDown(share) => self.shards_up(seconds(now), 1.0 - share),
            Shock::NodesDown(share) => self.nodes_up = 1.0 - share,
            Shock::EndAll => self.end_many(now, 1.0),
            Shock::End(share) => self.end_many(now, share),
            Shock::Collapse(oldest) => self.collapse(now, oldest),
        }
    }

    fn wake_many(&mut self, now: Millis, share: f64, within: f64) {
        for who in 0..self.setting.sample {
            if self.clients[who as usize].leaves < now && self.chance.happens(share) {
                let at = later(now, self.chance.share() * within);
                self.replan(at, Step::Wake, who);
            }
        }
    }

    /// Whoever is awake, or wakes meanwhile, goes on trying; what gets through first is a refresh, if
    /// one is due by then.
    fn cut_off(&mut self, now: Millis, share: f64, lasts: f64, within: f64) {
        let day = self.setting.begins + seconds(now);
        let wakes = 1.0 - (-self.setting.habits.rate(day) * lasts).exp();
        for who in 0..self.setting.sample {
            let client = self.clients[who as usize].clone();
            if client.ended || !self.chance.happens(share) {
                continue;
            }
            let back = later(now, lasts + self.chance.share() * within);
            if client.leaves >= now && client.expires <= back {
                self.stay_until(who, client.leaves.max(back));
                self.clients[who as usize].first_try = back;
                self.replan(back, Step::Refresh, who);
            } else if client.leaves < now && self.chance.happens(wakes) {
                self.replan(back, Step::Wake, who);
            }
        }
    }

    fn stay_until(&mut self, who: u32, leaves: Millis) {
        let before = std::mem::replace(&mut self.clients[who as usize].leaves, leaves);
        self.tally.at(seconds(before)).woke += 1.0;
        self.tally.at(seconds(leaves)).woke -= 1.0;
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "8 at most"
    )]
    fn shards_up(&mut self, at: f64, share: f64) {
        let plant = &self.setting.plant;
        let speed = plant.shard_refreshes * plant.shards / f64::from(SHARDS as u8) / self.each;
        let up = (f64::from(SHARDS as u8) * share).round() as usize;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            shard.set_speed(at, if number < up { speed } else { 0.0 });
        }
    }

    fn end_many(&mut self, now: Millis, share: f64) {
        for who in 0..self.setting.sample {
            if !self.clients[who as usize].ended && self.chance.happens(share) {
                self.end(who, now);
            }
        }
    }

    /// Whoever is awake with an older token finds out at the next request.
    fn collapse(&mut self, now: Millis, oldest: f64) {
        let before = millis(seconds(now) - oldest);
        for who in 0..self.setting.sample {
            let client = &mut self.clients[who as usize];
            let is_old = client.issued <= before && client.expires > now;
            if is_old && !client.ended {
                client.expires = now;
                if client.leaves >= now && client.failures == 0 {
                    let at = later(now, self.chance.wait(self.setting.habits.pause));
                    self.clients[who as usize].first_try = at;
                    self.replan(at, Step::Refresh, who);
                }
            }
        }
    }
}

fn seconds(time: Millis) -> f64 {
    f64::from(time) / 1000.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as it should"
)]
fn millis(seconds: f64) -> Millis {
    (seconds * 1000.0).ceil() as Millis
}

/// A time after another; never is later than everything.
fn later(time: Millis, seconds: f64) -> Millis {
    time.saturating_add(millis(seconds))
}

#[cfg(test)]
mod tests;
