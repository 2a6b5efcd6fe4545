//! Range and conditional requests on one whole object (RFC 9110, sections 13 and 14).

use std::ops::Range;

/// What part of an object is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: nothing else was asked, or in a form that may be ignored.
    Whole,
    /// These bytes.
    Some(Range<usize>),
    /// Bytes that it does not have.
    None,
}

/// Reads a `Range` value for an object of `len` bytes. Several ranges, and units other than
/// bytes, are answered in full, as the standard allows.
pub(super) fn part(value: &str, len: usize) -> Part {
    let Some(range) = value.trim().strip_prefix("bytes=") else { return Part::Whole };
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let (first, last) = (first.trim(), last.trim());
    let (start, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(len)),
        (Some(first), None) if last.is_empty() => (first, len),
        // The last so many bytes.
        (None, Some(count)) if first.is_empty() => (len.saturating_sub(count), len),
        _ => return Part::Whole,
    };
    if start < end { Part::Some(start..end) } else { Part::None }
}

/// Whether an `If-None-Match` value names `etag` (weakly compared, as the standard says).
pub(super) fn names(value: &str, etag: &str) -> bool {
    value.trim() == "*" || value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

fn number(text: &str) -> Option<usize> {
    // `usize::from_str` takes a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, expected) in [
            ("bytes=0-", Part::Some(0..10)),
            ("bytes=4-", Part::Some(4..10)),
            ("bytes=4-5", Part::Some(4..6)),
            ("bytes=9-9", Part::Some(9..10)),
            ("bytes=4-99999", Part::Some(4..10)),
            ("bytes=-3", Part::Some(7..10)),
            ("bytes=-99", Part::Some(0..10)),
            ("bytes=10-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
            ("items=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(value, 10), expected, "{value}");
        }
        assert_eq!(part("bytes=0-", 0), Part::None);
    }

    #[test]
    fn tags() {
        assert!(names("\"a\"", "\"a\""));
        assert!(names("\"b\", W/\"a\"", "\"a\""));
        assert!(names("*", "\"a\""));
        assert!(!names("\"b\"", "\"a\""));
        assert!(!names("", "\"a\""));
    }
}
