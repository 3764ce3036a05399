//! `doorward user`: built-in accounts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use clap::ArgMatches;
use doorward_core::operator::Operator;
use doorward_core::password::{Password, Passwords, generated};
use doorward_core::revocation::{Bounds, Revocations};
use doorward_core::store::{Account, AccountStore, Store};
use doorward_core::{Accounts, Caller, Env, Error, SystemEnv, UserId};
use zeroize::Zeroizing;

use super::{date, events, existing, lasting, operator, report, say, shown};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    match arguments.subcommand() {
        Some(("add", arguments)) => {
            let accounts = accounts(&config, lasting(&config)?);
            add(&accounts, named(arguments), arguments, &config).await
        }
        Some(("import", arguments)) => super::import::run(&config, arguments).await,
        Some(("list", _)) => list(&*existing(&config)?).await,
        Some(("reset", arguments)) => {
            let accounts = accounts(&config, existing(&config)?);
            reset(&accounts, named(arguments), &config).await
        }
        Some((command @ ("export" | "erase"), arguments)) => {
            let operator = operator(&config, existing(&config)?);
            let user = subject(&operator, arguments).await?;
            let policy = &config.engine.policy;
            if command == "erase" {
                return erase(&config, &operator, &user, arguments).await;
            }
            let export = operator.export(&user, policy).await?;
            say(&format!("{export:#}"))
        }
        Some((command, arguments)) => {
            let accounts = accounts(&config, existing(&config)?);
            change(&accounts, command, named(arguments), arguments).await
        }
        None => Ok(()),
    }
}

fn accounts(config: &Config, store: Arc<dyn Store>) -> Accounts {
    let env: Arc<dyn Env> = Arc::new(SystemEnv);
    let passwords = Passwords::new(config.engine.hashing.clone(), Arc::clone(&env));
    // Nobody verifies here; those who do hear of ended sessions from the store.
    let revocations = Revocations::new(Bounds::of(&config.engine.policy), None);
    let events = events(config, &store);
    let accounts = Accounts::new(store, Arc::new(passwords), Arc::new(revocations), env);
    let accounts = accounts.logging_to(events);
    accounts.on_behalf_of(Caller::operator())
}

/// Whose data it is: an account's, by its name, or anybody's, by the id.
async fn subject(operator: &Operator, arguments: &ArgMatches) -> Outcome<UserId> {
    if let Some(id) = arguments.get_one::<String>("by-id") {
        return Ok(UserId::new(id).map_err(|_| "this is no user id")?);
    }
    let name = named(arguments);
    let found = operator.account(name).await?;
    Ok(found.ok_or_else(|| {
        let name = shown(name);
        format!("there is no account named {name}; users without one are named with --id")
    })?)
}

