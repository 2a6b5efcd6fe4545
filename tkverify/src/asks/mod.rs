//! Who may ask the signer now: a bounded pool, shared fairly between lineages.
//!
//! A flood of strangers' tokens meets this bound and nothing else: known lineages are decided
//! without it, and the part of it that is reserved for known lineages (a new discharge must be
//! asked again) cannot be taken by strangers.
//!
//! A caller is a thread, which is stopped until its turn comes or an answer is there, or a task
//! of an asynchronous service, which is not: its ask is carried out by a thread of the pool
//! itself (`workers`), and it is woken when the answer is there (`task`). Both share flights.

mod task;
mod workers;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use tkcore::LineageId;

use crate::clock::SystemClock;
pub(crate) use task::{Job, Waiting};
use workers::Workers;

/// Most asks at once for one lineage. One would let a slow answer hold up every sibling; more
/// would let one token with ever new caveats take the pool.
pub(crate) const ASKS_A_LINEAGE: usize = 2;

/// Most presentations of one lineage that wait for their turn.
pub(crate) const WAITING_A_LINEAGE: usize = 16;

/// A digest of everything that was presented: root, discharges and all tails.
pub(crate) type Presentation = [u8; 32];

/// What an ask can end in.
pub(crate) trait Answer: Clone + Send + Sync + fmt::Debug + 'static {}

impl<T: Clone + Send + Sync + fmt::Debug + 'static> Answer for T {}

/// Whether the signer has vouched for this lineage before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Known,
    Stranger,
}

/// How many may ask and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Asks under way at once; at least 1.
    pub(crate) asking: usize,
    /// Threads waiting, for their turn or for another's answer.
    pub(crate) waiting: usize,
    /// Tasks waiting, for whatever it is: none of them holds a thread.
    pub(crate) tasks: usize,
}

impl Bounds {
    /// A quarter is not for strangers.
    const fn for_standing(count: usize, standing: Standing) -> usize {
        match standing {
            Standing::Known => count,
            Standing::Stranger => count.saturating_sub(count / 4),
        }
    }
}

/// The pool. `T` is what an ask ends in, shared between identical presentations. Clones share
/// everything.
#[derive(Debug)]
pub(crate) struct Asks<T: Answer> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T: Answer> {
    bounds: Bounds,
    /// How long a task's ask may stand in the queue.
    patience: Duration,
    clock: SystemClock,
    state: Mutex<State<T>>,
    workers: Arc<Workers>,
}

#[derive(Debug)]
struct State<T: Answer> {
    asking: usize,
    asking_strangers: usize,
    waiting: usize,
    waiting_strangers: usize,
    tasks: usize,
    tasks_strangers: usize,
    lineages: HashMap<LineageId, Lineage<T>>,
    /// Lineages with somebody waiting, in the order of their turns.
    turns: VecDeque<LineageId>,
    flights: HashMap<Presentation, Arc<Flight<T>>>,
    /// When the tasks' tickets are given up, in that order. Some may have been used by then.
    overdue: VecDeque<(Duration, LineageId, Weak<Ticket<T>>)>,
    /// What is to be done once the lock is given back.
    landed: Vec<Arc<Flight<T>>>,
    starts: Vec<Start<T>>,
}

#[derive(Debug)]
struct Lineage<T: Answer> {
    asking: usize,
    queue: VecDeque<Arc<Ticket<T>>>,
}

#[derive(Debug)]
struct Ticket<T: Answer> {
    standing: Standing,
    presentation: Presentation,
    flight: Arc<Flight<T>>,
    holder: Holder<T>,
}

/// Who is told that its turn has come.
#[derive(Debug)]
enum Holder<T: Answer> {
    Thread { granted: AtomicBool, turn: Condvar },
    Task(Mutex<Option<Job<T>>>),
}

/// A task's ask whose turn has come.
#[derive(Debug)]
struct Start<T: Answer> {
    job: Job<T>,
    lineage: LineageId,
    presentation: Presentation,
    standing: Standing,
    flight: Arc<Flight<T>>,
    waited: bool,
}

/// One ask, and those who wait for its answer.
#[derive(Debug)]
struct Flight<T: Answer> {
    /// `None` inside: whoever asked left without an answer.
    landed: OnceLock<Option<T>>,
    landing: Condvar,
    /// How many wait for the answer, beside a thread that asks itself.
    followers: AtomicUsize,
    wakers: Mutex<Vec<Option<Waker>>>,
}

