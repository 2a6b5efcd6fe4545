use super::call::Call;
use super::field::{Bytes, message};
use super::operation::Operation;
use super::page::{Cursor, Page};

message! {
    /// Lines of the audit chain, a page of them, oldest first.
    #[derive(Debug)]
    pub struct AuditTail {
        /// From this line on; lines are numbered from 1. 0 begins with a line 0 that has no bytes
        /// and the hash that line 1 follows. Only looked at on the first page.
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
