//! Sessions and ends to bytes and back.
//!
//! A session is one byte of state (0, the code of the reason for its end, or [`POINTER`]), four of its
//! version, its user with one byte of length, and the rest; an ended one has eight bytes of time at the end.
//! So scripts can compare a version, tell a user and end a session without knowing the rest.

use doorward_core::Timestamp;
use doorward_core::error::StoreError;
use doorward_core::id::{SessionId, TokenId, UserId};
use doorward_core::keys::KeyId;
use doorward_core::revocation::Ended;
use doorward_core::session::{Delivery, Device, End, EndReason, Session};
use doorward_core::store::StoreResult;
use sha2::{Digest as _, Sha256};

use super::packed::{Packer, Reader, damaged};

/// The state of what is no session, but leads to the slot of one.
pub(super) const POINTER: u8 = 255;
/// Bytes of an [`Ended`].
pub(super) const END: usize = 25;

const SIBLINGS: u64 = 1;
const REMEMBER: u64 = 2;
const BODY: u64 = 4;
const PRIVILEGED: u64 = 8;
const PREVIOUS: u64 = 16;
const CONFIRMED: u64 = 32;
const CHILD: u64 = 64;
// One bit more is one byte more: those that most sessions do not have.
const NAME: u64 = 128;
const ADDRESS: u64 = 256;
const AGENT: u64 = 512;
const CLAIMS: u64 = 1024;

/// A user as rows and scripts have it: one byte of length, and the text.
pub(super) fn user_field(user: &UserId) -> Vec<u8> {
    let text = user.as_str().as_bytes();
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length], text].concat()
}

/// Where the ids of a user's sessions are listed: the bucket, and what marks them there.
pub(super) fn listed(user: &UserId) -> (u8, [u8; 4]) {
    let hash = Sha256::digest(user.as_str().as_bytes());
    (hash[2] & 0x3f, [hash[3], hash[4], hash[5], hash[6]])
}

/// How a live row of this version begins.
pub(super) fn live(version: u64) -> StoreResult<[u8; 5]> {
    let version = u32::try_from(version).map_err(|_| StoreError("a version too great".into()))?;
    let [a, b, c, d] = version.to_be_bytes();
    Ok([0, a, b, c, d])
}

pub(super) fn pack(row: &Session) -> StoreResult<Vec<u8>> {
    let [_, version @ ..] = live(row.version)?;
    let mut packer = Packer(Vec::with_capacity(96));
    let state = row.ended.map_or(0, |end| end.reason as u8);
    packer.byte(state).raw(&version).raw(&user_field(&row.user));
    pack_rest(&mut packer, row);
    if let Some(end) = row.ended {
        packer.i64(end.at.0);
    }
    Ok(packer.0)
}

fn pack_rest(packer: &mut Packer, row: &Session) {
    let since = |at: Timestamp| at.0.wrapping_sub(row.created_at.0);
    packer.number(flags(row)).raw(&row.confirmed.0);
    if let Some(previous) = row.previous {
        packer.raw(&previous.0);
    }
    packer.signed(row.generation).number(row.attempt.into());
    for at in [row.confirmed_at, row.child_at] {
        if at != Timestamp::NEVER {
            packer.signed(since(at));
        }
    }
    packer.raw(&row.refresh_key.0.to_be_bytes());
    packer.signed(row.created_at.0.wrapping_sub(born(row.id)));
    packer
        .signed(since(row.auth_time))
        .signed(since(row.absolute_end));
    let address = row.device.address.map(|address| address.to_string());
    let texts = [
        &row.device.name,
        &address.map(Into::into),
        &row.device.agent,
        &row.claims,
    ];
    for text in texts.into_iter().flatten() {
        packer.text(text);
    }
}

fn flags(row: &Session) -> u64 {
    let all = [
        (row.siblings, SIBLINGS),
        (row.remember, REMEMBER),
        (row.delivery == Delivery::Body, BODY),
        (row.privileged, PRIVILEGED),
        (row.previous.is_some(), PREVIOUS),
        (row.confirmed_at != Timestamp::NEVER, CONFIRMED),
        (row.child_at != Timestamp::NEVER, CHILD),
        (row.device.name.is_some(), NAME),
        (row.device.address.is_some(), ADDRESS),
        (row.device.agent.is_some(), AGENT),
        (row.claims.is_some(), CLAIMS),
    ];
    let set = all.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, flag)| flag).sum()
}

/// The time that an id tells.
fn born(id: SessionId) -> i64 {
    let mut bytes = [0; 8];
    bytes[2..].copy_from_slice(&id.0[..6]);
    i64::from_be_bytes(bytes)
}

