//! What a Redis hands over and takes in: slot by slot, as they are scanned.
//!
//! A store that was left has a mark at every tag, where each script that writes finds it.

use std::collections::HashMap;

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::Filter;
use doorward_core::id::{SessionId, UserId};
use doorward_core::reset::Reset;
use doorward_core::session::Session;
use doorward_core::store::{Delivery, StoreResult, ValidFrom};
use doorward_core::throttle::BucketKey;
use doorward_core::transfer::{Bookmark, Kind, Rows, TransferStore};
use futures_util::future::try_join_all;

use super::RedisStore;
use super::accounts::{unpack as account, unpack_reset};
use super::base::{Base, args, bytes, digits, exactly, list, perhaps, strange};
use super::outbox::{CURSORS, due_of, tries_of};
use super::packed::Reader;
use super::sessions::{field, valid_from_of};
use super::tags::{TAGS, Tag};
use super::{accounts, buckets, records, rows, scripts};

/// Slots whose sizes are asked for at once.
const SLOTS: u16 = 512;
/// Rows that are put at once.
const AT_ONCE: usize = 64;

#[async_trait]
impl TransferStore for RedisStore {
    async fn rows(
        &self,
        kind: Kind,
        after: Option<Bookmark>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)> {
        self.run(|base| async move { base.page(kind, after.as_deref(), limit).await })
            .await
    }

    async fn versions(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<u64>>> {
        let ids = ids.to_vec();
        self.run(|base| async move { base.versions(&ids).await })
            .await
    }

    async fn put(&self, rows: Rows) -> StoreResult<()> {
        self.run(|base| async move { base.put(rows).await }).await
    }

    async fn clear(&self, kinds: &[Kind]) -> StoreResult<()> {
        let kinds = kinds.to_vec();
        self.run(|base| async move { base.clear(&kinds).await })
            .await
    }

    async fn remove(&self, sessions: &[SessionId]) -> StoreResult<()> {
        let ids = sessions.to_vec();
        self.run(|base| async move { base.remove(&ids).await })
            .await
    }

    async fn leave(&self, mark: Option<&str>) -> StoreResult<()> {
        let mark = mark.map(str::to_owned);
        self.run(|base| async move { base.leave_for(mark.as_deref()).await })
            .await
    }

    async fn left(&self) -> StoreResult<Option<Box<str>>> {
        self.run(|base| async move { base.left().await }).await
    }
}

type Page = (Rows, Option<Bookmark>);
/// A user's or a session's name, and what is kept under it.
type Field = (Vec<u8>, Vec<u8>);

impl Base {
    async fn page(&self, kind: Kind, after: Option<&[u8]>, limit: u32) -> StoreResult<Page> {
        let limit = limit.max(1);
        match kind {
            Kind::Keys => Ok((Rows::Keys(self.keys().await?), None)),
            Kind::Ended => self.page_of_ends(after, limit).await,
            Kind::Events => self.page_of_events(after, limit).await,
            Kind::Buckets => self.page_of_buckets(after, limit).await,
            Kind::Outbox => Ok((Rows::Outbox(self.cursors().await?), None)),
            Kind::Deliveries => self.deliveries().await,
            Kind::Accounts | Kind::Resets | Kind::ValidFrom | Kind::Sessions | Kind::Adopted => {
                let (fields, next) = self.fields(kind, after, limit).await?;
                Ok((read(kind, self.settled(kind, fields).await?)?, next))
            }
        }
    }

    /// Without accounts whose names are others'.
    async fn settled(&self, kind: Kind, fields: Vec<Field>) -> StoreResult<Vec<Field>> {
        let mut settled = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let is_new = kind == Kind::Accounts && accounts::is_new(&value);
            if !is_new || self.account_of(&user(&name)?).await?.is_some() {
                settled.push((name, value));
            }
        }
        Ok(settled)
    }

