//! Who waits for the same kind of work is served together: what waits while a batch is carried out is the
//! next one.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorward_core::error::StoreError;
use doorward_core::id::SessionId;
use doorward_core::meter::{self as metered, Batch};
use doorward_core::store::StoreResult;
use futures_channel::oneshot;

use super::connection::Failed;
use super::pool::{Lease, Pool};

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
    waiting: Mutex<Waiting<W>>,
}

struct Waiting<W: Work> {
    asked: Vec<Asked<W>>,
    /// Batches on their way.
    under_way: usize,
}

struct Asked<W: Work> {
    waiting: metered::Waiting,
    what: W::Asked,
    reply: oneshot::Sender<StoreResult<W::Answer>>,
}

impl<W: Work> Line<W> {
    pub(super) fn new(pool: &Arc<Pool>, work: W) -> Arc<Self> {
        Arc::new(Line {
            work,
            pool: Arc::clone(pool),
            waiting: Mutex::new(Waiting {
                asked: Vec::new(),
                under_way: 0,
            }),
        })
    }

    /// The outcome of what is asked, once its batch is done.
    pub(super) async fn ask(self: &Arc<Self>, what: W::Asked) -> StoreResult<W::Answer> {
        let (reply, answer) = oneshot::channel();
        let begin = {
            let mut waiting = self.waiting();
            waiting.asked.push(Asked {
                waiting: self.pool.meter().wait(),
                what,
                reply,
            });
            let begin = waiting.under_way < W::ABREAST;
            waiting.under_way += usize::from(begin);
            begin
        };
        if begin {
            tokio::spawn(Arc::clone(self).serve());
        }
        let gone = |_| StoreError("the store is closed".into());
        answer.await.map_err(gone)?
    }

    /// Serves until nobody waits.
    async fn serve(self: Arc<Self>) {
        let mut place = Place(&self, true);
        loop {
            // Those that are about to ask come along.
            tokio::task::yield_now().await;
            if self.is_over() {
                place.1 = false;
                return;
            }
            let lease = self.pool.lease().await;
            let batch = self.take();
            self.pool
                .meter()
                .begin(W::BATCH, batch.iter().map(|one| &one.waiting));
            let (asked, replies): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|one| (one.what, one.reply)).unzip();
            let answers = match lease {
                Ok(_) if asked.is_empty() => continue,
                Ok(lease) => self.work.carry_out(&self.pool, lease, asked).await,
                Err(failed) => {
                    let why = StoreError::from(failed).0;
                    replies
                        .iter()
                        .map(|_| Err(Failed::Down(why.clone())))
                        .collect()
                }
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Whoever no longer waits need not be told.
                let _ = reply.send(answer.map_err(StoreError::from));
            }
        }
    }

    /// Whether nobody waits: whoever comes begins anew.
    fn is_over(&self) -> bool {
        let mut waiting = self.waiting();
        let over = waiting.asked.is_empty();
        waiting.under_way -= usize::from(over);
        over
    }

    /// The next batch, of nobody where another took them.
    fn take(&self) -> Vec<Asked<W>> {
        let mut waiting = self.waiting();
        // What was answered as too late must not happen later still.
        waiting.asked.retain(|one| !one.reply.is_canceled());
        let some = waiting.asked.len().min(W::MOST);
        let (mut batch, mut later) = (Vec::with_capacity(some), Vec::new());
        let mut taken = HashSet::new();
        for one in waiting.asked.drain(..some) {
            match W::alone(&one.what) {
                Some(id) if !taken.insert(id) => later.push(one),
                _ => batch.push(one),
            }
        }
        waiting.asked.splice(0..0, later);
        batch
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<W>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that serve. Should it be stopped in the middle, another may begin.
struct Place<'a, W: Work>(&'a Line<W>, bool);

impl<W: Work> Drop for Place<'_, W> {
    fn drop(&mut self) {
        if self.1 {
            self.0.waiting().under_way -= 1;
        }
    }
}

/// The same outcome for all.
pub(super) fn all<A>(count: usize, failed: &Failed) -> Answers<A> {
    let why = StoreError::from(failed).0;
    (0..count).map(|_| Err(Failed::Down(why.clone()))).collect()
}
