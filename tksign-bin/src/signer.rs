use std::path::Path;
use std::sync::Arc;

use tkcore::protocol::{AuditActor, AuditEvent, ClientInfo, ClientKey, ClientState, Role};
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft};
use tkcore::revocation::{KeyList, RootKeys};
use tkcore::{FeedId, Name};
use zeroize::Zeroizing;

use crate::audit;
use crate::clock::Clock;
use crate::feed_tree::FeedTree;
use crate::fence::Guard;
use crate::keys::PublicationSecret;
use crate::memory::{Memory, SignerError};
use crate::publish::Publisher;
use crate::random;
use crate::secret::Secret;
use crate::service::{Options, Service};
use crate::store::{Change, Sqlite, Store, StoreError};
use crate::tally::Tally;
use crate::writer::Writer;

/// An open signer: its operations, and what it publishes.
pub struct Signer {
    /// Answers requests.
    pub service: Service,
    /// What is served.
    pub feed: FeedTree,
}

/// What a new signer's clients pin, and the one secret that is kept away from it.
pub struct Trust {
    /// The feed.
    pub feed: FeedId,
    /// How many of the root keys must sign a key list.
    pub threshold: u8,
    /// The public halves of the root keys (Ed25519).
    pub root_keys: Vec<[u8; 32]>,
    /// The signer's static key (X25519).
    pub static_key: [u8; 32],
    /// The root key's private half, a seed of RFC 8032: written to a file by `init`, carried
    /// away, and never needed by a running signer.
    pub root_seed: Zeroizing<[u8; 32]>,
}

impl Signer {
    /// Makes a store in `folder` with all its keys, a key list signed by a new root key, and
    /// the clients of the local command line. Their private keys are to lie beside the store, so
    /// they count on the control socket only; one of them is to be an operator.
    ///
    /// The root key's private half is given to `keep` before the store counts: what was made
    /// cannot be lost with the only key that signs its lists.
    ///
    /// # Errors
    /// [`SignerError::Store`] when there is a store already or the folder cannot be written, and
    /// what `keep` says.
    pub fn init(
        folder: &Path,
        secret: &Secret,
        local: &[(ClientKey, Name, Role)],
        clock: &dyn Clock,
        keep: impl FnOnce(&[u8; 32]) -> std::io::Result<()>,
    ) -> Result<Trust, SignerError> {
        let now = clock.now();
        let root_seed = random::secret();
        let failed = || SignerError::Feed("the first key list cannot be made".to_owned());
        let root = FeedSigningKey::from_seed(&root_seed).ok_or_else(failed)?;
        let roots = RootKeys::new(1, &[root.public()]).map_err(|_| failed())?;
        let first = PublicationSecret::generate(now).ok_or_else(failed)?;
        let sign = |list: &KeyList| KeyListDraft::sign_all(list, &[&root], &roots).ok();
        let rows = Memory::initial(secret, &roots, &first, sign).ok_or_else(failed)?;
        let mut store = Sqlite::create(folder)?;
        store.begin()?;
        store.apply(&Change { ops: rows, ..Change::default() }).map_err(StoreError::from)?;
        // What was just written is read back before it counts.
        let mut memory = Memory::load(&store, secret)?;
        let mut ops = Vec::new();
        let mut event = AuditEvent::new(AuditActor::Signer, "init").with("feed", memory.core.feed);
        for (key, name, role) in local {
            event = event.with(role.name(), key);
            memory.local.insert(*key);
            let (key, name, role) = (*key, name.clone(), role.clone());
            let info = ClientInfo { key, name, role, state: ClientState::Active, added: now, expiry: None };
            ops.push(memory.put_client(&info));
        }
        ops.push(audit::append(&memory.audit, &event, now).0);
        store.apply(&Change { ops, ..Change::default() }).map_err(StoreError::from)?;
        keep(&root_seed).map_err(|error| StoreError::Io("root key".into(), error))?;
        store.commit()?;
        Ok(Trust {
            feed: memory.core.feed,
            threshold: roots.threshold(),
            root_keys: roots.keys().iter().map(|key| *key.as_bytes()).collect(),
            static_key: memory.core.static_publics().current,
            root_seed,
        })
    }

    /// Opens the store in `folder` and starts the writer; the first head is signed at once.
    ///
    /// # Errors
    /// [`SignerError`]: the store, the secret, or what was published does not fit.
    pub fn open(
        folder: &Path,
        secret: &Secret,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SignerError> {
        Self::start(Box::new(Sqlite::open(folder)?), secret, options, clock)
    }

    /// The same over any store.
    ///
    /// # Errors
    /// As [`Signer::open`].
    pub fn start(
        store: Box<dyn Store>,
        secret: &Secret,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SignerError> {
        Self::begin(store, secret, options, clock, |_, _| Ok(Guard::default()))
    }

    /// The same, once `guard` has said how it may go on.
    pub(crate) fn begin(
        mut store: Box<dyn Store>,
        secret: &Secret,
        options: Options,
        clock: Arc<dyn Clock>,
        guard: impl FnOnce(&mut dyn Store, &mut Memory) -> Result<Guard, SignerError>,
    ) -> Result<Self, SignerError> {
        let mut memory = Memory::load(&*store, secret)?;
        let publisher = Publisher::resume(&*store, &mut memory, clock.now())?;
        let feed = publisher.tree.clone();
        let guard = guard(&mut *store, &mut memory)?;
        let read_only = guard.read_only.clone();
        let tally = Arc::new(Tally::default());
        let writer = Writer::start(store, memory, publisher, Arc::clone(&tally), Arc::clone(&clock), guard)?;
        Ok(Self { service: Service::new(writer, clock, options, tally, read_only), feed })
    }
}
