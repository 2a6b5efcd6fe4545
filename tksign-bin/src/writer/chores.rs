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
        self.chores = (self.clock.monotonic(), EVERY);
        // What cannot be written goes on being counted.
        if self.guard.is_held() || self.store.cut_off().is_some() {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Instant;

    use tkcore::protocol::{ClientKey, Role};
    use tkcore::{Name, Timestamp};

    use super::*;
    use crate::clock::{Clock, monotonic};
    use crate::fence::Guard;
    use crate::peer::Peer;
    use crate::secret::Secret;
    use crate::service::Options;
    use crate::signer::Signer;
    use crate::store::{Change, Order, Refusal, Row, Scan, Sqlite, Store, StoreError, Table};

    /// A store that can be cut off, as from a cluster.
    struct Far(Sqlite, Arc<AtomicBool>);

    impl Store for Far {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(table, key)
        }
        fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, StoreError> {
            self.0.scan(scan)
        }
        fn count(&self, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
            self.0.count(table, prefix)
        }
        fn begin(&mut self) -> Result<(), StoreError> {
            self.0.begin()
        }
        fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
            match self.cut_off() {
                Some(why) => Err(Refusal::Failed(StoreError::CutOff(why))),
                None => self.0.apply(change),
            }
        }
        fn commit(&mut self) -> Result<(), StoreError> {
            self.0.commit()
        }
        fn schema(&self) -> u32 {
            self.0.schema()
        }
        fn check(&self) -> Result<(), StoreError> {
            self.0.check()
        }
        fn cut_off(&self) -> Option<String> {
            self.1.load(Ordering::SeqCst).then(|| "cut off".to_owned())
        }
    }

    struct Hand(Instant, AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH.saturating_add(Duration::from_secs(self.1.load(Ordering::SeqCst)))
        }
        fn monotonic(&self) -> Instant {
            self.0 + Duration::from_secs(self.1.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn verifies_that_were_counted_while_the_store_was_cut_off_are_written_when_it_is_back() {
        let dir = testkit::TempDir::new();
        let secret = Secret::new((0..32u8).map(|at| at.wrapping_mul(7)).collect()).unwrap();
        let client = ClientKey::from_bytes([1; 32]);
        let clock = Arc::new(Hand(monotonic(), AtomicU64::new(1_790_000_000)));
        let operator = (client, Name::new("operator").unwrap(), Role::Operator);
        Signer::init(dir.path(), &secret, &[operator], &*clock, |_| Ok(())).unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let store = Far(Sqlite::open(dir.path()).unwrap(), Arc::clone(&is_cut));
        let by = Arc::clone(&clock) as Arc<dyn Clock>;
        let signer =
            Signer::begin(Box::new(store), &secret, Options::default(), by, |_, _| Ok(Guard::default()));
        let service = signer.unwrap().service;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Chores come after a job, so once the next is answered those of the one before are done.
        let work = || {
            for _ in 0..2 {
                runtime.block_on(service.writer.submit(Peer::Control, |_| Ok(Plan::default()))).unwrap();
            }
        };
        work();
        is_cut.store(true, Ordering::SeqCst);
        service.tally.count(client, None, true, clock.now());
        clock.1.fetch_add(EVERY.as_secs(), Ordering::SeqCst);
        work();
        is_cut.store(false, Ordering::SeqCst);
        runtime.block_on(service.stop());
        let store = Sqlite::open(dir.path()).unwrap();
        let all =
            Scan { table: Table::Audit, prefix: &[], after: None, order: Order::Forward, limit: usize::MAX };
        let lines = store.scan(all).unwrap();
        let told = lines.iter().map(|(_, line)| String::from_utf8_lossy(line));
        assert_eq!(told.filter(|line| line.contains("\"op\":\"verify\"")).count(), 1);
    }
}
