use core::fmt;

use crate::ids::FeedDigest;
use crate::revocation::delta::Span;
use crate::revocation::position::{Position, number};

/// Where an object is served, relative to `/v1/feed/<feed id>/` or to a published folder
/// (RV-50). `Display` writes it and [`FeedPath::from_text`] reads that one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedPath {
    /// `head`: changes all the time; short cache and an `ETag`.
    Head,
    /// `wait?after=EPOCH.SEQ`: answers when the head is another one than that.
    Wait {
        /// The position the client has.
        after: Position,
    },
    /// `keys/N`: immutable, but its absence must not be cached.
    KeyList {
        /// Its version.
        version: u64,
    },
    /// `<epoch>/delta/SEQ`, `<epoch>/delta16/N`, `<epoch>/delta256/N`: immutable.
    Delta {
        /// Its epoch.
        epoch: u64,
        /// How many steps.
        span: Span,
        /// The step for a single one, otherwise (first step − 1) / span.
        number: u64,
    },
    /// `<epoch>/snapshot/SEQ-DIGEST`: immutable.
    Snapshot {
        /// The state's position.
        position: Position,
        /// Its digest.
        digest: FeedDigest,
    },
}

impl FeedPath {
    /// The single delta that leads to this position.
    #[must_use]
    pub const fn delta(position: Position) -> Self {
        Self::Delta { epoch: position.epoch, span: Span::One, number: position.sequence }
    }

    /// The deltas that end at this position, narrow first: the single one, and each merged one
    /// whose last step it is.
    pub fn deltas_ending_at(position: Position) -> impl Iterator<Item = Self> {
        let Position { epoch, sequence } = position;
        let merged = [Span::Sixteen, Span::TwoHundredFiftySix].into_iter().filter_map(move |span| {
            let number = sequence.checked_div(span.steps())?.checked_sub(1)?;
            (sequence.checked_rem(span.steps())? == 0).then_some(Self::Delta { epoch, span, number })
        });
        core::iter::once(Self::delta(position)).chain(merged)
    }

    /// In which order a tree is written, so that nothing names what is not there yet: data, then
    /// key lists, the head last (RV-50).
    #[must_use]
    pub const fn write_order(&self) -> u8 {
        match self {
            Self::Delta { .. } | Self::Snapshot { .. } => 0,
            Self::KeyList { .. } => 1,
            Self::Head | Self::Wait { .. } => 2,
        }
    }

    /// Whether the object under this path never changes, so that it may be cached for a year.
    #[must_use]
    pub const fn is_immutable(&self) -> bool {
        match self {
            Self::Head | Self::Wait { .. } => false,
            Self::KeyList { .. } | Self::Delta { .. } | Self::Snapshot { .. } => true,
        }
    }

    /// Reads the one form that `Display` writes.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text == "head" {
            return Some(Self::Head);
        }
        if let Some(after) = text.strip_prefix("wait?after=") {
            return Position::from_text(after).map(|after| Self::Wait { after });
        }
        if let Some(version) = text.strip_prefix("keys/") {
            return number(version).map(|version| Self::KeyList { version });
        }
        let (epoch, rest) = text.split_once('/')?;
        let (folder, name) = rest.split_once('/')?;
        let epoch = number(epoch)?;
        let span = match folder {
            "delta" => Span::One,
            "delta16" => Span::Sixteen,
            "delta256" => Span::TwoHundredFiftySix,
            "snapshot" => {
                let (sequence, digest) = name.split_once('-')?;
                let position = Position { epoch, sequence: number(sequence)? };
                return Some(Self::Snapshot { position, digest: FeedDigest::from_hex(digest)? });
            }
            _ => return None,
        };
        Some(Self::Delta { epoch, span, number: number(name)? })
    }
}

impl fmt::Display for FeedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Wait { after } => write!(f, "wait?after={after}"),
            Self::KeyList { version } => write!(f, "keys/{version}"),
            Self::Delta { epoch, span, number } => {
                let folder = match span {
                    Span::One => "delta",
                    Span::Sixteen => "delta16",
                    Span::TwoHundredFiftySix => "delta256",
                };
                write!(f, "{epoch}/{folder}/{number}")
            }
            Self::Snapshot { position, digest } => {
                write!(f, "{}/snapshot/{}-{digest}", position.epoch, position.sequence)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let digest = FeedDigest::from_bytes([0xab; 32]);
        for path in [
            FeedPath::Head,
            FeedPath::Wait { after: Position { epoch: 1, sequence: 0 } },
            FeedPath::KeyList { version: 12 },
            FeedPath::Delta { epoch: 2, span: Span::One, number: 17 },
            FeedPath::Delta { epoch: 2, span: Span::Sixteen, number: 0 },
            FeedPath::Delta { epoch: 2, span: Span::TwoHundredFiftySix, number: 3 },
            FeedPath::Snapshot { position: Position { epoch: 2, sequence: 768 }, digest },
        ] {
            assert_eq!(FeedPath::from_text(&path.to_string()), Some(path));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for wrong in [
            "",
            "/head",
            "head/",
            "Head",
            "keys/",
            "keys/01",
            "keys/../x",
            "1/delta/",
            "1/delta/-1",
            "1/delta8/1",
            "1/delta/1/",
            "1/snapshot/1",
            "1/snapshot/1-AB",
            "wait?after=1",
        ] {
            assert_eq!(FeedPath::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_step_ends_the_merged_deltas_of_which_it_is_the_last() {
        let ending = |sequence| {
            let paths = FeedPath::deltas_ending_at(Position { epoch: 3, sequence });
            paths.map(|path| path.to_string()).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(ending(15), ["3/delta/15"]);
        assert_eq!(ending(16), ["3/delta/16", "3/delta16/0"]);
        assert_eq!(ending(512), ["3/delta/512", "3/delta16/31", "3/delta256/1"]);
    }
}
