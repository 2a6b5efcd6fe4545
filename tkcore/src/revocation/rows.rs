use core::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::chain;
use crate::ids::{LineageId, Row};
use crate::limits;
use crate::name::{Name, Subject, Tenant};

const TENANT_KEY: &[u8; 16] = b"tk-tenant-key-v1";
const TENANT_ROW: &[u8; 16] = b"tk-tenant-row-v1";
const SUBJECT_ROW: &[u8; 17] = b"tk-subject-row-v1";
const FOREIGN: &[u8] = b"tk-foreign-v1";

/// The signer's key for naming tenants without naming them (RV-2). A sealed record of its own;
/// never published, never given to a client. Wiped on drop; `Debug` shows nothing.
pub struct RowKey([u8; 32]);

/// The key under which one tenant's rows are computed (RV-2). Whoever holds it can tell which
/// rows of the feed are this tenant's and its subjects', and nothing else. Wiped on drop;
/// `Debug` shows nothing.
pub struct TenantKey([u8; 32]);

impl RowKey {
    /// Wraps 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key of one tenant: `HMAC-SHA256(row key, "tk-tenant-key-v1" ‖ tenant)`.
    #[must_use]
    pub fn tenant(&self, tenant: &Tenant) -> TenantKey {
        TenantKey(tag(&self.0, TENANT_KEY, tenant))
    }
}

impl TenantKey {
    /// Wraps a key that the signer derived and gave with a delegated key record.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself, for a delegated key record.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The tenant's own row: the first 16 bytes of `HMAC-SHA256(tenant key, "tk-tenant-row-v1")`.
    #[must_use]
    pub fn tenant_row(&self) -> Row {
        row(chain::hmac(&self.0, TENANT_ROW))
    }

    /// A subject's row: the first 16 bytes of
    /// `HMAC-SHA256(tenant key, "tk-subject-row-v1" ‖ subject)`.
    #[must_use]
    pub fn subject_row(&self, subject: &Subject) -> Row {
        row(tag(&self.0, SUBJECT_ROW, subject))
    }
}

/// The lineage id under which a foreign macaroon is revoked: it has no nonce, so this is the
/// first 16 bytes of `SHA-256("tk-foreign-v1" ‖ identifier)` (RV-3). It carries no mint time.
#[must_use]
pub fn foreign_lineage(identifier: &[u8]) -> LineageId {
    let mut hash = Sha256::new();
    hash.update(FOREIGN);
    hash.update(identifier);
    LineageId::from_bytes(cut(hash.finalize().into()))
}

fn tag(key: &[u8; 32], domain: &[u8], name: &Name) -> [u8; 32] {
    let mut message = Zeroizing::new([0u8; 17 + limits::NAME_BYTES]);
    let mut len = 0usize;
    for (to, from) in message.iter_mut().zip(domain.iter().chain(name.as_str().as_bytes())) {
        *to = *from;
        len = len.saturating_add(1);
    }
    let (message, _) = message.split_at_checked(len).unwrap_or((&[], &[]));
    chain::hmac(key, message)
}

fn row(tag: [u8; 32]) -> Row {
    Row::from_bytes(cut(tag))
}

fn cut(hash: [u8; 32]) -> [u8; 16] {
    let mut id = [0u8; 16];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = from;
    }
    id
}

impl Drop for RowKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for TenantKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowKey(..)")
    }
}

impl fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use hmac::{Hmac, Mac as _};

    use super::*;

    fn reference(key: &[u8], message: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    #[test]
    fn rows_are_cut_hmacs_under_the_tenant_key() {
        let longest = String::from("x").repeat(limits::NAME_BYTES);
        for name in ["acme", "ä", &longest] {
            let name = Name::new(name).unwrap();
            let tenant = RowKey::from_bytes([7; 32]).tenant(&name);
            let key = reference(&[7; 32], format!("tk-tenant-key-v1{name}").as_bytes());
            assert_eq!(tenant.expose(), &key);
            assert_eq!(tenant.tenant_row().as_bytes()[..], reference(&key, b"tk-tenant-row-v1")[..16]);
            let expected = reference(&key, format!("tk-subject-row-v1{name}").as_bytes());
            assert_eq!(tenant.subject_row(&name).as_bytes()[..], expected[..16]);
        }
    }

    #[test]
    fn a_subject_never_shares_a_row_with_the_tenant_or_across_tenants() {
        let key = RowKey::from_bytes([7; 32]);
        let (a, b) = (key.tenant(&Name::new("a").unwrap()), key.tenant(&Name::new("b").unwrap()));
        let subject = Name::new("s").unwrap();
        assert_ne!(a.tenant_row(), b.tenant_row());
        assert_ne!(a.subject_row(&subject), b.subject_row(&subject));
        assert_ne!(a.subject_row(&subject), a.tenant_row());
    }

    #[test]
    fn a_foreign_lineage_is_the_cut_hash() {
        let hash = Sha256::digest(b"tk-foreign-v1we used our secret key");
        assert_eq!(foreign_lineage(b"we used our secret key").as_bytes()[..], hash[..16]);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", RowKey::from_bytes([7; 32])), "RowKey(..)");
        assert_eq!(format!("{:?}", TenantKey::from_bytes([7; 32])), "TenantKey(..)");
    }
}
