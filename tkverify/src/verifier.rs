//! What a service calls. How one request is decided is in `decide`, where the parts come from in
//! `builder`.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tkcore::{Error, Explanation, Grant, Request, RequestBuilder, TextForms, Timestamp, Vocabulary};

use crate::ask::Signer;
use crate::asks::Asks;
use crate::builder::Builder;
use crate::clock::Clock;
use crate::decide::{Begun, Remembered};
use crate::feed::{Ages, Feed, Follower};
use crate::health::Health;
use crate::keys::{KeyFetcher, KeyRing};
use crate::manner::{Diligence, Manner};
use crate::memory::Memory;
use crate::metrics::{Counters, Metrics};
use crate::policy::Staleness;
use crate::web::only;

/// Decides whether requests are allowed. One for a process; clones share everything.
///
/// Every verdict needs a proof of the token's chain (a remembered prefix, a key that this
/// service holds, or the signer's answer) and a revocation state that is fresh enough. Neither
/// a verdict nor a caveat's outcome is ever remembered.
#[derive(Clone)]
pub struct Verifier {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) audience: Option<String>,
    pub(crate) forms: TextForms,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) staleness: Staleness,
    pub(crate) ages: Ages,
    pub(crate) signer: Option<Arc<dyn Signer>>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) memory: Memory<Remembered>,
    pub(crate) asks: Asks<Result<Arc<Remembered>, Error>>,
    pub(crate) feed: Feed,
    pub(crate) counters: Counters,
    /// When the last ask brought no word about its token, and why; nothing after one that did.
    pub(crate) ask_trouble: Mutex<Option<(Duration, String)>>,
    /// Which of several unknown tokens in a header is asked about next.
    pub(crate) turn: AtomicUsize,
    /// Tells asks apart that must not be shared.
    pub(crate) alone: AtomicU64,
    /// Stops with the last clone of the verifier.
    pub(crate) follower: Mutex<Option<Follower>>,
    /// Stops with it.
    pub(crate) key_fetcher: Mutex<Option<KeyFetcher>>,
    #[cfg(feature = "metrics")]
    pub(crate) exporter: Mutex<Option<crate::export::Exporter>>,
}

