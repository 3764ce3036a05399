//! The second round trip of a group: what its operations changed, the places of what they logged, and the
//! commit, sent together. Nobody waits for this node while it holds the row that gives places.

use doorward_core::event::Record;
use doorward_core::id::UserId;
use doorward_core::reset::Reset;
use doorward_core::revocation::Ended;
use doorward_core::store::{Account, ValidFrom};
use doorward_core::throttle::{Bucket, BucketKey};

use super::connection::{Connection, Failed, Step, step};
use super::endings;
use super::notice;
use super::rows::{self, Uuid, each};
use super::view::View;

/// Writes what was changed, and commits; tells of ends where there is a channel for it.
pub(super) async fn write(
    db: &Connection,
    view: &View,
    channel: Option<&str>,
) -> Result<(), Failed> {
    let mut steps = sessions(view)?;
    steps.extend(users(view));
    steps.extend(endings::write(view));
    steps.extend(accounts(view));
    steps.extend(resets(view));
    steps.extend(buckets(view));
    steps.extend(restored(view));
    steps.extend(
        channel
            .into_iter()
            .flat_map(|channel| notices(view, channel)),
    );
    // Last, and in this order, so that nobody waits in a circle.
    steps.extend(ended(&view.ended));
    steps.extend(events(&view.records));
    steps.push(step!("COMMIT"));
    db.all(&steps).await.map(drop)
}

fn sessions(view: &View) -> Result<Vec<Step>, Failed> {
    // First: another may have the id of one that goes.
    let mut steps = Vec::new();
    let removed = view.sessions.removed().chain(&view.unread);
    let removed: Vec<_> = removed.map(|id| Uuid(id.0)).collect();
    if !removed.is_empty() {
        let details = "DELETE FROM @details WHERE session = ANY ($1::uuid[])";
        steps.push(step!(details, removed.clone()));
        steps.push(step!(
            "DELETE FROM @sessions WHERE id = ANY ($1::uuid[])",
            removed
        ));
    }
    let added: Vec<_> = view.sessions.added().map(|(_, row)| row).collect();
    steps.extend(rows::insert(&added)?);
    let changed: Vec<_> = view.sessions.changed().map(|(_, row)| row).collect();
    if !changed.is_empty() {
        steps.push(rows::end_all(&changed)?);
    }
    let adopted: Vec<_> = view.adopted.added().collect();
    if !adopted.is_empty() {
        let remember = "INSERT INTO @adopted SELECT * FROM unnest($1::uuid[], $2::bigint[])";
        let ids: Vec<_> = adopted.iter().map(|(id, _)| Uuid(id.0)).collect();
        let until: Vec<_> = adopted.iter().map(|(_, until)| until.0).collect();
        steps.push(step!(remember, ids, until));
    }
    Ok(steps)
}

fn users(view: &View) -> Vec<Step> {
    let moved: Vec<(&UserId, &ValidFrom)> = view.valid_from.changed().collect();
    let mut steps = Vec::new();
    if !moved.is_empty() {
        let sql = "UPDATE @valid_from AS v SET at = n.at FROM unnest($1::text[], $2::bigint[]) \
            AS n (user_id, at) WHERE v.user_id = n.user_id";
        let users: Vec<_> = moved
            .iter()
            .map(|(user, _)| user.as_str().to_owned())
            .collect();
        let times: Vec<_> = moved.iter().map(|(_, at)| at.0).collect();
        steps.push(step!(sql, users, times));
    }
    if !view.erased.is_empty() {
        let users: Vec<_> = view
            .erased
            .iter()
            .map(|user| user.as_str().to_owned())
            .collect();
        steps.push(step!(
            "DELETE FROM @events WHERE user_id = ANY ($1::text[])",
            users
        ));
    }
    steps
}

pub(super) fn insert_account(account: &Account) -> Step {
    let sql = "INSERT INTO @accounts (id, username, password_hash, disabled, created_at, privileged) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    step!(
        sql,
        account.id.as_str().to_owned(),
        account.username.to_string(),
        account.password_hash.as_str().to_owned(),
        account.disabled,
        account.created_at.0,
        account.privileged,
    )
}

fn accounts(view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    for id in view.accounts.removed() {
        steps.push(step!(
            "DELETE FROM @accounts WHERE id = $1",
            id.as_str().to_owned()
        ));
    }
    steps.extend(
        view.accounts
            .added()
            .map(|(_, account)| insert_account(account)),
    );
    for (_, account) in view.accounts.changed() {
        let sql =
            "UPDATE @accounts SET password_hash = $2, disabled = $3, privileged = $4 WHERE id = $1";
        steps.push(step!(
            sql,
            account.id.as_str().to_owned(),
            account.password_hash.as_str().to_owned(),
            account.disabled,
            account.privileged,
        ));
    }
    steps
}

fn resets(view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    for user in view.resets.removed() {
        steps.push(step!(
            "DELETE FROM @resets WHERE user_id = $1",
            user.as_str().to_owned()
        ));
    }
    let kept = view.resets.added().chain(view.resets.changed());
    steps.extend(kept.map(|(user, kept)| reset(user, kept)));
    steps
}

/// Keeps a reset in place of the one before.
pub(super) fn reset(user: &UserId, reset: &Reset) -> Step {
    let sql = "INSERT INTO @resets (user_id, hash, expires_at) VALUES ($1, $2, $3) \
        ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at";
    let (user, hash) = (user.as_str().to_owned(), reset.hash.0.to_vec());
    step!(sql, user, hash, reset.expires_at.0)
}

const BUCKETS: &str = "unnest($1::uuid[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], \
    $6::int[], $7::int[], $8::bigint[])";

