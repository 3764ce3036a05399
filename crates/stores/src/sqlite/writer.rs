//! The one thread that writes: it commits all waiting operations in one transaction.
//!
//! An operation is answered after the commit is on disk, and after ends were published to the
//! other processes of the machine. An operation that fails takes its whole group with it: what
//! fails here is a disk, not a value, and callers try again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use doorward_core::error::StoreError;
use doorward_core::revocation::Ended;
use doorward_core::store::StoreResult;
use futures_channel::oneshot;
use rusqlite::{Connection, TransactionBehavior};

use crate::ring::Ring;

/// The most operations in one transaction: bounds how long the first of them waits.
const GROUP: usize = 512;
/// The most operations that wait; past it callers wait for a place.
const QUEUE: usize = 4096;

/// What an operation is given: the transaction, and where it reports whom it ended.
pub(super) struct Group<'a> {
    pub(super) tx: &'a Connection,
    pub(super) ended: &'a mut Vec<Ended>,
}

type Answer = Box<dyn FnOnce() + Send>;
type Operation = Box<dyn FnOnce(&mut Group<'_>) -> rusqlite::Result<Answer> + Send>;

/// The writer's handle. Dropping it commits what waits and ends the thread.
pub(super) struct Writer {
    queue: Option<SyncSender<Operation>>,
    thread: Option<JoinHandle<()>>,
    last_error: Arc<Mutex<String>>,
}

impl Writer {
    pub(super) fn start(mut db: Connection, ring: Option<Arc<Ring>>) -> std::io::Result<Self> {
        let (queue, operations) = sync_channel(QUEUE);
        let last_error = Arc::new(Mutex::new(String::new()));
        let errors = Arc::clone(&last_error);
        let thread = std::thread::Builder::new()
            .name("doorward-writer".into())
            .spawn(move || {
                while let Some(group) = next_group(&operations) {
                    if let Err(error) = commit(&mut db, group, ring.as_deref()) {
                        *errors.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                    }
                }
            })?;
        Ok(Writer {
            queue: Some(queue),
            thread: Some(thread),
            last_error,
        })
    }

    /// Runs `operation` in the next transaction; its value once that is on disk.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Group<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (answer, answered) = oneshot::channel();
        let operation: Operation = Box::new(move |group| {
            let value = operation(group)?;
            Ok(Box::new(move || drop(answer.send(value))))
        });
        let queue = self.queue.as_ref().ok_or_else(|| self.failure())?;
        queue
            .try_send(operation)
            .map_err(|_| StoreError("too many writes are waiting".into()))?;
        answered.await.map_err(|_| self.failure())
    }

    fn failure(&self) -> StoreError {
        StoreError(
            self.last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for an operation and takes whatever else is waiting.
fn next_group(operations: &Receiver<Operation>) -> Option<Vec<Operation>> {
    let mut group = vec![operations.recv().ok()?];
    group.extend(operations.try_iter().take(GROUP - 1));
    Some(group)
}

fn commit(db: &mut Connection, group: Vec<Operation>, ring: Option<&Ring>) -> rusqlite::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut ended = Vec::new();
    let mut answers = Vec::with_capacity(group.len());
    for operation in group {
        let mut group = Group {
            tx: &tx,
            ended: &mut ended,
        };
        let done = catch_unwind(AssertUnwindSafe(|| operation(&mut group)));
        answers.push(done.map_err(|_| rusqlite::Error::InvalidQuery)??);
    }
    tx.commit()?;
    if let (Some(ring), false) = (ring, ended.is_empty()) {
        // Should this fail, other processes learn of the ends by their next poll.
        let _ = ring.append(&ended);
    }
    for answer in answers {
        answer();
    }
    Ok(())
}
