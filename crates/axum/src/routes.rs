//! ROUTES: the router, and the questions that an app with its own users answers.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use bytes::Bytes;
use doorward_core::adoption::Foreign;
use doorward_core::password::Password;
use doorward_core::{Accounts, Error, Identity, PasswordChange, UserId};
use doorward_http::{
    Api, Ask, Client, Endpoint, Problem, ROUTES, Reply, Route, client_address, settle,
};
use http_body_util::LengthLimitError;

use crate::initialization::Doorward;

/// The future of an answer.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = doorward_core::Result<T>> + Send + 'a>>;

/// What only the app knows about its users. Apps without a user table leave it to the built-in
/// accounts.
///
/// An app that disables a user calls [`doorward_core::Service::end_user`].
pub trait Users: Send + Sync + 'static {
    /// Whose credentials are these?
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] for an unknown user, a wrong password, and a disabled account
    /// alike, after the same work.
    fn identify<'a>(&'a self, username: &'a str, password: Password) -> Answering<'a, Identity>;

    /// Is this the user's password?
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`].
    fn confirm<'a>(&'a self, user: &'a UserId, password: Password) -> Answering<'a, ()>;

    /// Gives the user a new password, if `current` is the current one when the new one is written:
    /// of two changes at once the second is refused. Answers as [`Users::identify`] does; an
    /// [`Identity`] becomes a [`PasswordChange`] by `into()`, and the sessions end by themselves.
    /// Without this method `POST /password` is not mounted: see [`Users::sets_passwords`].
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] for a wrong password and a disabled account alike,
    /// [`Error::PasswordTooWeak`].
    fn set_password<'a>(
        &'a self,
        _user: &'a UserId,
        _current: Password,
        _new: Password,
    ) -> Answering<'a, PasswordChange> {
        Box::pin(async { Err(Error::NotFound) })
    }

    /// Whether [`Users::set_password`] can be answered.
    fn sets_passwords(&self) -> bool {
        false
    }

    /// Makes an account, where `settings.register` is on.
    ///
    /// # Errors
    /// [`Error::UsernameTaken`], [`Error::PasswordTooWeak`].
    fn register<'a>(&'a self, _username: &'a str, _password: Password) -> Answering<'a, Identity> {
        Box::pin(async { Err(Error::NotFound) })
    }

    /// Whom a refresh token of another program names, where those are adopted, and whether that
    /// program had not revoked it. Without this method none is adopted.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`].
    fn adopt<'a>(&'a self, _foreign: &'a Foreign) -> Answering<'a, Identity> {
        Box::pin(async { Err(Error::InvalidCredentials) })
    }

    /// The claims that a refreshed token carries, where `settings.renew` is on; `None`: those of
    /// the login.
    ///
    /// # Errors
    /// Any but [`Error::StoreUnavailable`] ends the session.
    fn renew<'a>(&'a self, _user: &'a UserId) -> Answering<'a, Option<Box<str>>> {
        Box::pin(async { Ok(None) })
    }
}

impl Users for Accounts {
    fn identify<'a>(&'a self, username: &'a str, password: Password) -> Answering<'a, Identity> {
        Box::pin(Accounts::identify(self, username, password))
    }

    fn confirm<'a>(&'a self, user: &'a UserId, password: Password) -> Answering<'a, ()> {
        Box::pin(Accounts::confirm(self, user, password))
    }

    fn set_password<'a>(
        &'a self,
        user: &'a UserId,
        current: Password,
        new: Password,
    ) -> Answering<'a, PasswordChange> {
        Box::pin(Accounts::change_password(self, user, current, new))
    }

    fn sets_passwords(&self) -> bool {
        true
    }

    fn adopt<'a>(&'a self, foreign: &'a Foreign) -> Answering<'a, Identity> {
        Box::pin(Accounts::named(self, foreign.subject(), foreign.names()))
    }
}

