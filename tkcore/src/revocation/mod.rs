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
mod section;
mod set;
mod shard;

pub use expiry::{DAY_MILLIS, ExpiryDay};
pub use query::{Gap, Query, Revocations, Status};
pub use rows::{RowKey, TenantKey, foreign_lineage};
pub use rule::{Revocation, Rule};
pub use set::{RevocationSet, SetFull};
