use super::call::Call;
use super::field::{Bytes, Done, choice, message};
use super::operation::Operation;

choice! {
    /// Whether a new key list raises the feed's epoch.
    pub enum PublicationDraft {
        /// The same epoch: an ordinary rotation.
        SameEpoch = 0,
        /// The next epoch: the set is replaced and every earlier key dropped at once.
        NextEpoch = 1,
    }
}

message! {
    /// Prepares a new publication key. Its secret stays with the signer; the key list that
    /// names it must be signed with the offline root keys before it counts.
    #[derive(Debug)]
    pub struct PublicationPrepare {
        /// Whether the epoch is raised.
        pub draft: PublicationDraft,
    }
}

impl Call for PublicationPrepare {
    const OPERATION: Operation = Operation::PublicationPrepare;
    type Answer = PublicationAnswer;
}

message! {
    /// A key list that is not signed yet.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PublicationAnswer {
        /// Its version.
        pub version: u64,
        /// The bytes to sign (docs/spec/revocation.md).
        pub to_sign: Bytes,
    }
}

message! {
    /// Takes a signed key list into force.
    #[derive(Debug)]
    pub struct PublicationRotate {
        /// The whole signed key list (docs/spec/revocation.md).
        pub key_list: Bytes,
    }
}

impl Call for PublicationRotate {
    const OPERATION: Operation = Operation::PublicationRotate;
    type Answer = Done;
}
