#[cfg(feature = "publish")]
use alloc::vec::Vec;
use core::time::Duration;

use crate::codec::Reader;
use crate::ids::{FeedDigest, FeedId, FeedKeyId};
use crate::revocation::key_list::{KeyList, PublicationKey};
use crate::revocation::object::{self, ObjectError};
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;
use crate::revocation::signature::{self, FeedKey, Signatures};
use crate::time::Timestamp;

const MAGIC: [u8; 4] = *b"tkH1";

/// Longest head, in bytes. With four signatures it is 541; the rest is room for later versions,
/// and the most that a client reads before it looks.
pub const HEAD_BYTES: usize = 4096;

/// Most signatures under a head: one a signer of a small cluster, or two keys in rotation.
pub const HEAD_SIGNATURES: u8 = 4;

/// Longest time a head may tell its readers to wait.
pub const LONGEST_POLL_AFTER: Duration = Duration::from_secs(3600);

/// What the signer says of its feed at one moment (RV-41).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose feed.
    pub feed: FeedId,
    /// The key list it was made under.
    pub key_list: u64,
    /// The latest step.
    pub position: Position,
    /// A snapshot to start from.
    pub base: Base,
    /// The oldest single step still served, at most the one after the base.
    pub oldest_delta: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Nothing may be decided by it at this time or later.
    pub valid_until: Timestamp,
    /// When to ask again, without a long poll. Whole milliseconds, 1 ms to 1 h.
    pub poll_after: Duration,
    /// The global floor in milliseconds; 0: none.
    pub(crate) floor: u64,
    /// Digest of the set at this position.
    pub state: FeedDigest,
    /// `h` at this position.
    pub chain: FeedDigest,
    /// Bytes of all steps of this epoch, single ones: what deltas will cost a client is the
    /// difference to the head it has.
    pub delta_bytes: u64,
    /// The signers' audit chains.
    pub audit: Audit,
}

/// The snapshot that a head offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its sequence, in the head's epoch.
    pub sequence: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its digest.
    pub digest: FeedDigest,
    /// [`Head::delta_bytes`] at its sequence.
    pub delta_bytes: u64,
}

/// Line count and digest of the signers' audit chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// Lines of all chains together.
    pub lines: u64,
    /// Over each chain's count and hash.
    pub digest: FeedDigest,
}

/// A head as it came, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedHead<'a> {
    pub(crate) head: Head,
    signatures: Signatures,
    signed: &'a [u8],
}

/// What a key list says of a head's signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// One signature by a listed key within its window.
    Good,
    /// None by a listed key within its window.
    NoListedKey,
    /// A listed key's signature does not hold.
    Bad(FeedKeyId),
}

impl Head {
    /// Reads a head without believing it: for people, and for choosing what to fetch.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn parse_unverified(bytes: &[u8]) -> Result<Self, ObjectError> {
        SignedHead::parse(bytes).map(|signed| signed.head)
    }

    /// Whether somebody who goes by this head may ask for the object: its base, a delta that ends at
    /// the oldest step it promises or later, and every key list.
    #[must_use]
    pub fn needs(&self, path: &FeedPath) -> bool {
        match *path {
            FeedPath::Head | FeedPath::Wait { .. } | FeedPath::KeyList { .. } => true,
            FeedPath::Delta { epoch, span, number } => {
                let last =
                    span.first(number).and_then(|first| first.checked_add(span.steps().checked_sub(1)?));
                epoch == self.position.epoch && last.is_some_and(|last| last >= self.oldest_delta)
            }
            FeedPath::Snapshot { position, digest } => {
                let base = Position { sequence: self.base.sequence, ..self.position };
                position == base && digest == self.base.digest
            }
        }
    }

    /// The global floor, if one is set.
    #[must_use]
    pub fn global_floor(&self) -> Option<Timestamp> {
        if self.floor == 0 { None } else { Timestamp::from_millis(self.floor) }
    }

    /// The bytes that `signers` sign, without the tag; `None` when a field breaks its rule.
    #[cfg(feature = "publish")]
    pub(crate) fn body(&self, signers: &[FeedKeyId]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&0u32.to_be_bytes());
        bytes.extend_from_slice(self.feed.as_bytes());
        for number in [
            self.key_list,
            self.position.epoch,
            self.position.sequence,
            self.base.sequence,
            self.base.length,
            self.base.delta_bytes,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.base.digest.as_bytes());
        for number in [self.oldest_delta, self.issued_at.millis(), self.valid_until.millis()] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(self.poll_after.as_millis()).ok()?.to_be_bytes());
        bytes.extend_from_slice(&self.floor.to_be_bytes());
        bytes.extend_from_slice(self.state.as_bytes());
        bytes.extend_from_slice(self.chain.as_bytes());
        bytes.extend_from_slice(&self.delta_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.audit.lines.to_be_bytes());
        bytes.extend_from_slice(self.audit.digest.as_bytes());
        bytes.push(u8::try_from(signers.len()).ok()?);
        for id in signers {
            bytes.extend_from_slice(id.as_bytes());
        }
        let mut whole = bytes.clone();
        whole.resize(bytes.len().saturating_add(signers.len().saturating_mul(64)), 0);
        SignedHead::parse(&whole).ok().map(|_| bytes)
    }
}

