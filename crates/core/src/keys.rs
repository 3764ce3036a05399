//! The key ring: one key of each purpose signs, several verify; JWKS; rotation.
//!
//! Guarantees: a key is in the store, and so known to every node after one poll, before it signs
//! ([`PUBLISH_DELAY`]), unless there is none that could sign until then. Which key signs is derived
//! from the rows and the time, so all nodes agree without asking each other.
//!
//! An access key verifies for as long as somebody signs with it, and then until its last token is
//! over: whoever signs with it keeps [`StoredKey::verifies_until`] that far ahead
//! ([`KeyRing::renew`]). After that it is known to logout only, for a longest session; then it goes.
//! So a process whose own key changes at every start logs nobody out, and an old key that has leaked
//! is worth nothing but a logout. A retired key verifies nothing from the next poll on, and cannot
//! join again. An own key is for the issuer and audience of those who joined with it, and for nobody
//! else on the store.
//!
//! Whether a key has run out is asked when the store is read, and not between: while the store does
//! not answer, and for a moment after it does again ([`PUBLISH_DELAY`]), what verified goes on
//! doing so, since whoever signs could not renew it.
//!
//! With a seal secret the store gets no key in the clear, and an entry that does not authenticate is
//! ignored; where none does, the ring does not open rather than replace the keys silently. While a
//! seal secret is being replaced a process knows several, and writes by the one that the store's
//! keys have, until [`KeyRing::reseal`] moves all of them at once.

mod config;
mod derive;
mod reading;
mod refresh;
mod renewal;
mod ring;
mod rotation;
mod samples;
mod sealing;
mod secret;
mod stored;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::access_token::{Cache, Claims, MAX_BYTES, NewClaims};
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result, StoreError};
use crate::policy::Policy;
use crate::seal::Seals;
use crate::store::Store;

pub use self::config::KeyConfig;
pub use self::refresh::RefreshKey;
pub use self::secret::check_secret;
pub use self::stored::{Algorithm, KeyId, Purpose, StoredKey};

pub(crate) use self::derive::{Derived, hmac_key};
use self::reading::Read;
use self::ring::{Published, Ring, Signer};

/// How long a new key is published before it signs: several polls of every node.
pub const PUBLISH_DELAY: Duration = Duration::from_secs(10);
/// How far beyond its last token's end a key is made to verify, so that it is renewed seldom: once
/// half of this is left.
const LEASE: Duration = Duration::from_secs(5 * 60);
/// When a refresh key runs out: its tokens live as long as sessions do, so it goes once superseded.
const EVER: Timestamp = Timestamp(i64::MAX);
/// How many keys that have run out are kept for logout, at the most: a process that is started every
/// few minutes must not make all others slow.
const LAPSED_KEPT: usize = 2_000;
/// Own keys that joined within this time, besides the one at hand, show that each start makes one.
const RECENT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Fewer are a key that was replaced, or another door's.
const MANY: usize = 2;

/// What an operator is told where [`KeyRing::changes_between_starts`].
pub const CHANGES_BETWEEN_STARTS: &str = "the configured key seems to be another one at every start; all of them work, but the store's \
    key ring makes and keeps one by itself: configure none";

/// What an operator is told where [`KeyRing::is_sealed_before`].
pub const SEALED_BEFORE: &str = "the keys in the store are sealed by seal_secret_previous: once every process on the store has the \
    new seal_secret, `keys reseal` seals them by it";

/// A key that cannot be used, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub &'static str);

/// The ring could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RingError {
    /// The configured key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys of a store, ready to sign and verify. Cheap to read, swapped as a whole.
pub struct KeyRing {
    ring: ArcSwap<Ring>,
    cache: Cache,
    signer: Signer,
    /// Whether the configured key was new to the store.
    is_new: AtomicBool,
    policy: Policy,
    seals: Seals,
    /// See [`KeyRing::refused`].
    refused: ArcSwapOption<KeyError>,
    env: Arc<dyn Env>,
    /// Numbers the reads of the store: a slow one may not undo a later one.
    reads: AtomicU64,
    newest_read: Mutex<Read>,
}

/// How often a change of keys is tried again when other processes change them meanwhile.
const RETRIES: usize = 4;

const NOT_AUTHENTIC: KeyError = KeyError(
    "seal_secret opens no key in the store; configure the one that the keys were sealed with, as \
     seal_secret_previous where another one is to replace it",
);
const NO_SEAL_SECRET: KeyError =
    KeyError("seal_secret is missing: the keys in the store are sealed; configure it");
const RETIRED: KeyError = KeyError("the configured key was retired; configure another one");
const NO_KEY: KeyError = KeyError("no key can sign tokens; a restart makes one");

impl KeyRing {
    /// Loads the ring, and makes the first keys where there are none. Processes that race agree,
    /// since a store takes only one first key of a purpose.
    ///
    /// # Errors
    /// A configured key or seal secret is weak, malformed, not the store's, or was retired; or the
    /// store did not answer.
    pub async fn open(
        store: &dyn Store,
        config: KeyConfig,
        policy: &Policy,
        env: Arc<dyn Env>,
    ) -> Result<Self, RingError> {
        let ring = KeyRing::empty(&config, policy, env)?;
        ring.seal_all(store).await?;
        ring.take_over(store).await?;
        ring.ensure(store, Purpose::Refresh).await?;
        ring.renew(store).await?;
        Ok(ring)
    }

