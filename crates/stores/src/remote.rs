//! The thread in which a store over the network works: a tokio runtime of its own.
//!
//! Guarantees: the store's futures complete on any executor, or on none; what began goes on when its
//! caller has gone. At most [`WAITING`] operations wait at once, and none longer than [`PATIENCE`]: whoever comes
//! too late is refused, so that a database that hangs does not fill the memory.
//!
//! Whatever has a queue of its own there comes in by the [`Entrance`], and needs no task for each that asks.
//!
//! A child of a fork has the handle and no thread: every operation there is refused.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::store::StoreResult;
use futures_channel::oneshot;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The most operations that wait.
const WAITING: usize = 4096;
/// How long an operation may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// One of those that wait: for as long as it lives.
pub(crate) type Turn = OwnedSemaphorePermit;

/// The thread's handle. Dropping it ends the thread, when what began is done or after [`PATIENCE`].
pub(crate) struct Remote {
    entrance: Entrance,
    closing: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// The way into the thread, which it does not keep alive.
#[derive(Clone)]
pub(crate) struct Entrance {
    runtime: Handle,
    waiting: Arc<Semaphore>,
    process: u32,
}

impl Remote {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, closing) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let waiting = Arc::new(Semaphore::new(WAITING));
        let (closed, idle) = (Arc::clone(&closing), Arc::clone(&waiting));
        let thread = std::thread::Builder::new().name("doorward-store".into());
        let thread = thread.spawn(move || {
            runtime.block_on(async move {
                closed.notified().await;
                let all = idle.acquire_many(u32::try_from(WAITING).unwrap_or(u32::MAX));
                let _ = tokio::time::timeout(PATIENCE, all).await;
            });
            runtime.shutdown_background();
        })?;
        Ok(Remote {
            entrance: Entrance {
                runtime: handle,
                waiting,
                process: std::process::id(),
            },
            closing,
            thread: Some(thread),
        })
    }

    pub(crate) fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Runs `work` in the thread; its outcome.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let turn = self.entrance.turn()?;
        self.background(async move {
            let done = tokio::time::timeout(PATIENCE, work).await;
            drop(turn);
            // Whoever no longer waits need not be told.
            let _ = reply.send(done.unwrap_or_else(|_| Err(StoreError(LATE.into()))));
        });
        answer.await.map_err(|_| StoreError(GONE.into()))?
    }

    /// As [`Remote::run`], for who must wait with his thread.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let answer = self.begin(work)?.recv_timeout(PATIENCE);
        answer.map_err(|_| StoreError(LATE.into()))?
    }

    /// As [`Remote::wait`], of what knows itself how long it may take.
    #[cfg(feature = "postgres")]
    pub(crate) fn wait_long<T: Send + 'static>(
        &self,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let answer = self.begin(work)?.recv();
        answer.map_err(|_| StoreError(GONE.into()))?
    }

    fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = StoreResult<T>> + Send + 'static,
    ) -> StoreResult<Receiver<StoreResult<T>>> {
        let (reply, answer) = sync_channel(1);
        self.entrance.check()?;
        self.background(async move {
            let _ = reply.send(work.await);
        });
        Ok(answer)
    }

    /// What goes on in the thread for as long as it lives.
    pub(crate) fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.entrance.background(work);
    }
}

impl Entrance {
    /// As [`Remote::background`].
    pub(crate) fn background(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Whoever waits has one: there are so many, and none in a child of a fork.
    pub(crate) fn turn(&self) -> StoreResult<Turn> {
        self.check()?;
        let turn = Arc::clone(&self.waiting).try_acquire_owned();
        turn.map_err(|_| StoreError("too many operations are waiting".into()))
    }

    fn check(&self) -> StoreResult<()> {
        if self.process == std::process::id() {
            Ok(())
        } else {
            Err(StoreError("opened before a fork: open it anew".into()))
        }
    }
}

pub(crate) const LATE: &str = "the database did not answer in time";
const GONE: &str = "the store's thread is gone";

impl Drop for Remote {
    fn drop(&mut self) {
        if self.entrance.check().is_err() {
            return;
        }
        self.closing.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::FutureExt as _;

    #[test]
    fn work_is_done_without_a_runtime_of_the_callers() {
        let remote = Remote::start().unwrap();
        let slept = remote.run(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(7)
        });
        assert_eq!(slept.block_on().unwrap(), 7);
        assert_eq!(remote.wait(async { Ok(8) }).unwrap(), 8);
    }

    #[test]
    fn what_began_is_done_before_the_thread_ends() {
        let remote = Remote::start().unwrap();
        let (reply, answer) = std::sync::mpsc::channel();
        let mut asked = Box::pin(remote.run(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = reply.send(());
            Ok(())
        }));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(asked.as_mut().poll(&mut context).is_pending());
        drop(asked);
        drop(remote);
        assert_eq!(answer.try_recv(), Ok(()));
    }

    #[test]
    fn more_than_can_wait_are_refused() {
        let remote = Remote::start().unwrap();
        let hangs = || remote.run(std::future::pending::<StoreResult<()>>());
        let mut asked: Vec<_> = (0..WAITING).map(|_| Box::pin(hangs())).collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for one in &mut asked {
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        assert!(hangs().block_on().is_err());
    }
}
