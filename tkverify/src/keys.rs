//! Keys that this service holds itself: delegated to its audience by the signer, or its own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tkcore::protocol::{Cursor, DelegatedKey, KeyState, Page};
use tkcore::revocation::TenantKey;
use tkcore::{Audience, Identifier, KeyClass, KeyId, LineageFacts, RootKey, Subject, Tenant};

use crate::key_file::{KeyFile, Owner, encode};
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
    /// What goes wrong with the delegated ones now, for health: with fetching them, and with their
    /// file. Neither hides the other.
    troubles: Mutex<[Option<String>; 2]>,
}

impl KeyRing {
    pub(crate) fn new(own: BTreeMap<KeyId, Arc<HeldKey>>) -> Self {
        Self { own, ..Self::default() }
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

    pub(crate) fn set_fetch_trouble(&self, trouble: Option<String>) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)[0] = trouble;
    }

    /// Stays until the next try to write the file.
    pub(crate) fn set_file_trouble(&self, trouble: Option<String>) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)[1] = trouble;
    }

    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> + use<> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        troubles.into_iter().flatten()
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

/// Most pages asked for: enough for millions of records of all audiences together, and an end
/// for a signer that never ends.
const PAGES: usize = 10_000;

/// Keeps the delegated keys current, in the background. Stops when dropped.
#[derive(Debug)]
pub(crate) struct KeyFetcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the fetcher works with.
pub(crate) struct Fetching {
    pub(crate) remote: Arc<Remote>,
    pub(crate) ring: Arc<KeyRing>,
    /// Where the keys are kept, if they are.
    pub(crate) file: Option<(KeyFile, Owner)>,
}

