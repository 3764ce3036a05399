//! Doorward's engine: what happens to a session, and nothing else.
//!
//! No HTTP, no database, no async runtime: hosts bring those. Read in this order:
//!
//! 1. [`session`]: the row, and its one decision, [`session::Session::refresh`].
//! 2. [`refresh_token`] and [`access_token`]: what clients hold.
//! 3. [`keys`]: the ring that signs and verifies them; `seal`: how a store may keep it.
//!    [`csrf`]: what is sent along with them where cookies are not enough.
//! 4. [`revocation`]: the ended sessions, in memory, asked by every verification.
//! 5. [`password`] and [`account`]: built-in users; [`reset`]: how one gets a new password.
//! 6. [`store`]: what a database must do, in prose and traits; [`memory`] is the reference;
//!    [`transfer`]: how one store's rows become another's.
//! 7. [`service`]: login, refresh, verify, logout, put together.
//! 8. [`throttle`]: failed logins cost; [`device_token`]: who has logged in before.
//! 9. [`event`] and [`event_log`]: what happened, and where that is kept; [`operator`]: what
//!    commands do.
//! 10. [`engine`]: all of it as a process runs it; [`meter`]: what it counts.
//! 11. [`jws`]: foreign tokens, for apps that move over; [`import`]: their accounts, and
//!     [`adoption`]: their sessions.
//! 12. [`policy`], with [`limits`] and [`assurance`]; [`mod@env`], [`error`], [`id`]: the words the
//!     others use.
#![forbid(unsafe_code)]

pub mod access_token;
pub mod account;
pub mod adoption;
pub mod assurance;
pub mod csrf;
pub mod device_token;
pub mod engine;
pub mod env;
pub mod error;
pub mod event;
pub mod event_log;
pub mod id;
pub mod import;
pub mod jws;
pub mod keys;
pub mod limits;
pub mod memory;
pub mod meter;
pub mod operator;
pub mod password;
pub mod policy;
pub mod refresh_token;
pub mod reset;
pub mod revocation;
mod seal;
pub mod service;
pub mod session;
pub mod store;
pub mod testing;
pub mod throttle;
pub mod transfer;
pub mod webhook;

pub use access_token::Claims;
pub use account::{Accounts, Identity, PasswordChange};
pub use assurance::Assurance;
pub use csrf::{CsrfKind, CsrfValue};
pub use engine::{Engine, EngineConfig};
pub use env::{Env, SystemEnv, Timestamp};
pub use error::{Error, Result};
pub use event::{Caller, Event, EventName};
pub use event_log::{EventConfig, EventLog};
pub use id::{SessionId, TokenId, UserId};
pub use policy::{Policy, Sensitive};
pub use service::Service;
pub use session::{Delivery, Device, EndReason, Session};
