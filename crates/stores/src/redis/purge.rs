//! Cleaning up: whoever holds the lease goes round all slots, and looks at so many rows a call.
//!
//! No row has a time to live: one that ran out unseen is to be told of, and an index of times would take
//! half as much memory again as the rows.

use doorward_core::Timestamp;
use doorward_core::event::Trail;
use doorward_core::id::SessionId;
use doorward_core::revocation::Ended;
use doorward_core::session::Session;
use doorward_core::store::{StoreResult, ValidFrom};
use redis::Value;

use super::base::{Base, args, bytes, digits, exactly, int, list};
use super::batches::{Mode, batch, left};
use super::tags::{TAGS, Tag};
use super::{accounts, rows, scripts};

/// Slots whose sizes are asked for at once.
const SLOTS: u16 = 512;
/// About so many fields are looked at in one command.
const PAGE: u32 = 200;
/// Entries of a log that are looked at in one command.
const ENTRIES: u32 = 1000;

/// A new account without a name is let alone for so long: somebody may still be adding it.
const LEFT_ALONE: std::time::Duration = std::time::Duration::from_secs(3600);

/// How far the round has come.
#[derive(Default)]
pub(super) struct Round {
    slot: u16,
    /// Where the slot's hash is gone on with; 0: from its beginning.
    cursor: u64,
}

/// What is over, and what is to be told of it.
struct Purge<'a> {
    now: Timestamp,
    trail: &'a Trail,
}

/// A field that may go, if it still has this value.
struct Old {
    field: Vec<u8>,
    value: Vec<u8>,
    bucket: Vec<u8>,
    batch: Vec<u8>,
}

impl Old {
    fn new(field: Vec<u8>, value: Vec<u8>) -> Old {
        Old {
            field,
            value,
            bucket: Vec::new(),
            batch: Vec::new(),
        }
    }
}

