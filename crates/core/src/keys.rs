//! The key ring: one key of each purpose signs, several verify; JWKS; rotation.
//!
//! Guarantees: a key is in the store, and so known to every node after one poll, before it signs
//! ([`PUBLISH_DELAY`]), unless there is none that could sign until then; a superseded key goes on
//! verifying for as long as its tokens live; a retired key verifies nothing from the next poll on,
//! and cannot join again. Which key signs is derived from the rows and the time, so all nodes agree
//! without asking each other. With a seal secret the store gets no key in the clear, and an entry
//! that does not authenticate is ignored; where none does, the ring does not open rather than
//! replace the keys silently.

mod secret;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::access_token::{AccessKey, Cache, Claims, MAX_BYTES, NewClaims};
use crate::csrf::{CsrfKind, CsrfValue};
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result, StoreError};
use crate::id::{SessionId, TokenId};
use crate::policy::Policy;
use crate::seal::{Seal, is_sealed, opened};
use crate::store::{Store, Write};

pub use self::secret::check_secret;

/// How long a new key is published before it signs: several polls of every node.
pub const PUBLISH_DELAY: Duration = Duration::from_secs(10);

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
            .field("retired", &self.retired)
            .finish_non_exhaustive()
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
    algorithm: Algorithm,
    configured: Option<KeyId>,
    seal: Option<Seal>,
    env: Arc<dyn Env>,
    /// Numbers the reads of the store, and the read that `ring` is from: a slow one may not undo a
    /// later one.
    reads: AtomicU64,
    newest_read: Mutex<u64>,
}

