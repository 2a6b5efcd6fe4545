//! Putting a verifier together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tkcore::revocation::feed::{Config, Machine};
use tkcore::revocation::{FeedKey, RootKeys};
use tkcore::{Audience, KeyId, NameError, TextForms, Vocabulary, limits};

use crate::ask::Signer;
use crate::asks::{Asks, Bounds};
use crate::client_key::ClientKey;
use crate::clock::{Clock, SystemClock};
#[cfg(feature = "metrics")]
use crate::export::Exporter;
use crate::feed::driver::{Driver, Parts};
use crate::feed::folder::Folder;
use crate::feed::{Ages, Feed, Follow, Follower};
use crate::key_file::{KeyFile, KeyFileError, Owner};
use crate::keys::{Fetching, HeldKey, KeyFetcher, KeyRing, ring_of};
use crate::memory::Memory;
use crate::metrics::Counters;
use crate::policy::{Rule, Staleness, WhenStale};
use crate::remote::Remote;
use crate::trust::Trust;
use crate::verifier::{Inner, Verifier};

/// Collects what makes a [`Verifier`].
///
/// Three ways of verifying, which can be combined; a token is verified by the first that knows
/// it: keys of one's own ([`Builder::own_key`]), keys that the signer delegates to this
/// service's audience ([`Builder::delegated_keys`]), asking the signer
/// ([`Builder::client_key`]) and remembering what it vouched for.
pub struct Builder {
    trust: Option<Trust>,
    client_key: Option<ClientKey>,
    signer: Option<Arc<dyn Signer>>,
    delegated: Delegated,
    key_file: Option<KeyFile>,
    own: BTreeMap<KeyId, Arc<HeldKey>>,
    audience: Option<String>,
    forms: TextForms,
    vocabulary: Vocabulary,
    staleness: Staleness,
    ages: Ages,
    memory_bytes: usize,
    asks: Bounds,
    patience: Duration,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) floor: Option<PathBuf>,
    pub(crate) source: Source,
    #[cfg(feature = "metrics")]
    export: Option<Duration>,
    clock: Arc<dyn Clock>,
    /// A feed that somebody else moves: tests.
    given: Option<Feed>,
}

/// Whether keys are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delegated {
    No,
    Fetch,
}

/// Where the revocation state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The trust file's addresses, through the folder if there is one.
    Network,
    /// The folder alone: another process writes it.
    FolderAlone,
    /// Nowhere; see [`crate::danger`].
    Nothing,
}

