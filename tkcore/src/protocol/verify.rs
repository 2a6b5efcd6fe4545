use alloc::vec::Vec;

use super::FeedPosition;
use super::call::Call;
use super::field::{BadMessage, Field, Fields, Writer, message};
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

/// Epoch, then sequence, 8 bytes each.
impl Field for FeedPosition {
    fn write(&self, to: &mut Writer) {
        self.epoch.write(to);
        self.sequence.write(to);
    }
    fn read(from: &mut Fields<'_>) -> Result<Self, BadMessage> {
        Ok(Self { epoch: u64::read(from)?, sequence: u64::read(from)? })
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