/// What a thread is to do.
#[derive(Debug)]
pub(crate) enum Turn<T: Answer> {
    /// Ask, and tell the permit what came of it.
    Ask(Permit<T>),
    /// Somebody asked the very same.
    Shared(T),
    /// No room, or patience ran out before the turn came.
    Busy,
}

/// The right to ask once. Gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<T: Answer> {
    shared: Arc<Shared<T>>,
    lineage: LineageId,
    presentation: Presentation,
    standing: Standing,
    flight: Arc<Flight<T>>,
    /// Look at the memory first: a sibling's answer may have made the ask needless.
    waited: bool,
}

impl<T: Answer> Asks<T> {
    pub(crate) fn new(bounds: Bounds, patience: Duration) -> Self {
        let shared = Shared {
            bounds: Bounds { asking: bounds.asking.max(1), ..bounds },
            patience,
            clock: SystemClock::new(),
            state: Mutex::new(State {
                asking: 0,
                asking_strangers: 0,
                waiting: 0,
                waiting_strangers: 0,
                tasks: 0,
                tasks_strangers: 0,
                lineages: HashMap::new(),
                turns: VecDeque::new(),
                flights: HashMap::new(),
                overdue: VecDeque::new(),
                landed: Vec::new(),
                starts: Vec::new(),
            }),
            workers: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Stops the calling thread until its turn, or the answer to an identical presentation, for
    /// at most `patience`.
    pub(crate) fn enter(
        &self,
        lineage: LineageId,
        presentation: Presentation,
        standing: Standing,
        patience: Duration,
    ) -> Turn<T> {
        let shared = &self.shared;
        let mut state = shared.lock();
        if let Some(flight) = state.flights.get(&presentation).map(Arc::clone) {
            return shared.follow(state, &flight, standing, patience);
        }
        let free = state.is_free(shared.bounds, lineage, standing);
        if !free && (!state.may_wait(shared.bounds, standing) || state.is_full(lineage)) {
            return Turn::Busy;
        }
        let flight = Arc::new(Flight::default());
        state.flights.insert(presentation, Arc::clone(&flight));
        let permit = |waited| Permit {
            shared: Arc::clone(shared),
            lineage,
            presentation,
            standing,
            flight: Arc::clone(&flight),
            waited,
        };
        if free {
            state.start(lineage, standing);
            return Turn::Ask(permit(false));
        }
        let (granted, turn) = (AtomicBool::new(false), Condvar::new());
        let holder = Holder::Thread { granted, turn };
        let ticket = Arc::new(Ticket { standing, presentation, flight: Arc::clone(&flight), holder });
        let Holder::Thread { granted, turn } = &ticket.holder else { return Turn::Busy };
        state.queue(lineage, &ticket);
        state.wait(standing);
        // Whoever was refused a turn earlier may find one now that the queue has changed.
        let (mut state, _) = turn
            .wait_timeout_while(state, patience, |_| !granted.load(Ordering::Relaxed))
            .unwrap_or_else(PoisonError::into_inner);
        state.unwait(standing);
        if granted.load(Ordering::Relaxed) {
            return Turn::Ask(permit(true));
        }
        state.unqueue(lineage, &ticket);
        state.land(&presentation, &flight, None);
        shared.settle(state);
        Turn::Busy
    }

    /// How long a caller waits here unless it says otherwise.
    pub(crate) fn patience(&self) -> Duration {
        self.shared.patience
    }

    /// How many wait, threads and tasks.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.shared.lock();
        state.waiting.saturating_add(state.tasks)
    }

    /// How many ask.
    pub(crate) fn asking(&self) -> usize {
        self.shared.lock().asking
    }
}

impl<T: Answer> Shared<T> {
    fn follow(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        flight: &Flight<T>,
        standing: Standing,
        patience: Duration,
    ) -> Turn<T> {
        if !state.may_wait(self.bounds, standing) {
            return Turn::Busy;
        }
        state.wait(standing);
        flight.followers.fetch_add(1, Ordering::Relaxed);
        let (mut state, _) = flight
            .landing
            .wait_timeout_while(state, patience, |_| flight.landed.get().is_none())
            .unwrap_or_else(PoisonError::into_inner);
        flight.followers.fetch_sub(1, Ordering::Relaxed);
        state.unwait(standing);
        match flight.landed.get() {
            Some(Some(answer)) => Turn::Shared(answer.clone()),
            Some(None) | None => Turn::Busy,
        }
    }
}

impl<T: Answer> Shared<T> {
    /// A poisoned lock is taken all the same: no code of a caller runs under it.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Answer> Permit<T> {
    /// Whether the turn had to be waited for.
    pub(crate) const fn waited(&self) -> bool {
        self.waited
    }

