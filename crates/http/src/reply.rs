//! What comes back: a finished answer, or a question that only the host can settle.

use std::sync::Arc;

use bytes::Bytes;
use doorward_core::adoption::Foreign;
use doorward_core::password::Password;
use doorward_core::reset::ResetHash;
use doorward_core::{Accounts, Caller, Error, Event, Identity, Result, UserId};
use http::Response;

use crate::exchange::{
    Adopted, Confirmed, Identified, PasswordSet, PasswordWasReset, Registered, Renewed,
};

/// A step of an exchange.
#[derive(Debug)]
pub enum Reply {
    /// It is over.
    Done(Answer),
    /// The host answers, and gets the next step.
    Ask(Ask),
}

/// A finished answer, and what happened on the way.
#[derive(Debug)]
pub struct Answer {
    /// To be sent as it is.
    pub response: Response<Bytes>,
    /// To be logged, counted, signalled.
    pub events: Vec<Event>,
}

/// A question; its `next` takes the host's answer.
#[derive(Debug)]
pub enum Ask {
    /// Whose credentials are these? Unknown users and wrong passwords are
    /// [`Error::InvalidCredentials`], after the same work.
    Identify {
        /// As it was typed.
        username: String,
        /// As it was typed.
        password: Password,
        /// Goes on.
        next: Identified,
    },
    /// Is this the user's password?
    Confirm {
        /// Whose.
        user: UserId,
        /// As it was typed.
        password: Password,
        /// Goes on.
        next: Confirmed,
    },
    /// Give the user a new password, if this is the current one. The answer is refused where a
    /// login would be, and [`Error::InvalidCredentials`] says that the current one is wrong. Of two
    /// changes at once the second must find it so.
    SetPassword {
        /// Whose.
        user: UserId,
        /// As it was typed.
        current: Password,
        /// The new one.
        new: Password,
        /// Goes on.
        next: PasswordSet,
    },
    /// Give whoever has this token a new password. The built-in accounts alone are asked.
    ResetPassword {
        /// The token, as it is kept.
        token: ResetHash,
        /// The new one.
        new: Password,
        /// Goes on.
        next: PasswordWasReset,
    },
    /// Make an account.
    Register {
        /// As it was typed.
        username: String,
        /// As it was typed.
        password: Password,
        /// Goes on.
        next: Registered,
    },
    /// Who is it that a verified refresh token of another program names, and had that program not
    /// revoked it? [`Error::InvalidCredentials`] if there is no such user, or it was.
    Adopt {
        /// The token.
        foreign: Arc<Foreign>,
        /// Goes on.
        next: Adopted,
    },
    /// What claims does this user have now? An error ends the session.
    Renew {
        /// Whose.
        user: UserId,
        /// Goes on.
        next: Renewed,
    },
}

impl Ask {
    /// Who asks, for the log of events.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        let exchange = match self {
            Ask::Identify { next, .. } => &next.exchange,
            Ask::Confirm { next, .. } => &next.exchange,
            Ask::SetPassword { next, .. } => &next.exchange,
            Ask::ResetPassword { next, .. } => &next.exchange,
            Ask::Register { next, .. } => &next.exchange,
            Ask::Adopt { next, .. } => &next.exchange,
            Ask::Renew { next, .. } => &next.exchange,
        };
        exchange.service.caller()
    }
}

/// Settles every question by the built-in accounts.
pub async fn settle(mut reply: Reply, accounts: &Accounts) -> Answer {
    loop {
        reply = match reply {
            Reply::Done(answer) => return answer,
            Reply::Ask(ask) => by_accounts(ask, accounts).await,
        }
    }
}

async fn by_accounts(ask: Ask, accounts: &Accounts) -> Reply {
    let accounts = accounts.on_behalf_of(ask.caller().clone());
    match ask {
        Ask::Identify {
            username,
            password,
            next,
        } => {
            next.settled(accounts.try_identify(&username, password).await)
                .await
        }
        Ask::Confirm {
            user,
            password,
            next,
        } => {
            next.settled(accounts.try_confirm(&user, password).await)
                .await
        }
        Ask::SetPassword {
            user,
            current,
            new,
            next,
        } => {
            next.settled(accounts.try_change_password(&user, current, new).await)
                .await
        }
        Ask::ResetPassword { token, new, next } => {
            next.answer(accounts.reset_password(token, new).await)
        }
        Ask::Register {
            username,
            password,
            next,
        } => {
            next.by_accounts(register(&username, password, &accounts).await)
                .await
        }
        Ask::Adopt { foreign, next } => {
            let identity = accounts.named(foreign.subject(), foreign.names()).await;
            next.answer(identity).await
        }
        Ask::Renew { user: _, next } => next.answer(Ok(None)).await,
    }
}

async fn register(username: &str, password: Password, accounts: &Accounts) -> Result<Identity> {
    let name = doorward_core::account::canonical(username)?;
    let user = accounts.register(&name, password).await?;
    Ok(Identity {
        user,
        username: Some(name),
        valid_from: None,
        claims: None,
        privileged: false,
    })
}

/// Shorthand for what a host answers.
pub type HostResult<T> = std::result::Result<T, Error>;
