//! The key ring: one key of each purpose signs, several verify; JWKS; rotation.
//!
//! Guarantees: a key is in the store, and so known to every node after one poll, before it signs
//! ([`PUBLISH_DELAY`]); a superseded key goes on verifying for as long as its tokens live; a
//! retired key verifies nothing from the next poll on, and cannot join again. Which key signs is
//! derived from the rows and the time, so all nodes agree without asking each other.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::access_token::{AccessKey, Cache, Claims, NewClaims};
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result, StoreError};
use crate::id::{SessionId, TokenId};
use crate::policy::Policy;
use crate::store::{Store, Write};

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
    /// PKCS#8 DER of a private key, or the bytes of a secret. Empty for a retired key, which is
    /// kept to bar it from joining again.
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

/// Which key signs access tokens.
#[derive(Clone, Default)]
pub struct KeyConfig {
    /// How access tokens are signed.
    pub algorithm: Algorithm,
    /// The operator's own key: a secret for HS256, else a private key in PKCS#8 DER. Without one a
    /// key is made and kept in the store.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for KeyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyConfig")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Refuses secrets that can be guessed.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_secret(secret: &[u8]) -> Result<(), KeyError> {
    const SAMPLES: [&str; 9] = [
        "secret",
        "changeme",
        "change-me",
        "change_me",
        "password",
        "example",
        "your-256-bit",
        "super-secret",
        "0123456789",
    ];
    if secret.len() < 32 {
        return Err(KeyError(
            "the secret is shorter than 32 bytes; make one with: openssl rand -hex 32",
        ));
    }
    let lower = String::from_utf8_lossy(secret).to_lowercase();
    let mut seen = [false; 256];
    for byte in secret {
        seen[usize::from(*byte)] = true;
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    if distinct < 8 || SAMPLES.iter().any(|sample| lower.contains(sample)) {
        return Err(KeyError(
            "the secret is a sample or can be guessed; make one with: openssl rand -hex 32",
        ));
    }
    Ok(())
}

/// The keys of a store, ready to sign and verify. Cheap to read, swapped as a whole.
pub struct KeyRing {
    ring: ArcSwap<Ring>,
    cache: Cache,
    algorithm: Algorithm,
    configured: Option<KeyId>,
    env: Arc<dyn Env>,
}

#[derive(Default)]
struct Ring {
    rows: Vec<StoredKey>,
    access: Vec<Arc<AccessKey>>,
    refresh: Vec<Arc<RefreshKey>>,
}

impl KeyRing {
    /// Loads the ring, and makes the first keys where there are none. Processes that race agree,
    /// since a store takes only one first key of a purpose.
    ///
    /// # Errors
    /// The configured key is weak, malformed or was retired; or the store did not answer.
    pub async fn open(
        store: &dyn Store,
        config: KeyConfig,
        env: Arc<dyn Env>,
    ) -> Result<Self, RingError> {
        let now = env.now();
        let first = new_key(Purpose::Refresh, Algorithm::HS256, now, now, &*env)?;
        let _ = store.add_key(first, true).await?;
        let configured = match config.key {
            Some(secret) => Some(join(store, config.algorithm, &secret, now).await?),
            None => None,
        };
        let ring = KeyRing {
            ring: ArcSwap::default(),
            cache: Cache::default(),
            algorithm: config.algorithm,
            configured,
            env,
        };
        ring.reload(store).await?;
        if configured.is_none() && ring.signing_key(now).is_err() {
            let key = new_key(Purpose::Access, config.algorithm, now, now, &*ring.env)?;
            let _ = store
                .add_key(key, ring.ring.load().access.is_empty())
                .await?;
            ring.reload(store).await?;
        }
        Ok(ring)
    }

    /// Takes over what the store has now. Rows that cannot be read are ignored.
    ///
    /// # Errors
    /// The store did not answer; the ring stays as it was.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), StoreError> {
        let rows = store.keys().await?;
        if rows != self.ring.load().rows {
            self.ring.store(Arc::new(Ring::of(rows)));
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
        let id = ring
            .signing(Purpose::Refresh, now)
            .ok_or(Error::StoreUnavailable)?;
        ring.refresh_key(id).ok_or(Error::StoreUnavailable)
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

    fn signing_key(&self, now: Timestamp) -> Result<Arc<AccessKey>> {
        let ring = self.ring.load();
        let id = self
            .configured
            .or_else(|| ring.signing_access(self.algorithm, now));
        let key = id.and_then(|id| ring.access.iter().find(|key| key.id() == id));
        key.cloned().ok_or(Error::StoreUnavailable)
    }

    /// Verifies an access token: form, signature, type, issuer, audience, times. Not whether its
    /// session ended.
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
        let ring = self.ring.load();
        let key = ring.access.iter().find(|key| key.made(token));
        let key = key.ok_or(Error::TokenInvalid)?;
        // A MAC is cheaper than looking the token up.
        let cached = key.is_asymmetric().then(|| self.cache.find(token));
        if let Some(claims) = cached.flatten() {
            return Ok(claims);
        }
        let claims = key.verify(token, policy)?;
        if key.is_asymmetric() {
            self.cache.keep(token, &claims);
        }
        Ok(claims)
    }

    /// Adds a key that will sign once every node knows it.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn rotate(&self, store: &dyn Store, purpose: Purpose) -> Result<KeyId, RingError> {
        let now = self.env.now();
        let algorithm = match purpose {
            Purpose::Access => self.algorithm,
            Purpose::Refresh => Algorithm::HS256,
        };
        let key = new_key(purpose, algorithm, now, now + PUBLISH_DELAY, &*self.env)?;
        let id = key.id;
        let _ = store.add_key(key, false).await?;
        self.reload(store).await?;
        Ok(id)
    }

