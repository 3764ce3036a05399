//! The command line: its grammar, and what all commands share.

pub(crate) mod keys;
pub(crate) mod session;
pub(crate) mod user;

use std::io::Write;

use clap::{Arg, ArgAction, Command};
use doorward_axum::Doorward;

use crate::config::{Config, KEYS, StorePlace};
use crate::{Outcome, initialization};

/// The grammar. Every setting is a flag of every command.
pub(crate) fn command() -> Command {
    let name = || Arg::new("name").required(true).value_name("NAME");
    let id = || Arg::new("id").required(true).value_name("ID");
    let stdin = || {
        Arg::new("password-stdin")
            .long("password-stdin")
            .action(ArgAction::SetTrue)
            .help("Read the password from standard input")
    };
    let generate = || {
        Arg::new("generate-password")
            .long("generate-password")
            .action(ArgAction::SetTrue)
            .conflicts_with("password-stdin")
            .help("Make a password and print it")
    };
    let user = Command::new("user")
        .about("Built-in accounts")
        .subcommand_required(true)
        .subcommands([
            Command::new("add")
                .about("Make an account")
                .args([name(), stdin(), generate()]),
            Command::new("list").about("Show accounts"),
            Command::new("disable")
                .about("Refuse logins and end all sessions")
                .arg(name()),
            Command::new("enable")
                .about("Allow logins again")
                .arg(name()),
            Command::new("set-password")
                .about("Change a password and end all sessions")
                .args([name(), stdin(), generate()]),
            Command::new("remove")
                .about("Remove an account and end all sessions")
                .arg(name()),
        ]);
    let session = Command::new("session")
        .about("Sessions")
        .subcommand_required(true)
        .subcommands([
            Command::new("list")
                .about("Show live sessions")
                .arg(Arg::new("name").value_name("NAME")),
            Command::new("end").about("End a session").arg(id()),
        ]);
    let keys = Command::new("keys")
        .about("The key ring")
        .subcommand_required(true)
        .subcommands([
            Command::new("list").about("Show keys"),
            Command::new("rotate")
                .about("Make a new key that signs once all nodes know it")
                .arg(
                    Arg::new("purpose")
                        .long("purpose")
                        .value_parser(["access", "refresh"])
                        .default_value("access"),
                ),
            Command::new("retire")
                .about("Drop a key at once, for logout too")
                .arg(id()),
        ]);
    Command::new("doorward")
        .about("User sessions for APIs")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg(
            Arg::new("config")
                .long("config")
                .env("DOORWARD_CONFIG")
                .global(true)
                .value_name("FILE")
                .help("Settings as TOML"),
        )
        .args(KEYS.iter().map(setting))
        .subcommands([
            Command::new("serve").about("Serve the API"),
            Command::new("check-config")
                .about("Check settings and the store, and say what is wrong"),
            user,
            session,
            keys,
        ])
}

fn setting((key, default, help): &(&'static str, &'static str, &'static str)) -> Arg {
    let help = if default.is_empty() {
        (*help).to_owned()
    } else {
        format!("{help} [default: {default}]")
    };
    Arg::new(*key)
        .long(key.replace('_', "-"))
        .global(true)
        .value_name("VALUE")
        .help(help)
}

/// A door for one command.
async fn open(config: &Config) -> Outcome<Doorward> {
    if config.store == StorePlace::Memory {
        return Err(
            "the store is memory: nothing outlives this command; name one with --store".into(),
        );
    }
    initialization::open(config, |_| ()).await
}

/// Opens everything that `serve` would, and serves nothing.
pub(crate) async fn check_config(config: Config) -> Outcome {
    if let Some((cert, key)) = config.tls.clone() {
        crate::tls::Tls::open(cert, key)?;
    }
    initialization::open(&config, |_| ()).await?;
    say("the settings are in order");
    Ok(())
}

/// A line on standard output. Nobody listening is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
pub(crate) fn say_error(line: &str) {
    let _ = writeln!(std::io::stderr(), "doorward: {line}");
}

/// Seconds since the epoch as people read them.
fn date(time: doorward_core::Timestamp) -> String {
    jiff::Timestamp::from_second(time.seconds())
        .unwrap_or_default()
        .to_string()
}
