//! How often something may happen.

use core::ops::Sub;
use core::time::Duration;

/// How often something may happen: so many a second on average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// On average, a second; 0 counts as 1.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

impl Rate {
    fn cost(self) -> Duration {
        Duration::from_secs(1).checked_div(self.per_second.max(1)).unwrap_or(Duration::from_secs(1))
    }

    fn most(self) -> Duration {
        self.cost().saturating_mul(self.burst)
    }
}

/// A token bucket, by moments `T` of one clock. They may come out of order: time that has counted once
/// does not count again.
#[derive(Debug, Clone)]
pub struct Bucket<T> {
    /// Time's worth of tokens left; a token is `1 / per_second` of a second.
    credit: Duration,
    filled: T,
}

impl<T: Copy + Ord + Sub<Output = Duration>> Bucket<T> {
    /// One from which nothing was taken for long.
    pub fn full(rate: Rate, now: T) -> Self {
        Self { credit: rate.most(), filled: now }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, rate: Rate, now: T) -> Result<(), Duration> {
        let (cost, credit) = (rate.cost(), self.credit(rate, now));
        self.filled = now.max(self.filled);
        match credit.checked_sub(cost) {
            Some(left) => {
                self.credit = left;
                Ok(())
            }
            None => {
                self.credit = credit;
                Err(cost.saturating_sub(credit))
            }
        }
    }

    /// Whether nothing was taken for so long that a new bucket would be the same.
    pub fn is_full(&self, rate: Rate, now: T) -> bool {
        self.credit(rate, now) >= rate.most()
    }

    fn credit(&self, rate: Rate, now: T) -> Duration {
        self.credit.saturating_add(Sub::sub(now.max(self.filled), self.filled)).min(rate.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_average() {
        let rate = Rate { per_second: 10, burst: 3 };
        let start = Duration::from_secs(5);
        let mut bucket = Bucket::full(rate, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(bucket.take(rate, later), Ok(()));
        assert!(bucket.take(rate, later).is_err());
        assert!(!bucket.is_full(rate, later));
        assert!(bucket.is_full(rate, later + Duration::from_millis(300)));
    }

    /// As from callers that read the clock and then wait for a different time each.
    #[test]
    fn a_moment_that_comes_late_fills_nothing_again() {
        let rate = Rate { per_second: 10, burst: 3 };
        let (older, newer) = (Duration::from_secs(5), Duration::from_secs(9));
        let mut bucket = Bucket::full(rate, older);
        let taken = [newer, older, newer, older, newer, older, newer, older];
        assert_eq!(taken.iter().filter(|now| bucket.take(rate, **now).is_ok()).count(), 3);
        assert!(!bucket.is_full(rate, older));
        assert_eq!(bucket.take(rate, newer + Duration::from_millis(100)), Ok(()));
    }
}
