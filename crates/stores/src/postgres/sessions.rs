//! Rows of sessions, and the log of ends.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use doorward_core::Timestamp;
use doorward_core::env::millis;
use doorward_core::event::Trail;
use doorward_core::id::{SessionId, UserId};
use doorward_core::limits::Opening;
use doorward_core::meter::Meter;
use doorward_core::policy::Policy;
use doorward_core::revocation::{Ended, Feed};
use doorward_core::session::{EndReason, Session};
use doorward_core::store::{Opened, SessionStore, StoreResult, ValidFrom, Write};
use tokio_postgres::Row;

use super::connection::{Failed, Value, step};
use super::pool::Pool;
use super::rows::{self, Uuid, sessions, user_hash};
use super::view::{Needs, View};
use super::{PostgresStore, took};
use crate::remote::Remote;
use crate::spread::Reload;

/// Expired rows that go in one transaction: a few milliseconds at the most.
const PURGED_AT_ONCE: usize = 50;

#[async_trait]
impl SessionStore for PostgresStore {
    async fn open(&self, opening: Opening, trail: &Trail) -> StoreResult<Opened> {
        self.open_within(opening, trail).await
    }

    async fn adopt(
        &self,
        session: Session,
        seen: ValidFrom,
        until: Timestamp,
        trail: &Trail,
    ) -> StoreResult<Write> {
        let needs = Needs {
            users: [session.user.clone()].into(),
            sessions: [session.id].into(),
            adopted: [session.id].into(),
            ..Needs::default()
        };
        let (trail, user) = (trail.clone(), session.user.clone());
        let adopt = move |view: &mut View| took(view.adopt(&session, seen, until, &trail));
        let whose = move |_: &View| Some(user.clone());
        Ok(self.settled(needs, whose, adopt).await?.0)
    }

    async fn was_adopted(&self, id: SessionId) -> StoreResult<bool> {
        let sql = "SELECT 1 FROM @adopted WHERE session = $1";
        self.read(sql, vec![Box::new(Uuid(id.0))], |rows| Ok(!rows.is_empty()))
            .await
    }

    async fn load(&self, id: SessionId) -> StoreResult<Option<Session>> {
        self.loads.ask_from_outside(id).await
    }

    async fn swap(&self, session: Session) -> StoreResult<Write> {
        self.swaps.ask_from_outside(session).await.map(took)
    }

    async fn end(
        &self,
        id: SessionId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<Option<Session>> {
        let end = Ended {
            session: id,
            at,
            reason,
        };
        let trail = trail.clone();
        let end =
            move |view: &mut View| view.end_and_load(end, |row| trail.records(&row.user, &[id]));
        self.group(Needs::session(id), end).await
    }

    async fn tell_end(&self, end: Ended) -> StoreResult<()> {
        self.group(Needs::default(), move |view| view.tell_end(end))
            .await
    }

    async fn end_user(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        except: Option<SessionId>,
        trail: &Trail,
    ) -> StoreResult<Vec<SessionId>> {
        let needs = Needs {
            users: [user.clone()].into(),
            live_of: [user.clone()].into(),
            ..Needs::default()
        };
        let (user, whose, trail) = (user.clone(), user.clone(), trail.clone());
        let end = move |view: &mut View| view.end_user(&user, at, reason, except, &trail);
        let whose = move |_: &View| Some(whose.clone());
        let (mut ended, more) = self.settled(needs, whose, end).await?;
        ended.extend(more);
        Ok(ended)
    }

    async fn valid_from(&self, user: &UserId) -> StoreResult<ValidFrom> {
        let sql = "SELECT at FROM @valid_from WHERE user_id = $1";
        let first = |rows: Vec<Row>| {
            let at = rows.first().map(|row| row.try_get(0)).transpose()?;
            Ok(ValidFrom(at.unwrap_or(0)))
        };
        self.read(sql, vec![Box::new(user.as_str().to_owned())], first)
            .await
    }

    async fn sessions_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let sql =
            sessions!("s.user_hash = $1 AND s.user_id = $2 AND s.flags & 32 = 0 ORDER BY s.id");
        self.read(sql, theirs(user), |rows| rows::readable(&rows))
            .await
    }

    async fn sessions(&self, after: Option<SessionId>, limit: u32) -> StoreResult<Vec<Session>> {
        let sql = sessions!("s.id > $1 AND s.flags & 32 = 0 ORDER BY s.id LIMIT $2");
        let after = after.map_or([0; 16], |id| id.0);
        let values: Vec<Value> = vec![Box::new(Uuid(after)), Box::new(i64::from(limit))];
        let page = |rows: Vec<Row>| match rows::readable(&rows)? {
            // Nothing would look like the end.
            none if none.is_empty() => rows::all(&rows),
            page => Ok(page),
        };
        self.read(sql, values, page).await
    }

    async fn ended_after(&self, cursor: u64, limit: u32) -> StoreResult<(Vec<Ended>, u64)> {
        self.read(LOG_AFTER, log_after(cursor, limit), move |rows| {
            ends(&rows, cursor)
        })
        .await
    }

