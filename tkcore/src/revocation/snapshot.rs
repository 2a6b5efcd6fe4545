use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::codec::Reader;
use crate::ids::{FeedDigest, FeedId};
use crate::revocation::digest::{self, digest};
use crate::revocation::expiry::ExpiryDay;
use crate::revocation::filter::FilterBuilder;
use crate::revocation::kind::Kind;
use crate::revocation::object::{self, ObjectError};
use crate::revocation::position::Position;
use crate::revocation::section::Section;
use crate::revocation::set::{RevocationSet, is_filtered};
use crate::revocation::shard::Geometry;
use crate::time::Timestamp;

const MAGIC: [u8; 4] = *b"tkS1";

/// Bytes of the part that the snapshot's digest is over.
const HEADER: usize = 4 + 4 + 16 + 8 + 8 + 32 + 32 + 8 + 2;

/// A whole set as canonical bytes, with the place in the feed it belongs to (RV-21).
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Whose feed.
    pub feed: FeedId,
    /// The set is the state at this position.
    pub position: Position,
    /// `h` at its sequence: deltas that follow are checked from here.
    pub chain: FeedDigest,
    /// The set.
    pub set: RevocationSet,
    /// What a head and the path name it by.
    pub digest: FeedDigest,
}

impl Snapshot {
    /// The snapshot of a set.
    #[must_use]
    pub fn new(feed: FeedId, position: Position, chain: FeedDigest, set: RevocationSet) -> Self {
        let digest = digest(digest::SNAPSHOT, &[&header(feed, position, chain, &set)]);
        Self { feed, position, chain, set, digest }
    }

    /// Its length in bytes, at most [`u64::MAX`].
    #[must_use]
    pub fn length(&self) -> u64 {
        let sections = self.set.all().fold(0usize, |sum, section| {
            let table = section.shards().count().saturating_mul(4).saturating_add(9);
            sum.saturating_add(table).saturating_add(section.bytes())
        });
        u64::try_from(sections.saturating_add(HEADER)).unwrap_or(u64::MAX)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = header(self.feed, self.position, self.chain, &self.set);
        bytes.reserve_exact(usize::try_from(self.length()).unwrap_or(0).saturating_sub(bytes.len()));
        for section in self.set.all() {
            bytes.push(section.kind.number());
            bytes.extend_from_slice(&section.day.number().to_be_bytes());
            bytes.extend_from_slice(&section.rows.to_be_bytes());
        }
        for section in self.set.all() {
            for (rows, _) in section.shards() {
                bytes.extend_from_slice(&rows.to_be_bytes());
            }
        }
        for section in self.set.all() {
            for (_, shard) in section.shards() {
                bytes.extend_from_slice(shard);
            }
        }
        bytes
    }

