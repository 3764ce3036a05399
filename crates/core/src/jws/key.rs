//! Keys of foreign tokens: each is made for one algorithm, and is refused where it is of another kind.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    RsaKeyPair, RsaSignatureEncoding, RsaSubjectPublicKey, VerificationAlgorithm,
};
use hmac::digest::{KeyInit, Output};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::pem::{Label, Pem};
use super::{Algorithm, Fault, Refused, Sha};

/// A key that makes tokens of one algorithm.
pub struct SigningKey(Signs);

enum Signs {
    Hmac(Box<Secret>),
    Rsa(RsaKeyPair, &'static RsaSignatureEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Elsewhere,
}

/// A key that verifies tokens of one algorithm.
pub struct VerifyingKey(Verifies);

enum Verifies {
    Hmac(Box<Secret>),
    Public(ParsedPublicKey),
    Elsewhere,
}

/// Whether a signature is the key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Signed,
    /// It is not.
    Forged,
    /// The key is an RSA key that is too short for the crypto library here.
    TooShort,
}

impl SigningKey {
    /// The key of a secret, or of a private key in PEM.
    ///
    /// # Errors
    /// It is no key of this algorithm.
    pub fn of(algorithm: Algorithm, key: &[u8]) -> Result<SigningKey, Refused> {
        if let Algorithm::Hs(sha) = algorithm {
            return Secret::of(sha, key).map(|secret| SigningKey(Signs::Hmac(Box::new(secret))));
        }
        let pem = Pem::read(key)?;
        if !pem.label.is_private() {
            return Err(Fault::InvalidKey.with("A private key is needed to sign."));
        }
        let signs = match (algorithm.curve(), algorithm.rsa()) {
            (Some((curve, _)), _) => pem.ec(curve).map(Signs::Ec),
            (_, Some(rsa)) => match pem.rsa() {
                Err(why) if is_too_short(&why) => Ok(Signs::Elsewhere),
                pair => pair.map(|pair| Signs::Rsa(pair, rsa.signs)),
            },
            _ => pem.ed25519().map(Signs::Ed25519),
        };
        signs
            .map(SigningKey)
            .map_err(|_| of_another_kind(algorithm))
    }

    /// Whether a signature takes long, as RSA's do: about half a millisecond.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        matches!(self.0, Signs::Rsa(..))
    }

    /// The signature; `None`: by a library that signs with RSA keys as short as this one.
    ///
    /// # Errors
    /// The crypto library failed.
    pub fn sign(&self, signed: &str) -> Result<Option<Vec<u8>>, Refused> {
        let input = signed.as_bytes();
        let random = SystemRandom::new();
        let made = match &self.0 {
            Signs::Hmac(secret) => Ok(secret.sign(input)),
            Signs::Rsa(pair, encoding) => {
                let mut made = vec![0; pair.public_modulus_len()];
                let done = pair.sign(*encoding, &random, input, &mut made);
                done.map(|()| made)
            }
            Signs::Ec(pair) => pair.sign(&random, input).map(|made| made.as_ref().to_vec()),
            Signs::Ed25519(pair) => pair.try_sign(input).map(|made| made.as_ref().to_vec()),
            Signs::Elsewhere => return Ok(None),
        };
        made.map(Some)
            .map_err(|_| Fault::InvalidKey.with("The key could not sign."))
    }
}

impl VerifyingKey {
    /// The key of a secret, or of a public or private key in PEM.
    ///
    /// # Errors
    /// It is no key of this algorithm.
    pub fn of(algorithm: Algorithm, key: &[u8]) -> Result<VerifyingKey, Refused> {
        if let Algorithm::Hs(sha) = algorithm {
            return Secret::of(sha, key)
                .map(|secret| VerifyingKey(Verifies::Hmac(Box::new(secret))));
        }
        let pem = Pem::read(key)?;
        let verifies = match (algorithm.curve(), algorithm.rsa()) {
            (Some((signs, verifies)), _) => {
                let point = |pair: EcdsaKeyPair| pair.public_key().as_ref().to_vec();
                pem.public(|pem| pem.ec(signs).map(point))
                    .and_then(|key| public(verifies, &key))
            }
            (_, Some(rsa)) => match pem.rsa_public() {
                Err(why) if is_too_short(&why) => Ok(Verifies::Elsewhere),
                Err(why) => Err(why),
                Ok(key) if bits(&key) >= 2048 => public(rsa.verifies, key.as_ref()),
                Ok(key) => match rsa.verifies_small {
                    Some(small) if bits(&key) >= 1024 => public(small, key.as_ref()),
                    _ => Ok(Verifies::Elsewhere),
                },
            },
            _ => {
                let bytes = |pair: Ed25519KeyPair| pair.public_key().as_ref().to_vec();
                pem.public(|pem| pem.ed25519().map(bytes))
                    .and_then(|key| public(&ED25519, &key))
            }
        };
        verifies
            .map(VerifyingKey)
            .map_err(|_| of_another_kind(algorithm))
    }

