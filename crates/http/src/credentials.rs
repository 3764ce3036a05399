//! Where a token is found, and which of several counts.

use doorward_core::access_token::Claims;
use doorward_core::{Delivery, Error, Service};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::cookies::Cookies;
use crate::problem::Problem;
use crate::settings::Settings;

/// Tokens of one kind that a request carries, and how they travelled.
pub(crate) struct Found<'a> {
    pub(crate) via: Delivery,
    pub(crate) tokens: Vec<&'a str>,
}

/// Access tokens in the first configured location that holds one.
pub(crate) fn access<'a>(
    headers: &'a HeaderMap,
    cookies: &'a Cookies,
    settings: &Settings,
) -> Option<Found<'a>> {
    settings.delivery.iter().find_map(|via| {
        let tokens = match via {
            Delivery::Cookie => cookies.access.find(headers),
            Delivery::Body => bearer(headers),
        };
        (!tokens.is_empty()).then_some(Found { via: *via, tokens })
    })
}

/// The refresh token: in the body or in cookies, not in both.
pub(crate) fn refresh<'a>(
    headers: &'a HeaderMap,
    body: Option<&'a str>,
    cookies: &'a Cookies,
    settings: &Settings,
) -> Result<Option<Found<'a>>, Problem> {
    let mut in_cookies = cookies.refresh.find(headers);
    if !settings.allows(Delivery::Cookie) {
        in_cookies.clear();
    }
    match body {
        Some(_) if !in_cookies.is_empty() => Err(Problem::BadRequest(
            "a refresh token in the body and another in a cookie",
        )),
        Some(token) if settings.allows(Delivery::Body) => Ok(Some(Found {
            via: Delivery::Body,
            tokens: vec![token],
        })),
        Some(_) => Err(Problem::BadRequest("refresh tokens travel by cookie here")),
        None if in_cookies.is_empty() => Ok(None),
        None => Ok(Some(Found {
            via: Delivery::Cookie,
            tokens: in_cookies,
        })),
    }
}

/// Credentials of the Bearer scheme (RFC 6750, section 2.1), its name in any case.
fn bearer(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(AUTHORIZATION).iter();
    let of_bearer = lines.filter_map(|line| {
        let line = line.as_bytes().trim_ascii();
        let (scheme, token) = line.split_at_checked("bearer ".len())?;
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
        is_bearer.then(|| std::str::from_utf8(token.trim_ascii()).unwrap_or("?"))
    });
    let tokens: Vec<_> = of_bearer.collect();
    // Two of them are an attempt to be read in two ways: none is valid.
    if tokens.len() > 1 { vec![""] } else { tokens }
}

/// The newest token that `verify` accepts; if none, why, in the words that help most.
pub(crate) fn newest(
    tokens: &[&str],
    verify: impl Fn(&str) -> Result<Claims, Error>,
) -> Result<Claims, Error> {
    let mut best: Result<Claims, Error> = Err(Error::TokenInvalid);
    for token in tokens {
        let claims = verify(token);
        let better = match (&best, &claims) {
            (Ok(best), Ok(claims)) => claims.issued_at() > best.issued_at(),
            (Ok(_), Err(_)) => false,
            (Err(_), Ok(_)) => true,
            (Err(best), Err(error)) => rank(error) > rank(best),
        };
        if better {
            best = claims;
        }
    }
    best
}

fn rank(error: &Error) -> u8 {
    match error {
        Error::StoreUnavailable => 3,
        Error::SessionEnded(_) => 2,
        Error::TokenExpired => 1,
        _ => 0,
    }
}

/// The newest refresh token whose MAC is good.
pub(crate) async fn newest_refresh<'a>(
    found: &Found<'a>,
    service: &Service,
) -> Result<&'a str, Error> {
    let mut best = None;
    for text in &found.tokens {
        match service.refresh_token(text).await {
            Ok(token) => {
                let age = (token.issued_at, token.generation);
                if best.is_none_or(|(best, _)| age > best) {
                    best = Some((age, *text));
                }
            }
            Err(Error::StoreUnavailable) => return Err(Error::StoreUnavailable),
            Err(_) => {}
        }
    }
    best.map(|(_, text)| text).ok_or(Error::TokenInvalid)
}
