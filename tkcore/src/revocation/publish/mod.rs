//! The signer's side of the feed, pure: steps, deltas, snapshots, heads, key lists. Nothing
//! here reads a clock, a disk or a generator; the private keys are arguments.

mod publisher;
mod revoked;
mod sign;

pub use publisher::{
    DAY_GRAIN, DROP_MARGIN, KEPT_AT_MOST, MOST_SECTIONS, Publisher, REBASE_AGE, ResumeError, Stamp, Step,
    kept_day,
};
pub use revoked::{RevocationRow, Revoked};
pub use sign::{FeedSigningKey, KeyListDraft, SignError};
