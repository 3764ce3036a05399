//! From what was seen to findings: pure, by subject.

mod answers;
mod clock;
mod connection;
mod cookies;
mod cors;
mod csrf;
mod proxy;
mod session;

#[cfg(test)]
mod tests;

use super::finding::{Finding, Subject};
use super::seen::Seen;

/// In the order in which they are told.
pub(crate) static SUBJECTS: [&Subject; 8] = [
    &connection::SUBJECT,
    &clock::SUBJECT,
    &answers::SUBJECT,
    &proxy::SUBJECT,
    &csrf::SUBJECT,
    &cors::SUBJECT,
    &cookies::SUBJECT,
    &session::SUBJECT,
];

/// All findings, one of a kind.
pub(crate) fn findings(seen: &Seen) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for found in SUBJECTS.iter().flat_map(|subject| subject.findings(seen)) {
        match all
            .iter_mut()
            .find(|told| told.kind.code == found.kind.code)
        {
            Some(told) => told.seen = format!("{}; {}", told.seen, found.seen),
            None => all.push(found),
        }
    }
    all
}
