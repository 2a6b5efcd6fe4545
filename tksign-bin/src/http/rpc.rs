//! The two endpoints of the protocol (PR-1, PR-5, PR-50 to PR-63).

use std::future::Future;
use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::{Method, StatusCode};
use tkcore::protocol::{
    ClientKey, Code, Frame, RPC_BODY_BYTES, RPC_PATH, Refused, Request, Response, SESSION_BODY_BYTES,
    SESSION_PATH,
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::connection::{Handler, Timeouts};
use super::gate::HandshakeGate;
use super::metrics::{Metrics, REFUSED};
use super::reply::{Reply, body};
use crate::clock::monotonic;
use crate::peer::Peer;
use crate::session::{Opened, Sessions, refuse};
use crate::writer::Payload;

/// Handshakes that are computed at once, each on a thread beside the one that serves requests.
const HANDSHAKES: usize = 2;
const OCTETS: &str = "application/octet-stream";

/// Who decides what a client may do, and does it.
pub(crate) trait Authority: Send + Sync + 'static {
    /// Whether a key is a client's at all.
    fn knows(&self, client: &ClientKey) -> bool;
    /// Answers a request payload with an answer payload.
    fn handle(&self, client: ClientKey, peer: Peer, request: &[u8]) -> impl Future<Output = Payload> + Send;
}

/// Sessions in front of an authority.
pub(crate) struct Rpc<A> {
    sessions: Arc<Sessions>,
    authority: Arc<A>,
    handshakes: Arc<HandshakeGate>,
    pool: Arc<Semaphore>,
    timeouts: Timeouts,
    metrics: Arc<Metrics>,
}

impl<A: Authority> Rpc<A> {
    pub(crate) fn new(
        sessions: Arc<Sessions>,
        authority: Arc<A>,
        timeouts: Timeouts,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (handshakes, pool) = (Arc::default(), Arc::new(Semaphore::new(HANDSHAKES)));
        Self { sessions, authority, handshakes, pool, timeouts, metrics }
    }

    async fn session(&self, body: &[u8], peer: Peer) -> Result<Vec<u8>, Refused> {
        let request = Sessions::read_handshake(body)?;
        let now = monotonic();
        let entered = self.handshakes.enter(peer.origin(), now).ok_or(Refused::Busy)?;
        let turn = Arc::clone(&self.pool).acquire_owned().await.map_err(|_| Refused::Busy)?;
        let (sessions, authority) = (Arc::clone(&self.sessions), Arc::clone(&self.authority));
        let answer = tokio::task::spawn_blocking(move || {
            // Kept until the arithmetic is done, also when the client has hung up.
            let _kept = (entered, turn);
            sessions.open(&request, now, |client| authority.knows(client))
        });
        answer.await.unwrap_or(Err(Refused::Busy)).map(|answer| Frame::Accepted(answer).encode())
    }

    /// What the message asks, once it is authentic, new, and of somebody who is still a client.
    fn open(&self, body: &[u8]) -> Result<Opened, Refused> {
        let opened = self.sessions.request(body, monotonic())?;
        if self.authority.knows(&opened.client) {
            return Ok(opened);
        }
        self.sessions.forget(&opened.client);
        Err(Refused::Session)
    }

    async fn call(&self, opened: Opened, peer: Peer) -> Vec<u8> {
        let client = opened.client;
        let asked = Request::operation_of(&opened.payload);
        let answer = match self.sessions.allow(&client, monotonic()) {
            Err(wait) => {
                // Up, so that who waits as told is not told again.
                let millis = u32::try_from(wait.as_millis().saturating_add(1)).unwrap_or(u32::MAX);
                Zeroizing::new(Response::error(&Code::RateLimited.error().retry_after(millis)))
            }
            Ok(()) => {
                let handled = self.authority.handle(client, peer, &opened.payload);
                let late = Code::Busy.detail("it may still be done; ask with the same id");
                let answer = tokio::time::timeout(self.timeouts.operation, handled).await;
                answer.unwrap_or_else(|_| Zeroizing::new(Response::error(&late)))
            }
        };
        self.metrics.called(asked, Response::code_of(&answer));
        opened.answer(&answer)
    }
}

impl<A: Authority> Handler for Rpc<A> {
    async fn handle(&self, request: hyper::Request<Incoming>, peer: Peer) -> Reply {
        let (head, incoming) = request.into_parts();
        match (head.uri.path(), &head.method) {
            (SESSION_PATH, &Method::POST) => {
                match body(incoming, SESSION_BODY_BYTES, self.timeouts.body).await {
                    Ok(body) => {
                        let result = self.session(&body, peer).await;
                        self.metrics.handshake(result.as_ref().err().copied());
                        framed(result)
                    }
                    Err(reply) => reply,
                }
            }
            (RPC_PATH, &Method::POST) => match body(incoming, RPC_BODY_BYTES, self.timeouts.body).await {
                Ok(body) => framed(match self.open(&body) {
                    Ok(opened) => Ok(self.call(opened, peer).await),
                    Err(refused) => {
                        self.metrics.count(REFUSED);
                        Err(refused)
                    }
                }),
                Err(reply) => reply,
            },
            (SESSION_PATH | RPC_PATH, _) => Reply::wrong_method("POST"),
            _ => Reply::not_found(),
        }
    }
}

fn framed(result: Result<Vec<u8>, Refused>) -> Reply {
    match result {
        Ok(body) => Reply::new(StatusCode::OK, OCTETS, Bytes::from(body)),
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let reply = Reply::new(status, OCTETS, Bytes::from(refuse(refused)));
            if refused == Refused::Busy { reply.with(RETRY_AFTER, "1") } else { reply }
        }
    }
}
