//! One decision: parse, find what proves the token, verify, clear. Everything that must be
//! right for every request is on this page. It has at most two halves: what can be decided here
//! and now, and, when it takes the signer's word, what follows from its answer. Between them a
//! thread stands still or a task sleeps (`asks`), and holds nothing.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tkcore::protocol::{TraceContext, VerifyAnswer};
use tkcore::revocation::{Gap, Query, RevocationSet, Revocations, Status};
use tkcore::{
    Authorization, Basis, BranchIds, Budget, Bug, Error, Explanation, Grant, HeaderBuf, LineageFacts,
    LineageId, Malformed, NotAuthentic, NotKnowable, Owner, Prefix, Presented, Request, Scratch, Timestamp,
    Verified, limits, verify,
};
use zeroize::Zeroizing;

use crate::ask::AskError;
use crate::asks::{Job, Lane, Permit, Presentation, Standing, Turn, Waiting};
use crate::clock::Reading;
use crate::feed::View;
use crate::keys::HeldKey;
use crate::manner::{Diligence, Manner};
use crate::observe::Trail;
use crate::policy::Rule as StaleRule;
use crate::verifier::Inner;

/// What the signer vouched for.
#[derive(Debug)]
pub(crate) struct Remembered {
    prefix: Prefix,
    facts: LineageFacts,
}

/// What this decision may rest on.
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

/// What the first half of a decision came to.
pub(crate) enum Begun {
    Decided(Result<Grant, Error>),
    /// It takes the signer's word on one of the tokens.
    Ask(Open),
}

/// A decision that waits for the signer's word.
#[derive(Debug)]
pub(crate) struct Open {
    plan: Plan,
    trace: Option<TraceContext>,
    trail: Trail,
    /// Which of the header's tokens is asked about.
    chosen: usize,
    is_unknown: [bool; limits::ROOTS],
    /// The most useful reason of those that were refused already.
    best: Option<Error>,
    budget: Budget,
}

/// What the signer's word came to.
pub(crate) type Answer = Result<Arc<Remembered>, Error>;

/// A decision whose ask another thread carries out.
pub(crate) struct Pending {
    inner: Arc<Inner>,
    open: Open,
    /// The header, once for the task that waits and the thread that asks.
    value: Arc<Zeroizing<Vec<u8>>>,
    waiting: Result<Waiting<Answer>, Error>,
}

impl Inner {
    pub(crate) fn now(&self, view: Option<&View>, reading: &Reading) -> Timestamp {
        view.map_or(reading.wall, |view| view.now(reading))
    }

    /// Decides with what is here; says what must be asked otherwise.
    pub(crate) fn begin(&self, value: &[u8], request: &Request<'_>, manner: Manner) -> Begun {
        let trail = Trail::begin();
        let judge = || with_buffers(|buffers| self.judge(value, request, manner, &trail, buffers));
        let begun = trail.within(judge);
        if let Begun::Decided(verdict) = &begun {
            self.count(verdict);
            trail.decided(verdict);
        }
        begun
    }

    fn judge(
        &self,
        value: &[u8],
        request: &Request<'_>,
        manner: Manner,
        trail: &Trail,
        buffers: &mut Buffers,
    ) -> Begun {
        let Buffers { header, scratch } = buffers;
        let authorization = match Authorization::parse(value, self.forms, header) {
            Ok(authorization) => authorization,
            Err(malformed) => return Begun::Decided(Err(malformed.into())),
        };
        if authorization.skipped() > 0 {
            self.counters.skipped_tokens.add(u64::try_from(authorization.skipped()).unwrap_or(u64::MAX));
        }
        let plan = match self.plan(request, manner.diligence) {
            Ok(plan) => plan,
            Err(error) => return Begun::Decided(Err(error)),
        };
        let mut budget = Budget::default();
        let mut best: Option<Error> = None;
        let mut is_unknown = [false; limits::ROOTS];
        for (presented, is_unknown) in authorization.candidates().zip(&mut is_unknown) {
            trail.about(|| presented.claimed_identifier().ok().map(|identifier| identifier.lineage));
            match self.locally(presented, request, plan, scratch, &mut budget) {
                Some(Ok(grant)) => return Begun::Decided(Ok(grant)),
                Some(Err(error)) => best = Some(more_useful(best, error)),
                None => *is_unknown = true,
            }
        }
        // One ask a header. Which of several unknown tokens goes round, so that one that the
        // signer refuses each time cannot keep the one behind it from ever being asked about.
        let unknown = is_unknown.iter().filter(|is_unknown| **is_unknown).count();
        let turn = match unknown {
            0 => return Begun::Decided(Err(best.unwrap_or(Malformed::Missing.into()))),
            1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(unknown).unwrap_or(0),
        };
        let mut places = is_unknown.iter().enumerate().filter(|(_, is_unknown)| **is_unknown);
        let chosen = places.nth(turn).map_or(0, |(at, _)| at);
        let (trace, trail) = (manner.trace, trail.clone());
        Begun::Ask(Open { plan, trace, trail, chosen, is_unknown, best, budget })
    }

