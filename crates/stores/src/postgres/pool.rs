//! A few connections, one to each operation at a time. What was not given back whole is closed; a server
//! that cannot be reached is asked again soon, and not by everybody at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorward_core::meter::Meter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, Notification, Row};

use super::connection::{Connection, Failed, Step};
use super::url::PostgresUrl;
use super::{open, tls};

/// The longest that anything may take on a connection, and that anybody waits for one.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// How long the server is left alone after it could not be reached: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(500));

pub(super) struct Pool {
    url: PostgresUrl,
    tls: tls::Connector,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    down: Mutex<Option<Down>>,
    /// How many connections there are.
    open: AtomicUsize,
    /// What those of this process are called by the server.
    ours: Mutex<HashSet<i32>>,
    meter: Arc<Meter>,
}

/// The server could not be reached.
struct Down {
    until: Instant,
    pause: Duration,
    why: String,
}

/// A connection for one operation.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    _turn: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(url: PostgresUrl, tls: tls::Connector) -> Pool {
        let turns = Arc::new(Semaphore::new(url.pool()));
        Pool {
            url,
            tls,
            turns,
            idle: Mutex::default(),
            down: Mutex::default(),
            open: AtomicUsize::new(0),
            ours: Mutex::default(),
            meter: Arc::default(),
        }
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether a connection of this process is called that.
    pub(super) fn is_ours(&self, process: i32) -> bool {
        self.ours().contains(&process)
    }

    /// Does something with a connection of its own.
    pub(super) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Connection) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let lease = self.lease().await?;
        self.on(lease, work).await
    }

    /// Carries out steps in a transaction that is durable once this returns, a few times where others get
    /// in the way.
    pub(super) async fn durably(
        &self,
        steps: impl Fn() -> Vec<Step>,
    ) -> Result<Vec<Vec<Row>>, Failed> {
        const TRIES: u32 = 5;
        let mut tries = 1;
        loop {
            let all = steps();
            match self.with(async |db| db.durably(all).await).await {
                Err(failed) if failed.is_passing() && tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    /// Waits for a connection.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, Failed> {
        let late = |_| Failed::Down("no connection became free in time".into());
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(late)?;
        let turn = turn.map_err(|_| Failed::Down("the store is closed".into()))?;
        let idle = {
            let mut idle = self.idle();
            for closed in idle.extract_if(.., |connection| connection.is_closed()) {
                self.lost(&closed);
            }
            idle.pop()
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(Lease {
            pool: self,
            connection: Some(connection),
            _turn: turn,
        })
    }

    /// Does something with a leased connection, which goes back if its transaction is over.
    pub(super) async fn on<T>(
        &self,
        mut lease: Lease<'_>,
        work: impl AsyncFnOnce(&Connection) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let mut used = Used(self, lease.connection.take());
        let Some(connection) = &used.1 else {
            return Err(Failed::Down("the connection is gone".into()));
        };
        let done = timeout(PATIENCE, work(connection)).await;
        let done = done
            .unwrap_or_else(|_| Err(Failed::Down("the database did not answer in time".into())));
        let whole = match &done {
            Ok(_) => true,
            Err(failed) => failed.is_refusal() || failed.is_passing(),
        };
        if whole && !connection.is_given_up() {
            self.idle().extend(used.1.take());
        }
        done
    }

    /// A new connection, unless the server could not be reached just now.
    pub(super) async fn connect(&self) -> Result<Connection, Failed> {
        if let Some(down) = &*self.down()
            && Instant::now() < down.until
        {
            return Err(Failed::Down(down.why.clone()));
        }
        let connected = timeout(PATIENCE, open::connect(&self.url, &self.tls)).await;
        let connected = connected
            .unwrap_or_else(|_| Err(Failed::Down("the database did not answer in time".into())));
        self.note(connected.as_ref().err());
        let connected = connected?;
        self.ours().insert(connected.process);
        self.meter
            .connections(1 + self.open.fetch_add(1, Ordering::Relaxed));
        Ok(connected)
    }

    /// A connection beside the others, on which something is heard.
    pub(super) async fn dial(
        &self,
        heard: impl FnMut(Notification) + Send + 'static,
    ) -> Result<Client, Failed> {
        let dialed = timeout(PATIENCE, open::dial(&self.url, &self.tls, heard)).await;
        dialed.unwrap_or_else(|_| Err(Failed::Down("the database did not answer in time".into())))
    }

    fn lost(&self, connection: &Connection) {
        self.ours().remove(&connection.process);
        self.meter
            .connections(self.open.fetch_sub(1, Ordering::Relaxed) - 1);
    }

    fn note(&self, failed: Option<&Failed>) {
        let mut down = self.down();
        let Some(failed) = failed else {
            *down = None;
            return;
        };
        let pause = down
            .as_ref()
            .map_or(PAUSE.0, |down| PAUSE.1.min(2 * down.pause));
        *down = Some(Down {
            until: Instant::now() + pause,
            pause,
            why: doorward_core::error::StoreError::from(failed).0,
        });
    }

    fn ours(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self) -> MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use: whoever gives up in the middle, or is stopped there, loses it.
struct Used<'a>(&'a Pool, Option<Connection>);

impl Drop for Used<'_> {
    fn drop(&mut self) {
        if let Some(connection) = &self.1 {
            self.0.lost(connection);
        }
    }
}

/// Who did nothing with it gives it back.
impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.idle().extend(self.connection.take());
    }
}