    /// Drops a key at once, for logout too. If it was the one that signs, another takes its place.
    ///
    /// # Errors
    /// No such key, or the store did not answer.
    pub async fn retire(&self, store: &dyn Store, id: KeyId) -> Result<(), RingError> {
        self.reload(store).await?;
        let row = self.rows().into_iter().find(|row| row.id == id);
        let row = row.ok_or(KeyError("no key with this id; `keys list` shows them"))?;
        let purpose = row.purpose;
        let _ = store
            .update_key(StoredKey {
                secret: [].into(),
                retired: true,
                ..row
            })
            .await?;
        self.reload(store).await?;
        let now = self.env.now();
        let signs = match purpose {
            Purpose::Access => self.signing_key(now).is_ok(),
            Purpose::Refresh => self.current_refresh(now).is_ok(),
        };
        if !signs && self.configured != Some(id) {
            let algorithm = if purpose == Purpose::Access {
                self.algorithm
            } else {
                Algorithm::HS256
            };
            let _ = store
                .add_key(new_key(purpose, algorithm, now, now, &*self.env)?, false)
                .await?;
            self.reload(store).await?;
        }
        Ok(())
    }

    /// Removes keys whose last token was over a longest session ago.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn prune(&self, store: &dyn Store, policy: &Policy) -> Result<(), StoreError> {
        let now = self.env.now();
        let ring = self.ring.load_full();
        for id in ring.outlived(now - policy.session_ttl - policy.revocation_span()) {
            let _ = store.remove_key(id).await?;
        }
        Ok(())
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
    fn of(rows: Vec<StoredKey>) -> Ring {
        let live = |purpose| {
            rows.iter()
                .filter(move |row| row.purpose == purpose && !row.retired)
        };
        let access = live(Purpose::Access).filter_map(|row| AccessKey::of(row).ok().map(Arc::new));
        let refresh =
            live(Purpose::Refresh).map(|row| Arc::new(RefreshKey::new(row.id, &row.secret)));
        Ring {
            access: access.collect(),
            refresh: refresh.collect(),
            rows,
        }
    }

    fn refresh_key(&self, id: KeyId) -> Option<Arc<RefreshKey>> {
        self.refresh.iter().find(|key| key.id() == id).cloned()
    }

    /// The newest key that may sign at `now`; before the very first one's time, that one.
    fn signing(&self, purpose: Purpose, now: Timestamp) -> Option<KeyId> {
        newest(
            self.rows
                .iter()
                .filter(|row| row.purpose == purpose && !row.retired),
            now,
        )
    }

    fn signing_access(&self, algorithm: Algorithm, now: Timestamp) -> Option<KeyId> {
        let fits = |row: &&StoredKey| {
            row.purpose == Purpose::Access && !row.retired && *row.algorithm == *algorithm.name()
        };
        newest(self.rows.iter().filter(fits), now)
    }

    /// Keys, retired ones too, that were superseded before `long_ago`.
    fn outlived(&self, long_ago: Timestamp) -> Vec<KeyId> {
        let superseded = |old: &StoredKey| {
            self.rows.iter().any(|new| {
                new.purpose == old.purpose
                    && new.algorithm == old.algorithm
                    && new.signs_from > old.signs_from
                    && new.signs_from < long_ago
            })
        };
        self.rows
            .iter()
            .filter(|row| superseded(row))
            .map(|row| row.id)
            .collect()
    }
}

fn newest<'a>(rows: impl Iterator<Item = &'a StoredKey> + Clone, now: Timestamp) -> Option<KeyId> {
    let order = |row: &&StoredKey| (row.signs_from, row.id);
    let signing = rows
        .clone()
        .filter(|row| row.signs_from <= now)
        .max_by_key(order);
    signing.or_else(|| rows.min_by_key(order)).map(|row| row.id)
}

/// Publishes the operator's own key, so that every process on the store verifies its tokens.
async fn join(
    store: &dyn Store,
    algorithm: Algorithm,
    secret: &[u8],
    now: Timestamp,
) -> Result<KeyId, RingError> {
    if algorithm == Algorithm::HS256 {
        check_secret(secret)?;
    }
    let digest = Sha256::new()
        .chain_update(b"doorward key id")
        .chain_update(secret)
        .finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    let id = KeyId(u64::from_be_bytes(id));
    let row = StoredKey {
        id,
        purpose: Purpose::Access,
        algorithm: algorithm.name().into(),
        secret: secret.into(),
        created_at: now,
        signs_from: now,
        retired: false,
    };
    AccessKey::of(&row)?;
    if store.add_key(row, false).await? == Write::Lost
        && store
            .keys()
            .await?
            .iter()
            .any(|row| row.id == id && row.retired)
    {
        return Err(KeyError("the configured key was retired; configure another one").into());
    }
    Ok(id)
}

fn new_key(
    purpose: Purpose,
    algorithm: Algorithm,
    now: Timestamp,
    signs_from: Timestamp,
    env: &dyn Env,
) -> Result<StoredKey, KeyError> {
    let mut id = [0; 8];
    env.fill(&mut id);
    Ok(StoredKey {
        id: KeyId(u64::from_be_bytes(id)),
        purpose,
        algorithm: algorithm.name().into(),
        secret: AccessKey::generate(algorithm, env)?,
        created_at: now,
        signs_from,
        retired: false,
    })
}

/// The MAC key behind refresh tokens.
pub struct RefreshKey {
    id: KeyId,
    ids: Hmac<Sha256>,
    tokens: Hmac<Sha256>,
}

impl RefreshKey {
    /// Derives the two labelled keys.
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
