//! The server: its listeners, what stands behind each, and how it stops.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use tkcore::protocol::{RPC_PATH, Rate, SESSION_PATH};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::monotonic;
use crate::feed_tree::FeedTree;
use crate::host::{self, Address, BindError, Inherited, Listener, Notify};
use crate::http::{
    Authority, Doors, Gate, Handler, Kind, Metrics, MetricsPage, Public, Reply, Rpc, Timeouts, family, first,
};
use crate::peer::Peer;
use crate::random;
use crate::session::{ServerKey, Sessions};

/// Name of the control socket in the state folder.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// On the control socket: the paths of all objects of the feed, a line each, for `publish`.
pub(crate) const PATHS: &str = "/v1/paths";

/// Connections of services: a fleet of a thousand with a few each.
const RPC_CONNECTIONS: usize = 4096;
/// From one address: many services behind one gateway, and no more than a quarter.
const RPC_CONNECTIONS_EACH: usize = 1024;
/// Connections of feed readers, most of them waiting: 15 KiB each are 180 MiB.
const PUBLIC_CONNECTIONS: usize = 12_000;
/// From one address: a proxy may stand for nearly all of them, and never for the last ones.
const PUBLIC_CONNECTIONS_EACH: usize = 10_000;
/// Scrapers, and the operator's commands.
const FEW_CONNECTIONS: usize = 64;
/// How long requests under way may take to end when the server stops.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the first head may take before the server says that it serves all the same: a
/// signer that cannot publish still verifies and revokes, and `/readyz` tells.
const FIRST_HEAD: Duration = Duration::from_secs(5);
/// How often ended sessions are dropped.
const SWEEP: Duration = Duration::from_secs(5);

/// Where a server listens, and who is told.
#[derive(Debug)]
pub(crate) struct Config {
    /// Calls of services.
    pub(crate) rpc: Vec<Address>,
    /// The feed, health and readiness.
    pub(crate) public: Vec<Address>,
    /// Metrics.
    pub(crate) metrics: Vec<Address>,
    /// How often one client may call.
    pub(crate) rate: Option<Rate>,
    /// Sockets that were opened for it.
    pub(crate) inherited: Inherited,
    /// Told when it stops.
    pub(crate) notify: Notify,
}

/// How often one client may call unless told otherwise: what one core serves in all.
const RATE: Rate = Rate { per_second: 10_000, burst: 20_000 };

/// Where the server listens in fact.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) rpc: Vec<String>,
    pub(crate) public: Vec<String>,
    pub(crate) metrics: Vec<String>,
}

/// Listens and serves until SIGTERM or SIGINT, then stops taking connections, lets what is
/// under way end, and returns. `close_in` is called when everything is open that ever will be, before
/// anybody is heard; what it gives is told where it listens, once it does.
pub(crate) async fn serve<A: Authority, R: FnOnce(Bound)>(
    folder: &Path,
    config: &mut Config,
    key: ServerKey,
    authority: Arc<A>,
    feed: FeedTree,
    more_metrics: Box<dyn Fn(&mut String) + Send + Sync>,
    close_in: impl FnOnce() -> R,
) -> Result<(), BindError> {
    let signals = |kind| signal(kind).unwrap_or_else(|_| random::stop("signals cannot be received"));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate()), signals(SignalKind::interrupt()));
    let metrics = Arc::new(Metrics::default());
    let sessions = Arc::new(Sessions::new(key, config.rate.unwrap_or(RATE)));
    let timeouts = Timeouts::default();
    let mut doors = Doors::new(timeouts);
    let rpc = Arc::new(Rpc::new(Arc::clone(&sessions), authority, timeouts, Arc::clone(&metrics)));
    let mut head = feed.head();
    let public = Arc::new(Public::new(feed, doors.stopping(), timeouts.wait, Arc::clone(&metrics)));
    let page = {
        let (sessions, metrics) = (Arc::clone(&sessions), Arc::clone(&metrics));
        let more = Box::new(move |page: &mut String| {
            session_metrics(&sessions, page);
            more_metrics(page);
        });
        Arc::new(MetricsPage::new(metrics, more))
    };
    // All are bound before any is served, so that a second server on the same addresses fails
    // whole.
    let control = Listener::control(&folder.join(CONTROL_SOCKET))?;
    let (rpc_doors, rpc_bound) = bind(&config.rpc, &mut config.inherited).await?;
    let (public_doors, public_bound) = bind(&config.public, &mut config.inherited).await?;
    let (metrics_doors, metrics_bound) = bind(&config.metrics, &mut config.inherited).await?;
    let both = Arc::new(Both { rpc: Arc::clone(&rpc), public: Arc::clone(&public) });
    let ready = close_in();
    let few = || Gate::new(FEW_CONNECTIONS, FEW_CONNECTIONS);
    let (rpc_most, public_most) = (host::share(RPC_CONNECTIONS), host::share(PUBLIC_CONNECTIONS));
    doors.open(vec![control], few(), &both, &metrics);
    doors.open(rpc_doors, Gate::new(rpc_most, RPC_CONNECTIONS_EACH), &rpc, &metrics);
    doors.open(public_doors, Gate::new(public_most, PUBLIC_CONNECTIONS_EACH), &public, &metrics);
    doors.open(metrics_doors, few(), &page, &metrics);
    // The sender lives as long as the feed, which is served.
    let _ = tokio::time::timeout(FIRST_HEAD, head.wait_for(|position| position.epoch > 0)).await;
    ready(Bound { rpc: rpc_bound, public: public_bound, metrics: metrics_bound });
    let sweeping = tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            sessions.sweep(monotonic());
        }
    });
    first(terminate.recv(), interrupt.recv()).await;
    config.notify.tell("STOPPING=1");
    sweeping.abort();
    doors.close(PATIENCE).await;
    Ok(())
}

async fn bind(
    addresses: &[Address],
    inherited: &mut Inherited,
) -> Result<(Vec<Listener>, Vec<String>), BindError> {
    let (mut listeners, mut bound) = (Vec::new(), Vec::new());
    for address in addresses {
        let listener = Listener::bind(address, inherited).await?;
        bound.push(listener.address().as_ref().unwrap_or(address).to_string());
        listeners.push(listener);
    }
    Ok((listeners, bound))
}

fn session_metrics(sessions: &Sessions, page: &mut String) {
    let (waiting, confirmed) = sessions.counts();
    let states = [("{state=\"unconfirmed\"}", waiting), ("{state=\"confirmed\"}", confirmed)];
    family(page, Kind::Gauge, ("tksign_sessions", "Noise sessions by state."), states);
}

/// What stands behind the control socket: the protocol, and the feed for `publish`.
struct Both<A> {
    rpc: Arc<Rpc<A>>,
    public: Arc<Public>,
}

impl<A: Authority> Handler for Both<A> {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Reply {
        match request.uri().path() {
            SESSION_PATH | RPC_PATH => self.rpc.handle(request, peer).await,
            PATHS => self.public.paths(),
            _ => self.public.handle(request, peer).await,
        }
    }
}
