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
//! ignored; where none does, the ring does not open rather than replace the keys silently.

mod ring;
mod secret;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::access_token::{AccessKey, Cache, Claims, MAX_BYTES, NewClaims};
use crate::csrf::{CsrfKind, CsrfValue};
use crate::env::{Env, Timestamp, millis};
use crate::error::{Error, Result, StoreError};
use crate::id::{SessionId, TokenId};
use crate::policy::Policy;
use crate::seal::{Seal, is_sealed};
use crate::store::{Store, Write};
use crate::throttle::BucketKey;

pub use self::secret::check_secret;

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

/// Names a key: 64 bits; in a token's `kid` 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = crate::id::NotAnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = u64::from_str_radix(text, 16).ok().filter(|_| hex);
        id.map(KeyId).ok_or(crate::id::NotAnId)
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Signs access tokens.
    Access,
    /// Mints refresh tokens.
    Refresh,
}

/// How access tokens are signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    #[default]
    EdDSA,
    /// HMAC with SHA-256.
    HS256,
    /// ECDSA on P-256.
    ES256,
    /// RSASSA-PKCS1-v1_5, 2,048 bits or more.
    RS256,
}

impl Algorithm {
    /// The name in a token's header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::EdDSA => "EdDSA",
            Algorithm::HS256 => "HS256",
            Algorithm::ES256 => "ES256",
            Algorithm::RS256 => "RS256",
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        [
            Algorithm::EdDSA,
            Algorithm::HS256,
            Algorithm::ES256,
            Algorithm::RS256,
        ]
        .into_iter()
        .find(|algorithm| algorithm.name() == name)
        .ok_or(KeyError("algorithm must be EdDSA, HS256, ES256 or RS256"))
    }
}

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

/// A key as a store keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// An [`Algorithm`]'s name; `HS256` for refresh keys.
    pub algorithm: Box<str>,
    /// PKCS#8 DER of a private key, or the bytes of a secret; sealed where there is a seal secret.
    /// Empty for a retired key, which is kept to bar it from joining again.
    pub secret: Box<[u8]>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs, until a key that signs from later begins to.
    pub signs_from: Timestamp,
    /// Until when an access key verifies; whoever signs with it moves this on in time.
    pub verifies_until: Timestamp,
    /// Whose tokens an own key verifies: a line for each issuer and audience that it joined for.
    /// Empty: anybody's on the store.
    pub scopes: Box<str>,
    /// Dropped by an operator: verifies nothing any more.
    pub retired: bool,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("id", &self.id)
            .field("purpose", &self.purpose)
            .field("algorithm", &self.algorithm)
            .field("signs_from", &self.signs_from)
            .field("verifies_until", &self.verifies_until)
            .field("scopes", &self.scopes)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

impl StoredKey {
    /// What it is good for at `now`, in a word or two for operators.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        if self.retired {
            "retired"
        } else if self.verifies_until <= now {
            "logout only"
        } else {
            "live"
        }
    }
}

/// Which key signs access tokens, and how the store keeps keys.
#[derive(Clone, Default)]
pub struct KeyConfig {
    /// How access tokens are signed.
    pub algorithm: Algorithm,
    /// The operator's own key: a secret for HS256, else a private key in PKCS#8 DER. Without one a
    /// key is made and kept in the store.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// Seals all keys in the store; those that lie there unsealed are sealed when it is first given.
    pub seal_secret: Option<Zeroizing<Vec<u8>>>,
}

impl KeyConfig {
    /// Whether a ring can be opened with it, as far as the store has no say.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), KeyError> {
        self.own_key(Timestamp::NEVER)?;
        self.seal().map(drop)
    }

    fn own_key(&self, now: Timestamp) -> Result<Option<StoredKey>, KeyError> {
        let secret = self.key.as_ref();
        let own = secret.map(|secret| own_key(self.algorithm, secret, now));
        own.transpose()
    }

    fn seal(&self) -> Result<Option<Seal>, KeyError> {
        if self.seal_secret.is_some() && self.seal_secret == self.key {
            return Err(KeyError("seal_secret must differ from secret"));
        }
        let secret = self.seal_secret.as_deref();
        secret.map(|secret| Seal::new(secret)).transpose()
    }
}

impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyConfig")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The keys of a store, ready to sign and verify. Cheap to read, swapped as a whole.
pub struct KeyRing {
    ring: ArcSwap<Ring>,
    cache: Cache,
    signer: Signer,
    /// Whether the configured key was new to the store.
    is_new: AtomicBool,
    policy: Policy,
    seal: Option<Seal>,
    env: Arc<dyn Env>,
    /// Numbers the reads of the store: a slow one may not undo a later one.
    reads: AtomicU64,
    newest_read: Mutex<Read>,
}

/// The read of the store that the ring is from.
#[derive(Default)]
struct Read {
    number: u64,
    at: Option<Timestamp>,
    /// When the store last answered again, and when it had before.
    gap: Option<(Timestamp, Timestamp)>,
}

impl Read {
    /// The time by which keys have run out, of a read at `now`: whoever could not renew one while the
    /// store did not answer has a moment to do so.
    fn as_of(&mut self, now: Timestamp) -> Timestamp {
        let before = self.at.replace(now);
        let missed = before.filter(|before| *before + PUBLISH_DELAY < now);
        if let Some(before) = missed {
            self.gap = Some((self.judged_at(before), now));
        }
        self.judged_at(now)
    }

    fn judged_at(&self, now: Timestamp) -> Timestamp {
        let soon_after = |back| (0..millis(PUBLISH_DELAY)).contains(&now.since(back));
        match self.gap {
            Some((before, back)) if soon_after(back) => before,
            _ => now,
        }
    }
}

/// How often a change of keys is tried again when other processes change them meanwhile.
const RETRIES: usize = 4;

