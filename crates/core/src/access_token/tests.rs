//! As an attacker would try them: tokens signed by hand, by the right key and by wrong ones.

use std::sync::Arc;

use base64_simd::STANDARD;
use hmac::KeyInit;
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use pollster::FutureExt as _;
use serde_json::Map;

mod mutated;

use super::*;
use crate::keys::{KeyConfig, KeyRing, PUBLISH_DELAY, Purpose};
use crate::memory::MemoryStore;
use crate::testing::TestEnv;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_800_000_000_250);
const IAT: u64 = 1_800_000_000;
const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::EdDSA,
    Algorithm::HS256,
    Algorithm::ES256,
    Algorithm::RS256,
    Algorithm::PS256,
];

/// A ring, its one key, and what it may do.
struct World {
    algorithm: Algorithm,
    ring: KeyRing,
    row: StoredKey,
    key: AccessKey,
    policy: Policy,
}

impl World {
    fn new(algorithm: Algorithm) -> World {
        World::with(algorithm, Policy::default())
    }

    fn with(algorithm: Algorithm, policy: Policy) -> World {
        let config = KeyConfig {
            algorithm,
            // Making one takes long.
            key: matches!(algorithm, Algorithm::RS256 | Algorithm::PS256)
                .then(|| der(RSA_2048).into()),
            ..KeyConfig::default()
        };
        let store = MemoryStore::new(policy.clone());
        let env = Arc::new(TestEnv::new(NOW, 1));
        let ring = KeyRing::open(&store, config, &policy, env)
            .block_on()
            .unwrap();
        let mut rows = ring.rows();
        rows.retain(|row| row.purpose == Purpose::Access);
        let row = rows.remove(0);
        World {
            key: AccessKey::of(&row, &row.secret).unwrap(),
            algorithm,
            ring,
            row,
            policy,
        }
    }

    fn each() -> impl Iterator<Item = World> {
        ALGORITHMS.into_iter().map(World::new)
    }

    fn header(&self) -> String {
        header(self.algorithm.name(), &self.row.id.to_string())
    }

    /// Made by the ring.
    fn token(&self) -> String {
        self.token_with(None).unwrap()
    }

    fn token_with(&self, custom: Option<&str>) -> Result<String> {
        let claims = NewClaims {
            user: &UserId::new("ada").unwrap(),
            session: SessionId([7; 16]),
            token: TokenId([9; 16]),
            issued_at: NOW,
            expires_at: NOW + self.policy.access_ttl,
            fresh_until: NOW + self.policy.fresh_ttl,
            auth_time: NOW,
            issuer: self.policy.issuer.as_deref(),
            audience: self.policy.audience.as_deref(),
            csrf: None,
            nbf: self.policy.nbf,
            identity_claim: self.policy.identity_claim.as_deref(),
            custom,
        };
        self.ring.sign_access(&claims, NOW)
    }

    /// Made by hand, with the right key.
    fn signed(&self, header: &str, payload: &[u8]) -> String {
        let input = format!("{}.{}", encode(header), encode(payload));
        let signature = self.key.signature(input.as_bytes()).unwrap();
        format!("{input}.{}", encode(signature))
    }

    fn signed_payload(&self, payload: impl AsRef<[u8]>) -> String {
        self.signed(&self.header(), payload.as_ref())
    }

    fn verify(&self, token: &str) -> Result<Claims> {
        self.ring.verify_access(token, NOW, &self.policy)
    }

    fn accepts(&self, payload: impl AsRef<[u8]>) -> bool {
        self.verify(&self.signed_payload(payload)).is_ok()
    }

    /// Refused, and not only for its times.
    fn refuses(&self, token: &str) -> bool {
        matches!(self.verify(token), Err(Error::TokenInvalid))
            && matches!(self.for_logout(token), Err(Error::TokenInvalid))
    }

    fn for_logout(&self, token: &str) -> Result<Claims> {
        self.ring
            .verify_access_ignoring_times(token, NOW, &self.policy)
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL.encode_to_string(bytes.as_ref())
}

fn der(base64: &str) -> Vec<u8> {
    STANDARD.decode_to_vec(base64).unwrap()
}

fn header(algorithm: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"JWT"}}"#)
}

/// Claims that are in order.
fn good() -> Map<String, Value> {
    let claims = json!({
        "sub": "ada",
        "sid": SessionId([7; 16]).to_string(),
        "jti": "x",
        "iat": IAT,
        "nbf": IAT,
        "exp": IAT + 900,
        "type": "access",
        "fresh": IAT + 600,
        "auth_time": IAT,
    });
    claims.as_object().unwrap().clone()
}

fn good_with(name: &str, value: impl Into<Value>) -> String {
    let mut claims = good();
    claims.insert(name.into(), value.into());
    Value::from(claims).to_string()
}

/// Good claims and, at the end, raw text.
fn good_then(raw: &str) -> String {
    let mut text = Value::from(good()).to_string();
    text.pop();
    format!("{text},{raw}}}")
}

