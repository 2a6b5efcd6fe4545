//! The one thread that changes anything, and commits in groups.
//!
//! A job is a decision: a function of the memory, the store and the time that says what to
//! write, or refuses. The thread decides the jobs that wait, one after the other, each seeing
//! what those before it did, writes each with its audit line, commits them together, and only
//! then lets readers see the effects and gives the answers. When the commit fails every one of
//! them gets the failure, and the thread goes back to what is durable.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tkcore::Timestamp;
use tkcore::protocol::{AuditEvent, Code, RpcError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zeroize::Zeroizing;

use crate::audit;
use crate::clock::{Clock, monotonic};
use crate::fence::Guard;
use crate::memory::{Effect, Memory, SignerError};
use crate::peer::Peer;
use crate::publish::Publisher;
use crate::random;
use crate::service::No;
use crate::store::{Change, Expect, Op, Refusal, Store, StoreError};
use crate::tally::Tally;

mod chores;
#[cfg(feature = "etcd")]
mod etcd;

/// Most jobs committed together. Large enough that a sync of some milliseconds is shared by all
/// who wait, small enough that the first of them does not wait for a thousand decisions.
const GROUP: usize = 256;
/// How often a group that lost a race against another signer's is decided again. Each loss is
/// somebody's gain, so it ends by itself unless a row stands in the way for good.
const RACES: u32 = 20;

/// When to ask again while the queue is full: about the time of a group on a slow disk.
const BUSY_MILLIS: u32 = 250;

/// Most jobs that wait: sixteen groups, which a slow disk still writes within a call's patience.
/// Whoever comes later is told to ask again, and nothing of its request is kept.
const QUEUE: usize = 4096;
/// Of these, places for the control socket alone, one for each connection that it takes: whoever fills
/// the queue with a stolen key does not keep the operator from removing it.
const RESERVED: usize = 64;

/// What a decision may look at.
pub(crate) struct View<'a> {
    /// As of the last decided job.
    pub(crate) memory: &'a Memory,
    /// As of the last decided job.
    pub(crate) store: &'a dyn Store,
    /// The signer's clock.
    pub(crate) now: Timestamp,
}

/// A decision to change something.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) expects: Vec<Expect>,
    pub(crate) ops: Vec<Op>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) events: Vec<AuditEvent>,
    /// The answer's payload, given once all of the above is durable.
    pub(crate) answer: Payload,
}

impl Plan {
    /// One write, what it does to the memory, and its audit line.
    pub(crate) fn of(op: Op, effect: Effect, event: AuditEvent) -> Self {
        Self { ops: vec![op], effects: vec![effect], events: vec![event], ..Self::default() }
    }
}

type Decide = Box<dyn Fn(&View<'_>) -> Result<Plan, No> + Send>;
/// What is said to a client. It may hold a token or a delegated key.
pub(crate) type Payload = Zeroizing<Vec<u8>>;
pub(crate) type Answer = Result<Payload, RpcError>;

enum Job {
    Decide(Decide, oneshot::Sender<Answer>, Option<OwnedSemaphorePermit>),
    Stop(oneshot::Sender<()>),
    #[cfg(feature = "etcd")]
    News,
}

/// The way to the writer thread, and to what it has committed.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: SyncSender<Job>,
    /// Places in the queue for others than the control socket.
    places: Arc<Semaphore>,
    committed: Arc<RwLock<Memory>>,
}

