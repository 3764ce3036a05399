//! The move itself, and the cut-over.
//!
//! One store is the truth at each moment. It is copied while it serves; then it refuses every write,
//! what changed last goes over, both are compared, and the other opens. Nothing is ever written to
//! both, so nothing can come apart; the price is the pause, in which logins and refreshes are 503 and
//! access tokens verify as ever. Stopped at any moment, the same command goes on; until the other has
//! opened, [`Switch::take_back`] gives it up. Of several commands at once the last one to begin goes on: each
//! marks the second store as its own, and looks at that mark before it writes.

use std::sync::Arc;

use super::mark::{Mark, MoveId, announce, is_signed, sign};
use super::pass::{Pass, Sum, Watch};
use super::{Kind, MovableStore};
use crate::env::Env;
use crate::error::StoreError;
use crate::event::{Actor, Event, EventName, Record, Trail};

/// Why two stores do not fit each other, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Another pair than these was meant, or they are somewhere else in their move.
    #[error("{0}")]
    NotThese(&'static str),
    /// One of them did not answer, or they differ.
    #[error("{0}")]
    Store(StoreError),
}

impl From<StoreError> for MoveError {
    fn from(error: StoreError) -> Self {
        MoveError::Store(error)
    }
}

type Result<T = ()> = std::result::Result<T, MoveError>;

/// A move from one store to another.
pub struct Switch<'a> {
    from: &'a dyn MovableStore,
    to: &'a dyn MovableStore,
    env: Arc<dyn Env>,
    id: MoveId,
    pass: Pass<'a>,
}

impl<'a> Switch<'a> {
    /// Begins a move, or goes on with the one that is under way between the two. From now on the store
    /// that is to take over refuses writes of others.
    ///
    /// # Errors
    /// [`MoveError::NotThese`].
    pub async fn begin(
        from: &'a dyn MovableStore,
        to: &'a dyn MovableStore,
        env: Arc<dyn Env>,
    ) -> Result<Switch<'a>> {
        let (there, here) = (Mark::of(to).await?, Mark::of(from).await?);
        let fit = match (here, there) {
            (None, None) => is_empty(to).await?,
            // The last is the way back: it was left for this one.
            (None | Some(Mark::Leaving(_)), Some(Mark::Filling(id)))
            | (None, Some(Mark::Left(id))) => is_signed(from, id).await?,
            // It had opened when the last command was stopped.
            (Some(Mark::Leaving(id)), None) => is_signed(to, id).await?,
            _ => false,
        };
        if !fit {
            return Err(MoveError::NotThese(why(here, there)));
        }
        let id = take(from, to, &*env).await?;
        if let Some(Mark::Left(_)) = Mark::of(from).await? {
            // Another command finished between the look and the mark.
            to.leave(None).await?;
            return Err(MoveError::NotThese(why(Some(Mark::Left(id)), None)));
        }
        Ok(Switch {
            from,
            to,
            env,
            id,
            pass: Pass::new(from, to, id),
        })
    }

    /// Takes over what is there now; both may be used meanwhile.
    ///
    /// # Errors
    /// One of them did not answer: begin again.
    pub async fn copy(&mut self, watch: &mut Watch<'_>) -> Result {
        Ok(self.pass.run(watch).await?)
    }

    /// Tells whoever serves from the first store that it is about to be left. They know a second later.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn announce(&self) -> Result {
        Ok(announce(self.from, true).await?)
    }

    /// The cut-over: how many rows of each kind are in both.
    ///
    /// # Errors
    /// One of them did not answer, or they differ: the first store stays as it is, and takes no writes.
    /// Go on by beginning again, or give it up by [`Switch::take_back`].
    pub async fn finish(&mut self, watch: &mut Watch<'_>) -> Result<Vec<(Kind, Sum)>> {
        self.pass.still_ours().await?;
        let leaving = Mark::Leaving(self.id).to_string();
        self.from.leave(Some(&leaving)).await?;
        self.pass.run(watch).await?;
        let sums = self.pass.verify(watch).await?;
        self.pass.still_ours().await?;
        sign(self.to, self.id).await?;
        announce(self.to, false).await?;
        self.to.leave(None).await?;
        let restored_at = self.from.restored_at().await?;
        self.to.set_restored(restored_at, &Trail::default()).await?;
        let left = Mark::Left(self.id).to_string();
        self.from.leave(Some(&left)).await?;
        announce(self.from, false).await?;
        self.to.append(vec![self.record()]).await?;
        Ok(sums)
    }

    /// Gives up a cut-over that was not finished: the first store serves on. The copy stays, and can be
    /// gone on with. Without the second store, where that cannot be reached any more. False: it was finished, so that
    /// the way back is a move of its own.
    ///
    /// # Errors
    /// [`MoveError::NotThese`]: the first store was not left.
    pub async fn take_back(
        from: &dyn MovableStore,
        to: Option<&dyn MovableStore>,
        env: &dyn Env,
    ) -> Result<bool> {
        match Mark::of(from).await? {
            Some(Mark::Leaving(id)) => {
                if let Some(to) = to
                    && takes_part(from, to, id).await?
                {
                    // It may have opened, and whoever is about to finish must not.
                    take(from, to, env).await?;
                }
                announce(from, false).await?;
                from.leave(None).await?;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(MoveError::NotThese(
                "there is nothing to undo: the first was not left, and serves",
            )),
        }
    }

    fn record(&self) -> Record {
        Record {
            at: self.env.now(),
            event: Event::new(EventName::StoreMoved),
            actor: Actor::Operator,
            network: None,
            device: None,
            agent: None,
        }
    }
}

/// Marks the second store as being filled by this command. Whatever other one goes on with the same two ends
/// before it writes again, since the mark is no longer its own.
async fn take(from: &dyn MovableStore, to: &dyn MovableStore, env: &dyn Env) -> Result<MoveId> {
    let id = MoveId::random(env);
    sign(from, id).await?;
    to.leave(Some(&Mark::Filling(id).to_string())).await?;
    Ok(id)
}

/// Whether the second store is the one that the first is being left for.
async fn takes_part(
    from: &dyn MovableStore,
    to: &dyn MovableStore,
    leaving: MoveId,
) -> Result<bool> {
    Ok(match Mark::of(to).await? {
        Some(Mark::Filling(id)) => is_signed(from, id).await?,
        None => is_signed(to, leaving).await?,
        Some(_) => false,
    })
}

/// Whether a store holds nothing that could get lost.
async fn is_empty(store: &dyn MovableStore) -> Result<bool> {
    let sessions = store.sessions(None, 1).await?;
    let accounts = store.accounts(None, 1).await?;
    Ok(sessions.is_empty() && accounts.is_empty())
}

fn why(here: Option<Mark>, there: Option<Mark>) -> &'static str {
    match (here, there) {
        (Some(Mark::Other), _) | (_, Some(Mark::Other)) => {
            "one of them bears a mark of a later version"
        }
        (Some(Mark::Filling(_)), _) => {
            "the first is being filled itself: it is not what serves now"
        }
        (Some(Mark::Left(_)), _) => {
            "the first was left already: what serves now is the store that it was left for"
        }
        (_, None) => "the second has sessions or accounts of its own; name an empty one",
        _ => "the second takes part in a move with another store than the first",
    }
}
