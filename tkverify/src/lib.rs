//! Protect a service with tokens it can verify in process.

mod asks;
pub mod cli;
mod client_key;
mod clock;
mod feed;
mod memory;
mod metrics;
mod policy;
pub mod remote;
mod trust;

pub use client_key::{ClientKey, ClientKeyError};
pub use clock::{Clock, Reading, SystemClock};
pub use feed::FetchError;
pub use metrics::Metrics;
pub use policy::WhenStale;
pub use remote::{Remote, RemoteError};
pub use trust::{SignerAddress, TRUST_BYTES, Trust, TrustError};
