//! The rotation rules under fire: the real `Service` in a simulated world.
//!
//! How to read it. [`world`] is a virtual clock, seeded chance and tasks. [`store`] fails, loses
//! replies, hangs and forgets. [`cluster`] is nodes on that store, with clocks of their own; all that
//! they answer passes through it and is checked there. [`browser`] is tabs with one cookie jar. The
//! other files are what happens in these worlds, one file a theme, and each begins with the
//! properties it proves. [`KINDS`] below lists them: a seed's number chooses its kind.
//!
//! A failure prints its seed; `SIM_SEED=7 cargo test -p doorward-core --test simulation` replays it.
//! `cargo test --release -p doorward-core --test simulation -- --ignored --nocapture` prints the
//! table that docs/refresh-simulation.md quotes.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::assigning_clones,
    clippy::struct_field_names,
    reason = "a model, read from top to bottom"
)]

mod browser;
mod cluster;
mod ends;
mod faults;
mod honest;
mod limits;
mod mixed;
mod store;
mod table;
mod thief;
mod world;

/// The default window.
const W: i64 = 30_000;

/// What a seed plays.
const KINDS: [fn(u64); 8] = [
    honest::browser,
    honest::one_at_a_time,
    thief::copied_token,
    ends::one_session,
    ends::all_sessions_and_logins,
    limits::exact,
    limits::stepping_clocks,
    mixed::everything,
];

fn run(seed: u64) {
    KINDS[seed as usize % KINDS.len()](seed);
}

#[test]
fn ten_thousand_seeds() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        return run(seed.parse().unwrap());
    }
    let next = std::sync::atomic::AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let play = || {
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= 10_000 {
                return;
            }
            let done = std::panic::catch_unwind(|| run(seed));
            assert!(done.is_ok(), "seed {seed}: replay with SIM_SEED={seed}");
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(play);
        }
    });
}
