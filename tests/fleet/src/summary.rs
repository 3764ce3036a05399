//! Figures of a run, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::checker::Violation;
use crate::history::{Action, Micros, Operation, Outcome, by_session};

/// So many violations are shown with their histories.
const SHOWN: usize = 5;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Requests sent.
    pub requests: usize,
    /// Sessions whose histories were checked.
    pub sessions: usize,
    /// Refreshes that were under way together with an acknowledged end of their session.
    pub raced: usize,
    /// Answers 503 (502 and 504 of proxies).
    pub unavailable: usize,
    /// Figures by action.
    pub operations: BTreeMap<Action, Figures>,
    /// From given instants on.
    pub since: Vec<Since>,
    /// How many of each kind.
    pub violations: BTreeMap<String, usize>,
    /// The first of them, with all that happened to their sessions.
    pub first_violations: Vec<Violation>,
}

/// How one action fared.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Successes.
    pub ok: usize,
    /// Refusals by code.
    pub refused: BTreeMap<String, usize>,
    /// Answers 503.
    pub unavailable: usize,
    /// Requests for which there was no connection.
    pub unreached: usize,
    /// Requests without an answer.
    pub unknown: usize,
    /// Half of the successes took at most so long, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 did.
    pub p99_ms: f64,
    /// The longest time without a success, from the first request of the kind to the last answer.
    pub longest_gap_ms: f64,
    /// When it began, on the histories' clock.
    pub longest_gap_from_us: Micros,
}

/// How soon each action succeeded after an instant.
#[derive(Clone, Debug, Serialize)]
pub struct Since {
    /// The instant.
    pub us: Micros,
    /// Milliseconds to the first success that was answered then or later.
    pub first_success_ms: BTreeMap<Action, f64>,
}

impl Summary {
    /// Of a history and what is wrong with it, in order of time.
    #[must_use]
    pub fn of(history: &[Operation], violations: &[Violation], instants: &[Micros]) -> Self {
        let mut by_action: BTreeMap<Action, Vec<&Operation>> = BTreeMap::new();
        for operation in history {
            by_action
                .entry(operation.action)
                .or_default()
                .push(operation);
        }
        let figures = |(action, operations): (&Action, &Vec<_>)| (*action, Figures::of(operations));
        let operations: BTreeMap<_, _> = by_action.iter().map(figures).collect();
        let sessions = by_session(history);
        Summary {
            requests: history.len(),
            sessions: sessions.len(),
            raced: sessions.values().map(|operations| raced(operations)).sum(),
            unavailable: operations.values().map(|figures| figures.unavailable).sum(),
            operations,
            since: instants
                .iter()
                .map(|&us| Since::of(us, &by_action))
                .collect(),
            violations: counted(
                violations
                    .iter()
                    .map(|violation| violation.kind.name().to_owned()),
            ),
            first_violations: violations.iter().take(SHOWN).cloned().collect(),
        }
    }
}

impl Figures {
    fn of(operations: &[&Operation]) -> Self {
        let mut took: Vec<_> = successes(operations)
            .map(|one| one.end - one.start)
            .collect();
        took.sort_unstable();
        let (longest_gap, longest_gap_from_us) = longest_gap(operations);
        let count =
            |pick: fn(&Outcome) -> bool| operations.iter().filter(|one| pick(&one.outcome)).count();
        let codes = operations
            .iter()
            .filter_map(|operation| operation.refusal());
        Figures {
            ok: took.len(),
            refused: counted(codes.map(|(code, _)| code.to_owned())),
            unavailable: count(|outcome| matches!(outcome, Outcome::Unavailable { .. })),
            unreached: count(|outcome| *outcome == Outcome::Unreached),
            unknown: count(|outcome| *outcome == Outcome::Unknown),
            p50_ms: millis(percentile(&took, 50)),
            p99_ms: millis(percentile(&took, 99)),
            longest_gap_ms: millis(longest_gap),
            longest_gap_from_us,
        }
    }
}

impl Since {
    fn of(us: Micros, by_action: &BTreeMap<Action, Vec<&Operation>>) -> Self {
        let first = |operations: &[&Operation]| {
            let later = successes(operations)
                .map(|one| one.end)
                .filter(|end| *end >= us);
            later.min().map(|end| millis(end - us))
        };
        let first = by_action
            .iter()
            .filter_map(|(action, all)| Some((*action, first(all)?)));
        Since {
            us,
            first_success_ms: first.collect(),
        }
    }
}

fn raced(of_session: &[&Operation]) -> usize {
    let ends =
        successes(of_session).filter(|one| matches!(one.action, Action::End | Action::EndAll));
    let ends: Vec<_> = ends.collect();
    let raced = |refresh: &&&Operation| {
        let meets = |end: &&Operation| end.start <= refresh.end && refresh.start <= end.end;
        ends.iter().any(meets)
    };
    let refreshes = of_session
        .iter()
        .filter(|one| one.action == Action::Refresh);
    refreshes.filter(raced).count()
}

fn successes<'a>(operations: &'a [&Operation]) -> impl Iterator<Item = &'a Operation> {
    operations
        .iter()
        .copied()
        .filter(|operation| operation.ok())
}

/// How long it is, and from when.
fn longest_gap(operations: &[&Operation]) -> (Micros, Micros) {
    let first = operations.iter().map(|one| one.start).min();
    let last = operations.iter().map(|one| one.end).max();
    let between = successes(operations).map(|one| one.end);
    let mut moments: Vec<_> = between.chain(first).chain(last).collect();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| (pair[1] - pair[0], pair[0]));
    gaps.max().unwrap_or_default()
}

fn percentile(sorted: &[Micros], of_100: usize) -> Micros {
    let index = sorted.len() * of_100 / 100;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn millis(micros: Micros) -> f64 {
    micros as f64 / 1000.0
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(start: Micros, end: Micros, outcome: Outcome) -> Operation {
        Operation {
            client: 0,
            user: "ada".into(),
            action: Action::Verify,
            session: Some("s".into()),
            answered: None,
            replaces: None,
            node: 0,
            start,
            end,
            outcome,
        }
    }

    #[test]
    fn an_outage_is_the_longest_gap() {
        let code = "store_unavailable".to_owned();
        let history = [
            verified(0, 1_000, Outcome::Ok),
            verified(5_000, 7_000, Outcome::Ok),
            verified(9_000, 10_000, Outcome::Unavailable { code }),
            verified(11_000, 60_000, Outcome::Unknown),
            verified(61_000, 65_000, Outcome::Ok),
        ];
        let summary = Summary::of(&history, &[], &[8_000]);
        let figures = &summary.operations[&Action::Verify];
        assert_eq!(
            (figures.ok, figures.unavailable, figures.unknown),
            (3, 1, 1)
        );
        let millis = |figure: f64| format!("{figure}");
        assert_eq!(
            [figures.longest_gap_ms, figures.p50_ms, figures.p99_ms].map(millis),
            ["58", "2", "4"]
        );
        assert_eq!(figures.longest_gap_from_us, 7_000);
        assert_eq!(
            millis(summary.since[0].first_success_ms[&Action::Verify]),
            "57"
        );
        assert_eq!(
            (summary.unavailable, summary.requests, summary.sessions),
            (1, 5, 1)
        );
    }
}
