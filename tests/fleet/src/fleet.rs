//! All browsers of a run, and what they have in common.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use doorward_core::env::Timestamp;
use doorward_core::testing::TestEnv;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::browser::Browser;
use crate::history::{Action, Operation, Record};
use crate::jar::{Account, Delivery, Jar};
use crate::wire::{Node, Patience};

type Failure = Box<dyn std::error::Error>;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// URLs of the API, one a node.
    pub nodes: Vec<String>,
    /// Who logs in; browser i is of account i, from the start again where there are fewer.
    pub accounts: Vec<Account>,
    /// Browsers.
    pub clients: usize,
    /// Actions a second of all of them.
    pub rate: f64,
    /// How long.
    pub length: Duration,
    /// Everything random follows from it, but the order in which answers come.
    pub seed: u64,
    /// A route that looks in the store whether a session is live.
    pub strict_route: String,
    /// What the tabs do, by weight.
    pub mix: Vec<(Action, u64)>,
    /// So many of 100 browsers have body delivery.
    pub body_percent: u64,
    /// So many of 100 times a page does three things at once.
    pub burst_percent: u64,
    /// How long to wait for connections and answers.
    pub patience: Patience,
    /// How long after an end looks may be spread: twice the bound that is checked.
    pub look_within: Duration,
    /// Where the history goes.
    pub history: Option<PathBuf>,
}

/// What browsers have in common.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    nodes: Vec<Node>,
    random: TestEnv,
    record: RefCell<Record>,
    over: watch::Receiver<bool>,
    closing: Cell<bool>,
    arrived: Cell<usize>,
}

/// Runs it until it is over, or until SIGTERM or SIGINT, and returns the history.
pub fn run(plan: Plan) -> Result<Vec<Operation>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, run_here(plan))
}

async fn run_here(plan: Plan) -> Result<Vec<Operation>, Failure> {
    let (end, over) = watch::channel(false);
    let length = plan.length;
    let world = Rc::new(World::new(plan, over)?);
    let browsers = world.browsers();
    let mut tabs = JoinSet::new();
    for browser in &browsers {
        for _ in 0..=world.below(3) {
            tabs.spawn_local(browser.clone().tab());
        }
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = sleep(length) => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    end.send_replace(true);
    tabs.join_all().await;
    world.closing.set(true);
    let mut looks = JoinSet::new();
    for browser in browsers {
        looks.spawn_local(browser.last_look());
    }
    looks.join_all().await;
    let record = world.record.replace(Record::create(None)?);
    Ok(record.finish()?)
}

impl World {
    fn new(plan: Plan, over: watch::Receiver<bool>) -> Result<Self, Failure> {
        let nodes = plan.nodes.iter().map(|url| Node::parse(url, plan.patience));
        Ok(World {
            nodes: nodes.collect::<Result<_, _>>()?,
            random: TestEnv::new(Timestamp(0), plan.seed),
            record: RefCell::new(Record::create(plan.history.as_deref())?),
            over,
            closing: Cell::new(false),
            arrived: Cell::new(0),
            plan,
        })
    }

    fn browsers(self: &Rc<Self>) -> Vec<Rc<Browser>> {
        let accounts = self.plan.accounts.iter().cycle().take(self.plan.clients);
        let browsers = accounts.enumerate().map(|(number, account)| {
            let by_body = self.below(100) < self.plan.body_percent;
            let jar = Jar::new(if by_body {
                Delivery::Body
            } else {
                Delivery::Cookie
            });
            Rc::new(Browser::new(number, account.clone(), jar, self.clone()))
        });
        browsers.collect()
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.random() % bound
    }

    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "32 bits have room")]
    pub(crate) fn fraction(&self) -> f64 {
        (self.random.random() >> 32) as f64 / f64::from(u32::MAX)
    }

    /// One of the nodes, as a load balancer would pick it.
    pub(crate) fn node(&self) -> (usize, &Node) {
        let index = self.below(self.nodes.len() as u64);
        let index = usize::try_from(index).unwrap_or_default();
        (index, &self.nodes[index])
    }

    pub(crate) fn route<'a>(&'a self, action: Action, jar: &Jar) -> &'a str {
        match action {
            Action::Login => "/login",
            Action::Refresh => "/refresh",
            Action::Verify => "/verify",
            Action::VerifyStrict => &self.plan.strict_route,
            Action::End => jar.logout_route(),
            Action::EndAll => "/sessions",
        }
    }

    /// Whether a page does several things at once.
    pub(crate) fn bursts(&self) -> bool {
        self.below(100) < self.plan.burst_percent
    }

    /// What a tab does next.
    pub(crate) fn chosen(&self) -> Action {
        let mut at = self.below(self.plan.mix.iter().map(|(_, weight)| weight).sum());
        for (action, weight) in &self.plan.mix {
            if at < *weight {
                return *action;
            }
            at -= weight;
        }
        Action::Verify
    }

    /// The browsers arrive one after the other, at the rate of the run.
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    pub(crate) fn first_pause(&self) -> Duration {
        Duration::from_secs_f64(self.fraction() * self.plan.clients as f64 / self.plan.rate)
    }

    /// Of two tabs a browser on average; exponential, as independent people are.
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    pub(crate) fn next_pause(&self) -> Duration {
        let mean = 2.0 * self.plan.clients as f64 / self.plan.rate;
        Duration::from_secs_f64(mean * -self.fraction().max(1e-6).ln())
    }

    pub(crate) fn look_pause(&self) -> Duration {
        self.plan.look_within.mul_f64(self.fraction())
    }

    /// Waits. False: the run is over. Last looks are not cut short.
    pub(crate) async fn pause(&self, length: Duration) -> bool {
        if self.closing.get() {
            sleep(length).await;
            return true;
        }
        let mut over = self.over.clone();
        timeout(length, over.wait_for(|over| *over)).await.is_err()
    }

    pub(crate) fn record(&self, operation: Operation) {
        if let Err(error) = self.record.borrow_mut().add(operation) {
            eprintln!("fleet: the history is not written: {error}");
            std::process::exit(2);
        }
    }

    /// One more browser has logged in.
    pub(crate) fn arrived(&self) {
        self.arrived.set(self.arrived.get() + 1);
        if self.arrived.get() == self.plan.clients {
            eprintln!("fleet: ready");
        }
    }
}
