use core::fmt;
use core::time::Duration;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX
/// time), at most 9999-12-31T23:59:59.999Z. Always fits 48 bits.
///
/// `tkcore` never reads a clock: every `now` is an argument of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// Why a text is no time of the one accepted form, `YYYY-MM-DDThh:mm:ssZ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeError {
    /// Not 20 characters of that form: a fraction, an offset other than `Z`, a lower-case
    /// letter, a space, a sign.
    Form,
    /// The form holds, the date does not exist: month 13, 30 February, hour 24, second 60.
    /// Leap seconds are refused since POSIX time cannot name them.
    Calendar,
    /// Before 1970.
    TooEarly,
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "a time must be written YYYY-MM-DDThh:mm:ssZ",
            Self::Calendar => "no such date or time of day",
            Self::TooEarly => "times before 1970 are not accepted",
        })
    }
}

impl core::error::Error for TimeError {}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// 9999-12-31T23:59:59.999Z, the last instant RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// From Unix milliseconds; `None` past [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Option<Self> {
        if millis <= Self::MAX.0 { Some(Self(millis)) } else { None }
    }

    /// From Unix seconds; `None` past [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        match seconds.checked_mul(1000) {
            Some(millis) => Self::from_millis(millis),
            None => None,
        }
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Unix seconds, cut.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This time plus `duration` cut to milliseconds, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }

    /// This time minus `duration` cut to milliseconds, at least [`Timestamp::EPOCH`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero when it is not after.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads `YYYY-MM-DDThh:mm:ssZ`, the one form accepted (RFC 3339 with `T`, `Z`, whole
    /// seconds).
    ///
    /// # Errors
    /// [`TimeError`] says which part is wrong.
    pub fn from_rfc3339(text: &str) -> Result<Self, TimeError> {
        Self::from_rfc3339_bytes(text.as_bytes())
    }

    pub(crate) fn from_rfc3339_bytes(text: &[u8]) -> Result<Self, TimeError> {
        let &[y0, y1, y2, y3, b'-', mo0, mo1, b'-', d0, d1, b'T', h0, h1, b':', mi0, mi1, b':', s0, s1, b'Z'] =
            text
        else {
            return Err(TimeError::Form);
        };
        let digits = [y0, y1, y2, y3, mo0, mo1, d0, d1, h0, h1, mi0, mi1, s0, s1];
        // All at once, without a branch on each.
        if digits.iter().fold(false, |any, digit| any | !digit.is_ascii_digit()) {
            return Err(TimeError::Form);
        }
        let (year, month, day) =
            (two(y0, y1).saturating_mul(100).saturating_add(two(y2, y3)), two(mo0, mo1), two(d0, d1));
        let (hour, minute, second) = (two(h0, h1), two(mi0, mi1), two(s0, s1));
        if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
            return Err(TimeError::Calendar);
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Err(TimeError::Calendar);
        }
        let days = days_since_epoch(year, month, day).ok_or(TimeError::TooEarly)?;
        let seconds = days
            .saturating_mul(86_400)
            .saturating_add(hour.saturating_mul(3600))
            .saturating_add(minute.saturating_mul(60))
            .saturating_add(second);
        Self::from_seconds(seconds).ok_or(TimeError::Calendar)
    }
}

/// `YYYY-MM-DDThh:mm:ssZ`; with `.mmm` before the `Z` when the milliseconds are not zero.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match self.0 % 1000 {
            0 => f.write_str("Z"),
            millis => write!(f, ".{millis:03}Z"),
        }
    }
}

/// The number that two digits write.
#[inline]
fn two(tens: u8, ones: u8) -> u64 {
    let digit = |byte: u8| byte.wrapping_sub(b'0');
    u64::from(digit(tens).wrapping_mul(10).wrapping_add(digit(ones)))
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of all years before `year`, counted from year 1 of the proleptic Gregorian calendar.
const fn days_before_year(year: u64) -> u64 {
    let past = year.saturating_sub(1);
    past.saturating_mul(365).saturating_add(past / 4).saturating_sub(past / 100).saturating_add(past / 400)
}

const EPOCH_DAYS: u64 = days_before_year(1970);

/// Days of all months before each, in a year without a leap day.
const DAYS_BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let index = usize::try_from(month).ok()?.checked_sub(1)?;
    let leap_day = u64::from(month > 2 && is_leap(year));
    let months = DAYS_BEFORE_MONTH.get(index)?.saturating_add(leap_day);
    let days = days_before_year(year).saturating_add(months).saturating_add(day.saturating_sub(1));
    days.checked_sub(EPOCH_DAYS)
}

fn date(days_since_epoch: u64) -> (u64, u64, u64) {
    // The estimate by the longest possible years is at most a few years low, never high.
    let mut year = days_since_epoch / 366;
    year = year.saturating_add(1970);
    let day_number = days_since_epoch.saturating_add(EPOCH_DAYS);
    while days_before_year(year.saturating_add(1)) <= day_number {
        year = year.saturating_add(1);
    }
    let mut left = day_number.saturating_sub(days_before_year(year));
    let mut month = 1;
    while left >= days_in(year, month) {
        left = left.saturating_sub(days_in(year, month));
        month = month.saturating_add(1);
    }
    (year, month, left.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn known_times() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-12-01T00:00:00Z", 1_796_083_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            let time = Timestamp::from_rfc3339(text).unwrap();
            assert_eq!(time.seconds(), seconds, "{text}");
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn every_day_reads_back() {
        for day in (0..=2_932_896u64).step_by(13) {
            let time = Timestamp::from_seconds(day * 86_400 + day % 86_400).unwrap();
            assert_eq!(Timestamp::from_rfc3339(&time.to_string()), Ok(time));
        }
    }

    #[test]
    fn wrong_forms() {
        use TimeError::{Calendar, Form, TooEarly};
        for (text, error) in [
            ("", Form),
            ("2026-12-01", Form),
            ("2026-12-01T00:00:00", Form),
            ("2026-12-01t00:00:00Z", Form),
            ("2026-12-01T00:00:00z", Form),
            ("2026-12-01 00:00:00Z", Form),
            ("2026-12-01T00:00:00+00:00", Form),
            ("2026-12-01T00:00:00.0Z", Form),
            ("+026-12-01T00:00:00Z", Form),
            ("2026-13-01T00:00:00Z", Calendar),
            ("2026-00-01T00:00:00Z", Calendar),
            ("2026-02-29T00:00:00Z", Calendar),
            ("2100-02-29T00:00:00Z", Calendar),
            ("2026-04-31T00:00:00Z", Calendar),
            ("2026-12-00T00:00:00Z", Calendar),
            ("2026-12-01T24:00:00Z", Calendar),
            ("2026-12-01T00:60:00Z", Calendar),
            ("2016-12-31T23:59:60Z", Calendar),
            ("1969-12-31T23:59:59Z", TooEarly),
            ("0000-01-01T00:00:00Z", TooEarly),
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_edges_hold() {
        assert_eq!(Timestamp::from_millis(Timestamp::MAX.millis() + 1), None);
        assert_eq!(Timestamp::from_seconds(u64::MAX), None);
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.saturating_sub(Duration::MAX), Timestamp::EPOCH);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }
}