    /// Fields of a kind in the hashes of users, among about `limit` fields of any kind: of small hashes many are
    /// read at once, and no page takes longer the more there are. One may be empty, and others follow. The
    /// bookmark is a slot, and where its scan goes on.
    async fn fields(
        &self,
        kind: Kind,
        after: Option<&[u8]>,
        limit: u32,
    ) -> StoreResult<(Vec<Field>, Option<Bookmark>)> {
        let mut reader = Reader::new(after.unwrap_or(&[0; 10]), "a bookmark");
        let slot = u16::from_be_bytes(reader.array()?);
        let cursor = u64::from_be_bytes(reader.array()?);
        let mut found = Vec::new();
        let next = if cursor == 0 {
            self.scan_some(slot, kind, limit, &mut found).await?
        } else {
            let tag = Tag::Users(slot);
            let cursor = self.scan(tag, kind, cursor, limit, &mut found).await?;
            after_scan(slot, cursor)
        };
        Ok((found, (next.0 < TAGS).then(|| bookmark(next))))
    }

    /// From a slot on; tells where to go on.
    async fn scan_some(
        &self,
        slot: u16,
        kind: Kind,
        limit: u32,
        found: &mut Vec<Field>,
    ) -> StoreResult<(u16, u64)> {
        let last = TAGS.min(slot.saturating_add(SLOTS));
        let sizes = self.sizes(slot, last).await?;
        let some = few_enough(&sizes, limit.into());
        let next = sizes.get(some.len()).map_or(last, |(slot, _)| *slot);
        let tags = some.iter().map(|(slot, _)| Tag::Users(*slot));
        let mut unfinished = Vec::new();
        for (tag, answer) in self
            .of_each(tags, |tag| self.scanning(tag, 0, limit))
            .await?
        {
            unfinished.push((tag, keep(kind, answer, found)?));
        }
        if let [(Tag::Users(slot), cursor)] = unfinished[..] {
            return Ok(if cursor == 0 {
                (next, 0)
            } else {
                (slot, cursor)
            });
        }
        for (tag, mut cursor) in unfinished {
            while cursor != 0 {
                cursor = self.scan(tag, kind, cursor, limit, found).await?;
            }
        }
        Ok((next, 0))
    }

    async fn scan(
        &self,
        tag: Tag,
        kind: Kind,
        cursor: u64,
        limit: u32,
        found: &mut Vec<Field>,
    ) -> StoreResult<u64> {
        let answer = self
            .read_one(tag, self.scanning(tag, cursor, limit))
            .await?;
        keep(kind, answer, found)
    }

    fn scanning(&self, tag: Tag, cursor: u64, limit: u32) -> redis::Cmd {
        let mut command = self.command("HSCAN", tag, "");
        command.arg(cursor).arg("COUNT").arg(limit);
        command
    }

    async fn page_of_ends(&self, after: Option<&[u8]>, limit: u32) -> StoreResult<Page> {
        let entries = self.entries_after(place(after)?, limit).await?;
        let next = entries.last().map(|(place, _)| place.to_be_bytes().into());
        let ends = entries.iter().map(|(place, end)| {
            let end = rows::unpack_ends(end)?
                .first()
                .copied()
                .ok_or_else(strange)?;
            Ok((*place, end))
        });
        Ok((Rows::Ended(ends.collect::<StoreResult<_>>()?), next))
    }

    async fn page_of_events(&self, after: Option<&[u8]>, limit: u32) -> StoreResult<Page> {
        let from = place(after)?;
        let (entries, next) = self.events_after(from, &Filter::default(), limit).await?;
        Ok((
            Rows::Events(entries),
            (next > from).then(|| next.to_be_bytes().into()),
        ))
    }

    async fn page_of_buckets(&self, after: Option<&[u8]>, limit: u32) -> StoreResult<Page> {
        let mut command = self.command("HSCAN", Tag::Throttle, "buckets");
        command.arg(place(after)?).arg("COUNT").arg(limit);
        let answer = list(self.read_one(Tag::Throttle, command).await?)?;
        let [cursor, fields] = exactly(answer)?;
        let (cursor, mut fields) = (digits::<u64>(&bytes(cursor)?)?, list(fields)?.into_iter());
        let mut found = Vec::new();
        while let (Some(key), Some(bucket)) = (fields.next(), fields.next()) {
            let key = bytes(key)?.try_into().map_err(|_| strange())?;
            found.push((BucketKey(key), buckets::unpack(&bytes(bucket)?)?));
        }
        let next = (cursor != 0).then(|| cursor.to_be_bytes().into());
        Ok((Rows::Buckets(found), next))
    }

