use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use doorward_core::revocation::Lapped;

use super::*;

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("doorward-ring-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn ring(&self) -> PathBuf {
        self.0.join("test.db-ring")
    }

    fn open(&self) -> Ring {
        Ring::open(&self.ring()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn end(number: u64) -> Ended {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let reason = EndReason::ALL[usize::try_from(number % 10).unwrap()];
    Ended {
        session: SessionId(id),
        at: Timestamp(number.cast_signed()),
        reason,
    }
}

fn ends(numbers: std::ops::Range<u64>) -> Vec<Ended> {
    numbers.map(end).collect()
}

fn read(ring: &Ring, from: u64) -> Result<Vec<Ended>, Lapped> {
    let mut read = Vec::new();
    let head = ring.read(from, &mut |end| read.push(end))?;
    assert_eq!(head - from, read.len() as u64);
    Ok(read)
}

#[test]
fn what_one_appends_another_reads_in_order() {
    let dir = Dir::new();
    let (writer, reader) = (dir.open(), dir.open());
    assert_eq!(reader.head(), 0);
    writer.append(&ends(0..3)).unwrap();
    reader.append(&ends(3..5)).unwrap();
    assert_eq!(reader.head(), 5);
    assert_eq!(read(&reader, 0), Ok(ends(0..5)));
    assert_eq!(read(&writer, 4), Ok(ends(4..5)));
    assert_eq!(read(&writer, 5), Ok(vec![]));
}

#[test]
fn times_before_the_epoch_come_back() {
    let dir = Dir::new();
    let ring = dir.open();
    let old = Ended {
        at: Timestamp(-1),
        ..end(1)
    };
    ring.append(&[old]).unwrap();
    assert_eq!(read(&ring, 0), Ok(vec![old]));
}

#[test]
fn a_reader_that_lags_by_more_than_the_ring_is_told() {
    let dir = Dir::new();
    let ring = dir.open();
    for start in (0..CAPACITY + 1_000).step_by(1_000) {
        ring.append(&ends(start..start + 1_000)).unwrap();
    }
    let head = ring.head();
    assert_eq!(read(&ring, head - CAPACITY - 1), Err(Lapped));
    assert_eq!(
        read(&ring, head - CAPACITY),
        Ok(ends(head - CAPACITY..head))
    );
}

#[test]
fn an_append_of_more_than_the_ring_keeps_the_last() {
    let dir = Dir::new();
    let ring = dir.open();
    ring.append(&ends(0..10)).unwrap();
    ring.append(&ends(10..2 * CAPACITY + 5)).unwrap();
    assert_eq!(ring.head(), 2 * CAPACITY + 5);
    assert_eq!(
        read(&ring, CAPACITY + 5),
        Ok(ends(CAPACITY + 5..2 * CAPACITY + 5))
    );
    assert_eq!(read(&ring, CAPACITY + 4), Err(Lapped));
}

#[test]
fn a_position_ahead_of_the_ring_is_lapped() {
    let dir = Dir::new();
    assert_eq!(read(&dir.open(), 1), Err(Lapped));
}

#[test]
fn a_writer_that_died_half_way_published_nothing() {
    let dir = Dir::new();
    let ring = dir.open();
    ring.append(&ends(0..CAPACITY)).unwrap();
    let file = open_own(&mut OpenOptions::new(), &dir.ring()).unwrap();
    // All but the last step of an append of three.
    write_word(&file, LIMIT_AT, CAPACITY + 3).unwrap();
    write_entries(&file, CAPACITY, &ends(900_000..900_003)).unwrap();

    assert_eq!(ring.head(), CAPACITY);
    assert_eq!(read(&ring, 0), Err(Lapped));
    assert_eq!(read(&ring, 3), Ok(ends(3..CAPACITY)));
    ring.append(&[end(CAPACITY)]).unwrap();
    assert_eq!(read(&ring, CAPACITY), Ok(vec![end(CAPACITY)]));
}

#[test]
fn what_a_writer_may_be_overwriting_is_not_read() {
    let dir = Dir::new();
    let ring = dir.open();
    ring.append(&ends(0..CAPACITY)).unwrap();
    assert_eq!(ring.word(LIMIT_AT), CAPACITY);
    let file = open_own(&mut OpenOptions::new(), &dir.ring()).unwrap();
    // The first step of an append of two, by somebody who is about to write their entries.
    write_word(&file, LIMIT_AT, CAPACITY + 2).unwrap();
    assert_eq!(read(&ring, 1), Err(Lapped));
    assert_eq!(read(&ring, 2), Ok(ends(2..CAPACITY)));
    // It died; a shorter append leaves what it may have touched alone.
    ring.append(&[end(CAPACITY)]).unwrap();
    assert_eq!(read(&ring, 1), Err(Lapped));
    assert_eq!(read(&ring, 2), Ok(ends(2..CAPACITY + 1)));
}

#[test]
fn a_damaged_head_is_an_error_to_writers() {
    let dir = Dir::new();
    let ring = dir.open();
    let file = open_own(&mut OpenOptions::new(), &dir.ring()).unwrap();
    write_word(&file, HEAD_AT, u64::MAX).unwrap();
    assert_eq!(
        ring.append(&ends(0..1)).unwrap_err().kind(),
        ErrorKind::InvalidData
    );
    assert_eq!(read(&ring, 0), Err(Lapped));
}

#[test]
fn an_entry_of_another_lap_is_never_taken_for_this_one() {
    let dir = Dir::new();
    let ring = dir.open();
    ring.append(&ends(0..10)).unwrap();
    let file = open_own(&mut OpenOptions::new(), &dir.ring()).unwrap();
    // As after a power cut: the head reached the disk, the entries did not.
    write_word(&file, HEAD_AT, CAPACITY + 5).unwrap();
    write_word(&file, LIMIT_AT, CAPACITY + 5).unwrap();
    assert_eq!(read(&ring, CAPACITY), Err(Lapped));
}

#[test]
fn threads_append_without_losing_an_end() {
    let dir = Dir::new();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let ring = dir.open();
            scope.spawn(move || {
                for i in 0..500 {
                    ring.append(&ends(writer * 1_000 + i..writer * 1_000 + i + 1))
                        .unwrap();
                }
            });
        }
    });
    let mut all = read(&dir.open(), 0).unwrap();
    all.sort_by_key(|end| end.at);
    let expected: Vec<_> = (0..4)
        .flat_map(|w| ends(w * 1_000..w * 1_000 + 500))
        .collect();
    assert_eq!(all, expected);
}

