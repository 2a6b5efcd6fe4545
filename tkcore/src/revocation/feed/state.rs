//! What is in force, and how it changes: always data, then head, then floor, then the swap.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::revocation::feed::effect::{Alarm, Effect, Event, Link, Refusal, StoreFile};
use crate::revocation::feed::floor::Floor;
use crate::revocation::feed::judge::{Source, Verdict};
use crate::revocation::feed::machine::Machine;
use crate::revocation::feed::restore::Stored;
use crate::revocation::feed::target::{Progress, Target};
use crate::revocation::feed::validity::{Moment, Proven, Validity};
use crate::revocation::head::Head;
use crate::revocation::key_list::KeyList;
use crate::revocation::object::ObjectError;
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;
use crate::revocation::set::RevocationSet;
use crate::revocation::snapshot::Snapshot;
use crate::time::Timestamp;

/// After that many delta files the folder gets a snapshot of its own, however small they are,
const DELTA_FILES: usize = 256;

/// or one file for so many bytes of the snapshot, where that is more: each costs a start the opening of
/// a file, but a snapshot of ten million rows written anew for every 256 steps would be most of what a
/// disk does.
const FILE_BYTES: u64 = 16 * 1024;

/// And when they are together more than one part in this many of the snapshot.
const REWRITE_PART: u64 = 10;

/// But not for less than this.
const REWRITE_BYTES: u64 = 64 * 1024;

/// The state in force.
pub(super) struct Current {
    pub(super) head: Head,
    pub(super) bytes: Vec<u8>,
    pub(super) set: RevocationSet,
    pub(super) validity: Validity,
    taken: Duration,
    files: Files,
}

/// The data files that lead to the state in force.
#[derive(Default)]
struct Files {
    snapshot: Option<FeedPath>,
    snapshot_bytes: u64,
    deltas: Vec<FeedPath>,
    delta_bytes: u64,
}

impl Current {
    /// How long since the last newer head.
    pub(super) fn unrenewed(&self, moment: Moment) -> Duration {
        moment.monotonic.saturating_sub(self.taken)
    }
}

impl Machine {
    /// Takes what lies in a folder: at start, and whenever another process has written a new
    /// head there. What is damaged, older or not signed is reported and left; the state in
    /// force stays.
    pub fn load(&mut self, stored: Stored, moment: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Err(refusal) = self.take_stored(stored, moment, &mut out) {
            out.push(Effect::Report(Event::StoreRefused(refusal)));
        }
        out
    }

    fn take_stored(&mut self, stored: Stored, moment: Moment, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        if let Some(bytes) = &stored.floor {
            match Floor::from_bytes(bytes) {
                Ok(floor) if floor.feed == self.config.feed => {
                    self.floor.key_list = self.floor.key_list.max(floor.key_list);
                    let stands = |floor: &Floor| (floor.position, floor.issued_at);
                    if stands(&floor) > stands(&self.floor) {
                        self.end_epoch_at(floor.position);
                        self.floor = Floor { key_list: self.floor.key_list, ..floor };
                        self.recall(floor.issued_at, moment);
                    }
                }
                Ok(_) => return Err(Refusal::Object(ObjectError::OtherFeed)),
                // The head itself is a floor as well.
                Err(what) => out.push(Effect::Report(Event::StoreRefused(Refusal::Object(what)))),
            }
        }
        let older = self.take_stored_lists(&stored.key_lists)?;
        let Some(bytes) = stored.head else { return Ok(()) };
        if self.current.as_ref().is_some_and(|current| current.bytes == bytes) {
            return Ok(());
        }
        let head = match self.judge(&bytes, moment, Source::Store, &older) {
            Verdict::Good(head) => *head,
            Verdict::NeedKeys(_) => return Err(Refusal::NoListedKey),
            Verdict::Refused(refusal, _) => return Err(refusal),
        };
        if self.position() == Some(head.position) {
            let must_rewrite = core::mem::take(&mut self.must_rewrite);
            self.renew(head, bytes, moment, out);
            self.recall(head.issued_at, moment);
            self.must_rewrite = must_rewrite;
            out.retain(|effect| !matches!(effect, Effect::Write { .. }));
            self.drop_task();
            return Ok(());
        }
        let from = self.current.as_ref().map(|current| (&current.head, &current.set));
        let mut target = Target::new(head, bytes, from);
        let mut files = Files::default();
        if let Some(bytes) = &stored.snapshot {
            let snapshot = Snapshot::parse_shared(bytes).map_err(Refusal::Object)?;
            files.snapshot =
                Some(FeedPath::Snapshot { position: snapshot.position, digest: snapshot.digest });
            files.snapshot_bytes = size(bytes);
            target.start_from(snapshot)?;
        }
        let mut sequence = match files.snapshot {
            Some(FeedPath::Snapshot { position, .. }) => position.sequence,
            Some(_) | None => self.position().map_or(0, |position| position.sequence),
        };
        for (span, bytes) in &stored.deltas {
            target.follow(*span, bytes, &self.config)?;
            if let Some(number) = sequence.checked_add(1).and_then(|first| span.number(first)) {
                files.deltas.push(FeedPath::Delta { epoch: head.position.epoch, span: *span, number });
            }
            files.delta_bytes = files.delta_bytes.saturating_add(size(bytes));
            sequence = sequence.saturating_add(span.steps());
        }
        match target.finish()? {
            Progress::More => Err(Refusal::Missing),
            Progress::Reached(set) => {
                self.check_rows(&target, &set)?;
                if files.snapshot.is_none() {
                    let before = self.current.as_ref().map(|current| &current.files);
                    files = Files::joined(before, files);
                }
                self.put(target, set, files, moment, out);
                self.recall(head.issued_at, moment);
                self.drop_task();
                Ok(())
            }
        }
    }

