//! Signed JSON Web Tokens of foreign making (RFC 7515, 7519): for apps that move over.
//!
//! Doorward's own tokens are matched by their whole header ([`crate::access_token`]). Here a header
//! is read, so this path is stricter about everything else: the caller names the algorithms, the key
//! must be of the algorithm's kind, `none` does not exist, critical extensions are refused, base64url
//! and JSON have one form. Refusals are worded as `PyJWT` words them, since clients see those texts.
//!
//! What is left out: encryption, detached payloads, JWK, and Ed448, which no vetted crate here has.

mod claims;
mod ids;
mod key;
mod pem;

use std::borrow::Cow;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED,
    ECDSA_P256K1_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaSigningAlgorithm,
    EcdsaVerificationAlgorithm, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaParameters, RsaSignatureEncoding,
};
use base64_simd::URL_SAFE_NO_PAD as BASE64URL;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use claims::{Claims, Rules};
pub use ids::random_uuids;
pub use key::{SigningKey, Verdict, VerifyingKey, pkcs8};

/// A signature algorithm (RFC 7518, 8037, 8812).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC.
    Hs(Sha),
    /// RSASSA-PKCS1-v1_5.
    Rs(Sha),
    /// RSASSA-PSS, its salt as long as the hash.
    Ps(Sha),
    /// ECDSA over the NIST curve that goes with the hash.
    Es(Sha),
    /// ECDSA over secp256k1 with SHA-256.
    Es256k,
    /// Ed25519.
    EdDsa,
}

/// Which SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Sha {
    Sha256,
    Sha384,
    Sha512,
}

const NAMES: [(&str, Algorithm); 15] = [
    ("HS256", Algorithm::Hs(Sha::Sha256)),
    ("HS384", Algorithm::Hs(Sha::Sha384)),
    ("HS512", Algorithm::Hs(Sha::Sha512)),
    ("RS256", Algorithm::Rs(Sha::Sha256)),
    ("RS384", Algorithm::Rs(Sha::Sha384)),
    ("RS512", Algorithm::Rs(Sha::Sha512)),
    ("PS256", Algorithm::Ps(Sha::Sha256)),
    ("PS384", Algorithm::Ps(Sha::Sha384)),
    ("PS512", Algorithm::Ps(Sha::Sha512)),
    ("ES256", Algorithm::Es(Sha::Sha256)),
    ("ES384", Algorithm::Es(Sha::Sha384)),
    ("ES512", Algorithm::Es(Sha::Sha512)),
    // What `PyJWT` called ES512 at first.
    ("ES521", Algorithm::Es(Sha::Sha512)),
    ("ES256K", Algorithm::Es256k),
    ("EdDSA", Algorithm::EdDsa),
];

impl Algorithm {
    /// The algorithm of a JOSE name.
    #[must_use]
    pub fn named(name: &str) -> Option<Algorithm> {
        let mut names = NAMES.iter();
        names
            .find(|(known, _)| *known == name)
            .map(|(_, algorithm)| *algorithm)
    }

