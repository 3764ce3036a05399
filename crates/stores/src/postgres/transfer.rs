//! What a PostgreSQL store hands over and takes in.
//!
//! A store that was left has a trigger on each table, so that older versions of this program, which know
//! nothing of the mark, are refused too. Whoever moves rows says so in a setting of the transaction.

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::event::{Entry, Filter};
use doorward_core::id::{SessionId, UserId};
use doorward_core::revocation::Ended;
use doorward_core::session::Session;
use doorward_core::store::{
    Account, Delivery, EventStore as _, KeyStore as _, StoreResult, ValidFrom,
};
use doorward_core::throttle::BucketKey;
use doorward_core::transfer::{Bookmark, Kind, LEFT, Rows, TransferStore};
use tokio_postgres::Row;

use super::connection::{Failed, Step, Value, step};
use super::rows::{self, Uuid, each, sessions};
use super::{PostgresStore, flush, keys, lock};

/// In the order in which groups come to them, so that who puts up the fence and who writes do not wait for each
/// other in a circle.
const TABLES: [&str; 14] = [
    "valid_from",
    "endings",
    "accounts",
    "resets",
    "sessions",
    "details",
    "adopted",
    "throttle",
    "heads",
    "ended",
    "events",
    "keys",
    "outbox",
    "deliveries",
];

#[async_trait]
impl TransferStore for PostgresStore {
    async fn rows(
        &self,
        kind: Kind,
        after: Option<Bookmark>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)> {
        match kind {
            // Few, and in an order that is not theirs.
            Kind::Keys => Ok((Rows::Keys(self.keys().await?), None)),
            Kind::Events => self.event_page(after, limit).await,
            _ => {
                let (sql, from) = (page(kind), bookmark(kind, after.as_deref()));
                let values = from
                    .into_iter()
                    .chain([Box::new(i64::from(limit)) as Value]);
                let read = move |rows: Vec<Row>| read(kind, &rows, limit);
                self.read(sql, values.collect(), read).await
            }
        }
    }

    async fn versions(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<u64>>> {
        let ids: Vec<_> = ids.iter().map(|id| Uuid(id.0)).collect();
        let sql = "SELECT s.version FROM unnest($1::uuid[]) WITH ORDINALITY AS n (id, nth) \
            LEFT JOIN @sessions s ON s.id = n.id ORDER BY n.nth";
        let version = |row: &Row| {
            Ok(row
                .try_get::<_, Option<i32>>(0)?
                .map(|it| u64::from(it.cast_unsigned())))
        };
        self.read(sql, vec![Box::new(ids)], move |rows| {
            rows.iter().map(version).collect()
        })
        .await
    }

    async fn put(&self, rows: Rows) -> StoreResult<()> {
        let ends: Vec<_> = match &rows {
            Rows::Ended(all) => all.iter().map(|(_, end)| *end).collect(),
            _ => Vec::new(),
        };
        for some in pieces(rows) {
            self.fill(move || put(&some)).await?;
        }
        self.spread.told(&ends);
        Ok(())
    }

    async fn clear(&self, kinds: &[Kind]) -> StoreResult<()> {
        let kinds = kinds.to_vec();
        self.fill(move || Ok(kinds.iter().flat_map(|kind| clear(*kind)).collect()))
            .await
    }

    async fn remove(&self, sessions: &[SessionId]) -> StoreResult<()> {
        let ids: Vec<_> = sessions.iter().map(|id| Uuid(id.0)).collect();
        let remove = move || {
            Ok(vec![
                step!(
                    "DELETE FROM @details WHERE session = ANY ($1::uuid[])",
                    ids.clone()
                ),
                step!(
                    "DELETE FROM @sessions WHERE id = ANY ($1::uuid[])",
                    ids.clone()
                ),
            ])
        };
        self.fill(remove).await
    }

    async fn leave(&self, mark: Option<&str>) -> StoreResult<()> {
        if mark.is_some() {
            self.finish_all().await?;
        }
        let mark = mark.map(ToOwned::to_owned);
        let is_left = self.left().await?.is_some();
        self.write(move || leave(mark.as_deref(), is_left))
            .await
            .map(drop)
    }

    async fn left(&self) -> StoreResult<Option<Box<str>>> {
        let sql = "SELECT value FROM @marks WHERE name = 'left'";
        let first = |rows: Vec<Row>| {
            Ok(rows
                .first()
                .map(|row| rows::text(row, 0))
                .transpose()?
                .flatten())
        };
        self.read(sql, Vec::new(), first).await
    }
}

impl PostgresStore {
    /// Writes what is moved, into a store that was left too.
    async fn fill(
        &self,
        steps: impl Fn() -> Result<Vec<Step>, Failed> + Send + Sync + 'static,
    ) -> StoreResult<()> {
        // What cannot be written is known before anything is.
        steps()?;
        let all = move || {
            let fill = step!("SELECT set_config('doorward.filling', 'on', true)");
            std::iter::once(fill)
                .chain(steps().unwrap_or_default())
                .collect()
        };
        self.write(all).await.map(drop)
    }

