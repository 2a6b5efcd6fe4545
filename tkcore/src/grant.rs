use core::fmt;

use crate::facts::LineageFacts;
use crate::identifier::Identifier;
use crate::ids::{KeyId, LineageId};
use crate::limits;
use crate::time::Timestamp;

/// The right to go on with the one request that was cleared: made by
/// [`Verified::clear`](crate::Verified::clear) alone. Holds no secret, owns what it says, and
/// costs no allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    lineage: LineageId,
    parent: Option<LineageId>,
    key: KeyId,
    expiry: Option<Timestamp>,
    tenant: Short,
    subject: Short,
    caveats: usize,
}

/// A name of at most [`limits::NAME_BYTES`] bytes, in place; empty for none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Short {
    len: u8,
    bytes: [u8; limits::NAME_BYTES],
}

impl Short {
    #[inline(always)]
    fn new(text: &str) -> Self {
        let mut bytes = [0u8; limits::NAME_BYTES];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(to), Ok(len)) => {
                to.copy_from_slice(text.as_bytes());
                Self { len, bytes }
            }
            // A name that was checked is never longer.
            _ => Self { len: 0, bytes },
        }
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

impl Grant {
    /// In place: a grant is some 200 bytes, and moving it would cost more than filling it in.
    #[inline(always)]
    pub(crate) fn new(identifier: &Identifier<'_>, facts: &LineageFacts, caveats: usize) -> Self {
        Self {
            lineage: identifier.lineage,
            parent: identifier.service.map(|service| service.parent),
            key: identifier.key,
            expiry: identifier.expiry,
            tenant: Short::new(facts.tenant.as_str()),
            subject: Short::new(identifier.subject.unwrap_or("")),
            caveats,
        }
    }

    /// The token's lineage, safe to log.
    #[must_use]
    pub const fn lineage(&self) -> LineageId {
        self.lineage
    }

    /// The lineage that a service token was made from.
    #[must_use]
    pub const fn parent(&self) -> Option<LineageId> {
        self.parent
    }

    /// The key it was minted under.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// When the token itself runs out; its caveats may end it earlier.
    #[must_use]
    pub const fn expiry(&self) -> Option<Timestamp> {
        self.expiry
    }

    /// Whose power it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    /// On whose behalf it was minted.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        Some(self.subject.as_str()).filter(|subject| !subject.is_empty())
    }

    /// How many caveats were looked at, those of discharges included.
    #[must_use]
    pub const fn caveats(&self) -> usize {
        self.caveats
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lineage", &self.lineage)
            .field("key", &self.key)
            .field("tenant", &self.tenant())
            .field("subject", &self.subject())
            .field("caveats", &self.caveats)
            .finish_non_exhaustive()
    }
}
