use alloc::boxed::Box;
use core::fmt;

use crate::caveat::word::is_hidden;
use crate::ids::AuthorityId;

/// What is wrong with the discharges beside a token whose own chain holds. Each rule of
/// docs/spec/third-party.md (TP-20 and following) has its own reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DischargeFault {
    /// A third-party caveat has no discharge; says whose it would be and where to ask.
    Missing(Party),
    /// A discharge that no caveat asks for.
    Unused,
    /// Two discharges with one identifier: which of them was meant cannot be known.
    Duplicate,
    /// A discharge that two caveats ask for.
    Reused,
    /// A discharge that is, over others, its own discharge.
    Cyclic,
    /// A discharge that its holder did not bind to this token.
    Unbound,
    /// A discharge bound to another token, or not made with the caveat's key.
    WronglyBound,
    /// The caveat's sealed key was not made at this point of this token's chain.
    SealedKey,
    /// Discharges of discharges deeper than the limit.
    TooDeep,
    /// More discharges than the limit.
    TooMany,
    /// This build has no third-party caveats (the feature `third-party` is off).
    NotBuilt,
}

/// Who has to discharge a caveat, as far as the caveat says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Party {
    /// From the ticket, so the token's MAC vouches for it. `None` when the caveat's id is no
    /// ticket of ours.
    pub authority: Option<AuthorityId>,
    /// Where the caveat says to ask: signed by nothing, so a hint for people. A client asks the
    /// address that its own configuration has for the authority.
    pub location: Option<Box<str>>,
}

impl Party {
    /// What a third-party caveat says of the party that has to discharge it: from its id (the
    /// ticket) and its location.
    #[must_use]
    pub fn of(ticket: &[u8], location: Option<&[u8]>) -> Self {
        let location = location.and_then(|text| core::str::from_utf8(text).ok());
        Self {
            authority: AuthorityId::of_ticket(ticket),
            location: location
                // It is shown to people: nothing in it may hide or reorder what they read.
                .filter(|text| !text.is_empty() && !text.chars().any(|c| c.is_control() || is_hidden(c)))
                .map(Box::from),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.authority, &self.location) {
            (Some(authority), Some(location)) => write!(f, "authority {authority}, said to be at {location}"),
            (Some(authority), None) => write!(f, "authority {authority}"),
            (None, Some(location)) => write!(f, "the party said to be at {location}"),
            (None, None) => f.write_str("a party that the token does not name"),
        }
    }
}

impl fmt::Display for DischargeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(party) => write!(f, "a discharge is missing: get one from {party}"),
            Self::Unused => f.write_str("a discharge belongs to no caveat of the token"),
            Self::Duplicate => f.write_str("two discharges have the same identifier"),
            Self::Reused => f.write_str("one discharge is asked for by two caveats"),
            Self::Cyclic => f.write_str("a discharge asks for itself"),
            Self::Unbound => f.write_str("a discharge is not bound to the token; bind it before sending"),
            Self::WronglyBound => f.write_str("a discharge is bound to another token or was forged"),
            Self::SealedKey => f.write_str("a third-party caveat was not made for this token"),
            Self::TooDeep => f.write_str("discharges of discharges are nested too deep"),
            Self::TooMany => f.write_str("too many discharges"),
            Self::NotBuilt => f.write_str("this program was built without third-party caveats"),
        }
    }
}

impl core::error::Error for DischargeFault {}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn a_missing_discharge_says_whose_and_where() {
        let mut ticket = std::vec![1, 1];
        ticket.extend([0xab; 16]);
        ticket.extend([0; 40]);
        let party = Party::of(&ticket, Some(b"https://auth.example"));
        assert_eq!(
            DischargeFault::Missing(party).to_string(),
            "a discharge is missing: get one from authority abababababababababababababababab, said to be at https://auth.example"
        );
        assert_eq!(Party::of(b"other", Some(b"")), Party::default());
        assert_eq!(Party::of(b"other", Some(b"a\nb")), Party::default());
        assert_eq!(Party::of(b"other", Some("a\u{202e}b".as_bytes())), Party::default());
    }
}
