//! A user's own sessions and history.

use bytes::Bytes;
use doorward_core::error::Result as Decided;
use doorward_core::{EndReason, Error, Sensitive, Session, SessionId};
use http::Request;
use serde_json::json;

use super::{Api, last_segment};
use crate::answers::{SessionView, UserView, happened, listed, rfc3339};
use crate::body;
use crate::exchange::{Exchange, Step};
use crate::problem::Problem;
use crate::settings::Location;

impl Api {
    pub(super) async fn session(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let row = self.live_row(claims.session()).await?;
        let answer = json!({
            "user": UserView { id: claims.user(), username: None },
            "session": SessionView::of(&row, self.service()),
            "access_expires_at": rfc3339(claims.expires_at()),
            "server_time": rfc3339(self.service().now()),
        });
        Ok(exchange.json(200, &answer))
    }

    pub(super) async fn live_row(&self, id: SessionId) -> Decided<Session> {
        let row = self.service().session(id).await?;
        match row.over(self.service().now(), self.service().policy()) {
            Some(reason) => Err(Error::SessionEnded(reason)),
            None => Ok(row),
        }
    }

    pub(super) async fn sessions(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let rows = self.service().sessions_of(claims.user()).await?;
        let sessions: Vec<_> = rows
            .iter()
            .map(|row| listed(row, claims.session(), self.service()))
            .collect();
        Ok(exchange.json(200, &json!({ "sessions": sessions })))
    }

    pub(super) async fn end_session(
        &self,
        request: &Request<Bytes>,
        mut exchange: Exchange,
    ) -> Step {
        let (claims, at) = self.session_of(request)?;
        let body::Nothing {} = self.fields(request)?.rest()?;
        let id = last_segment(request).parse().map_err(|_| Error::NotFound)?;
        // To end this one is to log out.
        if id != claims.session() {
            self.check_may(Sensitive::EndSessions, &claims)?;
        }
        let ended = exchange.service.end_own(claims.user(), id).await;
        exchange.took(ended)?;
        Ok(exchange.ended(at == Location::Cookie && id == claims.session()))
    }

    pub(super) async fn end_sessions(
        &self,
        request: &Request<Bytes>,
        mut exchange: Exchange,
    ) -> Step {
        let (claims, at) = self.session_of(request)?;
        self.check_may(Sensitive::EndSessions, &claims)?;
        let body::Nothing {} = self.fields(request)?.rest()?;
        let query = request.uri().query().unwrap_or_default();
        let except = match self.places().rest_of(query).as_str() {
            "" => None,
            "except=current" => Some(claims.session()),
            _ => return Err(Problem::BadRequest(QUERY)),
        };
        let ended = exchange
            .service
            .end_user(claims.user(), EndReason::EndedByUser, except)
            .await;
        let ended = exchange.took(ended)?;
        let clear = at == Location::Cookie && except.is_none();
        Ok(
            exchange.json_and(200, &json!({ "ended": ended }), |api, response| {
                if clear {
                    api.cookies().clear(response.headers_mut());
                }
            }),
        )
    }

    /// What happened to the user, the last first.
    pub(super) async fn events(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        let (claims, _) = self.session_of(request)?;
        let query = request.uri().query().unwrap_or_default();
        let page = Page::parse(&self.places().rest_of(query))?;
        let (user, limit) = (claims.user(), page.limit);
        let entries = self.service().history(user, page.before, limit).await?;
        let events = entries.iter();
        let events: Vec<_> = events
            .map(|entry| happened(&entry.record, claims.session()))
            .collect();
        let mut answer = json!({ "events": events });
        let last = entries.last().filter(|_| entries.len() >= limit as usize);
        if let Some(last) = last {
            answer["next"] = format!("{:x}", last.place).into();
        }
        Ok(exchange.json(200, &answer))
    }
}

/// What is said of another query to [`Endpoint::EndSessions`].
pub(crate) const QUERY: &str = "the query may be except=current only";

/// A page of [`Endpoint::Events`].
struct Page {
    before: Option<u64>,
    limit: u32,
}

impl Page {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut page = Page {
            before: None,
            limit: 50,
        };
        let bad = || Problem::BadRequest(PAGES);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').ok_or_else(bad)? {
                ("before", place) if place.len() <= 16 => {
                    page.before = Some(u64::from_str_radix(place, 16).map_err(|_| bad())?);
                }
                ("limit", limit) => page.limit = limit.parse().map_err(|_| bad())?,
                _ => return Err(bad()),
            }
        }
        if (1..=100).contains(&page.limit) {
            Ok(page)
        } else {
            Err(bad())
        }
    }
}

/// What is said of another query to [`Endpoint::Events`].
pub(crate) const PAGES: &str =
    "the query may be limit, from 1 to 100, and before, with the value of next";
