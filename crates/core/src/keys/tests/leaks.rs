//! What a leaked access key is good for: access tokens, and nothing else.
//!
//! By construction: refresh, CSRF and device keys are derived from rows of their own, which are
//! random; sealing keys from `seal_secret`, which may not be an access key. So nothing but the
//! access keys themselves is a function of an access key. The tests try it all the same.

use super::*;
use crate::refresh_token::RefreshToken;

fn refresh_token(key: KeyId, session: SessionId, id: TokenId) -> RefreshToken {
    RefreshToken {
        key,
        session,
        id,
        parent: id,
        generation: 1,
        issued_at: NOW,
    }
}

/// Every secret that an access key of the ring is or contains: whole, and each of its pieces.
fn leaked(ring: &KeyRing, configured: &[&str]) -> Vec<Vec<u8>> {
    let access = ring.rows().into_iter();
    let access = access.filter(|row| row.purpose == Purpose::Access);
    let mut secrets: Vec<_> = access.map(|row| row.secret.to_vec()).collect();
    secrets.extend(configured.iter().map(|text| text.as_bytes().to_vec()));
    let pieces = secrets.iter().flat_map(|secret| secret.windows(32));
    let pieces: Vec<_> = pieces.map(<[u8]>::to_vec).collect();
    secrets.extend(pieces);
    secrets
}

#[test]
fn a_leaked_access_key_mints_no_refresh_token_and_no_value_of_a_device_or_double_submit() {
    let configs = [
        of(Algorithm::EdDSA),
        of(Algorithm::HS256),
        of(Algorithm::ES256),
        own(SECRET),
    ];
    for config in configs {
        let world = World::new();
        let service = world.service(world.open(config));
        let ring = service.keys();
        let real = ring.current_refresh(world.now()).unwrap();
        let session = SessionId::new(world.now(), &*world.env);
        let accepts = |text: &str| service.refresh_token(text).block_on().is_ok();
        let honest = refresh_token(real.id(), session, TokenId([1; 16]));
        assert!(accepts(honest.sign(&real).as_str()));
        for secret in leaked(ring, &[SECRET]) {
            let forger = RefreshKey::new(real.id(), &secret);
            assert!(!accepts(honest.sign(&forger).as_str()));
            let child = |key: &RefreshKey| key.child_id(session, TokenId([1; 16]), 0);
            assert_ne!(child(&forger), child(&real));
            assert_ne!(
                forger.device_tag(b"", &[0; 32], "ada"),
                real.device_tag(b"", &[0; 32], "ada")
            );
            for kind in [CsrfKind::Access, CsrfKind::Refresh] {
                let value = real.csrf(session, kind);
                assert!(!value.is(forger.csrf(session, kind).as_str().as_bytes()));
            }
        }
        // And what it does mint is taken for nothing else.
        assert!(!accepts(&world.sign(ring)));
    }
}

#[test]
fn a_leaked_access_key_opens_no_sealed_key() {
    for config in [of(Algorithm::HS256), of(Algorithm::EdDSA), own(SECRET)] {
        let plain = World::new();
        let secrets = leaked(&plain.open(config.clone()), &[SECRET]);
        let world = World::new();
        let _ = world.open(sealed(config, SEAL));
        let rows = world.store.keys().block_on().unwrap();
        let of = |secret: &[u8]| Seals::new(None, &[secret]).unwrap();
        for secret in secrets {
            assert!(rows.iter().all(|row| of(&secret).open(row).is_none()));
        }
        assert!(
            rows.iter()
                .all(|row| of(SEAL.as_bytes()).open(row).is_some())
        );
    }
}

#[test]
fn what_is_derived_from_one_row_is_pairwise_different() {
    let key = RefreshKey::new(KeyId(1), &[7; 32]);
    let session = SessionId([2; 16]);
    let message = [&session.0[..], &[3; 16], &0_u32.to_be_bytes()].concat();
    let tags = [key.tag(&message), key.device_tag(&message, &[0; 32], "ada")];
    let id = key.child_id(session, TokenId([3; 16]), 0);
    assert_ne!(tags[0], tags[1]);
    assert!(tags.iter().all(|tag| tag[..16] != id.0));
}
