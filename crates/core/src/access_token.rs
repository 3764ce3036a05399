//! Access tokens: compact JWTs (RFC 7519) that any JOSE library can verify.
//!
//! The header is a constant per key and is matched byte for byte, so that no header field is ever
//! interpreted: no algorithm to confuse, no key to inject. The order of checks is size, header,
//! signature, then the payload: nothing unsigned is parsed. Whether the session ended is asked
//! afterwards, of [`crate::revocation`].

mod cache;
mod low_s;

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair, RsaParameters, RsaSignatureEncoding,
    UnparsedPublicKey,
};
use base64_simd::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::csrf::CsrfValue;
use crate::env::{Env, Timestamp};
use crate::error::{Error, Result};
use crate::id::{SessionId, TokenId, UserId};
use crate::keys::{Algorithm, KeyError, KeyId, StoredKey, hmac_key};
use crate::policy::Policy;

pub(crate) use self::cache::Cache;

/// The longest token that is looked at, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;
/// The longest token that goes by cookie, in bytes: browsers drop a cookie whose name and value have
/// more than 4,096 (RFC 6265bis, section 5.7), and a name has 64 at most.
pub const MAX_IN_COOKIE: usize = 4096 - 64;
/// No token of ours lives longer, in seconds: a day, as in [`Policy::check`].
pub(crate) const MAX_LIFETIME: u64 = 24 * 3600;
/// The most that a host's own claims may take, in bytes of JSON.
pub const MAX_CUSTOM: usize = 1024;

const REGISTERED: [&str; 12] = [
    "sub",
    "sid",
    "jti",
    "iat",
    "nbf",
    "exp",
    "type",
    "fresh",
    "auth_time",
    "iss",
    "aud",
    "csrf",
];

/// What a new token is to say. Times are cut to whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct NewClaims<'a> {
    /// `sub`.
    pub user: &'a UserId,
    /// `sid`.
    pub session: SessionId,
    /// `jti`.
    pub token: TokenId,
    /// `iat`, and `nbf` where [`Policy::nbf`] is on.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `fresh`: until when.
    pub fresh_until: Timestamp,
    /// `auth_time`.
    pub auth_time: Timestamp,
    /// `iss`.
    pub issuer: Option<&'a str>,
    /// `aud`.
    pub audience: Option<&'a str>,
    /// `csrf`, where the double submit is on.
    pub csrf: Option<&'a str>,
    /// Whether there is an `nbf`.
    pub nbf: bool,
    /// Another name for `sub`, beside it.
    pub identity_claim: Option<&'a str>,
    /// The host's own, checked by [`check_custom`].
    pub custom: Option<&'a str>,
}

impl NewClaims<'_> {
    /// The host's own claims are fit to stand beside the others.
    fn check(&self) -> Result<()> {
        self.custom
            .map_or(Ok(()), |custom| check_custom(custom, self.identity_claim))
    }

    fn json(&self) -> String {
        let mut claims = json!({
            "sub": self.user.as_str(),
            "sid": self.session.to_string(),
            "jti": BASE64URL.encode_to_string(self.token.0),
            "iat": self.issued_at.seconds(),
            "exp": self.expires_at.seconds(),
            "type": "access",
            "fresh": self.fresh_until.seconds(),
            "auth_time": self.auth_time.seconds(),
        });
        if self.nbf {
            claims["nbf"] = self.issued_at.seconds().into();
        }
        let user = Some(self.user.as_str());
        for (name, value) in [
            (Some("iss"), self.issuer),
            (Some("aud"), self.audience),
            (Some("csrf"), self.csrf),
            (self.identity_claim, user),
        ] {
            if let (Some(name), Some(value)) = (name, value) {
                claims[name] = value.into();
            }
        }
        let mut text = claims.to_string();
        let custom = self
            .custom
            .map(|custom| custom.trim().trim_start_matches('{'));
        if let Some(rest) = custom.filter(|rest| rest.trim() != "}") {
            text.pop();
            text.push(',');
            text.push_str(rest);
        }
        text
    }
}

/// Whether every token says something of its own by this name.
pub(crate) fn is_registered(name: &str) -> bool {
    REGISTERED.contains(&name)
}

/// Refuses claims that a host may not add: no object, over 1 KiB, a registered name or
/// [`Policy::identity_claim`], a name twice, anything that another JSON parser could stumble over
/// (a lone surrogate, a number past all bounds, 128 levels).
///
/// # Errors
/// [`Error::BadRequest`].
pub fn check_custom(json: &str, identity_claim: Option<&str>) -> Result<()> {
    let short = Some(json).filter(|json| json.len() <= MAX_CUSTOM);
    let names = short.and_then(|json| serde_json::from_str::<Names>(json).ok());
    let names = names.ok_or(Error::BadRequest(
        "claims must be a JSON object of at most 1 KiB",
    ))?;
    let is_taken = |name: &String| is_registered(name) || identity_claim == Some(name);
    if names.0.iter().any(is_taken) {
        return Err(Error::BadRequest("claims must not use a registered name"));
    }
    Ok(())
}

