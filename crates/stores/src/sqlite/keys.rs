//! The key ring's rows.

use async_trait::async_trait;
use doorward_core::keys::{KeyId, StoredKey};
use doorward_core::store::{KeyStore, StoreResult, Write};
use rusqlite::params;

use super::{SqliteStore, rows};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT id, purpose, algorithm, secret, created_at, signs_from, retired, verifies_until, \
                 scopes FROM keys ORDER BY number",
            )?
            .query_map([], rows::key)?
            .collect()
        })
    }

    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        self.write(move |group| {
            let purpose = rows::purpose(key.purpose);
            let sql = "INSERT INTO keys (id, purpose, algorithm, secret, created_at, signs_from, \
                retired, verifies_until, scopes) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9, ?10 WHERE NOT ?8 \
                OR NOT EXISTS (SELECT 1 FROM keys WHERE purpose = ?2) ON CONFLICT DO NOTHING";
            let added = group.tx.prepare_cached(sql)?.execute(params![
                key.id.0.cast_signed(),
                purpose,
                key.algorithm,
                key.secret,
                key.created_at.0,
                key.signs_from.0,
                key.retired,
                only_if_none,
                key.verifies_until.0,
                key.scopes
            ])?;
            Ok(added == 1)
        })
        .await
    }

    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        self.write(move |group| {
            let sql = "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1 AND retired = 0)";
            for key in &keys {
                let mut live = group.tx.prepare_cached(sql)?;
                if !live.query_row([key.id.0.cast_signed()], |row| row.get(0))? {
                    return Ok(false);
                }
            }
            let sql = "UPDATE keys SET purpose = ?2, algorithm = ?3, secret = ?4, created_at = ?5, \
                signs_from = ?6, retired = ?7, verifies_until = ?8, scopes = ?9 WHERE id = ?1";
            for key in &keys {
                group.tx.prepare_cached(sql)?.execute(params![
                    key.id.0.cast_signed(),
                    rows::purpose(key.purpose),
                    key.algorithm,
                    key.secret,
                    key.created_at.0,
                    key.signs_from.0,
                    key.retired,
                    key.verifies_until.0,
                    key.scopes
                ])?;
            }
            Ok(true)
        })
        .await
    }

    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        self.write(move |group| {
            let sql = "DELETE FROM keys WHERE id = ?1";
            Ok(group
                .tx
                .prepare_cached(sql)?
                .execute([id.0.cast_signed()])?
                == 1)
        })
        .await
    }
}
