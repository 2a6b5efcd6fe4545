use super::call::Call;
use super::field::message;
use super::operation::Operation;

message! {
    /// Makes a new static key for the signer. The one before is accepted until it is retired;
    /// while there is one, nothing is changed and the answer says what there is.
    #[derive(Debug)]
    pub struct StaticRotate {}
}

impl Call for StaticRotate {
    const OPERATION: Operation = Operation::StaticRotate;
    type Answer = StaticKeys;
}

message! {
    /// Ends the acceptance of the static key before, and destroys it.
    #[derive(Debug)]
    pub struct StaticRetire {
        /// The public half of the key that ends; never the current one.
        pub key: [u8; 32],
    }
}

impl Call for StaticRetire {
    const OPERATION: Operation = Operation::StaticRetire;
    type Answer = StaticKeys;
}

message! {
    /// The public halves of the static keys that handshakes may be made to.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct StaticKeys {
        /// What clients should pin.
        pub current: [u8; 32],
        /// The one before, while it is accepted.
        pub before: Option<[u8; 32]>,
    }
}
