//! The signer: alone holds the root keys; mints, verifies, revokes and publishes the feed.
//!
//! A request meets, in this order: a session that says which client key speaks
//! (`session`, `serve`), [`Service`] which looks up that key's one role before it parses a
//! parameter, a decision made by a pure function over the records in memory, and the one
//! writer thread that makes it durable together with its audit line. What changes the
//! revocation state reaches the feed through [`publish`].
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

mod clock;
mod codec;
mod http;
mod peer;
mod random;
mod seal;
mod secret;
mod serve;
mod session;
pub mod store;

pub use clock::{Clock, SystemClock};
pub use peer::{Origin, Peer};
pub use seal::{Authority, Kek, OpenError};
pub use secret::{Secret, SecretError, SecretSources};
pub use session::Rate;