impl Base {
    /// How many rows were looked at; `limit` while there are more in this round.
    pub(super) async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        if !self.has_lease("purge").await? {
            return Ok(0);
        }
        self.purge_ends(log_before).await?;
        let mut round = self.round.lock().await;
        let purge = Purge { now, trail };
        let mut looked = 0;
        while round.slot < TAGS {
            let first = round.slot;
            let last = TAGS.min(first + SLOTS);
            for slot in self.filled(first, last).await? {
                if slot != round.slot {
                    *round = Round { slot, cursor: 0 };
                }
                if self
                    .look_through(&mut round, &purge, &mut looked, limit)
                    .await?
                {
                    return Ok(limit);
                }
            }
            *round = Round {
                slot: last,
                cursor: 0,
            };
        }
        self.purge_resets(now).await?;
        *round = Round::default();
        Ok(looked.min(limit.saturating_sub(1)))
    }

    /// Slots from `first` to before `last` that hold anything.
    pub(super) async fn filled(&self, first: u16, last: u16) -> StoreResult<Vec<u16>> {
        let sizes = self.sizes(first, last).await?;
        Ok(sizes.into_iter().map(|(slot, _)| slot).collect())
    }

    /// How many fields each of them has.
    pub(super) async fn sizes(&self, first: u16, last: u16) -> StoreResult<Vec<(u16, u64)>> {
        let length = |tag| self.command("HLEN", tag, "");
        let mut sizes = Vec::new();
        for (tag, length) in self.of_each((first..last).map(Tag::Users), length).await? {
            if let (Tag::Users(slot), Ok(size @ 1..)) = (tag, u64::try_from(int(length)?)) {
                sizes.push((slot, size));
            }
        }
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// Whether enough was looked at for now.
    async fn look_through(
        &self,
        round: &mut Round,
        purge: &Purge<'_>,
        looked: &mut u32,
        limit: u32,
    ) -> StoreResult<bool> {
        let tag = Tag::Users(round.slot);
        loop {
            if *looked >= limit {
                return Ok(true);
            }
            let mut command = self.command("HSCAN", tag, "");
            command.arg(round.cursor).arg("COUNT").arg(PAGE);
            let [cursor, fields] = exactly(list(self.read_one(tag, command).await?)?)?;
            let cursor = digits(&bytes(cursor)?)?;
            let old = self.look_at(list(fields)?, purge, looked).await?;
            self.drop_old(tag, old).await?;
            round.cursor = cursor;
            if cursor == 0 {
                return Ok(false);
            }
        }
    }

    async fn look_at(
        &self,
        fields: Vec<Value>,
        purge: &Purge<'_>,
        looked: &mut u32,
    ) -> StoreResult<Vec<Old>> {
        let mut old = Vec::new();
        let mut fields = fields.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            let (field, value) = (bytes(field)?, bytes(value)?);
            match field.first() {
                Some(b's') => {
                    *looked += 1;
                    old.extend(self.old_row(field, value, purge).await?);
                }
                Some(b'u') if accounts::is_new(&value) => {
                    old.extend(self.nobodys(field, value, purge.now).await?);
                }
                Some(b'a' | b'r') if until(&value) < Some(purge.now) => {
                    old.push(Old::new(field, value));
                }
                _ => {}
            }
        }
        Ok(old)
    }

    /// An account that lost its name before it was one.
    async fn nobodys(
        &self,
        field: Vec<u8>,
        value: Vec<u8>,
        now: Timestamp,
    ) -> StoreResult<Option<Old>> {
        let Ok(user) = accounts::user_of(&field[1..]) else {
            return Ok(None);
        };
        let account = accounts::unpack(&user, &value, ValidFrom(0))?;
        let is_over = account.created_at + LEFT_ALONE < now;
        let goes = is_over && self.account_of(&user).await?.is_none();
        Ok(goes.then(|| Old::new(field, value)))
    }

    async fn old_row(
        &self,
        field: Vec<u8>,
        value: Vec<u8>,
        purge: &Purge<'_>,
    ) -> StoreResult<Option<Old>> {
        let Ok(id) = field[1..].try_into().map(SessionId) else {
            return Ok(None);
        };
        // What is damaged stays for whoever repairs it, and holds up no other row.
        let (Ok(pointed), row) = (rows::pointed(&value), rows::unpack(id, &value)) else {
            return Ok(None);
        };
        if let Some((_, until)) = pointed {
            let leads_nowhere = until < purge.now
                && self.load(id).await?.is_none()
                && !self.was_adopted(id).await?;
            return Ok(leads_nowhere.then(|| Old::new(field, value)));
        }
        let Ok(row) = row else {
            return Ok(None);
        };
        if row.expires_at(&self.policy) >= purge.now {
            return Ok(None);
        }
        let (bucket, _) = rows::listed(&row.user);
        Ok(Some(Old {
            bucket: vec![bucket],
            batch: self.ran_out(&row, purge.trail),
            ..Old::new(field, value)
        }))
    }

    /// What is told of a session that nobody saw end; nothing of one that somebody did.
    fn ran_out(&self, row: &Session, trail: &Trail) -> Vec<u8> {
        if row.ended.is_some() || trail.each.is_none() {
            return Vec::new();
        }
        let end = row.ran_out(&self.policy);
        let end = Ended {
            session: row.id,
            at: end.at,
            reason: end.reason,
        };
        let each = Trail {
            once: None,
            each: trail.each.clone(),
        };
        batch(Mode::RanOut, &each, &row.user, &[end])
    }

    async fn drop_old(&self, tag: Tag, old: Vec<Old>) -> StoreResult<()> {
        if old.is_empty() {
            return Ok(());
        }
        let mut command = self.script(&scripts::DROP, tag, &[]);
        for Old {
            field,
            value,
            bucket,
            batch,
        } in old
        {
            command.arg(field).arg(value).arg(bucket).arg(batch);
        }
        command.arg(self.seen());
        let [_, outgoing] = exactly(list(self.write(tag, command).await?)?)?;
        self.deliver(tag, &left(Some(outgoing))?, false).await
    }

    /// Removes what leads from the hashes of resets that are over to their users.
    async fn purge_resets(&self, now: Timestamp) -> StoreResult<()> {
        let mut cursor: u64 = 0;
        loop {
            let mut command = self.command("HSCAN", Tag::Names, "resets");
            command.arg(cursor).arg("COUNT").arg(PAGE);
            let [next, resets] = exactly(list(self.read_one(Tag::Names, command).await?)?)?;
            let (mut resets, mut over) = (list(resets)?.into_iter(), Vec::new());
            while let (Some(hash), Some(leads)) = (resets.next(), resets.next()) {
                if until(&bytes(leads)?) < Some(now) {
                    over.push(bytes(hash)?);
                }
            }
            if !over.is_empty() {
                let mut command = self.command("HDEL", Tag::Names, "resets");
                args(&mut command, over);
                self.write(Tag::Names, command).await?;
            }
            cursor = digits(&bytes(next)?)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Removes the first entries of the log of ends, those of before.
    async fn purge_ends(&self, before: Timestamp) -> StoreResult<()> {
        loop {
            let entries = self.entries_after(0, ENTRIES).await?;
            let mut old = Vec::new();
            for (place, end) in &entries {
                if rows::unpack_ends(end)?.iter().all(|end| end.at < before) {
                    old.push(*place);
                }
            }
            let is_all = old.len() < ENTRIES as usize;
            self.remove_ends(&old).await?;
            if is_all {
                return Ok(());
            }
        }
    }

    pub(super) async fn remove_ends(&self, places: &[u64]) -> StoreResult<()> {
        if places.is_empty() {
            return Ok(());
        }
        let mut command = self.command("XDEL", Tag::Logs, "ends");
        args(
            &mut command,
            places.iter().map(|place| format!("{place}-0")),
        );
        self.write(Tag::Logs, command).await.map(drop)
    }
}

/// The time with which a value begins.
fn until(value: &[u8]) -> Option<Timestamp> {
    let time = value.get(..8)?.try_into().ok()?;
    Some(Timestamp(i64::from_be_bytes(time)))
}