async fn erase(
    config: &Config,
    operator: &Operator,
    user: &UserId,
    arguments: &ArgMatches,
) -> Outcome {
    if arguments.get_flag("account") {
        let accounts = accounts(config, existing(config)?);
        match accounts.remove(user).await {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let sessions = operator.erase(user).await?;
    report(&format!("erased: {sessions} sessions, and all events"))
}

fn named(arguments: &ArgMatches) -> &str {
    arguments
        .get_one::<String>("name")
        .map_or("", String::as_str)
}

async fn add(accounts: &Accounts, name: &str, arguments: &ArgMatches, config: &Config) -> Outcome {
    let failed = |error| words(name, &error);
    // Before a password is shown that would be nobody's.
    match accounts.find(name).await {
        Err(Error::NotFound) => {}
        Err(error) => return Err(failed(error).into()),
        Ok(_) => return Err(failed(Error::UsernameTaken).into()),
    }
    let by_token = arguments.get_flag("reset-token");
    let password = if by_token {
        somebody_sees_the_token()?;
        // Nobody's: the token is the way in.
        Password::new(&generated(&SystemEnv))?
    } else {
        new_password(arguments)?
    };
    let id = accounts.register(name, password).await.map_err(failed)?;
    report(&format!("added {}, id {id}", shown(name)))?;
    if by_token {
        reset(accounts, name, config).await?;
    }
    Ok(())
}

async fn change(accounts: &Accounts, command: &str, name: &str, arguments: &ArgMatches) -> Outcome {
    let failed = |error| words(name, &error);
    let user = accounts.find(name).await.map_err(failed)?.id;
    let changed = match command {
        "disable" => accounts.set_disabled(&user, true).await,
        "enable" => accounts.set_disabled(&user, false).await,
        "remove" => accounts.remove(&user).await,
        "privilege" => {
            let switch = arguments.get_one::<String>("switch");
            let privileged = switch.is_some_and(|switch| switch == "on");
            accounts.set_privileged(&user, privileged).await
        }
        _ => accounts.set_password(&user, new_password(arguments)?).await,
    };
    changed.map_err(failed)?;
    report(&format!("{}: done", shown(name)))
}

/// The token is printed after it was stored: one that nobody sees is voided by the next.
fn somebody_sees_the_token() -> Outcome {
    if is_discarded().unwrap_or(false) {
        return Err("nobody would see the token: standard output is closed, or /dev/null".into());
    }
    Ok(())
}

async fn reset(accounts: &Accounts, name: &str, config: &Config) -> Outcome {
    somebody_sees_the_token()?;
    let failed = |error| words(name, &error);
    if accounts.find(name).await.map_err(failed)?.disabled {
        return Err(format!("{} is disabled; enable the account first", shown(name)).into());
    }
    let started = accounts.start_reset(name, config.engine.policy.reset_ttl);
    let (token, until) = started.await.map_err(failed)?;
    let path = format!("{}/password/reset", config.settings.url_prefix);
    report(&format!("token: {}", token.as_str()))?;
    report(&format!(
        "good until {}, once, for POST {path}",
        date(until)
    ))
}

async fn list(store: &(impl AccountStore + ?Sized)) -> Outcome {
    let mut after: Option<Box<str>> = None;
    loop {
        let page = store.accounts(after.as_deref(), 1000).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.username.clone());
        page.iter().try_for_each(show)?;
    }
}

fn show(account: &Account) -> Outcome {
    let state = if account.disabled {
        "disabled"
    } else {
        "enabled"
    };
    let state = if account.privileged {
        format!("{state},privileged")
    } else {
        state.into()
    };
    let (name, created) = (shown(&account.username), date(account.created_at));
    say(&format!("{name}\t{}\t{state}\t{created}", account.id))
}

/// The password. One that is made here is shown before anything is done with it.
fn new_password(arguments: &ArgMatches) -> Outcome<Password> {
    if arguments.get_flag("generate-password") {
        let text = generated(&SystemEnv);
        show_password(&text).map_err(|error| {
            format!("nobody would see the password, so nothing was changed: {error}")
        })?;
        return Ok(Password::new(&text)?);
    }
    if !arguments.get_flag("password-stdin") {
        return Err(
            "say where the password comes from: --password-stdin, --generate-password or, for a new \
             account, --reset-token"
                .into(),
        );
    }
    Ok(Password::new(&password_from_stdin()?)?)
}

/// Standard input, without one newline at its end.
pub(super) fn password_from_stdin() -> Outcome<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    io::stdin().take(4096).read_to_string(&mut text)?;
    for end in ['\n', '\r'] {
        if text.ends_with(end) {
            text.pop();
        }
    }
    Ok(text)
}

fn show_password(text: &str) -> Outcome {
    if is_discarded().unwrap_or(false) {
        return Err("standard output is closed, or /dev/null".into());
    }
    say(&format!("password: {text}"))
}

/// Whether standard output leads nowhere. One that was closed is /dev/null by now: the runtime opens
/// that in its place.
fn is_discarded() -> io::Result<bool> {
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (output, null) = (output.metadata()?, fs::metadata("/dev/null")?);
    Ok(output.rdev() != 0 && output.rdev() == null.rdev())
}

fn words(name: &str, error: &Error) -> String {
    let name = shown(name);
    match error {
        Error::BadRequest(why) => (*why).into(),
        Error::NotFound => format!("there is no account named {name}"),
        Error::UsernameTaken => format!("there is an account named {name} already"),
        Error::PasswordTooWeak(why) => format!("the password is too weak: {why}"),
        error => error.to_string(),
    }
}
