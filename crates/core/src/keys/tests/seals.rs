//! How a seal secret is replaced while processes go on.

use super::*;

/// As the documented order has it: the new secret, and the one before.
fn moving(config: KeyConfig) -> KeyConfig {
    KeyConfig {
        seal_secret_previous: vec![SEAL.as_bytes().to_vec().into()],
        ..sealed(config, OTHER_SEAL)
    }
}

fn reseal(world: &World, ring: &KeyRing) -> usize {
    ring.reseal(&*world.store).block_on().unwrap()
}

fn opens_all(world: &World, secret: &str) -> bool {
    let seal = Seals::new(Some(secret.as_bytes()), &[]).unwrap();
    let rows = world.store.keys().block_on().unwrap();
    let mut live = rows.iter().filter(|row| !row.retired);
    live.all(|row| seal.open(row).is_some())
}

#[test]
fn processes_with_and_without_the_new_secret_share_the_store_until_it_is_sealed_anew() {
    for config in [KeyConfig::default(), own(SECRET)] {
        let world = World::new();
        let before = world.open(sealed(config.clone(), SEAL));
        let after = world.open(moving(own(OTHER_SECRET)));
        let _ = world.rotate(&after, Purpose::Refresh);
        world.run(&after, world.now() + Duration::from_secs(600));
        world.tick(&before);
        assert!(opens_all(&world, SEAL) && after.is_sealed_before());
        assert!(world.verifies(&before, &world.sign(&after)));
        assert!(world.verifies(&after, &world.sign(&before)));
    }
}

#[test]
fn resealing_moves_all_keys_at_once_and_ends_nothing() {
    let world = World::new();
    let before = world.open(sealed(own(SECRET), SEAL));
    let token = world.sign(&before);
    let refresh = before.current_refresh(world.now()).unwrap();
    let nodes = [
        world.open(moving(own(SECRET))),
        world.open(moving(own(SECRET))),
    ];
    assert_eq!(reseal(&world, &nodes[0]), 2);
    assert_eq!(reseal(&world, &nodes[0]), 0);
    assert!(opens_all(&world, OTHER_SEAL));
    let after = world.open(sealed(own(SECRET), OTHER_SEAL));
    for node in nodes.iter().chain([&after]) {
        world.tick(node);
        assert!(world.verifies(node, &token) && !node.is_sealed_before());
        let same = node.refresh_key(refresh.id()).unwrap();
        assert_eq!(same.tag(b"fields"), refresh.tag(b"fields"));
    }
    let error = world.refused(sealed(own(SECRET), SEAL));
    assert!(error.contains("seal_secret_previous"), "{error}");
    // What a process writes from now on is sealed anew.
    let _ = world.rotate(&nodes[1], Purpose::Refresh);
    world.run(&nodes[1], world.now() + Duration::from_secs(600));
    assert!(opens_all(&world, OTHER_SEAL));
}

#[test]
fn a_key_that_was_written_while_the_others_were_resealed_follows() {
    let world = World::new();
    let late = world.open(sealed(KeyConfig::default(), SEAL));
    let node = world.open(moving(KeyConfig::default()));
    assert_eq!(reseal(&world, &node), 2);
    // As a process does that has read the store just before.
    let key = late
        .new_key(Purpose::Refresh, Algorithm::HS256, world.now())
        .unwrap();
    let key = late.seals.seal(&key, 0, &*world.env).unwrap();
    assert_eq!(
        world.store.add_key(key, false).block_on().unwrap(),
        Write::Done
    );
    assert!(!opens_all(&world, OTHER_SEAL));
    world.tick(&node);
    assert!(opens_all(&world, OTHER_SEAL));
}

