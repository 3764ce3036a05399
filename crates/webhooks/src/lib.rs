//! Sends what an [`Outbox`] has for its addresses, one thread an address: whatever runtime a host has,
//! or none.
//!
//! A message counts as taken where the other side answers 2xx within 15 s. Redirects are not followed,
//! answers not read. Where a message is not taken, the others of its address wait a little too. Stopping
//! waits for the store alone, never for an address: a message that was under way is sent again.
#![forbid(unsafe_code)]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use doorward_core::webhook::outbox::Sent;
use doorward_core::webhook::{Due, HookUrl, Message, Outbox};
use pollster::FutureExt;
pub use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How often the log is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long an address that does not take messages is left alone at the most.
const REST: Duration = Duration::from_secs(60);
/// How long an address may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The threads that send. They end when it is dropped, or stopped.
pub struct Webhooks(Arc<Shared>);

struct Shared {
    /// None once it is to stop. Held while the store is used.
    outbox: Mutex<Option<Arc<Outbox>>>,
    stopped: Condvar,
    agent: Agent,
}

impl Webhooks {
    /// Begins to send.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(outbox: &Arc<Outbox>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Some(Arc::clone(outbox))),
            stopped: Condvar::new(),
            agent: agent(),
        });
        let webhooks = Webhooks(Arc::clone(&shared));
        for url in outbox.urls() {
            let (shared, url) = (Arc::clone(&shared), url.clone());
            let thread = thread::Builder::new().name("doorward-webhook".into());
            thread.spawn(move || shared.send_all(&url))?;
        }
        Ok(webhooks)
    }

    /// Ends: from here on the store is not used any more.
    pub fn stop(&self) {
        *self.0.outbox() = None;
        self.0.stopped.notify_all();
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Option<Arc<Outbox>>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_all(&self, url: &HookUrl) {
        let mut failures = 0;
        while let Some(due) = self.due(url) {
            let is_idle = due.is_empty();
            let Some(all_taken) = self.send(url, due) else {
                return;
            };
            failures = if all_taken { 0 } else { failures + 1 };
            let rest = TICK.saturating_mul(1 << failures.min(6)).min(REST);
            if (is_idle || !all_taken) && self.waits(rest) {
                return;
            }
        }
    }

    /// None: it is to stop. A store that does not answer has nothing to send.
    fn due(&self, url: &HookUrl) -> Option<Vec<Due>> {
        let outbox = self.outbox();
        Some(outbox.as_ref()?.due(url).block_on().unwrap_or_default())
    }

    /// Whether all were taken. After the first that was not, the others are left for later.
    fn send(&self, url: &HookUrl, batch: Vec<Due>) -> Option<bool> {
        let mut all_taken = true;
        for due in batch {
            let sent = match all_taken {
                true if self.post(url, &due.message) => Sent::Taken,
                true => Sent::Failed,
                false => Sent::Untried,
            };
            all_taken &= sent == Sent::Taken;
            // Should the store fail, it is sent again.
            let _ = self.outbox().as_ref()?.settle(url, &due, sent).block_on();
        }
        Some(all_taken)
    }

    fn post(&self, url: &HookUrl, message: &Message) -> bool {
        let mut request = self.agent.post(url.as_str());
        if url.is_plain() {
            // For this machine itself: through a proxy it would be another, and could be read.
            request = request.config().proxy(None).build();
        }
        let posted = request
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", message.timestamp.to_string())
            .header("webhook-signature", &message.signature)
            .send(&message.body);
        posted.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits for a while. Whether it is to stop.
    fn waits(&self, rest: Duration) -> bool {
        let goes_on = |outbox: &mut Option<_>| outbox.is_some();
        let waited = self
            .stopped
            .wait_timeout_while(self.outbox(), rest, goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_none()
    }
}

/// A client of HTTP that believes the certificates of the system, and follows nothing: for whatever else
/// a door posts.
#[must_use]
pub fn agent() -> Agent {
    // What cannot be read of the system's certificates is as if it were not there: nothing is trusted
    // that it does not name.
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots = roots
        .iter()
        .map(|root| Certificate::from_der(root).to_owned());
    let roots: Vec<_> = roots.collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("Doorward/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}
