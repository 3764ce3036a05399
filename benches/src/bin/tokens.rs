//! Verifying access tokens: HS256 against its floor, and a second look at the other algorithms.
//!
//! Method: rounds of 64 tokens, signed for the round by the engine, with nothing optional in them. A
//! round runs each contestant on all of them, one after the other, so that all meet the same state of
//! the machine; printed are medians of 801 rounds, judged the medians of their ratios within a round.
//! The floor is what no verifier can leave out, back to back on the same tokens: HMAC on a cloned key
//! state, base64 by `base64-simd`, JSON by `serde_json` into borrowed claims. Doorward also matches the
//! header, checks types and times, and keeps the claims. It has not seen the tokens of a round: that is
//! a first look. A later look, at tokens that were verified twice before, finds them in a cache.

use std::hint::black_box;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD as BASE64URL;
use doorward_benches::{Limit, judge, median, median_ratio, nanos_each};
use doorward_core::access_token::NewClaims;
use doorward_core::keys::{Algorithm, KeyConfig, KeyRing, Purpose};
use doorward_core::memory::MemoryStore;
use doorward_core::{Env, Policy, SessionId, SystemEnv, Timestamp, TokenId, UserId};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

const TOKENS: usize = 64;
const ROUNDS: usize = 801;
/// Rounds of first looks: each needs new tokens, and `RS256` takes a millisecond to sign one.
const FIRST_ROUNDS: usize = 11;

fn main() {
    let hmac = Bench::new(Algorithm::HS256);
    against_the_floor(&hmac);
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256] {
        looks(&hmac, &Bench::new(algorithm));
    }
}

fn against_the_floor(bench: &Bench) {
    let floor = Floor::of(&bench.keys);
    let other = OtherCrate::of(&bench.keys);
    let (mut ours, mut floors, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tokens = bench.sign(TOKENS);
        // Once before, so that no contestant is the first to read them.
        round(|i| floor.verify(black_box(&tokens[i])));
        ours.push(round(|i| bench.verify(&tokens[i])));
        floors.push(round(|i| floor.verify(black_box(&tokens[i]))));
        others.push(round(|i| other.verify(black_box(&tokens[i]))));
    }
    println!("HS256, tokens of {} bytes", bench.tokens[0].len());
    for (name, times) in [
        ("the floor", &floors),
        ("Doorward", &ours),
        ("jsonwebtoken", &others),
    ] {
        let (time, ratio) = (median(times), median_ratio(times, &floors));
        println!("{name:<12} {time:>6.0} ns   {ratio:.2} of the floor");
    }
    let ratio = median_ratio(&ours, &floors);
    judge(
        "HS256 verification, of its floor",
        ratio,
        Limit::AtMost(1.2),
    );
}

fn looks(hmac: &Bench, bench: &Bench) {
    let first: Vec<f64> = (0..FIRST_ROUNDS)
        .map(|_| {
            let unseen = bench.sign(TOKENS);
            nanos_each(TOKENS, |i| bench.verify(&unseen[i]))
        })
        .collect();
    bench.tokens.iter().for_each(|token| bench.verify(token));
    let (mut second, mut base) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let unseen = hmac.sign(TOKENS);
        second.push(round(|i| bench.verify(&bench.tokens[i])));
        base.push(round(|i| hmac.verify(&unseen[i])));
    }
    let (name, first) = (bench.algorithm.name(), median(&first) / 1e3);
    println!(
        "\n{name}: first look {first:.1} us, second {:.0} ns",
        median(&second)
    );
    let ratio = median_ratio(&second, &base);
    let what = format!("{name}, a second look, of a first at HS256");
    judge(&what, ratio, Limit::AtMost(1.0));
}

/// Nanoseconds a look.
fn round(mut look: impl FnMut(usize)) -> f64 {
    nanos_each(TOKENS, &mut look)
}

struct Bench {
    algorithm: Algorithm,
    keys: KeyRing,
    policy: Policy,
    now: Timestamp,
    tokens: Vec<String>,
}

impl Bench {
    fn new(algorithm: Algorithm) -> Bench {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let (policy, now) = (Policy::default(), env.now());
        let store = MemoryStore::new(policy.clone());
        let config = KeyConfig {
            algorithm,
            key: None,
            ..KeyConfig::default()
        };
        let keys = pollster::block_on(KeyRing::open(&store, config, &policy, env))
            .expect("a store in memory takes keys");
        let mut bench = Bench {
            algorithm,
            keys,
            policy,
            now,
            tokens: Vec::new(),
        };
        bench.tokens = bench.sign(TOKENS);
        bench
    }

    fn sign(&self, count: usize) -> Vec<String> {
        let user = UserId::new("u-42").expect("an id");
        let sign = |_| {
            let claims = NewClaims {
                user: &user,
                session: SessionId::new(self.now, &SystemEnv),
                token: TokenId::random(&SystemEnv),
                issued_at: self.now,
                expires_at: self.now + self.policy.access_ttl,
                fresh_until: self.now + self.policy.fresh_ttl,
                auth_time: self.now,
                issuer: None,
                audience: None,
                csrf: None,
                nbf: true,
                identity_claim: None,
                custom: None,
            };
            let token = self.keys.sign_access(&claims, self.now);
            token.expect("the ring has a key")
        };
        (0..count).map(sign).collect()
    }

    fn verify(&self, token: &str) {
        let claims = self
            .keys
            .verify_access(black_box(token), self.now, &self.policy);
        black_box(claims.expect("a good token"));
    }
}

fn secret(keys: &KeyRing) -> Box<[u8]> {
    let rows = keys.rows();
    let row = rows.iter().find(|row| row.purpose == Purpose::Access);
    row.expect("the ring has a key").secret.clone()
}

/// What an HS256 token says.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is parsed is what is measured")]
struct Borrowed<'a> {
    sub: &'a str,
    sid: &'a str,
    jti: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    fresh: u64,
    auth_time: u64,
}

struct Floor(Hmac<Sha256>);

impl Floor {
    fn of(keys: &KeyRing) -> Floor {
        Floor(Hmac::new_from_slice(&secret(keys)).expect("a key of any length"))
    }

    fn verify(&self, token: &str) {
        let (signed, signature) = token.rsplit_once('.').expect("two dots");
        let (_, payload) = signed.split_once('.').expect("two dots");
        let signature = BASE64URL.decode_to_vec(signature).expect("base64url");
        let mac = self.0.clone().chain_update(signed);
        mac.verify_slice(&signature).expect("a good token");
        let payload = BASE64URL.decode_to_vec(payload).expect("base64url");
        let claims: Borrowed<'_> = serde_json::from_slice(&payload).expect("JSON");
        black_box(claims);
    }
}

/// What an app would read with the `jsonwebtoken` crate.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is parsed is what is measured")]
struct Owned {
    sub: String,
    sid: String,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(rename = "type")]
    kind: String,
    fresh: u64,
    auth_time: u64,
}

struct OtherCrate(jsonwebtoken::DecodingKey, jsonwebtoken::Validation);

impl OtherCrate {
    fn of(keys: &KeyRing) -> OtherCrate {
        let key = jsonwebtoken::DecodingKey::from_secret(&secret(keys));
        let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        OtherCrate(key, validation)
    }

    fn verify(&self, token: &str) {
        let claims = jsonwebtoken::decode::<Owned>(token, &self.0, &self.1);
        black_box(claims.expect("a good token"));
    }
}
