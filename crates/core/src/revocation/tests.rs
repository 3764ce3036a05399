use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::env::Env;
use crate::testing::TestEnv;

const START: Timestamp = Timestamp(1_900_000_000_000);
const SPAN: Duration = Duration::from_secs(960);
const BOUNDS: Bounds = Bounds {
    span: SPAN,
    allowance: Duration::from_secs(900),
    skew: Duration::from_secs(60),
    cap: 2_000_000,
};

fn ready(bounds: Bounds) -> Revocations {
    let set = Revocations::new(bounds, None);
    set.synced(START);
    set
}

fn ended(env: &TestEnv, at: Timestamp) -> Ended {
    let which = env.random() % EndReason::ALL.len() as u64;
    let reason = EndReason::ALL[usize::try_from(which).unwrap()];
    Ended {
        session: SessionId::new(at, env),
        at,
        reason,
    }
}

/// Ends `count` sessions, evenly over the span before `START`.
fn fill(set: &Revocations, env: &TestEnv, count: u32) {
    for i in 0..count {
        set.insert(ended(env, START - SPAN * i / count));
    }
}

fn check(set: &Revocations, session: SessionId) -> Result<()> {
    set.check(session, START, START)
}

#[test]
fn nothing_verifies_before_the_first_full_load() {
    let set = Revocations::new(BOUNDS, None);
    let session = SessionId([7; 16]);
    assert_eq!(check(&set, session), Err(Error::StoreUnavailable));
    set.synced(START);
    assert_eq!(check(&set, session), Ok(()));
}

#[test]
fn a_store_out_of_reach_stops_verification_after_the_allowance() {
    let set = ready(BOUNDS);
    let last = START + BOUNDS.allowance;
    let session = SessionId([7; 16]);
    assert_eq!(set.check(session, last, last), Ok(()));
    let later = Timestamp(last.0 + 1);
    assert_eq!(
        set.check(session, later, later),
        Err(Error::StoreUnavailable)
    );
    set.synced(later);
    assert_eq!(set.check(session, later, later), Ok(()));
}

#[test]
fn a_clock_that_steps_back_stops_nothing_unless_too_much_was_forgotten() {
    let set = ready(BOUNDS);
    let at = |now| set.check(SessionId([7; 16]), now, now);
    let skewed = START - BOUNDS.skew;
    assert_eq!((at(skewed), set.stepped_back(skewed)), (Ok(()), false));
    let wrong = START - WRONG_CLOCK;
    assert_eq!((at(wrong), set.stepped_back(wrong)), (Ok(()), true));
    let earlier = START - Duration::from_secs(3600);
    assert_eq!(at(earlier), Err(Error::StoreUnavailable));
    set.synced(earlier);
    assert_eq!((at(earlier), set.stepped_back(earlier)), (Ok(()), false));
}

#[test]
fn an_ended_session_is_refused_with_its_first_reason() {
    let set = ready(BOUNDS);
    let session = SessionId([7; 16]);
    set.insert(Ended {
        session,
        at: START,
        reason: EndReason::Reuse,
    });
    set.insert(Ended {
        session,
        at: START,
        reason: EndReason::Logout,
    });
    assert_eq!(
        check(&set, session),
        Err(Error::SessionEnded(EndReason::Reuse))
    );
    assert_eq!(set.len(), 1);
}

#[test]
fn every_reason_comes_back() {
    let (set, env) = (ready(BOUNDS), TestEnv::new(START, 1));
    for reason in EndReason::ALL {
        let session = SessionId::new(START, &env);
        set.insert(Ended {
            session,
            at: START,
            reason,
        });
        assert_eq!(check(&set, session), Err(Error::SessionEnded(reason)));
    }
}