    /// Goes on when the signer has spoken about the chosen token.
    fn conclude(
        &self,
        open: Open,
        answer: Answer,
        value: &[u8],
        request: &Request<'_>,
    ) -> Result<Grant, Error> {
        let Open { plan, trail, chosen, is_unknown, best, budget, .. } = open;
        let decide = |Buffers { header, scratch }: &mut Buffers| {
            let authorization = Authorization::parse(value, self.forms, header)?;
            let (mut answer, mut best, mut budget) = (Some(answer), best, budget);
            let candidates = authorization.candidates().zip(is_unknown).enumerate();
            for (at, (presented, _)) in candidates.filter(|(_, (_, is_unknown))| *is_unknown) {
                let verdict = match answer.take_if(|_| at == chosen) {
                    // The set is taken now, after the answer: a revocation that arrived meanwhile wins.
                    Some(Ok(known)) => {
                        self.clear(presented, &Proof::Memory(known), request, plan, scratch, &mut budget)
                    }
                    Some(Err(error)) => Err(error),
                    // Another request may have brought the answer since.
                    None => self
                        .locally(presented, request, plan, scratch, &mut budget)
                        .unwrap_or(Err(NotKnowable::TooManyAsks.into())),
                };
                match verdict {
                    Ok(grant) => return Ok(grant),
                    Err(error) => best = Some(more_useful(best, error)),
                }
            }
            Err(best.unwrap_or(Malformed::Missing.into()))
        };
        let verdict = trail.within(|| with_buffers(decide));
        self.count(&verdict);
        trail.decided(&verdict);
        verdict
    }

    /// Asks, while the calling thread stands still, and goes on.
    pub(crate) fn ask_here(&self, open: Open, value: &[u8], request: &Request<'_>) -> Result<Grant, Error> {
        let answer = with_buffers(|Buffers { header, .. }| {
            let authorization = Authorization::parse(value, self.forms, header)?;
            let presented = authorization.candidates().nth(open.chosen).ok_or(GONE)?;
            self.ask(&presented, open.plan, open.trace, &open.trail)
        });
        self.conclude(open, answer, value, request)
    }

    /// Has a thread of the pool ask. Returns at once.
    pub(crate) fn ask_elsewhere(self: &Arc<Self>, open: Open, value: &[u8]) -> Pending {
        let value = Arc::new(Zeroizing::new(value.to_vec()));
        let waiting = with_buffers(|Buffers { header, .. }| {
            let authorization = Authorization::parse(&value, self.forms, header)?;
            let presented = authorization.candidates().nth(open.chosen).ok_or(GONE)?;
            let (lane, presentation) = self.ask_about(&presented, open.plan)?;
            let job = || {
                let (inner, value) = (Arc::clone(self), Arc::clone(&value));
                let Open { plan, trace, chosen, .. } = open;
                let trail = open.trail.clone();
                Job::new(move |permit: Permit<Answer>| {
                    let asked = with_buffers(|Buffers { header, .. }| {
                        let authorization = Authorization::parse(&value, inner.forms, header)?;
                        let presented = authorization.candidates().nth(chosen).ok_or(GONE)?;
                        Ok::<_, Error>(inner.use_permit(&permit, &presented, plan, trace, &trail))
                    });
                    permit.answered(asked.unwrap_or_else(Err));
                })
            };
            let waiting = self.asks.enter_task(lane, presentation, value.len(), job);
            waiting.ok_or_else(|| self.no_room())
        });
        Pending { inner: Arc::clone(self), open, value, waiting }
    }

