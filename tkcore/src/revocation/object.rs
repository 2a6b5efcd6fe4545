//! What the four kinds of object have in common: a magic, flags, and errors.

use core::fmt;

use crate::codec::{Reader, Truncated};
use crate::ids::FeedId;

/// Why bytes are not the object they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectError {
    /// Ends in the middle of a field.
    Truncated,
    /// Longer than the limit for its kind.
    TooLarge,
    /// Not this kind of object, or another version of it; an error page is this.
    Magic,
    /// A critical flag that this version does not know: it may restrict, so it refuses.
    UnknownFlag,
    /// Another feed's.
    OtherFeed,
    /// A field breaks its rule; says which.
    Shape(&'static str),
    /// The bytes are not those that a digest was given for; says which digest.
    Digest(&'static str),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("cut off"),
            Self::TooLarge => f.write_str("larger than allowed"),
            Self::Magic => f.write_str("not an object of this kind and version"),
            Self::UnknownFlag => f.write_str("a critical flag that this version does not know"),
            Self::OtherFeed => f.write_str("of another feed"),
            Self::Shape(what) => write!(f, "malformed: {what}"),
            Self::Digest(what) => write!(f, "digest does not match: {what}"),
        }
    }
}

impl core::error::Error for ObjectError {}

impl From<Truncated> for ObjectError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// The low half refuses when unknown, the high half may be ignored (RV-12).
const CRITICAL: u32 = 0xffff;

/// Reads a magic and flags, of which this version knows none.
pub(crate) fn preamble(reader: &mut Reader<'_>, magic: [u8; 4]) -> Result<u32, ObjectError> {
    if reader.array::<4>()? != magic {
        return Err(ObjectError::Magic);
    }
    let flags = reader.u32()?;
    if flags & CRITICAL != 0 { Err(ObjectError::UnknownFlag) } else { Ok(flags) }
}

pub(crate) fn feed(reader: &mut Reader<'_>) -> Result<FeedId, ObjectError> {
    Ok(FeedId::from_bytes(reader.array()?))
}

pub(crate) const fn end(reader: &Reader<'_>) -> Result<(), ObjectError> {
    if reader.is_empty() { Ok(()) } else { Err(ObjectError::Shape("bytes after the end")) }
}
