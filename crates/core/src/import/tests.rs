use std::io;
use std::sync::Arc;

use pollster::FutureExt;

use super::*;
use crate::env::{Env, Timestamp};
use crate::event::{Actor, EventName, Filter};
use crate::event_log::{EventConfig, EventLog};
use crate::memory::MemoryStore;
use crate::operator::Operator;
use crate::password::{Hashing, Params, Password, Passwords};
use crate::store::{Account, AccountStore, EventStore as _};
use crate::testing::TestEnv;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const BCRYPT: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
const OTHER: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK";

/// A store, and what is told on the way.
struct World {
    store: Arc<MemoryStore>,
    env: Arc<TestEnv>,
    passwords: Passwords,
}

#[derive(Default)]
struct Told(Vec<Refusal>);

impl Watch for Told {
    fn refused(&mut self, refusal: &Refusal) -> io::Result<()> {
        self.0.push(refusal.clone());
        Ok(())
    }
    fn read(&mut self, _: u64, _: &Tally) -> io::Result<()> {
        Ok(())
    }
}

impl World {
    fn new() -> World {
        let env = Arc::new(TestEnv::new(NOW, 7));
        let hashing = Hashing {
            params: Params::FAST_FOR_TESTS,
            threads: 1,
            ..Hashing::default()
        };
        World {
            store: Arc::default(),
            passwords: Passwords::new(hashing, Arc::clone(&env) as Arc<dyn Env>),
            env,
        }
    }

    fn import(
        &self,
        input: impl io::Read,
        format: Format,
        options: Options,
    ) -> Result<(Tally, Vec<Refusal>), ImportError> {
        let mut told = Told::default();
        let (store, env) = (Arc::clone(&self.store), Arc::clone(&self.env));
        let (log, log_env) = (Arc::clone(&store), Arc::clone(&env));
        let events = EventLog::new(log, EventConfig::default(), log_env);
        let operator = Operator::new(store, Arc::new(events), env);
        let import = operator.import(&self.passwords, options);
        let tally = import.run(input, format, &mut told).block_on()?;
        Ok((tally, told.0))
    }

    fn csv(&self, text: &str) -> (Tally, Vec<Refusal>) {
        let done = self.import(text.as_bytes(), Format::Csv, Options::default());
        done.unwrap()
    }

    fn account(&self, name: &str) -> Option<Account> {
        self.store.account(name).block_on().unwrap()
    }
}

fn tally(added: u64, there_already: u64, skipped: u64, refused: u64) -> Tally {
    Tally {
        added,
        there_already,
        skipped,
        refused,
    }
}

fn codes(refusals: &[Refusal]) -> Vec<(u64, &str)> {
    let each = refusals.iter();
    each.map(|refusal| (refusal.line, refusal.code)).collect()
}

#[test]
fn a_line_becomes_an_account() {
    let world = World::new();
    let text = format!(
        "\u{feff}Id,UserName,hash,is_active,date_joined\r\n\r\n\
         u-1,\"  no\",{BCRYPT},t,\r\n\
         u-2,Zoë,{BCRYPT},f,2024-05-17 08:30:00.5+02:00\r\n\
         ,ada,{BCRYPT},1,1700000000"
    );
    let (done, refusals) = world.csv(&text);
    assert_eq!(done, tally(2, 0, 0, 1));
    assert_eq!(codes(&refusals), [(3, "username_invalid")]);
    let zoe = world.account("zoë").unwrap();
    assert_eq!((zoe.id.as_str(), zoe.disabled), ("u-2", true));
    assert_eq!(zoe.created_at, Timestamp(1_715_927_400_500));
    assert_eq!(zoe.password_hash.as_str(), BCRYPT);
    let ada = world.account("ada").unwrap();
    assert_eq!((ada.id.as_str().len(), ada.disabled), (36, false));
    assert_eq!(ada.created_at, Timestamp::from_seconds(1_700_000_000));
}

