//! The commands of `flask auth`: a store of their own, no threads but its writer, and no key of
//! theirs in the ring.

use std::io;
use std::sync::Arc;

use doorward_core::event::{Entry, Filter};
use doorward_core::import::{self, Format, Options as ImportFlags, Refusal, Report, Tally, Watch};
use doorward_core::keys::{KeyRing, Purpose, StoredKey};
use doorward_core::operator::{Happened, Operator as Doings, Wanted, event_json, event_line};
use doorward_core::password::{Password, Passwords, generated};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::{Account as Kept, Store};
use doorward_core::{
    Accounts, Caller, EngineConfig, Env, Error, EventLog, Policy, Service, SystemEnv, UserId,
};
use pollster::FutureExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDateTime;

use crate::forks::Open;
use crate::options::Options;
use crate::process::Home;
use crate::session::{SessionRow, date};
use doorward_stores::Place;

/// Rows that one step of cleaning up looks at.
const SWEEP: u32 = 1_000;

/// Which records are wanted.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct EventFilter(Filter);

/// A record for people, and as JSON.
type Line = (String, String);

fn lines(entries: &[Entry]) -> Vec<Line> {
    let entries = entries.iter();
    entries
        .map(|entry| (event_line(entry), event_json(entry).to_string()))
        .collect()
}

/// What is wrong with what was asked for.
fn bad(error: Error) -> PyErr {
    match error {
        Error::BadRequest(why) => failed(why),
        error => failed(error),
    }
}

/// A built-in account.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Account(Kept);

#[pymethods]
impl Account {
    #[getter]
    fn id(&self) -> &str {
        self.0.id.as_str()
    }

    #[getter]
    fn username(&self) -> &str {
        &self.0.username
    }

    #[getter]
    fn disabled(&self) -> bool {
        self.0.disabled
    }

    #[getter]
    fn privileged(&self) -> bool {
        self.0.privileged
    }

    #[getter]
    fn created_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.0.created_at)
    }
}

/// A key of the ring, without its secret.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Key(StoredKey);

#[pymethods]
impl Key {
    #[getter]
    fn id(&self) -> String {
        self.0.id.to_string()
    }

    #[getter]
    fn purpose(&self) -> &'static str {
        match self.0.purpose {
            Purpose::Access => "access",
            Purpose::Refresh => "refresh",
        }
    }

    #[getter]
    fn algorithm(&self) -> &str {
        &self.0.algorithm
    }

    #[getter]
    fn signs_from<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDateTime>> {
        date(py, self.0.signs_from)
    }

    /// `live`, `logout only` or `retired`.
    #[getter]
    fn state(&self) -> &'static str {
        self.0.state(SystemEnv.now())
    }
}

/// A password for somebody who has none yet.
#[pyfunction]
pub(crate) fn generated_password() -> String {
    generated(&SystemEnv).to_string()
}

/// Commands. What cannot be done is a `ValueError`, in words.
#[pyclass(frozen, module = "flask_doorward._native")]
pub(crate) struct Operator {
    store: Arc<dyn Store>,
    accounts: Accounts,
    passwords: Arc<Passwords>,
    doings: Doings,
    events: Arc<EventLog>,
    revocations: Arc<Revocations>,
    options: Options,
    /// The last to go.
    _open: Open,
}

/// The flags of an import, by name.
fn import_options(flags: Vec<String>) -> PyResult<ImportFlags> {
    let mut options = ImportFlags::default();
    for flag in flags {
        match flag.as_str() {
            "passwords" => options.passwords = true,
            "ignore_others" => options.ignore_others = true,
            "dry_run" => options.dry_run = true,
            "skip_conflicts" => options.skip_conflicts = true,
            _ => return Err(failed(format!("{flag} is no flag of an import"))),
        }
    }
    Ok(options)
}

/// How an import's file is written, by its name.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn format_of(name: &str) -> Option<&'static str> {
    Format::of(name).map(Format::name)
}

/// Tells Python how an import goes on.
struct Watching {
    report: Option<Report>,
    refused: Py<PyAny>,
    read: Py<PyAny>,
}

