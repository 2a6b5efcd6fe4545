//! Threads that carry out the asks of tasks. There are never more than asks may be under way at
//! once, they are started when first needed, and they end when they have had nothing to do for
//! a while or when the pool goes.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// One ask.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// How long an idle thread waits for the next ask: longer than the gaps of a busy service,
/// short enough that one that has warmed up keeps none.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Workers {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Workers {
    /// Makes sure that there is a thread for one more piece of work. `false`: there is none at
    /// all, and the system gives no new one.
    pub(super) fn ready(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        if state.idle > state.queue.len() {
            return true;
        }
        let workers = Arc::clone(self);
        let spawned = thread::Builder::new().name("tk-ask".to_owned()).spawn(move || workers.work());
        if spawned.is_ok() {
            state.threads = state.threads.saturating_add(1);
        }
        // With any thread at all the work is done, if later.
        state.threads > 0
    }

    pub(super) fn submit(&self, work: Work) {
        self.lock().queue.push_back(work);
        self.bell.notify_one();
    }

    /// No thread waits any longer; what is queued is still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                // A signer of the service's own making that panics takes its ask with it (the
                // permit says so to those who wait) and no thread.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle = state.idle.saturating_add(1);
            let (woken, timeout) =
                self.bell.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle = state.idle.saturating_sub(1);
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads = state.threads.saturating_sub(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("threads", &self.lock().threads).finish_non_exhaustive()
    }
}
