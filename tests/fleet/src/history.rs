//! What the browsers did and were told: one JSON line a request.
//!
//! Times are microseconds of the machine's monotonic clock (`CLOCK_MONOTONIC`), which all processes
//! of a host share: Python's `time.monotonic_ns() // 1000` is on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Microseconds of the monotonic clock.
pub type Micros = u64;

/// Now.
#[must_use]
pub fn clock() -> Micros {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    u64::try_from(micros).unwrap_or_default()
}

/// What a request was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Open a session.
    Login,
    /// Rotate its tokens.
    Refresh,
    /// Look at an access token without a look in the store.
    Verify,
    /// The same with one.
    VerifyStrict,
    /// Log out.
    End,
    /// End all sessions of the user.
    EndAll,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok,
    /// Refused; nothing was done.
    Refused {
        /// Which problem, `http_418` where the answer names none.
        code: String,
        /// Why a session ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A 503, or a proxy's 502 or 504: perhaps done.
    Unavailable {
        /// Which problem.
        code: String,
    },
    /// No connection: not done.
    Unreached,
    /// No answer: perhaps done, perhaps later.
    Unknown,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Number of the browser.
    pub client: usize,
    /// Name of the account; `*` where an operator ended all sessions there are.
    pub user: String,
    /// What it was to do.
    #[serde(rename = "op")]
    pub action: Action,
    /// The session that was asked about, of a login the one that it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The session that the answer names, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// The session whose access cookie a login carried; it ends with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Which of the nodes.
    pub node: usize,
    /// When it was sent.
    pub start: Micros,
    /// When it was answered or given up.
    pub end: Micros,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Operation {
    /// Whether it succeeded.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// The code and the reason of a refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<(&str, Option<&str>)> {
        match &self.outcome {
            Outcome::Refused { code, reason } => Some((code, reason.as_deref())),
            _ => None,
        }
    }
}

/// Operations as they are answered, in memory and in a file.
#[derive(Debug)]
pub struct Record {
    operations: Vec<Operation>,
    file: Option<BufWriter<File>>,
}

impl Record {
    /// An empty one, written to `path` where there is one.
    pub fn create(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Record {
            operations: Vec::new(),
            file,
        })
    }

    /// Adds one.
    pub fn add(&mut self, operation: Operation) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, &operation)?;
            file.write_all(b"\n")?;
        }
        self.operations.push(operation);
        Ok(())
    }

    /// All of them; the file is complete.
    pub fn finish(mut self) -> io::Result<Vec<Operation>> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        Ok(self.operations)
    }
}

/// Reads a file of them.
pub fn read(path: &Path) -> io::Result<Vec<Operation>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect()
}

/// The operations that name a session, by session, in the order of their start.
#[must_use]
pub fn by_session(history: &[Operation]) -> BTreeMap<&str, Vec<&Operation>> {
    let mut sessions: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        if let Some(session) = &operation.session {
            sessions.entry(session).or_default().push(operation);
        }
    }
    for operations in sessions.values_mut() {
        operations.sort_by_key(|operation| operation.start);
    }
    sessions
}
