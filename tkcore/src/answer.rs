//! What the peer is told of an error: a stable code, a status, a sentence. The log sees more
//! (`Display`); neither sees a secret.

use alloc::borrow::Cow;
use alloc::string::ToString as _;

use crate::error::{Error, Malformed, NotAuthentic, NotKnowable, Owner};
use crate::fault::DischargeFault;

impl Error {
    /// A stable code for the peer and for metrics: lower-case words joined by hyphens. Codes
    /// are added, never changed (docs/spec/token.md, TK-90).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(what) => match what {
                Malformed::Truncated => "truncated",
                Malformed::TooLarge(_) => "too-large",
                Malformed::Shape(_) | Malformed::Base64 | Malformed::Identifier(_) => "malformed",
                Malformed::UnknownPrefix => "unknown-prefix",
                Malformed::Missing => "missing",
                Malformed::UnknownScheme => "unknown-scheme",
            },
            Self::NotAuthentic(what) => match what {
                NotAuthentic::Signature | NotAuthentic::UnknownKey => "not-authentic",
                NotAuthentic::Audience => "wrong-audience",
            },
            Self::Discharge(what) => match what {
                DischargeFault::Missing(_) => "discharge-missing",
                DischargeFault::Unused => "discharge-unused",
                DischargeFault::Duplicate => "discharge-duplicate",
                DischargeFault::Reused => "discharge-reused",
                DischargeFault::Cyclic => "discharge-cyclic",
                DischargeFault::Unbound => "discharge-unbound",
                DischargeFault::WronglyBound => "discharge-wrongly-bound",
                DischargeFault::SealedKey => "discharge-sealed-key",
                DischargeFault::TooDeep => "discharge-too-deep",
                DischargeFault::TooMany => "discharge-too-many",
                DischargeFault::NotBuilt => "discharge-not-supported",
            },
            Self::Refused(refusal) => refusal.code(),
            Self::Revoked(_) => "revoked",
            Self::NotKnowable(what) => match what {
                NotKnowable::Stale => "stale",
                NotKnowable::SignerUnreachable => "signer-unreachable",
                NotKnowable::TooManyAsks => "busy",
                NotKnowable::BranchesNotCollected => "not-knowable",
            },
            Self::TooMuchWork => "too-much-work",
            Self::Bug(_) => "internal",
        }
    }

    /// The HTTP status that fits its owner: 401 (present another token), 403 (this token does
    /// not give that), 503 (ask again later).
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        match self.owner() {
            Owner::Holder => 401,
            Owner::Request => 403,
            Owner::Moment | Owner::Program => 503,
        }
    }

    /// A sentence for the peer. It says nothing that the peer's own token does not say, and
    /// nothing about keys, tenants, other tokens or this program's insides.
    #[must_use]
    pub fn for_peer(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Malformed(what) => return Cow::Owned(what.to_string()),
            Self::NotAuthentic(NotAuthentic::Signature | NotAuthentic::UnknownKey) => {
                "the token is not authentic"
            }
            Self::NotAuthentic(NotAuthentic::Audience) => "the token is for another service",
            Self::Discharge(what) => return Cow::Owned(what.to_string()),
            Self::Refused(refusal) => return Cow::Owned(refusal.for_peer()),
            Self::Revoked(_) => "the token is revoked",
            Self::NotKnowable(NotKnowable::TooManyAsks) => "the service is busy; try again shortly",
            Self::NotKnowable(
                NotKnowable::Stale | NotKnowable::SignerUnreachable | NotKnowable::BranchesNotCollected,
            ) => "the service cannot check tokens at the moment; try again shortly",
            Self::TooMuchWork => "the token asks for more work than one request may cause",
            Self::Bug(_) => "the service has an internal error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Bug;
    use crate::fault::Party;
    use crate::revocation::Rule;

    #[test]
    fn every_error_has_a_status_by_owner_and_a_stable_code() {
        // TK-90: this table is the promise; a changed line breaks somebody's client.
        let table: [(Error, u16, &str); 13] = [
            (Malformed::Truncated.into(), 401, "truncated"),
            (Malformed::TooLarge("token").into(), 401, "too-large"),
            (Malformed::Base64.into(), 401, "malformed"),
            (Malformed::Missing.into(), 401, "missing"),
            (NotAuthentic::Signature.into(), 401, "not-authentic"),
            (NotAuthentic::UnknownKey.into(), 401, "not-authentic"),
            (DischargeFault::Missing(Party::default()).into(), 401, "discharge-missing"),
            (DischargeFault::Unbound.into(), 401, "discharge-unbound"),
            (Error::Revoked(Rule::Subject), 401, "revoked"),
            (NotKnowable::Stale.into(), 503, "stale"),
            (NotKnowable::TooManyAsks.into(), 503, "busy"),
            (Error::TooMuchWork, 401, "too-much-work"),
            (Bug("x").into(), 503, "internal"),
        ];
        for (error, status, code) in table {
            assert_eq!((error.http_status(), error.code()), (status, code), "{error:?}");
            assert!(!error.for_peer().is_empty());
        }
    }

    #[test]
    fn the_peer_is_not_told_which_key_or_rule_or_bug_it_was() {
        let same = |a: Error, b: Error| assert_eq!(a.for_peer(), b.for_peer());
        same(NotAuthentic::Signature.into(), NotAuthentic::UnknownKey.into());
        same(Error::Revoked(Rule::Token), Error::Revoked(Rule::Tenant));
        same(Bug("one").into(), Bug("another").into());
    }

    #[test]
    fn of_several_candidates_the_most_useful_error_surfaces() {
        // TK-91, least useful first.
        let order: [Error; 8] = [
            Malformed::UnknownPrefix.into(),
            Malformed::Truncated.into(),
            NotAuthentic::Signature.into(),
            Error::TooMuchWork,
            Error::Revoked(Rule::Token),
            DischargeFault::Unused.into(),
            NotKnowable::Stale.into(),
            Bug("x").into(),
        ];
        assert!(order.is_sorted_by(|a, b| a.usefulness() < b.usefulness()));
    }
}
