//! The log of events: a sorted set, by place. A stream would be smaller, but it keeps what is removed
//! until all that stands near it is removed too, and a user who is erased is to be gone.

use doorward_core::Timestamp;
use doorward_core::event::{Entry, Filter};
use doorward_core::id::UserId;
use doorward_core::store::StoreResult;
use redis::Value;

use super::base::{Base, bytes, list, strange};
use super::records;
use super::tags::Tag;

/// Entries that are read at once.
const PAGE: u32 = 500;

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

    /// Removes everything that is told of a user.
    pub(super) async fn erase_events(&self, user: &UserId) -> StoreResult<()> {
        let theirs = Filter {
            user: Some(user.clone()),
            ..Filter::default()
        };
        let mut cursor = 0;
        loop {
            let (found, next) = self.events_after(cursor, &theirs, PAGE).await?;
            let places: Vec<_> = found.iter().map(|entry| entry.place).collect();
            self.remove_records(&places).await?;
            if places.len() < PAGE as usize {
                return Ok(());
            }
            cursor = next;
        }
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
        for place in places {
            let mut command = self.command("ZREMRANGEBYSCORE", Tag::Logs, "events");
            command.arg(*place).arg(*place);
            self.write(Tag::Logs, command).await?;
        }
        Ok(())
    }
}

/// A packed record, with its place.
pub(super) type Placed = (u64, Vec<u8>);

fn placed(answer: Value) -> StoreResult<Vec<Placed>> {
    let members = list(answer)?.into_iter().map(|member| {
        let member = bytes(member)?;
        let (place, record) = member.split_first_chunk().ok_or_else(strange)?;
        Ok((u64::from_be_bytes(*place), record.to_vec()))
    });
    members.collect()
}

fn entry(place: u64, record: &[u8], filter: &Filter) -> StoreResult<Option<Entry>> {
    let record = records::unpack(record)?;
    let wanted = record.filter(|record| filter.takes(record));
    Ok(wanted.map(|record| Entry { place, record }))
}
