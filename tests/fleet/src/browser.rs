//! A browser: one jar, one to three tabs that act at once, and what its pages make of answers.
//!
//! It is honest: it repeats what was not answered with the tokens that it then has, at another node,
//! after a pause that grows and is never shorter than `Retry-After`; it refreshes before a token expires or when
//! one has; it logs in again when it is told that its session is over. Only the looks after a logout are
//! more than a browser does: with what it had before, to see that the end is not undone.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::{Response, header};
use tokio::sync::Mutex;

use crate::fleet::World;
use crate::history::{Action, Micros, Operation, Outcome, clock};
use crate::jar::{Account, Jar};
use crate::wire::Reply;

/// Tries until a page says that it does not work.
const TRIES: u32 = 12;
/// An access token that expires sooner is refreshed first.
const SOON: Micros = 5_000_000;
/// Jars of ended sessions that are kept for a last look.
const KEPT: usize = 8;
/// The longest pause between tries, in seconds, unless the server asks for more.
const LONGEST: f64 = 2.0;

/// A browser of one user.
#[derive(Debug)]
pub struct Browser {
    number: usize,
    account: Account,
    jar: RefCell<Jar>,
    /// One tab asks for the password.
    asking: Mutex<()>,
    seen: Cell<bool>,
    ended: RefCell<Vec<Jar>>,
    world: Rc<World>,
}

/// An answered or given up try.
struct Tried {
    operation: Operation,
    retry_after: Duration,
}

impl Browser {
    /// One that has not logged in yet.
    pub(crate) fn new(number: usize, account: Account, jar: Jar, world: Rc<World>) -> Self {
        Browser {
            number,
            account,
            jar: RefCell::new(jar),
            asking: Mutex::new(()),
            seen: Cell::new(false),
            ended: RefCell::default(),
            world,
        }
    }

    /// A tab, until the run is over.
    pub(crate) async fn tab(self: Rc<Self>) {
        let mut pause = self.world.first_pause();
        while self.world.pause(pause).await {
            if self.world.bursts() {
                let one_more = || self.act(self.world.chosen());
                tokio::join!(one_more(), one_more(), one_more());
            } else {
                self.act(self.world.chosen()).await;
            }
            pause = self.world.next_pause();
        }
    }

    /// After the run: a live session must still refresh, and ended ones must not.
    pub(crate) async fn last_look(self: Rc<Self>) {
        self.world.pause(self.world.first_pause() * 2).await;
        self.until_answered(Action::Refresh).await;
        for jar in self.ended.take() {
            self.until_answered_by(&RefCell::new(jar), Action::Refresh)
                .await;
        }
    }

    async fn act(self: &Rc<Self>, action: Action) {
        if !self.logged_in().await {
            return;
        }
        match action {
            Action::Login => self.log_in_over().await,
            Action::Refresh => {
                self.until_answered(action).await;
            }
            Action::Verify | Action::VerifyStrict => self.look(action).await,
            Action::End | Action::EndAll => self.end(action).await,
        }
    }

    async fn logged_in(&self) -> bool {
        let expires = self.jar.borrow().held().map(|held| held.expires);
        match expires {
            None => {
                let _asking = self.asking.lock().await;
                if self.jar.borrow().held().is_none() {
                    self.until_answered(Action::Login).await;
                }
            }
            Some(expires) if expires < clock() + SOON => {
                self.until_answered(Action::Refresh).await;
            }
            Some(_) => {}
        }
        self.jar.borrow().held().is_some()
    }

    /// With a session still there.
    async fn log_in_over(&self) {
        let _asking = self.asking.lock().await;
        self.until_answered(Action::Login).await;
    }

    async fn look(&self, action: Action) {
        let looked = self.until_answered(action).await;
        let refusal = looked.as_ref().and_then(Operation::refusal);
        if let Some(("token_expired" | "token_invalid" | "token_missing", _)) = refusal {
            self.until_answered(Action::Refresh).await;
            self.until_answered(action).await;
        }
    }

    async fn end(self: &Rc<Self>, action: Action) {
        let before = self.jar.borrow().clone();
        let Some(end) = self.until_answered(action).await else {
            return;
        };
        let session = before.held().map(|held| held.session.clone());
        if end.ok() && end.session == session {
            self.jar.borrow_mut().give_up(&session.unwrap_or_default());
            tokio::task::spawn_local(self.clone().look_after(before));
        }
    }

    /// With what was there before the end.
    async fn look_after(self: Rc<Self>, before: Jar) {
        for action in [
            Action::Verify,
            Action::VerifyStrict,
            Action::Verify,
            Action::Refresh,
        ] {
            if !self.world.pause(self.world.look_pause()).await {
                break;
            }
            self.once(&RefCell::new(before.clone()), action).await;
        }
        let mut ended = self.ended.borrow_mut();
        if ended.len() == KEPT {
            ended.remove(0);
        }
        ended.push(before);
    }

