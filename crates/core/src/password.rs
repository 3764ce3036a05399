//! Passwords: Argon2id (RFC 9106) on threads of their own.
//!
//! Guarantees: hashing never slows verification down, since its threads run at the lowest
//! priority; the queue is bounded, and past it the answer is [`Error::Overloaded`] at once; a
//! login that waited long is taken by a thread of normal priority, so that a busy machine cannot
//! starve it; an unknown account costs the same work as a known one. Memory is taken at the first
//! login, kept, and released after some seconds without one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use argon2::{Argon2, Block};
use base64_simd::STANDARD_NO_PAD as BASE64;
use futures_channel::oneshot;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::env::{Env, Timestamp};
use crate::error::{Error, Result};

mod breached;
mod guess;
mod strength;

pub use breached::Breached;
pub use strength::Rules;

const SALT: usize = 16;
const TAG: usize = 32;

/// A password as it was typed, after Unicode normalization (NFC). Wiped when dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The longest password, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Every character counts; only length and NUL are looked at.
    ///
    /// # Errors
    /// [`Error::BadRequest`].
    pub fn new(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > Self::MAX_BYTES || text.contains('\0') {
            return Err(Error::BadRequest(
                "password must have 1 to 1,024 bytes and no NUL",
            ));
        }
        Ok(Password(Zeroizing::new(text.nfc().collect())))
    }

    /// For a host that checks it itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// A PHC string. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl PasswordHash {
    /// From a store or host.
    #[must_use]
    pub fn from_phc(text: &str) -> Self {
        PasswordHash(text.into())
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

/// Argon2id's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

impl Default for Params {
    /// OWASP's first choice.
    fn default() -> Self {
        Params {
            memory_kib: 19_456,
            iterations: 2,
            parallelism: 1,
        }
    }
}

impl Params {
    /// No protection at all: for tests only.
    pub const FAST_FOR_TESTS: Params = Params {
        memory_kib: 8,
        iterations: 1,
        parallelism: 1,
    };

    /// What a stored hash may cost at most, so that it cannot eat the machine.
    fn is_bearable(self) -> bool {
        self.memory_kib <= 256 * 1024 && self.iterations <= 16 && self.parallelism <= 16
    }

    fn kernel(self) -> Option<Argon2<'static>> {
        let params = argon2::Params::new(
            self.memory_kib,
            self.iterations,
            self.parallelism,
            Some(TAG),
        );
        let kernel =
            |params| Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        params.ok().filter(|_| self.is_bearable()).map(kernel)
    }
}

/// How passwords are hashed.
#[derive(Clone, Debug)]
pub struct Hashing {
    /// The cost of new hashes; others are replaced at their user's next login.
    pub params: Params,
    /// Threads at the lowest priority, 1 to 64.
    pub threads: usize,
    /// How many may wait.
    pub queue: usize,
    /// After this long in the queue a thread of normal priority takes over.
    pub patience: Duration,
    /// After this long without work the memory is given back.
    pub idle_release: Duration,
    /// Which new passwords are refused.
    pub rules: Rules,
}

impl Default for Hashing {
    fn default() -> Self {
        Hashing {
            params: Params::default(),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(64)),
            queue: 64,
            patience: Duration::from_secs(2),
            idle_release: Duration::from_secs(10),
            rules: Rules::default(),
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whether it was the password.
    pub matches: bool,
    /// The hash to store from now on, where the cost has changed.
    pub rehash: Option<PasswordHash>,
}

/// The hashing threads. Started at the first use, in each process for itself.
pub struct Passwords {
    hashing: Hashing,
    env: Arc<dyn Env>,
    /// Swapped without a lock: a child that was forked while a thread held one would wait forever.
    pool: ArcSwapOption<Pool>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    hashes: AtomicU64,
    memory: AtomicU64,
}

struct Pool {
    /// Whose threads they are.
    process: u32,
    queue: Mutex<Queue>,
    work: Condvar,
    hashing: Hashing,
    env: Arc<dyn Env>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
    /// Milliseconds that the last hash took, for `Retry-After`.
    last: u64,
}

impl Queue {
    /// What nobody waits for any more is not computed.
    fn skip_abandoned(&mut self) {
        self.jobs.retain(|job| !job.task.is_abandoned());
    }
}

struct Job {
    since: Timestamp,
    task: Task,
}

enum Task {
    /// Of a new password, whose user's name is given where it is to be checked first.
    Hash(
        Password,
        Option<Box<str>>,
        oneshot::Sender<Result<PasswordHash>>,
    ),
    Verify(
        Password,
        Option<PasswordHash>,
        oneshot::Sender<Result<Verified>>,
    ),
}

impl Task {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Task::Hash(_, _, reply) => reply.is_canceled(),
            Task::Verify(_, _, reply) => reply.is_canceled(),
        }
    }
}

impl Passwords {
    /// Threads are started at the first use.
    #[must_use]
    pub fn new(hashing: Hashing, env: Arc<dyn Env>) -> Self {
        Passwords {
            hashing,
            env,
            pool: ArcSwapOption::empty(),
            counts: Arc::default(),
        }
    }