    async fn kept_of(&self, user: &UserId) -> StoreResult<Vec<Session>> {
        let sql = sessions!("s.user_hash = $1 AND s.user_id = $2 ORDER BY s.id");
        self.read(sql, theirs(user), |rows| rows::readable(&rows))
            .await
    }

    async fn erase(
        &self,
        user: &UserId,
        at: Timestamp,
        reason: EndReason,
        trail: &Trail,
    ) -> StoreResult<u64> {
        let needs = Needs {
            users: [user.clone()].into(),
            kept_of: [user.clone()].into(),
            ..Needs::default()
        };
        let mut removed = 0;
        loop {
            let (whose, theirs, trail) = (user.clone(), user.clone(), trail.clone());
            let erase = move |view: &mut View| match view.cut {
                Some(_) => None,
                None => Some(view.erase(&theirs, at, reason, removed, &trail)),
            };
            let whose = move |_: &View| Some(whose.clone());
            if let Some(all) = self.settled(needs.clone(), whose, erase).await?.0 {
                return Ok(all);
            }
            self.end_user(user, at, reason, None, &Trail::default())
                .await?;
            removed += self.remove_ended(user).await?;
        }
    }

    async fn restored_at(&self) -> StoreResult<Timestamp> {
        let sql = "SELECT place FROM @heads WHERE name = 'restored_at'";
        let first = |rows: Vec<Row>| {
            let at = rows.first().map(|row| row.try_get(0)).transpose()?;
            Ok(Timestamp(at.unwrap_or(0)))
        };
        self.read(sql, Vec::new(), first).await
    }

    async fn set_restored(&self, at: Timestamp, trail: &Trail) -> StoreResult<()> {
        let needs = Needs {
            restored_at: true,
            ..Needs::default()
        };
        let record = trail.once.clone();
        let set = move |view: &mut View| {
            if view.restored_at.get(&()).is_none_or(|before| *before < at) {
                view.restored_at.set((), at);
                view.leave(record.clone());
            }
        };
        self.group(needs, set).await
    }

    /// Looks at `limit` rows a call, going round in order of id, so that no index on expiry is needed.
    /// One node among all does.
    async fn purge(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
        trail: &Trail,
    ) -> StoreResult<u32> {
        if !self.may_purge().await? {
            return Ok(0);
        }
        self.resume().await?;
        self.purge_logs(now, log_before, limit).await?;
        let looked = self.look(now, limit).await?;
        for some in looked.over.chunks(PURGED_AT_ONCE) {
            let some = some.to_vec();
            let needs = Needs {
                sessions: some.iter().copied().collect(),
                ..Needs::default()
            };
            let (policy, trail) = (self.policy.clone(), trail.clone());
            let purge = move |view: &mut View| {
                for id in &some {
                    view.purge(*id, now, &policy, &trail);
                }
            };
            self.group(needs, purge).await?;
        }
        let is_done = looked.count < limit;
        *self.swept.lock().unwrap_or_else(PoisonError::into_inner) =
            if is_done { Uuid([0; 16]) } else { looked.last };
        Ok(looked.count)
    }

    fn slow_to_spread(&self) -> Option<String> {
        self.listening.why_not().or_else(|| self.spread.mute())
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        Some(Arc::clone(self.pool.meter()))
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        Some(Arc::clone(&self.spread) as Arc<dyn Feed>)
    }
}

/// When a row is over and may go, as `Session::expires_at` has it, of which it is a rough look:
/// [`View::purge`] decides.
macro_rules! over {
    () => {
        "created_at + least(lasts, greatest(confirmed_at + child_after - created_at, 0) + \
         CASE ((flags >> 1) & 1) | ((flags >> 3) & 2) WHEN 0 THEN $2::bigint WHEN 1 THEN $3::bigint \
         WHEN 2 THEN $4::bigint ELSE $5::bigint END, CASE ((flags >> 1) & 1) | ((flags >> 3) & 2) \
         WHEN 0 THEN $6::bigint WHEN 1 THEN $7::bigint WHEN 2 THEN $8::bigint ELSE $9::bigint END) \
         < $1::bigint"
    };
}
/// A stretch of rows, and which of them are over.
struct Looked {
    count: u32,
    last: Uuid,
    over: Vec<SessionId>,
}

