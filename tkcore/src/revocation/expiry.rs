use core::fmt;
use core::time::Duration;

use crate::time::Timestamp;

/// Milliseconds of a day; POSIX days have no leap seconds.
pub const DAY_MILLIS: u64 = 86_400_000;

/// The day (counted from 1970-01-01, UTC) on which the last thing that a revocation can name
/// expires. When the day is over, nothing is left to refuse and the row may be dropped (RV-7).
///
/// Ordered by time; [`ExpiryDay::UNKNOWN`] comes last and is never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpiryDay(u32);

impl ExpiryDay {
    /// Something it names may live for ever, or nobody knows: the row stays.
    pub const UNKNOWN: Self = Self(u32::MAX);

    /// The day of an expiry; `None` (a token that never expires) is [`ExpiryDay::UNKNOWN`].
    #[must_use]
    pub fn of(expiry: Option<Timestamp>) -> Self {
        match expiry {
            Some(at) => u32::try_from(at.millis() / DAY_MILLIS).map_or(Self::UNKNOWN, Self),
            None => Self::UNKNOWN,
        }
    }

    /// From the number on the wire.
    #[must_use]
    pub const fn from_number(day: u32) -> Self {
        Self(day)
    }

    /// The number on the wire: days since 1970-01-01, or `u32::MAX` for unknown.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its first moment; `None` for [`ExpiryDay::UNKNOWN`].
    #[must_use]
    pub fn begins(self) -> Option<Timestamp> {
        let is_known = self != Self::UNKNOWN;
        Timestamp::from_millis(u64::from(self.0).saturating_mul(DAY_MILLIS)).filter(|_| is_known)
    }

    /// The same day or the next one that is a multiple of `grain` days: a row may stay longer
    /// than it must, and fewer different days make smaller deltas and snapshots.
    #[must_use]
    pub fn rounded_up(self, grain: u32) -> Self {
        if self == Self::UNKNOWN {
            return self;
        }
        self.0.checked_next_multiple_of(grain.max(1)).map_or(Self::UNKNOWN, Self)
    }

    /// Whether the day and `skew` after it are over at `at`. Never for [`ExpiryDay::UNKNOWN`].
    #[must_use]
    pub fn is_over(self, at: Timestamp, skew: Duration) -> bool {
        if self == Self::UNKNOWN {
            return false;
        }
        let end = u64::from(self.0).saturating_add(1).saturating_mul(DAY_MILLIS);
        let skew = u64::try_from(skew.as_millis()).unwrap_or(u64::MAX);
        at.millis() > end.saturating_add(skew)
    }
}

impl fmt::Display for ExpiryDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_seconds(u64::from(self.0).saturating_mul(86_400)) {
            Some(at) if *self != Self::UNKNOWN => {
                let mut text = crate::revocation::expiry::Cut { left: 10, to: f };
                fmt::write(&mut text, format_args!("{at}"))
            }
            Some(_) | None => f.write_str("unknown"),
        }
    }
}

/// Lets the first `left` bytes of an ASCII text through: the date of a time.
struct Cut<'a, 'b> {
    left: usize,
    to: &'a mut fmt::Formatter<'b>,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let shown = text.get(..self.left.min(text.len())).unwrap_or("");
        self.left = self.left.saturating_sub(shown.len());
        self.to.write_str(shown)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_day_is_over_only_after_its_end_and_the_skew() {
        let day = ExpiryDay::of(Timestamp::from_rfc3339("2026-12-01T23:59:59Z").ok());
        assert_eq!(day.to_string(), "2026-12-01");
        let skew = Duration::from_secs(60);
        let end = Timestamp::from_rfc3339("2026-12-02T00:01:00Z").unwrap();
        assert!(!day.is_over(end, skew));
        assert!(day.is_over(Timestamp::from_millis(end.millis() + 1).unwrap(), skew));
    }

    #[test]
    fn unknown_is_never_over_and_stays_unknown() {
        assert_eq!(ExpiryDay::of(None), ExpiryDay::UNKNOWN);
        assert!(!ExpiryDay::UNKNOWN.is_over(Timestamp::MAX, Duration::ZERO));
        assert_eq!(ExpiryDay::UNKNOWN.rounded_up(8), ExpiryDay::UNKNOWN);
        assert_eq!(ExpiryDay::from_number(u32::MAX - 1).rounded_up(8), ExpiryDay::UNKNOWN);
        assert_eq!(ExpiryDay::UNKNOWN.to_string(), "unknown");
        assert_eq!(ExpiryDay::from_number(u32::MAX - 1).to_string(), "unknown");
    }

    #[test]
    fn rounding_never_shortens() {
        for day in 0..40 {
            let rounded = ExpiryDay::from_number(day).rounded_up(8).number();
            assert!(rounded >= day && rounded < day + 8 && rounded.is_multiple_of(8));
            assert_eq!(ExpiryDay::from_number(day).rounded_up(0).number(), day);
        }
    }
}
