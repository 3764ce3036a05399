//! The decision table of ARCHITECTURE.md, "Refresh rotation", row by row at its boundaries.
//!
//! Each case is a row, a presented token and a time. Times are milliseconds; the row's confirmed
//! token was first presented at [`T`], and so is its child handed out, unless a case says otherwise.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use doorward_core::keys::{KeyId, RefreshKey};
use doorward_core::refresh_token::RefreshToken;
use doorward_core::session::{Decision, Delivery, Device, End, EndReason, Session, Verdict};
use doorward_core::{Policy, SessionId, Timestamp, TokenId, UserId};

const T: i64 = 1_800_000_000_000;
const W: i64 = 30_000;
const DAY: i64 = 24 * 3600 * 1000;

const PREVIOUS: TokenId = TokenId([1; 16]);
const CONFIRMED: TokenId = TokenId([2; 16]);
const UNKNOWN: TokenId = TokenId([9; 16]);

const ADVANCE: Verdict = Verdict::Advance {
    fork_suspected: false,
};
const FORK: Verdict = Verdict::Advance {
    fork_suspected: true,
};

fn key() -> RefreshKey {
    RefreshKey::new(KeyId(1), &[7; 32])
}

/// At generation 5, an hour after the login.
fn row() -> Session {
    Session {
        id: SessionId([3; 16]),
        user: UserId::new("ada").unwrap(),
        confirmed: CONFIRMED,
        generation: 5,
        previous: Some(PREVIOUS),
        siblings: true,
        attempt: 0,
        confirmed_at: Timestamp(T),
        child_at: Timestamp(T),
        refresh_key: KeyId(1),
        created_at: Timestamp(T - 3600 * 1000),
        auth_time: Timestamp(T - 3600 * 1000),
        absolute_end: Timestamp(T + 90 * DAY - 3600 * 1000),
        remember: false,
        privileged: false,
        delivery: Delivery::Cookie,
        device: Device::default(),
        claims: None,
        ended: None,
        version: 11,
    }
}

fn token(id: TokenId, parent: TokenId, generation: u32) -> RefreshToken {
    RefreshToken {
        key: KeyId(1),
        session: SessionId([3; 16]),
        id,
        parent,
        generation,
        issued_at: Timestamp(T),
    }
}

fn confirmed() -> RefreshToken {
    token(CONFIRMED, PREVIOUS, 5)
}

fn previous() -> RefreshToken {
    token(PREVIOUS, UNKNOWN, 4)
}

fn sibling() -> RefreshToken {
    token(UNKNOWN, PREVIOUS, 5)
}

/// The child that the row handed out at `attempt`.
fn child(attempt: u32) -> RefreshToken {
    Session { attempt, ..row() }.child(&key())
}

/// A child of the confirmed token that this row cannot have handed out.
fn another_child() -> RefreshToken {
    token(UNKNOWN, CONFIRMED, 6)
}

fn decide(row: &Session, token: &RefreshToken, now: i64) -> Decision {
    decide_by(&Policy::default(), row, token, now)
}

fn decide_by(policy: &Policy, row: &Session, token: &RefreshToken, now: i64) -> Decision {
    row.refresh(token, Timestamp(now), policy, &key(), KeyId(2))
}

fn verdict(row: &Session, token: &RefreshToken, now: i64) -> Verdict {
    decide(row, token, now).verdict
}

/// A row whose child is handed out for the n-th time, long after it was confirmed.
fn again(attempt: u32, child_at: i64) -> Session {
    Session {
        attempt,
        child_at: Timestamp(child_at),
        ..row()
    }
}

#[test]
fn rule_0_an_ended_row_keeps_its_reason() {
    let end = End {
        at: Timestamp(T),
        reason: EndReason::Logout,
    };
    let ended = Session {
        ended: Some(end),
        ..row()
    };
    for token in [confirmed(), child(0), previous(), another_child()] {
        let decision = decide(&ended, &token, T + 100 * DAY);
        assert_eq!(decision.verdict, Verdict::Ended(EndReason::Logout));
        assert_eq!(decision.swap, None);
    }
}

#[test]
fn rule_0_the_absolute_limit_is_exact() {
    let used = again(0, T + 80 * DAY);
    let end = T + 90 * DAY - 3600 * 1000;
    assert_eq!(verdict(&used, &child(0), end - 1), ADVANCE);
    let over = Verdict::Ended(EndReason::Absolute);
    assert_eq!(verdict(&used, &child(0), end), over);
}

#[test]
fn rule_0_idle_counts_from_when_the_child_was_first_handed_out_or_the_login() {
    let idle = Verdict::Ended(EndReason::Idle);
    let end = T + 30 * DAY;
    assert_eq!(verdict(&row(), &child(0), end - 1), ADVANCE);
    assert_eq!(verdict(&row(), &child(0), end), idle);
    let never = Session {
        child_at: Timestamp::NEVER,
        confirmed_at: Timestamp::NEVER,
        created_at: Timestamp(T),
        ..row()
    };
    assert_eq!(verdict(&never, &child(0), end - 1), ADVANCE);
    assert_eq!(verdict(&never, &child(0), end), idle);
}

