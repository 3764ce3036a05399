//! After the restore of a backup: what ended since it was made is over again.
//!
//! A backup knows nothing of what came after it. Either every session is over that was opened before now,
//! in one write, and everyone logs in once; or the ends that an export of the log of events tells of are
//! carried out again. What it does not undo: passwords are again those of the backup, and
//! [`Replayed::passwords`] says whose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::{Operator, time};
use crate::env::Timestamp;
use crate::error::{Error, Result, StoreError};
use crate::event::{Event, EventName, Trail};
use crate::id::{NotAnId, SessionId, UserId};
use crate::keys::{KeyId, KeyRing, RingError, StoredKey};
use crate::revocation::Ended;
use crate::session::EndReason;
use crate::transfer::{Rows, TransferStore};

const PAGE: u32 = 10_000;
/// No foreign token is good for longer.
const ADOPTED_KEPT: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What an export says that is to be done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    at: Timestamp,
    name: EventName,
    user: Option<UserId>,
    session: Option<SessionId>,
    reason: EndReason,
    detail: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    at: &'a str,
    event: &'a str,
    #[serde(borrow)]
    user: Option<std::borrow::Cow<'a, str>>,
    session: Option<&'a str>,
    reason: Option<&'a str>,
    #[serde(borrow)]
    detail: Option<std::borrow::Cow<'a, str>>,
}

impl Happened {
    /// Reads what `doorward events --format json` writes. Events of a later version are left out.
    ///
    /// # Errors
    /// The number of the first line that is none of these.
    pub fn read(text: &str) -> std::result::Result<Happened, usize> {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let read = lines.map(|(number, line)| Line::read(line).map_err(|NotAnId| number + 1));
        let read: std::result::Result<Vec<_>, _> = read.collect();
        let mut lines: Vec<_> = read?.into_iter().flatten().collect();
        lines.sort_by_key(|line| line.at);
        Ok(Happened(lines))
    }

    /// Of each account, the last that happened to it of each sort.
    fn last_of_accounts(&self) -> impl Iterator<Item = (&UserId, &Line)> {
        let mut last = BTreeMap::new();
        for line in &self.0 {
            if let (Some(sort), Some(user)) = (line.sort(), &line.user) {
                last.insert((user, sort), line);
            }
        }
        last.into_iter().map(|((user, _), line)| (user, line))
    }

    /// Foreign tokens that were adopted: not once more.
    fn adopted(&self) -> Vec<(SessionId, Timestamp)> {
        let lines = self.0.iter().filter(|line| line.name == EventName::Adopted);
        lines
            .filter_map(|line| Some((line.session?, line.at + ADOPTED_KEPT)))
            .collect()
    }
}

impl Line {
    /// `None`: an event of a later version.
    fn read(text: &str) -> std::result::Result<Option<Line>, NotAnId> {
        let raw: Raw<'_> = serde_json::from_str(text).map_err(|_| NotAnId)?;
        let at: jiff::Timestamp = raw.at.parse().map_err(|_| NotAnId)?;
        let Some(name) = EventName::parse(raw.event) else {
            return Ok(None);
        };
        let mut reasons = EndReason::ALL.into_iter();
        let reason = reasons.find(|reason| Some(reason.name()) == raw.reason);
        Ok(Some(Line {
            at: Timestamp(at.as_millisecond()),
            name,
            user: raw.user.map(|id| UserId::new(&id)).transpose()?,
            session: raw.session.map(str::parse).transpose()?,
            reason: reason.unwrap_or(EndReason::EndedByOperator),
            detail: raw.detail.map(|text| text.as_ref().into()),
        }))
    }

    /// Which side of an account it changed.
    fn sort(&self) -> Option<u8> {
        match self.name {
            EventName::AccountDisabled | EventName::AccountEnabled => Some(0),
            EventName::PrivilegeChanged => Some(1),
            EventName::AccountRemoved => Some(2),
            _ => None,
        }
    }

