//! `doorward keys`: the ring.

use std::sync::Arc;

use clap::ArgMatches;
use doorward_core::keys::{KeyId, KeyRing, PUBLISH_DELAY, Purpose, StoredKey};
use doorward_core::{Env, SystemEnv, Timestamp};

use super::{date, existing, operator, report, say};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let store = existing(&config)?;
    let operator = operator(&config, Arc::clone(&store));
    let ring = KeyRing::look(
        &*store,
        config.engine.key,
        &config.engine.policy,
        Arc::new(SystemEnv),
    );
    match arguments.subcommand() {
        Some(("rotate", arguments)) => {
            let purpose = match arguments.get_one::<String>("purpose").map(String::as_str) {
                Some("refresh") => Purpose::Refresh,
                _ => Purpose::Access,
            };
            let id = operator.rotate_key(&ring.await?, purpose).await?;
            report(&format!("{id}: signs in {} s", PUBLISH_DELAY.as_secs()))
        }
        Some(("reseal", _)) => {
            let count = ring.await?.reseal(&*store).await?;
            report(&format!("{count} keys sealed by seal_secret"))
        }
        Some(("retire", arguments)) => {
            let text = arguments.get_one::<String>("id").map_or("", String::as_str);
            let id: KeyId = text.parse().map_err(|_| format!("{text} is no key id"))?;
            operator.retire_key(&ring.await?, id).await?;
            report(&format!("{id}: retired"))
        }
        _ => {
            let now = SystemEnv.now();
            let keys = store.keys().await?;
            keys.iter().try_for_each(|key| show(key, now))
        }
    }
}

fn show(key: &StoredKey, now: Timestamp) -> Outcome {
    let state = key.state(now);
    let purpose = format!("{:?}", key.purpose).to_lowercase();
    let (id, algorithm, from) = (key.id, &key.algorithm, date(key.signs_from));
    say(&format!(
        "{id}\t{purpose}\t{algorithm}\t{state}\tsigns from {from}"
    ))
}
