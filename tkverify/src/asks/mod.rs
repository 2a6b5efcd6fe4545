//! Who may ask the signer now: a bounded pool, shared fairly between lineages.
//!
//! A flood of strangers' tokens meets this bound and nothing else: known lineages are decided
//! without it, and the part of it that is reserved for known lineages (a new discharge must be
//! asked again) cannot be taken by strangers. A lineage's name is no secret and proves nothing, so
//! half of that part is for those who show that they hold a token of it (`places`).
//!
//! A caller is a thread, which is stopped until its turn comes or an answer is there, or a task
//! of an asynchronous service, which is not: its ask is carried out by a thread of the pool
//! itself (`workers`), and it is woken when the answer is there (`task`). Both share flights.

mod places;
mod task;
mod workers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use tkcore::LineageId;

use crate::clock::SystemClock;
pub(crate) use places::Standing;
use places::{PLACE, Places};
pub(crate) use task::{Job, Waiting};
use workers::Workers;

/// Most asks at once of one lane. One would let a slow answer hold up every sibling; more
/// would let one token with ever new caveats take the pool.
pub(crate) const ASKS_A_LANE: usize = 2;

/// Most presentations of one lane that wait for their turn.
pub(crate) const WAITING_A_LANE: usize = 16;

/// Who asks: each lineage has a lane for each standing, so that who names a lineage holds up nobody
/// who holds a token of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) lineage: LineageId,
    pub(crate) standing: Standing,
}

/// A digest of everything that was presented: root, discharges and all tails.
pub(crate) type Presentation = [u8; 32];

/// What an ask can end in.
pub(crate) trait Answer: Clone + Send + Sync + fmt::Debug + 'static {}

impl<T: Clone + Send + Sync + fmt::Debug + 'static> Answer for T {}

/// How many may ask and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Asks under way at once; at least 1.
    pub(crate) asking: usize,
    /// Threads waiting, for their turn or for another's answer.
    pub(crate) waiting: usize,
    /// Tasks waiting, for whatever it is: none of them holds a thread.
    pub(crate) tasks: usize,
    /// Bytes that waiting tasks keep of what was presented.
    pub(crate) task_bytes: usize,
}

/// The pool. `T` is what an ask ends in, shared between identical presentations. Clones share
/// everything.
#[derive(Debug)]
pub(crate) struct Asks<T: Answer> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T: Answer> {
    /// How long a task's ask may stand in the queue.
    patience: Duration,
    clock: SystemClock,
    state: Mutex<State<T>>,
    workers: Arc<Workers>,
}

#[derive(Debug)]
struct State<T: Answer> {
    asking: Places,
    waiting: Places,
    tasks: Places,
    task_bytes: Places,
    lanes: HashMap<Lane, Queue<T>>,
    /// Lanes with somebody waiting: one line for each standing, so that a line whose standing has no
    /// room is not gone through, in the order of their turns, whose numbers go through all lines.
    turns: BTreeMap<(Standing, u64), Lane>,
    next_turn: u64,
    /// How many lanes were looked at for a free place.
    #[cfg(test)]
    looked_at: std::cell::Cell<usize>,
    flights: HashMap<Presentation, Arc<Flight<T>>>,
    /// When the tasks' tickets are given up, in that order. Some may have been used by then.
    overdue: VecDeque<(Duration, Weak<Ticket<T>>)>,
    /// What is to be done once the lock is given back.
    landed: Vec<Arc<Flight<T>>>,
    starts: Vec<Start<T>>,
}

#[derive(Debug)]
struct Queue<T: Answer> {
    asking: usize,
    waiting: VecDeque<Arc<Ticket<T>>>,
    /// Where in its line the lane is while somebody waits.
    turn: u64,
}

#[derive(Debug)]
struct Ticket<T: Answer> {
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
    presentation: Presentation,
    flight: Arc<Flight<T>>,
    waited: bool,
}

/// One ask, and those who wait for its answer.
#[derive(Debug)]
struct Flight<T: Answer> {
    /// Of the one who asks.
    lane: Lane,
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
    presentation: Presentation,
    flight: Arc<Flight<T>>,
    /// Look at the memory first: a sibling's answer may have made the ask needless.
    waited: bool,
}

