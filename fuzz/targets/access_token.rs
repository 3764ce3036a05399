//! No text passes for an access token but the one that was handed out, and no signed payload that lacks
//! a claim or lies about a time. Inputs that begin with `{` are payloads, which this signs.
#![no_main]

use std::sync::LazyLock;

use doorward_core::Delivery;
use doorward_core::jws::Jws;
use doorward_fuzz::{SECRET, World};
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(Delivery::Body));

fuzz_target!(|text: &str| {
    if text.starts_with('{') {
        return payload(text);
    }
    let service = WORLD.engine.service();
    let ours = text == WORLD.grant.access.as_str();
    assert_eq!(service.verify(text).is_ok(), ours);
    assert_eq!(service.verify_for_logout(text).is_ok(), ours);
    let _ = Jws::read(text);
});

fn payload(payload: &str) {
    let service = WORLD.engine.service();
    let header = WORLD
        .grant
        .access
        .as_str()
        .split('.')
        .next()
        .unwrap_or_default();
    let encode = |bytes: &[u8]| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    let signed = format!("{header}.{}", encode(payload.as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key");
    mac.update(signed.as_bytes());
    let token = format!("{signed}.{}", encode(&mac.finalize().into_bytes()));
    if let Ok(claims) = service.verify(&token) {
        let now = service.now();
        let leeway = service.policy().leeway();
        assert!(now < claims.expires_at());
        assert!(claims.issued_at() <= now + leeway);
        assert!(!claims.user().as_str().is_empty());
        let json: serde_json::Value = serde_json::from_slice(claims.json()).expect("JSON");
        assert_eq!(json["type"], "access");
    }
    let _ = Jws::read(&token);
}
