//! Refresh tokens of another program, where the service adopts them: found, and asked about.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use doorward_core::adoption::Foreign;
use doorward_core::service::Terms;
use doorward_core::{CsrfKind, Delivery, Device, EndReason, Error};
use http::Request;

use crate::asked::{Asked, Headers};
use crate::client::Client;
use crate::credentials::Found;
use crate::csrf;
use crate::exchange::{Adopted, Exchange, Step};
use crate::problem::Problem;
use crate::reply::{Ask, Reply};
use crate::routes::{Api, device};
use crate::settings::Location;

impl Api {
    /// The newest foreign token, if no other site can have sent it: the origin was checked before.
    pub(crate) fn newest_foreign(
        &self,
        asked: &Asked<'_>,
        found: &Found<'_>,
    ) -> Result<Foreign, Problem> {
        let mut newest: Result<Foreign, Error> = Err(Error::TokenInvalid);
        for text in &found.tokens {
            let read = self.service().foreign(text);
            let better = match (&newest, &read) {
                (Ok(best), Ok(foreign)) => foreign.issued_at() > best.issued_at(),
                (Ok(_), Err(_)) => false,
                (Err(_), Ok(_)) => true,
                (Err(best), Err(_)) => *best == Error::TokenInvalid,
            };
            if better {
                newest = read;
            }
        }
        let foreign = newest?;
        if found.at == Location::Cookie {
            csrf::check_submitted(asked, CsrfKind::Refresh, foreign.csrf(), self.settings())?;
        }
        Ok(foreign)
    }

    /// A foreign token where only the other program looked for one.
    pub(crate) fn foreign_found<'a>(&self, asked: &Asked<'a>) -> Option<Found<'a>> {
        let tokens = self.in_foreign_cookie(asked.headers);
        let in_cookie = (!tokens.is_empty()).then_some(Found {
            at: Location::Cookie,
            tokens,
        });
        in_cookie.or_else(|| self.foreign_in_header(asked))
    }

    fn in_foreign_cookie<'a>(&self, headers: Headers<'a>) -> Vec<Cow<'a, str>> {
        let adopts =
            self.service().adoption().is_some() && self.settings().allows(Delivery::Cookie);
        let cookie = self.cookies().foreign.as_ref().filter(|_| adopts);
        cookie.map_or_else(Vec::new, |cookie| cookie.find(headers))
    }

    /// The other program's clients may send their refresh token as they send their access token.
    fn foreign_in_header<'a>(&self, asked: &Asked<'a>) -> Option<Found<'a>> {
        let adopts = self.service().adoption().is_some() && self.settings().allows(Delivery::Body);
        let tokens = adopts.then(|| self.places().in_header(asked.headers))?;
        let read = self.service().foreign(tokens.first()?);
        (!matches!(read, Err(Error::TokenInvalid))).then_some(Found {
            at: Location::Header,
            tokens,
        })
    }

    /// Asks the host whose it is.
    pub(crate) fn adopt(
        &self,
        foreign: Foreign,
        via: Delivery,
        request: &Request<Bytes>,
        client: Client,
        exchange: Exchange,
    ) -> Step {
        let terms = Terms {
            device: device(None, request.headers(), client)?,
            ..self.foreign_terms(via)
        };
        let foreign = Arc::new(foreign);
        let next = Adopted {
            foreign: Arc::clone(&foreign),
            terms,
            exchange,
        };
        Ok(Reply::Ask(Ask::Adopt { foreign, next }))
    }

    /// How long the old cookie was to last is not known: one that goes with the browser does no harm.
    fn foreign_terms(&self, delivery: Delivery) -> Terms {
        Terms {
            started_at: self.service().now(),
            remember: false,
            delivery,
            device: Device::default(),
            replaces: None,
        }
    }

    /// Those in cookies that came along with a login by cookie: the same browser's.
    pub(crate) fn foreign_cookies(
        &self,
        request: &Request<Bytes>,
        to: Delivery,
    ) -> Vec<(Foreign, Delivery)> {
        if self.service().adoption().is_none() || to != Delivery::Cookie {
            return Vec::new();
        }
        let headers = Asked::of_request(request).headers;
        let mut tokens = self.cookies().refresh.find(headers);
        tokens.extend(self.in_foreign_cookie(headers));
        let read = tokens.iter().map(|text| self.service().foreign(text));
        read.flatten().map(|foreign| (foreign, to)).collect()
    }

    /// Those that a logout came with.
    pub(crate) fn foreign_among(
        &self,
        asked: &Asked<'_>,
        found: Option<&Found<'_>>,
    ) -> Result<Vec<(Foreign, Delivery)>, Problem> {
        let Some(found) = found.filter(|_| self.service().adoption().is_some()) else {
            return Ok(Vec::new());
        };
        let read = found.tokens.iter().map(|text| self.service().foreign(text));
        let all: Vec<_> = read.flatten().collect();
        if found.at == Location::Cookie && !all.is_empty() {
            csrf::check(asked, self.settings())?;
        }
        Ok(all
            .into_iter()
            .map(|foreign| (foreign, found.via()))
            .collect())
    }

    /// Their sessions are over, and those that have none never get one.
    pub(crate) async fn end_foreign(
        &self,
        all: &[(Foreign, Delivery)],
        reason: EndReason,
        exchange: &mut Exchange,
    ) -> Result<(), Error> {
        for (foreign, via) in all {
            let (terms, service) = (self.foreign_terms(*via), exchange.service.clone());
            let ended = service.end_foreign(foreign, &terms, reason);
            exchange.took(ended.await)?;
        }
        Ok(())
    }
}
