use super::*;
use crate::scale::forms::{mean_lifetime, steady_refreshes};
use crate::scale::tally::Second;

/// A million sessions, of which 20,000 are simulated, on machines with room.
fn ordinary() -> Setting {
    Setting {
        sessions: 1e6,
        sample: 20_000,
        seed: 1,
        begins: 20.0 * 3600.0,
        lasts: 7_200,
        policy: Policy::default(),
        habits: Habits {
            racing: 0.0,
            swing: 0.0,
            ..Habits::default()
        },
        plant: Plant {
            patience: 2.0,
            ..Plant::default()
        },
        shocks: Vec::new(),
    }
}

fn within(measured: f64, told: f64, part: f64) {
    assert!((measured / told - 1.0).abs() < part, "{measured} {told}");
}

fn refreshed(second: &Second) -> f64 {
    second.refreshed
}

#[test]
fn clients_that_never_sleep_refresh_once_a_lifetime() {
    let mut setting = ordinary();
    setting.habits.always_on = 1.0;
    let told = steady_refreshes(20_000.0, &setting.policy, setting.habits.pause);
    within(run(setting).mean(1_000, 7_200, refreshed), told, 0.02);
}

#[test]
fn visitors_refresh_once_a_visit_where_visits_are_short_and_far_apart() {
    let mut setting = ordinary();
    setting.habits.always_on = 0.0;
    setting.habits.visit = 20.0;
    setting.habits.visits = 2.0;
    setting.habits.life = 1e12;
    setting.lasts = 36_000;
    // Some come back while their token is good.
    let sooner = (-mean_lifetime(&setting.policy) * 2.0 / DAY).exp();
    let told = 20_000.0 * 2.0 / DAY * sooner;
    within(run(setting).mean(1_000, 36_000, refreshed), told, 0.03);
}

#[test]
fn as_many_log_in_as_log_out() {
    let mut setting = ordinary();
    setting.habits.life = DAY;
    setting.habits.visits = 100.0;
    setting.habits.always_on = 0.0;
    setting.lasts = 36_000;
    // At a session a client, but for those who have none until their next visit.
    let (told, tally) = (20_000.0 / (DAY + DAY / 100.0), run(setting));
    within(tally.mean(3_600, 36_000, |second| second.ended), told, 0.04);
    within(
        tally.mean(3_600, 36_000, |second| second.opened),
        told,
        0.04,
    );
}

#[test]
fn a_greater_sample_shows_the_same() {
    let rate = |sample, seed| {
        let mut setting = ordinary();
        (setting.sample, setting.seed) = (sample, seed);
        setting.shocks = vec![(
            3_600,
            Shock::Wake {
                share: 0.3,
                within: 60.0,
            },
        )];
        let each = setting.each();
        let tally = run(setting);
        [
            tally.mean(600, 3_600, refreshed) * each,
            tally.peak(3_600, 10, refreshed) * each,
        ]
    };
    let (few, many) = (rate(20_000, 1), rate(200_000, 2));
    within(few[0], many[0], 0.03);
    within(few[1], many[1], 0.06);
}

#[test]
fn a_seed_is_a_world() {
    let sent = |seed| {
        let mut setting = ordinary();
        setting.seed = seed;
        let tally = run(setting);
        tally
            .seconds
            .iter()
            .map(|second| second.sent)
            .collect::<Vec<_>>()
    };
    assert!(sent(1) == sent(1) && sent(1) != sent(2));
}

#[test]
fn a_push_wakes_its_share_and_each_refreshes() {
    let mut setting = ordinary();
    setting.habits.always_on = 0.0;
    setting.shocks = vec![(
        3_600,
        Shock::Wake {
            share: 0.5,
            within: 60.0,
        },
    )];
    let tally = run(setting);
    let before = tally.mean(3_000, 3_600, refreshed) * 60.0;
    let woken = tally.mean(3_600, 3_660, refreshed) * 60.0 - before;
    // 2 % are awake, and some that sleep have a token that is still good.
    within(woken, 0.5 * 20_000.0 * 0.95, 0.05);
}

