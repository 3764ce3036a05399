//! The marks by which two stores know each other: which was left for which, and how far it is.
//!
//! A mark holds an id of the move and nothing else: no address, no password. The store that takes over
//! is signed with the same id, so that nobody goes on with another one by mistake, nor with a copy that
//! was made long ago.

use std::fmt;
use std::str::FromStr;

use crate::env::Env;
use crate::store::{Store, StoreResult};
use crate::transfer::{Rows, TransferStore};

/// The name of one move from a store to another: 64 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveId(u64);

impl MoveId {
    /// A new one.
    #[must_use]
    pub fn random(env: &dyn Env) -> MoveId {
        let mut bytes = [0; 8];
        env.fill(&mut bytes);
        MoveId(u64::from_be_bytes(bytes))
    }
}

/// Why a store takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is being filled, and serves nobody yet.
    Filling(MoveId),
    /// It was left, and what changed last goes over: it still tells the truth.
    Leaving(MoveId),
    /// The other store has taken over.
    Left(MoveId),
}

impl Mark {
    /// Which move it is of.
    #[must_use]
    pub fn id(self) -> MoveId {
        match self {
            Mark::Filling(id) | Mark::Leaving(id) | Mark::Left(id) => id,
        }
    }

    /// The mark of a store. `Some(None)`: one that this version does not know.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn of(store: &(impl TransferStore + ?Sized)) -> StoreResult<Option<Option<Mark>>> {
        let left = store.left().await?;
        Ok(left.map(|text| text.parse().ok()))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Mark::Filling(_) => "filling",
            Mark::Leaving(_) => "leaving",
            Mark::Left(_) => "left",
        };
        write!(f, "{word} {:016x}", self.id().0)
    }
}

impl FromStr for Mark {
    type Err = crate::id::NotAnId;

    fn from_str(text: &str) -> Result<Mark, Self::Err> {
        let (word, id) = text.split_once(' ').ok_or(crate::id::NotAnId)?;
        let id = u64::from_str_radix(id, 16).map_err(|_| crate::id::NotAnId)?;
        match word {
            "filling" => Ok(Mark::Filling(MoveId(id))),
            "leaving" => Ok(Mark::Leaving(MoveId(id))),
            "left" => Ok(Mark::Left(MoveId(id))),
            _ => Err(crate::id::NotAnId),
        }
    }
}

/// What is said of a store in its outbox, under names that no address has: those are hashes.
const PREFIX: &str = "moving:";
const SOON: &str = "moving:soon";

/// Whether a row of the outbox says something of the store itself.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn name(id: MoveId) -> Box<str> {
    format!("{PREFIX}{:016x}", id.0).into()
}

/// Signs a store as the one that takes part in a move, whether it was left or not.
pub(super) async fn sign(store: &dyn TransferStore, id: MoveId) -> StoreResult<()> {
    store.put(Rows::Outbox(vec![(name(id), 1)])).await
}

/// Whether a store takes part in a move.
///
/// # Errors
/// The store did not answer.
pub async fn is_signed(store: &(impl Store + ?Sized), id: MoveId) -> StoreResult<bool> {
    Ok(store.outbox_cursor(&name(id)).await?.is_some())
}

/// Says of a store that it is about to be left, or that it is not.
pub(super) async fn announce(store: &dyn TransferStore, soon: bool) -> StoreResult<()> {
    let rows = vec![(SOON.into(), u64::from(soon))];
    store.put(Rows::Outbox(rows)).await
}

/// Whether a store is about to be left: whoever serves from it looks at its mark before each operation.
///
/// # Errors
/// The store did not answer.
pub async fn is_announced(store: &(impl Store + ?Sized)) -> StoreResult<bool> {
    Ok(store.outbox_cursor(SOON).await? == Some(1))
}
