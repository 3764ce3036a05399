//! `doorward user`: built-in accounts.

use std::io::Read;

use clap::ArgMatches;
use doorward_core::password::Password;
use doorward_core::store::AccountStore;
use doorward_core::{Env, Error, SystemEnv};
use zeroize::Zeroizing;

use super::{date, open, say};
use crate::Outcome;
use crate::config::Config;

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let door = open(&config).await?;
    let accounts = door.accounts();
    let Some((command, arguments)) = arguments.subcommand() else {
        return Ok(());
    };
    if command == "list" {
        return list(&**door.service().store()).await;
    }
    let name = arguments
        .get_one::<String>("name")
        .map_or("", String::as_str);
    let named = |error: Error| words(name, &error);
    if command == "add" {
        let (password, made) = new_password(arguments)?;
        let id = accounts.register(name, password).await.map_err(named)?;
        say(&format!("added {name}, id {id}"));
        tell(made.as_deref());
        return Ok(());
    }
    let user = accounts.find(name).await.map_err(named)?.id;
    match command {
        "disable" => accounts.set_disabled(&user, true).await.map_err(named)?,
        "enable" => accounts.set_disabled(&user, false).await.map_err(named)?,
        "remove" => accounts.remove(&user).await.map_err(named)?,
        _ => {
            let (password, made) = new_password(arguments)?;
            accounts
                .set_password(&user, password)
                .await
                .map_err(named)?;
            tell(made.as_deref());
        }
    }
    say(&format!("{name}: done"));
    Ok(())
}

async fn list(store: &(impl AccountStore + ?Sized)) -> Outcome {
    let mut after: Option<Box<str>> = None;
    loop {
        let page = store.accounts(after.as_deref(), 1000).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.username.clone());
        for account in &page {
            let state = if account.disabled {
                "disabled"
            } else {
                "enabled"
            };
            say(&format!(
                "{}\t{}\t{state}\t{}",
                account.username,
                account.id,
                date(account.created_at)
            ));
        }
    }
}

/// The password, and its text where it was made here.
fn new_password(arguments: &ArgMatches) -> Outcome<(Password, Option<String>)> {
    if arguments.get_flag("generate-password") {
        let text = generated();
        return Ok((Password::new(&text)?, Some(text)));
    }
    if !arguments.get_flag("password-stdin") {
        return Err(
            "say where the password comes from: --password-stdin or --generate-password".into(),
        );
    }
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().take(4096).read_to_string(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok((Password::new(text)?, None))
}

/// 100 bits in groups that can be typed: no letter looks like another.
fn generated() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    SystemEnv.fill(&mut bytes);
    let letter = |byte: &u8| char::from(LETTERS[usize::from(byte % 32)]);
    let groups = bytes
        .chunks(5)
        .map(|group| group.iter().map(letter).collect::<String>());
    groups.collect::<Vec<_>>().join("-")
}

fn tell(made: Option<&str>) {
    if let Some(password) = made {
        say(&format!("password: {password}"));
    }
}

fn words(name: &str, error: &Error) -> String {
    match error {
        Error::NotFound => format!("there is no account named {name}"),
        Error::UsernameTaken => format!("there is an account named {name} already"),
        Error::PasswordTooWeak(why) => format!("the password is too weak: {why}"),
        error => error.to_string(),
    }
}
