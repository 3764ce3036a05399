//! PostgreSQL: many nodes share the sessions of one database.
//!
//! Guarantees: what ends a session is on the server's disk before it is acknowledged; all that waits
//! shares a statement or a transaction, so that a few connections serve many clients; rows are locked in
//! one order. Nothing is asked of the database but tables, rows that are locked, and transactions at
//! `READ COMMITTED`: `NOTIFY` is used where it works and not needed.
//!
//! Rows of sessions are read and replaced by `refreshes`; everything else that needs a transaction is
//! decided by `view` in a `group`; the rest are single statements.

mod accounts;
mod connection;
mod endings;
mod events;
mod flush;
mod group;
mod keys;
mod line;
mod listener;
mod lock;
mod notice;
mod open;
mod outbox;
mod pool;
mod refreshes;
mod rows;
mod sessions;
mod throttle;
mod tls;
mod transfer;
mod url;
mod view;

use std::sync::{Arc, Mutex, PoisonError};

use doorward_core::SystemEnv;
use doorward_core::env::Env as _;
use doorward_core::error::StoreError;
use doorward_core::policy::Policy;
use doorward_core::store::{StoreResult, Write};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use self::connection::{Failed, Step};
use self::group::Groups;
use self::line::Line;
use self::listener::Listening;
use self::pool::Pool;
use self::refreshes::{Loads, Swaps};
use self::rows::Uuid;
pub use self::url::PostgresUrl;
pub(crate) use self::url::is_postgres;
use self::view::{Needs, View};
use crate::OpenError;
use crate::remote::Remote;
use crate::spread::Spread;

/// A store in one schema of a PostgreSQL database.
pub struct PostgresStore {
    remote: Arc<Remote>,
    pool: Arc<Pool>,
    loads: Arc<Line<Loads>>,
    swaps: Arc<Line<Swaps>>,
    groups: Arc<Line<Groups>>,
    spread: Arc<Spread>,
    listening: Arc<Listening>,
    policy: Policy,
    /// Who this is among those that purge.
    holder: Uuid,
    /// Where the next purge goes on looking.
    swept: Arc<Mutex<Uuid>>,
}

impl PostgresStore {
    /// Connects, and makes the tables where there are none. `policy` says when rows may be purged.
    ///
    /// # Errors
    /// What cannot be reached or is not allowed, in the server's words.
    pub fn open(url: &PostgresUrl, policy: Policy) -> Result<Self, OpenError> {
        let refused = |why: String| OpenError::Remote {
            place: url.to_string(),
            why,
        };
        let tls = tls::connector(url).map_err(refused)?;
        let remote = Arc::new(Remote::start().map_err(|error| refused(error.to_string()))?);
        let pool = Arc::new(Pool::new(url.clone(), tls.clone()));
        let to = url.clone();
        let migrated = remote.wait_long(async move { Ok(open::up_to_date(&to, &tls).await?) });
        migrated.map_err(|error| refused(error.0))?;
        let spread = Spread::new(&url.name(), sessions::reload(&remote, &pool));
        let channel = format!("doorward_{}", url.schema());
        let listening = Arc::new(Listening::default());
        remote.background(listener::listen(
            Arc::clone(&pool),
            channel.clone(),
            Arc::clone(&spread),
            Arc::clone(&listening),
        ));
        let groups = Groups {
            spread: Arc::clone(&spread),
            channel,
        };
        let entrance = remote.entrance();
        let mut holder = [0; 16];
        SystemEnv.fill(&mut holder);
        Ok(PostgresStore {
            loads: Line::new(&pool, entrance, Loads),
            swaps: Line::new(&pool, entrance, Swaps),
            groups: Line::new(&pool, entrance, groups),
            remote,
            pool,
            spread,
            listening,
            policy,
            holder: Uuid(holder),
            swept: Arc::new(Mutex::new(Uuid([0; 16]))),
        })
    }

    /// Decides something on rows that are locked.
    async fn group<T: Send + 'static>(
        &self,
        needs: Needs,
        work: impl Fn(&mut View) -> T + Send + 'static,
    ) -> StoreResult<T> {
        let groups = Arc::clone(&self.groups);
        let run = async move { group::run(&groups, needs, work).await };
        self.remote.run(run).await
    }

    /// Reads by one statement.
    async fn read<T: Send + 'static>(
        &self,
        sql: impl Into<String>,
        values: Vec<connection::Value>,
        rows: impl FnOnce(Vec<Row>) -> Result<T, Failed> + Send + 'static,
    ) -> StoreResult<T> {
        let (pool, sql) = (Arc::clone(&self.pool), sql.into());
        let read = async move {
            let read = async |db: &connection::Connection| {
                let values: Vec<&(dyn ToSql + Sync)> =
                    values.iter().map(|value| &**value as _).collect();
                db.query(&sql, &values).await
            };
            Ok(rows(pool.with(read).await?)?)
        };
        self.remote.run(read).await
    }

    /// Writes by statements in a transaction of their own; what each of them returned.
    async fn write(
        &self,
        steps: impl Fn() -> Vec<Step> + Send + Sync + 'static,
    ) -> StoreResult<Vec<Vec<Row>>> {
        let pool = Arc::clone(&self.pool);
        self.remote
            .run(async move { Ok(pool.durably(steps).await?) })
            .await
    }

    fn swept(&self) -> Uuid {
        *self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn took(effect: bool) -> Write {
    if effect { Write::Done } else { Write::Lost }
}

fn damaged(column: &'static str) -> StoreError {
    Failed::Damaged(column).into()
}