impl Verifier {
    /// Begins a verifier.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The time by which requests are judged: the clock, but never before the newest time that
    /// the feed has proven.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let reading = self.inner.clock.read();
        self.inner.now(self.inner.feed.view().as_deref(), &reading)
    }

    /// Starts a request about `tenant`, with this verifier's time and audience.
    #[must_use]
    pub fn request<'r>(&'r self, tenant: &'r str) -> RequestBuilder<'r> {
        let builder = Request::builder(tenant, self.now());
        match &self.inner.audience {
            Some(audience) => builder.audience(audience),
            None => builder,
        }
    }

    /// Whether the value of an `Authorization` header allows `request`. May ask the signer, and
    /// then stops the calling thread; an asynchronous service calls [`Verifier::check_async`].
    ///
    /// # Errors
    /// Why not, by whose fault ([`Error::owner`]): of several tokens the most useful reason.
    pub fn check(&self, authorization: impl AsRef<[u8]>, request: &Request<'_>) -> Result<Grant, Error> {
        self.check_with(authorization, request, Diligence::Usual)
    }

    /// As [`Verifier::check`], with a choice to ask the signer in any case ([`Diligence`]) and
    /// the request's place in a trace ([`Manner`]).
    ///
    /// # Errors
    /// As [`Verifier::check`].
    pub fn check_with(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
        manner: impl Into<Manner>,
    ) -> Result<Grant, Error> {
        let authorization = authorization.as_ref();
        match self.inner.begin(authorization, request, manner.into()) {
            Begun::Decided(verdict) => verdict,
            Begun::Ask(open) => self.inner.ask_here(open, authorization, request),
        }
    }

    /// As [`Verifier::check`], for asynchronous code: what is known is decided at once, and an
    /// ask is carried out by a thread of the verifier's own, so the executor never stops. Any
    /// executor will do.
    ///
    /// # Errors
    /// As [`Verifier::check`].
    pub async fn check_async(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
    ) -> Result<Grant, Error> {
        self.check_async_with(authorization, request, Diligence::Usual).await
    }

    /// As [`Verifier::check_async`], with the choices of [`Verifier::check_with`].
    ///
    /// # Errors
    /// As [`Verifier::check`].
    pub async fn check_async_with(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
        manner: impl Into<Manner>,
    ) -> Result<Grant, Error> {
        let authorization = authorization.as_ref();
        let open = match self.inner.begin(authorization, request, manner.into()) {
            Begun::Decided(verdict) => return verdict,
            Begun::Ask(open) => open,
        };
        let mut pending = self.inner.ask_elsewhere(open, authorization);
        let answer = poll_fn(|context| pending.poll(context)).await;
        pending.finish(answer, request)
    }

    /// As [`Verifier::check`] without ever asking: `None` when the signer would be asked.
    #[must_use]
    pub fn check_known(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
    ) -> Option<Result<Grant, Error>> {
        match self.inner.begin(authorization.as_ref(), request, Manner::default()) {
            Begun::Decided(verdict) => Some(verdict),
            Begun::Ask(_) => None,
        }
    }

    /// As [`Verifier::check`] for all `Authorization` headers of a request: there must be
    /// exactly one, since servers and proxies disagree which of two counts.
    ///
    /// # Errors
    /// As [`Verifier::check`]; [`Malformed::Missing`](tkcore::Malformed::Missing) for none.
    pub fn check_headers<T: AsRef<[u8]>>(
        &self,
        headers: impl IntoIterator<Item = T>,
        request: &Request<'_>,
    ) -> Result<Grant, Error> {
        let values: Vec<T> = headers.into_iter().take(2).collect();
        let value = only(values.iter().map(AsRef::as_ref));
        self.check(value.inspect_err(|error| self.inner.not_begun(error))?, request)
    }

    /// What each rule and each caveat of every token in the header says to `request`, from the
    /// code that [`Verifier::check`] runs. May ask the signer, for one token.
    ///
    /// # Errors
    /// Whatever ends a check before a caveat is looked at: a malformed header, a chain that does
    /// not hold, a state too old to decide by.
    pub fn explain(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
    ) -> Result<Vec<Result<Explanation, Error>>, Error> {
        self.inner.explain(authorization.as_ref(), request)
    }

    /// How the verifier is: for readiness probes and people.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.inner)
    }

    /// Numbers for whatever collects them.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let held = self.inner.memory.held();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Metrics {
            memory_lineages: count(held.lineages),
            memory_bytes: count(held.bytes),
            asking: count(self.inner.asks.asking()),
            waiting: count(self.inner.asks.waiting()),
            ..self.inner.counters.read()
        }
    }

    /// Asks the feed for the newest state now, whatever was planned; a mirror that asked for patience
    /// (`Retry-After`) is left until that is over. Returns at once.
    pub fn poll_now(&self) {
        if let Some(follower) = &*self.inner.follower.lock().unwrap_or_else(PoisonError::into_inner) {
            follower.poll_now();
        }
    }

    /// Waits at most `patience` for the first revocation state, and says how the verifier is
    /// then. For a service that would rather start late than start refusing.
    pub fn wait_until_loaded(&self, patience: Duration) -> Health {
        if !self.inner.feed.is_none() {
            self.inner.feed.wait_renewed(0, patience);
        }
        self.health()
    }

    /// Stops following the feed and returns when the thread has ended; the state stays and grows
    /// old. Dropping the last clone does the same.
    pub fn stop(&self) {
        let follower = self.inner.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        let key_fetcher = self.inner.key_fetcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop((follower, key_fetcher));
    }

    /// The feed this verifier follows.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.inner.feed
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("audience", &self.inner.audience).finish_non_exhaustive()
    }
}
