use super::call::Call;
use super::field::{choice, message};
use super::operation::Operation;
use super::page::{Cursor, Page};
use super::secret::SecretKey;
use crate::facts::KeyClass;
use crate::ids::KeyId;
use crate::name::{Audience, Tenant};
use crate::time::Timestamp;

message! {
    /// The delegated keys of the client's own audience, a page of them.
    #[derive(Debug)]
    pub struct FetchKeys {
        /// Where to go on.
        pub from: Cursor,
    }
}

impl Call for FetchKeys {
    const OPERATION: Operation = Operation::FetchKeys;
    type Answer = Page<DelegatedKey>;
}

message! {
    /// A key that a service of one audience may hold, with what it needs to decide alone.
    #[derive(Debug)]
    pub struct DelegatedKey {
        /// Its id, which tokens name.
        pub key: KeyId,
        /// Whose tokens it makes.
        pub tenant: Tenant,
        /// The audience it is for.
        pub audience: Audience,
        /// Counts the rotations of the record.
        pub generation: u32,
        /// Whether it still mints.
        pub state: KeyState,
        /// The derived root key of the chain: it mints as well as it verifies.
        pub root: SecretKey,
        /// The tenant key, under which the revocation rows of tenant and subjects are computed.
        pub rows: SecretKey,
    }
}

choice! {
    /// What a key record does.
    pub enum KeyState {
        /// Mints and verifies.
        Current = 0,
        /// Was rotated away from: verifies only.
        Verifying = 1,
        /// Revoked; its secret is destroyed.
        Retired = 2,
    }
}

message! {
    /// A key record, without its secret.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyInfo {
        /// Its id, which tokens name.
        pub key: KeyId,
        /// Whose tokens it makes.
        pub tenant: Tenant,
        /// The audience it is for, or all.
        pub audience: Option<Audience>,
        /// Whether services of the audience may hold it.
        pub class: KeyClass,
        /// Counts the rotations of the record.
        pub generation: u32,
        /// What it does.
        pub state: KeyState,
        /// When it was made.
        pub created: Timestamp,
        /// When it was rotated away from or retired.
        pub ended: Option<Timestamp>,
        /// Registered tokens under it that are neither expired nor revoked.
        pub live_tokens: u64,
    }
}

message! {
    /// Makes the first key record of a (tenant, audience, class).
    #[derive(Debug)]
    pub struct KeyCreate {
        /// Whose tokens it will make.
        pub tenant: Tenant,
        /// The audience it is for, or all.
        pub audience: Option<Audience>,
        /// Whether services of the audience may hold it; for good. Delegable needs an audience.
        pub class: KeyClass,
    }
}

impl Call for KeyCreate {
    const OPERATION: Operation = Operation::KeyCreate;
    type Answer = KeyInfo;
}

message! {
    /// The key records, a page of them.
    #[derive(Debug)]
    pub struct KeyList {
        /// Of this tenant only.
        pub tenant: Option<Tenant>,
        /// Where to go on.
        pub from: Cursor,
    }
}

impl Call for KeyList {
    const OPERATION: Operation = Operation::KeyList;
    type Answer = Page<KeyInfo>;
}

message! {
    /// Makes the next generation of a record. The answer is the new one.
    #[derive(Debug)]
    pub struct KeyRotate {
        /// Any generation of the record.
        pub key: KeyId,
    }
}

impl Call for KeyRotate {
    const OPERATION: Operation = Operation::KeyRotate;
    type Answer = KeyInfo;
}

message! {
    /// Revokes a key and destroys its secret.
    #[derive(Debug)]
    pub struct KeyRetire {
        /// The one generation that ends.
        pub key: KeyId,
    }
}

impl Call for KeyRetire {
    const OPERATION: Operation = Operation::KeyRetire;
    type Answer = KeyInfo;
}