    async fn event_page(
        &self,
        after: Option<Bookmark>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)> {
        let from = number(after.as_deref()).cast_unsigned();
        let (rows, next) = self.events_after(from, &Filter::default(), limit).await?;
        let next = (next > from).then(|| next.to_be_bytes().into());
        Ok((Rows::Events(rows), next))
    }
}

fn page(kind: Kind) -> &'static str {
    match kind {
        Kind::Accounts => {
            "SELECT id, username, password_hash, disabled, created_at, privileged FROM @accounts \
             WHERE username > $1 ORDER BY username LIMIT $2"
        }
        Kind::Resets => {
            "SELECT user_id, hash, expires_at FROM @resets WHERE user_id > $1 ORDER BY user_id LIMIT $2"
        }
        Kind::ValidFrom => {
            "SELECT user_id, at FROM @valid_from WHERE user_id > $1 AND at > 0 ORDER BY user_id LIMIT $2"
        }
        Kind::Sessions => sessions!("s.id > $1 ORDER BY s.id LIMIT $2"),
        Kind::Adopted => {
            "SELECT session, until FROM @adopted WHERE session > $1 ORDER BY session LIMIT $2"
        }
        Kind::Ended => {
            "SELECT place, session, at, why FROM @ended WHERE place > $1 ORDER BY place LIMIT $2"
        }
        Kind::Buckets => {
            "SELECT key, refilled_at, failures, counted_until, span, under_way, older FROM @throttle \
             WHERE key > $1 ORDER BY key LIMIT $2"
        }
        Kind::Outbox => {
            "SELECT address, place FROM @outbox WHERE address > $1 ORDER BY address LIMIT $2"
        }
        Kind::Deliveries => {
            "SELECT address, place, attempts, due FROM @deliveries WHERE (address, place) > ($1, $2) \
             ORDER BY address, place LIMIT $3"
        }
        Kind::Keys | Kind::Events => "",
    }
}

fn bookmark(kind: Kind, after: Option<&[u8]>) -> Vec<Value> {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    match kind {
        Kind::Sessions | Kind::Adopted | Kind::Buckets => {
            let id = after.and_then(|bytes| bytes.try_into().ok());
            vec![Box::new(Uuid(id.unwrap_or_default()))]
        }
        Kind::Ended => vec![Box::new(number(after))],
        Kind::Deliveries => {
            let split = after.and_then(|bytes| bytes.split_at_checked(8));
            let (place, address) = split.unzip();
            vec![Box::new(text(address)), Box::new(number(place))]
        }
        _ => vec![Box::new(text(after))],
    }
}

fn number(after: Option<&[u8]>) -> i64 {
    let bytes = after.and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i64::from_be_bytes)
}

fn read(kind: Kind, rows: &[Row], limit: u32) -> Result<(Rows, Option<Bookmark>), Failed> {
    let next = match rows.last() {
        Some(last) if rows.len() == limit as usize => Some(key(kind, last)?),
        _ => None,
    };
    Ok((page_of(kind, rows)?, next))
}

/// Where the page after this row begins.
fn key(kind: Kind, row: &Row) -> Result<Bookmark, Failed> {
    let text = |at: usize| row.try_get::<_, &str>(at).map(str::as_bytes);
    let number = |at: usize| row.try_get::<_, i64>(at).map(i64::to_be_bytes);
    Ok(match kind {
        Kind::Sessions | Kind::Adopted | Kind::Buckets => row.try_get::<_, Uuid>(0)?.0.into(),
        Kind::Ended => number(0)?.into(),
        Kind::Deliveries => [&number(1)?, text(0)?].concat().into(),
        Kind::Accounts => text(1)?.into(),
        _ => text(0)?.into(),
    })
}