    /// How passwords are hashed.
    #[must_use]
    pub fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    /// How many hashes were computed.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.counts.hashes.load(Ordering::Relaxed)
    }

    /// How much memory the threads hold now, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.counts.memory.load(Ordering::Acquire)
    }

    /// Hashes a password, whatever it is.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash> {
        self.hash_if(password, None).await
    }

    /// Hashes the new password of a user (of no name: ""), unless [`Rules::check`] refuses it.
    ///
    /// # Errors
    /// [`Error::PasswordTooWeak`], [`Error::Overloaded`], [`Error::StoreUnavailable`].
    pub async fn hash_new(&self, username: &str, password: Password) -> Result<PasswordHash> {
        self.hash_if(password, Some(username.into())).await
    }

    async fn hash_if(
        &self,
        password: Password,
        checked_for: Option<Box<str>>,
    ) -> Result<PasswordHash> {
        let (reply, answer) = oneshot::channel();
        self.submit(Task::Hash(password, checked_for, reply))?;
        answer.await.unwrap_or(Err(OVERLOADED))
    }

    /// Checks a password. Without a hash, or with one that cannot be read, does the same work and
    /// does not match.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<Verified> {
        let (reply, answer) = oneshot::channel();
        self.submit(Task::Verify(password, hash, reply))?;
        answer.await.unwrap_or(Err(OVERLOADED))
    }

    fn submit(&self, task: Task) -> Result<()> {
        let pool = self.pool();
        let mut queue = pool.lock();
        queue.skip_abandoned();
        if queue.jobs.len() >= self.hashing.queue {
            let millis = queue.last.max(10) * queue.jobs.len() as u64;
            let wait = Duration::from_millis(millis / self.hashing.threads.max(1) as u64);
            return Err(Error::Overloaded {
                retry_after: wait.max(Duration::from_secs(1)),
            });
        }
        queue.jobs.push_back(Job {
            since: self.env.now(),
            task,
        });
        drop(queue);
        pool.work.notify_all();
        Ok(())
    }

    /// The threads of this process: a forked child starts its own. Of callers that start them at
    /// once, one prevails.
    fn pool(&self) -> Arc<Pool> {
        let process = std::process::id();
        let own = |pool: &&Arc<Pool>| pool.process == process;
        let known = self.pool.load();
        if let Some(pool) = known.as_ref().filter(own) {
            return Arc::clone(pool);
        }
        let new = Pool::new(self, process);
        let before = self.pool.compare_and_swap(&known, Some(Arc::clone(&new)));
        if let Some(pool) = before.as_ref().filter(own) {
            return Arc::clone(pool);
        }
        new.start();
        new
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        let pool = self.pool.load();
        let own = |pool: &&Arc<Pool>| pool.process == std::process::id();
        if let Some(pool) = pool.as_ref().filter(own) {
            pool.lock().closed = true;
            pool.work.notify_all();
        }
    }
}

const OVERLOADED: Error = Error::Overloaded {
    retry_after: Duration::from_secs(1),
};

impl Pool {
    fn new(of: &Passwords, process: u32) -> Arc<Pool> {
        Arc::new(Pool {
            process,
            queue: Mutex::default(),
            work: Condvar::new(),
            hashing: of.hashing.clone(),
            env: Arc::clone(&of.env),
            counts: Arc::clone(&of.counts),
        })
    }

    fn start(self: &Arc<Self>) {
        for number in 0..=self.hashing.threads.clamp(1, 64) {
            let pool = Arc::clone(self);
            let builder = std::thread::Builder::new().name("doorward-hash".into());
            // A thread that cannot be had is done without; with none, callers time out.
            let _ = builder.spawn(move || pool.run(number == 0));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread. The one for stragglers keeps its priority, the others give theirs up.
    fn run(&self, stragglers: bool) {
        if !stragglers {
            let thread = rustix::thread::gettid();
            // Linux gives each thread a priority of its own.
            let _ = rustix::process::setpriority_process(Some(thread), 19);
        }
        let mut memory = Memory::new(&self.counts);
        while let Some(job) = self.next(stragglers, &mut memory) {
            let from = self.env.now();
            self.carry_out(job.task, &mut memory);
            let took = self.env.now().since(from);
            self.lock().last = u64::try_from(took).unwrap_or(0);
        }
    }

    /// The next job; `None` when the pool is closed. Gives the memory back after a quiet time.
    fn next(&self, stragglers: bool, memory: &mut Memory) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            queue.skip_abandoned();
            let due = |job: &Job| !stragglers || self.left(job).is_zero();
            if queue.jobs.front().is_some_and(due) {
                return queue.jobs.pop_front();
            }
            let wait = match queue.jobs.front() {
                Some(job) if stragglers => self.left(job),
                _ => self.hashing.idle_release,
            };
            let (woken, waited) = self
                .work
                .wait_timeout(queue, wait)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            if waited.timed_out() && queue.jobs.is_empty() {
                memory.release();
            }
        }
    }

