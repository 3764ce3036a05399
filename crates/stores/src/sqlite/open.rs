//! Opening the file: connections, permissions, migrations, and refusals that say what to do.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

/// Each migration once, in order; `user_version` counts those that were run.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_sessions.sql"),
    include_str!("../../migrations/0002_rotations.sql"),
    include_str!("../../migrations/0003_keys.sql"),
    include_str!("../../migrations/0004_throttle.sql"),
    include_str!("../../migrations/0005_events.sql"),
    include_str!("../../migrations/0006_limits.sql"),
    include_str!("../../migrations/0007_adopted.sql"),
    include_str!("../../migrations/0008_outbox.sql"),
    include_str!("../../migrations/0009_marks.sql"),
];
/// The oldest schema whose programs may go on with the file as it is now: what came since they neither
/// need nor break. Raise it where a migration is not so, a release after the one that stopped needing
/// what it removes.
const COMPATIBLE_SINCE: u32 = 9;
/// What a connection keeps of the file at most, in KiB: taken as it is needed.
const CACHE_KIB: i32 = 8 * 1024;
/// The write-ahead log is written back at this many pages of 4 KiB: a page that changed often
/// meanwhile is written once.
const CHECKPOINT_PAGES: i32 = 4_000;
/// "DWRD": tells our files from other people's.
const APPLICATION_ID: i32 = 0x4457_5244;

/// Why a store does not open, in words that name the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its directory cannot be used.
    #[error("{path}: {source}; check that the directory exists and that this user may write there")]
    File {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a database, or a damaged one.
    #[error(
        "{0}: not a Doorward database, or a damaged one; restore it from a backup, or name another file"
    )]
    Corrupt(PathBuf),
    /// Written by a newer version, and not for this one.
    #[error(
        "{path}: written by a newer Doorward (schema {found}, this one knows {known}), which is not \
         compatible; upgrade this binary"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The newest that this version knows.
        known: usize,
    },
    /// The servers of a Redis cannot be used.
    #[error("{address}: {why}")]
    Redis {
        /// Which, without a password.
        address: String,
        /// What is wrong.
        why: String,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A store over the network cannot be used.
    #[error("{place}: {why}")]
    Remote {
        /// Which, without its password.
        place: String,
        /// In the server's words, or what to do.
        why: String,
    },
}

/// The file, and that it is still the one that was opened.
pub(super) struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl File {
    /// Makes the file where there is none, and brings its schema up to date. Returns the writer's
    /// connection, and one that does not wait for the disk.
    pub(super) fn prepare(path: &Path) -> Result<(File, [Connection; 2]), OpenError> {
        let refused = |source| OpenError::File {
            path: path.into(),
            source,
        };
        create_private(path).map_err(refused)?;
        // One file may have many names; what lies beside it is found by one of them.
        let path = fs::canonicalize(path).map_err(refused)?;
        let named = |source| name(&path, source);
        let identity = identity(&path).map_err(refused)?;
        let file = File {
            path: path.clone(),
            identity,
        };
        let mut db = file.connect().map_err(named)?;
        migrate(&mut db, &path)?;
        // After the migration, which refuses other people's files: they stay as they were.
        write_ahead(&db).map_err(named)?;
        let folder = file.connect().map_err(named)?;
        let lazily = folder.pragma_update(None, "synchronous", "normal");
        lazily.map_err(named)?;
        Ok((file, [db, folder]))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection, ready to use. It never creates a file.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        self.check()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(&self.path, flags)?;
        // Statements are prepared once: the planner may not look at values, which makes it start anew.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        db.busy_handler(Some(wait_for_others))?;
        db.pragma_update(None, "synchronous", "full")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        db.pragma_update(
            None,
            "journal_size_limit",
            4 * i64::from(CHECKPOINT_PAGES) * 4096,
        )?;
        // What a row held before it was sealed or retired does not stay behind in its page.
        db.pragma_update_and_check(None, "secure_delete", "fast", |_| Ok(()))?;
        db.pragma_update(None, "foreign_keys", "off")?;
        db.pragma_update(None, "trusted_schema", "off")?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(db)
    }

    /// Fails once another file stands in its place: what is written to the old one is lost.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            return Ok(());
        }
        let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
        let words = "the database file was replaced or removed; restart to use the new one";
        Err(rusqlite::Error::SqliteFailure(moved, Some(words.into())))
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// SQLite does not wait for others here, and stays as it was where the file system cannot do it.
fn write_ahead(db: &Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        let mode =
            db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
                return Err(error);
            }
            _ if wait_for_others(tries) => tries += 1,
            _ => {
                let cannot = ffi::Error::new(ffi::SQLITE_CANTOPEN);
                let words = "no write-ahead log is possible here; is it a network file system?";
                return Err(rusqlite::Error::SqliteFailure(cannot, Some(words.into())));
            }
        }
    }
}

/// Another process writes: its transaction takes about a millisecond, so look again soon.
fn wait_for_others(tries: i32) -> bool {
    std::thread::sleep(Duration::from_micros(if tries < 100 { 200 } else { 2_000 }));
    tries < 2_600
}

/// Sessions are nobody else's business: 0600, whatever the umask.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => ["", "-wal", "-shm"]
            .iter()
            .try_for_each(|suffix| narrow(&beside(path, suffix))),
        other => other.map(drop),
    }
}

/// `doorward.db` and `-ring`: `doorward.db-ring`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn narrow(path: &Path) -> io::Result<()> {
    let mode = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.permissions().mode(),
        Ok(_) => return Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
}

/// Brings the schema up to date. Writes nothing where it is.
fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let named = |source| name(path, source);
    // One look, as all of it is at one moment.
    let found = version(&*db.transaction().map_err(named)?, path)?;
    if found >= MIGRATIONS.len() {
        return Ok(());
    }
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(named)?;
    // Another process may have been faster, of a newer version even.
    let found = version(&tx, path)?;
    if found >= MIGRATIONS.len() {
        return Ok(());
    }
    for migration in &MIGRATIONS[found..] {
        tx.execute_batch(migration).map_err(named)?;
    }
    let since = "INSERT OR REPLACE INTO marks (name, value) VALUES ('compatible_since', ?1)";
    tx.execute(since, [COMPATIBLE_SINCE]).map_err(named)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(named)?;
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    tx.pragma_update(None, "user_version", known)
        .map_err(named)?;
    tx.commit().map_err(named)
}

/// How many migrations were run. Refuses other people's files, and newer ones that say no to this version.
fn version(db: &Connection, path: &Path) -> Result<usize, OpenError> {
    let named = |source| name(path, source);
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let found = usize::try_from(number("user_version").map_err(named)?).unwrap_or(usize::MAX);
    let application = number("application_id").map_err(named)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = db.query_row(tables, [], |row| row.get(0)).map_err(named)?;
    if application != APPLICATION_ID && (tables > 0 || found > 0) {
        return Err(OpenError::Corrupt(path.into()));
    }
    let known = MIGRATIONS.len();
    if found > known && compatible_since(db).is_none_or(|since| since > known) {
        let path = path.into();
        return Err(OpenError::Newer { path, found, known });
    }
    Ok(found)
}

/// What a newer version says of its schema.
fn compatible_since(db: &Connection) -> Option<usize> {
    let sql = "SELECT value FROM marks WHERE name = 'compatible_since'";
    let since: u32 = db.query_row(sql, [], |row| row.get(0)).ok()?;
    usize::try_from(since).ok()
}

fn name(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Corrupt(path.into())
        }
        _ => OpenError::Database {
            path: path.into(),
            source,
        },
    }
}