impl Watch for Watching {
    fn refused(&mut self, refusal: &Refusal) -> io::Result<()> {
        match &mut self.report {
            Some(report) => report.add(refusal),
            None => told(&self.refused, refusal.to_string()),
        }
    }

    fn read(&mut self, bytes: u64, _: &Tally) -> io::Result<()> {
        told(&self.read, bytes)
    }
}

/// Whatever it raises, an interruption too, ends the import.
fn told(listener: &Py<PyAny>, news: impl for<'py> IntoPyObject<'py>) -> io::Result<()> {
    Python::attach(|py| listener.call1(py, (news,)).map(drop)).map_err(io::Error::other)
}

fn failed(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn words(name: &str, error: &Error) -> PyErr {
    failed(match error {
        Error::BadRequest(why) => (*why).to_owned(),
        Error::NotFound => format!("there is no account named {name}"),
        Error::UsernameTaken => format!("there is an account named {name} already"),
        Error::PasswordTooWeak(why) => format!("the password is too weak: {why}"),
        error => error.to_string(),
    })
}

impl Operator {
    pub(crate) fn open(home: &Home) -> PyResult<Self> {
        let options = home.options.clone();
        if options.place == Place::Memory {
            let problem = "the store is memory: nothing outlives this command";
            return Err(failed(problem));
        }
        let open = Open::between_forks().map_err(failed)?;
        let store = home.store().map_err(failed)?;
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let passwords = Arc::new(Passwords::new(
            options.engine.hashing.clone(),
            Arc::clone(&env),
        ));
        // Nobody verifies here; those who do hear of ended sessions from the store.
        let bounds = Bounds::of(&options.engine.policy);
        let revocations = Arc::new(Revocations::new(bounds, None));
        let events = options.engine.events.clone();
        let events = EventLog::new(Arc::clone(&store), events, Arc::clone(&env));
        let events = Arc::new(events);
        let log = Arc::clone(&events);
        let doings = Doings::new(Arc::clone(&store), Arc::clone(&log), Arc::clone(&env));
        let accounts = Accounts::new(
            Arc::clone(&store),
            Arc::clone(&passwords),
            Arc::clone(&revocations),
            env,
        );
        let accounts = accounts.logging_to(log).on_behalf_of(Caller::operator());
        Ok(Operator {
            store,
            accounts,
            passwords,
            doings,
            events,
            revocations,
            options,
            _open: open,
        })
    }

    fn ring(&self) -> PyResult<KeyRing> {
        let EngineConfig { key, policy, .. } = &self.options.engine;
        let ring = KeyRing::look(&*self.store, key.clone(), policy, Arc::new(SystemEnv));
        ring.block_on().map_err(failed)
    }

    fn user(&self, username: &str) -> PyResult<UserId> {
        let found = self.accounts.find(username).block_on();
        Ok(found.map_err(|error| words(username, &error))?.id)
    }

    fn live(&self, rows: Vec<doorward_core::Session>) -> PyResult<Vec<SessionRow>> {
        let (now, policy) = (SystemEnv.now(), &self.options.engine.policy);
        let restored_at = self.store.restored_at().block_on().map_err(failed)?;
        let rows = rows.into_iter().map(|row| row.since_restored(restored_at));
        let live = rows.filter(|row| row.over(now, policy).is_none());
        Ok(live.map(|row| SessionRow::new(row, policy)).collect())
    }

    fn set_disabled(&self, py: Python<'_>, username: &str, disabled: bool) -> PyResult<()> {
        py.detach(|| {
            let user = self.user(username)?;
            let set = self.accounts.set_disabled(&user, disabled).block_on();
            set.map_err(|error| words(username, &error))
        })
    }
}

#[pymethods]
impl Operator {
    fn add_user(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<String> {
        py.detach(|| {
            let password = Password::new(password).map_err(|error| words(username, &error))?;
            let added = self.accounts.register(username, password).block_on();
            let user = added.map_err(|error| words(username, &error))?;
            Ok(user.to_string())
        })
    }

    /// Refuses a name that has an account.
    fn check_free(&self, py: Python<'_>, username: &str) -> PyResult<()> {
        match py.detach(|| self.accounts.find(username).block_on()) {
            Err(Error::NotFound) => Ok(()),
            Err(error) => Err(words(username, &error)),
            Ok(_) => Err(words(username, &Error::UsernameTaken)),
        }
    }

    #[pyo3(signature = (after=None, limit=1000))]
    fn users(&self, py: Python<'_>, after: Option<&str>, limit: u32) -> PyResult<Vec<Account>> {
        let page = py.detach(|| self.store.accounts(after, limit).block_on());
        Ok(page.map_err(failed)?.into_iter().map(Account).collect())
    }

    /// Takes accounts of another program; returns how many were added, were there already, were
    /// skipped and were refused. `refused` is called with each refusal in words where there is no
    /// `report`, `read` with the bytes that were read.
    #[pyo3(signature = (file, format, flags, report, refused, read))]
    #[expect(clippy::too_many_arguments, reason = "as Python calls it")]
    fn import_users(
        &self,
        py: Python<'_>,
        file: &str,
        format: &str,
        flags: Vec<String>,
        report: Option<&str>,
        refused: Py<PyAny>,
        read: Py<PyAny>,
    ) -> PyResult<(u64, u64, u64, u64)> {
        let options = import_options(flags)?;
        py.detach(|| {
            let how = Format::of(format);
            let how = how.ok_or_else(|| failed("the format must be csv or jsonl"))?;
            let (input, _) = import::open(file).map_err(failed)?;
            let report = report.map(Report::create).transpose().map_err(failed)?;
            let mut watch = Watching {
                report,
                refused,
                read,
            };
            let import = self.doings.import(&self.passwords, options);
            let tally = import
                .run(input, how, &mut watch)
                .block_on()
                .map_err(failed)?;
            Ok((
                tally.added,
                tally.there_already,
                tally.skipped,
                tally.refused,
            ))
        })
    }

    fn disable_user(&self, py: Python<'_>, username: &str) -> PyResult<()> {
        self.set_disabled(py, username, true)
    }

    fn enable_user(&self, py: Python<'_>, username: &str) -> PyResult<()> {
        self.set_disabled(py, username, false)
    }

    fn remove_user(&self, py: Python<'_>, username: &str) -> PyResult<()> {
        py.detach(|| {
            let user = self.user(username)?;
            let removed = self.accounts.remove(&user).block_on();
            removed.map_err(|error| words(username, &error))
        })
    }

    /// Sets a new password, which ends the user's sessions.
    fn set_password(&self, py: Python<'_>, username: &str, password: &str) -> PyResult<()> {
        py.detach(|| {
            let password = Password::new(password).map_err(|error| words(username, &error))?;
            let user = self.user(username)?;
            let set = self.accounts.set_password(&user, password).block_on();
            set.map_err(|error| words(username, &error))
        })
    }

    /// Says whether sessions of an account are privileged, which ends those that are open.
    fn set_privileged(&self, py: Python<'_>, username: &str, privileged: bool) -> PyResult<()> {
        py.detach(|| {
            let user = self.user(username)?;
            let set = self.accounts.set_privileged(&user, privileged).block_on();
            set.map_err(|error| words(username, &error))
        })
    }

    /// Starts a reset of the password: its token, and until when that is good.
    fn start_reset<'py>(
        &self,
        py: Python<'py>,
        username: &str,
    ) -> PyResult<(String, Bound<'py, PyDateTime>)> {
        let ttl = self.options.engine.policy.reset_ttl;
        let started = py.detach(|| self.accounts.start_reset(username, ttl).block_on());
        let (token, until) = started.map_err(|error| words(username, &error))?;
        Ok((token.as_str().to_owned(), date(py, until)?))
    }

    /// Of the next `limit` sessions after one the live ones, and where to go on.
    #[pyo3(signature = (after=None, limit=1000))]
    fn sessions(
        &self,
        py: Python<'_>,
        after: Option<&str>,
        limit: u32,
    ) -> PyResult<(Vec<SessionRow>, Option<String>)> {
        let after = after.map(crate::door::session).transpose()?;
        py.detach(|| {
            let page = self.store.sessions(after, limit).block_on();
            let page = page.map_err(failed)?;
            let next = page.last().map(|row| row.id.to_string());
            Ok((self.live(page)?, next))
        })
    }

    /// The live sessions of an account, by its name, or of a user of the app's own, by its id.
    #[pyo3(signature = (username=None, user_id=None))]
    fn sessions_of(
        &self,
        py: Python<'_>,
        username: Option<&str>,
        user_id: Option<&str>,
    ) -> PyResult<Vec<SessionRow>> {
        let user = self.subject(py, username, user_id)?;
        py.detach(|| {
            let rows = self.store.sessions_of(&user).block_on();
            self.live(rows.map_err(failed)?)
        })
    }

    /// Ends the sessions of an account, by its name, or of a user, by id; returns how many.
    #[pyo3(signature = (username=None, user_id=None))]
    fn end_sessions_of(
        &self,
        py: Python<'_>,
        username: Option<&str>,
        user_id: Option<&str>,
    ) -> PyResult<usize> {
        let user = self.subject(py, username, user_id)?;
        let ended = py.detach(|| self.doings.end_user(&user).block_on());
        ended.map_err(failed)
    }

    /// Ends the sessions of everybody; returns how many.
    fn end_all_sessions(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.doings.end_all().block_on())
            .map_err(failed)
    }

    fn end_session(&self, py: Python<'_>, session_id: &str) -> PyResult<()> {
        let id = crate::door::session(session_id)?;
        match py.detach(|| self.doings.end_session(id).block_on()) {
            Err(Error::NotFound) => Err(failed(format!("there is no session {session_id}"))),
            ended => ended.map_err(failed),
        }
    }

    /// The last `limit` of the records that are wanted, each as a line and as JSON, and the place to
    /// go on from.
    #[pyo3(signature = (user=None, session=None, event=None, since=None, until=None, limit=100))]
    #[expect(clippy::too_many_arguments, reason = "keywords, in Python")]
    fn events(
        &self,
        py: Python<'_>,
        user: Option<&str>,
        session: Option<&str>,
        event: Option<&str>,
        since: Option<&str>,
        until: Option<&str>,
        limit: u32,
    ) -> PyResult<(Vec<Line>, EventFilter, u64)> {
        let wanted = Wanted {
            user,
            session,
            event,
            since,
            until,
        };
        py.detach(|| {
            let filter = self.doings.filter(&wanted).block_on().map_err(bad)?;
            let last = self.doings.last(&filter, limit).block_on();
            let (entries, place) = last.map_err(failed)?;
            Ok((lines(&entries), EventFilter(filter), place))
        })
    }

    /// What is new after a place, and the place to go on from.
    fn events_since(
        &self,
        py: Python<'_>,
        place: u64,
        filter: &EventFilter,
    ) -> PyResult<(Vec<Line>, u64)> {
        let new = py.detach(|| self.doings.since(place, &filter.0).block_on());
        let (entries, place) = new.map_err(failed)?;
        Ok((lines(&entries), place))
    }

    /// What happened to a session, a line each, and in words what became of it.
    fn why(&self, py: Python<'_>, session_id: &str) -> PyResult<(Vec<String>, String)> {
        let id = crate::door::session(session_id)?;
        let policy = &self.options.engine.policy;
        let why = py.detach(|| self.doings.why(id, policy).block_on());
        let (entries, words) = why.map_err(failed)?;
        Ok((entries.iter().map(event_line).collect(), words))
    }

    /// All that is kept of a user's sessions, as JSON.
    #[pyo3(signature = (username=None, user_id=None))]
    fn export(
        &self,
        py: Python<'_>,
        username: Option<&str>,
        user_id: Option<&str>,
    ) -> PyResult<String> {
        let user = self.subject(py, username, user_id)?;
        let policy = &self.options.engine.policy;
        let export = py.detach(|| self.doings.export(&user, policy).block_on());
        Ok(format!("{:#}", export.map_err(failed)?))
    }

    /// Ends a user's sessions and removes what is kept of them; returns how many.
    #[pyo3(signature = (username=None, user_id=None, account=false))]
    fn erase(
        &self,
        py: Python<'_>,
        username: Option<&str>,
        user_id: Option<&str>,
        account: bool,
    ) -> PyResult<u64> {
        let user = self.subject(py, username, user_id)?;
        py.detach(|| {
            if account {
                match self.accounts.remove(&user).block_on() {
                    Err(Error::NotFound) => {}
                    removed => removed.map_err(failed)?,
                }
            }
            self.doings.erase(&user).block_on().map_err(failed)
        })
    }

    /// Removes everything that has expired; returns how many batches that took.
    fn purge(&self, py: Python<'_>) -> PyResult<u32> {
        py.detach(|| {
            let service = self.service()?;
            let mut batches = 1;
            while service.purge(SWEEP).block_on().map_err(failed)? {
                batches += 1;
            }
            Ok(batches)
        })
    }

    fn keys(&self, py: Python<'_>) -> PyResult<Vec<Key>> {
        let keys = py.detach(|| self.store.keys().block_on());
        Ok(keys.map_err(failed)?.into_iter().map(Key).collect())
    }

    /// Adds a key that signs once every process knows it; returns its id.
    fn rotate_key(&self, py: Python<'_>, purpose: &str) -> PyResult<String> {
        let purpose = match purpose {
            "access" => Purpose::Access,
            "refresh" => Purpose::Refresh,
            _ => return Err(failed("purpose must be access or refresh")),
        };
        py.detach(|| {
            let id = self.doings.rotate_key(&self.ring()?, purpose).block_on();
            Ok(id.map_err(failed)?.to_string())
        })
    }

    /// Seals all keys by `seal_secret`; returns how many were sealed otherwise.
    fn reseal_keys(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| {
            let count = self.ring()?.reseal(&*self.store).block_on();
            count.map_err(failed)
        })
    }

    /// What the restore of a backup asks for, by an export of events if there is one; what was done.
    #[pyo3(signature = (told=None))]
    fn restored(&self, py: Python<'_>, told: Option<&str>) -> PyResult<Vec<String>> {
        py.detach(|| {
            let told = told.map(Happened::read).transpose();
            let told = told.map_err(|line| failed(format!("line {line}: this is no event")))?;
            let EngineConfig { policy, .. } = &self.options.engine;
            let moving = self.options.place.open_movable(policy.clone());
            let (moving, ring) = (moving.map_err(failed)?, self.ring()?);
            let skew = policy.clock_skew;
            let done = self
                .doings
                .after_restore(&*moving, &ring, skew, told.as_ref());
            done.block_on().map_err(failed)
        })
    }

    /// Drops a key at once, for logout too.
    fn retire_key(&self, py: Python<'_>, key_id: &str) -> PyResult<()> {
        let id = key_id
            .parse()
            .map_err(|_| failed(format!("{key_id} is no key id")))?;
        py.detach(|| {
            let retired = self.doings.retire_key(&self.ring()?, id).block_on();
            retired.map_err(failed)
        })
    }
}

impl Operator {
    fn subject(
        &self,
        py: Python<'_>,
        username: Option<&str>,
        user_id: Option<&str>,
    ) -> PyResult<UserId> {
        match (username, user_id) {
            (_, Some(id)) => crate::question::user_id(id),
            (Some(name), None) => py.detach(|| self.user(name)),
            (None, None) => Err(failed("name a user, by name or id")),
        }
    }

    fn service(&self) -> PyResult<Service> {
        let policy: Policy = self.options.engine.policy.clone();
        Ok(Service::new(
            Arc::clone(&self.store),
            Arc::new(self.ring()?),
            Arc::clone(&self.revocations),
            policy,
            Arc::new(SystemEnv),
        )
        .logging_to(Arc::clone(&self.events)))
    }
}
