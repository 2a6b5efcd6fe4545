use core::time::Duration;

use crate::ids::FeedId;
use crate::revocation::key_list::RootKeys;

/// How often a signer signs a new head when nothing was revoked.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// What a client pins and how patient it is. [`Config::new`] gives the documented defaults.
///
/// How long an outage may last without anybody noticing is how long somebody who holds the
/// network could hide a revocation: `max_age` and the signed validity bound both.
#[derive(Debug, Clone)]
pub struct Config {
    /// The feed this service believes.
    pub feed: FeedId,
    /// The root keys it pins.
    pub roots: RootKeys,
    /// How many places the feed can be fetched from; the driver knows where. At least one.
    pub mirrors: usize,
    /// Older than this is *aging*: decided by, and said in health and metrics. 2 minutes.
    pub aging: Duration,
    /// Older than this is *stale*, even while the head is valid. None: the head decides.
    pub max_age: Option<Duration>,
    /// A head that would be valid for longer is refused. 24 hours.
    pub local_maximum: Duration,
    /// How far clocks may be apart. 60 seconds.
    pub skew: Duration,
    /// How long a server may hold a request back until something is new; zero: never ask for
    /// that. 55 seconds.
    pub long_poll: Duration,
    /// How often to ask where a long poll is not offered, unless the head says to wait longer.
    /// 10 seconds.
    pub poll: Duration,
    /// How often to look for the next key list. 5 minutes.
    pub key_list_poll: Duration,
    /// Upper bound of the first wait after a failure; it doubles with each. 1 second.
    pub backoff: Duration,
    /// Upper bound of any wait after a failure. 60 seconds.
    pub backoff_cap: Duration,
    /// Most that a `Retry-After` is honoured. 5 minutes.
    pub retry_after_cap: Duration,
    /// Largest snapshot fetched, in bytes. 1 GiB, some 75 million rows.
    pub snapshot_bytes: u64,
}

impl Config {
    /// The defaults, for one mirror.
    #[must_use]
    pub const fn new(feed: FeedId, roots: RootKeys) -> Self {
        Self {
            feed,
            roots,
            mirrors: 1,
            aging: Duration::from_secs(120),
            max_age: None,
            local_maximum: Duration::from_secs(24 * 3600),
            skew: Duration::from_secs(60),
            long_poll: Duration::from_secs(55),
            poll: Duration::from_secs(10),
            key_list_poll: Duration::from_secs(300),
            backoff: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(60),
            retry_after_cap: Duration::from_secs(300),
            snapshot_bytes: 1 << 30,
        }
    }
}
