//! Power losses and broken disks under a real program: a preloaded library writes down what the
//! program does to the files of one folder ([`Disk`]), and [`Record::cut`] makes of it what a disk
//! may hold when the power goes at any point.
//!
//! What is believed of a disk: what was synced is there; of everything else each sector of 512
//! bytes may be there or not, whatever the order it was written in. Creations, renames and
//! removals happen in order, and any number of the last ones may be missing until the folder was
//! synced. A sync that failed leaves each of its sectors written or not, and no later sync mends
//! that: the kernel has marked them clean.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest piece that a disk writes whole.
const SECTOR: usize = 512;

/// The preloaded library, built by the system's C compiler when a test first needs it.
///
/// # Panics
/// When there is no C compiler: SQLite could not have been built either.
#[must_use]
pub fn library() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/disk.c");
        let to = std::env::temp_dir().join(format!("tk-disk-{}.so", std::process::id()));
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&to, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        to
    })
}

/// The disk below one folder, as a program started with [`Disk::environment`] sees it.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    log: PathBuf,
    rules: PathBuf,
    /// Files and their bytes when the recording began.
    first: Files,
}

type Files = BTreeMap<String, (u64, Vec<u8>)>;

/// What the disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What it should.
    Ok,
    /// `ENOSPC` for every write that makes a file longer.
    Full,
    /// `ENOSPC` for every write, as of a file system that writes elsewhere what it writes again.
    NoSpace,
    /// `EIO` for every write.
    WritesFail,
    /// `EIO` for every sync.
    SyncsFail,
    /// `EIO` for every write to a database beyond its first page: its log cannot be moved into it.
    PagesFail,
    /// Every write is made by half.
    Short,
}

impl Disk {
    /// Begins with the folder's files as they are; `beside` is where record and rules are kept.
    ///
    /// # Panics
    /// When the folder cannot be read.
    #[must_use]
    pub fn new(root: &Path, beside: &Path) -> Self {
        let mut first = Files::new();
        for entry in fs::read_dir(root).expect("the folder is there").flatten() {
            let data = entry.metadata().expect("its files are, too");
            if data.is_file() {
                let name = entry.file_name().into_string().expect("names are UTF-8");
                first.insert(name, (data.ino(), fs::read(entry.path()).expect("a file")));
            }
        }
        let root = root.canonicalize().expect("the folder is there");
        Self { root, log: beside.join("disk.log"), rules: beside.join("disk.rules"), first }
    }

    /// What the program is started with.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("test folders are UTF-8").to_owned();
        [
            ("LD_PRELOAD", text(library())),
            ("TK_DISK_ROOT", text(&self.root)),
            ("TK_DISK_LOG", text(&self.log)),
            ("TK_DISK_RULES", text(&self.rules)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// From now on the disk does this.
    ///
    /// # Panics
    /// When the rule cannot be written.
    pub fn rule(&self, rule: Rule) {
        self.rule_after(rule, 0, 0);
    }

    /// The same after so many writes, or syncs, that succeed, and for so many; 0: until another rule.
    ///
    /// # Panics
    /// When the rule cannot be written.
    pub fn rule_after(&self, rule: Rule, after: usize, count: usize) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let word = match rule {
            Rule::Ok => "ok",
            Rule::Full => "full",
            Rule::NoSpace => "no-space",
            Rule::WritesFail => "eio-write",
            Rule::SyncsFail => "eio-sync",
            Rule::PagesFail => "eio-pages",
            Rule::Short => "short",
        };
        // A rule that is given twice counts anew.
        let line = format!("{word} {after} {count} {}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let part = self.rules.with_extension("part");
        fs::write(&part, line).and_then(|()| fs::rename(&part, &self.rules)).expect("a rule is written");
    }

    /// Says something at this point of the record: what somebody has been told by now.
    ///
    /// # Panics
    /// When the record cannot be written.
    pub fn mark(&self, what: &str) {
        let mut record = vec![b'a'];
        record.extend_from_slice(&[0; 16]);
        record.extend_from_slice(&u32::try_from(what.len()).unwrap_or(0).to_le_bytes());
        record.extend_from_slice(what.as_bytes());
        let log = fs::OpenOptions::new().append(true).create(true).open(&self.log);
        log.and_then(|mut log| log.write_all(&record)).expect("the record is written");
    }

    /// The record so far.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn record(&self) -> Record {
        let bytes = fs::read(&self.log).expect("the program has written a record");
        let mut events = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, more)) = rest.split_first_chunk::<21>() {
            let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
            let len = u32::from_le_bytes(head[17..21].try_into().expect("4 bytes")) as usize;
            let Some((bytes, more)) = more.split_at_checked(len) else { break };
            events.push(Event { kind: head[0], file: number(1), offset: number(9), bytes: bytes.to_vec() });
            rest = more;
        }
        Record { root: self.root.clone(), first: self.first.clone(), events }
    }
}

