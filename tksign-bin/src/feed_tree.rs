//! What is published, as served: the signed bytes under their paths, and a folder of the same.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tkcore::FeedId;
use tkcore::protocol::FeedPosition;
use tkcore::revocation::FeedPath;
use tokio::sync::watch;

use crate::clock::monotonic;
use crate::codec::hex;
use crate::host;
use crate::publish::HEARTBEAT;

/// One object of the tree.
#[derive(Debug, Clone)]
pub struct FeedObject {
    /// Its exact bytes.
    pub bytes: Bytes,
    /// A strong entity tag (RFC 9110, section 8.8.3), its quotes included.
    pub etag: String,
    /// Whether it never changes under its path.
    pub immutable: bool,
}

/// Objects by their paths below the feed's folder.
pub(crate) type Objects = BTreeMap<String, FeedObject>;

/// The tree of one feed; clones share it.
#[derive(Debug, Clone)]
pub struct FeedTree {
    feed: FeedId,
    objects: Arc<RwLock<Objects>>,
    head: watch::Sender<FeedPosition>,
    /// When the last head was announced.
    beat: Arc<RwLock<Option<Instant>>>,
}

impl FeedTree {
    pub(crate) fn new(feed: FeedId) -> Self {
        let nowhere = FeedPosition { epoch: 0, sequence: 0 };
        Self { feed, objects: Arc::default(), head: watch::Sender::new(nowhere), beat: Arc::default() }
    }

    /// Whose feed it is; paths begin with `/v1/feed/<feed id>/`.
    #[must_use]
    pub const fn feed(&self) -> FeedId {
        self.feed
    }

    /// The object at a path below the feed's folder.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<FeedObject> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The position of the head, marked as changed by every new head, heartbeats included.
    /// Epoch 0 until there is one.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<FeedPosition> {
        self.head.subscribe()
    }

    #[cfg(test)]
    pub(crate) fn forget_beat(&self) {
        *self.beat.write().unwrap() = None;
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.head.receiver_count()
    }

    pub(crate) fn put(&self, path: &FeedPath, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let hash: [u8; 32] = Sha256::digest(&bytes).into();
        let (tag, _) = hash.split_at(16);
        let object = FeedObject { etag: format!("\"{}\"", hex(tag)), immutable: path.is_immutable(), bytes };
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(path.to_string(), object);
    }

    pub(crate) fn remove(&self, path: &FeedPath) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&path.to_string());
    }

    /// Serves a new head, and wakes those who wait for one. All that it names is there already.
    pub(crate) fn announce(&self, position: FeedPosition, head: Vec<u8>) {
        self.put(&FeedPath::Head, head);
        *self.beat.write().unwrap_or_else(PoisonError::into_inner) = Some(monotonic());
        self.head.send_replace(position);
    }

    /// Why the feed does not do its work at `now`, if it does not: whoever reads it would grow
    /// stale, for want of a publication key, of disk space, of a clock.
    pub(crate) fn not_ready(&self, now: Instant) -> Option<&'static str> {
        let Some(beat) = *self.beat.read().unwrap_or_else(PoisonError::into_inner) else {
            return Some("no head was signed yet\n");
        };
        let late = now.saturating_duration_since(beat) > HEARTBEAT.saturating_mul(3);
        late.then_some("heads are no longer signed; see the log and `tksign doctor`\n")
    }

    /// Writes the tree to a folder, as any web server or bucket can serve it.
    ///
    /// # Errors
    /// The folder cannot be written, or holds the head of another feed or a later one.
    pub fn write_folder(&self, folder: &Path) -> io::Result<()> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner).clone();
        host::write_folder(folder, self.feed, &objects)
    }
}
