//! Doorward's stores: one contract, several databases.
//!
//! - [`place`]: which of them a URL names.
//! - `following`: a store that is about to be left, and the one after it.
//! - [`sqlite`]: embedded, the default; several processes may share the file.
//! - [`ring`]: how the processes of a machine hear of each other's ended sessions without a read.
//! - `spread`, `remote`: how nodes hear of them, and the thread in which a store over the network works.
//!
//! The contract is prose in [`doorward_core::store`], and a test that every store passes.

mod following;
pub mod place;
#[allow(dead_code, reason = "the stores over the network are on their way")]
mod remote;
pub mod ring;
#[allow(dead_code, reason = "the stores over the network are on their way")]
mod spread;
pub mod sqlite;

pub use place::Place;
pub use sqlite::{OpenError, SqliteStore};
