//! One pass over a store: everything goes over that the other does not have yet.
//!
//! It may be run while both are served or read, stopped at any moment and run again: what is there is
//! looked at, not written. Of a store that takes no writes any more a pass leaves an exact copy, and
//! says so by comparing every row.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::mark::{Mark, MoveId, is_own};
use super::{Bookmark, Kind, MovableStore, Rows};
use crate::error::StoreError;
use crate::event::{Entry, EventName, Filter};
use crate::id::SessionId;
use crate::keys::KeyId;
use crate::session::Session;
use crate::store::StoreResult;

/// Who looks on: called after each page with how many rows of it were looked at, and written.
pub type Watch<'a> = dyn FnMut(Kind, u64, u64) + Send + 'a;

/// What goes over as often as it changed at all, since nothing tells what did.
const WHOLE: [Kind; 7] = [
    Kind::Accounts,
    Kind::Resets,
    Kind::ValidFrom,
    Kind::Adopted,
    Kind::Buckets,
    Kind::Outbox,
    Kind::Deliveries,
];

/// How many rows go over at a time.
const PAGE: u32 = 1_000;

/// From one store to another.
pub struct Pass<'a> {
    from: &'a dyn MovableStore,
    to: &'a dyn MovableStore,
    /// By which the other store is marked for as long as nobody else fills it.
    id: MoveId,
    /// Keys that have gone over.
    keys: HashSet<KeyId>,
    /// Where the log of ends goes on.
    ends: Option<Bookmark>,
    /// The sessions that the last run found.
    sessions: Sum,
}

/// How many rows there are, and a sum over what they hold, in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    sum: u128,
}

impl<'a> Pass<'a> {
    /// Nothing has gone over yet, as far as this knows.
    #[must_use]
    pub fn new(from: &'a dyn MovableStore, to: &'a dyn MovableStore, id: MoveId) -> Self {
        Pass {
            from,
            to,
            id,
            keys: HashSet::new(),
            ends: None,
            sessions: Sum::default(),
        }
    }

    /// Takes over what the other store does not have.
    ///
    /// # Errors
    /// One of the two did not answer: run it again.
    pub async fn run(&mut self, watch: &mut Watch<'_>) -> StoreResult<()> {
        self.keys(watch).await?;
        for kind in WHOLE {
            if kind != Kind::Outbox && kind != Kind::Deliveries {
                self.whole(kind, watch).await?;
            }
        }
        self.sessions(watch).await?;
        self.ends(watch).await?;
        self.events(watch).await?;
        // After the log that they refer to.
        self.whole(Kind::Outbox, watch).await?;
        self.whole(Kind::Deliveries, watch).await
    }

    /// Compares the two stores, row by row, after a [`Pass::run`], and removes sessions that the first
    /// does not have any more. The first must take no writes since before that.
    ///
    /// # Errors
    /// As [`Pass::run`], and what differs.
    pub async fn verify(&self, watch: &mut Watch<'_>) -> StoreResult<Vec<(Kind, Sum)>> {
        let mut sums = Vec::new();
        for kind in Kind::ALL {
            let (one, other) = match kind {
                Kind::Sessions => (self.sessions, self.prune(watch).await?),
                Kind::Events => (last(self.from).await?, last(self.to).await?),
                _ => (sum(self.from, kind).await?, sum(self.to, kind).await?),
            };
            let same = match kind {
                // Old ones that the first store has dropped meanwhile stay: nobody asks for them.
                Kind::Keys | Kind::Ended => one.rows <= other.rows,
                _ => one == other,
            };
            if !same {
                return Err(StoreError(format!(
                    "{kind:?} differ: {} here, {} there",
                    one.rows, other.rows
                )));
            }
            sums.push((kind, one));
        }
        Ok(sums)
    }

    /// Removes sessions that the first store does not have; the others.
    async fn prune(&self, watch: &mut Watch<'_>) -> StoreResult<Sum> {
        let (mut sum, mut after) = (Sum::default(), None);
        loop {
            let (rows, next) = self.to.rows(Kind::Sessions, after, PAGE).await?;
            let ids = ids(&rows);
            let versions = self.from.versions(&ids).await?;
            let gone = ids.iter().zip(versions).filter(|(_, kept)| kept.is_none());
            let gone: HashSet<_> = gone.map(|(id, _)| *id).collect();
            if !gone.is_empty() {
                let gone: Vec<_> = gone.iter().copied().collect();
                self.remove(&gone).await?;
            }
            if let Rows::Sessions(mut rows) = rows {
                rows.retain(|row| !gone.contains(&row.id));
                sum.add(Rows::Sessions(rows), &self.keys);
            }
            watch(Kind::Sessions, ids.len() as u64, gone.len() as u64);
            let Some(next) = next else { return Ok(sum) };
            after = Some(next);
        }
    }

