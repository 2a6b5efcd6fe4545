//! A layer for everything that speaks `tower` and `http`: axum, tonic, hyper. It decides before the
//! inner service sees the request, leaves the [`Grant`](tkcore::Grant) in the request's extensions, and
//! answers refusals itself.
//!
//! ```
//! # use tkverify::testing::Kit;
//! use tkverify::tower::Guard;
//! use tkverify::web::{Facts, Needs};
//!
//! # let verifier = Kit::new().verifier();
//! let guard = Guard::new(verifier, |asked| match asked.path() {
//!     "/healthz" => Needs::Nothing,
//!     path => Facts::new("acme").action(asked.usual_action()).path("path", path.to_owned()).into(),
//! });
//! # let _: Guard<_> = guard;
//! ```
//!
//! Requests about known lineages are decided on the spot; a new one waits, without holding a
//! thread, while a thread of the verifier's own asks the signer.

mod body;
mod future;
mod guard;

pub use body::GuardBody;
pub use future::GuardFuture;
#[cfg(feature = "axum")]
pub(crate) use guard::problem;
pub use guard::{Guard, Guarded, Peer, Route};
