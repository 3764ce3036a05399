//! A request to [`Claims`], or a finished refusal: how a host protects its own routes.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use doorward_core::access_token::Claims;
use doorward_core::refresh_token::RefreshToken;
use doorward_core::{CsrfKind, Error, Event, Sensitive, Session};
use http::request::Parts;
use http::{HeaderValue, Response};

use crate::asked::Asked;
use crate::credentials::{self, newest_refresh};
use crate::csrf;
use crate::problem::Problem;
use crate::routes::Api;
use crate::settings::Location;

/// What a route asks of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// That there is one.
    Session,
    /// That its password was checked within `fresh_ttl`.
    Fresh,
    /// That its password was checked less than this long ago: never, where it is zero.
    FreshWithin(Duration),
}

/// A session that sent a request, and by what.
#[derive(Clone)]
pub struct Verified<'a> {
    /// What its access token says.
    pub claims: Claims,
    /// Where the token was.
    pub location: Location,
    /// The token.
    pub token: Cow<'a, str>,
}

impl std::fmt::Debug for Verified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("claims", &self.claims)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// The claims of the session that sent a request. Touches no store.
    ///
    /// # Errors
    /// A finished answer: 401, 403 where another site may have sent it, 503.
    pub fn guard(&self, parts: &Parts, need: Need) -> Result<Claims, Box<Response<Bytes>>> {
        let asked = Asked::of(parts);
        let verified = self.verify(&asked, need);
        verified
            .map(|verified| verified.claims)
            .map_err(|problem| Box::new(self.refuse(&asked, &problem)))
    }

    /// Asks the store whether a session that a guard let pass is over: for routes on which no bound is
    /// short enough.
    ///
    /// # Errors
    /// A finished answer: 401, and 503 where the store does not answer.
    pub async fn guard_strictly(
        &self,
        parts: &Parts,
        claims: &Claims,
    ) -> Result<(), Box<Response<Bytes>>> {
        let checked = self.service().check_in_store(claims).await;
        checked.map_err(|error| Box::new(self.refuse(&Asked::of(parts), &error.into())))
    }

    /// As [`Api::guard`], but a request without any credential passes as nobody's.
    ///
    /// # Errors
    /// As [`Api::guard`]: a credential that is there must be good.
    pub fn guard_optional(&self, parts: &Parts) -> Result<Option<Claims>, Box<Response<Bytes>>> {
        match self.verify(&Asked::of(parts), Need::Session) {
            Ok(verified) => Ok(Some(verified.claims)),
            Err(Problem::Engine(Error::TokenMissing)) => Ok(None),
            Err(problem) => Err(Box::new(self.refuse(&Asked::of(parts), &problem))),
        }
    }

    /// The session that sent a request. Touches no store. Of several places that hold a token the
    /// first one counts, and the rules against CSRF apply where that is the cookie.
    ///
    /// # Errors
    /// [`Error::TokenMissing`] if there is no credential, and whatever else is wrong.
    pub fn verify<'a>(&self, asked: &Asked<'a>, need: Need) -> Result<Verified<'a>, Problem> {
        let found = self.places().access(asked, self.cookies());
        let mut found = found.ok_or(Error::TokenMissing)?;
        let by_cookie = found.at == Location::Cookie;
        if by_cookie {
            csrf::check(asked, self.settings())?;
        }
        let (claims, at) =
            credentials::newest(&found.tokens, |token| self.service().verify(token))?;
        if by_cookie {
            let value = claims.csrf();
            csrf::check_submitted(asked, CsrfKind::Access, value, self.settings())?;
        }
        self.check_fresh(&claims, need)?;
        Ok(Verified {
            claims,
            location: found.at,
            token: found.tokens.swap_remove(at),
        })
    }

    /// Whether a session may do what is left to fresh ones, where the policy leaves it to them.
    pub(crate) fn check_may(&self, what: Sensitive, claims: &Claims) -> Result<(), Error> {
        if self.service().policy().needs_fresh(what) {
            self.check_fresh(claims, Need::Fresh)
        } else {
            Ok(())
        }
    }

    fn check_fresh(&self, claims: &Claims, need: Need) -> Result<(), Error> {
        let until = match need {
            Need::Session => return Ok(()),
            Need::Fresh => claims.fresh_until(),
            Need::FreshWithin(Duration::ZERO) => return Err(Error::FreshLoginRequired),
            Need::FreshWithin(span) => claims.auth_time() + span,
        };
        if until <= self.service().now() {
            Err(Error::FreshLoginRequired)
        } else {
            Ok(())
        }
    }

    /// The session whose refresh token, `in_body` or in a cookie, came with a request: for routes
    /// of a host that ask for one. Decided on as a refresh, but the token is not rotated.
    ///
    /// # Errors
    /// As a refresh is refused, and with the event to be logged where that ended the session.
    pub async fn check_refresh(
        &self,
        asked: &Asked<'_>,
        in_body: Option<&str>,
    ) -> (Result<Session, Problem>, Option<Event>) {
        let found = match self.refresh_found(asked, in_body) {
            Ok(Some(found)) => found,
            Ok(None) => return (Err(Error::TokenMissing.into()), None),
            Err(problem) => return (Err(problem), None),
        };
        let text = match self.refresh_token(asked, &found).await {
            Ok(text) => text,
            Err(problem) => return (Err(problem), None),
        };
        let (session, event) = self.service().check_refresh(text, found.via()).await;
        (session.map_err(Problem::from), event)
    }

    /// The refresh token that counts, if no other site can have sent it.
    pub(crate) async fn refresh_token<'f>(
        &self,
        asked: &Asked<'_>,
        found: &'f credentials::Found<'_>,
    ) -> Result<&'f str, Problem> {
        let by_cookie = found.at == Location::Cookie;
        if by_cookie {
            csrf::check(asked, self.settings())?;
        }
        let (token, text) = newest_refresh(found, self.service()).await?;
        if by_cookie {
            self.check_submitted_for(asked, &token)?;
        }
        Ok(text)
    }

    pub(crate) fn check_submitted_for(
        &self,
        asked: &Asked<'_>,
        token: &RefreshToken,
    ) -> Result<(), Problem> {
        if self.settings().double_submit.is_none() {
            return Ok(());
        }
        let value = self.service().refresh_csrf(token)?;
        csrf::check_submitted(asked, CsrfKind::Refresh, Some(&value), self.settings())
    }

    /// Whether another site may have sent a request: for hosts that find a session's cookie in their
    /// own way.
    ///
    /// # Errors
    /// [`Problem::CsrfFailed`].
    pub fn check_origin(&self, asked: &Asked<'_>) -> Result<(), Problem> {
        csrf::check(asked, self.settings())
    }

    /// The headers that a guard reads, in lower case: what a host that has no [`Parts`] hands over.
    #[must_use]
    pub fn reads(&self) -> Vec<String> {
        let mut names = ["cookie", "host", "origin", "sec-fetch-site"]
            .map(String::from)
            .to_vec();
        names.push(self.places().header().into());
        if let Some(csrf) = &self.settings().double_submit {
            let own = [&csrf.access, &csrf.refresh];
            names.extend(own.map(|names| names.header_name.to_ascii_lowercase()));
        }
        names.sort();
        names.dedup();
        names
    }

    /// A finished refusal of a request.
    #[must_use]
    pub fn refuse(&self, asked: &Asked<'_>, problem: &Problem) -> Response<Bytes> {
        let origin = asked.headers.only("origin").ok().flatten();
        let origin = origin.and_then(|origin| HeaderValue::from_bytes(origin).ok());
        self.refusal_to(origin.as_ref(), problem)
    }
}
