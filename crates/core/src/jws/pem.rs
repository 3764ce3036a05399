//! PEM (RFC 7468) as it occurs: text before it, parameters before the key, any line length.

use base64_simd::forgiving_decode_to_vec;

use super::{Fault, Refused};

/// The first block that holds a key.
pub(super) struct Pem {
    pub(super) label: Label,
    pub(super) der: Vec<u8>,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// `PRIVATE KEY`: PKCS#8.
    Pkcs8,
    /// `RSA PRIVATE KEY`: PKCS#1.
    RsaPrivate,
    /// `EC PRIVATE KEY`: SEC 1.
    EcPrivate,
    /// `PUBLIC KEY`: `SubjectPublicKeyInfo`.
    Public,
    /// `RSA PUBLIC KEY`: PKCS#1.
    RsaPublic,
}

const LABELS: [(&str, Label); 5] = [
    ("PRIVATE KEY", Label::Pkcs8),
    ("RSA PRIVATE KEY", Label::RsaPrivate),
    ("EC PRIVATE KEY", Label::EcPrivate),
    ("PUBLIC KEY", Label::Public),
    ("RSA PUBLIC KEY", Label::RsaPublic),
];

impl Label {
    pub(super) fn is_private(self) -> bool {
        !matches!(self, Label::Public | Label::RsaPublic)
    }
}

impl Pem {
    pub(super) fn read(text: &[u8]) -> Result<Pem, Refused> {
        let text = std::str::from_utf8(text).map_err(|_| malformed())?;
        let mut blocks = text.split("-----BEGIN ").skip(1);
        blocks.find_map(block).ok_or_else(malformed)?
    }
}

/// `None`: it holds no key, such as `EC PARAMETERS`.
fn block(after_begin: &str) -> Option<Result<Pem, Refused>> {
    let (label, rest) = after_begin.split_once("-----")?;
    if label == "ENCRYPTED PRIVATE KEY" || rest.contains("ENCRYPTED") {
        return Some(Err(
            Fault::InvalidKey.with("The private key is encrypted; give it without a password.")
        ));
    }
    let (_, kind) = LABELS.iter().find(|(known, _)| *known == label)?;
    let body = rest.split_once("-----END ").map(|(body, _)| body.trim());
    // ASCII whitespace is skipped, as RFC 7468 has it for parsers.
    let der = body.and_then(|body| forgiving_decode_to_vec(body.as_bytes()).ok());
    Some(
        der.map(|der| Pem { label: *kind, der })
            .ok_or_else(malformed),
    )
}

fn malformed() -> Refused {
    Fault::InvalidKey.with("Could not parse the provided key: no PEM with a public or private key.")
}
