//! Loosened choices. Each has a name that a reviewer stops at.

use crate::caveat::{TenantWide, VocabularyBuilder};
use crate::revocation::{Query, Revocations, Status};

/// Calls every token live. For tests, and for macaroons that nobody can revoke.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRevocations;

impl Revocations for NoRevocations {
    fn has_branches(&self) -> bool {
        false
    }

    fn status(&self, _: &Query<'_>) -> Status {
        Status::Live
    }
}

/// Clears tokens whose caveats at mint are only about `time`: each is power over its whole
/// tenant, with nothing else in it that could refuse.
#[must_use]
pub const fn admit_tenant_wide(vocabulary: VocabularyBuilder) -> VocabularyBuilder {
    vocabulary.set_tenant_wide(TenantWide::Admit)
}
