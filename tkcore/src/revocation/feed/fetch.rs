use alloc::vec::Vec;
use core::time::Duration;

use crate::revocation::path::FeedPath;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Get this and hand the answer to [`crate::revocation::feed::Machine::receive`].
    Fetch(Fetch),
    /// Nothing for this long, unless somebody asks for a poll now.
    Sleep(Duration),
}

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Which of the configured places, from zero.
    pub mirror: usize,
    /// What.
    pub path: FeedPath,
    /// Stop reading after this many bytes and one.
    pub limit: u64,
    /// How long the server may hold the request back; the driver's own time limit is longer.
    pub hold: Duration,
    /// Whether the last `ETag` of the head from this place may be sent: not while what came
    /// under it was not taken, since a 304 would then say nothing.
    pub conditional: bool,
}

/// How a GET ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// 200 and a body within the limit.
    Body(Vec<u8>),
    /// 304, or a held request that ended without news. Proves nothing, extends nothing.
    NotModified,
    /// 404 or 410.
    NotFound,
    /// The server asks for patience (429, 503), or answers something else without a body to
    /// look at.
    Refused {
        /// Its `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// More than the limit.
    TooLarge,
    /// No answer: no connection, cut off, too slow, or a content encoding.
    Failed,
}
