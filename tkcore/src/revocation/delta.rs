use alloc::vec::Vec;

use crate::codec::Reader;
use crate::ids::{FeedDigest, FeedId};
use crate::revocation::changes::Changes;
use crate::revocation::digest::{self, digest};
use crate::revocation::expiry::ExpiryDay;
use crate::revocation::kind::{EVERYTHING, Item, Kind};
use crate::revocation::object::{self, ObjectError};
use crate::revocation::position::Position;
use crate::time::Timestamp;

const MAGIC: [u8; 4] = *b"tkD1";
const MERGED_MAGIC: [u8; 4] = *b"tkM1";

/// Bytes of a delta before its groups.
#[cfg(feature = "publish")]
const HEADER: usize = 4 + 4 + 16 + 8 + 8 + 8 + 4 + 2;

/// Bytes of a merged delta before its steps.
const MERGED_HEADER: u64 = 4 + 4 + 16 + 8 + 8 + 2;

/// How many steps a delta object carries. Merged ones let a client that was away catch up in
/// a few requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// One step: `delta/SEQ`.
    One,
    /// Steps `16·N + 1` to `16·N + 16`: `delta16/N`.
    Sixteen,
    /// Steps `256·N + 1` to `256·N + 256`: `delta256/N`.
    TwoHundredFiftySix,
}

impl Span {
    /// Widest first.
    pub const ALL: [Self; 3] = [Self::TwoHundredFiftySix, Self::Sixteen, Self::One];

    /// The number of steps.
    #[must_use]
    pub const fn steps(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Sixteen => 16,
            Self::TwoHundredFiftySix => 256,
        }
    }

    /// The number in the path of the object whose first step is `first`; `None` when no such
    /// object begins there.
    #[must_use]
    pub const fn number(self, first: u64) -> Option<u64> {
        match (self, first.checked_sub(1)) {
            (_, None) => None,
            (Self::One, Some(_)) => Some(first),
            (Self::Sixteen, Some(before)) if before % 16 == 0 => Some(before / 16),
            (Self::TwoHundredFiftySix, Some(before)) if before % 256 == 0 => Some(before / 256),
            (Self::Sixteen | Self::TwoHundredFiftySix, Some(_)) => None,
        }
    }

    /// The first step of the object with this number; `None` past the last sequence, and for
    /// step 0, which no delta makes.
    #[must_use]
    pub const fn first(self, number: u64) -> Option<u64> {
        match self {
            Self::One if number == 0 => None,
            Self::One => Some(number),
            Self::Sixteen | Self::TwoHundredFiftySix => match number.checked_mul(self.steps()) {
                Some(before) => before.checked_add(1),
                None => None,
            },
        }
    }

    /// Bytes that wrapping this many steps adds to them.
    #[must_use]
    pub const fn overhead(self) -> u64 {
        match self {
            Self::One => 0,
            Self::Sixteen | Self::TwoHundredFiftySix => {
                MERGED_HEADER.saturating_add(self.steps().saturating_mul(4))
            }
        }
    }
}

/// What one step does, read from its bytes and checked to be in the one form (RV-30).
pub(crate) struct Delta<'a> {
    floor: u64,
    drop: Option<ExpiryDay>,
    groups: u16,
    body: Reader<'a>,
}

impl<'a> Delta<'a> {
    /// Reads the delta that makes `position` in `feed`.
    pub(crate) fn parse(bytes: &'a [u8], feed: FeedId, position: Position) -> Result<Self, ObjectError> {
        let mut reader = Reader::new(bytes);
        object::preamble(&mut reader, MAGIC)?;
        if object::feed(&mut reader)? != feed {
            return Err(ObjectError::OtherFeed);
        }
        if (Position { epoch: reader.u64()?, sequence: reader.u64()? }) != position {
            return Err(ObjectError::Shape("delta of another step"));
        }
        let floor = reader.u64()?;
        if floor > Timestamp::MAX.millis() {
            return Err(ObjectError::Shape("global floor past the year 9999"));
        }
        let drop = match reader.u32()? {
            0 => None,
            day => match ExpiryDay::from_number(day) {
                ExpiryDay::UNKNOWN => return Err(ObjectError::Shape("drops rows of unknown expiry")),
                day => Some(day),
            },
        };
        let groups = reader.u16()?;
        let delta = Self { floor, drop, groups, body: reader };
        delta.walk(|_, _, _| {})?;
        Ok(delta)
    }

    /// The day whose rows, and those of every day before, this step drops.
    pub(crate) const fn drop(&self) -> Option<ExpiryDay> {
        self.drop
    }

    /// Adds what the step does to `changes`: first the drop, then the rows.
    pub(crate) fn add_to(&self, changes: &mut Changes) -> Result<(), ObjectError> {
        changes.raise(self.floor);
        if let Some(day) = self.drop {
            changes.drop_through(day);
        }
        self.walk(|kind, day, item| changes.push(kind, day, item))
    }

