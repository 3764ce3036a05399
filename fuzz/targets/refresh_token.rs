//! A refresh token has one text, and only the one that was handed out counts.
#![no_main]

use std::sync::LazyLock;

use doorward_core::Delivery;
use doorward_core::refresh_token::Unverified;
use doorward_fuzz::World;
use libfuzzer_sys::fuzz_target;
use pollster::FutureExt;

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(Delivery::Body));

fuzz_target!(|text: &str| {
    let service = WORLD.engine.service();
    let ours = text == WORLD.grant.refresh.as_str();
    let read = service.refresh_token(text).block_on();
    assert_eq!(read.is_ok(), ours);
    if let Ok(token) = Unverified::parse(text)
        && let Some(key) = service.keys().refresh_key(token.key())
    {
        let token = token.verify(&key);
        assert_eq!(
            token.map(|token| token.sign(&key).as_str() == text).ok(),
            ours.then_some(true)
        );
    }
    let (refreshed, _) = service.refresh(text, Delivery::Body).block_on();
    assert_eq!(refreshed.is_ok(), ours);
});
