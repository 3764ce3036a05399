//! What is still to be sent, with a clock that is set by hand.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;
use std::time::Duration;

use doorward_core::event::{Caller, Event, EventName, Filter};
use doorward_core::event_log::{EventConfig, EventLog};
use doorward_core::memory::MemoryStore;
use doorward_core::store::{EventStore, Store};
use doorward_core::testing::TestEnv;
use doorward_core::webhook::outbox::Sent;
use doorward_core::webhook::{Due, HookSecret, HookUrl, Outbox, RETRIES, WebhookConfig};
use doorward_core::{Engine, EngineConfig, Env, Policy, Timestamp, UserId};
use pollster::FutureExt;

struct World {
    store: Arc<MemoryStore>,
    env: Arc<TestEnv>,
    events: Arc<EventLog>,
    url: HookUrl,
}

impl World {
    /// A log in which an address has looked at everything.
    fn new() -> (World, Outbox) {
        let store = Arc::new(MemoryStore::new(Policy::default()));
        let env = Arc::new(TestEnv::new(Timestamp::from_seconds(1_800_000_000), 7));
        let (shared, clock) = (Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&env) as _);
        let events = Arc::new(EventLog::new(shared, EventConfig::default(), clock));
        let url = HookUrl::parse("https://example.org/hook").unwrap();
        let world = World {
            store,
            env,
            events,
            url,
        };
        world.happens("eve");
        let outbox = world.outbox();
        assert!(world.due(&outbox).is_empty(), "what was before is not told");
        (world, outbox)
    }

    fn outbox(&self) -> Outbox {
        let config = config(&self.url);
        let (store, env) = (Arc::clone(&self.store) as _, Arc::clone(&self.env) as _);
        Outbox::new(store, Arc::clone(&self.events), config, env)
    }

    fn happens(&self, user: &str) {
        let event = Event::new(EventName::LoggedIn).of(&UserId::new(user).unwrap());
        self.events.keep(&Caller::default(), &event).block_on();
    }

    fn due(&self, outbox: &Outbox) -> Vec<Due> {
        outbox.due(&self.url).block_on().unwrap()
    }

    fn settle(&self, outbox: &Outbox, due: &Due, sent: Sent) {
        outbox.settle(&self.url, due, sent).block_on().unwrap();
    }
}

fn config(url: &HookUrl) -> WebhookConfig {
    let secret = HookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    WebhookConfig {
        urls: vec![url.clone()],
        secrets: vec![secret],
        events: Vec::new(),
    }
}

#[test]
fn a_message_is_told_until_it_is_taken() {
    let (world, outbox) = World::new();
    world.happens("ada");
    let due = world.due(&outbox);
    assert_eq!(due.len(), 1);
    assert!(due[0].message.body.contains("ada"));
    world.settle(&outbox, &due[0], Sent::Failed);
    assert!(world.due(&outbox).is_empty());
    world.env.advance(RETRIES[0].mul_f64(1.2));
    let again = world.due(&outbox);
    assert_eq!(again[0].message.id, due[0].message.id);
    world.settle(&outbox, &again[0], Sent::Taken);
    world.env.advance(Duration::from_secs(1_000_000));
    assert!(world.due(&outbox).is_empty());
}

#[test]
fn of_two_processes_one_sends_and_the_other_does_if_that_is_killed() {
    let (world, one) = World::new();
    let other = world.outbox();
    world.happens("ada");
    assert_eq!(world.due(&one).len(), 1);
    assert!(world.due(&other).is_empty());
    world.env.advance(Duration::from_secs(301));
    assert_eq!(world.due(&other).len(), 1);
}

#[test]
fn what_was_not_tried_costs_no_try() {
    let (world, outbox) = World::new();
    world.happens("ada");
    for _ in 0..RETRIES.len() + 5 {
        let due = world.due(&outbox);
        world.settle(&outbox, &due[0], Sent::Untried);
    }
    assert_eq!(world.due(&outbox).len(), 1);
}

#[test]
fn what_nobody_takes_is_given_up_and_the_log_says_so() {
    let (world, outbox) = World::new();
    world.happens("ada");
    for after in RETRIES {
        let due = world.due(&outbox);
        world.settle(&outbox, &due[0], Sent::Failed);
        world.env.advance(after.mul_f64(1.2));
    }
    let last = world.due(&outbox);
    world.settle(&outbox, &last[0], Sent::Failed);
    world.events.flush().block_on().unwrap();
    let all = Filter::default();
    let log = world.store.events_before(None, &all, 1).block_on().unwrap();
    let event = &log[0].record.event;
    assert_eq!(event.name, EventName::WebhookLost);
    assert_eq!(event.detail.as_deref(), Some("example.org"));
}

#[test]
fn what_was_purged_or_erased_meanwhile_is_not_told() {
    let (world, outbox) = World::new();
    world.happens("ada");
    let due = world.due(&outbox);
    world.settle(&outbox, &due[0], Sent::Untried);
    let tomorrow = world.env.now() + Duration::from_secs(24 * 3600);
    assert!(world.store.purge_events(tomorrow, 100).block_on().unwrap() > 0);
    assert!(world.due(&outbox).is_empty());
}

#[test]
fn a_long_log_is_told_whole() {
    let (world, outbox) = World::new();
    for _ in 0..1_203 {
        world.happens("ada");
    }
    let mut told = 0;
    loop {
        let due = world.due(&outbox);
        if due.is_empty() {
            break;
        }
        told += due.len();
        for one in &due {
            world.settle(&outbox, one, Sent::Taken);
        }
    }
    assert_eq!(told, 1_203);
}

#[test]
fn all_is_told_from_the_moment_on_at_which_the_engine_opens() {
    let (world, _) = World::new();
    let url = HookUrl::parse("https://example.org/new").unwrap();
    let config = EngineConfig {
        webhooks: config(&url),
        ..EngineConfig::default()
    };
    let (store, env) = (Arc::clone(&world.store) as _, Arc::clone(&world.env) as _);
    let engine = Engine::open(store, config, env).block_on().unwrap();
    world.happens("ada");
    let due = engine.outbox().unwrap().due(&url).block_on().unwrap();
    assert_eq!(due.len(), 1, "what happens before somebody looks");
}
