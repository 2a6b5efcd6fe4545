use alloc::vec::Vec;

use super::call::Call;
use super::field::{Bytes, message};
use super::mint::Expiry;
use super::operation::Operation;
use super::secret::SecretBytes;
use crate::ids::{KeyId, LineageId};
use crate::name::Name;
use crate::time::Timestamp;

message! {
    /// A service token for a token and the discharge of its authentication caveat: the same
    /// power without that caveat, locked to a workload.
    #[derive(Debug)]
    pub struct Exchange {
        /// The root token, V2 bytes.
        pub root: SecretBytes,
        /// Its discharges, V2 bytes, at most 16.
        pub discharges: Vec<SecretBytes>,
        /// Caveats that lock the service token to a workload; at least one.
        pub workload: Vec<Bytes>,
        /// When it should end; the parent's bounds and the signer's cap hold in any case.
        pub expiry: Expiry,
        /// For people, in the registry.
        pub label: Option<Name>,
    }
}

impl Call for Exchange {
    const OPERATION: Operation = Operation::Exchange;
    type Answer = ExchangeAnswer;
}

message! {
    /// The service token that was made. Repeating the request id gives the same bytes.
    #[derive(Debug)]
    pub struct ExchangeAnswer {
        /// The token, V2 bytes.
        pub token: SecretBytes,
        /// Its lineage.
        pub lineage: LineageId,
        /// The lineage it was made from; revoking that kills it.
        pub parent: LineageId,
        /// The key it is under, the parent's.
        pub key: KeyId,
        /// When it ends.
        pub expiry: Timestamp,
    }
}
