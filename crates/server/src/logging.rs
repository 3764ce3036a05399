//! Structured logs on standard error: human on a terminal, JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::Config;
use crate::traces::Traces;

/// Starts logging, and traces where there are any. A closed standard error loses lines and nothing else.
pub(crate) fn start(config: &Config, traces: Option<&Traces>) {
    std::panic::set_hook(Box::new(panicked));
    let lines = lines(config).with_filter(config.log_level);
    let logs = tracing_subscriber::registry().with(lines);
    // A second start, as in tests, leaves the first in place.
    let _ = match traces {
        None => logs.try_init(),
        Some(traces) => logs.with(traces.layer()).try_init(),
    };
}

fn lines(config: &Config) -> Box<dyn Layer<Registry> + Send + Sync> {
    let is_terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    if config.log_json.unwrap_or(!is_terminal) {
        let json = lines.json().flatten_event(true);
        json.with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(is_terminal).boxed()
    }
}

/// Where, and not with what words: they may quote a secret.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(tracing::field::display);
    tracing::error!(place, "a panic: please report it");
}
