//! Hearing of ends that other nodes tell. What is missed is in the log, which is polled.

use std::sync::{Mutex, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::base::Base;
use super::connection::connect;
use super::rows;
use super::servers::{lock, told};

/// Between two tries to listen.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a server that says nothing is asked whether it is there.
const EVERY: Duration = Duration::from_secs(1);

/// Why nothing is heard, if so.
#[derive(Default)]
pub(super) struct Hearing(Mutex<Option<String>>);

impl Hearing {
    pub(super) fn deaf(&self) -> Option<String> {
        lock(&self.0).clone()
    }

    fn is(&self, deaf: Option<String>) {
        *lock(&self.0) = deaf;
    }
}

/// Listens at one server after another, for as long as the store lives.
pub(super) async fn for_ever(base: Weak<Base>) {
    let mut nth = 0;
    while let Some(strong) = base.upgrade() {
        let listening = listen(&strong, nth).await;
        let heard = match listening {
            Ok((connection, heard)) => {
                strong.hearing.is(None);
                drop(strong);
                hear(&base, connection, heard).await
            }
            Err(error) => Err(error),
        };
        if let (Err(error), Some(strong)) = (heard, base.upgrade()) {
            let why = format!("Redis tells nothing of ends: {}", told(&error));
            strong.hearing.is(Some(why));
        }
        nth += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

type Heard = UnboundedReceiver<PushInfo>;

async fn listen(base: &Base, nth: usize) -> Result<(MultiplexedConnection, Heard), RedisError> {
    let host = base.servers.any(nth).await?;
    let (sender, heard) = unbounded_channel();
    let mut connection = connect(&base.servers.address, &host, Some(sender)).await?;
    connection.subscribe(base.channel()).await?;
    Ok((connection, heard))
}

/// Until the connection fails; `Ok`: the store is gone.
async fn hear(
    base: &Weak<Base>,
    mut connection: MultiplexedConnection,
    mut heard: Heard,
) -> Result<(), RedisError> {
    loop {
        let push = tokio::time::timeout(EVERY, heard.recv()).await;
        let Some(base) = base.upgrade() else {
            return Ok(());
        };
        match push {
            Err(_) => {
                let ping = redis::cmd("PING");
                ping.query_async::<()>(&mut connection).await?;
            }
            Ok(None) => return Err(closed()),
            Ok(Some(push)) if push.kind == PushKind::Disconnection => return Err(closed()),
            Ok(Some(push)) => base.take_in(&push),
        }
    }
}

fn closed() -> RedisError {
    RedisError::from((redis::ErrorKind::Io, "the connection was closed"))
}

impl Base {
    /// What cannot be read is in the log all the same.
    fn take_in(&self, push: &PushInfo) {
        if let (PushKind::Message, [_, Value::BulkString(ends)]) = (&push.kind, &push.data[..]) {
            self.spread
                .heard(rows::unpack_ends(ends).unwrap_or_default());
        }
    }
}
