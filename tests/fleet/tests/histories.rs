//! Histories of a register that is right are accepted, whatever is lost; wrong ones are found.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeMap;

use doorward_core::env::Timestamp;
use doorward_core::testing::TestEnv;
use doorward_fleet::checker::{Kind, check};
use doorward_fleet::history::{Action, Micros, Operation, Outcome};

const BOUND: Micros = 1_000;
/// So many sessions has a history, of three users.
const SESSIONS: usize = 12;
const HISTORIES: u64 = 400;

/// A true register, whose answers may be lost and whose effects may come late.
struct World {
    env: TestEnv,
    /// When the login to each session was answered.
    known: Vec<Micros>,
    lives: BTreeMap<String, Life>,
}

struct Life {
    user: String,
    over: Option<Micros>,
}

/// When a request takes effect, if it does, and what its client will hear.
struct Planned {
    at: Option<Micros>,
    operation: Operation,
}

impl World {
    fn history(seed: u64) -> Vec<Operation> {
        let mut world = World {
            env: TestEnv::new(Timestamp(0), seed),
            known: Vec::new(),
            lives: BTreeMap::new(),
        };
        let sessions = (0..SESSIONS).flat_map(|number| world.session(number));
        let mut planned: Vec<_> = sessions.collect();
        planned.sort_by_key(|planned| planned.at);
        let happened = planned.into_iter().map(|planned| world.happens(planned));
        let mut history: Vec<_> = happened.collect();
        history.sort_by_key(|operation| operation.end);
        history
    }

    fn below(&self, bound: u64) -> u64 {
        self.env.random() % bound
    }

    /// A login, and what is done with it once it is answered.
    fn session(&mut self, number: usize) -> Vec<Planned> {
        let (session, user) = (format!("s{number}"), format!("u{}", number % 3));
        let mut login = operation(Action::Login, &session, &user, self.below(20_000));
        let before = number
            .checked_sub(3)
            .filter(|before| self.known[*before] < login.start);
        login.replaces = before.map(|before| format!("s{before}"));
        let login = self.answered(login);
        let known = login.operation.end;
        self.known.push(known);
        let later = (0..self.below(12)).map(|_| {
            let start = known + self.below(8_000);
            self.fated(operation(self.any_action(), &session, &user, start))
        });
        later.chain([login]).collect()
    }

    fn any_action(&self) -> Action {
        match self.below(24) {
            0..2 => Action::End,
            2 => Action::EndAll,
            3..10 => Action::VerifyStrict,
            10..16 => Action::Verify,
            _ => Action::Refresh,
        }
    }

    fn answered(&self, mut operation: Operation) -> Planned {
        let at = operation.start + self.below(600);
        operation.end = at + self.below(600);
        Planned {
            at: Some(at),
            operation,
        }
    }

    /// One in four meets a crash.
    fn fated(&self, operation: Operation) -> Planned {
        let mut planned = self.answered(operation);
        let late = planned.operation.start + self.below(20_000);
        let code = "store_unavailable".to_owned();
        let (outcome, at) = match self.below(16) {
            0 => (Outcome::Unknown, None),
            1 => (Outcome::Unknown, Some(late)),
            2 => (Outcome::Unavailable { code }, Some(late)),
            3 => (Outcome::Unreached, None),
            _ => return planned,
        };
        (planned.operation.outcome, planned.at) = (outcome, at);
        planned
    }

    fn happens(&mut self, planned: Planned) -> Operation {
        let Planned { at, mut operation } = planned;
        let Some(at) = at else { return operation };
        let session = operation.session.clone().unwrap();
        let over = self.is_over(&operation, at);
        match operation.action {
            Action::Login => self.opens(&operation, at),
            Action::End => self.ends(at, |id, _| id == session),
            Action::EndAll if !over => self.ends(at, |_, life| life.user == operation.user),
            _ if over && operation.ok() => operation.outcome = refused("session_ended", "logout"),
            _ => {}
        }
        operation
    }