fn hmac_with(key: &[u8], input: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    encode(mac.chain_update(input).finalize().into_bytes())
}

// ---- signatures ----

#[test]
fn an_own_token_verifies_at_first_and_at_second_sight() {
    for world in World::each() {
        let token = world.token();
        for _ in 0..2 {
            let claims = world.verify(&token).unwrap();
            assert_eq!(claims.user().as_str(), "ada");
            assert_eq!(claims.session(), SessionId([7; 16]));
            assert_eq!(claims.issued_at().seconds(), 1_800_000_000);
        }
        assert!(world.accepts(Value::from(good()).to_string()));
    }
}

#[test]
fn another_jose_library_verifies_our_tokens_by_our_jwks() {
    for world in World::each() {
        let keys: JwkSet = serde_json::from_value(world.ring.jwks()).unwrap();
        let key = match keys.find(&world.row.id.to_string()) {
            Some(jwk) => DecodingKey::from_jwk(jwk).unwrap(),
            None => DecodingKey::from_secret(&world.row.secret),
        };
        assert_eq!(keys.keys.is_empty(), world.algorithm == Algorithm::HS256);
        let mut validation = Validation::new(world.algorithm.name().parse().unwrap());
        validation.validate_exp = false;
        let token = world.token_with(Some(r#"{"role":"admin"}"#)).unwrap();
        let data = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
        assert_eq!(data.claims["sub"], "ada");
        assert_eq!(data.claims["role"], "admin");
        assert_eq!(data.header.kid.unwrap(), world.row.id.to_string());
    }
}

#[test]
fn a_header_that_is_not_the_keys_own_is_refused_however_well_signed() {
    for world in World::each() {
        let (own, name, kid) = (world.header(), world.algorithm.name(), world.row.id);
        let payload = Value::from(good()).to_string();
        assert!(
            world
                .verify(&world.signed(&own, payload.as_bytes()))
                .is_ok()
        );
        let mut foreign = vec![
            format!(r#"{{"kid":"{kid}","alg":"{name}","typ":"JWT"}}"#),
            format!(r#"{{"alg":"{name}","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"{name}","typ":"JWT"}}"#),
            format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"JWT","crit":["exp"]}}"#),
            format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"JWT","jku":"https://x.example"}}"#),
            format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"JWT","b64":false}}"#),
            format!(
                r#"{{"alg":"{name}","kid":"{kid}","typ":"JWT","jwk":{{"kty":"oct","k":"AA"}}}}"#
            ),
            format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"JWT","x5u":"https://x.example"}}"#),
            format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"JWT","x5c":["AA"]}}"#),
            format!(r#"{{"alg":"none","alg":"{name}","kid":"{kid}","typ":"JWT"}}"#),
            format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"at+jwt"}}"#),
            header(name, "0000000000000000"),
            header(name, "../../etc/passwd"),
            own.replace(':', ": "),
            own.to_lowercase(),
            format!(" {own}"),
            format!("{own}\n"),
            own.replace("kid", "k\\u0069d"),
            "{}".into(),
            String::new(),
        ];
        let other_names = [
            "none", "None", "HS256", "HS512", "ES256", "RS256", "PS256", "EdDSA",
        ];
        let others = other_names.iter().filter(|other| **other != name);
        foreign.extend(others.map(|other| header(other, &kid.to_string())));
        for header in foreign {
            assert!(
                world.refuses(&world.signed(&header, payload.as_bytes())),
                "{header}"
            );
        }
    }
}

#[test]
fn a_token_without_signature_is_refused() {
    for world in World::each() {
        let payload = encode(Value::from(good()).to_string());
        for header in [header("none", &world.row.id.to_string()), world.header()] {
            let input = format!("{}.{payload}", encode(header));
            for token in [format!("{input}."), input.clone(), format!("{input}.AAAA")] {
                assert!(world.refuses(&token));
            }
        }
    }
}

#[test]
fn a_public_key_is_no_hmac_key() {
    for world in World::each().filter(|world| world.key.is_asymmetric()) {
        let jwk = world.key.jwk().unwrap();
        let public = match &world.key.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Pair::Hmac(_) => unreachable!("filtered"),
        };
        let payload = encode(Value::from(good()).to_string());
        for key in [public, jwk.to_string().into_bytes(), Vec::new()] {
            for algorithm in ["HS256", world.algorithm.name()] {
                let header = header(algorithm, &world.row.id.to_string());
                let input = format!("{}.{payload}", encode(header));
                let token = format!("{input}.{}", hmac_with(&key, &input));
                assert!(world.refuses(&token));
            }
        }
    }
}

