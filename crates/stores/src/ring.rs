//! How the processes of one machine hear of each other's ended sessions without a read: a ring of
//! the last 65,536 ends in a mapped file.
//!
//! Guarantees: what [`Ring::append`] returned from is seen by the next [`Ring::head`] of every
//! process; a reader gets whole entries, each once and in order, or learns that it was lapped.
//! A writer killed at any moment leaves no lock, no hole and no half entry behind: the head moves
//! last, and the kernel lets go of the lock.
//!
//! Readers map the file read-only, so none can damage it. Writers use plain writes under a file
//! lock: with a full disk those return an error, where a store to mapped memory would end the
//! process. Each append opens the file anew, so that the lock belongs to nobody else: not to
//! another thread, not to a child forked earlier.
//!
//! Leaves out: processes of other users, whom the file's mode keeps out, and other machines (a
//! network file system). They poll the store's log, as everybody does. A file that somebody of the
//! same user truncates ends its readers with SIGBUS; one that is replaced makes appends fail.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use doorward_core::Timestamp;
use doorward_core::id::SessionId;
use doorward_core::revocation::{Ended, Lapped};
use doorward_core::session::EndReason;
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::OFlags;

/// How many ends the ring holds: whoever lags by more reads the store's log.
pub const CAPACITY: u64 = 1 << 16;

// The file, in words of 8 bytes of the machine's own order. The head and the limit lie on cache
// lines of their own.
const MAGIC: u64 = u64::from_ne_bytes(*b"DWRDRNG1");
const MAGIC_AT: u64 = 0;
/// The position that writers may have overwritten up to, a whole ring later.
const LIMIT_AT: u64 = 8;
/// How many ends were ever published.
const HEAD_AT: u64 = 16;
const ENTRIES_AT: u64 = 512;
const ENTRY: u64 = 4;
const WORDS: u64 = ENTRIES_AT + CAPACITY * ENTRY;
const WORD: u64 = 8;

/// How often, and how long in between, a writer tries for the lock: 0.2 s, while others take
/// microseconds. Only a writer that was stopped in the middle makes it fail.
const TRIES: u32 = 1_000;
const PAUSE: Duration = Duration::from_micros(200);

/// The ring in one file.
pub struct Ring {
    map: MmapRaw,
    path: PathBuf,
    identity: (u64, u64),
}

impl Ring {
    /// Opens the ring, making it where there is none. Several processes may do so at once.
    ///
    /// # Errors
    /// The file is not a ring of this version, is not this user's own (a symlink, a hard link,
    /// another owner), or lies on a file system that cannot map it. The store then works by polling.
    pub fn open(path: &Path) -> io::Result<Ring> {
        if cfg!(not(target_pointer_width = "64")) {
            return Err(ErrorKind::Unsupported.into());
        }
        let path = std::path::absolute(path)?;
        let file = open_own(OpenOptions::new().create(true), &path)?;
        locked(&file, || initialize(&file))?;
        let metadata = file.metadata()?;
        let length = usize::try_from(WORDS * WORD).map_err(Error::other)?;
        let map = MmapOptions::new().len(length).map_raw_read_only(&file)?;
        Ok(Ring {
            map,
            path,
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Publishes ends, in this order, to every process that has the ring open.
    ///
    /// # Errors
    /// The file was replaced or the disk is full, or a writer that was stopped half-way holds the
    /// lock: other processes learn of these ends by their next poll.
    pub fn append(&self, ends: &[Ended]) -> io::Result<()> {
        let file = open_own(&mut OpenOptions::new(), &self.path)?;
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.identity {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the ring's file was replaced",
            ));
        }
        locked(&file, || self.publish(&file, ends))
    }

    /// First the limit, then the entries, then the head. Whatever is killed in between has
    /// published nothing, and at most made readers read the log that lagged by almost a ring.
    fn publish(&self, file: &File, ends: &[Ended]) -> io::Result<()> {
        let head = self.head();
        let next = head.checked_add(ends.len() as u64).ok_or_else(not_a_ring)?;
        write_word(file, LIMIT_AT, next.max(self.word(LIMIT_AT)))?;
        fence(Ordering::SeqCst);
        write_entries(file, head, ends)?;
        fence(Ordering::SeqCst);
        write_word(file, HEAD_AT, next)
    }

    /// How many ends were ever published.
    #[must_use]
    pub fn head(&self) -> u64 {
        let head = self.word(HEAD_AT);
        fence(Ordering::Acquire);
        head
    }

    /// Passes on the ends after `from`; returns the new position.
    ///
    /// # Errors
    /// More than [`CAPACITY`] were published since, or the file is not what it was: none was passed on.
    pub fn read(&self, from: u64, entry: &mut dyn FnMut(Ended)) -> Result<u64, Lapped> {
        let head = self.head();
        if from > head || head - from > CAPACITY {
            return Err(Lapped);
        }
        let copied: Option<Vec<Ended>> =
            (from..head).map(|position| self.entry(position)).collect();
        // After the copy: what a writer touched meanwhile lies below the limit it set before.
        fence(Ordering::Acquire);
        if self.word(LIMIT_AT).saturating_sub(from) > CAPACITY {
            return Err(Lapped);
        }
        copied.ok_or(Lapped)?.into_iter().for_each(entry);
        Ok(head)
    }

    /// `None`: not, or not wholly, the entry of this position.
    fn entry(&self, position: u64) -> Option<Ended> {
        let at = place(position);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.word(at).to_ne_bytes());
        id[8..].copy_from_slice(&self.word(at + 1).to_ne_bytes());
        let [reason, lap @ ..] = self.word(at + 3).to_le_bytes();
        Some(Ended {
            session: SessionId(id),
            at: Timestamp(self.word(at + 2).cast_signed()),
            reason: EndReason::from_code(reason).filter(|_| lap == lap_of(position))?,
        })
    }

