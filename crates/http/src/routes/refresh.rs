//! Refresh, of our tokens and of those that are adopted.

use bytes::Bytes;
use doorward_core::Error;
use doorward_core::service::Refreshed;
use http::Request;

use super::Api;
use crate::asked::Asked;
use crate::body;
use crate::body::Fields;
use crate::client::Client;
use crate::exchange::{Exchange, Handed, Renewed, Step};
use crate::problem::Problem;
use crate::reply::{Ask, Reply};

impl Api {
    pub(super) async fn refresh(
        &self,
        request: &Request<Bytes>,
        client: Client,
        mut exchange: Exchange,
    ) -> Step {
        let mut fields = Fields::of(request)?;
        let in_body = fields.take(&self.settings().refresh_json_key)?;
        let body::Nothing {} = fields.rest()?;
        let asked = Asked::of_request(request);
        let found = self.refresh_found(&asked, in_body.as_deref())?;
        let found = found.or_else(|| self.foreign_found(&asked));
        let found = found.ok_or(Error::TokenMissing)?;
        let service = exchange.service.clone();
        let outcome = match self.refresh_token(&asked, &found).await {
            Ok(token) => service.refresh(token, found.via()).await,
            Err(Problem::Engine(Error::TokenInvalid)) => {
                let foreign = self.newest_foreign(&asked, &found)?;
                match service.refresh_adopted(&foreign, found.via()).await {
                    Some(outcome) => outcome,
                    None => return self.adopt(foreign, found.via(), request, client, exchange),
                }
            }
            Err(problem) => return Err(problem),
        };
        match exchange.took(outcome) {
            Ok(refreshed) => self.refreshed(refreshed, exchange),
            Err(error) => Ok(exchange.refuse(&error.into())),
        }
    }

    pub(super) fn refreshed(&self, refreshed: Refreshed, exchange: Exchange) -> Step {
        if self.settings().renew {
            let user = refreshed.session.user.clone();
            return Ok(Reply::Ask(Ask::Renew {
                user,
                next: Renewed {
                    refreshed,
                    exchange,
                },
            }));
        }
        let grant = self.service().grant(refreshed)?;
        Ok(exchange.granted(&grant, None, Handed::Both))
    }
}
