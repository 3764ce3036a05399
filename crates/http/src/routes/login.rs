//! Login, and which session it takes the place of.

use bytes::Bytes;
use doorward_core::password::Password;
use doorward_core::service::Terms;
use doorward_core::{Delivery, SessionId};
use http::Request;

use super::{Api, device};
use crate::asked::Asked;
use crate::client::Client;
use crate::exchange::{Exchange, Identified, Step};
use crate::problem::Problem;
use crate::reply::{Ask, Reply};
use crate::{body, credentials};

impl Api {
    pub(super) async fn login(
        &self,
        request: &Request<Bytes>,
        client: Client,
        exchange: Exchange,
    ) -> Step {
        self.csrf(request)?;
        let asked: body::Login = body::json(request)?;
        let delivery = self.delivery(asked.delivery)?;
        let terms = Terms {
            started_at: self.service().now(),
            remember: asked.remember,
            delivery,
            device: device(asked.device, request.headers(), client)?,
            // Where it opens: a login that fails leaves the browser the session it has.
            replaces: self.replaced_by_login(request, delivery),
        };
        let (username, password) = (typed(asked.username)?, Password::new(&asked.password)?);
        let (token, headers) = (
            asked.device_token.as_deref(),
            Asked::of_request(request).headers,
        );
        let next = Identified {
            terms,
            admitted: self.admit(&username, token, headers, client).await?,
            outdated: self.foreign_cookies(request, delivery),
            exchange,
        };
        Ok(Reply::Ask(Ask::Identify {
            username,
            password,
            next,
        }))
    }

    pub(super) fn delivery(&self, asked: Option<Delivery>) -> Result<Delivery, Problem> {
        let allowed = &self.settings().delivery;
        match asked {
            Some(asked) if !allowed.contains(&asked) => {
                Err(Problem::BadRequest("this delivery is not allowed here"))
            }
            Some(asked) => Ok(asked),
            None => Ok(allowed.first().copied().unwrap_or(Delivery::Cookie)),
        }
    }

    /// The session whose access cookie a cookie login carries: the same browser's.
    pub(super) fn replaced_by_login(
        &self,
        request: &Request<Bytes>,
        to: Delivery,
    ) -> Option<SessionId> {
        let headers = Asked::of_request(request).headers;
        let tokens = self.cookies().access.find(headers);
        let verify = |token: &str| self.service().verify_for_logout(token);
        let newest = credentials::newest(&tokens, verify).ok();
        newest
            .filter(|_| to == Delivery::Cookie)
            .map(|(claims, _)| claims.session())
    }
}

/// Names are looked up as they are typed; what no name can contain is refused before any work.
pub(super) fn typed(username: String) -> Result<String, Problem> {
    if username.chars().any(char::is_control) || username.is_empty() || username.len() > 1024 {
        return Err(Problem::BadRequest(
            "username must not be empty or have control characters",
        ));
    }
    Ok(username)
}