    async fn cursors(&self) -> StoreResult<Vec<(Box<str>, u64)>> {
        let all = self.command("HGETALL", Tag::Logs, CURSORS);
        let mut all = list(self.read_one(Tag::Logs, all).await?)?.into_iter();
        let mut cursors = Vec::new();
        while let (Some(address), Some(cursor)) = (all.next(), all.next()) {
            let address = String::from_utf8(bytes(address)?).map_err(|_| strange())?;
            cursors.push((address.into(), digits(&bytes(cursor)?)?));
        }
        Ok(cursors)
    }

    /// All of them: an address has as many as there are records that it has not acknowledged.
    async fn deliveries(&self) -> StoreResult<Page> {
        let mut deliveries = Vec::new();
        for (address, _) in self.cursors().await? {
            let mut due = self.command("ZRANGE", Tag::Logs, &due_of(&address));
            due.arg(0).arg(-1);
            for place in list(self.read_one(Tag::Logs, due).await?)? {
                deliveries.push(self.delivery(&address, &bytes(place)?).await?);
            }
        }
        Ok((Rows::Deliveries(deliveries), None))
    }

    async fn delivery(
        &self,
        address: &str,
        place: &[u8],
    ) -> StoreResult<(Box<str>, Delivery, Timestamp)> {
        let mut due = self.command("ZSCORE", Tag::Logs, &due_of(address));
        due.arg(place);
        let mut tries = self.command("HGET", Tag::Logs, &tries_of(address));
        tries.arg(place);
        let due = match self.read_one(Tag::Logs, due).await? {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "it was written as a whole number"
            )]
            redis::Value::Double(due) => due as i64,
            due => digits(&bytes(due)?)?,
        };
        let attempts = perhaps(self.read_one(Tag::Logs, tries).await?)?;
        let place = place.try_into().map_err(|_| strange())?;
        let delivery = Delivery {
            place: u64::from_be_bytes(place),
            attempts: attempts.map_or(Ok(0), |attempts| digits(&attempts))?,
        };
        Ok((address.into(), delivery, Timestamp(due)))
    }

    async fn versions(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<u64>>> {
        let mut by_tag: HashMap<Tag, Vec<SessionId>> = HashMap::new();
        for id in ids {
            by_tag.entry(Tag::Users(id.slot())).or_default().push(*id);
        }
        let ask = |tag: Tag| {
            let mut command = self.command("HMGET", tag, "");
            args(
                &mut command,
                by_tag[&tag].iter().map(|id| field(b's', &id.0)),
            );
            command
        };
        let mut versions = HashMap::new();
        for (tag, found) in self.of_each(by_tag.keys().copied(), ask).await? {
            for (id, row) in by_tag[&tag].iter().zip(list(found)?) {
                let Some(row) = perhaps(row)? else {
                    continue;
                };
                let row = match rows::pointed(&row)? {
                    Some(_) => self.load(*id).await?,
                    None => Some(rows::unpack(*id, &row)?),
                };
                versions.extend(row.map(|row| (*id, row.version)));
            }
        }
        Ok(ids.iter().map(|id| versions.get(id).copied()).collect())
    }

    async fn put(&self, rows: Rows) -> StoreResult<()> {
        match rows {
            Rows::Keys(keys) => self.put_keys(&keys).await,
            Rows::Accounts(all) => together(&all, |account| self.put_account(account)).await,
            Rows::Resets(all) => together(&all, |reset| self.put_reset(reset)).await,
            Rows::ValidFrom(all) => self.put_valid_from(&all).await,
            Rows::Sessions(all) => self.put_sessions(&all).await,
            Rows::Adopted(all) => self.put_adopted(&all).await,
            Rows::Ended(all) => {
                let ends = all
                    .iter()
                    .map(|(place, end)| (*place, rows::pack_end(end).to_vec()));
                self.put_entries("e", ends.collect()).await?;
                let ends: Vec<_> = all.into_iter().map(|(_, end)| end).collect();
                self.spread.told(&ends);
                Ok(())
            }
            Rows::Events(all) => {
                let packed = all
                    .iter()
                    .map(|entry| (entry.place, records::pack(&entry.record)));
                self.put_entries("r", packed.collect()).await
            }
            Rows::Buckets(all) => self.put_buckets(&all).await,
            Rows::Outbox(all) => {
                for (address, cursor) in all {
                    let mut command = self.command("HSET", Tag::Logs, CURSORS);
                    command.arg(&*address).arg(cursor);
                    self.write_firmly(Tag::Logs, command).await?;
                }
                Ok(())
            }
            Rows::Deliveries(all) => {
                for (address, delivery, due) in all {
                    self.put_delivery(&address, delivery, due).await?;
                }
                Ok(())
            }
        }
    }

    async fn put_keys(&self, keys: &[doorward_core::keys::StoredKey]) -> StoreResult<()> {
        let mut command = self.script(&scripts::PUT_KEYS, Tag::Keys, &[]);
        for key in keys {
            command
                .arg(&key.id.0.to_be_bytes())
                .arg(super::keys::pack(key));
        }
        self.write_firmly(Tag::Keys, command).await.map(drop)
    }

    async fn put_reset(&self, (user, reset): &(UserId, Reset)) -> StoreResult<()> {
        self.keep_reset_hash(user, *reset).await?;
        self.put_field(user, b'r', accounts::pack_reset(*reset))
            .await
    }

    async fn put_field(&self, user: &UserId, letter: u8, value: Vec<u8>) -> StoreResult<()> {
        let tag = Tag::of(user);
        let mut command = self.command("HSET", tag, "");
        command
            .arg(field(letter, user.as_str().as_bytes()))
            .arg(value);
        self.write_firmly(tag, command).await.map(drop)
    }

    async fn put_valid_from(&self, all: &[(UserId, ValidFrom)]) -> StoreResult<()> {
        together(all, move |(user, at)| async move {
            let tag = Tag::of(user);
            let mut command = self.script(&scripts::PUT_VALID_FROM, tag, &[]);
            command.arg(user.as_str()).arg(&at.0.to_be_bytes());
            self.write_firmly(tag, command).await.map(drop)
        })
        .await
    }

    /// By slots, many in one pipeline; pointers first.
    async fn put_sessions(&self, all: &[Session]) -> StoreResult<()> {
        for row in all.iter().filter(|row| row.id.slot() != row.user.slot()) {
            let until = row.expires_at(&self.policy);
            self.point(row.id, row.user.slot(), until).await?;
        }
        for row in all {
            rows::live(row.version)?;
        }
        let mut rest: Vec<&Session> = all.iter().collect();
        // One of each slot in a round, so that a pipeline has one command for each tag.
        while !rest.is_empty() {
            let (mut round, mut later) = (HashMap::new(), Vec::new());
            for row in rest {
                match round.entry(Tag::of(&row.user)) {
                    std::collections::hash_map::Entry::Occupied(_) => later.push(row),
                    std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(row)),
                }
            }
            let command = |tag: Tag| {
                let row = round[&tag];
                let (bucket, mark) = rows::listed(&row.user);
                let mut command = self.script(&scripts::PUT_ROW, tag, &[]);
                command
                    .arg(&row.id.0)
                    .arg(rows::pack(row).unwrap_or_default());
                command.arg(&[bucket]).arg(&mark);
                command
            };
            self.for_each(round.keys().copied(), command, true).await?;
            rest = later;
        }
        Ok(())
    }

    /// Beside the session, or where its id tells.
    async fn put_adopted(&self, all: &[(SessionId, Timestamp)]) -> StoreResult<()> {
        together(all, move |(id, until)| async move {
            let row = self.load(*id).await?;
            let tag = row.map_or(Tag::Users(id.slot()), |row| Tag::of(&row.user));
            let mut command = self.command("HSET", tag, "");
            command.arg(field(b'a', &id.0)).arg(&until.0.to_be_bytes());
            self.write_firmly(tag, command).await.map(drop)
        })
        .await
    }

    async fn put_entries(&self, letter: &str, entries: Vec<(u64, Vec<u8>)>) -> StoreResult<()> {
        let mut command = self.script(&scripts::PUT, Tag::Logs, &["ends", "events"]);
        command.arg(letter);
        for (place, entry) in entries {
            command.arg(place).arg(entry);
        }
        self.write_firmly(Tag::Logs, command).await.map(drop)
    }

    async fn put_buckets(
        &self,
        all: &[(BucketKey, doorward_core::throttle::Bucket)],
    ) -> StoreResult<()> {
        together(all, move |(key, bucket)| async move {
            let mut command = self.command("HSET", Tag::Throttle, "buckets");
            command.arg(&key.0).arg(buckets::pack(bucket));
            self.write_firmly(Tag::Throttle, command).await?;
            let mut idle = self.command("ZADD", Tag::Throttle, "idle");
            idle.arg(bucket.idle_at().0).arg(&key.0);
            self.write_firmly(Tag::Throttle, idle).await.map(drop)
        })
        .await
    }

    async fn put_delivery(
        &self,
        address: &str,
        delivery: Delivery,
        due: Timestamp,
    ) -> StoreResult<()> {
        let place = delivery.place.to_be_bytes();
        let mut queued = self.command("ZADD", Tag::Logs, &due_of(address));
        queued.arg(due.0).arg(&place);
        self.write_firmly(Tag::Logs, queued).await?;
        let mut tries = self.command("HSET", Tag::Logs, &tries_of(address));
        tries.arg(&place).arg(delivery.attempts);
        self.write_firmly(Tag::Logs, tries).await.map(drop)
    }

    async fn clear(&self, kinds: &[Kind]) -> StoreResult<()> {
        let letters: Vec<u8> = kinds
            .iter()
            .flat_map(|kind| letters(*kind))
            .copied()
            .collect();
        if !letters.is_empty() {
            let command = |tag| {
                let mut command = self.script(&scripts::CLEAR, tag, &[]);
                command.arg(&letters);
                command
            };
            self.for_each(Tag::users(), command, true).await?;
        }
        if kinds.contains(&Kind::Keys) {
            let mut command = self.script(&scripts::CLEAR, Tag::Keys, &[]);
            command.arg("k");
            self.write_firmly(Tag::Keys, command).await?;
        }
        for (tag, key) in self.keys_of(kinds).await? {
            self.write_firmly(tag, self.command("DEL", tag, &key))
                .await?;
        }
        Ok(())
    }

    /// The keys of kinds that have some of their own.
    async fn keys_of(&self, kinds: &[Kind]) -> StoreResult<Vec<(Tag, String)>> {
        let mut keys = Vec::new();
        for kind in kinds {
            let (tag, names): (Tag, &[&str]) = match kind {
                Kind::Accounts => (Tag::Names, &["names", "order"]),
                Kind::Resets => (Tag::Names, &["resets"]),
                Kind::Buckets => (Tag::Throttle, &["buckets", "idle"]),
                Kind::Ended => (Tag::Logs, &["ends"]),
                Kind::Events => (Tag::Logs, &["events"]),
                Kind::Outbox => (Tag::Logs, &[CURSORS]),
                _ => (Tag::Logs, &[]),
            };
            keys.extend(names.iter().map(|name| (tag, (*name).to_owned())));
        }
        if kinds.contains(&Kind::Deliveries) {
            for (address, _) in self.cursors().await? {
                keys.push((Tag::Logs, due_of(&address)));
                keys.push((Tag::Logs, tries_of(&address)));
            }
        }
        Ok(keys)
    }

    async fn remove(&self, ids: &[SessionId]) -> StoreResult<()> {
        together(ids, move |id| async move {
            let Some(row) = self.load(*id).await? else {
                return Ok(());
            };
            let tag = Tag::of(&row.user);
            let mut command = self.script(&scripts::REMOVE, tag, &[]);
            command.arg(&id.0).arg(&[rows::listed(&row.user).0]);
            self.write_firmly(tag, command).await.map(drop)
        })
        .await
    }

    /// First everything but the logs, into which is moved what is still on its way.
    async fn leave_for(&self, mark: Option<&str>) -> StoreResult<()> {
        let command = |tag| {
            let name = if mark.is_some() { "HSET" } else { "HDEL" };
            let mut command = self.command(name, tag, "");
            command.arg("l");
            args(&mut command, mark);
            command
        };
        if mark.is_none() {
            self.write_firmly(Tag::Logs, command(Tag::Logs)).await?;
        }
        let others = Tag::all().filter(|tag| *tag != Tag::Logs);
        self.for_each(others, command, true).await?;
        if mark.is_some() {
            if self.left().await?.is_none() {
                self.sweep().await?;
            }
            self.write_firmly(Tag::Logs, command(Tag::Logs)).await?;
        }
        Ok(())
    }

    async fn left(&self) -> StoreResult<Option<Box<str>>> {
        let mut command = self.command("HGET", Tag::Logs, "");
        command.arg("l");
        let mark = perhaps(self.read_one(Tag::Logs, command).await?)?;
        Ok(mark.map(|mark| String::from_utf8_lossy(&mark).into()))
    }
}

