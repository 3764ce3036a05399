//! Headers to [`Claims`], or a finished refusal: how a host protects its own routes.

use bytes::Bytes;
use doorward_core::access_token::Claims;
use doorward_core::{Delivery, Error};
use http::request::Parts;
use http::{HeaderMap, Method, Response, Uri};

use crate::problem::Problem;
use crate::routes::Api;
use crate::{credentials, csrf};

/// What a route asks of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// That there is one.
    Session,
    /// That its password was checked within `fresh_ttl`.
    Fresh,
}

impl Api {
    /// The claims of the session that sent a request. Touches no store.
    ///
    /// # Errors
    /// A finished answer: 401, 403 where another site may have sent it, 503.
    pub fn guard(&self, parts: &Parts, need: Need) -> Result<Claims, Box<Response<Bytes>>> {
        let verified = self.verify(&parts.method, &parts.uri, &parts.headers, need);
        verified
            .map(|(claims, _)| claims)
            .map_err(|problem| Box::new(self.refusal(&parts.headers, &problem)))
    }

    /// As [`Api::guard`], but a request without any credential passes as nobody's.
    ///
    /// # Errors
    /// As [`Api::guard`]: a credential that is there must be good.
    pub fn guard_optional(&self, parts: &Parts) -> Result<Option<Claims>, Box<Response<Bytes>>> {
        if credentials::access(&parts.headers, self.cookies(), self.settings()).is_none() {
            return Ok(None);
        }
        self.guard(parts, Need::Session).map(Some)
    }

    pub(crate) fn verify(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        need: Need,
    ) -> Result<(Claims, Delivery), Problem> {
        let found = credentials::access(headers, self.cookies(), self.settings());
        let found = found.ok_or(Error::TokenMissing)?;
        if found.via == Delivery::Cookie {
            csrf::check(method, uri, headers, self.settings())?;
        }
        let claims = credentials::newest(&found.tokens, |token| self.service().verify(token))?;
        if need == Need::Fresh && claims.fresh_until() <= self.service().now() {
            return Err(Error::FreshLoginRequired.into());
        }
        Ok((claims, found.via))
    }
}
