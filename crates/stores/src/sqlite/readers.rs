//! Connections that read: as many as were ever needed at once, up to a bound.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::meter::Meter;
use doorward_core::store::StoreResult;
use rusqlite::Connection;

use super::failed;
use super::open::File;

/// Each may keep 8 MiB of the file.
const MOST: usize = 32;
/// How long is waited for one: a read takes microseconds, so whoever waits longer is not served soon.
const WAIT: Duration = Duration::from_secs(1);

/// The connections of one process.
pub(super) struct Readers {
    pub(super) file: Arc<File>,
    process: u32,
    most: usize,
    wait: Duration,
    pool: Mutex<Pool>,
    given_back: Condvar,
    meter: Arc<Meter>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    lent: usize,
}

impl Readers {
    pub(super) fn new(file: Arc<File>, meter: Arc<Meter>) -> Self {
        Readers {
            file,
            process: std::process::id(),
            most: MOST,
            wait: WAIT,
            pool: Mutex::default(),
            given_back: Condvar::new(),
            meter,
        }
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> StoreResult<T> {
        if self.process != std::process::id() {
            return Err(StoreError("opened before a fork: open it anew".into()));
        }
        let mut lent = self.borrow()?;
        let db = match lent.db.take() {
            Some(db) => db,
            None => self.file.connect().map_err(|error| failed(&error))?,
        };
        let value = read(lent.db.insert(db));
        value.map_err(|error| failed(&error))
    }

    /// A place among the connections, with one that is idle if there is any.
    fn borrow(&self) -> StoreResult<Lent<'_>> {
        let all_lent = |pool: &mut Pool| pool.lent == self.most;
        let waited = self
            .given_back
            .wait_timeout_while(self.pool(), self.wait, all_lent);
        let (mut pool, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(StoreError("too many reads at once".into()));
        }
        pool.lent += 1;
        self.meter
            .connections(pool.lent + pool.idle.len().saturating_sub(1));
        let db = pool.idle.pop();
        Ok(Lent { readers: self, db })
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes back however the read ends.
struct Lent<'a> {
    readers: &'a Readers,
    db: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool();
        pool.lent -= 1;
        pool.idle.extend(self.db.take());
        drop(pool);
        self.readers.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn readers(most: usize, wait: Duration) -> (tempfile::TempDir, Readers) {
        let directory = tempfile::tempdir().unwrap();
        let (file, _) = File::prepare(&directory.path().join("a.db")).unwrap();
        let readers = Readers {
            most,
            wait,
            ..Readers::new(Arc::new(file), Arc::default())
        };
        (directory, readers)
    }

    impl Readers {
        fn counts(&self) -> (usize, usize) {
            let pool = self.pool();
            (pool.idle.len(), pool.lent)
        }
    }

    fn one(db: &Connection) -> rusqlite::Result<i64> {
        db.query_row("SELECT 1", [], |row| row.get(0))
    }

    #[test]
    fn there_are_never_more_connections_than_the_bound() {
        let (_directory, readers) = readers(2, Duration::ZERO);
        let third = readers.read(|_| {
            let second = readers.read(|_| Ok(readers.read(one).is_err()));
            Ok(second.unwrap())
        });
        assert!(third.unwrap());
        assert_eq!(readers.read(one).unwrap(), 1);
        assert_eq!(readers.counts(), (2, 0));
    }

    #[test]
    fn who_finds_none_waits_for_one() {
        let (_directory, readers) = readers(1, Duration::from_secs(60));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|_| assert_eq!(readers.read(one).unwrap(), 1)));
            }
        });
        assert_eq!(readers.counts(), (1, 0));
    }

    #[test]
    fn a_read_that_fails_or_panics_gives_its_connection_back() {
        let (_directory, readers) = readers(1, Duration::ZERO);
        let nonsense = readers.read(|db| db.execute("nonsense", []));
        assert!(nonsense.is_err());
        let panicked = catch_unwind(AssertUnwindSafe(|| readers.read::<()>(|_| panic!("a bug"))));
        assert!(panicked.is_err());
        assert_eq!(readers.read(one).unwrap(), 1);
    }
}
