use super::call::Call;
use super::field::message;
use super::operation::Operation;
use super::page::{Cursor, Page};
use crate::ids::{KeyId, LineageId};
use crate::name::{Name, Subject, Tenant};
use crate::revocation::Rule;
use crate::time::Timestamp;

message! {
    /// The registered tokens, a page of them; each bound that is given narrows the list.
    #[derive(Debug)]
    pub struct TokenList {
        /// Of this tenant.
        pub tenant: Option<Tenant>,
        /// Of this subject; needs a tenant.
        pub subject: Option<Subject>,
        /// Made by exchange from this lineage.
        pub parent: Option<LineageId>,
        /// Where to go on.
        pub from: Cursor,
    }
}

impl Call for TokenList {
    const OPERATION: Operation = Operation::TokenList;
    type Answer = Page<TokenInfo>;
}

message! {
    /// One registered token.
    #[derive(Debug)]
    pub struct TokenShow {
        /// Its lineage.
        pub lineage: LineageId,
    }
}

impl Call for TokenShow {
    const OPERATION: Operation = Operation::TokenShow;
    type Answer = TokenInfo;
}

message! {
    /// What the registry knows of a token. Never the token.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenInfo {
        /// Its lineage.
        pub lineage: LineageId,
        /// The key it is under.
        pub key: KeyId,
        /// Whose power it is.
        pub tenant: Tenant,
        /// On whose behalf.
        pub subject: Option<Subject>,
        /// For people.
        pub label: Option<Name>,
        /// When it ends; `None`: never.
        pub expiry: Option<Timestamp>,
        /// The lineage it was made from.
        pub parent: Option<LineageId>,
        /// The rule that kills it.
        pub revoked: Option<Rule>,
        /// When a service last asked about it.
        pub last_seen: Option<Timestamp>,
    }
}
