//! Absolute paths of whole segments (CV-34).

use core::fmt;

use super::word::same;

/// Why a text is no path of the one accepted form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFault {
    /// It does not begin with `/`.
    Relative,
    /// Two slashes in a row: an empty segment.
    EmptySegment,
    /// A slash at the end, except the root itself.
    TrailingSlash,
    /// A segment `.` or `..`: what it means depends on who resolves it.
    DotSegment,
    /// A percent sign: decoded once more behind the check, it could be any of the above.
    Percent,
    /// A backslash, which some systems take for a slash.
    Backslash,
    /// A control character.
    Control,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "a path begins with `/`",
            Self::EmptySegment => "a path has no two slashes in a row",
            Self::TrailingSlash => "a path has no slash at its end",
            Self::DotSegment => "a path has no segment `.` or `..`",
            Self::Percent => "a path has no percent sign; decode it first",
            Self::Backslash => "a path has no backslash",
            Self::Control => "a path has no control character",
        })
    }
}

/// Checks the one accepted form, of bytes that are UTF-8.
pub(crate) fn check(path: &[u8]) -> Result<(), PathFault> {
    let [b'/', rest @ ..] = path else { return Err(PathFault::Relative) };
    let mut doubts = 0;
    let mut mask = DOUBTFUL | NO_BEGINNING;
    for byte in rest {
        let step = STEPS.get(usize::from(*byte)).copied().unwrap_or(DOUBTFUL);
        doubts |= step & mask;
        mask = DOUBTFUL | (step >> 2);
    }
    if doubts != 0 {
        return check_each(rest);
    }
    if mask & NO_BEGINNING != 0 && !rest.is_empty() { Err(PathFault::TrailingSlash) } else { Ok(()) }
}

/// A byte that a segment cannot begin with unless one looks closer: a dot, a slash.
const NO_BEGINNING: u8 = 1;
/// A byte that must be looked at closer wherever it stands.
const DOUBTFUL: u8 = 2;
/// A segment begins behind it: [`NO_BEGINNING`] two bits up, so that a shift makes the mask.
const SLASH: u8 = NO_BEGINNING << 2;

/// What each byte is in a path: a table, because nearly all paths are plain and most are short.
static STEPS: [u8; 256] = steps();

const fn steps() -> [u8; 256] {
    let mut table = [DOUBTFUL; 256];
    let mut rest: &mut [u8] = &mut table;
    let mut byte = 0u8;
    while let Some((slot, tail)) = rest.split_first_mut() {
        *slot = match byte {
            b'/' => SLASH | NO_BEGINNING,
            b'.' => NO_BEGINNING,
            b'%' | b'\\' | 0..=0x1f | 0x7f..=0xff => DOUBTFUL,
            _ => 0,
        };
        rest = tail;
        byte = byte.wrapping_add(1);
    }
    table
}

/// The same for what stands behind the first slash, whatever it is.
#[inline(never)]
fn check_each(rest: &[u8]) -> Result<(), PathFault> {
    let mut segment = 0usize;
    let mut dots = 0usize;
    let mut previous = b'/';
    for byte in rest {
        match byte {
            b'/' => {
                end_of_segment(segment, dots)?;
                (segment, dots, previous) = (0, 0, b'/');
                continue;
            }
            b'%' => return Err(PathFault::Percent),
            b'\\' => return Err(PathFault::Backslash),
            0..=0x1f | 0x7f => return Err(PathFault::Control),
            // U+0080 to U+009F in UTF-8.
            0x80..=0x9f if previous == 0xc2 => return Err(PathFault::Control),
            b'.' => dots = dots.wrapping_add(1),
            _ => {}
        }
        previous = *byte;
        segment = segment.wrapping_add(1);
    }
    if previous == b'/' {
        return Err(PathFault::TrailingSlash);
    }
    end_of_segment(segment, dots)
}

const fn end_of_segment(len: usize, dots: usize) -> Result<(), PathFault> {
    match (len, dots) {
        (0, _) => Err(PathFault::EmptySegment),
        (1, 1) | (2, 2) => Err(PathFault::DotSegment),
        _ => Ok(()),
    }
}

/// Whether `path` is `base` or lies below it, by whole segments. Both are checked before.
pub(crate) fn is_under(path: &[u8], base: &[u8]) -> bool {
    if base == b"/" {
        return true;
    }
    match path.split_at_checked(base.len()) {
        Some((front, rest)) => same(front, base) && matches!(rest, [] | [b'/', ..]),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_form() {
        use PathFault::{Backslash, Control, DotSegment, EmptySegment, Percent, Relative, TrailingSlash};
        for (path, expected) in [
            ("/", Ok(())),
            ("/a", Ok(())),
            ("/a/b.c/..d/...", Ok(())),
            ("/ä/b c", Ok(())),
            ("", Err(Relative)),
            ("a", Err(Relative)),
            ("//", Err(EmptySegment)),
            ("//a", Err(EmptySegment)),
            ("/a//b", Err(EmptySegment)),
            ("/a/", Err(TrailingSlash)),
            ("/.", Err(DotSegment)),
            ("/..", Err(DotSegment)),
            ("/a/../b", Err(DotSegment)),
            ("/a/./b", Err(DotSegment)),
            ("/a/%2e%2e/b", Err(Percent)),
            ("/a\\..\\b", Err(Backslash)),
            ("/a\0", Err(Control)),
            ("/a\u{85}", Err(Control)),
        ] {
            assert_eq!(check(path.as_bytes()), expected, "{path:?}");
        }
    }

    #[test]
    fn below_is_by_whole_segments() {
        for (path, base, expected) in [
            ("/projects/7", "/projects/7", true),
            ("/projects/7/a", "/projects/7", true),
            ("/projects/77", "/projects/7", false),
            ("/projects", "/projects/7", false),
            ("/", "/", true),
            ("/x", "/", true),
        ] {
            assert_eq!(is_under(path.as_bytes(), base.as_bytes()), expected, "{path} under {base}");
        }
    }
}
