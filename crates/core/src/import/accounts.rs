//! From lines to accounts in a store, batch by batch.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;

use super::lines::{Line, Lines};
use super::record::{Candidate, Secret};
use super::{Fault, Format, ImportError, Options, Refusal, Tally, Watch};
use crate::account::new_id;
use crate::env::{Env, Timestamp};
use crate::event::{Caller, Event, EventName, Trail};
use crate::event_log::EventLog;
use crate::password::Passwords;
use crate::store::{Account, Store, ValidFrom, Write};

/// Accounts in one transaction: a few milliseconds, for which others wait.
const BATCH: usize = 500;
/// How many names and ids a dry run remembers, to find those that come twice: some 100 MB.
const REMEMBERED: usize = 4_000_000;

/// An import as it goes on.
pub struct Import<'a> {
    store: &'a dyn Store,
    passwords: &'a Passwords,
    env: &'a dyn Env,
    events: &'a EventLog,
    options: Options,
    tally: Tally,
    seen: Seen,
}

/// What became of a line.
enum Became {
    Added,
    ThereAlready,
    Taken(Fault),
}

impl<'a> Import<'a> {
    /// Into `store`, which nobody need stop using. See [`crate::operator::Operator::import`].
    pub(crate) fn new(
        store: &'a dyn Store,
        passwords: &'a Passwords,
        env: &'a dyn Env,
        events: &'a EventLog,
        options: Options,
    ) -> Self {
        Import {
            store,
            passwords,
            env,
            events,
            options,
            tally: Tally::default(),
            seen: Seen::default(),
        }
    }

    /// Reads the input to its end.
    ///
    /// # Errors
    /// [`ImportError`]: run it again, and it goes on.
    pub async fn run(
        mut self,
        input: impl Read,
        format: Format,
        watch: &mut dyn Watch,
    ) -> Result<Tally, ImportError> {
        let Options {
            passwords,
            ignore_others,
            ..
        } = self.options;
        let mut lines = Lines::open(input, format, passwords, ignore_others)?;
        // One by one where they are hashed: each takes longer than a transaction.
        let size = if passwords { 1 } else { BATCH };
        loop {
            let mut batch = Vec::with_capacity(size);
            while batch.len() < size
                && let Some(line) = lines.next()?
            {
                batch.push(line);
            }
            if batch.is_empty() {
                return Ok(self.tally);
            }
            for refusal in self.batch(batch).await? {
                watch.refused(&refusal)?;
            }
            watch.read(lines.bytes(), &self.tally)?;
        }
    }

    /// The refusals among some lines, in order.
    async fn batch(&mut self, lines: Vec<Line>) -> Result<Vec<Refusal>, ImportError> {
        let now = self.env.now();
        let (mut refusals, mut numbers, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        for (number, record) in lines {
            match record.and_then(|record| record.candidate(self.options, now)) {
                Ok(candidate) => {
                    numbers.push(number);
                    candidates.push(candidate);
                }
                Err(fault) => refusals.push(fault.at(number)),
            }
        }
        self.tally.refused += refusals.len() as u64;
        let became = self.take(candidates, now).await?;
        for (number, became) in numbers.into_iter().zip(became) {
            refusals.extend(self.count(became).map(|fault| fault.at(number)));
        }
        refusals.sort_by_key(|refusal| refusal.line);
        Ok(refusals)
    }

    fn count(&mut self, became: Became) -> Option<Fault> {
        match became {
            Became::Added => self.tally.added += 1,
            Became::ThereAlready => self.tally.there_already += 1,
            Became::Taken(_) if self.options.skip_conflicts => self.tally.skipped += 1,
            Became::Taken(fault) => {
                self.tally.refused += 1;
                return Some(fault);
            }
        }
        None
    }

    async fn take(
        &mut self,
        candidates: Vec<Candidate>,
        now: Timestamp,
    ) -> Result<Vec<Became>, ImportError> {
        if self.options.passwords || self.options.dry_run {
            let mut became = Vec::with_capacity(candidates.len());
            for candidate in candidates {
                became.push(self.take_one(candidate, now).await?);
            }
            return Ok(became);
        }
        let mut accounts = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            accounts.push(self.account(candidate, now).await?);
        }
        self.add(accounts).await
    }