impl<T: Answer> Asks<T> {
    pub(crate) fn new(bounds: Bounds, patience: Duration) -> Self {
        let shared = Shared {
            patience,
            clock: SystemClock::new(),
            state: Mutex::new(State {
                asking: Places::new(bounds.asking.max(1)),
                waiting: Places::new(bounds.waiting),
                tasks: Places::new(bounds.tasks),
                task_bytes: Places::new(bounds.task_bytes),
                lanes: HashMap::new(),
                turns: BTreeMap::new(),
                next_turn: 0,
                #[cfg(test)]
                looked_at: std::cell::Cell::default(),
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
    pub(crate) fn enter(&self, lane: Lane, presentation: Presentation, patience: Duration) -> Turn<T> {
        let shared = &self.shared;
        let mut state = shared.lock();
        if let Some(flight) = state.flights.get(&presentation).map(Arc::clone) {
            return shared.follow(state, &flight, lane.standing, patience);
        }
        let free = state.is_free(lane);
        if !free && (!state.waiting.has_room(lane.standing, PLACE) || state.is_full(lane)) {
            return Turn::Busy;
        }
        let flight = Arc::new(Flight::of(lane));
        state.flights.insert(presentation, Arc::clone(&flight));
        let permit =
            |waited| Permit { shared: Arc::clone(shared), presentation, flight: Arc::clone(&flight), waited };
        if free {
            state.start(lane);
            return Turn::Ask(permit(false));
        }
        let (granted, turn) = (AtomicBool::new(false), Condvar::new());
        let holder = Holder::Thread { granted, turn };
        let ticket = Arc::new(Ticket { presentation, flight: Arc::clone(&flight), holder });
        let Holder::Thread { granted, turn } = &ticket.holder else { return Turn::Busy };
        state.queue(&ticket);
        state.waiting.take(lane.standing, PLACE);
        // Whoever was refused a turn earlier may find one now that the queue has changed.
        let (mut state, _) = turn
            .wait_timeout_while(state, patience, |_| !granted.load(Ordering::Relaxed))
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting.give(lane.standing, PLACE);
        if granted.load(Ordering::Relaxed) {
            return Turn::Ask(permit(true));
        }
        state.unqueue(&ticket);
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
        state.waiting.taken().saturating_add(state.tasks.taken())
    }

    /// How many ask.
    pub(crate) fn asking(&self) -> usize {
        self.shared.lock().asking.taken()
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
        if !state.waiting.has_room(standing, PLACE) {
            return Turn::Busy;
        }
        state.waiting.take(standing, PLACE);
        flight.followers.fetch_add(1, Ordering::Relaxed);
        let (mut state, _) = flight
            .landing
            .wait_timeout_while(state, patience, |_| flight.landed.get().is_none())
            .unwrap_or_else(PoisonError::into_inner);
        flight.followers.fetch_sub(1, Ordering::Relaxed);
        state.waiting.give(standing, PLACE);
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
        state.end(self.flight.lane);
        state.expire(self.shared.now());
        state.grant();
        self.shared.settle(state);
    }
}

impl<T: Answer> Flight<T> {
    fn of(lane: Lane) -> Self {
        Self {
            lane,
            landed: OnceLock::new(),
            landing: Condvar::new(),
            followers: AtomicUsize::new(0),
            wakers: Mutex::default(),
        }
    }
}

impl<T: Answer> Default for Queue<T> {
    fn default() -> Self {
        Self { asking: 0, waiting: VecDeque::new(), turn: 0 }
    }
}

impl<T: Answer> State<T> {
    fn is_free(&self, lane: Lane) -> bool {
        self.asking.has_room(lane.standing, PLACE)
            && self.lanes.get(&lane).is_none_or(|l| l.asking < ASKS_A_LANE && l.waiting.is_empty())
    }

    fn is_full(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| lane.waiting.len() >= WAITING_A_LANE)
    }

    fn start(&mut self, lane: Lane) {
        self.asking.take(lane.standing, PLACE);
        let queue = self.lanes.entry(lane).or_default();
        queue.asking = queue.asking.saturating_add(1);
    }

    fn end(&mut self, lane: Lane) {
        self.asking.give(lane.standing, PLACE);
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.asking = queue.asking.saturating_sub(1);
        }
        self.tidy(lane);
    }

    fn queue(&mut self, ticket: &Arc<Ticket<T>>) {
        let lane = ticket.flight.lane;
        let queue = self.lanes.entry(lane).or_default();
        queue.waiting.push_back(Arc::clone(ticket));
        if queue.waiting.len() == 1 {
            self.line_up(lane);
        }
    }

    /// Puts a lane at the end of its line.
    fn line_up(&mut self, lane: Lane) {
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.turn = self.next_turn;
            self.turns.insert((lane.standing, queue.turn), lane);
            self.next_turn = self.next_turn.saturating_add(1);
        }
    }

    fn unqueue(&mut self, ticket: &Arc<Ticket<T>>) {
        let lane = ticket.flight.lane;
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.waiting.retain(|other| !Arc::ptr_eq(other, ticket));
            if queue.waiting.is_empty() {
                self.turns.remove(&(lane.standing, queue.turn));
            }
        }
        self.tidy(lane);
    }

