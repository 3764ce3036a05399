//! For operators: health, readiness and metrics, on a listener of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use doorward_axum::Doorward;
use doorward_core::Event;
use doorward_core::meter::TYPE;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    events: IntCounterVec,
    ended: IntCounterVec,
    connections: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let metrics = Metrics {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new("doorward_requests_total", "Requests by route and status"),
                &["route", "status"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new("doorward_request_seconds", "Time to answer by route"),
                &["route"],
            )?,
            events: IntCounterVec::new(
                Opts::new("doorward_events_total", "What happened to sessions"),
                &["event"],
            )?,
            ended: IntCounterVec::new(
                Opts::new(
                    "doorward_sessions_ended_total",
                    "Sessions that ended, by why",
                ),
                &["reason"],
            )?,
            connections: IntGauge::new("doorward_connections", "Connections now")?,
        };
        metrics
            .registry
            .register(Box::new(metrics.seconds.clone()))?;
        for counter in [&metrics.requests, &metrics.events, &metrics.ended] {
            metrics.registry.register(Box::new(counter.clone()))?;
        }
        let connections = Box::new(metrics.connections.clone());
        metrics.registry.register(connections)?;
        Ok(metrics)
    }

    pub(crate) fn answered(&self, route: &str, status: StatusCode, took: Duration) {
        self.requests
            .with_label_values(&[route, status.as_str()])
            .inc();
        self.seconds
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }

    pub(crate) fn happened(&self, event: &Event) {
        self.events.with_label_values(&[event.name.as_str()]).inc();
        if let Some((count, reason)) = event.ends() {
            self.ended.with_label_values(&[reason]).inc_by(count);
        }
    }

    pub(crate) fn connections(&self) -> &IntGauge {
        &self.connections
    }
}

/// The operator's routes.
pub(crate) fn router(door: Doorward, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show))
        .with_state((door, metrics))
}

type Both = (Doorward, Arc<Metrics>);

async fn ready(State((door, _)): State<Both>) -> (StatusCode, String) {
    match door.unready() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn show(State((door, metrics)): State<Both>) -> Result<impl IntoResponse, StatusCode> {
    let families = metrics.registry.gather();
    let mut text = TextEncoder::new()
        .encode_to_string(&families)
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    text.push_str(&door.metrics());
    Ok(([(CONTENT_TYPE, TYPE)], text))
}
