//! One writes at a time: all waiting operations in one transaction. A thread does it, and folds the log
//! of rotations in between; where callers may wait, one who finds nobody writing does it himself, which
//! spares a lone client the waking of two threads.
//!
//! An operation is answered after the commit is on disk, and after ends were published to the
//! other processes of the machine. Where one operation of a group fails, each is carried out in a
//! transaction of its own, so that it fails alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::meter::{Batch, Meter, Waiting};
use doorward_core::revocation::Ended;
use doorward_core::store::StoreResult;
use futures_channel::oneshot;
use rusqlite::{Connection, ErrorCode, Result, TransactionBehavior};

use super::open::File;
use super::rotations::{Appending, FULL, Folding, Log, MANY};
use crate::ring::Ring;

/// The most operations in one transaction: bounds how long the first of them waits.
const GROUP: usize = 512;
/// The most operations that wait; past it callers are refused.
const QUEUE: usize = 4096;
/// How long the writer waits for as many operations as it had in its last group. One client alone
/// never waits: its last group was itself.
const GATHER: Duration = Duration::from_micros(500);
/// How many entries of the log are folded in one transaction, while nothing else is to be done: less
/// than a millisecond, which is what a write that comes meanwhile may have to wait.
const FOLD: usize = 32;
/// After this long without a write a long log is folded: whoever writes now and then meets no folding.
const LULL: Duration = Duration::from_millis(20);
/// After this long without a write the log is folded, however short it is.
const QUIET: Duration = Duration::from_secs(10);

/// What an operation is given: the transaction, and where it says what it did.
pub(super) struct Group<'a> {
    pub(super) tx: &'a Connection,
    pub(super) rotations: Appending,
    pub(super) ended: Vec<Ended>,
}

/// Something to be written, and somebody who waits for it.
trait Operation: Send {
    fn run(&mut self, group: &mut Group<'_>) -> Result<()>;
    fn answer(self: Box<Self>, error: Option<&rusqlite::Error>);
    fn waiting(&self) -> &Waiting;
}

struct Asked<T, F> {
    waiting: Waiting,
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<T: Send, F: Fn(&mut Group<'_>) -> Result<T> + Send> Operation for Asked<T, F> {
    fn run(&mut self, group: &mut Group<'_>) -> Result<()> {
        self.value = Some((self.work)(group)?);
        Ok(())
    }

    fn answer(self: Box<Self>, error: Option<&rusqlite::Error>) {
        let failed = || StoreError(error.map_or_else(String::new, ToString::to_string));
        let asked = *self;
        let value = asked.value.filter(|_| error.is_none());
        // Before the answer: its span is part of the caller's, who may be gone once he has it.
        drop(asked.waiting);
        // Whoever no longer waits need not be told.
        let _ = asked.reply.send(value.ok_or_else(failed));
    }

    fn waiting(&self) -> &Waiting {
        &self.waiting
    }
}

type Operations = Vec<Box<dyn Operation>>;

/// What waits for the writer.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Line>,
    enough: Condvar,
}

#[derive(Default)]
struct Line {
    operations: Operations,
    /// How many the writer waits for; 0 while it works.
    wanted: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, operation: Box<dyn Operation>) -> StoreResult<()> {
        let mut waiting = self.lock();
        if waiting.operations.len() >= QUEUE {
            return Err(StoreError("too many writes are waiting".into()));
        }
        waiting.operations.push(operation);
        if waiting.operations.len() == waiting.wanted {
            self.enough.notify_one();
        }
        Ok(())
    }

    /// How many wait, once they are `wanted` or `patience` is over. `None`: closed, and nothing is
    /// left.
    fn wait(&self, wanted: usize, patience: Duration) -> Option<usize> {
        let mut waiting = self.lock();
        waiting.wanted = wanted;
        let short = |now: &mut Line| now.operations.len() < wanted && !now.closed;
        let timed = self.enough.wait_timeout_while(waiting, patience, short);
        (waiting, _) = timed.unwrap_or_else(PoisonError::into_inner);
        waiting.wanted = 0;
        let some = waiting.operations.len();
        (some > 0 || !waiting.closed).then_some(some)
    }

    /// A group of those that wait.
    fn take(&self) -> Operations {
        let mut waiting = self.lock();
        let some = waiting.operations.len().min(GROUP);
        waiting.operations.drain(..some).collect()
    }
}

