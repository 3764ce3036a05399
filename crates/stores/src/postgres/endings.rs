//! Ends of all sessions of a user who has too many for one transaction.
//!
//! The end is decided by one write: it moves `valid_from`, changes what else is to change, and leaves a row
//! that says what ends and why. The sessions follow in small transactions, each with its part of the logs. It is
//! acknowledged once all of them are through; what stops in the middle is gone on with by whoever wants to open
//! a session of the user or end all of them, which waits for it, and by the node that purges.

use std::sync::Arc;

use doorward_core::Timestamp;
use doorward_core::event::{Actor, Event, EventName, Record, Trail};
use doorward_core::id::{SessionId, UserId};
use doorward_core::limits::{Cap, Opening, OverCap};
use doorward_core::revocation::Ended;
use doorward_core::session::{End, EndReason};
use doorward_core::store::{Opened, StoreResult};
use tokio_postgres::Row;

use super::PostgresStore;
use super::connection::{Failed, Step, Value, step};
use super::rows::{self, Uuid, user_hash};
use super::view::{Needs, View};

/// Sessions that end in one transaction: some tens of milliseconds.
const AT_ONCE: usize = 2_000;
/// How many a purge ends on behalf of who did not.
const BY_PURGE: usize = 4 * AT_ONCE;

/// An end of all of a user's sessions but one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    at: Timestamp,
    reason: EndReason,
    kept: Option<SessionId>,
    /// What each session leaves, but for the session.
    each: Option<Record>,
}

impl Ending {
    pub(super) fn new(
        at: Timestamp,
        reason: EndReason,
        kept: Option<SessionId>,
        trail: &Trail,
    ) -> Ending {
        Ending {
            at,
            reason,
            kept,
            each: trail.each.clone(),
        }
    }

    fn end(&self, session: SessionId) -> Ended {
        Ended {
            session,
            at: self.at,
            reason: self.reason,
        }
    }
}

impl View {
    /// Decides the end of all of these, each of which follows later.
    pub(super) fn begin(
        &mut self,
        user: &UserId,
        mut theirs: Vec<SessionId>,
        ending: Ending,
        trail: &Trail,
    ) {
        theirs.retain(|id| Some(*id) != ending.kept);
        let once = Trail {
            each: None,
            ..trail.clone()
        };
        let mut records = once.records(user, &[]);
        for record in &mut records {
            // Those that count what ends have counted nothing.
            if record.event.count == 0 {
                record.event.count = theirs.len() as u64;
            }
        }
        self.leave(records);
        self.endings.set(user.clone(), ending);
        self.begun = Some(theirs);
    }

    /// Ends some of the sessions of an end that was decided. Whether it still stands.
    fn go_on(&mut self, user: &UserId, some: &[SessionId]) -> bool {
        let Some(ending) = self.endings.get(user).cloned() else {
            return false;
        };
        let is_theirs = |view: &View, id| match view.sessions.get(id) {
            Some(row) => row.user == *user,
            None => view.damaged.get(id) == Some(user),
        };
        for id in some {
            if Some(*id) != ending.kept && is_theirs(self, id) && self.end(ending.end(*id)) {
                let trail = Trail {
                    once: None,
                    each: ending.each.clone(),
                };
                self.leave(trail.records(user, &[*id]));
            }
        }
        true
    }
}

