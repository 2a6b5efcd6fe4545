//! Times as other vocabularies write them: RFC 3339 with a fraction and an offset.

use core::cmp::Ordering;

use crate::time::Timestamp;

/// An instant, to the millisecond and whether there is more behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    millis: i64,
    more: bool,
}

/// Which offsets a vocabulary takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// `Z` or `±hh:mm`.
    #[cfg(any(feature = "lnd", feature = "bakery"))]
    Any,
    /// `Z` alone.
    #[cfg(feature = "dcache")]
    Utc,
}

impl Instant {
    /// Reads `YYYY-MM-DDThh:mm:ss`, an optional fraction of 1 to 9 digits, and the offset. Leap
    /// seconds and 24:00 are refused: POSIX time cannot name the first, and the second is a
    /// second spelling.
    pub(super) fn read(text: &str, offset: Offset) -> Option<Self> {
        let (date_time, rest) = text.split_at_checked(19)?;
        let mut whole = [0u8; 20];
        for (to, from) in whole.iter_mut().zip(date_time.bytes().chain([b'Z'])) {
            *to = from;
        }
        // Years before 1970 and impossible dates end here; the first would only be past times.
        let seconds = i64::try_from(Timestamp::from_rfc3339_bytes(&whole).ok()?.seconds()).ok()?;
        let (fraction, more, rest) = match rest.strip_prefix('.') {
            None => (0, false, rest),
            Some(rest) => {
                let len = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
                let (digits, rest) = rest.split_at_checked(len)?;
                let (millis, more) = fraction(digits)?;
                (millis, more, rest)
            }
        };
        let minutes: i64 = match (offset, rest) {
            (_, "Z") => 0,
            #[cfg(any(feature = "lnd", feature = "bakery"))]
            (Offset::Any, rest) => minutes(rest)?,
            #[cfg(feature = "dcache")]
            (Offset::Utc, _) => return None,
        };
        let seconds = seconds.checked_sub(minutes.checked_mul(60)?)?;
        Some(Self { millis: seconds.checked_mul(1000)?.checked_add(fraction)?, more })
    }

    /// How `now` lies to this instant.
    pub(super) fn of_now(self, now: Timestamp) -> Ordering {
        let now = i64::try_from(now.millis()).unwrap_or(i64::MAX);
        now.cmp(&self.millis).then(if self.more { Ordering::Less } else { Ordering::Equal })
    }
}

/// Milliseconds of a fraction of 1 to 9 digits, and whether something smaller follows.
fn fraction(digits: &str) -> Option<(i64, bool)> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut millis = 0i64;
    for at in 0..3 {
        let digit = digits.as_bytes().get(at).map_or(0, |digit| digit.saturating_sub(b'0'));
        millis = millis.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    let more = digits.bytes().skip(3).any(|digit| digit != b'0');
    Some((millis, more))
}

#[cfg(any(feature = "lnd", feature = "bakery"))]
fn minutes(offset: &str) -> Option<i64> {
    let &[sign, h0, h1, b':', m0, m1] = offset.as_bytes() else { return None };
    let digit = |digit: u8| digit.is_ascii_digit().then(|| i64::from(digit.saturating_sub(b'0')));
    let hours = digit(h0)?.checked_mul(10)?.checked_add(digit(h1)?)?;
    let minutes = digit(m0)?.checked_mul(10)?.checked_add(digit(m1)?)?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let total = hours.checked_mul(60)?.checked_add(minutes)?;
    match sign {
        b'+' => Some(total),
        b'-' => total.checked_neg(),
        _ => None,
    }
}

#[cfg(all(test, feature = "bakery", feature = "dcache"))]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_offsets() {
        let now = Timestamp::from_rfc3339("2026-11-23T12:00:00Z").unwrap();
        for (text, expected) in [
            ("2026-11-23T12:00:00Z", Some(Ordering::Equal)),
            ("2026-11-23T13:00:00+01:00", Some(Ordering::Equal)),
            ("2026-11-23T10:30:00-01:30", Some(Ordering::Equal)),
            ("2026-11-23T12:00:00.000Z", Some(Ordering::Equal)),
            ("2026-11-23T12:00:00.001Z", Some(Ordering::Less)),
            ("2026-11-23T12:00:00.000000001Z", Some(Ordering::Less)),
            ("2026-11-23T11:59:59.999999999Z", Some(Ordering::Greater)),
            ("2026-11-23T12:00:00.0000000001Z", None),
            ("2026-11-23T12:00:00.Z", None),
            ("2026-11-23T12:00:00,5Z", None),
            ("2026-11-23T12:00:00", None),
            ("2026-11-23 12:00:00Z", None),
            ("2026-11-23T12:00:00z", None),
            ("2026-11-23T12:00:60Z", None),
            ("2026-11-23T24:00:00Z", None),
            ("2026-11-23T12:00:00+24:00", None),
            ("2026-11-23T12:00:00+0100", None),
            ("2026-02-30T12:00:00Z", None),
            ("2026-11-23T12:00:00Zx", None),
            ("", None),
        ] {
            assert_eq!(Instant::read(text, Offset::Any).map(|at| at.of_now(now)), expected, "{text}");
        }
        assert!(Instant::read("2026-11-23T13:00:00+01:00", Offset::Utc).is_none());
        assert!(Instant::read("2026-11-23T12:00:00.5Z", Offset::Utc).is_some());
    }
}