/// Everything that was done, in order.
#[derive(Debug, Clone)]
pub struct Record {
    root: PathBuf,
    first: Files,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
struct Event {
    kind: u8,
    file: u64,
    offset: u64,
    bytes: Vec<u8>,
}

/// One file while the record is replayed.
#[derive(Debug, Clone, Default)]
struct State {
    durable: Vec<u8>,
    /// Since the last sync: bytes at an offset, or a new length.
    pending: Vec<(u64, Option<Vec<u8>>)>,
}

/// A change of names that no sync of the folder has covered.
#[derive(Debug, Clone)]
enum Naming {
    Made(String, u64),
    Moved(String, String),
    Gone(String),
}

impl Record {
    /// How many points it can be cut at.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many syncs of files there are in it.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.events.iter().filter(|event| event.kind == b's').count()
    }

    /// The points right after a write to a file that was there when the recording began.
    #[must_use]
    pub fn writes_to(&self, name: &str) -> Vec<usize> {
        let Some((file, _)) = self.first.get(name) else { return Vec::new() };
        let numbered = self.events.iter().enumerate();
        numbered
            .filter(|(_, event)| event.kind == b'w' && event.file == *file)
            .map(|(at, _)| at + 1)
            .collect()
    }

    /// The same with every sync of files whose name ends so left out: what a program that does
    /// not sync would have done.
    #[must_use]
    pub fn without_syncs_of(&self, suffix: &str) -> Self {
        let is_left_out = |event: &Event| event.kind == b's' && event.bytes.ends_with(suffix.as_bytes());
        let events = self.events.iter().filter(|event| !is_left_out(event)).cloned().collect();
        Self { root: self.root.clone(), first: self.first.clone(), events }
    }

    /// What was said before this point.
    pub fn marks(&self, until: usize) -> impl Iterator<Item = &str> {
        let said = self.events.iter().take(until).filter(|event| event.kind == b'a');
        said.map(|event| std::str::from_utf8(&event.bytes).unwrap_or(""))
    }

    /// Writes into `to` what a disk may hold when the power goes after `until` events; `random`
    /// decides about all that was not synced.
    ///
    /// # Panics
    /// When `to` cannot be written.
    pub fn cut(&self, until: usize, random: &mut Random, to: &Path) {
        let mut files: BTreeMap<u64, State> = BTreeMap::new();
        let mut names: BTreeMap<String, u64> = BTreeMap::new();
        for (name, (inode, bytes)) in &self.first {
            names.insert(name.clone(), *inode);
            files.insert(*inode, State { durable: bytes.clone(), pending: Vec::new() });
        }
        let mut naming: Vec<Naming> = Vec::new();
        for event in self.events.iter().take(until) {
            let text = String::from_utf8_lossy(&event.bytes).into_owned();
            match event.kind {
                b'w' => files
                    .entry(event.file)
                    .or_default()
                    .pending
                    .push((event.offset, Some(event.bytes.clone()))),
                b't' => files.entry(event.file).or_default().pending.push((event.offset, None)),
                b's' => files.entry(event.file).or_default().sync(),
                b'x' => files.entry(event.file).or_default().lose(random),
                b'c' => {
                    // An inode that is used again is another file.
                    files.insert(event.file, State::default());
                    naming.push(Naming::Made(self.name(&text), event.file));
                }
                b'r' => {
                    let (from, to) = text.split_once('\0').unwrap_or((&text, ""));
                    naming.push(Naming::Moved(self.name(from), self.name(to)));
                }
                b'u' => naming.push(Naming::Gone(self.name(&text))),
                b'd' => naming.drain(..).for_each(|change| apply(&mut names, change)),
                _ => {}
            }
        }
        let kept = random.below(naming.len() + 1);
        naming.into_iter().take(kept).for_each(|change| apply(&mut names, change));
        for (name, inode) in names {
            let mut state = files.get(&inode).cloned().unwrap_or_default();
            state.lose(random);
            fs::write(to.join(name), state.durable).expect("a cut is written");
        }
    }

