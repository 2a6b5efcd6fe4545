use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often something may happen: so many a second on average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// On average, a second.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// How many of each; none are not kept.
#[derive(Debug)]
pub(crate) struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Counts<K> {
    pub(crate) fn of(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, key: K) {
        let count = self.0.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A token bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Time's worth of tokens left; a token is `1 / per_second` of a second.
    credit: Duration,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { credit: cost(rate).saturating_mul(rate.burst), filled: now }
    }

    /// Takes one; else says how long until there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let (cost, credit) = (cost(rate), self.credit(rate, now));
        self.filled = now;
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
    pub(crate) fn is_full(&self, rate: Rate, now: Instant) -> bool {
        self.credit(rate, now) >= cost(rate).saturating_mul(rate.burst)
    }

    fn credit(&self, rate: Rate, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.filled);
        self.credit.saturating_add(since).min(cost(rate).saturating_mul(rate.burst))
    }
}

fn cost(rate: Rate) -> Duration {
    Duration::from_secs(1).checked_div(rate.per_second.max(1)).unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    #[test]
    fn a_burst_then_the_average() {
        let rate = Rate { per_second: 10, burst: 3 };
        let start = monotonic();
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
}
