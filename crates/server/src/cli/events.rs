//! `doorward events`: what happened to sessions and accounts.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use doorward_core::event::Entry;
use doorward_core::operator::{Wanted, event_json, event_line};

use super::{existing, operator, say};
use crate::Outcome;
use crate::config::Config;

/// How often the store is asked for what is new.
const POLL: Duration = Duration::from_millis(250);

pub(crate) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("events")
        .about("Show what happened to sessions and accounts, the last of it last")
        .args([
            text("user", "NAME|ID", "Of this user only"),
            text("session", "ID", "Of this session only"),
            text("event", "NAME", "Of this name only: see docs/events.md"),
            text(
                "since",
                "TIME",
                "Not before: 2h, 30d, or 2026-11-26T09:00:00Z",
            ),
            text("until", "TIME", "Before"),
            Arg::new("follow")
                .long("follow")
                .action(ArgAction::SetTrue)
                .help("Go on with what happens from now on"),
            text("format", "FORMAT", "human or json: a line each")
                .value_parser(["human", "json"])
                .default_value("human"),
            text("limit", "N", "The last so many at most")
                .value_parser(value_parser!(u32))
                .default_value("100"),
        ])
}

pub(crate) async fn run(config: Config, arguments: &ArgMatches) -> Outcome {
    let operator = operator(&config, existing(&config)?);
    let text = |name| arguments.get_one::<String>(name).map(String::as_str);
    let wanted = Wanted {
        user: text("user"),
        session: text("session"),
        event: text("event"),
        since: text("since"),
        until: text("until"),
    };
    let filter = operator.filter(&wanted).await?;
    let limit = arguments.get_one::<u32>("limit").copied().unwrap_or(100);
    let in_json = text("format") == Some("json");
    let (entries, mut place) = operator.last(&filter, limit).await?;
    show(&entries, in_json)?;
    while arguments.get_flag("follow") {
        tokio::time::sleep(POLL).await;
        let (entries, next) = operator.since(place, &filter).await?;
        place = next;
        show(&entries, in_json)?;
    }
    Ok(())
}

fn show(entries: &[Entry], in_json: bool) -> Outcome {
    entries.iter().try_for_each(|entry| {
        if in_json {
            say(&event_json(entry).to_string())
        } else {
            say(&event_line(entry))
        }
    })
}
