//! What happens when: events in order of time, a bucket for each second.
//!
//! Only the bucket of the second under way is kept in order, so that ten million events that wait
//! cost no more each than ten.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;

/// Milliseconds since the world began.
pub type Millis = u32;

/// Events up to a horizon. Of events at one time the lesser comes first: order is a matter of
/// values alone.
pub struct Agenda<T> {
    seconds: Vec<Vec<(Millis, T)>>,
    second: usize,
    current: BinaryHeap<Reverse<(Millis, T)>>,
}

impl<T: Ord> Agenda<T> {
    /// Nothing planned.
    #[must_use]
    pub fn until(horizon: Millis) -> Agenda<T> {
        let seconds = (0..=horizon / 1000).map(|_| Vec::new()).collect();
        Agenda {
            seconds,
            second: 0,
            current: BinaryHeap::new(),
        }
    }

    /// Plans an event. What lies past the horizon never happens.
    pub fn plan(&mut self, at: Millis, what: T) {
        let second = (at / 1000) as usize;
        if second <= self.second {
            self.current.push(Reverse((at, what)));
        } else if let Some(bucket) = self.seconds.get_mut(second) {
            bucket.push((at, what));
        }
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<(Millis, T)> {
        loop {
            if let Some(Reverse(event)) = self.current.pop() {
                return Some(event);
            }
            self.second += 1;
            let bucket = mem::take(self.seconds.get_mut(self.second)?);
            self.current = bucket.into_iter().map(Reverse).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_value() {
        let mut agenda = Agenda::until(10_000);
        for (at, what) in [(9_000, 1), (70, 3), (70, 2), (3_500, 4), (20_000, 5)] {
            agenda.plan(at, what);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, [(70, 2), (70, 3), (3_500, 4), (9_000, 1)]);
    }

    #[test]
    fn an_event_may_plan_one_in_its_own_second() {
        let mut agenda = Agenda::until(10_000);
        agenda.plan(1_200, 0);
        assert_eq!(agenda.pop(), Some((1_200, 0)));
        agenda.plan(1_900, 2);
        agenda.plan(1_300, 1);
        assert_eq!(agenda.pop(), Some((1_300, 1)));
        assert_eq!(agenda.pop(), Some((1_900, 2)));
        assert_eq!(agenda.pop(), None);
    }
}
