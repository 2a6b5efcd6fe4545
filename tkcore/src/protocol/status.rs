use super::FeedPosition;
use super::call::Call;
use super::field::{Text, choice, message};
use super::operation::Operation;
use super::secret::SecretBytes;
use crate::ids::FeedId;
use crate::time::Timestamp;

message! {
    /// How the signer is.
    #[derive(Debug)]
    pub struct Status {}
}

impl Call for Status {
    const OPERATION: Operation = Operation::Status;
    type Answer = StatusAnswer;
}

choice! {
    /// What the signer takes on.
    pub enum Mode {
        /// Everything.
        Serving = 0,
        /// The store is behind what was published: it only reads.
        ReadOnly = 1,
        /// It is stopping.
        Stopping = 2,
    }
}

message! {
    /// How the signer is. Counts are of rows in its store.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct StatusAnswer {
        /// The program's version.
        pub version: Text,
        /// The feed it publishes.
        pub feed: FeedId,
        /// Its static public key (X25519), which clients pin.
        pub static_key: [u8; 32],
        /// The one before, while it is accepted as well.
        pub static_before: Option<[u8; 32]>,
        /// What it takes on.
        pub mode: Mode,
        /// When it started.
        pub started: Timestamp,
        /// Its clock.
        pub now: Timestamp,
        /// The last signed head's position.
        pub position: FeedPosition,
        /// When that head was signed.
        pub head_issued: Timestamp,
        /// Until when it counts.
        pub head_valid_until: Timestamp,
        /// The key list's version.
        pub key_list: u64,
        /// When the publication key in use ends.
        pub publication_until: Timestamp,
        /// Key records.
        pub keys: u64,
        /// Client keys.
        pub clients: u64,
        /// Registered tokens.
        pub tokens: u64,
        /// Revocations.
        pub revocations: u64,
        /// Lines of the audit chain.
        pub audit_lines: u64,
        /// The last line's hash.
        pub audit_hash: [u8; 32],
        /// The store's schema version.
        pub schema: u32,
        /// Names the secret that seals the records.
        pub secret: [u8; 8],
        /// What the serving process denies itself, and what of it is not in force; for people.
        pub sandbox: Text,
        /// Anything that wants attention, for people; empty when nothing does.
        pub notice: Text,
    }
}

message! {
    /// Seals every record under a new secret, in one transaction. Only over the control socket.
    #[derive(Debug)]
    pub struct Rewrap {
        /// The new injected secret, at least 32 bytes.
        pub secret: SecretBytes,
    }
}

impl Call for Rewrap {
    const OPERATION: Operation = Operation::Rewrap;
    type Answer = RewrapAnswer;
}

message! {
    /// Every record is under the new secret.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RewrapAnswer {
        /// Names the new secret.
        pub secret: [u8; 8],
        /// Records that were sealed anew.
        pub records: u64,
    }
}
