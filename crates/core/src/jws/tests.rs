use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64_simd::STANDARD;
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"b9a1d5f3c7e84b60a2d4f6081c3e5a79";

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode_to_string(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let body = lines.join("\n");
    format!("\n-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// A private key and its public key, in PEM.
fn key_pair(algorithm: Algorithm) -> (String, String) {
    let (private, public) = if let Some((curve, _)) = algorithm.curve() {
        let private = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, private.as_ref()).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        (private.as_ref().to_vec(), public.as_ref().to_vec())
    } else if algorithm == Algorithm::EdDsa {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        (
            pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            public.as_ref().to_vec(),
        )
    } else {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        (private.as_ref().to_vec(), public.as_ref().to_vec())
    };
    (pem("PRIVATE KEY", &private), pem("PUBLIC KEY", &public))
}

fn signed(algorithm: Algorithm, key: &[u8], header: &str, payload: &str) -> String {
    let key = SigningKey::of(algorithm, key).unwrap();
    let signed = to_be_signed(header.as_bytes(), payload.as_bytes());
    let signature = key.sign(&signed).unwrap().unwrap();
    token(signed, &signature)
}

fn hs256(header: &str, payload: &str) -> String {
    signed(Algorithm::Hs(Sha::Sha256), SECRET, header, payload)
}

fn text(refused: Refused) -> String {
    refused.text.into_owned()
}

#[test]
fn what_a_key_signs_it_verifies_and_nothing_else() {
    for (name, algorithm) in NAMES {
        let (private, public) = match algorithm {
            Algorithm::Hs(_) => {
                let secret = String::from_utf8(SECRET.to_vec()).unwrap();
                (secret.clone(), secret)
            }
            _ => key_pair(algorithm),
        };
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let made = signed(algorithm, private.as_bytes(), &header, "{}");
        let jws = Jws::read(&made).unwrap();
        assert_eq!(jws.algorithm(&[name.to_owned()]), Ok(algorithm));
        for key in [&public, &private] {
            let key = VerifyingKey::of(algorithm, key.as_bytes()).unwrap();
            assert_eq!(jws.is_signed_by(&key), Verdict::Signed, "{name}");
            let (input, signature) = jws.signed();
            for at in [0, signature.len() / 2, signature.len() - 1] {
                let mut forged = signature.to_vec();
                forged[at] ^= 1;
                let verdict = key.verify(input.as_bytes(), &forged);
                assert_eq!(verdict, Verdict::Forged, "{name} {at}");
                let verdict = key.verify(input.as_bytes(), &signature[..at]);
                assert_eq!(verdict, Verdict::Forged, "{name} {at}");
            }
            assert_eq!(key.verify(b"other", signature), Verdict::Forged);
        }
        if !matches!(algorithm, Algorithm::Hs(_)) {
            assert!(SigningKey::of(algorithm, public.as_bytes()).is_err());
        }
    }
}

#[test]
fn a_key_of_one_kind_is_none_of_another() {
    let one = |algorithm| (algorithm, key_pair(algorithm));
    let pairs = [
        one(Algorithm::Rs(Sha::Sha256)),
        one(Algorithm::Es(Sha::Sha256)),
        one(Algorithm::Es(Sha::Sha384)),
        one(Algorithm::Es256k),
        one(Algorithm::EdDsa),
    ];
    for (algorithm, _) in &pairs {
        for (other, (private, public)) in &pairs {
            let fits = algorithm == other;
            let signs = SigningKey::of(*algorithm, private.as_bytes());
            let verifies = VerifyingKey::of(*algorithm, public.as_bytes());
            assert_eq!(
                (signs.is_ok(), verifies.is_ok()),
                (fits, fits),
                "{algorithm:?} {other:?}"
            );
        }
        assert!(VerifyingKey::of(*algorithm, SECRET).is_err());
    }
    for (_, (private, public)) in &pairs {
        for text in [private, public] {
            let secret = VerifyingKey::of(Algorithm::Hs(Sha::Sha256), text.as_bytes());
            assert_eq!(
                secret.err().map(|refused| refused.fault),
                Some(Fault::InvalidKey)
            );
        }
    }
}

#[test]
fn the_example_of_rfc_7515_is_verified() {
    // Appendix A.1.
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQo\
                 gImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let secret = BASE64URL
        .decode_to_vec(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        )
        .unwrap();
    let key = VerifyingKey::of(Algorithm::Hs(Sha::Sha256), &secret).unwrap();
    assert_eq!(
        Jws::read(token).unwrap().is_signed_by(&key),
        Verdict::Signed
    );
}

#[test]
fn the_example_of_rfc_8037_is_verified() {
    // Appendix A.4, its key as SubjectPublicKeyInfo (RFC 8410).
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvM\
                 g3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let x = BASE64URL
        .decode_to_vec("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    let mut der = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    der.extend(x);
    let key = VerifyingKey::of(Algorithm::EdDsa, pem("PUBLIC KEY", &der).as_bytes()).unwrap();
    assert_eq!(
        Jws::read(token).unwrap().is_signed_by(&key),
        Verdict::Signed
    );
}

#[test]
fn malformed_tokens_are_refused_in_words() {
    let made = hs256(r#"{"alg":"HS256"}"#, "{}");
    let (signed, signature) = made.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    for (token, words) in [
        (String::new(), "Not enough segments"),
        (signed.to_owned(), "Not enough segments"),
        (
            format!("{header}!.{payload}.{signature}"),
            "Invalid header padding",
        ),
        (
            format!("{header}.{payload}.x.{signature}"),
            "Invalid payload padding",
        ),
        (format!("{made}=="), "Invalid crypto padding"),
        (
            format!("{header}.e31.{signature}"),
            "Invalid payload padding",
        ),
        (
            hs256("[]", "{}"),
            "Invalid header string: must be a json object",
        ),
        (
            hs256(r#"{"kid":1}"#, "{}"),
            "Key ID header parameter must be a string",
        ),
        (
            hs256(r#"{"crit":[]}"#, "{}"),
            "Invalid 'crit' header: must be a non-empty list",
        ),
        (
            hs256(r#"{"crit":[1]}"#, "{}"),
            "Invalid 'crit' header: values must be strings",
        ),
        (
            hs256(r#"{"crit":["x"],"x":1}"#, "{}"),
            "Unsupported critical extension: x",
        ),
        (
            hs256(r#"{"b64":false}"#, "{}"),
            "Payload segment must be empty when 'b64' is false.",
        ),
    ] {
        assert_eq!(
            Jws::read(&token).err().map(text).as_deref(),
            Some(words),
            "{token}"
        );
    }
}

#[test]
fn a_header_field_that_is_given_twice_is_refused() {
    let twice = hs256(r#"{"alg":"HS256","alg":"none"}"#, "{}");
    assert_eq!(
        Jws::read(&twice).err().map(|refused| refused.fault),
        Some(Fault::Header)
    );
}

#[test]
fn only_an_allowed_algorithm_is_one() {
    let allowed = ["HS256".to_owned(), "XX".to_owned()];
    for (header, words) in [
        ("{}", "Algorithm not specified"),
        (
            r#"{"alg":"none"}"#,
            "The specified alg value is not allowed",
        ),
        (
            r#"{"alg":"HS512"}"#,
            "The specified alg value is not allowed",
        ),
        (r#"{"alg":null}"#, "The specified alg value is not allowed"),
        (r#"{"alg":"XX"}"#, "Algorithm not supported"),
    ] {
        let made = hs256(header, "{}");
        let refused = Jws::read(&made).unwrap().algorithm(&allowed).map_err(text);
        assert_eq!(refused, Err(words.to_owned()), "{header}");
    }
}

#[test]
fn no_text_makes_reading_panic() {
    let made = hs256(
        r#"{"alg":"HS256","kid":"\u0061"}"#,
        r#"{"exp":1e300,"aud":[1]}"#,
    );
    let junk = ["", ".", "=", "é", "AA", "\0"];
    for at in (0..made.len()).filter(|at| made.is_char_boundary(*at)) {
        for insert in junk {
            let changed = format!("{}{insert}{}", &made[..at], &made[at + 1..]);
            if let Ok(jws) = Jws::read(&changed) {
                let (_, payload) = jws.into_parts();
                let _ = Claims::read(&payload).map(|claims| claims.check(&Rules::default(), 0.0));
            }
        }
    }
}

fn check(claims: &Value, rules: &Rules) -> Result<bool, String> {
    let claims = Claims::read(claims.to_string().as_bytes()).unwrap();
    claims.check(rules, 1000.0).map_err(text)?;
    Ok(!claims.has_expired(rules, 1000.0))
}

#[test]
fn times_are_numbers_and_have_a_leeway() {
    let (none, ten) = (
        Rules::default(),
        Rules {
            leeway: 10.0,
            ..Rules::default()
        },
    );
    for (claims, strict, lenient) in [
        (json!({"exp": 1000}), Ok(false), Ok(true)),
        (json!({"exp": 1001.9}), Ok(true), Ok(true)),
        (json!({"exp": "990"}), Ok(false), Ok(false)),
        (json!({"exp": null}), Err("exp"), Err("exp")),
        (json!({"exp": [1]}), Err("exp"), Err("exp")),
        (json!({"nbf": 1001}), Err("nbf"), Ok(true)),
        (json!({"nbf": "soon"}), Err("nbf"), Err("nbf")),
        (json!({"iat": 1011}), Err("iat"), Err("iat")),
        (json!({"iat": true}), Ok(true), Ok(true)),
        (json!({}), Ok(true), Ok(true)),
    ] {
        for (rules, expected) in [(&none, strict), (&ten, lenient)] {
            match (check(&claims, rules), expected) {
                (Ok(lives), expected) => assert_eq!(Ok(lives), expected, "{claims}"),
                (Err(words), Err(claim)) => assert!(words.contains(claim), "{claims}: {words}"),
                (Err(words), Ok(_)) => panic!("{claims}: {words}"),
            }
        }
    }
}

#[test]
fn audience_and_issuer_must_be_among_the_accepted() {
    let accepted = |name: &str| Some(vec![name.to_owned()]);
    let rules = Rules {
        audience: accepted("me"),
        issuer: accepted("you"),
        ..Rules::default()
    };
    for (claims, refused) in [
        (json!({"aud": "me", "iss": "you"}), None),
        (json!({"aud": ["x", "me"], "iss": "you"}), None),
        (json!({"aud": "me"}), Some("iss")),
        (
            json!({"aud": "me", "iss": ["you"]}),
            Some("Payload Issuer (iss) must be a string"),
        ),
        (json!({"aud": "me", "iss": "x"}), Some("Invalid issuer")),
        (json!({"iss": "you"}), Some("aud")),
        (json!({"aud": [], "iss": "you"}), Some("aud")),
        (
            json!({"aud": ["me", 1], "iss": "you"}),
            Some("Invalid claim format in token"),
        ),
        (
            json!({"aud": "x", "iss": "you"}),
            Some("Audience doesn't match"),
        ),
    ] {
        let checked = check(&claims, &rules).err();
        assert_eq!(checked.as_deref(), refused, "{claims}");
    }
}

#[test]
fn a_double_submit_value_matches_itself_only() {
    let has = |claims: &str, value| Claims::read(claims.as_bytes()).unwrap().has_csrf(value);
    assert_eq!(has(r#"{"csrf":"a"}"#, "a"), Some(true));
    assert_eq!(has(r#"{"csrf":"a"}"#, "b"), Some(false));
    assert_eq!(has(r#"{"csrf":""}"#, ""), Some(false));
    assert_eq!(has(r#"{"csrf":1}"#, "1"), Some(false));
    assert_eq!(has("{}", "a"), None);
}

#[test]
fn json_that_only_lenient_parsers_read_is_left_to_the_caller() {
    for json in [
        r#"{"x":NaN}"#,
        r#"{"exp":1,"exp":2}"#,
        r#"{"x":"\ud800"}"#,
        "[]",
        "",
        "{",
    ] {
        assert!(Claims::read(json.as_bytes()).is_none(), "{json}");
    }
    assert!(Claims::read(b"{\"x\":\"\xff\"}").is_none());
}

#[test]
fn random_ids_are_uuids_of_version_4() {
    let [one, other] = random_uuids().unwrap();
    assert_ne!(one, other);
    let dashes: Vec<usize> = one.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((one.len(), dashes), (36, vec![8, 13, 18, 23]));
    assert!(&one[14..15] == "4" && "89ab".contains(&one[19..20]));
}