/// The names of an object, each of which must stand once.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Names;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value::<Value>()?;
                    if names.contains(&name) {
                        return Err(serde::de::Error::custom("a name stands twice"));
                    }
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The claims of a verified token. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claims(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    user: UserId,
    session: SessionId,
    issued_at: u64,
    not_before: u64,
    expires_at: u64,
    fresh_until: u64,
    auth_time: u64,
    csrf: Option<CsrfValue>,
    payload: Box<[u8]>,
}

/// The payload as it stands in a token: each registered claim of its exact JSON type.
#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    sub: Cow<'a, str>,
    sid: &'a str,
    #[serde(rename = "jti")]
    _jti: &'a str,
    iat: u64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<u64>,
    exp: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    fresh: u64,
    auth_time: u64,
    #[serde(borrow, default, deserialize_with = "present")]
    iss: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    aud: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    csrf: Option<Text<'a>>,
}

/// A string, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A claim that may be left out, but not be `null`.
fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

impl<'a> Payload<'a> {
    /// On its own, serde would take an array for the object, and skip the values of unknown claims
    /// without a look at their UTF-8 and surrogates.
    fn read(bytes: &'a [u8]) -> Result<Payload<'a>> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::TokenInvalid)?;
        let fits = text.starts_with('{')
            && (!text.contains('\\') || serde_json::from_str::<Value>(text).is_ok());
        let parsed = serde_json::from_str(text).ok().filter(|_| fits);
        parsed.ok_or(Error::TokenInvalid)
    }
}

impl Claims {
    fn parse(payload: Box<[u8]>, policy: &Policy) -> Result<Claims> {
        let parsed = Payload::read(&payload)?;
        let lifetime = parsed
            .exp
            .checked_sub(parsed.iat)
            .ok_or(Error::TokenInvalid)?;
        let fits = parsed.kind == "access"
            && lifetime <= MAX_LIFETIME
            && (parsed.nbf.is_some() || !policy.nbf)
            && parsed.nbf.is_none_or(|begins| begins <= parsed.exp)
            && policy
                .issuer
                .as_deref()
                .is_none_or(|own| parsed.iss.as_ref().is_some_and(|iss| iss.0 == own))
            && policy.audience.as_deref() == parsed.aud.as_ref().map(|aud| &*aud.0);
        if !fits {
            return Err(Error::TokenInvalid);
        }
        let (user, session) = (UserId::new(&parsed.sub), parsed.sid.parse());
        let verified = Verified {
            user: user.map_err(|_| Error::TokenInvalid)?,
            session: session.map_err(|_| Error::TokenInvalid)?,
            issued_at: parsed.iat,
            not_before: parsed.nbf.unwrap_or(parsed.iat),
            expires_at: parsed.exp,
            fresh_until: parsed.fresh,
            auth_time: parsed.auth_time,
            csrf: parsed.csrf.map(|csrf| CsrfValue::new(csrf.0)),
            payload,
        };
        Ok(Claims(Arc::new(verified)))
    }

    /// Leeway for `iat` and `nbf`, and `exp_leeway` for `exp`. A token that was to live longer than the policy
    /// says now does not: the ends of sessions are not remembered for so long.
    pub(crate) fn check_times(&self, now: Timestamp, policy: &Policy) -> Result<()> {
        let earliest = now + policy.leeway();
        let latest = self.issued_at() + policy.access_ttl;
        if self.issued_at() > earliest || time(self.0.not_before) > earliest {
            Err(Error::TokenInvalid)
        } else if now >= self.expires_at().min(latest) + policy.exp_leeway {
            Err(Error::TokenExpired)
        } else {
            Ok(())
        }
    }

    /// `sub`: whose session it is.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// `sid`: which session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.0.session
    }

    /// `iat`.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        time(self.0.issued_at)
    }

    /// `exp`.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        time(self.0.expires_at)
    }

    /// `auth_time`: when a password was last checked.
    #[must_use]
    pub fn auth_time(&self) -> Timestamp {
        time(self.0.auth_time)
    }

    /// `fresh`: until when the last password check counts as fresh.
    #[must_use]
    pub fn fresh_until(&self) -> Timestamp {
        time(self.0.fresh_until)
    }

    /// `csrf`: what an unsafe request whose token came by cookie must repeat, where the double
    /// submit is on.
    #[must_use]
    pub fn csrf(&self) -> Option<&CsrfValue> {
        self.0.csrf.as_ref()
    }

    /// The payload, a JSON object with the registered and the host's own claims.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.0.payload
    }

    /// Reads the host's own claims.
    ///
    /// # Errors
    /// They are not of the form that `T` asks for.
    pub fn custom<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0.payload)
    }
}

