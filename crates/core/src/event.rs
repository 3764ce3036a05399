//! What happened: ids, never tokens, passwords or what was typed.
//!
//! An [`Event`] is what the engine says, a [`Record`] what the log keeps of it: with the time, who
//! did it and from where. `docs/events.md` has the table.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::env::Timestamp;
use crate::id::{SessionId, UserId};
use crate::session::{End, EndReason};

macro_rules! events {
    ($($(#[doc = $doc:literal])* $variant:ident $name:literal $outcome:ident,)*) => {
        /// The name of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventName { $($(#[doc = $doc])* $variant,)* }

        impl EventName {
            /// Every name.
            pub const ALL: &[EventName] = &[$(EventName::$variant),*];

            /// As logs, metrics and clients have it: stable.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(EventName::$variant => $name,)* }
            }

            /// How it went.
            #[must_use]
            pub fn outcome(self) -> Outcome {
                match self { $(EventName::$variant => Outcome::$outcome,)* }
            }
        }
    };
}

events! {
    /// A session opened.
    LoggedIn "logged_in" Success,
    /// A refresh token of another program became a session.
    Adopted "adopted" Success,
    /// Credentials were refused, at a login or within a session.
    LoginFailed "login_failed" Failure,
    /// A login was refused unseen, after too many failures.
    LoginThrottled "login_throttled" Failure,
    /// A refresh was answered without anything out of the ordinary.
    Refreshed "refreshed" Success,
    /// A good refresh token came whose session had ended before.
    RefreshRefused "refresh_refused" Failure,
    /// An older child took over from a newer one: two clients may hold this session's token.
    ForkSuspected "fork_suspected" Alarm,
    /// The store had forgotten confirmed rotations.
    StoreBehind "store_behind" Alarm,
    /// A refresh token was used by two holders; its session has ended.
    ReuseDetected "reuse_detected" Alarm,
    /// The password was checked again within the session.
    Reauthenticated "reauthenticated" Success,
    /// A session ended.
    SessionEnded "session_ended" Success,
    /// Several sessions of a user ended at once.
    SessionsEnded "sessions_ended" Success,
    /// An account was made by registration.
    Registered "registered" Success,
    /// An operator or the app made an account.
    AccountAdded "account_added" Success,
    /// An operator disabled an account.
    AccountDisabled "account_disabled" Success,
    /// An operator enabled an account.
    AccountEnabled "account_enabled" Success,
    /// An operator removed an account.
    AccountRemoved "account_removed" Success,
    /// The user changed the password.
    PasswordChanged "password_changed" Success,
    /// An operator set a password.
    PasswordSet "password_set" Success,
    /// An operator or the app started a reset of a password.
    ResetStarted "reset_started" Success,
    /// Whoever had the token of a reset set a password.
    PasswordReset "password_reset" Success,
    /// An operator said whether an account's sessions are privileged.
    PrivilegeChanged "privilege_changed" Success,
    /// An operator made a new key.
    KeyRotated "key_rotated" Success,
    /// An operator dropped a key.
    KeyRetired "key_retired" Success,
    /// An operator restored a backup, and ended the sessions that were opened before, or again those that
    /// had ended since.
    StoreRestored "store_restored" Success,
    /// The store was left for another, which took everything over.
    StoreMoved "store_moved" Success,
    /// An operator exported what is kept of a user.
    UserExported "user_exported" Success,
    /// An operator erased what is kept of a user, whose id is not told.
    UserErased "user_erased" Success,
    /// More happened than the log could take; so many records are missing.
    EventsDropped "events_dropped" Alarm,
    /// A message to an address was tried for days, and given up.
    WebhookLost "webhook_lost" Alarm,
}

impl EventName {
    /// The name that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<EventName> {
        EventName::ALL
            .iter()
            .copied()
            .find(|name| name.as_str() == text)
    }

    /// Whether anybody who knows the address of the API can make it happen, as often as he likes.
    pub(crate) fn may_flood(self) -> bool {
        matches!(
            self,
            EventName::LoginFailed | EventName::LoginThrottled | EventName::RefreshRefused
        )
    }

    fn actor(self) -> Option<Actor> {
        match self {
            EventName::AccountDisabled
            | EventName::AccountEnabled
            | EventName::AccountRemoved
            | EventName::AccountAdded
            | EventName::PasswordSet
            | EventName::ResetStarted
            | EventName::PrivilegeChanged
            | EventName::KeyRotated
            | EventName::KeyRetired
            | EventName::StoreRestored
            | EventName::StoreMoved
            | EventName::UserExported
            | EventName::UserErased => Some(Actor::Operator),
            EventName::EventsDropped | EventName::ReuseDetected | EventName::WebhookLost => {
                Some(Actor::System)
            }
            _ => None,
        }
    }
}

