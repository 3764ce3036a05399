//! Adoption: a refresh token of Flask-JWT-Extended becomes a session at first contact, once.
//!
//! The token acts as the root of its session's row: the row's id and the root's are derived from it, so
//! that a second adoption meets the first one's row, and what the token means from then on follows from
//! the rules of [`crate::session`]. Presented again because an answer was lost, it gets the same child;
//! presented by somebody else later, it ends the session. Stores remember what was adopted for as long
//! as the token would be good: no purge brings it back.
//!
//! Only refresh tokens are adopted, only until a date that must be given, and nothing is ever signed with
//! the old key: whoever has it can make such tokens, which is why it ends. Who the user is and whether
//! the old program had revoked the token is the host's to say.

use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::csrf::CsrfValue;
use crate::env::Timestamp;
use crate::error::{Error, Result};
use crate::id::{SessionId, TokenId, UserId};
use crate::jws::{Algorithm, Claims, Jws, Refused, Rules, Verdict, VerifyingKey};
use crate::keys::{KeyError, KeyId, check_secret};
use crate::policy::Policy;
use crate::refresh_token::RefreshToken;
use crate::session::EndReason;

/// The longest token that is looked at, in bytes: more than fits a cookie.
const MAX_TOKEN: usize = 8 * 1024;

/// What the old program's tokens are.
#[derive(Clone)]
pub struct AdoptionConfig {
    /// What signs them; no other is accepted.
    pub algorithm: Algorithm,
    /// The secret, or a public or private key in PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// From then on none is adopted.
    pub until: Timestamp,
    /// One of these must be their `iss`; `None`: it is not asked.
    pub issuer: Option<Vec<String>>,
    /// One of these must be their `aud`; `None`: it is not asked.
    pub audience: Option<Vec<String>>,
    /// The claim that says whose they are.
    pub identity_claim: String,
    /// What it says.
    pub names: Names,
}

/// What the old program calls a user by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// The id, as that of an account here.
    #[default]
    Ids,
    /// The username.
    Usernames,
}

/// Which foreign tokens become sessions.
pub struct Adoption {
    algorithms: [String; 1],
    key: VerifyingKey,
    until: Timestamp,
    rules: Rules,
    identity_claim: String,
    names: Names,
    weak: Option<KeyError>,
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Adoption");
        shown.field("until", &self.until).finish_non_exhaustive()
    }
}

/// A token that was verified, and may be adopted or was.
#[derive(Clone)]
pub struct Foreign {
    pub(crate) session: SessionId,
    pub(crate) root: TokenId,
    pub(crate) issued_at: Timestamp,
    /// When it is over by itself.
    pub(crate) until: Timestamp,
    subject: UserId,
    names: Names,
    header: Box<str>,
    claims: Box<str>,
    csrf: Option<CsrfValue>,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Foreign");
        shown.field("session", &self.session);
        shown.field("subject", &self.subject);
        shown.finish_non_exhaustive()
    }
}

impl Adoption {
    /// Adoption of tokens by a key that verifies and never signs.
    ///
    /// # Errors
    /// The key is none of the algorithm's.
    pub fn new(config: AdoptionConfig) -> Result<Adoption, Refused> {
        let is_secret = matches!(config.algorithm, Algorithm::Hs(_));
        let weak = is_secret.then(|| check_secret(&config.key).err()).flatten();
        Ok(Adoption {
            algorithms: [config.algorithm.name().to_owned()],
            key: VerifyingKey::of(config.algorithm, &config.key)?,
            until: config.until,
            rules: Rules {
                audience: config.audience,
                issuer: config.issuer,
                leeway: 0.0,
                verify_subject: false,
            },
            identity_claim: config.identity_claim,
            names: config.names,
            weak,
        })
    }

    /// What is wrong with the old secret, if it can be guessed.
    #[must_use]
    pub fn weakness(&self) -> Option<&KeyError> {
        self.weak.as_ref()
    }

