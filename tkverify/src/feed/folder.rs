//! A feed in a folder: the served tree as files, so that the folder can be served in turn.
//!
//! One writer, held to it by a lock; any number of readers without locks. A file is written
//! under a temporary name, synced, renamed and its folder synced, and never changed in place,
//! so a reader sees it whole or not at all, and so does whoever comes after a power loss.
//! What a reader finds is checked like what came over the wire: the folder is not trusted.
//!
//! Every object lies there twice, so that no damage to one file loses the last good state
//! (RV-52, docs/decisions/0042). The second copy is written after the first and judged by the
//! same floor, so it can bring back nothing that the first one could not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::fetch::Sink;

/// Beside the objects: the writer's lock, the floor, evidence, and parts of downloads.
const LOCK: &str = ".lock";
const FLOOR: &str = ".floor";
const EVIDENCE: &str = ".evidence";
const PART: &str = ".part";
const TEMPORARY: &str = ".tmp-";
/// The second copy of every object.
const COPY: &str = ".copy";

/// Most pieces of evidence kept. Each shows that two histories were signed; the first ones
/// matter, and an attacker must not be able to fill the disk with more.
pub(crate) const EVIDENCE_FILES: usize = 16;

/// A folder that holds, or will hold, one feed's objects.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    floor: PathBuf,
}

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Folder {
    /// A folder that may not exist yet. The floor is kept at `floor`, or inside the folder.
    pub(crate) fn new(root: &Path, floor: Option<&Path>) -> Self {
        let floor = floor.map_or_else(|| root.join(FLOOR), Path::to_path_buf);
        Self { root: root.to_path_buf(), floor }
    }

    /// The second copy of the tree, under the same floor.
    pub(crate) fn copy(&self) -> Self {
        Self { root: self.root.join(COPY), floor: self.floor.clone() }
    }

    #[cfg(test)]
    fn root(&self) -> &Path {
        &self.root
    }

    /// The bytes of an object, `None` when it is not there.
    pub(crate) fn read(&self, object: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        read(&self.place(object)?, limit)
    }

    /// Changes whenever the object was replaced.
    pub(crate) fn stamp(&self, object: &str) -> io::Result<Option<Stamp>> {
        match fs::metadata(self.place(object)?) {
            Ok(data) => Ok(Some(Stamp {
                inode: data.ino(),
                length: data.len(),
                changed: (data.ctime(), data.ctime_nsec()),
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the floor file holds.
    pub(crate) fn read_floor(&self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        read(&self.floor, limit)
    }

    /// Names of the objects under a folder of the tree, without order; empty when it is absent.
    pub(crate) fn list(&self, under: &str) -> io::Result<Vec<String>> {
        let path = if under.is_empty() { self.root.clone() } else { self.place(under)? };
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string()
                && !name.starts_with('.')
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Becomes the one writer, creating the folder when it is absent; `None` while another
    /// process is the writer. The lock goes with the process, however it ends.
    pub(crate) fn writer(&self) -> io::Result<Option<Writer>> {
        fs::create_dir_all(&self.root)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(self.root.join(LOCK))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let writer = Writer { folder: self.clone(), lock };
        if !writer.is_in_place()? {
            // Deleted while it was being locked: the next one who asks finds or makes the new one.
            return Ok(None);
        }
        writer.sweep(&self.root, 0);
        Ok(Some(writer))
    }

    fn place(&self, object: &str) -> io::Result<PathBuf> {
        let plain = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if object.split('/').all(plain) {
            Ok(self.root.join(object))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a feed object"))
        }
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    // The length is only a hint for the buffer; the limit decides.
    let hint = file.metadata()?.len();
    let too_large = || io::Error::new(io::ErrorKind::InvalidData, "longer than the object may be");
    if hint > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(hint).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > limit) {
        return Err(too_large());
    }
    Ok(Some(bytes))
}

/// The one who may write.
#[derive(Debug)]
pub(crate) struct Writer {
    folder: Folder,
    /// Held until dropped.
    lock: File,
}

impl Writer {
    /// Whether the lock is still the one that lies in the folder. When somebody deleted the
    /// folder, it holds off nobody any more.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let held = self.lock.metadata()?;
        match fs::metadata(self.folder.root.join(LOCK)) {
            Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Puts an object in place, durably, and then its second copy. Each of them is there as it
    /// was before or whole.
    pub(crate) fn put(&self, object: &str, bytes: &[u8]) -> io::Result<()> {
        replace(&self.folder.place(object)?, bytes)?;
        replace(&self.folder.copy().place(object)?, bytes)
    }

    /// Makes the second copy of an object that was checked, when it is missing or shorter than
    /// the object: by a crash between the two, or since something else wrote the folder.
    pub(crate) fn complete_copy(&self, object: &str, limit: u64) -> io::Result<()> {
        let copy = self.folder.copy();
        let length = |folder: &Folder| folder.stamp(object).map(|stamp| stamp.map(|stamp| stamp.length));
        if length(&copy)? < length(&self.folder)?
            && let Some(bytes) = self.folder.read(object, limit)?
        {
            replace(&copy.place(object)?, &bytes)?;
        }
        Ok(())
    }

    /// Puts the floor in place.
    pub(crate) fn put_floor(&self, bytes: &[u8]) -> io::Result<()> {
        replace(&self.folder.floor, bytes)
    }

    /// Keeps evidence against the feed under `name`. The first [`EVIDENCE_FILES`] are kept.
    pub(crate) fn put_evidence(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.folder.place(name)?;
        let folder = self.folder.root.join(EVIDENCE);
        let path = folder.join(name);
        if path.exists() || fs::read_dir(&folder).map_or(0, Iterator::count) >= EVIDENCE_FILES {
            return Ok(());
        }
        replace(&path, bytes)
    }

    /// Removes an object that nothing names any more, and its second copy.
    pub(crate) fn remove(&self, object: &str) -> io::Result<()> {
        for folder in [&self.folder, &self.folder.copy()] {
            let path = folder.place(object)?;
            step();
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
            // A folder that is empty now goes too; one that is not stays, which is no error.
            if let Some(parent) = path.parent().filter(|parent| *parent != folder.root) {
                let _ = fs::remove_dir(parent);
                if let Some(epoch) = parent.parent().filter(|epoch| *epoch != folder.root) {
                    let _ = fs::remove_dir(epoch);
                }
            }
        }
        Ok(())
    }

    /// A download that can be taken up again after a break. Only one is kept: of another
    /// object, the part so far is thrown away.
    pub(crate) fn part(&self, object: &str) -> io::Result<Part> {
        self.folder.place(object)?;
        let path = self.folder.root.join(PART);
        let named = self.folder.root.join(format!("{PART}-{}", object.replace('/', "_")));
        for entry in fs::read_dir(&self.folder.root)? {
            let entry = entry?;
            let other = entry.path();
            if entry.file_name().to_string_lossy().starts_with(PART) && other != named && other != path {
                let _ = fs::remove_file(other);
            }
        }
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&named)?;
        let length = file.seek(io::SeekFrom::End(0))?;
        Ok(Part { file, length, path: named })
    }

    /// Removes what an interrupted writer left behind.
    fn sweep(&self, folder: &Path, depth: u8) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(TEMPORARY) {
                let _ = fs::remove_file(entry.path());
            } else if depth < 3 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.sweep(&entry.path(), depth.saturating_add(1));
            }
        }
    }
}

/// A download under way, on disk.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    length: u64,
    path: PathBuf,
}

impl Part {
    /// Bytes that are there already. After a power loss they may be any: whoever finishes the
    /// download checks its digest and throws the part away when it is wrong.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// All bytes so far.
    pub(crate) fn bytes(&self, limit: u64) -> io::Result<Vec<u8>> {
        Ok(read(&self.path, limit)?.unwrap_or_default())
    }

    /// The object is in place or of no use: the part goes.
    pub(crate) fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Sink for Part {
    fn start(&mut self, offset: u64, _total: Option<u64>) -> io::Result<()> {
        step();
        self.file.set_len(offset)?;
        self.length = self.file.seek(io::SeekFrom::Start(offset))?;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        step();
        self.file.write_all(bytes)?;
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

/// Temporary file, sync, rename, sync of the folder.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    make_folder(folder)?;
    let temporary = folder.join(format!("{TEMPORARY}{}", name.to_string_lossy()));
    let written = (|| {
        step();
        let mut file = File::create(&temporary)?;
        let (first, second) = bytes.split_at_checked(bytes.len() / 2).unwrap_or((bytes, &[]));
        step();
        file.write_all(first)?;
        step();
        file.write_all(second)?;
        step();
        file.sync_all()?;
        step();
        fs::rename(&temporary, path)
    })();
    if let Err(e) = written {
        // A full disk is helped by giving the room back at once.
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    step();
    File::open(folder)?.sync_all()?;
    step();
    Ok(())
}

/// Makes a folder and those above it; each one's entry is synced in its parent.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
        match fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Ok(()) | Err(_) => {}
        }
        step();
        if !parent.as_os_str().is_empty() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

/// Where a test may kill the process: before and after every change of the disk.
#[cfg(not(test))]
const fn step() {}

#[cfg(test)]
pub(crate) use crash::step;

/// Kills the test's own process at the write step that `CRASH_AT` names.
#[cfg(test)]
mod crash {
    use std::sync::atomic::{AtomicU64, Ordering};

    static STEPS: AtomicU64 = AtomicU64::new(0);

    pub(crate) fn step() {
        let at = STEPS.fetch_add(1, Ordering::SeqCst);
        if std::env::var("CRASH_AT").is_ok_and(|text| text.parse() == Ok(at)) {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::TempDir;

    use super::*;

    fn folder(dir: &TempDir) -> Folder {
        Folder::new(&dir.join("feed"), None)
    }

    #[test]
    fn what_is_put_is_read_and_replaced_whole() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        assert_eq!(folder.read("head", 10).unwrap(), None);
        let writer = folder.writer().unwrap().unwrap();
        writer.put("head", b"one").unwrap();
        writer.put("7/delta/12", b"data").unwrap();
        assert_eq!(folder.read("head", 10).unwrap().unwrap(), b"one");
        assert_eq!(folder.read("7/delta/12", 4).unwrap().unwrap(), b"data");
        let before = folder.stamp("head").unwrap();
        writer.put("head", b"two").unwrap();
        assert_ne!(folder.stamp("head").unwrap(), before);
        assert_eq!(folder.read("head", 10).unwrap().unwrap(), b"two");
        assert_eq!(folder.list("7/delta").unwrap(), ["12"]);
        assert_eq!(folder.list("").unwrap().len(), 2);
        writer.remove("7/delta/12").unwrap();
        writer.remove("7/delta/12").unwrap();
        assert_eq!(folder.list("").unwrap(), ["head"]);
    }

    #[test]
    fn a_file_past_its_limit_is_an_error_and_not_cut() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        folder.writer().unwrap().unwrap().put("head", b"12345").unwrap();
        assert_eq!(folder.read("head", 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        for name in ["", "/etc/passwd", "../x", "a//b", "a/../b", ".lock", "A", "a b"] {
            assert!(folder.read(name, 10).is_err(), "{name}");
        }
    }

    #[test]
    fn there_is_one_writer() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        let writer = folder.writer().unwrap();
        assert!(writer.is_some());
        assert!(folder.writer().unwrap().is_none());
        drop(writer);
        assert!(folder.writer().unwrap().is_some());
    }

    #[test]
    fn a_lock_ends_with_its_folder() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        let writer = folder.writer().unwrap().unwrap();
        assert!(writer.is_in_place().unwrap());
        fs::remove_dir_all(folder.root()).unwrap();
        assert!(!writer.is_in_place().unwrap());
        let next = folder.writer().unwrap().unwrap();
        assert!(next.is_in_place().unwrap() && !writer.is_in_place().unwrap());
    }

    #[test]
    fn the_next_writer_sweeps_up() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        folder.writer().unwrap().unwrap().put("1/delta/1", b"x").unwrap();
        fs::write(folder.root().join("1/delta/.tmp-2"), b"half").unwrap();
        fs::write(folder.root().join(".tmp-head"), b"half").unwrap();
        drop(folder.writer().unwrap().unwrap());
        assert!(!folder.root().join("1/delta/.tmp-2").exists());
        assert!(!folder.root().join(".tmp-head").exists());
        assert!(folder.root().join("1/delta/1").exists());
        fs::write(folder.root().join(".copy/1/delta/.tmp-1"), b"half").unwrap();
        drop(folder.writer().unwrap().unwrap());
        assert!(!folder.root().join(".copy/1/delta/.tmp-1").exists());
    }

    /// RV-52
    #[test]
    fn every_object_lies_there_twice_and_the_second_copy_is_made_good() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        let writer = folder.writer().unwrap().unwrap();
        writer.put("1/delta/1", b"delta").unwrap();
        assert_eq!(folder.copy().read("1/delta/1", 10).unwrap().unwrap(), b"delta");
        let copy = folder.root().join(".copy/1/delta/1");
        for damage in [&b""[..], b"del"] {
            fs::write(&copy, damage).unwrap();
            writer.complete_copy("1/delta/1", 10).unwrap();
            assert_eq!(fs::read(&copy).unwrap(), b"delta");
        }
        fs::remove_file(&copy).unwrap();
        writer.complete_copy("1/delta/1", 10).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"delta");
        // A first copy that was cut off never replaces a whole second one.
        fs::write(folder.root().join("1/delta/1"), b"d").unwrap();
        writer.complete_copy("1/delta/1", 10).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"delta");
        writer.remove("1/delta/1").unwrap();
        assert!(!folder.root().join("1").exists() && !folder.root().join(".copy/1").exists());
    }

    #[test]
    fn the_floor_may_live_elsewhere() {
        let dir = TempDir::new();
        let floor = dir.join("state/floor");
        let folder = Folder::new(&dir.join("feed"), Some(&floor));
        let writer = folder.writer().unwrap().unwrap();
        assert_eq!(folder.read_floor(10).unwrap(), None);
        writer.put_floor(b"f").unwrap();
        drop(writer);
        fs::remove_dir_all(folder.root()).unwrap();
        assert_eq!(folder.read_floor(10).unwrap().unwrap(), b"f");
    }

    #[test]
    fn evidence_is_kept_up_to_a_bound_and_never_replaced() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        let writer = folder.writer().unwrap().unwrap();
        for n in 0..EVIDENCE_FILES + 3 {
            writer.put_evidence(&format!("head-{n}"), b"first").unwrap();
        }
        writer.put_evidence("head-0", b"second").unwrap();
        assert_eq!(fs::read_dir(folder.root().join(EVIDENCE)).unwrap().count(), EVIDENCE_FILES);
        assert_eq!(fs::read(folder.root().join(EVIDENCE).join("head-0")).unwrap(), b"first");
    }

    #[test]
    fn a_part_is_taken_up_again_and_gives_way_to_another() {
        let dir = TempDir::new();
        let folder = folder(&dir);
        let writer = folder.writer().unwrap().unwrap();
        let mut part = writer.part("1/snapshot/5-ab").unwrap();
        part.start(0, None).unwrap();
        part.data(b"hello").unwrap();
        drop(part);
        let mut part = writer.part("1/snapshot/5-ab").unwrap();
        assert_eq!(part.length(), 5);
        part.start(5, Some(8)).unwrap();
        part.data(b"you").unwrap();
        assert_eq!(part.bytes(100).unwrap(), b"helloyou");
        part.start(0, None).unwrap();
        assert_eq!(part.length(), 0);
        part.data(b"again").unwrap();
        drop(part);
        let other = writer.part("1/snapshot/6-cd").unwrap();
        assert_eq!(other.length(), 0);
        other.discard();
        assert_eq!(writer.part("1/snapshot/5-ab").unwrap().length(), 0);
    }
}
