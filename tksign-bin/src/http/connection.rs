//! One connection, from the accepted socket to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::gate::Gate;
use super::metrics::{Metrics, TURNED_AWAY};
use super::reply::Reply;
use super::timer::Timer;
use crate::host::Listener;
use crate::peer::Peer;

/// How long anybody may take for anything. One set for a server; tests use shorter ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For a request's header, and without one on an open connection.
    pub(crate) header: Duration,
    /// For a request's body.
    pub(crate) body: Duration,
    /// Without taking a byte of an answer.
    pub(crate) stalled: Duration,
    /// For a whole connection: long enough to read the largest snapshot slowly, short enough
    /// that nobody who reads a byte a while keeps a place for ever.
    pub(crate) connection: Duration,
    /// For an operation. A change that takes longer goes on and is told by its request id.
    pub(crate) operation: Duration,
    /// For a long poll: below the minute after which common proxies give up.
    pub(crate) wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(30),
            body: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
            connection: Duration::from_secs(3600),
            operation: Duration::from_secs(30),
            wait: Duration::from_secs(55),
        }
    }
}

/// Room for a request's header; also what hyper keeps for each connection at least.
const HEADER_BYTES: usize = 8192;
/// Most header lines.
const HEADER_LINES: usize = 64;
/// Pause after the system would not accept (out of descriptors), so that the thread does not
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What stands behind a listener.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the client goes away.
    fn handle(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Reply> + Send;
}

/// All listeners of one server and their connections.
pub(crate) struct Doors {
    timeouts: Timeouts,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Doors {
    pub(crate) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, stop: watch::Sender::new(false), tasks: JoinSet::new() }
    }

    /// Told `true` when the server stops: what waits should answer now.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Serves `handler` behind listeners that share a gate, in the background.
    pub(crate) fn open<H: Handler>(
        &mut self,
        listeners: Vec<Listener>,
        gate: Arc<Gate>,
        handler: &Arc<H>,
        metrics: &Arc<Metrics>,
    ) {
        for listener in listeners {
            let (gate, handler, metrics) = (Arc::clone(&gate), Arc::clone(handler), Arc::clone(metrics));
            self.tasks.spawn(accept(listener, gate, handler, metrics, self.stop.subscribe(), self.timeouts));
        }
    }

    /// Takes no new connection, lets every request under way end, closes the rest. At most
    /// `patience`; what is not done then is cut.
    pub(crate) async fn close(mut self, patience: Duration) {
        let _ = self.stop.send(true);
        let tasks = &mut self.tasks;
        let _ =
            tokio::time::timeout(patience, async move { while tasks.join_next().await.is_some() {} }).await;
    }
}

async fn accept<H: Handler>(
    listener: Listener,
    gate: Arc<Gate>,
    handler: Arc<H>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
    timeouts: Timeouts,
) {
    let mut connections = JoinSet::new();
    let on_stop = stop.clone();
    loop {
        let next = first(listener.accept(), stopped(&mut stop)).await;
        let First::One(accepted) = next else { break };
        match accepted {
            Ok((stream, peer)) => match gate.enter(peer.origin()) {
                Some(place) => {
                    let (handler, stop) = (Arc::clone(&handler), on_stop.clone());
                    connections.spawn(async move {
                        connection(stream, peer, handler, stop, timeouts).await;
                        drop(place);
                    });
                }
                None => {
                    metrics.count(TURNED_AWAY);
                    turn_away(stream);
                }
            },
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    // The socket is closed before the wait, so that nobody new comes.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection<H: Handler>(
    stream: Box<dyn Stream>,
    peer: Peer,
    handler: Arc<H>,
    mut stop: watch::Receiver<bool>,
    timeouts: Timeouts,
) {
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.handle(request, peer).await.into_response()) }
    });
    let connection = http1::Builder::new()
        .timer(Timer)
        .header_read_timeout(timeouts.header)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADER_LINES)
        .serve_connection(Paced::new(stream, timeouts.stalled), service);
    let mut connection = pin!(connection);
    let over = first(stopped(&mut stop), sleep(timeouts.connection));
    if let First::One(_) = first(connection.as_mut(), over).await {
        return;
    }
    connection.as_mut().graceful_shutdown();
    // What is under way may end, and no more: `Paced` alone would let a trickle go on for days.
    let last = timeouts.wait.saturating_add(timeouts.stalled);
    let _ = first(connection, sleep(last)).await;
}

/// Waits until the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Which of two futures was ready first.
pub(crate) enum First<A, B> {
    One(A),
    Other(B),
}

/// Waits for either; the first has precedence.
pub(crate) async fn first<A: Future, B: Future>(one: A, other: B) -> First<A::Output, B::Output> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| {
        if let Poll::Ready(output) = one.as_mut().poll(cx) {
            return Poll::Ready(First::One(output));
        }
        other.as_mut().poll(cx).map(First::Other)
    })
    .await
}

/// An accepted socket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Says once, if the socket takes it at once, that there is no room.
fn turn_away(mut stream: Box<dyn Stream>) {
    const FULL: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let _ = Pin::new(&mut stream).poll_write(&mut Context::from_waker(Waker::noop()), FULL);
}

/// A socket that gives up on a client which takes no byte for too long.
struct Paced {
    stream: Box<dyn Stream>,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    const fn new(stream: Box<dyn Stream>, patience: Duration) -> Self {
        Self { stream, patience, stalled: None }
    }

    fn pace<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Read at once at most: a request's header, or an eighth of its longest body.
const CHUNK: usize = HEADER_BYTES;

impl Read for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let room = chunk.get_mut(..to.remaining().min(CHUNK)).unwrap_or_default();
        let mut read = ReadBuf::new(room);
        Pin::new(&mut self.stream)
            .poll_read(cx, &mut read)
            .map(|result| result.map(|()| to.put_slice(read.filled())))
    }
}

impl Write for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, from);
        self.pace(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, from);
        self.pace(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
