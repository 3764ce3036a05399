//! Groups of operations, of which some fail.
#![allow(clippy::unwrap_used, reason = "a test")]

use pollster::FutureExt as _;

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
        queue: Arc::default(),
        folding: None,
        last: 1,
    }
}

type Answer<T> = oneshot::Receiver<StoreResult<T>>;

fn asked<T: Send + 'static>(
    work: impl Fn(&mut Group<'_>) -> Result<T> + Send + 'static,
) -> (Box<dyn Operation>, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    let value = None;
    (Box::new(Asked { work, value, reply }), answer)
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
