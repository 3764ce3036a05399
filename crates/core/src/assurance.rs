//! Presets named after the authentication assurance levels of NIST SP 800-63B-4: what a level asks of
//! sessions, as defaults and as bounds that no setting may loosen.
//!
//! Time-outs only. Doorward checks one factor, a password; the second factor and the resistance to
//! phishing that AAL2 and AAL3 ask for are the host's.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use crate::policy::{Policy, PolicyError, Sensitive};

/// A level of NIST SP 800-63B-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// Section 2.1.3: an overall time-out, which should be at most 30 days.
    Aal1,
    /// Section 2.2.3: 24 hours, and an hour of inactivity.
    Aal2,
    /// Section 2.3.3: 12 hours, and 15 minutes of inactivity.
    Aal3,
}

/// The most that a level allows.
struct Most {
    idle: Duration,
    absolute: Duration,
    access: Duration,
    fresh: Duration,
    fresh_needed_for: &'static [Sensitive],
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl FromStr for Assurance {
    type Err = PolicyError;

    fn from_str(name: &str) -> Result<Self, PolicyError> {
        let known = Assurance::ALL
            .into_iter()
            .find(|level| level.name() == name);
        known.ok_or(PolicyError("assurance must be aal1, aal2 or aal3"))
    }
}

impl Assurance {
    /// Every level.
    pub const ALL: [Assurance; 3] = [Assurance::Aal1, Assurance::Aal2, Assurance::Aal3];

    /// As settings name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assurance::Aal1 => "aal1",
            Assurance::Aal2 => "aal2",
            Assurance::Aal3 => "aal3",
        }
    }

    /// The defaults of this level.
    #[must_use]
    pub fn policy(self) -> Policy {
        let most = self.most();
        Policy {
            access_ttl: most.access,
            refresh_ttl: most.idle,
            session_ttl: most.absolute,
            fresh_ttl: most.fresh,
            fresh_needed_for: most.fresh_needed_for.to_vec(),
            assurance: Some(self),
            ..Policy::default()
        }
    }

    /// Settings that are stricter than the level asks for are fine; none may be looser.
    pub(crate) fn check(self, policy: &Policy) -> Result<(), PolicyError> {
        let most = self.most();
        let needed = most.fresh_needed_for.iter();
        let rules = [
            (
                policy.refresh_ttl <= most.idle,
                "refresh_ttl must be at most what assurance allows: 30d at aal1, 1h at aal2, 15m at aal3",
            ),
            (
                policy.session_ttl <= most.absolute,
                "session_ttl must be at most what assurance allows: 30d at aal1, 24h at aal2, 12h at aal3",
            ),
            (
                policy.access_ttl <= most.access,
                "access_ttl must be at most what assurance allows: 15m at aal1 and aal2, 5m at aal3",
            ),
            (
                policy.fresh_ttl <= most.fresh,
                "fresh_ttl must be at most what assurance allows: 10m at aal1 and aal2, 5m at aal3",
            ),
            (
                policy.exp_leeway.is_zero(),
                "exp_leeway must be 0 where assurance is set: tokens would outlive their session",
            ),
            (
                needed
                    .clone()
                    .all(|it| policy.fresh_needed_for.contains(it)),
                "fresh_needed_for must name change_password and end_sessions at aal2 and aal3",
            ),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, text)| Err(PolicyError(text)))
    }

    fn most(self) -> Most {
        let seconds = Duration::from_secs;
        let both: &[Sensitive] = &Sensitive::ALL;
        match self {
            Assurance::Aal1 => Most {
                idle: seconds(30 * DAY),
                absolute: seconds(30 * DAY),
                access: seconds(15 * MINUTE),
                fresh: seconds(10 * MINUTE),
                fresh_needed_for: &[],
            },
            Assurance::Aal2 => Most {
                idle: seconds(HOUR),
                absolute: seconds(24 * HOUR),
                access: seconds(15 * MINUTE),
                fresh: seconds(10 * MINUTE),
                fresh_needed_for: both,
            },
            Assurance::Aal3 => Most {
                idle: seconds(15 * MINUTE),
                absolute: seconds(12 * HOUR),
                access: seconds(5 * MINUTE),
                fresh: seconds(5 * MINUTE),
                fresh_needed_for: both,
            },
        }
    }

    /// The table of docs/sessions.md, in Markdown.
    #[must_use]
    pub fn table() -> String {
        let mut table =
            String::from("| setting | unset | aal1 | aal2 | aal3 |\n|---|---|---|---|---|\n");
        let unset = Policy::default();
        let levels = Assurance::ALL.map(Assurance::policy);
        let columns = [&unset, &levels[0], &levels[1], &levels[2]];
        let mut line = |name: &str, value: &dyn Fn(&Policy) -> String| {
            let cells = columns.map(value).join(" | ");
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| `{name}` | {cells} |");
        };
        line("refresh_ttl", &|policy| shown(policy.refresh_ttl));
        line("session_ttl", &|policy| shown(policy.session_ttl));
        line("access_ttl", &|policy| shown(policy.access_ttl));
        line("fresh_ttl", &|policy| shown(policy.fresh_ttl));
        line("fresh_needed_for", &|policy| {
            named(&policy.fresh_needed_for)
        });
        table
    }
}

