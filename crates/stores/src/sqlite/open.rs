//! Opening the file: connections, permissions, migrations, and refusals that say what to do.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// Each migration once, in order; `user_version` counts those that were run.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/0001_sessions.sql")];
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
    /// Written by a newer version.
    #[error(
        "{path}: written by a newer Doorward (schema {found}, this one knows {known}); upgrade this binary"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The newest that this version knows.
        known: usize,
    },
    /// Anything else that SQLite says.
    #[error("{path}: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Makes the file where there is none, and brings its schema up to date.
pub(super) fn prepare(path: &Path) -> Result<Connection, OpenError> {
    create_private(path).map_err(|source| OpenError::File {
        path: path.into(),
        source,
    })?;
    let named = |source| name(path, source);
    let mut db = connect(path).map_err(named)?;
    migrate(&mut db, path)?;
    // After the migration, which refuses other people's files: they stay as they were.
    db.pragma_update(None, "journal_mode", "wal")
        .map_err(named)?;
    Ok(db)
}

/// A connection, ready to use. It never creates a file.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_handler(Some(wait_for_others))?;
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "foreign_keys", "off")?;
    db.pragma_update(None, "trusted_schema", "off")?;
    // Without it SQLite looks at bound values to choose a plan, and prepares anew at each binding.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
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
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => narrow(path),
        other => other.map(drop),
    }
}

fn narrow(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode.trailing_zeros() >= 6 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
}

fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let named = |source| name(path, source);
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(named)?;
    let number = |pragma: &str| tx.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let version = usize::try_from(number("user_version").map_err(named)?).unwrap_or(usize::MAX);
    let application = number("application_id").map_err(named)?;
    let tables: i64 = tx
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(named)?;
    if application != APPLICATION_ID && (tables > 0 || version > 0) {
        return Err(OpenError::Corrupt(path.into()));
    }
    if version > MIGRATIONS.len() {
        return Err(OpenError::Newer {
            path: path.into(),
            found: version,
            known: MIGRATIONS.len(),
        });
    }
    for migration in &MIGRATIONS[version..] {
        tx.execute_batch(migration).map_err(named)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(named)?;
    tx.pragma_update(
        None,
        "user_version",
        i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX),
    )
    .map_err(named)?;
    tx.commit().map_err(named)
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