    /// The session that ended by it.
    fn ended(&self) -> Option<(SessionId, EndReason)> {
        match self.name {
            EventName::SessionEnded => Some((self.session?, self.reason)),
            EventName::ReuseDetected => Some((self.session?, EndReason::Reuse)),
            _ => None,
        }
    }
}

/// What was done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Sessions that had not ended in the backup, or were not in it.
    pub sessions: u64,
    /// Accounts that were disabled, enabled, removed, or made privileged or not.
    pub accounts: u64,
    /// Keys that were retired since the backup: the ring retires them.
    pub keys: Vec<KeyId>,
    /// Whose passwords changed since the backup: the old ones are good again.
    pub passwords: BTreeSet<UserId>,
}

impl Operator {
    /// Does what a restored backup asks for: ends every session that was opened before now and replaces
    /// the ring's keys, or does again what an export tells of. What was done, in lines for people.
    ///
    /// # Errors
    /// The ring's, or the store did not answer: it can be begun again.
    pub async fn after_restore(
        &self,
        moving: &dyn TransferStore,
        ring: &KeyRing,
        skew: Duration,
        told: Option<&Happened>,
    ) -> std::result::Result<Vec<String>, RingError> {
        let Some(told) = told else {
            // Before the sessions are ended: what a leaked key signs is refused by neither.
            let back = brought_back(self.store.keys().await?);
            let retired = self.retire_all(ring, &back).await?;
            let at = self
                .restored(moving, skew)
                .await
                .map_err(|error| unavailable(&error))?;
            return Ok(vec![
                format!(
                    "every session that was opened before {} is over; {retired} keys retired, new ones \
                     made; resets dropped",
                    time(at)
                ),
                "passwords are those of the backup: whoever changed it since has the old one again"
                    .into(),
            ]);
        };
        let done = self
            .replay(moving, told)
            .await
            .map_err(|error| unavailable(&error))?;
        let retired = self.retire_all(ring, &done.keys).await?;
        let mut lines = vec![format!(
            "{} sessions ended again, {} accounts changed again, {retired} keys retired again; \
             resets dropped",
            done.sessions, done.accounts
        )];
        for user in &done.passwords {
            let account = self.store.account_of(user).await?;
            let name = account.map_or_else(|| user.as_str().into(), |found| found.username);
            lines.push(format!(
                "{}: has the password of the backup again; `user reset` makes a new one",
                name.escape_debug()
            ));
        }
        Ok(lines)
    }

    /// Retires those that are there and are not retired; how many.
    async fn retire_all(
        &self,
        ring: &KeyRing,
        ids: &[KeyId],
    ) -> std::result::Result<usize, RingError> {
        let keys = self.store.keys().await?;
        let live = |id: &&KeyId| keys.iter().any(|key| key.id == **id && !key.retired);
        let ids: Vec<_> = ids.iter().filter(live).collect();
        for id in &ids {
            self.retire_key(ring, **id).await?;
        }
        Ok(ids.len())
    }

    /// Ends every session that was opened before now, by any clock that is at most `skew` behind, and
    /// drops resets, which may have been used. Returns the moment.
    ///
    /// # Errors
    /// [`crate::Error::StoreUnavailable`].
    pub async fn restored(&self, resets: &dyn TransferStore, skew: Duration) -> Result<Timestamp> {
        drop_resets(resets).await?;
        let at = self.env.now() + skew;
        let event = Event::new(EventName::StoreRestored);
        let trail = self.events.trail(&self.caller, Some(event.clone()), None);
        self.store.set_restored(at, &trail).await?;
        self.events.tell(&event);
        Ok(at)
    }

    /// Does again what an export tells of, and drops resets. What was done already stays as it is.
    ///
    /// # Errors
    /// [`crate::Error::StoreUnavailable`]; it can be begun again.
    pub async fn replay(&self, moving: &dyn TransferStore, told: &Happened) -> Result<Replayed> {
        drop_resets(moving).await?;
        let mut done = Replayed::default();
        let mut unknown = Vec::new();
        for line in &told.0 {
            if let Some((session, reason)) = line.ended() {
                done.sessions += self.end_again(session, reason, &mut unknown).await?;
            }
            done.note(line);
        }
        for (user, line) in told.last_of_accounts() {
            done.accounts += u64::from(self.change_again(line, user).await?);
        }
        moving.put(Rows::Adopted(told.adopted())).await?;
        done.sessions += self.remember(moving, unknown).await?;
        let event = Event::new(EventName::StoreRestored).because("from_events");
        self.keep(event.times(done.sessions)).await;
        Ok(done)
    }

