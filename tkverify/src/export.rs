//! The verifier's numbers in the `metrics` facade, with the feature of that name: whatever recorder
//! the service has installed gets them.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use metrics::{counter, gauge};

use crate::feed::Freshness;
use crate::verifier::{Inner, Verifier};

/// What of [`Metrics::all`](crate::Metrics::all) can also fall.
const GAUGES: [&str; 4] = ["memory_lineages", "memory_bytes", "asking", "waiting"];

impl Verifier {
    /// Writes every number to the recorder of the `metrics` facade that is installed:
    /// `tkverify_<name>_total` for what only grows and `tkverify_<name>` for the rest
    /// ([`Metrics`](crate::Metrics) names them), `tkverify_hit_ratio`,
    /// `tkverify_feed_events_total{event}`, `tkverify_feed_epoch` and `tkverify_feed_sequence` of the state in
    /// force, `tkverify_state_age_seconds`, and 1 or 0 for `tkverify_fresh`, `tkverify_aging`, `tkverify_stale`, `tkverify_alarm`. Call it when the numbers
    /// are collected, or have it called ([`Builder::export_metrics`](crate::Builder::export_metrics)).
    pub fn export_metrics(&self) {
        let numbers = self.metrics();
        for (name, value) in numbers.all() {
            if GAUGES.contains(&name) {
                gauge!(format!("tkverify_{name}")).set(float(value));
            } else {
                counter!(format!("tkverify_{name}_total")).absolute(value);
            }
        }
        if let Some(ratio) = numbers.hit_ratio() {
            gauge!("tkverify_hit_ratio").set(ratio);
        }
        for (event, count) in self.feed().counts() {
            counter!("tkverify_feed_events_total", "event" => event).absolute(count);
        }
        if let Some((epoch, sequence)) = self.feed().position() {
            gauge!("tkverify_feed_epoch").set(float(epoch));
            gauge!("tkverify_feed_sequence").set(float(sequence));
        }
        let health = self.health();
        if let Some(age) = health.age {
            gauge!("tkverify_state_age_seconds").set(age.as_secs_f64());
        }
        let truth = |name: &'static str, holds: bool| gauge!(name).set(f64::from(u8::from(holds)));
        truth("tkverify_fresh", health.freshness == Freshness::Fresh);
        truth("tkverify_aging", health.freshness == Freshness::Aging);
        truth("tkverify_stale", health.freshness == Freshness::Stale);
        truth("tkverify_alarm", health.alarm);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a number for people; exact up to 2^53")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Exports at intervals. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Does not keep the verifier alive.
    pub(crate) fn start(inner: Weak<Inner>, every: Duration) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("tk-metrics".to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(inner) = inner.upgrade() else { return };
                Verifier { inner: Arc::clone(&inner) }.export_metrics();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.take();
        // The last holder of the verifier may be this very thread.
        if let Some(thread) = self.thread.take().filter(|it| it.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}
