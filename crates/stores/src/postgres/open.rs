//! Connecting, and bringing the schema up to date.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{
    AsyncMessage, Client, Config, NoTls, Notification, SimpleQueryMessage, Socket,
};

use super::connection::{Connection, Failed, step};
use super::pool::PATIENCE;
use super::tls;
use super::url::PostgresUrl;

/// Each migration once, in order, and the oldest version of this program that can work with what it leaves.
const MIGRATIONS: &[(&str, i32)] = &[
    (
        include_str!("../../migrations/postgres/0001_sessions.sql"),
        1,
    ),
    (
        include_str!("../../migrations/postgres/0002_endings.sql"),
        1,
    ),
];

/// What every connection asks for, where the server knows it. Statements here are prepared once and find
/// rows by their keys: a plan made while a table was small must not stay when it is large.
const SETTINGS: &str = "SELECT set_config(s.name, w.value, false) FROM (VALUES \
    ('statement_timeout', '4s'), ('lock_timeout', '3s'), \
    ('idle_in_transaction_session_timeout', '2s'), ('client_connection_check_interval', '1s'), \
    ('idle_session_timeout', '0'), ('default_transaction_isolation', 'read committed'), \
    ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'), ('enable_seqscan', 'off'), \
    ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')) AS w (name, value) \
    JOIN pg_settings s ON s.name = w.name";

/// Nobody else's functions are called for the database's own: in a schema of the search path any role may
/// have some that fit the arguments better.
const OWN_FUNCTIONS: &str = "SET search_path = pg_catalog";

/// A connection, ready to use.
pub(super) async fn connect(url: &PostgresUrl, tls: &tls::Connector) -> Result<Connection, Failed> {
    let client = dial(url, tls, |_| ()).await?;
    let mut connection = Connection::new(client, qualified(url));
    connection.batch(OWN_FUNCTIONS).await?;
    connection.batch(SETTINGS).await?;
    connection.durably = synchronous(connection.client(), url.fast()).await?;
    connection.process = process(connection.client()).await;
    Ok(connection)
}

/// What notifications call it; 0 where that is not known.
async fn process(client: &Client) -> i32 {
    let said = client.simple_query("SELECT pg_backend_pid()").await;
    let row = said.unwrap_or_default();
    row.iter()
        .find_map(first)
        .and_then(|pid| pid.parse().ok())
        .unwrap_or(0)
}

fn first(message: &SimpleQueryMessage) -> Option<&str> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    }
}

/// Sees to it that what ends a session is on disk before it is acknowledged. Where swaps need not be,
/// what a transaction must say that has to.
async fn synchronous(client: &Client, fast: bool) -> Result<Option<String>, Failed> {
    let said = client.simple_query("SHOW synchronous_commit").await;
    let said = said.unwrap_or_default();
    let said = said.iter().find_map(first).map(str::to_owned);
    let Some(said) = said else { return Ok(None) };
    let wanted = if said == "off" { "on" } else { &said };
    let session = if fast { "off" } else { wanted };
    // Said even where it is so already: the server's settings may be reloaded with another.
    client
        .batch_execute(&format!("SET synchronous_commit = {session}"))
        .await?;
    Ok(fast.then(|| format!("SET LOCAL synchronous_commit = {wanted}")))
}

fn late() -> Failed {
    Failed::Down("the database did not answer in time".into())
}

/// A bare connection; what is notified on it is passed on.
pub(super) async fn dial(
    url: &PostgresUrl,
    tls: &tls::Connector,
    heard: impl FnMut(Notification) + Send + 'static,
) -> Result<Client, Failed> {
    let hosts = url.hosts().map_err(Failed::Down)?;
    Ok(match tls {
        None => {
            let (client, connection) = reach(&hosts, NoTls).await?;
            tokio::spawn(drive(connection, heard));
            client
        }
        Some(tls) => {
            let (client, connection) = reach(&hosts, tls.clone()).await?;
            tokio::spawn(drive(connection, heard));
            client
        }
    })
}

/// The first host that takes writes; each has its share of the time.
async fn reach<T: MakeTlsConnect<Socket> + Clone>(
    hosts: &[Config],
    tls: T,
) -> Result<(Client, tokio_postgres::Connection<Socket, T::Stream>), Failed> {
    let share = PATIENCE / u32::try_from(hosts.len().max(1)).unwrap_or(1);
    let mut why = Failed::Down("the URL names no host".into());
    for host in hosts {
        match timeout(share, host.connect(tls.clone())).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(failed)) => why = failed.into(),
            Err(_) => why = late(),
        }
    }
    Err(why)
}

