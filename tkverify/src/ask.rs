//! Asking the signer: what a verifier needs of a client, and what a refusal means to it.

use std::fmt;

use tkcore::protocol::{Code, Fault, RpcError, TraceContext, VerifyAnswer};
use tkcore::revocation::Rule;
use tkcore::{
    DischargeFault, Error, Malformed, NotAuthentic, NotKnowable, Party, Presented, Refusal, RefusalCause,
};

use crate::remote::{Remote, RemoteError};

/// Something that can ask the signer about a token. [`crate::testing`] has a fake one.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Whether the chain of this token and its discharges holds and nothing kills it at the
    /// signer. Blocks until there is an answer or the client's own timeouts end it; there must
    /// be some, since the callers that wait are told no earlier. `trace` is the place of the
    /// request that led to the ask in a distributed trace, for the signer's audit.
    ///
    /// # Errors
    /// [`AskError`].
    fn verify(
        &self,
        presented: &Presented<'_>,
        trace: Option<TraceContext>,
    ) -> Result<VerifyAnswer, AskError>;
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
    /// For the log: what it came to, and what an operator must know of it.
    pub(crate) fn outcome(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Refused(error) if error.fault() == Fault::Token => ("refused", None),
            // About this service: a role that it lacks, a rate limit.
            Self::Refused(error) => ("turned-away", Some(error.to_string())),
            Self::Unreachable(why) => ("unreachable", Some(why.clone())),
        }
    }

    /// What it means for the one who presented the token.
    ///
    /// A refusal that is about this service and not about the token (a missing role, a rate
    /// limit) leaves the verdict unknown: it is never turned into "not authentic".
    #[must_use]
    pub fn verdict(&self, presented: &Presented<'_>) -> Error {
        let error = match self {
            Self::Refused(error) => error,
            Self::Unreachable(_) => return NotKnowable::SignerUnreachable.into(),
        };
        match error.fault() {
            Fault::Token => {}
            Fault::Caller | Fault::Moment | Fault::Signer => return NotKnowable::SignerUnreachable.into(),
        }
        let identifier = presented.claimed_identifier().ok();
        match error.code {
            Code::TokenMalformed => Malformed::Shape("the signer cannot read it").into(),
            Code::UnknownKey => NotAuthentic::UnknownKey.into(),
            Code::WrongAudience => NotAuthentic::Audience.into(),
            Code::Revoked => Error::Revoked(rule(error.detail.as_str())),
            Code::Expired => match identifier.and_then(|identifier| identifier.expiry) {
                Some(at) => Error::Refused(Refusal::new(RefusalCause::Expired { at })),
                None => NotKnowable::SignerUnreachable.into(),
            },
            Code::IssuedAhead => match identifier.and_then(|identifier| identifier.lineage.minted()) {
                Some(minted) => Error::Refused(Refusal::new(RefusalCause::IssuedAhead { minted })),
                None => NotKnowable::SignerUnreachable.into(),
            },
            Code::BadDischarge => Error::Discharge(fault(presented, error.detail.as_str())),
            Code::TooMuchWork => Error::TooMuchWork,
            // Also a code of a later version that is about the token: some chain does not hold.
            _ => NotAuthentic::Signature.into(),
        }
    }
}

/// The rule that a signer names. One that is not understood is no less a revocation.
fn rule(detail: &str) -> Rule {
    let all = [Rule::Token, Rule::Branch, Rule::Key, Rule::Subject, Rule::Tenant, Rule::Global, Rule::Parent];
    all.into_iter().find(|rule| rule.as_str() == detail).unwrap_or(Rule::Token)
}

/// What is wrong with the discharges: which one is missing can be seen here, and helps most.
fn fault(presented: &Presented<'_>, detail: &str) -> DischargeFault {
    let root = presented.root();
    let missing = root.describe_untrusted().caveats().find(|caveat| {
        let brought = |id: &[u8]| {
            presented.discharges().any(|discharge| discharge.describe_untrusted().identifier_bytes() == id)
        };
        caveat.third_party && !brought(caveat.id)
    });
    if let Some(caveat) = missing {
        return DischargeFault::Missing(Party::of(caveat.id, caveat.location.map(str::as_bytes)));
    }
    let all = [
        DischargeFault::Unused,
        DischargeFault::Duplicate,
        DischargeFault::Reused,
        DischargeFault::Cyclic,
        DischargeFault::Unbound,
        DischargeFault::SealedKey,
        DischargeFault::TooDeep,
        DischargeFault::TooMany,
    ];
    all.into_iter().find(|fault| fault.to_string() == detail).unwrap_or(DischargeFault::WronglyBound)
}

impl Signer for Remote {
    fn verify(
        &self,
        presented: &Presented<'_>,
        trace: Option<TraceContext>,
    ) -> Result<VerifyAnswer, AskError> {
        self.verify_traced(presented, trace).map_err(|e| match e {
            RemoteError::Refused(error) => AskError::Refused(error),
            other => AskError::Unreachable(other.to_string()),
        })
    }
}
