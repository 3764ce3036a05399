//! The marks by which two stores know each other: which was left for which, and how far it is.
//!
//! A mark holds an id of the move and nothing else: no address, no password. The store that takes over
//! is signed with the same id, so that nobody goes on with another one by mistake, nor with a copy that
//! was made long ago.

use std::fmt;

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
    /// For a reason that this version does not know.
    Other,
}

impl Mark {
    /// The mark of a store.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn of(store: &(impl TransferStore + ?Sized)) -> StoreResult<Option<Mark>> {
        let left = store.left().await?;
        Ok(left.map(|text| Mark::read(&text)))
    }

    /// The mark that is written so.
    #[must_use]
    pub fn read(text: &str) -> Mark {
        let (word, id) = text.split_once(' ').unwrap_or_default();
        match (word, u64::from_str_radix(id, 16).map(MoveId)) {
            ("filling", Ok(id)) => Mark::Filling(id),
            ("leaving", Ok(id)) => Mark::Leaving(id),
            ("left", Ok(id)) => Mark::Left(id),
            _ => Mark::Other,
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Filling(id) => write!(f, "filling {:016x}", id.0),
            Mark::Leaving(id) => write!(f, "leaving {:016x}", id.0),
            Mark::Left(id) => write!(f, "left {:016x}", id.0),
            Mark::Other => f.write_str("other"),
        }
    }
}

/// What is wrong with serving from a store that is being filled.
pub const FILLING: &str =
    "this store is being filled by `doorward store copy`: it serves nobody before `store switch`";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_as_it_was_written() {
        let id = MoveId(7);
        for mark in [Mark::Filling(id), Mark::Leaving(id), Mark::Left(id)] {
            assert_eq!(Mark::read(&mark.to_string()), mark);
        }
        for odd in ["", "left", "left x", "gone 1"] {
            assert_eq!(Mark::read(odd), Mark::Other);
        }
    }
}
