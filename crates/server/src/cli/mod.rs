//! The command line: its grammar, and what all commands share.

pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod user;

use std::io::{self, Write};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgGroup, Command};
use doorward_core::keys::KeyRing;
use doorward_core::memory::MemoryStore;
use doorward_core::operator::Operator;
use doorward_core::store::Store;
use doorward_core::{EventLog, SystemEnv};

use doorward_stores::Place;

use crate::config::{Config, KEYS};
use crate::initialization::is_there;
use crate::{Outcome, exposure, initialization};

/// The grammar. Every setting is a flag of every command.
pub(crate) fn command() -> Command {
    let id = || Arg::new("id").required(true).value_name("ID");
    let session = Command::new("session")
        .about("Sessions")
        .subcommand_required(true)
        .subcommands([
            Command::new("list")
                .about("Show live sessions")
                .arg(Arg::new("name").value_name("NAME")),
            session_end(),
            Command::new("why")
                .about("Show what happened to a session, and why it ended")
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
            user_command(),
            session,
            keys_command(),
            doctor::command(),
            events::command(),
            store::command(),
        ])
}

fn session_end() -> Command {
    let user = |name: &'static str, help| Arg::new(name).long(name).value_name("USER").help(help);
    Command::new("end")
        .about("End a session, or all of a user, or all there are")
        .args([
            Arg::new("id").value_name("ID"),
            user("user", "All sessions of an account, by its name"),
            user("user-id", "All sessions of a user, by id"),
            Arg::new("all")
                .long("all")
                .action(ArgAction::SetTrue)
                .help("The sessions of everybody"),
        ])
        .group(
            ArgGroup::new("which")
                .args(["id", "user", "user-id", "all"])
                .required(true),
        )
}

/// Of a user who may have no account.
fn subject() -> [Arg; 2] {
    let by_id = Arg::new("by-id").long("id").value_name("ID");
    let name = Arg::new("name").value_name("NAME");
    [
        name.required_unless_present("by-id"),
        by_id
            .conflicts_with("name")
            .help("A user's id, for users of an app's own"),
    ]
}

fn user_command() -> Command {
    let name = || Arg::new("name").required(true).value_name("NAME");
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
    let reset_token = || {
        Arg::new("reset-token")
            .long("reset-token")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["password-stdin", "generate-password"])
            .help("Print a token by which the user sets a password, once")
    };
    Command::new("user")
        .about("Built-in accounts")
        .subcommand_required(true)
        .subcommands([
            Command::new("add").about("Make an account").args([
                name(),
                stdin(),
                generate(),
                reset_token(),
            ]),
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
            Command::new("reset")
                .about("Print a token by which a new password can be set, once")
                .arg(name()),
            Command::new("privilege")
                .about("Say whether sessions of an account are privileged, and end all sessions")
                .args([
                    name(),
                    Arg::new("switch")
                        .required(true)
                        .value_parser(["on", "off"]),
                ]),
            Command::new("remove")
                .about("Remove an account and end all sessions")
                .arg(name()),
            Command::new("export")
                .about("Write all that is kept of a user's sessions, as JSON")
                .args(subject()),
            Command::new("erase")
                .about("End a user's sessions and remove all that is kept of them")
                .args(subject())
                .arg(
                    Arg::new("account")
                        .long("account")
                        .action(ArgAction::SetTrue)
                        .help("Remove the account too"),
                ),
            import::command(),
        ])
}

fn keys_command() -> Command {
    Command::new("keys")
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
            Command::new("reseal")
                .about("Seal all keys by seal_secret, those of a previous one too"),
            Command::new("retire")
                .about("Drop a key at once, for logout too")
                .arg(Arg::new("id").required(true).value_name("ID")),
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

/// The store of a command that looks for something: a mistyped name must not make a database.
fn existing(config: &Config) -> Outcome<Arc<dyn Store>> {
    match &config.store {
        Place::Sqlite(path) if !is_there(path)? => Err(format!(
            "{}: there is no database; `doorward serve` and `doorward user add` make one",
            path.display()
        )
        .into()),
        _ => lasting(config),
    }
}

/// The store of a command that may be the first.
fn lasting(config: &Config) -> Outcome<Arc<dyn Store>> {
    if config.store == Place::Memory {
        return Err(
            "the store is memory: nothing outlives this command; name one with --store".into(),
        );
    }
    initialization::store(config)
}

/// The store of a command that changes nothing: an empty one where there is none.
fn looked_at(config: &Config) -> Outcome<Arc<dyn Store>> {
    match &config.store {
        Place::Sqlite(path) if !is_there(path)? => {
            Ok(Arc::new(MemoryStore::new(config.engine.policy.clone())))
        }
        _ => initialization::store(config),
    }
}

/// The log of events of a command.
fn events(config: &Config, store: &Arc<dyn Store>) -> Arc<EventLog> {
    let events = config.engine.events.clone();
    Arc::new(EventLog::new(
        Arc::clone(store),
        events,
        Arc::new(SystemEnv),
    ))
}

fn operator(config: &Config, store: Arc<dyn Store>) -> Operator {
    let events = events(config, &store);
    Operator::new(store, events, Arc::new(SystemEnv))
}

/// Looks at everything that `serve` would open, makes nothing, and serves nothing.
pub(crate) async fn check_config(config: Config) -> Outcome {
    if let Some((cert, key)) = config.tls.clone() {
        crate::tls::Tls::open(cert, key)?;
    }
    match &config.store {
        Place::Sqlite(path) if !is_there(path)? => say(&format!(
            "{}: there is no database yet; `doorward serve` makes it",
            path.display()
        ))?,
        _ => {}
    }
    let store = looked_at(&config)?;
    KeyRing::look(
        &*store,
        config.engine.key.clone(),
        &config.engine.policy,
        Arc::new(SystemEnv),
    )
    .await?;
    let advice = config.settings.advice(&config.engine.policy).into_iter();
    let advice = advice.chain(config.engine.advice());
    let exposed = exposure::advice(config.operator_listen);
    advice.chain(exposed).for_each(say_error);
    if let Some(risk) = store.at_risk() {
        say_error(&risk);
    }
    say("the settings are in order")
}

/// A line on standard output, now. A closed pipe ends the command, and quietly: see
/// [`is_closed_pipe`].
fn say(line: &str) -> Outcome {
    let mut output = io::stdout().lock();
    match writeln!(output, "{line}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(error.into()),
        Err(error) => Err(format!("standard output cannot be written: {error}").into()),
        Ok(()) => Ok(()),
    }
}

/// As [`say`], of what has been done already.
fn report(line: &str) -> Outcome {
    say(line).map_err(|error| {
        if is_closed_pipe(&*error) {
            error
        } else {
            format!("{line}, but {error}").into()
        }
    })
}

/// Whether a command ended since nobody reads on, as in `| head -1`.
pub(crate) fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A text of users' own making, without what would act on a terminal or hide in it.
fn shown(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    escaped.replace("\\'", "'").replace("\\\"", "\"")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_neither_hides_nor_acts() {
        for plain in [
            "ada",
            "O'Brien \"x\"",
            "Zo\u{eb}",
            "\u{e19}\u{e49}\u{e33}",
            "\u{674e}",
        ] {
            assert_eq!(shown(plain), plain);
        }
        for odd in [
            "\u{202e}", "\u{200b}", "\u{1b}", "\n", "\t", "\u{feff}", "\u{2066}",
        ] {
            let shown = shown(&format!("a{odd}b"));
            assert!(!shown.contains(odd) && shown.contains('\\'), "{shown}");
        }
    }
}