#[test]
fn rule_1_the_confirmed_token_gets_the_child_again() {
    for now in [T, T + 1, T + W] {
        let decision = decide(&row(), &confirmed(), now);
        assert_eq!(decision.verdict, Verdict::Repeat);
        assert_eq!(decision.swap, None, "the same child, at {}", now - T);
    }
}

#[test]
fn rule_1_after_the_window_it_is_a_new_attempt() {
    let now = T + W + 1;
    let decision = decide(&row(), &confirmed(), now);
    assert_eq!(decision.verdict, Verdict::Repeat);
    let expected = Session {
        attempt: 1,
        child_at: Timestamp(now),
        version: 12,
        ..row()
    };
    assert_eq!(decision.swap, Some(expected));
}

#[test]
fn rule_2_any_child_settles_within_the_window_of_the_confirmation() {
    for token in [child(0), another_child()] {
        let decision = decide(&row(), &token, T + W);
        assert_eq!(decision.verdict, Verdict::Settle);
        assert_eq!(decision.swap, None);
    }
    assert_eq!(verdict(&row(), &child(0), T + W + 1), ADVANCE);
}

#[test]
fn rule_2_later_only_the_last_two_attempts_settle() {
    let handed_out = T + 10 * W;
    let row = again(3, handed_out);
    for (token, expected) in [
        (child(3), Verdict::Settle),
        (child(2), Verdict::Settle),
        (child(1), FORK),
        (another_child(), FORK),
    ] {
        assert_eq!(verdict(&row, &token, handed_out + W), expected);
    }
    assert_eq!(verdict(&row, &child(3), handed_out + W + 1), ADVANCE);
    assert_eq!(verdict(&row, &child(2), handed_out + W + 1), FORK);
}

#[test]
fn rule_3_the_child_becomes_the_confirmed_token() {
    let now = T + 3 * W;
    let decision = decide(&row(), &child(0), now);
    assert_eq!(decision.verdict, ADVANCE);
    let expected = Session {
        previous: Some(CONFIRMED),
        confirmed: child(0).id,
        generation: 6,
        siblings: true,
        attempt: 0,
        confirmed_at: Timestamp(now),
        child_at: Timestamp(now),
        refresh_key: KeyId(2),
        version: 12,
        ..row()
    };
    assert_eq!(decision.swap, Some(expected));
}

#[test]
fn rule_3_attempts_are_counted_anew() {
    let decision = decide(&again(3, T + W), &child(3), T + 3 * W);
    assert_eq!(decision.verdict, ADVANCE);
    assert_eq!(decision.swap.unwrap().attempt, 0);
}

#[test]
fn rule_3_siblings_may_be_on_their_way_for_three_windows() {
    let siblings = |now| decide(&row(), &child(0), now).swap.unwrap().siblings;
    assert!(siblings(T + 3 * W));
    assert!(!siblings(T + 3 * W + 1));
}

#[test]
fn rule_3_wants_the_right_generation() {
    for generation in [4, 5, 7] {
        let forged = token(UNKNOWN, CONFIRMED, generation);
        assert_ne!(verdict(&row(), &forged, T + 2 * W), ADVANCE);
        assert_ne!(verdict(&row(), &forged, T), Verdict::Settle);
    }
}

#[test]
fn rule_4_a_late_request_is_answered_for_one_window() {
    for token in [previous(), sibling()] {
        let decision = decide(&row(), &token, T + W);
        assert_eq!(decision.verdict, Verdict::Concurrent);
        assert_eq!(decision.swap, None);
        assert_eq!(verdict(&row(), &token, T + W + 1), Verdict::Reuse);
    }
}

#[test]
fn rule_4_a_sibling_only_where_there_may_be_any() {
    let alone = Session {
        siblings: false,
        ..row()
    };
    assert_eq!(verdict(&alone, &previous(), T + W), Verdict::Concurrent);
    assert_eq!(verdict(&alone, &sibling(), T + W), Verdict::Reuse);
}

#[test]
fn rule_5_a_token_from_ahead_moves_the_row_forward() {
    let ahead = RefreshToken {
        issued_at: Timestamp(T - W),
        ..token(UNKNOWN, TokenId([8; 16]), 7)
    };
    let now = T + 5 * W;
    let decision = decide(&row(), &ahead, now);
    assert_eq!(decision.verdict, Verdict::StoreBehind);
    let next = decision.swap.unwrap();
    assert_eq!(next.previous, Some(TokenId([8; 16])), "the token's parent");
    assert_eq!((next.confirmed, next.generation), (UNKNOWN, 7));
    assert_eq!((next.siblings, next.version), (false, 12));
    assert_eq!((next.confirmed_at.0, next.child_at.0), (now, now));
    let older = RefreshToken {
        issued_at: Timestamp(T - W - 1),
        ..ahead
    };
    assert_eq!(verdict(&row(), &older, now), Verdict::Reuse);
}

