//! Conversions for services that use another macaroon crate today and want to move step by step.

use std::fmt;

use tkcore::Malformed;

#[cfg(feature = "libmacaroon")]
pub mod libmacaroon;
#[cfg(feature = "macaroon")]
pub mod macaroon;

/// Why a macaroon could not be carried over. Shows nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConvertError {
    /// The other crate could not write it, or could not read ours.
    NotWritten,
    /// We cannot read what the other crate wrote.
    NotRead(Malformed),
    /// What arrived is another macaroon than what was sent; neither is handed over.
    NotTheSame,
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten => f.write_str("the other macaroon crate does not take it"),
            Self::NotRead(what) => write!(f, "what the other macaroon crate wrote: {what}"),
            Self::NotTheSame => f.write_str("the conversion would have changed the macaroon"),
        }
    }
}

impl std::error::Error for ConvertError {}
