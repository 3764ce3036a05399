//! Random ids for foreign tokens. Most of what the crypto library's generator costs is by call, so it is
//! asked for many at once.

use std::sync::{Mutex, TryLockError};

use aws_lc_rs::rand;
use zeroize::Zeroize;

use crate::id::SessionId;

/// Random bytes that nobody was given yet.
struct Pool {
    bytes: [u8; 2048],
    used: usize,
    /// Whose they are: a forked child gets others.
    process: u32,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    bytes: [0; 2048],
    used: 2048,
    process: 0,
});

/// Random UUIDs (RFC 9562, 5.4), for `jti` and the double submit. `None`: the generator failed.
#[must_use]
pub fn random_uuids<const COUNT: usize>() -> Option<[String; COUNT]> {
    let mut ids = [[0; 16]; COUNT];
    fill(ids.as_flattened_mut())?;
    Some(ids.map(|mut bytes| {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        // The grouping of RFC 9562 is that of a session's id.
        SessionId(bytes).to_string()
    }))
}

fn fill(out: &mut [u8]) -> Option<()> {
    match POOL.try_lock() {
        Ok(mut pool) => pool.fill(out),
        Err(TryLockError::Poisoned(pool)) => pool.into_inner().fill(out),
        // Another thread is at it; in a child perhaps one that did not come along.
        Err(TryLockError::WouldBlock) => rand::fill(out).ok(),
    }
}

impl Pool {
    fn fill(&mut self, out: &mut [u8]) -> Option<()> {
        let process = std::process::id();
        if self.process != process || self.bytes.len() - self.used < out.len() {
            rand::fill(&mut self.bytes).ok()?;
            (self.used, self.process) = (0, process);
        }
        let next = self.bytes.get_mut(self.used..self.used + out.len())?;
        out.copy_from_slice(next);
        next.zeroize();
        self.used += out.len();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_comes_twice_from_however_many_threads() {
        let ids = || (0..500).flat_map(|_| random_uuids::<2>().unwrap());
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(move || ids().collect::<Vec<_>>()))
            .collect();
        let all: Vec<_> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 8000);
        for id in all {
            let (version, variant) = (id.as_bytes()[14], id.as_bytes()[19]);
            assert!(version == b'4' && b"89ab".contains(&variant) && id.len() == 36);
        }
    }

    #[test]
    fn another_process_gets_others_and_what_was_given_is_forgotten() {
        let mut pool = Pool {
            bytes: [7; 2048],
            used: 0,
            process: std::process::id() + 1,
        };
        let mut id = [0; 16];
        pool.fill(&mut id).unwrap();
        assert!(id != [7; 16] && pool.bytes[..16] == [0; 16] && pool.bytes[16..32] != [7; 16]);
    }
}
