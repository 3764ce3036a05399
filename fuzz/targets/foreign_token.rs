//! Refresh tokens of another program: text as it is, and payloads that its key has signed.
#![no_main]

use std::sync::LazyLock;

use doorward_core::adoption::{Adoption, AdoptionConfig, Names};
use doorward_core::jws::{self, Algorithm, Sha, SigningKey};
use doorward_core::{Policy, Timestamp};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8] = b"what the old program had";
const HS256: Algorithm = Algorithm::Hs(Sha::Sha256);

static ADOPTION: LazyLock<Adoption> = LazyLock::new(|| {
    let config = AdoptionConfig {
        algorithm: HS256,
        key: SECRET.to_vec().into(),
        until: Timestamp(i64::MAX),
        issuer: None,
        audience: None,
        identity_claim: "sub".into(),
        names: Names::Ids,
    };
    Adoption::new(config).unwrap()
});

fuzz_target!(|input: &[u8]| {
    let now = Timestamp::from_seconds(1_800_000_000);
    let policy = Policy::default();
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(ADOPTION.read(text, now, &policy).is_err(), "a forged token");
    }
    let text = jws::to_be_signed(br#"{"alg":"HS256","typ":"JWT"}"#, input);
    let key = SigningKey::of(HS256, SECRET).unwrap();
    let Ok(Some(signature)) = key.sign(&text) else {
        return;
    };
    if let Ok(foreign) = ADOPTION.read(&jws::token(text, &signature), now, &policy) {
        let claims: serde_json::Value = serde_json::from_slice(input).unwrap();
        assert_eq!(claims["type"], "refresh");
        assert!(foreign.issued_at() <= now);
    }
});
