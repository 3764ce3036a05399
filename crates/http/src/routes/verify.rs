//! `GET /verify`, for proxies.

use std::time::Duration;

use bytes::Bytes;
use doorward_core::Error;
use http::header::HeaderName;
use http::{HeaderValue, Request, Response};

use super::Api;
use crate::asked::Asked;
use crate::csrf;
use crate::exchange::{Exchange, Step};
use crate::guard::Need;
use crate::problem::Problem;

impl Api {
    /// The methods that a proxy reports decide about CSRF; without one the request counts as
    /// unsafe.
    pub(super) async fn verify_for_proxy(
        &self,
        request: &Request<Bytes>,
        exchange: Exchange,
    ) -> Step {
        let asked = Asked::of_request(request);
        let told = ["x-original-method", "x-forwarded-method"];
        let told = told.iter().flat_map(|name| asked.headers.all(name));
        let told: Vec<_> = told
            .map(|method| std::str::from_utf8(method).unwrap_or("POST"))
            .collect();
        let unsafe_one = told.iter().find(|method| !csrf::is_safe(method));
        let method = unsafe_one.or(told.first()).copied().unwrap_or("POST");
        let asked = Asked { method, ..asked };
        let query = request.uri().query().unwrap_or_default();
        let (need, strict) = (max_age(query)?, strict(query)?);
        let claims = self.verify(&asked, need)?.claims;
        if strict {
            self.service().check_in_store(&claims).await?;
        }
        let mut response = Response::new(Bytes::new());
        let session = claims.session().to_string();
        for (name, value) in [
            ("doorward-user", claims.user().as_str()),
            ("doorward-session", &session),
        ] {
            let value =
                HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Error::TokenInvalid)?;
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        Ok(exchange.done(response))
    }
}

/// What `max_age` in a query asks of a session: that its password was checked at most so many seconds
/// ago. Of two that differ neither counts.
fn max_age(query: &str) -> Result<Need, Problem> {
    let mut ages = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "max_age");
    let Some((_, age)) = ages.next() else {
        return Ok(Need::Session);
    };
    let is_number = (1..=9).contains(&age.len()) && age.bytes().all(|b| b.is_ascii_digit());
    match age.parse() {
        Ok(seconds) if is_number && ages.next().is_none() => {
            Ok(Need::FreshWithin(Duration::from_secs(seconds)))
        }
        _ => Err(Problem::BadRequest(MAX_AGE)),
    }
}

/// Whether a query has `strict=1`: that the store is asked too. Whatever else it says is refused, so that
/// nobody takes a look into memory for one into the store.
fn strict(query: &str) -> Result<bool, Problem> {
    let mut asked = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "strict");
    match (asked.next(), asked.next()) {
        (None, _) => Ok(false),
        (Some((_, value)), None) if value == "1" => Ok(true),
        _ => Err(Problem::BadRequest(STRICT)),
    }
}

/// What is said of a `strict` that cannot be read.
pub(crate) const STRICT: &str = "strict must be 1, once";
/// What is said of a `max_age` that cannot be read.
pub(crate) const MAX_AGE: &str = "max_age must be a number of seconds, once";
