//! What a group of operations reads and changes: rows that are locked and in memory, so that the
//! operations are plain code without a round trip, and what they changed is written together.

use std::collections::{BTreeMap, BTreeSet};

use doorward_core::Timestamp;
use doorward_core::event::{Record, Trail};
use doorward_core::id::{SessionId, UserId};
use doorward_core::limits::Opening;
use doorward_core::policy::Policy;
use doorward_core::reset::{Reset, ResetHash};
use doorward_core::revocation::Ended;
use doorward_core::session::{End, EndReason, Session};
use doorward_core::store::{Account, AllEnded, Opened, ValidFrom};
use doorward_core::throttle::{Bucket, BucketKey};

use super::endings::Ending;

/// What an operation may look at, and change.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// Their `valid_from`.
    pub(super) users: BTreeSet<UserId>,
    /// Their sessions that have not ended.
    pub(super) live_of: BTreeSet<UserId>,
    /// All of their sessions.
    pub(super) kept_of: BTreeSet<UserId>,
    /// How many of them must be seen at once.
    pub(super) room: usize,
    pub(super) sessions: BTreeSet<SessionId>,
    pub(super) adopted: BTreeSet<SessionId>,
    /// And their resets.
    pub(super) accounts: BTreeSet<UserId>,
    pub(super) names: BTreeSet<Box<str>>,
    /// Of the resets of whose accounts it is not known yet.
    pub(super) resets: BTreeSet<ResetHash>,
    pub(super) buckets: BTreeSet<BucketKey>,
    pub(super) restored_at: bool,
}

impl Needs {
    /// Of what changes an account and ends its sessions.
    pub(super) fn account(user: &UserId) -> Needs {
        let user = || BTreeSet::from([user.clone()]);
        Needs {
            users: user(),
            live_of: user(),
            accounts: user(),
            ..Needs::default()
        }
    }

    pub(super) fn session(id: SessionId) -> Needs {
        Needs {
            sessions: [id].into(),
            ..Needs::default()
        }
    }

    /// How many sessions are locked and changed in one transaction.
    pub(super) fn most_sessions(&self) -> usize {
        const MOST: usize = 5_000;
        self.sessions.len() + MOST.max(self.room)
    }

    /// Whether it may be more than that.
    pub(super) fn is_of_many(&self) -> bool {
        !self.live_of.is_empty() || !self.kept_of.is_empty()
    }

    pub(super) fn and(&mut self, mut other: Needs) {
        self.room = self.room.max(other.room);

        self.users.append(&mut other.users);
        self.live_of.append(&mut other.live_of);
        self.kept_of.append(&mut other.kept_of);
        self.sessions.append(&mut other.sessions);
        self.adopted.append(&mut other.adopted);
        self.accounts.append(&mut other.accounts);
        self.names.append(&mut other.names);
        self.resets.append(&mut other.resets);
        self.buckets.append(&mut other.buckets);
        self.restored_at |= other.restored_at;
    }
}

/// Rows by their keys, as they were and as they are now. One that was removed and added again is another.
pub(super) struct Rows<K, V>(BTreeMap<K, Kept<V>>);

struct Kept<V> {
    before: Option<V>,
    now: Option<V>,
    removed: bool,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Rows(BTreeMap::new())
    }
}

impl<K: Ord, V: Clone + PartialEq> Rows<K, V> {
    pub(super) fn read(&mut self, key: K, value: V) {
        let (before, now) = (Some(value.clone()), Some(value));
        let removed = false;
        self.0.insert(
            key,
            Kept {
                before,
                now,
                removed,
            },
        );
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)?.now.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)?.now.as_mut()
    }

    pub(super) fn set(&mut self, key: K, value: V) {
        let new = || Kept {
            before: None,
            now: None,
            removed: false,
        };
        self.0.entry(key).or_insert_with(new).now = Some(value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.0.get_mut(key)?;
        row.removed = row.before.is_some();
        row.now.take()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().filter_map(|row| row.now.as_ref())
    }

    pub(super) fn added(&self) -> impl Iterator<Item = (&K, &V)> {
        let rows = self.0.iter();
        let rows = rows.filter(|(_, row)| row.before.is_none() || row.removed);
        rows.filter_map(|(key, row)| Some((key, row.now.as_ref()?)))
    }

    pub(super) fn changed(&self) -> impl Iterator<Item = (&K, &V)> {
        let rows = self.0.iter();
        let rows =
            rows.filter(|(_, row)| row.before.is_some() && !row.removed && row.before != row.now);
        rows.filter_map(|(key, row)| Some((key, row.now.as_ref()?)))
    }

    pub(super) fn removed(&self) -> impl Iterator<Item = &K> {
        let rows = self.0.iter();
        rows.filter_map(|(key, row)| row.removed.then_some(key))
    }
}

