//! docs/events.md: its table is that of the code.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use doorward_core::EndReason;
use doorward_core::event::{EventName, why_ended};

const PAGE: &str = include_str!("../../../docs/events.md");

#[test]
fn the_table_has_every_event_in_order_with_its_outcome() {
    let rows = PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        let outcome = cells.nth(1)?;
        let is_outcome = ["success", "failure", "alarm"].contains(&outcome);
        is_outcome.then_some((name, outcome))
    });
    let known = EventName::ALL.iter();
    let known: Vec<_> = known
        .map(|name| (name.as_str(), name.outcome().as_str()))
        .collect();
    assert_eq!(rows.collect::<Vec<_>>(), known);
}

#[test]
fn every_name_reads_back() {
    for name in EventName::ALL {
        assert_eq!(EventName::parse(name.as_str()), Some(*name));
    }
    assert_eq!(EventName::parse("LOGGED_IN"), None);
}

#[test]
fn every_reason_for_an_end_has_words_of_its_own() {
    let unknown = why_ended("something else");
    for reason in EndReason::ALL {
        assert_ne!(why_ended(reason.name()), unknown, "{reason:?}");
    }
}
