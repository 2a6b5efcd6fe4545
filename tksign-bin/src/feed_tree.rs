//! What is published, as served: the signed bytes under their paths, and a folder of the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Bytes;
use sha2::{Digest as _, Sha256};
use tkcore::FeedId;
use tkcore::protocol::FeedPosition;
use tkcore::revocation::{FeedPath, Head};
use tokio::sync::watch;

use crate::clock::monotonic;
use crate::codec::hex;
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

/// The tree of one feed; clones share it.
#[derive(Debug, Clone)]
pub struct FeedTree {
    feed: FeedId,
    objects: Arc<RwLock<BTreeMap<String, FeedObject>>>,
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

    /// Writes the tree to a folder, as any web server or bucket can serve it: data first, then
    /// key lists, the head last, each through a temporary file that is synced and renamed. A
    /// folder that holds a later head is left as it is. What neither this tree nor this head or the one
    /// before needs is removed when it has lain there for an hour: whoever began by an older head is done.
    ///
    /// # Errors
    /// The folder cannot be written, or holds the head of another feed or a later one.
    pub fn write_folder(&self, folder: &Path) -> io::Result<()> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner).clone();
        let root = std::path::absolute(folder)?.join("v1").join("feed").join(self.feed.to_string());
        create(&root)?;
        let head = objects.get("head").and_then(|head| Head::parse_unverified(&head.bytes).ok());
        let before = head.as_ref().map_or(Ok(None), |head| not_lower(&root, head))?;
        let mut sorted: Vec<_> = objects.iter().collect();
        sorted.sort_by_key(|(path, _)| FeedPath::from_text(path).map(|path| path.write_order()));
        for (path, object) in sorted {
            let target = root.join(path);
            if !(object.immutable && target.exists()) {
                write(&target, &object.bytes)?;
            }
        }
        if head.is_none() {
            return Ok(());
        }
        let is_needed = |path: &str| {
            let by_head = |path| [&head, &before].into_iter().flatten().any(|head| head.needs(&path));
            objects.contains_key(path)
                || FeedPath::from_text(path).map_or(!path.ends_with(TEMPORARY), by_head)
        };
        // The time of the head that was just written: by the clock that all files there have theirs of.
        let written = fs::metadata(root.join("head"))?.modified()?;
        let until = written.checked_sub(GRACE).unwrap_or(written);
        match remove(&root, &root, &is_needed, until) {
            // Another writer of the folder was faster; the next head looks again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// How long an object that is needed no more stays in a folder at least, from when it was written.
const GRACE: Duration = Duration::from_secs(3600);
/// How the name of a file ends that is not written yet.
const TEMPORARY: &str = ".tmp";

/// Removes what is not needed and was written before `until`.
fn remove(root: &Path, folder: &Path, is_needed: &dyn Fn(&str) -> bool, until: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        if entry.file_type()?.is_dir() {
            remove(root, &path, is_needed, until)?;
        } else if name.is_some_and(|name| !is_needed(name)) && entry.metadata()?.modified()? < until {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A folder is only ever moved forward: a signer that was restored or has lost its lease must
/// not take back what another has published.
fn not_lower(root: &Path, head: &Head) -> io::Result<Option<Head>> {
    let there = match fs::read(root.join("head")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // What does not read as a head was cut off by a crash of something else, and is replaced.
    let there = Head::parse_unverified(&there).ok();
    let rank = |head: &Head| (head.position, head.issued_at);
    if there.as_ref().is_some_and(|there| rank(there) > rank(head)) {
        return Err(io::Error::other("the folder holds a later head than this signer: not lowered"));
    }
    Ok(there)
}

fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = target.parent().ok_or_else(|| io::Error::other("a path without a folder"))?;
    create(folder)?;
    let temporary = target.with_extension(format!("{}{TEMPORARY}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, target)?;
    File::open(folder)?.sync_all()
}

/// A folder and what it lies in, so that their names outlive a power loss as the files' do.
fn create(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent().filter(|_| !folder.is_dir()) {
        create(above)?;
        fs::create_dir_all(folder)?;
        File::open(above)?.sync_all()?;
    }
    Ok(())
}
