//! Structured logs on standard error: human on a terminal, JSON otherwise.

use std::io::IsTerminal;

use crate::config::Config;

/// Starts logging. A closed standard error loses lines and nothing else.
pub(crate) fn start(config: &Config) {
    let json = config
        .log_json
        .unwrap_or_else(|| !std::io::stderr().is_terminal());
    let lines = tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    std::panic::set_hook(Box::new(panicked));
    // A second start, as in tests, leaves the first in place.
    let _ = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}

/// Where, and not with what words: they may quote a secret.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(tracing::field::display);
    tracing::error!(place, "a panic: please report it");
}
