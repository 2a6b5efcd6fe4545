//! The high-water file: what a restored database cannot know, kept outside of it.
//!
//! It says how far the feed was published, how long the audit chain was, and which clients were
//! live. It is written after the commit that it tells of, so an ordinary crash never makes the
//! database look behind, and before anybody hears of it: before a head is served, and before a
//! change of a client is acknowledged. One write of one block and one `fdatasync` a head (at
//! most 40 a second, beside two commits each) is what that costs; a revocation in between waits
//! for no more than its own commit.
//!
//! Two slots are written in turn, in place, so that a write that is cut off leaves the other
//! one, and a full disk does not matter. A tag under a key of the store makes a slot of another
//! store, or a changed one, none.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tkcore::Timestamp;
use tkcore::protocol::{AuditHead, ClientInfo, ClientState, FeedPosition, Role};
use tkcore::revocation::Position;

use crate::codec::{BadRecord, Reader, count, length};
use crate::keys::Core;
use crate::memory::{Memory, SignerError};
use crate::store::{Store, StoreError};

/// Its name in the state folder. A symbolic link may put it on another disk.
pub(crate) const FILE: &str = "high-water";

/// Where it is; each signer of a cluster has its own, by its name.
pub(crate) fn of(folder: &Path, store: &dyn Store) -> PathBuf {
    match str::from_utf8(store.name()) {
        Ok("") | Err(_) => folder.join(FILE),
        Ok(name) => folder.join(format!("{FILE}-{name}")),
    }
}

/// First bytes of a slot; the last is the version's digit.
const MAGIC: [u8; 4] = *b"tkW1";
/// Room of a slot: [`CLIENTS`] of 17 bytes each, and the rest.
const SLOT: usize = 1 << 20;
/// Clients that are noted; those past it count as not live, which a restore suspends.
const CLIENTS: usize = 50_000;

/// What is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The highest epoch and sequence that was published.
    pub(crate) position: Position,
    /// The newest key list's version, and its epoch.
    pub(crate) key_list: u64,
    pub(crate) epoch: u64,
    pub(crate) audit: AuditHead,
    /// Keyed hashes of the live clients' records, and whether one is a `verify` client.
    pub(crate) clients: BTreeMap<[u8; 16], bool>,
}

impl Mark {
    /// What is so now.
    pub(crate) fn of(memory: &Memory) -> Self {
        let FeedPosition { epoch, sequence } = memory.position;
        let live = memory.clients.values().filter(|client| client.state == ClientState::Active);
        let clients = live.map(|client| (alias(&memory.core, client), is_verifier(client)));
        Self {
            position: Position { epoch, sequence },
            key_list: memory.key_list.list.version,
            epoch: memory.key_list.list.epoch,
            audit: memory.audit,
            clients: clients.take(CLIENTS).collect(),
        }
    }

    /// Whether this very client, with this role, was live.
    pub(crate) fn lists(&self, core: &Core, client: &ClientInfo) -> bool {
        self.clients.contains_key(&alias(core, client))
    }

    fn encode(&self, core: &Core, number: u64) -> Vec<u8> {
        let Position { epoch, sequence } = self.position;
        let numbers = [number, epoch, sequence, self.key_list, self.epoch, self.audit.lines];
        let numbers = numbers.map(u64::to_be_bytes);
        let mut bytes = [&MAGIC, numbers.as_flattened(), &self.audit.hash].concat();
        bytes.extend_from_slice(&count(self.clients.len()).to_be_bytes());
        for (alias, verifies) in &self.clients {
            bytes.extend_from_slice(alias);
            bytes.push(u8::from(*verifies));
        }
        let tag = core.tag(&[b"high-water", &bytes]);
        [&length(&bytes), &bytes[..], &tag].concat()
    }

    fn decode(core: &Core, slot: &[u8]) -> Result<(u64, Self), BadRecord> {
        let mut outer = Reader::new(slot);
        let bytes = outer.bytes()?;
        if core.tag(&[b"high-water", bytes]) != outer.array()? {
            return Err(BadRecord("tag"));
        }
        let mut from = Reader::new(bytes);
        if from.array()? != MAGIC {
            return Err(BadRecord("not a high-water file"));
        }
        let number = from.u64()?;
        let position = Position { epoch: from.u64()?, sequence: from.u64()? };
        let (key_list, epoch) = (from.u64()?, from.u64()?);
        let audit = AuditHead { lines: from.u64()?, hash: from.array()? };
        let mut clients = BTreeMap::new();
        for _ in 0..from.u64()? {
            clients.insert(from.array()?, from.u8()? == 1);
        }
        from.finish()?;
        Ok((number, Self { position, key_list, epoch, audit, clients }))
    }
}

fn is_verifier(client: &ClientInfo) -> bool {
    matches!(client.role, Role::Verify(_))
}

/// Names a client's record, its role and expiry included, to whoever holds the store's keys.
fn alias(core: &Core, client: &ClientInfo) -> [u8; 16] {
    let active = ClientInfo { state: ClientState::Active, added: Timestamp::EPOCH, ..client.clone() };
    core.lookup("high-water", &[&active.encode().unwrap_or_default()])
}

