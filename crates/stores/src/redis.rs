//! Redis 7 or later (or Valkey), alone, as a cluster, or with sentinels.
//!
//! Guarantees: those of the contract, as far as Redis keeps what it acknowledged. What ends a session waits
//! for a replica where there is one; logins and rotations do not, and may be lost with a server. See
//! `docs/redis.md`. Each script touches the keys of one tag: all of a user and of the sessions of that user
//! lie together, and nothing is decided on there but whether what was read still holds.
//!
//! Left out: accounts that are added together are not added in one transaction; and what [`SessionStore::open`] ends
//! of another user ends after it opened, though surely.

mod accounts;
mod address;
mod base;
mod batches;
mod buckets;
mod connection;
mod hearing;
mod keys;
mod line;
mod log;
mod outbox;
mod packed;
mod purge;
mod records;
mod rows;
mod scripts;
mod servers;
mod sessions;
mod store;
mod tags;
mod topology;
mod transfer;
mod watch;

use std::sync::{Arc, Weak};

use doorward_core::Policy;
use doorward_core::error::StoreError;
use doorward_core::revocation::Ended;
use doorward_core::store::StoreResult;
use futures_channel::oneshot;
use redis::{Cmd, Value};

pub use self::address::Address;
use self::base::Base;
use self::line::{Caller, Waiting};
use self::servers::Ask;
use self::tags::Tag;
use crate::OpenError;
use crate::remote::Remote;
use crate::spread::{Reload, Spread};

/// A store in a Redis.
pub struct RedisStore {
    base: Arc<Base>,
    remote: Arc<Remote>,
}

impl RedisStore {
    /// Opens a store; nothing needs to be made. `policy` says when rows may be purged.
    ///
    /// # Errors
    /// The servers cannot be reached, or would throw rows away when their memory is full.
    pub fn open(address: &Address, policy: Policy) -> Result<Self, OpenError> {
        let refused = |error: StoreError| OpenError::Redis {
            address: address.to_string(),
            why: error.0,
        };
        let started = Remote::start().map_err(|error| StoreError(error.to_string()));
        let remote = Arc::new(started.map_err(refused)?);
        let base = Arc::new_cyclic(|base: &Weak<Base>| {
            let reload = reload(Arc::downgrade(&remote), base.clone());
            Base::new(address, policy, Spread::new(&address.to_string(), reload))
        });
        let checked = Arc::clone(&base);
        remote
            .wait(async move { checked.check().await })
            .map_err(refused)?;
        remote.background(hearing::for_ever(Arc::downgrade(&base)));
        remote.background(Base::watch_for_ever(Arc::downgrade(&base)));
        remote.background(Base::sweep_for_ever(Arc::downgrade(&base)));
        Ok(RedisStore { base, remote })
    }

    /// The answer to a command about one tag, which is sent together with what others ask of that server.
    async fn ask(&self, tag: Tag, command: Cmd, repeatable: bool) -> StoreResult<Value> {
        // Before anything is locked: in a child of a fork nobody would unlock it.
        let turn = self.remote.entrance().turn()?;
        let Some(lane) = self.base.servers.known(tag) else {
            drop(turn);
            let ask = Ask::of(tag, command, repeatable);
            return self.run(|base| async move { base.ask(ask).await }).await;
        };
        let (reply, answer) = oneshot::channel();
        let caller = Caller {
            tag,
            repeatable,
            until: servers::patience(),
            reply,
            turn,
        };
        if lane.line.join(Waiting { command, caller }) {
            let servers = Arc::clone(&self.base.servers);
            self.remote.background(line::serve(servers, lane));
        }
        answer.await.map_err(|_| gone())?
    }

    /// Runs `work` in the store's thread.
    async fn run<T, W>(&self, work: impl FnOnce(Arc<Base>) -> W) -> StoreResult<T>
    where
        T: Send + 'static,
        W: Future<Output = StoreResult<T>> + Send + 'static,
    {
        self.remote.run(work(Arc::clone(&self.base))).await
    }
}

fn gone() -> StoreError {
    StoreError("the store is closed".into())
}

/// Reads the log of ends from its beginning, for whoever waits with his thread.
fn reload(remote: Weak<Remote>, base: Weak<Base>) -> Reload {
    const PAGE: u32 = 10_000;
    Box::new(move |entry: &mut dyn FnMut(Ended)| {
        let (remote, base) = (remote.upgrade().ok_or_else(gone)?, base.clone());
        let mut cursor = 0;
        loop {
            let base = base.upgrade().ok_or_else(gone)?;
            let page = remote.wait(async move { base.ended_after(cursor, PAGE).await })?;
            if page.0.is_empty() {
                return Ok(());
            }
            page.0.into_iter().for_each(&mut *entry);
            cursor = page.1;
        }
    })
}
