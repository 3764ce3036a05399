//! `doorward doctor URL`: looks at a running deployment as a browser would, and says what is wrong.
//!
//! `visit` asks and `checks` judges what was seen. It changes nothing but for the sessions that it opens where
//! it is given a login, and ends. It shows no token and no password. It looks at any door: names and paths are
//! read from the deployment.

mod checks;
mod client;
mod cookies;
mod finding;
mod probes;
mod seen;
mod session;
mod target;
mod tls;
mod visit;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use self::finding::{Finding, Level};
use self::seen::Seen;
use self::target::{Origin, Target};
use self::visit::{Credentials, Wanted, visit};
use super::{is_closed_pipe, say, user};
use crate::Outcome;

/// The grammar.
pub(crate) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        let switch = Arg::new(name).long(name);
        switch.action(ArgAction::SetTrue).help(help)
    };
    let plain = option("plain-port", "PORT", "Where http:// is, for an https URL");
    let timeout = option("timeout", "SECONDS", "The longest wait for an answer");
    Command::new("doctor")
        .about("Look at a running deployment as a browser would, and say what is wrong")
        .after_help(EXIT_CODES)
        .args([
            Arg::new("url")
                .required(true)
                .value_name("URL")
                .help("The API's URL, or its site's"),
            option(
                "prefix",
                "PATH",
                "Where the API is, for a URL without a path",
            )
            .default_value("/api/v1"),
            option(
                "origin",
                "ORIGIN",
                "The page's origin, if another than the API's",
            ),
            option("protected", "PATH", "A path that needs a session"),
            option("username", "NAME", "Log in, look at the session, log out")
                .requires("password-stdin"),
            switch("password-stdin", "Read the password from standard input").requires("username"),
            option("format", "FORMAT", "human or json")
                .value_parser(["human", "json"])
                .default_value("human"),
            switch("strict", "Fail for warnings too"),
            switch(
                "insecure",
                "Accept a certificate that does not verify; log in over http too",
            ),
            plain.value_parser(value_parser!(u16)).default_value("80"),
            timeout
                .value_parser(value_parser!(u64).range(1..=300))
                .default_value("10"),
        ])
}

const EXIT_CODES: &str =
    "Exit code: 0 no error; 1 could not look; 2 wrong usage; 3 errors; 4 warnings, with --strict";

/// Looks, and tells.
pub(crate) async fn run(arguments: &ArgMatches) -> Outcome<ExitCode> {
    let seen = visit(wanted(arguments)?).await?;
    let findings = checks::findings(&seen);
    let code = exit_code(&seen, &findings, arguments.get_flag("strict"));
    let told = match text(arguments, "format") {
        Some("json") => say(&in_json(&seen, &findings, code)),
        _ => in_words(&seen, &findings),
    };
    match told {
        // Whoever reads no further, as in `| head -1`, still learns how it ended.
        Err(error) if !is_closed_pipe(&*error) => Err(error),
        _ => Ok(ExitCode::from(code)),
    }
}

fn text<'a>(arguments: &'a ArgMatches, name: &str) -> Option<&'a str> {
    arguments.get_one::<String>(name).map(String::as_str)
}

fn wanted(arguments: &ArgMatches) -> Outcome<Wanted> {
    let prefix = text(arguments, "prefix").unwrap_or_default();
    let page = text(arguments, "origin").map(Origin::parse);
    let protected = text(arguments, "protected").map(str::to_owned);
    if protected
        .as_ref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        return Err("--protected is a path, such as /api/v1/notes".into());
    }
    let seconds = arguments.get_one("timeout").copied();
    Ok(Wanted {
        target: Target::parse(text(arguments, "url").unwrap_or_default(), prefix)?,
        page: page.transpose()?,
        protected,
        login: credentials(arguments)?,
        insecure: arguments.get_flag("insecure"),
        plain_port: arguments.get_one("plain-port").copied().unwrap_or(80),
        timeout: Duration::from_secs(seconds.unwrap_or(10)),
    })
}

fn credentials(arguments: &ArgMatches) -> Outcome<Option<Credentials>> {
    let Some(username) = text(arguments, "username") else {
        return Ok(None);
    };
    Ok(Some(Credentials {
        username: username.to_owned(),
        password: user::password_from_stdin()?,
    }))
}

fn exit_code(seen: &Seen, findings: &[Finding], strict: bool) -> u8 {
    let worst = findings.iter().map(|found| found.kind.level).max();
    match worst {
        _ if seen.stopped.is_some() => 1,
        Some(Level::Error) => 3,
        Some(Level::Warning) if strict => 4,
        _ => 0,
    }
}

fn in_words(seen: &Seen, findings: &[Finding]) -> Outcome {
    findings
        .iter()
        .try_for_each(|found| say(&found.to_string()))?;
    let count = |level| {
        let found = findings.iter().filter(|found| found.kind.level == level);
        found.count()
    };
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    say(&format!(
        "{}: errors: {errors}, warnings: {warnings}",
        seen.target
    ))
}

fn in_json(seen: &Seen, findings: &[Finding], code: u8) -> String {
    let findings: Vec<_> = findings.iter().map(Finding::json).collect();
    json!({
        "url": seen.target.to_string(),
        "origin": seen.page.to_string(),
        "looked": seen.stopped.is_none(),
        "logged_in": seen.is_logged_in(),
        "exit_code": code,
        "findings": findings,
    })
    .to_string()
}
