//! Which keys lie together: 4,096 tags, whose hash slots are an exactly even spread over a cluster.
//!
//! The tag of slot `k` is the first text of three letters and digits whose hash slot is `4 k`. That is part
//! of the format: another table would not find what this one put away.

use std::sync::OnceLock;

use doorward_core::id::UserId;

/// How many there are: the 12 bits that a session's id tells of its user.
pub(super) const TAGS: u16 = 4096;
/// Hash slots of a cluster.
pub(super) const HASH_SLOTS: u16 = 16_384;

/// A tag, as keys have it in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tag {
    /// A user's, and the sessions' of that user.
    Users(u16),
    /// Of both logs, and of what webhooks have still to send.
    Logs,
    /// Of the key ring.
    Keys,
    /// Of usernames, and of resets by their hashes.
    Names,
    /// Of what failed logins have cost.
    Throttle,
}

impl Tag {
    pub(super) fn of(user: &UserId) -> Tag {
        Tag::Users(user.slot())
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Tag::Users(slot) => {
                let tag = &table()[usize::from(slot % TAGS)];
                std::str::from_utf8(tag).unwrap_or_default()
            }
            Tag::Logs => "logs",
            Tag::Keys => "keys",
            Tag::Names => "names",
            Tag::Throttle => "throttle",
        }
    }

    /// Its hash slot in a cluster.
    pub(super) fn hash_slot(self) -> u16 {
        match self {
            Tag::Users(slot) => slot % TAGS * (HASH_SLOTS / TAGS),
            other => crc16(other.text().as_bytes()) % HASH_SLOTS,
        }
    }

    /// Every tag.
    pub(super) fn all() -> impl Iterator<Item = Tag> {
        let others = [Tag::Logs, Tag::Keys, Tag::Names, Tag::Throttle];
        Tag::users().chain(others)
    }

    /// Those of users.
    pub(super) fn users() -> impl Iterator<Item = Tag> {
        (0..TAGS).map(Tag::Users)
    }
}

fn table() -> &'static [[u8; 3]] {
    static TABLE: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let step = HASH_SLOTS / TAGS;
        let mut table = vec![[0; 3]; usize::from(TAGS)];
        for text in texts() {
            let slot = crc16(&text) % HASH_SLOTS;
            let tag = &mut table[usize::from(slot / step)];
            if slot.is_multiple_of(step) && *tag == [0; 3] {
                *tag = text;
            }
        }
        table
    })
}

fn texts() -> impl Iterator<Item = [u8; 3]> {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let pairs = LETTERS
        .iter()
        .flat_map(|a| LETTERS.iter().map(move |b| (*a, *b)));
    pairs.flat_map(|(a, b)| LETTERS.iter().map(move |c| [a, b, *c]))
}

/// CRC-16/XMODEM, by which a cluster tells hash slots.
fn crc16(text: &[u8]) -> u16 {
    text.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_a_cluster() {
        // From the cluster specification.
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn every_tag_lies_in_its_hash_slot_and_stays_what_it_was() {
        for tag in Tag::all() {
            assert_eq!(crc16(tag.text().as_bytes()) % HASH_SLOTS, tag.hash_slot());
        }
        assert_eq!(table().len(), 4096);
        let some = [0, 1, 2048, 4095].map(|slot| Tag::Users(slot).text());
        assert_eq!(some, GOLDEN);
    }

    const GOLDEN: [&str; 4] = ["06S", "4gY", "8YG", "2ad"];
}
