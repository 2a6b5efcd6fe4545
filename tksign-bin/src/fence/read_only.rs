use std::collections::BTreeSet;

use tkcore::protocol::{ClientInfo, ClientKey, Code, Operation, Role};

use super::compare::Gap;
use crate::peer::Peer;

/// A signer that changes nothing: a store that is behind, or a follower's copy.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    why: String,
    /// The `verify` clients that are answered; `None`: all that are active.
    verifiers: Option<BTreeSet<ClientKey>>,
}

impl ReadOnly {
    /// Behind what is known: only clients that were live when that was noted are answered, since
    /// the store may hold some that were removed.
    pub(crate) fn behind(gaps: &[Gap], live: BTreeSet<ClientKey>) -> Self {
        let why: Vec<String> = gaps.iter().map(ToString::to_string).collect();
        let why = format!("behind: {}; see `tksign restore-check`", why.join("; "));
        Self { why, verifiers: Some(live) }
    }

    /// A copy that somebody else's writes are carried into.
    pub(crate) fn follower() -> Self {
        Self { why: "a follower: it verifies and serves the feed".to_owned(), verifiers: None }
    }

    /// For people: why nothing is changed.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// Whether this client is answered. Operators read, and only on the machine itself.
    pub(crate) fn admits(&self, client: &ClientInfo, peer: Peer, operation: Operation) -> Result<(), Code> {
        let admitted = match (operation, &client.role) {
            (Operation::Verify, Role::Verify(_)) => {
                self.verifiers.as_ref().is_none_or(|live| live.contains(&client.key))
            }
            (
                Operation::Status
                | Operation::ClientList
                | Operation::KeyList
                | Operation::TokenList
                | Operation::TokenShow
                | Operation::AuditTail,
                _,
            ) => peer == Peer::Control,
            _ => false,
        };
        if admitted { Ok(()) } else { Err(Code::ReadOnly) }
    }
}
