//! What every part of the store works with: keys, calls, and answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use doorward_core::env::{Env as _, SystemEnv};
use doorward_core::error::StoreError;
use doorward_core::policy::Policy;
use doorward_core::store::StoreResult;
use redis::{Cmd, Pipeline, ToRedisArgs, Value};

use super::address::Address;
use super::hearing::Hearing;
use super::purge::Round;
use super::scripts::Script;
use super::servers::{Ask, Firm, Servers};
use super::tags::Tag;
use super::watch::Risk;
use crate::spread::Spread;

/// The store's inside, which its thread works on.
pub(super) struct Base {
    pub(super) servers: Arc<Servers>,
    pub(super) policy: Policy,
    pub(super) spread: Arc<Spread>,
    pub(super) hearing: Hearing,
    pub(super) risk: Risk,
    pub(super) round: tokio::sync::Mutex<Round>,
    pub(super) buckets: Mutex<Vec<super::buckets::Waiting>>,
    pub(super) changing: tokio::sync::Mutex<()>,
    /// The greatest number of a batch and place in the logs that was seen: whatever is given later is greater.
    seen: AtomicU64,
    /// Tells this store's leases from those of others.
    pub(super) holder: [u8; 16],
}

impl Base {
    pub(super) fn new(address: &Address, policy: Policy, spread: Arc<Spread>) -> Self {
        let mut holder = [0; 16];
        SystemEnv.fill(&mut holder);
        Base {
            servers: Arc::new(Servers::new(address.clone())),
            policy,
            spread,
            hearing: Hearing::default(),
            risk: Risk::default(),
            round: tokio::sync::Mutex::default(),
            buckets: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            seen: AtomicU64::new(0),
            holder,
        }
    }

    /// A key of a tag; the hash of a slot's users has no name besides.
    pub(super) fn key(&self, tag: Tag, name: &str) -> Vec<u8> {
        format!("{}{{{}}}{name}", self.servers.address.prefix, tag.text()).into()
    }

    /// Where ends are published.
    pub(super) fn channel(&self) -> Vec<u8> {
        format!("{}ends", self.servers.address.prefix).into()
    }

    /// A command for the first key of a tag.
    pub(super) fn command(&self, name: &str, tag: Tag, key: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(self.key(tag, key));
        command
    }

    /// A script for the hash of a tag and these further keys.
    pub(super) fn script(&self, script: &Script, tag: Tag, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(&script.name)
            .arg(keys.len() + 1)
            .arg(self.key(tag, ""));
        for key in keys {
            command.arg(self.key(tag, key));
        }
        command
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Takes note of a number or place. One that no clock gives is not believed.
    pub(super) fn has_seen(&self, number: u64) {
        const EXACT_IN_SCRIPTS: u64 = 1 << 52;
        if number < EXACT_IN_SCRIPTS {
            self.seen.fetch_max(number, Ordering::AcqRel);
        }
    }

    /// Reads, by a command about one tag.
    pub(super) async fn read_one(&self, tag: Tag, command: Cmd) -> StoreResult<Value> {
        self.ask(Ask::of(tag, command, true)).await
    }

    /// Writes; it may be lost if its server is.
    pub(super) async fn write(&self, tag: Tag, command: Cmd) -> StoreResult<Value> {
        self.carry_out(tag, command, Firm::No).await
    }

    /// Writes, and waits until the replicas that must have it do.
    pub(super) async fn write_firmly(&self, tag: Tag, command: Cmd) -> StoreResult<Value> {
        self.carry_out(tag, command, Firm::Always).await
    }

    /// Commands that may be carried out twice, in one go.
    pub(super) async fn write_all(
        &self,
        tag: Tag,
        commands: impl Iterator<Item = Cmd>,
    ) -> StoreResult<Vec<Value>> {
        let mut all = Pipeline::new();
        for command in commands {
            all.add_command(command);
        }
        let ask = Ask {
            tag,
            commands: all,
            repeatable: true,
            firm: Firm::No,
        };
        self.servers.ask(ask).await
    }

    pub(super) async fn carry_out(&self, tag: Tag, command: Cmd, firm: Firm) -> StoreResult<Value> {
        let ask = Ask::of(tag, command, false);
        self.ask(Ask { firm, ..ask }).await
    }

    /// The answer to one command.
    pub(super) async fn ask(&self, ask: Ask) -> StoreResult<Value> {
        let answers = self.servers.ask(ask).await?;
        answers.into_iter().next().ok_or_else(strange)
    }

    /// One command for each of many tags, to read: the answers, with the tags, in no order.
    pub(super) async fn of_each(
        &self,
        tags: impl Iterator<Item = Tag>,
        command: impl Fn(Tag) -> Cmd,
    ) -> StoreResult<Vec<(Tag, Value)>> {
        self.for_each(tags, command, false).await
    }

    /// As [`Base::of_each`], of commands that may be carried out twice. `firm`: the replicas have them, too.
    pub(super) async fn for_each(
        &self,
        tags: impl Iterator<Item = Tag>,
        command: impl Fn(Tag) -> Cmd,
        firm: bool,
    ) -> StoreResult<Vec<(Tag, Value)>> {
        let mut answers = Vec::new();
        for tags in self.servers.by_shard(tags).await {
            for some in tags.chunks(AT_ONCE) {
                let mut commands = Pipeline::with_capacity(some.len());
                for tag in some {
                    commands.add_command(command(*tag));
                }
                let ask = Ask {
                    tag: some[0],
                    commands,
                    repeatable: true,
                    firm: Firm::always_if(firm),
                };
                let found = self.servers.ask(ask).await?;
                answers.extend(some.iter().copied().zip(found));
            }
        }
        Ok(answers)
    }
}

/// So many commands go in one pipeline at most.
const AT_ONCE: usize = 512;

/// Several arguments, each of its own.
pub(super) fn args<T: ToRedisArgs>(command: &mut Cmd, args: impl IntoIterator<Item = T>) {
    for arg in args {
        command.arg(arg);
    }
}

pub(super) fn strange() -> StoreError {
    StoreError("Redis gave an answer of another kind than was asked for".into())
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "as its siblings, which take it apart"
)]
pub(super) fn int(value: Value) -> StoreResult<i64> {
    match value {
        Value::Int(number) => Ok(number),
        _ => Err(strange()),
    }
}

pub(super) fn list(value: Value) -> StoreResult<Vec<Value>> {
    match value {
        Value::Array(list) | Value::Set(list) => Ok(list),
        Value::Map(pairs) => Ok(pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect()),
        _ => Err(strange()),
    }
}

/// Bytes, where there are any.
pub(super) fn perhaps(value: Value) -> StoreResult<Option<Vec<u8>>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into())),
        Value::Int(number) => Ok(Some(number.to_string().into())),
        _ => Err(strange()),
    }
}

pub(super) fn bytes(value: Value) -> StoreResult<Vec<u8>> {
    perhaps(value)?.ok_or_else(strange)
}

/// A number that is written in digits.
pub(super) fn digits<T: std::str::FromStr>(bytes: &[u8]) -> StoreResult<T> {
    let text = std::str::from_utf8(bytes).map_err(|_| strange())?;
    text.parse().map_err(|_| strange())
}

/// Exactly so many answers.
pub(super) fn exactly<const N: usize>(values: Vec<Value>) -> StoreResult<[Value; N]> {
    values.try_into().map_err(|_| strange())
}

pub(super) fn text(value: Value) -> StoreResult<String> {
    match value {
        Value::VerbatimString { text, .. } => Ok(text),
        other => String::from_utf8(bytes(other)?).map_err(|_| strange()),
    }
}
