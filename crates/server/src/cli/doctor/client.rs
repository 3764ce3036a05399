//! Asks as a browser would: HTTP/1.1, a connection each, no redirect followed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use doorward_core::{Env, SystemEnv};
use http::header::{CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Origin;
use super::tls::{Certificate, Trust};
use crate::Outcome;

/// The longest answer that is read.
const MOST: usize = 4 << 20;

/// A request.
#[derive(Clone, Default)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Bytes>,
}

impl Ask {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Ask {
            method,
            path: path.into(),
            ..Ask::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn json(self, body: impl Into<Bytes>) -> Self {
        self.typed("application/json", body)
    }

    pub(crate) fn typed(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self.header(CONTENT_TYPE.as_str(), media_type)
    }
}

/// An answer, and when it was asked for and read: seconds by this machine's clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) asked_at: i64,
    pub(crate) read_at: i64,
}

impl Answer {
    /// A header's lines, in lower case, with commas between them.
    pub(crate) fn header(&self, name: &str) -> String {
        let lines = self.headers.get_all(name).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase())
            .collect();
        lines.join(", ")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Whether it is a problem document.
    pub(crate) fn is_problem(&self) -> bool {
        let media_type = self.header(CONTENT_TYPE.as_str());
        media_type.starts_with("application/problem+json")
    }

    /// The code of a problem document, or nothing.
    pub(crate) fn code(&self) -> String {
        let code = self.json()["code"].as_str().map(str::to_owned);
        code.filter(|_| self.is_problem()).unwrap_or_default()
    }

    /// Where it sends on to.
    pub(crate) fn redirect(&self) -> Option<String> {
        let to = self.headers.get(LOCATION)?;
        let to = String::from_utf8_lossy(to.as_bytes()).into_owned();
        (300..400).contains(&self.status).then_some(to)
    }
}

/// Asks one origin.
pub(crate) struct Client {
    pub(crate) origin: Origin,
    /// None where it is http.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl Client {
    pub(crate) fn new(origin: Origin, tls: Option<Arc<ClientConfig>>, timeout: Duration) -> Self {
        Client {
            origin,
            tls,
            timeout,
        }
    }

    /// # Errors
    /// Why there is no answer, in words.
    pub(crate) async fn send(&self, ask: &Ask) -> Outcome<Answer> {
        within(self.timeout, self.asked(ask)).await
    }

    async fn asked(&self, ask: &Ask) -> Outcome<Answer> {
        let request = self.request(ask)?;
        let stream = connect(&self.origin).await?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector
                    .connect(server_name(&self.origin)?, stream)
                    .await?;
                exchange(stream, request).await
            }
        }
    }

    fn request(&self, ask: &Ask) -> Outcome<Request<Body>> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path.as_str())
            .header(HOST, self.origin.authority())
            .header(
                USER_AGENT,
                concat!("doorward-doctor/", env!("CARGO_PKG_VERSION")),
            )
            .header("accept", "*/*")
            .header("connection", "close");
        for (name, value) in &ask.headers {
            let mut value = HeaderValue::from_str(value)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let body = ask.body.clone().unwrap_or_default();
        if body.is_empty() && matches!(ask.method, "POST") {
            request = request.header("content-length", 0);
        }
        Ok(request.body(Body::from(body))?)
    }
}

/// A handshake, after which nothing is asked: what TLS and which certificate there are.
pub(crate) async fn handshake(
    origin: &Origin,
    trust: &Trust,
    timeout: Duration,
) -> Outcome<Certificate> {
    let connector = TlsConnector::from(trust.config(true)?);
    let name = server_name(origin)?;
    let shaken = async {
        let stream = connect(origin).await?;
        Ok(connector.connect(name.clone(), stream).await?)
    };
    let stream = within(timeout, shaken).await?;
    Ok(trust.look(stream.get_ref().1, &name))
}

async fn within<T>(timeout: Duration, answer: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", timeout.as_secs()).into()),
    }
}

fn server_name(origin: &Origin) -> Outcome<ServerName<'static>> {
    Ok(ServerName::try_from(origin.host.clone())?)
}

async fn connect(origin: &Origin) -> Outcome<TcpStream> {
    Ok(TcpStream::connect((origin.host.as_str(), origin.port)).await?)
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Outcome<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked_at = SystemEnv.now().seconds();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = to_bytes(Body::new(body), MOST).await?;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        asked_at,
        read_at: SystemEnv.now().seconds(),
    })
}
