//! Doorward's HTTP API, written once for every host.
//!
//! A host routes, then feeds [`Endpoint`] and request to [`Api::call`], and gets a [`Reply`]: a
//! finished answer, or a question that only the host can settle. Read in this order:
//!
//! 1. [`settings`]: what a host may configure.
//! 2. [`routes`]: the table, then one function an endpoint.
//! 3. [`reply`]: answers and questions, and how the built-in accounts settle them.
//! 4. [`guard`]: how a host protects its own routes.
//! 5. `credentials`, `cookies`, `csrf`, `cors`: where tokens are found, set, and when they count.
//! 6. [`problem`]: every error on the wire.
//! 7. [`openapi`]: the description, and the page that shows it.
//! 8. [`testing`]: recorded exchanges, replayed through any door.
#![forbid(unsafe_code)]

mod body;
mod client;
mod cookies;
mod cors;
mod credentials;
mod csrf;
mod docs;
pub mod guard;
pub mod openapi;
pub mod problem;
pub mod reply;
pub mod routes;
pub mod settings;
pub mod testing;

pub use client::{Client, client_address};
pub use guard::Need;
pub use problem::Problem;
pub use reply::{Answer, Ask, Reply, settle};
pub use routes::{Api, Endpoint, ROUTES, Route};
pub use settings::{Settings, SettingsError};
