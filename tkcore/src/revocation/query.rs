use crate::identifier::Identifier;
use crate::ids::{BranchId, KeyId, LineageId, Row};
use crate::revocation::rule::Rule;
use crate::time::Timestamp;

/// Whether a token is revoked.
///
/// A closed set on purpose, with no `bool` beside it: a caller must say what it does when the
/// answer is not known, and the only right thing is to refuse or to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// No rule of the set names it.
    Live,
    /// A rule names it; of several, the widest.
    Revoked(Rule),
    /// The set cannot tell.
    Unknown(Gap),
}

/// Why a set cannot tell. Closed, as [`Status`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gap {
    /// No set was ever loaded, or it is older than the service accepts.
    Stale,
    /// A floor exists and nobody knows when this token was issued.
    NoIssueTime,
    /// Branches are revoked and the chain's branch ids were not collected.
    BranchesNotCollected,
}

/// Everything about one token that a rule can name.
///
/// Build it with [`Query::new`] or [`Query::foreign`]; the fields are open so that a service
/// with its own keys can fill in what it knows.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The token's lineage.
    pub lineage: LineageId,
    /// When it was minted. `None` (a foreign token whose service does not know) makes every
    /// floor in its scope a [`Gap::NoIssueTime`].
    pub issued_at: Option<Timestamp>,
    /// The lineage a service token was made from: looked up as the token's own is, and its
    /// mint time is tested against every floor.
    pub parent: Option<LineageId>,
    /// The key it was minted under; `None` for a foreign token.
    pub key: Option<KeyId>,
    /// The row of its tenant; `None` only where tenants do not exist (own keys).
    pub tenant: Option<Row>,
    /// The row of its subject, if it has one.
    pub subject: Option<Row>,
    /// The branch ids of every point of the presented chain. May be empty only when
    /// [`Revocations::has_branches`] said `false`.
    pub branches: &'a [BranchId],
}

impl<'a> Query<'a> {
    /// For a token of ours.
    #[must_use]
    pub fn new(
        identifier: &Identifier<'_>,
        tenant: Option<Row>,
        subject: Option<Row>,
        branches: &'a [BranchId],
    ) -> Self {
        Self {
            lineage: identifier.lineage,
            issued_at: identifier.lineage.minted(),
            parent: identifier.service.map(|service| service.parent),
            key: Some(identifier.key),
            tenant,
            subject,
            branches,
        }
    }

    /// For a foreign macaroon: its lineage is
    /// [`foreign_lineage`](crate::revocation::foreign_lineage) of its identifier, and the time
    /// of issue is what the service says it is.
    #[must_use]
    pub const fn foreign(lineage: LineageId, issued_at: Option<Timestamp>, branches: &'a [BranchId]) -> Self {
        Self { lineage, issued_at, parent: None, key: None, tenant: None, subject: None, branches }
    }
}

/// Something that knows what is revoked.
pub trait Revocations {
    /// Whether any branch is revoked, so that branch ids must be collected before asking.
    fn has_branches(&self) -> bool;

    /// The verdict on one token. Never wider than what the set holds, never narrower.
    fn status(&self, query: &Query<'_>) -> Status;
}

impl<T: Revocations + ?Sized> Revocations for &T {
    fn has_branches(&self) -> bool {
        (**self).has_branches()
    }

    fn status(&self, query: &Query<'_>) -> Status {
        (**self).status(query)
    }
}

impl<T: Revocations + ?Sized> Revocations for alloc::sync::Arc<T> {
    fn has_branches(&self) -> bool {
        (**self).has_branches()
    }

    fn status(&self, query: &Query<'_>) -> Status {
        (**self).status(query)
    }
}
