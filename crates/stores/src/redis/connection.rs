//! A connection to one server, shared by everybody who asks something of it.
//!
//! Each server has two: what waits for replicas holds up those behind it, and nobody else.
//!
//! Guarantees: a server that was found not to be there is tried again by one alone, less and less often; all others
//! are told at once.

use std::fs;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    TlsCertificates,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::address::{Address, Host, Kind};
use super::line::Line;
use super::scripts;
use super::servers::{after, is_over, lock};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take: longer than any wait for replicas.
const ANSWER: Duration = Duration::from_millis(1500);
/// Between the first two tries to reach a server that is not there, and the most between two.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// So many tries are made for nobody: whoever comes later tries himself.
const UNASKED: u32 = 60;

/// The way to a server: a connection, if it stands.
pub(super) struct Lane {
    address: Address,
    host: Host,
    /// Who waits for this server.
    pub(super) line: Line,
    standing: Mutex<Option<MultiplexedConnection>>,
    making: tokio::sync::Mutex<()>,
    outage: Mutex<Option<Outage>>,
}

/// There is no connection.
struct Outage {
    since: Instant,
    /// What the last try to make one met; `None`: none was made yet.
    refused: Option<RedisError>,
    /// Tries since somebody asked.
    unasked: u32,
}

impl Lane {
    pub(super) fn new(address: &Address, host: &Host) -> Self {
        Lane {
            address: address.clone(),
            host: host.clone(),
            line: Line::default(),
            standing: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            outage: Mutex::default(),
        }
    }

    /// The connection, made if there is none; whoever comes meanwhile waits for the same one. Where that has failed, it
    /// is made again in the background, and nobody waits.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<MultiplexedConnection, RedisError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _turn = self.making.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let made = self.make().await;
        if made.is_err() {
            tokio::spawn(probe(Arc::downgrade(self)));
        }
        made
    }

    /// The connection, or why there is none; `None`: it is to be made.
    fn known(&self) -> Option<Result<MultiplexedConnection, RedisError>> {
        if let Some(connection) = lock(&self.standing).clone() {
            return Some(Ok(connection));
        }
        let mut outage = lock(&self.outage);
        let outage = outage.as_mut()?;
        outage.unasked = 0;
        outage.refused.clone().map(Err)
    }

    async fn make(&self) -> Result<MultiplexedConnection, RedisError> {
        let made = connect(&self.address, &self.host, None).await;
        match &made {
            Ok(connection) => {
                *lock(&self.standing) = Some(connection.clone());
                *lock(&self.outage) = None;
            }
            Err(error) => self.outage(|outage| outage.refused = Some(error.clone())),
        }
        made
    }

    /// An operation on it failed: the next one makes another. One that only was late is not waited for again.
    pub(super) fn failed(&self) {
        *lock(&self.standing) = None;
        self.outage(|_| ());
    }

    fn outage(&self, change: impl FnOnce(&mut Outage)) {
        change(lock(&self.outage).get_or_insert_with(|| Outage {
            since: after(Duration::ZERO),
            refused: None,
            unasked: 0,
        }));
    }

    /// Whether the server has not been there for so long.
    pub(super) fn is_gone_for(&self, span: Duration) -> bool {
        let outage = lock(&self.outage);
        outage
            .as_ref()
            .is_some_and(|outage| outage.refused.is_some() && is_over(outage.since + span))
    }

    /// Whether nobody has asked for long: then the server counts as never tried.
    fn is_unasked(&self) -> bool {
        let mut outage = lock(&self.outage);
        let unasked = outage.as_mut().is_none_or(|outage| {
            outage.unasked += 1;
            outage.unasked > UNASKED
        });
        if unasked {
            *outage = None;
        }
        unasked
    }
}

/// Tries until the server is there.
async fn probe(lane: Weak<Lane>) {
    let [mut pause, most] = PAUSES;
    loop {
        tokio::time::sleep(pause).await;
        let Some(lane) = lane.upgrade() else {
            return;
        };
        if lane.is_unasked() || lane.make().await.is_ok() {
            return;
        }
        pause = most.min(pause * 2);
    }
}

/// A connection that knows every script; with `heard`, one that hears what is published.
pub(super) async fn connect(
    address: &Address,
    host: &Host,
    heard: Option<UnboundedSender<PushInfo>>,
) -> Result<MultiplexedConnection, RedisError> {
    let mut connection = bare(address, host, heard).await?;
    scripts::load(&mut connection).await?;
    if address.kind != Kind::Cluster {
        check_primary(&mut connection).await?;
    }
    Ok(connection)
}

/// A name may still lead to a server that became a replica. In a cluster such a server says so itself.
async fn check_primary(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let info = redis::cmd("INFO").arg("replication").to_owned();
    let info: String = info.query_async(connection).await?;
    if info.lines().any(|line| line == "role:slave") {
        return Err(RedisError::from((ErrorKind::Io, "the server is a replica")));
    }
    Ok(())
}

/// One that knows no scripts, as a sentinel takes it.
pub(super) async fn bare(
    address: &Address,
    host: &Host,
    heard: Option<UnboundedSender<PushInfo>>,
) -> Result<MultiplexedConnection, RedisError> {
    let client = client(address, host)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(
            ANSWER.max(address.wait_for + Duration::from_millis(500)),
        ));
    let config = match heard {
        Some(heard) => config.set_push_sender(heard),
        None => config,
    };
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn client(address: &Address, host: &Host) -> Result<Client, RedisError> {
    let info = info(address, host)?;
    let Some(ca) = &address.ca else {
        return Client::open(info);
    };
    let unreadable = |_| RedisError::from((ErrorKind::InvalidClientConfig, "ca cannot be read"));
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(fs::read(ca).map_err(unreadable)?),
    };
    Client::build_with_tls(info, certificates)
}

fn info(address: &Address, (host, port): &Host) -> Result<ConnectionInfo, RedisError> {
    let to = if address.tls {
        ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host.clone(), *port)
    };
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(address.database.into());
    if let Some(user) = &address.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &address.password {
        settings = settings.set_password(password);
    }
    Ok(to.into_connection_info()?.set_redis_settings(settings))
}
