//! Doorward's HTTP API, written once for every host.
//!
//! A host routes, then feeds [`Endpoint`] and request to [`Api::call`], and gets a [`Reply`]: a
//! finished answer, or a question that only the host can settle. Read in this order:
//!
//! 1. [`settings`]: what a host may configure.
//! 2. [`routes`]: the table, then one function an endpoint.
//! 3. [`reply`]: answers and questions, and how the built-in accounts settle them.
//! 4. [`exchange`]: how a request goes on after its question; `answers`: the JSON it ends with.
//! 5. [`guard`]: how a host protects its own routes; [`asked`]: what it hands over for that.
//! 6. `credentials`, `cookies`, `csrf`, `cors`: where tokens are found, set, and when they count.
//! 7. `attempts`: what is asked before a password is looked at.
//! 8. [`problem`]: every error on the wire.
//! 9. [`openapi`]: the description, and the page that shows it.
//! 10. [`testing`]: recorded exchanges, replayed through any door.
#![forbid(unsafe_code)]

mod adopting;
mod answers;
pub mod asked;
mod attempts;
mod body;
mod client;
mod cookies;
mod cors;
mod credentials;
mod csrf;
mod docs;
pub mod exchange;
pub mod guard;
pub mod openapi;
pub mod problem;
pub mod reply;
pub mod routes;
pub mod settings;
pub mod testing;

pub use asked::{Asked, Headers, InBody};
pub use client::{Client, address, client_address};
pub use guard::{Need, Verified};
pub use problem::Problem;
pub use reply::{Answer, Ask, Reply, settle};
pub use routes::{Api, Endpoint, ROUTES, Route, device, unavailable};
pub use settings::{
    CsrfNames, DoubleSubmit, Location, SameSite, Settings, SettingsError, check_proxies,
};
