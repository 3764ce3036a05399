//! The passwords of data breaches, in the k-anonymity format of Pwned Passwords, on this machine.
//!
//! Nothing is loaded: each check opens what was named, so that a newer file which takes its place
//! counts at once, and reads some thirty short pieces of it, or one range.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::Password;

/// Longer than any line: 40 digits, a colon, a count, the line's end.
const LINE: usize = 80;
/// Larger than any range: some 2,000 lines.
const RANGE: u64 = 1024 * 1024;

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breached {
    /// One file of lines `SHA1:COUNT`, sorted.
    File(PathBuf),
    /// A directory of one file for each first five digits, `00000` to `FFFFF`, or `00000.txt` to
    /// `FFFFF.txt`, with lines of the other 35: `SUFFIX:COUNT`.
    Ranges(PathBuf),
}

impl Breached {
    /// Whichever of the two a path is, after a look at its first and last line or range.
    ///
    /// # Errors
    /// What cannot be used, in words.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if path.metadata()?.is_dir() {
            for first in ["00000", "FFFFF"] {
                is_in(&range(&path, first)?, "")?;
            }
            Ok(Breached::Ranges(path))
        } else {
            let lines = Lines::open(&path)?;
            lines
                .around(0)
                .and_then(|_| lines.around(lines.length.saturating_sub(1)))?;
            Ok(Breached::File(path))
        }
    }

    /// Whether it is one of them.
    ///
    /// # Errors
    /// The file cannot be read, or is not what it should be.
    pub fn contains(&self, password: &Password) -> io::Result<bool> {
        let hash = sha1(password.as_str());
        match self {
            Breached::File(path) => Lines::open(path)?.contains(&hash),
            Breached::Ranges(path) => {
                let (first, rest) = hash.split_at(5);
                is_in(&range(path, first)?, rest)
            }
        }
    }
}