    /// From when on nothing is adopted.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// A refresh token that may be adopted at `now`, or was before.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`], and [`Error::SessionEnded`] for one that was good until it expired.
    pub fn read(&self, text: &str, now: Timestamp, policy: &Policy) -> Result<Foreign> {
        if now >= self.until || text.len() > MAX_TOKEN {
            return Err(Error::TokenInvalid);
        }
        let jws = self.verified(text).ok_or(Error::TokenInvalid)?;
        let ids = Ids(jws.signed().0);
        let (header, payload) = jws.into_parts();
        let foreign = self.foreign(&ids, &header, &payload, now);
        let foreign = foreign.ok_or(Error::TokenInvalid)?;
        // Without `exp` its age counts, as that of every session.
        let absolute = foreign.issued_at + policy.session_ttl;
        if now >= foreign.until.min(absolute) {
            return Err(Error::SessionEnded(EndReason::Absolute));
        }
        Ok(foreign)
    }

    fn verified<'a>(&self, text: &'a str) -> Option<Jws<'a>> {
        let jws = Jws::read(text).ok()?;
        jws.algorithm(&self.algorithms).ok()?;
        (jws.is_signed_by(&self.key) == Verdict::Signed).then_some(jws)
    }

    fn foreign(
        &self,
        ids: &Ids<'_>,
        header: &[u8],
        payload: &[u8],
        now: Timestamp,
    ) -> Option<Foreign> {
        let claims = Claims::read(payload)?;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
        claims.check(&self.rules, now.seconds() as f64).ok()?;
        if claims.kind.as_ref()?.as_str()? != "refresh" {
            return None;
        }
        let payload = std::str::from_utf8(payload).ok()?;
        let all: Map<String, Value> = serde_json::from_str(payload).ok()?;
        let issued_at = time(claims.iat.as_ref()?)?;
        let until = match &claims.exp {
            Some(expires) => time(expires)?,
            None => Timestamp(i64::MAX),
        };
        let csrf = claims.csrf.as_ref().and_then(Value::as_str);
        Some(Foreign {
            session: ids.session(issued_at),
            root: ids.root(),
            issued_at,
            until,
            subject: subject(all.get(&self.identity_claim)?)?,
            names: self.names,
            header: std::str::from_utf8(header).ok()?.into(),
            claims: payload.into(),
            csrf: csrf.map(|value| CsrfValue::new(value.into())),
        })
    }
}

impl Foreign {
    /// Whom the token names.
    #[must_use]
    pub fn subject(&self) -> &UserId {
        &self.subject
    }

    /// By what.
    #[must_use]
    pub fn names(&self) -> Names {
        self.names
    }

    /// Its header, JSON.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Its claims, JSON.
    #[must_use]
    pub fn claims(&self) -> &str {
        &self.claims
    }

    /// What a request with it repeats, where the old program asked for a double submit.
    #[must_use]
    pub fn csrf(&self) -> Option<&CsrfValue> {
        self.csrf.as_ref()
    }

    /// When it was made.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// The root of its session's row. It descends from nothing, and no row is behind it.
    pub(crate) fn token(&self) -> RefreshToken {
        RefreshToken {
            key: KeyId(0),
            session: self.session,
            id: self.root,
            parent: TokenId([0; 16]),
            generation: 0,
            issued_at: self.issued_at,
        }
    }
}

/// What the ids of a token's session follow from: what is signed, as signatures of one text may differ.
struct Ids<'a>(&'a str);

impl Ids<'_> {
    fn digest(&self, label: &str) -> [u8; 16] {
        let digest = Sha256::new()
            .chain_update(label)
            .chain_update([0])
            .chain_update(self.0)
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes
    }

    /// In order of time, as all ids of sessions are.
    fn session(&self, issued_at: Timestamp) -> SessionId {
        SessionId::at(issued_at, self.digest("doorward adopted session"))
    }

    fn root(&self) -> TokenId {
        TokenId(self.digest("doorward adopted root"))
    }
}

/// A `NumericDate` since 1970; what comes after its seconds counts for nothing.
fn time(claim: &Value) -> Option<Timestamp> {
    let seconds = claim.as_f64().filter(|seconds| seconds.is_finite())?;
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let seconds = seconds as i64;
    (seconds >= 0).then(|| Timestamp::from_seconds(seconds))
}

/// A text, or a whole number, as old versions wrote them.
fn subject(claim: &Value) -> Option<UserId> {
    match claim {
        Value::String(text) => UserId::new(text).ok(),
        Value::Number(number) if !number.is_f64() => UserId::new(&number.to_string()).ok(),
        _ => None,
    }
}