#[test]
fn an_object_becomes_an_account() {
    let world = World::new();
    let lines = format!(
        "{{\"id\":7,\"username\":\"ada\",\"password_hash\":\"{BCRYPT}\",\"disabled\":true,\"created_at\":null}}\n\n\
         {{\"login\":\"bob\",\"hash\":\"{BCRYPT}\"}}\n"
    );
    let done = world.import(lines.as_bytes(), Format::JsonLines, Options::default());
    assert_eq!(done.unwrap().0, tally(2, 0, 0, 0));
    let ada = world.account("ada").unwrap();
    assert_eq!((ada.id.as_str(), ada.disabled), ("7", true));
    assert_eq!(ada.created_at, NOW);
}

#[test]
fn what_is_wrong_with_a_line_has_a_code_and_shows_no_secret() {
    let long = "x".repeat(MAX_LINE + 1);
    let cases = [
        ("[1]", "not_json"),
        ("{\"username\":\"ada\"} x", "not_json"),
        ("{\"username\":\"ada\"}", "hash_missing"),
        ("{\"password_hash\":\"$2b$secret\"}", "username_missing"),
        (
            "{\"username\":\"ada\",\"password_hash\":\"$2b$secret\"}",
            "hash_refused",
        ),
        (
            "{\"username\":\"ada\",\"password_hash\":\"secret\"}",
            "hash_refused",
        ),
        (
            "{\"username\":\"a\\u0000\",\"password_hash\":\"secret\"}",
            "username_invalid",
        ),
        (
            "{\"username\":\"ada\",\"password\":\"secret\"}",
            "password_plain",
        ),
        (
            "{\"username\":\"ada\",\"password_hash\":[\"secret\"]}",
            "field_invalid",
        ),
        ("{\"username\":\"ada\",\"username\":\"eve\"}", "field_twice"),
        (
            "{\"username\":\"ada\",\"hash\":\"secret\",\"password\":\"secret\"}",
            "field_twice",
        ),
        (
            "{\"username\":\"ada\",\"disabled\":true,\"active\":true}",
            "field_twice",
        ),
        ("{\"username\":\"ada\",\"disabeld\":true}", "field_unknown"),
        (
            "{\"username\":\"ada\",\"hash\":\"HASH\",\"disabled\":\"\"}",
            "disabled_invalid",
        ),
        (
            "{\"username\":\"ada\",\"hash\":\"HASH\",\"disabled\":null}",
            "field_invalid",
        ),
        (
            "{\"username\":\"ada\",\"hash\":\"HASH\",\"id\":\"a\\u0001\"}",
            "id_invalid",
        ),
        (
            "{\"username\":\"ada\",\"hash\":\"HASH\",\"created_at\":\"soon\"}",
            "created_at_invalid",
        ),
        (
            "{\"username\":\"ada\",\"hash\":\"HASH\",\"created_at\":\"2100-01-01\"}",
            "created_at_invalid",
        ),
        (
            "{\"username\":\"ada\",\"hash\":\"HASH\",\"created_at\":-1}",
            "created_at_invalid",
        ),
        (&long, "line_too_long"),
    ];
    for (line, code) in cases {
        let world = World::new();
        let line = line.replace("HASH", BCRYPT);
        let good = format!("{{\"username\":\"bob\",\"hash\":\"{BCRYPT}\"}}");
        let text = format!("{line}\n{good}");
        let done = world.import(text.as_bytes(), Format::JsonLines, Options::default());
        let (done, refusals) = done.unwrap();
        assert_eq!(codes(&refusals), [(1, code)]);
        assert_eq!(done, tally(1, 0, 0, 1), "{code}");
        let shown = format!("{refusals:?} {}", refusals[0]);
        assert!(
            !shown.contains("secret") && !shown.contains(BCRYPT),
            "{shown}"
        );
    }
}

