//! Doorward's stores: one contract, several databases.
//!
//! - [`sqlite`]: embedded, the default; several processes may share the file.
//! - [`ring`]: how those processes hear of each other's ended sessions without a read.
//!
//! The contract is prose in [`doorward_core::store`], and a test that every store passes.

pub mod ring;
pub mod sqlite;

pub use sqlite::{OpenError, SqliteStore};
