//! Which store a URL names: the one place where that is decided, for every door.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use doorward_core::memory::MemoryStore;
use doorward_core::policy::Policy;
use doorward_core::store::Store;
use doorward_core::transfer::MovableStore;

use crate::following::Following;
#[cfg(feature = "postgres")]
use crate::postgres::{self, PostgresStore, PostgresUrl};
use crate::{OpenError, SqliteStore};

/// Where sessions are kept. Its `Display` and `Debug` hold no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `memory:`, gone with the process.
    Memory,
    /// `sqlite://PATH`
    Sqlite(PathBuf),
    /// `redis://HOST` and its like: see [`crate::redis::Address`].
    #[cfg(feature = "redis")]
    Redis(Box<crate::redis::Address>),
    /// `postgres://USER@HOST/DATABASE`
    #[cfg(feature = "postgres")]
    Postgres(PostgresUrl),
}

/// The text names no store that this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPlace(&'static str);

impl Place {
    /// Opens the store, making what is missing. `policy` says when rows may be purged.
    ///
    /// # Errors
    /// What cannot be used, in words that say what to change.
    pub fn open(&self, policy: Policy) -> Result<Arc<dyn Store>, OpenError> {
        Ok(self.open_movable(policy)?)
    }

    /// As [`Place::open`], for whoever moves rows.
    ///
    /// # Errors
    /// What cannot be used, in words that say what to change.
    pub fn open_movable(&self, policy: Policy) -> Result<Arc<dyn MovableStore>, OpenError> {
        Ok(match self {
            Place::Memory => Arc::new(MemoryStore::new(policy)),
            Place::Sqlite(path) => Arc::new(SqliteStore::open(path, policy)?),
            #[cfg(feature = "redis")]
            Place::Redis(address) => Arc::new(crate::RedisStore::open(address, policy)?),
            #[cfg(feature = "postgres")]
            Place::Postgres(url) => Arc::new(PostgresStore::open(url, policy)?),
        })
    }

    /// Whether its URL holds a password.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Place::Postgres(url) => url.is_secret(),
            #[cfg(feature = "redis")]
            Place::Redis(address) => address.has_password(),
            _ => false,
        }
    }

    /// As [`Place::open_movable`], for hosts whose threads may wait for the disk: see
    /// [`SqliteStore::in_place`].
    ///
    /// # Errors
    /// What cannot be used, in words that say what to change.
    pub fn open_movable_in_place(
        &self,
        policy: Policy,
    ) -> Result<Arc<dyn MovableStore>, OpenError> {
        match self {
            Place::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, policy)?.in_place())),
            _ => self.open_movable(policy),
        }
    }

    /// As [`Place::open`], in place or not, and where there is another, followed by that: a node goes
    /// over to it by itself once `doorward store switch` has left this one.
    ///
    /// # Errors
    /// What cannot be used, in words that say what to change.
    pub fn open_before(
        &self,
        next: Option<&Place>,
        policy: Policy,
        in_place: bool,
    ) -> Result<Arc<dyn Store>, OpenError> {
        if let Some(next) = next {
            let places = [self.clone(), next.clone()];
            return Ok(Arc::new(Following::open(places, policy, in_place)?));
        }
        if in_place {
            Ok(self.open_movable_in_place(policy)?)
        } else {
            self.open(policy)
        }
    }
}

const OTHERS: &str = match (cfg!(feature = "postgres"), cfg!(feature = "redis")) {
    (true, true) => "must be sqlite://PATH, postgres://USER@HOST/DATABASE, redis://HOST or memory:",
    (true, false) => "must be sqlite://PATH, postgres://USER@HOST/DATABASE or memory:",
    (false, true) => "must be sqlite://PATH, redis://HOST or memory:",
    (false, false) => "must be sqlite://PATH or memory:",
};

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Place, NotAPlace> {
        #[cfg(feature = "redis")]
        if crate::redis::Address::is_one(text) {
            let address = text.parse().map_err(NotAPlace)?;
            return Ok(Place::Redis(Box::new(address)));
        }
        match text.strip_prefix("sqlite://") {
            Some("") => Err(NotAPlace("names no file; sqlite://doorward.db does")),
            Some(":memory:") => Err(NotAPlace("without a file it is memory:")),
            Some(path) => Ok(Place::Sqlite(path.into())),
            None if text == "memory:" => Ok(Place::Memory),
            #[cfg(feature = "postgres")]
            None if postgres::is_postgres(text) => {
                text.parse().map(Place::Postgres).map_err(NotAPlace)
            }
            None => Err(NotAPlace(OTHERS)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Memory => f.write_str("memory:"),
            Place::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            #[cfg(feature = "redis")]
            Place::Redis(address) => address.fmt(f),
            #[cfg(feature = "postgres")]
            Place::Postgres(url) => url.fmt(f),
        }
    }
}
