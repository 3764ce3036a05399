//! The key ring: one hash.

use doorward_core::Timestamp;
use doorward_core::keys::{KeyId, Purpose, StoredKey};
use doorward_core::store::{StoreResult, Write};

use super::base::{Base, bytes, int, list};
use super::packed::{Packer, Reader};
use super::scripts;
use super::sessions::{done, field};
use super::tags::Tag;

impl Base {
    pub(super) async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        let all = list(
            self.read_one(Tag::Keys, self.command("HGETALL", Tag::Keys, ""))
                .await?,
        )?;
        let mut keys = Vec::new();
        let mut all = all.into_iter();
        while let (Some(name), Some(key)) = (all.next(), all.next()) {
            let (name, key) = (bytes(name)?, bytes(key)?);
            if let [b'k', id @ ..] = &name[..] {
                keys.push(unpack(id, &key)?);
            }
        }
        keys.sort_unstable_by_key(|(place, _)| *place);
        Ok(keys.into_iter().map(|(_, key)| key).collect())
    }

    pub(super) async fn add_key(&self, key: &StoredKey, only_if_none: bool) -> StoreResult<Write> {
        let mut command = self.script(&scripts::ADD_KEY, Tag::Keys, &[]);
        command.arg(&key.id.0.to_be_bytes()).arg(pack(key));
        command.arg(u8::from(only_if_none));
        let added = self.write_firmly(Tag::Keys, command).await?;
        Ok(done(int(added)? == 1))
    }

    pub(super) async fn update_keys(&self, keys: &[StoredKey]) -> StoreResult<Write> {
        let mut command = self.script(&scripts::UPDATE_KEYS, Tag::Keys, &[]);
        for key in keys {
            command.arg(&key.id.0.to_be_bytes()).arg(pack(key));
        }
        let updated = self.write_firmly(Tag::Keys, command).await?;
        Ok(done(int(updated)? == 1))
    }

    pub(super) async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        let mut command = self.script(&scripts::REMOVE_KEY, Tag::Keys, &[]);
        command.arg(field(b'k', &id.0.to_be_bytes()));
        let removed = self.write_firmly(Tag::Keys, command).await?;
        Ok(done(int(removed)? == 1))
    }
}

/// Its purpose and whether it is retired come first: scripts ask for them.
pub(super) fn pack(key: &StoredKey) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.byte(match key.purpose {
        Purpose::Access => b'a',
        Purpose::Refresh => b'r',
    });
    packer
        .byte(key.retired.into())
        .text(&key.algorithm)
        .bytes(&key.secret);
    packer
        .i64(key.created_at.0)
        .i64(key.signs_from.0)
        .i64(key.verifies_until.0);
    packer.text(&key.scopes);
    packer.0
}

/// A key, and its place among those that were added.
fn unpack(id: &[u8], bytes: &[u8]) -> StoreResult<(u64, StoredKey)> {
    let mut reader = Reader::new(bytes, "a key");
    let place = u64::from_be_bytes(reader.array()?);
    let id = id.try_into().map_err(|_| reader.damaged())?;
    let purpose = match reader.byte()? {
        b'a' => Purpose::Access,
        b'r' => Purpose::Refresh,
        _ => return Err(reader.damaged()),
    };
    let key = StoredKey {
        id: KeyId(u64::from_be_bytes(id)),
        purpose,
        retired: reader.byte()? != 0,
        algorithm: reader.text()?.into(),
        secret: reader.bytes()?.into(),
        created_at: Timestamp(reader.i64()?),
        signs_from: Timestamp(reader.i64()?),
        verifies_until: Timestamp(reader.i64()?),
        scopes: reader.text()?.into(),
    };
    Ok((place, key))
}