    /// How much longer a job waits for the threads of the lowest priority.
    fn left(&self, job: &Job) -> Duration {
        let waited = self.env.now().since(job.since).max(0).unsigned_abs();
        self.hashing
            .patience
            .saturating_sub(Duration::from_millis(waited))
    }

    fn carry_out(&self, task: Task, memory: &mut Memory) {
        match task {
            Task::Hash(password, checked_for, reply) => {
                let allowed = checked_for.map_or(Ok(()), |username| {
                    self.hashing.rules.check(&username, &password)
                });
                drop(reply.send(allowed.and_then(|()| self.hash(&password, memory))));
            }
            Task::Verify(password, hash, reply) => {
                drop(reply.send(self.verify(&password, hash.as_ref(), memory)));
            }
        }
    }

    fn hash(&self, password: &Password, memory: &mut Memory) -> Result<PasswordHash> {
        let mut salt = [0; SALT];
        self.env.fill(&mut salt);
        let params = self.hashing.params;
        let tag = self
            .compute(params, password, &salt, memory)
            .ok_or(OVERLOADED)?;
        Ok(Phc {
            params,
            salt: salt.to_vec(),
            tag,
        }
        .format())
    }

    fn verify(
        &self,
        password: &Password,
        hash: Option<&PasswordHash>,
        memory: &mut Memory,
    ) -> Result<Verified> {
        let stored = hash.and_then(Phc::parse);
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| Phc {
            params: self.hashing.params,
            salt: vec![0; SALT],
            tag: [0; TAG],
        });
        let tag = self
            .compute(stored.params, password, &stored.salt, memory)
            .ok_or(OVERLOADED)?;
        let matches = bool::from(tag.ct_eq(&stored.tag)) && known;
        let outdated = matches && stored.params != self.hashing.params;
        // A hash that cannot be renewed now is renewed another time.
        let rehash = outdated.then(|| self.hash(password, memory).ok()).flatten();
        Ok(Verified { matches, rehash })
    }

    fn compute(
        &self,
        params: Params,
        password: &Password,
        salt: &[u8],
        memory: &mut Memory,
    ) -> Option<[u8; TAG]> {
        let kernel = params.kernel()?;
        let blocks = memory.at_least(kernel.params().block_count())?;
        let mut tag = [0; TAG];
        kernel
            .hash_password_into_with_memory(password.0.as_bytes(), salt, &mut tag, blocks)
            .ok()?;
        self.counts.hashes.fetch_add(1, Ordering::Relaxed);
        Some(tag)
    }
}

/// What a thread hashes in: kept from one job to the next.
struct Memory {
    blocks: Vec<Block>,
    counts: Arc<Counts>,
}

/// Blocks of 1 KiB. Above 32 MiB malloc always maps what it is asked for, and unmaps it when it is
/// freed; below, it may keep it for ever. What is not used of it is addresses, not memory.
const MAPPED: usize = 33 * 1024;

impl Memory {
    fn new(counts: &Arc<Counts>) -> Self {
        Memory {
            blocks: Vec::new(),
            counts: Arc::clone(counts),
        }
    }

    fn bytes(&self) -> u64 {
        (self.blocks.len() * Block::SIZE) as u64
    }

    /// `None`: the machine has no more.
    fn at_least(&mut self, blocks: usize) -> Option<&mut [Block]> {
        let before = self.bytes();
        if self.blocks.len() < blocks {
            self.blocks.clear();
            let room = blocks.max(MAPPED);
            self.blocks.try_reserve_exact(room).ok()?;
            self.blocks.resize(blocks, Block::default());
        }
        let more = self.bytes() - before;
        self.counts.memory.fetch_add(more, Ordering::Relaxed);
        Some(&mut self.blocks[..blocks])
    }

    fn release(&mut self) {
        let bytes = self.bytes();
        self.blocks = Vec::new();
        self.counts.memory.fetch_sub(bytes, Ordering::Release);
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.release();
    }
}

/// An Argon2id hash taken apart.
struct Phc {
    params: Params,
    salt: Vec<u8>,
    tag: [u8; TAG],
}

impl Phc {
    fn format(&self) -> PasswordHash {
        let Params {
            memory_kib,
            iterations,
            parallelism,
        } = self.params;
        let (salt, tag) = (
            BASE64.encode_to_string(&self.salt),
            BASE64.encode_to_string(self.tag),
        );
        let text =
            format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}${salt}${tag}");
        PasswordHash(text.into())
    }

    fn parse(hash: &PasswordHash) -> Option<Phc> {
        let mut parts = hash.0.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let mut costs = costs.split(',');
        let mut cost = |name| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let params = Params {
            memory_kib: cost("m=")?,
            iterations: cost("t=")?,
            parallelism: cost("p=")?,
        };
        let salt = BASE64
            .decode_to_vec(salt)
            .ok()
            .filter(|salt| salt.len() >= 8)?;
        let tag = BASE64.decode_to_vec(tag).ok()?.try_into().ok()?;
        params.kernel()?;
        Some(Phc { params, salt, tag })
    }
}

#[cfg(test)]
mod tests;