    /// The answer, for all who presented the same.
    pub(crate) fn answered(self, answer: T) {
        self.shared.lock().land(&self.presentation, &self.flight, Some(answer));
    }
}

impl<T: Answer> Drop for Permit<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.land(&self.presentation, &self.flight, None);
        state.end(self.lineage, self.standing);
        state.expire(self.shared.now());
        state.grant(self.shared.bounds);
        self.shared.settle(state);
    }
}

impl<T: Answer> Default for Flight<T> {
    fn default() -> Self {
        Self {
            landed: OnceLock::new(),
            landing: Condvar::new(),
            followers: AtomicUsize::new(0),
            wakers: Mutex::default(),
        }
    }
}

impl<T: Answer> Default for Lineage<T> {
    fn default() -> Self {
        Self { asking: 0, queue: VecDeque::new() }
    }
}

impl<T: Answer> State<T> {
    fn may_start(&self, bounds: Bounds, standing: Standing) -> bool {
        self.asking < bounds.asking
            && (standing == Standing::Known
                || self.asking_strangers < Bounds::for_standing(bounds.asking, standing))
    }

    fn may_wait(&self, bounds: Bounds, standing: Standing) -> bool {
        self.waiting < bounds.waiting
            && (standing == Standing::Known
                || self.waiting_strangers < Bounds::for_standing(bounds.waiting, standing))
    }

    fn is_free(&self, bounds: Bounds, lineage: LineageId, standing: Standing) -> bool {
        let lineage = self.lineages.get(&lineage);
        self.may_start(bounds, standing)
            && lineage.is_none_or(|l| l.asking < ASKS_A_LINEAGE && l.queue.is_empty())
    }

    fn is_full(&self, lineage: LineageId) -> bool {
        self.lineages.get(&lineage).is_some_and(|l| l.queue.len() >= WAITING_A_LINEAGE)
    }

    fn start(&mut self, lineage: LineageId, standing: Standing) {
        self.asking = self.asking.saturating_add(1);
        if standing == Standing::Stranger {
            self.asking_strangers = self.asking_strangers.saturating_add(1);
        }
        let lineage = self.lineages.entry(lineage).or_default();
        lineage.asking = lineage.asking.saturating_add(1);
    }

    fn end(&mut self, lineage: LineageId, standing: Standing) {
        self.asking = self.asking.saturating_sub(1);
        if standing == Standing::Stranger {
            self.asking_strangers = self.asking_strangers.saturating_sub(1);
        }
        if let Some(entry) = self.lineages.get_mut(&lineage) {
            entry.asking = entry.asking.saturating_sub(1);
        }
        self.tidy(lineage);
    }

    fn wait(&mut self, standing: Standing) {
        self.waiting = self.waiting.saturating_add(1);
        if standing == Standing::Stranger {
            self.waiting_strangers = self.waiting_strangers.saturating_add(1);
        }
    }

    fn unwait(&mut self, standing: Standing) {
        self.waiting = self.waiting.saturating_sub(1);
        if standing == Standing::Stranger {
            self.waiting_strangers = self.waiting_strangers.saturating_sub(1);
        }
    }

    fn queue(&mut self, lineage: LineageId, ticket: &Arc<Ticket<T>>) {
        let entry = self.lineages.entry(lineage).or_default();
        if entry.queue.is_empty() {
            self.turns.push_back(lineage);
        }
        entry.queue.push_back(Arc::clone(ticket));
    }

    fn unqueue(&mut self, lineage: LineageId, ticket: &Arc<Ticket<T>>) {
        if let Some(entry) = self.lineages.get_mut(&lineage) {
            entry.queue.retain(|other| !Arc::ptr_eq(other, ticket));
            if entry.queue.is_empty() {
                self.turns.retain(|other| *other != lineage);
            }
        }
        self.tidy(lineage);
    }

