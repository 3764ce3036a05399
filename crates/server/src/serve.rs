//! `doorward serve`: listeners, limits, and an end that loses no answered request.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use doorward_core::Error;
use doorward_http::routes::always;
use doorward_http::{Api, Problem, client_address};
use http_body_util::LengthLimitError;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
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

/// How long a client may take for its header, if the request has no shorter limit.
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
    let gate = Gate {
        api: door.api().clone(),
        limit: config.request_timeout,
        trusted_proxies: config.trusted_proxies.clone().into(),
        metrics: Arc::clone(&metrics),
    };
    let router = gate.before(door.router());
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
        header_timeout: HEADER_TIMEOUT.min(config.request_timeout),
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

/// What every request passes on its way.
#[derive(Clone)]
struct Gate {
    api: Api,
    limit: Duration,
    trusted_proxies: Arc<[IpNet]>,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// The routes with a request id, a time limit, a log line and a count each.
    fn before(self, router: Router) -> Router {
        let observe = move |request: Request, next: Next| self.clone().observed(request, next);
        // `route_layer` would miss 404s, whose paths must not become labels.
        router.layer(from_fn(observe))
    }

    /// A request id of the client's own would let it write into the log: each gets a new one.
    #[expect(
        clippy::disallowed_methods,
        reason = "a door may measure how long an answer takes"
    )]
    async fn observed(self, request: Request, next: Next) -> Response {
        let start = Instant::now();
        let id = request_id();
        let method = request.method().clone();
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
        let client = self.client(&request).map(tracing::field::display);
        let span = tracing::info_span!("request", id, %method, route, client);
        let mut response = self.answered(request, next).instrument(span.clone()).await;
        let (took, status) = (start.elapsed(), response.status());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        span.in_scope(|| tracing::info!(status = status.as_u16(), micros, "answered"));
        self.metrics.answered(&route, status, took);
        let headers = response.headers_mut();
        always(headers);
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        response
    }

    fn client(&self, request: &Request) -> Option<IpAddr> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        let (peer, headers) = (peer.ip(), request.headers());
        Some(client_address(peer, headers, &self.trusted_proxies))
    }

    /// The answer, whatever happens to the handler: one that panics or takes too long is a 503.
    async fn answered(&self, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let body = match tokio::time::timeout(self.limit, to_bytes(body, Api::MAX_BODY)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if is_too_large(&error) => {
                return self.api.too_large(&parts).map(Body::from);
            }
            _ => return self.refused(&parts.headers, &UNFINISHED),
        };
        // All that a refusal depends on, as the rest goes to the handler.
        let origin = parts.headers.get(ORIGIN).cloned();
        let origin: HeaderMap = origin.into_iter().map(|origin| (ORIGIN, origin)).collect();
        let handling = next.run(Request::from_parts(parts, Body::from(body)));
        match tokio::time::timeout(self.limit, caught(handling)).await {
            Ok(Some(response)) => response,
            _ => self.refused(&origin, &Problem::Engine(BUSY)),
        }
    }

    fn refused(&self, headers: &HeaderMap, problem: &Problem) -> Response {
        self.api.refusal(headers, problem).map(Body::from)
    }
}

const UNFINISHED: Problem = Problem::BadRequest("the body did not arrive whole, or not in time");
const BUSY: Error = Error::Overloaded {
    retry_after: Duration::from_secs(1),
};

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The outcome of a future; `None` if it panicked. The panic hook has told of it.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let outcome = std::future::poll_fn(move |context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        match catch_unwind(poll) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Err(_) => Poll::Ready(None),
        }
    });
    outcome.await
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
    header_timeout: Duration,
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
        let patience = self.header_timeout;
        match self.tls.as_ref().map(|tls| tls.acceptor()) {
            None => tokio::spawn(async move {
                speak(stream, peer, router, patience, watcher).await;
                gone();
            }),
            Some(tls) => tokio::spawn(async move {
                let stream = tokio::time::timeout(patience, tls.accept(stream)).await;
                if let Ok(Ok(stream)) = stream {
                    speak(stream, peer, router, patience, watcher).await;
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
    patience: Duration,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use doorward_axum::Doorward;
    use doorward_core::Policy;
    use doorward_core::memory::MemoryStore;

    use super::*;

    async fn answer(limit: Duration, path: &str) -> Response {
        let store = Arc::new(MemoryStore::new(Policy::default()));
        let door = Doorward::store(store).open().await.unwrap();
        let gate = Gate {
            api: door.api().clone(),
            limit,
            trusted_proxies: Arc::new([]),
            metrics: Arc::new(Metrics::new().unwrap()),
        };
        let explode = || async {
            assert!(limit_is_known(), "boom");
            "never"
        };
        let router = Router::new()
            .route("/panic", get(explode))
            .route("/hang", get(std::future::pending::<&str>));
        let request = Request::get(path).header("x-request-id", "mine");
        let request = request.body(Body::empty()).unwrap();
        gate.before(router).oneshot(request).await.unwrap()
    }

    fn limit_is_known() -> bool {
        std::hint::black_box(false)
    }

    #[tokio::test]
    async fn a_panic_and_a_hanging_handler_are_a_503_like_any_other() {
        for (path, limit) in [("/panic", 60_000), ("/hang", 1)] {
            let response = answer(Duration::from_millis(limit), path).await;
            assert_eq!(response.status(), 503, "{path}");
            let headers = response.headers().clone();
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["retry-after"], "1");
            let body = to_bytes(response.into_body(), 10_000).await.unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(
                body.contains("\"overloaded\"") && !body.contains("boom"),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_found_has_the_headers_of_every_answer_and_an_id_of_our_own() {
        let response = answer(Duration::from_secs(60), "/nothing").await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_ne!(response.headers()["x-request-id"], "mine");
    }
}