    /// See [`crate::Verifier::explain`].
    pub(crate) fn explain(
        &self,
        value: &[u8],
        request: &Request<'_>,
    ) -> Result<Vec<Result<Explanation, Error>>, Error> {
        let mut buffers = Buffers::default();
        let authorization = Authorization::parse(value, self.forms, &mut buffers.header)?;
        let plan = self.plan(request, Diligence::Usual)?;
        let mut may_ask = Some(());
        let explained = authorization.candidates().map(|presented| {
            let proof = match self.known(&presented, plan) {
                Some(proof) => proof?,
                None if may_ask.take().is_some() => {
                    Proof::Memory(self.ask(&presented, plan, None, &Trail::begin())?)
                }
                None => return Err(NotKnowable::TooManyAsks.into()),
            };
            let mut budget = Budget::default();
            self.verified(
                presented,
                &proof,
                plan,
                &mut buffers.scratch,
                &mut budget,
                |verified, known, budget| Ok(verified.explain(request, &self.vocabulary, known, budget)),
            )
        });
        Ok(explained.collect())
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

    /// The signer's word on what was presented, shared between identical presentations. Stops
    /// the calling thread until it is there.
    fn ask(
        &self,
        presented: &Presented<'_>,
        plan: Plan,
        trace: Option<TraceContext>,
        trail: &Trail,
    ) -> Answer {
        let (lane, presentation) = self.ask_about(presented, plan)?;
        match self.asks.enter(lane, presentation, self.asks.patience()) {
            Turn::Shared(answer) => {
                self.counters.asks_shared.one();
                answer
            }
            Turn::Busy => Err(self.no_room()),
            Turn::Ask(permit) => {
                let answer = self.use_permit(&permit, presented, plan, trace, trail);
                permit.answered(answer.clone());
                answer
            }
        }
    }

    /// Under what an ask goes, and who may share it.
    fn ask_about(&self, presented: &Presented<'_>, plan: Plan) -> Result<(Lane, Presentation), Error> {
        self.counters.memory_misses.one();
        let lineage = presented.claimed_identifier()?.lineage;
        let standing = self.standing(lineage, presented);
        // What may be answered from memory is not shared with who must have the signer's word.
        let company = match plan {
            Plan::Local => 0,
            Plan::Ask => 1,
            Plan::AskAlone => self.alone.fetch_add(1, Ordering::Relaxed).saturating_add(2),
        };
        Ok((Lane { lineage, standing }, digest(presented, company)))
    }

    /// What memory says of who presents a token that it does not decide about. The lineage that a
    /// token names proves nothing, so of what is remembered the longest beginning is gone on from.
    fn standing(&self, lineage: LineageId, presented: &Presented<'_>) -> Standing {
        let rank = |Remembered { prefix, .. }: &Remembered| {
            let longest = prefix.begins(presented).then(|| prefix.caveats().saturating_add(1));
            longest.or_else(|| prefix.has_identifier_of(presented).then_some(0))
        };
        // A copied identifier alone keeps nothing in memory.
        match self.memory.peek(lineage, rank) {
            None => Standing::Stranger,
            Some(known) if known.prefix.is_held_by(presented) => {
                self.memory.best(lineage, rank);
                Standing::Proven
            }
            Some(_) => Standing::Claimed,
        }
    }

    fn no_room(&self) -> Error {
        self.counters.asks_refused.one();
        NotKnowable::TooManyAsks.into()
    }

    fn use_permit(
        &self,
        permit: &Permit<Answer>,
        presented: &Presented<'_>,
        plan: Plan,
        trace: Option<TraceContext>,
        trail: &Trail,
    ) -> Answer {
        if permit.waited() && plan == Plan::Local {
            let rank = |known: &Remembered| known.prefix.covers(presented).then(|| known.prefix.caveats());
            if let Some(known) = self.memory.best(presented.claimed_identifier()?.lineage, rank) {
                self.counters.asks_spared.one();
                return Ok(known);
            }
        }
        let signer = self.signer.as_ref().ok_or(NotKnowable::SignerUnreachable)?;
        let lineage = presented.claimed_identifier()?.lineage;
        let asked = trail.ask(lineage, || signer.verify(presented, trace), AskError::outcome);
        self.answered(asked, presented)
    }

    /// What the signer's word is worth, and remembers it.
    fn answered(&self, asked: Result<VerifyAnswer, AskError>, presented: &Presented<'_>) -> Answer {
        let identifier = presented.claimed_identifier()?;
        self.counters.asks.one();
        let trouble = asked.as_ref().err().and_then(|error| error.outcome().1);
        let trouble = trouble.map(|why| (self.clock.read().monotonic, why));
        *self.ask_trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        let answer = asked.map_err(|e| {
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

    /// Refused before any token was read.
    pub(crate) fn not_begun(&self, error: &Error) {
        let verdict = Err(error.clone());
        self.count(&verdict);
        Trail::begin().decided(&verdict);
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

impl Pending {
    /// The signer's word, when it is there.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Answer> {
        let waiting = match &mut self.waiting {
            Ok(waiting) => waiting,
            Err(error) => return Poll::Ready(Err(error.clone())),
        };
        waiting.poll(context).map(|answer| match answer {
            None => Err(self.inner.no_room()),
            Some(answer) => {
                if waiting.shares() {
                    self.inner.counters.asks_shared.one();
                }
                answer
            }
        })
    }

    /// The verdict, for the same request as at the beginning.
    pub(crate) fn finish(self, answer: Answer, request: &Request<'_>) -> Result<Grant, Error> {
        self.inner.conclude(self.open, answer, &self.value, request)
    }
}

/// The buffers of this thread; others for a registered caveat kind, or a signer of the service's
/// own, that calls a verifier itself.
fn with_buffers<R>(work: impl FnOnce(&mut Buffers) -> R) -> R {
    BUFFERS.with(|buffers| match buffers.try_borrow_mut() {
        Ok(mut buffers) => work(&mut buffers),
        Err(_) => work(&mut Buffers::default()),
    })
}

/// A header is read the same way each time.
const GONE: Error = Error::Bug(Bug("a token that was in the header is not"));

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
