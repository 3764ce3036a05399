//! The servers: which of them has a key, a connection to each, and what is done when one does not answer.
//!
//! Guarantees: an operation ends within [`PATIENCE`]. What certainly was not carried out is tried again (the
//! server says so, or could not be reached); what may have been is an error, unless it is repeatable. A
//! connection that failed is made anew by the next operation that needs it. Once a server has not been there for as
//! long as it takes until another is in its place, or for [`RESTART`] where there is no other, whoever asks is
//! told at once, until it is back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::store::StoreResult;
use doorward_core::transfer::LEFT;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerError, ServerErrorKind as Said, Value};
use tokio::time::Instant;

use super::address::{Address, Host, Kind};
use super::connection::Lane;
use super::scripts;
use super::tags::Tag;
use super::topology::{self, Shard, Shards};

/// How long is waited for a server that moves, starts or fails over: less than a caller waits.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How long a server without another that takes its place may be away, for those who ask it to wait.
const RESTART: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked of the server that has a tag's keys.
pub(super) struct Ask {
    pub(super) tag: Tag,
    pub(super) commands: Pipeline,
    /// May be carried out twice.
    pub(super) repeatable: bool,
    pub(super) firm: Firm,
}

/// Which replicas must have what is written before it counts as done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Firm {
    /// None.
    No,
    /// One, if its server says that one follows it. A login that is lost all the same logs its user out, and
    /// leaves an access token that no end of all sessions reaches.
    IfFollowed,
    /// One, unless the servers agree that there is none. What is lost would bring back what ended.
    Always,
}

impl Firm {
    pub(super) fn always_if(firm: bool) -> Firm {
        if firm { Firm::Always } else { Firm::No }
    }
}

impl Ask {
    /// One command, of which no replica must know.
    pub(super) fn of(tag: Tag, command: Cmd, repeatable: bool) -> Ask {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        Ask {
            tag,
            commands,
            repeatable,
            firm: Firm::No,
        }
    }
}

/// All of them.
pub(super) struct Servers {
    pub(super) address: Address,
    shards: Mutex<Arc<Shards>>,
    lanes: Mutex<HashMap<(Host, bool), Arc<Lane>>>,
    looking: tokio::sync::Mutex<()>,
}

