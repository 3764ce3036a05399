//! `fleet run` and `fleet check`; see the library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command, value_parser};
use doorward_fleet::checker::{Kind, check};
use doorward_fleet::fleet::{Plan, run};
use doorward_fleet::history::{Action, Micros, Operation, read};
use doorward_fleet::jar::Account;
use doorward_fleet::summary::Summary;
use doorward_fleet::wire::Patience;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments = command().get_matches();
    let promises_kept = match arguments.subcommand() {
        Some(("run", flags)) => ran(flags),
        Some(("check", flags)) => checked(flags),
        _ => return ExitCode::from(2),
    };
    match promises_kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::from(2)
        }
    }
}

fn command() -> Command {
    Command::new("fleet")
        .about("Simulated browsers, and a checker of what they saw")
        .after_help("The summary goes to standard output as JSON. Ends with 0, with 1 if a promise was broken, with 2 if it could not run.")
        .subcommand_required(true)
        .subcommand(run_command())
        .subcommand(check_command())
}

fn run_command() -> Command {
    Command::new("run")
        .about("Let browsers loose on nodes; SIGTERM ends it properly")
        .args([
            text(
                "node",
                "URL",
                "The API of a node, http://HOST:PORT/PREFIX; again for each",
            )
            .required(true)
            .action(ArgAction::Append),
            text(
                "users",
                "FILE",
                "Accounts that exist, a line `user:password` each",
            )
            .required(true),
            text(
                "history",
                "FILE",
                "Write what happened there, as JSON Lines",
            ),
            number("clients", "1000", "Browsers, of one to three tabs each"),
            number("rate", "300", "Actions a second, of all together"),
            number("seconds", "60", "How long"),
            number("seed", "1", "What everything random follows from"),
            number("body", "25", "How many of 100 browsers have body delivery"),
            number(
                "burst",
                "10",
                "How many of 100 times a page does three things at once",
            ),
            number(
                "timeout-ms",
                "5000",
                "How long to wait for an answer; less than half the refresh window of the nodes",
            ),
            number("connect-ms", "1000", "How long to wait for a connection"),
            text(
                "strict-path",
                "PATH",
                "A route that looks in the store whether the session is live",
            )
            .default_value("/session"),
            text("mix", "LIST", "What tabs do, by weight")
                .default_value("verify=60,verify_strict=12,refresh=20,end=5,end_all=2,login=1"),
        ])
        .args(checking())
}

fn check_command() -> Command {
    let files = "Histories; of several runs at once and of operators, they are taken as one";
    Command::new("check")
        .about("Check what was written down")
        .arg(
            Arg::new("files")
                .required(true)
                .num_args(1..)
                .value_name("FILE")
                .help(files),
        )
        .args(checking())
}

/// What both take.
fn checking() -> [Arg; 3] {
    let since = "An instant in microseconds of the monotonic clock: tell how soon after it each action succeeded; again for each";
    let allow = "Count violations of this kind, but do not fail for them; again for each";
    [
        number(
            "bound-ms",
            "1000",
            "How long after an end a plain look may still succeed",
        ),
        text("since", "US", since)
            .value_parser(value_parser!(Micros))
            .action(ArgAction::Append),
        text("allow", "KIND", allow)
            .value_parser(Kind::ALL.map(Kind::name))
            .action(ArgAction::Append),
    ]
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let number = text(name, "N", help).value_parser(value_parser!(u64));
    number.default_value(default)
}

fn ran(flags: &ArgMatches) -> Outcome<bool> {
    told(&run(plan(flags)?)?, flags)
}

fn checked(flags: &ArgMatches) -> Outcome<bool> {
    let histories = texts(flags, "files").map(|file| read(Path::new(&file)));
    let histories: Vec<_> = histories.collect::<Result<_, _>>()?;
    told(&histories.concat(), flags)
}

fn told(history: &[Operation], flags: &ArgMatches) -> Outcome<bool> {
    let mut violations = check(history, figure(flags, "bound-ms") * 1000);
    let allowed: Vec<_> = texts(flags, "allow").collect();
    let is_allowed = |kind: Kind| allowed.iter().any(|name| name == kind.name());
    // What is not allowed is shown first.
    violations.sort_by_key(|violation| is_allowed(violation.kind));
    let instants: Vec<Micros> = flags
        .get_many("since")
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let summary = Summary::of(history, &violations, &instants);
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(violations
        .iter()
        .all(|violation| is_allowed(violation.kind)))
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn plan(flags: &ArgMatches) -> Outcome<Plan> {
    let millis = |name| Duration::from_millis(figure(flags, name));
    let one = |name| texts(flags, name).next().unwrap_or_default();
    Ok(Plan {
        nodes: texts(flags, "node").collect(),
        accounts: accounts(Path::new(&one("users")))?,
        clients: usize::try_from(figure(flags, "clients"))?,
        rate: figure(flags, "rate").max(1) as f64,
        length: Duration::from_secs(figure(flags, "seconds")),
        seed: figure(flags, "seed"),
        strict_route: one("strict-path"),
        mix: mix(&one("mix"))?,
        body_percent: figure(flags, "body"),
        burst_percent: figure(flags, "burst"),
        patience: Patience {
            connect: millis("connect-ms"),
            answer: millis("timeout-ms"),
        },
        look_within: millis("bound-ms") * 2,
        history: texts(flags, "history").next().map(PathBuf::from),
    })
}

fn figure(flags: &ArgMatches, name: &str) -> u64 {
    flags.get_one(name).copied().unwrap_or_default()
}

fn texts<'a>(flags: &'a ArgMatches, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let values = flags.get_many::<String>(name);
    values.into_iter().flatten().cloned()
}

fn accounts(path: &Path) -> Outcome<Vec<Account>> {
    let lines = std::fs::read_to_string(path)?;
    let accounts = lines.lines().map(|line| {
        let (name, password) = line
            .split_once(':')
            .ok_or("a line of --users is `user:password`")?;
        Ok(Account {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    });
    let accounts: Vec<_> = accounts.collect::<Outcome<_>>()?;
    if accounts.is_empty() {
        Err("--users names nobody".into())
    } else {
        Ok(accounts)
    }
}

/// `verify=60,refresh=20`.
fn mix(list: &str) -> Outcome<Vec<(Action, u64)>> {
    let parts = list.split(',').map(|part| {
        let (name, weight) = part
            .split_once('=')
            .ok_or("--mix is `verify=60,refresh=20`")?;
        Ok((serde_json::from_value(name.into())?, weight.parse()?))
    });
    let mix: Vec<(Action, u64)> = parts.collect::<Outcome<_>>()?;
    if mix.iter().all(|(_, weight)| *weight == 0) {
        Err("--mix has no weights".into())
    } else {
        Ok(mix)
    }
}
