//! A connection: statements prepared once, several of them sent in one go.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorward_core::error::StoreError;
use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// A statement and its parameters. In its text `@` stands for the schema.
pub(super) struct Step {
    sql: String,
    values: Vec<Value>,
}

impl Step {
    pub(super) fn new(sql: impl Into<String>, values: Vec<Value>) -> Step {
        Step {
            sql: sql.into(),
            values,
        }
    }

    /// One parameter more.
    pub(super) fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) {
        self.values.push(Box::new(value));
    }
}

/// `step!("SELECT $1::int", 1)`
macro_rules! step {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::postgres::connection::Step::new($sql, vec![$(Box::new($value)),*])
    };
}
pub(super) use step;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database said no, or did not answer.
    Database(tokio_postgres::Error),
    /// A row holds what no version of Doorward wrote.
    Damaged(&'static str),
    /// More rows than fit in one transaction, for operations that can be carried out one by one.
    TooMany,
    /// No connection: why.
    Down(String),
}

impl Failed {
    /// Whether the same may go well now: others were in the way.
    pub(super) fn is_passing(&self) -> bool {
        let codes = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::UNIQUE_VIOLATION,
        ];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// Whether it is the statement's own fault, and no fault of the connection: a server that takes no writes
    /// any more, or statements that were prepared for tables of before, are that.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Failed::Database(error) => match error.code() {
                Some(code) => !matches!(
                    code.code().get(..2),
                    Some("57" | "58" | "53" | "08" | "25" | "55" | "26" | "0A") | None
                ),
                None => !error.is_closed() && error.to_string().contains("serializing"),
            },
            Failed::Damaged(_) | Failed::TooMany => true,
            Failed::Down(_) => false,
        }
    }

    /// Whether a row was not as it must be.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Failed::Database(error) => error.code().is_none() && !error.is_closed(),
            Failed::Damaged(_) => true,
            Failed::TooMany | Failed::Down(_) => false,
        }
    }

    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Failed::Database(error) => error.code(),
            _ => None,
        }
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Failed::Database(error)
    }
}

/// The server's words without `DETAIL`, which may hold values of rows.
impl From<&Failed> for StoreError {
    fn from(failed: &Failed) -> Self {
        StoreError(match failed {
            Failed::Database(error) => words(error),
            Failed::Damaged(column) => format!("{column} holds what no version of Doorward wrote"),
            Failed::TooMany => "more rows than fit in one transaction".into(),
            Failed::Down(why) => why.clone(),
        })
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        StoreError::from(&failed)
    }
}

pub(super) fn words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{} ({})", said.message(), said.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// A connection of a store.
pub(super) struct Connection {
    client: Client,
    schema: Arc<str>,
    statements: Mutex<HashMap<String, Statement>>,
    given_up: AtomicBool,
    /// What begins a transaction that must be durable.
    pub(super) durably: Option<String>,
    /// What the server calls it.
    pub(super) process: i32,
}

impl Connection {
    /// `schema` is quoted, with a dot behind it.
    pub(super) fn new(client: Client, schema: Arc<str>) -> Connection {
        Connection {
            client,
            schema,
            statements: Mutex::default(),
            given_up: AtomicBool::new(false),
            durably: None,
            process: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Says that nobody may use it again.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_closed() || self.given_up.load(Ordering::Relaxed)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Statements that need no parameters and no plan.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failed> {
        let sql = sql.replace('@', &self.schema);
        Ok(self.client.batch_execute(&sql).await?)
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failed> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.query(&statement, values).await?)
    }

    /// How many rows a statement changed.
    pub(super) async fn execute(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failed> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.execute(&statement, values).await?)
    }

    /// Sends all of them, then waits for all: one round trip. The first failure counts.
    pub(super) async fn all(&self, steps: &[Step]) -> Result<Vec<Vec<Row>>, Failed> {
        let mut statements = Vec::with_capacity(steps.len());
        for step in steps {
            statements.push(self.prepare(&step.sql).await?);
        }
        let asked = steps
            .iter()
            .zip(&statements)
            .map(async |(step, statement)| {
                let values: Vec<&(dyn ToSql + Sync)> =
                    step.values.iter().map(|value| &**value as _).collect();
                self.client.query(statement, &values).await
            });
        let answers = join_all(asked).await;
        Ok(answers.into_iter().collect::<Result<_, _>>()?)
    }

    /// Carries out the steps in one transaction that is durable once this returns: one round trip.
    pub(super) async fn durably(&self, steps: Vec<Step>) -> Result<Vec<Vec<Row>>, Failed> {
        let mut all = self.begin();
        let before = all.len();
        all.extend(steps);
        all.push(step!("COMMIT"));
        let done = self.all(&all).await;
        if done.is_err() {
            self.client.batch_execute("ROLLBACK").await?;
        }
        let mut rows = done?;
        rows.drain(..before);
        rows.pop();
        Ok(rows)
    }

    /// What a transaction begins with.
    pub(super) fn begin(&self) -> Vec<Step> {
        let begin = step!("BEGIN ISOLATION LEVEL READ COMMITTED");
        let durably = self.durably.as_ref().map(|set| step!(set));
        std::iter::once(begin).chain(durably).collect()
    }

    async fn prepare(&self, sql: &str) -> Result<Statement, Failed> {
        if let Some(known) = self.statements().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(&sql.replace('@', &self.schema)).await?;
        self.statements().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
