//! `pgbench`: what the database does by itself.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::servers::{Server, waited_for};

/// What a run of it came to.
#[derive(Clone, Copy, Debug)]
pub struct Updates {
    /// Transactions a second.
    pub rate: f64,
    /// Processor time of one, in microseconds, of pgbench itself.
    pub client: f64,
    /// And of the server.
    pub database: f64,
}

/// 16 clients on one thread that update single rows, by number, as a refresh does: prepared, each in a transaction
/// of its own.
///
/// # Panics
/// It fails.
#[must_use]
pub fn update(server: &Server, table: &str, rows: usize, span: Duration) -> Updates {
    let script = format!(
        "\\set n random(1, {rows})\n\
         UPDATE {table} SET confirmed = gen_random_uuid(), previous = confirmed, generation = :n, \
         attempt = 1, confirmed_at = :n, child_after = 1, refresh_key = refresh_key, auth_after = 0, \
         flags = flags, version = version WHERE n = :n;\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("update.sql");
    std::fs::write(&file, script).expect("a file");
    let seconds = span.as_secs().to_string();
    let mut command = Command::new("pgbench");
    command.args(["-n", "-M", "prepared", "-c", "16", "-j", "1"]);
    command
        .args(["-T", &seconds, "-f"])
        .arg(&file)
        .arg(server.url());
    let (client, database, start) = (waited_for(), server.busy(), clock());
    let output = command.output().expect("pgbench");
    let took = start.elapsed();
    // Until the server has waited for those that served it.
    thread::sleep(Duration::from_millis(200));
    let said = String::from_utf8_lossy(&output.stdout);
    let rate = rate(&said);
    let rate = rate.unwrap_or_else(|| panic!("{said} {}", String::from_utf8_lossy(&output.stderr)));
    let each = |busy: f64| busy * 1e6 / (rate * took.as_secs_f64());
    Updates {
        rate,
        client: each(waited_for() - client),
        database: each(server.busy() - database),
    }
}

fn rate(said: &str) -> Option<f64> {
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    line?.split(' ').next()?.parse().ok()
}
