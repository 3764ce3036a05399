//! Sessions to rows and back.

use doorward_core::Timestamp;
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::KeyId;
use doorward_core::revocation::Ended;
use doorward_core::session::{Delivery, Device, End, EndReason, Session};
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::connection::{Failed, Step, step};

pub(super) const SIBLINGS: i16 = 1;
const REMEMBER: i16 = 2;
const BODY: i16 = 4;
const DETAILS: i16 = 8;
const PRIVILEGED: i16 = 16;
const ENDED: i16 = 32;

/// 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uuid(pub(super) [u8; 16]);

type Boxed = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(Uuid(raw.try_into()?))
    }
    accepts!(UUID);
}

/// Whole sessions: the columns of [`session`], in its order. Details are looked for where a row has some.
macro_rules! sessions {
    ($which:literal) => {
        concat!(
            "SELECT s.id, s.user_id, s.confirmed, s.previous, s.generation, s.attempt, s.confirmed_at, \
             s.child_after, s.refresh_key, s.created_at, s.auth_after, s.lasts, s.flags, s.version, \
             d.device, d.address, d.agent, d.claims FROM @sessions s \
             LEFT JOIN @details d ON d.session = CASE WHEN s.flags & 8 <> 0 THEN s.id END WHERE ",
            $which
        )
    };
}
pub(super) use sessions;
const _: () = assert!(DETAILS == 8 && ENDED == 32, "as statements have them");

/// A row of `sessions!`.
pub(super) fn session(row: &Row) -> Result<Session, Failed> {
    let flags: i16 = row.try_get(12)?;
    let created_at: i64 = row.try_get(9)?;
    let kept: Uuid = row.try_get(3)?;
    let ended = if flags & ENDED == 0 {
        None
    } else {
        Some(end(kept))
    };
    let (confirmed_at, child_at) = child_times(row.try_get(6)?, row.try_get(7)?);
    let after_login = |at: usize| {
        row.try_get::<_, i64>(at)
            .map(|after| Timestamp(created_at + after))
    };
    Ok(Session {
        id: id(row, 0)?,
        user: user(row, 1)?,
        confirmed: TokenId(row.try_get::<_, Uuid>(2)?.0),
        generation: row.try_get::<_, i32>(4)?.into(),
        previous: (ended.is_none() && kept != NONE).then_some(TokenId(kept.0)),
        siblings: flags & SIBLINGS != 0,
        attempt: row.try_get::<_, i32>(5)?.cast_unsigned(),
        confirmed_at,
        child_at,
        refresh_key: KeyId(row.try_get::<_, i64>(8)?.cast_unsigned()),
        created_at: Timestamp(created_at),
        auth_time: after_login(10)?,
        absolute_end: after_login(11)?,
        remember: flags & REMEMBER != 0,
        privileged: flags & PRIVILEGED != 0,
        delivery: if flags & BODY == 0 {
            Delivery::Cookie
        } else {
            Delivery::Body
        },
        device: Device {
            name: text(row, 14)?,
            address: row
                .try_get::<_, Option<&str>>(15)?
                .and_then(|text| text.parse().ok()),
            agent: text(row, 16)?,
        },
        claims: text(row, 17)?,
        ended,
        version: u64::try_from(row.try_get::<_, i32>(13)?)
            .map_err(|_| Failed::Damaged("version"))?,
    })
}

pub(super) fn all(rows: &[Row]) -> Result<Vec<Session>, Failed> {
    rows.iter().map(session).collect()
}

/// As [`all`], without those that cannot be read: none of them can be used, and they hide no other.
pub(super) fn readable(rows: &[Row]) -> Result<Vec<Session>, Failed> {
    let read = rows.iter().map(session);
    read.filter(|row| !row.as_ref().is_err_and(Failed::is_damage))
        .collect()
}

pub(super) fn id(row: &Row, at: usize) -> Result<SessionId, Failed> {
    Ok(SessionId(row.try_get::<_, Uuid>(at)?.0))
}

pub(super) fn user(row: &Row, at: usize) -> Result<UserId, Failed> {
    UserId::new(row.try_get(at)?).map_err(|_| Failed::Damaged("user_id"))
}

