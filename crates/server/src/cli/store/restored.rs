//! `doorward store restored`: what a restored backup does not know is done again.

use std::fs;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command, value_parser};
use doorward_core::SystemEnv;
use doorward_core::keys::{KeyId, KeyRing};
use doorward_core::operator::{Happened, Operator, brought_back, time};
use doorward_core::store::Store;
use doorward_core::transfer::MovableStore;

use crate::Outcome;
use crate::cli::{existing, operator, report, say, shown};
use crate::config::Config;

pub(crate) fn command() -> Command {
    Command::new("restored")
        .about("After the restore of a backup: end every session that was opened before now")
        .arg(
            Arg::new("from-events")
                .long("from-events")
                .value_name("FILE")
                .value_parser(value_parser!(std::path::PathBuf))
                .help("End only what ended since, by an export of `doorward events --format json`"),
        )
}

pub(crate) async fn run(config: &Config, arguments: &ArgMatches) -> Outcome {
    // Before the store is touched: a file that cannot be read changes nothing.
    let told = arguments.get_one::<std::path::PathBuf>("from-events");
    let told = told.map(|path| read(path)).transpose()?;
    existing(config)?;
    let store = config.store.open_movable(config.engine.policy.clone())?;
    let plain: Arc<dyn Store> = store.clone();
    let operator = operator(config, Arc::clone(&plain));
    match told {
        Some(told) => replay(config, &*store, &operator, &told).await,
        None => end_all(config, &*store, &operator).await,
    }
}

fn read(path: &std::path::Path) -> Outcome<Happened> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    Happened::read(&text).map_err(|line| {
        format!("{name}:{line}: this is no line of `doorward events --format json`").into()
    })
}

async fn end_all(config: &Config, store: &dyn MovableStore, operator: &Operator) -> Outcome {
    // Before the sessions are: what a leaked key signs is refused by neither.
    let back = brought_back(store.keys().await?);
    let retired = retire(config, store, operator, &back).await?;
    let at = operator
        .restored(store, config.engine.policy.clock_skew)
        .await?;
    report(&format!(
        "every session that was opened before {} is over; {retired} keys retired, new ones made; \
         resets dropped",
        time(at)
    ))?;
    say("passwords are those of the backup: whoever changed it since has the old one again")
}

async fn replay(
    config: &Config,
    store: &dyn MovableStore,
    operator: &Operator,
    told: &Happened,
) -> Outcome {
    let done = operator.replay(store, told).await?;
    let retired = retire(config, store, operator, &done.keys).await?;
    report(&format!(
        "{} sessions ended again, {} accounts changed again, {retired} keys retired again; \
         resets dropped",
        done.sessions, done.accounts
    ))?;
    for user in &done.passwords {
        let account = store.account_of(user).await?;
        let name = account.map_or_else(|| user.as_str().into(), |found| found.username);
        say(&format!(
            "{}: has the password of the backup again; `doorward user reset` makes a new one",
            shown(&name)
        ))?;
    }
    Ok(())
}

/// Retires those that are there and are not retired; how many.
async fn retire(
    config: &Config,
    store: &dyn Store,
    operator: &Operator,
    ids: &[KeyId],
) -> Outcome<usize> {
    let live: Vec<_> = store
        .keys()
        .await?
        .into_iter()
        .filter(|key| !key.retired)
        .collect();
    let ids: Vec<_> = ids
        .iter()
        .filter(|id| live.iter().any(|key| key.id == **id))
        .collect();
    if ids.is_empty() {
        return Ok(0);
    }
    let key = config.engine.key.clone();
    let ring = KeyRing::look(store, key, &config.engine.policy, Arc::new(SystemEnv)).await?;
    for id in &ids {
        operator.retire_key(&ring, **id).await?;
    }
    Ok(ids.len())
}
