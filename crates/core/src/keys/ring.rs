//! One reading of the store's keys: which of them verify, which are known to logout only, and which
//! one signs.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::stored::id_of;
use super::{
    Algorithm, KeyError, KeyId, NO_SEAL_SECRET, NOT_AUTHENTIC, Purpose, RefreshKey, StoredKey,
};
use crate::access_token::AccessKey;
use crate::env::Timestamp;
use crate::policy::Policy;
use crate::seal::{Seals, is_sealed};

/// What this process signs with, and for whom.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    /// The operator's own key, unsealed.
    pub(super) configured: Option<StoredKey>,
    /// Its issuer and audience, as a line of [`StoredKey::scopes`].
    pub(super) scope: Box<str>,
    pub(super) access_ttl: Duration,
}

impl Signer {
    pub(super) fn new(
        algorithm: Algorithm,
        configured: Option<StoredKey>,
        policy: &Policy,
    ) -> Signer {
        let scope = scope(policy);
        let joins = |own| StoredKey {
            scopes: scope.clone(),
            ..own
        };
        Signer {
            algorithm,
            configured: configured.map(joins),
            scope,
            access_ttl: policy.access_ttl,
        }
    }

    /// Whether a key is one of this process's issuer and audience.
    fn knows(&self, row: &StoredKey) -> bool {
        row.scopes.is_empty() || self.has_joined(row) || self.is_configured(row.id)
    }

    /// Whether a key's row names this process's issuer and audience.
    pub(super) fn has_joined(&self, row: &StoredKey) -> bool {
        row.scopes.lines().any(|scope| scope == &*self.scope)
    }

    pub(super) fn is_configured(&self, id: KeyId) -> bool {
        self.configured.as_ref().is_some_and(|own| own.id == id)
    }

    fn is_of_its_algorithm(&self, row: &StoredKey) -> bool {
        *row.algorithm == *self.algorithm.name()
    }
}

/// JSON, so that nothing in a name can be taken for the end of its line.
fn scope(policy: &Policy) -> Box<str> {
    serde_json::json!([policy.issuer, policy.audience])
        .to_string()
        .into()
}

/// An access key and the row that it is from.
pub(super) struct Published {
    pub(super) row: StoredKey,
    /// Whether it is somebody's own; else the ring made it. An own key's id follows from its secret.
    pub(super) joined: bool,
    pub(super) key: AccessKey,
    /// See [`Ring::sealed_by`].
    sealed_by: usize,
}

impl Published {
    fn open(row: &StoredKey, secret: &[u8], sealed_by: usize) -> Result<Published, KeyError> {
        Ok(Published {
            sealed_by,
            row: row.clone(),
            joined: row.id == id_of(secret),
            key: AccessKey::of(row, secret)?,
        })
    }

    /// Newest last.
    fn age(&self) -> (Timestamp, KeyId) {
        (self.row.signs_from, self.row.id)
    }
}

#[derive(Default)]
pub(super) struct Ring {
    /// All, in the order in which they were added.
    pub(super) rows: Vec<StoredKey>,
    /// Those that opened, in that order.
    access: Vec<Arc<Published>>,
    /// Those of the process's issuer and audience, by header: what logout looks among.
    known: Vec<Arc<Published>>,
    /// Those of them that verify.
    verifying: Vec<Arc<Published>>,
    pub(super) refresh: Vec<Arc<RefreshKey>>,
    /// By which of the seals each key is sealed that authenticated: 0 is the newest.
    sealed_by: Vec<(KeyId, usize)>,
}

impl Ring {
    /// `before`: the last reading, whose keys need not be opened again. Keys that ran out by `as_of`
    /// verify no more, except the one that this process signs with: nobody but itself would renew it.
    pub(super) fn of(
        rows: Vec<StoredKey>,
        before: &Ring,
        seals: &Seals,
        signer: &Signer,
        (now, as_of): (Timestamp, Timestamp),
    ) -> Result<Ring, KeyError> {
        let mut ring = Ring::default();
        let opened_before = before.access.iter().map(|key| (key.row.id, key));
        let opened_before: HashMap<_, _> = opened_before.collect();
        for purpose in [Purpose::Access, Purpose::Refresh] {
            let live = rows.iter().filter(|row| row.purpose == purpose);
            let live: Vec<_> = live.filter(|row| !row.retired).collect();
            let any_sealed = live.iter().any(|row| is_sealed(row));
            if seals.are_none() && any_sealed {
                return Err(NO_SEAL_SECRET);
            }
            let mut authentic = 0;
            for row in live {
                let known = opened_before.get(&row.id).copied();
                authentic += usize::from(ring.take(row, known, seals));
            }
            // A purpose whose keys were never sealed, beside another's that are, is one without keys: a
            // process without the secret began on a new store at the same moment.
            if authentic == 0 && any_sealed {
                return Err(NOT_AUTHENTIC);
            }
        }
        let has_none = ring.access.is_empty() && ring.refresh.is_empty();
        if !seals.are_none() && has_none && rows.iter().any(|row| !row.retired) {
            return Err(NOT_AUTHENTIC);
        }
        ring.rows = rows;
        ring.sort(signer, now, as_of);
        Ok(ring)
    }

