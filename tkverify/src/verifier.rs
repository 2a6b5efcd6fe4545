//! One decision: parse, find what proves the token, verify, clear. Everything that must be
//! right for every request is on this page; where the parts come from is in `builder`.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tkcore::revocation::{Gap, Query, RevocationSet, Revocations, Status};
use tkcore::{
    Authorization, Basis, BranchIds, Budget, Bug, Error, Explanation, Grant, HeaderBuf, LineageFacts,
    Malformed, NotAuthentic, NotKnowable, Owner, Prefix, Presented, Request, RequestBuilder, Scratch,
    TextForms, Timestamp, Verified, Vocabulary, limits, verify,
};

use crate::ask::{AskError, Signer};
use crate::asks::{Asks, Presentation, Standing, Turn};
use crate::builder::Builder;
use crate::clock::{Clock, Reading};
use crate::feed::{Ages, Feed, Follower, View};
use crate::health::Health;
use crate::keys::{HeldKey, KeyFetcher, KeyRing};
use crate::memory::Memory;
use crate::metrics::{Counters, Metrics};
use crate::policy::{Rule as StaleRule, Staleness};

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
    pub(crate) patience: Duration,
    pub(crate) feed: Feed,
    pub(crate) counters: Counters,
    /// Which of several unknown tokens in a header is asked about next.
    pub(crate) turn: AtomicUsize,
    /// Tells asks apart that must not be shared.
    pub(crate) alone: AtomicU64,
    /// Stops with the last clone of the verifier.
    pub(crate) follower: Mutex<Option<Follower>>,
    /// Stops with it.
    pub(crate) key_fetcher: Mutex<Option<KeyFetcher>>,
}

/// What the signer vouched for.
#[derive(Debug)]
pub(crate) struct Remembered {
    prefix: Prefix,
    facts: LineageFacts,
}

/// Whether the signer must be asked even about what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Diligence {
    /// Decide locally whenever that is possible.
    #[default]
    Usual,
    /// Ask the signer now, for what must not rest on a state that is seconds old: deleting an
    /// account, paying out. The answer is never one that was asked for before this request.
    AskSigner,
}

/// How this request is to be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Local,
    /// The signer each time, because the state is stale.
    Ask,
    /// The signer, by an ask that no other request began: because of [`Diligence`].
    AskAlone,
}

/// Reused by the next request of the thread: the accepting path then allocates nothing.
#[derive(Default)]
struct Buffers {
    header: HeaderBuf,
    scratch: Scratch,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// How far a request's `now` may lie from the verifier's: what passes between building the
/// request and checking it. More is another clock, and would shift every expiry.
const REQUEST_SKEW: Duration = Duration::from_secs(limits::CLOCK_SKEW_SECONDS);

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
    /// then blocks; an asynchronous service calls [`Verifier::check_known`] first and this one
    /// where blocking is allowed.
    ///
    /// # Errors
    /// Why not, by whose fault ([`Error::owner`]): of several tokens the most useful reason.
    pub fn check(&self, authorization: impl AsRef<[u8]>, request: &Request<'_>) -> Result<Grant, Error> {
        self.check_with(authorization, request, Diligence::Usual)
    }

    /// As [`Verifier::check`], with a choice to ask the signer in any case.
    ///
    /// # Errors
    /// As [`Verifier::check`].
    pub fn check_with(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
        diligence: Diligence,
    ) -> Result<Grant, Error> {
        let verdict = self.inner.decide(authorization.as_ref(), request, diligence, May::Ask);
        let verdict = verdict.unwrap_or(Err(Error::Bug(Bug("an ask was needed and not made"))));
        self.inner.count(&verdict);
        verdict
    }

    /// As [`Verifier::check`] without ever blocking: `None` when the signer would be asked.
    #[must_use]
    pub fn check_known(
        &self,
        authorization: impl AsRef<[u8]>,
        request: &Request<'_>,
    ) -> Option<Result<Grant, Error>> {
        let verdict = self.inner.decide(authorization.as_ref(), request, Diligence::Usual, May::NotAsk)?;
        self.inner.count(&verdict);
        Some(verdict)
    }