impl PostgresStore {
    /// Whether this node is the one that purges. Who holds that keeps it while it goes on.
    pub(super) async fn may_purge(&self) -> StoreResult<bool> {
        let holder = self.holder;
        let look = "SELECT holder = $1 OR until < now(), holder = $1 AND until > now() + interval '10 s' \
            FROM @leases WHERE name = 'purge'";
        let row = |rows: Vec<Row>| {
            let row = rows.first().ok_or(Failed::Damaged("leases"))?;
            Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?))
        };
        let (may, has) = self.read(look, vec![Box::new(holder)], row).await?;
        if !may || has {
            return Ok(has);
        }
        let take = "UPDATE @leases SET holder = $1, until = now() + interval '20 s' \
            WHERE name = 'purge' AND (holder = $1 OR until < now()) RETURNING 1";
        let taken = self.write(move || vec![step!(take, holder)]).await?;
        Ok(taken.iter().any(|rows| !rows.is_empty()))
    }

    async fn purge_logs(
        &self,
        now: Timestamp,
        log_before: Timestamp,
        limit: u32,
    ) -> StoreResult<()> {
        // A second without anything to remove is one without a write.
        let old = "SELECT EXISTS (SELECT 1 FROM @adopted WHERE until < $1), \
            coalesce((SELECT at < $2 FROM @ended ORDER BY place LIMIT 1), false)";
        let values: Vec<Value> = vec![Box::new(now.0), Box::new(log_before.0)];
        let both = |rows: Vec<Row>| {
            let row = rows.first().ok_or(Failed::Damaged("ended"))?;
            Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?))
        };
        let (adopted, ended) = self.read(old, values, both).await?;
        let limit = i64::from(limit);
        if adopted {
            let sql = "DELETE FROM @adopted WHERE session IN \
                (SELECT session FROM @adopted WHERE until < $1 LIMIT $2)";
            self.write(move || vec![step!(sql, now.0, limit)]).await?;
        }
        if ended {
            // The log is nearly in order of time: what is not among its first entries can wait.
            let sql = "DELETE FROM @ended WHERE place IN (SELECT place FROM \
                (SELECT place, at FROM @ended ORDER BY place LIMIT $2) AS first WHERE at < $1)";
            self.write(move || vec![step!(sql, log_before.0, limit)])
                .await?;
        }
        Ok(())
    }

    async fn look(&self, now: Timestamp, limit: u32) -> StoreResult<Looked> {
        let from = self.swept();
        let over = over(now, &self.policy);
        let mut values: Vec<Value> = over.map(|value| Box::new(value) as Value).into();
        values.extend([Box::new(from) as Value, Box::new(i64::from(limit))]);
        let sql = concat!(
            "SELECT id, ",
            over!(),
            " FROM @sessions WHERE id > $10 ORDER BY id LIMIT $11"
        );
        let looked = move |rows: Vec<Row>| {
            let mut looked = Looked {
                count: u32::try_from(rows.len()).unwrap_or(limit),
                last: from,
                over: Vec::new(),
            };
            for row in rows {
                looked.last = row.try_get(0)?;
                if row.try_get(1)? {
                    looked.over.push(SessionId(looked.last.0));
                }
            }
            Ok(looked)
        };
        self.read(sql, values, looked).await
    }
}

/// The values of $1 to $9 in `over!`.
fn over(now: Timestamp, policy: &Policy) -> [i64; 9] {
    let mut values = [now.0; 9];
    for class in 0..4 {
        let limits = policy.limits(class & 1 != 0, class & 2 != 0);
        values[1 + class] = millis(limits.idle);
        values[5 + class] = millis(limits.absolute);
    }
    values
}

const LOG_AFTER: &str =
    "SELECT place, session, at, why FROM @ended WHERE place > $1 ORDER BY place LIMIT $2";

fn log_after(cursor: u64, limit: u32) -> Vec<Value> {
    vec![Box::new(cursor.cast_signed()), Box::new(i64::from(limit))]
}

fn ends(rows: &[Row], cursor: u64) -> Result<(Vec<Ended>, u64), Failed> {
    let ends: Vec<_> = rows.iter().map(rows::ended).collect::<Result<_, _>>()?;
    let last = ends.last().map_or(cursor, |(place, _)| *place);
    Ok((ends.into_iter().map(|(_, end)| end).collect(), last))
}

/// Reads the whole log of ends, for who has missed some.
pub(super) fn reload(remote: &Arc<Remote>, pool: &Arc<Pool>) -> Reload {
    const PAGE: u32 = 10_000;
    let (remote, pool) = (Arc::downgrade(remote), Arc::clone(pool));
    Box::new(move |entry| {
        let gone = || doorward_core::error::StoreError("the store is closed".into());
        let remote = remote.upgrade().ok_or_else(gone)?;
        let mut cursor = 0;
        loop {
            let pool = Arc::clone(&pool);
            let page = async move {
                let read = async |db: &super::connection::Connection| {
                    let (from, limit) = (cursor, i64::from(PAGE));
                    db.query(LOG_AFTER, &[&u64::cast_signed(from), &limit])
                        .await
                };
                Ok(ends(&pool.with(read).await?, cursor)?)
            };
            let (page, next) = remote.wait(page)?;
            if page.is_empty() {
                return Ok(());
            }
            page.into_iter().for_each(&mut *entry);
            cursor = next;
        }
    })
}

fn theirs(user: &UserId) -> Vec<Value> {
    vec![
        Box::new(user_hash(user)),
        Box::new(user.as_str().to_owned()),
    ]
}