#[test]
fn a_hash_is_refused_by_the_name_of_its_form() {
    for (hash, name) in [
        ("pbkdf2:sha256:9000000$c2FsdHNhbHQ$00", "5 million rounds"),
        (
            "$2b$16$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "beyond 15",
        ),
        (
            "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "256 MiB",
        ),
        ("scrypt:1048576:8:1$salt$00", "scrypt"),
        ("$6$salt$digest", "$6$"),
        ("sha256$salt$digest", "Werkzeug"),
        ("!unusable", "unusable"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "no known form"),
    ] {
        let (_, refusals) = World::new().csv(&format!("username,password_hash\nada,\"{hash}\"\n"));
        assert_eq!(codes(&refusals), [(2, "hash_refused")]);
        assert!(refusals[0].words.contains(name), "{}", refusals[0].words);
    }
}

#[test]
fn csv_is_read_as_it_is_written() {
    let world = World::new();
    let long = "x".repeat(3 * MAX_LINE);
    let text = format!(
        "username,password_hash\n\
         \"a\"\"b\",{BCRYPT}\n\
         \"two\nlines\",{BCRYPT}\n\
         few\n\
         \"{long}\n{long}\",{BCRYPT}\n\
         \n\
         many,{BCRYPT},x\n\
         bob,{BCRYPT}\n\
         \"open,{BCRYPT}\n"
    );
    let (done, refusals) = world.csv(&text);
    let wanted = [
        (3, "username_invalid"),
        (5, "fields_missing"),
        (6, "line_too_long"),
        (9, "fields_missing"),
        (11, "quote_open"),
    ];
    assert_eq!(codes(&refusals), wanted);
    assert_eq!(done, tally(2, 0, 0, 5));
    assert!(world.account("a\"b").is_some() && world.account("bob").is_some());
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_stand() {
    let world = World::new();
    let mut text = b"username,password_hash\n\xff\xfe,x\nnul\0,x\n".to_vec();
    text.extend_from_slice(format!("ada,{BCRYPT}\n").as_bytes());
    let done = world.import(&*text, Format::Csv, Options::default());
    let (done, refusals) = done.unwrap();
    assert_eq!(codes(&refusals), [(2, "not_utf8"), (3, "username_invalid")]);
    assert_eq!(done, tally(1, 0, 0, 2));
}

#[test]
fn columns_that_could_mean_something_else_end_it() {
    for (header, words) in [
        ("", "empty"),
        ("username", "no column password_hash"),
        ("password_hash", "no column username"),
        ("username,password", "--passwords"),
        ("username,password_hash,disabeld", "disabeld"),
        ("username,login,password_hash", "already"),
        ("username,password_hash,active,disabled", "already"),
        ("\u{feff}", "empty"),
    ] {
        let world = World::new();
        let done = world.import(header.as_bytes(), Format::Csv, Options::default());
        let words_of = done.unwrap_err().to_string();
        assert!(words_of.contains(words), "{header}: {words_of}");
    }
    for (secret, ending) in [
        (BCRYPT, "ada"),
        ("hunter2hunter2", "ada"),
        ("username", BCRYPT),
    ] {
        let header = format!("{secret},{ending}\n");
        let done = World::new().import(header.as_bytes(), Format::Csv, Options::default());
        let words = done.unwrap_err().to_string();
        assert!(
            !words.contains("$2b") && !words.contains("hunter2"),
            "{words}"
        );
    }
    let member = format!("{{\"username\":\"ada\",\"{BCRYPT}\":1}}");
    let done = World::new().import(member.as_bytes(), Format::JsonLines, Options::default());
    let refusals = done.unwrap().1;
    assert!(!format!("{refusals:?}").contains(BCRYPT));
    let utf16 = b"\xff\xfeu\0s\0e\0r\0";
    let done = World::new().import(&utf16[..], Format::Csv, Options::default());
    assert!(done.unwrap_err().to_string().contains("UTF-16"));
    let options = Options {
        ignore_others: true,
        ..Options::default()
    };
    let text = format!("username,password_hash,email\nada,{BCRYPT},x\n");
    let done = World::new().import(text.as_bytes(), Format::Csv, options);
    assert_eq!(done.unwrap().0, tally(1, 0, 0, 0));
}

#[test]
fn a_second_run_finds_everything_there_and_conflicts_are_told() {
    let text = format!(
        "id,username,password_hash\n1,ada,{BCRYPT}\n2,bob,{BCRYPT}\n2,cy,{BCRYPT}\n3,Ada,{OTHER}\n,bob,{BCRYPT}\n"
    );
    let world = World::new();
    let wanted = [(4, "id_taken"), (5, "username_taken")];
    let dry = Options {
        dry_run: true,
        ..Options::default()
    };
    let (done, refusals) = world.import(text.as_bytes(), Format::Csv, dry).unwrap();
    assert_eq!(
        (done, codes(&refusals)),
        (tally(2, 1, 0, 2), wanted.to_vec())
    );
    assert!(world.account("ada").is_none());
    let (done, refusals) = world.csv(&text);
    assert_eq!(
        (done, codes(&refusals)),
        (tally(2, 1, 0, 2), wanted.to_vec())
    );
    let (done, refusals) = world.csv(&text);
    assert_eq!(
        (done, codes(&refusals)),
        (tally(0, 3, 0, 2), wanted.to_vec())
    );
    let skip = Options {
        skip_conflicts: true,
        ..Options::default()
    };
    let (done, refusals) = world.import(text.as_bytes(), Format::Csv, skip).unwrap();
    assert_eq!((done, refusals.len()), (tally(0, 3, 2, 0), 0));
    assert_eq!(world.account("ada").unwrap().password_hash.as_str(), BCRYPT);
}

#[test]
fn passwords_are_hashed_where_that_is_asked_for() {
    let world = World::new();
    let options = Options {
        passwords: true,
        ..Options::default()
    };
    let text = format!("username,password\nada,secret\nada,other\nbob,{BCRYPT}\ncy,\n");
    for (added, there) in [(1, 0), (0, 1)] {
        let (done, refusals) = world.import(text.as_bytes(), Format::Csv, options).unwrap();
        assert_eq!(done, tally(added, there, 0, 3));
        let wanted = [
            (3, "username_taken"),
            (4, "password_is_hash"),
            (5, "password_missing"),
        ];
        assert_eq!(codes(&refusals), wanted);
        assert!(!format!("{refusals:?}").contains("secret"));
    }
    let hash = world.account("ada").unwrap().password_hash;
    let password = Password::new("secret").unwrap();
    let verified = world.passwords.verify(password, Some(hash)).block_on();
    assert!(verified.unwrap().matches);
}

#[test]
fn endless_input_takes_no_endless_memory() {
    // One line of 200 MB.
    let world = World::new();
    let input = || io::Read::take(io::repeat(b'"'), 200_000_001);
    let head = || &b"username,password_hash\n"[..];
    let (_, refusals) = world
        .import(
            io::Read::chain(head(), input()),
            Format::Csv,
            Options::default(),
        )
        .unwrap();
    assert_eq!(codes(&refusals), [(2, "line_too_long")]);
    let (_, refusals) = world
        .import(input(), Format::JsonLines, Options::default())
        .unwrap();
    assert_eq!(codes(&refusals), [(1, "line_too_long")]);
}

#[test]
fn each_account_that_is_added_has_its_record_and_no_other() {
    let world = World::new();
    let line = |name: &str| format!("{name},{BCRYPT}\n");
    let text = [
        "username,password_hash\n",
        &line("ada"),
        &line("bob"),
        &line("ada"),
    ]
    .concat();
    world.csv(&text);
    world.csv(&text);
    let all = Filter::default();
    let records = world.store.events_after(0, &all, 10);
    let (records, _) = records.block_on().unwrap();
    let told = records.into_iter().map(|entry| {
        let (event, actor) = (entry.record.event, entry.record.actor);
        (event.name, event.user, actor)
    });
    let id = |name| Some(world.account(name).unwrap().id);
    let added = |name| (EventName::AccountAdded, id(name), Actor::Operator);
    assert!(told.eq([added("ada"), added("bob")]));
}