    fn tidy(&mut self, lineage: LineageId) {
        if self.lineages.get(&lineage).is_some_and(|entry| entry.asking == 0 && entry.queue.is_empty()) {
            self.lineages.remove(&lineage);
        }
    }

    /// Gives free places away, one lineage after the other: who was given one goes to the end
    /// of the line, who could not take one keeps its place in it.
    fn grant(&mut self, bounds: Bounds) {
        let mut at = 0;
        while self.asking < bounds.asking
            && let Some(lineage) = self.turns.get(at).copied()
        {
            let ticket = self.lineages.get(&lineage).and_then(|entry| {
                entry.queue.front().filter(|_| entry.asking < ASKS_A_LINEAGE).map(Arc::clone)
            });
            let Some(ticket) = ticket.filter(|ticket| self.may_start(bounds, ticket.standing)) else {
                at = at.saturating_add(1);
                continue;
            };
            self.turns.remove(at);
            self.start(lineage, ticket.standing);
            if let Some(entry) = self.lineages.get_mut(&lineage) {
                entry.queue.pop_front();
                if !entry.queue.is_empty() {
                    self.turns.push_back(lineage);
                }
            }
            match &ticket.holder {
                Holder::Thread { granted, turn } => {
                    granted.store(true, Ordering::Relaxed);
                    turn.notify_one();
                }
                Holder::Task(job) => match lock(job).take() {
                    Some(job) => self.starts.push(Start {
                        job,
                        lineage,
                        presentation: ticket.presentation,
                        standing: ticket.standing,
                        flight: Arc::clone(&ticket.flight),
                        waited: true,
                    }),
                    None => self.end(lineage, ticket.standing),
                },
            }
        }
    }

    fn land(&mut self, presentation: &Presentation, flight: &Arc<Flight<T>>, answer: Option<T>) {
        if flight.landed.set(answer).is_ok() {
            if self.flights.get(presentation).is_some_and(|current| Arc::ptr_eq(current, flight)) {
                self.flights.remove(presentation);
            }
            flight.landing.notify_all();
            self.landed.push(Arc::clone(flight));
        }
    }
}