impl Doorward {
    /// The API under `settings.url_prefix`, for any app: it carries its own state.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let settings = self.inner.api.settings();
        let prefix = &settings.url_prefix;
        let mounted = ROUTES
            .iter()
            .filter(|route| route.endpoint.is_mounted(settings));
        mounted.fold(Router::new(), |router, route| {
            router.route(&format!("{prefix}{}", route.path), self.endpoint(route))
        })
    }

    fn endpoint<S: Clone + Send + Sync + 'static>(&self, route: &Route) -> MethodRouter<S> {
        let (door, endpoint) = (self.clone(), route.endpoint);
        let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
        let handle = move |request: Request| {
            let door = door.clone();
            async move { door.answer(endpoint, request).await }
        };
        let options = {
            let door = self.clone();
            move |request: Request| async move {
                let (parts, _) = request.into_parts();
                door.inner.api.preflight(&parts).map(Body::from)
            }
        };
        let shares_path = ROUTES.iter().find(|other| other.path == route.path);
        let router = on(filter, handle);
        // Of the routes that share a path one answers the preflight for all.
        if shares_path.is_some_and(|first| first.endpoint == route.endpoint) {
            router.options(options)
        } else {
            router
        }
    }

    async fn answer(&self, endpoint: Endpoint, request: Request) -> Response {
        let client = Client {
            address: self.address(&request),
        };
        let (parts, body) = request.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(Unread::TooLarge) => return as_axum(self.inner.api.too_large(&parts)),
            Err(Unread::Broken) => {
                return as_axum(self.inner.api.refusal(&parts.headers, &UNREADABLE));
            }
        };
        let request = http::Request::from_parts(parts, body);
        let reply = self.inner.api.call(endpoint, request, client).await;
        self.settled(reply).await
    }

    async fn settled(&self, reply: Reply) -> Response {
        let answer = if self.inner.own_users {
            self.by_users(reply).await
        } else {
            settle(reply, self.accounts()).await
        };
        answer.response.map(Body::from)
    }

    async fn by_users(&self, mut reply: Reply) -> doorward_http::Answer {
        let users = &self.inner.users;
        loop {
            reply = match reply {
                Reply::Done(answer) => return answer,
                Reply::Ask(Ask::Identify {
                    username,
                    password,
                    next,
                }) => next.answer(users.identify(&username, password).await).await,
                Reply::Ask(Ask::Confirm {
                    user,
                    password,
                    next,
                }) => next.answer(users.confirm(&user, password).await).await,
                Reply::Ask(Ask::SetPassword {
                    user,
                    current,
                    new,
                    next,
                }) => {
                    let set = users.set_password(&user, current, new).await;
                    next.answer(set).await
                }
                // Not mounted for users of the app's own.
                Reply::Ask(Ask::ResetPassword { next, .. }) => {
                    next.answer(Err(Error::ResetTokenInvalid))
                }
                Reply::Ask(Ask::Register {
                    username,
                    password,
                    next,
                }) => next.answer(users.register(&username, password).await).await,
                Reply::Ask(Ask::Adopt { foreign, next }) => {
                    next.answer(users.adopt(&foreign).await).await
                }
                Reply::Ask(Ask::Renew { user, next }) => {
                    next.answer(users.renew(&user).await).await
                }
            }
        }
    }

    fn address(&self, request: &Request) -> Option<std::net::IpAddr> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        Some(client_address(
            peer.ip(),
            request.headers(),
            &self.inner.trusted_proxies,
        ))
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is longer than [`Api::MAX_BODY`], or says so.
    TooLarge,
    /// It ended early, or its framing is malformed.
    Broken,
}

const UNREADABLE: Problem = Problem::BadRequest("the body did not arrive whole");

/// The whole body. One that is announced as too large is refused before it arrives.
///
/// # Errors
/// [`Unread`].
pub async fn read(body: Body) -> Result<Bytes, Unread> {
    let announced = http_body::Body::size_hint(&body).lower();
    if announced > Api::MAX_BODY as u64 {
        return Err(Unread::TooLarge);
    }
    let whole = axum::body::to_bytes(body, Api::MAX_BODY).await;
    whole.map_err(|error| {
        if is_length_limit(&error) {
            Unread::TooLarge
        } else {
            Unread::Broken
        }
    })
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A refusal as the API words it.
pub(crate) fn as_axum(response: http::Response<Bytes>) -> Response {
    response.map(Body::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(std::vec::IntoIter<std::io::Result<Bytes>>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<std::io::Result<http_body::Frame<Bytes>>>> {
            let next = self.0.next();
            std::task::Poll::Ready(next.map(|piece| piece.map(http_body::Frame::data)))
        }
    }

    fn pieces(pieces: Vec<std::io::Result<Bytes>>) -> Body {
        Body::new(Pieces(pieces.into_iter()))
    }

    #[tokio::test]
    async fn only_a_length_makes_a_body_too_large() {
        let large = Bytes::from(vec![b'x'; Api::MAX_BODY]);
        let reset = || Err(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(read(Body::from(large.clone())).await, Ok(large.clone()));
        let announced = Body::from([&large[..], b"x"].concat());
        assert_eq!(read(announced).await, Err(Unread::TooLarge));
        let more = pieces(vec![Ok(large.clone()), Ok(large), reset()]);
        assert_eq!(read(more).await, Err(Unread::TooLarge));
        let torn = pieces(vec![Ok("{".into()), reset()]);
        assert_eq!(read(torn).await, Err(Unread::Broken));
    }
}
