//! What a refresh does: it loads a row, and replaces it. All that wait are loaded by one statement, and
//! replaced by one.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;

use doorward_core::error::StoreError;
use doorward_core::id::SessionId;
use doorward_core::meter::Batch;
use doorward_core::session::Session;

use super::connection::{Connection, Failed};
use super::line::{Answers, Work, all};
use super::pool::{Lease, Pool};
use super::rows::{self, Uuid, sessions};

const TRIES: u32 = 5;

pub(super) struct Loads;

impl Work for Loads {
    type Asked = SessionId;
    type Answer = Option<Session>;
    const BATCH: Batch = Batch::Load;
    const MOST: usize = 256;
    const ABREAST: usize = 2;
    const ENOUGH: usize = 20;

    fn carry_out<'a>(
        &'a self,
        pool: &'a Pool,
        lease: Lease<'a>,
        batch: Vec<SessionId>,
    ) -> Pin<Box<dyn Future<Output = Answers<Option<Session>>> + Send + 'a>> {
        Box::pin(async move {
            match pool.on(lease, async |db| load(db, &batch).await).await {
                Ok(found) => batch.iter().map(|id| one(found.get(id))).collect(),
                Err(failed) => all(batch.len(), &failed),
            }
        })
    }
}

/// A row, or why it cannot be read: it fails alone.
type Found = Result<Session, String>;

fn one(found: Option<&Found>) -> Result<Option<Session>, Failed> {
    let found = found.cloned().transpose();
    found.map_err(Failed::Down)
}

async fn load(db: &Connection, ids: &[SessionId]) -> Result<HashMap<SessionId, Found>, Failed> {
    let mut ids: Vec<_> = ids.iter().map(|id| Uuid(id.0)).collect();
    ids.sort_unstable();
    let rows = db
        .query(sessions!("s.id = ANY ($1::uuid[])"), &[&ids])
        .await?;
    let why = |failed: Failed| StoreError::from(failed).0;
    let sessions = rows
        .iter()
        .map(|row| Ok((rows::id(row, 0)?, rows::session(row).map_err(why))));
    sessions.collect()
}

pub(super) struct Swaps;

impl Work for Swaps {
    type Asked = Session;
    type Answer = bool;
    const BATCH: Batch = Batch::Swap;
    const MOST: usize = 256;
    const ABREAST: usize = 2;
    const ENOUGH: usize = 20;

    fn alone(session: &Session) -> Option<SessionId> {
        Some(session.id)
    }

    fn carry_out<'a>(
        &'a self,
        pool: &'a Pool,
        lease: Lease<'a>,
        batch: Vec<Session>,
    ) -> Pin<Box<dyn Future<Output = Answers<bool>> + Send + 'a>> {
        Box::pin(async move {
            match pool.on(lease, async |db| swap(db, &batch).await).await {
                Ok(done) => batch.iter().map(|row| Ok(done.contains(&row.id))).collect(),
                Err(failed) => all(batch.len(), &failed),
            }
        })
    }
}

/// The ids of those that took effect. Rows are locked in the order of their ids, by everybody.
async fn swap(db: &Connection, batch: &[Session]) -> Result<HashSet<SessionId>, Failed> {
    let mut rows: Vec<_> = batch.iter().collect();
    rows.sort_unstable_by_key(|row| row.id);
    let step = [rows::swap(&rows)?];
    for tries in 1.. {
        match db.all(&step).await {
            Err(failed) if failed.is_passing() && tries < TRIES => {}
            done => return done?.iter().flatten().map(|row| rows::id(row, 0)).collect(),
        }
    }
    Ok(HashSet::new())
}
