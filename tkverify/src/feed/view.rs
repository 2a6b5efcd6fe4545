//! What is known of the feed at one moment, and how old that is.

use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tkcore::Timestamp;
use tkcore::protocol::FeedPosition;
use tkcore::revocation::RevocationSet;

use crate::clock::Reading;

/// Whether the revocation state may be decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// Decide by it.
    Fresh,
    /// Decide by it, and tell the operator.
    Aging,
    /// Too old, or none was ever loaded: the policy of each action says what happens.
    Stale,
}

/// A set and what its head says of it. Replaced whole.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) set: RevocationSet,
    /// When the signer made the head that vouches for the set.
    pub(crate) issued_at: Timestamp,
    /// Until when it vouches.
    pub(crate) valid_until: Timestamp,
    /// The latest issued-at ever seen on this feed.
    pub(crate) latest_issued: Timestamp,
    /// When the head was accepted, and what the time then was at least.
    pub(crate) accepted: Reading,
    pub(crate) accepted_now: Timestamp,
    /// Where in the feed.
    pub(crate) position: FeedPosition,
}

/// From which age on the state is aging, and stale even if the signer vouches for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ages {
    pub(crate) aging: Duration,
    pub(crate) stale: Duration,
}

impl View {
    /// The time as this service knows it: the clock, but never before the latest issued-at seen,
    /// and never slower than the monotonic clock since then. So setting the clock back thaws
    /// nothing, and a suspended machine's wall clock counts.
    pub(crate) fn now(&self, reading: &Reading) -> Timestamp {
        let run = reading.monotonic.saturating_sub(self.accepted.monotonic);
        reading.wall.max(self.latest_issued).max(self.accepted_now.saturating_add(run))
    }

    /// How long ago the signer vouched for the set.
    pub(crate) fn age(&self, reading: &Reading) -> Duration {
        self.now(reading).saturating_since(self.issued_at)
    }

    /// When the state becomes stale.
    pub(crate) fn stale_at(&self, ages: &Ages) -> Timestamp {
        self.valid_until.min(self.issued_at.saturating_add(ages.stale))
    }

    /// For how long the state has been stale; `None` while it is not.
    pub(crate) fn stale_for(&self, reading: &Reading, ages: &Ages) -> Option<Duration> {
        let end = self.stale_at(ages);
        let now = self.now(reading);
        (now >= end).then(|| now.saturating_since(end))
    }

    pub(crate) fn freshness(&self, reading: &Reading, ages: &Ages) -> Freshness {
        if self.stale_for(reading, ages).is_some() {
            Freshness::Stale
        } else if self.age(reading) >= ages.aging {
            Freshness::Aging
        } else {
            Freshness::Fresh
        }
    }
}

/// Where the poller puts a view and every request takes it. Taking it never waits for more
/// than the swap of a pointer.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    view: RwLock<Option<Arc<View>>>,
    /// How many views were put in place, and the bell that rings at each.
    swaps: (Mutex<u64>, Condvar),
}

impl Slot {
    pub(crate) fn get(&self) -> Option<Arc<View>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a view in place. A set that is dropped here is dropped outside the lock.
    pub(crate) fn set(&self, view: Arc<View>) {
        let old = self.view.write().unwrap_or_else(PoisonError::into_inner).replace(view);
        let mut swaps = self.swaps.0.lock().unwrap_or_else(PoisonError::into_inner);
        *swaps = swaps.wrapping_add(1);
        drop(swaps);
        self.swaps.1.notify_all();
        drop(old);
    }

    pub(crate) fn swaps(&self) -> u64 {
        *self.swaps.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most `patience` until more views than `seen` were put in place; says how many.
    pub(crate) fn wait(&self, seen: u64, patience: Duration) -> u64 {
        let swaps = self.swaps.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.swaps.1.wait_timeout_while(swaps, patience, |swaps| *swaps == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds).unwrap()
    }

    fn reading(wall: u64, monotonic: u64) -> Reading {
        Reading { wall: at(wall), monotonic: Duration::from_secs(monotonic) }
    }

    fn view() -> View {
        View {
            set: RevocationSet::empty(),
            issued_at: at(10_000),
            valid_until: at(13_600),
            latest_issued: at(10_000),
            accepted: reading(10_001, 50),
            accepted_now: at(10_001),
            position: FeedPosition { epoch: 1, sequence: 1 },
        }
    }

    const AGES: Ages = Ages { aging: Duration::from_secs(120), stale: Duration::from_secs(86_400) };

    #[test]
    fn freshness_changes_at_the_exact_second() {
        let view = view();
        for (wall, freshness) in [
            (10_001, Freshness::Fresh),
            (10_119, Freshness::Fresh),
            (10_120, Freshness::Aging),
            (13_599, Freshness::Aging),
            (13_600, Freshness::Stale),
        ] {
            let reading = reading(wall, wall - 10_001 + 50);
            assert_eq!(view.freshness(&reading, &AGES), freshness, "{wall}");
        }
        assert_eq!(view.stale_for(&reading(13_660, 3709), &AGES), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_service_may_be_stricter_than_the_signer() {
        let ages = Ages { stale: Duration::from_secs(300), ..AGES };
        assert_eq!(view().freshness(&reading(10_299, 348), &ages), Freshness::Aging);
        assert_eq!(view().freshness(&reading(10_300, 349), &ages), Freshness::Stale);
    }

    #[test]
    fn a_clock_set_back_thaws_nothing() {
        let view = view();
        // An hour on the monotonic clock, while the wall clock was set back a day.
        let back = Reading { wall: at(0), monotonic: Duration::from_secs(50 + 3600) };
        assert_eq!(view.freshness(&back, &AGES), Freshness::Stale);
        assert_eq!(view.now(&back), at(13_601));
        // At once after it was set back.
        assert_eq!(view.now(&reading(0, 50)), at(10_001));
    }

    #[test]
    fn a_suspended_machine_counts_by_its_wall_clock() {
        assert_eq!(view().freshness(&reading(13_600, 51), &AGES), Freshness::Stale);
    }

    #[test]
    fn a_waiter_wakes_at_the_next_view_and_not_before() {
        let slot = Arc::new(Slot::default());
        assert_eq!(slot.wait(slot.swaps(), Duration::ZERO), 0);
        let waiter = std::thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.wait(0, Duration::from_secs(60))
        });
        slot.set(Arc::new(view()));
        assert_eq!(waiter.join().unwrap(), 1);
        // What has happened already is not waited for.
        assert_eq!(slot.wait(0, Duration::from_secs(60)), 1);
    }
}
