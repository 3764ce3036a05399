//! Webhooks: the log of events, sent to addresses of the operator's, each record at least once.
//!
//! Messages are those of Standard Webhooks 1.0: a stable id to tell repetitions by, the time of the try,
//! and a signature of both and the body for each secret, so that a secret can be changed without a gap.
//! What is still to be sent is in the store ([`outbox`]): a restart or another process goes on with it.
//!
//! Left out: an order (a message that is tried again comes after later ones), and the sending itself,
//! which is `doorward-webhooks`'.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

use crate::env::Timestamp;
use crate::event::{Entry, EventName};
use crate::operator::{event_json, time};

pub mod outbox;

pub use outbox::{Due, Outbox};

/// When a message is tried again: so long after each try that failed, as Standard Webhooks proposes.
/// After the last it is given up.
pub const RETRIES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];

/// Where the log of events is sent. The default is nowhere.
#[derive(Clone, Debug, Default)]
pub struct WebhookConfig {
    /// Each gets every message.
    pub urls: Vec<HookUrl>,
    /// Each signs every message; at least one.
    pub secrets: Vec<HookSecret>,
    /// Which events; empty: all but refreshes.
    pub events: Vec<EventName>,
}

/// What is wrong with a setting of webhooks, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebhookError(pub &'static str);

impl WebhookConfig {
    /// Whether what is set makes sense together.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check(&self, has_log: bool) -> Result<(), WebhookError> {
        match (self.urls.is_empty(), self.secrets.is_empty(), has_log) {
            (true, false, _) => Err(WebhookError(
                "webhook_secrets is set, and webhook_urls is not: nothing would be sent",
            )),
            (false, true, _) => Err(WebhookError(
                "webhook_urls needs webhook_secrets; make one with: echo whsec_$(openssl rand -base64 32)",
            )),
            (false, false, false) => Err(WebhookError(
                "webhook_urls needs event_log, which webhooks are sent from",
            )),
            (true, true, _) | (false, false, true) => Ok(()),
        }
    }

    /// An event that may be asked for.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn event(name: &str) -> Result<EventName, WebhookError> {
        EventName::parse(name).ok_or(WebhookError(
            "must be names of events, as docs/events.md lists them",
        ))
    }

    pub(crate) fn wants(&self, name: EventName) -> bool {
        match self.events.as_slice() {
            [] => name != EventName::Refreshed,
            some => some.contains(&name),
        }
    }
}

/// An address that messages are posted to: over https, or to this machine. Its path may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(Box<str>);

impl HookUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// It is no address of the web, or what is sent could be read on the way.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => host,
            _ => authority,
        };
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let has_colon = host.contains(':') && !is_bracketed;
        if !is_plain || host.is_empty() || has_colon || authority.contains(['@', '?', '#']) {
            return Err(WebhookError(
                "must be addresses without user names, as https://example.org/hook",
            ));
        }
        let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        match scheme {
            "https" => Ok(HookUrl(text.into())),
            "http" if is_local => Ok(HookUrl(text.into())),
            _ => Err(WebhookError(
                "must begin with https:// (http:// only for this machine itself)",
            )),
        }
    }

    /// To post to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is reached without TLS, which is this machine itself and nobody between.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// Its host and port, which may be told.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or_default()
    }

    /// What the store knows it by.
    #[must_use]
    pub(crate) fn name(&self) -> Box<str> {
        let hash = digest(&SHA256, self.0.as_bytes());
        URL_SAFE_NO_PAD
            .encode_to_string(&hash.as_ref()[..16])
            .into()
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookUrl({})", self.host())
    }
}

/// What signs messages: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSecret(Zeroizing<Vec<u8>>);

impl HookSecret {
    /// Reads a secret.
    ///
    /// # Errors
    /// It is of another form, short, or long.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let wrong = WebhookError(
            "must be whsec_ and the base64 of 24 to 64 bytes; make one with: echo \
             whsec_$(openssl rand -base64 32)",
        );
        let bytes = text.strip_prefix("whsec_").ok_or(wrong.clone())?;
        let bytes = STANDARD.decode_to_vec(bytes).map_err(|_| wrong.clone())?;
        let is_varied = bytes.iter().any(|byte| *byte != bytes[0]);
        if (24..=64).contains(&bytes.len()) && is_varied {
            Ok(HookSecret(Zeroizing::new(bytes)))
        } else {
            Err(wrong)
        }
    }

    fn sign(&self, id: &str, at: i64, body: &str) -> String {
        let key = hmac::Key::new(HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode_to_string(tag))
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whsec_[redacted]")
    }
}

/// What is posted, with its three headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `webhook-id`: the same at each try and from each process.
    pub id: String,
    /// `webhook-timestamp`: seconds since the epoch, of this try.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// JSON: `type`, `timestamp` and `data`.
    pub body: String,
}

impl Message {
    pub(crate) fn new(entry: &Entry, secrets: &[HookSecret], now: Timestamp) -> Self {
        let body = json!({
            "type": entry.record.event.name.as_str(),
            "timestamp": time(entry.record.at),
            "data": event_json(entry),
        });
        let body = body.to_string();
        let hash = digest(&SHA256, body.as_bytes());
        let id = format!(
            "msg_{}",
            URL_SAFE_NO_PAD.encode_to_string(&hash.as_ref()[..20])
        );
        let timestamp = now.seconds();
        let signatures = secrets
            .iter()
            .map(|secret| secret.sign(&id, timestamp, &body));
        let signature = signatures.collect::<Vec<_>>().join(" ");
        Message {
            id,
            timestamp,
            signature,
            body,
        }
    }
}

#[cfg(test)]
mod tests;
