use std::sync::Mutex;

use pollster::FutureExt as _;

use super::*;
use crate::env::{Env, SystemEnv};
use crate::keys::{KeyConfig, KeyRing};
use crate::memory::MemoryStore;
use crate::policy::Policy;
use crate::revocation::{Bounds, Revocations};
use crate::service::{Service, Terms};
use crate::session::{Delivery, Device};
use crate::store::Store;
use crate::{Identity, UserId};

#[test]
fn each_value_is_in_the_first_bucket_that_holds_it() {
    let sizes = Histogram::new(&SIZES);
    for size in [1, 2, 2, 3, 5_000] {
        sizes.observe(size);
    }
    let up_to: Vec<_> = sizes.up_to().take(3).collect();
    assert_eq!(up_to, [(1, 1), (2, 3), (4, 4)]);
    assert_eq!((sizes.count(), sizes.sum()), (5, 5_008));
    assert_eq!(sizes.up_to().last(), Some((4_096, 4)));
}

#[test]
fn who_waits_is_counted_until_it_is_over() {
    let meter = Arc::new(Meter::default());
    let waiting = [meter.wait(), meter.wait()];
    assert_eq!(meter.waiting.load(Ordering::Relaxed), 2);
    meter.begin(Batch::Write, &waiting);
    drop(waiting);
    assert_eq!(meter.waiting.load(Ordering::Relaxed), 0);
    let written = &meter.batches[Batch::Write as usize];
    assert_eq!((written.sizes.count(), written.sizes.sum()), (1, 2));
    assert_eq!(written.waits.count(), 2);
}

#[test]
fn an_end_by_a_clock_that_is_ahead_is_heard_at_once_and_not_before() {
    let meter = Meter::default();
    meter.heard(Way::Polled, Timestamp(2_000), Timestamp(1_000));
    meter.heard(Way::Polled, Timestamp(1_000), Timestamp(2_500));
    let polled = &meter.lags[Way::Polled as usize];
    assert_eq!((polled.count(), polled.sum()), (2, 1_500_000));
}

/// What measuring costs, as a share of a refresh in memory, where no disk hides it: a refresh is two
/// operations and one wait. In turns, so that all see the same machine; the least of each counts.
#[test]
#[ignore = "a measurement"]
fn measuring_costs_a_refresh_little() {
    let bare: Arc<dyn Store> = Arc::new(MemoryStore::new(Policy::default()));
    let measured: Arc<dyn Store> = Arc::new(Measured::new(Arc::clone(&bare)));
    let load = |store: &Arc<dyn Store>| {
        store.load(crate::SessionId([7; 16])).block_on().unwrap();
    };
    let (refresh, meter) = (refreshing(), Arc::new(Meter::default()));
    let works: [&dyn Fn(); 4] = [&refresh, &|| load(&bare), &|| load(&measured), &|| {
        meter.begin(Batch::Write, [&meter.wait()]);
    }];
    let mut least = [Duration::MAX; 4];
    for _ in 0..200 {
        for (least, work) in least.iter_mut().zip(works) {
            *least = timed(work).min(*least);
        }
    }
    let [refresh, bare, measured, wait] = least;
    let cost = 2 * measured.saturating_sub(bare) + wait;
    let share = 100.0 * cost.as_secs_f64() / refresh.as_secs_f64();
    println!("of a refresh ({refresh:?}) measuring takes {cost:?}, {share:.1} %");
}

fn timed(work: &dyn Fn()) -> Duration {
    const ROUNDS: u32 = 200;
    let start = now();
    (0..ROUNDS).for_each(|_| work());
    start.elapsed() / ROUNDS
}

/// Refreshes one session again and again.
fn refreshing() -> impl Fn() {
    let policy = Policy::default();
    let env: Arc<dyn Env> = Arc::new(SystemEnv);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(policy.clone()));
    let keys = KeyRing::open(&*store, KeyConfig::default(), &policy, Arc::clone(&env));
    let keys = Arc::new(keys.block_on().unwrap());
    let revocations = Arc::new(Revocations::new(Bounds::of(&policy), None));
    let service = Service::new(Arc::clone(&store), keys, revocations, policy, env);
    let user = UserId::new("ada").unwrap();
    let identity = Identity {
        valid_from: Some(store.valid_from(&user).block_on().unwrap()),
        user,
        username: None,
        claims: None,
        privileged: false,
    };
    let terms = Terms {
        started_at: service.now(),
        remember: false,
        delivery: Delivery::Body,
        device: Device::default(),
        replaces: None,
    };
    let (granted, _) = service.login(identity, terms).block_on();
    let token = Mutex::new(granted.unwrap().refresh);
    move || {
        let mut token = token.lock().unwrap();
        let (refreshed, _) = service.refresh(token.as_str(), Delivery::Body).block_on();
        *token = service.grant(refreshed.unwrap()).unwrap().refresh;
    }
}