    /// As [`Verifier::check`] for all `Authorization` headers of a request: there must be
    /// exactly one, since servers and proxies disagree which of two counts.
    ///
    /// # Errors
    /// As [`Verifier::check`]; [`Malformed::Missing`] for none.
    pub fn check_headers<T: AsRef<[u8]>>(
        &self,
        headers: impl IntoIterator<Item = T>,
        request: &Request<'_>,
    ) -> Result<Grant, Error> {
        let mut headers = headers.into_iter();
        let verdict = match (headers.next(), headers.next()) {
            (Some(one), None) => return self.check(one, request),
            (None, _) => Err(Malformed::Missing.into()),
            (Some(_), Some(_)) => Err(Malformed::Shape("two Authorization headers").into()),
        };
        self.inner.count(&verdict);
        verdict
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
        let mut buffers = Buffers::default();
        let inner = &self.inner;
        let authorization = Authorization::parse(authorization.as_ref(), inner.forms, &mut buffers.header)?;
        let plan = inner.plan(request, Diligence::Usual)?;
        let mut may = May::Ask;
        let explained = authorization.candidates().map(|presented| {
            let proof = match inner.known(&presented, plan) {
                Some(proof) => proof?,
                None if may == May::Ask => {
                    may = May::NotAsk;
                    Proof::Memory(inner.ask(&presented, plan)?)
                }
                None => return Err(NotKnowable::TooManyAsks.into()),
            };
            let mut budget = Budget::default();
            inner.verified(
                presented,
                &proof,
                plan,
                &mut buffers.scratch,
                &mut budget,
                |verified, known, budget| Ok(verified.explain(request, &inner.vocabulary, known, budget)),
            )
        });
        Ok(explained.collect())
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

    /// Asks the feed for the newest state now, whatever was planned. Returns at once.
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

/// Whether a decision may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    Ask,
    NotAsk,
}

impl Inner {
    fn now(&self, view: Option<&View>, reading: &Reading) -> Timestamp {
        view.map_or(reading.wall, |view| view.now(reading))
    }

    /// `None`: it would take an ask, and that is not allowed here.
    fn decide(
        &self,
        value: &[u8],
        request: &Request<'_>,
        diligence: Diligence,
        may: May,
    ) -> Option<Result<Grant, Error>> {
        BUFFERS.with(|buffers| match buffers.try_borrow_mut() {
            Ok(mut buffers) => self.judge(value, request, diligence, may, &mut buffers),
            // A registered caveat kind that calls a verifier itself.
            Err(_) => self.judge(value, request, diligence, may, &mut Buffers::default()),
        })
    }

    fn judge(
        &self,
        value: &[u8],
        request: &Request<'_>,
        diligence: Diligence,
        may: May,
        buffers: &mut Buffers,
    ) -> Option<Result<Grant, Error>> {
        let Buffers { header, scratch } = buffers;
        let authorization = match Authorization::parse(value, self.forms, header) {
            Ok(authorization) => authorization,
            Err(malformed) => return Some(Err(malformed.into())),
        };
        if authorization.skipped() > 0 {
            self.counters.skipped_tokens.add(u64::try_from(authorization.skipped()).unwrap_or(u64::MAX));
        }
        let plan = match self.plan(request, diligence) {
            Ok(plan) => plan,
            Err(error) => return Some(Err(error)),
        };
        let mut budget = Budget::default();
        let mut best: Option<Error> = None;
        let mut is_unknown = [false; limits::ROOTS];
        for (presented, is_unknown) in authorization.candidates().zip(&mut is_unknown) {
            match self.locally(presented, request, plan, scratch, &mut budget) {
                Some(Ok(grant)) => return Some(Ok(grant)),
                Some(Err(error)) => best = Some(more_useful(best, error)),
                None => *is_unknown = true,
            }
        }
        let unknown = is_unknown.iter().filter(|is_unknown| **is_unknown).count();
        if unknown == 0 {
            return Some(Err(best.unwrap_or(Malformed::Missing.into())));
        }
        if may == May::NotAsk {
            return None;
        }
        // One ask a header. Which of several unknown tokens goes round, so that one that the
        // signer refuses each time cannot keep the one behind it from ever being asked about.
        let chosen = match unknown {
            1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(unknown).unwrap_or(0),
        };
        let candidates = authorization.candidates().zip(is_unknown).filter(|(_, is_unknown)| *is_unknown);
        for (at, (presented, _)) in candidates.enumerate() {
            // Memory again: another request may have brought the answer since.
            let verdict = match self.locally(presented, request, plan, scratch, &mut budget) {
                Some(verdict) => verdict,
                None if at == chosen => self.by_asking(presented, request, plan, scratch, &mut budget),
                None => Err(NotKnowable::TooManyAsks.into()),
            };
            match verdict {
                Ok(grant) => return Some(Ok(grant)),
                Err(error) => best = Some(more_useful(best, error)),
            }
        }
        Some(Err(best.unwrap_or(Malformed::Missing.into())))
    }

