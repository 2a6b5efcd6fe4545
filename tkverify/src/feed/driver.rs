//! Does what the state machine says: GETs, files, the swap. Decides nothing.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tkcore::revocation::feed::{
    Effect, Event, Fetch, Freshness as MachineFreshness, Machine, Moment, Next, Response, StoreFile, Stored,
    Validity, restore_plan,
};
use tkcore::revocation::{FeedPath, HEAD_BYTES, Head, KEY_LIST_BYTES};
use tkcore::{FeedId, revocation::RevocationSet};

use super::counts::Counts;
use super::fetch::{Failed, FetchError, Fetcher, Received, Sink, Want};
use super::folder::{Folder, Part, Stamp, Writer};
use super::view::View;
use super::{Feed, Report};
use crate::clock::{Clock, Reading};

/// Until the answer to an ordinary request must have begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a held request gets beyond the time for which the server may hold it.
const BEYOND_HOLD: Duration = Duration::from_secs(10);

/// A snapshot of more than this is streamed into the folder, so that a broken download can be
/// taken up again.
const RESUMABLE: u64 = 256 * 1024;

/// Readers of a folder whose writer removes what they were about to read look again; each time
/// there is a newer head, so few tries are enough.
const LOAD_TRIES: usize = 4;

/// Newest key lists read from a folder: years of rotations, and no more than 128 KiB.
const KEY_LISTS: usize = 64;

/// Longest floor file; the format has 168 bytes.
const FLOOR_BYTES: u64 = 1024;

pub(crate) struct Driver {
    machine: Machine,
    folder: Option<Folder>,
    writer: Option<Writer>,
    fetcher: Fetcher,
    /// Up to the feed's own path, without a slash at the end.
    mirrors: Vec<String>,
    etags: Vec<Option<String>>,
    feed: Feed,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
    stamp: Option<Stamp>,
    /// A head was seen or put into the folder: when there is none any more, somebody deleted it.
    has_head: bool,
    snapshot_bytes: u64,
    trouble: Trouble,
}

/// What goes wrong now, for health.
#[derive(Debug, Default)]
struct Trouble {
    folder: Option<String>,
    mirrors: Vec<Option<String>>,
}

/// How a fetch ended, for the machine and for people.
pub(crate) struct Answer {
    response: Response,
    etag: Option<String>,
    trouble: Option<String>,
}

/// Everything that a fetch needs, so that it can run on another thread.
pub(crate) struct Job {
    fetcher: Fetcher,
    url: String,
    fetch: Fetch,
    etag: Option<String>,
    part: Option<Part>,
    clock: Arc<dyn Clock>,
    cancel: Arc<AtomicBool>,
}

/// Told how much of a body has come, and of how much.
pub(crate) type Progress<'p> = &'p mut dyn FnMut(u64, Option<u64>);

