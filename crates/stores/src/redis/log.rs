//! The log of events: a sorted set, by place. A stream would be smaller, but it keeps what is removed
//! until all that stands near it is removed too, and a user who is erased is to be gone.

use doorward_core::Timestamp;
use doorward_core::event::{Entry, Filter};
use doorward_core::id::UserId;
use doorward_core::store::StoreResult;
use redis::Value;

use super::base::{Base, bytes, list, strange};
use super::tags::Tag;
use super::{records, scripts};

/// Entries that are read at once.
const PAGE: u32 = 500;
/// Entries that one script looks through: some milliseconds of the server's time.
const LOOKED: u32 = 5000;
/// Entries that are removed in one pipeline.
const REMOVED: usize = 500;

impl Base {
    pub(super) async fn events_after(
        &self,
        mut cursor: u64,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<(Vec<Entry>, u64)> {
        let mut wanted = Vec::new();
        loop {
            let page = self.records_after(cursor, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            for (place, record) in page {
                if wanted.len() >= limit as usize {
                    return Ok((wanted, cursor));
                }
                wanted.extend(entry(place, &record, filter)?);
                cursor = place;
            }
            if is_last {
                return Ok((wanted, cursor));
            }
        }
    }

    pub(super) async fn events_before(
        &self,
        mut before: Option<u64>,
        filter: &Filter,
        limit: u32,
    ) -> StoreResult<Vec<Entry>> {
        let mut wanted = Vec::new();
        loop {
            let page = self.records_before(before, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            before = page.last().map(|(place, _)| *place).or(before);
            for (place, record) in page {
                wanted.extend(entry(place, &record, filter)?);
            }
            wanted.truncate(limit as usize);
            if is_last || wanted.len() >= limit as usize {
                return Ok(wanted);
            }
        }
    }

    pub(super) async fn purge_events(&self, before: Timestamp, limit: u32) -> StoreResult<u32> {
        let entries = self.records_after(0, limit).await?;
        let mut old = Vec::new();
        for (place, record) in entries {
            // What cannot be read is as old as what it stands among.
            if records::unpack(&record)?.is_none_or(|record| record.at < before) {
                old.push(place);
            }
        }
        self.remove_records(&old).await?;
        Ok(u32::try_from(old.len()).unwrap_or(limit))
    }

    /// Removes everything that is told of a user. The whole log is looked through, by the server: an index by
    /// user would take as much memory again as the log.
    pub(super) async fn erase_events(&self, user: &UserId) -> StoreResult<()> {
        let theirs = Filter {
            user: Some(user.clone()),
            ..Filter::default()
        };
        let mut cursor = 0;
        while let Some((last, found)) = self.naming(user, cursor).await? {
            let mut places = Vec::new();
            for (place, record) in found {
                places.extend(entry(place, &record, &theirs)?.map(|entry| entry.place));
            }
            self.remove_records(&places).await?;
            cursor = last;
        }
        Ok(())
    }

    /// Of the next entries the last place, and those in which a user's name occurs; `None`: there are no more.
    async fn naming(&self, user: &UserId, after: u64) -> StoreResult<Option<(u64, Vec<Placed>)>> {
        let mut command = self.script(&scripts::NAMING, Tag::Logs, &["events"]);
        command.arg(after).arg(user.as_str()).arg(LOOKED);
        let mut answer = list(self.read_one(Tag::Logs, command).await?)?.into_iter();
        let Some(last) = answer.next() else {
            return Ok(None);
        };
        let last = bytes(last)?.try_into().map_err(|_| strange())?;
        let found = answer.map(one_placed).collect::<StoreResult<_>>()?;
        Ok(Some((u64::from_be_bytes(last), found)))
    }

    /// Packed records after a place.
    pub(super) async fn records_after(&self, place: u64, limit: u32) -> StoreResult<Vec<Placed>> {
        let mut command = self.command("ZRANGEBYSCORE", Tag::Logs, "events");
        command
            .arg(format!("({place}"))
            .arg("+inf")
            .arg("LIMIT")
            .arg(0)
            .arg(limit);
        placed(self.read_one(Tag::Logs, command).await?)
    }

    async fn records_before(&self, before: Option<u64>, limit: u32) -> StoreResult<Vec<Placed>> {
        let from = before.map_or_else(|| "+inf".into(), |place| format!("({place}"));
        let mut command = self.command("ZREVRANGEBYSCORE", Tag::Logs, "events");
        command.arg(from).arg("-inf").arg("LIMIT").arg(0).arg(limit);
        placed(self.read_one(Tag::Logs, command).await?)
    }

    async fn remove_records(&self, places: &[u64]) -> StoreResult<()> {
        for some in places.chunks(REMOVED) {
            let commands = some.iter().map(|place| {
                let mut command = self.command("ZREMRANGEBYSCORE", Tag::Logs, "events");
                command.arg(*place).arg(*place);
                command
            });
            self.write_all(Tag::Logs, commands).await?;
        }
        Ok(())
    }
}

/// A packed record, with its place.
pub(super) type Placed = (u64, Vec<u8>);

fn placed(answer: Value) -> StoreResult<Vec<Placed>> {
    list(answer)?.into_iter().map(one_placed).collect()
}

fn one_placed(member: Value) -> StoreResult<Placed> {
    let member = bytes(member)?;
    let (place, record) = member.split_first_chunk().ok_or_else(strange)?;
    Ok((u64::from_be_bytes(*place), record.to_vec()))
}

fn entry(place: u64, record: &[u8], filter: &Filter) -> StoreResult<Option<Entry>> {
    let record = records::unpack(record)?;
    let wanted = record.filter(|record| filter.takes(record));
    Ok(wanted.map(|record| Entry { place, record }))
}
