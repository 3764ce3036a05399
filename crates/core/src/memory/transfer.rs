//! What the reference implementation hands over and takes in.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{MemoryStore, Queue, Tables, entry};
use crate::id::SessionId;
use crate::session::Session;
use crate::store::{Account, Delivery, StoreResult, ValidFrom};
use crate::transfer::{Bookmark, Kind, Rows, TransferStore};

#[async_trait]
impl TransferStore for MemoryStore {
    async fn rows(
        &self,
        kind: Kind,
        after: Option<Bookmark>,
        limit: u32,
    ) -> StoreResult<(Rows, Option<Bookmark>)> {
        let page = (after, limit as usize);
        Ok(self.tables().page(kind, page))
    }

    async fn versions(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<u64>>> {
        let tables = self.tables();
        let version = |id| tables.sessions.get(id).map(|row| row.version);
        Ok(ids.iter().map(version).collect())
    }

    async fn put(&self, rows: Rows) -> StoreResult<()> {
        self.tables().put(rows);
        Ok(())
    }

    async fn clear(&self, kinds: &[Kind]) -> StoreResult<()> {
        let mut tables = self.tables();
        for kind in kinds {
            tables.clear(*kind);
        }
        Ok(())
    }

    async fn remove(&self, sessions: &[SessionId]) -> StoreResult<()> {
        let mut tables = self.tables();
        tables.sessions.retain(|id, _| !sessions.contains(id));
        Ok(())
    }

    async fn leave(&self, mark: Option<&str>) -> StoreResult<()> {
        self.tables().left = mark.map(Into::into);
        Ok(())
    }

    async fn left(&self) -> StoreResult<Option<Box<str>>> {
        Ok(self.tables().left.clone())
    }
}

type Page = (Option<Bookmark>, usize);

impl Tables {
    fn page(&self, kind: Kind, page: Page) -> (Rows, Option<Bookmark>) {
        match kind {
            Kind::Keys => cut(by_number(&self.keys), page, Rows::Keys),
            Kind::Accounts => {
                let rows = self.accounts.iter();
                let rows = rows.map(|(name, row)| (name.as_bytes().into(), row.clone()));
                cut(rows.collect(), page, Rows::Accounts)
            }
            Kind::Resets => {
                let rows = self.resets.iter();
                let rows = rows.map(|(user, row)| (text(user.as_str()), (user.clone(), *row)));
                cut(rows.collect(), page, Rows::Resets)
            }
            Kind::ValidFrom => {
                let rows = self.valid_from.iter();
                let rows = rows.map(|(user, at)| (text(user.as_str()), (user.clone(), *at)));
                cut(rows.collect(), page, Rows::ValidFrom)
            }
            Kind::Sessions => {
                let rows = self.sessions.iter();
                let rows = rows.map(|(id, row)| (id.0.into(), row.clone()));
                cut(rows.collect(), page, Rows::Sessions)
            }
            Kind::Adopted => {
                let rows = self.adopted.iter();
                let rows = rows.map(|(id, until)| (id.0.into(), (*id, *until)));
                cut(rows.collect(), page, Rows::Adopted)
            }
            Kind::Ended => {
                let rows = self.ended.iter();
                let rows = rows.map(|(place, end)| (number(*place), (*place, *end)));
                cut(rows.collect(), page, Rows::Ended)
            }
            Kind::Buckets => {
                let rows = self.buckets.iter();
                let rows = rows.map(|(key, row)| (key.0.into(), (*key, *row)));
                cut(rows.collect(), page, Rows::Buckets)
            }
            Kind::Events => {
                let rows = self.events.iter();
                let rows = rows.map(|(place, row)| (number(*place), entry((place, row))));
                cut(rows.collect(), page, Rows::Events)
            }
            Kind::Outbox => {
                let rows = self.outbox.iter();
                let rows = rows.map(|(name, queue)| (text(name), (name.clone(), queue.cursor)));
                cut(rows.collect(), page, Rows::Outbox)
            }
            Kind::Deliveries => cut(self.deliveries(), page, Rows::Deliveries),
        }
    }