    /// Whether the row authenticates. Keys that are malformed are left out.
    fn take(&mut self, row: &StoredKey, before: Option<&Arc<Published>>, seals: &Seals) -> bool {
        if let Some(same) = before.filter(|before| before.row == *row) {
            self.sealed_by.push((row.id, same.sealed_by));
            self.access.push(Arc::clone(same));
            return true;
        }
        let Some((secret, sealed_by)) = seals.open(row) else {
            return false;
        };
        self.sealed_by.push((row.id, sealed_by));
        match row.purpose {
            Purpose::Access => {
                let key = Published::open(row, &secret, sealed_by).ok();
                self.access.extend(key.map(Arc::new));
            }
            Purpose::Refresh if secret.len() >= 32 => {
                self.refresh
                    .push(Arc::new(RefreshKey::new(row.id, &secret)));
            }
            Purpose::Refresh => {}
        }
        true
    }

    fn sort(&mut self, signer: &Signer, now: Timestamp, as_of: Timestamp) {
        let known = self.access.iter().filter(|key| signer.knows(&key.row));
        self.known = known.cloned().collect();
        self.known
            .sort_by(|a, b| a.key.header().cmp(b.key.header()));
        let own = self.own(signer, now).map(|own| own.row.id);
        let verifies =
            |key: &&Arc<Published>| key.row.verifies_until > as_of || own == Some(key.row.id);
        self.verifying = self.known.iter().filter(verifies).cloned().collect();
    }

    /// Whether a key that verified has run out by `as_of`.
    pub(super) fn lapses(&self, signer: &Signer, now: Timestamp, as_of: Timestamp) -> bool {
        let own = self.own(signer, now).map(|own| own.row.id);
        let mut lapsed = self
            .verifying
            .iter()
            .filter(|key| key.row.verifies_until <= as_of);
        lapsed.any(|key| own != Some(key.row.id))
    }

    /// The seal that the store's keys are sealed by. Whoever writes goes on with it, so that processes
    /// which do not know a newer one yet can read what he wrote.
    pub(super) fn seal(&self) -> usize {
        let places = self.sealed_by.iter().map(|(_, place)| *place);
        places.min().unwrap_or(0)
    }

    /// Keys that are not sealed by the newest.
    pub(super) fn sealed_before(&self) -> impl Iterator<Item = &StoredKey> {
        let before = self.sealed_by.iter().filter(|(_, place)| *place > 0);
        before.filter_map(|(id, _)| self.row(*id))
    }

    pub(super) fn row(&self, id: KeyId) -> Option<&StoredKey> {
        self.rows.iter().find(|row| row.id == id)
    }

    pub(super) fn refresh_key(&self, id: KeyId) -> Option<Arc<RefreshKey>> {
        self.refresh.iter().find(|key| key.id() == id).cloned()
    }

    pub(super) fn verifying(&self) -> &[Arc<Published>] {
        &self.verifying
    }

    /// The key that verifies what `token` claims, by its whole header, to be signed with.
    pub(super) fn verifier(&self, token: &str) -> Option<&Published> {
        find(&self.verifying, token)
    }

    /// The same, among those that once did.
    pub(super) fn known(&self, token: &str) -> Option<&Published> {
        find(&self.known, token)
    }

    /// What this process is to sign with once it is published: the configured key; without one the
    /// newest that the ring made, or until that one's time has come the one before it.
    pub(super) fn own(&self, signer: &Signer, now: Timestamp) -> Option<&Arc<Published>> {
        let own = own_among(&self.verifying, signer, now);
        own.or_else(|| own_among(&self.known, signer, now))
    }

    /// The key that signs at `now`. A process whose own is not known to all yet signs with one that
    /// is; where there is none, all who begin agree on the first that was added.
    pub(super) fn signing(&self, signer: &Signer, now: Timestamp) -> Option<&Arc<Published>> {
        let own = self.own(signer, now);
        if signer.configured.is_some() && own.is_none() {
            return None;
        }
        own.filter(|own| own.row.signs_from <= now)
            .or_else(|| self.lent(signer, now))
            .or(own)
    }