    fn walk(&self, mut each: impl FnMut(Kind, ExpiryDay, Item)) -> Result<(), ObjectError> {
        let mut reader = self.body.clone();
        let mut last = None;
        for _ in 0..self.groups {
            let kind = Kind::from_number(reader.u8()?).ok_or(ObjectError::Shape("kind of row"))?;
            let day = ExpiryDay::from_number(reader.u32()?);
            let rows = reader.u32()?;
            if last.is_some_and(|last| last >= (kind, day)) || rows == 0 {
                return Err(ObjectError::Shape("groups out of order or empty"));
            }
            last = Some((kind, day));
            let mut previous = None;
            for _ in 0..rows {
                let id = match kind {
                    Kind::Key => u128::from(reader.u64()?) << 64,
                    Kind::Token | Kind::Branch | Kind::Subject | Kind::Tenant => {
                        u128::from_be_bytes(reader.array()?)
                    }
                };
                let value = if kind.is_floor() { reader.u64()? } else { EVERYTHING };
                if previous.is_some_and(|previous| previous >= id) || !kind.admits(value) {
                    return Err(ObjectError::Shape("rows out of order, or a floor that is no time"));
                }
                previous = Some(id);
                each(kind, day, Item { id, value });
            }
        }
        object::end(&reader)
    }
}

/// Writes the delta of one step.
#[cfg(feature = "publish")]
pub(crate) fn write(feed: FeedId, position: Position, changes: &mut Changes) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes.extend_from_slice(feed.as_bytes());
    bytes.extend_from_slice(&position.epoch.to_be_bytes());
    bytes.extend_from_slice(&position.sequence.to_be_bytes());
    bytes.extend_from_slice(&changes.floor().to_be_bytes());
    bytes.extend_from_slice(&changes.dropped().map_or(0, ExpiryDay::number).to_be_bytes());
    let groups = u16::try_from(changes.groups().count()).ok()?;
    bytes.extend_from_slice(&groups.to_be_bytes());
    for (kind, day, items) in changes.groups() {
        bytes.push(kind.number());
        bytes.extend_from_slice(&day.number().to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(items.len()).ok()?.to_be_bytes());
        for item in items {
            bytes.extend_from_slice(item.id.to_be_bytes().get(..kind.width())?);
            if kind.is_floor() {
                bytes.extend_from_slice(&item.value.to_be_bytes());
            }
        }
    }
    Some(bytes)
}

/// `h[0]` of an epoch, from the state it begins with (RV-31).
pub(crate) fn chain_start(feed: FeedId, epoch: u64, state: FeedDigest) -> FeedDigest {
    digest(digest::EPOCH, &[feed.as_bytes(), &epoch.to_be_bytes(), state.as_bytes()])
}

/// `h[n]`, from `h[n-1]` and the bytes of delta n (RV-31).
pub(crate) fn chain_next(before: FeedDigest, delta: &[u8]) -> FeedDigest {
    digest(digest::CHAIN, &[before.as_bytes(), digest(digest::DELTA, &[delta]).as_bytes()])
}

/// The exact bytes of each step that an object carries, first to last. A single delta is its
/// own step; a merged one must hold exactly its number of them (RV-32).
pub(crate) fn steps(
    span: Span,
    bytes: &[u8],
    feed: FeedId,
    first: Position,
) -> Result<Vec<&[u8]>, ObjectError> {
    if span == Span::One {
        return Ok(alloc::vec![bytes]);
    }
    let mut reader = Reader::new(bytes);
    // The wrapping is not in the chain, so it has no flags that could be ignored.
    if object::preamble(&mut reader, MERGED_MAGIC)? != 0 {
        return Err(ObjectError::UnknownFlag);
    }
    if object::feed(&mut reader)? != feed {
        return Err(ObjectError::OtherFeed);
    }
    if (Position { epoch: reader.u64()?, sequence: reader.u64()? }) != first {
        return Err(ObjectError::Shape("merged delta of other steps"));
    }
    if u64::from(reader.u16()?) != span.steps() {
        return Err(ObjectError::Shape("merged delta of another span"));
    }
    let mut steps = Vec::new();
    for _ in 0..span.steps() {
        let len = usize::try_from(reader.u32()?).map_err(|_| ObjectError::TooLarge)?;
        steps.push(reader.bytes(len)?);
    }
    object::end(&reader)?;
    Ok(steps)
}

/// Writes a merged delta of its steps' exact bytes; `None` when they are not as many as the
/// span says, or one is longer than 4 GiB.
#[cfg(feature = "publish")]
pub(crate) fn merge<'a>(
    span: Span,
    feed: FeedId,
    first: Position,
    steps: impl IntoIterator<Item = &'a [u8]>,
) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MERGED_MAGIC);
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes.extend_from_slice(feed.as_bytes());
    bytes.extend_from_slice(&first.epoch.to_be_bytes());
    bytes.extend_from_slice(&first.sequence.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(span.steps()).ok()?.to_be_bytes());
    let mut count = 0u64;
    for step in steps {
        bytes.extend_from_slice(&u32::try_from(step.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(step);
        count = count.saturating_add(1);
    }
    if span != Span::One && count == span.steps() { Some(bytes) } else { None }
}
