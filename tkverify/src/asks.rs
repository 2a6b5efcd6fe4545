//! Who may ask the signer now: a bounded pool, shared fairly between lineages.
//!
//! A flood of strangers' tokens meets this bound and nothing else: known lineages are decided
//! without it, and the part of it that is reserved for known lineages (a new discharge must be
//! asked again) cannot be taken by strangers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tkcore::LineageId;

/// Most asks at once for one lineage. One would let a slow answer hold up every sibling; more
/// would let one token with ever new caveats take the pool.
pub(crate) const ASKS_A_LINEAGE: usize = 2;

/// Most presentations of one lineage that wait for their turn.
pub(crate) const WAITING_A_LINEAGE: usize = 16;

/// A digest of everything that was presented: root, discharges and all tails.
pub(crate) type Presentation = [u8; 32];

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
    /// Callers waiting, for their turn or for another's answer.
    pub(crate) waiting: usize,
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

/// The pool. `T` is what an ask ends in, shared between identical presentations.
#[derive(Debug)]
pub(crate) struct Asks<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    asking: usize,
    asking_strangers: usize,
    waiting: usize,
    waiting_strangers: usize,
    lineages: HashMap<LineageId, Lineage>,
    /// Lineages with somebody waiting, in the order of their turns.
    turns: VecDeque<LineageId>,
    flights: HashMap<Presentation, Arc<Flight<T>>>,
}

#[derive(Debug, Default)]
struct Lineage {
    asking: usize,
    queue: VecDeque<Arc<Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    standing: Standing,
    granted: AtomicBool,
    turn: Condvar,
}

/// One ask, and those who wait for its answer.
#[derive(Debug)]
struct Flight<T> {
    /// `None` inside: whoever asked left without an answer.
    landed: OnceLock<Option<T>>,
    landing: Condvar,
}

/// What a caller is to do.
#[derive(Debug)]
pub(crate) enum Turn<'a, T> {
    /// Ask, and tell the permit what came of it. When `waited`, look at the memory first: a
    /// sibling's answer may have made the ask needless.
    Ask { permit: Permit<'a, T>, waited: bool },
    /// Somebody asked the very same.
    Shared(T),
    /// No room, or patience ran out before the turn came.
    Busy,
}

/// The right to ask once. Gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a, T> {
    asks: &'a Asks<T>,
    lineage: LineageId,
    presentation: Presentation,
    standing: Standing,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Asks<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds: Bounds { asking: bounds.asking.max(1), ..bounds },
            state: Mutex::new(State {
                asking: 0,
                asking_strangers: 0,
                waiting: 0,
                waiting_strangers: 0,
                lineages: HashMap::new(),
                turns: VecDeque::new(),
                flights: HashMap::new(),
            }),
        }
    }

    /// Waits at most `patience` for a turn, or for the answer to an identical presentation.
    pub(crate) fn enter(
        &self,
        lineage: LineageId,
        presentation: Presentation,
        standing: Standing,
        patience: Duration,
    ) -> Turn<'_, T> {
        let mut state = self.lock();
        if let Some(flight) = state.flights.get(&presentation).map(Arc::clone) {
            return self.follow(state, &flight, standing, patience);
        }
        let free = state.may_start(self.bounds, standing)
            && state.lineages.get(&lineage).is_none_or(|l| l.asking < ASKS_A_LINEAGE && l.queue.is_empty());
        if !free
            && (!state.may_wait(self.bounds, standing)
                || state.lineages.get(&lineage).is_some_and(|l| l.queue.len() >= WAITING_A_LINEAGE))
        {
            return Turn::Busy;
        }
        let flight = Arc::new(Flight { landed: OnceLock::new(), landing: Condvar::new() });
        state.flights.insert(presentation, Arc::clone(&flight));
        let permit = || Permit { asks: self, lineage, presentation, standing, flight: Arc::clone(&flight) };
        if free {
            state.start(lineage, standing);
            return Turn::Ask { permit: permit(), waited: false };
        }
        let ticket = Arc::new(Ticket { standing, granted: AtomicBool::new(false), turn: Condvar::new() });
        state.queue(lineage, &ticket);
        state.wait(standing);
        // Whoever was refused a turn earlier may find one now that the queue has changed.
        let (mut state, _) = ticket
            .turn
            .wait_timeout_while(state, patience, |_| !ticket.granted.load(Ordering::Relaxed))
            .unwrap_or_else(PoisonError::into_inner);
        state.unwait(standing);
        if ticket.granted.load(Ordering::Relaxed) {
            return Turn::Ask { permit: permit(), waited: true };
        }
        state.unqueue(lineage, &ticket);
        state.land(&presentation, &flight, None);
        Turn::Busy
    }

    fn follow(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        flight: &Flight<T>,
        standing: Standing,
        patience: Duration,
    ) -> Turn<'_, T> {
        if !state.may_wait(self.bounds, standing) {
            return Turn::Busy;
        }
        state.wait(standing);
        let (mut state, _) = flight
            .landing
            .wait_timeout_while(state, patience, |_| flight.landed.get().is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.unwait(standing);
        match flight.landed.get() {
            Some(Some(answer)) => Turn::Shared(answer.clone()),
            Some(None) | None => Turn::Busy,
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// How many ask.
    pub(crate) fn asking(&self) -> usize {
        self.lock().asking
    }
}

impl<T> Asks<T> {
    /// A poisoned lock is taken all the same: no code of a caller runs under it.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Permit<'_, T> {
    /// The answer, for all who presented the same.
    pub(crate) fn answered(self, answer: T) {
        self.asks.lock().land(&self.presentation, &self.flight, Some(answer));
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        let mut state = self.asks.lock();
        state.land(&self.presentation, &self.flight, None);
        state.end(self.lineage, self.standing);
        state.grant(self.asks.bounds);
    }
}

impl<T> State<T> {
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

    fn queue(&mut self, lineage: LineageId, ticket: &Arc<Ticket>) {
        let entry = self.lineages.entry(lineage).or_default();
        if entry.queue.is_empty() {
            self.turns.push_back(lineage);
        }
        entry.queue.push_back(Arc::clone(ticket));
    }

    fn unqueue(&mut self, lineage: LineageId, ticket: &Arc<Ticket>) {
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
            ticket.granted.store(true, Ordering::Relaxed);
            ticket.turn.notify_one();
        }
    }

    fn land(&mut self, presentation: &Presentation, flight: &Arc<Flight<T>>, answer: Option<T>) {
        if flight.landed.set(answer).is_ok() {
            if self.flights.get(presentation).is_some_and(|current| Arc::ptr_eq(current, flight)) {
                self.flights.remove(presentation);
            }
            flight.landing.notify_all();
        }
    }
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
        Asks::new(Bounds { asking, waiting })
    }

    fn ask<'a>(asks: &'a Asks<u32>, of: u8, presentation: u8, standing: Standing) -> Permit<'a, u32> {
        match asks.enter(lineage(of), [presentation; 32], standing, NONE) {
            Turn::Ask { permit, waited: false } => permit,
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
        assert!(asks.lock().lineages.is_empty() && asks.lock().flights.is_empty());
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
                        Turn::Ask { permit, waited: true } => {
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
        assert!(asks.lock().lineages.is_empty() && asks.lock().turns.is_empty());
        drop(ask(&asks, 2, 2, Standing::Known));
    }
}