    fn name(&self, path: &str) -> String {
        let below = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(path));
        below.to_str().unwrap_or_default().to_owned()
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: Naming) {
    match change {
        Naming::Made(name, inode) => {
            names.insert(name, inode);
        }
        Naming::Moved(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
        Naming::Gone(name) => {
            names.remove(&name);
        }
    }
}

impl State {
    fn sync(&mut self) {
        for (offset, change) in std::mem::take(&mut self.pending) {
            match change {
                Some(bytes) => put(&mut self.durable, offset, &bytes),
                None => self.durable.resize(usize::try_from(offset).unwrap_or(0), 0),
            }
        }
    }

    /// Keeps each sector that was not synced, or does not.
    fn lose(&mut self, random: &mut Random) {
        // Now and then all or nothing, as when the kernel has just written everything back.
        let odds = [0, 1, 2, 2, 2, 3, 4][random.below(7)];
        for (offset, change) in std::mem::take(&mut self.pending) {
            match change {
                None if random.below(4) < odds => {
                    self.durable.resize(usize::try_from(offset).unwrap_or(0), 0);
                }
                None => {}
                Some(bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let place = usize::try_from(offset).unwrap_or(0) + at;
                        let end = (at + SECTOR - place % SECTOR).min(bytes.len());
                        if random.below(4) < odds {
                            put(&mut self.durable, place as u64, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize::try_from(offset).unwrap_or(0);
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

/// Repeatable randomness: the same seed makes the same run (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; 0 is as good as any other.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next_u64() >> 11) % end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TempDir;

    fn event(kind: u8, file: u64, offset: u64, bytes: &[u8]) -> Event {
        Event { kind, file, offset, bytes: bytes.to_vec() }
    }

    fn record(events: Vec<Event>) -> Record {
        let first = [("f".to_owned(), (7, vec![b'o'; 2048]))].into();
        Record { root: "/root".into(), first, events }
    }

    fn outcomes(record: &Record) -> std::collections::BTreeSet<Vec<u8>> {
        let dir = TempDir::new();
        let mut random = Random::new(1);
        (0..200)
            .map(|_| {
                record.cut(record.len(), &mut random, dir.path());
                fs::read(dir.join("f")).unwrap()
            })
            .collect()
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_by_sectors() {
        let write = event(b'w', 7, 512, &[b'n'; 1024]);
        let synced = record(vec![write.clone(), event(b's', 7, 0, b"/root/f")]);
        let all = outcomes(&synced);
        assert_eq!(all.len(), 1);
        assert_eq!(all.first().unwrap()[512..1536], [b'n'; 1024]);
        // Two sectors, each there or not.
        assert_eq!(outcomes(&record(vec![write.clone()])).len(), 4);
        assert_eq!(outcomes(&synced.without_syncs_of("f")).len(), 4);
        // A sync after a failed one mends nothing; writing again does.
        let failed = event(b'x', 7, 0, b"/root/f");
        let sync = event(b's', 7, 0, b"/root/f");
        assert_eq!(outcomes(&record(vec![write.clone(), failed.clone(), sync.clone()])).len(), 4);
        assert_eq!(outcomes(&record(vec![write.clone(), failed, write, sync])).len(), 1);
    }

    #[test]
    fn names_change_in_order_and_for_good_when_the_folder_was_synced() {
        let made = event(b'c', 8, 0, b"/root/g");
        let moved = event(b'r', 0, 0, b"/root/g\0/root/f");
        let (dir, mut random) = (TempDir::new(), Random::new(2));
        let mut seen = std::collections::BTreeSet::new();
        for synced in [false, true] {
            let mut events =
                vec![made.clone(), event(b'w', 8, 0, b"x"), event(b's', 8, 0, b"/root/g"), moved.clone()];
            if synced {
                events.push(event(b'd', 1, 0, b"/root"));
            }
            let record = record(events);
            for _ in 0..50 {
                for name in ["f", "g"] {
                    let _ = fs::remove_file(dir.join(name));
                }
                record.cut(record.len(), &mut random, dir.path());
                let f = fs::read(dir.join("f")).unwrap();
                seen.insert((synced, f.len(), dir.join("g").exists()));
            }
        }
        let all = [(false, 1, false), (false, 2048, false), (false, 2048, true), (true, 1, false)];
        assert_eq!(seen, all.into());
    }
}
