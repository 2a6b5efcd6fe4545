//! The public listener: the feed, health and readiness, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
    RETRY_AFTER,
};
use hyper::{Method, Request, StatusCode};
use tkcore::revocation::Position;
use tokio::sync::watch;
use tokio::time::sleep;

use super::connection::{First, Handler, first, stopped};
use super::metrics::Metrics;
use super::range::{Part, names, part};
use super::reply::Reply;
use crate::clock::monotonic;
use crate::feed_tree::FeedTree;
use crate::peer::Peer;

/// Longest request target: the longest path of the tree is 130 bytes.
const TARGET_BYTES: usize = 256;
const OCTETS: &str = "application/octet-stream";
/// Immutable objects have their epoch in the path, so what is cached is never wrong.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A head may be a second old anywhere; its own signed times bound what that can do.
const SHORT: &str = "public, max-age=1";

/// The tree over HTTP.
pub(crate) struct Public {
    feed: FeedTree,
    prefix: String,
    stop: watch::Receiver<bool>,
    patience: Duration,
    metrics: Arc<Metrics>,
}

impl Public {
    /// `patience`: longest a `wait` is kept.
    pub(crate) fn new(
        feed: FeedTree,
        stop: watch::Receiver<bool>,
        patience: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let prefix = format!("/v1/feed/{}/", feed.feed());
        Self { feed, prefix, stop, patience, metrics }
    }

    /// All paths, a line each; for the control socket alone.
    pub(crate) fn paths(&self) -> Reply {
        let lines: String = self.feed.paths().into_iter().map(|path| path + "\n").collect();
        Reply::new(StatusCode::OK, "text/plain; charset=utf-8", lines)
    }

    fn ready(&self) -> Reply {
        match self.feed.not_ready(monotonic()) {
            None => Reply::text(StatusCode::OK, "ready\n"),
            Some(why) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, why).with(RETRY_AFTER, "1"),
        }
    }

    /// Answers at once when the head is not at `after`, else with the next head.
    async fn wait(&self, request: Request<Incoming>) -> Reply {
        // The request is let go with this: it is a view of hyper's buffer, which would be kept beside
        // the next one for as long as nothing happens.
        let after = |asked: Request<_>| Position::from_text(asked.uri().query()?.strip_prefix("after=")?);
        let Some(after) = after(request) else {
            return Reply::text(StatusCode::BAD_REQUEST, "wait needs ?after=EPOCH.SEQUENCE\n");
        };
        let mut head = self.feed.head();
        let (mut stop, _waiting) = (self.stop.clone(), self.metrics.wait());
        // Not marked as seen here: a heartbeat that comes in between ends the wait as well.
        if *head.borrow() == after {
            let ended = first(stopped(&mut stop), sleep(self.patience));
            match first(head.changed(), ended).await {
                First::One(_) => {}
                // A client that hears "no news" before its time would take this for a server that
                // holds no requests; told that it stops, it asks again soon.
                First::Other(First::One(())) => {
                    return Reply::empty(StatusCode::SERVICE_UNAVAILABLE).with(RETRY_AFTER, "0");
                }
                // Nothing new: not an error, and nothing that proves anything.
                First::Other(First::Other(())) => return Reply::empty(StatusCode::NO_CONTENT),
            }
        }
        match self.feed.get("head") {
            Some(head) => Reply::new(StatusCode::OK, OCTETS, head.bytes).with(ETAG, &head.etag),
            None => Reply::not_found(),
        }
    }

    fn object(&self, path: &str, headers: &HeaderMap) -> Reply {
        // `not_found` is `no-store`: a key list or a delta that is not there yet will be.
        let Some(object) = self.feed.get(path) else { return Reply::not_found() };
        let cache = if object.immutable { IMMUTABLE } else { SHORT };
        if header(headers, IF_NONE_MATCH).is_some_and(|value| names(value, &object.etag)) {
            return Reply::empty(StatusCode::NOT_MODIFIED)
                .with(CACHE_CONTROL, cache)
                .with(ETAG, &object.etag);
        }
        let len = object.bytes.len();
        let same = header(headers, IF_RANGE).is_none_or(|tag| tag.trim() == object.etag);
        let asked = header(headers, RANGE).filter(|_| same).map_or(Part::Whole, |value| part(value, len));
        let reply = match asked {
            Part::Whole => Reply::new(StatusCode::OK, OCTETS, object.bytes),
            Part::Some(range) => {
                let label = format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1));
                Reply::new(StatusCode::PARTIAL_CONTENT, OCTETS, object.bytes.slice(range))
                    .with(CONTENT_RANGE, &label)
            }
            Part::None => {
                let label = format!("bytes */{len}");
                return Reply::text(StatusCode::RANGE_NOT_SATISFIABLE, "no such range\n")
                    .with(CONTENT_RANGE, &label);
            }
        };
        reply.with(CACHE_CONTROL, cache).with(ETAG, &object.etag).with(ACCEPT_RANGES, "bytes")
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let uri = request.uri();
        if uri.path_and_query().is_none_or(|target| target.as_str().len() > TARGET_BYTES) {
            return Reply::not_found();
        }
        match uri.path() {
            // The event loop answers: that is all that liveness means.
            "/healthz" => Reply::text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            path => match path.strip_prefix(&self.prefix) {
                Some("wait") => self.wait(request).await,
                Some(path) => self.object(path, request.headers()),
                None => Reply::not_found(),
            },
        }
    }
}

impl Handler for Public {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Reply {
        // hyper leaves the body out of the answer to HEAD.
        let reply = match *request.method() {
            Method::GET | Method::HEAD => self.answer(request).await,
            _ => Reply::wrong_method("GET, HEAD"),
        };
        self.metrics.public(reply.status().as_u16());
        reply
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let position = |text| Position::from_text(text);
        assert_eq!(position("1.20"), Some(Position { epoch: 1, sequence: 20 }));
        for wrong in ["", "1", "1.", ".1", "+1.2", "1.-2", "1.2.3", "1.99999999999999999999"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
    }
}
