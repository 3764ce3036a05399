//! What there is to serve the clients, and what it can carry.

/// What machines can do, and how many there are. Times in seconds, of one core where they are of
/// processors.
#[derive(Clone, Debug)]
pub struct Plant {
    /// Doorward nodes.
    pub nodes: f64,
    /// Their cores, each.
    pub cores: f64,
    /// Processor time of a request that verifies an access token, with its HTTP.
    pub verify: f64,
    /// Of a refresh.
    pub refresh: f64,
    /// Of an answer that is a refusal.
    pub refusal: f64,
    /// Of a password's hash.
    pub hash: f64,
    /// How many logins may wait on a node.
    pub password_queue: f64,
    /// Shards of the store, over which users are spread evenly.
    pub shards: f64,
    /// Refreshes a second that a shard carries: a load and a swap each.
    pub shard_refreshes: f64,
    /// Logins a second that a shard carries.
    pub shard_logins: f64,
    /// Ends a second that a shard carries.
    pub shard_ends: f64,
    /// What a load costs of a refresh.
    pub load: f64,
    /// How long the store takes when nothing waits.
    pub latency: f64,
    /// The longest wait before a node, or the store behind it, answers 503.
    pub patience: f64,
}

impl Default for Plant {
    /// Processor times as measured (docs/benchmarks.md): HTTP refresh, HTTP verification, a bare POST, and a
    /// login, each on one core of the same machine.
    fn default() -> Plant {
        Plant {
            nodes: 10.0,
            cores: 8.0,
            verify: 11e-6,
            refresh: 64e-6,
            refusal: 10.6e-6,
            hash: 16.4e-3,
            password_queue: 64.0,
            shards: 8.0,
            shard_refreshes: 20_000.0,
            shard_logins: 10_000.0,
            shard_ends: 10_000.0,
            load: 0.3,
            latency: 0.002,
            patience: 5.0,
        }
    }
}

impl Plant {
    /// Work that each kind of operation is for a shard, in refreshes.
    #[must_use]
    pub fn login_work(&self) -> f64 {
        self.shard_refreshes / self.shard_logins
    }

    /// As [`Plant::login_work`].
    #[must_use]
    pub fn end_work(&self) -> f64 {
        self.shard_refreshes / self.shard_ends
    }

    /// All cores.
    #[must_use]
    pub fn all_cores(&self) -> f64 {
        self.nodes * self.cores
    }

    /// How long the whole of a full password queue takes.
    #[must_use]
    pub fn hash_patience(&self) -> f64 {
        self.password_queue * self.hash / self.cores
    }
}