    /// Learns from a time of issue that was written down. Whoever took it may have known no later
    /// time than a skew before it: else each process, or each start, would go on a skew further.
    fn recall(&mut self, issued_at: Timestamp, moment: Moment) {
        let taken = issued_at.saturating_sub(self.config.skew);
        self.proven.learn(issued_at, moment, self.now(moment).max(taken));
    }

    /// An epoch begins with a time of its own.
    fn end_epoch_at(&mut self, position: Position) {
        if position.epoch != self.floor.position.epoch {
            self.proven = Proven::NOTHING;
        }
    }

    /// Takes the newest list of a folder and gives the others.
    fn take_stored_lists(&mut self, lists: &[Vec<u8>]) -> Result<Vec<KeyList>, Refusal> {
        let mut good = Vec::new();
        let mut failure = None;
        for bytes in lists {
            match KeyList::verify(bytes, self.config.feed, &self.config.roots) {
                Ok(list) => good.push((list, bytes)),
                Err(what) => failure = Some(Refusal::KeyList(what)),
            }
        }
        good.sort_unstable_by_key(|(list, _)| list.version);
        match (good.pop(), failure) {
            (Some((list, bytes)), _) => self.adopt(list, bytes, None)?,
            (None, Some(failure)) => return Err(failure),
            (None, None) => {}
        }
        Ok(good.into_iter().map(|(list, _)| list).collect())
    }

    /// Takes a key list that is signed, in order, and of no lower epoch. `version` is the one
    /// asked for.
    pub(super) fn take_key_list(&mut self, bytes: &[u8], version: Option<u64>) -> Result<(), Refusal> {
        let list = KeyList::verify(bytes, self.config.feed, &self.config.roots).map_err(Refusal::KeyList)?;
        self.adopt(list, bytes, version)
    }

    fn adopt(&mut self, list: KeyList, bytes: &[u8], version: Option<u64>) -> Result<(), Refusal> {
        let known = self.keys.as_ref();
        let is_in_order = version.is_none_or(|version| list.version == version)
            && list.version >= self.floor.key_list
            && list.epoch >= self.floor.position.epoch
            && known.is_none_or(|known| list.version >= known.version && list.epoch >= known.epoch);
        if !is_in_order {
            return Err(Refusal::KeyListOrder);
        }
        if known.is_some_and(|known| known.version == list.version && *known != list) {
            return Err(Refusal::KeyListOrder);
        }
        if known.is_none() {
            self.search_keys_now();
        }
        self.floor.key_list = list.version;
        self.keys = Some(list);
        self.key_bytes = Arc::new(bytes.to_vec());
        Ok(())
    }

