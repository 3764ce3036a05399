//! Several processes on one file, against a map: whatever is appended, ended or folded, by whomever.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use doorward_core::id::UserId;
use doorward_core::revocation::Ended;
use doorward_core::session::{Delivery, Device, End, EndReason};
use doorward_core::testing::TestEnv;
use tempfile::TempDir;

use super::super::open::File;
use super::super::writer::immediate;
use super::*;

pub(in super::super) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// What a process has of the file.
struct Process {
    db: Connection,
    log: Arc<Log>,
    folding: Option<Folding>,
}

impl Process {
    fn open(directory: &TempDir) -> Process {
        let (_, [db, _]) = File::prepare(&directory.path().join("test.db")).unwrap();
        // Nothing here is about a power cut.
        db.pragma_update(None, "synchronous", "off").unwrap();
        Process {
            db,
            log: Arc::default(),
            folding: None,
        }
    }

    fn write<T>(&mut self, write: impl FnOnce(&Connection, &mut Appending) -> T) -> T {
        let tx = immediate(&mut self.db).unwrap();
        let mut appending = Appending::begin(&self.log, &tx).unwrap();
        let value = write(&tx, &mut appending);
        tx.commit().unwrap();
        appending.committed();
        value
    }

    fn insert(&mut self, session: &Session) -> bool {
        self.write(|db, _| rows::insert(db, session).unwrap())
    }

    fn swap(&mut self, session: &Session) -> bool {
        self.write(|db, appending| appending.swap(db, session).unwrap())
    }

    fn end(&mut self, session: SessionId) -> bool {
        let reason = EndReason::Logout;
        let ended = Ended {
            session,
            at: NOW,
            reason,
        };
        self.write(|db, appending| {
            appending.settle(db, session).unwrap();
            rows::end_session(db, ended).unwrap()
        })
    }

    fn load(&self, id: SessionId) -> Option<Session> {
        let load = |db: &Connection| Ok(rows::load(db, id)?.map(|row| self.log.onto(row)));
        self.log.read(&self.db, load).unwrap()
    }

    fn fold(&mut self, count: usize) {
        let log = &self.log;
        let mut folding = self.folding.take().unwrap_or_else(|| Folding::of(log));
        let tx = immediate(&mut self.db).unwrap();
        folding.some(&tx, count).unwrap();
        tx.commit().unwrap();
        if !folding.committed(log) {
            self.folding = Some(folding);
        }
    }
}

pub(in super::super) fn session(env: &TestEnv) -> Session {
    Session {
        id: SessionId::new(NOW, env),
        user: UserId::new("ada").unwrap(),
        confirmed: TokenId::random(env),
        generation: -1,
        previous: None,
        siblings: false,
        attempt: 0,
        confirmed_at: Timestamp::NEVER,
        child_at: Timestamp::NEVER,
        refresh_key: KeyId(7),
        created_at: NOW,
        auth_time: NOW,
        absolute_end: Timestamp(NOW.0 + 1_000_000),
        remember: true,
        privileged: false,
        delivery: Delivery::Body,
        device: Device::default(),
        claims: None,
        ended: None,
        version: 0,
    }
}

pub(in super::super) fn rotated(row: &Session, env: &TestEnv) -> Session {
    let at = Timestamp(NOW.0 + (env.random() >> 40).cast_signed());
    Session {
        confirmed: TokenId::random(env),
        previous: Some(row.confirmed),
        generation: row.generation + 1,
        siblings: env.random().is_multiple_of(2),
        confirmed_at: at,
        child_at: at,
        auth_time: NOW,
        version: row.version + 1,
        ..row.clone()
    }
}

fn file() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let first = Process::open(&directory);
    let key = "INSERT INTO keys VALUES (1, 7, 'refresh', 'HS256', x'00', 0, 0, 0, 0, '')";
    first.db.execute_batch(key).unwrap();
    directory
}

#[test]
fn several_processes_see_one_state_however_the_log_is_folded() {
    for seed in 0..20 {
        let (env, directory) = (TestEnv::new(NOW, seed), file());
        let pick = |among: usize| usize::try_from(env.random() % among as u64).unwrap();
        let mut processes = [(); 3].map(|()| Process::open(&directory));
        let mut wanted: Vec<Session> = (0..8).map(|_| session(&env)).collect();
        assert!(wanted.iter().all(|row| processes[0].insert(row)));
        for _ in 0..400 {
            let (process, row) = (&mut processes[pick(3)], &mut wanted[pick(8)]);
            match pick(10) {
                0..=4 => {
                    let next = rotated(row, &env);
                    assert_eq!(process.swap(&next), row.ended.is_none());
                    if row.ended.is_none() {
                        *row = next;
                    }
                }
                5 => assert!(!process.swap(row), "an old version takes no effect"),
                6 if pick(10) == 0 => {
                    assert_eq!(process.end(row.id), row.ended.is_none());
                    if row.ended.is_none() {
                        row.version += 1;
                        row.previous = None;
                        let (at, reason) = (NOW, EndReason::Logout);
                        row.ended = Some(End { at, reason });
                    }
                }
                7 => process.fold(1 + pick(5)),
                _ => assert_eq!(process.load(row.id).as_ref(), Some(&*row), "seed {seed}"),
            }
        }
        processes[1] = Process::open(&directory);
        for process in &mut processes {
            for row in &wanted {
                assert_eq!(process.load(row.id).as_ref(), Some(row), "seed {seed}");
            }
            while process.log.len() > 0 {
                process.fold(3);
            }
        }
    }
}

#[test]
fn a_reader_never_sees_an_older_state_while_the_log_is_folded() {
    let (env, directory) = (TestEnv::new(NOW, 1), file());
    let mut writer = Process::open(&directory);
    let mut row = session(&env);
    assert!(writer.insert(&row));
    let (id, acknowledged, done) = (row.id, AtomicU64::new(0), AtomicBool::new(false));
    let log = Arc::clone(&writer.log);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let reader = Process {
                log,
                ..Process::open(&directory)
            };
            while !done.load(Ordering::SeqCst) {
                let least = acknowledged.load(Ordering::SeqCst);
                let seen = reader.load(id).unwrap().version;
                assert!(seen >= least, "{seen} after {least}");
            }
        });
        for _ in 0..3_000 {
            row = rotated(&row, &env);
            assert!(writer.swap(&row));
            acknowledged.store(row.version, Ordering::SeqCst);
            writer.fold(1);
        }
        done.store(true, Ordering::SeqCst);
    });
}
