//! Protect a service with tokens it can verify in process.

mod asks;
pub mod cli;
mod client_key;
mod clock;
mod feed;
mod memory;
mod metrics;
mod policy;
mod trust;

pub use client_key::{ClientKey, ClientKeyError};
pub use clock::{Clock, Reading, SystemClock};
pub use feed::FetchError;
pub use metrics::Metrics;
pub use policy::WhenStale;
pub use trust::{SignerAddress, TRUST_BYTES, Trust, TrustError};