#[test]
fn what_a_store_cannot_carry_comes_again_until_it_is_through() {
    let mut setting = ordinary();
    (setting.sessions, setting.sample) = (2e5, 200_000);
    setting.plant.shard_refreshes = 16.0;
    setting.shocks = vec![(
        3_600,
        Shock::Wake {
            share: 0.5,
            within: 1.0,
        },
    )];
    let tally = run(setting);
    let refused = |second: &Second| second.refused > 0.0;
    assert!(!tally.seconds[..3_600].iter().any(refused));
    // 93,000 at once, 128 a second less 25 that come anyway; some leave before it is their turn.
    let through = tally.troubled(3_600, |second| second.refused, |second| second.sent);
    assert!((300..900).contains(&through), "{through}");
    within(tally.mean(3_610, 3_800, refreshed), 128.0, 0.05);
    assert!(tally.peak(3_600, 1, |second| second.store_wait) < 2.2);
}

#[test]
fn a_shard_that_is_down_refuses_and_then_catches_up() {
    let mut setting = ordinary();
    setting.habits.always_on = 1.0;
    setting.shocks = vec![
        (3_600, Shock::ShardsDown(0.25)),
        (3_660, Shock::ShardsDown(0.0)),
    ];
    let tally = run(setting);
    let usual = tally.mean(3_000, 3_600, refreshed);
    within(tally.mean(3_602, 3_660, refreshed), usual * 0.75, 0.05);
    assert!(tally.mean(3_660, 3_720, refreshed) > usual * 1.15);
    let refused = tally.troubled(3_600, |second| second.refused, |second| second.sent);
    assert_eq!(refused, 60);
}

#[test]
fn jitter_spreads_who_expired_together() {
    let echo = |jitter| {
        let mut setting = ordinary();
        setting.habits.always_on = 1.0;
        setting.policy.expiry_jitter_percent = jitter;
        setting.plant.shard_refreshes = 1e6;
        let cut = Shock::CutOff {
            share: 1.0,
            lasts: 1_000.0,
            within: 5.0,
        };
        setting.shocks = vec![(600, cut)];
        run(setting).peak(2_400, 10, refreshed)
    };
    assert!(echo(0) > 3.0 * echo(20));
}

#[test]
fn after_all_sessions_ended_everybody_who_comes_logs_in() {
    let mut setting = ordinary();
    setting.plant.nodes = 1.0;
    setting.plant.cores = 1.0;
    setting.shocks = vec![(600, Shock::EndAll)];
    let each = setting.each();
    let tally = run(setting);
    // One core, but for what requests leave of it: at most 61 a second.
    let opened = tally.peak(700, 600, |second| second.opened) * each;
    assert!((35.0..61.5).contains(&opened), "{opened}");
    assert!(tally.peak(700, 60, |second| second.logins_refused) > 0.0);
}

#[test]
fn what_collapses_costs_a_refresh() {
    let mut setting = ordinary();
    setting.habits.always_on = 1.0;
    setting.shocks = vec![(3_600, Shock::Collapse(100.0))];
    let tally = run(setting);
    let usual = tally.mean(3_000, 3_600, refreshed) * 60.0;
    let then = tally.mean(3_600, 3_660, refreshed) * 60.0;
    within(then - usual * 0.1, 20_000.0 * 0.89, 0.05);
}

#[test]
fn records_of_refreshes_come_at_all_times_of_day_alike() {
    let mut setting = ordinary();
    setting.habits.always_on = 1.0;
    setting.begins = 23.0 * 3600.0;
    let logged = run(setting).mean(3_600, 4_500, |second| second.logged) * 900.0;
    within(logged, 20_000.0 * 900.0 / DAY, 0.2);
}