impl PostgresStore {
    /// Decides something on a user's rows when no end of all is under way, and carries through the one that it
    /// begins: the sessions that this has ended.
    pub(super) async fn settled<T: Send + 'static>(
        &self,
        needs: Needs,
        whose: impl Fn(&View) -> Option<UserId> + Send + Sync + 'static,
        work: impl Fn(&mut View) -> T + Send + Sync + 'static,
    ) -> StoreResult<(T, Vec<SessionId>)> {
        let both = Arc::new((whose, work));
        loop {
            let both = Arc::clone(&both);
            let decide = move |view: &mut View| {
                let user = both.0(view);
                match user {
                    Some(user) if view.endings.get(&user).is_some() => Err(user),
                    user => Ok((both.1(view), user.zip(view.begun.take()))),
                }
            };
            match self.group(needs.clone(), decide).await? {
                Ok((value, None)) => return Ok((value, Vec::new())),
                Ok((value, Some((user, ids)))) => {
                    self.carry_through(&user, &ids).await?;
                    self.over(&user).await?;
                    return Ok((value, ids));
                }
                Err(user) => self.finish(&user).await?,
            }
        }
    }

    /// Opens a session; who has far more than the cap loses the oldest first.
    pub(super) async fn open_within(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        let user = opening.session.user.clone();
        loop {
            let (opens, policy, leaves) = (opening.clone(), self.policy.clone(), trail.clone());
            let (whose, room) = (user.clone(), room(opening.cap));
            let open = move |view: &mut View| match (view.cut.take(), opens.cap) {
                (Some(_), Some(cap)) if cap.over == OverCap::Refuse => Ok(Opened::Full),
                (Some(theirs), _) => Err(theirs),
                (None, _) => Ok(view.open(&opens, &policy, &leaves)),
            };
            let needs = needs(&opening, room);
            let opened = self
                .settled(needs, move |_| Some(whose.clone()), open)
                .await?;
            match opened.0 {
                Ok(opened) => return Ok(opened),
                Err(theirs) => self.trim(&opening, theirs, room / 2, trail).await?,
            }
        }
    }

    /// Ends all but the newest. What has expired among those is rather counted than looked at.
    async fn trim(
        &self,
        opening: &Opening,
        mut theirs: Vec<SessionId>,
        keep: usize,
        trail: &Trail,
    ) -> StoreResult<()> {
        theirs.truncate(theirs.len().saturating_sub(keep));
        for some in theirs.chunks(AT_ONCE) {
            let (some, trail) = (some.to_vec(), trail.clone());
            let (at, reason) = (opening.session.created_at, EndReason::SessionLimit);
            let needs = Needs {
                sessions: some.iter().copied().collect(),
                ..Needs::default()
            };
            let end = move |view: &mut View| {
                for session in &some {
                    let end = Ended {
                        session: *session,
                        at,
                        reason,
                    };
                    view.end_and_load(end, |row| {
                        let told = trail.ended(&row.user, *session, End { at, reason });
                        told.into_iter().collect()
                    });
                }
            };
            self.group(needs, end).await?;
        }
        Ok(())
    }

    /// Finishes what another began.
    async fn finish(&self, user: &UserId) -> StoreResult<()> {
        loop {
            let ids = self.left_of(user, BY_PURGE).await?;
            self.carry_through(user, &ids).await?;
            if ids.len() < BY_PURGE {
                return self.over(user).await;
            }
        }
    }

    /// Goes on with ends of all whose nodes seem to have stopped, for a bounded time.
    pub(super) async fn resume(&self) -> StoreResult<()> {
        let sql = "SELECT user_id FROM @endings WHERE begun < now() - interval '10 s' LIMIT 1";
        let first = |rows: Vec<Row>| rows.first().map(|row| rows::user(row, 0)).transpose();
        let Some(user) = self.read(sql, Vec::new(), first).await? else {
            return Ok(());
        };
        let ids = self.left_of(&user, BY_PURGE).await?;
        self.carry_through(&user, &ids).await?;
        if ids.len() < BY_PURGE {
            self.over(&user).await?;
        }
        Ok(())
    }

    /// The first sessions of the user that are still to end.
    async fn left_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionId>> {
        let sql = "SELECT s.id FROM @endings e JOIN @sessions s ON s.user_hash = $2 AND s.user_id = e.user_id \
            WHERE e.user_id = $1 AND s.flags & 32 = 0 AND s.id IS DISTINCT FROM e.kept LIMIT $3";
        let values: Vec<Value> = vec![
            Box::new(user.as_str().to_owned()),
            Box::new(user_hash(user)),
            Box::new(i64::try_from(limit).unwrap_or(i64::MAX)),
        ];
        let ids = |rows: Vec<Row>| rows.iter().map(|row| rows::id(row, 0)).collect();
        self.read(sql, values, ids).await
    }

    async fn carry_through(&self, user: &UserId, ids: &[SessionId]) -> StoreResult<()> {
        for some in ids.chunks(AT_ONCE) {
            let (user, some) = (user.clone(), some.to_vec());
            let needs = Needs {
                users: [user.clone()].into(),
                sessions: some.iter().copied().collect(),
                ..Needs::default()
            };
            let stands = self.group(needs, move |view| view.go_on(&user, &some));
            if !stands.await? {
                break;
            }
        }
        Ok(())
    }

    /// All of them have ended.
    async fn over(&self, user: &UserId) -> StoreResult<()> {
        let user = user.clone();
        let needs = Needs {
            users: [user.clone()].into(),
            ..Needs::default()
        };
        self.group(needs, move |view| drop(view.endings.remove(&user)))
            .await
    }

    /// Finishes all that there are.
    pub(super) async fn finish_all(&self) -> StoreResult<()> {
        let sql = "SELECT user_id FROM @endings";
        let users = |rows: Vec<Row>| rows.iter().map(|row| rows::user(row, 0)).collect();
        let users: Vec<UserId> = self.read(sql, Vec::new(), users).await?;
        for user in &users {
            self.finish(user).await?;
        }
        Ok(())
    }

    /// Removes rows and events of a user whose sessions have all ended; how many sessions.
    pub(super) async fn remove_ended(&self, user: &UserId) -> StoreResult<u64> {
        const ROWS: &str = "WITH gone AS MATERIALIZED (SELECT id FROM @sessions WHERE user_hash = $1 \
            AND user_id = $2 AND flags & 32 <> 0 LIMIT 2000), \
            parts AS (DELETE FROM @details WHERE session IN (SELECT id FROM gone)) \
            DELETE FROM @sessions WHERE id IN (SELECT id FROM gone) RETURNING 1";
        const EVENTS: &str = "DELETE FROM @events WHERE place IN \
            (SELECT place FROM @events WHERE user_id = $1 LIMIT 2000) RETURNING 1";
        let (hash, name) = (user_hash(user), user.as_str().to_owned());
        let rows = move |name: String| step!(ROWS, hash, name);
        let removed = self.until_none(name.clone(), rows).await?;
        self.until_none(name, |name| step!(EVENTS, name)).await?;
        Ok(removed)
    }

    async fn until_none(
        &self,
        name: String,
        remove: impl Fn(String) -> Step + Copy + Send + Sync + 'static,
    ) -> StoreResult<u64> {
        let mut removed = 0;
        loop {
            let name = name.clone();
            let gone = self.write(move || vec![remove(name.clone())]).await?;
            let gone = gone.iter().map(Vec::len).sum::<usize>();
            if gone == 0 {
                return Ok(removed);
            }
            removed += gone as u64;
        }
    }
}