/// The writer's handle. Dropping it commits what waits and ends the thread.
pub(super) struct Writer {
    queue: Arc<Queue>,
    writing: Arc<Mutex<Writing>>,
    /// Whether callers may write themselves.
    in_place: bool,
    thread: Option<JoinHandle<()>>,
    process: u32,
    mute: Arc<Mutex<Option<String>>>,
    meter: Arc<Meter>,
}

impl Writer {
    pub(super) fn start(
        [db, folder]: [Connection; 2],
        file: Arc<File>,
        log: Arc<Log>,
        ring: Option<Arc<Ring>>,
        meter: Arc<Meter>,
    ) -> std::io::Result<Self> {
        let (queue, mute) = (Arc::new(Queue::default()), Arc::default());
        let writing = Arc::new(Mutex::new(Writing {
            db,
            folder,
            file,
            log,
            ring,
            mute: Arc::clone(&mute),
            meter: Arc::clone(&meter),
            queue: Arc::clone(&queue),
            many: MANY,
            full: FULL,
            folding: None,
            last: 1,
            groups: 0,
        }));
        let (works, waits) = (Arc::clone(&writing), Arc::clone(&queue));
        let thread = std::thread::Builder::new()
            .name("doorward-writer".into())
            .spawn(move || while next(&works, &waits).is_some() {})?;
        Ok(Writer {
            queue,
            writing,
            in_place: false,
            thread: Some(thread),
            process: std::process::id(),
            mute,
            meter,
        })
    }

    /// From now on callers may write themselves, if they find nobody who does.
    pub(super) fn in_place(&mut self) {
        self.in_place = true;
    }

    /// Why the last end could not be told to the other processes, if it could not.
    pub(super) fn mute(&self) -> Option<String> {
        let mute = self.mute.lock().unwrap_or_else(PoisonError::into_inner);
        mute.clone()
    }

