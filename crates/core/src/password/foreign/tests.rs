use std::sync::Arc;

use pollster::FutureExt as _;

use super::*;
use crate::account::Accounts;
use crate::env::{Env as _, Timestamp};
use crate::id::UserId;
use crate::memory::MemoryStore;
use crate::password::{Hashing, Password, PasswordHash, Passwords, Verified};
use crate::policy::Policy;
use crate::revocation::{Bounds, Revocations};
use crate::store::{Account, AccountStore as _, ValidFrom, Write};
use crate::testing::TestEnv;

const PASSWORD: &str = "correct horse battery";
const UNICODE: &str = "p\u{e4}ssw\u{f6}rd \u{5bc6}\u{7801} \u{1f511}";
/// 116 bytes.
const LONG: &str = "correct horse battery staple correct horse battery staple \
     correct horse battery staple correct horse battery staple ";

/// Written by Werkzeug 3.1.9, `generate_password_hash`.
const WERKZEUG: &[(&str, &str)] = &[
    (
        PASSWORD,
        "scrypt:1024:8:1$FamKnDdDJdZ7J3I9$258423d27b88294dce53e82c2dbfc4c4fcb6fe4571a64f56301e6a3f54c44b898d6dbe1b136ac61dd8401d4a7d2ccf3f7f5f2d05c4e7329b7523fe28e37c6763",
    ),
    (
        PASSWORD,
        "pbkdf2:sha256:1000$G7bfuj12hd6hj1Gh$f5281c3421a98370dbd88417943a63e5565b9a2f4f4f27f1caa06247eb125b64",
    ),
    (
        UNICODE,
        "scrypt:1024:8:1$72rRTR2lbvCP2V7y$f83d0bef2a23717bc6716778b1f78b95d7db25205333801d1fedfa496dbf5877edf70e4476d1e0fb2950f44705b94c470575824048c94caa994cd5c5b22a7169",
    ),
    (
        UNICODE,
        "pbkdf2:sha256:1000$rtPXS4VpqntUpulk$fabaa2e2efe493c0daf6536830d3fe3bc20ea73589785553eebd897b96727317",
    ),
    (
        PASSWORD,
        "scrypt:32768:8:1$w29mQwkZSrGsAkIw$870c4b556dc0961ebbf766e8379b56ae68ea12205604ddf559a266c1d3b5ac355be827efa429274ff26b53d8affe157f5dca14a92418d004e3423635c4f7daf4",
    ),
    (
        PASSWORD,
        "pbkdf2:sha1:1000$pBsmENgKPn4RB3Og$ed7fb911f8de62fb84a40b7db61e67ea7eacc478",
    ),
    (
        PASSWORD,
        "pbkdf2:sha384:1000$zPTYphzFmxwnx4a8$71e2c93736d9e1caeddc1014d5ec56da44a3c0f0fc84e20863452ccbd52ad30e045f08b4eba400392d6e783b166d4f87",
    ),
    (
        PASSWORD,
        "pbkdf2:sha512:1000$GtMRqFljgfX6jR81$34896b39a2a42e043dfa81cec5323e171ea442a5a17ec1dc9d87ffbf51b695ff81da8760bdb35c14eeed5417213305f1d76b0953480f13f05f4192c81f859fdf",
    ),
];

/// Written by Django 5.2.19, `django.contrib.auth.hashers`.
const DJANGO: &[(&str, &str)] = &[
    (
        PASSWORD,
        "scrypt$1024$saltsaltsalt$8$5$8q/xo8InyoCGNRnHwzT2rxpW0fOFSD9jeN+Z1lOeIYtPfxMO1hfMOFnitRHyW6oZZ/PP7lWFFU/rx3xziRueaA==",
    ),
    (
        UNICODE,
        "scrypt$1024$saltsaltsalt$8$5$QWi1Y/r8k1Dah0so09fRXhyjYcqniU7fxHS9hcH7KAAgQSjDAgjkxgmE02ao6xf579Mz5iwheYBOTbo2tNHI9g==",
    ),
    (
        PASSWORD,
        "pbkdf2_sha256$1000$saltsalt$2vLrmxK8YFROnGTL6oinO4bfT02gvTppeFbz7HWz5X0=",
    ),
    (
        PASSWORD,
        "pbkdf2_sha1$1000$saltsalt$zqPgE6pLyvpTQq0NXydGqK4TvuU=",
    ),
    (
        PASSWORD,
        "argon2$argon2id$v=19$m=64,t=2,p=2$c2FsdHNhbHRzYWx0$/yNDM406JuBl3/Cw6EKTful1e3hfuf9CiAThEdCtfX4",
    ),
    (
        PASSWORD,
        "bcrypt_sha256$$2b$04$utsb2.Z.M4A4qGET1RcDXOe.RNzaZKVKy0o4AnH1woyX/OHFRt7Ji",
    ),
    (
        LONG,
        "bcrypt_sha256$$2b$04$VzuUykhTigmTwNQ5FFxGTOhV5gtnQn.3cqLwe7IhXtwoGXA1x0lOG",
    ),
    (
        PASSWORD,
        "bcrypt$$2b$04$eL/jsiTejoXbt.rjeC7b3OinYTC65dyD3pPCp2wi1dbBuZxFwHeXi",
    ),
];