/// What the fields of a kind begin with.
fn letter(kind: Kind) -> u8 {
    letters(kind).first().copied().unwrap_or_default()
}

fn letters(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Accounts => b"u",
        Kind::Resets => b"r",
        Kind::ValidFrom => b"v",
        Kind::Sessions => b"si",
        Kind::Adopted => b"a",
        _ => b"",
    }
}

fn read(kind: Kind, fields: Vec<Field>) -> StoreResult<Rows> {
    let each = fields.into_iter();
    Ok(match kind {
        Kind::Accounts => {
            let one = |(name, value): Field| account(&user(&name)?, &value, ValidFrom(0));
            Rows::Accounts(each.map(one).collect::<StoreResult<_>>()?)
        }
        Kind::Resets => {
            let one = |(name, value): Field| Ok((user(&name)?, unpack_reset(&value)?));
            Rows::Resets(each.map(one).collect::<StoreResult<_>>()?)
        }
        Kind::ValidFrom => {
            let one = |(name, value): Field| Ok((user(&name)?, valid_from_of(Some(value))?));
            Rows::ValidFrom(each.map(one).collect::<StoreResult<_>>()?)
        }
        Kind::Adopted => {
            let one = |(name, value): Field| {
                Ok((id(name)?, Timestamp(Reader::new(&value, "a time").i64()?)))
            };
            Rows::Adopted(each.map(one).collect::<StoreResult<_>>()?)
        }
        _ => {
            let mut sessions = Vec::new();
            for (name, value) in each {
                if rows::pointed(&value)?.is_none() {
                    sessions.push(rows::unpack(id(name)?, &value)?);
                }
            }
            Rows::Sessions(sessions)
        }
    })
}

