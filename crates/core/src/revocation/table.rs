//! One shard of the set: a hash table of 12 bytes a slot, kept in order of its keys.
//!
//! Linear probing over keys that are uniformly distributed: an entry stands at its home, a share of
//! the table equal to the key's share of all keys, or as close behind it as the entries before it
//! allow. So the whole table is sorted, with gaps: a search for what is not there ends at the
//! first greater key, four slots on average in the fullest table; growing copies from front to
//! back; removing moves entries forward in place.

use super::Ended;
use crate::env::Timestamp;
use crate::id::SessionId;
use crate::session::EndReason;

/// The fullest that a table becomes, in percent.
const FULL: usize = 85;
/// How much it then grows, in percent: from 85 % full to 68 %, 17.6 bytes an entry at the most.
const GROWTH: usize = 125;
/// Below this, in percent, a swept table gives memory back.
const SPARSE: usize = 50;
/// The fewest homes of a table that holds anything.
const FEWEST: usize = 16;
/// Slots behind the last home, for entries that others pushed there.
const SPILL: usize = 32;
const SECONDS_BITS: u32 = 28;

/// Reasons take four bits, and 0 is an empty slot.
const _: () = assert!(EndReason::ALL.len() < 16);

/// The random half of a session id, mixed so that any ids spread evenly. Mixing is one to one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(session: SessionId) -> Key {
        let mut random = [0; 8];
        random.copy_from_slice(&session.0[8..]);
        let mut z = u64::from_be_bytes(random);
        z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        Key(z ^ (z >> 32))
    }

    /// Which of 64.
    pub(super) fn shard(self) -> usize {
        usize::from((self.0 >> 58) as u8)
    }

    /// Which of `homes`, in the order of the keys of one shard.
    fn home(self, homes: usize) -> usize {
        let share = u128::from(self.0 << 6) * homes as u128;
        usize::try_from(share >> 64).unwrap_or(0)
    }
}

/// When and why, in 32 bits: seconds modulo 2^28 (eight years), rounded up, and the reason.
#[derive(Clone, Copy)]
struct When(u32);

impl When {
    const EMPTY: When = When(0);

    fn of(end: &Ended) -> When {
        When(low_bits(seconds_up(end.at)) << 4 | u32::from(end.reason as u8))
    }

    fn reason(self) -> Option<EndReason> {
        EndReason::from_code((self.0 & 15) as u8)
    }

    /// Seconds from then to `now`; negative when the end lies in the future.
    fn age(self, now: i64) -> i64 {
        let age = low_bits(now).wrapping_sub(self.0 >> 4);
        i64::from((age << 4).cast_signed() >> 4)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "modulo 2^28 is what is meant"
)]
fn low_bits(seconds: i64) -> u32 {
    seconds.cast_unsigned() as u32 & ((1 << SECONDS_BITS) - 1)
}

fn seconds_up(at: Timestamp) -> i64 {
    Timestamp(at.0.saturating_add(999)).seconds()
}

/// An entry, or an empty place for one. Two halves of the key, so that it takes no padding.
#[derive(Clone, Copy)]
struct Slot {
    high: u32,
    low: u32,
    when: When,
}

const _: () = assert!(size_of::<Slot>() == 12);

impl Slot {
    const EMPTY: Slot = Slot {
        high: 0,
        low: 0,
        when: When::EMPTY,
    };

    #[expect(clippy::cast_possible_truncation, reason = "cut into its two halves")]
    fn new(key: Key, when: When) -> Slot {
        Slot {
            high: (key.0 >> 32) as u32,
            low: key.0 as u32,
            when,
        }
    }

    fn key(self) -> Key {
        Key(u64::from(self.high) << 32 | u64::from(self.low))
    }

    fn is_empty(self) -> bool {
        self.when.0 == 0
    }
}

/// The ended sessions of one shard.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    homes: usize,
    len: usize,
    /// No entry ended before this second.
    oldest: Option<i64>,
}

impl Table {
    /// Why the session ended, if it did.
    pub(super) fn reason(&self, key: Key) -> Option<EndReason> {
        let at = self.find(key).ok()?;
        self.slots[at].when.reason()
    }

    /// Adds an end, and says whether it is new. The first reason stays.
    pub(super) fn insert(&mut self, key: Key, end: &Ended) -> bool {
        let Err(at) = self.find(key) else {
            return false;
        };
        let ended = seconds_up(end.at);
        self.oldest = Some(self.oldest.map_or(ended, |oldest| oldest.min(ended)));
        self.place(at, Slot::new(key, When::of(end)));
        true
    }

    /// Whether some entry may be older than `age` seconds: nothing is read to tell.
    pub(super) fn is_older(&self, age: i64, now: i64) -> bool {
        self.oldest
            .is_some_and(|oldest| now.saturating_sub(oldest) > age)
    }

    /// Forgets what is older than `age` seconds; returns how many went.
    pub(super) fn sweep(&mut self, age: i64, now: i64) -> usize {
        let before = self.len;
        let (mut free, mut greatest_age) = (0, None);
        self.len = 0;
        for at in 0..self.slots.len() {
            let slot = std::mem::replace(&mut self.slots[at], Slot::EMPTY);
            let slot_age = slot.when.age(now);
            if slot.is_empty() || slot_age > age {
                continue;
            }
            // Never behind where it stood: entries before it only went away.
            let to = slot.key().home(self.homes).max(free);
            self.slots[to] = slot;
            free = to + 1;
            self.len += 1;
            greatest_age = greatest_age.max(Some(slot_age));
        }
        self.oldest = greatest_age.map(|age| now - age);
        if self.homes > FEWEST && self.len * 100 < self.homes * SPARSE {
            self.resize((self.len * GROWTH).div_ceil(FULL).max(FEWEST));
        }
        before - self.len
    }

    /// The age of each entry, in seconds.
    pub(super) fn ages(&self, now: i64) -> impl Iterator<Item = i64> {
        let taken = self.slots.iter().filter(|slot| !slot.is_empty());
        taken.map(move |slot| slot.when.age(now))
    }

    /// Bytes of memory taken.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Where the key is, or where it belongs.
    fn find(&self, key: Key) -> Result<usize, usize> {
        let first = key.home(self.homes);
        let mut at = first;
        for slot in self.slots.iter().skip(first) {
            if slot.is_empty() || slot.key() > key {
                return Err(at);
            }
            if slot.key() == key {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    /// Puts a slot before those that are greater, which move up as far as the next gap.
    fn place(&mut self, at: usize, slot: Slot) {
        let gap = self.slots.iter().skip(at).position(|slot| slot.is_empty());
        let Some(gap) = gap.filter(|_| self.len * 100 < self.homes * FULL) else {
            self.resize((self.homes * GROWTH).div_ceil(100).max(FEWEST));
            let (Ok(at) | Err(at)) = self.find(slot.key());
            return self.place(at, slot);
        };
        self.slots.copy_within(at..at + gap, at + 1);
        self.slots[at] = slot;
        self.len += 1;
    }

    fn resize(&mut self, homes: usize) {
        let mut slots = Vec::new();
        slots.reserve_exact(homes + SPILL);
        for slot in self.slots.iter().filter(|slot| !slot.is_empty()) {
            let home = slot.key().home(homes);
            slots.resize(slots.len().max(home), Slot::EMPTY);
            slots.push(*slot);
        }
        slots.resize(slots.len().max(homes + SPILL), Slot::EMPTY);
        self.slots = slots;
        self.homes = homes;
    }
}