/// How an event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked for was done.
    Success,
    /// It was refused.
    Failure,
    /// An operator should look at it.
    Alarm,
}

impl Outcome {
    /// As it is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Alarm => "alarm",
        }
    }
}

/// Why credentials were refused: for operators and for the user, never for whoever typed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no account of this name.
    UnknownUser,
    /// The password is another.
    WrongPassword,
    /// It is the password, but the account is disabled.
    Disabled,
    /// The app keeps its own users, and did not say why.
    Refused,
    /// All sessions of the user were ended while the password was looked at.
    Overtaken,
}

impl Failure {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Failure::UnknownUser => "unknown_user",
            Failure::WrongPassword => "wrong_password",
            Failure::Disabled => "disabled",
            Failure::Refused => "refused",
            Failure::Overtaken => "overtaken",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub name: EventName,
    /// To whom, where that is known.
    pub user: Option<UserId>,
    /// To which session, where it is one.
    pub session: Option<SessionId>,
    /// Why: an [`EndReason`] or a [`Failure`] by its name, the purpose of a key.
    pub reason: Option<Cow<'static, str>>,
    /// To what else: the id of a key, `on` or `off`.
    pub detail: Option<Box<str>>,
    /// How often, or to how many.
    pub count: u64,
}

impl Event {
    /// Something that happened once.
    #[must_use]
    pub fn new(name: EventName) -> Self {
        Event {
            name,
            user: None,
            session: None,
            reason: None,
            detail: None,
            count: 1,
        }
    }

    /// To a user.
    #[must_use]
    pub fn of(mut self, user: &UserId) -> Self {
        self.user = Some(user.clone());
        self
    }

    /// To a session.
    #[must_use]
    pub fn in_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// For a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// To something else.
    #[must_use]
    pub fn with(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// So often.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = count;
        self
    }

    /// The end of a session.
    #[must_use]
    pub fn ended(user: &UserId, session: SessionId, reason: EndReason) -> Self {
        let event = Event::new(EventName::SessionEnded).of(user);
        event.in_session(session).because(reason.name())
    }

    /// How many sessions it ended, and why.
    #[must_use]
    pub fn ends(&self) -> Option<(u64, &str)> {
        let reason = self.reason.as_deref();
        match self.name {
            EventName::SessionEnded => Some((1, reason.unwrap_or_default())),
            EventName::SessionsEnded => Some((self.count, reason.unwrap_or_default())),
            EventName::ReuseDetected => Some((1, EndReason::Reuse.name())),
            _ => None,
        }
    }

    /// Whose doing it was, unless that is known better.
    pub(crate) fn actor(&self) -> Actor {
        let ends = self.ends().map_or("", |(_, reason)| reason);
        let operators = [EndReason::EndedByOperator, EndReason::Disabled];
        let rules = [
            EndReason::Idle,
            EndReason::Absolute,
            EndReason::Reuse,
            EndReason::SessionLimit,
        ];
        if operators.iter().any(|reason| reason.name() == ends) {
            Actor::Operator
        } else if rules.iter().any(|reason| reason.name() == ends) {
            Actor::System
        } else {
            self.name.actor().unwrap_or(Actor::User)
        }
    }
}

/// Whose doing an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever sent the request, be it the user or somebody else.
    User,
    /// A command, or the app on its own account.
    Operator,
    /// Time, or a rule.
    System,
}

