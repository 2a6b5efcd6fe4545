//! Protect a service with tokens it can verify in process.

mod asks;
pub mod cli;
mod client_key;
mod clock;
mod feed;
mod memory;
mod trust;

pub use client_key::{ClientKey, ClientKeyError};
pub use clock::{Clock, Reading, SystemClock};
pub use feed::FetchError;
pub use trust::{SignerAddress, TRUST_BYTES, Trust, TrustError};
