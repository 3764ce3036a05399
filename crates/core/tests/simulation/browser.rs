//! A browser: tabs that share one cookie jar, behind a network that delays, reorders and loses.

use std::sync::{Arc, Mutex};

use crate::world::{Task, World, together};

/// 60 refreshes a run.
const REFRESHES: usize = 60;

#[derive(Clone, Copy)]
pub(crate) struct Network {
    /// One way, in milliseconds, at most.
    pub(crate) delay: i64,
    /// Percent of answers that are lost.
    pub(crate) lost: u64,
}

/// When the tabs refresh.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Habit {
    /// All tabs within 8 s, then nothing for up to two minutes.
    Visits,
    /// One after another, up to 4 s apart; one in twelve times up to a minute.
    Bursts,
    /// Each tab at some moment of the same window, then nothing for up to a minute and a half.
    Scattered,
}

/// What the server said.
pub(crate) enum Answer<T, E> {
    Token(T),
    /// Try again with whatever the jar holds then.
    Unavailable,
    Refused(E),
}

/// The cookie that arrived last, and the first refusal.
struct Jar<T, E> {
    token: T,
    refused: Option<E>,
}

/// Lets up to 8 tabs refresh in their habit, and returns how they were refused, if they were.
pub(crate) async fn browse<T: Clone, E>(
    world: &Arc<World>,
    first: T,
    (network, habit): (Network, Habit),
    ask: impl AsyncFn(T) -> Answer<T, E>,
) -> Option<E> {
    let tabs = 1 + world.pick(8);
    let jar = Mutex::new(Jar {
        token: first,
        refused: None,
    });
    let times = times(world, habit, tabs);
    let tab = |tab| {
        let mine = times.iter().skip(tab).step_by(tabs).copied();
        Box::pin(one_tab(world, &jar, mine, network, &ask)) as Task<'_>
    };
    together((0..tabs).map(tab).collect()).await;
    jar.into_inner().unwrap().refused
}

/// Sends what the jar holds, waits for the answer unless it is lost, and goes on.
async fn one_tab<T: Clone, E>(
    world: &Arc<World>,
    jar: &Mutex<Jar<T, E>>,
    times: impl Iterator<Item = i64>,
    network: Network,
    ask: impl AsyncFn(T) -> Answer<T, E>,
) {
    for time in times {
        world.sleep((time - world.now()).max(0)).await;
        if jar.lock().unwrap().refused.is_some() {
            return;
        }
        let token = jar.lock().unwrap().token.clone();
        world.sleep(world.up_to(network.delay)).await;
        let answer = ask(token).await;
        if world.happens(network.lost) && !matches!(answer, Answer::Refused(_)) {
            continue;
        }
        world.sleep(world.up_to(network.delay)).await;
        let mut jar = jar.lock().unwrap();
        match answer {
            Answer::Token(token) => jar.token = token,
            Answer::Unavailable => {}
            Answer::Refused(why) => jar.refused = Some(why),
        }
    }
}

fn times(world: &World, habit: Habit, tabs: usize) -> Vec<i64> {
    let mut now = world.now();
    let mut times = Vec::with_capacity(REFRESHES);
    while times.len() < REFRESHES {
        match habit {
            Habit::Visits => {
                times.extend((0..tabs).map(|_| now + world.up_to(8_000)));
                now += world.up_to(120_000);
            }
            Habit::Scattered => {
                times.extend((0..tabs).map(|_| now + world.up_to(30_000)));
                now += world.up_to(90_000);
            }
            Habit::Bursts => {
                times.push(now);
                now += world.up_to(if world.happens(8) { 60_000 } else { 4_000 });
            }
        }
    }
    times.truncate(REFRESHES);
    times.sort_unstable();
    times
}
