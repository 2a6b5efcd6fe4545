//! Counters of the doors, and the page that shows them (OpenMetrics 1.0 text).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use tkcore::protocol::{Operation, Refused};

use super::connection::Handler;
use super::reply::Reply;
use crate::peer::Peer;
use crate::session::lock;

/// Name and help of a family.
pub(super) type Named = (&'static str, &'static str);

pub(super) const TURNED_AWAY: Named =
    ("tksign_connections_turned_away", "Connections for which there was no room.");
pub(super) const REFUSED: Named = ("tksign_messages_refused", "Messages that no session could read.");
const HANDSHAKES: Named = ("tksign_handshakes", "Handshakes by outcome.");
const CALLS: Named =
    ("tksign_calls", "Authentic requests by operation and code of the answer; 0 is success.");
const PUBLIC: Named = ("tksign_public_requests", "Requests to the public listener by status.");
const WAITING: Named = ("tksign_long_polls_waiting", "Clients that wait for the next head.");

/// What is counted at the doors. Labels are operations and codes, a closed set; never a
/// client, a tenant or a token.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<BTreeMap<Named, BTreeMap<String, u64>>>,
    waiting: AtomicU64,
}

/// Counts one waiting long poll while it lives.
pub(super) struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// One more of what has no labels.
    pub(super) fn count(&self, what: Named) {
        self.add(what, String::new(), 1);
    }

    pub(super) fn handshake(&self, refused: Option<Refused>) {
        let outcome = match refused {
            None => "accepted",
            Some(Refused::Handshake) => "refused",
            Some(Refused::Busy) => "busy",
            Some(Refused::Version { .. }) => "version",
            Some(_) => "malformed",
        };
        self.add(HANDSHAKES, format!("{{outcome=\"{outcome}\"}}"), 1);
    }

    /// An authentic request, by operation and by the code of its answer (0: success).
    pub(super) fn called(&self, operation: u16, code: u16) {
        // A client can send any code: all unknown ones are one.
        let name = Operation::from_code(operation).map_or("unknown", Operation::name);
        self.add(CALLS, format!("{{operation=\"{name}\",code=\"{code:#06x}\"}}"), 1);
    }

    pub(super) fn public(&self, status: u16) {
        self.add(PUBLIC, format!("{{status=\"{status}\"}}"), 1);
    }

    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    fn add(&self, what: Named, labels: String, count: u64) {
        let mut counts = lock(&self.counts);
        let sum = counts.entry(what).or_default().entry(labels).or_default();
        *sum = sum.saturating_add(count);
    }

    fn write(&self, to: &mut String) {
        // Alert rules ask for these: they are there from the start.
        [TURNED_AWAY, REFUSED].into_iter().for_each(|what| self.add(what, String::new(), 0));
        for (what, samples) in &*lock(&self.counts) {
            family(to, Kind::Counter, *what, samples.iter().map(|(labels, count)| (labels, *count)));
        }
        family(to, Kind::Gauge, WAITING, [("", self.waiting.load(Ordering::Relaxed))]);
    }
}

/// What a family of samples is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// Writes a family: each sample with its labels, in braces or none.
pub(crate) fn family<L: Display>(
    to: &mut String,
    kind: Kind,
    (name, help): (&str, &str),
    samples: impl IntoIterator<Item = (L, u64)>,
) {
    let (kind, suffix) = match kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
    };
    let _ = writeln!(to, "# TYPE {name} {kind}\n# HELP {name} {help}");
    for (labels, value) in samples {
        let _ = writeln!(to, "{name}{suffix}{labels} {value}");
    }
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
                Reply::new(StatusCode::OK, kind, page)
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