/// What the driver leaves to us: to move bytes.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: tokio_postgres::Connection<Socket, S>,
    mut heard: impl FnMut(Notification),
) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            heard(notification);
        }
    }
}

fn qualified(url: &PostgresUrl) -> Arc<str> {
    format!("\"{}\".", url.schema()).into()
}

/// Brings the schema up to date, on a connection of its own: that may take longer than anything else may.
pub(super) async fn up_to_date(url: &PostgresUrl, tls: &tls::Connector) -> Result<(), Failed> {
    let connected = timeout(PATIENCE, connect(url, tls)).await;
    let connection = connected.unwrap_or_else(|_| Err(late()))?;
    migrate(&connection, url.schema()).await
}

/// Writes nothing where there is nothing to do.
async fn migrate(connection: &Connection, schema: &str) -> Result<(), Failed> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    for tries in 0.. {
        let found = timeout(PATIENCE, version(connection)).await;
        let found = found.unwrap_or_else(|_| Err(late()));
        let done = match found {
            Ok(Some((found, compatible))) if compatible > known => return Err(newer(found, known)),
            Ok(Some((found, _))) if found >= known => return Ok(()),
            Ok(Some(_)) => step_up(connection).await,
            Ok(None) => make(connection, schema).await,
            Err(failed) if is_missing(&failed) => make(connection, schema).await,
            Err(failed) => Err(failed),
        };
        match done {
            Err(failed) if tries < 10 && is_race(&failed) => {}
            Err(failed) => return Err(failed),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The schema's version, and the oldest version of this program that it suits. `None`: it is being made.
async fn version(connection: &Connection) -> Result<Option<(i32, i32)>, Failed> {
    let sql = "SELECT version, compatible_since FROM @doorward_schema";
    let rows = connection.query(sql, &[]).await?;
    let row = rows
        .first()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    row.transpose()
}

fn newer(found: i32, known: i32) -> Failed {
    Failed::Down(format!(
        "written by a newer Doorward (schema {found}, this one knows {known}); upgrade this binary"
    ))
}

/// Whether there is no such table, or no row in it: whoever made it has not come to that, or was killed before.
fn is_missing(failed: &Failed) -> bool {
    let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    matches!(failed, Failed::Damaged(_)) || failed.code().is_some_and(|code| missing.contains(code))
}

/// Others make the same at the same time.
fn is_race(failed: &Failed) -> bool {
    let others = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::from_code("XX000"),
    ];
    failed.code().is_some_and(|code| others.contains(code))
}

/// The schema, unless an operator made it, and the table that tells its version.
async fn make(connection: &Connection, schema: &str) -> Result<(), Failed> {
    let sql = "SELECT 1 FROM information_schema.schemata WHERE schema_name = $1";
    if connection.query(sql, &[&schema]).await?.is_empty() {
        connection
            .batch(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))
            .await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS @doorward_schema (one boolean PRIMARY KEY DEFAULT true \
        CHECK (one), version integer NOT NULL, compatible_since integer NOT NULL)";
    connection.batch(table).await?;
    let row = "INSERT INTO @doorward_schema (version, compatible_since) VALUES (0, 0) ON CONFLICT DO NOTHING";
    connection.batch(row).await
}

/// What is missing, in one transaction; whoever starts meanwhile waits for it. It takes as long as large tables
/// need, but waits for no lock so long that everybody would wait behind it.
async fn step_up(connection: &Connection) -> Result<(), Failed> {
    let begin = "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";
    connection.batch(begin).await?;
    let done = migrations(connection).await;
    connection
        .batch(if done.is_ok() { "COMMIT" } else { "ROLLBACK" })
        .await?;
    done
}

async fn migrations(connection: &Connection) -> Result<(), Failed> {
    let lock = step!("SELECT version FROM @doorward_schema FOR UPDATE");
    let rows = connection.all(&[lock]).await?;
    connection.batch("SET LOCAL lock_timeout = '3s'").await?;
    let row = rows.iter().flatten().next();
    let found: i32 = row.ok_or(Failed::Damaged("doorward_schema"))?.try_get(0)?;
    let missing = MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0));
    let mut now = found;
    for (sql, compatible_since) in missing {
        now += 1;
        connection.batch(sql).await?;
        let sql = "UPDATE @doorward_schema SET version = $1, compatible_since = $2";
        connection.execute(sql, &[&now, compatible_since]).await?;
    }
    Ok(())
}
