//! Keys that everybody knows, since a specification or a documentation prints them. They look random.

use base64_simd::URL_SAFE_NO_PAD;

/// Printed as secrets, in lower case.
const SECRETS: [&str; 3] = [
    // Flask, "Configuration Handling".
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    // FastAPI, "OAuth2 with Password, Bearer with JWT tokens".
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    // RFC 7515, A.1.
    "aym1sysppbydfgzld3umj1qzkobwvmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
];

/// How private keys are known: the first bytes, in base64url, of the private value of an elliptic
/// curve's, or of an RSA key's modulus. Each lies as it is in the key's DER.
const PRIVATE: [(&str, &str); 7] = [
    (
        "RFC 8037, A.1, and RFC 8032, 7.1",
        "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZ",
    ),
    ("RFC 7515, A.3", "jpsQnnGQmL-YBIffH1136cspYG6-0iY7"),
    ("RFC 7517, A.2", "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4B"),
    ("jwt.io, ES256", "evZzL1gdAFr88hb2OF_2NxApJCzGCEDd"),
    ("RFC 7515, A.2", "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAk"),
    ("RFC 7517, A.2", "0vx7agoebGcQSuuPiLJXZptN9nndrQmb"),
    ("jwt.io, RS256", "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0t"),
];

/// Whether a secret, in lower case, is printed somewhere.
pub(super) fn is_printed(lower: &[u8]) -> bool {
    SECRETS.iter().any(|known| {
        let known = known.as_bytes();
        lower.windows(known.len()).any(|part| part == known)
    })
}

/// Where a private key, in DER, is printed.
pub(super) fn printed_in(der: &[u8]) -> Option<&'static str> {
    let is_in = |begin: &str| {
        let begin = URL_SAFE_NO_PAD.decode_to_vec(begin).unwrap_or_default();
        !begin.is_empty() && der.windows(begin.len()).any(|part| part == begin)
    };
    let mut known = PRIVATE.iter();
    known
        .find(|(_, begin)| is_in(begin))
        .map(|(place, _)| *place)
}

#[cfg(test)]
mod tests {
    use base64_simd::STANDARD;

    use super::*;

    fn der(base64: &str) -> Vec<u8> {
        STANDARD.decode_to_vec(base64).unwrap()
    }

    #[test]
    fn the_private_keys_of_documentations_are_known() {
        let ed25519 = der("MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g");
        let p256 = der(
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2OF/2NxApJCzGCEDd\
             fSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZq\
             B4QdbAd0E7oH50VpuZ1P087G",
        );
        let rsa = der(
            "MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQC7VJTUt9Us8cKjMzEfYyjiWA4R4/M2bS1GB4t7NXp9",
        );
        assert!(printed_in(&ed25519).is_some_and(|place| place.starts_with("RFC 8037")));
        assert_eq!(printed_in(&p256), Some("jwt.io, ES256"));
        assert_eq!(printed_in(&rsa), Some("jwt.io, RS256"));
        assert_eq!(printed_in(&[7; 1200]), None);
        for (_, begin) in PRIVATE {
            assert_eq!(URL_SAFE_NO_PAD.decode_to_vec(begin).unwrap().len(), 24);
        }
    }
}
