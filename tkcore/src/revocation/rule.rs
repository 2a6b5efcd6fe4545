use core::fmt;

use crate::ids::{BranchId, KeyId, LineageId, Row};
use crate::time::Timestamp;

/// Which rule killed a token.
///
/// A closed set on purpose: whoever adds a way to revoke must look at every place that tells
/// them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The lineage itself.
    Token,
    /// This branch, or one that it follows from.
    Branch,
    /// The key it was minted under: all of it, or all from before a time.
    Key,
    /// Everything of its subject from before a time.
    Subject,
    /// Everything of its tenant from before a time.
    Tenant,
    /// Everything from before a time.
    Global,
    /// The lineage that a service token was made from.
    Parent,
}

impl Rule {
    /// One stable lower-case word, for logs, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Branch => "branch",
            Self::Key => "key",
            Self::Subject => "subject",
            Self::Tenant => "tenant",
            Self::Global => "global",
            Self::Parent => "parent",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One revocation, as it is asked for and as it stands in the feed. There is no way back.
///
/// `before` is a floor: `issued < before` is refused, `issued == before` is not. Two floors in
/// one scope combine by maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revocation {
    /// A token, every attenuated descendant, and the service tokens made from it.
    Token {
        /// The lineage to kill.
        lineage: LineageId,
    },
    /// One point of a chain and what follows from it; parent and siblings live.
    Branch {
        /// The point to kill.
        branch: BranchId,
    },
    /// What was minted under a key id.
    Key {
        /// The key id.
        key: KeyId,
        /// Only what was minted before; `None`: everything, for ever.
        before: Option<Timestamp>,
    },
    /// Everything of one subject of a tenant, minted before a time.
    Subject {
        /// The subject's row ([`crate::revocation::TenantKey::subject_row`]).
        row: Row,
        /// The floor.
        before: Timestamp,
    },
    /// Everything of a tenant, minted before a time.
    Tenant {
        /// The tenant's row ([`crate::revocation::TenantKey::tenant_row`]).
        row: Row,
        /// The floor.
        before: Timestamp,
    },
    /// Everything minted before a time: the emergency brake.
    Global {
        /// The floor.
        before: Timestamp,
    },
}

impl Revocation {
    /// Its floor, if it is one.
    #[must_use]
    pub const fn before(&self) -> Option<Timestamp> {
        match self {
            Self::Key { before, .. } => *before,
            Self::Subject { before, .. } | Self::Tenant { before, .. } | Self::Global { before } => {
                Some(*before)
            }
            Self::Token { .. } | Self::Branch { .. } => None,
        }
    }

    /// What it names: a word for the kind of id, and the id. Nothing for everything.
    #[must_use]
    pub const fn named(&self) -> Option<(&'static str, &[u8])> {
        match self {
            Self::Token { lineage } => Some(("lineage", lineage.as_bytes())),
            Self::Branch { branch } => Some(("branch", branch.as_bytes())),
            Self::Key { key, .. } => Some(("key", key.as_bytes())),
            Self::Subject { row, .. } | Self::Tenant { row, .. } => Some(("row", row.as_bytes())),
            Self::Global { .. } => None,
        }
    }

    /// The rule under which it refuses what it names.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Token { .. } => Rule::Token,
            Self::Branch { .. } => Rule::Branch,
            Self::Key { .. } => Rule::Key,
            Self::Subject { .. } => Rule::Subject,
            Self::Tenant { .. } => Rule::Tenant,
            Self::Global { .. } => Rule::Global,
        }
    }
}
