//! Ending everybody's sessions, for operators. What ends is durable and told to every process, as
//! each [`SessionStore::end_user`] promises.
//!
//! Every session that there was when it began is over when it returns, and no login survives that was
//! checked before its user's were ended. Left out: whoever logs in meanwhile may stay or be out. If it
//! fails half-way, those of some users have ended; it can be begun again.

use std::collections::HashSet;

use crate::env::Env;
use crate::id::UserId;
use crate::session::EndReason;
use crate::store::{SessionStore, StoreResult};

const PAGE: u32 = 1000;

/// Ends the sessions of all users; returns how many.
///
/// # Errors
/// Those of the store.
pub async fn end_all(
    store: &(impl SessionStore + ?Sized),
    env: &dyn Env,
    reason: EndReason,
) -> StoreResult<usize> {
    let (mut ended, mut after) = (0, None);
    loop {
        // Ids are ordered by time: what is opened meanwhile comes later, and costs its opener a
        // password check, so this arrives at the end.
        let page = store.sessions(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(ended);
        };
        after = Some(last.id);
        let users: HashSet<UserId> = page.into_iter().map(|session| session.user).collect();
        for user in users {
            let gone = store.end_user(&user, env.now(), reason, None).await?;
            ended += gone.len();
        }
    }
}