    async fn until_answered(&self, action: Action) -> Option<Operation> {
        self.until_answered_by(&self.jar, action).await
    }

    /// `None`: the session is gone meanwhile, the run is over, or it does not work.
    async fn until_answered_by(&self, jar: &RefCell<Jar>, action: Action) -> Option<Operation> {
        for tries in 0..TRIES {
            let tried = self.once(jar, action).await?;
            if answered(&tried.operation) {
                return Some(tried.operation);
            }
            let most = LONGEST.min(0.05 * 2_f64.powi(tries.cast_signed()));
            let pause = Duration::from_secs_f64(most * self.world.fraction());
            if !self.world.pause(tried.retry_after + pause).await {
                break;
            }
        }
        None
    }

    /// One request, recorded. `None`: there is nothing to ask with.
    async fn once(&self, jar: &RefCell<Jar>, action: Action) -> Option<Tried> {
        let (index, node) = self.world.node();
        let mut operation = self.planned(&jar.borrow(), action, index)?;
        let request = {
            let jar = jar.borrow();
            let path = node.path(self.world.route(action, &jar));
            jar.request(action, &path, &self.account)
        };
        operation.start = clock();
        let reply = node.ask(request).await;
        operation.end = clock();
        operation.outcome = outcome(&reply);
        let retry_after = self.taken(jar, &mut operation, &reply);
        self.world.record(operation.clone());
        Some(Tried {
            operation,
            retry_after,
        })
    }

    fn planned(&self, jar: &Jar, action: Action, node: usize) -> Option<Operation> {
        let logs_in = action == Action::Login;
        let held = jar.held().map(|held| held.session.clone());
        if held.is_none() && !logs_in {
            return None;
        }
        Some(Operation {
            client: self.number,
            user: self.account.name.clone(),
            action,
            session: held.filter(|_| !logs_in),
            answered: None,
            replaces: jar.replaced().filter(|_| logs_in),
            node,
            start: 0,
            end: 0,
            outcome: Outcome::Unknown,
        })
    }

    /// What the answer changes.
    fn taken(&self, jar: &RefCell<Jar>, operation: &mut Operation, reply: &Reply) -> Duration {
        let Reply::Answered(response) = reply else {
            return Duration::ZERO;
        };
        let named = jar.borrow_mut().take(response, operation.end);
        let named = named.or_else(|| text(response, "doorward-session"));
        match (operation.action, operation.ok()) {
            (Action::Login, true) => self.opened(operation, named),
            (_, true) => {
                operation.answered =
                    named.filter(|named| operation.session.as_ref() != Some(named));
            }
            (_, false) if tells_that_it_is_over(operation) => {
                let session = operation.session.as_deref();
                jar.borrow_mut().give_up(session.unwrap_or_default());
            }
            _ => {}
        }
        let seconds =
            text(response, header::RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
        Duration::from_secs(seconds.unwrap_or_default())
    }

    fn opened(&self, operation: &mut Operation, session: Option<String>) {
        if session.is_none() {
            operation.outcome = refused("unreadable");
        }
        operation.session = session;
        if !self.seen.replace(true) {
            self.world.arrived();
        }
    }
}

/// Anything but a reason to try again.
fn answered(operation: &Operation) -> bool {
    match &operation.outcome {
        Outcome::Ok => true,
        Outcome::Refused { code, .. } => code != "too_many_attempts",
        Outcome::Unavailable { .. } | Outcome::Unreached | Outcome::Unknown => false,
    }
}

/// A look may be refused for its token, which a refresh makes good.
fn tells_that_it_is_over(operation: &Operation) -> bool {
    let by_refresh = operation.action == Action::Refresh;
    let refusal = operation.refusal();
    refusal
        .is_some_and(|(code, _)| by_refresh || matches!(code, "session_ended" | "refresh_reused"))
}

fn outcome(reply: &Reply) -> Outcome {
    let response = match reply {
        Reply::Answered(response) => response,
        Reply::Unreached => return Outcome::Unreached,
        Reply::Lost => return Outcome::Unknown,
    };
    let status = response.status().as_u16();
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let member = |name: &str| Some(problem.get(name)?.as_str()?.to_owned());
    let code = member("code").unwrap_or_else(|| format!("http_{status}"));
    match status {
        200..=299 => Outcome::Ok,
        502..=504 => Outcome::Unavailable { code },
        _ => Outcome::Refused {
            code,
            reason: member("reason"),
        },
    }
}

fn refused(code: &str) -> Outcome {
    Outcome::Refused {
        code: code.to_owned(),
        reason: None,
    }
}

fn text(response: &Response<bytes::Bytes>, header: &str) -> Option<String> {
    Some(response.headers().get(header)?.to_str().ok()?.to_owned())
}
