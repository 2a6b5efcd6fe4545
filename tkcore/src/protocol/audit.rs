use super::call::Call;
use super::field::{Bytes, message};
use super::operation::Operation;
use super::page::{Cursor, Page};

message! {
    /// Lines of the audit chain, a page of them, oldest first.
    #[derive(Debug)]
    pub struct AuditTail {
        /// From this line on; lines are numbered from 1. 0 begins with the line before the first
        /// one that is kept, which has no bytes and the hash that the first one follows: line 0
        /// unless lines were pruned. Only looked at on the first page.
        pub line: u64,
        /// Where to go on.
        pub from: Cursor,
    }
}

impl Call for AuditTail {
    const OPERATION: Operation = Operation::AuditTail;
    type Answer = Page<AuditLine>;
}

message! {
    /// One line of the audit chain.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditLine {
        /// Its number.
        pub line: u64,
        /// Its canonical bytes.
        pub bytes: Bytes,
        /// SHA-256 of the previous line's hash and these bytes.
        pub hash: [u8; 32],
    }
}

message! {
    /// Removes the oldest lines of the audit chain. The last of them stays as its number and hash,
    /// which the next line follows, and the removal is a line itself.
    #[derive(Debug)]
    pub struct AuditPrune {
        /// The first line that is kept.
        pub before: u64,
    }
}

impl Call for AuditPrune {
    const OPERATION: Operation = Operation::AuditPrune;
    type Answer = AuditPruned;
}

message! {
    /// What one pruning did; a large one is done in several.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct AuditPruned {
        /// Lines that were removed.
        pub removed: u64,
        /// The first line that is kept.
        pub first: u64,
    }
}