impl Servers {
    pub(super) fn new(address: Address) -> Self {
        Servers {
            address,
            shards: Mutex::default(),
            lanes: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// The answers, one for each command.
    pub(super) async fn ask(&self, ask: Ask) -> StoreResult<Vec<Value>> {
        Box::pin(self.ask_until(ask, patience())).await
    }

    pub(super) async fn ask_until(&self, ask: Ask, until: Instant) -> StoreResult<Vec<Value>> {
        let mut asked_of: Option<Host> = None;
        loop {
            let failed = match self.try_once(&ask, asked_of.take()).await {
                Ok(answers) => return Ok(answers),
                Err(failed) => failed,
            };
            if !failed.may_retry(ask.repeatable) || is_over(until) {
                return Err(failed.error());
            }
            match failed {
                Failed::Elsewhere(host) => asked_of = Some(host),
                Failed::Moved => self.look_again().await,
                _ => {
                    tokio::time::sleep(PAUSE).await;
                    self.look_again().await;
                }
            }
        }
    }

    /// `asking`: a server that takes the slot over, in place of the one that has it.
    async fn try_once(&self, ask: &Ask, asking: Option<Host>) -> Result<Vec<Value>, Failed> {
        let shard = self.shard(ask.tag).await?;
        let host = asking.as_ref().unwrap_or(&shard.primary);
        let lane = self.lane(host, ask.firm != Firm::No);
        let wait = self.wait(&shard, ask.firm);
        let sent = if asking.is_some() || wait > 0 {
            let wait_for = self.address.wait_for;
            Cow::Owned(prepared(&ask.commands, asking.is_some(), wait, wait_for))
        } else {
            Cow::Borrowed(&ask.commands)
        };
        let answers = self.send(&lane, &sent).await?;
        match self.sorted(answers, asking.is_some(), wait) {
            Ok((answers, is_confirmed)) => {
                if is_confirmed || self.is_alone(ask, host).await {
                    Ok(answers)
                } else {
                    Err(Failed::Unconfirmed)
                }
            }
            Err(Failed::Unloaded) => {
                let mut connection = lane.connection().await.map_err(Failed::Unreached)?;
                scripts::load(&mut connection)
                    .await
                    .map_err(Failed::Unreached)?;
                Err(Failed::Unloaded)
            }
            Err(Failed::Demoted) => {
                // Its name may lead elsewhere by now, and what it answers to reads is old.
                for firm in [false, true] {
                    self.lane(host, firm).failed();
                }
                Err(Failed::Demoted)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Whether the replicas that were waited for are found to be gone.
    async fn is_alone(&self, ask: &Ask, host: &Host) -> bool {
        self.look_again().await;
        let shards = Arc::clone(&lock(&self.shards));
        let shard = shards.of(ask.tag.hash_slot());
        shard.is_some_and(|shard| shard.primary == *host && self.wait(shard, ask.firm) == 0)
    }

    /// The answers of one server.
    pub(super) async fn send(
        &self,
        lane: &Arc<Lane>,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Failed> {
        let mut connection = lane.connection().await.map_err(|error| {
            if lane.is_gone_for(self.bridged()) {
                Failed::Gone(error)
            } else {
                Failed::Unreached(error)
            }
        })?;
        let sent = connection.send_packed_commands(commands, 0, commands.len());
        sent.await.map_err(|error| {
            lane.failed();
            Failed::Unanswered(error)
        })
    }

    /// An answer, or why the server gave none.
    pub(super) fn sort(&self, answer: Value) -> Result<Value, Failed> {
        match answer {
            Value::ServerError(error) => Err(Failed::of(&error, self)),
            answer => Ok(answer),
        }
    }

    /// The answers to what was asked, without those to what was added to it; and whether enough replicas have it.
    fn sorted(
        &self,
        answers: Vec<Value>,
        asking: bool,
        wait: u32,
    ) -> Result<(Vec<Value>, bool), Failed> {
        let mut sorted = Vec::with_capacity(answers.len());
        let mut answers = answers.into_iter();
        let confirmed = if wait > 0 { answers.next_back() } else { None };
        while let Some(mut answer) = answers.next() {
            if asking {
                answer = answers.next().unwrap_or_default();
            }
            sorted.push(self.sort(answer)?);
        }
        let is_confirmed = match confirmed {
            Some(Value::Int(count)) => count >= i64::from(wait),
            Some(_) => false,
            None => true,
        };
        Ok((sorted, is_confirmed))
    }

    /// How long a server may be away.
    fn bridged(&self) -> Duration {
        match self.address.kind {
            Kind::Single => RESTART,
            Kind::Cluster | Kind::Sentinel(_) => PATIENCE,
        }
    }

    fn wait(&self, shard: &Shard, firm: Firm) -> u32 {
        let one = match firm {
            Firm::No => return 0,
            Firm::IfFollowed => shard.is_followed,
            Firm::Always => shard.has_replicas,
        };
        self.address.wait.unwrap_or(u32::from(one))
    }

    pub(super) fn lane(&self, host: &Host, firm: bool) -> Arc<Lane> {
        let mut lanes = lock(&self.lanes);
        let lane = lanes.entry((host.clone(), firm));
        let made = lane.or_insert_with(|| Arc::new(Lane::new(&self.address, host)));
        Arc::clone(made)
    }

    /// The way to the server that has a tag's keys, as far as that is known.
    pub(super) fn known(&self, tag: Tag) -> Option<Arc<Lane>> {
        let shards = Arc::clone(&lock(&self.shards));
        let shard = shards.of(tag.hash_slot())?;
        Some(self.lane(&shard.primary, false))
    }

    async fn shard(&self, tag: Tag) -> Result<Shard, Failed> {
        if lock(&self.shards).is_empty() {
            self.look().await.map_err(Failed::Unreached)?;
        }
        let shard = lock(&self.shards).of(tag.hash_slot()).cloned();
        shard.ok_or(Failed::Down)
    }

    /// A server that answers for some of the keys: where ends are listened for.
    pub(super) async fn any(&self, nth: usize) -> Result<Host, RedisError> {
        if lock(&self.shards).is_empty() {
            self.look().await?;
        }
        let hosts = lock(&self.shards).primaries();
        let host = hosts
            .get(nth.checked_rem(hosts.len()).unwrap_or(0))
            .cloned();
        Ok(host.unwrap_or_else(|| self.address.hosts[0].clone()))
    }

    /// One tag of each shard, and the tags that lie there.
    pub(super) async fn by_shard(&self, tags: impl Iterator<Item = Tag>) -> Vec<Vec<Tag>> {
        if lock(&self.shards).is_empty() {
            self.look_again().await;
        }
        let shards = Arc::clone(&lock(&self.shards));
        let mut groups: HashMap<Option<&Host>, Vec<Tag>> = HashMap::new();
        for tag in tags {
            let shard = shards.of(tag.hash_slot());
            let primary = shard.map(|shard| &shard.primary);
            groups.entry(primary).or_default().push(tag);
        }
        groups.into_values().collect()
    }

    /// Replicas come and go without anything that fails: whether they are waited for depends on it. And for a server that
    /// is gone nobody else looks, when all are told at once.
    pub(super) async fn keep_looking(&self) {
        if self.address.kind != Kind::Single {
            self.look_again().await;
        }
    }

    async fn look_again(&self) {
        // What cannot be seen now is looked for by the next try.
        let _ = self.look().await;
    }

    /// Asks who has what now; those who wait for the same answer do not ask again.
    async fn look(&self) -> Result<(), RedisError> {
        let before = Arc::clone(&lock(&self.shards));
        let _turn = self.looking.lock().await;
        if !Arc::ptr_eq(&before, &lock(&self.shards)) {
            return Ok(());
        }
        if self.address.kind == Kind::Single && !before.is_empty() {
            return Ok(());
        }
        let found = topology::look(self, &before.primaries()).await?;
        *lock(&self.shards) = Arc::new(found);
        Ok(())
    }
}

/// What is sent: each command alone, or after ASKING, and WAIT at the end.
fn prepared(commands: &Pipeline, asking: bool, wait: u32, wait_for: Duration) -> Pipeline {
    let mut sent = Pipeline::with_capacity(commands.len() + 1);
    for command in commands.cmd_iter() {
        if asking {
            sent.add_command(redis::cmd("ASKING"));
        }
        sent.add_command(command.clone());
    }
    if wait > 0 {
        let millis = u64::try_from(wait_for.as_millis()).unwrap_or(1);
        let mut command = Cmd::new();
        command.arg("WAIT").arg(wait).arg(millis);
        sent.add_command(command);
    }
    sent
}

/// Why a try failed.
#[derive(Clone)]
pub(super) enum Failed {
    /// Nothing was sent.
    Unreached(RedisError),
    /// Nothing was sent, as for long nothing could be.
    Gone(RedisError),
    /// It may have been carried out.
    Unanswered(RedisError),
    /// The keys are moving to this server.
    Elsewhere(Host),
    /// The keys have moved.
    Moved,
    /// The server cannot now, and says so.
    Down,
    /// The server is a replica.
    Demoted,
    /// The server did not know a script.
    Unloaded,
    /// It was carried out, and too few replicas said that they have it.
    Unconfirmed,
    /// This store was left.
    Left(String),
    /// Anything else that the server says: its first word.
    Said(String),
}

impl Failed {
    fn of(error: &ServerError, servers: &Servers) -> Failed {
        match error.kind() {
            Some(Said::Moved) => Failed::Moved,
            Some(Said::Ask) => {
                topology::redirect(error.details(), servers).map_or(Failed::Down, Failed::Elsewhere)
            }
            Some(Said::ReadOnly) => Failed::Demoted,
            Some(Said::NoScript) => Failed::Unloaded,
            Some(Said::TryAgain | Said::ClusterDown | Said::BusyLoading | Said::MasterDown) => {
                Failed::Down
            }
            _ if error.code() == "LEFT" => {
                Failed::Left(error.details().unwrap_or_default().to_owned())
            }
            _ => Failed::Said(error.code().to_owned()),
        }
    }

    /// No answer within the time that there was.
    pub(super) fn late() -> Failed {
        let late = RedisError::from((ErrorKind::Io, "no answer in time"));
        Failed::Unanswered(late)
    }

    /// `repeatable`: what was asked may be carried out twice.
    pub(super) fn may_retry(&self, repeatable: bool) -> bool {
        match self {
            Failed::Unanswered(_) | Failed::Unconfirmed => repeatable,
            Failed::Unreached(error) => !is_hopeless(error),
            Failed::Gone(_) | Failed::Left(_) | Failed::Said(_) => false,
            Failed::Elsewhere(_)
            | Failed::Moved
            | Failed::Down
            | Failed::Demoted
            | Failed::Unloaded => true,
        }
    }

    pub(super) fn error(self) -> StoreError {
        StoreError(match self {
            Failed::Unreached(error) | Failed::Gone(error) => {
                format!("Redis cannot be reached: {}", told(&error))
            }
            Failed::Unanswered(error) => format!("Redis did not answer: {}", told(&error)),
            Failed::Elsewhere(_)
            | Failed::Moved
            | Failed::Down
            | Failed::Demoted
            | Failed::Unloaded => "Redis has no server now for some keys".into(),
            Failed::Unconfirmed => "too few replicas confirmed a write in time".into(),
            Failed::Left(mark) => format!("{LEFT}: {mark}"),
            Failed::Said(code) => format!("Redis answered {code}"),
        })
    }
}

/// Whether trying again cannot help.
pub(super) fn is_hopeless(error: &RedisError) -> bool {
    let refuses = matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
    let kind = matches!(
        error.kind(),
        redis::ErrorKind::AuthenticationFailed
            | redis::ErrorKind::InvalidClientConfig
            | redis::ErrorKind::RESP3NotSupported
    );
    refuses || kind
}

/// What failed, without what was sent or answered.
pub(super) fn told(error: &RedisError) -> String {
    match (error.kind(), error.source(), error.code()) {
        // Of the network, or of certificates.
        (redis::ErrorKind::Io, Some(source), _) => source.to_string(),
        // Our own words, before the driver's.
        (redis::ErrorKind::InvalidClientConfig, ..) => {
            let text = error.to_string();
            text.split(" - ").next().unwrap_or_default().to_owned()
        }
        (.., Some(code)) => format!("{} ({code})", error.category()),
        _ => error.category().to_owned(),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until when whoever asks now waits.
pub(super) fn patience() -> Instant {
    after(PATIENCE)
}

/// Time here bounds waits for the network, and decides nothing about sessions.
pub(super) fn after(span: Duration) -> Instant {
    #[allow(clippy::disallowed_methods, reason = "bounds a wait for the network")]
    let now = Instant::now();
    now + span
}

pub(super) fn is_over(until: Instant) -> bool {
    after(Duration::ZERO) >= until
}