fn user(name: &[u8]) -> StoreResult<UserId> {
    let name = std::str::from_utf8(name)
        .ok()
        .and_then(|name| UserId::new(name).ok());
    name.ok_or_else(strange)
}

fn id(name: Vec<u8>) -> StoreResult<SessionId> {
    name.try_into().map(SessionId).map_err(|_| strange())
}

/// Some at once, so that a page takes no longer than an operation may, also where the servers are not near.
async fn together<'a, T, W: Future<Output = StoreResult<()>>>(
    all: &'a [T],
    put: impl Fn(&'a T) -> W,
) -> StoreResult<()> {
    for some in all.chunks(AT_ONCE) {
        try_join_all(some.iter().map(&put)).await?;
    }
    Ok(())
}

/// The first slots that together have no more fields than `limit`; one at least.
fn few_enough(sizes: &[(u16, u64)], limit: u64) -> &[(u16, u64)] {
    let sums = sizes.iter().scan(0, |sum, (_, size)| {
        *sum += size;
        Some(*sum)
    });
    let count = sums.take_while(|sum| *sum <= limit).count().max(1);
    sizes.get(..count).unwrap_or(sizes)
}

/// Keeps the fields of a kind; tells where the scan goes on.
fn keep(kind: Kind, answer: redis::Value, found: &mut Vec<Field>) -> StoreResult<u64> {
    let [cursor, fields] = exactly(list(answer)?)?;
    let mut fields = list(fields)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (name, value) = (bytes(name)?, bytes(value)?);
        if name.first() == Some(&letter(kind)) {
            found.push((name[1..].to_vec(), value));
        }
    }
    digits(&bytes(cursor)?)
}

fn after_scan(slot: u16, cursor: u64) -> (u16, u64) {
    if cursor == 0 {
        (slot + 1, 0)
    } else {
        (slot, cursor)
    }
}

fn bookmark((slot, cursor): (u16, u64)) -> Bookmark {
    [&slot.to_be_bytes()[..], &cursor.to_be_bytes()]
        .concat()
        .into()
}

/// Where a page begins; 0: at the first.
fn place(after: Option<&[u8]>) -> StoreResult<u64> {
    let place = after.unwrap_or(&[0; 8]).try_into().map_err(|_| strange())?;
    Ok(u64::from_be_bytes(place))
}
