//! Traces: a span a request, and one for each of its operations of the store, sent by OTLP over HTTP
//! (protobuf) to a collector.
//!
//! A `traceparent` that comes with a request is continued (W3C Trace Context), its sampling too. The
//! standard variables are honoured (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_EXPORTER_OTLP_HEADERS`, ...). Only spans are sent, and only ours: no log line, no header, no
//! query, no body is in them. Without an endpoint nothing of this exists. A collector that does not answer
//! costs spans and nothing else.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use doorward_webhooks::{Agent, agent};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Status, TracerProvider as _};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::Outcome;

/// How long the last spans may take to be sent at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// Spans on their way to a collector.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    pub(crate) fn to(endpoint: &Uri) -> Outcome<Traces> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new())
            .with_endpoint(endpoint.to_string())
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        Ok(Traces(provider))
    }

    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("doorward"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(is_ours))
    }

    /// Sends what is left.
    pub(crate) async fn close(self) {
        let flush = move || self.0.shutdown_with_timeout(FLUSH);
        let _ = tokio::task::spawn_blocking(flush).await;
    }
}

fn is_ours(span: &Metadata<'_>) -> bool {
    span.is_span() && span.target().starts_with("doorward")
}

fn resource() -> Resource {
    let resource = Resource::builder();
    let is_named = |name| std::env::var(name).is_ok_and(|text: String| !text.is_empty());
    let resource = if is_named("OTEL_SERVICE_NAME") || is_named("OTEL_RESOURCE_ATTRIBUTES") {
        resource
    } else {
        resource.with_service_name("doorward")
    };
    resource.build()
}

/// What a request's span is called there, and its kind.
pub(crate) fn named(method: &Method, route: &str) -> (String, &'static str) {
    (format!("{method} {route}"), "server")
}

/// A request's span begins: as a child of its client's, if it says so.
pub(crate) fn begin(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // Fails where no layer takes spans, as in tests.
    let _ = span.set_parent(parent);
}

/// It ends.
pub(crate) fn end(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
}

/// Posts batches of spans, in the exporter's own thread, which may wait.
struct Client {
    agent: Agent,
    failing: AtomicBool,
}

impl Client {
    fn new() -> Self {
        Client {
            agent: agent(),
            failing: AtomicBool::new(false),
        }
    }

    fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let is_plain = request.uri().scheme_str() == Some("http");
        let request = self.agent.configure_request(request.map(Vec::from));
        // In the clear it is for this network, where no proxy of others should read it.
        let request = if is_plain {
            request.proxy(None)
        } else {
            request
        };
        let mut answer = self.agent.run(request.build())?;
        let body = answer.body_mut().with_config().limit(MOST).read_to_vec()?;
        Ok(answer.map(|_| Bytes::from(body)))
    }

    /// Once, and again when it has changed.
    fn tell(&self, failing: bool) {
        if self.failing.swap(failing, Ordering::Relaxed) != failing {
            if failing {
                tracing::warn!("traces are not taken by the collector");
            } else {
                tracing::info!("traces are taken again");
            }
        }
    }
}

/// Bytes of a collector's answer.
const MOST: u64 = 64 * 1024;

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.post(request);
        let taken = answer.as_ref().is_ok_and(|it| it.status().is_success());
        self.tell(!taken);
        answer
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