pub(super) fn unpack(id: SessionId, bytes: &[u8]) -> StoreResult<Session> {
    let mut reader = Reader::new(bytes, "a session");
    let state = reader.byte()?;
    let version = u32::from_be_bytes(reader.array()?).into();
    let length = reader.byte()?.into();
    let user = std::str::from_utf8(reader.raw(length)?).map_err(|_| reader.damaged())?;
    let user = UserId::new(user).map_err(|_| reader.damaged())?;
    let mut row = unpack_rest(id, user, &mut reader)?;
    row.version = version;
    row.ended = match state {
        0 => None,
        code => Some(End {
            reason: EndReason::from_code(code).ok_or_else(|| reader.damaged())?,
            at: Timestamp(reader.i64()?),
        }),
    };
    if reader.is_empty() {
        Ok(row)
    } else {
        Err(reader.damaged())
    }
}

fn unpack_rest(id: SessionId, user: UserId, reader: &mut Reader<'_>) -> StoreResult<Session> {
    let flags = reader.number()?;
    let has = |flag| flags & flag != 0;
    let confirmed = TokenId(reader.array()?);
    let previous = has(PREVIOUS)
        .then(|| reader.array())
        .transpose()?
        .map(TokenId);
    let (generation, attempt) = (reader.signed()?, reader.number()?);
    let confirmed_after = has(CONFIRMED).then(|| reader.signed()).transpose()?;
    let child_after = has(CHILD).then(|| reader.signed()).transpose()?;
    let refresh_key = KeyId(u64::from_be_bytes(reader.array()?));
    let created_at = born(id).wrapping_add(reader.signed()?);
    let at = |after: i64| Timestamp(created_at.wrapping_add(after));
    let (auth_time, absolute_end) = (at(reader.signed()?), at(reader.signed()?));
    let mut text = |flag| {
        has(flag)
            .then(|| reader.text().map(Box::<str>::from))
            .transpose()
    };
    let (name, address) = (text(NAME)?, text(ADDRESS)?);
    let (agent, claims) = (text(AGENT)?, text(CLAIMS)?);
    let address = address.map(|text| text.parse()).transpose();
    Ok(Session {
        id,
        user,
        confirmed,
        generation,
        previous,
        siblings: has(SIBLINGS),
        attempt: u32::try_from(attempt).map_err(|_| reader.damaged())?,
        confirmed_at: confirmed_after.map_or(Timestamp::NEVER, at),
        child_at: child_after.map_or(Timestamp::NEVER, at),
        refresh_key,
        created_at: Timestamp(created_at),
        auth_time,
        absolute_end,
        remember: has(REMEMBER),
        privileged: has(PRIVILEGED),
        delivery: if has(BODY) {
            Delivery::Body
        } else {
            Delivery::Cookie
        },
        device: Device {
            name,
            address: address.map_err(|_| reader.damaged())?,
            agent,
        },
        claims,
        ended: None,
        version: 0,
    })
}

/// What leads to the slot of a session whose id does not tell it: until when at least, too.
pub(super) fn pointer(slot: u16, until: Timestamp) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.byte(POINTER).raw(&slot.to_be_bytes()).i64(until.0);
    packer.0
}

/// Where a pointer leads, and until when it stays at least; `None`: it is a row.
pub(super) fn pointed(bytes: &[u8]) -> StoreResult<Option<(u16, Timestamp)>> {
    let mut reader = Reader::new(bytes, "a session's pointer");
    if reader.byte()? != POINTER {
        return Ok(None);
    }
    let slot = u16::from_be_bytes(reader.array()?);
    Ok(Some((slot, Timestamp(reader.i64()?))))
}

pub(super) fn pack_end(end: &Ended) -> [u8; END] {
    let mut bytes = [0; END];
    bytes[..16].copy_from_slice(&end.session.0);
    bytes[16..24].copy_from_slice(&end.at.0.to_be_bytes());
    bytes[24] = end.reason as u8;
    bytes
}

/// Ends, packed one after the other.
pub(super) fn unpack_ends(bytes: &[u8]) -> StoreResult<Vec<Ended>> {
    if !bytes.len().is_multiple_of(END) {
        return Err(damaged("an end"));
    }
    bytes.chunks_exact(END).map(unpack_end).collect()
}

fn unpack_end(bytes: &[u8]) -> StoreResult<Ended> {
    let mut reader = Reader::new(bytes, "an end");
    Ok(Ended {
        session: SessionId(reader.array()?),
        at: Timestamp(reader.i64()?),
        reason: EndReason::from_code(reader.byte()?).ok_or_else(|| reader.damaged())?,
    })
}
