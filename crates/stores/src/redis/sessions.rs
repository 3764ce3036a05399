//! Sessions, each in the slot of its user.

use doorward_core::Timestamp;
use doorward_core::event::Trail;
use doorward_core::id::{SessionId, UserId};
use doorward_core::limits::Opening;
use doorward_core::revocation::Ended;
use doorward_core::session::{EndReason, Session};
use doorward_core::store::{Opened, StoreResult, ValidFrom, Write};
use redis::{Cmd, Value};

use super::base::{Base, args, bytes, digits, exactly, int, list, perhaps, strange};
use super::batches::{Mode, batch, header, left};
use super::servers::Firm;
use super::tags::{TAGS, Tag};
use super::{rows, scripts};

/// How often a write is decided on anew because what it rests on has changed meanwhile.
pub(super) const TRIES: usize = 32;

/// Slots whose sizes are asked for at once.
const SLOTS: u16 = 512;

/// What there is of a user: what was read to decide on a login.
struct Theirs {
    valid_from: ValidFrom,
    rows: Vec<Session>,
}

impl Theirs {
    /// Ids of those that are live, as the script compares them.
    fn live_ids(&self) -> Vec<u8> {
        let live = self.rows.iter().filter(|row| row.ended.is_none());
        let ids = live.flat_map(|row| row.id.0);
        std::iter::once(b'1').chain(ids).collect()
    }
}

/// What must hold for a session to be added, besides what an opening says.
struct Adding<'a> {
    opening: &'a Opening,
    adopted_until: Option<Timestamp>,
    trail: &'a Trail,
}

impl Base {
    pub(super) async fn open(
        &self,
        opening: &Opening,
        adopted_until: Option<Timestamp>,
        trail: &Trail,
    ) -> StoreResult<Opened> {
        let adding = Adding {
            opening,
            adopted_until,
            trail,
        };
        if !self.lead_to(&adding).await? {
            return Ok(Opened::Lost);
        }
        for _ in 0..TRIES {
            if let Some(opened) = self.try_to_open(&adding).await? {
                return Ok(opened);
            }
        }
        Err(busy())
    }

    /// Whether the session is found by its id from now on: where that tells another slot, a pointer is put
    /// there, before the row. Otherwise the id is another's.
    async fn lead_to(&self, adding: &Adding<'_>) -> StoreResult<bool> {
        let session = &adding.opening.session;
        let (tells, is_in) = (session.id.slot(), session.user.slot());
        if tells == is_in {
            return Ok(true);
        }
        let until = session.expires_at(&self.policy);
        let until = until.max(adding.adopted_until.unwrap_or(until));
        self.point(session.id, is_in, until).await
    }

    pub(super) async fn point(
        &self,
        id: SessionId,
        to: u16,
        until: Timestamp,
    ) -> StoreResult<bool> {
        let tag = Tag::Users(id.slot());
        let mut command = self.script(&scripts::POINT, tag, &[]);
        command.arg(&id.0).arg(rows::pointer(to, until));
        Ok(int(self.write_firmly(tag, command).await?)? == 1)
    }

    /// `None`: what was decided on has changed meanwhile.
    async fn try_to_open(&self, adding: &Adding<'_>) -> StoreResult<Option<Opened>> {
        let Opening { session, seen, .. } = adding.opening;
        let theirs = match adding.opening.cap {
            Some(_) => Some(self.theirs(&session.user).await?),
            None => None,
        };
        if theirs
            .as_ref()
            .is_some_and(|theirs| theirs.valid_from != *seen)
        {
            return Ok(Some(Opened::Lost));
        }
        let live = theirs.iter().flat_map(|theirs| &theirs.rows);
        let live: Vec<_> = live.filter(|row| row.ended.is_none()).cloned().collect();
        let Some(ends) = adding.opening.ends(&live, &self.policy) else {
            return Ok(Some(Opened::Full));
        };
        let (own, others) = self.sorted(&session.user, ends, session.created_at).await?;
        let command = self.opening(adding, theirs.as_ref(), &own, &others)?;
        let ends = !own.is_empty() || !others.is_empty();
        let firm = if ends { Firm::Always } else { Firm::IfFollowed };
        let tag = Tag::of(&session.user);
        let answer = self.carry_out(tag, command, firm).await?;
        let mut answer = list(answer)?.into_iter();
        match answer.next().map(int).transpose()? {
            Some(0) => return Ok(Some(Opened::Lost)),
            Some(1) => {}
            _ => return Ok(None),
        }
        let ended = answer.next().map(rows_of).transpose()?.unwrap_or_default();
        self.deliver(tag, &left(answer.next())?, ends).await?;
        self.spread.told(&ends_of(&ended));
        let mut gone = Vec::new();
        for end in others {
            gone.extend(self.load(end.session).await?);
        }
        gone.extend(ended);
        Ok(Some(Opened::Done(gone)))
    }

