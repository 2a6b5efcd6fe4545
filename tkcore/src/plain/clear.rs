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

/// Bytes of a condition in a log line: it may be as long as a macaroon, 256 KiB.
const SHOWN: usize = 1024;

impl fmt::Display for MacaroonRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { bytes, discharge } => {
                let shown = bytes.get(..SHOWN);
                let more = if shown.is_some() { "…" } else { "" };
                write!(f, "the condition \"{}{more}\"", shown.unwrap_or(bytes).escape_ascii())?;
                if let Some(at) = discharge {
                    write!(f, " of discharge {at}")?;
                }
                f.write_str(" is not met")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::key::RootKey;
    use crate::plain::Macaroon;
    use crate::revocation::foreign_lineage;

    /// Revokes what it holds, and everything from before a floor.
    struct Rows {
        lineage: Option<LineageId>,
        floor: Option<Timestamp>,
    }

    impl Revocations for Rows {
        fn has_branches(&self) -> bool {
            false
        }

        fn status(&self, query: &Query<'_>) -> Status {
            if self.lineage == Some(query.lineage) {
                return Status::Revoked(Rule::Token);
            }
            match (self.floor, query.issued_at) {
                (None, _) => Status::Live,
                (Some(_), None) => Status::Unknown(Gap::NoIssueTime),
                (Some(floor), Some(issued)) if issued < floor => Status::Revoked(Rule::Global),
                (Some(_), Some(_)) => Status::Live,
            }
        }
    }

    /// TP-55.
    #[test]
    fn a_foreign_macaroon_is_revoked_by_its_identifier() {
        let key = RootKey::derive(b"k");
        let macaroon = Macaroon::create(&key, b"id 7", None).unwrap();
        let verified = macaroon.verify(&key, &[], &mut Budget::default()).unwrap();
        let clear = |revocations: Rows, issued| verified.clear(&revocations, issued, &Predicates::new());
        let set = |lineage: Option<LineageId>, floor: Option<u64>| Rows {
            lineage,
            floor: floor.and_then(Timestamp::from_seconds),
        };
        assert!(clear(set(None, None), None).is_ok());
        let own = Some(foreign_lineage(b"id 7"));
        assert_eq!(clear(set(own, None), None), Err(MacaroonRefusal::Revoked(Rule::Token)));
        assert!(clear(set(Some(foreign_lineage(b"id 8")), None), None).is_ok());
        assert_eq!(clear(set(None, Some(5)), None), Err(MacaroonRefusal::Unknown(Gap::NoIssueTime)));
        assert!(clear(set(None, Some(5)), Timestamp::from_seconds(5)).is_ok());
        let early = clear(set(None, Some(5)), Timestamp::from_seconds(4));
        assert_eq!(early, Err(MacaroonRefusal::Revoked(Rule::Global)));
    }

    #[test]
    fn conditions_are_admitted_by_text_or_by_function() {
        let key = RootKey::derive(b"k");
        let mut macaroon = Macaroon::create(&key, b"id", None).unwrap();
        macaroon.attenuate(b"a = 1").unwrap();
        macaroon.attenuate(b"n < 5").unwrap();
        let verified = macaroon.verify(&key, &[], &mut Budget::default()).unwrap();
        let less = |text: &[u8]| if text.starts_with(b"n < ") { Verdict::Admits } else { Verdict::Refuses };
        let clear =
            |predicates: Predicates<'_>| verified.clear(&crate::danger::NoRevocations, None, &predicates);
        assert_eq!(clear(Predicates::new().exact(b"a = 1").custom(less)).unwrap().conditions(), 2);
        assert!(clear(Predicates::new().exact(b"a = 1")).is_err());
        assert!(clear(Predicates::new().custom(less)).is_err());
        assert!(clear(Predicates::new().exact(b"a = 1").exact(b"n < 5 ")).is_err());
    }
}
