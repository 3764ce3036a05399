//! Who waits for the same server is served together: what is asked while others are on their way goes with the next
//! write, and the answers come in one wake-up.
//!
//! Guarantees: as [`Servers::ask`], and within the same time. What was given up before it was sent is not sent.
//! Left out: what waits for replicas, which would hold up the others.

use std::sync::{Arc, Mutex, MutexGuard};

use doorward_core::store::StoreResult;
use futures_channel::oneshot;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, timeout_at};

use super::base::strange;
use super::connection::Lane;
use super::servers::{Ask, Failed, Servers, lock, patience};
use super::tags::Tag;
use crate::remote::Turn;

/// How many batches are on their way at once: one is carried out while another is made ready.
const ABREAST: usize = 2;
/// The most in one batch.
const MOST: usize = 512;

/// One who waits.
pub(super) struct Waiting {
    pub(super) command: Cmd,
    pub(super) caller: Caller,
}

/// Who waits for an answer, and what must be known to ask again.
pub(super) struct Caller {
    pub(super) tag: Tag,
    /// What is asked may be carried out twice.
    pub(super) repeatable: bool,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<StoreResult<Value>>,
    pub(super) turn: Turn,
}

/// Those who wait for one server.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Batches on their way.
    under_way: usize,
}

impl Line {
    /// Joins those who wait. `true`: whoever joined must have them served.
    #[must_use]
    pub(super) fn join(&self, one: Waiting) -> bool {
        let mut state = self.state();
        state.waiting.push(one);
        let begins = state.under_way < ABREAST;
        state.under_way += usize::from(begins);
        begins
    }

    /// The next batch. `None`: nobody waits; whoever comes begins anew.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        // What was answered as too late must not happen later still.
        state.waiting.retain(|one| !one.caller.reply.is_canceled());
        let some = state.waiting.len().min(MOST);
        if some == 0 {
            state.under_way -= 1;
            return None;
        }
        Some(state.waiting.drain(..some).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// Serves until nobody waits.
pub(super) async fn serve(servers: Arc<Servers>, lane: Arc<Lane>) {
    let mut place = Place(&lane.line, true);
    loop {
        // Those who are about to ask come along.
        tokio::task::yield_now().await;
        let Some(batch) = lane.line.take() else {
            place.1 = false;
            return;
        };
        carry_out(&servers, &lane, batch).await;
    }
}

async fn carry_out(servers: &Arc<Servers>, lane: &Arc<Lane>, batch: Vec<Waiting>) {
    let mut commands = Pipeline::with_capacity(batch.len());
    let mut callers = Vec::with_capacity(batch.len());
    for one in batch {
        commands.add_command(one.command);
        callers.push(one.caller);
    }
    let first = callers.iter().map(|caller| caller.until).min();
    let sent = timeout_at(
        first.unwrap_or_else(patience),
        servers.send(lane, &commands),
    );
    let sent = sent.await.unwrap_or_else(|_| {
        lane.failed();
        Err(Failed::late())
    });
    let mut answers = sent.map(Vec::into_iter);
    for (caller, command) in callers.into_iter().zip(commands.cmd_iter()) {
        let answer = match &mut answers {
            Ok(answers) => answers
                .next()
                .ok_or_else(Failed::late)
                .and_then(|answer| servers.sort(answer)),
            Err(failed) => Err(failed.clone()),
        };
        match answer {
            Err(failed) if failed.may_retry(caller.repeatable) => {
                tokio::spawn(ask_again(Arc::clone(servers), command.clone(), caller));
            }
            answer => caller.told(answer.map_err(Failed::error)),
        }
    }
}

/// By itself, for as long as its caller would wait.
async fn ask_again(servers: Arc<Servers>, command: Cmd, caller: Caller) {
    let ask = Ask::of(caller.tag, command, caller.repeatable);
    let asked = timeout_at(caller.until, servers.ask_until(ask, caller.until));
    let answers = asked.await.unwrap_or_else(|_| Err(Failed::late().error()));
    caller.told(answers.and_then(|answers| answers.into_iter().next().ok_or_else(strange)));
}

impl Caller {
    fn told(self, answer: StoreResult<Value>) {
        drop(self.turn);
        // Whoever no longer waits need not be told.
        let _ = self.reply.send(answer);
    }
}

/// One of those that serve. Should it be stopped in the middle, another may begin.
struct Place<'a>(&'a Line, bool);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.1 {
            self.0.state().under_way -= 1;
        }
    }
}
