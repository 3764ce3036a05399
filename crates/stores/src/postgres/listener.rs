//! A connection that hears of ends as they are committed. Where it is down or the database has no
//! `LISTEN`, the log is polled, which needs nobody's help.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorward_core::SystemEnv;
use doorward_core::env::Env as _;
use doorward_core::meter::Way;
use tokio_postgres::{Client, Notification};

use super::connection::Failed;
use super::notice;
use super::pool::Pool;
use crate::spread::Spread;

/// How long until a lost connection is made again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is asked whether it is there still.
const PULSE: Duration = Duration::from_secs(2);

/// Whether ends are heard of.
#[derive(Default)]
pub(super) struct Listening {
    why_not: Mutex<Option<String>>,
}

impl Listening {
    pub(super) fn why_not(&self) -> Option<String> {
        self.why_not
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, why: Option<String>) {
        *self.why_not.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Listens for as long as the store lives.
pub(super) async fn listen(
    pool: Arc<Pool>,
    channel: String,
    spread: Arc<Spread>,
    listening: Arc<Listening>,
) {
    loop {
        let lost = match begin(&pool, &channel, Arc::clone(&spread)).await {
            Ok(client) => {
                listening.note(None);
                beat(&client).await
            }
            Err(failed) => failed,
        };
        let why = doorward_core::error::StoreError::from(lost).0;
        listening.note(Some(format!("no notifications: {why}")));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn begin(pool: &Arc<Pool>, channel: &str, spread: Arc<Spread>) -> Result<Client, Failed> {
    let shared = Arc::clone(pool);
    let heard = move |notification: Notification| {
        let ends = notice::ends(notification.payload());
        if !shared.is_ours(notification.process_id()) {
            let now = SystemEnv.now();
            for end in &ends {
                shared.meter().heard(Way::Pushed, end.at, now);
            }
        }
        spread.heard(ends);
    };
    let client = pool.dial(heard).await?;
    client
        .batch_execute(&format!("LISTEN \"{channel}\""))
        .await?;
    Ok(client)
}

/// Until the connection is lost: why.
async fn beat(client: &Client) -> Failed {
    loop {
        tokio::time::sleep(PULSE).await;
        match tokio::time::timeout(PULSE, client.simple_query("")).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return Failed::Down("the database did not answer in time".into()),
        }
    }
}
