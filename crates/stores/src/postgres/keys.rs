//! The key ring's rows. Whoever changes them locks one row first.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::keys::{KeyId, Purpose, StoredKey};
use doorward_core::store::{KeyStore, StoreResult, Write};
use tokio_postgres::Row;

use super::connection::{Failed, Step, step};
use super::{PostgresStore, took};

const LOCK: &str = "SELECT 1 FROM @heads WHERE name = 'keys' FOR UPDATE";

#[async_trait]
impl KeyStore for PostgresStore {
    async fn keys(&self) -> StoreResult<Vec<StoredKey>> {
        let sql = "SELECT id, purpose, algorithm, secret, created_at, signs_from, verifies_until, scopes, \
            retired FROM @keys ORDER BY number";
        self.read(sql, Vec::new(), |rows| rows.iter().map(key).collect())
            .await
    }

    async fn add_key(&self, key: StoredKey, only_if_none: bool) -> StoreResult<Write> {
        let sql = "INSERT INTO @keys (id, purpose, algorithm, secret, created_at, signs_from, \
            verifies_until, scopes, retired, number) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, \
            coalesce((SELECT max(number) FROM @keys), 0) + 1 WHERE NOT EXISTS \
            (SELECT 1 FROM @keys WHERE id = $1 OR $10 AND purpose = $2) RETURNING 1";
        let steps = move || vec![step!(LOCK), stored(sql, &key, Some(only_if_none))];
        Ok(took(last(&self.write(steps).await?) == 1))
    }

    async fn update_keys(&self, keys: Vec<StoredKey>) -> StoreResult<Write> {
        let ids: Vec<_> = keys.iter().map(|key| key.id.0.cast_signed()).collect();
        let distinct: std::collections::BTreeSet<_> = ids.iter().copied().collect();
        let wanted = i64::try_from(distinct.len()).unwrap_or(i64::MAX);
        let check = "SELECT 1 / (CASE WHEN count(*) = $2 THEN 1 ELSE 0 END) FROM @keys \
            WHERE id = ANY ($1::bigint[]) AND NOT retired";
        let sql = "UPDATE @keys SET purpose = $2, algorithm = $3, secret = $4, created_at = $5, \
            signs_from = $6, verifies_until = $7, scopes = $8, retired = $9 WHERE id = $1";
        let steps = move || {
            let locked = [step!(LOCK), step!(check, ids.clone(), wanted)];
            let updates = keys.iter().map(|key| stored(sql, key, None));
            locked.into_iter().chain(updates).collect()
        };
        match self.write(steps).await {
            Ok(_) => Ok(Write::Done),
            Err(error) if error.0.ends_with("(22012)") => Ok(Write::Lost),
            Err(error) => Err(error),
        }
    }

    async fn remove_key(&self, id: KeyId) -> StoreResult<Write> {
        let sql = "DELETE FROM @keys WHERE id = $1 RETURNING 1";
        let steps = move || vec![step!(LOCK), step!(sql, id.0.cast_signed())];
        Ok(took(last(&self.write(steps).await?) == 1))
    }
}

/// Takes a key in: one that is there keeps its place.
pub(super) fn put(key: &StoredKey) -> Step {
    let sql = "INSERT INTO @keys (id, purpose, algorithm, secret, created_at, signs_from, verifies_until, \
        scopes, retired, number) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, \
        coalesce((SELECT max(number) FROM @keys), 0) + 1 ON CONFLICT (id) DO UPDATE SET \
        purpose = excluded.purpose, algorithm = excluded.algorithm, secret = excluded.secret, \
        created_at = excluded.created_at, signs_from = excluded.signs_from, \
        verifies_until = excluded.verifies_until, scopes = excluded.scopes, retired = excluded.retired";
    stored(sql, key, None)
}

fn last(answers: &[Vec<Row>]) -> usize {
    answers.last().map_or(0, Vec::len)
}

fn stored(sql: &str, key: &StoredKey, only_if_none: Option<bool>) -> Step {
    let mut step = step!(
        sql,
        key.id.0.cast_signed(),
        purpose(key.purpose),
        key.algorithm.to_string(),
        key.secret.to_vec(),
        key.created_at.0,
        key.signs_from.0,
        key.verifies_until.0,
        key.scopes.to_string(),
        key.retired,
    );
    if let Some(only) = only_if_none {
        step.bind(only);
    }
    step
}

fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Access => "access",
        Purpose::Refresh => "refresh",
    }
}

fn key(row: &Row) -> Result<StoredKey, Failed> {
    Ok(StoredKey {
        id: KeyId(row.try_get::<_, i64>(0)?.cast_unsigned()),
        purpose: match row.try_get(1)? {
            "access" => Purpose::Access,
            "refresh" => Purpose::Refresh,
            _ => return Err(Failed::Damaged("keys.purpose")),
        },
        algorithm: row.try_get::<_, &str>(2)?.into(),
        secret: row.try_get::<_, Vec<u8>>(3)?.into(),
        created_at: Timestamp(row.try_get(4)?),
        signs_from: Timestamp(row.try_get(5)?),
        verifies_until: Timestamp(row.try_get(6)?),
        scopes: row.try_get::<_, &str>(7)?.into(),
        retired: row.try_get(8)?,
    })
}
