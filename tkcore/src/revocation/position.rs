use alloc::vec::Vec;
use core::fmt;

/// Where in a feed a state stands. Ordered: a higher epoch is later whatever the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Raised by a key list only.
    pub epoch: u64,
    /// Steps since the epoch began.
    pub sequence: u64,
}

/// `EPOCH.SEQUENCE`, as `wait?after=` takes it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

impl Position {
    /// Epoch and sequence, 8 bytes each, big-endian: sorts as positions do.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.epoch.to_be_bytes(), self.sequence.to_be_bytes()].concat()
    }

    /// Reads what [`Position::to_bytes`] writes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, sequence) = bytes.split_first_chunk()?;
        let sequence = u64::from_be_bytes(sequence.try_into().ok()?);
        Some(Self { epoch: u64::from_be_bytes(*epoch), sequence })
    }

    /// Reads `EPOCH.SEQUENCE`: plain decimals without sign or leading zeros.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (epoch, sequence) = text.split_once('.')?;
        Some(Self { epoch: number(epoch)?, sequence: number(sequence)? })
    }
}

pub(crate) fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn reads_what_it_writes_and_one_form_only() {
        let position = Position { epoch: 3, sequence: 70 };
        assert_eq!(Position::from_text(&position.to_string()), Some(position));
        assert_eq!(Position::from_text("0.0"), Some(Position::default()));
        for wrong in ["", ".", "1", "1.", "01.2", "+1.2", "1.2.3", "1.-2", "1.18446744073709551616"] {
            assert_eq!(Position::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_read_back_and_sort_as_positions() {
        let (one, two) = (Position { epoch: 1, sequence: 256 }, Position { epoch: 2, sequence: 1 });
        assert_eq!(Position::from_bytes(&one.to_bytes()), Some(one));
        assert!(one.to_bytes() < two.to_bytes());
        assert_eq!(Position::from_bytes(&one.to_bytes()[..15]), None);
        assert_eq!(Position::from_bytes(&[0; 17]), None);
    }

    #[test]
    fn an_epoch_outweighs_any_sequence() {
        assert!(Position { epoch: 2, sequence: 0 } > Position { epoch: 1, sequence: u64::MAX });
    }
}