    /// How to decide, by the age of the state; an error when it cannot be decided at all.
    fn plan(&self, request: &Request<'_>, diligence: Diligence) -> Result<Plan, Error> {
        let reading = self.clock.read();
        let view = self.feed.view();
        let now = self.now(view.as_deref(), &reading);
        let apart = now.saturating_since(request.now()).max(request.now().saturating_since(now));
        if apart > REQUEST_SKEW {
            self.counters.clock_faults.one();
            return Err(Bug("the request was made with another clock than the verifier's").into());
        }
        if diligence == Diligence::AskSigner {
            return if self.signer.is_some() {
                Ok(Plan::AskAlone)
            } else {
                Err(NotKnowable::SignerUnreachable.into())
            };
        }
        if self.feed.is_none() {
            return Ok(Plan::Local);
        }
        let stale = match &view {
            None => None,
            Some(view) => match view.stale_for(&reading, &self.ages) {
                None => return Ok(Plan::Local),
                Some(stale) => Some(stale),
            },
        };
        let actions = request.accesses().iter().flat_map(|access| access.actions().iter().copied());
        match (self.staleness.rule(actions), stale) {
            // A state that was never loaded has no grace: nothing is known of what is revoked.
            (StaleRule::Grace(limit), Some(stale)) if stale <= limit.0 => {
                self.counters.graced.one();
                Ok(Plan::Local)
            }
            (StaleRule::Ask, _) if self.signer.is_some() => Ok(Plan::Ask),
            (StaleRule::Grace(_) | StaleRule::Ask | StaleRule::Refuse, _) => Err(NotKnowable::Stale.into()),
        }
    }

    /// What proves the token's chain without the signer.
    fn known(&self, presented: &Presented<'_>, plan: Plan) -> Option<Result<Proof, Error>> {
        let identifier = match presented.claimed_identifier() {
            Ok(identifier) => identifier,
            Err(malformed) => return Some(Err(malformed.into())),
        };
        if plan != Plan::Local {
            return None;
        }
        if let Some(key) = self.keys.find(identifier.key) {
            let facts = key.facts(&identifier);
            return Some(Ok(Proof::Key(key, facts)));
        }
        let rank = |known: &Remembered| known.prefix.covers(presented).then(|| known.prefix.caveats());
        if let Some(known) = self.memory.best(identifier.lineage, rank) {
            return Some(Ok(Proof::Memory(known)));
        }
        if self.signer.is_none() {
            let error = if self.keys.is_empty() {
                Error::from(NotKnowable::SignerUnreachable)
            } else {
                NotAuthentic::UnknownKey.into()
            };
            return Some(Err(error));
        }
        None
    }

    fn locally(
        &self,
        presented: Presented<'_>,
        request: &Request<'_>,
        plan: Plan,
        scratch: &mut Scratch,
        budget: &mut Budget,
    ) -> Option<Result<Grant, Error>> {
        let proof = match self.known(&presented, plan)? {
            Ok(proof) => proof,
            Err(error) => return Some(Err(error)),
        };
        match &proof {
            Proof::Memory(_) => self.counters.memory_hits.one(),
            Proof::Key(..) => self.counters.key_hits.one(),
        }
        Some(self.clear(presented, &proof, request, plan, scratch, budget))
    }

    fn by_asking(
        &self,
        presented: Presented<'_>,
        request: &Request<'_>,
        plan: Plan,
        scratch: &mut Scratch,
        budget: &mut Budget,
    ) -> Result<Grant, Error> {
        self.counters.memory_misses.one();
        let proof = Proof::Memory(self.ask(&presented, plan)?);
        // The set is taken now, after the answer: a revocation that arrived meanwhile wins.
        self.clear(presented, &proof, request, plan, scratch, budget)
    }

    fn clear(
        &self,
        presented: Presented<'_>,
        proof: &Proof,
        request: &Request<'_>,
        plan: Plan,
        scratch: &mut Scratch,
        budget: &mut Budget,
    ) -> Result<Grant, Error> {
        self.verified(presented, proof, plan, scratch, budget, |verified, known, budget| {
            verified.clear(request, &self.vocabulary, known, budget)
        })
    }

    /// Verifies the chain, and hands it on with the revocation state of this very moment.
    fn verified<T>(
        &self,
        presented: Presented<'_>,
        proof: &Proof,
        plan: Plan,
        scratch: &mut Scratch,
        budget: &mut Budget,
        then: impl FnOnce(&Verified<'_>, &Known<'_>, &mut Budget) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let view = self.feed.view();
        let known = Known {
            set: view.as_deref().map(|view| &view.set),
            // The signer has just said that nothing kills the token; or there is no feed by
            // the service's own, named choice.
            otherwise: match plan {
                Plan::Ask | Plan::AskAlone => Status::Live,
                Plan::Local if self.feed.is_none() => Status::Live,
                Plan::Local => Status::Unknown(Gap::Stale),
            },
        };
        let branches = if known.has_branches() { BranchIds::Collect } else { BranchIds::Skip };
        let (basis, facts) = match proof {
            Proof::Memory(known) => (Basis::Prefix(&known.prefix), &known.facts),
            Proof::Key(key, facts) => (Basis::Root(key.root()), &**facts),
        };
        let verified = verify(presented, basis, facts, branches, scratch, budget)?;
        then(&verified, &known, budget)
    }

