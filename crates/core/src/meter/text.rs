//! What is counted, in the text format of Prometheus.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;
use super::measured::NAMES;
use super::{Batch, Meter, Way};
use crate::env::millis;
use crate::password::Passwords;
use crate::service::Service;

/// The media type of the text.
pub const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that a node counts of its engine.
pub(crate) fn text(service: &Service, passwords: &Passwords) -> String {
    let mut text = Text::default();
    text.node(service, passwords);
    text.revocations(service);
    if let Some(meter) = service.store().meter() {
        text.operations(&meter);
        text.batches(&meter);
        text.lags(&meter);
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn node(&mut self, service: &Service, passwords: &Passwords) {
        let ready = u8::from(service.unready().is_none());
        self.gauge(
            "doorward_ready",
            "1 while the store answers and a key signs",
            ready,
        );
        let verifies = u8::from(service.is_ready());
        self.gauge(
            "doorward_verifies",
            "1 while access tokens are verified: with the store, or within the allowance without it",
            verifies,
        );
        let name = "doorward_password_hashes_total";
        self.head(name, "counter", "Passwords hashed");
        self.line(name, "", passwords.hashes());
    }

    fn revocations(&mut self, service: &Service) {
        let revocations = service.revocations();
        self.gauge(
            "doorward_revocation_entries",
            "Ended sessions that are remembered",
            revocations.len(),
        );
        self.gauge(
            "doorward_revocation_bytes",
            "Memory that they take",
            revocations.bytes(),
        );
        self.gauge(
            "doorward_revocation_allowance_seconds",
            "How long tokens are verified without the store",
            seconds(millis(revocations.bounds().allowance)),
        );
        if let Some(synced) = revocations.synced_at() {
            self.gauge(
                "doorward_store_last_contact_seconds",
                "Seconds since the log of ends was read last",
                seconds(service.now().since(synced).max(0)),
            );
        }
    }

    fn operations(&mut self, meter: &Meter) {
        let used = || {
            let all = NAMES.iter().zip(&meter.operations);
            all.filter(|(_, operation)| operation.took.count() > 0)
        };
        let name = "doorward_store_operation_seconds";
        self.head(name, "histogram", "How long operations of the store take");
        for (operation, counted) in used() {
            self.times(name, &label("operation", operation), &counted.took);
        }
        let name = "doorward_store_operation_errors_total";
        self.head(name, "counter", "Operations of the store that failed");
        for (operation, counted) in used() {
            let labels = format!("{{{}}}", label("operation", operation));
            self.line(name, &labels, loaded(&counted.errors));
        }
    }

    fn batches(&mut self, meter: &Meter) {
        self.gauge(
            "doorward_store_waiting",
            "Operations that wait for their batch",
            loaded(&meter.waiting),
        );
        self.gauge(
            "doorward_store_connections",
            "Connections to the database",
            loaded(&meter.connections),
        );
        let name = "doorward_store_batch_size";
        self.head(name, "histogram", "Operations that go together");
        for batch in Batch::ALL {
            let sizes = &meter.batches[batch as usize].sizes;
            self.histogram(name, &label("batch", batch.name()), sizes, |size| size);
        }
        let name = "doorward_store_wait_seconds";
        self.head(
            name,
            "histogram",
            "How long operations wait for their batch",
        );
        for batch in Batch::ALL {
            let waits = &meter.batches[batch as usize].waits;
            self.times(name, &label("batch", batch.name()), waits);
        }
    }

    fn lags(&mut self, meter: &Meter) {
        let name = "doorward_revocation_lag_seconds";
        let what = "From the end of a session to this node's hearing of it";
        self.head(name, "histogram", what);
        for way in Way::ALL {
            let lag = &meter.lags[way as usize];
            self.times(name, &label("way", way.name()), lag);
        }
    }

    fn times(&mut self, name: &str, label: &str, histogram: &Histogram) {
        self.histogram(name, label, histogram, of_micros);
    }

    fn histogram<T: Display>(
        &mut self,
        name: &str,
        label: &str,
        histogram: &Histogram,
        of: impl Fn(u64) -> T,
    ) {
        // Once, so that the parts agree while others count.
        let count = histogram.count();
        let bucket = format!("{name}_bucket");
        for (bound, below) in histogram.up_to() {
            let labels = format!("{{{label},le=\"{}\"}}", of(bound));
            self.line(&bucket, &labels, below.min(count));
        }
        self.line(&bucket, &format!("{{{label},le=\"+Inf\"}}"), count);
        let labels = format!("{{{label}}}");
        self.line(&format!("{name}_sum"), &labels, of(histogram.sum()));
        self.line(&format!("{name}_count"), &labels, count);
    }

    fn gauge(&mut self, name: &str, what: &str, value: impl Display) {
        self.head(name, "gauge", what);
        self.line(name, "", value);
    }

    fn head(&mut self, name: &str, kind: &str, what: &str) {
        let _ = writeln!(self.0, "# HELP {name} {what}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// Values are names of ours, without anything to be escaped.
fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{value}\"")
}

#[expect(clippy::cast_precision_loss, reason = "285 years, to the microsecond")]
fn of_micros(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a span")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

fn loaded(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
