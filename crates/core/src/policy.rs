//! Every lifetime and limit, documented, defaulted in one literal, checked once.

use std::str::FromStr;
use std::time::Duration;

use crate::access_token::is_registered;
use crate::assurance::Assurance;
use crate::limits::{Cap, Limits};
use crate::reset;

/// Lifetimes and limits of sessions and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long an access token lives, 1 s to 24 h.
    pub access_ttl: Duration,
    /// The idle limit: a session not refreshed for this long is over.
    pub refresh_ttl: Duration,
    /// The absolute limit: a session this old is over, however often it is refreshed.
    pub session_ttl: Duration,
    /// The idle limit of sessions that are not remembered, where it is shorter.
    pub browser_refresh_ttl: Option<Duration>,
    /// The absolute limit of sessions that are not remembered, where it is shorter.
    pub browser_session_ttl: Option<Duration>,
    /// The idle limit of privileged sessions, where it is shorter.
    pub privileged_refresh_ttl: Option<Duration>,
    /// The absolute limit of privileged sessions, where it is shorter.
    pub privileged_session_ttl: Option<Duration>,
    /// How many sessions a user may have at once. `None`: any number.
    pub cap: Option<Cap>,
    /// `W`: requests of one client this close together are taken as one. `None`: 30 s, or half of
    /// `access_ttl` where that is less. Zero: only clients that refresh one at a time are promised
    /// anything.
    pub refresh_window: Option<Duration>,
    /// How long a password check keeps a session fresh.
    pub fresh_ttl: Duration,
    /// What only a fresh session may do.
    pub fresh_needed_for: Vec<Sensitive>,
    /// How long a token by which a password is reset is good, 20 min at most.
    pub reset_ttl: Duration,
    /// The level whose bounds the others must keep.
    pub assurance: Option<Assurance>,
    /// How far the clocks of two nodes may be apart before an ended session's token could outlive
    /// its entry among the revoked.
    pub clock_skew: Duration,
    /// How long a node that the store does not answer goes on verifying, 10 s to 24 h. `None`: one
    /// `access_ttl`, at least 10 s.
    pub revocation_allowance: Option<Duration>,
    /// The share of `access_ttl` by which a token may end early, so that clients do not refresh in
    /// step; in percent, 0 to 50.
    pub expiry_jitter_percent: u8,
    /// `iss` of access tokens; tokens with another are refused.
    pub issuer: Option<String>,
    /// `aud` of access tokens; tokens with another are refused.
    pub audience: Option<String>,
    /// How long after `exp` an access token is still accepted, at most 10 min. Also a lower bound
    /// of [`Policy::leeway`].
    pub exp_leeway: Duration,
    /// Whether access tokens carry `nbf`. If not, tokens without one are accepted.
    pub nbf: bool,
    /// Whether access tokens carry `csrf`, for a double submit.
    pub csrf: bool,
    /// Another claim that repeats `sub`, for readers that look for the user there.
    pub identity_claim: Option<String>,
}

/// What may be left to fresh sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sensitive {
    /// Changing the password.
    ChangePassword,
    /// Ending other sessions of one's own.
    EndSessions,
}

impl Sensitive {
    /// All of it.
    pub const ALL: [Sensitive; 2] = [Sensitive::ChangePassword, Sensitive::EndSessions];

    /// As settings name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Sensitive::ChangePassword => "change_password",
            Sensitive::EndSessions => "end_sessions",
        }
    }
}

impl FromStr for Sensitive {
    type Err = PolicyError;

    fn from_str(name: &str) -> Result<Self, PolicyError> {
        let known = Sensitive::ALL.into_iter().find(|it| it.name() == name);
        known.ok_or(PolicyError(
            "fresh_needed_for must be of change_password and end_sessions",
        ))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            access_ttl: Duration::from_secs(15 * 60),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
            session_ttl: Duration::from_secs(90 * 24 * 3600),
            browser_refresh_ttl: None,
            browser_session_ttl: None,
            privileged_refresh_ttl: None,
            privileged_session_ttl: None,
            cap: None,
            refresh_window: None,
            fresh_ttl: Duration::from_secs(10 * 60),
            fresh_needed_for: Vec::new(),
            reset_ttl: reset::MAX_TTL,
            assurance: None,
            clock_skew: Duration::from_secs(60),
            revocation_allowance: None,
            expiry_jitter_percent: 5,
            issuer: None,
            audience: None,
            exp_leeway: Duration::ZERO,
            nbf: true,
            csrf: false,
            identity_claim: None,
        }
    }
}

/// What is wrong with a policy, in words that say what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub &'static str);

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Some polls of the store.
const LEAST_ALLOWANCE: Duration = Duration::from_secs(10);
/// The most that [`Policy::exp_leeway`] may be.
pub(crate) const MAX_EXP_LEEWAY: Duration = Duration::from_secs(10 * 60);
const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

