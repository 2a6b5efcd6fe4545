use core::time::Duration;

use crate::revocation::feed::config::Config;
use crate::revocation::head::Head;
use crate::time::Timestamp;

/// What the clocks say: the wall clock, which may jump, and one that only grows but may stop
/// while the machine sleeps. Read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time of day.
    pub wall: Timestamp,
    /// Since any fixed moment of this process.
    pub monotonic: Duration,
}

/// How old the revocation state is, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// Nothing was ever loaded: nothing may be decided.
    Empty,
    /// Too old to decide by.
    Stale,
    /// Decide, and say so.
    Aging,
    /// Decide.
    Fresh,
}

/// How long a state may be decided by. Small and `Copy`, so that it can stand beside the set
/// and be asked on every request without the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    issued_at: Timestamp,
    taken: Duration,
    age_when_taken: Duration,
    aging: Duration,
    stale: Duration,
}

impl Validity {
    /// For a head that is taken at this moment, which is `now` to the client (RV-48).
    pub(crate) fn new(head: &Head, config: &Config, moment: Moment, now: Timestamp) -> Self {
        let signed = head.valid_until.saturating_since(head.issued_at);
        Self {
            issued_at: head.issued_at,
            taken: moment.monotonic,
            age_when_taken: now.saturating_since(head.issued_at),
            aging: config.aging,
            stale: config.max_age.map_or(signed, |max| max.min(signed)),
        }
    }

    /// When the signer made the head that vouches for the state.
    #[must_use]
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// From which age on the state may not be decided by.
    #[must_use]
    pub const fn stale_after(&self) -> Duration {
        self.stale
    }

    /// Since the head was signed: the larger of what the two clocks say. A clock that was set
    /// back makes nothing younger, and neither does one that stopped in a suspended machine.
    #[must_use]
    pub fn age(&self, moment: Moment) -> Duration {
        let elapsed = moment.monotonic.saturating_sub(self.taken);
        let monotonic = self.age_when_taken.saturating_add(elapsed);
        monotonic.max(moment.wall.saturating_since(self.issued_at))
    }

    /// Never [`Freshness::Empty`].
    #[must_use]
    pub fn freshness(&self, moment: Moment) -> Freshness {
        let age = self.age(moment);
        if age >= self.stale {
            Freshness::Stale
        } else if age >= self.aging {
            Freshness::Aging
        } else {
            Freshness::Fresh
        }
    }
}

/// The latest time that heads have proven, counted on by the monotonic clock: a clock that is set
/// back is outvoted by it (RV-48).
///
/// A head proves its time of issue only as far as it lies behind what the client believed before. Else
/// each head, a little ahead of the one before it, would carry the client further, and whoever
/// signs them could make it any time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    time: Timestamp,
    at: Duration,
}

impl Proven {
    /// Nothing yet.
    pub(crate) const NOTHING: Self = Self { time: Timestamp::EPOCH, at: Duration::ZERO };

    /// What it is by now, at least.
    pub(crate) fn now(&self, moment: Moment) -> Timestamp {
        self.time.saturating_add(moment.monotonic.saturating_sub(self.at))
    }

    /// Takes a head that was believed when it was `now` to the client.
    pub(crate) fn learn(&mut self, issued_at: Timestamp, moment: Moment, now: Timestamp) {
        let since = if self.time == Timestamp::EPOCH { moment.monotonic } else { self.at };
        let slow = moment.monotonic.saturating_sub(since).checked_div(DRIFT).unwrap_or(Duration::ZERO);
        let proven = issued_at.min(now.saturating_add(slow));
        *self = Self { time: self.now(moment).max(proven), at: moment.monotonic };
    }
}

/// A monotonic clock may lose one part in so many, which heads make good; real ones lose less than one
/// in ten thousand. What a stolen key can gain by it is 86 seconds a day.
const DRIFT: u32 = 1000;
