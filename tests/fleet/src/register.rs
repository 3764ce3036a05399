//! A session as a register that goes from absent to live to ended, and whether what was seen of it can
//! have happened in one order.
//!
//! Each step takes effect at one moment within its span; steps whose spans are apart keep their order.
//! [`Life`] decides that in one pass over the steps. Why it needs no search:
//!
//! *Any order that fits gives a moment `E`* at which the session ended (never, if nothing ends it).
//! Who saw it live did so before `E`, so `E` is no earlier than the latest start of those: `seen_live`.
//! Who saw it ended, or was told that it is now, did so by their answers, so `E` is no later than the
//! earliest of those: `over_by`. What ended it had begun by `E`, so some end started by `over_by`, and
//! the login, whose start is in `seen_live`, came before all that.
//!
//! *Any such `E` gives an order.* Take `E = max(seen_live, ends_from)`, which `decides` has found to
//! be no later than `over_by`. Put the login at its start; who saw it live at their own start, which is
//! `<= E`, or the login's where that is later (their answer came after it, by `born`); the end that started at
//! `ends_from` at `E`, all else that ends it or saw it ended at `E` or its own start, whichever is
//! later: each lies within its span, as answers of those come at `over_by` or later. At equal moments
//! login goes before live before the end before the rest. An end without an answer that is not needed is
//! left out.

use crate::history::Micros;

/// From the start of a step until its answer; [`Span::OPEN`] where none came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Sent.
    pub start: Micros,
    /// Answered.
    pub end: Micros,
}

impl Span {
    /// The end of a span without an answer.
    pub const OPEN: Micros = Micros::MAX;
}

/// What a step did, or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was opened.
    Login,
    /// It is live.
    SeenLive,
    /// It has ended.
    SeenEnded,
    /// It was ended, or had been.
    End,
    /// It may have been ended at any time from the start on, or never.
    MayEnd,
}

/// What the steps of one session say about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// It had not ended before: the latest start of who saw it live.
    pub seen_live: Micros,
    /// It ended no later: the earliest answer of who saw it ended, or ended it.
    pub over_by: Micros,
    /// The earliest start of what can have ended it.
    pub ends_from: Micros,
    /// Start of the login.
    born: Micros,
    /// The earliest answer of all.
    heard: Micros,
}

impl Life {
    /// In one pass, in any order.
    #[must_use]
    pub fn of(steps: &[(Step, Span)]) -> Self {
        let nothing = Life {
            seen_live: 0,
            over_by: Span::OPEN,
            ends_from: Span::OPEN,
            born: 0,
            heard: Span::OPEN,
        };
        steps
            .iter()
            .fold(nothing, |life, (step, span)| life.with(*step, *span))
    }

    fn with(mut self, step: Step, span: Span) -> Self {
        match step {
            Step::Login => {
                self.born = span.start;
                self.seen_live = self.seen_live.max(span.start);
            }
            Step::SeenLive => self.seen_live = self.seen_live.max(span.start),
            Step::SeenEnded => self.over_by = self.over_by.min(span.end),
            Step::End => {
                self.over_by = self.over_by.min(span.end);
                self.ends_from = self.ends_from.min(span.start);
            }
            Step::MayEnd => self.ends_from = self.ends_from.min(span.start),
        }
        if step != Step::MayEnd {
            self.heard = self.heard.min(span.end);
        }
        self
    }

    /// Whether the steps can have happened in one order.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.seen_live <= self.over_by && !self.unexplained() && self.born <= self.heard
    }

    /// It is over, and nothing had begun that ends it.
    #[must_use]
    pub fn unexplained(&self) -> bool {
        self.over_by != Span::OPEN && self.ends_from > self.over_by
    }
}

#[cfg(test)]
mod tests {
    use doorward_core::env::Timestamp;
    use doorward_core::testing::TestEnv;

    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Absent,
        Live,
        Ended,
    }

    fn after(state: State, step: Step) -> Option<State> {
        match (state, step) {
            (State::Absent, Step::Login) | (State::Live, Step::SeenLive) => Some(State::Live),
            (State::Live | State::Ended, Step::End | Step::MayEnd)
            | (State::Ended, Step::SeenEnded) => Some(State::Ended),
            _ => None,
        }
    }

    /// Wing and Gong: whichever step no other is wholly before may be next.
    fn some_order_fits(state: State, left: &[(Step, Span)]) -> bool {
        if left.iter().all(|(step, _)| *step == Step::MayEnd) {
            return true;
        }
        let first_answer = left.iter().map(|(_, span)| span.end).min().unwrap();
        (0..left.len()).any(|next| {
            let (step, span) = left[next];
            let rest = [&left[..next], &left[next + 1..]].concat();
            span.start <= first_answer
                && after(state, step).is_some_and(|state| some_order_fits(state, &rest))
        })
    }

    fn below(env: &TestEnv, bound: u64) -> u64 {
        env.random() % bound
    }

    fn anything(env: &TestEnv) -> Vec<(Step, Span)> {
        let kinds = [Step::SeenLive, Step::SeenEnded, Step::End, Step::MayEnd];
        let count = below(env, 6);
        let steps = (0..=count).map(|number| {
            let start = below(env, 10);
            let kind = kinds[usize::try_from(below(env, 4)).unwrap()];
            let step = if number == 0 { Step::Login } else { kind };
            let end = if step == Step::MayEnd {
                Span::OPEN
            } else {
                start + below(env, 5)
            };
            (step, Span { start, end })
        });
        steps.collect()
    }

    #[test]
    fn the_rule_and_the_search_agree() {
        let env = TestEnv::new(Timestamp(0), 5);
        let mut fitting = 0;
        for _ in 0..60_000 {
            let steps = anything(&env);
            let found = some_order_fits(State::Absent, &steps);
            assert_eq!(Life::of(&steps).decides(), found, "{steps:?}");
            fitting += u32::from(found);
        }
        assert!(
            (10_000..50_000).contains(&fitting),
            "{fitting} of 60,000 fit"
        );
    }
}
