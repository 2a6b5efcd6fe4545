use alloc::vec::Vec;

use super::call::Call;
use super::field::message;
use super::operation::Operation;
use super::secret::SecretBytes;
use crate::facts::LineageFacts;
use crate::ids::{BranchId, KeyId};

message! {
    /// Does the chain of this token, with its discharges, hold under the signer's keys?
    ///
    /// The answer is about MACs, expiry and revocation at the signer. Caveats are not judged:
    /// the signer knows no request.
    #[derive(Debug)]
    pub struct Verify {
        /// The root token, V2 bytes.
        pub root: SecretBytes,
        /// Its discharges, V2 bytes, at most 16.
        pub discharges: Vec<SecretBytes>,
    }
}

impl Call for Verify {
    const OPERATION: Operation = Operation::Verify;
    type Answer = VerifyAnswer;
}

message! {
    /// A place in the revocation feed. Ordered by epoch, then sequence.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct FeedPosition {
        /// Only a key list raises it.
        pub epoch: u64,
        /// Steps within the epoch.
        pub sequence: u64,
    }
}

#[cfg(feature = "feed")]
impl From<crate::revocation::Position> for FeedPosition {
    fn from(position: crate::revocation::Position) -> Self {
        Self { epoch: position.epoch, sequence: position.sequence }
    }
}

message! {
    /// The chain and all discharges hold, and nothing kills the token at this signer. Facts
    /// only: no key material, and no tail.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct VerifyAnswer {
        /// The key id that the token names, echoed.
        pub key: KeyId,
        /// What the signer knows of the lineage.
        pub facts: LineageFacts,
        /// The branch id of every chain point of the root before the presented tail, in chain
        /// order: the point after the identifier first. As many as the root has caveats.
        pub branches: Vec<BranchId>,
        /// The feed position that the answer takes into account: whoever remembers it applies
        /// a set of this position or later.
        pub position: FeedPosition,
    }
}
