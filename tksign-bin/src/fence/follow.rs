//! A follower: verifies and serves the feed from a copy that replication keeps up to date, and
//! changes nothing. Whoever carries the copy here writes the database; the follower takes a copy
//! of its own of each state that is whole, and goes on from that.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tkcore::protocol::ClientKey;
use tkcore::revocation::{FeedPath, Head};

use super::{Guard, ReadOnly, published};
use crate::clock::SystemClock;
use crate::feed_tree::FeedTree;
use crate::http::Authority;
use crate::memory::SignerError;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::service::{Options, Service};
use crate::signer::Signer;
use crate::store::{Sqlite, StoreError};
use crate::writer::Payload;

/// How often it is looked whether the copy has changed: as often as replication brings something.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// Where the follower's own copies lie, in its folder: two, in turn.
const COPIES: &str = "following";

/// Copies one database, whole and as of one moment.
pub(crate) type Copy = fn(&Path, &Path) -> Result<u64, String>;

/// A signer over the newest whole copy, and a mirror's feed.
pub(crate) struct Follower {
    current: RwLock<Service>,
    feed: FeedTree,
    from: PathBuf,
    mirror: Option<PathBuf>,
    secret: Secret,
    copy: Copy,
}

impl Follower {
    /// Opens the copy in a folder. The feed is served from `mirror`, where `tkverify refresh`
    /// keeps it: the signer stores no snapshots, and only the signer signs heads.
    ///
    /// # Errors
    /// There is none, or it is not whole yet.
    pub(crate) fn open(
        folder: &Path,
        mirror: Option<PathBuf>,
        secret: Secret,
        copy: Copy,
    ) -> Result<Self, SignerError> {
        let from = folder.to_owned();
        let service = read(&from, &secret, copy, 0)?;
        let feed = FeedTree::new(service.feed_id());
        let this = Self { current: RwLock::new(service), feed, from, mirror, secret, copy };
        this.show()?;
        Ok(this)
    }

    /// Takes in the copy as it is now, for the `number`-th time. One that is not whole is left:
    /// it is being written.
    pub(crate) fn renew(&self, number: u64) -> Result<(), SignerError> {
        let service = read(&self.from, &self.secret, self.copy, number)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = service;
        Ok(())
    }

    /// When the copy was last written.
    pub(crate) fn stamp(&self) -> Option<(SystemTime, u64)> {
        let data = fs::metadata(self.from.join(crate::store::DATABASE)).ok()?;
        Some((data.modified().ok()?, data.len()))
    }

    pub(crate) fn service(&self) -> Service {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) const fn feed(&self) -> &FeedTree {
        &self.feed
    }

    /// Serves what lies in the mirror's folder, when its head is another one: data first, then
    /// the head that names it, then without what it no longer names. Readers check all of it.
    pub(crate) fn show(&self) -> Result<(), SignerError> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let failed = |error| StoreError::Io(mirror.clone(), error);
        let mut objects = published::objects(mirror, self.feed.feed()).map_err(failed)?;
        let Some(head) = objects.remove("head") else { return Ok(()) };
        if self.feed.get("head").is_some_and(|there| *there.bytes == *head) {
            return Ok(());
        }
        let position =
            Head::parse_unverified(&head).map_err(|error| SignerError::Feed(error.to_string()))?.position;
        let paths = |path: &String| FeedPath::from_text(path);
        let gone: Vec<_> =
            self.feed.paths().iter().filter(|path| !objects.contains_key(*path)).filter_map(paths).collect();
        for (path, bytes) in objects {
            if let Some(path) = FeedPath::from_text(&path) {
                self.feed.put(&path, bytes);
            }
        }
        self.feed.announce(position, head);
        gone.iter().filter(|path| **path != FeedPath::Head).for_each(|path| self.feed.remove(path));
        Ok(())
    }
}

fn read(from: &Path, secret: &Secret, copy: Copy, number: u64) -> Result<Service, SignerError> {
    let folder = from.join(COPIES).join(if number.is_multiple_of(2) { "0" } else { "1" });
    let failed = |error| StoreError::Io(folder.clone(), error);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(failed)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    let database = crate::store::DATABASE;
    if !from.join(database).exists() {
        return Err(StoreError::Missing(from.to_owned()).into());
    }
    copy(&from.join(database), &folder.join(database)).map_err(StoreError::Damaged)?;
    let store = Box::new(Sqlite::open(&folder)?);
    let guard = Guard::held(ReadOnly::follower());
    let signer = Signer::begin(store, secret, Options::default(), Arc::new(SystemClock), |_, _| Ok(guard))?;
    Ok(signer.service)
}

impl Authority for Follower {
    fn knows(&self, client: &ClientKey) -> bool {
        Authority::knows(&self.service(), client)
    }

    async fn handle(&self, client: ClientKey, peer: Peer, request: &[u8]) -> Payload {
        self.service().handle(client, peer, request).await
    }
}
