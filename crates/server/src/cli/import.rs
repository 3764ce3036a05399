//! `doorward user import`: accounts of another program.

use std::io::{self, Write};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use doorward_core::SystemEnv;
use doorward_core::import::{self, Format, Options, Refusal, Report, Tally, Watch};
use doorward_core::password::Passwords;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{lasting, looked_at, operator, report};
use crate::Outcome;
use crate::config::Config;

/// Not everything was taken: the program ends with 3.
#[derive(Debug, thiserror::Error)]
#[error("{0} refused")]
pub(crate) struct SomeRefused(u64);

pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Command::new("import")
        .about("Take accounts of another program, from CSV or JSON Lines")
        .after_help("Ends with 0 if all are there, with 3 if some were refused, with 1 if it could not go on.")
        .args([
            Arg::new("file").required(true).value_name("FILE").help("- for standard input"),
            Arg::new("format")
                .long("format")
                .value_parser(Format::NAMES)
                .help("[default: by the file's name]"),
            flag("passwords", "Hash the plain-text passwords of the column password; slow"),
            flag("dry-run", "Check everything, change nothing"),
            flag("ignore-others", "Pass over columns of other names"),
            Arg::new("on-conflict")
                .long("on-conflict")
                .value_parser(["refuse", "skip"])
                .default_value("refuse")
                .help("What to do with a name or id that is taken by another"),
            Arg::new("report")
                .long("report")
                .value_name("PATH")
                .help("Write refusals there, as JSON Lines [default: to standard error, in words]"),
        ])
}

pub(crate) async fn run(config: &Config, arguments: &ArgMatches) -> Outcome {
    let options = options(arguments);
    let text = |name: &str| arguments.get_one::<String>(name).map(String::as_str);
    let name = text("file").unwrap_or_default();
    let format = Format::of(text("format").unwrap_or(name));
    let format = format.ok_or("say how it is written: --format csv or --format jsonl")?;
    let (input, length) = import::open(name)?;
    let store = if options.dry_run {
        looked_at(config)?
    } else {
        lasting(config)?
    };
    let passwords = Passwords::new(config.engine.hashing.clone(), Arc::new(SystemEnv));
    let operator = operator(config, store);
    let mut shown = Shown {
        bar: bar(length),
        report: text("report").map(Report::create).transpose()?,
    };
    let import = operator.import(&passwords, options);
    let tally = import.run(input, format, &mut shown).await;
    shown.bar.finish_and_clear();
    told(tally?, options.dry_run)
}

fn told(tally: Tally, dry_run: bool) -> Outcome {
    let prefix = if dry_run {
        "dry run, nothing was changed: "
    } else {
        ""
    };
    report(&format!("{prefix}{tally}"))?;
    match tally.refused {
        0 => Ok(()),
        some => Err(SomeRefused(some).into()),
    }
}

fn options(arguments: &ArgMatches) -> Options {
    let conflict = arguments.get_one::<String>("on-conflict");
    Options {
        passwords: arguments.get_flag("passwords"),
        ignore_others: arguments.get_flag("ignore-others"),
        dry_run: arguments.get_flag("dry-run"),
        skip_conflicts: conflict.is_some_and(|word| word == "skip"),
    }
}

/// On a terminal only.
fn bar(length: Option<u64>) -> ProgressBar {
    let template = match length {
        Some(_) => "{bar:40} {percent}% {msg}, {eta} left",
        None => "{spinner} {bytes} {msg}",
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

struct Shown {
    bar: ProgressBar,
    report: Option<Report>,
}

impl Watch for Shown {
    fn refused(&mut self, refusal: &Refusal) -> io::Result<()> {
        match &mut self.report {
            Some(report) => report.add(refusal),
            None => self.bar.suspend(|| writeln!(io::stderr(), "{refusal}")),
        }
    }

    fn read(&mut self, bytes: u64, so_far: &Tally) -> io::Result<()> {
        self.bar.set_position(bytes);
        self.bar.set_message(so_far.to_string());
        Ok(())
    }
}
