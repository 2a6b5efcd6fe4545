use sha2::{Digest as _, Sha256};

use crate::ids::FeedDigest;

/// Says what is hashed or signed, so that nothing can be taken for something else (RV-10).
/// Sixteen bytes each: none is a prefix of another.
pub(crate) type Tag = [u8; 16];

pub(crate) const SHARD: &Tag = b"tk-shard-v1\0\0\0\0\0";
pub(crate) const SECTION: &Tag = b"tk-section-v1\0\0\0";
pub(crate) const STATE: &Tag = b"tk-state-v1\0\0\0\0\0";
pub(crate) const SNAPSHOT: &Tag = b"tk-snapshot-v1\0\0";
pub(crate) const DELTA: &Tag = b"tk-delta-v1\0\0\0\0\0";
pub(crate) const CHAIN: &Tag = b"tk-chain-v1\0\0\0\0\0";
pub(crate) const EPOCH: &Tag = b"tk-epoch-v1\0\0\0\0\0";

/// `SHA-256(tag ‖ parts)`.
pub(crate) fn digest(tag: &Tag, parts: &[&[u8]]) -> FeedDigest {
    let mut hash = Sha256::new();
    hash.update(tag);
    for part in parts {
        hash.update(part);
    }
    FeedDigest::from_bytes(hash.finalize().into())
}
