use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tkcore::Timestamp;

/// Where the signer's time comes from. Everything else gets `now` as an argument.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Runs on beside it and is never set back: for what happens every so often.
    fn monotonic(&self) -> Instant {
        monotonic()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads the wall clock")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 or past 9999 reads as the nearest end: mint times never go below
        // the last one stored, so neither can lower anything.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::EPOCH.saturating_add(since)
    }
}

/// Runs on beside the wall clock and is never set back: for deadlines inside the process.
#[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads the monotonic clock")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
