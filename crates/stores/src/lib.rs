//! Doorward's stores: one contract, several databases.
//!
//! - [`place`]: which of them a URL names.
//! - `following`: a store that is about to be left, and the one after it.
//! - [`sqlite`]: embedded, the default; several processes may share the file.
//! - `postgres`: PostgreSQL, for many nodes.
//! - `redis`: Redis, alone, as a cluster or with sentinels, for many nodes.
//! - [`ring`]: how the processes of a machine hear of each other's ended sessions without a read.
//! - `spread`, `remote`: how nodes hear of them, and the thread in which a store over the network works.
//!
//! The contract is prose in [`doorward_core::store`], and a test that every store passes.

mod following;
pub mod place;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg_attr(
    not(any(feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "no store over the network is built")
)]
mod remote;
pub mod ring;
#[cfg_attr(
    not(any(feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "no store over the network is built")
)]
mod spread;
pub mod sqlite;

pub use place::Place;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresStore, PostgresUrl};
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use sqlite::{OpenError, SqliteStore};
