use std::time::{Duration, Instant};

/// How often something may happen: so many a second on average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// On average, a second.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
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
