use crate::ids::Row;
use crate::name::{Audience, Tenant};

/// Whether a key may leave the signer. Settled for good when the key is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// The signer alone holds it.
    Ordinary,
    /// Services of its one audience may hold it; such a service could mint for itself, and for
    /// nobody else.
    Delegable,
}

/// What the signer vouches for about a lineage beyond what the token itself says: facts, never
/// key material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageFacts {
    /// Whose power the token is.
    pub tenant: Tenant,
    /// The one audience the token's key is for; `None`: any service.
    pub audience: Option<Audience>,
    /// Whether the token's key may leave the signer.
    pub class: KeyClass,
    /// Under which its tenant is revoked.
    pub tenant_row: Row,
    /// Under which its subject is revoked: there exactly when the token has a subject, which
    /// [`crate::verify`] checks, since a missing row would be a revocation that is never seen.
    pub subject_row: Option<Row>,
}
