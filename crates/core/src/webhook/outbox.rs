//! What is still to be sent, in the store.
//!
//! For each address the store keeps how far the log was looked through, and the records from there that
//! were not acknowledged. Whoever sends one claims it for a while first: of several processes one sends
//! it, and if that is killed another does. An address that is new begins with what happens from then on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::env::{Env, Timestamp};
use crate::event::Caller;
use crate::event::{Event, EventName, Filter};
use crate::event_log::EventLog;
use crate::store::{Delivery, Store, StoreResult, Write};
use crate::webhook::{HookUrl, Message, RETRIES, WebhookConfig};

/// Records that are looked through at a time.
const PAGE: u32 = 500;
/// Messages that are claimed at a time.
const BATCH: u32 = 16;
/// How long a claim holds: longer than all tries of a batch may take.
const CLAIM: Duration = Duration::from_secs(5 * 60);

/// The messages of one store.
pub struct Outbox {
    store: Arc<dyn Store>,
    events: Arc<EventLog>,
    config: WebhookConfig,
    env: Arc<dyn Env>,
    /// The hosts that did not take what they were sent last.
    failing: Mutex<BTreeSet<Box<str>>>,
}

/// A message that this process may send now.
#[derive(Clone, Debug)]
pub struct Due {
    /// What.
    pub message: Message,
    delivery: Delivery,
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The other side has it.
    Taken,
    /// It has not, or did not say so.
    Failed,
    /// It was not tried.
    Untried,
}

impl Outbox {
    /// What `events` keeps in `store`, for the addresses of `config`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        events: Arc<EventLog>,
        config: WebhookConfig,
        env: Arc<dyn Env>,
    ) -> Self {
        Outbox {
            store,
            events,
            config,
            env,
            failing: Mutex::default(),
        }
    }

    /// Where to.
    #[must_use]
    pub fn urls(&self) -> &[HookUrl] {
        &self.config.urls
    }

    /// Addresses that are new begin here. It is done before anything happens that they are to be told of.
    pub(crate) async fn begin(&self) -> StoreResult<()> {
        for url in self.urls() {
            let name = url.name();
            if self.store.outbox_cursor(&name).await?.is_none() {
                self.begin_at_the_end(&name).await?;
            }
        }
        Ok(())
    }

    async fn begin_at_the_end(&self, name: &str) -> StoreResult<()> {
        let all = Filter::default();
        let last = self.store.events_before(None, &all, 1).await?;
        let last = last.first().map_or(0, |entry| entry.place);
        let begun = self.store.enqueue(name, (None, last), &[], Timestamp(0));
        // Or another process was first.
        begun.await.map(drop)
    }

    /// What is to be sent to an address now, and is this process's to send.
    ///
    /// # Errors
    /// The store's. What was claimed is sent later.
    pub async fn due(&self, url: &HookUrl) -> StoreResult<Vec<Due>> {
        let name = url.name();
        while self.look_further(&name).await? {}
        let now = self.env.now();
        let claimed = self.store.claim(&name, now, now + CLAIM, BATCH).await?;
        let mut due = Vec::new();
        for delivery in claimed {
            match self.message(delivery.place, now).await? {
                Some(message) => due.push(Due { message, delivery }),
                // Erased, or too old: there is nothing left to tell.
                None => self.store.settle(&name, delivery.place, None).await?,
            }
        }
        Ok(due)
    }

    /// Queues the next stretch of the log. Whether there may be more.
    async fn look_further(&self, name: &str) -> StoreResult<bool> {
        let Some(from) = self.store.outbox_cursor(name).await? else {
            return self.begin_at_the_end(name).await.map(|()| true);
        };
        let (entries, to) = self
            .store
            .events_after(from, &Filter::default(), PAGE)
            .await?;
        if to == from {
            return Ok(false);
        }
        let wanted = entries
            .iter()
            .filter(|entry| self.config.wants(entry.record.event.name));
        let places: Vec<_> = wanted.map(|entry| entry.place).collect();
        let now = self.env.now();
        // Lost: another process has queued it.
        let queued = self
            .store
            .enqueue(name, (Some(from), to), &places, now)
            .await?;
        Ok(queued == Write::Lost || entries.len() == PAGE as usize)
    }

    async fn message(&self, place: u64, now: Timestamp) -> StoreResult<Option<Message>> {
        let before = place.saturating_sub(1);
        let (entries, _) = self
            .store
            .events_after(before, &Filter::default(), 1)
            .await?;
        let entry = entries.first().filter(|entry| entry.place == place);
        Ok(entry.map(|entry| Message::new(entry, &self.config.secrets, now)))
    }

    /// Says what became of a try.
    ///
    /// # Errors
    /// The store's. It is then sent again.
    pub async fn settle(&self, url: &HookUrl, due: &Due, sent: Sent) -> StoreResult<()> {
        let Delivery { place, attempts } = due.delivery;
        let now = self.env.now();
        self.note(url, sent);
        let again = match sent {
            Sent::Taken => None,
            Sent::Untried => Some((attempts, now)),
            Sent::Failed => RETRIES
                .get(attempts as usize)
                .map(|after| (attempts + 1, now + self.spread(*after))),
        };
        if sent == Sent::Failed && again.is_none() {
            let lost = Event::new(EventName::WebhookLost).with(url.host());
            self.events.note(&Caller::default(), &lost);
        }
        self.store.settle(&url.name(), place, again).await
    }

    fn note(&self, url: &HookUrl, sent: Sent) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Sent::Taken => failing.remove(url.host()),
            Sent::Failed => failing.insert(url.host().into()),
            Sent::Untried => false,
        };
    }

    /// The hosts that did not take what this process sent them last.
    pub(crate) fn failing(&self) -> BTreeSet<Box<str>> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.clone()
    }

    /// Up to a fifth longer, so that what failed together does not come together.
    fn spread(&self, after: Duration) -> Duration {
        let mut random = [0; 4];
        self.env.fill(&mut random);
        let share = f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX);
        after.mul_f64(1.0 + share / 5.0)
    }
}
