//! Protect a service with tokens it can verify in process.

mod ask;
mod asks;
mod builder;
pub mod cli;
mod client_key;
mod clock;
#[cfg(any(feature = "macaroon", feature = "libmacaroon"))]
pub mod convert;
pub mod danger;
pub mod discharge;
mod feed;
mod health;
mod keys;
mod memory;
mod metrics;
mod policy;
pub mod remote;
#[cfg(feature = "testing")]
pub mod testing;
mod trust;
mod verifier;

pub use ask::{AskError, Signer};
pub use builder::{AGING, ASKS, BuildError, Builder, LOCAL_MAXIMUM, MEMORY_BYTES, PATIENCE, WAITING};
pub use client_key::{ClientKey, ClientKeyError};
pub use clock::{Clock, Reading, SystemClock};
pub use feed::{Feed, FetchError, Freshness};
pub use health::Health;
pub use keys::HeldKey;
pub use metrics::Metrics;
pub use policy::WhenStale;
pub use remote::{Remote, RemoteError};
pub use trust::{SignerAddress, TRUST_BYTES, Trust, TrustError};
pub use verifier::{Diligence, Verifier};