/// Written by bcrypt 5.0.0, `hashpw`.
const BCRYPT: &[(&str, &str)] = &[
    (
        PASSWORD,
        "$2b$04$HKKe0zCKFG7LH7s6Oluxs.9tkY0KIhJsJjILPr9MgD0PHmaPJU1J.",
    ),
    (
        UNICODE,
        "$2b$04$Yx9ocUKfdjsz0HFcezslIeGEpY3VjR9.vGdyPQ4fR7GB5.GpJ2MMy",
    ),
    (
        PASSWORD,
        "$2a$04$z2WeuQbZ6FE9r1HhFG60wuV8FfzqyhG/E6vdow1/.wRsqAPRgrORO",
    ),
    (
        PASSWORD,
        "$2y$04$Vyf.eqJ4YhDaD0x8fFCKUOS0VwaO/uNOg4gNpOYnxb9h7ng6c4yY6",
    ),
];

/// Written by passlib 1.7.4, `passlib.hash`.
const PASSLIB: &[(&str, &str)] = &[
    (
        PASSWORD,
        "$2b$04$jCIvcxi/1MbTKUIGnO21/e2uHk5RmlKl9IpRsZcWDFFPnt8zpVgIm",
    ),
    (
        PASSWORD,
        "$bcrypt-sha256$v=2,t=2b,r=4$E16lWYeOlHobCvdXB4pO4.$bF0d8ilVaXL8e8dwZhhVqfUj84ceWeK",
    ),
    (
        LONG,
        "$bcrypt-sha256$v=2,t=2b,r=4$uX0SE1qIvfTSVUd/7VsrPO$eQ8ZksyeruBwbSzR07FpDgrtskeDHdW",
    ),
    (
        PASSWORD,
        "$bcrypt-sha256$2b,4$DbZQ09y5EcZ4kP9ANQ2wC.$sRldJ5nFOcGanp94ovS1PRPAvLL3skm",
    ),
    (
        PASSWORD,
        "$bcrypt-sha256$2a,4$0c0HPoDD41jRbvm0oKmwkO$SLo8xj.UyJqInXO5rxPtgrUvbY6qF5u",
    ),
    (
        PASSWORD,
        "$scrypt$ln=10,r=8,p=1$1XqvNQaglJKyFoKwFgKA8A$4QevuJGMBdyiJ2FOgjaAcYeifmWF9jKnoHAlnXj73JM",
    ),
    (
        PASSWORD,
        "$scrypt$ln=9,r=4,p=2$U0qJkbK21pqzthbivJdSyg$JbgQxvlcvS1mVxq5iH7SLcKtqFmg4CivbpMXCeEpaoE",
    ),
    (
        PASSWORD,
        "$pbkdf2-sha256$1000$fC.F8H6vdU4p5Tzn/H8vpQ$r8aTk2WLmIh3ffIh2YHwUw7S3S4Fm6HN.J/zCpWbE2s",
    ),
    (
        PASSWORD,
        "$pbkdf2-sha512$1000$zLlXqtV6752zdq7VuvceAw$heaEO/QOX8I53L/tSDdRTZhvMlveclDqWLJsQP7O9f/e7bpR4K3uWfEDe9CL7zCa0KPe4YBglaiPvq3pjbcnWw",
    ),
    (
        PASSWORD,
        "$pbkdf2$1000$mNPamzOGkBJCqPXeW6tVSg$Wotp795vqCmet5zCFwDYta.NPmQ",
    ),
    (
        PASSWORD,
        "$argon2i$v=19$m=64,t=2,p=2$d+4dA+C817p3jhGC0Prfew$RdFdGY9D92+sOSeUpiIAkDKaaKxJRYcU8mWIi+tAZoU",
    ),
    (
        PASSWORD,
        "$argon2d$v=19$m=64,t=2,p=2$uTfmvJfy/l/LOWesFUJIyQ$p/K+MrP2qXExulJyBtsq2Ds/naeRK31gcXrNS5uk1hE",
    ),
    (
        PASSWORD,
        "$argon2id$v=19$m=64,t=2,p=2$M0boHaOUUgrBWKuVkpJSyg$qlzvipU2v+gQrcPGuDwfCy1je58PS57J8JjrWctTkJo",
    ),
];