#[test]
fn a_seal_secret_that_went_too_early_is_asked_for_and_nothing_is_lost() {
    let world = World::new();
    let token = world.sign(&world.open(sealed(KeyConfig::default(), SEAL)));
    let error = world.refused(sealed(KeyConfig::default(), OTHER_SEAL));
    assert!(error.contains("seal_secret_previous"), "{error}");
    assert!(world.verifies(&world.open(moving(KeyConfig::default())), &token));
    // Backwards too.
    let back = KeyConfig {
        seal_secret_previous: vec![OTHER_SEAL.as_bytes().to_vec().into()],
        ..sealed(KeyConfig::default(), SEAL)
    };
    reseal(&world, &world.open(moving(KeyConfig::default())));
    let node = world.open(back);
    assert_eq!(reseal(&world, &node), 2);
    assert!(opens_all(&world, SEAL) && world.verifies(&node, &token));
}

#[test]
fn a_retired_key_is_over_for_a_process_that_cannot_read_the_others_any_more() {
    let world = World::new();
    let before = world.open(sealed(KeyConfig::default(), SEAL));
    let token = world.sign(&before);
    let after = world.open(moving(KeyConfig::default()));
    reseal(&world, &after);
    assert!(world.reload(&before).is_err() && world.verifies(&before, &token));
    let id = kid(&token);
    let row = after
        .rows()
        .into_iter()
        .find(|row| row.id.to_string() == id);
    world.retire(&after, row.unwrap().id);
    assert!(world.reload(&before).is_err());
    assert!(!world.verifies(&before, &token) && !world.logs_out(&before, &token));
    let user = UserId::new("ada").unwrap();
    let signed = before.sign_access(&world.claims(&user), world.now());
    assert!(signed.is_err());
}

#[test]
fn a_process_whose_store_another_one_seals_says_so() {
    let world = World::new();
    let plain = world.service(world.open(KeyConfig::default()));
    let _ = world.open(sealed(KeyConfig::default(), SEAL));
    assert!(plain.tick().block_on().is_err());
    let unready = plain.unready().unwrap();
    assert!(unready.contains("seal_secret is missing"), "{unready}");
    // The store answers: what it says of ended sessions is still no older than that.
    world.env.advance(world.policy.access_ttl * 3);
    assert!(plain.unready().unwrap().contains("seal_secret is missing"));
}

#[test]
fn a_plain_store_is_sealed_and_a_sealed_one_is_not_opened_again_without_its_secret() {
    let world = World::new();
    let token = world.sign(&world.open(KeyConfig::default()));
    let looked = world.look(sealed(KeyConfig::default(), SEAL));
    assert_eq!(reseal(&world, &looked), 2);
    assert!(opens_all(&world, SEAL));
    assert!(world.verifies(&world.open(sealed(KeyConfig::default(), SEAL)), &token));
    let error = world.refused(KeyConfig::default());
    assert!(error.contains("seal_secret is missing"), "{error}");
    let error = looked.reseal(&*world.store).block_on();
    assert_eq!(error.unwrap(), 0);
}

#[test]
fn seal_secrets_that_cannot_be_told_apart_are_refused() {
    let previous = |secrets: &[&str], config: KeyConfig| KeyConfig {
        seal_secret_previous: secrets
            .iter()
            .map(|s| s.as_bytes().to_vec().into())
            .collect(),
        ..config
    };
    for (config, words) in [
        (
            previous(&[SEAL], KeyConfig::default()),
            "without seal_secret",
        ),
        (
            previous(&[SEAL], sealed(KeyConfig::default(), SEAL)),
            "must differ from seal_secret",
        ),
        (
            previous(&[OTHER_SEAL, SEAL], sealed(KeyConfig::default(), SEAL)),
            "must differ",
        ),
        (
            previous(&[SECRET], sealed(own(SECRET), SEAL)),
            "must differ from secret",
        ),
        (
            previous(&[""], sealed(KeyConfig::default(), SEAL)),
            "is empty",
        ),
    ] {
        let error = config.check().unwrap_err();
        assert!(error.0.contains(words), "{error}");
    }
    // A previous one may be weak: that may be why it goes.
    assert_eq!(
        previous(&["weak"], sealed(KeyConfig::default(), SEAL)).check(),
        Ok(())
    );
}
