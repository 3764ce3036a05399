//! A key ring with a thousand keys that have run out, as processes leave them whose key is another one
//! at every start.
//!
//! Method: the same HS256 tokens, seen for the first time, on a ring of one key and on one of 8 that
//! verify and 1,000 that have run out, in turns; printed are medians of 201 rounds, judged the median
//! of their ratios within a round. Then what each second costs a process on an SQLite file: reading
//! all keys where none has changed, and where one was renewed.

use std::hint::black_box;
use std::sync::Arc;

use doorward_benches::{Limit, judge, median, median_ratio, nanos_each};
use doorward_core::access_token::NewClaims;
use doorward_core::keys::{Algorithm, KeyConfig, KeyId, KeyRing, Purpose, StoredKey};
use doorward_core::store::{KeyStore as _, Store};
use doorward_core::{Env, Policy, SessionId, SystemEnv, Timestamp, TokenId, UserId};
use doorward_stores::SqliteStore;
use pollster::FutureExt as _;

const OLD: u64 = 1_000;
const VERIFYING: u64 = 8;
const TOKENS: usize = 64;
const ROUNDS: usize = 201;

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let [one, many] = ["one.db", "many.db"].map(|name| {
        SqliteStore::open(directory.path().join(name), Policy::default()).expect("a store")
    });
    let (alone, ring) = (open(&one), open(&many));
    for store in [&one, &many] {
        // The same key in both.
        let own = alone.rows().into_iter();
        own.for_each(|row| drop(store.add_key(row, false).block_on()));
    }
    fill(&many, &alone);
    ring.reload(&many).block_on().expect("the store answers");
    verify(&alone, &ring);
    reload(&many, &ring);
}

fn open(store: &dyn Store) -> KeyRing {
    let config = KeyConfig {
        algorithm: Algorithm::HS256,
        ..KeyConfig::default()
    };
    let policy = Policy::default();
    let ring = KeyRing::open(store, config, &policy, Arc::new(SystemEnv));
    ring.block_on().expect("the store takes keys")
}

fn access(ring: &KeyRing) -> StoredKey {
    let mut rows = ring.rows().into_iter();
    let row = rows.find(|row| row.purpose == Purpose::Access);
    row.expect("the ring has a key")
}

fn fill(store: &SqliteStore, alone: &KeyRing) {
    for number in 1..OLD + VERIFYING {
        let mut secret = [0; 32];
        SystemEnv.fill(&mut secret);
        let row = StoredKey {
            id: KeyId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            secret: secret.into(),
            verifies_until: if number < VERIFYING {
                Timestamp(i64::MAX)
            } else {
                SystemEnv.now()
            },
            ..access(alone)
        };
        drop(store.add_key(row, false).block_on());
    }
}

fn sign(ring: &KeyRing, now: Timestamp) -> Vec<String> {
    let user = UserId::new("u-42").expect("an id");
    let sign = |_| {
        let claims = NewClaims {
            nbf: true,
            identity_claim: None,
            user: &user,
            session: SessionId::new(now, &SystemEnv),
            token: TokenId::random(&SystemEnv),
            issued_at: now,
            expires_at: now + Policy::default().access_ttl,
            fresh_until: now,
            auth_time: now,
            issuer: None,
            audience: None,
            csrf: None,
            custom: None,
        };
        ring.sign_access(&claims, now).expect("the ring has a key")
    };
    (0..TOKENS).map(sign).collect()
}

fn verify(alone: &KeyRing, many: &KeyRing) {
    let (now, policy) = (SystemEnv.now(), Policy::default());
    let look = |ring: &KeyRing, tokens: &[String]| {
        nanos_each(TOKENS, |i| {
            let claims = ring.verify_access(black_box(&tokens[i]), now, &policy);
            black_box(claims.expect("a good token"));
        })
    };
    let (mut base, mut times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tokens = sign(alone, now);
        base.push(look(alone, &tokens));
        times.push(look(many, &tokens));
    }
    println!(
        "verifying with one key {:.0} ns, with 8 and {OLD} old ones {:.0} ns",
        median(&base),
        median(&times)
    );
    let ratio = median_ratio(&times, &base);
    judge(
        "verification beside old keys, of one key alone",
        ratio,
        Limit::AtMost(1.2),
    );
}

fn reload(store: &SqliteStore, ring: &KeyRing) {
    let reload = || ring.reload(store).block_on().expect("the store answers");
    let idle: Vec<_> = (0..ROUNDS)
        .map(|_| nanos_each(1, |_| reload()) / 1e3)
        .collect();
    let renewed = (0..ROUNDS).map(|_| {
        let mut row = access(ring);
        row.verifies_until.0 += 1;
        drop(store.update_keys(vec![row]).block_on());
        nanos_each(1, |_| reload()) / 1e3
    });
    let renewed: Vec<_> = renewed.collect();
    println!(
        "reading all keys again {:.0} us, with one renewed {:.0} us",
        median(&idle),
        median(&renewed)
    );
    judge(
        "reading a thousand keys again, in ms",
        median(&idle) / 1e3,
        Limit::AtMost(5.0),
    );
}
