//! Forks and open stores take turns.
//!
//! SQLite keeps what it knows of a file's locks in the process. A child that is forked while a thread
//! of its parent is in there waits for that thread for ever; and one that opens a file which its
//! parent had open believes that it holds locks which it does not, so that other processes write
//! over what it reads. Therefore a fork waits until everything is closed, and nothing opens before
//! it is over. Where that took too long, or nobody announced the fork, the child is refused.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pyo3::prelude::*;

use crate::process::{NotOpen, not_open};

/// How long a fork waits for whoever is in the middle of something, in steps.
const STEPS: u32 = 2_000;
const STEP: Duration = Duration::from_millis(1);

/// The stores that are open.
static OPEN: Count = Count(AtomicU64::new(0));
/// The forks that were announced and are not over.
static FORKS: Count = Count(AtomicU64::new(0));

/// A process id and a count, in one: a child sees that the count is not its own.
struct Count(AtomicU64);

impl Count {
    fn own(&self) -> u32 {
        own(self.0.load(SeqCst))
    }

    fn is_inherited(&self) -> bool {
        let (process, count) = halves(self.0.load(SeqCst));
        count > 0 && process != std::process::id()
    }

    fn add(&self) {
        let one_more = |now| Some(whole(std::process::id(), own(now) + 1));
        let _ = self.0.fetch_update(SeqCst, SeqCst, one_more);
    }

    fn remove(&self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn own(now: u64) -> u32 {
    let (process, count) = halves(now);
    if process == std::process::id() {
        count
    } else {
        0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves are taken apart"
)]
fn halves(whole: u64) -> (u32, u32) {
    ((whole >> 32) as u32, whole as u32)
}

fn whole(process: u32, count: u32) -> u64 {
    u64::from(process) << 32 | u64::from(count)
}

/// Of a store that is open: dropped when it is closed.
pub(crate) struct Open {
    process: u32,
}

impl Open {
    /// Waits while a fork is under way.
    pub(crate) fn between_forks() -> Result<Open, NotOpen> {
        for _ in 0..2 * STEPS {
            if OPEN.is_inherited() {
                return Err(not_open(
                    "this process was forked while its parent used the store: \
                     use it after the fork only",
                ));
            }
            // First counted, then looked: the fork does it the other way round.
            OPEN.add();
            let open = Open {
                process: std::process::id(),
            };
            if FORKS.own() == 0 {
                return Ok(open);
            }
            drop(open);
            std::thread::sleep(STEP);
        }
        Err(not_open("a fork of this process takes too long"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // What a child drops of its parent's is not closed.
        if self.process == std::process::id() {
            OPEN.remove();
        }
    }
}

/// A fork is about to happen: `close` closes everything, which ends with what is under way.
#[pyfunction]
#[pyo3(signature = (close, /))]
pub(crate) fn before_fork(py: Python<'_>, close: &Bound<'_, PyAny>) -> PyResult<()> {
    FORKS.add();
    for _ in 0..STEPS {
        // Again, for those who were opening one.
        close.call0()?;
        if OPEN.own() == 0 {
            break;
        }
        py.detach(|| std::thread::sleep(STEP));
    }
    Ok(())
}

/// The fork is over, in the parent.
#[pyfunction]
pub(crate) fn after_fork() {
    FORKS.remove();
}
