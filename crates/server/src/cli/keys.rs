//! `doorward keys`: the ring.

use clap::ArgMatches;
use doorward_core::keys::{KeyId, Purpose};

use super::{date, open, say};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let door = open(&config).await?;
    let (keys, store) = (door.service().keys(), door.service().store());
    match arguments.subcommand() {
        Some(("rotate", arguments)) => {
            let purpose = match arguments.get_one::<String>("purpose").map(String::as_str) {
                Some("refresh") => Purpose::Refresh,
                _ => Purpose::Access,
            };
            let id = keys.rotate(&**store, purpose).await?;
            say(&format!(
                "{id}: signs in {} s",
                doorward_core::keys::PUBLISH_DELAY.as_secs()
            ));
        }
        Some(("retire", arguments)) => {
            let text = arguments.get_one::<String>("id").map_or("", String::as_str);
            let id: KeyId = text.parse().map_err(|_| format!("{text} is no key id"))?;
            keys.retire(&**store, id).await?;
            say(&format!("{id}: retired"));
        }
        _ => {
            for key in keys.rows() {
                let state = if key.retired { "retired" } else { "live" };
                let purpose = format!("{:?}", key.purpose).to_lowercase();
                let from = date(key.signs_from);
                say(&format!(
                    "{}\t{purpose}\t{}\t{state}\tsigns from {from}",
                    key.id, key.algorithm
                ));
            }
        }
    }
    Ok(())
}
