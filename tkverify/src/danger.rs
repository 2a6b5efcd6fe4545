//! Loosened choices. Each has a name that a reviewer stops at.

use crate::builder::{Builder, Source};

/// Decides without any revocation state: no token can be taken back before it expires. For
/// tests, and for a process that is its own signer and mints only what lives for minutes.
#[must_use]
pub fn without_revocation(mut builder: Builder) -> Builder {
    builder.source = Source::Nothing;
    builder
}