    /// What is looked at plainly may be as old as the bound.
    fn is_over(&self, operation: &Operation, at: Micros) -> bool {
        let plain = operation.action == Action::Verify;
        let seen = if plain { at - self.below(BOUND) } else { at };
        let life = self.lives.get(operation.session.as_ref().unwrap());
        life.and_then(|life| life.over)
            .is_some_and(|over| over <= seen)
    }

    fn opens(&mut self, login: &Operation, at: Micros) {
        self.ends(at, |id, _| login.replaces.as_deref() == Some(id));
        let user = login.user.clone();
        let session = login.session.clone().unwrap();
        self.lives.insert(session, Life { user, over: None });
    }

    fn ends(&mut self, at: Micros, which: impl Fn(&str, &Life) -> bool) {
        for (id, life) in &mut self.lives {
            if life.over.is_none() && which(id, life) {
                life.over = Some(at);
            }
        }
    }
}

fn operation(action: Action, session: &str, user: &str, start: Micros) -> Operation {
    Operation {
        client: 0,
        user: user.into(),
        action,
        session: Some(session.into()),
        answered: None,
        replaces: None,
        node: 0,
        start,
        end: start + 10,
        outcome: Outcome::Ok,
    }
}

fn refused(code: &str, reason: &str) -> Outcome {
    Outcome::Refused {
        code: code.into(),
        reason: Some(reason.into()),
    }
}

fn kinds(history: &[Operation]) -> Vec<(Kind, String)> {
    let found = check(history, BOUND).into_iter();
    found
        .map(|found| (found.kind, found.shown_by.session.unwrap_or_default()))
        .collect()
}

#[test]
fn histories_of_a_true_register_pass() {
    for seed in 0..HISTORIES {
        let history = World::history(seed);
        let found = check(&history, BOUND);
        assert!(found.is_empty(), "seed {seed}: {found:#?}");
    }
}

/// Adds what must not happen to a session of each true history, and expects just that to be found.
fn is_found(kind: Kind, action: Action, outcome: &Outcome, ended: bool, late: Micros) {
    let mut tried = 0;
    for seed in 0..HISTORIES {
        let mut history = World::history(seed);
        let Some((session, user, end)) = a_session(&history, ended) else {
            continue;
        };
        let mut wrong = operation(action, &session, &user, end + late);
        wrong.outcome = outcome.clone();
        history.push(wrong);
        assert_eq!(kinds(&history), [(kind, session)], "seed {seed}");
        tried += 1;
    }
    assert!(tried > HISTORIES / 2, "{tried}");
}

/// One that was ended, with the answer to the last end; or one that nothing can have ended.
fn a_session(history: &[Operation], ended: bool) -> Option<(String, String, Micros)> {
    let ends = |action| matches!(action, Action::End | Action::EndAll);
    let mut logins = history.iter().filter(|one| one.action == Action::Login);
    let login = logins.find(|login| {
        let mut own = history.iter().filter(|one| one.session == login.session);
        if ended {
            return own.any(|one| one.action == Action::End && one.ok());
        }
        let replaced = history.iter().any(|one| one.replaces == login.session);
        let by_user = history
            .iter()
            .any(|one| one.action == Action::EndAll && one.user == login.user);
        !replaced && !by_user && !own.any(|one| ends(one.action))
    })?;
    let own = history
        .iter()
        .filter(|one| one.session == login.session && (!ended || ends(one.action)));
    let last = own.map(|one| one.end).max()?;
    Some((login.session.clone()?, login.user.clone(), last))
}

#[test]
fn a_revived_session_is_found() {
    is_found(Kind::EndUndone, Action::Refresh, &Outcome::Ok, true, 1);
}

#[test]
fn a_stale_strict_look_is_found() {
    is_found(
        Kind::StaleStrict,
        Action::VerifyStrict,
        &Outcome::Ok,
        true,
        1,
    );
}

#[test]
fn a_plain_look_later_than_the_bound_is_found() {
    is_found(
        Kind::StaleVerify,
        Action::Verify,
        &Outcome::Ok,
        true,
        BOUND + 1,
    );
}

