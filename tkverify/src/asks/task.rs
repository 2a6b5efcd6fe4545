//! Callers that hold no thread while they wait.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::{
    Answer, Asks, Flight, Holder, Lane, PLACE, Permit, Presentation, Shared, Standing, Start, State, Ticket,
    lock,
};
use crate::clock::Clock as _;

/// What a thread of the pool does for a task when its turn has come: asks, and tells the permit.
pub(crate) struct Job<T: Answer>(Box<dyn FnOnce(Permit<T>) + Send>);

/// A task's place among those who wait for one answer. Dropping it gives the place back; an ask
/// that nobody waits for any more is not begun.
#[derive(Debug)]
pub(crate) struct Waiting<T: Answer> {
    shared: Arc<Shared<T>>,
    flight: Arc<Flight<T>>,
    standing: Standing,
    /// What it keeps of what was presented.
    bytes: usize,
    /// Where in the flight its waker is.
    slot: Option<usize>,
    /// Whether the ask is another's.
    shares: bool,
}

impl<T: Answer> Job<T> {
    pub(crate) fn new(work: impl FnOnce(Permit<T>) + Send + 'static) -> Self {
        Self(Box::new(work))
    }
}

impl<T: Answer> Asks<T> {
    /// Has the pool ask, or joins who presented the same. Never stops the calling thread.
    /// `None`: no room. Gives up after the pool's patience, or when the ask that is in its way
    /// then ends. `bytes` is what the task keeps meanwhile.
    pub(crate) fn enter_task(
        &self,
        lane: Lane,
        presentation: Presentation,
        bytes: usize,
        job: impl FnOnce() -> Job<T>,
    ) -> Option<Waiting<T>> {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.expire(shared.now());
        let flight = state.flights.get(&presentation).map(Arc::clone);
        let shares = flight.is_some();
        let standing = lane.standing;
        let flight = if state.may_wait_as_task(standing, bytes) {
            flight.or_else(|| state.fly(shared, lane, presentation, job))
        } else {
            None
        };
        let waiting = flight.map(|flight| {
            state.tasks.take(standing, PLACE);
            state.task_bytes.take(standing, bytes);
            flight.followers.fetch_add(1, Ordering::Relaxed);
            Waiting { shared: Arc::clone(shared), flight, standing, bytes, slot: None, shares }
        });
        shared.settle(state);
        waiting
    }
}

impl<T: Answer> Waiting<T> {
    /// The answer; `None` when the ask ended without one.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        // Whoever lands sets the answer first and takes the wakers then: under this lock either
        // the answer is seen here, or the waker is seen there.
        let mut wakers = lock(&self.flight.wakers);
        if let Some(answer) = self.flight.landed.get() {
            return Poll::Ready(answer.clone());
        }
        match self.slot.and_then(|slot| wakers.get_mut(slot)) {
            Some(Some(waker)) => waker.clone_from(context.waker()),
            Some(empty) => *empty = Some(context.waker().clone()),
            None => {
                self.slot = Some(wakers.len());
                wakers.push(Some(context.waker().clone()));
            }
        }
        Poll::Pending
    }

    /// Whether another's ask is waited for.
    pub(crate) const fn shares(&self) -> bool {
        self.shares
    }
}

impl<T: Answer> Drop for Waiting<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot
            && let Some(waker) = lock(&self.flight.wakers).get_mut(slot)
        {
            *waker = None;
        }
        let mut state = self.shared.lock();
        state.tasks.give(self.standing, PLACE);
        state.task_bytes.give(self.standing, self.bytes);
        if self.flight.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            state.abandon(&self.flight);
        }
        self.shared.settle(state);
    }
}

impl<T: Answer> State<T> {
    fn may_wait_as_task(&self, standing: Standing, bytes: usize) -> bool {
        self.tasks.has_room(standing, PLACE) && self.task_bytes.has_room(standing, bytes)
    }

    /// Begins an ask of its own, or queues for it.
    fn fly(
        &mut self,
        shared: &Shared<T>,
        lane: Lane,
        presentation: Presentation,
        job: impl FnOnce() -> Job<T>,
    ) -> Option<Arc<Flight<T>>> {
        let free = self.is_free(lane);
        if !free && self.is_full(lane) {
            return None;
        }
        let flight = Arc::new(Flight::of(lane));
        self.flights.insert(presentation, Arc::clone(&flight));
        let (job, of) = (job(), Arc::clone(&flight));
        if free {
            self.start(lane);
            self.starts.push(Start { job, presentation, flight: of, waited: false });
        } else {
            let holder = Holder::Task(Some(job).into());
            let ticket = Arc::new(Ticket { presentation, flight: of, holder });
            self.queue(&ticket);
            let until = shared.now().saturating_add(shared.patience);
            self.overdue.push_back((until, Arc::downgrade(&ticket)));
        }
        Some(flight)
    }

    /// Gives up what has been queued for too long. Looked at whenever somebody comes or an ask
    /// ends, which the signer's own time limits see to.
    pub(super) fn expire(&mut self, now: Duration) {
        while self.overdue.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, ticket)) = self.overdue.pop_front()
                && let Some(ticket) = ticket.upgrade()
            {
                self.give_up(&ticket);
            }
        }
    }

    /// Nobody waits for this flight any more.
    fn abandon(&mut self, flight: &Arc<Flight<T>>) {
        let queued = self.lanes.get(&flight.lane).and_then(|queue| {
            queue.waiting.iter().find(|ticket| Arc::ptr_eq(&ticket.flight, flight)).map(Arc::clone)
        });
        if let Some(ticket) = queued {
            self.give_up(&ticket);
        }
    }

    fn give_up(&mut self, ticket: &Arc<Ticket<T>>) {
        let Holder::Task(job) = &ticket.holder else { return };
        // Without its job it has been started, or given up before.
        if lock(job).take().is_some() {
            self.unqueue(ticket);
            self.land(&ticket.presentation, &ticket.flight, None);
        }
    }
}

impl<T: Answer> Flight<T> {
    fn wake(&self) {
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        wakers.into_iter().flatten().for_each(std::task::Waker::wake);
    }
}

impl<T: Answer> Shared<T> {
    pub(super) fn now(&self) -> Duration {
        self.clock.read().monotonic
    }
}

impl<T: Answer> Shared<T> {
    /// Gives the lock back, then wakes whom it concerns and starts the asks whose turn has come.
    pub(super) fn settle<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State<T>>) {
        loop {
            let landed = std::mem::take(&mut state.landed);
            let starts = std::mem::take(&mut state.starts);
            drop(state);
            landed.iter().for_each(|flight| flight.wake());
            let mut failed = Vec::new();
            for start in starts {
                if self.workers.ready() {
                    self.hand_over(start);
                } else {
                    failed.push(start);
                }
            }
            if failed.is_empty() {
                return;
            }
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for start in failed {
                state.land(&start.presentation, &start.flight, None);
                state.end(start.flight.lane);
            }
            state.grant();
        }
    }

    fn hand_over(self: &Arc<Self>, start: Start<T>) {
        let Start { job, presentation, flight, waited } = start;
        let shared = Arc::clone(self);
        let permit = Permit { shared, presentation, flight, waited };
        self.workers.submit(Box::new(move || (job.0)(permit)));
    }
}

impl<T: Answer> Drop for Shared<T> {
    fn drop(&mut self) {
        self.workers.close();
    }
}

impl<T: Answer> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}
