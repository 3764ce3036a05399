//! Embedded SQLite: the default store. One file, which several processes may share.
//!
//! Guarantees: every write is on disk before it is acknowledged (WAL, `synchronous = FULL`); all
//! waiting writes share one transaction; readers go on beside the writer. The file is 0600. Swaps go
//! into a log, which is folded into the rows later: see `rotations.rs`.
//!
//! Reads run on the caller's thread: with the page in memory they take microseconds, less than a
//! change of threads would.

mod accounts;
mod buckets;
mod events;
mod keys;
mod open;
mod outbox;
mod readers;
mod rotations;
mod rows;
mod sessions;
mod transfer;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorward_core::error::StoreError;
use doorward_core::meter::Meter;
use doorward_core::policy::Policy;
use doorward_core::store::{StoreResult, Write};
use rusqlite::Connection;

pub use self::open::OpenError;
use self::open::{File, beside};
use self::readers::Readers;
use self::rotations::Log;
use self::writer::{Group, Writer};
use crate::ring::Ring;

/// A store in one SQLite file.
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    log: Arc<Log>,
    ring: Option<Arc<Ring>>,
    no_ring: Option<String>,
    policy: Policy,
    meter: Arc<Meter>,
    /// Where the next purge goes on looking.
    swept: Mutex<[u8; 16]>,
}

impl SqliteStore {
    /// Opens the file, making it where there is none. `policy` says when rows may be purged.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn open(path: impl AsRef<Path>, policy: Policy) -> Result<Self, OpenError> {
        let (file, connections) = File::prepare(path.as_ref())?;
        let (ring, no_ring) = match Ring::open(&beside(file.path(), "-ring")) {
            Ok(ring) => (Some(Arc::new(ring)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (file, log) = (Arc::new(file), Arc::new(Log::default()));
        let meter = Arc::<Meter>::default();
        let writer = Writer::start(
            connections,
            Arc::clone(&file),
            Arc::clone(&log),
            ring.clone(),
            Arc::clone(&meter),
        );
        let writer = writer.map_err(|source| OpenError::File {
            path: file.path().into(),
            source,
        })?;
        let readers = Arc::new(Readers::new(file, Arc::clone(&meter)));
        Ok(SqliteStore {
            writer,
            readers,
            log,
            ring,
            no_ring,
            policy,
            meter,
            swept: Mutex::default(),
        })
    }

    /// For hosts whose threads may wait for the disk: who finds nobody writing commits in its own
    /// thread, which spares a lone client the waking of two.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.writer.in_place();
        self
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> StoreResult<T> {
        self.readers.read(read)
    }

    /// Reads rows of sessions, and the log for what is newer than they are.
    fn read_sessions<T>(
        &self,
        read: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        self.read(|db| self.log.read(db, read))
    }

    fn swept(&self) -> MutexGuard<'_, [u8; 16]> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(
        &self,
        write: impl Fn(&mut Group<'_>) -> rusqlite::Result<bool> + Send + 'static,
    ) -> StoreResult<Write> {
        Ok(took(self.writer.run(write).await?))
    }
}

fn took(effect: bool) -> Write {
    if effect { Write::Done } else { Write::Lost }
}

fn failed(error: &rusqlite::Error) -> StoreError {
    StoreError(error.to_string())
}
