use super::*;
use crate::env::Timestamp;

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
