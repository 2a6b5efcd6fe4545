use std::fmt;

use tkcore::{AuthorityId, Malformed, Party};

use super::origin::{AddressError, Origin};

/// Why a discharge was not obtained.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DischargeError {
    /// No authority of this client's configuration discharges this caveat; says whose it is, as
    /// far as the caveat says. An address that stands in the caveat is never contacted.
    UnknownParty(Party),
    /// The authority's address cannot be contacted.
    Address(AddressError),
    /// The authority named an address of another origin, to poll or to show to a person.
    OtherOrigin {
        /// Whose address was configured.
        configured: Origin,
        /// Whose address came.
        named: Origin,
    },
    /// The authority answered with a redirect, which is never followed.
    Redirect(u16),
    /// The authority said no.
    Refused {
        /// Which authority.
        authority: AuthorityId,
        /// Its stable code, at most 64 printable characters.
        code: String,
        /// Its sentence, at most 256 printable characters.
        message: String,
    },
    /// A person would have to do something, and this client was built to wait for none.
    NeedsPerson {
        /// Which authority wants a person.
        authority: AuthorityId,
    },
    /// The authority forgot the request, or it took too long.
    Expired,
    /// Patience ran out.
    TimedOut,
    /// The authority cannot be reached or is not well; says why, without any address content.
    Unreachable(String),
    /// The answer is none that the protocol has.
    BadAnswer(&'static str),
    /// What came is no discharge.
    Malformed(Malformed),
    /// What came is a discharge of something else, or one without an end.
    WrongDischarge(&'static str),
    /// More discharges than one presentation may hold, or nested too deep.
    TooMany,
}

impl fmt::Display for DischargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownParty(party) => {
                write!(f, "no discharge: this client is not configured to ask {party}")
            }
            Self::Address(error) => write!(f, "no discharge: {error}"),
            Self::OtherOrigin { configured, named } => {
                write!(f, "no discharge: the authority at {configured} named an address at {named}")
            }
            Self::Redirect(status) => {
                write!(f, "no discharge: the authority answered with a redirect (status {status})")
            }
            Self::Refused { authority, code, message } => {
                write!(f, "no discharge: authority {authority} refused ({code}): {message}")
            }
            Self::NeedsPerson { authority } => write!(
                f,
                "no discharge: authority {authority} wants a person, and nobody is there; use a service token"
            ),
            Self::Expired => f.write_str("no discharge: the request to the authority expired; start again"),
            Self::TimedOut => f.write_str("no discharge: the authority did not answer in time"),
            Self::Unreachable(why) => write!(f, "no discharge: the authority cannot be reached: {why}"),
            Self::BadAnswer(what) => write!(f, "no discharge: the authority's answer is wrong: {what}"),
            Self::Malformed(what) => write!(f, "no discharge: {what}"),
            Self::WrongDischarge(what) => write!(f, "no discharge: the authority sent a wrong one: {what}"),
            Self::TooMany => {
                f.write_str("no discharge: the token needs more of them than one request may carry")
            }
        }
    }
}

impl std::error::Error for DischargeError {}

impl From<AddressError> for DischargeError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

/// What an authority says, for logs: printable and cut.
pub(crate) fn tame(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}