#[test]
fn rule_6_anything_else_is_reuse() {
    for token in [
        token(UNKNOWN, UNKNOWN, 5),
        token(UNKNOWN, UNKNOWN, 6),
        token(UNKNOWN, UNKNOWN, 0),
    ] {
        let decision = decide(&row(), &token, T);
        assert_eq!((decision.verdict, decision.swap), (Verdict::Reuse, None));
    }
}

#[test]
fn a_clock_that_stepped_back_by_up_to_half_a_window_is_none() {
    let back = T - W / 2;
    assert_eq!(verdict(&row(), &child(0), back), Verdict::Settle);
    assert_eq!(verdict(&row(), &previous(), back), Verdict::Concurrent);
    assert_eq!(decide(&row(), &confirmed(), back).swap, None);
}

#[test]
fn one_that_stepped_back_further_counts_as_long_ago() {
    let back = T - W / 2 - 1;
    assert_eq!(verdict(&row(), &child(0), back), ADVANCE);
    assert!(!decide(&row(), &child(0), back).swap.unwrap().siblings);
    assert_eq!(verdict(&row(), &previous(), back), Verdict::Reuse);
    let repeated = decide(&row(), &confirmed(), back).swap.unwrap();
    assert_eq!((repeated.attempt, repeated.child_at.0), (1, back));
}

#[test]
fn without_a_window_only_the_confirmed_token_and_the_child_are_known() {
    let none = Policy {
        refresh_window: Some(Duration::ZERO),
        ..Policy::default()
    };
    let decide = |token: &RefreshToken, now| decide_by(&none, &row(), token, now);
    assert_eq!(decide(&child(0), T).verdict, ADVANCE);
    assert_eq!(decide(&previous(), T).verdict, Verdict::Reuse);
    assert_eq!(decide(&sibling(), T).verdict, Verdict::Reuse);
    // Rule 1 and its clock test go by 2 s.
    assert_eq!(decide(&confirmed(), T + 2_000).swap, None);
    assert!(decide(&confirmed(), T + 2_001).swap.is_some());
    assert_eq!(decide(&confirmed(), T - 1_000).swap, None);
    assert!(decide(&confirmed(), T - 1_001).swap.is_some());
}

/// Beyond the table: see ARCHITECTURE.md.
#[test]
fn at_a_later_attempt_an_answer_with_the_child_moves_child_at_by_an_eighth_of_the_window() {
    let row = again(1, T + 10 * W);
    for token in [confirmed(), child(1), child(0)] {
        let now = T + 10 * W + W / 8;
        assert_eq!(decide(&row, &token, now).swap, None);
        let moved = decide(&row, &token, now + 1).swap.unwrap();
        let expected = Session {
            child_at: Timestamp(now + 1),
            version: 12,
            ..row.clone()
        };
        assert_eq!(moved, expected);
    }
}

#[test]
fn a_child_is_dated_by_its_first_handing_out_and_known_by_its_attempt() {
    assert_ne!(child(0).id, child(1).id);
    assert_eq!((child(0).parent, child(0).generation), (CONFIRMED, 6));
    let later = again(1, T + W).child(&key());
    assert_eq!((later.id, later.issued_at), (child(1).id, Timestamp(T + W)));
}

#[test]
fn ends_are_remembered_for_an_access_lifetime_the_leeway_and_the_skew() {
    let policy = Policy::default();
    let seconds = 15 * 60 + 15 + 60;
    assert_eq!(policy.revocation_span(), Duration::from_secs(seconds));
    let exp_leeway = Duration::from_secs(40);
    let lenient = Policy {
        exp_leeway,
        ..policy
    };
    // Once for the end, and once for a beginning that may now lie as far ahead.
    let seconds = 15 * 60 + 40 + 40 + 60;
    assert_eq!(lenient.revocation_span(), Duration::from_secs(seconds));
}

#[test]
fn a_policy_is_refused_that_lets_ended_tokens_live_or_renames_a_claim() {
    let leeway = |exp_leeway| Policy {
        exp_leeway,
        ..Policy::default()
    };
    assert!(leeway(Duration::from_secs(600)).check().is_ok());
    assert!(leeway(Duration::from_millis(600_001)).check().is_err());
    let named = |name: &str| Policy {
        identity_claim: Some(name.into()),
        ..Policy::default()
    };
    assert!(named("identity").check().is_ok() && named("user_id").check().is_ok());
    for name in ["", "sub", "sid", "exp", "csrf", "type"] {
        assert!(named(name).check().is_err(), "{name:?}");
    }
}
