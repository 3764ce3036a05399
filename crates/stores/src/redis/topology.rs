//! Which server has which keys, as the servers say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{ErrorKind, RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::{Address, Host, Kind};
use super::base::text as text_of;
use super::connection::{Lane, bare};
use super::servers::Servers;
use super::tags::HASH_SLOTS;

/// How long is waited for what a primary says of its replicas.
const SOON: Duration = Duration::from_millis(200);

/// A primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) primary: Host,
    /// Whether it has replicas that may take its place, as the other servers see it.
    pub(super) has_replicas: bool,
    /// Whether some are in step, as it says itself: it may be the one that is cut off.
    pub(super) is_followed: bool,
}

/// The primaries, and which of them has which hash slot. The default knows of none.
#[derive(Default)]
pub(super) struct Shards {
    shards: Vec<Shard>,
    /// By hash slot; none: nobody has it.
    owners: Vec<Option<u16>>,
}

impl Shards {
    fn one(primary: Host, has_replicas: bool) -> Self {
        let shard = Shard {
            primary,
            has_replicas,
            is_followed: has_replicas,
        };
        Shards {
            shards: vec![shard],
            owners: vec![Some(0); usize::from(HASH_SLOTS)],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    pub(super) fn of(&self, hash_slot: u16) -> Option<&Shard> {
        let owner = self.owners.get(usize::from(hash_slot)).copied()??;
        self.shards.get(usize::from(owner))
    }

    pub(super) fn primaries(&self) -> Vec<Host> {
        self.shards
            .iter()
            .map(|shard| shard.primary.clone())
            .collect()
    }
}

/// Asks those that were known last, and then those that are named.
pub(super) async fn look(servers: &Servers, known: &[Host]) -> Result<Shards, RedisError> {
    let address = &servers.address;
    let named = address.hosts.iter();
    let none = || RedisError::from((ErrorKind::Io, "no server is known"));
    let mut failed = none();
    match &address.kind {
        Kind::Single => {
            return Ok(Shards::one(
                address.hosts.first().cloned().ok_or_else(none)?,
                false,
            ));
        }
        Kind::Cluster => {
            for host in known.iter().chain(named) {
                match cluster(servers, host).await {
                    Ok(shards) => return Ok(shards),
                    Err(error) => failed = other(error, "the server is in no cluster"),
                }
            }
        }
        Kind::Sentinel(name) => return by_sentinels(address, name).await,
    }
    Err(failed)
}

/// One that does not know the question is no server of this kind, and does not become one.
fn other(error: RedisError, why: &'static str) -> RedisError {
    if error.code() == Some("ERR") {
        return RedisError::from((ErrorKind::InvalidClientConfig, why));
    }
    error
}

async fn cluster(servers: &Servers, host: &Host) -> Result<Shards, RedisError> {
    let lane = servers.lane(host, false);
    let connection = lane.connection().await?;
    let ask = async |what: &str| {
        let mut connection = connection.clone();
        let answer = redis::cmd("CLUSTER")
            .arg(what)
            .query_async::<Value>(&mut connection)
            .await;
        answer.inspect_err(|_| lane.failed())
    };
    // One that is cut off from the others goes on telling what was.
    let info = text_of(ask("INFO").await?).map_err(|_| unreadable())?;
    if !info.contains("cluster_state:ok") {
        return Err(RedisError::from((
            ErrorKind::Io,
            "the cluster is down, as this server sees it",
        )));
    }
    let shards = read_slots(&ask("SLOTS").await?, host).ok_or_else(unreadable)?;
    Ok(with_replicas(servers, shards).await)
}

/// And what the primaries say of their replicas themselves. Of one that does not say it soon the others' word counts.
async fn with_replicas(servers: &Servers, mut shards: Shards) -> Shards {
    let asked = shards.shards.iter().map(|shard| {
        let lane = servers.lane(&shard.primary, false);
        timeout(SOON, replication(lane))
    });
    let told = join_all(asked).await;
    for (shard, told) in shards.shards.iter_mut().zip(told) {
        if let Ok(Ok(replication)) = told {
            shard.says(&replication);
        }
    }
    shards
}

async fn replication(lane: Arc<Lane>) -> Result<String, RedisError> {
    let mut connection = lane.connection().await?;
    let mut ask = redis::cmd("INFO");
    ask.arg("replication");
    text_of(ask.query_async(&mut connection).await?).map_err(|_| unreadable())
}

impl Shard {
    /// What it says itself: `slave0:ip=...,port=...,state=online,...`. A replica that takes everything over cannot
    /// take its place meanwhile, and confirms nothing.
    fn says(&mut self, replication: &str) {
        let replicas = replication.lines().filter(|line| line.contains(",state="));
        let (online, others): (Vec<_>, Vec<_>) =
            replicas.partition(|line| line.contains(",state=online,"));
        self.is_followed = !online.is_empty();
        self.has_replicas = self.is_followed || (self.has_replicas && others.is_empty());
    }
}

/// `[[first, last, primary, replica, ...], ...]`, each server as `[host, port, ...]`.
fn read_slots(slots: &Value, asked: &Host) -> Option<Shards> {
    let mut shards = Shards {
        shards: Vec::new(),
        owners: vec![None; usize::from(HASH_SLOTS)],
    };
    for range in list(slots)? {
        let [first, last, primary, replicas @ ..] = list(range)? else {
            return None;
        };
        let shard = Shard {
            primary: host_of(list(primary)?, asked)?,
            has_replicas: !replicas.is_empty(),
            is_followed: !replicas.is_empty(),
        };
        let owner = shards.place(shard)?;
        let range = usize::try_from(number(first)?).ok()?..=usize::try_from(number(last)?).ok()?;
        shards.owners.get_mut(range)?.fill(Some(owner));
    }
    (!shards.is_empty()).then_some(shards)
}

impl Shards {
    /// The number of a shard, which is added if it is new.
    fn place(&mut self, shard: Shard) -> Option<u16> {
        let known = self
            .shards
            .iter()
            .position(|other| other.primary == shard.primary);
        let place = known.unwrap_or(self.shards.len());
        if known.is_none() {
            self.shards.push(shard);
        }
        u16::try_from(place).ok()
    }
}

/// A server that does not know its own name has the one by which it was asked.
fn host_of(server: &[Value], asked: &Host) -> Option<Host> {
    let [host, port, ..] = server else {
        return None;
    };
    let host = match host {
        Value::Nil => asked.0.clone(),
        host => text(host)?,
    };
    let host = if host.is_empty() || host == "?" {
        asked.0.clone()
    } else {
        host
    };
    Some((host, u16::try_from(number(port)?).ok()?))
}

/// Whom `ASK` names: `slot host:port`.
pub(super) fn redirect(details: Option<&str>, servers: &Servers) -> Option<Host> {
    let (_, server) = details?.split_once(' ')?;
    let (host, port) = server.rsplit_once(':')?;
    let host = if host.is_empty() {
        &servers.address.hosts.first()?.0
    } else {
        host
    };
    Some((host.to_owned(), port.parse().ok()?))
}

/// What a sentinel sees.
struct View {
    primary: Host,
    /// Whether the primary has replicas that work.
    has_replicas: bool,
}

/// What most of the named sentinels say, as soon as so many do. Fewer may be cut off from the others, together with
/// a primary that is none any more: there, what must not be lost waits for a replica in any case.
async fn by_sentinels(address: &Address, name: &str) -> Result<Shards, RedisError> {
    let mut asking = JoinSet::new();
    for host in address.hosts.clone() {
        let (address, name) = (address.clone(), name.to_owned());
        asking.spawn(async move { sentinel(address, &host, &name).await });
    }
    let (mut views, mut failed) = (Vec::new(), unreadable());
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(Ok(view)) => views.push(view),
            Ok(Err(error)) => failed = other(error, "the server is no sentinel"),
            Err(_) => {}
        }
        if let Some(shards) = agreed(&views, address.hosts.len()) {
            return Ok(shards);
        }
    }
    let some = views.into_iter().next().ok_or(failed)?;
    Ok(Shards::one(some.primary, true))
}

