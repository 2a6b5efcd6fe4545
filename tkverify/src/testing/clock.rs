use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tkcore::Timestamp;

use crate::clock::{Clock, Reading};

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct TestClock(Mutex<Reading>);

impl Default for TestClock {
    /// 2026-12-01T00:00:00Z.
    fn default() -> Self {
        let wall = Timestamp::from_seconds(1_796_083_200).unwrap_or(Timestamp::EPOCH);
        Self(Mutex::new(Reading { wall, monotonic: Duration::from_secs(1000) }))
    }
}

impl TestClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.change(|reading| {
            reading.wall = reading.wall.saturating_add(by);
            reading.monotonic = reading.monotonic.saturating_add(by);
        });
    }

    /// Lets time pass while the machine is suspended: the monotonic clock stands.
    pub fn suspend(&self, by: Duration) {
        self.change(|reading| reading.wall = reading.wall.saturating_add(by));
    }

    /// Sets the wall clock, as an operator or a broken time server does.
    pub fn set_wall(&self, to: Timestamp) {
        self.change(|reading| reading.wall = to);
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Clock for TestClock {
    fn read(&self) -> Reading {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
