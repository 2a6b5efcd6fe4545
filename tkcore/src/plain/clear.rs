use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::ids::LineageId;
use crate::plain::verify::{Condition, VerifiedMacaroon};
use crate::revocation::{Gap, Query, Revocations, Rule, Status};
use crate::time::Timestamp;

/// What a service says of one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request meets it.
    Admits,
    /// The request does not meet it, or it is not understood.
    Refuses,
}

type Custom<'p> = Box<dyn Fn(&[u8]) -> Verdict + 'p>;

/// The conditions that a request meets: an exact text, or whatever a function of the service's
/// admits. A condition that none of them admits refuses.
#[derive(Default)]
pub struct Predicates<'p> {
    exact: Vec<&'p [u8]>,
    custom: Vec<Custom<'p>>,
}

impl<'p> Predicates<'p> {
    /// Admits nothing yet: enough for a macaroon without first-party caveats.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits this very text.
    #[must_use]
    pub fn exact(mut self, text: &'p [u8]) -> Self {
        self.exact.push(text);
        self
    }

    /// Admits what `judge` admits. It is called with text that the MAC chain vouches for.
    #[must_use]
    pub fn custom(mut self, judge: impl Fn(&[u8]) -> Verdict + 'p) -> Self {
        self.custom.push(Box::new(judge));
        self
    }

    /// Whether any of them admits the condition.
    #[must_use]
    pub fn judge(&self, condition: &[u8]) -> Verdict {
        let exact = self.exact.contains(&condition);
        if exact || self.custom.iter().any(|judge| judge(condition) == Verdict::Admits) {
            Verdict::Admits
        } else {
            Verdict::Refuses
        }
    }
}

impl fmt::Debug for Predicates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Predicates({} exact, {} custom)", self.exact.len(), self.custom.len())
    }
}

/// The macaroon holds and every condition is met. Made by [`VerifiedMacaroon::clear`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacaroonGrant<'a> {
    identifier: &'a [u8],
    revocation_id: LineageId,
    conditions: usize,
}

impl<'a> MacaroonGrant<'a> {
    /// The identifier, which the maker's key vouches for.
    #[must_use]
    pub const fn identifier(&self) -> &'a [u8] {
        self.identifier
    }

    /// Under what the macaroon is revoked; safe to log.
    #[must_use]
    pub const fn revocation_id(&self) -> LineageId {
        self.revocation_id
    }

    /// How many conditions were met, discharges' included.
    #[must_use]
    pub const fn conditions(&self) -> usize {
        self.conditions
    }
}

/// Why a verified macaroon was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MacaroonRefusal {
    /// A condition is not met; the first one, in order.
    Condition {
        /// Its bytes.
        bytes: Box<[u8]>,
        /// As [`Condition::discharge`].
        discharge: Option<usize>,
    },
    /// It is revoked.
    Revoked(Rule),
    /// Whether it is revoked cannot be known now.
    Unknown(Gap),
}

impl fmt::Display for MacaroonRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { bytes, discharge: None } => {
                write!(f, "the condition \"{}\" is not met", bytes.escape_ascii())
            }
            Self::Condition { bytes, discharge: Some(at) } => {
                write!(f, "the condition \"{}\" of discharge {at} is not met", bytes.escape_ascii())
            }
            Self::Revoked(rule) => write!(f, "revoked by a rule for its {rule}"),
            Self::Unknown(_) => f.write_str("whether it is revoked cannot be known now"),
        }
    }
}

impl core::error::Error for MacaroonRefusal {}

impl<'a> VerifiedMacaroon<'a> {
    /// Looks revocation up, then asks every condition. For macaroons that cannot be revoked say
    /// so with [`crate::danger::NoRevocations`].
    ///
    /// `issued_at` is when the service knows the macaroon to have been made; `None` refuses it
    /// once a floor is set, since nobody could tell on which side it lies.
    ///
    /// # Errors
    /// [`MacaroonRefusal`].
    pub fn clear(
        &self,
        revocations: &impl Revocations,
        issued_at: Option<Timestamp>,
        predicates: &Predicates<'_>,
    ) -> Result<MacaroonGrant<'a>, MacaroonRefusal> {
        self.clear_each(revocations, issued_at, |condition| predicates.judge(condition.bytes))
    }

    /// As [`VerifiedMacaroon::clear`], with a judge that sees the conditions one after the other
    /// and may remember earlier ones.
    ///
    /// # Errors
    /// [`MacaroonRefusal`].
    pub fn clear_each(
        &self,
        revocations: &impl Revocations,
        issued_at: Option<Timestamp>,
        mut judge: impl FnMut(Condition<'a>) -> Verdict,
    ) -> Result<MacaroonGrant<'a>, MacaroonRefusal> {
        let revocation_id = self.macaroon().revocation_id();
        match revocations.status(&Query::foreign(revocation_id, issued_at, self.branches())) {
            Status::Live => {}
            Status::Revoked(rule) => return Err(MacaroonRefusal::Revoked(rule)),
            Status::Unknown(gap) => return Err(MacaroonRefusal::Unknown(gap)),
        }
        let mut met = 0usize;
        for condition in self.conditions() {
            match judge(condition) {
                Verdict::Admits => met = met.saturating_add(1),
                Verdict::Refuses => {
                    return Err(MacaroonRefusal::Condition {
                        bytes: condition.bytes.into(),
                        discharge: condition.discharge,
                    });
                }
            }
        }
        Ok(MacaroonGrant { identifier: self.macaroon().identifier(), revocation_id, conditions: met })
    }
}