    /// Fails once another command fills the store, or it serves: what is written then would take its place.
    pub(super) async fn still_ours(&self) -> StoreResult<()> {
        if Mark::of(self.to).await? == Some(Mark::Filling(self.id)) {
            return Ok(());
        }
        Err(StoreError(
            "another `doorward store` command goes on with this move, or has finished it".into(),
        ))
    }

    async fn put(&self, rows: Rows) -> StoreResult<()> {
        if len(&rows) == 0 {
            return Ok(());
        }
        self.still_ours().await?;
        self.to.put(rows).await
    }

    async fn clear_all(&self, kinds: &[Kind]) -> StoreResult<()> {
        self.still_ours().await?;
        self.to.clear(kinds).await
    }

    async fn remove(&self, sessions: &[SessionId]) -> StoreResult<()> {
        self.still_ours().await?;
        self.to.remove(sessions).await
    }

    async fn keys(&mut self, watch: &mut Watch<'_>) -> StoreResult<()> {
        let keys = self.from.keys().await?;
        self.keys = keys.iter().map(|key| key.id).collect();
        let count = keys.len() as u64;
        self.put(Rows::Keys(keys)).await?;
        watch(Kind::Keys, count, count);
        Ok(())
    }

    async fn sessions(&mut self, watch: &mut Watch<'_>) -> StoreResult<()> {
        let (mut sum, mut after) = (Sum::default(), None);
        loop {
            let (rows, next) = self.from.rows(Kind::Sessions, after, PAGE).await?;
            let Rows::Sessions(rows) = rows else {
                return Err(StoreError("another kind than was asked for".into()));
            };
            let looked = rows.len() as u64;
            let rows = self.usable(rows).await?;
            sum.each(&rows, version);
            let newer = self.newer(rows).await?;
            let written = newer.len() as u64;
            if written > 0 {
                self.put(Rows::Sessions(newer)).await?;
            }
            watch(Kind::Sessions, looked, written);
            let Some(next) = next else { break };
            after = Some(next);
        }
        self.sessions = sum;
        Ok(())
    }

    /// A session whose key is gone for good is over: nobody can refresh it.
    async fn usable(&mut self, mut rows: Vec<Session>) -> StoreResult<Vec<Session>> {
        if rows.iter().any(|row| !self.keys.contains(&row.refresh_key)) {
            self.keys(&mut |_, _, _| {}).await?;
        }
        rows.retain(|row| self.keys.contains(&row.refresh_key));
        Ok(rows)
    }

    /// Those that the other store does not have, or an earlier version of.
    async fn newer(&self, rows: Vec<Session>) -> StoreResult<Vec<Session>> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let there = self.to.versions(&ids).await?;
        let both = rows.into_iter().zip(there);
        let newer = both.filter(|(row, there)| there.is_none_or(|there| there < row.version));
        Ok(newer.map(|(row, _)| row).collect())
    }

    /// All rows of a kind, in place of those that are there, if any differs.
    async fn whole(&self, kind: Kind, watch: &mut Watch<'_>) -> StoreResult<()> {
        let (one, other) = (sum(self.from, kind).await?, sum(self.to, kind).await?);
        if one == other {
            watch(kind, one.rows, 0);
            return Ok(());
        }
        if kind != Kind::ValidFrom && other.rows > 0 {
            self.clear(kind).await?;
        }
        let mut after = None;
        loop {
            let (rows, next) = self.from.rows(kind, after, PAGE).await?;
            let rows = without_own(rows);
            let count = len(&rows);
            self.put(rows).await?;
            watch(kind, count, count);
            let Some(next) = next else { return Ok(()) };
            after = Some(next);
        }
    }

    /// What is said of the store itself stays.
    async fn clear(&self, kind: Kind) -> StoreResult<()> {
        if kind != Kind::Outbox {
            return self.clear_all(&[kind]).await;
        }
        let (rows, _) = self.to.rows(kind, None, PAGE).await?;
        self.clear_all(&[Kind::Deliveries, kind]).await?;
        let Rows::Outbox(mut rows) = rows else {
            return Ok(());
        };
        rows.retain(|(name, _)| is_own(name));
        self.put(Rows::Outbox(rows)).await
    }

    async fn ends(&mut self, watch: &mut Watch<'_>) -> StoreResult<()> {
        loop {
            let (rows, next) = self.from.rows(Kind::Ended, self.ends.clone(), PAGE).await?;
            let count = len(&rows);
            if count > 0 {
                self.put(rows).await?;
            }
            watch(Kind::Ended, count, count);
            let Some(next) = next else { return Ok(()) };
            self.ends = Some(next);
        }
    }

    async fn events(&self, watch: &mut Watch<'_>) -> StoreResult<()> {
        let last = self.to.events_before(None, &Filter::default(), 1).await?;
        let last = last.first().map_or(0, |entry| entry.place);
        if self.events_after(last, watch).await? && last > 0 {
            // Who was erased meanwhile has records there still.
            self.clear_all(&[Kind::Events]).await?;
            self.events_after(0, watch).await?;
        }
        Ok(())
    }

    /// Whether somebody was erased among them.
    async fn events_after(&self, place: u64, watch: &mut Watch<'_>) -> StoreResult<bool> {
        let (mut cursor, mut erased) = (place, false);
        loop {
            let all = Filter::default();
            let (entries, next) = self.from.events_after(cursor, &all, PAGE).await?;
            if next <= cursor {
                return Ok(erased);
            }
            cursor = next;
            erased |= entries.iter().any(is_erasure);
            let count = entries.len() as u64;
            self.put(Rows::Events(entries)).await?;
            watch(Kind::Events, count, count);
        }
    }
}