    pub(super) fn verify(&self, signed: &[u8], signature: &[u8]) -> Verdict {
        let good = match &self.0 {
            Verifies::Hmac(secret) => secret.verify(signed, signature),
            Verifies::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Verifies::Elsewhere => return Verdict::TooShort,
        };
        if good {
            Verdict::Signed
        } else {
            Verdict::Forged
        }
    }
}

/// The private key of a PEM, as PKCS#8 (RFC 5958): what [`crate::keys::KeyConfig`] takes.
///
/// # Errors
/// It is no private key of this algorithm.
pub fn pkcs8(algorithm: Algorithm, pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let pem = Pem::read(pem)?;
    let der = match (pem.label, algorithm.curve()) {
        (Label::Pkcs8, _) => Some(pem.der.into()),
        (Label::RsaPrivate, None) => pem.rsa().ok().and_then(|pair| {
            let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
            Some(der.as_ref().to_vec().into())
        }),
        (Label::EcPrivate, Some((curve, _))) => pem.ec(curve).ok().and_then(|pair| {
            let der = pair.to_pkcs8v1().ok()?;
            Some(der.as_ref().to_vec().into())
        }),
        _ => None,
    };
    der.ok_or_else(|| of_another_kind(algorithm))
}

fn public(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Result<Verifies, KeyRejected> {
    ParsedPublicKey::new(algorithm, key).map(Verifies::Public)
}

/// Some makers of keys multiply primes whose product is a bit shorter than asked for: 2,047 bits are
/// 256 bytes, and too short for the crypto library.
fn bits(key: &RsaSubjectPublicKey) -> usize {
    let modulus = key.modulus();
    let bytes = modulus.big_endian_without_leading_zero();
    let unused = bytes.first().map_or(0, |byte| byte.leading_zeros());
    bytes.len() * 8 - unused as usize
}

/// The crypto library tells reasons apart by their names only.
fn is_too_short(why: &KeyRejected) -> bool {
    why.description_() == "TooSmall"
}

fn of_another_kind(algorithm: Algorithm) -> Refused {
    Fault::InvalidKey.with(match algorithm {
        Algorithm::EdDsa => "The key is no Ed25519 key; Ed448 is not supported.",
        _ => "The key is not one of the algorithm's kind and curve.",
    })
}

impl Pem {
    fn rsa(&self) -> Result<RsaKeyPair, KeyRejected> {
        match self.label {
            Label::RsaPrivate => RsaKeyPair::from_der(&self.der),
            _ => RsaKeyPair::from_pkcs8(&self.der),
        }
    }

    fn rsa_public(&self) -> Result<RsaSubjectPublicKey, KeyRejected> {
        if self.label.is_private() {
            let pair = self.rsa()?;
            return RsaSubjectPublicKey::from_der(pair.public_key().as_ref());
        }
        RsaSubjectPublicKey::from_der(&self.der)
    }

    fn ec(
        &self,
        curve: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm,
    ) -> Result<EcdsaKeyPair, KeyRejected> {
        match self.label {
            Label::EcPrivate => EcdsaKeyPair::from_private_key_der(curve, &self.der),
            _ => EcdsaKeyPair::from_pkcs8(curve, &self.der),
        }
    }

    fn ed25519(&self) -> Result<Ed25519KeyPair, KeyRejected> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.der)
    }

    /// The public key: of the private one, where it is one.
    fn public(
        &self,
        of_private: impl Fn(&Pem) -> Result<Vec<u8>, KeyRejected>,
    ) -> Result<Vec<u8>, KeyRejected> {
        if self.label.is_private() {
            of_private(self)
        } else {
            Ok(self.der.clone())
        }
    }
}

