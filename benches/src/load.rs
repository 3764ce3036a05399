//! HTTP requests in a closed loop: each of many keep-alive connections sends its next request when
//! it has read the whole answer to the one before.
//!
//! Cheap, so that the server is the slower side: requests are rendered beforehand, and of an answer
//! only the status and `Content-Length` are read. All callers run on the thread that drives them.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{clock, percentile};

/// What a connection sends, and what it makes of the answers.
pub trait Client: Send + 'static {
    /// The next request, whole.
    fn request(&mut self) -> &[u8];
    /// Takes the body of the answer.
    fn answered(&mut self, _body: &[u8]) {}
}

/// One request, again and again.
#[derive(Clone, Debug)]
pub struct Same(pub Vec<u8>);

impl Client for Same {
    fn request(&mut self) -> &[u8] {
        &self.0
    }
}

/// When a caller stops.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many answers.
    Answered(usize),
}

/// What a round came to.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Answers.
    pub answers: f64,
    /// Answers a second.
    pub rate: f64,
    /// Half of the answers came within this time, in microseconds.
    pub p50: f64,
    /// 99 of 100 did.
    pub p99: f64,
}

/// Connections to one server.
pub struct Load<C> {
    callers: Vec<Caller<C>>,
}

struct Caller<C> {
    stream: TcpStream,
    answer: Vec<u8>,
    client: C,
}

impl<C: Client> Load<C> {
    /// Connects each client.
    ///
    /// # Panics
    /// Nobody listens.
    pub async fn open(address: SocketAddr, clients: impl IntoIterator<Item = C>) -> Load<C> {
        let mut callers = Vec::new();
        for client in clients {
            let stream = TcpStream::connect(address).await.expect("a server");
            stream.set_nodelay(true).expect("a socket");
            let answer = Vec::with_capacity(4096);
            callers.push(Caller {
                stream,
                answer,
                client,
            });
        }
        Load { callers }
    }

    /// The clients, between rounds.
    pub fn clients(&mut self) -> impl Iterator<Item = &mut C> {
        self.callers.iter_mut().map(|caller| &mut caller.client)
    }

    /// All callers at once.
    ///
    /// # Panics
    /// An answer is not 200, or the server closes a connection.
    pub async fn round(&mut self, until: Until) -> Round {
        let (start, mut running) = (clock(), JoinSet::new());
        for mut caller in self.callers.drain(..) {
            running.spawn(async move {
                let times = caller.call(until).await;
                (caller, times)
            });
        }
        let mut micros = Vec::new();
        while let Some(ended) = running.join_next().await {
            let (caller, times) = ended.expect("every answer is 200");
            self.callers.push(caller);
            micros.extend(times);
        }
        Round::of(&micros, start.elapsed())
    }
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
    fn of(micros: &[f64], took: Duration) -> Round {
        let answers = micros.len() as f64;
        Round {
            answers,
            rate: answers / took.as_secs_f64(),
            p50: percentile(micros, 50),
            p99: percentile(micros, 99),
        }
    }
}

impl<C: Client> Caller<C> {
    /// Microseconds from each request to its answer.
    async fn call(&mut self, until: Until) -> Vec<f64> {
        let (start, mut times) = (clock(), Vec::new());
        let mut sent = start;
        while goes_on(until, sent - start, times.len()) {
            let request = self.client.request();
            self.stream.write_all(request).await.expect("a connection");
            let body = self.read().await;
            self.client.answered(&self.answer[body]);
            let now = clock();
            times.push((now - sent).as_secs_f64() * 1e6);
            sent = now;
        }
        times
    }

    /// Reads an answer, and says where its body is.
    async fn read(&mut self) -> Range<usize> {
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await;
            assert_ne!(read.expect("a connection"), 0, "the server closed");
            if let Some(body) = body_of(&self.answer) {
                return body;
            }
        }
    }
}

fn goes_on(until: Until, elapsed: Duration, answers: usize) -> bool {
    match until {
        Until::Elapsed(span) => elapsed < span,
        Until::Answered(count) => answers < count,
    }
}

const LENGTH: &[u8] = b"content-length: ";

/// Where the body of a whole answer is; `None` when more is to come.
fn body_of(answer: &[u8]) -> Option<Range<usize>> {
    let from = after(answer, b"\r\n\r\n")?;
    let head = &answer[..from];
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", head.escape_ascii());
    let length = head
        .windows(LENGTH.len())
        .position(|window| window.eq_ignore_ascii_case(LENGTH))
        .expect("an answer of known length");
    let digits = head[length + LENGTH.len()..]
        .iter()
        .take_while(|b| b.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    (answer.len() >= from + length).then_some(from..from + length)
}

/// Where the text after `mark` begins.
#[must_use]
pub fn after(text: &[u8], mark: &[u8]) -> Option<usize> {
    let found = text.windows(mark.len()).position(|window| window == mark);
    found.map(|at| at + mark.len())
}

/// A request that refreshes.
#[must_use]
pub fn refresh_of(token: &str) -> Vec<u8> {
    let body = format!(r#"{{"refresh_token":"{token}"}}"#);
    let length = body.len();
    format!(
        "POST /api/v1/refresh HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The refresh token in its answer.
///
/// # Panics
/// There is none.
#[must_use]
pub fn token_of(body: &[u8]) -> String {
    let from = after(body, br#""refresh_token":""#).expect("a refresh token");
    let token = body[from..]
        .split(|b| *b == b'"')
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(token).into_owned()
}
