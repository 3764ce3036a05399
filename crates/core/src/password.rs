//! Passwords: Argon2id (RFC 9106) on threads of their own.
//!
//! Guarantees: hashing never slows verification down, since its threads run at the lowest
//! priority; the queue is bounded, and past it the answer is [`Error::Overloaded`] at once; a
//! login that waited long is taken by a thread of normal priority, so that a busy machine cannot
//! starve it; an unknown account costs the same work as a known one. Memory is taken at the first
//! login, kept, and released after some seconds without one.
//!
//! Hashes of other making and of other costs are verified too ([`PasswordHash`]) and replaced. That
//! costs their own work on top of a hash of ours, whether the password is right or wrong: until an
//! account has moved, the time tells that it is there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use argon2::{Algorithm, Block, Version};
use futures_channel::oneshot;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::env::{Env, Timestamp};
use crate::error::{Error, Result};

mod breached;
mod foreign;
mod generated;
mod guess;
mod strength;

use foreign::{Argon2Hash, Stored};

pub use breached::Breached;
pub use generated::generated;
pub use strength::Rules;

const SALT: usize = 16;
const TAG: usize = 32;

/// A password as it was typed, after Unicode normalization (NFC). Wiped when dropped.
#[derive(Clone)]
pub struct Password {
    nfc: Zeroizing<String>,
    /// Where it differs: other programs hash what is typed, as some keyboards do not compose.
    typed: Option<Zeroizing<String>>,
}

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
        let nfc: Zeroizing<String> = Zeroizing::new(text.nfc().collect());
        let typed = (*nfc != text).then(|| Zeroizing::new(text.to_owned()));
        Ok(Password { nfc, typed })
    }

    /// For a host that checks it itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.nfc
    }

    /// What another program may have hashed, the likeliest first.
    fn spellings(&self) -> impl Iterator<Item = &str> {
        let typed = self.typed.iter();
        std::iter::once(&self.nfc).chain(typed).map(|text| &***text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// A hash as a store or host keeps it. Its `Debug` shows nothing of it.
///
/// Ours are PHC strings of Argon2id. Verified and replaced are also Argon2, bcrypt, scrypt and PBKDF2
/// as PHC strings, passlib, Werkzeug and Django write them, within ceilings: Argon2 256 MiB, 16 passes
/// and 16 lanes; scrypt 256 MiB, and 512 MiB times its lanes; PBKDF2 5 million rounds; bcrypt a cost
/// of 15. No password matches what is of another form or beyond.
///
/// bcrypt reads 72 bytes of a password. What comes after them counts for nothing until the hash is
/// replaced, which is at the first login, by one of the whole password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl PasswordHash {
    /// From a store or host: of whatever form.
    #[must_use]
    pub fn from_phc(text: &str) -> Self {
        PasswordHash(text.into())
    }

    /// Whether it is of a form that is verified, within the ceilings.
    #[must_use]
    pub fn is_known(&self) -> bool {
        Stored::parse(&self.0).is_some()
    }

    /// Why no password matches it, in words that name its form and show nothing of it; `None`: it
    /// [is known](PasswordHash::is_known).
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        (!self.is_known()).then(|| foreign::refusal(&self.0))
    }

    /// The text.
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

    /// What an operator should know of a cost under the least that OWASP's Password Storage Cheat Sheet
    /// advises: so many KiB for 1, 2, 3, 4, and 5 passes or more.
    pub(crate) fn advice(self) -> Option<&'static str> {
        const LEAST: [u32; 5] = [47_104, 19_456, 12_288, 9_216, 7_168];
        let passes = (self.iterations as usize).clamp(1, LEAST.len());
        (self.memory_kib < LEAST[passes - 1]).then_some(
            "password_memory_kib and password_iterations are under OWASP's least for Argon2id, as 19456 and 2: \
             hashes that leak are guessed faster",
        )
    }

    /// What a stored hash may cost at most, so that it cannot eat the machine.
    fn is_bearable(self) -> bool {
        self.memory_kib <= 256 * 1024 && self.iterations <= 16 && self.parallelism <= 16
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
    /// The hash to store from now on, where it was of other making or cost.
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
        let mut hash = self.blank(salt);
        let mut tag = [0; TAG];
        hash.compute(password.nfc.as_bytes(), &mut tag, memory)
            .ok_or(OVERLOADED)?;
        self.counts.hashes.fetch_add(1, Ordering::Relaxed);
        hash.tag = tag.to_vec();
        Ok(PasswordHash(hash.format().into()))
    }

    /// Of the current cost; no password is behind it.
    fn blank(&self, salt: [u8; SALT]) -> Argon2Hash {
        Argon2Hash {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params: self.hashing.params,
            salt: salt.to_vec(),
            tag: vec![0; TAG],
        }
    }

    fn verify(
        &self,
        password: &Password,
        hash: Option<&PasswordHash>,
        memory: &mut Memory,
    ) -> Result<Verified> {
        let stored = hash.and_then(|hash| Stored::parse(&hash.0));
        match stored {
            Some(stored) if !stored.is_current(self.hashing.params) => {
                self.verify_foreign(password, &stored, memory)
            }
            // In one spelling: who types another must not learn whether there is a hash.
            stored => {
                let known = stored.is_some();
                let stored = stored.unwrap_or_else(|| Stored::Argon2(self.blank([0; SALT])));
                let matches = self.matches(&password.nfc, &stored, memory)? && known;
                let rehash = None;
                Ok(Verified { matches, rehash })
            }
        }
    }

    /// A hash of ours is made whether it matches or not: no wrong password is cheaper than that of
    /// an unknown account.
    fn verify_foreign(
        &self,
        password: &Password,
        stored: &Stored,
        memory: &mut Memory,
    ) -> Result<Verified> {
        let mut matches = false;
        for spelling in password.spellings() {
            matches = matches || self.matches(spelling, stored, memory)?;
        }
        memory.shrink(self.hashing.params.memory_kib);
        // A hash that cannot be renewed now is renewed another time.
        let new = self.hash(password, memory).ok();
        let rehash = new.filter(|_| matches);
        Ok(Verified { matches, rehash })
    }

    fn matches(&self, spelling: &str, stored: &Stored, memory: &mut Memory) -> Result<bool> {
        let matches = stored.matches(spelling, memory).ok_or(OVERLOADED)?;
        self.counts.hashes.fetch_add(1, Ordering::Relaxed);
        Ok(matches)
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
        if self.blocks.len() < blocks {
            self.release();
            let room = blocks.max(MAPPED);
            self.blocks.try_reserve_exact(room).ok()?;
            self.blocks.resize(blocks, Block::default());
            self.counts
                .memory
                .fetch_add(self.bytes(), Ordering::Relaxed);
        }
        Some(&mut self.blocks[..blocks])
    }

    /// Work that takes as many bytes of its own. `None`: the machine has no more, or so it says.
    /// Of what is less than 32 MiB malloc may keep as much for each thread: it is not ours to map.
    fn beside<T>(&self, bytes: usize, work: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut room = Vec::<u8>::new();
        room.try_reserve_exact(bytes).ok()?;
        drop(std::hint::black_box(room));
        let taken = bytes as u64;
        self.counts.memory.fetch_add(taken, Ordering::Relaxed);
        let done = work();
        self.counts.memory.fetch_sub(taken, Ordering::Release);
        done
    }

    /// Gives back what was taken for a hash that is dearer than ours.
    fn shrink(&mut self, kib: u32) {
        if self.blocks.len() > kib as usize {
            self.release();
        }
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

#[cfg(test)]
mod tests;