/// Times beyond the year 292 million count as that year.
fn time(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// A key that signs and verifies access tokens.
pub(crate) struct AccessKey {
    id: KeyId,
    /// The header of its tokens, in base64url, and the dot after it.
    header: String,
    pair: Pair,
}

enum Pair {
    Hmac(Hmac<Sha256>),
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair, Padding),
}

/// How an RSA signature fills up the modulus (RFC 8017).
#[derive(Clone, Copy)]
enum Padding {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS, its salt as long as the hash.
    Pss,
}

impl Padding {
    fn algorithm(self) -> Algorithm {
        match self {
            Padding::Pkcs1 => Algorithm::RS256,
            Padding::Pss => Algorithm::PS256,
        }
    }

    fn signs(self) -> &'static RsaSignatureEncoding {
        match self {
            Padding::Pkcs1 => &RSA_PKCS1_SHA256,
            Padding::Pss => &RSA_PSS_SHA256,
        }
    }

    fn verifies(self) -> &'static RsaParameters {
        match self {
            Padding::Pkcs1 => &RSA_PKCS1_2048_8192_SHA256,
            Padding::Pss => &RSA_PSS_2048_8192_SHA256,
        }
    }
}

/// Of an RSA key in PKCS#8.
fn rsa(pkcs8: &[u8], padding: Padding) -> Option<Pair> {
    let pair = RsaKeyPair::from_pkcs8(pkcs8).ok();
    pair.filter(|pair| pair.public_modulus_len() >= 256)
        .map(|pair| Pair::Rsa(pair, padding))
}

/// Whether a key in PKCS#8 is an RSA key of fewer than 3,072 bits, which has less than 128 bits of
/// security (NIST SP 800-57, part 1, table 2).
pub(crate) fn is_short_rsa(algorithm: Algorithm, pkcs8: &[u8]) -> bool {
    let is_rsa = matches!(algorithm, Algorithm::RS256 | Algorithm::PS256);
    let pair = is_rsa.then(|| RsaKeyPair::from_pkcs8(pkcs8).ok());
    pair.flatten()
        .is_some_and(|pair| pair.public_modulus_len() < 3072 / 8)
}

impl AccessKey {
    /// The bytes that a store keeps of a new key.
    pub(crate) fn generate(algorithm: Algorithm, env: &dyn Env) -> Result<Box<[u8]>, KeyError> {
        const FAILED: KeyError = KeyError("the key could not be generated");
        let mut seed = [0; 32];
        env.fill(&mut seed);
        let pkcs8 = match algorithm {
            Algorithm::HS256 => return Ok(seed.into()),
            Algorithm::EdDSA => Ed25519KeyPair::from_seed_unchecked(&seed)
                .ok()
                .and_then(|pair| pair.to_pkcs8v1().ok())
                .map(|document| document.as_ref().into()),
            Algorithm::ES256 => {
                let random = SystemRandom::new();
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                    .ok()
                    .map(|document| document.as_ref().into())
            }
            Algorithm::RS256 | Algorithm::PS256 => RsaKeyPair::generate(KeySize::Rsa3072)
                .ok()
                .and_then(|pair| {
                    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
                    let document: Option<Pkcs8V1Der<'_>> = pair.as_der().ok();
                    document.map(|document| document.as_ref().into())
                }),
        };
        pkcs8.ok_or(FAILED)
    }

