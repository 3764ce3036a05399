//! What webhooks have still to send, beside the logs.

use doorward_core::Timestamp;
use doorward_core::store::{Delivery, StoreResult, Write};

use super::base::{Base, bytes, digits, int, list, perhaps, strange};
use super::scripts;
use super::sessions::done;
use super::tags::Tag;

pub(super) const CURSORS: &str = "cursors";

/// When what an address has not acknowledged is due, by place.
pub(super) fn due_of(address: &str) -> String {
    format!("due:{address}")
}

/// How often each was tried, by place.
pub(super) fn tries_of(address: &str) -> String {
    format!("tries:{address}")
}

impl Base {
    pub(super) async fn outbox_cursor(&self, address: &str) -> StoreResult<Option<u64>> {
        let mut command = self.command("HGET", Tag::Logs, CURSORS);
        command.arg(address);
        let cursor = perhaps(self.read_one(Tag::Logs, command).await?)?;
        cursor.map(|cursor| digits(&cursor)).transpose()
    }

    pub(super) async fn enqueue(
        &self,
        address: &str,
        (from, to): (Option<u64>, u64),
        places: &[u64],
        due: Timestamp,
    ) -> StoreResult<Write> {
        let keys = [CURSORS, &due_of(address)];
        let mut command = self.script(&scripts::ENQUEUE, Tag::Logs, &keys);
        command
            .arg(address)
            .arg(from.map_or_else(String::new, |from| from.to_string()));
        command.arg(to).arg(due.0);
        for place in places {
            command.arg(&place.to_be_bytes());
        }
        Ok(done(int(self.write(Tag::Logs, command).await?)? == 1))
    }

    pub(super) async fn claim(
        &self,
        address: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<Delivery>> {
        let keys = [CURSORS, &due_of(address), &tries_of(address)];
        let mut command = self.script(&scripts::CLAIM, Tag::Logs, &keys);
        command.arg(now.0).arg(until.0).arg(limit);
        let claimed = list(self.write(Tag::Logs, command).await?)?;
        let claimed: Vec<_> = claimed.into_iter().collect();
        let deliveries = claimed.chunks_exact(2).map(|one| {
            let place = bytes(one[0].clone())?.try_into().map_err(|_| strange())?;
            Ok(Delivery {
                place: u64::from_be_bytes(place),
                attempts: u32::try_from(int(one[1].clone())?).map_err(|_| strange())?,
            })
        });
        deliveries.collect()
    }

    pub(super) async fn settle(
        &self,
        address: &str,
        place: u64,
        again: Option<(u32, Timestamp)>,
    ) -> StoreResult<()> {
        let keys = [CURSORS, &due_of(address), &tries_of(address)];
        let mut command = self.script(&scripts::SETTLE, Tag::Logs, &keys);
        command.arg(&place.to_be_bytes());
        match again {
            Some((attempts, due)) => command.arg(attempts).arg(due.0),
            None => command.arg("").arg(""),
        };
        self.write(Tag::Logs, command).await.map(drop)
    }
}
