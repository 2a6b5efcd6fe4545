//! What the integrations share and a service without one can use as well: what a request is
//! ([`Asked`]), what it therefore needs ([`Needs`], [`Facts`]), what the peer is told when it does
//! not have it ([`Refused`]). Plain types; no framework, no executor.
//!
//! ```
//! use tkverify::testing::{Kit, Spec};
//! use tkverify::web::{Asked, Facts, Refused};
//!
//! let kit = Kit::new();
//! let verifier = kit.verifier();
//! let token = kit.mint(&Spec::new("acme").caveat("action = read"));
//!
//! let facts_of = |asked: &Asked<'_>| {
//!     Facts::new("acme").action(asked.usual_action()).path("path", asked.path().to_owned())
//! };
//! let check = |method: &str| {
//!     let facts = facts_of(&Asked::new(method, "/projects/7"));
//!     verifier.check_facts([kit.header(&token)], &facts)
//! };
//! assert!(check("GET").is_ok());
//! let refused: Refused = check("DELETE").unwrap_err();
//! assert_eq!((refused.status(), refused.code()), (403, "caveat"));
//! assert!(refused.body().contains("does not admit this request"));
//! ```

mod asked;
mod facts;
mod gate;
mod refused;

pub use asked::Asked;
#[cfg(any(feature = "tower", feature = "actix"))]
pub(crate) use asked::Headers;
pub use facts::{Facts, FactsAccess, Needs};
#[cfg(any(feature = "tower", feature = "actix"))]
pub(crate) use gate::Gate;
#[cfg(feature = "tower")]
pub(crate) use gate::Wait;
pub(crate) use gate::only;
pub use refused::Refused;