/// The primary of which more than half of so many sentinels say that it is that.
fn agreed(views: &[View], named: usize) -> Option<Shards> {
    views.iter().find_map(|view| {
        let same = views.iter().filter(|other| other.primary == view.primary);
        let has_replicas = same.clone().any(|view| view.has_replicas);
        let is_most = same.count() > named / 2;
        is_most.then(|| Shards::one(view.primary.clone(), has_replicas))
    })
}

async fn sentinel(mut address: Address, host: &Host, name: &str) -> Result<View, RedisError> {
    // The URL's user and password are the servers'.
    address.user = address.sentinel_user.take();
    address.password = address.sentinel_password.take();
    let mut connection = bare(&address, host, None).await?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("get-master-addr-by-name").arg(name);
    let found: Option<(String, String)> = ask.query_async(&mut connection).await?;
    let (host, port) = found.ok_or_else(unknown)?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("replicas").arg(name);
    let replicas: Vec<HashMap<String, String>> = ask.query_async(&mut connection).await?;
    Ok(View {
        primary: (host, port.parse().map_err(|_| unreadable())?),
        has_replicas: replicas.iter().any(works),
    })
}

/// Whether a replica is there and in step, as a sentinel sees it.
fn works(replica: &HashMap<String, String>) -> bool {
    let is = |name: &str, value: &str| replica.get(name).is_some_and(|is| is == value);
    is("flags", "slave") && is("master-link-status", "ok")
}

