//! The rings that stores leave in memory for their next process: those of tests go when this process has
//! ended, however it ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use sha2::{Digest as _, Sha256};

/// `store` is its URL, as its `Display` says it.
pub(crate) fn removed_at_the_end(store: &str) {
    static REMOVES: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let mut name = format!("/dev/shm/doorward-{}-", rustix::process::geteuid().as_raw());
    for byte in &Sha256::digest(store)[..8] {
        write!(name, "{byte:02x}").unwrap();
    }
    let removes = REMOVES.get_or_init(|| Mutex::new(shell()));
    writeln!(removes.lock().unwrap(), "{name}").unwrap();
}

/// Removes the files whose names it is told, once nobody can tell it more.
fn shell() -> ChildStdin {
    let script = "while read -r file; do set -- \"$@\" \"$file\"; done; rm -f \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped());
    // Ctrl-C ends the tests, not who cleans up.
    shell
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    shell.spawn().unwrap().stdin.take().unwrap()
}
