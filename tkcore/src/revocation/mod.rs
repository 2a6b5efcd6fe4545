//! What can be revoked, and how a service knows: rules and rows here; the signed feed that
//! carries them behind the features `feed` (reading) and `publish` (writing).
//!
//! Byte-level rules: docs/spec/revocation.md (`RV-n`).

mod changes;
mod digest;
mod expiry;
mod filter;
mod kind;
mod query;
mod rows;
mod rule;
mod search;
mod section;
mod set;
mod shard;

#[cfg(feature = "feed")]
mod delta;
#[cfg(feature = "feed")]
pub mod feed;
#[cfg(feature = "feed")]
mod head;
#[cfg(feature = "feed")]
mod key_list;
#[cfg(feature = "feed")]
mod object;
#[cfg(feature = "feed")]
mod path;
#[cfg(any(feature = "feed", feature = "protocol"))]
mod position;
#[cfg(feature = "publish")]
pub mod publish;
#[cfg(feature = "feed")]
mod signature;
#[cfg(feature = "feed")]
mod snapshot;

pub use expiry::{DAY_MILLIS, ExpiryDay};
pub use query::{Gap, Query, Revocations, Status};
pub use rows::{RowKey, TenantKey, foreign_lineage};
pub use rule::{Revocation, Rule};
pub use set::{RevocationSet, SetFull};

#[cfg(feature = "feed")]
pub use delta::Span;
#[cfg(feature = "feed")]
pub use head::{Audit, Base, HEAD_BYTES, HEAD_SIGNATURES, Head, LONGEST_POLL_AFTER};
#[cfg(feature = "feed")]
pub use key_list::{
    KEY_LIST_BYTES, KeyList, KeyListError, LONGEST_WINDOW, PUBLICATION_KEYS, PublicationKey, ROOT_KEYS,
    RootKeys, RootKeysError,
};
#[cfg(feature = "feed")]
pub use object::ObjectError;
#[cfg(feature = "feed")]
pub use path::FeedPath;
#[cfg(any(feature = "feed", feature = "protocol"))]
pub use position::Position;
#[cfg(feature = "feed")]
pub use signature::FeedKey;
#[cfg(feature = "feed")]
pub use snapshot::Snapshot;