/// The rows of a group, and what is to be appended to the logs.
#[derive(Default)]
pub(super) struct View {
    pub(super) sessions: Rows<SessionId, Session>,
    pub(super) valid_from: Rows<UserId, ValidFrom>,
    pub(super) accounts: Rows<UserId, Account>,
    pub(super) resets: Rows<UserId, Reset>,
    pub(super) adopted: Rows<SessionId, Timestamp>,
    pub(super) buckets: Rows<BucketKey, Bucket>,
    pub(super) restored_at: Rows<(), Timestamp>,
    /// Ends of all that are under way.
    pub(super) endings: Rows<UserId, Ending>,
    /// There are more sessions than are changed in one transaction: those of them that have not ended.
    pub(super) cut: Option<Vec<SessionId>>,
    /// The sessions of the end of all that was begun here.
    pub(super) begun: Option<Vec<SessionId>>,
    /// Whose rows cannot be read. Nothing can be done with them, but access tokens of theirs may be about.
    pub(super) damaged: BTreeMap<SessionId, UserId>,
    /// Which of these go.
    pub(super) unread: Vec<SessionId>,
    /// Whose events go.
    pub(super) erased: BTreeSet<UserId>,
    pub(super) ended: Vec<Ended>,
    /// Ends of before, of which others may not have heard.
    pub(super) again: Vec<Ended>,
    pub(super) records: Vec<Record>,
}

impl View {
    pub(super) fn leave(&mut self, records: impl IntoIterator<Item = Record>) {
        self.records.extend(records);
    }

    pub(super) fn seen(&self, user: &UserId) -> ValidFrom {
        self.valid_from.get(user).copied().unwrap_or_default()
    }

    /// Whether it took effect.
    pub(super) fn end(&mut self, end: Ended) -> bool {
        let row = self.sessions.get_mut(&end.session);
        let Some(row) = row.filter(|row| row.ended.is_none()) else {
            if self.damaged.contains_key(&end.session) {
                self.ended.push(end);
            }
            return false;
        };
        row.ended = Some(End {
            at: end.at,
            reason: end.reason,
        });
        row.version += 1;
        self.ended.push(end);
        true
    }

    /// The end of a session that has no row.
    pub(super) fn tell_end(&mut self, end: Ended) {
        self.ended.push(end);
    }

    /// Ends a session if it has not ended, which leaves these records; its row afterwards.
    pub(super) fn end_and_load(
        &mut self,
        end: Ended,
        records: impl Fn(&Session) -> Vec<Record>,
    ) -> Option<Session> {
        let took = self.end(end);
        let row = self.sessions.get(&end.session).cloned()?;
        if took {
            self.leave(records(&row));
        } else if let Some(End { at, reason }) = row.ended {
            // Who ended it may not have lived to tell the other processes.
            self.again.push(Ended { at, reason, ..end });
        }
        Some(row)
    }

