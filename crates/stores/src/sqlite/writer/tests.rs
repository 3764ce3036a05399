//! Groups of operations, of which some fail.
#![allow(clippy::unwrap_used, reason = "a test")]

use pollster::FutureExt as _;

use doorward_core::session::Session;
use doorward_core::testing::TestEnv;

use super::super::rotations::tests::{NOW, rotated, session};
use super::super::rows;
use super::*;

fn writing(directory: &tempfile::TempDir) -> Writing {
    let (file, [db, folder]) = File::prepare(&directory.path().join("test.db")).unwrap();
    Writing {
        db,
        folder,
        file: Arc::new(file),
        log: Arc::default(),
        ring: None,
        mute: Arc::default(),
        meter: Arc::default(),
        queue: Arc::default(),
        many: MANY,
        full: FULL,
        folding: None,
        last: 1,
        groups: 0,
    }
}

type Answer<T> = oneshot::Receiver<StoreResult<T>>;

fn asked<T: Send + 'static>(
    work: impl Fn(&mut Group<'_>) -> Result<T> + Send + 'static,
) -> (Box<dyn Operation>, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    let value = None;
    let waiting = Arc::<Meter>::default().wait();
    let asked = Asked {
        waiting,
        work,
        value,
        reply,
    };
    (Box::new(asked), answer)
}

fn remember(user: &'static str) -> (Box<dyn Operation>, Answer<usize>) {
    asked(move |group| {
        let insert = "INSERT INTO valid_from VALUES (?1, 1)";
        group.tx.prepare_cached(insert)?.execute([user])
    })
}

#[test]
fn an_operation_that_cannot_be_carried_out_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut writing = writing(&directory);
    let (ada, ada_answer) = remember("ada");
    let (twice, twice_answer) = asked(|group| {
        group
            .tx
            .execute("INSERT INTO valid_from VALUES ('eve', 1)", [])?;
        group
            .tx
            .execute("INSERT INTO valid_from VALUES ('eve', 1)", [])
    });
    let (panics, panics_answer) = asked(|_| -> Result<()> { panic!("in a test") });
    let (bob, bob_answer) = remember("bob");
    writing.carry_out(vec![ada, twice, panics, bob]);
    assert_eq!(ada_answer.block_on().unwrap().unwrap(), 1);
    assert!(twice_answer.block_on().unwrap().is_err());
    assert!(panics_answer.block_on().unwrap().is_err());
    assert_eq!(bob_answer.block_on().unwrap().unwrap(), 1);
    let users = "SELECT group_concat(user) FROM (SELECT user FROM valid_from ORDER BY user)";
    let users = writing
        .db
        .query_row(users, [], |row| row.get::<_, String>(0));
    assert_eq!(users.unwrap(), "ada,bob", "nothing is half done");
}

#[test]
fn a_group_fails_once_where_the_database_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut writing = writing(&directory);
    std::fs::remove_file(directory.path().join("test.db")).unwrap();
    let (ada, ada_answer) = remember("ada");
    let (bob, bob_answer) = remember("bob");
    writing.carry_out(vec![ada, bob]);
    for answer in [ada_answer, bob_answer] {
        let error = answer.block_on().unwrap().unwrap_err();
        assert!(error.0.contains("replaced or removed"), "{error}");
    }
}

#[test]
fn a_log_that_is_full_is_folded_faster_than_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let mut writing = writing(&directory);
    writing.full = 10;
    let key = "INSERT INTO keys VALUES (1, 7, 'refresh', 'HS256', x'00', 0, 0, 0, 0, '')";
    writing.db.execute_batch(key).unwrap();
    let env = TestEnv::new(NOW, 1);
    let mut sessions: Vec<Session> = (0..50).map(|_| session(&env)).collect();
    for row in &sessions {
        assert!(rows::insert(&writing.db, row).unwrap());
    }
    for _ in 0..20 {
        let swaps = sessions.iter_mut().map(|row| {
            *row = rotated(row, &env);
            let row = row.clone();
            asked(move |group| group.rotations.swap(group.tx, &row))
        });
        let (group, answers): (Vec<_>, Vec<_>) = swaps.unzip();
        writing.carry_out(group);
        for answer in answers {
            assert!(answer.block_on().unwrap().unwrap());
        }
        assert!(writing.log.len() <= 100);
    }
    let folded: i64 = {
        let folded = "SELECT count(*) FROM sessions WHERE version > 0";
        writing.db.query_row(folded, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(folded, 50);
    for row in &sessions {
        let log = &writing.log;
        let load = |db: &Connection| Ok(rows::load(db, row.id)?.map(|row| log.onto(row)));
        assert_eq!(log.read(&writing.db, load).unwrap().as_ref(), Some(row));
    }
}

#[test]
fn a_single_session_that_rotates_on_and_on_does_not_make_the_log_grow() {
    let directory = tempfile::tempdir().unwrap();
    let mut writing = writing(&directory);
    writing.many = 10;
    let key = "INSERT INTO keys VALUES (1, 7, 'refresh', 'HS256', x'00', 0, 0, 0, 0, '')";
    writing.db.execute_batch(key).unwrap();
    let env = TestEnv::new(NOW, 1);
    let mut row = session(&env);
    assert!(rows::insert(&writing.db, &row).unwrap());
    for _ in 0..20 {
        assert_eq!(writing.patience() == LULL, writing.log.len() >= 10);
        row = rotated(&row, &env);
        let next = row.clone();
        let (swap, answer) = asked(move |group| group.rotations.swap(group.tx, &next));
        writing.carry_out(vec![swap]);
        assert!(answer.block_on().unwrap().unwrap());
    }
    while writing.log.len() > 0 {
        writing.fold();
    }
    let count = "SELECT count(*) FROM rotations";
    let count: i64 = writing.db.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(
        count, 1,
        "the last one stays, so that numbers never go back"
    );
    assert_eq!(rows::load(&writing.db, row.id).unwrap(), Some(row));
}

fn writer(directory: &tempfile::TempDir) -> Writer {
    let (file, connections) = File::prepare(&directory.path().join("test.db")).unwrap();
    Writer::start(
        connections,
        Arc::new(file),
        Arc::default(),
        None,
        Arc::default(),
    )
    .unwrap()
}

/// Counts from many threads at once, in `writer`'s transactions.
fn counted(writer: &Writer, threads: i64, times: i64) -> i64 {
    let add = |group: &mut Group<'_>| {
        let add = "INSERT INTO valid_from VALUES ('n', 1) ON CONFLICT DO UPDATE SET at = at + 1";
        group.tx.execute(add, [])?;
        let at = "SELECT at FROM valid_from";
        group.tx.query_row(at, [], |row| row.get::<_, i64>(0))
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut before = 0;
                for _ in 0..times {
                    let now = writer.run(add).block_on().unwrap();
                    assert!(now > before, "one's own writes are in order");
                    before = now;
                }
            });
        }
    });
    writer.run(add).block_on().unwrap() - 1
}

#[test]
fn whoever_writes_nothing_is_lost_and_nobody_waits_for_ever() {
    for in_place in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(&directory);
        if in_place {
            writer.in_place();
        }
        assert_eq!(counted(&writer, 8, 200), 1600);
    }
}

#[test]
fn in_place_a_lone_caller_wakes_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(&directory);
    writer.in_place();
    let thread = writer.run(|_| Ok(std::thread::current().id())).block_on();
    assert_eq!(thread.unwrap(), std::thread::current().id());
}
