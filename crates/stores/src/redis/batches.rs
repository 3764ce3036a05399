//! The way of ends and events into the logs, which have one order for all users.
//!
//! A write leaves a batch in its own slot, in the same script. Before it is acknowledged, its node moves the
//! batch into the logs, by a script that takes each batch once, and removes it from the slot. What a node that
//! is killed leaves there is moved by whoever writes in the slot next, or by [`Base::sweep`].

use std::sync::Arc;

use doorward_core::error::StoreError;
use doorward_core::event::{Record, Trail};
use doorward_core::id::UserId;
use doorward_core::revocation::Ended;
use doorward_core::session::End;
use doorward_core::store::StoreResult;

use super::base::{Base, args, bytes, digits, int, perhaps};
use super::packed::{Packer, Reader};
use super::servers::Firm;
use super::tags::Tag;
use super::{records, rows, scripts};

/// What a batch is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A user's sessions ended for one reason: [`Trail::records`].
    Ended = 0,
    /// Sessions ended each for a reason of its own: [`Trail::ended`].
    EachEnded = 1,
    /// As that, but they are none that others must hear of: they ran out.
    RanOut = 2,
    /// As `Ended`, and everything that is told of the user before is removed.
    Erased = 3,
    /// Sessions of another user, which are still to end.
    ToEnd = 4,
}

impl Mode {
    const ALL: [Mode; 5] = [
        Mode::Ended,
        Mode::EachEnded,
        Mode::RanOut,
        Mode::Erased,
        Mode::ToEnd,
    ];
}

/// How a batch begins; a user and ends follow.
pub(super) fn header(mode: Mode, trail: &Trail) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.byte(mode as u8);
    for record in [&trail.once, &trail.each] {
        packer.bytes(&record.as_ref().map(records::pack).unwrap_or_default());
    }
    packer.0
}

/// A whole batch.
pub(super) fn batch(mode: Mode, trail: &Trail, user: &UserId, ends: &[Ended]) -> Vec<u8> {
    let mut batch = header(mode, trail);
    batch.extend(rows::user_field(user));
    batch.extend(ends.iter().flat_map(rows::pack_end));
    batch
}

/// A batch on its way.
struct Batch {
    number: u64,
    mode: Mode,
    trail: Trail,
    user: UserId,
    ends: Vec<Ended>,
}

impl Batch {
    fn read(number: u64, bytes: &[u8]) -> StoreResult<Batch> {
        let mut reader = Reader::new(bytes, "a batch");
        let code = reader.byte()?;
        let mode = Mode::ALL.into_iter().find(|mode| *mode as u8 == code);
        let mode = mode.ok_or_else(|| reader.damaged())?;
        let (once, each) = (record(reader.bytes()?)?, record(reader.bytes()?)?);
        let length = reader.byte()?.into();
        let user = std::str::from_utf8(reader.raw(length)?).map_err(|_| reader.damaged())?;
        Ok(Batch {
            number,
            mode,
            trail: Trail { once, each },
            user: UserId::new(user).map_err(|_| reader.damaged())?,
            ends: rows::unpack_ends(reader.rest())?,
        })
    }

    /// Those that the log of ends gets.
    fn told(&self) -> &[Ended] {
        match self.mode {
            Mode::Ended | Mode::EachEnded | Mode::Erased => &self.ends,
            Mode::RanOut | Mode::ToEnd => &[],
        }
    }

    fn records(&self) -> Vec<Record> {
        let ended = |end: &Ended| {
            let (at, reason) = (end.at, end.reason);
            self.trail
                .ended(&self.user, end.session, End { at, reason })
        };
        match self.mode {
            Mode::Ended | Mode::Erased => {
                let ids: Vec<_> = self.ends.iter().map(|end| end.session).collect();
                self.trail.records(&self.user, &ids)
            }
            Mode::EachEnded | Mode::RanOut => {
                let once = self.trail.records(&self.user, &[]);
                once.into_iter()
                    .chain(self.ends.iter().filter_map(ended))
                    .collect()
            }
            Mode::ToEnd => Vec::new(),
        }
    }
}

fn record(bytes: &[u8]) -> StoreResult<Option<Record>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    records::unpack(bytes)
}

/// Reads `number, length, batch` again and again.
fn read(bytes: &[u8]) -> StoreResult<Vec<Batch>> {
    let mut reader = Reader::new(bytes, "batches");
    let mut batches = Vec::new();
    while !reader.is_empty() {
        let number = u64::from_be_bytes(reader.array()?);
        let length = u32::from_be_bytes(reader.array()?);
        let bytes = reader.raw(usize::try_from(length).map_err(|_| reader.damaged())?)?;
        batches.push(Batch::read(number, bytes)?);
    }
    Ok(batches)
}

impl Base {
    /// Moves a slot's batches into the logs. `firm`: until the replicas have them too.
    pub(super) async fn deliver(&self, tag: Tag, outgoing: &[u8], firm: bool) -> StoreResult<()> {
        let batches = read(outgoing)?;
        let Some(last) = batches.last().map(|batch| batch.number) else {
            return Ok(());
        };
        self.has_seen(last);
        for batch in &batches {
            self.prepare(tag, batch).await?;
        }
        let told: Vec<_> = batches.iter().flat_map(Batch::told).copied().collect();
        self.log(Some(tag), &batches, firm || !told.is_empty())
            .await?;
        self.spread.told(&told);
        let mut sent = self.script(&scripts::SENT, tag, &[]);
        sent.arg(last);
        self.write(tag, sent).await.map(drop)
    }