/// A key to look up by, which protects nothing; in upper-case hex.
fn sha1(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Upper-case digits, and how often they were seen. Ranges are padded with what was never seen.
fn parse(line: &str, digits: usize) -> io::Result<(&str, bool)> {
    let split = line.trim_end_matches(['\r', '\n']).split_once(':');
    let is_upper_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    split
        .filter(|(hash, _)| hash.len() == digits && hash.bytes().all(is_upper_hex))
        .and_then(|(hash, count)| Some((hash, count.parse::<u64>().ok()? > 0)))
        .ok_or_else(|| malformed("a line is not a SHA-1 in upper-case hex, a colon and a count"))
}

/// The text of a range.
fn range(directory: &Path, first: &str) -> io::Result<String> {
    let named = |name: String| File::open(directory.join(name));
    let file = match named(first.to_owned()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => named(format!("{first}.txt")),
        opened => opened,
    };
    let file = file.map_err(|error| io::Error::new(error.kind(), format!("{first}: {error}")))?;
    let mut text = String::new();
    file.take(RANGE).read_to_string(&mut text)?;
    if text.len() as u64 == RANGE {
        return Err(malformed("a range is larger than ranges are"));
    }
    Ok(text)
}

fn is_in(range: &str, rest: &str) -> io::Result<bool> {
    let mut found = false;
    for line in range.trim_start_matches('\u{feff}').lines() {
        let (hash, seen) = parse(line, 35)?;
        found |= seen && hash == rest;
    }
    Ok(found)
}

/// A sorted file.
struct Lines {
    file: File,
    length: u64,
}

/// A line: where it begins and ends, its hash, and whether that was ever seen.
struct Line {
    from: u64,
    to: u64,
    hash: String,
    seen: bool,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Lines { file, length })
    }

    fn contains(&self, hash: &str) -> io::Result<bool> {
        let (mut from, mut to) = (0, self.length);
        while from < to {
            let line = self.around(from.midpoint(to))?;
            match line.hash.as_str().cmp(hash) {
                std::cmp::Ordering::Equal => return Ok(line.seen),
                std::cmp::Ordering::Less => from = line.to,
                std::cmp::Ordering::Greater => to = line.from,
            }
        }
        Ok(false)
    }

    /// The line that a byte belongs to.
    fn around(&self, at: u64) -> io::Result<Line> {
        let start = at.saturating_sub(LINE as u64);
        let mut bytes = [0; 2 * LINE];
        let read = self.read(&mut bytes, start)?;
        let text = std::str::from_utf8(&bytes[..read]).map_err(|_| malformed("not a text"))?;
        let at = usize::try_from(at - start).unwrap_or(0);
        let (before, after) = text
            .split_at_checked(at)
            .ok_or_else(|| malformed("not a text"))?;
        let from = before.rfind('\n').map_or(0, |end| end + 1);
        let to = after.find('\n').map_or(read, |end| at + end + 1);
        let (hash, seen) = parse(&text[from..to], 40)?;
        Ok(Line {
            from: start + from as u64,
            to: start + to as u64,
            hash: hash.to_owned(),
            seen,
        })
    }

    /// As many bytes as there are.
    fn read(&self, bytes: &mut [u8], from: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read_at(&mut bytes[read..], from + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SEEN: [&str; 5] = ["one", "two", "three", "four", "five"];

    fn typed(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    fn sorted(ending: &str, texts: &[&str]) -> String {
        let line = |text: &&str| format!("{}:{}{ending}", sha1(text), text.len().pow(3));
        let mut lines: Vec<_> = texts.iter().map(line).collect();
        lines.sort();
        lines.concat()
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("breached.txt");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    /// All of the ranges that the texts and the ends need.
    fn ranges(suffix: &str, texts: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |first: &str| directory.path().join(format!("{first}{suffix}"));
        let padding = format!("{}:0\r\n", "0".repeat(35));
        for first in ["00000", "FFFFF"] {
            fs::write(path(first), &padding).unwrap();
        }
        for text in texts {
            let hash = sha1(text);
            let line = format!("{padding}{}:3\r\n{}:1", &hash[5..], "F".repeat(35));
            fs::write(path(&hash[..5]), line).unwrap();
        }
        directory
    }

    #[test]
    fn every_line_of_a_file_is_found_and_nothing_else() {
        let many: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for texts in [&SEEN[..], &SEEN[..1], &many] {
            for ending in ["\n", "\r\n"] {
                let text = sorted(ending, texts);
                // With and without an end to the last line.
                for text in [text.as_str(), text.trim_end()] {
                    let (_directory, path) = file(text);
                    let breached = Breached::open(&path).unwrap();
                    assert_eq!(breached, Breached::File(path));
                    let contains = |text: &&str| breached.contains(&typed(text)).unwrap();
                    assert!(texts.iter().all(contains));
                    assert!(!(0..500).any(|number| contains(&&*format!("absent {number}"))));
                }
            }
        }
    }

    #[test]
    fn a_directory_of_ranges_is_searched_likewise() {
        for suffix in ["", ".txt"] {
            let directory = ranges(suffix, &SEEN);
            let breached = Breached::open(directory.path()).unwrap();
            assert_eq!(breached, Breached::Ranges(directory.path().into()));
            assert!(
                SEEN.iter()
                    .all(|text| breached.contains(&typed(text)).unwrap())
            );
            // A range that is not there says nothing about what would be in it.
            breached.contains(&typed("absent")).unwrap_err();
        }
    }

    #[test]
    fn a_password_is_looked_up_as_it_is_hashed() {
        let (_directory, path) = file(&sorted("\n", &["caf\u{e9} na\u{ef}f"]));
        let breached = Breached::open(path).unwrap();
        assert!(
            breached
                .contains(&typed("cafe\u{301} nai\u{308}f"))
                .unwrap()
        );
    }

    #[test]
    fn what_was_never_seen_is_padding() {
        let (_directory, path) = file(&format!("{}:0\n", sha1("one")));
        assert!(
            !Breached::open(path)
                .unwrap()
                .contains(&typed("one"))
                .unwrap()
        );
    }

    #[test]
    fn what_is_no_such_file_is_refused_in_words() {
        let lower = format!("{}:1\n", sha1("one").to_lowercase());
        let cases = [
            "",
            "\n",
            "password\n",
            "\u{feff}",
            &sha1("one"),
            &lower,
            &"0".repeat(500),
        ];
        for text in cases {
            let (_directory, path) = file(text);
            let error = Breached::open(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}: {error}");
        }
        Breached::open("/there/is/none").unwrap_err();
        let empty = tempfile::tempdir().unwrap();
        let error = Breached::open(empty.path()).unwrap_err().to_string();
        assert!(error.starts_with("00000: "), "{error}");
    }

    #[test]
    fn a_file_that_breaks_later_is_an_error_and_no_answer() {
        let (_directory, path) = file(&sorted("\n", &SEEN));
        let breached = Breached::open(&path).unwrap();
        for text in [
            "\u{0}\u{ff}".repeat(2000),
            "A".repeat(2000),
            ":".repeat(2000),
        ] {
            fs::write(&path, text).unwrap();
            breached.contains(&typed("one")).unwrap_err();
        }
        fs::remove_file(&path).unwrap();
        breached.contains(&typed("one")).unwrap_err();
    }
}
