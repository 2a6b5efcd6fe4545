//! The signer: alone holds the root keys; mints, verifies, revokes and publishes the feed.
//!
//! A request meets, in this order: a session that says which client key speaks
//! (`session`, `serve`), [`Service`] which looks up that key's one role before it parses a
//! parameter, a decision made by a pure function over the records in memory, and the one
//! writer thread that makes it durable together with its audit line. What changes the
//! revocation state reaches the feed through `publish`.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm,
        reason = "tests fail loudly on their own"
    )
)]

mod audit;
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the command line turns open-ended errors into advice; it decides nothing"
)]
mod cli;
mod clock;
mod codec;
mod exchange;
mod feed_tree;
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "asks which of a few operations it is; all others are refused"
)]
mod fence;
pub mod host;
mod http;
mod issue;
mod keys;
mod lists;
mod litestream;
mod memory;
mod operate;
mod peer;
mod publish;
mod random;
mod registry;
mod revoke;
mod revoked;
mod roles;
mod seal;
mod secret;
mod serve;
mod service;
mod session;
mod signer;
pub mod store;
mod tally;
mod verify;
mod writer;

pub use cli::{Exit, Streams, command, run};
pub use clock::{Clock, SystemClock};
pub use feed_tree::{FeedObject, FeedTree};
pub use keys::Statics;
pub use litestream::Litestream;
pub use memory::SignerError;
pub use peer::{Origin, Peer};
pub use seal::{Authority, Kek};
pub use secret::{Secret, SecretError, SecretSources};
pub use service::{AuditNames, Options, Registry, Service};
pub use signer::{Signer, Trust};
