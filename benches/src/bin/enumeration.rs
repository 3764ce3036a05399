//! Whether the time of a refused login tells if there is such an account: existing against unknown names,
//! over HTTP.
//!
//! Method: 100 accounts in an `SQLite` file; the axum door with its router, the throttle on, its hashes as they are
//! by default, in a process of its own on the first core. This process sends from the second, on one keep-alive
//! connection: 2,000 pairs of logins with a wrong password, one name that exists and one that does not, which of
//! them first by turns; each name 20 times, so that it stays below what makes an account pause. Names and bodies are
//! of one length. Judged is the difference of the two medians, in percent of the median.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use doorward_axum::Doorward;
use doorward_benches::process::{Server, pin, serve};
use doorward_benches::{Limit, clock, judge, median, percentile};
use doorward_core::password::Password;
use doorward_core::throttle::Budget;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ACCOUNTS: usize = 100;
const PAIRS: usize = 2_000;
const WARM_UP: usize = 40;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Some(path) = std::env::args().nth(1) {
        pin(0);
        return serve(door(path.as_ref()).await.router()).await;
    }
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let path = directory.path().join("bench.db");
    fill(&path).await;
    let server = Server::start(&[path.to_str().expect("a path in UTF-8")]);
    pin(1);
    contest(server.address).await;
}

/// Budgets that nothing here uses up: what is counted and written is the same.
async fn door(path: &Path) -> Doorward {
    let mut door = Doorward::sqlite(path);
    let wide = Budget::new(1_000, Duration::from_secs(1)).expect("a budget");
    let budgets = door.settings.throttle.as_mut().expect("the throttle is on");
    budgets.account = wide;
    budgets.network = Some(wide);
    budgets.overall = Some(wide);
    door.open().await.expect("a store")
}

async fn fill(path: &Path) {
    let door = door(path).await;
    for number in 0..ACCOUNTS {
        let password = Password::new("four marmots whistle at dawn").expect("a password");
        let made = door
            .accounts()
            .register(&name("known", number), password)
            .await;
        made.expect("an account");
    }
}

fn name(kind: &str, number: usize) -> String {
    format!("{kind}{:04}", number % ACCOUNTS)
}

async fn contest(address: SocketAddr) {
    let mut caller = Caller::connect(address).await;
    for number in 0..WARM_UP {
        caller.login(&name("other", number)).await;
    }
    let (mut existing, mut unknown) = (Vec::new(), Vec::new());
    for number in 0..PAIRS {
        let (known, nobody) = (name("known", number), name("ghost", number));
        if number % 2 == 0 {
            existing.push(caller.login(&known).await);
            unknown.push(caller.login(&nobody).await);
        } else {
            unknown.push(caller.login(&nobody).await);
            existing.push(caller.login(&known).await);
        }
    }
    for (what, micros) in [("existing", &existing), ("unknown", &unknown)] {
        let (p10, p50, p90) = (
            percentile(micros, 10),
            median(micros),
            percentile(micros, 90),
        );
        println!("{what:<9} median {p50:8.0} \u{b5}s, 10 %: {p10:8.0}, 90 %: {p90:8.0}");
    }
    let (one, other) = (median(&existing), median(&unknown));
    let percent = (one - other).abs() / one.min(other) * 100.0;
    judge(
        "existing against unknown names, in percent of the median",
        percent,
        Limit::AtMost(2.0),
    );
}

struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    async fn connect(address: SocketAddr) -> Caller {
        let stream = TcpStream::connect(address).await.expect("a server");
        stream.set_nodelay(true).expect("a socket");
        Caller {
            stream,
            answer: vec![0; 16 * 1024],
        }
    }

    /// Microseconds until a refusal. One is small: it comes in one piece.
    async fn login(&mut self, name: &str) -> f64 {
        let body = format!(r#"{{"username": "{name}", "password": "wrong wrong wrong"}}"#);
        let request = format!(
            "POST /api/v1/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let start = clock();
        self.stream
            .write_all(request.as_bytes())
            .await
            .expect("a connection");
        let length = self.stream.read(&mut self.answer).await.expect("an answer");
        let took = start.elapsed();
        let answer = &self.answer[..length];
        assert!(answer.starts_with(b"HTTP/1.1 401 ") && answer.ends_with(b"}"));
        took.as_secs_f64() * 1e6
    }
}
