use pollster::FutureExt as _;

use super::*;
use crate::memory::MemoryStore;
use crate::policy::Policy;
use crate::store::{EventStore as _, Store};
use crate::testing::TestEnv;

const SEAL: &[u8] = b"0123456789abcdef0123456789abcdef";

struct World {
    store: Arc<MemoryStore>,
    env: Arc<TestEnv>,
    log: EventLog,
}

impl World {
    fn new(config: EventConfig) -> Self {
        let store = Arc::new(MemoryStore::new(Policy::default()));
        let env = Arc::new(TestEnv::new(Timestamp(1_800_000_000_000), 7));
        let shared: Arc<dyn Store> = Arc::clone(&store) as _;
        let log = EventLog::new(shared, config, Arc::clone(&env) as _);
        World { store, env, log }
    }

    fn kept(&self) -> Vec<Record> {
        let everything = Filter::default();
        let all = self.store.events_after(0, &everything, 100_000);
        let (entries, _) = all.block_on().unwrap();
        entries.into_iter().map(|entry| entry.record).collect()
    }

    fn names(&self) -> Vec<(&'static str, u64)> {
        let kept = self.kept().into_iter();
        kept.map(|record| (record.event.name.as_str(), record.event.count))
            .collect()
    }
}

fn from(address: &str) -> Caller {
    Caller {
        address: Some(address.parse().unwrap()),
        ..Caller::default()
    }
}

fn failed() -> Event {
    Event::new(EventName::LoginFailed).because("unknown_user")
}

fn refreshed() -> Event {
    let user = UserId::new("ada").unwrap();
    Event::new(EventName::Refreshed).of(&user)
}

#[test]
fn a_network_is_written_as_was_chosen() {
    let written = |form: &str, address: &str| {
        let form = NetworkForm::parse(form, Some(SEAL)).unwrap();
        form.write(address.parse().unwrap())
    };
    let table = [
        ("truncated", "203.0.113.77", Some("203.0.113.0/24")),
        ("truncated", "2001:db8:1:2:3::4", Some("2001:db8:1::/48")),
        ("truncated", "::ffff:203.0.113.77", Some("203.0.113.0/24")),
        ("full", "::ffff:203.0.113.77", Some("203.0.113.77")),
        ("none", "203.0.113.77", None),
    ];
    for (form, address, wanted) in table {
        assert_eq!(
            written(form, address).as_deref(),
            wanted,
            "{form} {address}"
        );
    }
    let one = written("hashed", "203.0.113.77").unwrap();
    assert_eq!(written("hashed", "::ffff:203.0.113.77"), Some(one.clone()));
    assert_ne!(written("hashed", "203.0.113.78"), Some(one.clone()));
    let other = NetworkForm::parse("hashed", Some(&[7; 32])).unwrap();
    assert_ne!(other.write("203.0.113.77".parse().unwrap()), Some(one));
    assert!(NetworkForm::parse("hashed", None).is_err());
    assert!(NetworkForm::parse("Full", None).is_err());
    assert!(!format!("{other:?}").contains('7'));
}

#[test]
fn alike_failures_make_one_record_a_minute() {
    let world = World::new(EventConfig::default());
    let tick = |seconds| {
        world.env.advance(Duration::from_secs(seconds));
        world.log.flush().block_on().unwrap();
    };
    world.log.note(&from("192.0.2.1"), &failed());
    tick(1);
    assert_eq!(world.names(), [("login_failed", 1)]);
    for _ in 0..1000 {
        world.log.note(&from("192.0.2.200"), &failed());
    }
    tick(1);
    assert_eq!(world.names().len(), 1);
    world.log.note(&from("198.51.100.1"), &failed());
    tick(1);
    tick(60);
    assert_eq!(
        world.names(),
        [
            ("login_failed", 1),
            ("login_failed", 1),
            ("login_failed", 1000)
        ]
    );
    // Nothing is left of it.
    tick(60);
    assert!(world.log.waiting().failures.is_empty());
}

