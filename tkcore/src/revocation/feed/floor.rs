use alloc::vec::Vec;

use crate::codec::Reader;
use crate::ids::{FeedDigest, FeedId};
use crate::revocation::digest::{Tag, digest};
use crate::revocation::object::{self, ObjectError};
use crate::revocation::position::Position;
use crate::time::Timestamp;

const MAGIC: [u8; 4] = *b"tkF1";
const CHECK: &Tag = b"tk-floor-v1\0\0\0\0\0";

/// The least that a client will ever believe again, kept apart from the rest so that a cleaned
/// cache or a restart forgets nothing (RV-49). Not signed: whoever can write the folder can
/// also delete it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Whose feed.
    pub feed: FeedId,
    /// The newest key list seen.
    pub key_list: u64,
    /// The latest position taken; epoch 0: none yet.
    pub position: Position,
    /// When the latest head was signed.
    pub issued_at: Timestamp,
    /// The state there.
    pub state: FeedDigest,
    /// `h` there.
    pub chain: FeedDigest,
}

impl Floor {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(feed: FeedId) -> Self {
        Self {
            feed,
            key_list: 0,
            position: Position { epoch: 0, sequence: 0 },
            issued_at: Timestamp::EPOCH,
            state: FeedDigest::from_bytes([0; 32]),
            chain: FeedDigest::from_bytes([0; 32]),
        }
    }

    /// The floor file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(152);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&0u32.to_be_bytes());
        bytes.extend_from_slice(self.feed.as_bytes());
        for number in [self.key_list, self.position.epoch, self.position.sequence, self.issued_at.millis()] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.state.as_bytes());
        bytes.extend_from_slice(self.chain.as_bytes());
        let check = digest(CHECK, &[&bytes]);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }

    /// Reads a floor file. The digest in it finds a cut or damaged file, not an enemy.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ObjectError> {
        let mut reader = Reader::new(bytes);
        object::preamble(&mut reader, MAGIC)?;
        let feed = object::feed(&mut reader)?;
        let key_list = reader.u64()?;
        let position = Position { epoch: reader.u64()?, sequence: reader.u64()? };
        let issued_at = Timestamp::from_millis(reader.u64()?).ok_or(ObjectError::Shape("issued-at"))?;
        let state = FeedDigest::from_bytes(reader.array()?);
        let chain = FeedDigest::from_bytes(reader.array()?);
        let checked = bytes.len().saturating_sub(reader.remaining());
        let check = digest(CHECK, &[bytes.get(..checked).ok_or(ObjectError::Truncated)?]);
        if FeedDigest::from_bytes(reader.array()?) != check {
            return Err(ObjectError::Digest("floor"));
        }
        object::end(&reader)?;
        Ok(Self { feed, key_list, position, issued_at, state, chain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_no_cut_or_flipped_one_does() {
        let floor = Floor {
            key_list: 3,
            position: Position { epoch: 2, sequence: 9 },
            issued_at: Timestamp::from_millis(1_790_000_000_123).unwrap(),
            state: FeedDigest::from_bytes([1; 32]),
            chain: FeedDigest::from_bytes([2; 32]),
            ..Floor::new(FeedId::from_bytes([7; 16]))
        };
        let bytes = floor.to_bytes();
        assert_eq!(Floor::from_bytes(&bytes), Ok(floor));
        for len in 0..bytes.len() {
            assert!(Floor::from_bytes(&bytes[..len]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(Floor::from_bytes(&bytes).is_err(), "{bit}");
        }
    }
}
