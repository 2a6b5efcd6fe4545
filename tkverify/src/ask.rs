//! Asking the signer: what a verifier needs of a client, and what a refusal means to it.

use std::fmt;

use tkcore::protocol::{Code, Fault, RpcError, VerifyAnswer};
use tkcore::{Error, Malformed, NotAuthentic, NotKnowable, Presented};

/// Something that can ask the signer about a token. [`crate::testing`] has a fake one.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Whether the chain of this token and its discharges holds and nothing kills it at the
    /// signer. Blocks until there is an answer or the client's own timeouts end it.
    ///
    /// # Errors
    /// [`AskError`].
    fn verify(&self, presented: &Presented<'_>) -> Result<VerifyAnswer, AskError>;
}

/// Why the signer did not vouch for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// It answered, authentically, that it does not.
    Refused(RpcError),
    /// No answer came: the reason, for the log.
    Unreachable(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(e) => write!(f, "the signer refused: {e}"),
            Self::Unreachable(why) => write!(f, "the signer cannot be reached: {why}"),
        }
    }
}

impl std::error::Error for AskError {}

impl AskError {
    /// What it means for the one who presented the token.
    ///
    /// A refusal that is about this service and not about the token (a missing role, a rate
    /// limit) leaves the verdict unknown: it is never turned into "not authentic".
    #[must_use]
    pub fn verdict(&self) -> Error {
        let error = match self {
            Self::Refused(error) => error,
            Self::Unreachable(_) => return NotKnowable::SignerUnreachable.into(),
        };
        match error.fault() {
            Fault::Token => {}
            Fault::Caller | Fault::Moment | Fault::Signer => return NotKnowable::SignerUnreachable.into(),
        }
        match error.code {
            Code::TokenMalformed => Malformed::Shape("the signer cannot read it").into(),
            Code::UnknownKey => NotAuthentic::UnknownKey.into(),
            Code::WrongAudience => NotAuthentic::Audience.into(),
            Code::Revoked => refusal::revoked(error),
            Code::Expired => refusal::expired(),
            Code::IssuedAhead => refusal::issued_ahead(),
            Code::TooMuchWork => Error::TooMuchWork,
            // The signer does not say which discharge; what is known is that a chain does not hold.
            _ => NotAuthentic::Signature.into(),
        }
    }
}