impl Writer {
    /// Starts the thread. It owns the store until [`Writer::stop`].
    pub(crate) fn start(
        #[cfg_attr(not(feature = "etcd"), allow(unused_mut, reason = "only a shared store has news"))]
        mut store: Box<dyn Store>,
        memory: Memory,
        publisher: Publisher,
        tally: Arc<Tally>,
        clock: Arc<dyn Clock>,
        guard: Guard,
    ) -> Result<Self, SignerError> {
        let (jobs, queue) = sync_channel(QUEUE);
        let committed = Arc::new(RwLock::new(memory.clone()));
        #[cfg(feature = "etcd")]
        {
            let news = jobs.clone();
            store.on_news(Box::new(move || drop(news.try_send(Job::News))));
        }
        let thread = Thread {
            store,
            working: memory,
            committed: Arc::clone(&committed),
            publisher,
            tally,
            chores: (clock.monotonic(), Duration::ZERO),
            clock,
            guard,
            #[cfg(feature = "etcd")]
            term: None,
        };
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                let _guard = EndWithPanic;
                thread.run(&queue);
            })
            .map_err(|error| StoreError::Io("writer thread".into(), error))?;
        let places = Arc::new(Semaphore::new(QUEUE.saturating_sub(RESERVED)));
        Ok(Self { jobs, places, committed })
    }

    /// Reads what is committed. The closure must be short: writers wait for it.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        // Nobody panics while holding the lock; a poisoned one still holds committed state.
        let memory = self.committed.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        look(&memory)
    }

    /// Has a job decided, and waits until it is durable.
    pub(crate) async fn submit(
        &self,
        peer: Peer,
        decide: impl Fn(&View<'_>) -> Result<Plan, No> + Send + 'static,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let stopping = || Code::Stopping.error();
        let busy = || Code::Busy.error().retry_after(BUSY_MILLIS);
        let place = (peer != Peer::Control).then(|| Arc::clone(&self.places).try_acquire_owned());
        let place = place.transpose().map_err(|_| busy())?;
        self.jobs.try_send(Job::Decide(Box::new(decide), reply, place)).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Lets everything that waits finish, publishes what is uncovered, and closes the store.
    pub(crate) async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.jobs.send(Job::Stop(reply)).is_ok() {
            let _ = done.await;
        }
    }
}

/// Ends the process when the writer panics: a signer that can revoke nothing must not go on
/// answering from what it knew.
struct EndWithPanic;

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            random::stop("the writer thread failed");
        }
    }
}

struct Thread {
    store: Box<dyn Store>,
    working: Memory,
    committed: Arc<RwLock<Memory>>,
    publisher: Publisher,
    tally: Arc<Tally>,
    /// When they were done last, and how long until they are due again.
    chores: (Instant, Duration),
    clock: Arc<dyn Clock>,
    guard: Guard,
    /// The turn of publishing that was prepared for.
    #[cfg(feature = "etcd")]
    term: Option<u64>,
}

/// A job, and who waits for it.
type Waiting = (Decide, oneshot::Sender<Answer>);

impl Thread {
    fn run(mut self, queue: &Receiver<Job>) {
        let mut stop = None;
        while stop.is_none() {
            let feed = self.publisher.due(&self.working, monotonic());
            let wait = self.guard.wait(feed.min(self.until_chores()));
            let first = match queue.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut group = Vec::new();
            for job in first.into_iter().chain(queue.try_iter()).take(GROUP) {
                match job {
                    #[cfg(feature = "etcd")]
                    Job::News => {}
                    Job::Decide(decide, reply, _place) => group.push((decide, reply)),
                    Job::Stop(reply) => stop = Some(reply),
                }
            }
            #[cfg(feature = "etcd")]
            self.follow();
            if !group.is_empty() {
                self.decide(group);
            }
            if (stop.is_some() || self.until_chores().is_zero())
                && let Err(error) = self.chores(stop.is_some())
            {
                self.back();
                eprintln!("tksign: removing what has ended, writing down verifies: {error}");
            }
            let due = stop.is_some() || self.publisher.due(&self.working, monotonic()).is_zero();
            #[cfg(feature = "etcd")]
            let due = due || self.turn_came();
            if due && let Err(error) = self.publish() {
                self.back();
                self.publisher.failed(&error);
            }
        }
        drop(self);
        if let Some(stop) = stop {
            let _ = stop.send(());
        }
    }

