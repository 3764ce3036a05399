//! `doorward store restored`: what a restored backup does not know is done again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command, value_parser};
use doorward_core::SystemEnv;
use doorward_core::keys::KeyRing;
use doorward_core::operator::Happened;

use crate::Outcome;
use crate::cli::{existing, operator, report};
use crate::config::Config;

pub(crate) fn command() -> Command {
    Command::new("restored")
        .about("After the restore of a backup: end every session that was opened before now")
        .arg(
            Arg::new("from-events")
                .long("from-events")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("End only what ended since, by an export of `doorward events --format json`"),
        )
}

pub(crate) async fn run(config: &Config, arguments: &ArgMatches) -> Outcome {
    // Before the store is touched: a file that cannot be read changes nothing.
    let told = arguments.get_one::<PathBuf>("from-events");
    let told = told.map(|path| read(path)).transpose()?;
    let store = existing(config)?;
    let policy = &config.engine.policy;
    let moving = config.store.open_movable(policy.clone())?;
    let key = config.engine.key.clone();
    let ring = KeyRing::look(&*store, key, policy, Arc::new(SystemEnv)).await?;
    let operator = operator(config, store);
    let done = operator.after_restore(&*moving, &ring, policy.clock_skew, told.as_ref());
    done.await?.iter().try_for_each(|line| report(line))
}

fn read(path: &Path) -> Outcome<Happened> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    if text.trim().is_empty() {
        // An export that failed; nothing would be ended, and be told as done.
        let why = "holds no events; without --from-events all sessions end";
        return Err(format!("{name}: {why}").into());
    }
    Happened::read(&text).map_err(|line| {
        format!("{name}:{line}: this is no line of `doorward events --format json`").into()
    })
}
