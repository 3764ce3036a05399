//! Records of the log of events to bytes and back.

use doorward_core::Timestamp;
use doorward_core::event::{Actor, Event, EventName, Record};
use doorward_core::id::{SessionId, UserId};
use doorward_core::store::StoreResult;

use super::packed::{Packer, Reader};

pub(super) fn pack(record: &Record) -> Vec<u8> {
    let mut packer = Packer::default();
    let event = &record.event;
    packer.i64(record.at.0).text(event.name.as_str());
    packer.text(record.actor.as_str()).number(event.count);
    let session = event.session.map_or(Vec::new(), |id| id.0.to_vec());
    packer
        .perhaps(event.user.as_ref().map(UserId::as_str))
        .bytes(&session);
    packer
        .perhaps(event.reason.as_deref())
        .perhaps(event.detail.as_deref());
    for text in [&record.network, &record.device, &record.agent] {
        packer.perhaps(text.as_deref());
    }
    packer.0
}

/// `None`: something that only a later version knows.
pub(super) fn unpack(bytes: &[u8]) -> StoreResult<Option<Record>> {
    let mut reader = Reader::new(bytes, "an event");
    let at = Timestamp(reader.i64()?);
    let (name, actor) = (
        EventName::parse(reader.text()?),
        Actor::parse(reader.text()?),
    );
    let (Some(name), Some(actor)) = (name, actor) else {
        return Ok(None);
    };
    let count = reader.number()?;
    let user: Option<&str> = reader.perhaps()?;
    let event = Event {
        name,
        user: user.and_then(|user| UserId::new(user).ok()),
        session: session(&mut reader)?,
        reason: reader.owned()?,
        detail: reader.perhaps()?,
        count,
    };
    Ok(Some(Record {
        at,
        event,
        actor,
        network: reader.perhaps()?,
        device: reader.perhaps()?,
        agent: reader.perhaps()?,
    }))
}

fn session(reader: &mut Reader<'_>) -> StoreResult<Option<SessionId>> {
    match reader.bytes()? {
        [] => Ok(None),
        id => Ok(Some(SessionId(
            id.try_into().map_err(|_| reader.damaged())?,
        ))),
    }
}