#[test]
fn the_set_does_what_a_hash_map_does() {
    for seed in 0..60 {
        let env = TestEnv::new(START, seed);
        let set = ready(Bounds {
            allowance: Duration::MAX,
            ..BOUNDS
        });
        // Few ids, so that they meet; in some runs ids that share almost all of their bits.
        let alike = seed % 3 == 0;
        let ids: Vec<_> = (0..400_u16)
            .map(|i| {
                let mut bytes = [0; 16];
                if !alike {
                    env.fill(&mut bytes);
                }
                bytes[14..].copy_from_slice(&i.to_be_bytes());
                SessionId(bytes)
            })
            .collect();
        let mut model: HashMap<SessionId, Ended> = HashMap::new();
        for _ in 0..4_000 {
            let now = env.now();
            let session = ids[usize::try_from(env.random() % 400).unwrap()];
            match env.random() % 20 {
                0 => env.advance(Duration::from_millis(env.random() % 200_000)),
                1 => {
                    set.expire(now);
                    // What is past its span may stay a while; its token has expired anyway.
                    model.retain(|id, end| {
                        let over = end.at + SPAN < now;
                        let stays = set.check(*id, now, now).is_err();
                        assert!(over || stays, "seed {seed}: forgot {id}");
                        stays
                    });
                    let late = SPAN + SPAN / 16 + Duration::from_secs(2);
                    assert!(model.values().all(|end| end.at + late > now), "seed {seed}");
                }
                2..10 => {
                    let back = Duration::from_millis(env.random() % 100_000);
                    let end = Ended {
                        session,
                        ..ended(&env, now - back)
                    };
                    set.insert(end);
                    model.entry(session).or_insert(end);
                }
                _ => {
                    let refused = set.check(session, now, now).err();
                    let expected = model
                        .get(&session)
                        .map(|end| Error::SessionEnded(end.reason));
                    assert_eq!(refused, expected, "seed {seed}");
                }
            }
            assert_eq!(set.len(), model.len(), "seed {seed}");
        }
    }
}

#[test]
fn a_million_entries_take_at_most_20_bytes_each() {
    let (set, env) = (ready(BOUNDS), TestEnv::new(START, 3));
    let mut worst = 0.0_f64;
    for i in 1..=1_000_000_u32 {
        set.insert(ended(&env, START));
        if i >= 500_000 && i % 10_000 == 0 {
            #[expect(clippy::cast_precision_loss, reason = "a ratio to look at")]
            let each = set.bytes() as f64 / f64::from(i);
            worst = worst.max(each);
        }
    }
    println!("at most {worst:.2} bytes an entry between 500,000 and 1,000,000");
    assert_eq!(set.len(), 1_000_000);
    assert!(worst <= 20.0, "{worst}");
}

#[test]
fn a_swept_shard_is_left_alone_until_more_has_aged() {
    let (set, env) = (ready(BOUNDS), TestEnv::new(START, 3));
    fill(&set, &env, 10_000);
    let later = START + Duration::from_secs(500);
    let aged = || {
        set.shards
            .iter()
            .filter(|shard| shard.read().is_older(1_020, later.seconds()))
    };
    assert_eq!(aged().count(), SHARDS);
    set.expire(later);
    assert_eq!(aged().count(), 0);
}

#[test]
fn memory_comes_back_after_a_burst() {
    let (set, env) = (ready(BOUNDS), TestEnv::new(START, 3));
    fill(&set, &env, 100_000);
    let full = set.bytes();
    set.expire(START + SPAN / 10 * 9);
    assert!(set.len() < 20_000, "{}", set.len());
    assert!(set.bytes() < full / 4, "{} of {full}", set.bytes());
}

#[test]
fn over_the_cap_the_oldest_ends_cost_a_refresh() {
    let (set, env) = (
        ready(Bounds {
            cap: 10_000,
            ..BOUNDS
        }),
        TestEnv::new(START, 5),
    );
    let old = ended(&env, START - SPAN);
    let recent = ended(&env, START - Duration::from_secs(200));
    set.insert(old);
    set.insert(recent);
    fill(&set, &env, 12_000);
    set.expire(START);

    assert!((7_000..=8_750).contains(&set.len()), "{}", set.len());
    // An old token is refused whether its session ended or not; one minted now never is.
    let issued_at = START - SPAN + BOUNDS.skew;
    assert_eq!(
        set.check(old.session, issued_at, START),
        Err(Error::TokenExpired)
    );
    assert_eq!(
        set.check(SessionId::new(START, &env), issued_at, START),
        Err(Error::TokenExpired)
    );
    assert_eq!(check(&set, SessionId::new(START, &env)), Ok(()));
    assert_eq!(
        check(&set, recent.session),
        Err(Error::SessionEnded(recent.reason))
    );
}