    async fn add(&self, accounts: Vec<Account>) -> Result<Vec<Became>, ImportError> {
        let with_trails = accounts.iter().map(|account| {
            let trail = self.trail(account);
            (account.clone(), trail)
        });
        let writes = self.store.add_accounts(with_trails.collect()).await?;
        let mut became = Vec::with_capacity(writes.len());
        for (write, account) in writes.into_iter().zip(accounts) {
            became.push(match write {
                Write::Done => {
                    self.events.tell(&added(&account));
                    Became::Added
                }
                Write::Lost => self.met(&account).await?,
            });
        }
        Ok(became)
    }

    fn trail(&self, account: &Account) -> Trail {
        let once = Some(added(account));
        self.events.trail(&Caller::operator(), once, None)
    }

    /// What stands in the way of an account.
    async fn met(&self, account: &Account) -> Result<Became, ImportError> {
        let there = self.store.account(&account.username).await?;
        Ok(match there {
            Some(there) if there.password_hash == account.password_hash => Became::ThereAlready,
            Some(_) => Became::Taken(username_taken(&account.username)),
            None => Became::Taken(id_taken(&account.username)),
        })
    }

    /// Looks before it does anything that takes long, or does nothing else.
    async fn take_one(
        &mut self,
        candidate: Candidate,
        now: Timestamp,
    ) -> Result<Became, ImportError> {
        if let Some(there) = self.store.account(&candidate.username).await? {
            let same = self.is_of(&candidate, there).await?;
            let taken = || Became::Taken(username_taken(&candidate.username));
            return Ok(if same { Became::ThereAlready } else { taken() });
        }
        if let Some(id) = &candidate.id
            && self.store.account_of(id).await?.is_some()
        {
            return Ok(Became::Taken(id_taken(&candidate.username)));
        }
        if self.options.dry_run {
            return Ok(self.seen.meets(&candidate));
        }
        let account = self.account(candidate, now).await?;
        let became = self.add(vec![account]).await?.pop();
        Ok(became.unwrap_or(Became::ThereAlready))
    }

    /// Whether the account that is there has the candidate's password.
    async fn is_of(&self, candidate: &Candidate, there: Account) -> Result<bool, ImportError> {
        match &candidate.secret {
            Secret::Hash(hash) => Ok(there.password_hash == *hash),
            Secret::Password(password) => {
                let hash = Some(there.password_hash);
                Ok(self.passwords.verify(password.clone(), hash).await?.matches)
            }
        }
    }

    async fn account(&self, candidate: Candidate, now: Timestamp) -> Result<Account, ImportError> {
        let password_hash = match candidate.secret {
            Secret::Hash(hash) => hash,
            Secret::Password(password) => self.passwords.hash(password).await?,
        };
        Ok(Account {
            id: match candidate.id {
                Some(id) => id,
                None => new_id(now, self.env)?,
            },
            username: candidate.username,
            password_hash,
            disabled: candidate.disabled,
            created_at: candidate.created_at.unwrap_or(now),
            valid_from: ValidFrom::default(),
            privileged: false,
        })
    }
}

fn added(account: &Account) -> Event {
    Event::new(EventName::AccountAdded).of(&account.id)
}

fn username_taken(username: &str) -> Fault {
    let words = "there is an account of this name with another password, from an earlier line or \
         before (or the user logged in since, which renews a hash)";
    Fault::new("username_taken", words).of(username)
}

fn id_taken(username: &str) -> Fault {
    let words = "there is an account of this id with another name";
    Fault::new("id_taken", words).of(username)
}

/// Names and ids of a dry run, by 64 bits of a keyed hash, and what came with them.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    by_name: HashMap<u64, u64>,
    by_id: HashMap<u64, u64>,
}

impl Seen {
    fn meets(&mut self, candidate: &Candidate) -> Became {
        let name = self.hasher.hash_one(&candidate.username);
        let secret = self.hasher.hash_one(match &candidate.secret {
            Secret::Hash(hash) => hash.as_str(),
            Secret::Password(password) => password.as_str(),
        });
        match self.by_name.get(&name) {
            Some(own) if *own == secret => return Became::ThereAlready,
            Some(_) => return Became::Taken(username_taken(&candidate.username)),
            None => {}
        }
        let id = candidate.id.as_ref().map(|id| self.hasher.hash_one(id));
        if id.is_some_and(|id| self.by_id.contains_key(&id)) {
            return Became::Taken(id_taken(&candidate.username));
        }
        if self.by_name.len() < REMEMBERED {
            self.by_name.insert(name, secret);
            self.by_id.extend(id.map(|id| (id, name)));
        }
        Became::Added
    }
}
