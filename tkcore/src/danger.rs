//! Loosened choices. Each has a name that a reviewer stops at.

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
