//! The first round trip of a group: it locks rows in one order, the same everywhere, and reads them.

use std::collections::BTreeSet;

use doorward_core::Timestamp;
use doorward_core::id::{SessionId, UserId};
use doorward_core::password::PasswordHash;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::store::{Account, ValidFrom};
use doorward_core::throttle::{Bucket, BucketKey};
use tokio_postgres::Row;

use super::connection::{Connection, Failed, Step, step};
use super::endings::{self, ENDINGS};
use super::rows::{self, Uuid, sessions, user_hash};
use super::view::{Needs, View};

/// Begins a transaction with what the operations need.
pub(super) async fn read(db: &Connection, mut needs: Needs) -> Result<View, Failed> {
    find_resets(db, &mut needs).await?;
    let mut steps = db.begin();
    let mut readers: Vec<Option<Reader>> = steps.iter().map(|_| None).collect();
    let mut ask = |asked: Vec<(Step, Option<Reader>)>| {
        for (step, reader) in asked {
            steps.push(step);
            readers.push(reader);
        }
    };
    ask(users(&needs.users));
    ask(accounts(&needs));
    ask(sessions(&needs));
    ask(others(&needs));
    let answers = db.all(&steps).await?;
    let mut view = View::default();
    let read = answers.iter().map(Vec::len).max().unwrap_or(0);
    if needs.is_of_many() && read >= needs.most_sessions() {
        view.cut = Some(live_of(db, &needs).await?);
    }
    for (rows, reader) in answers.iter().zip(readers) {
        let Some(reader) = reader else { continue };
        for row in rows {
            reader(&mut view, row)?;
        }
    }
    Ok(view)
}

/// Puts a row into the view.
type Reader = fn(&mut View, &Row) -> Result<(), Failed>;

/// All that are asked for of users whose sessions are too many to be locked together.
async fn live_of(db: &Connection, needs: &Needs) -> Result<Vec<SessionId>, Failed> {
    let theirs: BTreeSet<_> = needs.live_of.union(&needs.kept_of).cloned().collect();
    let hashes: Vec<_> = theirs.iter().map(user_hash).collect();
    let sql = "SELECT id FROM @sessions WHERE user_hash = ANY ($1::int[]) AND user_id = ANY ($2::text[]) \
        AND flags & 32 = 0 ORDER BY id";
    let rows = db.query(sql, &[&hashes, &texts(&theirs)]).await?;
    rows.iter().map(|row| rows::id(row, 0)).collect()
}

/// Whose resets they are, as far as can be told before the accounts are locked.
async fn find_resets(db: &Connection, needs: &mut Needs) -> Result<(), Failed> {
    if needs.resets.is_empty() {
        return Ok(());
    }
    let hashes: Vec<_> = needs.resets.iter().map(|hash| hash.0.to_vec()).collect();
    let sql = "SELECT user_id FROM @resets WHERE hash = ANY ($1::bytea[])";
    for row in db.query(sql, &[&hashes]).await? {
        needs.and(Needs::account(&rows::user(&row, 0)?));
    }
    Ok(())
}

/// Rows are made where there are none: a login locks one too.
fn users(users: &BTreeSet<UserId>) -> Vec<(Step, Option<Reader>)> {
    if users.is_empty() {
        return Vec::new();
    }
    let make = "INSERT INTO @valid_from (user_id, at) SELECT unnest($1::text[]), 0 \
        ON CONFLICT (user_id) DO NOTHING";
    let lock = "SELECT user_id, at FROM @valid_from WHERE user_id = ANY ($1::text[]) \
        ORDER BY user_id FOR UPDATE";
    vec![
        (step!(make, texts(users)), None),
        (step!(lock, texts(users)), Some(read_valid_from)),
        (step!(ENDINGS, texts(users)), Some(endings::read)),
    ]
}

fn accounts(needs: &Needs) -> Vec<(Step, Option<Reader>)> {
    if needs.accounts.is_empty() && needs.names.is_empty() {
        return Vec::new();
    }
    let lock = "SELECT id, username, password_hash, disabled, created_at, privileged FROM @accounts \
        WHERE id = ANY ($1::text[]) OR username = ANY ($2::text[]) ORDER BY id FOR UPDATE";
    let names: Vec<_> = needs.names.iter().map(ToString::to_string).collect();
    let resets = "SELECT user_id, hash, expires_at FROM @resets WHERE user_id = ANY ($1::text[]) \
        ORDER BY user_id FOR UPDATE";
    vec![
        (
            step!(lock, texts(&needs.accounts), names),
            Some(read_account),
        ),
        (step!(resets, texts(&needs.accounts)), Some(read_reset)),
    ]
}