/// How many sessions must be seen at once for this cap.
fn room(cap: Option<Cap>) -> usize {
    cap.map_or(0, |cap| 2 * cap.sessions.get() as usize)
        .max(5_000)
}

fn needs(opening: &Opening, room: usize) -> Needs {
    let user = || opening.session.user.clone();
    let ids = opening.replaces.into_iter().chain([opening.session.id]);
    Needs {
        users: [user()].into(),
        live_of: opening.cap.map(|_| user()).into_iter().collect(),
        room,
        sessions: ids.collect(),
        ..Needs::default()
    }
}

pub(super) const ENDINGS: &str = "SELECT user_id, at, why, kept, actor, network, device, agent FROM @endings \
    WHERE user_id = ANY ($1::text[])";

/// A row of [`ENDINGS`]. What a newer version says of it, this one does for a reason of its own.
pub(super) fn read(view: &mut View, row: &Row) -> Result<(), Failed> {
    let at = Timestamp(row.try_get(1)?);
    let reason = rows::reason(row, 2)?;
    let kept = row.try_get::<_, Option<Uuid>>(3)?;
    let actor = rows::text(row, 4)?;
    let each = actor.map(|actor| {
        Ok::<_, Failed>(Record {
            at,
            event: Event::new(EventName::SessionEnded).because(reason.name()),
            actor: Actor::parse(&actor).unwrap_or(Actor::System),
            network: rows::text(row, 5)?,
            device: rows::text(row, 6)?,
            agent: rows::text(row, 7)?,
        })
    });
    let ending = Ending {
        at,
        reason,
        kept: kept.map(|id| SessionId(id.0)),
        each: each.transpose()?,
    };
    view.endings.read(rows::user(row, 0)?, ending);
    Ok(())
}

pub(super) fn write(view: &View) -> Vec<Step> {
    let gone = view.endings.removed().map(|user| {
        let sql = "DELETE FROM @endings WHERE user_id = $1";
        step!(sql, user.as_str().to_owned())
    });
    let begun = view.endings.added().map(|(user, ending)| {
        let sql = "INSERT INTO @endings (user_id, at, why, kept, actor, network, device, agent) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let each = ending.each.as_ref();
        let text = |value: fn(&Record) -> Option<&str>| each.and_then(value).map(str::to_owned);
        step!(
            sql,
            user.as_str().to_owned(),
            ending.at.0,
            ending.reason as i16,
            ending.kept.map(|id| Uuid(id.0)),
            text(|record| Some(record.actor.as_str())),
            text(|record| record.network.as_deref()),
            text(|record| record.device.as_deref()),
            text(|record| record.agent.as_deref()),
        )
    });
    gone.chain(begun).collect()
}
