//! Simulated browsers for whole-system tests, and a checker of what they saw.
//!
//! ```sh
//! fleet run --node http://127.0.0.1:8080/api/v1 --node http://127.0.0.1:8081/api/v1 \
//!     --users users.txt --clients 1000 --rate 300 --seconds 60 --history history.jsonl
//! fleet check history.jsonl --since 81273645000
//! ```
//!
//! Runs a thousand and more honest [browsers](browser) on one thread against real nodes, writes down
//! every request and its answer ([`history`]), and decides whether that keeps the promises
//! ([`checker`]): no honest client logged out, no acknowledged login lost, no acknowledged end undone,
//! each session linearizable ([`register`]), plain looks no later than their bound. The [`summary`] goes to
//! standard output as JSON; the exit code is 0, 1 for a broken promise, 2 if it could not run.
//!
//! `fleet: ready` on standard error says that all have logged in. SIGTERM and SIGINT end a run early
//! and properly: what is under way is awaited, each live session is refreshed once more, the ended
//! ones looked at again.
//!
//! Ends by an operator are not seen here. Give `fleet check` a line for them, in a file of its own beside the
//! history; the user `*` is everybody:
//!
//! ```json
//! {"client":0,"user":"*","op":"end_all","node":0,"start":81273645000,"end":81273646000,"outcome":"ok"}
//! ```
//!
//! Left out: TLS, changes of password, thieves, and accounts that others log in to at the same time.

pub mod browser;
pub mod checker;
pub mod fleet;
pub mod history;
pub mod jar;
pub mod register;
pub mod summary;
pub mod wire;