    pub(super) fn wrote_key_list(&self, out: &mut Vec<Effect>) {
        if let Some(keys) = &self.keys {
            self.key_list_file(out);
            // While the folder lacks a state, its floor must not name that state.
            if !self.must_rewrite {
                out.push(self.floor_file());
            }
            out.push(Effect::Report(Event::KeyList { version: keys.version, epoch: keys.epoch }));
        }
    }

    fn key_list_file(&self, out: &mut Vec<Effect>) {
        if let Some(keys) = &self.keys {
            let file = StoreFile::Object(FeedPath::KeyList { version: keys.version });
            out.push(Effect::Write { file, bytes: Arc::clone(&self.key_bytes) });
        }
    }

    /// The same state, signed again.
    pub(super) fn renew(&mut self, head: Head, bytes: Vec<u8>, moment: Moment, out: &mut Vec<Effect>) {
        let now = self.now(moment);
        let validity = Validity::new(&head, &self.config, moment, now);
        self.proven.learn(head.issued_at, moment, now);
        if self.must_rewrite {
            // The folder lacks something, and a head must not come before what it names.
            self.key_list_file(out);
        }
        if let Some(current) = self.current.as_mut().filter(|_| self.must_rewrite) {
            current.files = Files::rewritten(&current.head, &current.set, out);
            self.must_rewrite = false;
        }
        out.push(Effect::Write { file: StoreFile::Object(FeedPath::Head), bytes: Arc::new(bytes.clone()) });
        if let Some(current) = &mut self.current {
            if head.issued_at > current.head.issued_at {
                current.taken = moment.monotonic;
            }
            audit(&current.head, &head, out);
            current.head = head;
            current.bytes = bytes;
            current.validity = validity;
        }
        self.floor.issued_at = self.floor.issued_at.max(head.issued_at);
        self.calm();
        out.push(self.floor_file());
        out.push(Effect::Renew(validity));
        out.push(Effect::Report(Event::Heartbeat));
    }

    /// Puts a state that was reached into force.
    pub(super) fn commit(
        &mut self,
        mut target: Target,
        set: RevocationSet,
        moment: Moment,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.check_rows(&target, &set)?;
        let mut files = Files::default();
        for (path, bytes) in core::mem::take(&mut target.objects) {
            match path {
                FeedPath::Snapshot { .. } => {
                    files.snapshot = Some(path);
                    files.snapshot_bytes = size(&bytes);
                }
                FeedPath::Delta { .. }
                | FeedPath::Head
                | FeedPath::Wait { .. }
                | FeedPath::KeyList { .. } => {
                    files.deltas.push(path);
                    files.delta_bytes = files.delta_bytes.saturating_add(size(&bytes));
                }
            }
            out.push(Effect::Write { file: StoreFile::Object(path), bytes });
        }
        if target.is_linked {
            files = Files::joined(self.current.as_ref().map(|current| &current.files), files);
        }
        let head = target.head;
        if self.must_rewrite {
            self.key_list_file(out);
        }
        if self.must_rewrite || files.are_many() {
            files = Files::rewritten(&head, &set, out);
            self.must_rewrite = false;
        }
        let bytes = Arc::new(target.bytes.clone());
        out.push(Effect::Write { file: StoreFile::Object(FeedPath::Head), bytes });
        self.put(target, set, files, moment, out);
        Ok(())
    }

    /// No row of the state in force may be missing, unless its day is over. Steps can only
    /// add, so this is about snapshots.
    fn check_rows(&self, target: &Target, set: &RevocationSet) -> Result<(), Refusal> {
        let same_epoch =
            self.current.as_ref().filter(|current| current.head.position.epoch == target.head.position.epoch);
        match same_epoch {
            Some(current) if !target.is_linked => {
                if set.covers(&current.set, target.head.issued_at, self.config.skew) {
                    Ok(())
                } else {
                    Err(Refusal::Unrevokes)
                }
            }
            Some(_) | None => Ok(()),
        }
    }