    /// Decides a group of jobs and answers them once it is durable; again, from what is true by
    /// then, when another signer was first.
    fn decide(&mut self, group: Vec<Waiting>) {
        let mut races = 0;
        let failed = loop {
            match self.group(&group) {
                Ok((answers, noted)) => {
                    for ((_, reply), answer) in group.into_iter().zip(answers) {
                        let _ = reply.send(noted.clone().and(answer));
                    }
                    return;
                }
                Err(StoreError::Raced) if races < RACES => races = races.saturating_add(1),
                Err(error) => break error,
            }
            self.back();
        };
        self.back();
        eprintln!("tksign: {failed}");
        let failed = Code::StoreFailed.detail(&failed.told());
        for (_, reply) in group {
            let _ = reply.send(Err(failed.clone()));
        }
    }

    /// One try; besides the answers, whether what must be noted outside of the store was.
    fn group(&mut self, group: &[Waiting]) -> Result<(Vec<Answer>, Result<(), RpcError>), StoreError> {
        self.store.begin()?;
        #[cfg(feature = "etcd")]
        self.follow();
        let mut effects = Vec::new();
        let answers = group.iter().map(|(decide, _)| self.one(decide, &mut effects));
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        self.store.commit()?;
        self.show(&effects);
        Ok((answers, self.guard.committed(&effects, &self.working)))
    }