fn is_erasure(entry: &Entry) -> bool {
    entry.record.event.name == EventName::UserErased
}

fn ids(rows: &Rows) -> Vec<SessionId> {
    match rows {
        Rows::Sessions(rows) => rows.iter().map(|row| row.id).collect(),
        _ => Vec::new(),
    }
}

fn without_own(rows: Rows) -> Rows {
    match rows {
        Rows::Outbox(mut rows) => {
            rows.retain(|(name, _)| !is_own(name));
            Rows::Outbox(rows)
        }
        rows => rows,
    }
}

/// How many rows of a kind a store has, by looking at each.
///
/// # Errors
/// The store did not answer.
pub async fn count(store: &dyn MovableStore, kind: Kind) -> StoreResult<u64> {
    let (mut count, mut after) = (0, None);
    loop {
        let (rows, next) = store.rows(kind, after, PAGE).await?;
        count += len(&rows);
        let Some(next) = next else { return Ok(count) };
        after = Some(next);
    }
}

fn version(row: &Session) -> String {
    format!("{} {}", row.id, row.version)
}

/// The last place of the log of events, as if it were the only row.
async fn last(store: &dyn MovableStore) -> StoreResult<Sum> {
    let last = store.events_before(None, &Filter::default(), 1).await?;
    let rows = last.first().map_or(0, |entry| entry.place);
    Ok(Sum { rows, sum: 0 })
}

/// How many rows of a kind a store has, and what they hold.
async fn sum(store: &dyn MovableStore, kind: Kind) -> StoreResult<Sum> {
    let (mut sum, mut after, keys) = (Sum::default(), None, HashSet::new());
    loop {
        let (rows, next) = store.rows(kind, after, PAGE).await?;
        sum.add(without_own(rows), &keys);
        let Some(next) = next else { return Ok(sum) };
        after = Some(next);
    }
}

impl Sum {
    fn add(&mut self, rows: Rows, keys: &HashSet<KeyId>) {
        match rows {
            Rows::Sessions(mut rows) => {
                rows.retain(|row| keys.contains(&row.refresh_key));
                self.each(&rows, version);
            }
            // Their `Debug` hides what matters.
            Rows::Accounts(rows) => self.each(&rows, |row| {
                let (id, hash) = (row.id.as_str(), row.password_hash.as_str());
                let rest = (row.disabled, row.privileged, row.created_at);
                format!("{id:?} {:?} {hash:?} {rest:?}", row.username)
            }),
            Rows::Keys(rows) => self.each(&rows, |row| row.id.to_string()),
            Rows::Resets(rows) => self.each(&rows, |row| format!("{row:?}")),
            Rows::ValidFrom(rows) => self.each(&rows, |row| format!("{row:?}")),
            Rows::Adopted(rows) => self.each(&rows, |row| format!("{row:?}")),
            Rows::Ended(rows) => self.each(&rows, |row| format!("{row:?}")),
            Rows::Buckets(rows) => self.each(&rows, |row| format!("{row:?}")),
            Rows::Events(rows) => self.each(&rows, |row| row.place.to_string()),
            Rows::Outbox(rows) => self.each(&rows, |row| format!("{row:?}")),
            Rows::Deliveries(rows) => self.each(&rows, |row| format!("{row:?}")),
        }
    }

    fn each<T>(&mut self, rows: &[T], text: impl Fn(&T) -> String) {
        for row in rows {
            let digest = Sha256::digest(text(row).as_bytes());
            let mut half = [0; 16];
            half.copy_from_slice(&digest[..16]);
            self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
            self.rows += 1;
        }
    }
}

fn len(rows: &Rows) -> u64 {
    let len = match rows {
        Rows::Keys(rows) => rows.len(),
        Rows::Accounts(rows) => rows.len(),
        Rows::Resets(rows) => rows.len(),
        Rows::ValidFrom(rows) => rows.len(),
        Rows::Sessions(rows) => rows.len(),
        Rows::Adopted(rows) => rows.len(),
        Rows::Ended(rows) => rows.len(),
        Rows::Buckets(rows) => rows.len(),
        Rows::Events(rows) => rows.len(),
        Rows::Outbox(rows) => rows.len(),
        Rows::Deliveries(rows) => rows.len(),
    };
    len as u64
}
