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
    pub(crate) fn new(head: &Head, config: &Config, moment: Moment) -> Self {
        let signed = head.valid_until.saturating_since(head.issued_at);
        Self {
            issued_at: head.issued_at,
            taken: moment.monotonic,
            age_when_taken: moment.wall.saturating_since(head.issued_at),
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

    /// The time it must be by now at least: the wall clock, or the signer's last word and what
    /// has passed since.
    pub(crate) fn now(&self, moment: Moment) -> Timestamp {
        let elapsed = moment.monotonic.saturating_sub(self.taken);
        moment.wall.max(self.issued_at.saturating_add(elapsed))
    }
}