    fn put(
        &mut self,
        target: Target,
        set: RevocationSet,
        files: Files,
        moment: Moment,
        out: &mut Vec<Effect>,
    ) {
        let head = target.head;
        let now = self.now(moment);
        let validity = Validity::new(&head, &self.config, moment, now);
        self.end_epoch_at(head.position);
        self.proven.learn(head.issued_at, moment, now);
        let before = self.current.as_ref().map(|current| current.head);
        let link = match before {
            Some(before) if before.position.epoch == head.position.epoch => {
                audit(&before, &head, out);
                if target.is_linked { Link::Linked } else { Link::Jump }
            }
            Some(_) | None => Link::First,
        };
        let issued_at = match link {
            Link::First if head.position != self.floor.position => head.issued_at,
            Link::First | Link::Linked | Link::Jump => head.issued_at.max(self.floor.issued_at),
        };
        self.floor = Floor {
            feed: head.feed,
            key_list: self.floor.key_list,
            position: head.position,
            issued_at,
            state: head.state,
            chain: head.chain,
        };
        if link == Link::First {
            self.alarm = None;
        }
        self.calm();
        let keep = files.snapshot.into_iter().chain(files.deltas.iter().copied()).collect();
        self.current = Some(Current {
            head,
            bytes: target.bytes,
            set: set.clone(),
            validity,
            taken: moment.monotonic,
            files,
        });
        if out.iter().any(|effect| matches!(effect, Effect::Write { .. })) {
            out.push(self.floor_file());
            out.push(Effect::Keep(keep));
        }
        out.push(Effect::Swap { set, validity });
        out.push(Effect::Report(Event::Advanced { position: head.position, link }));
    }

    /// A newer head ends the alarm that there was none.
    fn calm(&mut self) {
        if self.alarm == Some(Alarm::Lagging) {
            self.alarm = None;
        }
    }

    fn floor_file(&self) -> Effect {
        Effect::Write { file: StoreFile::Floor, bytes: Arc::new(self.floor.to_bytes()) }
    }
}

impl Files {
    fn joined(before: Option<&Self>, mut new: Self) -> Self {
        if let Some(before) = before {
            new.snapshot = before.snapshot;
            new.snapshot_bytes = before.snapshot_bytes;
            new.delta_bytes = new.delta_bytes.saturating_add(before.delta_bytes);
            let mut deltas = before.deltas.clone();
            deltas.append(&mut new.deltas);
            new.deltas = deltas;
        }
        new
    }

    /// One snapshot of the whole state, written.
    fn rewritten(head: &Head, set: &RevocationSet, out: &mut Vec<Effect>) -> Self {
        let snapshot = Snapshot::new(head.feed, head.position, head.chain, set.clone());
        let path = FeedPath::Snapshot { position: head.position, digest: snapshot.digest };
        let bytes = Arc::new(snapshot.to_bytes());
        let snapshot_bytes = size(&bytes);
        out.push(Effect::Write { file: StoreFile::Object(path), bytes });
        Self { snapshot: Some(path), snapshot_bytes, ..Self::default() }
    }

    fn are_many(&self) -> bool {
        let part = (self.snapshot_bytes / REWRITE_PART).max(REWRITE_BYTES);
        let files = usize::try_from(self.snapshot_bytes / FILE_BYTES).unwrap_or(usize::MAX);
        self.delta_bytes > part || self.deltas.len() > files.max(DELTA_FILES)
    }
}

fn audit(before: &Head, now: &Head, out: &mut Vec<Effect>) {
    if now.audit.lines < before.audit.lines {
        let (before, now) = (before.audit.lines, now.audit.lines);
        out.push(Effect::Report(Event::AuditShrank { before, now }));
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::delta::Span;

    #[test]
    fn a_folder_is_written_anew_for_many_bytes_or_many_files() {
        let delta = FeedPath::Delta { epoch: 1, span: Span::One, number: 1 };
        let are_many = |snapshot_bytes, delta_bytes, files| {
            let deltas = alloc::vec![delta; files];
            Files { snapshot: None, snapshot_bytes, deltas, delta_bytes }.are_many()
        };
        for (snapshot, bytes, files) in
            [(0, 64 * 1024, 256), (256 * 16 * 1024, 419_430, 256), (141_400_000, 14_140_000, 8630)]
        {
            assert!(!are_many(snapshot, bytes, files), "{snapshot}");
            assert!(are_many(snapshot, bytes + 1, files), "{snapshot}");
            assert!(are_many(snapshot, bytes, files + 1), "{snapshot}");
        }
    }
}