    /// What must have happened before a batch is in the logs; it may happen twice.
    async fn prepare(&self, tag: Tag, batch: &Batch) -> StoreResult<()> {
        match batch.mode {
            // The record of the erasure itself is to stay.
            Mode::Erased if self.is_in_logs(tag, batch).await? => Ok(()),
            Mode::Erased => self.erase_events(&batch.user).await,
            Mode::ToEnd => {
                for end in &batch.ends {
                    Box::pin(self.end(*end, Mode::EachEnded, &batch.trail)).await?;
                }
                Ok(())
            }
            Mode::Ended | Mode::EachEnded | Mode::RanOut => Ok(()),
        }
    }

    async fn is_in_logs(&self, tag: Tag, batch: &Batch) -> StoreResult<bool> {
        let mut command = self.command("HGET", Tag::Logs, "");
        command.arg(format!("s{}", tag.text()));
        let last = perhaps(self.read_one(Tag::Logs, command).await?)?;
        let last: Option<u64> = last.map(|last| digits(&last)).transpose()?;
        Ok(last >= Some(batch.number))
    }

    /// Appends to the logs: `from` a slot's batches once, records of nobody's as often as it is called.
    async fn log(&self, from: Option<Tag>, batches: &[Batch], firm: bool) -> StoreResult<()> {
        let mut command = self.script(&scripts::MOVE, Tag::Logs, &["ends", "events"]);
        command.arg(from.map_or("", Tag::text)).arg(self.channel());
        command.arg(self.seen());
        for batch in batches {
            let ends: Vec<u8> = batch.told().iter().flat_map(rows::pack_end).collect();
            let records = batch.records();
            command.arg(batch.number).arg(ends).arg(records.len());
            args(&mut command, records.iter().map(records::pack));
        }
        let firm = Firm::always_if(firm);
        let last = int(self.carry_out(Tag::Logs, command, firm).await?)?;
        self.has_seen(last.unsigned_abs());
        Ok(())
    }

    /// Appends an end that belongs to no row, and so to no slot.
    pub(super) async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        let mut command = self.script(&scripts::MOVE, Tag::Logs, &["ends", "events"]);
        command.arg("").arg(self.channel()).arg(self.seen());
        command.arg(0).arg(&rows::pack_end(&end)).arg(0);
        let last = int(self.write_firmly(Tag::Logs, command).await?)?;
        self.has_seen(last.unsigned_abs());
        self.spread.told(&[end]);
        Ok(())
    }

    /// Appends records that belong to no write.
    pub(super) async fn append(&self, records: &[Record]) -> StoreResult<()> {
        let mut command = self.script(&scripts::MOVE, Tag::Logs, &["ends", "events"]);
        command.arg("").arg(self.channel()).arg(self.seen());
        command.arg(0).arg("").arg(records.len());
        args(&mut command, records.iter().map(records::pack));
        self.write(Tag::Logs, command).await.map(drop)
    }

    /// Moves what killed nodes left, wherever it is.
    pub(super) async fn sweep(&self) -> StoreResult<()> {
        let length = |tag| {
            let mut command = self.command("HSTRLEN", tag, "");
            command.arg("o");
            command
        };
        let mut outcome = Ok(());
        for (tag, length) in self.of_each(Tag::users(), length).await? {
            if int(length)? > 0 {
                // One slot's trouble holds up no other.
                outcome = self.deliver_left(tag).await.and(outcome);
            }
        }
        outcome
    }

    /// Moves a slot's batches, whoever left them.
    pub(super) async fn deliver_left(&self, tag: Tag) -> StoreResult<()> {
        let mut command = self.command("HGET", tag, "");
        command.arg("o");
        match perhaps(self.read_one(tag, command).await?)? {
            Some(outgoing) => self.deliver(tag, &outgoing, true).await,
            None => Ok(()),
        }
    }

    /// Every second, in one of the nodes: see [`Base::sweep`].
    pub(super) async fn sweep_for_ever(base: std::sync::Weak<Base>) {
        const EVERY: std::time::Duration = std::time::Duration::from_secs(1);
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(base) = base.upgrade() else {
                return;
            };
            base.servers.keep_looking().await;
            // What fails now is tried again in a second.
            let _ = base.sweep_in_turn().await;
        }
    }

    async fn sweep_in_turn(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.has_lease("sweep").await? {
            self.sweep().await?;
        }
        Ok(())
    }

    /// Whether this node, and no other, does what there is to do by itself.
    pub(super) async fn has_lease(&self, what: &str) -> StoreResult<bool> {
        const MILLIS: u32 = 5000;
        let mut command = redis::cmd("EVALSHA");
        command.arg(&scripts::LEASE.name).arg(1);
        command.arg(self.key(Tag::Logs, &format!("lease:{what}")));
        command.arg(&self.holder).arg(MILLIS);
        let held = self.write(Tag::Logs, command).await?;
        Ok(int(held)? == 1)
    }
}

/// What a script says it left; nothing where it says nothing.
pub(super) fn left(answer: Option<redis::Value>) -> StoreResult<Vec<u8>> {
    answer.map_or_else(|| Ok(Vec::new()), bytes)
}