    /// Reads a snapshot and takes its bytes over: the set is searched in them. Every byte is
    /// covered by the digests, and the one form of the set is demanded (RV-21 to RV-24).
    ///
    /// Checking costs one SHA-256 over the bytes and one pass over the rows. Nothing is
    /// allocated by a claimed count before the bytes for it are seen.
    ///
    /// # Errors
    /// [`ObjectError`]. That the digest is the one a signed head names is the caller's check.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, ObjectError> {
        Self::parse_shared(&Arc::new(bytes))
    }

    /// As [`Snapshot::parse`], where the bytes are needed elsewhere as well.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn parse_shared(store: &Arc<Vec<u8>>) -> Result<Self, ObjectError> {
        let mut reader = Reader::new(store);
        object::preamble(&mut reader, MAGIC)?;
        let feed = object::feed(&mut reader)?;
        let position = Position { epoch: reader.u64()?, sequence: reader.u64()? };
        let chain = FeedDigest::from_bytes(reader.array()?);
        let state = FeedDigest::from_bytes(reader.array()?);
        let floor = reader.u64()?;
        if floor > Timestamp::MAX.millis() {
            return Err(ObjectError::Shape("global floor past the year 9999"));
        }
        let count = reader.u16()?;
        let table = table(&mut reader, count)?;
        let mut counts = Vec::new();
        for (kind, _, rows) in &table {
            let shards = Geometry::of(*kind, *rows).shards();
            let bytes = reader.bytes(shards.checked_mul(4).ok_or(ObjectError::TooLarge)?)?;
            counts.push(bytes.as_chunks::<4>().0.iter().map(|n| u32::from_be_bytes(*n)).collect::<Vec<_>>());
        }
        let mut at = store.len().saturating_sub(reader.remaining());
        let mut filter = FilterBuilder::new(filtered_rows(&table, &counts, reader.remaining())?);
        let mut sections: [Vec<Arc<Section>>; 5] = Default::default();
        for ((kind, day, rows), counts) in table.iter().zip(&counts) {
            let hidden = is_filtered(*kind);
            let each = |item: crate::revocation::kind::Item| {
                if hidden {
                    filter.insert(item.id);
                }
            };
            let (section, end) = Section::read(*kind, *day, counts, store, at, each)
                .filter(|(section, _)| section.rows == *rows)
                .ok_or(ObjectError::Shape("section"))?;
            at = end;
            if let Some((list, _)) = sections.iter_mut().zip(Kind::ALL).find(|(_, k)| k == kind) {
                list.push(Arc::new(section));
            }
        }
        if at != store.len() {
            return Err(ObjectError::Shape("bytes after the end"));
        }
        let set = RevocationSet::of(sections, floor, filter.finish());
        if set.digest() != state {
            return Err(ObjectError::Digest("state"));
        }
        let header = store.get(..HEADER).ok_or(ObjectError::Truncated)?;
        let digest = digest(digest::SNAPSHOT, &[header]);
        Ok(Self { feed, position, chain, set, digest })
    }
}

fn header(feed: FeedId, position: Position, chain: FeedDigest, set: &RevocationSet) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes.extend_from_slice(feed.as_bytes());
    bytes.extend_from_slice(&position.epoch.to_be_bytes());
    bytes.extend_from_slice(&position.sequence.to_be_bytes());
    bytes.extend_from_slice(chain.as_bytes());
    bytes.extend_from_slice(set.digest().as_bytes());
    bytes.extend_from_slice(&set.floor().to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(set.all().count()).unwrap_or(u16::MAX).to_be_bytes());
    bytes
}

fn table(reader: &mut Reader<'_>, count: u16) -> Result<Vec<(Kind, ExpiryDay, u32)>, ObjectError> {
    let mut table: Vec<(Kind, ExpiryDay, u32)> = Vec::new();
    for _ in 0..count {
        let kind = Kind::from_number(reader.u8()?).ok_or(ObjectError::Shape("kind of row"))?;
        let day = ExpiryDay::from_number(reader.u32()?);
        let rows = reader.u32()?;
        if rows == 0 || table.last().is_some_and(|(k, d, _)| (*k, *d) >= (kind, day)) {
            return Err(ObjectError::Shape("sections out of order or empty"));
        }
        table.push((kind, day, rows));
    }
    Ok(table)
}

/// Rows that go into the filter, once the bytes left are known to be as many as they take.
fn filtered_rows(
    table: &[(Kind, ExpiryDay, u32)],
    counts: &[Vec<u32>],
    left: usize,
) -> Result<usize, ObjectError> {
    let mut bytes = 0usize;
    let mut filtered = 0usize;
    for ((kind, _, rows), counts) in table.iter().zip(counts) {
        let geometry = Geometry::of(*kind, *rows);
        for count in counts {
            let len = geometry.len(*count).ok_or(ObjectError::TooLarge)?;
            bytes = bytes.checked_add(len).ok_or(ObjectError::TooLarge)?;
        }
        let sum = counts.iter().try_fold(0u32, |sum, count| sum.checked_add(*count));
        if sum != Some(*rows) {
            return Err(ObjectError::Shape("rows of a section and of its shards differ"));
        }
        if is_filtered(*kind) {
            filtered = filtered.saturating_add(usize::try_from(*rows).unwrap_or(usize::MAX));
        }
    }
    if bytes == left { Ok(filtered) } else { Err(ObjectError::Truncated) }
}
