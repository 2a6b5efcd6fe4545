//! Caveat vocabularies of macaroons that others mint, one adapter each behind its own feature.
//!
//! A service picks the adapter for the macaroons it has keys for; no token can. Every adapter
//! judges the conditions of a verified macaroon one after the other, in their order, for all
//! accesses of one [`Request`](crate::Request), and refuses what it does not know. The exact
//! rules, with sources and with the places where the original is more lenient, are in
//! docs/spec/dialects.md.
//!
//! ```ignore
//! let mut lnd = Lnd::new(&request);
//! let judge = |condition: Condition<'_>| lnd.verdict(condition.bytes, &mut budget);
//! let grant = verified.clear_each(&revocations, issued_at, judge)?;
//! ```

#[cfg(feature = "bakery")]
mod bakery;
#[cfg(feature = "dcache")]
mod dcache;
#[cfg(any(feature = "lnd", feature = "dcache"))]
mod ip;
#[cfg(feature = "l402")]
mod l402;
#[cfg(feature = "lnd")]
mod lnd;
#[cfg(feature = "pypi")]
mod pypi;
#[cfg(any(feature = "lnd", feature = "dcache", feature = "bakery"))]
mod time;

#[cfg(feature = "bakery")]
pub use bakery::Bakery;
#[cfg(feature = "dcache")]
pub use dcache::DCache;
#[cfg(feature = "l402")]
pub use l402::L402;
#[cfg(feature = "lnd")]
pub use lnd::Lnd;
#[cfg(feature = "pypi")]
pub use pypi::PyPi;

use core::fmt;

use crate::budget::{Budget, BudgetSpent};
use crate::plain::Verdict;

/// One foreign vocabulary, bound to one request.
pub trait Dialect {
    /// Judges the next condition of a macaroon for every access of the request. Conditions must
    /// come in their order, each once: some vocabularies refer back. After a refusal the
    /// adapter refuses everything.
    ///
    /// # Errors
    /// [`DialectRefusal`] says why.
    fn judge(&mut self, condition: &[u8], budget: &mut Budget) -> Result<(), DialectRefusal>;

    /// As [`Dialect::judge`], in the words of
    /// [`VerifiedMacaroon::clear_each`](crate::plain::VerifiedMacaroon::clear_each).
    fn verdict(&mut self, condition: &[u8], budget: &mut Budget) -> Verdict {
        match self.judge(condition, budget) {
            Ok(()) => Verdict::Admits,
            Err(_) => Verdict::Refuses,
        }
    }
}

/// Why a condition of a foreign macaroon refuses. Names no fact of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialectRefusal {
    /// The vocabulary has no such condition.
    Unknown,
    /// The condition is not well formed; says where.
    Malformed(&'static str),
    /// The request states no fact of this name and type.
    Absent(&'static str),
    /// The request is not what the condition asks for; says in what.
    NotAdmitted(&'static str),
    /// It contradicts an earlier condition, or asks for more than one allowed.
    Widens(&'static str),
    /// An earlier condition has refused.
    Earlier,
    /// The budget is used up.
    TooMuchWork,
}

impl fmt::Display for DialectRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no condition of this vocabulary"),
            Self::Malformed(what) => write!(f, "not well formed: {what}"),
            Self::Absent(fact) => write!(f, "the request states no `{fact}`"),
            Self::NotAdmitted(what) => write!(f, "not admitted: {what}"),
            Self::Widens(what) => write!(f, "more than an earlier condition allows: {what}"),
            Self::Earlier => f.write_str("an earlier condition has refused"),
            Self::TooMuchWork => f.write_str("more work than one verification may do"),
        }
    }
}

impl core::error::Error for DialectRefusal {}

impl From<BudgetSpent> for DialectRefusal {
    fn from(_: BudgetSpent) -> Self {
        Self::TooMuchWork
    }
}

/// Refuses for ever once something was refused, so that a caller who goes on learns nothing else.
#[derive(Debug, Clone, Copy, Default)]
struct Latch {
    refused: bool,
}

impl Latch {
    fn run(
        &mut self,
        condition: &[u8],
        budget: &mut Budget,
        judge: impl FnOnce(&str, &mut Budget) -> Result<(), DialectRefusal>,
    ) -> Result<(), DialectRefusal> {
        if self.refused {
            return Err(DialectRefusal::Earlier);
        }
        let result = budget.spend_bytes(condition.len()).map_err(DialectRefusal::from).and_then(|()| {
            let text = core::str::from_utf8(condition).map_err(|_| DialectRefusal::Malformed("not UTF-8"))?;
            judge(text, budget)
        });
        self.refused = result.is_err();
        result
    }
}

/// The bakery's form, which LND shares: a name up to the first space, and the rest.
#[cfg(any(feature = "lnd", feature = "bakery"))]
fn name_and_argument(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}
