//! Moving in: accounts of another program, from CSV or JSON Lines, into a store.
//!
//! Guarantees: a line becomes an account as a whole or is refused with a code and words, which never
//! show a hash or a password; what is added is on disk batch by batch, and whoever runs it again after
//! a crash gets the outcome of one run, since an account that is there already with the same hash
//! is no conflict. Memory is bounded, whatever the input: 64 KiB a line.
//!
//! What is left out: changing accounts that are there, and roles, addresses and whatever else other
//! programs keep of their users.

mod accounts;
mod lines;
mod record;

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use serde::Serialize;

pub use accounts::Import;
pub use lines::MAX_LINE;

/// How the input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, with a line that names the columns.
    Csv,
    /// An object a line.
    JsonLines,
}

impl Format {
    /// The formats, by name.
    pub const NAMES: [&str; 2] = ["csv", "jsonl"];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let [csv, json_lines] = Format::NAMES;
        match self {
            Format::Csv => csv,
            Format::JsonLines => json_lines,
        }
    }

    /// The format of a name, or of a file's name by its extension.
    #[must_use]
    pub fn of(name: &str) -> Option<Format> {
        match name.rsplit('.').next()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "jsonl" | "ndjson" => Some(Format::JsonLines),
            _ => None,
        }
    }
}

/// How accounts are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of a command")]
pub struct Options {
    /// The input has passwords, which are hashed, and no hashes.
    pub passwords: bool,
    /// Columns of other names are no reason to refuse.
    pub ignore_others: bool,
    /// Everything is checked, and nothing is changed.
    pub dry_run: bool,
    /// What is there already in another way is passed over, and not refused.
    pub skip_conflicts: bool,
}

/// What came of it, in accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Tally {
    pub added: u64,
    pub there_already: u64,
    pub skipped: u64,
    pub refused: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            added,
            there_already,
            skipped,
            refused,
        } = self;
        write!(
            f,
            "added {added}, there already {there_already}, skipped {skipped}, refused {refused}"
        )
    }
}

/// Why a line is not taken: a line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Where it begins; the first is 1.
    pub line: u64,
    /// Whose it is, where that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<Box<str>>,
    /// Stable.
    pub code: &'static str,
    /// What is wrong, and what to do.
    pub words: Box<str>,
}

impl fmt::Display for Refusal {
    /// A name is shown without what would act on a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.username.as_deref().map(str::escape_debug);
        let name = name.map_or_else(String::new, |name| format!(" ({name})"));
        write!(
            f,
            "line {}{name}: {} [{}]",
            self.line, self.words, self.code
        )
    }
}

/// What is wrong with a line, before anybody says which line it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    username: Option<Box<str>>,
    code: &'static str,
    words: Box<str>,
}

impl Fault {
    fn new(code: &'static str, words: impl Into<Box<str>>) -> Fault {
        Fault {
            username: None,
            code,
            words: words.into(),
        }
    }

    fn of(self, username: &str) -> Fault {
        Fault {
            username: Some(username.into()),
            ..self
        }
    }

    fn at(self, line: u64) -> Refusal {
        let Fault {
            username,
            code,
            words,
        } = self;
        Refusal {
            line,
            username,
            code,
            words,
        }
    }
}

/// Why nothing more could be taken. What was added before is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The input is not what it should be as a whole.
    #[error("{0}")]
    Input(Box<str>),
    /// It cannot be read, or the report not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store, or the hashing of passwords.
    #[error(transparent)]
    Engine(#[from] crate::Error),
}

impl From<crate::error::StoreError> for ImportError {
    fn from(error: crate::error::StoreError) -> Self {
        ImportError::Engine(error.into())
    }
}

/// Who is told while it goes on.
pub trait Watch {
    /// A line was not taken.
    ///
    /// # Errors
    /// End it.
    fn refused(&mut self, refusal: &Refusal) -> io::Result<()>;

    /// So many bytes were read.
    ///
    /// # Errors
    /// End it.
    fn read(&mut self, bytes: u64, so_far: &Tally) -> io::Result<()>;
}

/// The input named `name` (`-`: standard input), and its length where it has one.
///
/// # Errors
/// It cannot be read.
pub fn open(name: &str) -> io::Result<(Box<dyn Read>, Option<u64>)> {
    if name == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let file = File::open(name).map_err(named)?;
    let metadata = file.metadata().map_err(named)?;
    if metadata.is_dir() {
        return Err(io::Error::other(format!("{name}: is a directory")));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// A file of refusals, a JSON object a line. Names are in it: 0600.
pub struct Report(File);

impl Report {
    /// Makes the file, in place of one that is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &str) -> io::Result<Report> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        let own = file.and_then(Report::owners_alone);
        own.map(Report).map_err(named)
    }

    /// A file that was there keeps its mode when it is opened.
    fn owners_alone(file: File) -> io::Result<File> {
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, refusal: &Refusal) -> io::Result<()> {
        let mut line = serde_json::to_vec(refusal)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

#[cfg(test)]
mod tests;