#[derive(Default)]
struct Ring {
    rows: Vec<StoredKey>,
    access: Vec<Arc<AccessKey>>,
    refresh: Vec<Arc<RefreshKey>>,
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
        env: Arc<dyn Env>,
    ) -> Result<Self, RingError> {
        let own = config.own_key(env.now())?;
        let ring = KeyRing::empty(&config, own.as_ref(), env)?;
        ring.seal_all(store).await?;
        ring.take_over(store).await?;
        ring.ensure(store, Purpose::Refresh).await?;
        match own {
            Some(key) => ring.join(store, key).await?,
            None => ring.ensure(store, Purpose::Access).await?,
        }
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
        env: Arc<dyn Env>,
    ) -> Result<Self, RingError> {
        let own = config.own_key(env.now())?;
        let ring = KeyRing::empty(&config, own.as_ref(), env)?;
        if ring.to_seal(store).await?.is_empty() {
            ring.take_over(store).await?;
        }
        match own.and_then(|own| ring.ring.load().row(own.id).cloned()) {
            Some(row) if row.retired => Err(RETIRED.into()),
            _ => Ok(ring),
        }
    }

    fn empty(
        config: &KeyConfig,
        own: Option<&StoredKey>,
        env: Arc<dyn Env>,
    ) -> Result<Self, KeyError> {
        Ok(KeyRing {
            ring: ArcSwap::default(),
            cache: Cache::default(),
            algorithm: config.algorithm,
            configured: own.map(|key| key.id),
            seal: config.seal()?,
            env,
            reads: AtomicU64::new(0),
            newest_read: Mutex::new(0),
        })
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
            if self.ring.load().has(purpose, self.algorithm_of(purpose)) {
                break;
            }
            let algorithm = self.algorithm_of(purpose);
            let key = self.new_key(purpose, algorithm, self.first_signs(purpose))?;
            let _ = store.add_key(self.sealed(&key)?, only_if_none).await?;
            self.take_over(store).await?;
        }
        Ok(())
    }

    /// Publishes the operator's own key, so that every process on the store verifies its tokens.
    async fn join(&self, store: &dyn Store, mut own: StoredKey) -> Result<(), RingError> {
        for only_if_none in [true, false] {
            if self.ring.load().row(own.id).is_some() {
                break;
            }
            own.signs_from = self.first_signs(Purpose::Access);
            let _ = store.add_key(self.sealed(&own)?, only_if_none).await?;
            self.take_over(store).await?;
        }
        match self.ring.load().row(own.id) {
            Some(row) if row.retired => Err(RETIRED.into()),
            _ => Ok(()),
        }
    }

    /// From when a key signs that is new now: at once, if no other could until it is known to all.
    fn first_signs(&self, purpose: Purpose) -> Timestamp {
        let now = self.env.now();
        if self.ring.load().live(purpose).next().is_some() {
            now + PUBLISH_DELAY
        } else {
            now
        }
    }

    fn algorithm_of(&self, purpose: Purpose) -> Algorithm {
        match purpose {
            Purpose::Access => self.algorithm,
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
        if read < *newest {
            return Ok(());
        }
        *newest = read;
        if rows != self.ring.load().rows {
            self.ring
                .store(Arc::new(Ring::of(rows, self.seal.as_ref())?));
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
        let id = ring.signing(Purpose::Refresh, Algorithm::HS256, now);
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
        self.signing_key(now)?.sign(claims)
    }

    /// Why nobody can log in or refresh, if no key can sign at `now`: for the operator's log.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn can_sign(&self, now: Timestamp) -> Result<(), KeyError> {
        let ring = self.ring.load();
        let own = self.configured.and_then(|own| ring.row(own));
        if own.is_some_and(|own| own.retired) {
            return Err(RETIRED);
        }
        match (self.signing_key(now), self.current_refresh(now)) {
            (Ok(_), Ok(_)) => Ok(()),
            _ => Err(NO_KEY),
        }
    }

    fn signing_key(&self, now: Timestamp) -> Result<Arc<AccessKey>> {
        let ring = self.ring.load();
        let id = match self.configured {
            Some(own) if ring.waits(own, now)? => {
                ring.signing(Purpose::Access, self.algorithm, now)
            }
            Some(own) => Some(own),
            None => ring.signing(Purpose::Access, self.algorithm, now),
        };
        id.and_then(|id| ring.access_key(id))
            .ok_or(Error::StoreUnavailable)
    }

    /// Verifies an access token: form, signature, type, issuer, audience, times. Not whether its
    /// session ended. A ring serves one policy: what was verified once is only asked for its times.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], [`Error::TokenExpired`].
    pub fn verify_access(&self, token: &str, now: Timestamp, policy: &Policy) -> Result<Claims> {
        let claims = self.verify_signed(token, policy)?;
        claims.check_times(now, policy)?;
        Ok(claims)
    }

    /// As [`KeyRing::verify_access`], but an expired token passes: enough to log out.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`].
    pub fn verify_access_ignoring_expiry(
        &self,
        token: &str,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<Claims> {
        let claims = self.verify_signed(token, policy)?;
        match claims.check_times(now, policy) {
            Ok(()) | Err(Error::TokenExpired) => Ok(claims),
            Err(error) => Err(error),
        }
    }

    fn verify_signed(&self, token: &str, policy: &Policy) -> Result<Claims> {
        if token.len() > MAX_BYTES {
            return Err(Error::TokenInvalid);
        }
        let ring = self.ring.load();
        let key = ring.access.iter().find(|key| key.made(token));
        let key = key.ok_or(Error::TokenInvalid)?;
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
        if purpose == Purpose::Access && self.configured.is_some() {
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
        let ring = self.ring.load();
        let configured = self.algorithm_of(purpose);
        let id = ring.signing(purpose, configured, self.env.now());
        let row = id.and_then(|id| ring.row(id));
        let algorithm = row.and_then(|row| row.algorithm.parse().ok());
        algorithm.unwrap_or(configured)
    }

    /// Drops a key at once, for logout too. If no other of its algorithm could sign, a new one takes
    /// its place first, unless it is the configured one, or was superseded by another algorithm.
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
        if self.configured != Some(id) && self.ring.load().is_last(&row) {
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

    /// Removes keys whose last token was over a longest session ago. The configured one stays: long
    /// before other processes would remove it, it counts as new again. Retired ones stay as well,
    /// without their secret.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn prune(&self, store: &dyn Store, policy: &Policy) -> Result<(), StoreError> {
        let now = self.env.now();
        let span = policy.session_ttl + policy.revocation_span();
        let ring = self.ring.load_full();
        for row in ring.outlived(now - span) {
            if Some(row.id) != self.configured {
                let _ = store.remove_key(row.id).await?;
            }
        }
        let mut old = ring.outlived(now - span / 2);
        if let Some(own) = old.find(|row| Some(row.id) == self.configured) {
            let renewed = StoredKey {
                signs_from: now,
                ..own.clone()
            };
            let _ = store.update_keys(vec![renewed]).await?;
        }
        Ok(())
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
            retired: false,
        })
    }

    /// Every key.
    #[must_use]
    pub fn rows(&self) -> Vec<StoredKey> {
        self.ring.load().rows.clone()
    }

    /// The public keys (RFC 7517); none for HS256.
    #[must_use]
    pub fn jwks(&self) -> serde_json::Value {
        let ring = self.ring.load();
        let keys: Vec<_> = ring.access.iter().filter_map(|key| key.jwk()).collect();
        serde_json::json!({ "keys": keys })
    }
}

impl Ring {
    fn of(rows: Vec<StoredKey>, seal: Option<&Seal>) -> Result<Ring, KeyError> {
        let mut ring = Ring::default();
        for purpose in [Purpose::Access, Purpose::Refresh] {
            let live = rows.iter().filter(|row| row.purpose == purpose);
            let live: Vec<_> = live.filter(|row| !row.retired).collect();
            if seal.is_none() && live.iter().any(|row| is_sealed(row)) {
                return Err(NO_SEAL_SECRET);
            }
            let secrets = live.iter().map(|row| (row, opened(seal, row)));
            let opened: Vec<_> = secrets.filter_map(|(row, s)| Some((row, s?))).collect();
            // A purpose whose keys were never sealed, beside another's that are, is one without keys: a
            // process without the secret began on a new store at the same moment.
            if opened.is_empty() && live.iter().any(|row| is_sealed(row)) {
                return Err(NOT_AUTHENTIC);
            }
            for (row, secret) in opened {
                ring.take(row, &secret);
            }
        }
        let has_none = ring.access.is_empty() && ring.refresh.is_empty();
        if seal.is_some() && has_none && rows.iter().any(|row| !row.retired) {
            return Err(NOT_AUTHENTIC);
        }
        Ok(Ring { rows, ..ring })
    }

