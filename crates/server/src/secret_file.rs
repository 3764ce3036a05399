//! Files that hold a secret: read only if nobody else could have read or replaced them.
//!
//! The rule is that of `PostgreSQL` for its key file: it belongs to this process's user and nobody else has
//! any right to it, or to root, and then its group may read it. Links are followed, as Kubernetes and
//! certbot make them, if they are this user's or root's too. What is checked is the open file, so
//! that nothing can be put in its place in between.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Longer is no key and no file of settings.
const LONGEST: u64 = 1024 * 1024;
const ROOT: u32 = 0;
const OF_OTHERS: u32 = 0o077;
const OF_OTHERS_BUT_GROUP_READS: u32 = 0o037;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Why it was not read, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Unread(#[from] io::Error),
    #[error("is no regular file")]
    NoFile,
    #[error("is too long for what it should be")]
    TooLong,
    #[error("belongs to another user, who may change it: copy it to a file of the server's user")]
    OfAnother,
    #[error(
        "others may read or change it (mode {0:03o}): chmod 600, and make a new secret if they are not trusted"
    )]
    Open(u32),
    #[error("is reached by a link of another user: name the file itself")]
    LinkOfAnother,
    #[error("lies in a directory where everybody may put another in its place: move it")]
    InOpenDirectory,
}

/// The bytes of a file that holds a secret.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let (bytes, found) = read_any(path)?;
    check(path, &found)?;
    Ok(bytes)
}

/// The bytes of a file that may hold one, and what [`check`] asks for if it does.
pub(crate) fn read_any(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), Refused> {
    // A pipe would keep the opener waiting.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Refused::NoFile);
    }
    if found.len() > LONGEST {
        return Err(Refused::TooLong);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok((bytes, found))
}

/// Whether only this user and root could have read or written the file.
pub(crate) fn check(path: &Path, found: &Metadata) -> Result<(), Refused> {
    let of_root = found.uid() == ROOT;
    let denied = if of_root {
        OF_OTHERS_BUT_GROUP_READS
    } else {
        OF_OTHERS
    };
    if !is_trusted(found.uid()) {
        return Err(Refused::OfAnother);
    }
    if found.mode() & denied != 0 {
        return Err(Refused::Open(found.mode() & 0o777));
    }
    check_place(path)
}

/// The name that was given, and the one that it leads to.
fn check_place(path: &Path) -> Result<(), Refused> {
    let named = fs::symlink_metadata(path)?;
    if named.is_symlink() {
        if !is_trusted(named.uid()) {
            return Err(Refused::LinkOfAnother);
        }
        check_directory(&fs::canonicalize(path)?)?;
    }
    check_directory(path)
}

fn check_directory(path: &Path) -> Result<(), Refused> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::metadata(parent.unwrap_or(Path::new(".")))?;
    // In a sticky one, as /tmp, only the owner replaces a file.
    let is_open = directory.mode() & OTHERS_WRITE != 0 && directory.mode() & STICKY == 0;
    if is_open || !is_trusted(directory.uid()) {
        return Err(Refused::InOpenDirectory);
    }
    Ok(())
}

fn is_trusted(owner: u32) -> bool {
    owner == ROOT || owner == rustix::process::geteuid().as_raw()
}