pub(super) fn text(row: &Row, at: usize) -> Result<Option<Box<str>>, Failed> {
    Ok(row.try_get::<_, Option<&str>>(at)?.map(Into::into))
}

/// Writes new rows.
pub(super) fn insert(sessions: &[&Session]) -> Result<Vec<Step>, Failed> {
    inserted(sessions, "")
}

/// Writes those that are not there.
pub(super) fn insert_if_new(sessions: &[&Session]) -> Result<Vec<Step>, Failed> {
    inserted(sessions, " ON CONFLICT DO NOTHING")
}

fn inserted(sessions: &[&Session], unless: &str) -> Result<Vec<Step>, Failed> {
    const ROWS: &str = "INSERT INTO @sessions (id, user_id, user_hash, confirmed, previous, generation, \
        attempt, confirmed_at, child_after, refresh_key, created_at, auth_after, lasts, flags, version) SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::uuid[], \
        $5::uuid[], $6::int[], $7::int[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], \
        $12::bigint[], $13::bigint[], $14::smallint[], $15::int[])";
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let of = |value: fn(&Session) -> i64| each(sessions, value);
    let rows = step!(
        format!("{ROWS}{unless}"),
        each(sessions, |row| Uuid(row.id.0)),
        each(sessions, |row| row.user.as_str().to_owned()),
        each(sessions, |row| user_hash(&row.user)),
        each(sessions, |row| Uuid(row.confirmed.0)),
        each(sessions, kept),
        generations(sessions)?,
        each(sessions, |row| row.attempt.cast_signed()),
        of(|row| stored_child_times(row).0),
        of(|row| stored_child_times(row).1),
        of(|row| row.refresh_key.0.cast_signed()),
        of(|row| row.created_at.0),
        of(|row| row.auth_time.since(row.created_at)),
        of(|row| row.absolute_end.since(row.created_at)),
        each(sessions, flags),
        versions(sessions)?,
    );
    Ok(std::iter::once(rows)
        .chain(details(sessions, unless))
        .collect())
}

fn details(sessions: &[&Session], unless: &str) -> Option<Step> {
    const DETAILED: &str = "INSERT INTO @details SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], \
        $4::text[], $5::text[])";
    let mut some = sessions.to_vec();
    some.retain(|row| has_details(row));
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    (!some.is_empty()).then(|| {
        step!(
            format!("{DETAILED}{unless}"),
            each(&some, |row| Uuid(row.id.0)),
            each(&some, |row| text(&row.device.name)),
            each(&some, |row| row
                .device
                .address
                .map(|address| address.to_string())),
            each(&some, |row| text(&row.device.agent)),
            each(&some, |row| text(&row.claims)),
        )
    })
}

/// Replaces rows by those of the next version, sorted by id; the ids of those that took effect.
pub(super) fn swap(sessions: &[&Session]) -> Result<Step, Failed> {
    const ROWS: &str = "UPDATE @sessions AS s SET confirmed = n.confirmed, previous = n.previous, \
        generation = n.generation, attempt = n.attempt, confirmed_at = n.confirmed_at, \
        child_after = n.child_after, refresh_key = n.refresh_key, auth_after = n.auth_after, \
        flags = n.flags, version = n.version FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], \
        $5::int[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::smallint[], $11::int[]) AS n (id, confirmed, previous, generation, attempt, confirmed_at, child_after, \
        refresh_key, auth_after, flags, version) \
        WHERE s.id = n.id AND s.version = n.version - 1 AND s.flags & 32 = 0 RETURNING s.id";
    let of = |value: fn(&Session) -> i64| each(sessions, value);
    Ok(step!(
        ROWS,
        each(sessions, |row| Uuid(row.id.0)),
        each(sessions, |row| Uuid(row.confirmed.0)),
        each(sessions, kept),
        generations(sessions)?,
        each(sessions, |row| row.attempt.cast_signed()),
        of(|row| stored_child_times(row).0),
        of(|row| stored_child_times(row).1),
        of(|row| row.refresh_key.0.cast_signed()),
        of(|row| row.auth_time.since(row.created_at)),
        each(sessions, flags),
        versions(sessions)?,
    ))
}