pub(crate) struct Parts {
    pub(crate) machine: Machine,
    pub(crate) id: FeedId,
    pub(crate) folder: Option<Folder>,
    pub(crate) addresses: Vec<String>,
    pub(crate) feed: Feed,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) snapshot_bytes: u64,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let mirrors: Vec<_> =
            parts.addresses.iter().map(|url| format!("{url}/v1/feed/{}", parts.id)).collect();
        let counts = Arc::clone(&parts.feed.shared.counts);
        Self {
            etags: vec![None; mirrors.len()],
            trouble: Trouble { folder: None, mirrors: vec![None; mirrors.len()] },
            machine: parts.machine,
            folder: parts.folder,
            writer: None,
            fetcher: Fetcher::new(),
            mirrors,
            feed: parts.feed,
            clock: parts.clock,
            counts,
            stamp: None,
            has_head: false,
            snapshot_bytes: parts.snapshot_bytes,
        }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn moment(&self) -> Moment {
        moment(&self.clock.read())
    }

    pub(crate) fn next(&mut self) -> Next {
        let moment = self.moment();
        self.machine.next(moment)
    }

    pub(crate) fn poll_now(&mut self) {
        self.machine.poll_now();
    }

    /// The mirror that would be asked now.
    pub(crate) fn mirror(&self) -> Option<usize> {
        self.machine.mirror(self.moment())
    }

    /// The request for one mirror's head as it is; `None` while that mirror asked for patience.
    pub(crate) fn head_of(&self, mirror: usize) -> Option<Fetch> {
        self.machine.head_of(mirror, self.moment())
    }

    /// How many mirrors there are.
    pub(crate) fn mirrors(&self) -> usize {
        self.mirrors.len()
    }

    /// Tries to become the one who writes the folder. `false` while somebody else is.
    pub(crate) fn try_write(&mut self) -> io::Result<bool> {
        if self.writer.is_none()
            && let Some(folder) = &self.folder
        {
            self.writer = folder.writer()?;
        }
        Ok(self.writer.is_some() || self.folder.is_none())
    }

    /// Tries to take the place of a writer that has ended. What is in memory may have been fetched
    /// beside the folder, so the next state is written whole.
    pub(crate) fn take_over(&mut self) {
        if self.writer.is_none() && self.try_write().is_ok() && self.writer.is_some() {
            self.machine.write_failed();
            self.counts.add("folder-taken-over");
        }
    }

    /// Takes what the folder holds, if its head is another one than before.
    pub(crate) fn load(&mut self) -> Vec<Event> {
        let Some(folder) = self.folder.clone() else { return Vec::new() };
        let stamp = match folder.stamp("head") {
            Ok(stamp) => stamp,
            Err(e) => {
                self.trouble.folder = Some(format!("the feed's folder: {e}"));
                self.publish_report();
                return Vec::new();
            }
        };
        if stamp.is_some() && stamp == self.stamp {
            return Vec::new();
        }
        let mut found = self.look_into(&folder);
        for _ in 1..LOAD_TRIES {
            // When the head has changed meanwhile, a file was not damaged but replaced.
            let is_replaced = found.is_err() || folder.stamp("head").ok() != Some(stamp);
            if !(is_damaged(&found) && is_replaced) {
                break;
            }
            found = self.look_into(&folder);
        }
        let mut is_first = true;
        if is_damaged(&found) {
            let copy = folder.copy();
            let other = self.look_into(&copy);
            if !is_damaged(&other) && matches!(copy.stamp("head"), Ok(Some(_))) {
                self.counts.add("folder-copy-used");
                for effect in found.iter().flatten() {
                    if let Effect::Report(event) = effect {
                        self.counts.event(event);
                    }
                }
                // What is damaged is replaced with the next head.
                self.machine.write_failed();
                (found, is_first) = (other, false);
            }
        }
        let events = match found {
            Ok(effects) => {
                self.trouble.folder = None;
                self.perform(effects)
            }
            Err(e) => {
                self.trouble.folder = Some(format!("the feed's folder cannot be read: {e}"));
                self.counts.add("folder-unreadable");
                Vec::new()
            }
        };
        if is_first {
            self.complete_copy(&folder);
        }
        self.stamp = stamp;
        self.has_head = stamp.is_some();
        self.publish_report();
        events
    }

    fn look_into(&mut self, folder: &Folder) -> io::Result<Vec<Effect>> {
        let stored = stored(folder, self.machine.position(), self.snapshot_bytes)?;
        let moment = self.moment();
        Ok(self.machine.load(stored, moment))
    }

    /// The one who writes makes good what the second copy lacks, once the first one was taken.
    fn complete_copy(&self, folder: &Folder) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.machine.set().is_some()) else { return };
        let mut names = data_files(folder, None).unwrap_or_default();
        let lists = folder.list("keys").unwrap_or_default();
        names.extend(lists.into_iter().map(|version| format!("keys/{version}")));
        names.push("head".to_owned());
        for name in names.iter().filter(|name| FeedPath::from_text(name).is_some()) {
            if writer.complete_copy(name, self.snapshot_bytes).is_err() {
                self.counts.add("write-failed");
            }
        }
    }

    /// What a fetch takes, for whichever thread does it.
    pub(crate) fn job(&self, fetch: Fetch, cancel: &Arc<AtomicBool>) -> Job {
        let mirror = self.mirrors.get(fetch.mirror).map_or("", String::as_str);
        let path = fetch.path.to_string();
        let resumable = matches!(fetch.path, FeedPath::Snapshot { .. }) && fetch.limit > RESUMABLE;
        // Without a part the download starts from the beginning: slower, and no error.
        let part = self.writer.as_ref().filter(|_| resumable).and_then(|writer| writer.part(&path).ok());
        let etag = self.etags.get(fetch.mirror).cloned().flatten();
        Job {
            fetcher: self.fetcher.clone(),
            url: format!("{mirror}/{path}"),
            etag: etag.filter(|_| fetch.conditional && fetch.path == FeedPath::Head),
            part,
            clock: Arc::clone(&self.clock),
            cancel: Arc::clone(cancel),
            fetch,
        }
    }

    /// Hands an answer to the machine and does what follows. `same`: the mirror has the head
    /// that is in force.
    pub(crate) fn receive(&mut self, fetch: &Fetch, answer: Answer) -> (Vec<Event>, Same) {
        self.counts.add("fetches");
        self.notice_deletion();
        if let Some(trouble) = self.trouble.mirrors.get_mut(fetch.mirror) {
            *trouble = answer.trouble;
        }
        let is_head = matches!(fetch.path, FeedPath::Head | FeedPath::Wait { .. });
        let mut same = Same::No;
        if is_head {
            if let Some(etag) = self.etags.get_mut(fetch.mirror)
                && matches!(answer.response, Response::Body(_))
            {
                *etag = answer.etag;
            }
            let unchanged = match &answer.response {
                Response::Body(bytes) => self.machine.head_bytes() == Some(bytes),
                Response::NotModified => true,
                _ => false,
            };
            if unchanged {
                same = Same::Yes;
            }
        }
        let moment = self.moment();
        let effects = self.machine.receive(fetch, answer.response, moment, random());
        (self.perform(effects), same)
    }

    /// Somebody deleted the folder: the lock went with it, and the base of what is written next.
    fn notice_deletion(&mut self) {
        let (Some(folder), Some(writer)) = (&self.folder, &self.writer) else { return };
        let is_emptied = self.has_head && matches!(folder.stamp("head"), Ok(None));
        if is_emptied || matches!(writer.is_in_place(), Ok(false)) {
            self.counts.add("folder-deleted");
            self.writer = None;
            self.stamp = None;
            self.has_head = false;
            self.machine.write_failed();
            let _ = self.try_write();
        }
    }

    /// Writes, then says what it means for health, then counts, and then lets the new state be seen:
    /// whoever sees the later sees the earlier.
    fn perform(&mut self, effects: Vec<Effect>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut views = Vec::new();
        let mut failed = false;
        for effect in effects {
            match effect {
                Effect::Write { file, bytes } => {
                    let Some(writer) = self.writer.as_ref().filter(|_| !failed) else { continue };
                    match write(writer, file, &bytes) {
                        Ok(()) => self.has_head |= file == StoreFile::Object(FeedPath::Head),
                        Err(e) => {
                            failed = true;
                            self.counts.add("write-failed");
                            self.trouble.folder = Some(format!("the feed's folder cannot be written: {e}"));
                            self.machine.write_failed();
                        }
                    }
                }
                Effect::Keep(paths) => {
                    if let Some(writer) = self.writer.as_ref().filter(|_| !failed) {
                        self.trouble.folder = None;
                        if let Some(folder) = &self.folder {
                            sweep(folder, writer, &paths);
                        }
                    }
                }
                Effect::Swap { set, validity } => views.push((set, validity)),
                Effect::Renew(validity) => {
                    views.extend(self.machine.set().cloned().map(|set| (set, validity)));
                }
                Effect::Report(event) => events.push(event),
            }
        }
        if failed {
            // What is on disk now is not what memory holds.
            self.stamp = None;
        } else if self.writer.is_some()
            && let Some(folder) = &self.folder
        {
            self.stamp = folder.stamp("head").ok().flatten();
        }
        self.publish_report();
        events.iter().for_each(|event| self.counts.event(event));
        views.into_iter().for_each(|(set, validity)| self.swap(set, validity));
        events
    }

    fn swap(&self, set: RevocationSet, validity: Validity) {
        let reading = self.clock.read();
        let position = self.machine.position().unwrap_or_default();
        // An epoch begins with a time of its own.
        let before = self.feed.view().filter(|view| view.position.epoch == position.epoch);
        let proven = validity.issued_at().saturating_add(validity.age(moment(&reading)));
        let accepted_now = before.map_or(proven, |view| view.now(&reading).max(proven)).max(reading.wall);
        self.feed.swap(Arc::new(View {
            set,
            issued_at: validity.issued_at(),
            valid_until: validity.issued_at().saturating_add(validity.stale_after()),
            latest_issued: self.machine.floor().issued_at,
            accepted: reading,
            accepted_now,
            position,
        }));
    }

    fn publish_report(&self) {
        let health = self.machine.health(self.moment());
        let mut trouble: Vec<String> = self.trouble.folder.iter().cloned().collect();
        trouble.extend(
            self.mirrors
                .iter()
                .zip(&self.trouble.mirrors)
                .filter_map(|(url, trouble)| trouble.as_ref().map(|trouble| format!("{url}: {trouble}"))),
        );
        if health.freshness == MachineFreshness::Empty && trouble.is_empty() && self.mirrors.is_empty() {
            trouble.push("the folder has no head yet".to_owned());
        }
        self.feed.set_report(Report { alarm: health.alarm.map(|alarm| format!("{alarm:?}")), trouble });
    }

    /// What the folder last did to this process, if it went wrong.
    pub(crate) fn folder_trouble(&self) -> Option<&str> {
        self.trouble.folder.as_deref()
    }

    /// What each mirror last did, if it went wrong.
    pub(crate) fn mirror_troubles(&self) -> Vec<String> {
        self.mirrors
            .iter()
            .zip(&self.trouble.mirrors)
            .filter_map(|(url, trouble)| trouble.as_ref().map(|trouble| format!("{url}: {trouble}")))
            .collect()
    }

    pub(crate) fn is_writer(&self) -> bool {
        self.writer.is_some()
    }

    pub(crate) fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    pub(crate) fn has_mirrors(&self) -> bool {
        !self.mirrors.is_empty()
    }
}