    /// Ends a user's sessions, and moves `valid_from`. Where they are too many, [`Ending`] has the rest.
    pub(super) fn end_user(
        &mut self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> Vec<SessionId> {
        let moved = ValidFrom(at.0.max(self.seen(user).0 + 1));
        self.valid_from.set(user.clone(), moved);
        if let Some(theirs) = self.cut.take() {
            self.begin(user, theirs, Ending::new(at, reason, except, trail), trail);
            return Vec::new();
        }
        let theirs = self.sessions.values().filter(|row| row.user == *user);
        let damaged = self.damaged.iter().filter(|(_, whose)| *whose == user);
        let damaged = damaged.map(|(id, _)| *id);
        let mut ids: Vec<_> = theirs.map(|row| row.id).chain(damaged).collect();
        ids.retain(|id| Some(*id) != except);
        ids.retain(|session| {
            self.end(Ended {
                session: *session,
                at,
                reason,
            })
        });
        self.leave(trail.records(user, &ids));
        ids
    }

    /// Adds a session, and ends those that end for it.
    pub(super) fn open(&mut self, opening: &Opening, policy: &Policy, trail: &Trail) -> Opened {
        let (session, at) = (&opening.session, opening.session.created_at);
        if self.seen(&session.user) != opening.seen || self.sessions.get(&session.id).is_some() {
            return Opened::Lost;
        }
        let Some(ends) = opening.ends(&self.live(&session.user), policy) else {
            return Opened::Full;
        };
        self.sessions.set(session.id, session.clone());
        self.leave(trail.records(&session.user, &[]));
        let ends = ends.into_iter();
        let gone = ends.filter_map(|(session, reason)| {
            let end = Ended {
                session,
                at,
                reason,
            };
            let told = |row: &Session| trail.ended(&row.user, session, End { at, reason });
            self.end_and_load(end, |row| told(row).into_iter().collect())
        });
        Opened::Done(gone.collect())
    }

    /// Adds a foreign token's session, whose id is remembered. Whether it did.
    pub(super) fn adopt(
        &mut self,
        session: &Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> bool {
        let fits = self.seen(&session.user) == seen
            && self.sessions.get(&session.id).is_none()
            && self.adopted.get(&session.id).is_none();
        if fits {
            self.sessions.set(session.id, session.clone());
            self.adopted.set(session.id, until);
            self.leave(trail.records(&session.user, &[]));
        }
        fits
    }

    /// The user's sessions that have not ended.
    fn live(&self, user: &UserId) -> Vec<Session> {
        let theirs = self.sessions.values();
        let theirs = theirs.filter(|row| row.user == *user && row.ended.is_none());
        theirs.cloned().collect()
    }

    /// Removes all of a user's sessions, and the user's events; how many sessions. `before`: how many went
    /// already.
    pub(super) fn erase(
        &mut self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        before: u64,
        trail: &Trail,
    ) -> u64 {
        let ended = self.end_user(user, at, reason, None, &Trail::default());
        let theirs = self.sessions.values().filter(|row| row.user == *user);
        let theirs: Vec<_> = theirs.map(|row| row.id).collect();
        for id in &theirs {
            self.sessions.remove(id);
        }
        let damaged = self.damaged.iter().filter(|(_, whose)| *whose == user);
        self.unread.extend(damaged.map(|(id, _)| *id));
        self.erased.insert(user.clone());
        self.records
            .retain(|record| record.event.user.as_ref() != Some(user));
        let records = trail.records(user, &ended).into_iter();
        self.leave(records.map(|record| times(record, before)));
        before + theirs.len() as u64
    }

    /// Removes a row that is over, and tells of one that ran out by itself.
    pub(super) fn purge(&mut self, id: SessionId, now: Timestamp, policy: &Policy, trail: &Trail) {
        let row = self.sessions.get(&id);
        if row.is_none_or(|row| row.expires_at(policy) >= now) {
            return;
        }
        let ran_out = self.sessions.remove(&id).filter(|row| row.ended.is_none());
        let told = ran_out.and_then(|row| trail.ended(&row.user, id, row.ran_out(policy)));
        self.leave(told);
    }

    /// Whether the name and the id were free.
    pub(super) fn add_account(&mut self, account: &Account, trail: &Trail) -> bool {
        let is_taken = |old: &Account| old.username == account.username || old.id == account.id;
        if self.accounts.values().any(is_taken) {
            return false;
        }
        self.accounts.set(account.id.clone(), account.clone());
        self.leave(trail.records(&account.id, &[]));
        true
    }

    /// Sets a password, which voids a reset and ends all sessions. `None`: no account.
    pub(super) fn set_password(
        &mut self,
        user: &UserId,
        hash: &str,
        at: Timestamp,
        trail: &Trail,
    ) -> Option<AllEnded> {
        let account = self.accounts.get_mut(user)?;
        account.password_hash = doorward_core::password::PasswordHash::from_phc(hash);
        self.resets.remove(user);
        let sessions = self.end_user(user, at, EndReason::PasswordChanged, None, trail);
        Some(AllEnded {
            sessions,
            valid_from: self.seen(user),
        })
    }

    /// Whose reset it is that is not over.
    pub(super) fn reset_of(&self, hash: ResetHash, now: Timestamp) -> Option<UserId> {
        let mut accounts = self.accounts.values();
        let is_it = |account: &&Account| {
            let reset = self.resets.get(&account.id);
            reset.is_some_and(|reset| reset.hash == hash && now < reset.expires_at)
        };
        accounts.find(is_it).map(|account| account.id.clone())
    }
}

fn times(mut record: Record, more: u64) -> Record {
    record.event.count += more;
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_and_added_again_is_written_whole() {
        let mut rows = Rows::default();
        rows.read(1, 'a');
        rows.read(2, 'b');
        rows.remove(&1);
        rows.set(1, 'c');
        rows.set(2, 'd');
        rows.set(3, 'e');
        assert_eq!(rows.removed().collect::<Vec<_>>(), [&1]);
        assert_eq!(rows.added().collect::<Vec<_>>(), [(&1, &'c'), (&3, &'e')]);
        assert_eq!(rows.changed().collect::<Vec<_>>(), [(&2, &'d')]);
    }
}
