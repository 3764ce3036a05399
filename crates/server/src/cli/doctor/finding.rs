//! What the doctor says: kinds of findings, each a line of docs/doctor.md, and one of them seen.

use std::fmt;

use serde_json::{Value, json};

use super::super::shown;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Looked at, and in order.
    Ok,
    /// Good to know.
    Note,
    /// Works today, for most.
    Warning,
    /// Broken, or open to attack.
    Error,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// A kind of finding.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) level: Level,
    /// Stable: for scripts.
    pub(crate) code: &'static str,
    /// Why it matters.
    pub(crate) why: &'static str,
    /// What to do, by the names of the settings; empty where nothing is to be done.
    pub(crate) remedy: &'static str,
}

impl Kind {
    pub(crate) fn seen(&'static self, seen: impl Into<String>) -> Finding {
        Finding {
            kind: self,
            seen: seen.into(),
        }
    }
}

/// Something that was seen.
pub(crate) struct Finding {
    pub(crate) kind: &'static Kind,
    /// In words, without any secret.
    pub(crate) seen: String,
}

impl Finding {
    pub(crate) fn json(&self) -> Value {
        json!({
            "level": self.kind.level.name(),
            "code": self.kind.code,
            "seen": self.seen,
            "why": self.kind.why,
            "remedy": self.kind.remedy,
        })
    }
}

/// For people: what, and where something is to be done, why and what.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind {
            level,
            code,
            why,
            remedy,
        } = self.kind;
        // What others sent must not act on the terminal.
        let seen = shown(&self.seen);
        write!(f, "{:<8} {code}: {seen}", level.name())?;
        if *level > Level::Ok {
            write!(f, "\n         why: {why}")?;
        }
        if !remedy.is_empty() {
            write!(f, "\n         remedy: {remedy}")?;
        }
        Ok(())
    }
}

/// What is looked at together.
pub(crate) struct Subject {
    /// Said where nothing is wrong.
    pub(crate) fine: &'static Kind,
    /// All that may be found.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "docs/doctor.md is held against it")
    )]
    pub(crate) kinds: &'static [&'static Kind],
    /// What was found; `None` where it was not looked at.
    pub(crate) look: fn(&super::seen::Seen) -> Option<Vec<Finding>>,
}

impl Subject {
    pub(crate) fn findings(&self, seen: &super::seen::Seen) -> Vec<Finding> {
        let Some(mut found) = (self.look)(seen) else {
            return Vec::new();
        };
        if found.iter().all(|found| found.kind.level < Level::Warning) {
            found.insert(0, self.fine.seen(self.fine.why));
        }
        found
    }
}

/// The kinds of a subject: what is said where all is well, then each by level, code, why, remedy.
macro_rules! kinds {
    ($fine:literal $well:literal; $($name:ident $level:ident $code:literal $why:literal $remedy:literal;)*) => {
        static FINE: Kind = Kind { level: Level::Ok, code: $fine, why: $well, remedy: "" };
        $(pub(super) static $name: Kind = Kind {
            level: Level::$level, code: $code, why: $why, remedy: $remedy,
        };)*
        static KINDS: &[&Kind] = &[$(&$name),*];
        pub(crate) static SUBJECT: Subject = Subject { fine: &FINE, kinds: KINDS, look };
    };
}
pub(crate) use kinds;