/// Whether a mirror gave the head that is in force already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    Yes,
    No,
}

impl Job {
    /// Does the GET. Blocks.
    pub(crate) fn run(mut self, progress: Option<Progress<'_>>) -> Answer {
        let want = Want {
            url: &self.url,
            limit: self.fetch.limit,
            etag: self.etag.as_deref(),
            have: self.part.as_ref().map_or(0, Part::length),
            held: !self.fetch.hold.is_zero(),
            patience: if self.fetch.hold.is_zero() {
                PATIENCE
            } else {
                self.fetch.hold.saturating_add(BEYOND_HOLD)
            },
        };
        let now = self.clock.read().wall;
        let mut memory = Vec::new();
        let result = {
            let sink: &mut dyn Sink = match &mut self.part {
                Some(part) => part,
                None => &mut memory,
            };
            let mut watched = Watched { sink, cancel: &self.cancel, progress, at: 0, total: None };
            self.fetcher.fetch(&want, &mut watched, now)
        };
        let bytes = match (&result, self.part.take()) {
            (Ok(Received::Body { .. }), Some(part)) => {
                let bytes = part.bytes(self.fetch.limit).unwrap_or_default();
                // Whole now: it goes into its place, or is wrong and of no use.
                part.discard();
                bytes
            }
            // A server that does not know the range, or has another object there.
            (
                Err(Failed {
                    error: FetchError::Status(416) | FetchError::Range | FetchError::TooLarge, ..
                }),
                Some(part),
            ) => {
                part.discard();
                memory
            }
            (_, _) => memory,
        };
        match result {
            Ok(Received::Body { etag }) => Answer { response: Response::Body(bytes), etag, trouble: None },
            Ok(Received::NotModified) => {
                Answer { response: Response::NotModified, etag: None, trouble: None }
            }
            Ok(Received::Absent) => {
                // The next key list is looked for where it usually is not.
                let expected = matches!(self.fetch.path, FeedPath::KeyList { .. } | FeedPath::Wait { .. });
                let trouble = (!expected).then(|| format!("{} is not there", self.fetch.path));
                Answer { response: Response::NotFound, etag: None, trouble }
            }
            Err(Failed { error, retry_after }) => {
                let trouble = Some(error.to_string());
                let response = match error {
                    FetchError::TooLarge => Response::TooLarge,
                    FetchError::Status(_) => Response::Refused { retry_after },
                    FetchError::Connection(_)
                    | FetchError::Timeout
                    | FetchError::Encoded
                    | FetchError::Truncated
                    | FetchError::Range
                    | FetchError::Local(_) => Response::Failed,
                };
                Answer { response, etag: None, trouble }
            }
        }
    }
}

