//! Whether a history keeps Doorward's promises.
//!
//! Per session, logins, refreshes, strict looks and ends must have happened in one order
//! ([`crate::register`]). A plain look is answered from memory and may be late: one that
//! succeeds must not have *started* later than the bound after an end was acknowledged or seen.
//! A plain refusal says only that some end had begun. What was not answered, or with a 503, may have
//! taken effect at any time from its start on.
//!
//! All browsers are honest, so no session may end by reuse detection, and none by itself: limits of
//! time must be longer than the run, and there must be no cap on sessions a user.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::history::{Action, Micros, Operation, Outcome, by_session};
use crate::register::{Life, Span, Step};

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A refresh succeeded after the session had ended.
    EndUndone,
    /// A strict look did.
    StaleStrict,
    /// A plain look did, later than the bound.
    StaleVerify,
    /// A session was over, or not known, that nobody had ended.
    LoginLost,
    /// Reuse was detected where there are honest clients only.
    HonestLogout,
    /// A token was refused that Doorward had made, and not for its age or its session's end.
    TokenRefused,
    /// The right password was refused.
    PasswordRefused,
    /// The answer was about another session.
    WrongSession,
    /// An error that is nobody's fault but the server's.
    ServerError,
    /// No order explains it, in some other way.
    NotLinearizable,
}

impl Kind {
    /// Each.
    pub const ALL: [Kind; 10] = [
        Kind::EndUndone,
        Kind::StaleStrict,
        Kind::StaleVerify,
        Kind::LoginLost,
        Kind::HonestLogout,
        Kind::TokenRefused,
        Kind::PasswordRefused,
        Kind::WrongSession,
        Kind::ServerError,
        Kind::NotLinearizable,
    ];

    /// As summaries name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::EndUndone => "end_undone",
            Kind::StaleStrict => "stale_strict",
            Kind::StaleVerify => "stale_verify",
            Kind::LoginLost => "login_lost",
            Kind::HonestLogout => "honest_logout",
            Kind::TokenRefused => "token_refused",
            Kind::PasswordRefused => "password_refused",
            Kind::WrongSession => "wrong_session",
            Kind::ServerError => "server_error",
            Kind::NotLinearizable => "not_linearizable",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// Which.
    pub kind: Kind,
    /// The operation that shows it.
    pub shown_by: Operation,
    /// All that happened to its session, with what ended all of the user's.
    pub history: Vec<Operation>,
}

/// All that was broken, at most once a session and kind.
#[must_use]
pub fn check(history: &[Operation], bound: Micros) -> Vec<Violation> {
    let ends = Ends::of(history);
    let mut found = alone(history, &ends);
    for (session, operations) in by_session(history) {
        let case = Case::of(session, operations, &ends);
        let kinds = case.broken(bound);
        found.extend(
            kinds
                .into_iter()
                .map(|(kind, shown_by)| case.violation(kind, shown_by)),
        );
    }
    found.sort_by_key(|violation| violation.shown_by.start);
    found
}

/// What an answer breaks whatever else happened.
fn alone(history: &[Operation], ends: &Ends<'_>) -> Vec<Violation> {
    let shown = history.iter().filter_map(|operation| {
        let kind = match (operation.action, operation.refusal()) {
            (Action::Login, Some(("invalid_credentials", _))) if !ends.may_meet(operation) => {
                Kind::PasswordRefused
            }
            (_, Some((code, _))) if code.starts_with("http_5") => Kind::ServerError,
            (_, Some(("unreadable", _))) => Kind::ServerError,
            _ if operation.answered.is_some() => Kind::WrongSession,
            _ => return None,
        };
        let (shown_by, history) = (operation.clone(), vec![operation.clone()]);
        Some(Violation {
            kind,
            shown_by,
            history,
        })
    });
    shown.collect()
}

/// What ends sessions other than the one that it is about.
struct Ends<'a> {
    replacing: HashMap<&'a str, Vec<&'a Operation>>,
    of_users: HashMap<&'a str, Vec<&'a Operation>>,
}

impl<'a> Ends<'a> {
    fn of(history: &'a [Operation]) -> Self {
        let (mut replacing, mut of_users) = (HashMap::new(), HashMap::new());
        for operation in history {
            if let Some(replaced) = &operation.replaces {
                let of_session: &mut Vec<_> = replacing.entry(replaced.as_str()).or_default();
                of_session.push(operation);
            }
            if operation.action == Action::EndAll {
                let of_user: &mut Vec<_> = of_users.entry(operation.user.as_str()).or_default();
                of_user.push(operation);
            }
        }
        Ends {
            replacing,
            of_users,
        }
    }

    /// A login that is under way as all sessions of the user are ended is refused by design.
    fn may_meet(&self, login: &Operation) -> bool {
        let mut spans = self.of_user(&login.user).filter_map(end_of);
        spans.any(|(_, span)| span.start <= login.end && span.end >= login.start)
    }

    fn of_session(&self, session: &str, user: &str) -> impl Iterator<Item = &'a Operation> {
        let replacing = self.replacing.get(session).into_iter().flatten();
        self.of_user(user).chain(replacing.copied())
    }

    fn of_user(&self, user: &str) -> impl Iterator<Item = &'a Operation> {
        let lists = [user, "*"]
            .into_iter()
            .filter_map(|name| self.of_users.get(name));
        lists.flatten().copied()
    }
}

