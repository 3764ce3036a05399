//! Doorward's stores: one contract, several databases.
//!
//! - [`place`]: which of them a URL names.
//! - [`redis`]: Redis, alone or as a cluster, for many machines.
//! - [`sqlite`]: embedded, the default; several processes may share the file.
//! - [`ring`]: how the processes of a machine hear of each other's ended sessions without a read.
//! - `spread`, `remote`: how nodes hear of them, and the thread in which a store over the network works.
//!
//! The contract is prose in [`doorward_core::store`], and a test that every store passes.

pub mod place;
#[cfg(feature = "redis")]
pub mod redis;
#[allow(dead_code, reason = "only stores over the network need all of it")]
mod remote;
pub mod ring;
#[allow(dead_code, reason = "only stores over the network need it")]
mod spread;
pub mod sqlite;

pub use place::Place;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use sqlite::{OpenError, SqliteStore};