/// Written by argon2-cffi 25.1.0, `hash_secret` and, the last but one, `PasswordHasher`.
const ARGON2_CFFI: &[(&str, &str)] = &[
    (
        PASSWORD,
        "$argon2i$v=16$m=64,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$szFTSZgR80jgJnbGWVu9Wg",
    ),
    (
        PASSWORD,
        "$argon2i$v=19$m=64,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$iKaym07JgOslrFHY2B9Q6oxEJXNL7F84D+1PjRmoEWw",
    ),
    (
        PASSWORD,
        "$argon2d$v=16$m=64,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$RnaXWpSYtus2wjxD3tAcOA",
    ),
    (
        PASSWORD,
        "$argon2d$v=19$m=64,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$9r2MumRHnQqQ1FQm/04K2EcI0hcaMYBxLStrepCm8+Y",
    ),
    (
        PASSWORD,
        "$argon2id$v=16$m=64,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$lsNlAjF8eK+NZnN0nhSLOA",
    ),
    (
        PASSWORD,
        "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHRzb21lc2FsdA$uAVXsrMM+mZ5G2ryARPVtpZaov+ngefVDKuvausM2kk",
    ),
    (
        PASSWORD,
        "$argon2id$v=19$m=65536,t=3,p=4$JBbA/u/p7+DLzstELie80w$nD0UWKo0cKAIcGnLIJvMHrsy1gMFk8rW+T8oeU3bufg",
    ),
    (
        UNICODE,
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$du/LTu6YMeKtSfkTuaVzmr8KQxv64C1moUCa9g5sUTs80oJM42I8DZOAqfnfVBzmJRm5Kz+UFiF7UR99pU4M+w",
    ),
];

/// bcrypt 5.0.0: 71 and 72 times an `x`.
const OF_71: &str = "$2b$04$FQJFDyMg7ZAKg0JZxtevNu3oPq9zgsW7uJT8Bv8mEOUpGNi7n1/Fm";
const OF_72: &str = "$2b$04$uWiXcBKqoRDHoFQTXW/f6OVmZSR5yzEGn5dh6hT2NxBKYt0ZCpRaO";

/// Werkzeug 3.1.9: `DECOMPOSED`, as some keyboards type it.
const OF_DECOMPOSED: &str = "pbkdf2:sha256:1000$IZYOKNwbZpTBzgLd$4f2ca127e38954b795036fa211a39a3cf23a20a46e917f42fc1feeaf2291b1bd";
const DECOMPOSED: &str = "cafe\u{301} au lait";
const COMPOSED: &str = "caf\u{e9} au lait";

fn vectors() -> impl Iterator<Item = (&'static str, &'static str)> {
    [WERKZEUG, DJANGO, BCRYPT, PASSLIB, ARGON2_CFFI]
        .concat()
        .into_iter()
}

const OURS: Params = Params {
    memory_kib: 16,
    iterations: 1,
    parallelism: 1,
};

fn passwords() -> Arc<Passwords> {
    let hashing = Hashing {
        params: OURS,
        threads: 1,
        ..Hashing::default()
    };
    Arc::new(Passwords::new(hashing, env()))
}

fn env() -> Arc<TestEnv> {
    Arc::new(TestEnv::new(Timestamp(1_800_000_000_000), 1))
}

fn verified(passwords: &Passwords, typed: &str, hash: &str) -> Verified {
    let hash = PasswordHash::from_phc(hash);
    let typed = Password::new(typed).unwrap();
    passwords.verify(typed, Some(hash)).block_on().unwrap()
}

fn matches(typed: &str, hash: &str) -> bool {
    verified(&passwords(), typed, hash).matches
}

fn is_known(hash: &str) -> bool {
    PasswordHash::from_phc(hash).is_known()
}