impl<'a> SignedHead<'a> {
    /// Size, then shape.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ObjectError> {
        if bytes.len() > HEAD_BYTES {
            return Err(ObjectError::TooLarge);
        }
        let mut reader = Reader::new(bytes);
        object::preamble(&mut reader, MAGIC)?;
        let head = fields(&mut reader)?;
        let signatures = Signatures::read(&mut reader, HEAD_SIGNATURES)?;
        object::end(&reader)?;
        let signed = bytes.len().saturating_sub(signatures.len());
        let signed = bytes.get(..signed).ok_or(ObjectError::Truncated)?;
        Ok(Self { head, signatures, signed })
    }

    /// Whether `list` vouches for it; `valid` says if a key's window is open.
    pub(crate) fn standing(&self, list: &KeyList, valid: impl Fn(&PublicationKey) -> bool) -> Standing {
        let known = |id| list.find(id).map(|listed| listed.key);
        match self.signatures.verify(signature::HEAD, self.signed, known) {
            Err(id) => Standing::Bad(id),
            Ok(good) => {
                let is_valid = |key: &FeedKey| list.find(key.id()).is_some_and(&valid);
                if good.iter().any(is_valid) { Standing::Good } else { Standing::NoListedKey }
            }
        }
    }
}

fn fields(reader: &mut Reader<'_>) -> Result<Head, ObjectError> {
    let time = |millis, what| Timestamp::from_millis(millis).ok_or(ObjectError::Shape(what));
    let feed = object::feed(reader)?;
    let key_list = reader.u64()?;
    let position = Position { epoch: reader.u64()?, sequence: reader.u64()? };
    let (sequence, length, base_delta_bytes) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let digest = FeedDigest::from_bytes(reader.array()?);
    let base = Base { sequence, length, digest, delta_bytes: base_delta_bytes };
    let oldest_delta = reader.u64()?;
    let issued_at = time(reader.u64()?, "issued-at")?;
    let valid_until = time(reader.u64()?, "valid-until")?;
    let poll_after = Duration::from_millis(u64::from(reader.u32()?));
    let floor = time(reader.u64()?, "global floor")?.millis();
    let state = FeedDigest::from_bytes(reader.array()?);
    let chain = FeedDigest::from_bytes(reader.array()?);
    let delta_bytes = reader.u64()?;
    let audit = Audit { lines: reader.u64()?, digest: FeedDigest::from_bytes(reader.array()?) };
    if key_list == 0 || position.epoch == 0 {
        return Err(ObjectError::Shape("versions and epochs count from one"));
    }
    if base.sequence > position.sequence || base.delta_bytes > delta_bytes {
        return Err(ObjectError::Shape("base after the head"));
    }
    if base.sequence == position.sequence && base.delta_bytes != delta_bytes {
        return Err(ObjectError::Shape("delta bytes of one position differ"));
    }
    if oldest_delta == 0 || oldest_delta > base.sequence.saturating_add(1) {
        return Err(ObjectError::Shape("deltas do not reach back to the base"));
    }
    if issued_at >= valid_until {
        return Err(ObjectError::Shape("never valid"));
    }
    if poll_after.is_zero() || poll_after > LONGEST_POLL_AFTER {
        return Err(ObjectError::Shape("poll-after"));
    }
    Ok(Head {
        feed,
        key_list,
        position,
        base,
        oldest_delta,
        issued_at,
        valid_until,
        poll_after,
        floor,
        state,
        chain,
        delta_bytes,
        audit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::delta::Span;

    // RV-50
    #[test]
    fn a_head_needs_its_base_and_the_deltas_that_reach_past_its_oldest() {
        let digest = FeedDigest::from_bytes([3; 32]);
        let head = Head {
            feed: FeedId::from_bytes([7; 16]),
            key_list: 2,
            position: Position { epoch: 4, sequence: 600 },
            base: Base { sequence: 500, length: 9, digest, delta_bytes: 1 },
            oldest_delta: 17,
            issued_at: Timestamp::EPOCH,
            valid_until: Timestamp::MAX,
            poll_after: Duration::from_secs(1),
            floor: 0,
            state: digest,
            chain: digest,
            delta_bytes: 2,
            audit: Audit { lines: 0, digest },
        };
        let base =
            |epoch, sequence, digest| FeedPath::Snapshot { position: Position { epoch, sequence }, digest };
        let needed = head.needs(&base(4, 500, digest));
        let other = FeedDigest::from_bytes([4; 32]);
        let others = [base(3, 500, digest), base(4, 499, digest), base(4, 500, other)];
        assert!(needed && others.iter().all(|path| !head.needs(path)));
        for (path, is_needed) in [
            ("head", true),
            ("keys/1", true),
            ("keys/9", true),
            ("4/delta/16", false),
            ("4/delta/17", true),
            ("4/delta/600", true),
            ("3/delta/17", false),
            ("5/delta/17", false),
            // Steps 1 to 16, and 17 to 32.
            ("4/delta16/0", false),
            ("4/delta16/1", true),
            ("4/delta256/0", true),
        ] {
            assert_eq!(head.needs(&FeedPath::from_text(path).unwrap()), is_needed, "{path}");
        }
        assert!(!head.needs(&FeedPath::Delta { epoch: 4, span: Span::Sixteen, number: u64::MAX }));
    }
}