/// A name that is wrong does not become right.
fn unknown() -> RedisError {
    let why = "the sentinels know no primary of that name";
    RedisError::from((ErrorKind::InvalidClientConfig, why))
}

fn unreadable() -> RedisError {
    RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "the servers do not say who has what",
    ))
}

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_says_who_follows_it() {
        let online = "role:master\r\nslave0:ip=::1,port=1,state=online,offset=7,lag=0\r\n";
        let syncing = "role:master\r\nslave0:ip=::1,port=1,state=send_bulk,offset=0,lag=0\r\n";
        let both = format!("{syncing}slave1:ip=::1,port=2,state=online,offset=7,lag=0\r\n");
        let none = "role:master\r\nconnected_slaves:0\r\n";
        for (said, known_before, has_replicas, is_followed) in [
            (online, false, true, true),
            (both.as_str(), true, true, true),
            (syncing, true, false, false),
            // Cut off, or it has lost them: what ends a session is refused until the others know.
            (none, true, true, false),
            (none, false, false, false),
        ] {
            let mut shard = Shard {
                primary: (String::new(), 0),
                has_replicas: known_before,
                is_followed: known_before,
            };
            shard.says(said);
            let found = (shard.has_replicas, shard.is_followed);
            assert_eq!(found, (has_replicas, is_followed), "{said}");
        }
    }

    fn view(primary: &str, has_replicas: bool) -> View {
        View {
            primary: (primary.to_owned(), 6379),
            has_replicas,
        }
    }

    #[test]
    fn what_most_sentinels_say_is_believed_and_a_replica_is_gone_only_where_all_of_those_say_so() {
        let said = |views: &[View]| {
            let shard = agreed(views, 3)?.of(0).cloned()?;
            Some((shard.primary.0, shard.has_replicas))
        };
        let (old, new) = (|has| view("old", has), |has| view("new", has));
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[old(false)]), None);
        assert_eq!(said(&[old(false), new(true)]), None);
        let most = said(&[old(true), new(false), new(false)]);
        assert_eq!(most, Some(("new".to_owned(), false)));
        let one = said(&[old(false), old(true)]);
        assert_eq!(one, Some(("old".to_owned(), true)));
    }
}