fn page_of(kind: Kind, rows: &[Row]) -> Result<Rows, Failed> {
    fn all<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Failed>) -> Result<Vec<T>, Failed> {
        rows.iter().map(read).collect()
    }
    Ok(match kind {
        Kind::Accounts => Rows::Accounts(all(rows, |row| lock::account(row, ValidFrom(0)))?),
        Kind::Resets => Rows::Resets(all(rows, lock::reset)?),
        Kind::ValidFrom => Rows::ValidFrom(all(rows, |row| {
            Ok((rows::user(row, 0)?, ValidFrom(row.try_get(1)?)))
        })?),
        Kind::Sessions => Rows::Sessions(rows::all(rows)?),
        Kind::Adopted => Rows::Adopted(all(rows, |row| {
            Ok((rows::id(row, 0)?, Timestamp(row.try_get(1)?)))
        })?),
        Kind::Ended => Rows::Ended(all(rows, rows::ended)?),
        Kind::Buckets => Rows::Buckets(all(rows, lock::bucket)?),
        Kind::Outbox => Rows::Outbox(all(rows, |row| Ok((address(row)?, place(row)?)))?),
        Kind::Deliveries => Rows::Deliveries(all(rows, delivery)?),
        Kind::Keys | Kind::Events => return Err(Failed::Damaged("a page")),
    })
}

fn address(row: &Row) -> Result<Box<str>, Failed> {
    Ok(row.try_get::<_, &str>(0)?.into())
}

fn place(row: &Row) -> Result<u64, Failed> {
    Ok(row.try_get::<_, i64>(1)?.cast_unsigned())
}

fn delivery(row: &Row) -> Result<(Box<str>, Delivery, Timestamp), Failed> {
    let delivery = Delivery {
        place: place(row)?,
        attempts: row.try_get::<_, i32>(2)?.cast_unsigned(),
    };
    Ok((address(row)?, delivery, Timestamp(row.try_get(3)?)))
}

/// Sessions so many at once: what is sent behind a statement that takes its time fits into the buffers of the
/// connection, which is given up where nobody takes it for two seconds.
const AT_ONCE: usize = 1_000;

fn pieces(rows: Rows) -> Vec<Rows> {
    match rows {
        Rows::Sessions(all) => {
            let pieces = all.chunks(AT_ONCE);
            pieces.map(|some| Rows::Sessions(some.to_vec())).collect()
        }
        rows => vec![rows],
    }
}

fn put(all: &Rows) -> Result<Vec<Step>, Failed> {
    Ok(match all {
        Rows::Keys(all) => all.iter().map(keys::put).collect(),
        Rows::Accounts(all) => all.iter().flat_map(put_account).collect(),
        Rows::Resets(all) => all
            .iter()
            .map(|(user, reset)| flush::reset(user, reset))
            .collect(),
        Rows::ValidFrom(all) => all.iter().map(put_valid_from).collect(),
        Rows::Sessions(all) => put_sessions(all)?,
        Rows::Adopted(all) => all.iter().map(put_adopted).collect(),
        Rows::Ended(all) => put_ended(all),
        Rows::Buckets(all) => {
            let keys: Vec<_> = all.iter().map(|(key, _)| Uuid(key.0)).collect();
            let gone = step!("DELETE FROM @throttle WHERE key = ANY ($1::uuid[])", keys);
            let all: Vec<(&BucketKey, _)> = all.iter().map(|(key, bucket)| (key, bucket)).collect();
            vec![gone, flush::insert_buckets(&all)]
        }
        Rows::Events(all) => put_events(all),
        Rows::Outbox(all) => all.iter().map(put_cursor).collect(),
        Rows::Deliveries(all) => all.iter().map(put_delivery).collect(),
    })
}

/// Another account of its name is one that was removed meanwhile.
fn put_account(account: &Account) -> [Step; 2] {
    let (id, name) = (account.id.as_str().to_owned(), account.username.to_string());
    let gone = step!(
        "DELETE FROM @accounts WHERE id = $1 OR username = $2",
        id,
        name
    );
    [gone, flush::insert_account(account)]
}

fn put_valid_from((user, at): &(UserId, ValidFrom)) -> Step {
    let sql = "INSERT INTO @valid_from AS v (user_id, at) VALUES ($1, $2) \
        ON CONFLICT (user_id) DO UPDATE SET at = greatest(v.at, excluded.at)";
    step!(sql, user.as_str().to_owned(), at.0)
}

/// Earlier versions go first; what is there then stays.
fn put_sessions(all: &[Session]) -> Result<Vec<Step>, Failed> {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_unstable_by_key(|row| row.id);
    let gone = "DELETE FROM @sessions AS s USING unnest($1::uuid[], $2::int[]) AS n (id, version) \
        WHERE s.id = n.id AND s.version < n.version";
    let ids = each(&all, |row| Uuid(row.id.0));
    let versions = rows::versions(&all)?;
    let details = "DELETE FROM @details AS d USING unnest($1::uuid[]) AS n (id) \
        WHERE d.session = n.id AND NOT EXISTS (SELECT 1 FROM @sessions s WHERE s.id = n.id)";
    let first = [step!(gone, ids.clone(), versions), step!(details, ids)];
    Ok(first
        .into_iter()
        .chain(rows::insert_if_new(&all)?)
        .collect())
}

