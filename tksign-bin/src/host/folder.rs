//! The folder that is published: bytes that are signed and public, in the order in which they may be read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tkcore::FeedId;
use tkcore::revocation::{FeedPath, Head};

use crate::feed_tree::Objects;

/// Writes data first, then key lists, the head last, each through a temporary file that is synced and
/// renamed. A folder that holds a later head is left as it is. What neither these objects nor this
/// head or the one before needs is removed when it was written an hour ago. The hour counts from the
/// writing: whoever began by an older head may find something old gone, and takes the newest head.
pub(crate) fn write_folder(folder: &Path, feed: FeedId, objects: &Objects) -> io::Result<()> {
    let root = std::path::absolute(folder)?.join("v1").join("feed").join(feed.to_string());
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
        objects.contains_key(path) || FeedPath::from_text(path).map_or(!path.ends_with(TEMPORARY), by_head)
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
