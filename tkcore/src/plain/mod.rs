//! Macaroons of any maker, under keys of one's own: made, read, attenuated, verified and cleared
//! without a signer. What users of the `macaroon` crate need, and all of it.
//!
//! ```
//! use tkcore::plain::{Macaroon, Predicates};
//! use tkcore::{Budget, RootKey, danger::NoRevocations};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = RootKey::derive(b"at least 32 random bytes, please");
//! let mut macaroon = Macaroon::create(&key, b"key 1, user 17", Some("https://here.example"))?;
//! macaroon.attenuate(b"account = 17")?;
//!
//! let received = Macaroon::from_text_lenient(&macaroon.to_v1_text()?)?;
//! let verified = received.verify(&key, &[], &mut Budget::default())?;
//! let grant = verified.clear(&NoRevocations, None, &Predicates::new().exact(b"account = 17"))?;
//! assert_eq!(grant.identifier(), b"key 1, user 17");
//! # Ok(())
//! # }
//! ```

mod clear;
mod macaroon;
mod verify;

pub use clear::{MacaroonGrant, MacaroonRefusal, Predicates, Verdict};
pub use macaroon::Macaroon;
pub use verify::{Condition, VerifiedMacaroon};
