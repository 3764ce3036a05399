//! Everything that needs a transaction: all that waits in one. Two round trips: the first locks and reads
//! what the operations need, always in the same order; the second writes what they changed, and in its last
//! statement gives the ends and events their places, with the commit right behind it.
//!
//! Where the database refuses a group, each operation is carried out alone, so that it fails alone. An end
//! is told to other processes before it is acknowledged.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use doorward_core::error::StoreError;
use doorward_core::meter::Batch;
use doorward_core::store::StoreResult;
use tokio_postgres::error::SqlState;

use super::connection::{Connection, Failed};
use super::line::{Answers, Line, Work, all};
use super::pool::{Lease, Pool};
use super::view::{Needs, View};
use super::{flush, lock};
use crate::spread::Spread;

/// How often a group that others got in the way of is tried.
const TRIES: u32 = 8;

/// Something to be decided on rows that are locked. It may be run more than once: what it did before was
/// undone.
pub(super) struct Operation {
    needs: Needs,
    run: Box<dyn FnMut(&mut View) + Send>,
}

pub(super) struct Groups {
    pub(super) spread: Arc<Spread>,
    /// Where ends are notified.
    pub(super) channel: String,
}

/// Runs `work` in the next transaction; its value once that is on disk.
pub(super) async fn run<T: Send + 'static>(
    line: &Arc<Line<Groups>>,
    needs: Needs,
    work: impl Fn(&mut View) -> T + Send + 'static,
) -> StoreResult<T> {
    let value = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&value);
    let keep = move |view: &mut View| {
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(work(view));
    };
    let run = Box::new(keep);
    line.ask(Operation { needs, run }).await?;
    let value = value.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.ok_or_else(|| StoreError("an operation was not run".into()))
}

impl Work for Groups {
    type Asked = Operation;
    type Answer = ();
    const BATCH: Batch = Batch::Write;
    const MOST: usize = 512;
    const ABREAST: usize = 2;

    fn carry_out<'a>(
        &'a self,
        pool: &'a Pool,
        lease: Lease<'a>,
        mut batch: Vec<Operation>,
    ) -> Pin<Box<dyn Future<Output = Answers<()>> + Send + 'a>> {
        Box::pin(async move {
            pool.on(lease, async |db| Ok(self.each(db, &mut batch).await))
                .await
                .unwrap_or_else(|failed| all(batch.len(), &failed))
        })
    }
}

impl Groups {
    async fn each(&self, db: &Connection, batch: &mut [Operation]) -> Answers<()> {
        match self.together(db, batch).await {
            Ok(()) => batch.iter().map(|_| Ok(())).collect(),
            Err(failed) if batch.len() > 1 && failed.is_refusal() && !db.is_given_up() => {
                let mut answers = Vec::new();
                for one in batch.chunks_mut(1) {
                    answers.push(self.together(db, one).await);
                }
                answers
            }
            Err(failed) => all(batch.len(), &failed),
        }
    }

    /// One transaction, tried again where others were in the way.
    async fn together(&self, db: &Connection, batch: &mut [Operation]) -> Result<(), Failed> {
        let (mut tries, mut channel) = (1, Some(&*self.channel));
        loop {
            match self.attempt(db, batch, channel).await {
                // An end must not fail because it cannot be told: the log is polled.
                Err(failed) if channel.is_some() && is_mute(&failed) && !db.is_given_up() => {
                    channel = None;
                }
                Err(failed) if failed.is_passing() && tries < TRIES && !db.is_given_up() => {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn attempt(
        &self,
        db: &Connection,
        batch: &mut [Operation],
        channel: Option<&str>,
    ) -> Result<(), Failed> {
        let mut needs = Needs::default();
        for operation in batch.iter() {
            needs.and(operation.needs.clone());
        }
        let done = async {
            let mut view = lock::read(db, needs).await?;
            if view.cut.is_some() && batch.len() > 1 {
                return Err(Failed::TooMany);
            }
            for operation in batch.iter_mut() {
                (operation.run)(&mut view);
            }
            flush::write(db, &view, channel).await?;
            Ok(view)
        };
        let done: Result<View, Failed> = done.await;
        match done {
            Ok(view) => {
                self.spread.told(&view.ended);
                self.spread.told(&view.again);
                Ok(())
            }
            Err(failed) => {
                let undone = db.batch("ROLLBACK").await.is_ok();
                if !undone || !(is_mute(&failed) || failed.is_refusal() || failed.is_passing()) {
                    db.give_up();
                }
                Err(failed)
            }
        }
    }
}

/// Whether it may be that nothing can be notified: there is no such function, it is not allowed, or the queue
/// is full because some listener of the cluster stands still.
fn is_mute(failed: &Failed) -> bool {
    let codes = [
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    failed.code().is_some_and(|code| codes.contains(code))
}
