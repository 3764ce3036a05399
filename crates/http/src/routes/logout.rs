//! Logout: which session a request names, and that no other site sent it.

use bytes::Bytes;
use doorward_core::{CsrfKind, Delivery, EndReason, Error};
use http::Request;

use super::{Api, Named};
use crate::asked::{Asked, InBody};
use crate::credentials::{Found, newest_refresh};
use crate::exchange::{Exchange, Step};
use crate::problem::Problem;
use crate::settings::Location;
use crate::{body, credentials, csrf};

impl Api {
    pub(super) async fn logout(&self, request: &Request<Bytes>, mut exchange: Exchange) -> Step {
        let in_json = self.token_in_body(request);
        let mut fields = self.fields(request)?;
        let in_body = fields.take(&self.settings().refresh_json_key)?;
        let body::Nothing {} = fields.rest()?;
        let asked = Asked::of_request(request).with(InBody {
            token: in_json.as_deref(),
            csrf: None,
        });
        let refresh = self.refresh_found(&asked, in_body.as_deref())?;
        let elsewhere = self.foreign_found(&asked);
        let mut foreign = self.foreign_among(&asked, refresh.as_ref())?;
        foreign.extend(self.foreign_among(&asked, elsewhere.as_ref())?);
        let used = match self.named_by_refresh(&asked, refresh).await? {
            Some(used) => Some(used),
            None => self.named_by_access(&asked)?,
        };
        // By what counts, not by what came along: a page that adds a worthless token to the
        // cookies of its visitor is still another site.
        let by_cookie = used.map(|(_, at)| at == Location::Cookie);
        let clears = by_cookie.unwrap_or(true) && self.settings().allows(Delivery::Cookie);
        if clears || by_cookie == Some(true) {
            self.csrf(request)?;
        }
        if let Some((session, _)) = used {
            let service = exchange.service.clone();
            exchange.took(service.end(session, EndReason::Logout).await)?;
        }
        self.end_foreign(&foreign, EndReason::Logout, &mut exchange)
            .await?;
        Ok(exchange.ended(clears))
    }

    pub(super) async fn named_by_refresh(
        &self,
        asked: &Asked<'_>,
        found: Option<Found<'_>>,
    ) -> Result<Option<Named>, Problem> {
        let Some(found) = found else { return Ok(None) };
        let token = match newest_refresh(&found, self.service()).await {
            Ok((token, _)) => token,
            Err(Error::StoreUnavailable) => return Err(Error::StoreUnavailable.into()),
            Err(_) => return Ok(None),
        };
        if found.at == Location::Cookie {
            self.check_submitted_for(asked, &token)?;
        }
        Ok(Some((token.session, found.at)))
    }

    pub(super) fn named_by_access(&self, asked: &Asked<'_>) -> Result<Option<Named>, Problem> {
        let Some(found) = self.places().access(asked, self.cookies()) else {
            return Ok(None);
        };
        let verify = |token: &str| self.service().verify_for_logout(token);
        let Ok((claims, _)) = credentials::newest(&found.tokens, verify) else {
            return Ok(None);
        };
        if found.at == Location::Cookie {
            let (kind, value) = (CsrfKind::Access, claims.csrf());
            csrf::check_submitted(asked, kind, value, self.settings())?;
        }
        Ok(Some((claims.session(), found.at)))
    }

    pub(crate) fn refresh_found<'a>(
        &self,
        asked: &Asked<'a>,
        in_body: Option<&'a str>,
    ) -> Result<Option<Found<'a>>, Problem> {
        credentials::refresh(asked.headers, in_body, self.cookies(), self.settings())
    }
}