    /// The key of a row whose secret, opened, is `secret`.
    pub(crate) fn of(row: &StoredKey, secret: &[u8]) -> Result<AccessKey, KeyError> {
        const MALFORMED: KeyError =
            KeyError("the private key is not PKCS#8 of the configured algorithm, or too short");
        let algorithm: Algorithm = row.algorithm.parse()?;
        let pair = match algorithm {
            Algorithm::HS256 => {
                let long_enough = secret.len() >= 32;
                long_enough.then(|| Pair::Hmac(hmac_key(secret)))
            }
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(secret)
                .ok()
                .map(Pair::Ed25519),
            Algorithm::ES256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, secret)
                .ok()
                .map(Pair::P256),
            Algorithm::RS256 => rsa(secret, Padding::Pkcs1),
            Algorithm::PS256 => rsa(secret, Padding::Pss),
        };
        let header = format!(
            r#"{{"alg":"{}","kid":"{}","typ":"JWT"}}"#,
            algorithm.name(),
            row.id
        );
        let header = BASE64URL.encode_to_string(header) + ".";
        Ok(AccessKey {
            id: row.id,
            header,
            pair: pair.ok_or(MALFORMED)?,
        })
    }

    /// What its tokens begin with, to the first dot and with it.
    pub(crate) fn header(&self) -> &str {
        &self.header
    }

    pub(crate) fn is_asymmetric(&self) -> bool {
        !matches!(self.pair, Pair::Hmac(_))
    }

    pub(crate) fn sign(&self, claims: &NewClaims<'_>) -> Result<String> {
        claims.check()?;
        let mut token = self.header.clone();
        token.push_str(&BASE64URL.encode_to_string(claims.json()));
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        token.push_str(&BASE64URL.encode_to_string(signature));
        Ok(token)
    }

    fn signature(&self, input: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Hmac(key) => Ok(key
                .clone()
                .chain_update(input)
                .finalize()
                .into_bytes()
                .to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(input).as_ref().to_vec()),
            Pair::P256(pair) => {
                let made = pair.sign(&random, input);
                made.map(|made| low_s::lowered(made.as_ref().to_vec()))
            }
            Pair::Rsa(pair, padding) => {
                let mut made = vec![0; pair.public_modulus_len()];
                pair.sign(padding.signs(), &random, input, &mut made)
                    .map(|()| made)
            }
        }
        .map_err(|_: aws_lc_rs::error::Unspecified| Error::StoreUnavailable)
    }

    /// Everything but size and times. `token` starts with this key's header.
    pub(crate) fn verify(&self, token: &str, policy: &Policy) -> Result<Claims> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Error::TokenInvalid)?;
        let payload = signed
            .strip_prefix(self.header.as_str())
            .ok_or(Error::TokenInvalid)?;
        let (mut short, long);
        short = [0; SHORT];
        let signature = if let Some(decoded) = decode_short(signature, &mut short) {
            decoded?
        } else {
            long = decode(signature)?;
            &long
        };
        if !self.verifies(signed.as_bytes(), signature) {
            return Err(Error::TokenInvalid);
        }
        Claims::parse(decode(payload)?.into(), policy)
    }

    fn verifies(&self, input: &[u8], signature: &[u8]) -> bool {
        match &self.pair {
            Pair::Hmac(key) => {
                let tag = key.clone().chain_update(input).finalize().into_bytes();
                tag.as_slice().ct_eq(signature).into()
            }
            Pair::Ed25519(pair) => UnparsedPublicKey::new(&ED25519, pair.public_key())
                .verify(input, signature)
                .is_ok(),
            Pair::P256(pair) => {
                low_s::is_low(signature)
                    && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key())
                        .verify(input, signature)
                        .is_ok()
            }
            Pair::Rsa(pair, padding) => {
                UnparsedPublicKey::new(padding.verifies(), pair.public_key())
                    .verify(input, signature)
                    .is_ok()
            }
        }
    }

    /// The public key (RFC 7517, 7518, 8037).
    pub(crate) fn jwk(&self) -> Option<Value> {
        let text = |bytes: &[u8]| BASE64URL.encode_to_string(bytes);
        let (mut jwk, algorithm) = match &self.pair {
            Pair::Hmac(_) => return None,
            Pair::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                (
                    json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
                    Algorithm::EdDSA,
                )
            }
            Pair::P256(pair) => {
                // Uncompressed point: a byte 4, then x and y of 32 bytes each (SEC 1, 2.3.3).
                let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)});
                (jwk, Algorithm::ES256)
            }
            Pair::Rsa(pair, padding) => {
                let key = pair.public_key();
                let n = text(key.modulus().big_endian_without_leading_zero());
                let e = text(key.exponent().big_endian_without_leading_zero());
                (json!({"kty": "RSA", "n": n, "e": e}), padding.algorithm())
            }
        };
        jwk["kid"] = self.id.to_string().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = algorithm.name().into();
        Some(jwk)
    }
}

/// The longest signature that is decoded without memory of its own, in bytes: all but RSA's.
const SHORT: usize = 64;

/// `None`: too long to be short.
fn decode_short<'a>(text: &str, out: &'a mut [u8; SHORT]) -> Option<Result<&'a [u8]>> {
    let fits = text.len() <= (SHORT * 4).div_ceil(3);
    let decode = |out: &'a mut [u8]| {
        let decoded = BASE64URL.decode(text.as_bytes(), base64_simd::Out::from_slice(out));
        decoded
            .map(|decoded| &*decoded)
            .map_err(|_| Error::TokenInvalid)
    };
    fits.then(|| decode(out))
}

fn decode(text: &str) -> Result<Vec<u8>> {
    BASE64URL
        .decode_to_vec(text)
        .map_err(|_| Error::TokenInvalid)
}

#[cfg(test)]
mod tests;