    /// Its JOSE name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let mut names = NAMES.iter();
        names
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }

    fn curve(
        self,
    ) -> Option<(
        &'static EcdsaSigningAlgorithm,
        &'static EcdsaVerificationAlgorithm,
    )> {
        match self {
            Algorithm::Es(Sha::Sha256) => {
                Some((&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_FIXED))
            }
            Algorithm::Es(Sha::Sha384) => {
                Some((&ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED))
            }
            Algorithm::Es(Sha::Sha512) => {
                Some((&ECDSA_P521_SHA512_FIXED_SIGNING, &ECDSA_P521_SHA512_FIXED))
            }
            Algorithm::Es256k => Some((
                &ECDSA_P256K1_SHA256_FIXED_SIGNING,
                &ECDSA_P256K1_SHA256_FIXED,
            )),
            _ => None,
        }
    }

    fn rsa(self) -> Option<Rsa> {
        let (signs, verifies): (_, &'static RsaParameters) = match self {
            Algorithm::Rs(Sha::Sha256) => (&RSA_PKCS1_SHA256, &RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs(Sha::Sha384) => (&RSA_PKCS1_SHA384, &RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs(Sha::Sha512) => (&RSA_PKCS1_SHA512, &RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps(Sha::Sha256) => (&RSA_PSS_SHA256, &RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps(Sha::Sha384) => (&RSA_PSS_SHA384, &RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps(Sha::Sha512) => (&RSA_PSS_SHA512, &RSA_PSS_2048_8192_SHA512),
            _ => return None,
        };
        let verifies_small: Option<&'static RsaParameters> = match self {
            Algorithm::Rs(Sha::Sha256) => Some(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
            Algorithm::Rs(Sha::Sha512) => Some(&RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
            _ => None,
        };
        Some(Rsa {
            signs,
            verifies,
            verifies_small,
        })
    }
}

/// What the crypto library calls an RSA algorithm.
struct Rsa {
    signs: &'static RsaSignatureEncoding,
    verifies: &'static RsaParameters,
    /// The same for keys of 1,024 bits and more, where there is one.
    verifies_small: Option<&'static RsaParameters>,
}

/// Why a token, key or algorithm is refused, in the words that clients may see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// What kind of fault it is.
    pub fault: Fault,
    /// For [`Fault::MissingClaim`] the claim, else the text.
    pub text: Cow<'static, str>,
}

/// The faults that `PyJWT` tells apart; those of a bad signature and of an expired token are the
/// caller's to state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its exception")]
pub enum Fault {
    Decode,
    /// The header is no JSON object; a kind of [`Fault::Decode`], whose words are the parser's.
    Header,
    InvalidToken,
    InvalidAlgorithm,
    InvalidKey,
    InvalidIssuedAt,
    Immature,
    InvalidAudience,
    InvalidIssuer,
    InvalidSubject,
    InvalidTokenId,
    MissingClaim,
}

impl Fault {
    fn with(self, text: impl Into<Cow<'static, str>>) -> Refused {
        Refused {
            fault: self,
            text: text.into(),
        }
    }
}

/// A token taken apart; nothing of it is verified.
pub struct Jws<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Option<Value>,
    header: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a compact token apart.
    ///
    /// # Errors
    /// It is malformed, or its header asks for what is not supported.
    pub fn read(token: &'a str) -> Result<Jws<'a>, Refused> {
        const SEGMENTS: &str = "Not enough segments";
        let parts = token.rsplit_once('.');
        let (signed, signature) = parts.ok_or(Fault::Decode.with(SEGMENTS))?;
        let parts = signed.split_once('.');
        let (header, payload) = parts.ok_or(Fault::Decode.with(SEGMENTS))?;
        let header = decode(header, "header")?;
        let fields = Header::read(&header)?;
        if fields.is_detached() && !payload.is_empty() {
            const DETACHED: &str = "Payload segment must be empty when 'b64' is false.";
            return Err(Fault::Decode.with(DETACHED));
        }
        let payload = decode(payload, "payload")?;
        let signature = decode(signature, "crypto")?;
        fields.check()?;
        Ok(Jws {
            signed,
            signature,
            algorithm: fields.alg,
            header,
            payload,
        })
    }

    /// The algorithm that the token claims, if it is among `allowed`.
    ///
    /// # Errors
    /// It is not, or there is no such algorithm.
    pub fn algorithm(&self, allowed: &[String]) -> Result<Algorithm, Refused> {
        let claimed = self.algorithm.as_ref();
        let claimed = claimed.ok_or(Fault::InvalidAlgorithm.with("Algorithm not specified"))?;
        let name = claimed
            .as_str()
            .filter(|name| allowed.iter().any(|allowed| allowed == name));
        let name =
            name.ok_or(Fault::InvalidAlgorithm.with("The specified alg value is not allowed"))?;
        Algorithm::named(name).ok_or(Fault::InvalidAlgorithm.with("Algorithm not supported"))
    }

    /// Whether `key` made the signature.
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifyingKey) -> Verdict {
        key.verify(self.signed.as_bytes(), &self.signature)
    }

    /// What is signed, and the signature.
    #[must_use]
    pub fn signed(&self) -> (&'a str, &[u8]) {
        (self.signed, &self.signature)
    }

    /// The header and the payload, both JSON.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        (self.header, self.payload)
    }
}

/// A token of what is signed and its signature.
#[must_use]
pub fn token(mut signed: String, signature: &[u8]) -> String {
    signed.push('.');
    BASE64URL.encode_append(signature, &mut signed);
    signed
}

/// What is signed of a new token: header and payload, both JSON. With room for the signature.
#[must_use]
pub fn to_be_signed(header: &[u8], payload: &[u8]) -> String {
    // RSA signatures are the longest of the usual ones: 342 characters for 2,048 bits.
    let mut signed = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 360);
    BASE64URL.encode_append(header, &mut signed);
    signed.push('.');
    BASE64URL.encode_append(payload, &mut signed);
    signed
}

/// The header fields that are understood (RFC 7515, 4.1; RFC 7797).
#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "present")]
    alg: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<Value>,
}