#[test]
fn each_hash_matches_its_password_and_becomes_one_of_ours() {
    let passwords = passwords();
    for (password, hash) in vectors() {
        let right = verified(&passwords, password, hash);
        assert!(right.matches, "{hash}");
        let new = right.rehash.unwrap();
        assert!(new.as_str().starts_with("$argon2id$v=19$m=16,t=1,p=1$"));
        let again = verified(&passwords, password, new.as_str());
        assert!(again.matches && again.rehash.is_none(), "{hash}");
    }
}

#[test]
fn the_vectors_of_the_rfcs_match() {
    // RFC 7914, sections 12 and 11; RFC 6070.
    let vectors = [
        (
            "password",
            "scrypt:1024:8:16$NaCl$fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
        ),
        (
            "pleaseletmein",
            "scrypt:16384:8:1$SodiumChloride$7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
        ),
        (
            "passwd",
            "$pbkdf2-sha256$i=1,l=64$c2FsdA$VawEblbjCJ/sFpHCJUS2BflBhSFt3gRl5oudV8INrLxJypzM8Xm2RZkWZLOdd+8xfHG4RbHjC9UJESBB06GXgw",
        ),
        (
            "password",
            "pbkdf2:sha1:4096$salt$4b007901b765489abead49d926f721d065a429c1",
        ),
    ];
    for (password, hash) in vectors {
        assert!(matches(password, hash), "{hash}");
    }
}

#[test]
fn spellings_of_one_hash_match_alike() {
    let written = |prefix: &str| {
        let mut hashes = vectors().filter(|(password, _)| *password == PASSWORD);
        let found = hashes.find(|(_, hash)| hash.starts_with(prefix));
        found.unwrap().1
    };
    let phc = written("$pbkdf2-sha256$1000$").replace("$1000$", "$i=1000,l=32$");
    assert!(matches(PASSWORD, &phc));
    // Before version 19 nothing said which.
    let old = written("$argon2i$v=16$").replace("v=16$", "");
    assert!(matches(PASSWORD, &old));
    // Django puts its own name for it in front.
    let bcrypt = format!("bcrypt${}", written("$2a$"));
    assert!(matches(PASSWORD, &bcrypt));
}

#[test]
fn no_other_password_matches_and_nothing_is_replaced() {
    let passwords = passwords();
    let wrong = Verified {
        matches: false,
        rehash: None,
    };
    for (password, hash) in vectors() {
        for other in ["x", &password[1..], &format!("{password}x")] {
            assert_eq!(verified(&passwords, other, hash), wrong, "{hash}");
        }
    }
}

#[test]
fn a_wrong_password_costs_a_hash_of_ours_besides() {
    for (password, hash) in vectors() {
        for typed in [password, "another"] {
            let passwords = passwords();
            verified(&passwords, typed, hash);
            assert_eq!(passwords.hashes(), 2, "{hash}");
        }
    }
}

/// Numbers below a limit, the same ones each time.
fn dice() -> impl FnMut(u32) -> u32 {
    let env = env();
    move |limit| {
        let mut random = [0; 4];
        env.fill(&mut random);
        u32::from_le_bytes(random) % limit
    }
}

const ODD: [&str; 14] = [
    "$",
    ":",
    ",",
    "=",
    ".",
    "/",
    "+",
    "-",
    "0",
    "9",
    "99999999999",
    "\0",
    "\u{e9}",
    "",
];

fn mutated(text: &str, dice: &mut impl FnMut(u32) -> u32) -> String {
    let mut below = |limit: usize| dice(u32::try_from(limit).unwrap()) as usize;
    let mut chars: Vec<_> = text.chars().map(String::from).collect();
    for _ in 0..=below(3) {
        let place = below(chars.len());
        ODD[below(ODD.len())].clone_into(&mut chars[place]);
    }
    chars.concat()
}

#[test]
fn no_text_panics() {
    let mut dice = dice();
    for length in 0..2000 {
        let text = (0..length).filter_map(|_| char::from_u32(dice(0x250)));
        assert!(!is_known(&text.collect::<String>()));
    }
    let passwords = passwords();
    for (password, hash) in vectors() {
        let texts = (0..300).map(|_| mutated(hash, &mut dice));
        let known: Vec<_> = texts.filter(|text| is_known(text)).collect();
        // What is of a known form is computed too, but for the dear ones.
        let cheap = !hash.contains("32768") && !hash.contains("65536");
        for text in known.iter().filter(|_| cheap).take(8) {
            let _ = verified(&passwords, password, text);
        }
    }
}