/// Why no verifier could be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// Neither a signer to ask nor a key to verify with.
    NoWay,
    /// No trust file, and something that needs one.
    NoTrust,
    /// The trust file has no address of this kind.
    NoAddress(&'static str),
    /// A folder is needed to take the revocation state from.
    NoFolder,
    /// The audience is no name.
    Audience(NameError),
    /// A duration or a bound that makes no sense; says which.
    Bound(&'static str),
    /// Delegated keys are fetched over a session: that needs a client key.
    NoClientKey,
    /// The file of delegated keys was sealed with another secret, or cannot be used.
    KeyFile(KeyFileError),
    /// The background thread could not be started.
    Thread(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWay => f.write_str("nothing to verify with: give a client key or a key of your own"),
            Self::NoTrust => f.write_str("no trust file was given"),
            Self::NoAddress(what) => write!(f, "the trust file names no {what}"),
            Self::NoFolder => f.write_str("no folder was given to take the revocation state from"),
            Self::Audience(e) => write!(f, "the audience: {e}"),
            Self::Bound(what) => write!(f, "not a possible value: {what}"),
            Self::NoClientKey => f.write_str("delegated keys are fetched with a client key; none was given"),
            Self::KeyFile(e) => e.fmt(f),
            Self::Thread(why) => write!(f, "the background thread could not be started: {why}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Bytes of remembered prefixes: some 60,000 lineages of 1 KiB tokens.
pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Asks under way at once: at 5 ms an answer, 6,000 new tokens a second.
pub const ASKS: usize = 32;

/// Callers that wait, each a blocked thread of the service.
pub const WAITING: usize = 256;

/// Tasks of an asynchronous service that wait: each holds its request and no thread. Enough for
/// a burst of 10,000 requests by strangers, who may have three quarters of it.
pub const TASKS: usize = 16 * 1024;

/// Bytes of their headers that waiting tasks keep in all: 16,384 of 4 KiB, or a thousand of the
/// largest by strangers.
pub const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// The least that is a bound of those bytes: what strangers may have of it, three quarters, holds one
/// of the largest headers.
pub const WAITING_BYTES_MINIMUM: usize = limits::HEADER_BYTES / 3 * 4;

/// How long a caller waits for its turn, or for an identical ask's answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// From this age on the state is called aging: four missed heartbeats of 30 s.
pub const AGING: Duration = Duration::from_secs(120);

/// The longest grace: what an action that needs no revocation for a quarter of a year can be
/// decided by is no revocation state.
pub const GRACE_MAXIMUM: Duration = Duration::from_secs(90 * 24 * 3600);

/// A state older than this is stale even if its head is valid for longer.
pub const LOCAL_MAXIMUM: Duration = Duration::from_secs(24 * 3600);

impl Default for Builder {
    fn default() -> Self {
        Self {
            trust: None,
            client_key: None,
            signer: None,
            delegated: Delegated::No,
            key_file: None,
            own: BTreeMap::new(),
            audience: None,
            forms: TextForms::OursOnly,
            vocabulary: Vocabulary::native(),
            staleness: Staleness::default(),
            ages: Ages { aging: AGING, stale: LOCAL_MAXIMUM },
            memory_bytes: MEMORY_BYTES,
            asks: Bounds { asking: ASKS, waiting: WAITING, tasks: TASKS, task_bytes: WAITING_BYTES },
            patience: PATIENCE,
            folder: None,
            floor: None,
            source: Source::Network,
            #[cfg(feature = "metrics")]
            export: None,
            clock: Arc::new(SystemClock::new()),
            given: None,
        }
    }
}

impl Builder {
    /// Whom to believe and where to ask.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Ask the signer about tokens that are not known, as this client.
    #[must_use]
    pub fn client_key(mut self, key: ClientKey) -> Self {
        self.client_key = Some(key);
        self
    }

    /// Ask through something else than the client that is built in.
    #[must_use]
    pub fn signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Fetch the keys that the signer delegates to this client's audience, and verify with
    /// them without asking. Needs a client key with the role `keys`.
    #[must_use]
    pub const fn delegated_keys(mut self) -> Self {
        self.delegated = Delegated::Fetch;
        self
    }

    /// As [`Builder::delegated_keys`], and keep the keys in a sealed file, so that a restart while
    /// the signer is away finds them. A file that is damaged is said in health and replaced by
    /// the next fetch.
    #[must_use]
    pub fn delegated_keys_in(mut self, file: KeyFile) -> Self {
        self.delegated = Delegated::Fetch;
        self.key_file = Some(file);
        self
    }

    /// Verify tokens of this key id with a key of one's own.
    #[must_use]
    pub fn own_key(mut self, id: KeyId, key: HeldKey) -> Self {
        self.own.insert(id, Arc::new(key));
        self
    }

    /// The audience that this service is: tokens for another one are refused.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.to_owned());
        self
    }

    /// Also takes our tokens as other macaroon libraries write them after attenuating:
    /// without prefix, as V1 or V2 JSON.
    #[must_use]
    pub const fn accept_reencoded(mut self) -> Self {
        self.forms = TextForms::Reencoded;
        self
    }

    /// Caveat kinds beyond the native language, and the opt-in for tenant-wide tokens
    /// ([`tkcore::danger::admit_tenant_wide`]).
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// What happens while the revocation state is stale; refusing is the default.
    #[must_use]
    pub const fn when_stale(mut self, when: WhenStale) -> Self {
        self.staleness.set_otherwise(when);
        self
    }

    /// The same for one action. A request with several actions gets the strictest.
    #[must_use]
    pub fn when_stale_for(mut self, action: &str, when: WhenStale) -> Self {
        self.staleness.set(action, when.into());
        self
    }

    /// For this one action, go on deciding by a state that has been stale for at most `limit`.
    /// Within that time a revocation does not reach this service: only for what may rest on
    /// that. At most [`GRACE_MAXIMUM`].
    #[must_use]
    pub fn grace(mut self, action: &str, limit: Duration) -> Self {
        self.staleness.set(action, Rule::Grace(std::cmp::Reverse(limit)));
        self
    }

    /// The state is stale from this age on, even if the signer vouches for it longer (1 hour
    /// unless configured). At most [`LOCAL_MAXIMUM`].
    #[must_use]
    pub const fn stale_after(mut self, age: Duration) -> Self {
        self.ages.stale = age;
        self
    }

    /// The state is called aging from this age on; [`AGING`] unless said.
    #[must_use]
    pub const fn aging_after(mut self, age: Duration) -> Self {
        self.ages.aging = age;
        self
    }

    /// Most bytes of remembered prefixes; [`MEMORY_BYTES`] unless said. 0 asks each time.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Most asks at once, and most threads that wait for one; [`ASKS`] and [`WAITING`] unless
    /// said. A quarter of both is kept for lineages that the signer has vouched for.
    ///
    /// **A synchronous service** needs both together below the number of its threads: each ask and
    /// each wait holds one of them, for as long as a call may take when the signer hangs. With
    /// fewer threads than that, as many strangers' tokens hold all of them, and what is known is
    /// not decided either.
    #[must_use]
    pub const fn asks(mut self, asking: usize, waiting: usize) -> Self {
        self.asks.asking = asking;
        self.asks.waiting = waiting;
        self
    }

    /// Most tasks that wait in [`Verifier::check_async`](Verifier::check_async) and behind the
    /// layers; [`TASKS`] unless said. A quarter is kept as above.
    #[must_use]
    pub const fn waiting_tasks(mut self, tasks: usize) -> Self {
        self.asks.tasks = tasks;
        self
    }

    /// Most bytes of headers that these tasks keep in all; [`WAITING_BYTES`] unless said. A quarter
    /// is kept as above. At least [`WAITING_BYTES_MINIMUM`], unless no task may wait at all.
    #[must_use]
    pub const fn waiting_bytes(mut self, bytes: usize) -> Self {
        self.asks.task_bytes = bytes;
        self
    }

    /// How long a caller waits in the pool; [`PATIENCE`] unless said.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Keep the feed in this folder: the next start is then not cold, and other processes of
    /// this machine can read it. One of them writes.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Where the floor is kept that no older state may undercut; inside the folder unless
    /// said. Elsewhere, it survives a cleaned cache.
    #[must_use]
    pub fn floor(mut self, file: impl Into<PathBuf>) -> Self {
        self.floor = Some(file.into());
        self
    }

    /// Take the revocation state from the folder alone: another process, or `tkverify refresh`
    /// in a timer, brings it. No connection is made for it.
    #[must_use]
    pub const fn folder_alone(mut self) -> Self {
        self.source = Source::FolderAlone;
        self
    }

    /// Writes the verifier's numbers to the recorder of the `metrics` facade at this interval, at
    /// least a second, from a thread of its own: [`Verifier::export_metrics`]. For one verifier of a
    /// process, since names have no room for two.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub const fn export_metrics(mut self, every: Duration) -> Self {
        self.export = Some(every);
        self
    }

    /// Another clock than the system's, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn given_feed(mut self, feed: Feed) -> Self {
        self.given = Some(feed);
        self
    }

    /// Builds the verifier and starts following the feed. Waits for nothing: until the first
    /// state is loaded, requests are refused as stale.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Verifier, BuildError> {
        if let Some(audience) = &self.audience {
            Audience::new(audience).map_err(BuildError::Audience)?;
        }
        if self.ages.stale.is_zero() || self.ages.stale > LOCAL_MAXIMUM {
            return Err(BuildError::Bound("stale_after: more than zero, at most 24 hours"));
        }
        if self.staleness.longest_grace() > GRACE_MAXIMUM {
            return Err(BuildError::Bound("grace: at most 90 days"));
        }
        if self.asks.asking == 0 {
            return Err(BuildError::Bound("asks: at least one at once"));
        }
        if self.asks.tasks > 0 && self.asks.task_bytes < WAITING_BYTES_MINIMUM {
            return Err(BuildError::Bound("waiting_bytes: at least 64 KiB while tasks may wait"));
        }
        let mut owner = None;
        let remote = match self.client_key {
            None if self.delegated == Delegated::Fetch => return Err(BuildError::NoClientKey),
            None => None,
            Some(key) => {
                let trust = self.trust.as_ref().ok_or(BuildError::NoTrust)?;
                owner = Some(Owner { feed: trust.feed, client: *key.public() });
                let remote = Remote::new(&trust.signers, key);
                Some(Arc::new(remote.map_err(|_| BuildError::NoAddress("signer"))?))
            }
        };
        let signer = self.signer.or_else(|| remote.clone().map(|remote| -> Arc<dyn Signer> { remote }));
        if signer.is_none() && self.own.is_empty() {
            return Err(BuildError::NoWay);
        }
        let given = if self.given.is_some() { Given::Yes } else { Given::No };
        let feed = match (self.source, self.given) {
            (Source::Nothing, _) => Feed::new(Follow::Nothing),
            (Source::Network | Source::FolderAlone, Some(feed)) => feed,
            (Source::Network | Source::FolderAlone, None) => Feed::new(Follow::Feed),
        };
        let follower = match (self.source, given) {
            (Source::Nothing, _) | (_, Given::Yes) => None,
            (Source::Network | Source::FolderAlone, Given::No) => {
                let follow = Following {
                    trust: self.trust.as_ref().ok_or(BuildError::NoTrust)?,
                    folder: self.folder.as_deref(),
                    floor: self.floor.as_deref(),
                    source: self.source,
                    ages: self.ages,
                    held: Held::Wanted,
                };
                let driver = follow.driver(&feed, &self.clock)?;
                Some(Follower::start(driver).map_err(|e| BuildError::Thread(e.to_string()))?)
            }
        };
        let keys = Arc::new(KeyRing::new(self.own));
        let file = self.key_file.zip(owner);
        if let Some((file, owner)) = &file {
            match file.read(owner) {
                Ok(kept) => keys.delegate(ring_of(kept.into_iter().map(|key| (key.key, key)))),
                Err(KeyFileError::Damaged) => keys.set_file_trouble(Some(KeyFileError::Damaged.to_string())),
                Err(error) => return Err(BuildError::KeyFile(error)),
            }
        }
        let key_fetcher = match remote.filter(|_| self.delegated == Delegated::Fetch) {
            None => None,
            Some(remote) => {
                let fetcher = KeyFetcher::start(Fetching { remote, ring: Arc::clone(&keys), file });
                Some(fetcher.map_err(|e| BuildError::Thread(e.to_string()))?)
            }
        };
        let inner = Inner {
            clock: self.clock,
            audience: self.audience,
            forms: self.forms,
            vocabulary: self.vocabulary,
            staleness: self.staleness,
            ages: self.ages,
            signer,
            keys,
            memory: Memory::new(self.memory_bytes),
            asks: Asks::new(self.asks, self.patience),
            feed,
            counters: Counters::default(),
            ask_trouble: Mutex::default(),
            turn: AtomicUsize::new(0),
            alone: AtomicU64::new(0),
            follower: Mutex::new(follower),
            key_fetcher: Mutex::new(key_fetcher),
            #[cfg(feature = "metrics")]
            exporter: Mutex::default(),
        };
        let inner = Arc::new(inner);
        #[cfg(feature = "metrics")]
        if let Some(every) = self.export {
            let exporter = Exporter::start(Arc::downgrade(&inner), every.max(Duration::from_secs(1)));
            let exporter = exporter.map_err(|e| BuildError::Thread(e.to_string()))?;
            *inner.exporter.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(exporter);
        }
        Ok(Verifier { inner })
    }
}