/// `null` is a value, not absence.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, Refused> {
        object(bytes).ok_or_else(|| {
            let why = match serde_json::from_slice::<Value>(bytes) {
                Ok(Value::Object(_)) => "a field is given twice".into(),
                Ok(_) => "must be a json object".into(),
                Err(why) => why.to_string(),
            };
            Fault::Header.with(format!("Invalid header string: {why}"))
        })
    }

    fn is_detached(&self) -> bool {
        self.b64 == Some(Value::Bool(false))
    }

    fn check(&self) -> Result<(), Refused> {
        let refused = |text: &'static str| Err(Fault::InvalidToken.with(text));
        if self.kid.as_ref().is_some_and(|kid| !kid.is_string()) {
            return refused("Key ID header parameter must be a string");
        }
        if let Some(critical) = &self.crit {
            self.check_critical(critical)?;
        }
        if !self.is_detached() {
            return Ok(());
        }
        if self.crit.is_none() {
            return refused("The 'b64' header parameter requires 'b64' to be listed in 'crit'.");
        }
        Err(Fault::Decode.with(
            "It is required that you pass in a value for the \"detached_payload\" argument to \
             decode a message having the b64 header set to false.",
        ))
    }

    /// Only `b64` is understood, and only as true.
    fn check_critical(&self, critical: &Value) -> Result<(), Refused> {
        let names = critical.as_array().filter(|names| !names.is_empty());
        let names = names
            .ok_or(Fault::InvalidToken.with("Invalid 'crit' header: must be a non-empty list"))?;
        for name in names {
            match name.as_str() {
                None => {
                    return Err(
                        Fault::InvalidToken.with("Invalid 'crit' header: values must be strings")
                    );
                }
                Some("b64") if self.b64.is_some() => {}
                Some("b64") => {
                    return Err(Fault::InvalidToken
                        .with("Critical extension 'b64' is missing from headers"));
                }
                Some(other) => {
                    return Err(Fault::InvalidToken
                        .with(format!("Unsupported critical extension: {other}")));
                }
            }
        }
        Ok(())
    }
}

/// On its own, serde would take an array for the object, and skip the values of unknown fields without
/// a look at their UTF-8 and surrogates. A known field that is given twice is refused.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let text = std::str::from_utf8(json).ok()?;
    let is_object = text
        .trim_start_matches([' ', '\t', '\n', '\r'])
        .starts_with('{');
    let is_read = !text.contains('\\') || serde_json::from_str::<Value>(text).is_ok();
    serde_json::from_str(text)
        .ok()
        .filter(|_| is_object && is_read)
}

/// The JSON of a token's header, if it is base64url.
#[must_use]
pub fn header_of(token: &str) -> Option<Vec<u8>> {
    let (header, _) = token.split_once('.')?;
    decode(header, "header").ok()
}

/// Base64url in its one form; padding is accepted where it is right.
fn decode(segment: &str, name: &str) -> Result<Vec<u8>, Refused> {
    let text = segment.trim_end_matches('=');
    let padding = segment.len() - text.len();
    let padded_well = padding == 0 || padding <= 2 && segment.len().is_multiple_of(4);
    let decoded = BASE64URL.decode_to_vec(text).ok().filter(|_| padded_well);
    decoded.ok_or_else(|| Fault::Decode.with(format!("Invalid {name} padding")))
}

#[cfg(test)]
mod tests;
