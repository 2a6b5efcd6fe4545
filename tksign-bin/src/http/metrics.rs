//! Counters of the doors, and the page that shows them (OpenMetrics 1.0 text).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tkcore::protocol::{Operation, Refused};

use super::connection::Handler;
use super::reply::Reply;
use crate::peer::Peer;

/// What is counted at the doors. Labels are operations and codes, a closed set; never a
/// client, a tenant or a token.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    turned_away: AtomicU64,
    refused_messages: AtomicU64,
    handshakes: Mutex<BTreeMap<&'static str, u64>>,
    calls: Mutex<BTreeMap<(u16, u16), u64>>,
    public: Mutex<BTreeMap<u16, u64>>,
    waiting: AtomicI64,
}

/// Counts one waiting long poll while it lives.
pub(super) struct Waiting<'a>(&'a AtomicI64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A connection for which there was no room.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// A message that no session could read.
    pub(super) fn refused_message(&self) {
        self.refused_messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn handshake(&self, refused: Option<Refused>) {
        let outcome = match refused {
            None => "accepted",
            Some(Refused::Handshake) => "refused",
            Some(Refused::Busy) => "busy",
            Some(Refused::Version { .. }) => "version",
            Some(_) => "malformed",
        };
        add(&self.handshakes, outcome);
    }

    /// An authentic request, by operation and by the code of its answer (0: success).
    pub(super) fn called(&self, operation: u16, code: u16) {
        // A client can send any code: all unknown ones are one.
        let known = Operation::from_code(operation).map_or(0, Operation::code);
        add(&self.calls, (known, code));
    }

    pub(super) fn public(&self, status: u16) {
        add(&self.public, status);
    }

    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    fn write(&self, to: &mut String) {
        counter(to, "tksign_connections_turned_away", "Connections for which there was no room.");
        let _ =
            writeln!(to, "tksign_connections_turned_away_total {}", self.turned_away.load(Ordering::Relaxed));
        counter(to, "tksign_messages_refused", "Messages that no session could read.");
        let _ =
            writeln!(to, "tksign_messages_refused_total {}", self.refused_messages.load(Ordering::Relaxed));
        counter(to, "tksign_handshakes", "Handshakes by outcome.");
        for (outcome, count) in &*lock(&self.handshakes) {
            let _ = writeln!(to, "tksign_handshakes_total{{outcome=\"{outcome}\"}} {count}");
        }
        counter(to, "tksign_calls", "Authentic requests by operation and code of the answer; 0 is success.");
        for ((operation, code), count) in &*lock(&self.calls) {
            let name = Operation::from_code(*operation).map_or("unknown", Operation::name);
            let _ = writeln!(to, "tksign_calls_total{{operation=\"{name}\",code=\"{code:#06x}\"}} {count}");
        }
        counter(to, "tksign_public_requests", "Requests to the public listener by status.");
        for (status, count) in &*lock(&self.public) {
            let _ = writeln!(to, "tksign_public_requests_total{{status=\"{status}\"}} {count}");
        }
        gauge(to, "tksign_long_polls_waiting", "Clients that wait for the next head.");
        let _ = writeln!(to, "tksign_long_polls_waiting {}", self.waiting.load(Ordering::Relaxed));
    }
}

fn add<K: Ord>(counts: &Mutex<BTreeMap<K, u64>>, key: K) {
    let mut counts = lock(counts);
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

/// Counts are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a counter's family.
pub(crate) fn counter(to: &mut String, name: &str, help: &str) {
    let _ = writeln!(to, "# TYPE {name} counter\n# HELP {name} {help}");
}

/// Begins a gauge's family.
pub(crate) fn gauge(to: &mut String, name: &str, help: &str) {
    let _ = writeln!(to, "# TYPE {name} gauge\n# HELP {name} {help}");
}

/// The metrics listener.
pub(crate) struct MetricsPage {
    metrics: Arc<Metrics>,
    more: Box<dyn Fn(&mut String) + Send + Sync>,
}

impl MetricsPage {
    /// `more` writes families beyond those of the doors.
    pub(crate) fn new(metrics: Arc<Metrics>, more: Box<dyn Fn(&mut String) + Send + Sync>) -> Self {
        Self { metrics, more }
    }
}

impl Handler for MetricsPage {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Reply {
        match (request.uri().path(), request.method()) {
            ("/metrics", &(Method::GET | Method::HEAD)) => {
                let mut page = String::new();
                self.metrics.write(&mut page);
                (self.more)(&mut page);
                page.push_str("# EOF\n");
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Reply::new(StatusCode::OK, kind, page).cache("no-store")
            }
            ("/metrics", _) => Reply::wrong_method("GET, HEAD"),
            _ => Reply::not_found(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_counts_and_names_only_what_is_known() {
        let metrics = Metrics::default();
        metrics.called(Operation::Verify.code(), 0);
        metrics.called(Operation::Verify.code(), 0);
        metrics.called(0x7777, 0x0201);
        metrics.handshake(None);
        metrics.handshake(Some(Refused::Handshake));
        metrics.public(200);
        let waiting = metrics.wait();
        let mut page = String::new();
        metrics.write(&mut page);
        for line in [
            "tksign_calls_total{operation=\"verify\",code=\"0x0000\"} 2",
            "tksign_calls_total{operation=\"unknown\",code=\"0x0201\"} 1",
            "tksign_handshakes_total{outcome=\"refused\"} 1",
            "tksign_public_requests_total{status=\"200\"} 1",
            "tksign_long_polls_waiting 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        drop(waiting);
        assert_eq!(metrics.waiting.load(Ordering::Relaxed), 0);
    }
}
