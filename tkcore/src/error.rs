//! Every negative outcome says whose fault it is and about what. None can carry a token.

use core::fmt;

use crate::budget::BudgetSpent;
use crate::codec::Truncated;
use crate::fault::DischargeFault;
use crate::refusal::Refusal;
use crate::revocation::Rule;

/// Whose fault an outcome is, and so who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// Who presented the token: it is not one, or no good one. HTTP 401.
    Holder,
    /// The request asks for more than the token gives. HTTP 403.
    Request,
    /// Nobody's fault but the moment's: the answer cannot be known now. HTTP 503.
    Moment,
    /// This program. HTTP 503.
    Program,
}

/// The text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends in the middle: most often a paste that was cut off.
    Truncated,
    /// Longer than a limit in [`crate::limits`] allows; says which.
    TooLarge(&'static str),
    /// Its shape is wrong; says where.
    Shape(&'static str),
    /// Not the base64 it should be.
    Base64,
    /// The identifier of a token that claims to be ours is wrong; says how.
    Identifier(&'static str),
    /// No token under any prefix this verifier knows.
    UnknownPrefix,
    /// The header has no token.
    Missing,
    /// The header's scheme is neither `Bearer` nor `Macaroon`.
    UnknownScheme,
}

/// The MACs do not hold: the token was not made from this key, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAuthentic {
    /// The signature is not the one that the chain leads to.
    Signature,
    /// No key under the key id that the token names.
    UnknownKey,
    /// Made for another audience than this service.
    Audience,
}

/// The verdict cannot be given now; it may be another in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotKnowable {
    /// The revocation state is older than this service accepts, or none was ever loaded.
    Stale,
    /// The signer did not answer.
    SignerUnreachable,
    /// More questions wait for the signer than this service allows.
    TooManyAsks,
    /// The verification was done without branch ids while branch revocations exist.
    BranchesNotCollected,
}

/// Something that should not happen, and is this program's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug(pub &'static str);

/// Why a token was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is no token.
    Malformed(Malformed),
    /// The MACs do not hold.
    NotAuthentic(NotAuthentic),
    /// The token's own chain holds; its discharges are not as they must be.
    Discharge(DischargeFault),
    /// Authentic and live, and does not admit this request.
    Refused(Refusal),
    /// A rule of the revocation state names it.
    Revoked(Rule),
    /// The verdict cannot be given now.
    NotKnowable(NotKnowable),
    /// More work than one verification may do.
    TooMuchWork,
    /// This program's fault.
    Bug(Bug),
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        match self {
            Self::Malformed(_) | Self::NotAuthentic(_) | Self::Discharge(_) | Self::TooMuchWork => {
                Owner::Holder
            }
            Self::Revoked(_) => Owner::Holder,
            Self::Refused(refusal) => refusal.owner(),
            Self::NotKnowable(_) => Owner::Moment,
            Self::Bug(_) => Owner::Program,
        }
    }

    /// Ranks the reasons why several tokens of one header were refused: the one to report is
    /// the highest. A token that got further says more about what its holder must change; a
    /// verdict that may be another in a moment goes before all that are final, since a retry
    /// may succeed, and a bug before everything, since it must be seen.
    #[must_use]
    pub const fn usefulness(&self) -> u8 {
        match self {
            Self::Malformed(Malformed::Missing | Malformed::UnknownPrefix) => 0,
            Self::Malformed(_) => 1,
            Self::NotAuthentic(_) => 2,
            Self::TooMuchWork => 3,
            Self::Revoked(_) => 4,
            Self::Discharge(_) => 5,
            Self::Refused(_) => 6,
            Self::NotKnowable(_) => 7,
            Self::Bug(_) => 8,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the token is cut off; copy all of it"),
            Self::TooLarge(what) => write!(f, "too large: {what}"),
            Self::Shape(what) => write!(f, "not a token: {what}"),
            Self::Base64 => f.write_str("not a token: base64 is wrong"),
            Self::Identifier(what) => write!(f, "not a token of this service: identifier: {what}"),
            Self::UnknownPrefix => f.write_str("not a token: unknown prefix"),
            Self::Missing => f.write_str("no token was presented"),
            Self::UnknownScheme => f.write_str("the header's scheme is neither Bearer nor Macaroon"),
        }
    }
}

impl fmt::Display for NotAuthentic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "the signature does not hold",
            Self::UnknownKey => "the key it names is unknown",
            Self::Audience => "it is for another audience",
        })
    }
}

impl fmt::Display for NotKnowable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "revocation state is too old to decide",
            Self::SignerUnreachable => "the signer cannot be reached",
            Self::TooManyAsks => "too many questions are waiting for the signer",
            Self::BranchesNotCollected => "branch revocations exist and branch ids were not collected",
        })
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "internal error: {}", self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => what.fmt(f),
            Self::NotAuthentic(what) => what.fmt(f),
            Self::Discharge(what) => what.fmt(f),
            Self::Refused(what) => what.fmt(f),
            Self::Revoked(rule) => write!(f, "the token is revoked, by the rule `{rule}`"),
            Self::NotKnowable(what) => what.fmt(f),
            Self::TooMuchWork => f.write_str("the token asks for more work than one verification may do"),
            Self::Bug(what) => what.fmt(f),
        }
    }
}

impl core::error::Error for Malformed {}
impl core::error::Error for NotAuthentic {}
impl core::error::Error for NotKnowable {}
impl core::error::Error for Bug {}
impl core::error::Error for Error {}

impl From<Truncated> for Malformed {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

impl From<Malformed> for Error {
    fn from(what: Malformed) -> Self {
        Self::Malformed(what)
    }
}

impl From<NotAuthentic> for Error {
    fn from(what: NotAuthentic) -> Self {
        Self::NotAuthentic(what)
    }
}

impl From<DischargeFault> for Error {
    fn from(what: DischargeFault) -> Self {
        Self::Discharge(what)
    }
}

impl From<NotKnowable> for Error {
    fn from(what: NotKnowable) -> Self {
        Self::NotKnowable(what)
    }
}

impl From<Bug> for Error {
    fn from(what: Bug) -> Self {
        Self::Bug(what)
    }
}

impl From<BudgetSpent> for Error {
    fn from(_: BudgetSpent) -> Self {
        Self::TooMuchWork
    }
}