impl Policy {
    /// The window `W` in force.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.refresh_window
            .unwrap_or_else(|| (self.access_ttl / 2).min(Duration::from_secs(30)))
    }

    /// The limits of a session, by the class that it was opened in: the shortest that apply.
    #[must_use]
    pub fn limits(&self, remember: bool, privileged: bool) -> Limits {
        let mut limits = Limits {
            idle: self.refresh_ttl,
            absolute: self.session_ttl,
        };
        if !remember {
            limits = limits.within(self.browser_refresh_ttl, self.browser_session_ttl);
        }
        if privileged {
            limits = limits.within(self.privileged_refresh_ttl, self.privileged_session_ttl);
        }
        limits
    }

    /// Whether only a fresh session may do this.
    #[must_use]
    pub fn needs_fresh(&self, what: Sensitive) -> bool {
        self.fresh_needed_for.contains(&what)
    }

    /// How far in the future `iat` and `nbf` may lie: `W/2`, at least 5 s and `exp_leeway`.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        let least = Duration::from_secs(5).max(self.exp_leeway);
        (self.window() / 2).max(least)
    }

    /// The allowance in force: see [`Policy::revocation_allowance`].
    #[must_use]
    pub fn allowance(&self) -> Duration {
        let unset = self.access_ttl.max(LEAST_ALLOWANCE);
        self.revocation_allowance.unwrap_or(unset)
    }

    /// How long the id of an ended session must be remembered by every verifier.
    #[must_use]
    pub fn revocation_span(&self) -> Duration {
        self.access_ttl + self.exp_leeway + self.leeway() + self.clock_skew
    }

    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// The first rule broken, in words that say what to change.
    pub fn check(&self) -> Result<(), PolicyError> {
        let rule = |holds, text| {
            if holds {
                Ok(())
            } else {
                Err(PolicyError(text))
            }
        };
        rule(
            self.access_ttl >= Duration::from_secs(1) && self.access_ttl <= DAY,
            "access_ttl must lie between 1s and 24h",
        )?;
        rule(
            self.refresh_ttl > self.access_ttl,
            "refresh_ttl must be longer than access_ttl",
        )?;
        rule(
            self.session_ttl >= self.refresh_ttl,
            "session_ttl must be at least refresh_ttl",
        )?;
        rule(
            self.session_ttl <= TEN_YEARS,
            "session_ttl must be at most ten years",
        )?;
        self.check_classes()?;
        rule(
            self.window() <= self.access_ttl / 2,
            "refresh_window must be at most half of access_ttl",
        )?;
        rule(
            self.fresh_ttl <= self.session_ttl,
            "fresh_ttl must be at most session_ttl",
        )?;
        rule(
            !self.reset_ttl.is_zero() && self.reset_ttl <= reset::MAX_TTL,
            "reset_ttl must lie between 1s and 20m",
        )?;
        rule(self.clock_skew <= DAY, "clock_skew must be at most 24h")?;
        rule(
            (LEAST_ALLOWANCE..=DAY).contains(&self.allowance()),
            "revocation_allowance must lie between 10s and 24h",
        )?;
        rule(
            self.expiry_jitter_percent <= 50,
            "expiry_jitter_percent must be at most 50",
        )?;
        rule(
            self.exp_leeway <= MAX_EXP_LEEWAY,
            "exp_leeway must be at most 10m",
        )?;
        rule(
            self.identity_claim
                .as_deref()
                .is_none_or(|name| !name.is_empty() && !is_registered(name)),
            "identity_claim must not be empty or the name of a claim that every token has",
        )?;
        self.assurance
            .map_or(Ok(()), |assurance| assurance.check(self))
    }

    /// A class of sessions may have shorter limits than all have, not longer ones.
    fn check_classes(&self) -> Result<(), PolicyError> {
        let fits = |ttl: Option<Duration>, most: Duration| {
            ttl.is_none_or(|ttl| ttl > self.access_ttl && ttl <= most)
        };
        let rules = [
            (
                fits(self.browser_refresh_ttl, self.refresh_ttl),
                "browser_refresh_ttl must be longer than access_ttl and at most refresh_ttl",
            ),
            (
                fits(self.browser_session_ttl, self.session_ttl),
                "browser_session_ttl must be longer than access_ttl and at most session_ttl",
            ),
            (
                fits(self.privileged_refresh_ttl, self.refresh_ttl),
                "privileged_refresh_ttl must be longer than access_ttl and at most refresh_ttl",
            ),
            (
                fits(self.privileged_session_ttl, self.session_ttl),
                "privileged_session_ttl must be longer than access_ttl and at most session_ttl",
            ),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, text)| Err(PolicyError(text)))
    }
}
