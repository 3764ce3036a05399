//! Who waits for the same kind of work is served together: what waits while a batch is carried out is the
//! next one.
//!
//! A batch costs the database much even where it is small. So it begins when [`Work::ENOUGH`] wait, or when
//! [`GATHERING`] has passed; where nothing is on its way, with as many as are likely to come, and where few came the
//! last time at once. Nobody waits longer than [`PATIENCE`] in all.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::id::SessionId;
use doorward_core::meter::{self as metered, Batch};
use doorward_core::store::StoreResult;
use futures_channel::oneshot;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::Failed;
use super::pool::{Lease, Pool};
use crate::remote::{Entrance, LATE, PATIENCE, Turn};

/// How long those that are too few for a batch wait for others.
const GATHERING: Duration = Duration::from_millis(1);
/// A batch that is no sign of more to come.
const FEW: usize = 8;

/// An outcome for each that asked, in their order.
pub(super) type Answers<A> = Vec<Result<A, Failed>>;

/// What is done with a batch.
pub(super) trait Work: Send + Sync + 'static {
    type Asked: Send + 'static;
    type Answer: Send + 'static;
    /// The most in one batch.
    const MOST: usize;
    /// How many batches are on their way at once.
    const ABREAST: usize;
    /// How many are worth a batch beside another.
    const ENOUGH: usize = 1;
    /// What the meter calls it.
    const BATCH: Batch;

    /// What no two of a batch may share.
    fn alone(_: &Self::Asked) -> Option<SessionId> {
        None
    }

    fn carry_out<'a>(
        &'a self,
        pool: &'a Pool,
        lease: Lease<'a>,
        batch: Vec<Self::Asked>,
    ) -> Pin<Box<dyn Future<Output = Answers<Self::Answer>> + Send + 'a>>;
}

/// Those that wait.
pub(super) struct Line<W: Work> {
    work: W,
    pool: Arc<Pool>,
    entrance: Entrance,
    waiting: Mutex<Waiting<W>>,
    /// Enough wait, or a batch is over.
    changed: Notify,
}

struct Waiting<W: Work> {
    asked: Vec<Asked<W>>,
    /// Whether somebody gathers the next batch.
    is_gathered: bool,
    /// Batches on their way.
    under_way: usize,
    /// How many were in the last batch.
    last: usize,
}

struct Asked<W: Work> {
    waiting: metered::Waiting,
    since: Instant,
    what: W::Asked,
    reply: Reply<W::Answer>,
}

/// Where the outcome goes. The thread does not end before it is there.
struct Reply<A> {
    to: oneshot::Sender<StoreResult<A>>,
    _turn: Option<Turn>,
}

impl<W: Work> Line<W> {
    pub(super) fn new(pool: &Arc<Pool>, entrance: &Entrance, work: W) -> Arc<Self> {
        Arc::new(Line {
            work,
            pool: Arc::clone(pool),
            entrance: entrance.clone(),
            waiting: Mutex::new(Waiting {
                asked: Vec::new(),
                is_gathered: false,
                under_way: 0,
                last: 0,
            }),
            changed: Notify::new(),
        })
    }

    /// The outcome of what is asked, once its batch is done. Who asks has a turn in the thread already.
    pub(super) async fn ask(self: &Arc<Self>, what: W::Asked) -> StoreResult<W::Answer> {
        self.wait(what, None).await
    }

    /// As [`Line::ask`], from any thread.
    pub(super) async fn ask_from_outside(
        self: &Arc<Self>,
        what: W::Asked,
    ) -> StoreResult<W::Answer> {
        let turn = self.entrance.turn()?;
        self.wait(what, Some(turn)).await
    }

    async fn wait(self: &Arc<Self>, what: W::Asked, turn: Option<Turn>) -> StoreResult<W::Answer> {
        let (reply, answer) = oneshot::channel();
        self.join(Asked {
            waiting: self.pool.meter().wait(),
            since: Instant::now(),
            what,
            reply: Reply {
                to: reply,
                _turn: turn,
            },
        });
        let gone = |_| StoreError("the store is closed".into());
        answer.await.map_err(gone)?
    }

    fn join(self: &Arc<Self>, asked: Asked<W>) {
        let (begins, are_enough) = {
            let mut waiting = self.waiting();
            waiting.asked.push(asked);
            (waiting.begins(), waiting.asked.len() == waiting.enough())
        };
        if begins {
            self.entrance.background(Place::of(self).serve());
        } else if are_enough {
            self.changed.notify_one();
        }
    }

    /// Waits until a batch is worth it.
    async fn gather(&self) {
        // Those that are about to ask come along.
        tokio::task::yield_now().await;
        let worth = async {
            while self.waiting().is_few() {
                self.changed.notified().await;
            }
        };
        let _ = timeout(GATHERING, worth).await;
    }