fn put_adopted((id, until): &(SessionId, Timestamp)) -> Step {
    let sql = "INSERT INTO @adopted (session, until) VALUES ($1, $2) \
        ON CONFLICT (session) DO UPDATE SET until = excluded.until";
    step!(sql, Uuid(id.0), until.0)
}

fn put_ended(all: &[(u64, Ended)]) -> Vec<Step> {
    let sql = "INSERT INTO @ended (place, session, at, why) SELECT * FROM \
        unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::smallint[]) ON CONFLICT (place) DO UPDATE \
        SET session = excluded.session, at = excluded.at, why = excluded.why";
    let places: Vec<_> = all.iter().map(|(place, _)| place.cast_signed()).collect();
    let last = places.iter().copied().max().unwrap_or(0);
    let sessions: Vec<_> = all.iter().map(|(_, end)| Uuid(end.session.0)).collect();
    let times: Vec<_> = all.iter().map(|(_, end)| end.at.0).collect();
    let reasons: Vec<_> = all.iter().map(|(_, end)| end.reason as i16).collect();
    vec![
        step!(sql, places, sessions, times, reasons),
        head("ended", last),
    ]
}

fn put_events(all: &[Entry]) -> Vec<Step> {
    let places: Vec<_> = all.iter().map(|entry| entry.place.cast_signed()).collect();
    let last = places.iter().copied().max().unwrap_or(0);
    let gone = step!(
        "DELETE FROM @events WHERE place = ANY ($1::bigint[])",
        places.clone()
    );
    let records: Vec<_> = all.iter().map(|entry| &entry.record).collect();
    vec![
        gone,
        flush::put_events(&records, places),
        head("events", last),
    ]
}

/// Later ones get greater places.
fn head(name: &'static str, last: i64) -> Step {
    step!(
        "UPDATE @heads SET place = greatest(place, $2) WHERE name = $1",
        name,
        last
    )
}

fn put_cursor((address, cursor): &(Box<str>, u64)) -> Step {
    let sql = "INSERT INTO @outbox (address, place) VALUES ($1, $2) \
        ON CONFLICT (address) DO UPDATE SET place = excluded.place";
    step!(sql, address.to_string(), cursor.cast_signed())
}

fn put_delivery((address, row, due): &(Box<str>, Delivery, Timestamp)) -> Step {
    let sql = "INSERT INTO @deliveries (address, place, attempts, due) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (address, place) DO UPDATE SET attempts = excluded.attempts, due = excluded.due";
    let (place, attempts) = (row.place.cast_signed(), row.attempts.cast_signed());
    step!(sql, address.to_string(), place, attempts, due.0)
}

fn clear(kind: Kind) -> Vec<Step> {
    let tables: &[&str] = match kind {
        Kind::Keys => &["keys"],
        Kind::Accounts => &["accounts"],
        Kind::Resets => &["resets"],
        Kind::ValidFrom => &["valid_from"],
        Kind::Sessions => &["details", "sessions"],
        Kind::Adopted => &["adopted"],
        Kind::Ended => &["ended"],
        Kind::Buckets => &["throttle"],
        Kind::Events => &["events"],
        Kind::Outbox => &["outbox"],
        Kind::Deliveries => &["deliveries"],
    };
    tables
        .iter()
        .map(|table| step!(format!("DELETE FROM @{table}")))
        .collect()
}

/// Puts up the fence, changes what is written on it, or takes it down. Putting it up waits for those that write,
/// and for nobody who reads.
fn leave(mark: Option<&str>, is_left: bool) -> Vec<Step> {
    let mut steps = vec![step!("DELETE FROM @marks WHERE name = 'left'")];
    if let Some(mark) = mark {
        steps.push(step!(
            "INSERT INTO @marks (name, value) VALUES ('left', $1)",
            mark.to_owned()
        ));
    }
    match (mark, is_left) {
        (Some(_), true) => {}
        (Some(_), false) => {
            steps.push(step!(format!(
                "CREATE OR REPLACE FUNCTION @was_left() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF coalesce(current_setting('doorward.filling', true), '') <> 'on' THEN \
                 RAISE EXCEPTION '{LEFT}'; END IF; RETURN NULL; END $$"
            )));
            steps.extend(TABLES.map(|table| {
                step!(format!(
                    "CREATE TRIGGER was_left BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON @{table} \
                     FOR EACH STATEMENT EXECUTE FUNCTION @was_left()"
                ))
            }));
        }
        (None, _) => steps.extend(
            TABLES.map(|table| step!(format!("DROP TRIGGER IF EXISTS was_left ON @{table}"))),
        ),
    }
    steps
}