impl Actor {
    /// As it is kept and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Actor::User => "user",
            Actor::Operator => "operator",
            Actor::System => "system",
        }
    }

    /// The actor that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Actor> {
        let mut all = [Actor::User, Actor::Operator, Actor::System].into_iter();
        all.find(|actor| actor.as_str() == text)
    }
}

/// On whose behalf the engine is called, for the log.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Whose doing it is; `None`: as follows from what happens.
    pub actor: Option<Actor>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The name that the client gave itself.
    pub device: Option<Arc<str>>,
    /// The client's `User-Agent`.
    pub agent: Option<Arc<str>>,
}

impl Caller {
    /// A command, or the app on its own account.
    #[must_use]
    pub fn operator() -> Self {
        Caller {
            actor: Some(Actor::Operator),
            ..Caller::default()
        }
    }
}

/// What the log keeps of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When; of several alike, the last of them.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// Whose doing it was.
    pub actor: Actor,
    /// Where the request came from, as far as the log may know: see
    /// [`crate::event_log::NetworkForm`].
    pub network: Option<Box<str>>,
    /// The name that the client gave itself.
    pub device: Option<Box<str>>,
    /// The client's `User-Agent`.
    pub agent: Option<Box<str>>,
}

/// What a write leaves in the log of events, in its own transaction: so that nothing ends and no
/// account changes without its record, whoever is killed or gives up waiting meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Once, if the write took effect.
    pub once: Option<Record>,
    /// For each session that ended, which is filled in, as its user is.
    pub each: Option<Record>,
}

impl Trail {
    /// What is to be appended once these sessions of the user have ended.
    #[must_use]
    pub fn records(&self, user: &UserId, ended: &[SessionId]) -> Vec<Record> {
        let once = self.once.clone().map(|mut record| {
            if matches!(
                record.event.name,
                EventName::SessionsEnded | EventName::UserErased
            ) {
                record.event.count = ended.len() as u64;
            }
            record
        });
        let each = ended.iter().filter_map(|id| self.record(user, *id));
        once.into_iter().chain(each).collect()
    }

    fn record(&self, user: &UserId, session: SessionId) -> Option<Record> {
        let mut record = self.each.clone()?;
        record.event.user = Some(user.clone());
        record.event.session = Some(session);
        Some(record)
    }

    /// What is to be appended of a session that ended for a reason of its own: it was over by itself
    /// before anybody asked for it, or made room for another.
    #[must_use]
    pub fn ended(&self, user: &UserId, session: SessionId, end: End) -> Option<Record> {
        let mut record = self.record(user, session)?;
        record.at = end.at;
        record.event.reason = Some(end.reason.name().into());
        if record.actor == Actor::User {
            record.actor = record.event.actor();
        }
        Some(record)
    }
}

/// A record at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Greater than those of all records that were readable before it.
    pub place: u64,
    /// The record.
    pub record: Record,
}

/// Which records are wanted; the default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this user.
    pub user: Option<UserId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this name.
    pub name: Option<EventName>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether it is wanted.
    #[must_use]
    pub fn takes(&self, record: &Record) -> bool {
        let Event {
            name,
            user,
            session,
            ..
        } = &record.event;
        self.user
            .as_ref()
            .is_none_or(|wanted| Some(wanted) == user.as_ref())
            && self.session.is_none_or(|wanted| Some(wanted) == *session)
            && self.name.is_none_or(|wanted| wanted == *name)
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
    }
}

/// Why a session ended, in words for people. The reasons are those of [`EndReason`].
#[must_use]
pub fn why_ended(reason: &str) -> &'static str {
    match reason {
        "logout" => "its client logged out",
        "ended_by_user" => "the user ended it, from this session or another",
        "ended_by_operator" => "an operator or the app ended it",
        "idle" => "it was not used for longer than the idle limit allows",
        "absolute" => "it reached its absolute limit, however often it was used",
        "reuse" => {
            "its refresh token was used by two holders: somebody may have a copy, or a client kept an \
             old one, as from a backup"
        }
        "password_changed" => "the user's password changed, which ends all sessions before",
        "disabled" => "the account was disabled or removed, or the app refused its user",
        "replaced" => "a login in the same browser took its place",
        "session_limit" => "the user opened more sessions than one may have",
        _ => "for a reason that this version does not know",
    }
}