    /// Which of the sessions that end are the user's own, and which are of others: those end after.
    async fn sorted(
        &self,
        user: &UserId,
        ends: Vec<(SessionId, EndReason)>,
        at: Timestamp,
    ) -> StoreResult<(Vec<Ended>, Vec<Ended>)> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (session, reason) in ends {
            let end = Ended {
                session,
                at,
                reason,
            };
            if reason != EndReason::Replaced {
                own.push(end);
                continue;
            }
            match self.load(session).await? {
                Some(row) if row.user == *user => own.push(end),
                Some(_) => others.push(end),
                None => {}
            }
        }
        Ok((own, others))
    }

    fn opening(
        &self,
        adding: &Adding<'_>,
        theirs: Option<&Theirs>,
        own: &[Ended],
        others: &[Ended],
    ) -> StoreResult<Cmd> {
        let Opening { session, seen, .. } = adding.opening;
        let trail = adding.trail;
        let (bucket, mark) = rows::listed(&session.user);
        let mut command = self.script(&scripts::OPEN, Tag::of(&session.user), &[]);
        command.arg(&session.id.0).arg(rows::pack(session)?);
        command
            .arg(&[bucket])
            .arg(&mark)
            .arg(rows::user_field(&session.user));
        command.arg(&seen.0.to_be_bytes());
        command.arg(theirs.map(Theirs::live_ids).unwrap_or_default());
        let until = adding
            .adopted_until
            .map(|until| until.0.to_be_bytes().to_vec());
        command.arg(until.unwrap_or_default());
        command
            .arg(header(Mode::EachEnded, trail))
            .arg(u8::from(trail.once.is_some()));
        command.arg(&session.created_at.0.to_be_bytes());
        let each = Trail {
            once: None,
            each: trail.each.clone(),
        };
        command.arg(match others {
            [] => Vec::new(),
            others => batch(Mode::ToEnd, &each, &session.user, others),
        });
        for end in own {
            command.arg(&end.session.0).arg(&[end.reason as u8]);
        }
        command.arg(self.seen());
        Ok(command)
    }

    /// All that is kept of a user's sessions, in the order of their list.
    async fn theirs(&self, user: &UserId) -> StoreResult<Theirs> {
        let (tag, (bucket, mark)) = (Tag::of(user), rows::listed(user));
        let mut command = self.command("HMGET", tag, "");
        command
            .arg(field(b'i', &[bucket]))
            .arg(field(b'v', user.as_str().as_bytes()));
        let [listed, valid_from] = exactly(list(self.read_one(tag, command).await?)?)?;
        let listed = perhaps(listed)?.unwrap_or_default();
        let listed = listed.chunks_exact(20).filter(|entry| entry[..4] == mark);
        let ids = listed.filter_map(|entry| entry[4..].try_into().ok().map(SessionId));
        let rows = self.rows(tag, &ids.collect::<Vec<_>>()).await?;
        Ok(Theirs {
            valid_from: valid_from_of(perhaps(valid_from)?)?,
            rows: rows.into_iter().filter(|row| row.user == *user).collect(),
        })
    }

    /// Rows of one slot, those that are there.
    pub(super) async fn rows(&self, tag: Tag, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = self.command("HMGET", tag, "");
        args(&mut command, ids.iter().map(|id| field(b's', &id.0)));
        let found = list(self.read_one(tag, command).await?)?;
        let mut rows = Vec::new();
        for (id, row) in ids.iter().zip(found) {
            if let Some(row) = perhaps(row)? {
                rows.push(rows::unpack(*id, &row)?);
            }
        }
        Ok(rows)
    }

    pub(super) async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        self.load_by(id, |tag, command| self.read_one(tag, command))
            .await
    }

    /// `read`: reads by a command about a tag.
    pub(super) async fn load_by<R: Future<Output = StoreResult<Value>>>(
        &self,
        id: SessionId,
        read: impl Fn(Tag, Cmd) -> R,
    ) -> StoreResult<Option<Session>> {
        let row = |tag| {
            let mut command = self.command("HGET", tag, "");
            command.arg(field(b's', &id.0));
            read(tag, command)
        };
        let mut found = perhaps(row(Tag::Users(id.slot())).await?)?;
        if let Some((slot, _)) = found.as_deref().map(rows::pointed).transpose()?.flatten() {
            found = perhaps(row(Tag::Users(slot)).await?)?;
        }
        found.map(|row| rows::unpack(id, &row)).transpose()
    }

    /// What swaps a row; `None`: no row can be before it.
    pub(super) fn swap(&self, session: &Session) -> StoreResult<Option<(Tag, Cmd)>> {
        let Some(before) = session.version.checked_sub(1) else {
            return Ok(None);
        };
        let tag = Tag::of(&session.user);
        let mut command = self.script(&scripts::SWAP, tag, &[]);
        command
            .arg(&session.id.0)
            .arg(&rows::live(before)?)
            .arg(rows::pack(session)?);
        Ok(Some((tag, command)))
    }

    /// Ends a session that has not ended; its row afterwards.
    pub(super) async fn end(
        &self,
        end: Ended,
        mode: Mode,
        trail: &Trail,
    ) -> StoreResult<Option<Session>> {
        let told = Tag::Users(end.session.slot());
        match self.end_in(told, end, mode, trail).await? {
            Found::Nothing => Ok(None),
            Found::Row(row) => Ok(Some(*row)),
            Found::Elsewhere(slot) => {
                let found = self.end_in(Tag::Users(slot), end, mode, trail).await?;
                Ok(found.row())
            }
        }
    }

    async fn end_in(&self, tag: Tag, end: Ended, mode: Mode, trail: &Trail) -> StoreResult<Found> {
        let mut command = self.script(&scripts::END, tag, &[]);
        command.arg(&end.session.0).arg(&[end.reason as u8]);
        command
            .arg(&end.at.0.to_be_bytes())
            .arg(header(mode, trail))
            .arg(self.seen());
        let mut answer = list(self.write_firmly(tag, command).await?)?.into_iter();
        let Some(row) = answer.next() else {
            return Ok(Found::Nothing);
        };
        let row = bytes(row)?;
        if let Some((slot, _)) = rows::pointed(&row)? {
            return Ok(Found::Elsewhere(slot));
        }
        let row = rows::unpack(end.session, &row)?;
        self.deliver(tag, &left(answer.nth(1))?, true).await?;
        // Who ended it before may not have lived to tell this machine.
        self.spread.told(&ends_of(std::slice::from_ref(&row)));
        Ok(Found::Row(Box::new(row)))
    }

    pub(super) async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        let tag = Tag::of(user);
        let mut command = self.command("HGET", tag, "");
        command.arg(field(b'v', user.as_str().as_bytes()));
        valid_from_of(perhaps(self.read_one(tag, command).await?)?)
    }

    pub(super) async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let mut rows = self.theirs(user).await?.rows;
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    pub(super) async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        let tells = Tag::Users(id.slot());
        let mut command = self.command("HMGET", tells, "");
        command.arg(field(b'a', &id.0)).arg(field(b's', &id.0));
        let [adopted, row] = exactly(list(self.read_one(tells, command).await?)?)?;
        let leads = perhaps(row)?
            .as_deref()
            .map(rows::pointed)
            .transpose()?
            .flatten();
        match leads {
            Some((slot, _)) => {
                let mut command = self.command("HEXISTS", Tag::Users(slot), "");
                command.arg(field(b'a', &id.0));
                Ok(int(self.read_one(Tag::Users(slot), command).await?)? == 1)
            }
            None => Ok(adopted != Value::Nil),
        }
    }

    /// Live sessions of all users, by the slot that their ids tell, and there by id: so a page costs a look at
    /// how much each slot holds, and the reading of those slots only whose sessions are in it.
    pub(super) async fn live_after(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> StoreResult<Vec<Session>> {
        let (mut first, mut found) = (after.map_or(0, |after| after.slot()), Vec::new());
        while first < TAGS && found.len() < limit as usize {
            let last = TAGS.min(first + SLOTS);
            for slot in self.filled(first, last).await? {
                let left = (limit as usize).saturating_sub(found.len());
                if left == 0 {
                    break;
                }
                found.extend(self.live_in(slot, after, left).await?);
            }
            first = last;
        }
        Ok(found)
    }

    /// Live sessions whose ids tell a slot: after one, if that tells the same.
    async fn live_in(
        &self,
        slot: u16,
        after: Option<SessionId>,
        limit: usize,
    ) -> StoreResult<Vec<Session>> {
        let tag = Tag::Users(slot);
        let command = self.script(&scripts::LIVE, tag, &[]);
        let mut ids = Vec::new();
        for id in list(self.read_one(tag, command).await?)? {
            ids.push(SessionId(bytes(id)?.try_into().map_err(|_| strange())?));
        }
        // Foreign sessions lie with their users, and are listed where their ids lead.
        ids.retain(|id| id.slot() == slot);
        ids.retain(|id| after.is_none_or(|after| after.slot() != slot || *id > after));
        ids.sort_unstable();
        let mut found = Vec::new();
        for some in ids.chunks(limit) {
            found.extend(self.live_of(tag, some).await?);
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Those that are live, of sessions whose ids tell a slot.
    async fn live_of(&self, tag: Tag, ids: &[SessionId]) -> StoreResult<Vec<Session>> {
        let mut command = self.command("HMGET", tag, "");
        args(&mut command, ids.iter().map(|id| field(b's', &id.0)));
        let mut rows = Vec::with_capacity(ids.len());
        for (id, row) in ids.iter().zip(list(self.read_one(tag, command).await?)?) {
            match perhaps(row)? {
                Some(row) if rows::pointed(&row)?.is_some() => rows.extend(self.load(*id).await?),
                Some(row) => rows.push(rows::unpack(*id, &row)?),
                None => {}
            }
        }
        rows.retain(|row| row.ended.is_none());
        Ok(rows)
    }
}

/// What was found by an id.
enum Found {
    Nothing,
    Row(Box<Session>),
    Elsewhere(u16),
}

impl Found {
    fn row(self) -> Option<Session> {
        match self {
            Found::Row(row) => Some(*row),
            Found::Nothing | Found::Elsewhere(_) => None,
        }
    }
}

/// A field of a slot's hash.
pub(super) fn field(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[kind], rest].concat()
}

pub(super) fn valid_from_of(stored: Option<Vec<u8>>) -> StoreResult<ValidFrom> {
    let Some(stored) = stored else {
        return Ok(ValidFrom(0));
    };
    let stored = stored.try_into().map_err(|_| strange())?;
    Ok(ValidFrom(i64::from_be_bytes(stored)))
}

pub(super) fn done(holds: bool) -> Write {
    if holds { Write::Done } else { Write::Lost }
}

pub(super) fn busy() -> doorward_core::error::StoreError {
    doorward_core::error::StoreError("what was to be changed changed again and again".into())
}

/// Ids and rows, as a script told them.
fn rows_of(told: Value) -> StoreResult<Vec<Session>> {
    let told = list(told)?.into_iter().map(|one| {
        let [id, row] = exactly(list(one)?)?;
        let id = bytes(id)?.try_into().map_err(|_| strange())?;
        rows::unpack(SessionId(id), &bytes(row)?)
    });
    told.collect()
}

/// The ends of those that have ended.
fn ends_of(rows: &[Session]) -> Vec<Ended> {
    let ended = rows.iter().filter_map(|row| {
        row.ended.map(|end| Ended {
            session: row.id,
            at: end.at,
            reason: end.reason,
        })
    });
    ended.collect()
}

/// Reads the whole log of ends, from a place on.
impl Base {
    pub(super) async fn ended_after(
        &self,
        cursor: u64,
        limit: u32,
    ) -> StoreResult<(Vec<Ended>, u64)> {
        let entries = self.entries_after(cursor, limit).await?;
        let last = entries.last().map_or(cursor, |(place, _)| *place);
        self.has_seen(last);
        let ends = entries.iter().map(|(_, end)| rows::unpack_ends(end));
        let ends = ends.collect::<StoreResult<Vec<_>>>()?;
        Ok((ends.into_iter().flatten().collect(), last))
    }

    /// Packed ends after a place.
    pub(super) async fn entries_after(
        &self,
        cursor: u64,
        limit: u32,
    ) -> StoreResult<Vec<(u64, Vec<u8>)>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut command = self.command("XRANGE", Tag::Logs, "ends");
        command
            .arg(format!("({cursor}-0"))
            .arg("+")
            .arg("COUNT")
            .arg(limit);
        entries_of(self.read_one(Tag::Logs, command).await?)
    }

    pub(super) async fn restored_at(&self) -> StoreResult<Timestamp> {
        let mut command = self.command("HGET", Tag::Logs, "");
        command.arg("r");
        let at = perhaps(self.read_one(Tag::Logs, command).await?)?;
        Ok(Timestamp(at.map_or(Ok(0), |at| digits(&at))?))
    }

    pub(super) async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        let mut command = self.script(&scripts::RESTORE, Tag::Logs, &["ends", "events"]);
        let record = trail.once.as_ref().map(super::records::pack);
        command.arg(at.0).arg(record.unwrap_or_default());
        self.write_firmly(Tag::Logs, command).await.map(drop)
    }
}

/// Places and entries of a stream, each of one field.
fn entries_of(answer: Value) -> StoreResult<Vec<(u64, Vec<u8>)>> {
    let entries = list(answer)?.into_iter().map(|entry| {
        let [place, fields] = exactly(list(entry)?)?;
        let place = bytes(place)?;
        let place = place.split(|byte| *byte == b'-').next().unwrap_or_default();
        let entry = list(fields)?.into_iter().nth(1).ok_or_else(strange)?;
        Ok((digits(place)?, bytes(entry)?))
    });
    entries.collect()
}