/// A session, what was asked about it, and what ended all of its user's or took its place.
struct Case<'a> {
    own: Vec<&'a Operation>,
    ends: Vec<&'a Operation>,
    life: Life,
}

impl<'a> Case<'a> {
    fn of(session: &str, own: Vec<&'a Operation>, ends: &Ends<'a>) -> Self {
        let user = own.first().map_or("", |operation| operation.user.as_str());
        let login = own
            .iter()
            .find(|operation| operation.action == Action::Login);
        let ends: Vec<_> = ends.of_session(session, user).collect();
        let by_others = ends.iter().filter_map(|end| ended_by(end, login.copied()));
        let steps = own.iter().filter_map(|operation| seen(operation));
        let steps: Vec<_> = steps.chain(by_others).collect();
        let life = Life::of(&steps);
        Case { own, ends, life }
    }

    fn broken(&self, bound: Micros) -> BTreeMap<Kind, &'a Operation> {
        let mut broken = BTreeMap::new();
        for operation in &self.own {
            if let Some(kind) = self
                .refused_wrongly(operation)
                .or(self.passed_wrongly(operation, bound))
            {
                broken.entry(kind).or_insert(*operation);
            }
        }
        if broken.is_empty() && !self.life.decides() {
            broken.insert(Kind::NotLinearizable, self.own[0]);
        }
        broken
    }

    fn refused_wrongly(&self, operation: &Operation) -> Option<Kind> {
        let nothing_ended_it = self.life.ends_from > operation.end;
        match (operation.action, operation.refusal()?) {
            (_, ("refresh_reused", _) | ("session_ended", Some("reuse"))) => {
                Some(Kind::HonestLogout)
            }
            (Action::Login, _) => None,
            (_, ("session_ended", _)) if nothing_ended_it => Some(Kind::LoginLost),
            (Action::Refresh | Action::VerifyStrict, ("token_invalid", _)) if nothing_ended_it => {
                Some(Kind::LoginLost)
            }
            (_, ("token_invalid" | "token_missing", _)) if nothing_ended_it => {
                Some(Kind::TokenRefused)
            }
            _ => None,
        }
    }

    fn passed_wrongly(&self, operation: &Operation, bound: Micros) -> Option<Kind> {
        let late = |allowed: Micros| {
            operation.ok() && operation.start > self.life.over_by.saturating_add(allowed)
        };
        match operation.action {
            Action::Refresh if late(0) => Some(Kind::EndUndone),
            Action::VerifyStrict if late(0) => Some(Kind::StaleStrict),
            Action::Verify if late(bound) => Some(Kind::StaleVerify),
            _ => None,
        }
    }

    fn violation(&self, kind: Kind, shown_by: &Operation) -> Violation {
        Violation {
            kind,
            shown_by: shown_by.clone(),
            history: self.history(),
        }
    }

    fn history(&self) -> Vec<Operation> {
        let sent_by_others = self.ends.iter().filter(|end| !self.own.contains(end));
        let mut all: Vec<_> = self
            .own
            .iter()
            .chain(sent_by_others)
            .map(|&one| one.clone())
            .collect();
        all.sort_by_key(|operation| operation.start);
        all
    }
}

/// What an operation on a session says of it. That it has ended is certain only where the store said so:
/// nodes hear of an end and refuse before they have it in writing that it is done.
fn seen(operation: &Operation) -> Option<(Step, Span)> {
    let Operation { start, end, .. } = *operation;
    let span = Span { start, end };
    let by_store = matches!(operation.action, Action::Refresh | Action::VerifyStrict);
    match (&operation.outcome, operation.action) {
        (Outcome::Ok, Action::Login) => Some((Step::Login, span)),
        (Outcome::Ok, Action::Refresh | Action::VerifyStrict) => Some((Step::SeenLive, span)),
        (_, Action::End) => end_of(operation),
        (Outcome::Refused { code, .. }, _) if by_store && code == "session_ended" => {
            Some((Step::SeenEnded, span))
        }
        _ => None,
    }
}

/// What ends another's session too. One that was sent before the answer to the login was there may have
/// come before the session.
fn ended_by(end: &Operation, login: Option<&Operation>) -> Option<(Step, Span)> {
    let (step, span) = end_of(end)?;
    match login {
        Some(login) if span.end < login.start => None,
        Some(login) if end.start <= login.end => {
            let span = Span {
                end: Span::OPEN,
                ..span
            };
            Some((Step::MayEnd, span))
        }
        _ => Some((step, span)),
    }
}

fn end_of(operation: &Operation) -> Option<(Step, Span)> {
    let Operation { start, end, .. } = *operation;
    match operation.outcome {
        Outcome::Ok => Some((Step::End, Span { start, end })),
        Outcome::Unavailable { .. } | Outcome::Unknown => Some((
            Step::MayEnd,
            Span {
                start,
                end: Span::OPEN,
            },
        )),
        Outcome::Refused { .. } | Outcome::Unreached => None,
    }
}
