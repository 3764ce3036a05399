//! Millions of sessions, each of a user of its own, that need not be kept in memory: the n-th one
//! follows from n.

use doorward_core::keys::{KeyId, RefreshKey};
use doorward_core::testing::TestEnv;
use doorward_core::{Delivery, Device, Policy, Session, SessionId, Timestamp, TokenId};

use crate::engine::user;

/// Sessions opened one each 50 ms.
const APART: i64 = 50;

/// Sessions from a time on.
#[derive(Clone)]
pub struct Population {
    /// When the first was opened.
    pub since: Timestamp,
    /// The key of all.
    pub key: KeyId,
    /// Their lifetimes.
    pub policy: Policy,
    /// Where their users' numbers begin.
    pub first_user: usize,
}

impl Population {
    /// The session of a number, as its login leaves it.
    #[must_use]
    pub fn session(&self, number: usize) -> Session {
        let of = number as u64;
        let opened = i64::try_from(of).unwrap_or(0) * APART;
        let now = Timestamp(self.since.0 + opened);
        let env = TestEnv::new(now, of ^ self.since.0.unsigned_abs());
        let user = user(self.first_user + number);
        Session {
            id: SessionId::new(now, &env).of(&user),
            user,
            confirmed: TokenId::random(&env),
            generation: -1,
            previous: None,
            siblings: false,
            attempt: 0,
            confirmed_at: Timestamp::NEVER,
            child_at: Timestamp::NEVER,
            refresh_key: self.key,
            created_at: now,
            auth_time: now,
            absolute_end: now + self.policy.session_ttl,
            remember: true,
            privileged: false,
            delivery: Delivery::Body,
            device: Device::default(),
            claims: None,
            ended: None,
            version: 0,
        }
    }
}

/// The refresh token that the client of a session holds.
#[must_use]
pub fn token(session: &Session, key: &RefreshKey) -> String {
    session.child(key).sign(key).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_always_the_same_session_and_no_other() {
        let population = Population {
            since: Timestamp(1_800_000_000_000),
            key: KeyId(1),
            policy: Policy::default(),
            first_user: 0,
        };
        assert_eq!(population.session(7), population.session(7));
        let ids: std::collections::HashSet<_> = (0..10_000)
            .map(|number| population.session(number).id)
            .collect();
        assert_eq!(ids.len(), 10_000);
    }
}