/// Stops a download that nobody waits for any more, and tells how far it is.
struct Watched<'w, 'p> {
    sink: &'w mut dyn Sink,
    cancel: &'w AtomicBool,
    progress: Option<Progress<'p>>,
    at: u64,
    total: Option<u64>,
}

impl Sink for Watched<'_, '_> {
    fn start(&mut self, offset: u64, total: Option<u64>) -> io::Result<()> {
        (self.at, self.total) = (offset, total);
        self.sink.start(offset, total)
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        self.sink.data(bytes)?;
        self.at = self.at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(progress) = &mut self.progress {
            progress(self.at, self.total);
        }
        Ok(())
    }
}

fn write(writer: &Writer, file: StoreFile, bytes: &[u8]) -> io::Result<()> {
    match file {
        StoreFile::Object(path) => writer.put(&path.to_string(), bytes),
        StoreFile::Floor => writer.put_floor(bytes),
        StoreFile::Evidence(digest) => writer.put_evidence(&digest.to_string(), bytes),
    }
}

/// Removes deltas and snapshots that nothing needs. A reader that was about to read one finds
/// it gone and looks at the newer head that is in place by now.
fn sweep(folder: &Folder, writer: &Writer, keep: &[FeedPath]) {
    let keep: BTreeSet<String> = keep.iter().map(ToString::to_string).collect();
    for name in data_files(folder, None).unwrap_or_default() {
        if !keep.contains(&name) && FeedPath::from_text(&name).is_some() {
            let _ = writer.remove(&name);
        }
    }
}