/// An HMAC key, its first block hashed.
enum Secret {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl Secret {
    fn of(sha: Sha, key: &[u8]) -> Result<Secret, Refused> {
        check_secret(key)?;
        match sha {
            Sha::Sha256 => Hmac::new_from_slice(key).map(Secret::Sha256),
            Sha::Sha384 => Hmac::new_from_slice(key).map(Secret::Sha384),
            Sha::Sha512 => Hmac::new_from_slice(key).map(Secret::Sha512),
        }
        .map_err(|_| of_another_kind(Algorithm::Hs(sha)))
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        match self {
            Secret::Sha256(key) => mac(key, signed).to_vec(),
            Secret::Sha384(key) => mac(key, signed).to_vec(),
            Secret::Sha512(key) => mac(key, signed).to_vec(),
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Secret::Sha256(key) => mac(key, signed).ct_eq(signature).into(),
            Secret::Sha384(key) => mac(key, signed).ct_eq(signature).into(),
            Secret::Sha512(key) => mac(key, signed).ct_eq(signature).into(),
        }
    }
}

fn mac<M: Mac + Clone>(key: &M, signed: &[u8]) -> Output<M> {
    key.clone().chain_update(signed).finalize().into_bytes()
}

/// A public key as a secret is how algorithms get confused: everybody knows it.
fn check_secret(key: &[u8]) -> Result<(), Refused> {
    if key.is_empty() {
        Err(Fault::InvalidKey.with("HMAC key must not be empty."))
    } else if is_pem(key) || is_ssh(key) || is_der(key) {
        Err(Fault::InvalidKey.with(
            "The specified key is an asymmetric key or x509 certificate and should not be used as \
             an HMAC secret.",
        ))
    } else if is_jwk(key) {
        Err(Fault::InvalidKey.with(
            "The specified key looks like a JWK and should not be used directly as an HMAC secret. \
             Load it via PyJWK / HMACAlgorithm.from_jwk first.",
        ))
    } else {
        Ok(())
    }
}

fn is_pem(key: &[u8]) -> bool {
    let has = |marker: &[u8]| key.windows(marker.len()).any(|window| window == marker);
    has(b"-----BEGIN ") || has(b"---- BEGIN ")
}

fn is_ssh(key: &[u8]) -> bool {
    let formats: [&[u8]; 4] = [b"ssh-ed25519", b"ssh-rsa", b"ssh-dss", b"ecdsa-sha2-nistp"];
    formats.iter().any(|format| key.starts_with(format))
}

/// A public key or a certificate in DER: a sequence (0x30) as long as it says.
fn is_der(key: &[u8]) -> bool {
    const CERTIFICATE: usize = 256;
    let curves: [&'static dyn VerificationAlgorithm; 5] = [
        &ECDSA_P256_SHA256_FIXED,
        &ECDSA_P384_SHA384_FIXED,
        &ECDSA_P521_SHA512_FIXED,
        &ECDSA_P256K1_SHA256_FIXED,
        &ED25519,
    ];
    let [0x30, second, high, low, rest @ ..] = key else {
        return false;
    };
    let says = usize::from(u16::from_be_bytes([*high, *low]));
    let is_long = *second == 0x82 && says == rest.len() && says >= CERTIFICATE;
    // 32 bytes would be read as a bare Ed25519 key; so any secret of that length would.
    let is_key = |curve| key.len() != 32 && ParsedPublicKey::new(curve, key).is_ok();
    is_long || RsaSubjectPublicKey::from_der(key).is_ok() || curves.into_iter().any(is_key)
}

fn is_jwk(key: &[u8]) -> bool {
    match serde_json::from_slice(key) {
        Ok(value) => has_key_type(&value),
        Err(_) => key.starts_with(b"{") && key.windows(5).any(|window| window == b"\"kty\""),
    }
}

fn has_key_type(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key("kty") || fields.values().any(has_key_type),
        Value::Array(values) => values.iter().any(has_key_type),
        _ => false,
    }
}