#[test]
fn the_header_of_one_key_and_the_signature_of_another_is_refused() {
    for algorithm in [Algorithm::EdDSA, Algorithm::HS256, Algorithm::ES256] {
        let env = Arc::new(TestEnv::new(NOW, 3));
        let policy = Policy::default();
        let store = MemoryStore::new(policy.clone());
        let config = KeyConfig {
            algorithm,
            ..KeyConfig::default()
        };
        let ring = KeyRing::open(&store, config, &policy, Arc::clone(&env) as _)
            .block_on()
            .unwrap();
        let _ = ring.rotate(&store, Purpose::Access).block_on().unwrap();
        env.advance(PUBLISH_DELAY);
        let rows = ring.rows();
        let access = rows.iter().filter(|row| row.purpose == Purpose::Access);
        let keys: Vec<_> = access
            .map(|row| AccessKey::of(row, &row.secret).unwrap())
            .collect();
        let payload = encode(Value::from(good()).to_string());
        for (by, of) in [(0, 0), (1, 1), (0, 1), (1, 0)] {
            let input = format!("{}{payload}", keys[of].header);
            let signature = keys[by].signature(input.as_bytes()).unwrap();
            let token = format!("{input}.{}", encode(signature));
            let verified = ring.verify_access(&token, NOW, &Policy::default());
            assert_eq!(verified.is_ok(), by == of);
        }
    }
}

#[test]
fn a_refresh_keys_mac_makes_no_access_token() {
    let world = World::new(Algorithm::HS256);
    let rows = world.ring.rows();
    let refresh = rows
        .iter()
        .find(|row| row.purpose == Purpose::Refresh)
        .unwrap();
    let header = header("HS256", &refresh.id.to_string());
    let input = format!(
        "{}.{}",
        encode(header),
        encode(Value::from(good()).to_string())
    );
    let token = format!("{input}.{}", hmac_with(&refresh.secret, &input));
    assert!(world.refuses(&token));
}

// ---- form ----

#[test]
fn only_the_compact_form_is_a_token() {
    for world in World::each() {
        let token = world.token();
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            panic!("three segments");
        };
        let forms = [
            json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
            json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]})
                .to_string(),
            format!("{header}.{payload}"),
            format!("{token}."),
            format!("{token}.{signature}"),
            format!("{header}..{payload}.{signature}"),
            format!("{header}..{signature}"),
            format!(".{payload}.{signature}"),
            format!("{header}.{payload}."),
            format!("{header}.{payload}={}.{signature}", "="),
            format!("{token}="),
            format!("{token}=="),
            format!("{token}\n"),
            format!("\n{token}"),
            format!(" {token}"),
            format!("{token} "),
            format!("{token}\0"),
            format!("{header}.{payload}\n.{signature}"),
            format!("{header}.{}\r\n{}.{signature}", &payload[..8], &payload[8..]),
            format!("{token}\u{e9}"),
            format!("{header}.{payload}\u{ff0e}{signature}"),
            format!("Bearer {token}"),
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
        ];
        for form in forms {
            assert!(world.refuses(&form), "{form}");
        }
        assert!(world.verify(&token).is_ok());
    }
}

#[test]
fn the_standard_alphabet_is_refused() {
    for world in World::each() {
        let both = |token: &String| token.contains('-') && token.contains('_');
        let mut tokens = (0..100).map(|i| {
            let payload = good_with("name", format!("\u{fc}\u{ff}?>~{i}"));
            world.signed_payload(payload)
        });
        let token = tokens.find(both).unwrap();
        assert!(world.verify(&token).is_ok());
        assert!(world.refuses(&token.replace('-', "+")));
        assert!(world.refuses(&token.replace('_', "/")));
    }
}

#[test]
fn a_token_over_the_limit_is_refused_however_well_signed() {
    for world in World::each() {
        let padded = |bytes: usize| world.signed_payload(good_with("pad", "x".repeat(bytes)));
        let long = padded(6_100);
        assert!(long.len() > MAX_BYTES && world.refuses(&long));
        let fits = padded(4_500);
        assert!(fits.len() < MAX_BYTES && world.verify(&fits).is_ok());
    }
}

// ---- claims ----

const STRINGS: [&str; 4] = ["sub", "sid", "jti", "type"];
const NUMBERS: [&str; 5] = ["iat", "nbf", "exp", "fresh", "auth_time"];
const OPTIONAL: [&str; 3] = ["iss", "aud", "csrf"];

#[test]
fn a_registered_claim_is_there_once_and_of_its_exact_type() {
    let world = World::new(Algorithm::HS256);
    for name in STRINGS.into_iter().chain(NUMBERS) {
        let mut without = good();
        let value = without.remove(name).unwrap();
        assert!(
            !world.accepts(Value::from(without).to_string()),
            "without {name}"
        );
        let twice = good_then(&format!("\"{name}\":{value}"));
        assert!(!world.accepts(twice), "{name} twice");
        let escaped = format!("\"\\u{:04x}{}\":{value}", name.as_bytes()[0], &name[1..]);
        assert!(!world.accepts(good_then(&escaped)), "{name} twice, escaped");
    }
    for name in STRINGS.into_iter().chain(OPTIONAL) {
        for value in [
            json!(null),
            json!(1),
            json!(true),
            json!(["x"]),
            json!({"x": "x"}),
        ] {
            assert!(!world.accepts(good_with(name, value)), "{name}");
        }
    }
    for name in NUMBERS {
        let wrong = [
            json!(null),
            json!(IAT.to_string()),
            json!(true),
            json!([IAT]),
            json!(-1),
        ];
        for value in wrong {
            assert!(!world.accepts(good_with(name, value)), "{name}");
        }
        for raw in [
            "1800000000.0",
            "18e8",
            "-0",
            "1.8E9",
            "01800000000",
            "0x6b49d200",
            "1e400",
        ] {
            let mut claims = good();
            claims.remove(name);
            let text = Value::from(claims)
                .to_string()
                .replace('}', &format!(",\"{name}\":{raw}}}"));
            assert!(!world.accepts(text), "{name}: {raw}");
        }
    }
}