    /// The signer's word on what was presented, shared between identical presentations.
    fn ask(&self, presented: &Presented<'_>, plan: Plan) -> Result<Arc<Remembered>, Error> {
        let signer = self.signer.as_ref().ok_or(NotKnowable::SignerUnreachable)?;
        let identifier = presented.claimed_identifier()?;
        let lineage = identifier.lineage;
        let standing = if self.memory.knows(lineage) { Standing::Known } else { Standing::Stranger };
        // What may be answered from memory is not shared with who must have the signer's word.
        let company = match plan {
            Plan::Local => 0,
            Plan::Ask => 1,
            Plan::AskAlone => self.alone.fetch_add(1, Ordering::Relaxed).saturating_add(2),
        };
        match self.asks.enter(lineage, digest(presented, company), standing, self.patience) {
            Turn::Shared(answer) => {
                self.counters.asks_shared.one();
                answer
            }
            Turn::Busy => {
                self.counters.asks_refused.one();
                Err(NotKnowable::TooManyAsks.into())
            }
            Turn::Ask { permit, waited } => {
                if waited && plan == Plan::Local {
                    let rank =
                        |known: &Remembered| known.prefix.covers(presented).then(|| known.prefix.caveats());
                    if let Some(known) = self.memory.best(lineage, rank) {
                        self.counters.asks_spared.one();
                        permit.answered(Ok(Arc::clone(&known)));
                        return Ok(known);
                    }
                }
                let answer = self.ask_now(signer.as_ref(), presented);
                permit.answered(answer.clone());
                answer
            }
        }
    }

    fn ask_now(&self, signer: &dyn Signer, presented: &Presented<'_>) -> Result<Arc<Remembered>, Error> {
        let identifier = presented.claimed_identifier()?;
        self.counters.asks.one();
        let answer = signer.verify(presented).map_err(|e| {
            if matches!(e, AskError::Unreachable(_)) {
                self.counters.asks_failed.one();
            }
            e.verdict(presented)
        })?;
        if answer.key != identifier.key {
            return Err(Bug("the signer answered about another key").into());
        }
        let prefix = Prefix::from_vouched(presented, &answer.branches)?;
        let known = Arc::new(Remembered { prefix, facts: answer.facts });
        let bytes = known.prefix.bytes().saturating_add(FACTS_BYTES);
        self.memory.remember(identifier.lineage, Arc::clone(&known), bytes, |other| {
            other.prefix.caveats() == known.prefix.caveats() && other.prefix.covers(presented)
        });
        Ok(known)
    }

    fn count(&self, verdict: &Result<Grant, Error>) {
        let counters = &self.counters;
        match verdict {
            Ok(_) => counters.granted.one(),
            Err(error) => {
                if matches!(error, Error::Revoked(_)) {
                    counters.refused_revoked.one();
                }
                match error.owner() {
                    Owner::Holder => counters.refused_token.one(),
                    Owner::Request => counters.refused_request.one(),
                    _ => counters.not_knowable.one(),
                }
            }
        }
    }
}

/// What [`LineageFacts`] hold beside the prefix: rows, class, and two names of at most 64 bytes.
const FACTS_BYTES: usize = size_of::<LineageFacts>() + 2 * limits::NAME_BYTES;

/// What proves a chain.
enum Proof {
    Memory(Arc<Remembered>),
    Key(Arc<HeldKey>, Arc<LineageFacts>),
}

/// The set, if there is one; what it does not revoke has the status `otherwise` only where
/// there is no set at all.
struct Known<'v> {
    set: Option<&'v RevocationSet>,
    otherwise: Status,
}

impl Revocations for Known<'_> {
    fn has_branches(&self) -> bool {
        self.set.is_some_and(Revocations::has_branches)
    }

    fn status(&self, query: &Query<'_>) -> Status {
        match self.set {
            Some(set) => set.status(query),
            None => self.otherwise,
        }
    }
}

/// Everything that was presented, and among whom: only the very same shares an ask.
fn digest(presented: &Presented<'_>, company: u64) -> Presentation {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    hash.update(company.to_be_bytes());
    let mut add = |wire: &[u8]| {
        hash.update(u64::try_from(wire.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(wire);
    };
    add(presented.root().as_v2());
    presented.discharges().for_each(|discharge| add(discharge.as_v2()));
    hash.finalize().into()
}

fn more_useful(best: Option<Error>, error: Error) -> Error {
    match best {
        Some(best) if best.usefulness() >= error.usefulness() => best,
        Some(_) | None => error,
    }
}