#[test]
fn closing_writes_what_is_held_back() {
    let world = World::new(EventConfig::default());
    for _ in 0..3 {
        world.log.note(&Caller::default(), &failed());
        world.log.flush().block_on().unwrap();
    }
    world.log.close().block_on().unwrap();
    assert_eq!(world.names(), [("login_failed", 1), ("login_failed", 2)]);
}

#[test]
fn what_does_not_fit_is_counted() {
    let world = World::new(EventConfig::default());
    for _ in 0..WAITING + 5 {
        world.log.note(&Caller::default(), &refreshed());
    }
    for third in 0..20 {
        for fourth in 0..=255 {
            let caller = from(&format!("10.{third}.{fourth}.1"));
            world.log.note(&caller, &failed());
        }
    }
    world.log.flush().block_on().unwrap();
    let kept = world.names();
    assert_eq!(kept.len(), WAITING + KINDS + 1);
    let dropped = 5 + 20 * 256 - KINDS as u64;
    assert!(kept.contains(&("events_dropped", dropped)));
}

#[test]
fn of_a_sessions_refreshes_the_first_of_each_day_since_it_opened_is_kept() {
    let world = World::new(EventConfig::default());
    let opened = world.env.now();
    let event = refreshed().in_session(SessionId::new(opened, &*world.env));
    let hours = |records: Vec<Record>| -> Vec<_> {
        let since = |record: &Record| (record.at.0 - opened.0) / 3_600_000;
        records.iter().map(since).collect()
    };
    let mut before = opened;
    for _ in 0..3 * 24 {
        world.env.advance(Duration::from_secs(3600));
        world.log.note_refresh(&Caller::default(), &event, before);
        before = world.env.now();
    }
    world.log.flush().block_on().unwrap();
    assert_eq!(hours(world.kept()), [24, 48, 72]);
}

#[test]
fn whoever_listens_is_told_of_all_and_the_log_may_be_off() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let listener = Listener::new(move |event| heard.lock().unwrap().push(event.name));
    let world = World::new(EventConfig {
        on: false,
        listener: Some(listener),
        ..EventConfig::default()
    });
    world.log.note(&Caller::default(), &failed());
    world
        .log
        .note_refresh(&Caller::default(), &refreshed(), world.env.now());
    let login = Event::new(EventName::LoggedIn);
    world.log.keep(&Caller::default(), &login).block_on();
    world.log.close().block_on().unwrap();
    let names = [
        EventName::LoginFailed,
        EventName::Refreshed,
        EventName::LoggedIn,
    ];
    assert_eq!(*told.lock().unwrap(), names);
    assert_eq!(world.kept(), []);
    assert_eq!(
        world.log.trail(&Caller::default(), Some(login), None),
        Trail::default()
    );
}

#[test]
fn what_could_not_be_written_waits_in_its_order() {
    let mut waiting = Waiting::default();
    let world = World::new(EventConfig::default());
    let record = |event| world.log.record(&Caller::default(), event);
    waiting.take(record(Event::new(EventName::LoggedIn)));
    waiting.back(vec![record(refreshed()), dropped(7, world.env.now())]);
    let due = waiting.due(world.env.now(), false);
    let names: Vec<_> = due.iter().map(|record| record.event.name).collect();
    let wanted = [
        EventName::Refreshed,
        EventName::LoggedIn,
        EventName::EventsDropped,
    ];
    assert_eq!(names, wanted);
}

#[test]
fn old_records_go() {
    let world = World::new(EventConfig::default());
    world.log.keep(&Caller::default(), &refreshed()).block_on();
    world.env.advance(Duration::from_secs(90 * 24 * 3600));
    assert!(!world.log.purge(10).block_on().unwrap());
    assert_eq!(world.kept().len(), 1);
    world.env.advance(Duration::from_secs(1));
    let _ = world.log.purge(10).block_on().unwrap();
    assert_eq!(world.kept(), []);
}
