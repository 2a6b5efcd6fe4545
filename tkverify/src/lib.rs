//! Protect a service with tokens it can verify in process, without holding a root key.
//!
//! ```no_run
//! use tkverify::{ClientKey, Trust, Verifier};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let trust = Trust::from_file("trust.json".as_ref())?; // 1. whom to believe; `tksign serve` writes it
//! let key = ClientKey::read("client.key".as_ref())?; // 2. who asks; `tkverify keygen` made it
//! let verifier = Verifier::builder().trust(trust).client_key(key).build()?; // 3. once a process
//! # let authorization = "Bearer tk1_";
//! let request = verifier.request("acme").action("read").text("app", "17").build()?; // 4. what is asked
//! let grant = verifier.check(authorization, &request)?; // 5. granted, or why not
//! # Ok(())
//! # }
//! ```
//!
//! The signer is asked once about a lineage; what it vouches for is remembered, and everything
//! attenuated from it is decided here. Whether a token is revoked is looked up on every request
//! in a state that the verifier keeps fresh in the background, and that it refuses to decide by
//! when it is too old. How to run it: docs/operations.md.

#[cfg(feature = "actix")]
pub mod actix;
mod ask;
mod asks;
#[cfg(feature = "axum")]
pub mod axum;
mod builder;
pub mod cli;
mod client_key;
mod clock;
#[cfg(any(feature = "macaroon", feature = "libmacaroon"))]
pub mod convert;
pub mod danger;
mod decide;
pub mod discharge;
#[cfg(feature = "metrics")]
mod export;
mod feed;
mod health;
mod https;
mod key_file;
mod keys;
mod manner;
mod memory;
mod metrics;
mod observe;
mod policy;
pub mod remote;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "tower")]
pub mod tower;
mod trust;
mod verifier;
pub mod web;

pub use ask::{AskError, Signer};
pub use builder::{
    AGING, ASKS, BuildError, Builder, GRACE_MAXIMUM, LOCAL_MAXIMUM, MEMORY_BYTES, PATIENCE, TASKS, WAITING,
    WAITING_BYTES, WAITING_BYTES_MINIMUM,
};
pub use client_key::{ClientKey, ClientKeyError};
pub use clock::{Clock, Reading, SystemClock};
pub use feed::{Feed, FetchError, Freshness};
pub use health::Health;
pub use key_file::{KeyFile, KeyFileError};
pub use keys::HeldKey;
pub use manner::{Diligence, Manner};
pub use metrics::Metrics;
pub use policy::WhenStale;
pub use remote::{Remote, RemoteError};
pub use trust::{SignerAddress, TRUST_BYTES, Trust, TrustError};
pub use verifier::Verifier;
