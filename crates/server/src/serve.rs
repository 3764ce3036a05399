//! `doorward serve`: listeners, and what every request passes.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::http::header::{HOST, ORIGIN, STRICT_TRANSPORT_SECURITY};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use doorward_axum::routes::{Unread, read};
use doorward_core::Error;
use doorward_http::routes::always;
use doorward_http::{Api, Problem, client_address};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument;

use crate::Outcome;
use crate::config::Config;
use crate::connections::{Connections, HEADER_BYTES, Signals};
use crate::operator::{self, Metrics};
use crate::tls::{self, Tls};
use crate::traces::{self, Traces};
use crate::{exposure, initialization, logging};

/// Serves until a signal.
pub(crate) async fn serve(config: Config) -> Outcome {
    let traces = config.otlp.as_ref().map(Traces::to).transpose()?;
    logging::start(&config, traces.as_ref());
    if let Some(advice) = exposure::advice(config.operator_listen) {
        tracing::warn!("{advice}");
    }
    // First, so that a signal during the start does not kill.
    let (end, hangups) = (Signals::end()?, signal(SignalKind::hangup())?);
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
    let scheme = if tls.is_some() { "https" } else { "http" };
    let prefix = &config.settings.url_prefix;
    tracing::info!("listening on {scheme}://{}{prefix}", listener.local_addr()?);
    tokio::spawn(tls::watch(tls.clone(), hangups));
    let gate = Gate {
        api: door.api().clone(),
        limit: config.request_timeout,
        trusted_proxies: config.trusted_proxies.clone().into(),
        hsts: config.hsts.clone().filter(|_| tls.is_some()),
        metrics: Arc::clone(&metrics),
        traced: config.otlp.is_some(),
    };
    let connections = Connections::new(gate.before(door.router()), tls, metrics, &config);
    connections.accept(listener, end).await;
    door.close().await;
    if let Some(traces) = traces {
        traces.close().await;
    }
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
    /// Where this process is who encrypts: behind a proxy it is the proxy's to say.
    hsts: Option<HeaderValue>,
    metrics: Arc<Metrics>,
    /// Whether spans are sent somewhere.
    traced: bool,
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
        let (name, kind) = self.traced.then(|| traces::named(&method, &route)).unzip();
        let span = tracing::info_span!(
            "request", otel.name = name, otel.kind = kind, id, %method, route, client
        );
        if self.traced {
            traces::begin(&span, request.headers());
        }
        let mut response = self.answered(request, next).instrument(span.clone()).await;
        let (took, status) = (start.elapsed(), response.status());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        span.in_scope(|| tracing::info!(status = status.as_u16(), micros, "answered"));
        if self.traced {
            traces::end(&span, status);
        }
        self.metrics.answered(&route, status, took);
        let headers = response.headers_mut();
        always(headers);
        if let Some(hsts) = &self.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
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
        if header_bytes(&request) > HEADER_BYTES {
            return StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response();
        }
        if !names_its_host(&request) {
            return self.refused(request.headers(), &HOSTLESS);
        }
        let (parts, body) = request.into_parts();
        let body = match tokio::time::timeout(self.limit, read(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(Unread::TooLarge)) => return self.api.too_large(&parts).map(Body::from),
            Ok(Err(Unread::Broken)) | Err(_) => return self.refused(&parts.headers, &UNFINISHED),
        };
        // All that a refusal depends on, as the rest goes to the handler.
        let mut origin = HeaderMap::new();
        for line in parts.headers.get_all(ORIGIN) {
            origin.append(ORIGIN, line.clone());
        }
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

const HOSTLESS: Problem = Problem::BadRequest("the request must name its host, once");
const UNFINISHED: Problem = Problem::BadRequest("the body did not arrive whole, or not in time");
const BUSY: Error = Error::Overloaded {
    retry_after: Duration::from_secs(1),
};

/// What the header took on the wire, white space apart.
fn header_bytes(request: &Request) -> usize {
    let line = request.method().as_str().len() + request.uri().to_string().len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + " HTTP/1.1 \r\n\r\n".len() + fields.sum::<usize>()
}

/// RFC 9112, 3.2: one `Host`, which HTTP/1.0 may leave out.
fn names_its_host(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.is_empty() || Authority::try_from(host.as_bytes()).is_ok(),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
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

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tower::ServiceExt;

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
            hsts: None,
            metrics: Arc::new(Metrics::new().unwrap()),
            traced: false,
        };
        let explode = || async {
            assert!(limit_is_known(), "boom");
            "never"
        };
        let router = Router::new()
            .route("/panic", get(explode))
            .route("/hang", get(std::future::pending::<&str>));
        let request = Request::get(path).header("x-request-id", "mine");
        let request = request.header(HOST, "api.example");
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
