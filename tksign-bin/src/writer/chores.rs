//! What the writer does now and then beside its jobs and the feed. It has a time of its own: a signer
//! that publishes all the time must do it as well, and one that cannot publish too.

use std::time::Duration;

use super::{Plan, Thread, View};
use crate::memory::SignerError;
use crate::registry;

/// How often. A crash loses the verifies that were counted since.
const EVERY: Duration = Duration::from_secs(30);
/// How soon again while there is more than one change takes, so that callers are served in between.
const AGAIN: Duration = Duration::from_millis(25);

impl Thread {
    /// How long until it is time.
    pub(super) fn until_chores(&self) -> Duration {
        let (done, pause) = self.chores;
        pause.saturating_sub(self.clock.monotonic().saturating_duration_since(done))
    }

    /// Removes what has ended, and writes down the verifies; when it stops all of these, since nobody
    /// does later.
    pub(super) fn chores(&mut self, stopping: bool) -> Result<(), SignerError> {
        if self.guard.is_held() {
            return Ok(());
        }
        self.chores = (self.clock.monotonic(), EVERY);
        loop {
            let (now, mut plan) = (self.clock.now(), Plan::default());
            let view = View { memory: &self.working, store: &*self.store, now };
            let swept = registry::sweep(&view, &mut plan)?;
            let told = self.tally.drain(&view, &mut plan)?;
            self.commit(plan, now)?;
            if told || !stopping {
                self.chores.1 = if swept && told { EVERY } else { AGAIN };
                return Ok(());
            }
        }
    }
}
