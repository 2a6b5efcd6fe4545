//! The newest published feed, as `tkverify refresh` has brought it to a folder. Nothing in the
//! folder is trusted: it is read by the state machine that every verifier uses.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tkcore::revocation::feed::{Config, Effect, Event, Machine, Moment, Stored, restore_plan};
use tkcore::revocation::{FeedPath, Head, KeyList, Position, RevocationSet, RootKeys};
use tkcore::{FeedId, Timestamp};

/// What was published, by signatures that hold.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) position: Position,
    pub(crate) set: RevocationSet,
    pub(crate) head: Head,
    /// Version, epoch and bytes of every key list that the root keys signed, ascending.
    pub(crate) lists: Vec<(u64, u64, Vec<u8>)>,
}

impl Published {
    /// The newest key list's version and epoch.
    pub(crate) fn newest_list(&self) -> (u64, u64) {
        self.lists.last().map_or((0, 0), |(version, epoch, _)| (*version, *epoch))
    }
}

/// Largest object read: a snapshot of some 75 million rows.
const OBJECT_BYTES: u64 = 1 << 30;

/// Reads a folder; `None` when there is no head in it.
///
/// # Errors
/// Why what lies there is no authentic feed of this signer.
pub(crate) fn read(
    folder: &Path,
    feed: FeedId,
    roots: &RootKeys,
    now: Timestamp,
) -> Result<Option<Published>, String> {
    let root = root(folder, feed);
    let wrong = |error: io::Error| format!("{}: {error}", root.display());
    let Some(head) = object(&root, "head").map_err(wrong)? else { return Ok(None) };
    let mut names = Vec::new();
    list(&root, "", &mut names).map_err(wrong)?;
    let mut lists = Vec::new();
    for name in &names {
        if let Some(FeedPath::KeyList { .. }) = FeedPath::from_text(name)
            && let Some(bytes) = object(&root, name).map_err(wrong)?
            && let Ok(list) = KeyList::verify(&bytes, feed, roots)
        {
            lists.push((list.version, list.epoch, bytes));
        }
    }
    lists.sort_unstable();
    let plan =
        restore_plan(&head, names.iter().map(String::as_str), None).map_err(|error| error.to_string())?;
    let plan = plan.ok_or("no unbroken way from a snapshot to the head: run `tkverify refresh` again")?;
    let read = |path: FeedPath| object(&root, &path.to_string()).map_err(wrong);
    let snapshot = plan.snapshot.map(read).transpose()?.flatten().map(Arc::new);
    let mut deltas = Vec::new();
    for path in plan.deltas {
        if let (FeedPath::Delta { span, .. }, Some(bytes)) = (path, read(path)?) {
            deltas.push((span, bytes));
        }
    }
    let moment = Moment { wall: now, monotonic: Duration::ZERO };
    let mut refused = "no key list that the root keys signed".to_owned();
    // A head may be the last one of the epoch before the newest list; it counts all the same.
    for until in (1..=lists.len()).rev() {
        let mut machine = Machine::new(Config::new(feed, roots.clone()));
        let key_lists = lists.iter().take(until).map(|(_, _, bytes)| bytes.clone()).collect();
        let (whole, deltas) = (Some(head.clone()), deltas.clone());
        let stored = Stored { floor: None, key_lists, head: whole, snapshot: snapshot.clone(), deltas };
        for effect in machine.load(stored, moment) {
            if let Effect::Report(Event::StoreRefused(why)) = effect {
                refused = why.to_string();
            }
        }
        if let (Some(set), Some(position)) = (machine.set(), machine.position()) {
            let set = set.clone();
            let head = Head::parse_unverified(&head).map_err(|error| error.to_string())?;
            return Ok(Some(Published { position, set, head, lists }));
        }
    }
    Err(format!("{}: {refused}", root.display()))
}

/// The head that lies in a folder; of whatever worth.
pub(crate) fn head(folder: &Path, feed: FeedId) -> Result<Head, String> {
    let head = object(&root(folder, feed), "head").map_err(|error| error.to_string())?;
    let head = Head::parse_unverified(&head.ok_or("there is no head")?).map_err(|error| error.to_string())?;
    if head.feed == feed { Ok(head) } else { Err("it is another feed's".to_owned()) }
}

/// Every object that lies in a folder, by its path; of whatever worth.
pub(crate) fn objects(folder: &Path, feed: FeedId) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let root = root(folder, feed);
    let mut names = Vec::new();
    list(&root, "", &mut names)?;
    // The head first: what it names is there, and stays until a later one is.
    let head = object(&root, "head")?;
    let mut objects = BTreeMap::new();
    for name in names {
        if FeedPath::from_text(&name).is_some_and(|path| path.is_immutable())
            && let Some(bytes) = object(&root, &name)?
        {
            objects.insert(name, bytes);
        }
    }
    objects.extend(head.map(|head| ("head".to_owned(), head)));
    Ok(objects)
}

/// A folder holds the objects themselves, or the tree that a web server serves.
fn root(folder: &Path, feed: FeedId) -> PathBuf {
    let served = folder.join("v1").join("feed").join(feed.to_string());
    if served.is_dir() { served } else { folder.to_owned() }
}

fn object(root: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    use io::Read as _;
    let file = match fs::File::open(root.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(OBJECT_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Names of all objects below a folder, at most as deep as the feed's tree is.
fn list(root: &Path, under: &str, names: &mut Vec<String>) -> io::Result<()> {
    let folder: PathBuf = root.join(under);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = if under.is_empty() { name } else { format!("{under}/{name}") };
        if !entry.file_type()?.is_dir() {
            names.push(name);
        } else if name.matches('/').count() < 2 {
            list(root, &name, names)?;
        }
    }
    Ok(())
}