    /// Ends a session unless it has ended. One that the backup does not know is kept for the log.
    async fn end_again(
        &self,
        session: SessionId,
        reason: EndReason,
        unknown: &mut Vec<Ended>,
    ) -> Result<u64> {
        // Dated by now: what is minted before a node hears of it must be refused too.
        let at = self.env.now();
        let row = self.store.load(session).await?;
        if row.as_ref().is_some_and(|row| row.ended.is_some()) {
            return Ok(0);
        }
        if row.is_none() {
            unknown.push(Ended {
                session,
                at,
                reason,
            });
            return Ok(0);
        }
        let event = Event::new(EventName::SessionEnded).because(reason.name());
        let trail = self.events.trail(&self.caller, None, Some(event));
        self.store.end(session, at, reason, &trail).await?;
        Ok(1)
    }

    /// Access tokens of sessions that opened and ended after the backup: their ends go into the log.
    async fn remember(&self, moving: &dyn TransferStore, mut ends: Vec<Ended>) -> Result<u64> {
        let (mut cursor, mut known) = (0, BTreeSet::new());
        loop {
            let (page, next) = self.store.ended_after(cursor, PAGE).await?;
            if page.is_empty() {
                break;
            }
            cursor = next;
            known.extend(page.into_iter().map(|end| end.session));
        }
        ends.retain(|end| known.insert(end.session));
        let count = ends.len() as u64;
        let places = (cursor + 1..).zip(ends);
        moving.put(Rows::Ended(places.collect())).await?;
        Ok(count)
    }

    /// Brings an account to where the last line about it left it.
    async fn change_again(&self, line: &Line, user: &UserId) -> Result<bool> {
        let (at, none) = (self.env.now(), Trail::default());
        let Some(account) = self.store.account_of(user).await? else {
            return Ok(false);
        };
        let disabled = line.name == EventName::AccountDisabled;
        let privileged = line.detail.as_deref() == Some("on");
        match line.name {
            EventName::AccountRemoved => {
                self.store.remove_account(user, at, &none).await?;
            }
            EventName::PrivilegeChanged if privileged != account.privileged => {
                let changed = self.store.set_privileged(user, privileged, at, &none);
                changed.await?;
            }
            EventName::AccountDisabled | EventName::AccountEnabled
                if disabled != account.disabled =>
            {
                let changed = self.store.set_disabled(user, disabled, at, &none);
                changed.await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Replayed {
    fn note(&mut self, line: &Line) {
        match line.name {
            EventName::KeyRetired => {
                let id = line.detail.as_deref();
                let id: Option<KeyId> = id.and_then(|id| id.parse().ok());
                self.keys.extend(id);
            }
            EventName::PasswordChanged | EventName::PasswordSet | EventName::PasswordReset => {
                self.passwords.extend(line.user.clone());
            }
            EventName::AccountRemoved => {
                if let Some(user) = &line.user {
                    self.passwords.remove(user);
                }
            }
            _ => {}
        }
    }
}

/// Keys of the ring's own making that a restored backup brought back, retired ones among them.
fn brought_back(keys: Vec<StoredKey>) -> Vec<KeyId> {
    let made = keys.into_iter();
    let made = made.filter(|key| !key.retired && key.scopes.is_empty());
    made.map(|key| key.id).collect()
}

fn unavailable(error: &Error) -> RingError {
    RingError::Store(StoreError(error.to_string()))
}

async fn drop_resets(store: &dyn TransferStore) -> std::result::Result<(), StoreError> {
    store.clear(&[crate::transfer::Kind::Resets]).await
}
