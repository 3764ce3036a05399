//! What takes a password within a session or without one: reauthentication, a change, a reset, registration.

use bytes::Bytes;
use doorward_core::password::Password;
use doorward_core::reset::ResetHash;
use doorward_core::service::Terms;
use doorward_core::{Delivery, Device, Error, Sensitive, Session, SessionId};
use http::Request;

use super::login::typed;
use super::{Api, device};
use crate::body;
use crate::client::Client;
use crate::exchange::{Confirmed, Exchange, PasswordSet, PasswordWasReset, Registered, Step};
use crate::problem::Problem;
use crate::reply::{Ask, Reply};

impl Api {
    pub(super) async fn reauthenticate(
        &self,
        request: &Request<Bytes>,
        exchange: Exchange,
    ) -> Step {
        let (claims, _) = self.session_of(request)?;
        let asked: body::Reauthenticate = self.fields(request)?.rest()?;
        let (user, password) = (claims.user().clone(), Password::new(&asked.password)?);
        let row = self.row_to_answer(claims.session(), request).await?;
        Ok(Reply::Ask(Ask::Confirm {
            user,
            password,
            next: Confirmed {
                user: row.user,
                session: row.id,
                admitted: self.admit_check(row.id).await?,
                exchange,
            },
        }))
    }

    /// The row of a session that is about to be answered in its own delivery, which may set
    /// cookies even if the credential was none.
    pub(super) async fn row_to_answer(
        &self,
        session: SessionId,
        request: &Request<Bytes>,
    ) -> Result<Session, Problem> {
        let row = self.live_row(session).await?;
        if row.delivery == Delivery::Cookie {
            self.csrf(request)?;
        }
        Ok(row)
    }

    pub(super) async fn change_password(
        &self,
        request: &Request<Bytes>,
        client: Client,
        exchange: Exchange,
    ) -> Step {
        let (claims, _) = self.session_of(request)?;
        self.check_may(Sensitive::ChangePassword, &claims)?;
        let asked: body::ChangePassword = self.fields(request)?.rest()?;
        let (current, new) = (Password::new(&asked.current)?, Password::new(&asked.new)?);
        let row = self.row_to_answer(claims.session(), request).await?;
        let terms = Terms {
            started_at: self.service().now(),
            remember: row.remember,
            delivery: row.delivery,
            device: Device {
                name: row.device.name,
                ..device(None, request.headers(), client)?
            },
            replaces: None,
        };
        Ok(Reply::Ask(Ask::SetPassword {
            user: claims.user().clone(),
            current,
            new,
            next: PasswordSet {
                terms,
                privileged: row.privileged,
                admitted: self.admit_check(row.id).await?,
                user: row.user,
                session: row.id,
                exchange,
            },
        }))
    }

    pub(super) fn reset_password(&self, request: &Request<Bytes>, exchange: Exchange) -> Step {
        self.csrf(request)?;
        let asked: body::ResetPassword = body::json(request)?;
        Ok(Reply::Ask(Ask::ResetPassword {
            token: ResetHash::of(&asked.token).ok_or(Error::ResetTokenInvalid)?,
            new: Password::new(&asked.new)?,
            next: PasswordWasReset { exchange },
        }))
    }

    pub(super) async fn register(
        &self,
        request: &Request<Bytes>,
        client: Client,
        exchange: Exchange,
    ) -> Step {
        if !self.settings().register {
            return Err(Error::NotFound.into());
        }
        self.csrf(request)?;
        let asked: body::Register = body::json(request)?;
        let (username, password) = (typed(asked.username)?, Password::new(&asked.password)?);
        Ok(Reply::Ask(Ask::Register {
            username,
            password,
            next: Registered {
                admitted: self.admit_registration(client).await?,
                exchange,
            },
        }))
    }
}
