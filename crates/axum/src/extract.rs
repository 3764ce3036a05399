//! Extractors: a handler that names one is protected.
//!
//! They verify without a store, but for [`Strict`]: signature, times, ended sessions. Unsafe methods whose token came
//! by cookie pass the CSRF rule first. Rejections are the API's problem documents.

use std::ops::Deref;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use doorward_core::Claims;
use doorward_http::{Need, Problem};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::initialization::Doorward;
use crate::routes::as_axum;

/// The session that sent the request.
#[derive(Clone, Debug)]
pub struct Session(pub Claims);

/// A session whose password was checked within `fresh_ttl`.
#[derive(Clone, Debug)]
pub struct FreshSession(pub Claims);

/// A session whose password was checked less than so many seconds ago: never, where that is 0.
///
/// ```
/// use doorward_axum::extract::FreshWithin;
///
/// async fn pay(session: FreshWithin<60>) -> String {
///     format!("paid by {}", session.user())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct FreshWithin<const SECONDS: u64>(pub Claims);

/// The session, or `None` where no credential was sent. A bad credential is refused.
#[derive(Clone, Debug)]
pub struct OptionalSession(pub Option<Claims>);

/// The session's claims as a type of the app's own, by the names in the token.
#[derive(Clone, Debug)]
pub struct SessionClaims<T>(pub T);

/// A session that the store was asked about, after its token was verified: for handlers on which no bound
/// is short enough. `Strict<FreshSession>` asks for both. Where the store does not answer: 503.
///
/// ```
/// use doorward_axum::extract::{FreshSession, Strict};
///
/// async fn transfer(session: Strict<FreshSession>) -> String {
///     format!("transferred by {}", session.user())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Strict<T = Session>(pub T);

/// A finished refusal.
#[derive(Debug)]
pub struct Rejection(Box<http::Response<Bytes>>);

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        as_axum(*self.0)
    }
}

impl Deref for Session {
    type Target = Claims;
    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl Deref for FreshSession {
    type Target = Claims;
    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl<const SECONDS: u64> Deref for FreshWithin<SECONDS> {
    type Target = Claims;
    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl<T: Deref<Target = Claims>> Deref for Strict<T> {
    type Target = Claims;
    fn deref(&self) -> &Claims {
        &self.0
    }
}

fn guard<S>(parts: &Parts, state: &S, need: Need) -> Result<Claims, Rejection>
where
    Doorward: FromRef<S>,
{
    Doorward::from_ref(state)
        .api()
        .guard(parts, need)
        .map_err(Rejection)
}

impl<S: Send + Sync> FromRequestParts<S> for Session
where
    Doorward: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        guard(parts, state, Need::Session).map(Session)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for FreshSession
where
    Doorward: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        guard(parts, state, Need::Fresh).map(FreshSession)
    }
}

impl<const SECONDS: u64, S: Send + Sync> FromRequestParts<S> for FreshWithin<SECONDS>
where
    Doorward: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let need = Need::FreshWithin(Duration::from_secs(SECONDS));
        guard(parts, state, need).map(FreshWithin)
    }
}

impl<S, T> FromRequestParts<S> for Strict<T>
where
    S: Send + Sync,
    Doorward: FromRef<S>,
    T: FromRequestParts<S, Rejection = Rejection> + Deref<Target = Claims> + Send + Sync,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let session = T::from_request_parts(parts, state).await?;
        let door = Doorward::from_ref(state);
        let checked = door.api().guard_strictly(parts, &session).await;
        checked.map(|()| Strict(session)).map_err(Rejection)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OptionalSession
where
    Doorward: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let door = Doorward::from_ref(state);
        door.api()
            .guard_optional(parts)
            .map(OptionalSession)
            .map_err(Rejection)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for SessionClaims<T>
where
    Doorward: FromRef<S>,
{
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let claims = guard(parts, state, Need::Session)?;
        serde_json::from_slice(claims.json())
            .map(SessionClaims)
            .map_err(|_| {
                let problem = Problem::Engine(doorward_core::Error::TokenInvalid);
                let api = Doorward::from_ref(state).api().clone();
                Rejection(Box::new(api.refusal(&parts.headers, &problem)))
            })
    }
}
