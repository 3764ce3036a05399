//! What an operator should know of the servers: what they may lose of what they acknowledged, and what of their keys
//! is out of reach. Looked at as a store is opened, and again and again; nothing rests on it.

use std::sync::{Mutex, Weak};
use std::time::Duration;

use doorward_core::error::StoreError;
use doorward_core::store::StoreResult;

use super::address::Kind;
use super::base::{Base, text};
use super::servers::lock;
use super::tags::{HASH_SLOTS, Tag};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(10);

/// What was seen last, in words.
#[derive(Default)]
pub(super) struct Risk(Mutex<Option<String>>);

impl Risk {
    pub(super) fn told(&self) -> Option<String> {
        lock(&self.0).clone()
    }

    fn is(&self, risks: &[String]) {
        let said = (!risks.is_empty()).then(|| format!("Redis: {}", risks.join("; ")));
        *lock(&self.0) = said;
    }
}

impl Base {
    /// Whether the servers answer, and keep what they are given.
    pub(super) async fn check(&self) -> StoreResult<()> {
        let seen = self.look_at_servers().await?;
        if self.servers.address.kind != Kind::Cluster && seen.iter().any(|info| is_of_cluster(info))
        {
            return Err(StoreError(
                "the server is one of a cluster: add ?cluster to the URL".into(),
            ));
        }
        let policy = seen.iter().find_map(|info| evicting(info));
        match policy.filter(|policy| policy.starts_with("allkeys")) {
            Some(policy) => Err(StoreError(format!(
                "the server throws keys away when its memory is full ({policy}): set maxmemory-policy to noeviction"
            ))),
            None => Ok(()),
        }
    }

    pub(super) async fn watch_for_ever(base: Weak<Base>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let Some(base) = base.upgrade() else {
                return;
            };
            // Servers that do not answer are told of by whoever asks something of them.
            let _ = base.look_at_servers().await;
        }
    }

    /// What each primary says of itself. One that says nothing hides no other.
    async fn look_at_servers(&self) -> StoreResult<Vec<String>> {
        let (mut seen, mut risks, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        for tags in self.servers.by_shard(Tag::users()).await {
            match self.look_at_server(tags[0]).await {
                Ok((info, told)) => {
                    seen.push(info);
                    risks.extend(told);
                }
                Err(error) => outcome = Err(error),
            }
        }
        risks.sort_unstable();
        risks.dedup();
        self.risk.is(&risks);
        outcome.map(|()| seen)
    }

    async fn look_at_server(&self, tag: Tag) -> StoreResult<(String, Vec<String>)> {
        let kind = &self.servers.address.kind;
        let info = text(self.read_one(tag, redis::cmd("INFO")).await?)?;
        let mut risks = of_server(&info, kind);
        if *kind == Kind::Cluster {
            let mut ask = redis::cmd("CLUSTER");
            ask.arg("INFO");
            risks.extend(of_cluster(&text(self.read_one(tag, ask).await?)?));
        }
        Ok((info, risks))
    }
}

fn of_server(info: &str, kind: &Kind) -> Vec<String> {
    let is = |name, value| field(info, name) == Some(value);
    let is_alone = *kind != Kind::Single && is("connected_slaves", "0");
    let policy =
        evicting(info).map(|policy| format!("maxmemory-policy is {policy}: set noeviction"));
    let risks = [
        (
            is("aof_enabled", "0"),
            "no append-only file (appendonly yes): a server that stops loses what came after its last snapshot, also ends of sessions",
        ),
        (
            is("aof_last_write_status", "err") || is("rdb_last_bgsave_status", "err"),
            "a server cannot write to its disk",
        ),
        (
            is_alone,
            "a primary has no replica: what only it has, also ends of sessions, is lost with it",
        ),
    ];
    let told = risks.into_iter().filter(|(holds, _)| *holds);
    told.map(|(_, words)| words.to_owned())
        .chain(policy)
        .collect()
}

fn of_cluster(info: &str) -> Option<String> {
    let served: u16 = field(info, "cluster_slots_ok")?.parse().ok()?;
    (served < HASH_SLOTS).then(|| {
        let gone = HASH_SLOTS - served;
        format!("{gone} of {HASH_SLOTS} hash slots have no server: those users can neither log in nor refresh; with cluster-require-full-coverage, which is the default, nobody can")
    })
}

fn is_of_cluster(info: &str) -> bool {
    field(info, "cluster_enabled") == Some("1")
}

/// What a server throws away where its memory is full, if it does.
fn evicting(info: &str) -> Option<&str> {
    field(info, "maxmemory_policy").filter(|policy| *policy != "noeviction")
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'));
    lines.find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "aof_enabled:1\r\naof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\n\
        maxmemory_policy:noeviction\r\nconnected_slaves:1\r\n";

    #[test]
    fn what_may_be_lost_is_said() {
        assert!(of_server(SOUND, &Kind::Cluster).is_empty());
        for (from, to, word) in [
            ("aof_enabled:1", "aof_enabled:0", "appendonly"),
            ("write_status:ok", "write_status:err", "disk"),
            ("slaves:1", "slaves:0", "replica"),
            ("noeviction", "volatile-lru", "volatile-lru"),
        ] {
            let told = of_server(&SOUND.replace(from, to), &Kind::Cluster);
            assert!(matches!(&told[..], [one] if one.contains(word)), "{told:?}");
        }
        let alone = SOUND.replace("slaves:1", "slaves:0");
        assert!(of_server(&alone, &Kind::Single).is_empty());
    }

    #[test]
    fn slots_without_a_server_are_counted() {
        let of = |slots| of_cluster(&format!("cluster_state:ok\r\ncluster_slots_ok:{slots}\r\n"));
        assert_eq!(of(16384), None);
        assert!(of(16380).unwrap().starts_with("4 of 16384"));
    }
}