const NOT_AUTHENTIC: KeyError = KeyError(
    "seal_secret opens no key in the store; configure the one that the keys were sealed with",
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
            seal: config.seal()?,
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

    /// Seals what lies in the store unsealed, all at once, if nothing there is sealed yet. After
    /// that an unsealed entry is somebody else's, and is ignored.
    async fn seal_all(&self, store: &dyn Store) -> Result<(), RingError> {
        for _ in 0..RETRIES {
            let rows = self.to_seal(store).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let sealed: Result<Vec<_>, _> = rows.iter().map(|row| self.sealed(row)).collect();
            if store.update_keys(sealed?).await? == Write::Done {
                return Ok(());
            }
        }
        Err(StoreError("the keys changed while they were sealed".into()).into())
    }

    async fn to_seal(&self, store: &dyn Store) -> Result<Vec<StoredKey>, StoreError> {
        let mut rows = store.keys().await?;
        rows.retain(|row| !row.retired);
        if self.seal.is_none() || rows.iter().any(is_sealed) {
            rows.clear();
        }
        Ok(rows)
    }

    fn sealed(&self, row: &StoredKey) -> Result<StoredKey, KeyError> {
        match &self.seal {
            Some(seal) => seal.seal(row, &*self.env),
            None => Ok(row.clone()),
        }
    }

    /// Makes a key where none fits. Of a purpose's first key there is only one.
    async fn ensure(&self, store: &dyn Store, purpose: Purpose) -> Result<(), RingError> {
        for only_if_none in [true, false] {
            if self.has(purpose) {
                break;
            }
            let algorithm = self.algorithm_of(purpose);
            let key = self.new_key(purpose, algorithm, self.first_signs(purpose))?;
            let _ = store.add_key(self.sealed(&key)?, only_if_none).await?;
            self.take_over(store).await?;
        }
        Ok(())
    }

    fn has(&self, purpose: Purpose) -> bool {
        let ring = self.ring.load();
        match purpose {
            Purpose::Access => ring.own(&self.signer, self.env.now()).is_some(),
            Purpose::Refresh => !ring.refresh.is_empty(),
        }
    }

    /// From when a key signs that is made now: at once, if no other could until it is known to all.
    fn first_signs(&self, purpose: Purpose) -> Timestamp {
        let now = self.env.now();
        let ring = self.ring.load();
        let another = match purpose {
            Purpose::Access => ring.lent(&self.signer, now).is_some(),
            Purpose::Refresh => !ring.refresh.is_empty(),
        };
        if another { now + PUBLISH_DELAY } else { now }
    }

    /// Sees to it that the store has what this process signs with, and that it verifies for as long
    /// as its tokens live: publishes the operator's own key, makes one where there is none, or moves
    /// on the time at which it runs out. Doors call it every second, through
    /// [`crate::Service::purge`]; it writes once in some minutes.
    ///
    /// # Errors
    /// The configured key was retired, or the store did not answer.
    pub async fn renew(&self, store: &dyn Store) -> Result<(), RingError> {
        for _ in 0..RETRIES {
            if self.is_retired() {
                return Err(RETIRED.into());
            }
            if self.signer.configured.is_none() {
                self.ensure(store, Purpose::Access).await?;
            }
            let Some(row) = self.unrenewed() else { break };
            self.write(store, row).await?;
            self.take_over(store).await?;
        }
        Ok(())
    }

    async fn write(&self, store: &dyn Store, row: StoredKey) -> Result<(), RingError> {
        // One that was sealed and is for anybody stays sealed as it is.
        let sealed = if is_sealed(&row) {
            row
        } else {
            self.sealed(&row)?
        };
        if self.ring.load().row(sealed.id).is_some() {
            let _ = store.update_keys(vec![sealed]).await?;
        } else if store.add_key(sealed, false).await? == Write::Done {
            self.is_new.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The row that this process signs with as the store should have it; `None`: the store does.
    fn unrenewed(&self) -> Option<StoredKey> {
        let (ring, now) = (self.ring.load(), self.env.now());
        let published = ring.own(&self.signer, now).map(|own| &own.row);
        let until = now + self.promise() + LEASE;
        let in_time = |row: &&StoredKey| row.verifies_until >= until - LEASE / 2;
        let Some(own) = &self.signer.configured else {
            let late = published.filter(|row| !in_time(row));
            return late.map(|row| StoredKey {
                verifies_until: until,
                ..row.clone()
            });
        };
        if published.is_some_and(|row| in_time(&row) && self.signer.has_joined(row)) {
            return None;
        }
        let fresh = StoredKey {
            created_at: now,
            signs_from: now + PUBLISH_DELAY,
            verifies_until: until,
            ..own.clone()
        };
        Some(published.map_or(fresh.clone(), |row| self.rejoined(row, fresh)))
    }

    /// The row of a configured key that was in the store before. While it verified, all knew it.
    fn rejoined(&self, row: &StoredKey, fresh: StoredKey) -> StoredKey {
        let for_all = row.scopes.is_empty() || self.signer.has_joined(row);
        let known = for_all && row.verifies_until > self.env.now();
        let others = row.scopes.lines().filter(|scope| **scope != *fresh.scopes);
        let scopes: Vec<_> = others.chain([&*fresh.scopes]).collect();
        StoredKey {
            scopes: scopes.join("\n").into(),
            created_at: row.created_at,
            signs_from: if known {
                row.signs_from
            } else {
                fresh.signs_from
            },
            verifies_until: row.verifies_until.max(fresh.verifies_until),
            ..fresh
        }
    }

    /// How long a key must verify after it signed: as long as its token lives, by any node's clock.
    fn promise(&self) -> Duration {
        self.policy.revocation_span() + PUBLISH_DELAY
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

    fn algorithm_of(&self, purpose: Purpose) -> Algorithm {
        match purpose {
            Purpose::Access => self.signer.algorithm,
            Purpose::Refresh => Algorithm::HS256,
        }
    }

    /// Takes over what the store has now. Rows that cannot be read are ignored.
    ///
    /// # Errors
    /// The store did not answer, or its keys are sealed otherwise; the ring stays as it was.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), StoreError> {
        self.take_over(store).await.map_err(|error| match error {
            RingError::Key(error) => StoreError(error.0.into()),
            RingError::Store(error) => error,
        })
    }

    async fn take_over(&self, store: &dyn Store) -> Result<(), RingError> {
        let read = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let rows = store.keys().await?;
        let mut newest = self
            .newest_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if read < newest.number {
            return Ok(());
        }
        newest.number = read;
        let now = self.env.now();
        let as_of = newest.as_of(now);
        let ring = self.ring.load();
        if rows != ring.rows || ring.lapses(&self.signer, now, as_of) {
            let seal = self.seal.as_ref();
            let ring = Ring::of(rows, &ring, seal, &self.signer, (now, as_of))?;
            self.ring.store(Arc::new(ring));
            self.cache.flush();
        }
        Ok(())
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
    /// too: enough to log out.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`].
    pub fn verify_access_ignoring_expiry(
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
            // No token outlives its key: whoever made this one was not asked to.
            Ok(()) if verifier.is_some() => Ok(claims),
            Ok(()) => Err(Error::TokenInvalid),
            Err(error) => Err(error),
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

    /// Adds a key that will sign once every node knows it, of the algorithm that signs now.
    ///
    /// # Errors
    /// Another key than the ring's own signs, or the store did not answer.
    pub async fn rotate(&self, store: &dyn Store, purpose: Purpose) -> Result<KeyId, RingError> {
        if purpose == Purpose::Access && self.signer.configured.is_some() {
            return Err(KeyError(
                "access tokens are signed by the configured key; configure another one instead",
            )
            .into());
        }
        self.seal_all(store).await?;
        self.take_over(store).await?;
        let algorithm = self.signing_algorithm(purpose);
        let key = self.new_key(purpose, algorithm, self.env.now() + PUBLISH_DELAY)?;
        let _ = store.add_key(self.sealed(&key)?, false).await?;
        self.take_over(store).await?;
        Ok(key.id)
    }

    /// The processes that sign may be configured otherwise than this one: the rows tell.
    fn signing_algorithm(&self, purpose: Purpose) -> Algorithm {
        let (ring, now) = (self.ring.load(), self.env.now());
        let signing = match purpose {
            Purpose::Access => {
                let own = ring.own(&self.signer, now).map(|own| &own.row);
                own.or_else(|| ring.newest_made(now))
            }
            Purpose::Refresh => None,
        };
        let algorithm = signing.and_then(|row| row.algorithm.parse().ok());
        algorithm.unwrap_or_else(|| self.algorithm_of(purpose))
    }

    /// Drops a key at once, for logout too. If no other of its algorithm could sign, a new one takes
    /// its place first, unless it is somebody's own, or was superseded by another algorithm.
    ///
    /// # Errors
    /// No such key, or the store did not answer.
    pub async fn retire(&self, store: &dyn Store, id: KeyId) -> Result<(), RingError> {
        self.seal_all(store).await?;
        self.take_over(store).await?;
        let row = self.ring.load().row(id).cloned();
        let row = row.ok_or(KeyError("no key with this id; `keys list` shows them"))?;
        if row.retired {
            return Ok(());
        }
        if self.ring.load().is_last(&row, self.env.now()) {
            let algorithm = row.algorithm.parse()?;
            let key = self.new_key(row.purpose, algorithm, self.env.now())?;
            let _ = store.add_key(self.sealed(&key)?, false).await?;
        }
        let retired = StoredKey {
            secret: [].into(),
            retired: true,
            ..row
        };
        let _ = store.update_keys(vec![retired]).await?;
        self.take_over(store).await
    }

    /// Removes keys whose last token was over a longest session ago, and of those that have run out
    /// the oldest if there are too many. Retired ones stay, without their secret.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn prune(&self, store: &dyn Store) -> Result<(), StoreError> {
        let ring = self.ring.load_full();
        for row in self.unneeded(&ring) {
            let _ = store.remove_key(row.id).await?;
        }
        Ok(())
    }

    fn unneeded<'a>(&self, ring: &'a Ring) -> Vec<&'a StoredKey> {
        let now = self.env.now();
        let long_ago = now - self.policy.session_ttl - self.policy.revocation_span();
        let lapsed = ring.lapsed(now);
        let too_many = lapsed.len().saturating_sub(LAPSED_KEPT);
        let access = lapsed.into_iter().enumerate();
        let access =
            access.filter(|(place, row)| *place < too_many || row.verifies_until < long_ago);
        let access = access.map(|(_, row)| row);
        access.chain(ring.outlived(long_ago)).collect()
    }

    fn new_key(
        &self,
        purpose: Purpose,
        algorithm: Algorithm,
        signs_from: Timestamp,
    ) -> Result<StoredKey, KeyError> {
        let mut id = [0; 8];
        self.env.fill(&mut id);
        Ok(StoredKey {
            id: KeyId(u64::from_be_bytes(id)),
            purpose,
            algorithm: algorithm.name().into(),
            secret: AccessKey::generate(algorithm, &*self.env)?,
            created_at: self.env.now(),
            signs_from,
            verifies_until: match purpose {
                Purpose::Access => signs_from + self.promise() + LEASE,
                Purpose::Refresh => EVER,
            },
            scopes: "".into(),
            retired: false,
        })
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

/// The row of the operator's own key; its id follows from its secret.
fn own_key(algorithm: Algorithm, secret: &[u8], now: Timestamp) -> Result<StoredKey, KeyError> {
    if algorithm == Algorithm::HS256 {
        check_secret(secret)?;
    }
    let row = StoredKey {
        id: id_of(secret),
        purpose: Purpose::Access,
        algorithm: algorithm.name().into(),
        secret: secret.into(),
        created_at: now,
        signs_from: now,
        verifies_until: now,
        scopes: "".into(),
        retired: false,
    };
    AccessKey::of(&row, secret)?;
    Ok(row)
}

/// The id of an own key: whoever has the same secret has the same entry.
fn id_of(secret: &[u8]) -> KeyId {
    let digest = Sha256::new()
        .chain_update(b"doorward key id")
        .chain_update(secret)
        .finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    KeyId(u64::from_be_bytes(id))
}

/// The MAC key behind refresh tokens.
pub struct RefreshKey {
    id: KeyId,
    ids: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
    csrf: Hmac<Sha256>,
    devices: Hmac<Sha256>,
    buckets: Hmac<Sha256>,
}

impl RefreshKey {
    /// Derives the labelled keys.
    #[must_use]
    pub fn new(id: KeyId, secret: &[u8]) -> Self {
        let derive = |label: &[u8]| {
            let mut mac = hmac_key(secret);
            mac.update(label);
            hmac_key(&mac.finalize().into_bytes())
        };
        RefreshKey {
            id,
            ids: derive(b"doorward refresh id"),
            tokens: derive(b"doorward refresh token"),
            csrf: derive(b"doorward csrf"),
            devices: derive(b"doorward device token"),
            buckets: derive(b"doorward throttle"),
        }
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The id of the child of `confirmed`.
    #[must_use]
    pub fn child_id(&self, session: SessionId, confirmed: TokenId, attempt: u32) -> TokenId {
        let mut mac = self.ids.clone();
        mac.update(&session.0);
        mac.update(&confirmed.0);
        mac.update(&attempt.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        TokenId(id)
    }

    /// What a session's requests repeat where the double submit is on.
    #[must_use]
    pub fn csrf(&self, session: SessionId, kind: CsrfKind) -> CsrfValue {
        let mut mac = self.csrf.clone();
        mac.update(match kind {
            CsrfKind::Access => b"access",
            CsrfKind::Refresh => b"refresh",
        });
        mac.update(&session.0);
        CsrfValue::of(&mac.finalize().into_bytes()[..16])
    }

    /// The MAC over a refresh token's fixed-length fields.
    #[must_use]
    pub fn tag(&self, fields: &[u8]) -> [u8; 32] {
        let mut mac = self.tokens.clone();
        mac.update(fields);
        mac.finalize().into_bytes().into()
    }

    /// The MAC over a device token's fixed-length fields and the account that it is for.
    #[must_use]
    pub fn device_tag(&self, fields: &[u8], account: &str) -> [u8; 32] {
        let mut mac = self.devices.clone();
        mac.update(fields);
        mac.update(account.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The bucket of something of a kind, whose name no other kind's begins with.
    #[must_use]
    pub fn bucket(&self, kind: &str, what: &[u8]) -> BucketKey {
        let mut mac = self.buckets.clone();
        mac.update(kind.as_bytes());
        mac.update(what);
        let mut key = [0; 16];
        key.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        BucketKey(key)
    }
}

/// HMAC-SHA-256 with its key already mixed in: cloned for each message.
pub(crate) fn hmac_key(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests;
