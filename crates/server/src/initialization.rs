//! INITIALIZATION: from settings to a door.

use std::sync::Arc;

use doorward_axum::{Builder, Doorward};
use doorward_core::Event;
use doorward_core::memory::MemoryStore;

use crate::Outcome;
use crate::config::{Config, StorePlace};

/// Opens the store and everything above it; each event goes to `on_event`.
pub(crate) async fn open(
    config: &Config,
    on_event: impl Fn(&Event) + Send + Sync + 'static,
) -> Outcome<Doorward> {
    let mut builder = builder(config);
    builder.policy = config.policy.clone();
    builder.settings = config.settings.clone();
    builder.key = config.key.clone();
    builder.hashing = config.hashing.clone();
    builder.trusted_proxies.clone_from(&config.trusted_proxies);
    builder.on_event = Box::new(on_event);
    Ok(builder.open().await?)
}

fn builder(config: &Config) -> Builder {
    match &config.store {
        StorePlace::Sqlite(path) => Doorward::sqlite(path),
        StorePlace::Memory => Doorward::store(Arc::new(MemoryStore::new(config.policy.clone()))),
    }
}