pub(super) fn each<T: ?Sized, V>(rows: &[&T], value: impl Fn(&T) -> V) -> Vec<V> {
    rows.iter().copied().map(value).collect()
}

/// Marks rows as ended that are locked.
pub(super) fn end_all(sessions: &[&Session]) -> Result<Step, Failed> {
    const ROWS: &str = "UPDATE @sessions AS s SET previous = n.previous, flags = n.flags, version = n.version \
        FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::int[]) AS n (id, previous, flags, version) \
        WHERE s.id = n.id";
    Ok(step!(
        ROWS,
        each(sessions, |row| Uuid(row.id.0)),
        each(sessions, kept),
        each(sessions, flags),
        versions(sessions)?,
    ))
}

pub(super) fn versions(sessions: &[&Session]) -> Result<Vec<i32>, Failed> {
    let fits = |row: &&Session| i32::try_from(row.version);
    let all: Result<_, _> = sessions.iter().map(fits).collect();
    all.map_err(|_| Failed::Damaged("version"))
}

fn generations(sessions: &[&Session]) -> Result<Vec<i32>, Failed> {
    let fits = |row: &&Session| i32::try_from(row.generation);
    let all: Result<_, _> = sessions.iter().map(fits).collect();
    all.map_err(|_| Failed::Damaged("generation"))
}

/// 32 bits that find a user's sessions: an index on them takes less room than one on the id.
pub(super) fn user_hash(user: &UserId) -> i32 {
    let digest = Sha256::digest(user.as_str().as_bytes());
    i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn has_details(session: &Session) -> bool {
    session.device != Device::default() || session.claims.is_some()
}

fn flags(session: &Session) -> i16 {
    let flag = |holds, flag| if holds { flag } else { 0 };
    flag(session.siblings, SIBLINGS)
        | flag(session.remember, REMEMBER)
        | flag(session.privileged, PRIVILEGED)
        | flag(session.delivery == Delivery::Body, BODY)
        | flag(has_details(session), DETAILS)
        | flag(session.ended.is_some(), ENDED)
}

/// `confirmed_at` and `child_at - confirmed_at`; [`Timestamp::NEVER`] is 0.
fn stored_child_times(session: &Session) -> (i64, i64) {
    let stored = |time: Timestamp| if time == Timestamp::NEVER { 0 } else { time.0 };
    let confirmed_at = stored(session.confirmed_at);
    (confirmed_at, stored(session.child_at) - confirmed_at)
}

fn child_times(confirmed_at: i64, child_after: i64) -> (Timestamp, Timestamp) {
    let time = |stored| match stored {
        0 => Timestamp::NEVER,
        stored => Timestamp(stored),
    };
    (time(confirmed_at), time(confirmed_at + child_after))
}

const NONE: Uuid = Uuid([0; 16]);

/// The token before, or when and why the session ended.
fn kept(session: &Session) -> Uuid {
    let Some(end) = session.ended else {
        return session.previous.map_or(NONE, |id| Uuid(id.0));
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&end.at.0.to_be_bytes());
    bytes[8] = end.reason as u8;
    Uuid(bytes)
}

fn end(kept: Uuid) -> End {
    let (at, why) = (
        kept.0.first_chunk::<8>().copied().unwrap_or_default(),
        kept.0[8],
    );
    End {
        at: Timestamp(i64::from_be_bytes(at)),
        reason: EndReason::stored(why),
    }
}

pub(super) fn reason(row: &Row, at: usize) -> Result<EndReason, Failed> {
    let why = u8::try_from(row.try_get::<_, i16>(at)?);
    Ok(EndReason::stored(why.unwrap_or(0)))
}

/// A row of `place, session, at, why`, and its place.
pub(super) fn ended(row: &Row) -> Result<(u64, Ended), Failed> {
    let ended = Ended {
        session: id(row, 1)?,
        at: Timestamp(row.try_get(2)?),
        reason: reason(row, 3)?,
    };
    Ok((row.try_get::<_, i64>(0)?.cast_unsigned(), ended))
}
