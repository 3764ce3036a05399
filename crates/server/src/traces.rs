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

/// Where traces go: as the setting says, or the standard variables. `None`: nowhere.
///
/// # Errors
/// What is wrong with the address.
pub(crate) fn endpoint(
    setting: Option<&String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, &'static str> {
    let variable = |name| variable(name).filter(|text| !text.is_empty());
    let base = |text: &str| format!("{}/v1/traces", text.trim_end_matches('/'));
    let text = match setting.map(String::as_str).filter(|text| !text.is_empty()) {
        Some("off") => None,
        Some(text) => Some(base(text)),
        None if variable("OTEL_SDK_DISABLED").is_some_and(|is| is == "true") => None,
        None => variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| Some(base(&variable("OTEL_EXPORTER_OTLP_ENDPOINT")?))),
    };
    let is_usable = |uri: &Uri| {
        let plain = uri
            .authority()
            .is_some_and(|host| !host.as_str().contains('@'));
        plain && uri.query().is_none() && matches!(uri.scheme_str(), Some("http" | "https"))
    };
    let uri = text.map(|text| text.parse().ok().filter(is_usable).ok_or(NO_ENDPOINT));
    uri.transpose()
}

const NO_ENDPOINT: &str = "must be http://HOST:PORT or https://HOST:PORT, without a password: OTEL_EXPORTER_OTLP_HEADERS may hold one";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(setting: &str, variables: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
        let of = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let uri = endpoint(Some(&setting.to_owned()), of)?;
        Ok(uri.map(|uri| uri.to_string()))
    }

    #[test]
    fn the_setting_counts_and_then_the_standard_variables() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318/");
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/t");
        let to = |uri: &str| Ok(Some(uri.to_owned()));
        assert_eq!(at("", &[]), Ok(None));
        assert_eq!(at("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(None));
        assert_eq!(at("http://a", &[base, exact]), to("http://a/v1/traces"));
        assert_eq!(at("", &[base]), to("http://b:4318/v1/traces"));
        assert_eq!(at("", &[base, exact]), to("http://c:4318/t"));
        assert_eq!(at("off", &[base]), Ok(None));
        assert_eq!(at("", &[base, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
    }

    #[test]
    fn an_address_that_holds_a_password_or_is_none_is_refused() {
        for bad in [
            "a",
            "/x",
            "ftp://a",
            "http://u:p@a",
            "http://a?key=b",
            "http://",
        ] {
            assert_eq!(at(bad, &[]), Err(NO_ENDPOINT), "{bad}");
        }
    }
}
