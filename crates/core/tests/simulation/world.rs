//! Virtual time, seeded chance, and tasks that interleave wherever one of them sleeps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use doorward_core::{Env, Timestamp};

/// When every world begins.
pub(crate) const START: i64 = 1_800_000_000_000;

/// Something that goes on in a world.
pub(crate) type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

pub(crate) struct World {
    state: Mutex<State>,
}

struct State {
    now: i64,
    chance: u64,
    /// When, in what order, which task.
    wakes: BinaryHeap<Reverse<(i64, u64, usize)>>,
    order: u64,
    current: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<World> {
        let chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
        let wakes = BinaryHeap::new();
        let state = State {
            now: START,
            chance,
            wakes,
            order: 0,
            current: 0,
        };
        Arc::new(World {
            state: Mutex::new(state),
        })
    }

    pub(crate) fn now(&self) -> i64 {
        self.state.lock().unwrap().now
    }

    pub(crate) fn random(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.chance = state.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Milliseconds, 0 to `most`.
    pub(crate) fn up_to(&self, most: i64) -> i64 {
        (self.random() % (most.max(0).cast_unsigned() + 1)).cast_signed()
    }

    pub(crate) fn happens(&self, percent: u64) -> bool {
        self.random() % 100 < percent
    }

    pub(crate) fn sleep(self: &Arc<Self>, millis: i64) -> Sleep {
        Sleep {
            world: Arc::clone(self),
            until: self.now() + millis,
            asked: false,
        }
    }

    /// Up to `apart` from 0, either way.
    pub(crate) fn around(&self, apart: i64) -> i64 {
        self.up_to(2 * apart) - apart
    }

    pub(crate) fn pick(&self, of: usize) -> usize {
        (self.random() % of as u64) as usize
    }

    /// Lets time pass while nothing else goes on.
    pub(crate) fn pass(&self, millis: i64) {
        self.state.lock().unwrap().now += millis;
    }

    /// Runs tasks in virtual time until all are done.
    pub(crate) fn play(self: &Arc<Self>, tasks: Vec<Task<'_>>) {
        let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
        for task in 0..tasks.len() {
            self.wake(self.now(), task);
        }
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let next = self.state.lock().unwrap().wakes.pop();
            let Some(Reverse((at, _, task))) = next else {
                break;
            };
            {
                let mut state = self.state.lock().unwrap();
                state.now = state.now.max(at);
                state.current = task;
            }
            if let Some(future) = &mut tasks[task]
                && future.as_mut().poll(&mut context).is_ready()
            {
                tasks[task] = None;
            }
        }
        assert!(tasks.iter().all(Option::is_none), "a task waits for ever");
    }

    fn wake(&self, at: i64, task: usize) {
        let mut state = self.state.lock().unwrap();
        state.order += 1;
        let order = state.order;
        state.wakes.push(Reverse((at, order, task)));
    }
}

pub(crate) struct Sleep {
    world: Arc<World>,
    until: i64,
    asked: bool,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.world.now() >= self.until {
            return Poll::Ready(());
        }
        if !self.asked {
            self.asked = true;
            let current = self.world.state.lock().unwrap().current;
            self.world.wake(self.until, current);
        }
        Poll::Pending
    }
}

/// Waits for all of them, side by side, within one task.
pub(crate) async fn together(mut tasks: Vec<Task<'_>>) {
    std::future::poll_fn(|context| {
        tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
        if tasks.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// A node's clock, which may be wrong, and the world's chance.
pub(crate) struct NodeEnv {
    pub(crate) world: Arc<World>,
    pub(crate) skew: Mutex<i64>,
}

impl Env for NodeEnv {
    fn now(&self) -> Timestamp {
        Timestamp(self.world.now() + *self.skew.lock().unwrap())
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.world.random().to_le_bytes()[..chunk.len()]);
        }
    }
}