impl KeyFetcher {
    pub(crate) fn start(fetching: Fetching) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("tk-keys".to_owned()).spawn(move || {
            let mut kept = None;
            loop {
                let pause = fetching.fetch(&mut kept);
                match stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Fetching {
    /// Says how long to wait until the next time. `kept` is a digest of what the file holds, so
    /// that the same is not written again.
    fn fetch(&self, kept: &mut Option<[u8; 32]>) -> Duration {
        let Fetched { keys, whole } = match fetch(KEYS, |from| self.remote.fetch_keys(from)) {
            Ok(fetched) => fetched,
            // What was fetched before stays: the feed says what of it is revoked.
            Err(error) => {
                self.ring.set_fetch_trouble(Some(format!("delegated keys cannot be fetched: {error}")));
                return FETCH_AGAIN;
            }
        };
        let trouble = self.keep(&keys, kept).map(|why| format!("delegated keys are not kept: {why}"));
        let pause = if trouble.is_some() { FETCH_AGAIN } else { FETCH_EVERY };
        self.ring.delegate(ring_of(keys));
        let cut = format!("of the delegated keys only {KEYS} are held, and the signer has more");
        self.ring.set_fetch_trouble((whole == Whole::No).then_some(cut));
        self.ring.set_file_trouble(trouble);
        pause
    }

    fn keep(&self, keys: &BTreeMap<KeyId, DelegatedKey>, kept: &mut Option<[u8; 32]>) -> Option<String> {
        use sha2::Digest as _;
        let (file, owner) = self.file.as_ref()?;
        let Some(bytes) = encode(keys.values()) else { return Some("a key is too large".to_owned()) };
        let digest: [u8; 32] = sha2::Sha256::digest(&bytes).into();
        if *kept == Some(digest) && file.path().exists() {
            return None;
        }
        match file.write(&bytes, owner) {
            Ok(()) => {
                *kept = Some(digest);
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The keys as they verify.
pub(crate) fn ring_of(
    keys: impl IntoIterator<Item = (KeyId, DelegatedKey)>,
) -> BTreeMap<KeyId, Arc<HeldKey>> {
    keys.into_iter().map(|(id, key)| (id, Arc::new(held(key)))).collect()
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

/// What the signer has for this audience, as far as it is held.
struct Fetched {
    keys: BTreeMap<KeyId, DelegatedKey>,
    whole: Whole,
}

/// Whether there are no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// All pages, or as many as hold `most` keys: tokens under the others are then asked about. A list
/// that goes nowhere gives no keys at all, so that those from before stay. A page may well be empty:
/// the signer looks at some hundred records for each, and they may all be of other audiences.
fn fetch(
    most: usize,
    mut page: impl FnMut(Cursor) -> Result<Page<DelegatedKey>, RemoteError>,
) -> Result<Fetched, RemoteError> {
    let mut keys = BTreeMap::new();
    let mut from = Cursor::default();
    for _ in 0..PAGES {
        let Page { items, next, .. } = page(from.clone())?;
        for key in items.into_iter().filter(is_live) {
            if keys.len() >= most && !keys.contains_key(&key.key) {
                return Ok(Fetched { keys, whole: Whole::No });
            }
            keys.insert(key.key, key);
        }
        match next {
            Some(next) if next == from => return Err(RemoteError::NotUnderstood),
            Some(next) => from = next,
            None => return Ok(Fetched { keys, whole: Whole::Yes }),
        }
    }
    Err(RemoteError::NotUnderstood)
}

/// A retired key's secret is destroyed; what would be verified with it is revoked.
fn is_live(key: &DelegatedKey) -> bool {
    match key.state {
        KeyState::Current | KeyState::Verifying => true,
        KeyState::Retired => false,
    }
}

fn held(key: DelegatedKey) -> HeldKey {
    let root = RootKey::from_derived(key.root.expose());
    let rows = TenantKey::from_bytes(*key.rows.expose());
    HeldKey::new(root, key.tenant, Some(key.audience), KeyClass::Delegable, rows)
}

#[cfg(test)]
mod tests {
    use tkcore::protocol::SecretKey;

    use super::*;

    fn key(id: u8) -> DelegatedKey {
        DelegatedKey {
            key: KeyId::from_bytes([id; 8]),
            tenant: Tenant::new("acme").unwrap(),
            audience: Audience::new("builds").unwrap(),
            generation: 1,
            state: KeyState::Current,
            root: SecretKey::new([id; 32]),
            rows: SecretKey::new([7; 32]),
        }
    }

    fn page(items: impl IntoIterator<Item = DelegatedKey>, next: Option<u8>) -> Page<DelegatedKey> {
        let mut page = Page::default();
        items.into_iter().for_each(|item| page.push(item).unwrap());
        page.next = next.map(|next| Cursor::new(&[next]).unwrap());
        page
    }

    #[test]
    fn a_page_without_a_key_of_ours_is_not_the_last() {
        let fetched = fetch(9, |from| {
            Ok(match from.as_bytes() {
                [] => page([], Some(1)),
                [1] => page([key(1)], Some(2)),
                [2] => page([], Some(3)),
                _ => page([key(2)], None),
            })
        });
        let Fetched { keys, whole } = fetched.unwrap();
        assert_eq!(whole, Whole::Yes);
        let ids: Vec<KeyId> = keys.into_keys().collect();
        assert_eq!(ids, [KeyId::from_bytes([1; 8]), KeyId::from_bytes([2; 8])]);
    }

    #[test]
    fn a_list_that_does_not_end_gives_nothing() {
        assert!(fetch(9, |_| Ok(page([key(1)], Some(1)))).is_err());
        let mut turn = 0u8;
        let never = fetch(9, |_| {
            turn ^= 1;
            Ok(page([], Some(turn)))
        });
        assert!(never.is_err());
    }

    #[test]
    fn a_list_of_more_keys_than_are_held_is_said_to_be_cut_off() {
        let list = |most| {
            fetch(most, |from| {
                Ok(match from.as_bytes() {
                    [] => page([key(1), key(2)], Some(1)),
                    [1] => page([], Some(2)),
                    _ => page([key(2), key(3)], None),
                })
            })
        };
        let counted =
            |fetched: Result<Fetched, RemoteError>| fetched.map(|f| (f.keys.len(), f.whole)).unwrap();
        assert_eq!(counted(list(3)), (3, Whole::Yes), "exactly as many");
        assert_eq!(counted(list(2)), (2, Whole::No));
        assert_eq!(counted(list(1)), (1, Whole::No));
    }
}