#[test]
fn a_hash_that_is_cut_short_matches_nothing() {
    let passwords = passwords();
    for (password, hash) in vectors() {
        for end in [1, 2, 3, 4, 8, 15, 20, 30, 40] {
            let cut = &hash[..hash.len() - end];
            assert!(!verified(&passwords, password, cut).matches, "{cut}");
        }
    }
}

#[test]
fn what_is_of_no_known_form_matches_nothing() {
    let unknown = [
        "",
        "correct horse battery",
        "!",
        // Werkzeug before 2.3: an HMAC, a digest, no hash at all.
        "sha256$salt$8f3f7e1e6d1c5e8a1d5a2c1f4a3b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7",
        "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        "plain$$correct horse battery",
        // Django's for tests, and for those who may not log in.
        "md5$salt$a3f9b1a1a1a3f9b1a1a1a3f9b1a1a1a3",
        "!kvqTVCDoXrbKo8UMbBpkn0DFtTXEtkxV3UqKDrVY",
        // crypt(3) of other kinds.
        "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
        "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
        "$7$CU..../....SodiumChloride$kBGj9fHznVYFQMEn/qDCfrDevf9YDtcDdKvEqHJLV8D",
        // Of a bcrypt that hashed some passwords wrongly.
        "$2x$04$70ZbdaGUYOSwW45/xL6WHu94GB2oNpkE7YzVXXN3JjwXzG0XU5ZHq",
        // Argon2 with associated data, and with a key.
        "$argon2id$v=19$m=64,t=2,p=2,data=c29tZQ$c29tZXNhbHRzb21lc2FsdA$uAVXsrMM+mZ5G2ryARPVtpZaov+ngefVDKuvausM2kk",
        "$argon2id$v=19$m=64,t=2,p=2,keyid=c29tZQ$c29tZXNhbHRzb21lc2FsdA$uAVXsrMM+mZ5G2ryARPVtpZaov+ngefVDKuvausM2kk",
    ];
    for text in unknown {
        let passwords = passwords();
        assert!(!is_known(text), "{text}");
        assert!(!verified(&passwords, PASSWORD, text).matches);
        assert_eq!(passwords.hashes(), 1);
    }
}

#[test]
fn ceilings_hold() {
    let salt = "c29tZXNhbHRzb21lc2FsdA";
    let tag = "uAVXsrMM+mZ5G2ryARPVtpZaov+ngefVDKuvausM2kk";
    let argon2 = |costs: &str| format!("$argon2id$v=19${costs}${salt}${tag}");
    let bcrypt =
        |cost: &str| format!("$2b${cost}$70ZbdaGUYOSwW45/xL6WHu94GB2oNpkE7YzVXXN3JjwXzG0XU5ZHq");
    let scrypt = |costs: &str| format!("$scrypt${costs}${salt}${tag}");
    let werkzeug = |costs: &str| format!("scrypt:{costs}$salt${}", "0".repeat(128));
    let pbkdf2 = |costs: &str| format!("$pbkdf2-{costs}${salt}${tag}");
    let bearable = [
        argon2("m=262144,t=16,p=16"),
        bcrypt("04"),
        bcrypt("15"),
        scrypt("ln=18,r=8,p=2"),
        scrypt("ln=1,r=1,p=1"),
        werkzeug("262144:8:2"),
        werkzeug("16384:8:32"),
        pbkdf2("sha256$5000000"),
        pbkdf2("sha256$i=5000000,l=32"),
        pbkdf2("sha1$i=2500000,l=32"),
        pbkdf2("sha256$1"),
    ];
    for hash in bearable {
        assert!(is_known(&hash), "{hash}");
    }
    let beyond = [
        argon2("m=262145,t=1,p=1"),
        argon2("m=8,t=17,p=1"),
        argon2("m=1024,t=1,p=17"),
        argon2("m=4294967295,t=4294967295,p=16777215"),
        argon2("m=4294967296,t=1,p=1"),
        argon2("m=08,t=1,p=1"),
        argon2("m=+8,t=1,p=1"),
        bcrypt("03"),
        bcrypt("16"),
        bcrypt("31"),
        bcrypt("99"),
        bcrypt("4"),
        scrypt("ln=19,r=8,p=1"),
        scrypt("ln=18,r=8,p=3"),
        scrypt("ln=0,r=1,p=1"),
        scrypt("ln=10,r=0,p=1"),
        scrypt("ln=10,r=8,p=0"),
        scrypt("ln=31,r=4294967295,p=4294967295"),
        scrypt("ln=32,r=8,p=1"),
        scrypt("ln=1,r=4294967295,p=2"),
        werkzeug("524288:8:1"),
        werkzeug("1000:8:1"),
        werkzeug("0:8:1"),
        werkzeug("16384:8:33"),
        werkzeug("2:1:4294967295"),
        werkzeug("2:1:65"),
        werkzeug("2:65:1"),
        pbkdf2("sha256$5000001"),
        pbkdf2("sha1$i=2500001,l=32"),
        pbkdf2("sha256$i=1000,l=33"),
        pbkdf2("sha256$0"),
        pbkdf2("md5$1000"),
    ];
    for hash in beyond {
        assert!(!is_known(&hash), "{hash}");
    }
}

