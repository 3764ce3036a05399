//! Doorward's axum door: sessions as a router and as extractors.
//!
//! Build a [`Doorward`] once, merge [`Doorward::router`] into the app, put a clone into the app's
//! state, and ask for a [`Session`] in the handlers to protect:
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use doorward_axum::{Doorward, Session};
//!
//! async fn hello(session: Session) -> String {
//!     format!("hello {}", session.user())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let doorward = Doorward::sqlite("app.db").open().await?;
//! let app = Router::new()
//!     .route("/api/v1/hello", get(hello))
//!     .merge(doorward.router())
//!     .with_state(doorward);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`initialization`]: what an app configures, and the work in the background.
//! - [`routes`]: the router, and [`Users`], for apps with a user table of their own.
//! - [`extract`]: [`Session`], [`FreshSession`], [`FreshWithin`], [`OptionalSession`], [`SessionClaims`].
#![forbid(unsafe_code)]

pub mod extract;
pub mod initialization;
pub mod routes;

pub use doorward_core as core;
pub use doorward_http as http_api;
pub use extract::{FreshSession, FreshWithin, OptionalSession, Rejection, Session, SessionClaims};
pub use initialization::{Builder, Doorward, OpenError};
pub use routes::Users;