    /// Loads the ring as it is, for a command of an operator: writes nothing to the store, and
    /// refuses what [`KeyRing::open`] would. Before the first process with a seal secret has sealed
    /// the keys, the ring is empty.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub async fn look(
        store: &dyn Store,
        config: KeyConfig,
        policy: &Policy,
        env: Arc<dyn Env>,
    ) -> Result<Self, RingError> {
        let ring = KeyRing::empty(&config, policy, env)?;
        if ring.to_seal(store).await?.is_empty() {
            ring.take_over(store).await?;
        }
        if ring.is_retired() {
            return Err(RETIRED.into());
        }
        Ok(ring)
    }

    fn empty(config: &KeyConfig, policy: &Policy, env: Arc<dyn Env>) -> Result<Self, KeyError> {
        let own = config.own_key(env.now())?;
        Ok(KeyRing {
            ring: ArcSwap::default(),
            cache: Cache::default(),
            signer: Signer::new(config.algorithm, own, policy),
            is_new: AtomicBool::new(false),
            policy: policy.clone(),
            seals: config.seals()?,
            refused: ArcSwapOption::empty(),
            env,
            reads: AtomicU64::new(0),
            newest_read: Mutex::default(),
        })
    }

    /// Whether the configured key was retired.
    fn is_retired(&self) -> bool {
        let ring = self.ring.load();
        let own = self.signer.configured.as_ref();
        own.and_then(|own| ring.row(own.id))
            .is_some_and(|row| row.retired)
    }

    /// Whether the configured key seems to be another one at every start, which the operator should
    /// be told: it was new to the store, and others for the same tokens joined lately, more than a
    /// key that was replaced or another door's would explain. It works all the same.
    #[must_use]
    pub fn changes_between_starts(&self) -> bool {
        let since = self.env.now() - RECENT;
        let ring = self.ring.load();
        let others = ring.other_own(&self.signer);
        self.is_new.load(Ordering::Relaxed)
            && others.filter(|row| row.created_at > since).count() >= MANY
    }

    /// The key that mints refresh tokens at `now`.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`]: there is none, which only a damaged store can bring about.
    pub fn current_refresh(&self, now: Timestamp) -> Result<Arc<RefreshKey>> {
        let ring = self.ring.load();
        let id = ring.minting(now);
        id.and_then(|id| ring.refresh_key(id))
            .ok_or(Error::StoreUnavailable)
    }

    /// A refresh key by its id.
    #[must_use]
    pub fn refresh_key(&self, id: KeyId) -> Option<Arc<RefreshKey>> {
        self.ring.load().refresh_key(id)
    }

    /// Signs an access token with the key that signs at `now`.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`]: there is no such key.
    pub fn sign_access(&self, claims: &NewClaims<'_>, now: Timestamp) -> Result<String> {
        let ring = self.ring.load();
        let signing = ring.signing(&self.signer, now);
        signing.ok_or(Error::StoreUnavailable)?.key.sign(claims)
    }

    /// Why nobody can log in or refresh, if no key can sign at `now`: for the operator's log.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn can_sign(&self, now: Timestamp) -> Result<(), KeyError> {
        if let Some(error) = self.refused() {
            return Err(error);
        }
        if self.is_retired() {
            return Err(RETIRED);
        }
        let signing = self.ring.load().signing(&self.signer, now).is_some();
        if signing && self.current_refresh(now).is_ok() {
            Ok(())
        } else {
            Err(NO_KEY)
        }
    }

    /// Verifies an access token: form, signature, type, issuer, audience, times. Not whether its
    /// session ended. A ring serves one policy: what was verified once is only asked for its times.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::TokenExpired`].
    pub fn verify_access(&self, token: &str, now: Timestamp, policy: &Policy) -> Result<Claims> {
        let ring = self.ring.load();
        let claims = self.verify_signed(token, ring.verifier(token), policy)?;
        claims.check_times(now, policy)?;
        Ok(claims)
    }

    /// As [`KeyRing::verify_access`], but an expired token passes, that of a key which has run out
    /// too, and one of a clock that is ahead: enough to log out.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`].
    pub fn verify_access_ignoring_times(
        &self,
        token: &str,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<Claims> {
        let ring = self.ring.load();
        let (verifier, known) = (ring.verifier(token), ring.known(token));
        let claims = self.verify_signed(token, verifier.or(known), policy)?;
        match claims.check_times(now, policy) {
            Err(Error::TokenExpired) => Ok(claims),
            _ if verifier.is_some() => Ok(claims),
            // No token outlives its key: whoever made this one was not asked to.
            _ => Err(Error::TokenInvalid),
        }
    }

    fn verify_signed(
        &self,
        token: &str,
        published: Option<&Published>,
        policy: &Policy,
    ) -> Result<Claims> {
        if token.len() > MAX_BYTES {
            return Err(Error::TokenInvalid);
        }
        let key = &published.ok_or(Error::TokenInvalid)?.key;
        let print = self.cache.fingerprint(token);
        // A MAC costs little more than keeping a token does: only those that come again are kept.
        let keeps = self.cache.seen(print) || key.is_asymmetric();
        let kept = keeps.then(|| self.cache.find(print, token));
        if let Some(claims) = kept.flatten() {
            return Ok(claims);
        }
        let claims = key.verify(token, policy)?;
        if keeps {
            self.cache.keep(print, token, &claims);
        }
        Ok(claims)
    }

    /// Every key.
    #[must_use]
    pub fn rows(&self) -> Vec<StoredKey> {
        self.ring.load().rows.clone()
    }

    /// The public keys that verify (RFC 7517); none for HS256.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        let ring = self.ring.load();
        let keys = ring.verifying().iter().filter_map(|key| key.key.jwk());
        let keys: Vec<_> = keys.collect();
        serde_json::json!({ "keys": keys })
    }
}

#[cfg(test)]
mod tests;
