//! HTTP to several nodes: connections that are kept, and what became of a request that was not answered.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Uri};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

type Connection = SendRequest<Full<Bytes>>;

/// What became of a request.
#[derive(Debug)]
pub enum Reply {
    /// An answer, whole.
    Answered(Response<Bytes>),
    /// There was no connection: the node never saw it.
    Unreached,
    /// It was sent, perhaps in part, and no whole answer came in time.
    Lost,
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For an answer.
    pub answer: Duration,
}

/// A node, and connections to it that wait for work.
#[derive(Debug)]
pub struct Node {
    authority: Authority,
    prefix: String,
    patience: Patience,
    idle: RefCell<Vec<Connection>>,
}

impl Node {
    /// `url` is that of the API: `http://127.0.0.1:8080/api/v1`.
    pub fn parse(url: &str, patience: Patience) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) if authority.port().is_some() => Ok(Node {
                authority: authority.clone(),
                prefix: uri.path().trim_end_matches('/').to_owned(),
                patience,
                idle: RefCell::default(),
            }),
            _ => Err(format!("{url}: a node is http://HOST:PORT/PREFIX")),
        }
    }

    /// The path of a route.
    #[must_use]
    pub fn path(&self, route: &str) -> String {
        format!("{}{route}", self.prefix)
    }

    /// Sends a request, once.
    pub async fn ask(&self, mut request: Request<Full<Bytes>>) -> Reply {
        let Some(mut connection) = self.connection().await else {
            return Reply::Unreached;
        };
        if let Ok(host) = HeaderValue::from_str(self.authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
        match timeout(self.patience.answer, answer(&mut connection, request)).await {
            Ok(Ok(response)) => {
                self.idle.borrow_mut().push(connection);
                Reply::Answered(response)
            }
            Ok(Err(error)) if error.is_canceled() => Reply::Unreached,
            // The connection closes as it is dropped.
            Ok(Err(_)) | Err(_) => Reply::Lost,
        }
    }

    async fn connection(&self) -> Option<Connection> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            match idle {
                Some(idle) if idle.is_closed() => {}
                Some(mut idle) => {
                    if idle.ready().await.is_ok() {
                        return Some(idle);
                    }
                }
                None => break,
            }
        }
        timeout(self.patience.connect, self.connect()).await.ok()?
    }

    async fn connect(&self) -> Option<Connection> {
        let stream = TcpStream::connect(self.authority.as_str()).await.ok()?;
        stream.set_nodelay(true).ok()?;
        // What was given up is not sent again behind the caller's back, to arrive minutes later.
        stream.set_zero_linger().ok()?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(driver);
        Some(connection)
    }
}

async fn answer(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Bytes>> {
    let (parts, body) = connection.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
