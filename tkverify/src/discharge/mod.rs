//! Getting discharges from third parties over HTTP, and giving them (docs/spec/third-party.md).
//!
//! A holder: [`DischargeClient`] knows which authorities it may ask, [`Wallet`] keeps a token
//! with its discharges and renews them. An authority: [`AuthorityKey`] is its key, [`Desk`]
//! opens tickets and answers.

mod client;
mod error;
mod flow;
mod key;
mod message;
mod origin;
mod server;
mod wallet;

pub use client::{Authority, DischargeClient, Pause, People};
pub use error::DischargeError;
pub use key::AuthorityKey;
pub use origin::{Address, AddressError, Origin};
pub use server::{Desk, DeskError, PollId, Reply, WAITING};
pub use wallet::{Refreshed, Wallet};