#[test]
fn bcrypt_reads_72_bytes_and_the_new_hash_is_of_all() {
    let x = |count| "x".repeat(count);
    assert!(matches(&x(71), OF_71) && !matches(&x(72), OF_71) && !matches(&x(70), OF_71));
    assert!(matches(&x(72), OF_72) && !matches(&x(71), OF_72));
    let passwords = passwords();
    let longer = format!("{}, and more", x(72));
    let right = verified(&passwords, &longer, OF_72);
    assert!(right.matches);
    let new = right.rehash.unwrap();
    assert!(verified(&passwords, &longer, new.as_str()).matches);
    assert!(!verified(&passwords, &x(72), new.as_str()).matches);
}

#[test]
fn bcrypt_over_a_digest_reads_all() {
    for (password, hash) in DJANGO
        .iter()
        .chain(PASSLIB)
        .filter(|(password, _)| *password == LONG)
    {
        assert!(matches(password, hash));
        assert!(!matches(&password[..72], hash) && !matches(&password[..115], hash));
    }
}

#[test]
fn no_password_has_a_nul_at_which_bcrypt_would_stop() {
    assert!(Password::new("correct horse battery\0and more").is_err());
}

#[test]
fn a_password_is_tried_composed_and_as_it_was_typed() {
    assert!(matches(DECOMPOSED, OF_DECOMPOSED));
    // Whoever wrote the hash would have refused it too.
    assert!(!matches(COMPOSED, OF_DECOMPOSED));
    let passwords = passwords();
    let new = verified(&passwords, DECOMPOSED, OF_DECOMPOSED)
        .rehash
        .unwrap();
    for spelling in [COMPOSED, DECOMPOSED] {
        assert!(verified(&passwords, spelling, new.as_str()).matches);
    }
}

#[test]
fn what_a_dear_hash_took_is_given_back_at_once() {
    let passwords = passwords();
    let (password, hash) = ARGON2_CFFI[6];
    assert!(hash.contains("m=65536"));
    assert!(verified(&passwords, password, hash).matches);
    assert_eq!(passwords.memory(), 16 * 1024);
}

#[test]
fn an_account_with_a_hash_of_any_kind_logs_in_and_has_one_of_ours() {
    let (store, passwords) = (Arc::new(MemoryStore::new(Policy::default())), passwords());
    let revocations = Arc::new(Revocations::new(Bounds::of(&Policy::default()), None));
    let accounts = Accounts::new(
        Arc::clone(&store) as _,
        Arc::clone(&passwords),
        revocations,
        env(),
    );
    let stored = |name: &str| {
        store
            .account(name)
            .block_on()
            .unwrap()
            .unwrap()
            .password_hash
    };
    for (number, (password, hash)) in vectors().enumerate() {
        let name = format!("user {number}");
        let account = Account {
            id: UserId::new(&name).unwrap(),
            username: name.as_str().into(),
            password_hash: PasswordHash::from_phc(hash),
            disabled: false,
            created_at: Timestamp(0),
            valid_from: ValidFrom::default(),
        };
        assert!(matches!(
            store
                .add_account(account, &crate::event::Trail::default())
                .block_on(),
            Ok(Write::Done)
        ));
        let login = |typed| {
            accounts
                .identify(&name, Password::new(typed).unwrap())
                .block_on()
        };
        assert!(login("another").is_err());
        assert_eq!(stored(&name).as_str(), hash);
        assert!(login(password).is_ok(), "{hash}");
        let moved = stored(&name);
        assert!(moved.as_str().starts_with("$argon2id$v=19$m=16,"));
        assert!(login(password).is_ok() && login("another").is_err());
        assert_eq!(stored(&name), moved);
    }
}