    fn tidy(&mut self, lane: Lane) {
        if self.lanes.get(&lane).is_some_and(|queue| queue.asking == 0 && queue.waiting.is_empty()) {
            self.lanes.remove(&lane);
        }
    }

    /// Gives free places away, one lane after the other: who was given one goes to the end of the
    /// line, who could not take one keeps its place in it.
    fn grant(&mut self) {
        while let Some((turn, lane)) = self.next() {
            self.turns.remove(&turn);
            let Some(queue) = self.lanes.get_mut(&lane) else { continue };
            let Some(ticket) = queue.waiting.pop_front() else { continue };
            let more = !queue.waiting.is_empty();
            self.start(lane);
            if more {
                self.line_up(lane);
            }
            match &ticket.holder {
                Holder::Thread { granted, turn } => {
                    granted.store(true, Ordering::Relaxed);
                    turn.notify_one();
                }
                Holder::Task(job) => match lock(job).take() {
                    Some(job) => self.starts.push(Start {
                        job,
                        presentation: ticket.presentation,
                        flight: Arc::clone(&ticket.flight),
                        waited: true,
                    }),
                    None => self.end(lane),
                },
            }
        }
    }

    /// Whose turn it is among all lines. A lane that is passed over though its standing has room has
    /// asks under way, so these are few, however many wait.
    fn next(&self) -> Option<((Standing, u64), Lane)> {
        let may_ask = |lane: &Lane| {
            #[cfg(test)]
            self.looked_at.update(|count| count + 1);
            self.lanes.get(lane).is_some_and(|queue| queue.asking < ASKS_A_LANE)
        };
        let first = |standing| {
            let mut line = self.turns.range((standing, 0)..=(standing, u64::MAX));
            line.find(|(_, lane)| may_ask(lane)).map(|(turn, lane)| (*turn, *lane))
        };
        let standings = [Standing::Stranger, Standing::Claimed, Standing::Proven];
        let with_room = standings.into_iter().filter(|standing| self.asking.has_room(*standing, PLACE));
        with_room.filter_map(first).min_by_key(|((_, number), _)| *number)
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

    fn lane(number: u8, standing: Standing) -> Lane {
        Lane { lineage: LineageId::from_bytes([number; 16]), standing }
    }

    fn pool(asking: usize, waiting: usize) -> Asks<u32> {
        Asks::new(Bounds { asking, waiting, tasks: 0, task_bytes: 0 }, LONG)
    }

    fn ask(asks: &Asks<u32>, of: u8, presentation: u8, standing: Standing) -> Permit<u32> {
        match asks.enter(lane(of, standing), [presentation; 32], NONE) {
            Turn::Ask(permit) if !permit.waited() => permit,
            other => panic!("{other:?}"),
        }
    }

    fn busy(asks: &Asks<u32>, of: u8, presentation: u8, standing: Standing) -> bool {
        matches!(asks.enter(lane(of, standing), [presentation; 32], NONE), Turn::Busy)
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
                .map(|_| scope.spawn(|| asks.enter(lane(1, Standing::Stranger), [1; 32], LONG)))
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
        assert!(asks.shared.lock().lanes.is_empty() && asks.shared.lock().flights.is_empty());
    }

    #[test]
    fn two_asks_a_lane_and_another_one_is_not_held_up() {
        let asks = pool(8, 100);
        let _first = ask(&asks, 1, 1, Standing::Proven);
        let _second = ask(&asks, 1, 2, Standing::Proven);
        assert!(busy(&asks, 1, 3, Standing::Proven));
        let _other = ask(&asks, 2, 4, Standing::Proven);
        // Nor is who shows more than another one of the same lineage, and the other way round.
        let _claimed = ask(&asks, 1, 5, Standing::Claimed);
    }

    #[test]
    fn a_place_that_is_given_back_goes_round_the_lineages() {
        let asks = pool(1, 100);
        let permit = ask(&asks, 9, 0, Standing::Proven);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            // Lineage 1 queues three times before lineage 2 queues once; what is proven does not push in.
            let (proven, stranger) = (Standing::Proven, Standing::Stranger);
            let queued = [(1, 1, proven), (1, 2, proven), (1, 3, proven), (2, 4, stranger)];
            for (at, (of, presentation, standing)) in queued.into_iter().enumerate() {
                let (asks, sender) = (&asks, sender.clone());
                scope.spawn(move || match asks.enter(lane(of, standing), [presentation; 32], LONG) {
                    Turn::Ask(permit) if permit.waited() => {
                        sender.send(presentation).unwrap();
                        drop(permit);
                    }
                    other => panic!("{other:?}"),
                });
                until(asks, at + 1);
            }
            drop(permit);
            let order: Vec<u8> = receiver.iter().take(4).collect();
            assert_eq!(order, [1, 4, 2, 3]);
        });
    }

    #[test]
    fn a_free_place_is_given_away_without_a_look_at_all_who_wait() {
        const WAITING: u16 = 2000;
        let bounds = Bounds { asking: 32, waiting: 0, tasks: 10_000, task_bytes: 10_000 };
        let asks = Asks::<u32>::new(bounds, LONG);
        let mut strangers: Vec<_> = (0..24).map(|n| ask(&asks, n, n, Standing::Stranger)).collect();
        let (sender, granted) = mpsc::channel();
        let waiting: Vec<_> = (0..WAITING)
            .map(|number| {
                let mut bytes = [255; 32];
                bytes[..2].copy_from_slice(&number.to_be_bytes());
                let lineage = LineageId::from_bytes(bytes[..16].try_into().unwrap());
                let lane = Lane { lineage, standing: Standing::Stranger };
                let sender = sender.clone();
                asks.enter_task(lane, bytes, 1, || Job::new(move |permit| drop(sender.send(permit))))
            })
            .collect();
        assert!(waiting.iter().all(Option::is_some) && asks.waiting() == usize::from(WAITING));
        let looked_at = || asks.shared.lock().looked_at.take();
        looked_at();
        // Strangers have no room, so none of them is looked at when somebody else's ask ends.
        drop(ask(&asks, 100, 100, Standing::Proven));
        assert_eq!(looked_at(), 0);
        // The first in their line is given the one place that they may have.
        drop(strangers.pop());
        assert_eq!(looked_at(), 1);
        let next: Permit<u32> = granted.recv_timeout(LONG).unwrap();
        assert_eq!(next.flight.lane.lineage.as_bytes()[..2], [0, 0]);
        // Who gives up leaves the line.
        drop(waiting);
        assert!(asks.shared.lock().turns.is_empty() && asks.shared.lock().lanes.len() == 24);
        drop((next, strangers));
        assert!(asks.shared.lock().lanes.is_empty());
    }

    #[test]
    fn strangers_cannot_take_the_places_of_known_lineages() {
        let asks = pool(8, 8);
        let strangers: Vec<_> = (0..6).map(|n| ask(&asks, n, n, Standing::Stranger)).collect();
        assert!(busy(&asks, 100, 100, Standing::Stranger));
        let _known = ask(&asks, 101, 101, Standing::Proven);
        let _known = ask(&asks, 102, 102, Standing::Proven);
        assert!(busy(&asks, 103, 103, Standing::Proven));
        drop(strangers);
        let _stranger = ask(&asks, 100, 100, Standing::Stranger);
    }

    #[test]
    fn waiting_is_bounded_in_all_and_for_a_lineage() {
        let asks = pool(1, 4);
        let permit = ask(&asks, 1, 0, Standing::Proven);
        thread::scope(|scope| {
            for n in 1..=3 {
                let asks = &asks;
                scope.spawn(move || asks.enter(lane(1, Standing::Stranger), [n; 32], LONG));
                until(asks, n.into());
            }
            // Three of four places may be strangers'.
            assert!(matches!(asks.enter(lane(7, Standing::Stranger), [77; 32], LONG), Turn::Busy));
            scope.spawn(|| asks.enter(lane(8, Standing::Proven), [88; 32], LONG));
            until(&asks, 4);
            assert!(matches!(asks.enter(lane(8, Standing::Proven), [89; 32], LONG), Turn::Busy));
            drop(permit);
        });
        let asks = pool(1, 1000);
        let permit = ask(&asks, 1, 0, Standing::Proven);
        thread::scope(|scope| {
            for n in 1..=16u8 {
                let asks = &asks;
                scope.spawn(move || asks.enter(lane(1, Standing::Proven), [n; 32], LONG));
                until(asks, n.into());
            }
            assert!(matches!(asks.enter(lane(1, Standing::Proven), [77; 32], LONG), Turn::Busy));
            drop(permit);
        });
    }

    #[test]
    fn whoever_gives_up_leaves_no_trace_and_followers_are_told() {
        let asks = pool(1, 10);
        let permit = ask(&asks, 1, 0, Standing::Proven);
        assert!(busy(&asks, 2, 2, Standing::Proven));
        assert_eq!(asks.waiting(), 0);
        thread::scope(|scope| {
            let follower = scope.spawn(|| asks.enter(lane(1, Standing::Proven), [0; 32], LONG));
            until(&asks, 1);
            // The one who asked unwinds without an answer.
            drop(permit);
            assert!(matches!(follower.join().unwrap(), Turn::Busy));
        });
        assert!(asks.shared.lock().lanes.is_empty() && asks.shared.lock().turns.is_empty());
        drop(ask(&asks, 2, 2, Standing::Proven));
    }
}
