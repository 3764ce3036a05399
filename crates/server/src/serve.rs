//! `doorward serve`: listeners, limits, and an end that loses no answered request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use doorward_core::Error;
use doorward_http::{Endpoint, Problem};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tracing::Instrument;

use crate::Outcome;
use crate::config::Config;
use crate::operator::{self, Metrics};
use crate::tls::Tls;
use crate::{initialization, logging};

/// How long a client may take for its header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest header, in bytes.
const HEADER_BYTES: usize = 32 * 1024;

/// Serves until a signal.
pub(crate) async fn serve(config: Config) -> Outcome {
    logging::start(&config);
    let metrics = Arc::new(Metrics::new()?);
    let counted = Arc::clone(&metrics);
    let door = initialization::open(&config, move |event| {
        counted.happened(event);
        doorward_axum::initialization::log(event);
    })
    .await?;
    let tls = match config.tls.clone() {
        Some((cert, key)) => Some(Tls::open(cert, key)?),
        None => None,
    };
    let listener = bind(config.listen).await?;
    if let Some(address) = config.operator_listen {
        let operator = bind(address).await?;
        tracing::info!(address = %operator.local_addr()?, "health and metrics");
        let router = operator::router(door.clone(), Arc::clone(&metrics));
        tokio::spawn(async move { axum::serve(operator, router).await });
    }
    let only_here = |endpoint| endpoint == Endpoint::Verify;
    let router = limited(
        door.router_with(only_here),
        config.request_timeout,
        &metrics,
    );
    let scheme = if tls.is_some() { "https" } else { "http" };
    let prefix = &config.settings.url_prefix;
    tracing::info!("listening on {scheme}://{}{prefix}", listener.local_addr()?);
    if let Some(tls) = &tls {
        tokio::spawn(Arc::clone(tls).watch());
    }
    let connections = Connections {
        router,
        tls,
        metrics,
        graceful: GracefulShutdown::new(),
    };
    connections
        .accept(listener, config.max_connections, config.shutdown_timeout)
        .await;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(address: SocketAddr) -> Outcome<TcpListener> {
    let listener = TcpListener::bind(address).await;
    Ok(listener.map_err(|error| format!("cannot listen on {address}: {error}"))?)
}

/// The routes with a request id, a time limit, a log line and a count each.
fn limited(router: Router, limit: Duration, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    let observe = move |request: Request, next: Next| {
        let metrics = Arc::clone(&metrics);
        observed(request, next, limit, metrics)
    };
    // `route_layer` would miss 404s, whose paths must not become labels.
    router.layer(from_fn(observe))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a door may measure how long an answer takes"
)]
async fn observed(
    request: Request,
    next: Next,
    limit: Duration,
    metrics: Arc<Metrics>,
) -> Response {
    let start = Instant::now();
    let id = request_id();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id, %method, path);
    let answer = tokio::time::timeout(limit, next.run(request))
        .instrument(span.clone())
        .await;
    let mut response = answer.unwrap_or_else(|_| {
        Problem::Engine(Error::StoreUnavailable)
            .response()
            .map(Body::from)
    });
    let took = start.elapsed();
    let status = response.status();
    span.in_scope(|| {
        tracing::debug!(
            status = status.as_u16(),
            micros = took.as_micros(),
            "answered"
        );
    });
    metrics.answered(&path, status, took);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-request-id"), id);
    }
    response
}

#[expect(
    clippy::disallowed_methods,
    reason = "names a request in the log; no secret depends on it"
)]
fn request_id() -> String {
    let mut id = [0; 8];
    let _ = getrandom::fill(&mut id);
    format!("{:016x}", u64::from_be_bytes(id))
}

/// Connections, and how they end.
struct Connections {
    router: Router,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    graceful: GracefulShutdown,
}

impl Connections {
    async fn accept(self, listener: TcpListener, most: usize, patience: Duration) {
        let places = Arc::new(Semaphore::new(most));
        let mut end = std::pin::pin!(signal());
        loop {
            let place = Arc::clone(&places).acquire_owned();
            tokio::select! {
                () = &mut end => break,
                Ok(place) = place => tokio::select! {
                    () = &mut end => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, peer)) => self.connected(stream, peer, place),
                        // Out of file descriptors, most likely: look again when some are free.
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    },
                },
            }
        }
        drop(listener);
        tracing::info!("stopping");
        let _ = tokio::time::timeout(patience, self.graceful.shutdown()).await;
    }

    fn connected(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true);
        let metrics = Arc::clone(&self.metrics);
        metrics.connections().inc();
        let gone = move || {
            metrics.connections().dec();
            drop(place);
        };
        let (router, watcher) = (self.router.clone(), self.graceful.watcher());
        match self.tls.as_ref().map(|tls| tls.acceptor()) {
            None => tokio::spawn(async move {
                speak(stream, peer, router, watcher).await;
                gone();
            }),
            Some(tls) => tokio::spawn(async move {
                let stream = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await;
                if let Ok(Ok(stream)) = stream {
                    speak(stream, peer, router, watcher).await;
                }
                gone();
            }),
        };
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away in the middle is no error of ours.
    let _ = watcher.watch(connection).await;
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {},
        _ = interrupt.recv() => {},
    }
}