    /// A connection, if there is one before it is too late for the first.
    async fn lease(&self) -> Result<Lease<'_>, Failed> {
        let first = self.waiting().asked.first().map(|one| one.since);
        let until = first.unwrap_or_else(Instant::now) + PATIENCE;
        let lease = timeout_at(until, self.pool.lease()).await;
        lease.unwrap_or_else(|_| Err(late()))
    }

    async fn carry_out(&self, lease: Result<Lease<'_>, Failed>, batch: Vec<Asked<W>>) {
        let Some(first) = batch.first() else { return };
        let until = first.since + PATIENCE;
        let meter = self.pool.meter();
        meter.begin(W::BATCH, batch.iter().map(|one| &one.waiting));
        let (asked, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|one| (one.what, one.reply)).unzip();
        let done = match lease {
            Ok(lease) => timeout_at(until, self.work.carry_out(&self.pool, lease, asked))
                .await
                .map_err(|_| late()),
            Err(failed) => Err(failed),
        };
        let answers = done.unwrap_or_else(|failed| all(replies.len(), &failed));
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Whoever no longer waits need not be told.
            let _ = reply.to.send(answer.map_err(StoreError::from));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<W>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> Waiting<W> {
    /// Whether who asks this is the one to gather the next batch.
    fn begins(&mut self) -> bool {
        let begins = !self.is_gathered && self.under_way < W::ABREAST && !self.asked.is_empty();
        self.is_gathered |= begins;
        begins
    }

    fn is_few(&self) -> bool {
        self.asked.len() < self.enough()
    }

    /// How many are worth a batch: where nothing is on its way, most of those that came the last time, since
    /// they are about to come again.
    fn enough(&self) -> usize {
        let likely = if self.last < FEW {
            1
        } else {
            self.last - self.last / 4
        };
        if self.under_way > 0 {
            W::ENOUGH
        } else {
            likely.min(W::ENOUGH)
        }
    }

    /// The next batch, of nobody where all have gone.
    fn take(&mut self) -> Vec<Asked<W>> {
        // What was answered as too late must not happen later still.
        self.asked.retain(|one| !one.reply.to.is_canceled());
        let some = self.asked.len().min(W::MOST);
        let (mut batch, mut later) = (Vec::with_capacity(some), Vec::new());
        let mut taken = HashSet::new();
        for one in self.asked.drain(..some) {
            match W::alone(&one.what) {
                Some(id) if !taken.insert(id) => later.push(one),
                _ => batch.push(one),
            }
        }
        self.asked.splice(0..0, later);
        self.last = batch.len();
        batch
    }
}

/// One of those that serve. Should it be stopped in the middle, another may begin.
struct Place<W: Work> {
    line: Arc<Line<W>>,
    does: Does,
}

#[derive(PartialEq, Eq)]
enum Does {
    Gather,
    CarryOut,
    Nothing,
}

impl<W: Work> Place<W> {
    fn of(line: &Arc<Line<W>>) -> Self {
        Place {
            line: Arc::clone(line),
            does: Does::Gather,
        }
    }

    /// Serves until nobody waits, or another gathers those who do.
    async fn serve(mut self) {
        let line = Arc::clone(&self.line);
        while self.does == Does::Gather {
            line.gather().await;
            let lease = line.lease().await;
            let batch = self.take();
            line.carry_out(lease, batch).await;
            self.go_on();
        }
    }

    fn take(&mut self) -> Vec<Asked<W>> {
        let mut waiting = self.line.waiting();
        waiting.is_gathered = false;
        waiting.under_way += 1;
        self.does = Does::CarryOut;
        waiting.take()
    }

    fn go_on(&mut self) {
        let mut waiting = self.line.waiting();
        waiting.under_way -= 1;
        self.does = if waiting.begins() {
            Does::Gather
        } else {
            Does::Nothing
        };
        drop(waiting);
        // Another need not wait for this batch any more.
        self.line.changed.notify_one();
    }
}

impl<W: Work> Drop for Place<W> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting();
        match self.does {
            Does::Gather => waiting.is_gathered = false,
            Does::CarryOut => waiting.under_way -= 1,
            Does::Nothing => return,
        }
        if waiting.under_way == 0 && !waiting.is_gathered {
            // The thread is gone, and nobody else may come.
            let left = std::mem::take(&mut waiting.asked);
            drop(waiting);
            drop(left);
        }
    }
}

fn late() -> Failed {
    Failed::Down(LATE.into())
}

/// The same outcome for all.
pub(super) fn all<A>(count: usize, failed: &Failed) -> Answers<A> {
    let why = StoreError::from(failed).0;
    (0..count).map(|_| Err(Failed::Down(why.clone()))).collect()
}