    fn word(&self, at: u64) -> u64 {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        assert!(at < self.map.len() / size_of::<u64>(), "beyond the ring");
        #[expect(
            unsafe_code,
            clippy::cast_ptr_alignment,
            reason = "memory that other processes write to can be had in no other way"
        )]
        // SAFETY: the map starts at a page boundary, `at` lies within it, and it lives as long as
        // `self`. It is only ever read, as atomic words: a relaxed load of eight bytes is sound on
        // memory mapped read-only on every 64-bit target, and whatever bits it finds are a u64.
        unsafe {
            (*self.map.as_ptr().cast::<AtomicU64>().add(at)).load(Ordering::Relaxed)
        }
    }
}

/// The first word of a position's entry.
fn place(position: u64) -> u64 {
    ENTRIES_AT + position % CAPACITY * ENTRY
}

/// The position's low 56 bits: tells its entry from those that had the place before and after.
fn lap_of(position: u64) -> [u8; 7] {
    let [lap @ .., _] = position.to_le_bytes();
    lap
}

fn encode(position: u64, end: &Ended) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..16].copy_from_slice(&end.session.0);
    entry[16..24].copy_from_slice(&end.at.0.to_ne_bytes());
    let mut last = [0; 8];
    last[0] = end.reason as u8;
    last[1..].copy_from_slice(&lap_of(position));
    entry[24..].copy_from_slice(&u64::from_le_bytes(last).to_ne_bytes());
    entry
}

/// In one write, or two where the ring begins anew. Of more than the ring holds the last ones.
fn write_entries(file: &File, head: u64, ends: &[Ended]) -> io::Result<()> {
    let next = head + ends.len() as u64;
    let last = usize::try_from(CAPACITY).map_or(0, |capacity| ends.len().saturating_sub(capacity));
    let positions = head + last as u64..next;
    let mut run = Vec::new();
    let mut run_at = place(positions.start);
    for (position, end) in positions.zip(&ends[last..]) {
        if place(position) == ENTRIES_AT {
            file.write_all_at(&run, run_at * WORD)?;
            run.clear();
            run_at = ENTRIES_AT;
        }
        run.extend_from_slice(&encode(position, end));
    }
    file.write_all_at(&run, run_at * WORD)
}

fn write_word(file: &File, at: u64, word: u64) -> io::Result<()> {
    file.write_all_at(&word.to_ne_bytes(), at * WORD)
}

/// Opens a regular file of this user that has one name, 0600.
fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !ours || metadata.nlink() != 1 {
        let what = "the ring must be a regular file of this user, with no other name";
        return Err(Error::new(ErrorKind::PermissionDenied, what));
    }
    if metadata.mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Gives a new file its length and its magic number, or checks them. The caller holds the lock.
fn initialize(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        // Room that is really there: a full disk must not show as a signal in a reader.
        rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, WORDS * WORD)?;
    } else if length != WORDS * WORD {
        return Err(not_a_ring());
    }
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, MAGIC_AT * WORD)?;
    match u64::from_ne_bytes(magic) {
        MAGIC => Ok(()),
        // New, or whoever made it died before this line.
        0 => write_word(file, MAGIC_AT, MAGIC),
        _ => Err(not_a_ring()),
    }
}

fn not_a_ring() -> Error {
    let what = "not a ring of this version; remove the file while no process has it open";
    Error::new(ErrorKind::InvalidData, what)
}

/// Unlocks explicitly: a map, or a child forked this moment, would keep a closed file locked.
fn locked<T>(file: &File, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    lock(file)?;
    let done = work();
    file.unlock()?;
    done
}

fn lock(file: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(Error::new(
        ErrorKind::TimedOut,
        "a writer that was stopped holds the ring's lock",
    ))
}

#[cfg(test)]
mod tests;