fn sessions(needs: &Needs) -> Vec<(Step, Option<Reader>)> {
    let ids: Vec<_> = needs.sessions.iter().map(|id| Uuid(id.0)).collect();
    let theirs: BTreeSet<_> = needs.live_of.union(&needs.kept_of).cloned().collect();
    if ids.is_empty() && theirs.is_empty() {
        return Vec::new();
    }
    let step = if theirs.is_empty() {
        step!(
            sessions!("s.id = ANY ($1::uuid[]) ORDER BY s.id FOR UPDATE OF s"),
            ids
        )
    } else {
        let hashes: Vec<_> = theirs.iter().map(user_hash).collect();
        // The order is that of ids, said so that no plan goes through the index on them, which is made for the
        // limit and would find a user's few rows among all.
        step!(
            sessions!(
                "s.id = ANY ($1::uuid[]) OR (s.user_hash = ANY ($2::int[]) AND s.user_id = ANY \
                 ($3::text[]) AND (s.flags & 32 = 0 OR s.user_id = ANY ($4::text[]))) \
                 ORDER BY s.id::text COLLATE \"C\" LIMIT $5 FOR UPDATE OF s"
            ),
            ids,
            hashes,
            texts(&theirs),
            texts(&needs.kept_of),
            i64::try_from(needs.most_sessions()).unwrap_or(i64::MAX),
        )
    };
    vec![(step, Some(read_session))]
}

fn others(needs: &Needs) -> Vec<(Step, Option<Reader>)> {
    let mut steps: Vec<(Step, Option<Reader>)> = Vec::new();
    if !needs.adopted.is_empty() {
        let ids: Vec<_> = needs.adopted.iter().map(|id| Uuid(id.0)).collect();
        let lock = "SELECT session, until FROM @adopted WHERE session = ANY ($1::uuid[])";
        steps.push((step!(lock, ids), Some(read_adopted)));
    }
    if !needs.buckets.is_empty() {
        let keys: Vec<_> = needs.buckets.iter().map(|key| Uuid(key.0)).collect();
        let lock = "SELECT key, refilled_at, failures, counted_until, span, under_way, older \
            FROM @throttle WHERE key = ANY ($1::uuid[]) ORDER BY key FOR UPDATE";
        steps.push((step!(lock, keys), Some(read_bucket)));
    }
    if needs.restored_at {
        let lock = "SELECT place FROM @heads WHERE name = 'restored_at' FOR UPDATE";
        steps.push((step!(lock), Some(read_restored_at)));
    }
    steps
}

fn texts(users: &BTreeSet<UserId>) -> Vec<String> {
    users.iter().map(|user| user.as_str().to_owned()).collect()
}

fn read_valid_from(view: &mut View, row: &Row) -> Result<(), Failed> {
    view.valid_from
        .read(rows::user(row, 0)?, ValidFrom(row.try_get(1)?));
    Ok(())
}

fn read_account(view: &mut View, row: &Row) -> Result<(), Failed> {
    let account = account(row, ValidFrom::default())?;
    view.accounts.read(account.id.clone(), account);
    Ok(())
}

/// A row of `id, username, password_hash, disabled, created_at, privileged`.
pub(super) fn account(row: &Row, valid_from: ValidFrom) -> Result<Account, Failed> {
    Ok(Account {
        id: rows::user(row, 0)?,
        username: row.try_get::<_, &str>(1)?.into(),
        password_hash: PasswordHash::from_phc(row.try_get(2)?),
        disabled: row.try_get(3)?,
        created_at: Timestamp(row.try_get(4)?),
        privileged: row.try_get(5)?,
        valid_from,
    })
}

fn read_reset(view: &mut View, row: &Row) -> Result<(), Failed> {
    let (user, reset) = reset(row)?;
    view.resets.read(user, reset);
    Ok(())
}

/// A row of `user_id, hash, expires_at`.
pub(super) fn reset(row: &Row) -> Result<(UserId, Reset), Failed> {
    let hash = row.try_get::<_, &[u8]>(1)?.try_into();
    let reset = Reset {
        hash: ResetHash(hash.map_err(|_| Failed::Damaged("resets.hash"))?),
        expires_at: Timestamp(row.try_get(2)?),
    };
    Ok((rows::user(row, 0)?, reset))
}

fn read_session(view: &mut View, row: &Row) -> Result<(), Failed> {
    match rows::session(row) {
        Ok(session) => view.sessions.read(session.id, session),
        Err(failed) if failed.is_damage() => {
            view.damaged.insert(rows::id(row, 0)?, rows::user(row, 1)?);
        }
        Err(failed) => return Err(failed),
    }
    Ok(())
}

fn read_adopted(view: &mut View, row: &Row) -> Result<(), Failed> {
    view.adopted
        .read(rows::id(row, 0)?, Timestamp(row.try_get(1)?));
    Ok(())
}

fn read_bucket(view: &mut View, row: &Row) -> Result<(), Failed> {
    let (key, bucket) = bucket(row)?;
    view.buckets.read(key, bucket);
    Ok(())
}

/// A row of `key, refilled_at, failures, counted_until, span, under_way, older`.
pub(super) fn bucket(row: &Row) -> Result<(BucketKey, Bucket), Failed> {
    let count = |at: usize| row.try_get::<_, i32>(at).map(i32::cast_unsigned);
    let bucket = Bucket {
        refilled_at: Timestamp(row.try_get(1)?),
        failures: count(2)?,
        counted_until: Timestamp(row.try_get(3)?),
        span: row.try_get(4)?,
        under_way: count(5)?,
        older: count(6)?,
    };
    Ok((BucketKey(row.try_get::<_, Uuid>(0)?.0), bucket))
}

fn read_restored_at(view: &mut View, row: &Row) -> Result<(), Failed> {
    view.restored_at.read((), Timestamp(row.try_get(0)?));
    Ok(())
}