#[test]
fn a_reader_beside_a_fast_writer_never_sees_half_an_entry() {
    let dir = Dir::new();
    std::thread::scope(|scope| {
        let ring = dir.open();
        let writer = scope.spawn(move || {
            for start in (0..2_000_000).step_by(5_000) {
                ring.append(&ends(start..start + 5_000)).unwrap();
            }
        });
        let ring = dir.open();
        let (mut from, mut lapped) = (0, 0);
        while !writer.is_finished() || from != ring.head() {
            // Lagging on purpose: where the writer is about to overwrite.
            let lag = ring.head().saturating_sub(CAPACITY - 3_000);
            from = from.max(lag);
            if let Ok(read) = read(&ring, from) {
                assert_eq!(read, ends(from..from + read.len() as u64));
                from += read.len() as u64;
            } else {
                lapped += 1;
                from = ring.head();
            }
        }
        println!("lapped {lapped} times");
    });
}

#[test]
fn the_file_is_private_whatever_it_was() {
    let dir = Dir::new();
    let mode = || std::fs::metadata(dir.ring()).unwrap().mode() & 0o777;
    dir.open();
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(dir.ring(), Permissions::from_mode(0o666)).unwrap();
    dir.open();
    assert_eq!(mode(), 0o600);
}

#[test]
fn what_is_not_our_own_ring_is_refused() {
    let refused = |prepare: &dyn Fn(&Dir)| {
        let dir = Dir::new();
        prepare(&dir);
        Ring::open(&dir.ring()).err().map(|error| error.kind())
    };
    let other = |dir: &Dir| dir.0.join("other");
    let write = |path: PathBuf, bytes: &[u8]| std::fs::write(path, bytes).unwrap();

    let link = refused(&|dir| {
        write(other(dir), b"");
        symlink(other(dir), dir.ring()).unwrap();
    });
    assert!(link.is_some());
    let second_name = refused(&|dir| {
        write(other(dir), b"");
        std::fs::hard_link(other(dir), dir.ring()).unwrap();
    });
    assert_eq!(second_name, Some(ErrorKind::PermissionDenied));
    let directory = refused(&|dir| std::fs::create_dir(dir.ring()).unwrap());
    assert_eq!(directory, Some(ErrorKind::IsADirectory));
    let text = refused(&|dir| write(dir.ring(), b"notes"));
    assert_eq!(text, Some(ErrorKind::InvalidData));
    let length = usize::try_from(WORDS * WORD).unwrap();
    let another_version = refused(&|dir| write(dir.ring(), &vec![1; length]));
    assert_eq!(another_version, Some(ErrorKind::InvalidData));
}

#[test]
fn a_maker_that_died_half_way_leaves_a_ring_that_opens() {
    let dir = Dir::new();
    File::create(dir.ring())
        .unwrap()
        .set_len(WORDS * WORD)
        .unwrap();
    let ring = dir.open();
    ring.append(&ends(0..2)).unwrap();
    assert_eq!(read(&ring, 0), Ok(ends(0..2)));
}

#[test]
fn appending_to_a_replaced_file_fails() {
    let dir = Dir::new();
    let ring = dir.open();
    std::fs::remove_file(dir.ring()).unwrap();
    assert_eq!(
        ring.append(&ends(0..1)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    dir.open();
    assert_eq!(
        ring.append(&ends(0..1)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_stopped_writer_does_not_stop_the_others_for_ever() {
    let dir = Dir::new();
    let ring = dir.open();
    let file = open_own(&mut OpenOptions::new(), &dir.ring()).unwrap();
    lock(&file).unwrap();
    assert_eq!(
        ring.append(&ends(0..1)).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    drop(file);
    ring.append(&ends(0..1)).unwrap();
}