/// Whether somebody else moves the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Yes,
    No,
}

/// What following a feed takes.
pub(crate) struct Following<'b> {
    pub(crate) trust: &'b Trust,
    pub(crate) folder: Option<&'b Path>,
    pub(crate) floor: Option<&'b Path>,
    pub(crate) source: Source,
    pub(crate) ages: Ages,
    pub(crate) held: Held,
}

/// Whether requests may be held back by the server until there is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Wanted,
    Never,
}

impl Following<'_> {
    pub(crate) fn driver(&self, feed: &Feed, clock: &Arc<dyn Clock>) -> Result<Driver, BuildError> {
        let config = self.config()?;
        let addresses = match self.source {
            Source::Network if self.trust.feeds.is_empty() => return Err(BuildError::NoAddress("feed")),
            Source::Network => self.trust.feeds.clone(),
            Source::FolderAlone if self.folder.is_none() => return Err(BuildError::NoFolder),
            Source::FolderAlone | Source::Nothing => Vec::new(),
        };
        let id = self.trust.feed;
        Ok(Driver::new(Parts {
            snapshot_bytes: config.snapshot_bytes,
            machine: Machine::new(config),
            id,
            folder: self.folder.map(|root| {
                // `tksign publish` writes the tree under the path at which it is served.
                let served = root.join(format!("v1/feed/{id}"));
                let root = if served.is_dir() { served.as_path() } else { root };
                Folder::new(root, self.floor)
            }),
            addresses,
            feed: feed.clone(),
            clock: Arc::clone(clock),
        }))
    }

    fn config(&self) -> Result<Config, BuildError> {
        let bad = || BuildError::Bound("root_keys: each must be an Ed25519 public key");
        let keys = self.trust.root_keys.iter().map(FeedKey::from_bytes).collect::<Option<Vec<_>>>();
        let roots = RootKeys::new(self.trust.threshold, &keys.ok_or_else(bad)?).map_err(|_| bad())?;
        let mut config = Config::new(self.trust.feed, roots);
        config.mirrors = self.trust.feeds.len().max(1);
        config.aging = self.ages.aging;
        config.max_age = Some(self.ages.stale);
        if self.held == Held::Never {
            config.long_poll = Duration::ZERO;
        }
        Ok(config)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("trust", &self.trust).finish_non_exhaustive()
    }
}