fn named(sensitive: &[Sensitive]) -> String {
    let names: Vec<_> = sensitive.iter().map(|it| it.name()).collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// In the largest unit that divides it; 24 hours stay hours, as the levels count.
fn shown(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (1, "s")];
    let fits = |unit: u64| seconds.is_multiple_of(unit) && (unit < DAY || seconds > DAY);
    let unit = units.into_iter().find(|(unit, _)| fits(*unit));
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_table_of_the_code() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sessions.md");
        let page = std::fs::read_to_string(page).unwrap();
        let table = Assurance::table();
        assert!(
            page.contains(&table),
            "docs/sessions.md must show:\n{table}"
        );
    }

    #[test]
    fn each_level_is_sound_and_the_next_is_no_looser() {
        let levels = Assurance::ALL.map(Assurance::policy);
        for policy in &levels {
            assert_eq!(policy.check(), Ok(()));
        }
        for (at, stricter) in levels.iter().enumerate() {
            for level in &Assurance::ALL[..=at] {
                assert_eq!(level.check(stricter), Ok(()));
            }
        }
        assert!(Assurance::Aal3.check(&levels[1]).is_err());
        assert!(Assurance::Aal2.check(&levels[0]).is_err());
    }

    #[test]
    fn what_loosens_a_level_is_refused_by_name() {
        let second = Duration::from_secs(1);
        for level in Assurance::ALL {
            let refused = |change: &dyn Fn(&mut Policy)| {
                let mut policy = level.policy();
                change(&mut policy);
                policy
                    .check()
                    .err()
                    .map(|error| error.0)
                    .unwrap_or_default()
            };
            let named = |name: &str, change: &dyn Fn(&mut Policy)| {
                let text = refused(change);
                assert!(text.starts_with(name), "{level:?}: {text}");
            };
            named("session_ttl", &|policy| policy.session_ttl += second);
            named("refresh_ttl", &|policy| {
                policy.refresh_ttl += second;
                policy.session_ttl = policy.session_ttl.max(policy.refresh_ttl);
            });
            named("access_ttl", &|policy| {
                policy.refresh_window = Some(second);
                policy.access_ttl += second;
                policy.refresh_ttl = policy.refresh_ttl.max(policy.access_ttl + second);
            });
            named("fresh_ttl", &|policy| policy.fresh_ttl += second);
            named("exp_leeway", &|policy| policy.exp_leeway = second);
            let stricter = refused(&|policy| {
                policy.session_ttl -= second;
                policy.refresh_ttl -= 2 * second;
                policy.fresh_ttl -= second;
            });
            assert_eq!(stricter, "", "{level:?}");
        }
        let none = Policy {
            fresh_needed_for: vec![Sensitive::EndSessions],
            ..Assurance::Aal2.policy()
        };
        assert!(none.check().is_err());
    }

    #[test]
    fn a_level_has_one_spelling() {
        for level in Assurance::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        for other in ["", "AAL2", "aal4", "2"] {
            assert!(other.parse::<Assurance>().is_err(), "{other:?}");
        }
    }
}