fn buckets(view: &View) -> Vec<Step> {
    let added: Vec<_> = view.buckets.added().collect();
    let changed: Vec<_> = view.buckets.changed().collect();
    let added = (!added.is_empty()).then(|| insert_buckets(&added));
    let changed = (!changed.is_empty()).then(|| {
        let sql = format!(
            "UPDATE @throttle AS t SET refilled_at = n.refilled_at, failures = n.failures, \
             counted_until = n.counted_until, span = n.span, under_way = n.under_way, older = n.older, \
             idle_at = n.idle_at FROM {BUCKETS} AS n (key, refilled_at, failures, counted_until, span, \
             under_way, older, idle_at) WHERE t.key = n.key"
        );
        with_buckets(sql, &changed)
    });
    added.into_iter().chain(changed).collect()
}

pub(super) fn insert_buckets(rows: &[(&BucketKey, &Bucket)]) -> Step {
    let sql = format!(
        "INSERT INTO @throttle (key, refilled_at, failures, counted_until, span, under_way, older, \
         idle_at) SELECT * FROM {BUCKETS}"
    );
    with_buckets(sql, rows)
}

fn with_buckets(sql: String, rows: &[(&BucketKey, &Bucket)]) -> Step {
    let numbers = |value: fn(&Bucket) -> i64| -> Vec<i64> {
        rows.iter().map(|(_, bucket)| value(bucket)).collect()
    };
    let counts = |value: fn(&Bucket) -> u32| -> Vec<i32> {
        rows.iter()
            .map(|(_, bucket)| value(bucket).cast_signed())
            .collect()
    };
    let keys: Vec<_> = rows.iter().map(|(key, _)| Uuid(key.0)).collect();
    step!(
        sql,
        keys,
        numbers(|bucket| bucket.refilled_at.0),
        counts(|bucket| bucket.failures),
        numbers(|bucket| bucket.counted_until.0),
        numbers(|bucket| bucket.span),
        counts(|bucket| bucket.under_way),
        counts(|bucket| bucket.older),
        numbers(|bucket| bucket.idle_at().0),
    )
}

fn restored(view: &View) -> Option<Step> {
    let ((), at) = view.restored_at.changed().next()?;
    let sql = "UPDATE @heads SET place = $1 WHERE name = 'restored_at'";
    Some(step!(sql, at.0))
}

fn notices(view: &View, channel: &str) -> Vec<Step> {
    let ends: Vec<_> = view.ended.iter().chain(&view.again).copied().collect();
    let payloads = notice::payloads(&ends).into_iter();
    let notify = |payload| step!("SELECT pg_notify($1, $2)", channel.to_owned(), payload);
    payloads.map(notify).collect()
}

/// Gives places and appends.
fn ended(ends: &[Ended]) -> Option<Step> {
    let sql = "WITH head AS (UPDATE @heads SET place = place + cardinality($1::uuid[]) \
        WHERE name = 'ended' RETURNING place - cardinality($1::uuid[]) AS place) \
        INSERT INTO @ended (place, session, at, why) SELECT head.place + n.nth, n.session, n.at, n.why \
        FROM head, unnest($1::uuid[], $2::bigint[], $3::smallint[]) WITH ORDINALITY \
        AS n (session, at, why, nth)";
    let all: Vec<&Ended> = ends.iter().collect();
    (!ends.is_empty()).then(|| {
        step!(
            sql,
            each(&all, |end| Uuid(end.session.0)),
            each(&all, |end| end.at.0),
            each(&all, |end| end.reason as i16),
        )
    })
}

const COLUMNS: &str =
    "at, name, actor, count, user_id, session, reason, detail, network, device, agent";
const RECORDS: &str = "unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], \
    $6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]";

fn events(records: &[Record]) -> Option<Step> {
    let sql = format!(
        "WITH head AS (UPDATE @heads SET place = place + cardinality($1::bigint[]) \
         WHERE name = 'events' RETURNING place - cardinality($1::bigint[]) AS place) \
         INSERT INTO @events (place, {COLUMNS}) SELECT head.place + n.nth, n.at, n.name, n.actor, \
         n.count, n.user_id, n.session, n.reason, n.detail, n.network, n.device, n.agent \
         FROM head, {RECORDS}) WITH ORDINALITY AS n ({COLUMNS}, nth)"
    );
    let all: Vec<&Record> = records.iter().collect();
    (!all.is_empty()).then(|| with_records(sql, &all))
}

/// Appends records whose places are known.
pub(super) fn put_events(records: &[&Record], places: Vec<i64>) -> Step {
    let sql =
        format!("INSERT INTO @events ({COLUMNS}, place) SELECT * FROM {RECORDS}, $12::bigint[])");
    let mut step = with_records(sql, records);
    step.bind(places);
    step
}

fn with_records(sql: String, all: &[&Record]) -> Step {
    let text =
        |value: fn(&Record) -> Option<&str>| each(all, |record| value(record).map(str::to_owned));
    step!(
        sql,
        each(all, |record| record.at.0),
        each(all, |record| record.event.name.as_str()),
        each(all, |record| record.actor.as_str()),
        each(all, |record| record.event.count.cast_signed()),
        text(|record| record.event.user.as_ref().map(UserId::as_str)),
        each(all, |record| record.event.session.map(|id| Uuid(id.0))),
        text(|record| record.event.reason.as_deref()),
        text(|record| record.event.detail.as_deref()),
        text(|record| record.network.as_deref()),
        text(|record| record.device.as_deref()),
        text(|record| record.agent.as_deref()),
    )
}
