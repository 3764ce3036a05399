//! `doorward store`: what concerns a store as a whole.

mod moving;
mod restored;

use clap::{ArgMatches, Command};

use crate::Outcome;
use crate::config::Config;

pub(crate) fn command() -> Command {
    Command::new("store")
        .about("The store as a whole: after the restore of a backup, and moving to another")
        .subcommand_required(true)
        .subcommands([
            moving::copy_command(),
            moving::switch_command(),
            restored::command(),
        ])
}

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    match arguments.subcommand() {
        Some(("copy", arguments)) => moving::copy(&config, arguments).await,
        Some(("switch", arguments)) => moving::switch(&config, arguments).await,
        Some(("restored", arguments)) => restored::run(&config, arguments).await,
        _ => Ok(()),
    }
}