#[test]
fn no_token_of_a_collapsed_session_passes() {
    let (set, env) = (
        ready(Bounds {
            cap: 1_000,
            ..BOUNDS
        }),
        TestEnv::new(START, 6),
    );
    let ends: Vec<_> = (0..3_000)
        .map(|i| ended(&env, START - SPAN * i / 3_000))
        .collect();
    for end in &ends {
        set.insert(*end);
    }
    set.expire(START);
    for end in ends {
        // Minted by a node whose clock is ahead by all the skew, at the moment of the end.
        assert!(set.check(end.session, end.at + BOUNDS.skew, START).is_err());
    }
}

#[test]
fn a_storm_of_ends_does_not_refuse_the_tokens_minted_in_it() {
    let (set, env) = (
        ready(Bounds {
            cap: 1_000,
            ..BOUNDS
        }),
        TestEnv::new(START, 7),
    );
    for _ in 0..5_000 {
        set.insert(ended(&env, START));
    }
    set.expire(START);
    assert_eq!(check(&set, SessionId::new(START, &env)), Ok(()));
    assert_eq!(set.len(), 5_000);
    set.expire(START + Duration::from_secs(130));
    assert!(set.len() <= 1_000, "{}", set.len());
}

/// A feed that a test fills, of which the last eight can be read.
#[derive(Default)]
struct Tape {
    ends: Mutex<Vec<Ended>>,
    broken: AtomicBool,
    reloads: AtomicU64,
}

impl Tape {
    fn publish(&self, end: Ended) {
        self.ends.lock().unwrap().push(end);
    }
}

impl Feed for Tape {
    fn head(&self) -> u64 {
        self.ends.lock().unwrap().len() as u64
    }

    fn read(&self, from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        let ends = self.ends.lock().unwrap();
        let from = usize::try_from(from).unwrap();
        if ends.len() - from > 8 {
            return Err(Lapped);
        }
        ends[from..].iter().copied().for_each(entry);
        Ok(ends.len() as u64)
    }

    fn reload(&self, entry: &mut dyn FnMut(Ended)) -> Result<u64, StoreError> {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError("broken".into()));
        }
        let ends = self.ends.lock().unwrap();
        ends.iter().copied().for_each(entry);
        Ok(ends.len() as u64)
    }
}

fn fed() -> (Arc<Tape>, Revocations, TestEnv) {
    let tape = Arc::new(Tape::default());
    let feed: Arc<dyn Feed> = Arc::clone(&tape) as _;
    let set = Revocations::new(BOUNDS, Some(feed));
    set.synced(START);
    (tape, set, TestEnv::new(START, 9))
}

#[test]
fn an_end_published_elsewhere_is_refused_at_the_next_check() {
    let (tape, set, env) = fed();
    for _ in 0..100 {
        let end = ended(&env, START);
        assert_eq!(check(&set, end.session), Ok(()));
        tape.publish(end);
        assert_eq!(
            check(&set, end.session),
            Err(Error::SessionEnded(end.reason))
        );
    }
    assert_eq!(tape.reloads.load(Ordering::SeqCst), 0);
}

#[test]
fn a_lapped_reader_reads_the_log_once() {
    let (tape, set, env) = fed();
    let ends: Vec<_> = (0..9).map(|_| ended(&env, START)).collect();
    for end in &ends {
        tape.publish(*end);
    }
    for end in ends {
        assert_eq!(
            check(&set, end.session),
            Err(Error::SessionEnded(end.reason))
        );
    }
    assert_eq!(tape.reloads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_log_that_cannot_be_read_refuses_everything_until_it_can() {
    let (tape, set, env) = fed();
    tape.broken.store(true, Ordering::SeqCst);
    for _ in 0..9 {
        tape.publish(ended(&env, START));
    }
    assert_eq!(
        check(&set, SessionId([7; 16])),
        Err(Error::StoreUnavailable)
    );
    tape.broken.store(false, Ordering::SeqCst);
    assert_eq!(check(&set, SessionId([7; 16])), Ok(()));
}

#[test]
fn whoever_checks_while_another_catches_up_waits_for_it() {
    let (tape, set, env) = fed();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (tape, set) = (&tape, &set);
            let env = TestEnv::new(START, env.random());
            scope.spawn(move || {
                for _ in 0..5_000 {
                    let end = ended(&env, START);
                    tape.publish(end);
                    assert_eq!(
                        check(set, end.session),
                        Err(Error::SessionEnded(end.reason))
                    );
                }
            });
        }
    });
}
