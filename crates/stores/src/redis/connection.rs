//! A connection to one server, shared by everybody who asks something of it.
//!
//! Each server has two: what waits for replicas holds up those behind it, and nobody else.

use std::fs;
use std::sync::Mutex;
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
/// A server that refused is not asked again before.
const PAUSE: Duration = Duration::from_millis(100);

/// The way to a server: a connection, if it stands.
pub(super) struct Lane {
    address: Address,
    host: Host,
    /// Who waits for this server.
    pub(super) line: Line,
    standing: Mutex<Option<MultiplexedConnection>>,
    /// Until when a server that refused is left alone, and what it said.
    turn: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
}

impl Lane {
    pub(super) fn new(address: &Address, host: &Host) -> Self {
        Lane {
            address: address.clone(),
            host: host.clone(),
            line: Line::default(),
            standing: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The connection, made if there is none; whoever comes meanwhile waits for the same one.
    pub(super) async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        if let Some(connection) = lock(&self.standing).clone() {
            return Ok(connection);
        }
        let mut refused = self.turn.lock().await;
        if let Some(connection) = lock(&self.standing).clone() {
            return Ok(connection);
        }
        if let Some((_, error)) = refused.as_ref().filter(|(until, _)| !is_over(*until)) {
            return Err(error.clone());
        }
        match connect(&self.address, &self.host, None).await {
            Ok(connection) => {
                *refused = None;
                *lock(&self.standing) = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                *refused = Some((after(PAUSE), error.clone()));
                Err(error)
            }
        }
    }

    /// An operation on it failed: the next one makes another. One that only was late is not waited for again.
    pub(super) fn failed(&self) {
        *lock(&self.standing) = None;
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