#[test]
fn a_lost_login_is_found() {
    for (action, outcome) in [
        (Action::Refresh, refused("session_ended", "logout")),
        (Action::VerifyStrict, refused("token_invalid", "")),
        (Action::Verify, refused("session_ended", "ended_by_user")),
    ] {
        is_found(Kind::LoginLost, action, &outcome, false, 1);
    }
}

#[test]
fn an_honest_client_logged_out_is_found() {
    for outcome in [
        refused("refresh_reused", ""),
        refused("session_ended", "reuse"),
    ] {
        is_found(Kind::HonestLogout, Action::Refresh, &outcome, false, 1);
    }
}

#[test]
fn a_good_token_or_password_refused_is_found() {
    is_found(
        Kind::TokenRefused,
        Action::Verify,
        &refused("token_invalid", ""),
        false,
        1,
    );
    is_found(
        Kind::PasswordRefused,
        Action::Login,
        &refused("invalid_credentials", ""),
        false,
        1,
    );
    is_found(
        Kind::ServerError,
        Action::Refresh,
        &refused("http_500", ""),
        false,
        1,
    );
}

/// Login, then these; all of one session, in a row.
fn story(told: &[(Action, Outcome)]) -> Vec<(Kind, String)> {
    let told = [&[(Action::Login, Outcome::Ok)], told].concat();
    let operations = told
        .into_iter()
        .zip((0..).step_by(100))
        .map(|((action, outcome), start)| {
            let mut told = operation(action, "s", "ada", start);
            told.outcome = outcome;
            told
        });
    kinds(&operations.collect::<Vec<_>>())
}

#[test]
fn an_unanswered_end_explains_either() {
    let over = refused("session_ended", "logout");
    let (end, refresh) = ((Action::End, Outcome::Unknown), Action::Refresh);
    let (live, ended) = ((refresh, Outcome::Ok), (refresh, over));
    assert_eq!(
        story(&[end.clone(), live.clone(), ended.clone(), ended.clone()]),
        []
    );
    let revived = [(Kind::EndUndone, "s".to_owned())];
    assert_eq!(story(&[end, ended, live]), revived);
}

#[test]
fn a_refused_or_unsent_end_explains_nothing() {
    let over = (Action::Refresh, refused("session_ended", "logout"));
    for outcome in [Outcome::Unreached, refused("csrf_failed", "")] {
        let lost = [(Kind::LoginLost, "s".to_owned())];
        assert_eq!(story(&[(Action::End, outcome), over.clone()]), lost);
    }
}

#[test]
fn an_operator_ends_everybody() {
    let line =
        r#"{"client":0,"user":"*","op":"end_all","node":0,"start":50,"end":60,"outcome":"ok"}"#;
    let operator: Operation = serde_json::from_str(line).unwrap();
    assert_eq!(serde_json::to_string(&operator).unwrap(), line);
    let login = operation(Action::Login, "s", "ada", 0);
    let mut over = operation(Action::Refresh, "s", "ada", 100);
    assert_eq!(
        kinds(&[login.clone(), operator.clone(), over.clone()]),
        [(Kind::EndUndone, "s".to_owned())]
    );
    over.outcome = refused("session_ended", "ended_by_operator");
    assert_eq!(kinds(&[login, operator, over]), []);
}

#[test]
fn another_session_ended_by_the_same_user_is_no_excuse_before_it() {
    let login = operation(Action::Login, "s", "ada", 100);
    let before = operation(Action::EndAll, "t", "ada", 50);
    let mut over = operation(Action::Refresh, "s", "ada", 200);
    over.outcome = refused("session_ended", "ended_by_user");
    assert_eq!(
        kinds(&[before, login, over]),
        [(Kind::LoginLost, "s".to_owned())]
    );
}

#[test]
fn a_login_may_be_refused_while_all_sessions_are_ended() {
    let mut login = operation(Action::Login, "s", "ada", 100);
    (login.session, login.outcome) = (None, refused("invalid_credentials", ""));
    let end = |start| operation(Action::EndAll, "t", "ada", start);
    assert_eq!(kinds(&[end(95), login.clone()]), []);
    let refused = [(Kind::PasswordRefused, String::new())];
    assert_eq!(kinds(&[end(80), login.clone(), end(120)]), refused);
}
