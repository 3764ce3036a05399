//! Databases that tests start for themselves.
#![allow(dead_code, unreachable_pub, reason = "not every test needs all of it")]

#[cfg(feature = "redis")]
pub mod redis;
