//! `doorward store copy` and `switch`: from one store to another while nodes serve.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use doorward_core::SystemEnv;
use doorward_core::transfer::pass::count;
use doorward_core::transfer::switching::Switch;
use doorward_core::transfer::{Kind, MovableStore};
use doorward_stores::Place;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::Outcome;
use crate::cli::{report, say};
use crate::config::Config;
use crate::initialization::is_there;

/// Until every node that serves has heard that its store is about to be left: they ask each second.
const HEARD: Duration = Duration::from_millis(2_500);

pub(crate) fn copy_command() -> Command {
    Command::new("copy")
        .about("Copy a store to another, while nodes serve; again: what changed since")
        .args(both())
}

pub(crate) fn switch_command() -> Command {
    Command::new("switch")
        .about("Cut over: leave a store for another, which takes over what changed since `copy`")
        .args(both())
        .arg(
            Arg::new("undo")
                .long("undo")
                .action(ArgAction::SetTrue)
                .help("The way back, with all that happened since"),
        )
}

fn both() -> [Arg; 2] {
    let place = |name: &'static str, help| Arg::new(name).value_name(name).help(help);
    [
        place(
            "FROM",
            "The store that nodes serve from [default: the setting `store`]",
        ),
        place(
            "TO",
            "The store that is to take over [default: the setting `store_next`]",
        ),
    ]
}

pub(crate) async fn copy(config: &Config, arguments: &ArgMatches) -> Outcome {
    let (from, to) = places(config, arguments)?;
    let (from, to) = (existing(config, &from)?, open(config, &to)?);
    let mut progress = Progress::begin(&*from).await?;
    let mut switch = Switch::begin(&*from, &*to, Arc::new(SystemEnv)).await?;
    switch
        .copy(&mut |kind, rows, written| progress.step(kind, rows, written))
        .await?;
    progress.end("copied")?;
    say("nodes still serve from the first; `doorward store switch` cuts over")
}

pub(crate) async fn switch(config: &Config, arguments: &ArgMatches) -> Outcome {
    let (mut from, mut to) = places(config, arguments)?;
    if arguments.get_flag("undo") {
        if taken_back(config, &from, &to).await? {
            return report("the cut-over was given up: the first store serves on");
        }
        (from, to) = (to, from);
    }
    let (first, second) = (existing(config, &from)?, open(config, &to)?);
    let mut progress = Progress::begin(&*first).await?;
    let mut switch = Switch::begin(&*first, &*second, Arc::new(SystemEnv)).await?;
    switch.announce().await?;
    let announced = Instant::now();
    let mut watch = |kind, rows, written| progress.step(kind, rows, written);
    // Twice: what changed during the first, long pass is little.
    switch.copy(&mut watch).await?;
    switch.copy(&mut watch).await?;
    tokio::time::sleep(HEARD.saturating_sub(announced.elapsed())).await;
    let paused = Instant::now();
    let sums = switch.finish(&mut watch).await?;
    let paused = paused.elapsed();
    progress.end("moved")?;
    let same = sums.iter().filter(|(kind, _)| *kind != Kind::Events);
    let same: Vec<_> = same
        .map(|(kind, sum)| format!("{} {}", sum.rows, words(*kind)))
        .collect();
    report(&format!("the same in both: {}", same.join(", ")))?;
    say(&format!(
        "{to} serves now; logins and refreshes paused for {:.1} s. Set `store` to it, and restart nodes \
         that have no `store_next`",
        paused.as_secs_f64()
    ))
}

/// Whether a cut-over was under way. Where the second store cannot be opened any more, that is no reason to
/// stay without the first.
async fn taken_back(config: &Config, from: &Place, to: &Place) -> Outcome<bool> {
    let (first, second) = (existing(config, from)?, existing(config, to));
    let second = second.as_deref().ok();
    Ok(Switch::take_back(&*first, second, &SystemEnv).await?)
}

fn places(config: &Config, arguments: &ArgMatches) -> Outcome<(Place, Place)> {
    let place = |name: &str, setting: Option<&Place>| -> Outcome<Place> {
        match arguments.get_one::<String>(name) {
            Some(text) => text
                .parse()
                .map_err(|error| format!("{name} {error}").into()),
            None => setting
                .cloned()
                .ok_or_else(|| format!("{name} is missing").into()),
        }
    };
    let from = place("FROM", Some(&config.store))?;
    let to = place("TO", config.store_next.as_ref())?;
    if from == Place::Memory || to == Place::Memory {
        return Err("memory: is of one process; there is nothing to move".into());
    }
    if from == to {
        return Err("both are the same store".into());
    }
    Ok((from, to))
}

fn existing(config: &Config, place: &Place) -> Outcome<Arc<dyn MovableStore>> {
    if let Place::Sqlite(path) = place
        && !is_there(path)?
    {
        return Err(format!("{}: there is no database", path.display()).into());
    }
    open(config, place)
}

fn open(config: &Config, place: &Place) -> Outcome<Arc<dyn MovableStore>> {
    if let Place::Sqlite(path) = place {
        is_there(path)?;
    }
    Ok(place.open_movable(config.engine.policy.clone())?)
}

fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Keys => "keys",
        Kind::Accounts => "accounts",
        Kind::Resets => "resets",
        Kind::ValidFrom => "users whose sessions were all ended",
        Kind::Sessions => "sessions",
        Kind::Adopted => "adopted tokens",
        Kind::Ended => "ends",
        Kind::Buckets => "budgets",
        Kind::Events => "events",
        Kind::Outbox => "webhooks",
        Kind::Deliveries => "messages to be sent",
    }
}

/// A bar for people; nothing where nobody looks.
struct Progress {
    bar: ProgressBar,
    rows: BTreeMap<Kind, (u64, u64)>,
}

impl Progress {
    async fn begin(from: &dyn MovableStore) -> Outcome<Progress> {
        let rows = BTreeMap::new();
        if !std::io::stderr().is_terminal() {
            let bar = ProgressBar::hidden();
            return Ok(Progress { bar, rows });
        }
        let bar = ProgressBar::new(count(from, Kind::Sessions).await?);
        let style = "{msg} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style)?);
        Ok(Progress { bar, rows })
    }

    fn step(&mut self, kind: Kind, rows: u64, written: u64) {
        let sums = self.rows.entry(kind).or_default();
        *sums = (sums.0 + rows, sums.1 + written);
        self.bar.set_message(words(kind));
        if kind == Kind::Sessions {
            self.bar.inc(rows);
        }
    }

    /// What was written of each kind.
    fn end(&self, done: &str) -> Outcome {
        self.bar.finish_and_clear();
        let written = self.rows.iter().filter(|(_, (_, written))| *written > 0);
        let written: Vec<_> = written
            .map(|(kind, (_, written))| format!("{written} {}", words(*kind)))
            .collect();
        let what = if written.is_empty() {
            "nothing; all of it was there".to_owned()
        } else {
            written.join(", ")
        };
        report(&format!("{done}: {what}"))
    }
}