    /// A key to sign with for others, of its own algorithm if there is one. Its tokens are over
    /// before it stops verifying, even if whoever renews it is gone.
    pub(super) fn lent(&self, signer: &Signer, now: Timestamp) -> Option<&Arc<Published>> {
        let lasts = now + signer.access_ttl;
        let in_order = self.access.iter().filter(|key| signer.knows(&key.row));
        let mut lasting = in_order.filter(|key| key.row.verifies_until >= lasts);
        let mut due = lasting.clone().filter(|key| key.row.signs_from <= now);
        let mut fitting = due
            .clone()
            .filter(|key| signer.is_of_its_algorithm(&key.row));
        fitting
            .next()
            .or_else(|| due.next())
            .or_else(|| lasting.next())
    }

    /// The key that mints refresh tokens. Before the very first one's time, that one.
    pub(super) fn minting(&self, now: Timestamp) -> Option<KeyId> {
        let order = |row: &&StoredKey| (row.signs_from, row.id);
        let due = self.minters().filter(|row| row.signs_from <= now);
        let newest = due.max_by_key(order);
        let row = newest.or_else(|| self.minters().min_by_key(order));
        row.map(|row| row.id)
    }

    /// The rows behind refresh keys.
    fn minters(&self) -> impl Iterator<Item = &StoredKey> {
        let usable = |row: &&StoredKey| self.refresh.iter().any(|key| key.id() == row.id);
        self.rows.iter().filter(usable)
    }

    /// The newest key that the ring made, of any algorithm.
    pub(super) fn newest_made(&self, now: Timestamp) -> Option<&StoredKey> {
        let made = self.access.iter().filter(|key| !key.joined);
        let due = made.filter(|key| key.row.signs_from <= now);
        due.max_by_key(|key| key.age()).map(|key| &key.row)
    }

    /// Whether retiring a key would leave nobody's place to another: no other of its algorithm
    /// verifies, and none of another algorithm is newer. Own keys have no successor.
    pub(super) fn is_last(&self, row: &StoredKey, now: Timestamp) -> bool {
        let succeeds = |other: &StoredKey| {
            other.id != row.id
                && (other.algorithm == row.algorithm || other.signs_from > row.signs_from)
        };
        if row.purpose == Purpose::Refresh {
            return !self.minters().any(succeeds);
        }
        let made = self.access.iter().filter(|key| !key.joined);
        let mut verifying = made.filter(|key| key.row.verifies_until > now);
        let published = self.access.iter().find(|key| key.row.id == row.id);
        let joined = !row.scopes.is_empty() || published.is_some_and(|key| key.joined);
        !joined && !verifying.any(|key| succeeds(&key.row))
    }

    /// Refresh keys that were superseded before `long_ago`.
    pub(super) fn outlived(&self, long_ago: Timestamp) -> impl Iterator<Item = &StoredKey> {
        let superseded = move |old: &&StoredKey| {
            self.minters()
                .any(|new| new.signs_from > old.signs_from && new.signs_from < long_ago)
        };
        let live = self.rows.iter().filter(|row| !row.retired);
        live.filter(|row| row.purpose == Purpose::Refresh)
            .filter(superseded)
    }

    /// Access keys that have run out, the oldest first.
    pub(super) fn lapsed(&self, now: Timestamp) -> Vec<&StoredKey> {
        let live = self.rows.iter().filter(|row| !row.retired);
        let access = live.filter(|row| row.purpose == Purpose::Access);
        let mut lapsed: Vec<_> = access.filter(|row| row.verifies_until <= now).collect();
        lapsed.sort_by_key(|row| row.verifies_until);
        lapsed
    }

    /// Others' own keys, for the same algorithm, issuer and audience.
    pub(super) fn other_own(&self, signer: &Signer) -> impl Iterator<Item = &StoredKey> {
        let others = self.known.iter().filter(|key| key.joined);
        others
            .map(|key| &key.row)
            .filter(|row| signer.is_of_its_algorithm(row) && signer.has_joined(row))
            .filter(|row| !signer.is_configured(row.id))
    }
}

fn own_among<'a>(
    keys: &'a [Arc<Published>],
    signer: &Signer,
    now: Timestamp,
) -> Option<&'a Arc<Published>> {
    if let Some(own) = &signer.configured {
        return keys.iter().find(|key| key.row.id == own.id);
    }
    let made = keys.iter().filter(|key| !key.joined);
    let fitting = made.filter(|key| signer.is_of_its_algorithm(&key.row));
    let due = fitting.clone().filter(|key| key.row.signs_from <= now);
    due.max_by_key(|key| key.age())
        .or_else(|| fitting.min_by_key(|key| key.age()))
}

/// By binary search: no header is the beginning of another.
fn find<'a>(keys: &'a [Arc<Published>], token: &str) -> Option<&'a Published> {
    let at = keys.binary_search_by(|key| order(key.key.header(), token));
    at.ok().map(|at| &*keys[at])
}

/// Where a header stands beside the one that a token begins with.
fn order(header: &str, token: &str) -> Ordering {
    let token = token.as_bytes();
    header
        .as_bytes()
        .cmp(&token[..token.len().min(header.len())])
}
