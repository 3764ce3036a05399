//! Where a token is found, and which of several counts.

use std::borrow::Cow;

use doorward_core::access_token::Claims;
use doorward_core::refresh_token::RefreshToken;
use doorward_core::{Delivery, Error, Service};

use crate::asked::{Asked, Headers};
use crate::cookies::Cookies;
use crate::problem::Problem;
use crate::settings::{Location, Settings};

/// Where access tokens are looked for, made once.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    locations: Vec<Location>,
    /// In lower case.
    header: String,
    scheme: String,
    query: String,
    prefix: String,
}

/// Tokens of one kind that a request carries, and where they were.
pub(crate) struct Found<'a> {
    pub(crate) at: Location,
    pub(crate) tokens: Vec<Cow<'a, str>>,
}

impl Found<'_> {
    /// How such a token travels.
    pub(crate) fn via(&self) -> Delivery {
        via(self.at)
    }
}

/// A cookie comes by itself; whatever else a client sends it was given in a body.
pub(crate) fn via(at: Location) -> Delivery {
    match at {
        Location::Cookie => Delivery::Cookie,
        Location::Header | Location::QueryString | Location::Json => Delivery::Body,
    }
}

impl Places {
    pub(crate) fn new(settings: &Settings) -> Self {
        Places {
            locations: settings.locations(),
            header: settings.header_name.to_ascii_lowercase(),
            scheme: settings.header_type.clone(),
            query: settings.query_name.clone(),
            prefix: settings.query_value_prefix.clone(),
        }
    }

    pub(crate) fn header(&self) -> &str {
        &self.header
    }

    pub(crate) fn include(&self, location: Location) -> bool {
        self.locations.contains(&location)
    }

    /// Access tokens in the first location that holds one: what else came along never counts.
    pub(crate) fn access<'a>(&self, asked: &Asked<'a>, cookies: &Cookies) -> Option<Found<'a>> {
        self.locations.iter().find_map(|at| {
            let tokens = match at {
                Location::Cookie => cookies.access.find(asked.headers),
                Location::Header => self.in_header(asked.headers),
                Location::QueryString => self.in_query(asked.query.unwrap_or_default()),
                Location::Json => in_body(asked),
            };
            (!tokens.is_empty()).then_some(Found { at: *at, tokens })
        })
    }

    /// Credentials of our scheme (RFC 6750, section 2.1), its name in any case.
    pub(crate) fn in_header<'a>(&self, headers: Headers<'a>) -> Vec<Cow<'a, str>> {
        let lines = headers.all(&self.header);
        let ours = lines.filter_map(|line| self.credentials(line.trim_ascii()));
        one_or_none_valid(ours.map(text))
    }

    fn credentials<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        if self.scheme.is_empty() {
            return Some(line).filter(|line| !line.is_empty());
        }
        let (scheme, rest) = line.split_at_checked(self.scheme.len())?;
        let is_ours = scheme.eq_ignore_ascii_case(self.scheme.as_bytes());
        let token = rest.strip_prefix(b" ").filter(|_| is_ours)?;
        Some(token.trim_ascii())
    }

    fn in_query<'a>(&self, query: &'a str) -> Vec<Cow<'a, str>> {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let ours = pairs.filter(|(name, _)| *name == self.query);
        let tokens = ours.filter_map(|(_, value)| self.without_prefix(value));
        one_or_none_valid(tokens.filter(|token| !token.is_empty()))
    }

    /// A query string less its token.
    pub(crate) fn rest_of(&self, query: &str) -> String {
        let is_token = |pair: &&str| {
            let mut pairs = form_urlencoded::parse(pair.as_bytes());
            self.include(Location::QueryString) && pairs.any(|(name, _)| *name == self.query)
        };
        let rest: Vec<_> = query.split('&').filter(|pair| !is_token(pair)).collect();
        rest.join("&")
    }

    fn without_prefix<'a>(&self, value: Cow<'a, str>) -> Option<Cow<'a, str>> {
        match value {
            Cow::Borrowed(value) => value.strip_prefix(&*self.prefix).map(Cow::Borrowed),
            Cow::Owned(value) => value
                .strip_prefix(&*self.prefix)
                .map(|token| Cow::Owned(token.to_owned())),
        }
    }
}

fn in_body<'a>(asked: &Asked<'a>) -> Vec<Cow<'a, str>> {
    let token = asked.body.token.filter(|token| !token.is_empty());
    token.into_iter().map(Cow::Borrowed).collect()
}

/// Two in one place are an attempt to be read in two ways: none is valid.
fn one_or_none_valid<'a>(tokens: impl Iterator<Item = Cow<'a, str>>) -> Vec<Cow<'a, str>> {
    let tokens: Vec<_> = tokens.collect();
    if tokens.len() > 1 {
        vec!["".into()]
    } else {
        tokens
    }
}

/// What is no text is no token either.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).unwrap_or("?").into()
}

/// The refresh token: in the body or in cookies, not in both.
pub(crate) fn refresh<'a>(
    headers: Headers<'a>,
    body: Option<&'a str>,
    cookies: &Cookies,
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
            at: Location::Json,
            tokens: vec![token.into()],
        })),
        Some(_) => Err(Problem::BadRequest("refresh tokens travel by cookie here")),
        None if in_cookies.is_empty() => Ok(None),
        None => Ok(Some(Found {
            at: Location::Cookie,
            tokens: in_cookies,
        })),
    }
}

/// The newest token that `verify` accepts, and where it stands; if none, why, in the words that
/// help most.
pub(crate) fn newest(
    tokens: &[Cow<'_, str>],
    verify: impl Fn(&str) -> Result<Claims, Error>,
) -> Result<(Claims, usize), Error> {
    let mut best: Result<(Claims, usize), Error> = Err(Error::TokenInvalid);
    for (at, token) in tokens.iter().enumerate() {
        let claims = verify(token);
        let better = match (&best, &claims) {
            (Ok((best, _)), Ok(claims)) => claims.issued_at() > best.issued_at(),
            (Ok(_), Err(_)) => false,
            (Err(_), Ok(_)) => true,
            (Err(best), Err(error)) => rank(error) > rank(best),
        };
        if better {
            best = claims.map(|claims| (claims, at));
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

/// The newest refresh token whose MAC is good, and its text.
pub(crate) async fn newest_refresh<'a>(
    found: &'a Found<'_>,
    service: &Service,
) -> Result<(RefreshToken, &'a str), Error> {
    let mut best: Option<(RefreshToken, &str)> = None;
    for text in &found.tokens {
        match service.refresh_token(text).await {
            Ok(token) => {
                let age = |token: &RefreshToken| (token.issued_at, token.generation);
                if best
                    .as_ref()
                    .is_none_or(|(best, _)| age(&token) > age(best))
                {
                    best = Some((token, text));
                }
            }
            Err(Error::StoreUnavailable) => return Err(Error::StoreUnavailable),
            Err(_) => {}
        }
    }
    best.ok_or(Error::TokenInvalid)
}