fn lock<M>(mutex: &Mutex<M>) -> MutexGuard<'_, M> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Longer than any test waits for something that does happen.
    const LONG: Duration = Duration::from_secs(60);
    /// For waits that cannot succeed.
    const NONE: Duration = Duration::ZERO;

    fn lineage(number: u8) -> LineageId {
        LineageId::from_bytes([number; 16])
    }

    fn pool(asking: usize, waiting: usize) -> Asks<u32> {
        Asks::new(Bounds { asking, waiting, tasks: 0 }, LONG)
    }

    fn ask(asks: &Asks<u32>, of: u8, presentation: u8, standing: Standing) -> Permit<u32> {
        match asks.enter(lineage(of), [presentation; 32], standing, NONE) {
            Turn::Ask(permit) if !permit.waited() => permit,
            other => panic!("{other:?}"),
        }
    }

    fn busy(asks: &Asks<u32>, of: u8, presentation: u8, standing: Standing) -> bool {
        matches!(asks.enter(lineage(of), [presentation; 32], standing, NONE), Turn::Busy)
    }

    fn until(asks: &Asks<u32>, waiting: usize) {
        while asks.waiting() != waiting {
            thread::yield_now();
        }
    }

    #[test]
    fn identical_presentations_share_one_answer() {
        let asks = pool(4, 100);
        let permit = ask(&asks, 1, 1, Standing::Stranger);
        thread::scope(|scope| {
            let followers: Vec<_> = (0..20)
                .map(|_| scope.spawn(|| asks.enter(lineage(1), [1; 32], Standing::Stranger, LONG)))
                .collect();
            until(&asks, 20);
            assert_eq!(asks.asking(), 1);
            permit.answered(7);
            for follower in followers {
                assert!(matches!(follower.join().unwrap(), Turn::Shared(7)));
            }
        });
        // Nothing of it stays: the next one asks again.
        drop(ask(&asks, 1, 1, Standing::Stranger));
        assert_eq!((asks.asking(), asks.waiting()), (0, 0));
        assert!(asks.shared.lock().lineages.is_empty() && asks.shared.lock().flights.is_empty());
    }

    #[test]
    fn two_asks_a_lineage_and_another_lineage_is_not_held_up() {
        let asks = pool(4, 100);
        let _first = ask(&asks, 1, 1, Standing::Known);
        let _second = ask(&asks, 1, 2, Standing::Known);
        assert!(busy(&asks, 1, 3, Standing::Known));
        let _other = ask(&asks, 2, 4, Standing::Known);
    }

    #[test]
    fn a_place_that_is_given_back_goes_round_the_lineages() {
        let asks = pool(1, 100);
        let permit = ask(&asks, 9, 0, Standing::Known);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            // Lineage 1 queues three times before lineage 2 queues once.
            for (at, (of, presentation)) in [(1, 1), (1, 2), (1, 3), (2, 4)].into_iter().enumerate() {
                let (asks, sender) = (&asks, sender.clone());
                scope.spawn(move || {
                    match asks.enter(lineage(of), [presentation; 32], Standing::Known, LONG) {
                        Turn::Ask(permit) if permit.waited() => {
                            sender.send(presentation).unwrap();
                            drop(permit);
                        }
                        other => panic!("{other:?}"),
                    }
                });
                until(asks, at + 1);
            }
            drop(permit);
            let order: Vec<u8> = receiver.iter().take(4).collect();
            assert_eq!(order, [1, 4, 2, 3]);
        });
    }

    #[test]
    fn strangers_cannot_take_the_places_of_known_lineages() {
        let asks = pool(8, 8);
        let strangers: Vec<_> = (0..6).map(|n| ask(&asks, n, n, Standing::Stranger)).collect();
        assert!(busy(&asks, 100, 100, Standing::Stranger));
        let _known = ask(&asks, 101, 101, Standing::Known);
        let _known = ask(&asks, 102, 102, Standing::Known);
        assert!(busy(&asks, 103, 103, Standing::Known));
        drop(strangers);
        let _stranger = ask(&asks, 100, 100, Standing::Stranger);
    }

    #[test]
    fn waiting_is_bounded_in_all_and_for_a_lineage() {
        let asks = pool(1, 4);
        let permit = ask(&asks, 1, 0, Standing::Known);
        thread::scope(|scope| {
            for n in 1..=3 {
                let asks = &asks;
                scope.spawn(move || asks.enter(lineage(1), [n; 32], Standing::Stranger, LONG));
                until(asks, n.into());
            }
            // Three of four places may be strangers'.
            assert!(matches!(asks.enter(lineage(7), [77; 32], Standing::Stranger, LONG), Turn::Busy));
            scope.spawn(|| asks.enter(lineage(8), [88; 32], Standing::Known, LONG));
            until(&asks, 4);
            assert!(matches!(asks.enter(lineage(8), [89; 32], Standing::Known, LONG), Turn::Busy));
            drop(permit);
        });
        let asks = pool(1, 1000);
        let permit = ask(&asks, 1, 0, Standing::Known);
        thread::scope(|scope| {
            for n in 1..=16u8 {
                let asks = &asks;
                scope.spawn(move || asks.enter(lineage(1), [n; 32], Standing::Known, LONG));
                until(asks, n.into());
            }
            assert!(matches!(asks.enter(lineage(1), [77; 32], Standing::Known, LONG), Turn::Busy));
            drop(permit);
        });
    }

    #[test]
    fn whoever_gives_up_leaves_no_trace_and_followers_are_told() {
        let asks = pool(1, 10);
        let permit = ask(&asks, 1, 0, Standing::Known);
        assert!(busy(&asks, 2, 2, Standing::Known));
        assert_eq!(asks.waiting(), 0);
        thread::scope(|scope| {
            let follower = scope.spawn(|| asks.enter(lineage(1), [0; 32], Standing::Known, LONG));
            until(&asks, 1);
            // The one who asked unwinds without an answer.
            drop(permit);
            assert!(matches!(follower.join().unwrap(), Turn::Busy));
        });
        assert!(asks.shared.lock().lineages.is_empty() && asks.shared.lock().turns.is_empty());
        drop(ask(&asks, 2, 2, Standing::Known));
    }
}
