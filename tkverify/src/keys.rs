//! Keys that this service holds itself: delegated to its audience by the signer, or its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tkcore::revocation::TenantKey;
use tkcore::{Audience, Identifier, KeyClass, KeyId, LineageFacts, RootKey, Subject, Tenant};

/// A root key with what is needed to decide alone about the tokens made from it. Whoever holds
/// it can mint, so it is for one audience, or for a process that is its own signer.
pub struct HeldKey {
    root: RootKey,
    rows: TenantKey,
    class: KeyClass,
    /// The facts of a token without a subject, which is then decided without an allocation.
    plain: Arc<LineageFacts>,
}

impl HeldKey {
    /// A key with the tenant whose tokens it makes, the audience they are for, and the tenant
    /// key under which their revocation rows are computed.
    #[must_use]
    pub fn new(
        root: RootKey,
        tenant: Tenant,
        audience: Option<Audience>,
        class: KeyClass,
        rows: TenantKey,
    ) -> Self {
        let facts =
            LineageFacts { tenant, audience, class, tenant_row: rows.tenant_row(), subject_row: None };
        Self { root, rows, class, plain: Arc::new(facts) }
    }

    pub(crate) const fn root(&self) -> &RootKey {
        &self.root
    }

    /// What a token under this key is, by its identifier.
    pub(crate) fn facts(&self, identifier: &Identifier<'_>) -> Arc<LineageFacts> {
        match identifier.subject.and_then(|subject| Subject::new(subject).ok()) {
            None => Arc::clone(&self.plain),
            Some(subject) => Arc::new(LineageFacts {
                subject_row: Some(self.rows.subject_row(&subject)),
                ..LineageFacts::clone(&self.plain)
            }),
        }
    }
}

impl fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldKey({:?})", self.class)
    }
}

/// All keys held, by id. Swapped whole when the signer gives others.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    own: BTreeMap<KeyId, Arc<HeldKey>>,
    delegated: RwLock<BTreeMap<KeyId, Arc<HeldKey>>>,
}

impl KeyRing {
    pub(crate) fn new(own: BTreeMap<KeyId, Arc<HeldKey>>) -> Self {
        Self { own, delegated: RwLock::default() }
    }

    /// The key of that id. A key of ours goes before a delegated one.
    pub(crate) fn find(&self, id: KeyId) -> Option<Arc<HeldKey>> {
        if let Some(key) = self.own.get(&id) {
            return Some(Arc::clone(key));
        }
        let delegated = self.delegated.read().unwrap_or_else(PoisonError::into_inner);
        delegated.get(&id).map(Arc::clone)
    }

    /// What the signer delegates now; what it no longer does is wiped with its last use.
    pub(crate) fn delegate(&self, keys: BTreeMap<KeyId, Arc<HeldKey>>) {
        *self.delegated.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.delegated.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