#[test]
fn optional_claims_stand_once() {
    let world = World::new(Algorithm::HS256);
    assert!(world.accepts(good_then(r#""iss":"a","csrf":"c""#)));
    for name in OPTIONAL {
        let twice = format!(r#""{name}":"a","{name}":"a""#);
        assert!(!world.accepts(good_then(&twice)), "{name}");
    }
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let policy = Policy {
        issuer: Some("https://id.example".into()),
        audience: Some("shop".into()),
        ..Policy::default()
    };
    let world = World::with(Algorithm::HS256, policy);
    assert!(world.verify(&world.token()).is_ok());
    let with =
        |issuer: &str, audience: &str| good_then(&format!(r#""iss":{issuer},"aud":{audience}"#));
    let (iss, aud) = ("\"https://id.example\"", "\"shop\"");
    assert!(world.accepts(with(iss, aud)));
    let wrong = [
        ("\"https://id.example/\"", aud),
        ("\"HTTPS://id.example\"", aud),
        ("\"\"", aud),
        ("null", aud),
        (iss, "\"shop2\""),
        (iss, "\"\""),
        (iss, "null"),
        (iss, "[\"shop\"]"),
        (iss, "[\"shop\",\"other\"]"),
    ];
    for (iss, aud) in wrong {
        assert!(!world.accepts(with(iss, aud)), "{iss} {aud}");
    }
    assert!(!world.accepts(Value::from(good()).to_string()));
    // An audience that we do not have is another's, whatever it is.
    assert!(!World::new(Algorithm::HS256).accepts(good_with("aud", "shop")));
}

#[test]
fn claims_that_contradict_are_refused() {
    let world = World::new(Algorithm::EdDSA);
    let day = 24 * 3600;
    for (name, value) in [
        ("type", json!("refresh")),
        ("type", json!("Access")),
        ("type", json!("")),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(256))),
        ("sid", json!("")),
        ("sid", json!("07070707-0707-0707-0707-07070707070")),
        ("sid", json!("07070707-0707-0707-0707-07070707070A")),
        ("exp", json!(IAT + day + 1)),
        ("exp", json!(IAT - 1)),
        ("exp", json!(u64::MAX)),
        ("iat", json!(0)),
        ("iat", json!(u64::MAX)),
        ("nbf", json!(u64::MAX)),
    ] {
        let token = world.signed_payload(good_with(name, value));
        assert!(world.refuses(&token), "{name}");
    }
    assert!(world.accepts(good_with("exp", IAT + day)));
}

#[test]
fn leeway_is_for_the_beginning_and_not_for_the_end() {
    let world = World::new(Algorithm::ES256);
    let leeway = world.policy.leeway().as_secs();
    for name in ["iat", "nbf"] {
        assert!(world.accepts(good_with(name, IAT + leeway)), "{name}");
        let later = world.signed_payload(good_with(name, IAT + leeway + 1));
        assert_eq!(world.verify(&later).unwrap_err(), Error::TokenInvalid);
        // A logout that says it is done must have ended something, whatever the clocks.
        assert!(world.for_logout(&later).is_ok(), "{name}");
    }
    let token = world.signed_payload(Value::from(good()).to_string());
    let at = |millis| {
        let now = Timestamp::from_seconds(1_800_000_900) + Duration::from_millis(millis);
        world
            .ring
            .verify_access(&token, now, &world.policy)
            .map(drop)
    };
    let before = Timestamp::from_seconds(1_800_000_900) - Duration::from_millis(1);
    assert!(
        world
            .ring
            .verify_access(&token, before, &world.policy)
            .is_ok()
    );
    // Once verified it is in the cache, and expires all the same.
    assert_eq!(at(0), Err(Error::TokenExpired));
    assert_eq!(at(1_000_000_000), Err(Error::TokenExpired));
}

#[test]
fn a_leeway_for_the_end_is_exact_for_tokens_of_any_lifetime() {
    let policy = Policy {
        exp_leeway: Duration::from_secs(20),
        ..Policy::default()
    };
    let world = World::with(Algorithm::HS256, policy);
    for lifetime in [60, 900, 3600] {
        let token = world.signed_payload(good_with("exp", IAT + lifetime));
        // No longer than the policy says, and then the leeway.
        let end = Timestamp::from_seconds(1_800_000_020) + Duration::from_secs(lifetime.min(900));
        let at = |now| world.ring.verify_access(&token, now, &world.policy);
        assert!(at(end - Duration::from_millis(1)).is_ok(), "{lifetime}");
        assert_eq!(at(end).unwrap_err(), Error::TokenExpired, "{lifetime}");
    }
    assert!(world.accepts(good_with("nbf", IAT + 20)));
    assert!(!world.accepts(good_with("nbf", IAT + 21)));
}

#[test]
fn nbf_may_be_missing_only_where_ours_have_none() {
    let mut without = good();
    without.remove("nbf");
    let without = Value::from(without).to_string();
    assert!(!World::new(Algorithm::HS256).accepts(&without));
    let policy = Policy {
        nbf: false,
        ..Policy::default()
    };
    let world = World::with(Algorithm::HS256, policy);
    let claims = world.verify(&world.token()).unwrap();
    assert!(claims.custom::<Value>().unwrap().get("nbf").is_none());
    assert!(world.accepts(&without) && world.accepts(Value::from(good()).to_string()));
    // One that is there counts.
    for nbf in [json!(IAT + 900), json!(null), json!("1"), json!(1.5)] {
        assert!(!world.accepts(good_with("nbf", nbf.clone())), "{nbf}");
    }
}

#[test]
fn the_user_may_have_a_second_name_that_no_custom_claim_can_take() {
    let policy = Policy {
        identity_claim: Some("identity".into()),
        ..Policy::default()
    };
    let world = World::with(Algorithm::HS256, policy);
    let token = world.token_with(Some(r#"{"role":"admin"}"#)).unwrap();
    let claims = world.verify(&token).unwrap().custom::<Value>().unwrap();
    assert_eq!(
        (&claims["sub"], &claims["identity"]),
        (&json!("ada"), &json!("ada"))
    );
    for taken in [r#"{"identity":"root"}"#, r#"{"ident\u0069ty":"root"}"#] {
        assert!(check_custom(taken, Some("identity")).is_err());
        assert!(world.token_with(Some(taken)).is_err());
    }
}

// ---- the payload's text ----

#[test]
fn the_payload_is_utf_8_and_one_json_object() {
    let world = World::new(Algorithm::HS256);
    let good_text = Value::from(good()).to_string();
    let bytes = |around: &str, inside: &[u8]| {
        let (before, after) = around.split_once('@').unwrap();
        let text = good_then("@");
        let (head, tail) = text.split_once('@').unwrap();
        [
            head.as_bytes(),
            before.as_bytes(),
            inside,
            after.as_bytes(),
            tail.as_bytes(),
        ]
        .concat()
    };
    assert!(world.accepts(bytes("\"x\":\"@\"", "\u{e9}".as_bytes())));
    for inside in [
        &b"\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe9",
    ] {
        for around in [
            "\"x\":\"@\"",
            "\"@\":1",
            "\"x\":[{\"y\":\"@\"}]",
            "\"iss\":\"@\"",
        ] {
            assert!(!world.accepts(bytes(around, inside)), "{around}");
        }
    }
    for raw in [
        r#""x":"\ud800""#,
        r#""x":"\udc00\ud800""#,
        r#""x":["\ud83d"]"#,
        r#""\ud800":1"#,
        r#""iss":"\ud800""#,
        r#""x":"\x41""#,
        r#""x":"\u12""#,
        "\"x\":\"a\nb\"",
        r#""x":01"#,
        r#""x":NaN"#,
        r#""x":tru"#,
        r#""x":1,"#,
        r#""x""#,
        "'x':1",
    ] {
        assert!(!world.accepts(good_then(raw)), "{raw}");
    }
    assert!(world.accepts(good_then(r#""x":"\ud83d\ude00\u00e9\n""#)));
    for text in [
        format!("{good_text}x"),
        format!("{good_text}{good_text}"),
        format!("{good_text},"),
        format!("\u{feff}{good_text}"),
        format!("[{good_text}]"),
        format!("{good_text}\0"),
        r#"["ada","07070707-0707-0707-0707-070707070707","x",1800000000,1800000000,1800000900,"access",1,1]"#
            .into(),
        "null".into(),
        "{}".into(),
        String::new(),
    ] {
        assert!(!world.accepts(&text), "{text}");
    }
}

#[derive(Deserialize)]
struct Own {
    role: String,
}

#[test]
fn custom_claims_are_carried_and_dangerous_ones_refused() {
    let world = World::new(Algorithm::HS256);
    for fine in [
        "{}",
        " { } ",
        r#"{"role":"a","n":{"a":1,"a":2}}"#,
        r#" {"x":"}{"} "#,
    ] {
        let token = world.token_with(Some(fine)).unwrap();
        assert!(world.verify(&token).is_ok(), "{fine}");
    }
    let token = world.token_with(Some(r#"{"role":"\u00e9"}"#)).unwrap();
    assert_eq!(
        world.verify(&token).unwrap().custom::<Own>().unwrap().role,
        "\u{e9}"
    );
    let long = format!(r#"{{"x":"{}"}}"#, "y".repeat(MAX_CUSTOM));
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let mut refused = vec![long, deep];
    refused.extend(REGISTERED.map(|name| format!(r#"{{"{name}":"x"}}"#)));
    let texts = [
        "",
        "[]",
        "null",
        "1",
        "{",
        "{}{}",
        r#"{"s\u0075b":"root"}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":1e999}"#,
        r#"{"a":1},"sub":"root""#,
        r#"{{"a":1}}"#,
    ];
    refused.extend(texts.map(String::from));
    for custom in refused {
        assert!(check_custom(&custom, None).is_err(), "{custom}");
        assert!(world.token_with(Some(&custom)).is_err(), "{custom}");
    }
}

// ---- properties ----

#[test]
fn arbitrary_bytes_neither_verify_nor_panic() {
    let worlds: Vec<_> = World::each().collect();
    let hmac = World::new(Algorithm::HS256);
    let env = TestEnv::new(NOW, 11);
    for _ in 0..3_000 {
        let mut bytes = vec![0; usize::try_from(env.random() % 300).unwrap()];
        env.fill(&mut bytes);
        assert!(!hmac.accepts(&bytes));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for world in &worlds {
            assert!(world.refuses(&text));
            assert!(world.refuses(&format!("{}{text}", world.key.header)));
            let encoded = format!("{}{}.{}", world.key.header, encode(&bytes), encode(&bytes));
            assert!(world.refuses(&encoded));
        }
    }
}

#[test]
fn mutated_tokens_neither_verify_nor_panic() {
    let env = TestEnv::new(NOW, 12);
    let below = |limit: usize| usize::try_from(env.random()).unwrap() % limit;
    for world in World::each() {
        let token = world.token();
        for _ in 0..1_500 {
            let mut bytes = token.clone().into_bytes();
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes[at] = u8::try_from(below(128)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, bytes[below(bytes.len())]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let mutated = String::from_utf8(bytes).unwrap();
            assert!(mutated == token || world.refuses(&mutated), "{mutated}");
        }
    }
}

#[test]
fn mutated_payloads_that_are_signed_do_not_panic() {
    let world = World::new(Algorithm::HS256);
    let env = TestEnv::new(NOW, 13);
    let below = |limit: usize| usize::try_from(env.random()).unwrap() % limit;
    let good = Value::from(good()).to_string().into_bytes();
    for _ in 0..20_000 {
        let mut payload = good.clone();
        let at = below(payload.len());
        payload[at] = u8::try_from(below(256)).unwrap();
        if let Ok(claims) = world.verify(&world.signed_payload(&payload)) {
            let text = std::str::from_utf8(claims.json()).unwrap();
            let parsed: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parsed["sub"], claims.user().as_str());
        }
    }
}

// ---- private keys ----

fn own(algorithm: Algorithm, secret: &[u8]) -> Result<KeyRing, crate::keys::RingError> {
    let config = KeyConfig {
        algorithm,
        key: Some(secret.to_vec().into()),
        ..KeyConfig::default()
    };
    let (policy, env) = (Policy::default(), Arc::new(TestEnv::new(NOW, 1)));
    let store = MemoryStore::new(policy.clone());
    KeyRing::open(&store, config, &policy, env).block_on()
}

#[test]
fn keys_as_openssl_makes_them_are_taken() {
    for (algorithm, key) in [
        (Algorithm::EdDSA, ED25519_KEY),
        (Algorithm::ES256, P256),
        (Algorithm::RS256, RSA_2048),
        (Algorithm::PS256, RSA_2048),
    ] {
        let ring = own(algorithm, &der(key)).unwrap();
        assert_eq!(ring.jwks()["keys"].as_array().unwrap().len(), 1);
    }
    // What `openssl pkey -pubout` says of the same keys.
    let jwks = own(Algorithm::EdDSA, &der(ED25519_KEY)).unwrap().jwks();
    assert_eq!(jwks["keys"][0]["x"], encode(hex(ED25519_PUBLIC)));
    let jwks = own(Algorithm::ES256, &der(P256)).unwrap().jwks();
    assert_eq!(jwks["keys"][0]["x"], encode(&hex(P256_PUBLIC)[1..33]));
    assert_eq!(jwks["keys"][0]["y"], encode(&hex(P256_PUBLIC)[33..]));
}

#[test]
fn a_private_key_of_another_algorithm_is_refused_in_words() {
    let keys = [ED25519_KEY, P256, P384, RSA_1024, RSA_2048].map(der);
    let fits = |algorithm| match algorithm {
        Algorithm::EdDSA => 0,
        Algorithm::ES256 => 1,
        _ => 4,
    };
    for algorithm in [
        Algorithm::EdDSA,
        Algorithm::ES256,
        Algorithm::RS256,
        Algorithm::PS256,
    ] {
        for (at, key) in keys.iter().enumerate() {
            match own(algorithm, key) {
                Ok(_) => assert_eq!(at, fits(algorithm), "{algorithm:?}"),
                Err(error) => {
                    assert_ne!(at, fits(algorithm));
                    assert!(error.to_string().contains("PKCS#8"), "{error}");
                }
            }
        }
        for garbage in [&b""[..], b"\x30", &[0; 64], &der(ED25519_KEY)[..40]] {
            assert!(own(algorithm, garbage).is_err());
        }
    }
}

#[test]
fn an_rsa_key_of_less_than_128_bits_of_security_is_pointed_out() {
    let config = |algorithm, key: Box<[u8]>| KeyConfig {
        algorithm,
        key: Some(key.into_vec().into()),
        ..KeyConfig::default()
    };
    let short = config(Algorithm::PS256, der(RSA_2048).into());
    assert_eq!(short.advice().count(), 1);
    let enough = AccessKey::generate(Algorithm::PS256, &TestEnv::new(NOW, 1)).unwrap();
    assert_eq!(config(Algorithm::PS256, enough).advice().count(), 0);
    let other = config(Algorithm::ES256, der(P256).into());
    assert_eq!(other.advice().count(), 0);
}

#[test]
fn an_ed25519_key_whose_public_half_is_anothers_is_refused() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let v2 = pair.to_pkcs8().unwrap().as_ref().to_vec();
    assert!(own(Algorithm::EdDSA, &v2).is_ok());
    let public = pair.public_key().as_ref();
    let at = v2.windows(32).position(|part| part == public).unwrap();
    for change in [0, 15, 31] {
        let mut mixed = v2.clone();
        mixed[at + change] ^= 1;
        assert!(own(Algorithm::EdDSA, &mixed).is_err());
    }
}

#[test]
fn a_generated_key_can_be_read_again() {
    let env = TestEnv::new(NOW, 1);
    for algorithm in ALGORITHMS {
        let secret = AccessKey::generate(algorithm, &env).unwrap();
        let row = StoredKey {
            algorithm: algorithm.name().into(),
            ..World::new(Algorithm::HS256).row
        };
        assert!(AccessKey::of(&row, &secret).is_ok());
    }
}

#[test]
fn an_empty_hmac_key_makes_no_key() {
    let row = World::new(Algorithm::HS256).row;
    assert!(AccessKey::of(&row, &[]).is_err());
    assert!(AccessKey::of(&row, &row.secret[..31]).is_err());
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

// PKCS#8 DER in base64, by `openssl genpkey`; for these tests only.
const ED25519_PUBLIC: &str = "eccf69740b42e5c0a71841cd5fdd47c3369f65d7d3957e933e2044f811fc9be9";
const P256_PUBLIC: &str = "04\
    f341fc316b0c38be92708558d5abf8257b287e21dbf549292bc56fe3a1ec9e40\
    d580e5e5cb2cc7d266ecaac87b0f0f7890ab1e8155f8b7b6a48bd0068e08729a";
const ED25519_KEY: &str = "\
    MC4CAQAwBQYDK2VwBCIEIBAUe3dJazB05tTcIME48mLQ5UVBBpmlg5WugHQabInm";
const P256: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg63+uIz5DOZwYVE4UlEaqn5ufEex4nXu2TmoVVzBmWsWh\
    RANCAATzQfwxaww4vpJwhVjVq/gleyh+Idv1SSkrxW/joeyeQNWA5eXLLMfSZuyqyHsPD3iQqx6BVfi3tqSL0AaOCHKa";
const P384: &str = "\
    MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBcwc3Q9+gPk6VaU+Kcgm0mfuN1+wcRw4nbM6wJikepvi21\
    hPefBcAyruCApKXi3WShZANiAASFB4CTyp/yprqG0OF2VAcUj+smPvfz+GxaNJ6iAsmLRZ+lu/kH2xD8uGNYtEqrmU3Q\
    Hfc99M5TeRG18JFhAwb1AW4eFmYK/BQ2FhqD8fDA6wjBHNT9zM22fBixVUMzHfU=";
const RSA_1024: &str = "\
    MIICdwIBADANBgkqhkiG9w0BAQEFAASCAmEwggJdAgEAAoGBAOD3q6IPjaid1q9ecF5eb/okwCu2gyxjn9jpFblFoVaE\
    dLk/5u/33Lpqkj+yVTLgZUek/q3lY4kaMT7PrEoOOK9RmF5cUldp6U4y3RY6DjbWXssw9M1tk/ZTlPBSb9uUDeF0aXPL\
    9u9Q3QCUz0K4Xc0ldajvAET6sBWskhVPxRkrAgMBAAECgYB+Y0aetqQ8Tei1/5WbvuykGQ+Jv3D0eEfuogydWPwqUiIN\
    jVQeDx+H76WYeYUaHy1nUc/vPIduGDQAeMXvmQvIjX5C6/5HGSTVFELijs6Uc9uedd7xsjLRkWZCQg7Jq0UwCTF43xZW\
    yW9UWU7nqhVtmwWZFUKE666npIcMLq1TEQJBAPgtaYiM5bP4T64uQFTimNj4O0hNXjOOn1X9ol/oOCRxWBZOHcAkjz+q\
    +r1ALnDw9hewhA5snZI5pAdfcwI/19kCQQDoDvkfU8/Q0mgeZ9OU/sMRGQjks7PUiguK9ZFYzqE3tDWN55eJ9d0osETK\
    GKSmVsfS4Jm3HoRCdDWz61c0w7qjAkEA2BtTRmDKtQiI+fe0dTZMOsMNfExCt0p+XPbbqgAgwzsfpWyoY2RyiNJuPNXi\
    mt54rPA8TgMuwuIGf5USJOdLIQJBALg7WvDSG0TQJrUs/L9nWvpyA6t+N6DfT7asqw30Te3pdjMI0DhJJ6Gr/5Dq65zb\
    fJ0gjyjgY2RW2mPSzVMoqT0CQAO3r+MEwMfe3X/r7PS0FqEvLZ287UNLjiSZPoGaho0DQs/uE1mjcu6fXBNKXS7ONqg2\
    YRsiCjQdLZznwse3MfQ=";
const RSA_2048: &str = "\
    MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDW+D1kO31itIotome0o2UUaKos5H/WPDHnOZ7XEsCL\
    jkp0Pj+G0JHktYL+zXvaBEaow/+9mz8mIBd6aTaIyXr2C3VvnXrTZ7wZRP2NskXNR7cfGoQG6U1AILRRvkmInbmhsSkZ\
    93+FRUaVLsU0goA3Z6DKbC0w3z6rFzpnOZSgjPbaKeUGJz0b3+P4jI9xhDNbdobWvgzxr/NCc1WIOwdC0cCM7e/tcTZZ\
    OejI1YHzvwoQSHMqUqmYa/rvdsyJiQUG20MvTC8Od3piEI/QQ6e/MCIM8ovGq0vLI3dLkl5QRf8GFAvpIWw/EmSh6fsT\
    wIEqV5Njw9ARhvGJoVBjYl1BAgMBAAECggEAD0bATBtrJ2THjgMkxgI3iGoAr+SEDiQkcrdWSZfoTXKM6XJT/t9bAssA\
    Vl2hX8aeg9c72QxLgkjVCkqoSLOytIHvdEFXbWcJh60urI9e5P3j7kaq27fgGL7KOaXhYV8+BhbKIjGDoyOfZrIWawsc\
    E/PeCgyCcJ7ou+1QZe4CWR9R7yIjlkDRNgYckLTP+T3LuxPQ8kGdisH67J4/7XSdncxSpZC3Zays+4muEKXBnBNTME7p\
    22vmwin5+ITJkiw7GBmeqI14LHlkF3eSJo7euSPmDr8OzOBD9lCq9hoQfzZkNHjWZxd8HJRlGjgL0Ks8iHyCUo33tQLq\
    Jplh1x/yHQKBgQD7KUtJHFUqp8xe6lmeJBVtLn77nvOBTIcPVy0oyfa8RJtxc23Bq41QdUbSwF6NTogNVwNciZ1Qh9IB\
    Ck3V+4Wg2t/AdwiSwAoPkamiFduyiyMVSLDkeePj3rYFODpvF0Gnd0thQrclSg53FLwLow4FTNVWOoZoWuRARMIueXS/\
    FQKBgQDbHHOoFLp6oGrxCVdOzNj82S3n6ua2xkpenbfms+AcFR+YsbqA/YUKv57XhDGgdRD9YEHZlMCbQazPHdTl9OIU\
    aKDCBQ+qxBxH4DzYF1QVzH+Jl1PU5kmQwqiMboGw5rVbglvWM9AbqowIV5dVrsfh/1baJXjr0Qp9oDMA2aDQfQKBgQDU\
    5SvrzRhkD9gsnHlakzuWUNNSdmnyL+xMFJky+f8rlvwsLqvafpBKox5lhqqfHPI2XIt85Sl0GazpNNLFj2616tG/Uybx\
    PddJWy9vNRgFP+t9HyDSin+hqCaiRgdCI3SDf5tl1idodF3OksTTGGPKGla7wOAtlN3lnGL9Afb0AQKBgEfifLtPGaLz\
    kEJF+0PaBvJlWh81PL4ILgv+mH/y0XrFH1mcLYD2K7jMBxPTxehLn+hQtSnqGIqXMFe/BMLw5V8muF8PBAXVUyXtlmia\
    trZ0If+FCzbU2pvIkT2JX7km56b/DJwo4YTCHjD6c6bjsaYefGMTWimbqmJutWz4+T6NAoGBALWkvO8K3fcCgLgDoz5t\
    tCjglp430ZQ/5gr52qW4d1yU2uQ8vXBKOGr7Z63RydAC31aG/IngSQ9RXxM7merN/AH/225GGgJDa06HUIigyRBpvfGI\
    i3u+PNjqAsDlH98kE4Lh+qhk4ZDzMQA1GLEhQoY2nCEZGqzhINeO4ujZaIzs";