/// The file, open.
pub(crate) struct HighWater {
    file: File,
    path: PathBuf,
    core: Arc<Core>,
    number: u64,
}

/// What lies where the file should be.
pub(crate) enum Found {
    Absent,
    /// It is there and neither slot reads: cut off, changed, or another store's.
    Unreadable,
    Mark(Mark),
}

impl HighWater {
    /// Reads the file at [`of`], without making one.
    pub(crate) fn find(path: &Path, core: &Core) -> Result<Found, SignerError> {
        let mut options = OpenOptions::new();
        match options.read(true).open(path) {
            Ok(file) => {
                let newest = newest(&file, core).map_err(failed(path))?;
                Ok(newest.map_or(Found::Unreadable, |(_, mark)| Found::Mark(mark)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Absent),
            Err(error) => Err(failed(path)(error)),
        }
    }

    /// Opens it for writing, and makes it when it is not there.
    pub(crate) fn open(path: PathBuf, memory: &Memory) -> Result<Self, SignerError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed(&path))?;
        let number = newest(&file, &memory.core).map_err(failed(&path))?.map_or(0, |(number, _)| number);
        let mut this = Self { file, path, core: Arc::clone(&memory.core), number };
        // Both slots: their blocks are there from now on, and neither says anything older.
        this.note(memory)?;
        this.note(memory)?;
        let real = std::fs::canonicalize(&this.path).map_err(failed(&this.path))?;
        let parent = File::open(real.parent().unwrap_or(&real)).and_then(|folder| folder.sync_all());
        parent.map_err(failed(&this.path))?;
        Ok(this)
    }

    /// Notes what is so now; durable when it returns.
    pub(crate) fn note(&mut self, memory: &Memory) -> Result<(), SignerError> {
        let number = self.number.saturating_add(1);
        let bytes = Mark::of(memory).encode(&self.core, number);
        let written = self.file.write_all_at(&bytes, place(number)).and_then(|()| self.file.sync_data());
        written.map_err(failed(&self.path))?;
        self.number = number;
        Ok(())
    }
}

fn place(number: u64) -> u64 {
    if number.is_multiple_of(2) { 0 } else { count(SLOT) }
}

fn newest(file: &File, core: &Core) -> io::Result<Option<(u64, Mark)>> {
    let mut best: Option<(u64, Mark)> = None;
    for at in [0, 1] {
        let mut slot = vec![0; SLOT];
        let mut len = 0usize;
        while let Some(rest) = slot.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, place(at).saturating_add(count(len)))? {
                0 => break,
                more => len = len.saturating_add(more),
            }
        }
        slot.truncate(len);
        if let Ok(found) = Mark::decode(core, &slot)
            && best.as_ref().is_none_or(|(number, _)| found.0 > *number)
        {
            best = Some(found);
        }
    }
    Ok(best)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SignerError {
    let path = path.to_owned();
    move |error| StoreError::Io(path, error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u64, clients: usize) -> Mark {
        let alias = |n: usize| {
            let mut alias = [0; 16];
            alias[..8].copy_from_slice(&(n as u64).to_be_bytes());
            alias
        };
        Mark {
            position: Position { epoch: 2, sequence },
            key_list: 3,
            epoch: 2,
            audit: AuditHead { lines: 9, hash: [4; 32] },
            clients: (0..clients).map(|n| (alias(n), n % 2 == 0)).collect(),
        }
    }

    #[test]
    fn a_slot_reads_back_and_any_change_makes_it_none() {
        let core = Core::generate();
        let bytes = mark(7, 3).encode(&core, 5);
        assert_eq!(Mark::decode(&core, &bytes).unwrap(), (5, mark(7, 3)));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Mark::decode(&core, &changed).is_err(), "{at}");
            assert!(Mark::decode(&core, &bytes[..at]).is_err());
        }
        assert!(Mark::decode(&Core::generate(), &bytes).is_err(), "another store's");
    }

    #[test]
    fn the_most_clients_fit_a_slot() {
        let core = Core::generate();
        assert!(mark(1, CLIENTS).encode(&core, 1).len() <= SLOT);
        assert!(mark(1, SLOT / 17).encode(&core, 1).len() > SLOT);
    }

    #[test]
    fn the_slot_before_counts_when_the_last_was_cut_off() {
        let (core, dir) = (Core::generate(), testkit::TempDir::new());
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        let write = |number, sequence| {
            file.write_all_at(&mark(sequence, 2).encode(&core, number), place(number)).unwrap();
        };
        let seen = || newest(&file, &core).unwrap().map(|(_, mark)| mark.position.sequence);
        assert_eq!(seen(), None);
        (1..=4).for_each(|number| write(number, number * 10));
        assert_eq!(seen(), Some(40));
        file.write_all_at(&[0xff; 9], place(4) + 30).unwrap();
        assert_eq!(seen(), Some(30));
    }
}