    /// Decides one job and adds what it writes to the open group. An error ends the group.
    fn one(&mut self, decide: &Decide, effects: &mut Vec<Effect>) -> Result<Answer, StoreError> {
        let now = self.clock.now();
        let view = View { memory: &self.working, store: &*self.store, now };
        let (plan, answer) = match decide(&view) {
            Ok(mut plan) => {
                let answer = std::mem::take(&mut plan.answer);
                (plan, Ok(answer))
            }
            Err(No { error, event }) => (
                Plan { events: event.into_iter().map(|event| *event).collect(), ..Plan::default() },
                Err(error),
            ),
        };
        match self.add(plan, now, effects) {
            Ok(()) => Ok(answer),
            Err(Refusal::Conflict) => Ok(Err(Code::Conflict.detail("somebody else was first; ask again"))),
            Err(Refusal::Failed(StoreError::CutOff(why))) => Ok(Err(Code::ReadOnly.detail(&why))),
            Err(Refusal::Failed(StoreError::TooLarge(why))) => Ok(Err(Code::RequestTooLarge.detail(&why))),
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// Writes a plan and its audit lines as one change.
    fn add(&mut self, plan: Plan, now: Timestamp, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        if self.guard.is_held() {
            return Ok(());
        }
        let Plan { expects, mut ops, effects: mut planned, events, answer: _ } = plan;
        let mut head = self.working.audit;
        for event in &events {
            let (op, next) = audit::append(&head, event, now);
            ops.push(op);
            head = next;
        }
        if !ops.is_empty() {
            self.store.apply(&Change { expects, ops })?;
        }
        self.working.audit = head;
        planned.iter().for_each(|effect| self.working.apply(effect));
        effects.append(&mut planned);
        Ok(())
    }

    /// Closes the step when there is one to close, then signs and stores the head, then serves
    /// it. The delta is durable before a head names it.
    fn publish(&mut self) -> Result<(), SignerError> {
        if self.guard.is_held() {
            return Ok(());
        }
        let now = self.clock.now();
        #[cfg(feature = "etcd")]
        if !self.has_turn()? {
            return Ok(());
        }
        let view = View { memory: &self.working, store: &*self.store, now };
        #[cfg(feature = "etcd")]
        let may_close = self.store.name().is_empty() || self.publisher.has_told_base(&self.working);
        #[cfg(not(feature = "etcd"))]
        let may_close = true;
        if may_close && let Some((plan, closed)) = self.publisher.close(&view)? {
            self.commit(plan, now)?;
            self.publisher.closed(closed, now);
        }
        let view = View { memory: &self.working, store: &*self.store, now };
        let (plan, head) = self.publisher.sign(&view)?;
        self.commit(plan, now)?;
        self.guard.note(&self.working)?;
        self.publisher.serve(head, &self.working);
        Ok(())
    }

    fn commit(&mut self, plan: Plan, now: Timestamp) -> Result<(), SignerError> {
        let mut effects = Vec::new();
        self.store.begin()?;
        #[cfg(feature = "etcd")]
        self.settle()?;
        self.add(plan, now, &mut effects).map_err(StoreError::from)?;
        self.store.commit()?;
        self.show(&effects);
        Ok(())
    }

    fn show(&mut self, effects: &[Effect]) {
        let mut committed = self.committed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        effects.iter().for_each(|effect| committed.apply(effect));
        committed.audit = self.working.audit;
    }

    /// After a failed commit: back to what is durable. A store that turns out to hold more than
    /// that has committed although it said otherwise; then memory is behind the truth, and
    /// starting again is the only safe way on.
    fn back(&mut self) {
        self.working = self.committed.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        // In a cluster the outcome may be learned late: when the next group begins.
        if self.store.name().is_empty()
            && let Ok(stored) = audit::load(&*self.store, self.working.authority)
            && stored != self.working.audit
        {
            eprintln!("tksign: the store committed what it reported as failed; stopping, start again");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    use tkcore::Name;
    use tkcore::protocol::{ClientKey, Role};

    use super::*;
    use crate::clock::SystemClock;
    use crate::secret::Secret;
    use crate::service::Options;
    use crate::signer::Signer;

    /// As many as the queue takes wait, and one more is told to ask again: sooner whoever does not come by
    /// the control socket.
    #[test]
    fn the_queue_is_bounded() {
        let dir = testkit::TempDir::new();
        let secret = Secret::new((0..32u8).map(|at| at.wrapping_mul(7)).collect()).unwrap();
        let operator = (ClientKey::from_bytes([1; 32]), Name::new("operator").unwrap(), Role::Operator);
        Signer::init(dir.path(), &secret, &[operator], &SystemClock, |_| Ok(())).unwrap();
        let signer = Signer::open(dir.path(), &secret, Options::default(), Arc::new(SystemClock)).unwrap();
        let writer = signer.service.writer.clone();
        let (began, begun) = channel();
        let (go_on, may_go_on) = channel::<()>();
        let job = |writer: Writer, peer| async move { writer.submit(peer, |_| Ok(Plan::default())).await };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let first = writer.clone();
            let held = tokio::spawn(async move {
                let block = move |_: &View<'_>| {
                    began.send(()).unwrap();
                    let _ = may_go_on.recv();
                    Ok(Plan::default())
                };
                first.submit(Peer::Unix, block).await
            });
            tokio::task::yield_now().await;
            // From here on the writer takes nothing out of the queue.
            begun.recv().unwrap();
            let mut waiting = Vec::new();
            for (peer, places) in [(Peer::Unix, QUEUE - RESERVED), (Peer::Control, RESERVED)] {
                for _ in 0..places {
                    // Each is polled once, which is what puts its job into the queue.
                    let mut job = Box::pin(job(writer.clone(), peer));
                    assert!(job.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                    waiting.push(job);
                }
                let mut late = Box::pin(job(writer.clone(), peer));
                let Poll::Ready(Err(refused)) = late.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                else {
                    panic!("there was a place for one more");
                };
                assert_eq!((refused.code, refused.retry_after), (Code::Busy, Some(BUSY_MILLIS)));
            }
            drop(go_on);
            assert!(held.await.unwrap().is_ok());
            for waiting in waiting {
                assert!(waiting.await.is_ok());
            }
            for peer in [Peer::Unix, Peer::Control] {
                assert!(job(writer.clone(), peer).await.is_ok(), "there is room again");
            }
            signer.service.stop().await;
        });
    }
}