    /// Runs `work` in the next transaction; its value once that is on disk. It may be run twice, the
    /// second time after everything that the first did was undone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Group<'_>) -> Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        if self.process != std::process::id() {
            return Err(StoreError("opened before a fork: open it anew".into()));
        }
        let (reply, answer) = oneshot::channel();
        self.ask(Box::new(Asked {
            waiting: self.meter.wait(),
            work,
            value: None,
            reply,
        }))?;
        let gone = |_| StoreError("the writer is gone".into());
        answer.await.map_err(gone)?
    }

    fn ask(&self, operation: Box<dyn Operation>) -> StoreResult<()> {
        if self.in_place
            && let Ok(mut writing) = self.writing.try_lock()
        {
            let mut group = self.queue.take();
            group.push(operation);
            writing.write(group);
            return Ok(());
        }
        self.queue.push(operation)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread did not come along to a forked child, and whoever held the lock did not either.
        if self.process != std::process::id() {
            return;
        }
        self.queue.lock().closed = true;
        self.queue.enough.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does, over and over: it waits for a group, and writes it, or folds. `None` when
/// there is nobody left to write for.
fn next(writing: &Mutex<Writing>, queue: &Queue) -> Option<()> {
    let writing = || writing.lock().unwrap_or_else(PoisonError::into_inner);
    let Pace {
        last,
        patience,
        groups,
    } = writing().pace();
    // Those that were answered together are likely to ask together.
    if last <= 1 || queue.wait(last, GATHER)? == 0 {
        queue.wait(1, patience)?;
    }
    writing().step(groups);
    Some(())
}

/// How the thread waits.
struct Pace {
    last: usize,
    patience: Duration,
    groups: u64,
}

/// What whoever writes needs.
struct Writing {
    db: Connection,
    /// Another connection, which does not wait for the disk: what it loses is in the log still.
    folder: Connection,
    file: Arc<File>,
    log: Arc<Log>,
    ring: Option<Arc<Ring>>,
    mute: Arc<Mutex<Option<String>>>,
    meter: Arc<Meter>,
    queue: Arc<Queue>,
    /// How many entries of the log are folded in a lull, and how many are too many.
    many: usize,
    full: usize,
    folding: Option<Folding>,
    /// How many operations the last group had.
    last: usize,
    /// How many groups there were.
    groups: u64,
}

impl Writing {
    fn pace(&self) -> Pace {
        Pace {
            last: self.last,
            patience: self.patience(),
            groups: self.groups,
        }
    }

    /// The group that waits. If none does, and none was written since the `groups`th, some folding.
    fn step(&mut self, groups: u64) {
        let group = self.queue.take();
        if !group.is_empty() {
            self.write(group);
        } else if self.groups == groups {
            self.last = 0;
            self.fold();
        }
    }

    fn write(&mut self, group: Operations) {
        self.last = group.len();
        self.groups += 1;
        let waiting = group.iter().map(|operation| operation.waiting());
        self.meter.begin(Batch::Write, waiting);
        self.carry_out(group);
    }

    /// How long it must be quiet before the log is folded, or folded further.
    fn patience(&self) -> Duration {
        if self.folding.is_some() && self.last == 0 {
            Duration::ZERO
        } else if self.folding.is_some() || self.log.len() >= self.many {
            LULL
        } else {
            QUIET
        }
    }

    fn carry_out(&mut self, mut group: Operations) {
        let outcome = self.commit(&mut group);
        if group.len() == 1 || !matches!(outcome, Err(Failed::Operation(_))) {
            return answer(group, &outcome);
        }
        for operation in group {
            let mut alone = vec![operation];
            let outcome = self.commit(&mut alone);
            answer(alone, &outcome);
        }
    }

    fn commit(&mut self, operations: &mut Operations) -> Result<(), Failed> {
        self.file.check()?;
        let tx = immediate(&mut self.db)?;
        let mut group = Group {
            tx: &tx,
            rotations: Appending::begin(&self.log, &tx)?,
            ended: Vec::new(),
        };
        let asked = operations.len();
        for operation in operations {
            let done = catch_unwind(AssertUnwindSafe(|| operation.run(&mut group)));
            done.unwrap_or(Err(rusqlite::Error::InvalidQuery))
                .map_err(Failed::operation)?;
        }
        let Group {
            rotations, ended, ..
        } = group;
        let full = self.log.len() >= self.full;
        if full {
            // Faster than it grows.
            let folding = self.folding.get_or_insert_with(|| Folding::of(&self.log));
            folding.some(&tx, 2 * asked)?;
        }
        tx.commit()?;
        rotations.committed();
        if full {
            self.folded();
        }
        self.publish(&ended);
        Ok(())
    }

    /// Tells the other processes of the machine. Should it fail, they learn of it by their next poll.
    fn publish(&self, ended: &[Ended]) {
        if let (Some(ring), false) = (&self.ring, ended.is_empty()) {
            let error = ring.append(ended).err();
            *self.mute.lock().unwrap_or_else(PoisonError::into_inner) =
                error.map(|error| error.to_string());
        }
    }

    /// Folds while nothing else is to be done. Should it fail, the log stays as it is, and the next
    /// pass does the same.
    fn fold(&mut self) {
        if self.folding.is_none() && !self.is_worth_folding() {
            return;
        }
        let folding = self.folding.get_or_insert_with(|| Folding::of(&self.log));
        let folded = immediate(&mut self.folder).and_then(|tx| {
            folding.some(&tx, FOLD)?;
            tx.commit()
        });
        match folded {
            Ok(()) => self.folded(),
            Err(_) => self.folding = None,
        }
    }

    fn is_worth_folding(&self) -> bool {
        self.log.len() > 0 && self.log.trim(&self.folder).is_ok() && self.log.len() > 0
    }

    fn folded(&mut self) {
        let folding = self.folding.take();
        self.folding = folding.and_then(|mut folding| {
            let over = folding.committed(&self.log);
            (!over).then_some(folding)
        });
    }
}

/// Why a group was not committed.
enum Failed {
    /// One operation cannot be carried out, whatever the others are.
    Operation(rusqlite::Error),
    /// None can be, now.
    Database(rusqlite::Error),
}

impl Failed {
    fn operation(error: rusqlite::Error) -> Failed {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly,
            ) => Failed::Database(error),
            _ => Failed::Operation(error),
        }
    }
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Database(error)
    }
}

pub(super) fn immediate(db: &mut Connection) -> Result<rusqlite::Transaction<'_>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn answer(group: Operations, outcome: &Result<(), Failed>) {
    let error = match outcome {
        Ok(()) => None,
        Err(Failed::Operation(error) | Failed::Database(error)) => Some(error),
    };
    for operation in group {
        operation.answer(error);
    }
}

#[cfg(test)]
mod tests;
