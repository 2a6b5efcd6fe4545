//! Keys that this service holds itself: delegated to its audience by the signer, or its own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tkcore::protocol::{Cursor, DelegatedKey, KeyState};
use tkcore::revocation::TenantKey;
use tkcore::{Audience, Identifier, KeyClass, KeyId, LineageFacts, RootKey, Subject, Tenant};

use crate::remote::{Remote, RemoteError};

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

/// How often the delegated keys are fetched again: a rotation has an overlap of days, and a
/// key that was retired is revoked in the feed, which does not wait for this.
const FETCH_EVERY: Duration = Duration::from_secs(300);

/// The pause after a try that failed.
const FETCH_AGAIN: Duration = Duration::from_secs(5);

/// Most keys taken: one a tenant and generation, and more than any audience has.
const KEYS: usize = 100_000;

/// Keeps the delegated keys current, in the background. Stops when dropped.
#[derive(Debug)]
pub(crate) struct KeyFetcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyFetcher {
    pub(crate) fn start(remote: Arc<Remote>, ring: Arc<KeyRing>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("tk-keys".to_owned()).spawn(move || {
            loop {
                let pause = match fetch(&remote) {
                    Ok(keys) => {
                        ring.delegate(keys);
                        FETCH_EVERY
                    }
                    // What was fetched before stays: the feed says what of it is revoked.
                    Err(_) => FETCH_AGAIN,
                };
                match stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for KeyFetcher {
    /// Waits at most for the one call that is under way.
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fetch(remote: &Remote) -> Result<BTreeMap<KeyId, Arc<HeldKey>>, RemoteError> {
    let mut keys = BTreeMap::new();
    let mut from = Cursor::default();
    loop {
        let page = remote.fetch_keys(from)?;
        let before = keys.len();
        for key in page.items {
            if let Some((id, key)) = held(key) {
                keys.insert(id, Arc::new(key));
            }
        }
        match page.next {
            // A page without anything new would come again for ever.
            Some(next) if keys.len() > before && keys.len() < KEYS => from = next,
            Some(_) | None => return Ok(keys),
        }
    }
}

fn held(key: DelegatedKey) -> Option<(KeyId, HeldKey)> {
    match key.state {
        KeyState::Current | KeyState::Verifying => {}
        KeyState::Retired => return None,
    }
    let root = RootKey::from_derived(key.root.expose());
    let rows = TenantKey::from_bytes(*key.rows.expose());
    Some((key.key, HeldKey::new(root, key.tenant, Some(key.audience), KeyClass::Delegable, rows)))
}