/// Whether a look at a folder found something that must not be believed, and nothing else.
fn is_damaged(found: &io::Result<Vec<Effect>>) -> bool {
    let Ok(effects) = found else { return true };
    let is_taken = |effect: &Effect| matches!(effect, Effect::Swap { .. } | Effect::Renew(_));
    let is_refused = |effect: &Effect| matches!(effect, Effect::Report(Event::StoreRefused(_)));
    effects.iter().any(is_refused) && !effects.iter().any(is_taken)
}

/// Names of the data files, of one epoch or of all.
fn data_files(folder: &Folder, epoch: Option<u64>) -> io::Result<Vec<String>> {
    let epochs = match epoch {
        Some(epoch) => vec![epoch.to_string()],
        None => folder.list("")?.into_iter().filter(|name| name.parse::<u64>().is_ok()).collect(),
    };
    let mut names = Vec::new();
    for epoch in epochs {
        for kind in ["snapshot", "delta", "delta16", "delta256"] {
            let under = format!("{epoch}/{kind}");
            names.extend(folder.list(&under)?.into_iter().map(|name| format!("{under}/{name}")));
        }
    }
    Ok(names)
}

/// Reads what leads to the head that lies in the folder: floor and head first, as they are
/// written last.
fn stored(
    folder: &Folder,
    have: Option<tkcore::revocation::Position>,
    snapshot_bytes: u64,
) -> io::Result<Stored> {
    let limit = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let mut stored = Stored { floor: folder.read_floor(FLOOR_BYTES)?, ..Stored::default() };
    let head = folder.read("head", limit(HEAD_BYTES))?;
    let mut versions: Vec<u64> = folder.list("keys")?.iter().filter_map(|name| name.parse().ok()).collect();
    versions.sort_unstable();
    for version in versions.into_iter().rev().take(KEY_LISTS) {
        stored.key_lists.extend(folder.read(&format!("keys/{version}"), limit(KEY_LIST_BYTES))?);
    }
    if let Some(bytes) = &head
        && let Ok(parsed) = Head::parse_unverified(bytes)
    {
        let names = data_files(folder, Some(parsed.position.epoch))?;
        let plan = restore_plan(bytes, names.iter().map(String::as_str), have).ok().flatten();
        if let Some(plan) = plan {
            if let Some(path) = plan.snapshot {
                stored.snapshot = Some(Arc::new(needed(folder, &path, snapshot_bytes)?));
            }
            for path in plan.deltas {
                if let FeedPath::Delta { span, .. } = path {
                    stored.deltas.push((span, needed(folder, &path, snapshot_bytes)?));
                }
            }
        }
    }
    stored.head = head;
    Ok(stored)
}

fn needed(folder: &Folder, path: &FeedPath, limit: u64) -> io::Result<Vec<u8>> {
    folder.read(&path.to_string(), limit)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn moment(reading: &Reading) -> Moment {
    Moment { wall: reading.wall, monotonic: reading.monotonic }
}

/// Spreads waits; when the system has no random bytes, waits are not spread, which is all.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_be_bytes(bytes),
        Err(_) => u64::MAX / 2,
    }
}