    fn take(&mut self, row: &StoredKey, secret: &[u8]) {
        match row.purpose {
            Purpose::Access => {
                let key = AccessKey::of(row, secret).ok();
                self.access.extend(key.map(Arc::new));
            }
            Purpose::Refresh if secret.len() >= 32 => {
                self.refresh.push(Arc::new(RefreshKey::new(row.id, secret)));
            }
            Purpose::Refresh => {}
        }
    }

    fn row(&self, id: KeyId) -> Option<&StoredKey> {
        self.rows.iter().find(|row| row.id == id)
    }

    fn access_key(&self, id: KeyId) -> Option<Arc<AccessKey>> {
        self.access.iter().find(|key| key.id() == id).cloned()
    }

    fn refresh_key(&self, id: KeyId) -> Option<Arc<RefreshKey>> {
        self.refresh.iter().find(|key| key.id() == id).cloned()
    }

    /// The rows behind keys that verify.
    fn live(&self, purpose: Purpose) -> impl Iterator<Item = &StoredKey> + Clone {
        let usable = move |row: &&StoredKey| match purpose {
            Purpose::Access => self.access.iter().any(|key| key.id() == row.id),
            Purpose::Refresh => self.refresh.iter().any(|key| key.id() == row.id),
        };
        self.rows.iter().filter(usable)
    }

    fn has(&self, purpose: Purpose, algorithm: Algorithm) -> bool {
        self.live(purpose)
            .any(|row| *row.algorithm == *algorithm.name())
    }

    /// Whether a key is the only one of its algorithm, and none of another algorithm is newer.
    fn is_last(&self, row: &StoredKey) -> bool {
        let mut others = self.live(row.purpose).filter(|other| other.id != row.id);
        !others.any(|other| other.algorithm == row.algorithm || other.signs_from > row.signs_from)
    }

    /// Whether a key that joined is too new to sign.
    fn waits(&self, id: KeyId, now: Timestamp) -> Result<bool> {
        let row = self.row(id).filter(|row| !row.retired);
        let row = row.ok_or(Error::StoreUnavailable)?;
        Ok(row.signs_from > now)
    }

    /// The newest key whose time to sign has come; one of `algorithm` if there is any. Before the
    /// very first one's time, that one.
    fn signing(&self, purpose: Purpose, algorithm: Algorithm, now: Timestamp) -> Option<KeyId> {
        let order = |row: &&StoredKey| (row.signs_from, row.id);
        let due = self.live(purpose).filter(|row| row.signs_from <= now);
        let fitting = due
            .clone()
            .filter(|row| *row.algorithm == *algorithm.name());
        let newest = fitting
            .max_by_key(order)
            .or_else(|| due.max_by_key(order))
            .or_else(|| self.live(purpose).min_by_key(order));
        newest.map(|row| row.id)
    }

    /// Keys that were superseded before `long_ago`.
    fn outlived(&self, long_ago: Timestamp) -> impl Iterator<Item = &StoredKey> {
        let superseded = move |old: &&StoredKey| {
            self.live(old.purpose).any(|new| {
                new.algorithm == old.algorithm
                    && new.signs_from > old.signs_from
                    && new.signs_from < long_ago
            })
        };
        self.rows
            .iter()
            .filter(|row| !row.retired)
            .filter(superseded)
    }
}

/// The row of the operator's own key; its id follows from its secret.
fn own_key(algorithm: Algorithm, secret: &[u8], now: Timestamp) -> Result<StoredKey, KeyError> {
    if algorithm == Algorithm::HS256 {
        check_secret(secret)?;
    }
    let digest = Sha256::new()
        .chain_update(b"doorward key id")
        .chain_update(secret)
        .finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    let row = StoredKey {
        id: KeyId(u64::from_be_bytes(id)),
        purpose: Purpose::Access,
        algorithm: algorithm.name().into(),
        secret: secret.into(),
        created_at: now,
        signs_from: now,
        retired: false,
    };
    AccessKey::of(&row, secret)?;
    Ok(row)
}

/// The MAC key behind refresh tokens.
pub struct RefreshKey {
    id: KeyId,
    ids: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
    csrf: Hmac<Sha256>,
}

impl RefreshKey {
    /// Derives the three labelled keys.
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
}

/// HMAC-SHA-256 with its key already mixed in: cloned for each message.
pub(crate) fn hmac_key(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests;
