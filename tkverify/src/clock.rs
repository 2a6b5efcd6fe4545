//! The one place of this crate that reads a clock. Everything else is told what time it is.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tkcore::Timestamp;

/// What a clock said at one moment, on both of its faces.
///
/// Wall time can be set back, monotonic time stops while a machine is suspended; whoever needs
/// an age takes the larger of both differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Unix time.
    pub wall: Timestamp,
    /// Time since some fixed moment before the first reading; never goes back.
    pub monotonic: Duration,
}

impl Reading {
    /// How long after `earlier` this is, by whichever face moved further.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        let wall = self.wall.saturating_since(earlier.wall);
        wall.max(self.monotonic.saturating_sub(earlier.monotonic))
    }
}

/// Where a verifier gets the time from. [`SystemClock`] outside of tests.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Both faces, read together.
    fn read(&self) -> Reading;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic face starts now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this module is the edge where time is read")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    /// A wall clock before 1970 reads as 1970, one past 9999 as 9999: both make every feed
    /// stale or every head lie in the future, so nothing is allowed by mistake.
    #[allow(clippy::disallowed_methods, reason = "this module is the edge where time is read")]
    fn read(&self) -> Reading {
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::EPOCH.saturating_add(since),
            Err(_) => Timestamp::EPOCH,
        };
        Reading { wall, monotonic: self.start.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: u64, monotonic: u64) -> Reading {
        Reading { wall: Timestamp::from_seconds(wall).unwrap(), monotonic: Duration::from_secs(monotonic) }
    }

    #[test]
    fn an_age_follows_the_face_that_moved_further() {
        let start = reading(1000, 10);
        assert_eq!(reading(1005, 15).since(&start), Duration::from_secs(5));
        // The wall clock was set back.
        assert_eq!(reading(200, 15).since(&start), Duration::from_secs(5));
        // The machine was suspended.
        assert_eq!(reading(4600, 11).since(&start), Duration::from_secs(3600));
    }

    #[test]
    fn the_system_clock_goes_forward() {
        let clock = SystemClock::new();
        let first = clock.read();
        assert!(clock.read().monotonic >= first.monotonic);
        assert!(first.wall > Timestamp::from_rfc3339("2026-01-01T00:00:00Z").unwrap());
    }
}