    fn deliveries(&self) -> BTreeMap<Bookmark, (Box<str>, Delivery, crate::env::Timestamp)> {
        let queues = self.outbox.iter();
        let each = queues.flat_map(|(name, queue)| {
            let rows = queue.deliveries.iter();
            rows.map(move |(place, (due, row))| {
                let key = [name.as_bytes(), &place.to_be_bytes()].concat();
                (key.into(), (name.clone(), *row, *due))
            })
        });
        each.collect()
    }

    fn put(&mut self, rows: Rows) {
        match rows {
            Rows::Keys(rows) => rows.into_iter().for_each(|row| {
                match self.keys.iter_mut().find(|old| old.id == row.id) {
                    Some(old) => *old = row,
                    None => self.keys.push(row),
                }
            }),
            Rows::Accounts(rows) => rows.into_iter().for_each(|row| self.put_account(row)),
            Rows::Resets(rows) => self.resets.extend(rows),
            Rows::ValidFrom(rows) => rows.into_iter().for_each(|(user, at)| {
                let kept = self.valid_from.entry(user).or_insert(ValidFrom(0));
                *kept = (*kept).max(at);
            }),
            Rows::Sessions(rows) => rows.into_iter().for_each(|row| self.put_session(row)),
            Rows::Adopted(rows) => self.adopted.extend(rows),
            Rows::Ended(rows) => rows.into_iter().for_each(|(place, end)| {
                self.last_end = self.last_end.max(place);
                self.ended.insert(place, end);
            }),
            Rows::Buckets(rows) => self.buckets.extend(rows),
            Rows::Events(rows) => rows.into_iter().for_each(|row| {
                self.last_event = self.last_event.max(row.place);
                self.events.insert(row.place, row.record);
            }),
            Rows::Outbox(rows) => rows.into_iter().for_each(|(name, cursor)| {
                self.outbox.entry(name).or_default().cursor = cursor;
            }),
            Rows::Deliveries(rows) => rows.into_iter().for_each(|(name, row, due)| {
                let queue = self.outbox.entry(name).or_default();
                queue.deliveries.insert(row.place, (due, row));
            }),
        }
    }

    fn put_account(&mut self, row: Account) {
        self.accounts.retain(|_, old| old.id != row.id);
        let row = Account {
            valid_from: ValidFrom(0),
            ..row
        };
        self.accounts.insert(row.username.clone(), row);
    }

    fn put_session(&mut self, row: Session) {
        let kept = self.sessions.get(&row.id);
        if kept.is_none_or(|kept| kept.version < row.version) {
            self.sessions.insert(row.id, row);
        }
    }

    fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::Keys => self.keys.clear(),
            Kind::Accounts => self.accounts.clear(),
            Kind::Resets => self.resets.clear(),
            Kind::ValidFrom => self.valid_from.clear(),
            Kind::Sessions => self.sessions.clear(),
            Kind::Adopted => self.adopted.clear(),
            Kind::Ended => self.ended.clear(),
            Kind::Buckets => self.buckets.clear(),
            Kind::Events => self.events.clear(),
            Kind::Outbox => self.outbox.clear(),
            Kind::Deliveries => {
                let queues = self.outbox.values_mut();
                queues.for_each(|Queue { deliveries, .. }| deliveries.clear());
            }
        }
    }
}

/// So many after a bookmark, which is the key of the last.
fn cut<T>(
    all: BTreeMap<Bookmark, T>,
    (after, limit): Page,
    rows: impl Fn(Vec<T>) -> Rows,
) -> (Rows, Option<Bookmark>) {
    let mut rest = all;
    if let Some(after) = after {
        rest = rest.split_off(&after);
        rest.remove(&after);
    }
    let (mut last, mut page) = (None, Vec::new());
    for (key, row) in rest.into_iter().take(limit) {
        last = Some(key);
        page.push(row);
    }
    let next = last.filter(|_| page.len() == limit);
    (rows(page), next)
}

fn by_number<T: Clone>(rows: &[T]) -> BTreeMap<Bookmark, T> {
    let numbered = (0..).zip(rows);
    numbered
        .map(|(at, row)| (number(at), row.clone()))
        .collect()
}

fn number(at: u64) -> Bookmark {
    at.to_be_bytes().into()
}

fn text(text: &str) -> Bookmark {
    text.as_bytes().into()
}
