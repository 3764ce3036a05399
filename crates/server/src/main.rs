//! Doorward's stand-alone server: sessions for anything that speaks HTTP.
//!
//! - `config`: every setting in one table; file, environment, flags. `secret_file`: who may have
//!   read a file that holds a secret; `exposure`: what the addresses and settings together give away.
//! - `initialization`: from settings to a door.
//! - `serve`: listeners, and what every request passes; `connections`, `stall`, `tls`: what carries
//!   them, its limits and its end; `operator`: health and metrics.
//! - `cli`: users, sessions and keys from the command line; the doctor, who looks at a deployment.
#![forbid(unsafe_code)]

mod cli;
mod config;
mod connections;
mod exposure;
mod initialization;
mod logging;
mod operator;
mod secret_file;
mod serve;
mod stall;
mod tls;
mod traces;

use std::process::ExitCode;

use crate::config::Config;

/// What the program ends with: words for the operator.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments = cli::command().get_matches();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) if cli::is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::say_error(&error.to_string());
            if error.is::<cli::import::SomeRefused>() {
                return ExitCode::from(3);
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &clap::ArgMatches) -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // Looks at another's deployment, which settings of this machine have no part in.
    if let Some(("doctor", arguments)) = arguments.subcommand() {
        return runtime.block_on(cli::doctor::run(arguments));
    }
    let config = Config::read(arguments)?;
    let outcome = match arguments.subcommand() {
        Some(("serve", _)) => runtime.block_on(serve::serve(config)),
        Some(("check-config", _)) => runtime.block_on(cli::check_config(config)),
        Some(("user", arguments)) => runtime.block_on(cli::user::run(config, arguments)),
        Some(("session", arguments)) => runtime.block_on(cli::session::run(config, arguments)),
        Some(("store", arguments)) => runtime.block_on(cli::store::run(config, arguments)),
        Some(("events", arguments)) => runtime.block_on(cli::events::run(config, arguments)),
        Some(("keys", arguments)) => runtime.block_on(cli::keys::run(config, arguments)),
        _ => Ok(()),
    };
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome.map(|()| ExitCode::SUCCESS)
}
