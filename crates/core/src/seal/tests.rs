use super::*;
use crate::env::Timestamp;
use crate::keys::KeyId;
use crate::testing::TestEnv;

const SECRET: &[u8] = b"7f0c3a9e51d24b86a1c9e3f05b7d2846";
const OTHER: &[u8] = b"46d8b25f07e3c91a68b42d15e9a3c0f7";
const PLAIN: &[u8] = b"a private key that nobody may see";

fn row() -> StoredKey {
    StoredKey {
        id: KeyId(0x0123_4567_89ab_cdef),
        purpose: Purpose::Access,
        algorithm: "EdDSA".into(),
        secret: PLAIN.into(),
        created_at: Timestamp(1),
        signs_from: Timestamp(2),
        verifies_until: Timestamp(3),
        scopes: "".into(),
        retired: false,
    }
}

fn env() -> TestEnv {
    TestEnv::new(Timestamp(0), 1)
}

fn opens(seal: &Seal, row: &StoredKey) -> bool {
    seal.open(row).is_some()
}

#[test]
fn what_was_sealed_is_opened_by_the_same_secret_only() {
    let seal = Seal::new(SECRET).unwrap();
    let sealed = seal.seal(&row(), &env()).unwrap();
    assert!(is_sealed(&sealed));
    assert!(!sealed.secret.windows(8).any(|part| part == &PLAIN[..8]));
    let again = Seal::new(SECRET).unwrap();
    assert_eq!(again.open(&sealed).unwrap().as_slice(), PLAIN);
    assert!(!opens(&Seal::new(OTHER).unwrap(), &sealed));
    assert!(Seals::default().open(&sealed).is_none());
}

#[test]
fn a_sealed_secret_cannot_be_moved_to_another_row() {
    let seal = Seal::new(SECRET).unwrap();
    let sealed = seal.seal(&row(), &env()).unwrap();
    let moved = [
        StoredKey {
            id: KeyId(1),
            ..sealed.clone()
        },
        StoredKey {
            purpose: Purpose::Refresh,
            ..sealed.clone()
        },
        StoredKey {
            algorithm: "HS256".into(),
            ..sealed.clone()
        },
    ];
    assert!(moved.iter().all(|row| !opens(&seal, row)));
    // When it signs may be changed without the secret.
    let later = StoredKey {
        signs_from: Timestamp(3),
        ..sealed
    };
    assert!(opens(&seal, &later));
}

#[test]
fn a_sealed_own_key_is_brought_back_for_nobody() {
    let seal = Seal::new(SECRET).unwrap();
    let own = StoredKey {
        scopes: r#"[null,"app"]"#.into(),
        ..row()
    };
    let sealed = seal.seal(&own, &env()).unwrap();
    assert!(opens(&seal, &sealed));
    let forged = [
        StoredKey {
            verifies_until: Timestamp(4),
            ..sealed.clone()
        },
        StoredKey {
            scopes: r#"[null,"other"]"#.into(),
            ..sealed.clone()
        },
        StoredKey {
            scopes: "".into(),
            ..sealed.clone()
        },
        StoredKey {
            algorithm: format!("EdDSA\0{}", sealed.scopes).into(),
            scopes: "".into(),
            ..sealed
        },
    ];
    assert!(forged.iter().all(|row| !opens(&seal, row)));
}

#[test]
fn every_changed_or_missing_byte_is_refused() {
    let seal = Seal::new(SECRET).unwrap();
    let sealed = seal.seal(&row(), &env()).unwrap();
    for at in 0..sealed.secret.len() {
        let mut changed = sealed.clone();
        changed.secret[at] ^= 1;
        assert!(!opens(&seal, &changed), "byte {at}");
        let cut = StoredKey {
            secret: sealed.secret[..at].into(),
            ..sealed.clone()
        };
        assert!(!opens(&seal, &cut), "cut at {at}");
    }
}

#[test]
fn one_secret_sealed_twice_looks_different() {
    let (seal, env) = (Seal::new(SECRET).unwrap(), env());
    let (one, two) = (
        seal.seal(&row(), &env).unwrap(),
        seal.seal(&row(), &env).unwrap(),
    );
    assert_ne!(one.secret[MARK.len()..], two.secret[MARK.len()..]);
    assert!(opens(&seal, &one) && opens(&seal, &two));
}

#[test]
fn an_unsealed_row_does_not_authenticate() {
    assert!(!opens(&Seal::new(SECRET).unwrap(), &row()));
    assert_eq!(Seals::default().open(&row()).unwrap().0.as_slice(), PLAIN);
}

#[test]
fn a_weak_seal_secret_is_refused_by_name() {
    for weak in ["", "short", "changeme-changeme-changeme-changeme"] {
        let error = Seal::new(weak.as_bytes()).unwrap_err();
        assert!(error.0.starts_with("seal_secret"), "{error}");
    }
}
