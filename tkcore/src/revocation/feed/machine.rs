use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::revocation::feed::config::{Config, HEARTBEAT};
use crate::revocation::feed::effect::{Alarm, Effect, Event, Refusal, StoreFile};
use crate::revocation::feed::fetch::{Fetch, Next, Response};
use crate::revocation::feed::floor::Floor;
use crate::revocation::feed::judge::{Judge, Source, Verdict};
use crate::revocation::feed::schedule::{self, Mirror};
use crate::revocation::feed::state::Current;
use crate::revocation::feed::target::{Progress, Target};
use crate::revocation::feed::validity::{Freshness, Moment, Proven, Validity};
use crate::revocation::head::HEAD_BYTES;
use crate::revocation::key_list::{KEY_LIST_BYTES, KeyList};
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;
use crate::revocation::set::RevocationSet;
use crate::time::Timestamp;

/// The client of one feed. See the [module](crate::revocation::feed) for the loop around it.
pub struct Machine {
    pub(super) config: Config,
    pub(super) keys: Option<KeyList>,
    /// As it came, to be written again after a failed write.
    pub(super) key_bytes: Arc<Vec<u8>>,
    pub(super) floor: Floor,
    pub(super) current: Option<Current>,
    pub(super) proven: Proven,
    pub(super) alarm: Option<Alarm>,
    pub(super) lagging: u64,
    /// Data files on disk are not what memory holds; the next write is a whole snapshot.
    pub(super) must_rewrite: bool,
    task: Task,
    mirrors: Vec<Mirror>,
    /// The mirror asked first.
    at: usize,
    next_poll: Duration,
    asked: Duration,
    next_probe: Duration,
}

enum Task {
    Idle,
    /// A head waits for a key list.
    Keys(Waiting),
    /// A head is believed; its data is on the way.
    Data(Box<Target>),
}

struct Waiting {
    head: Vec<u8>,
    version: u64,
    misses: usize,
    /// The head names no later list: this is the search for one that verifies it.
    is_search: bool,
}

/// For a health page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// How old the state is, in words.
    pub freshness: Freshness,
    /// Since its head was signed.
    pub age: Option<Duration>,
    /// Where it stands.
    pub position: Option<Position>,
    /// The newest key list.
    pub key_list: u64,
    /// Set when something happened that no honest mirror does.
    pub alarm: Option<Alarm>,
    /// Older heads refused since the start.
    pub lagging: u64,
}

impl Machine {
    /// Knows nothing yet: *empty*.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let floor = Floor::new(config.feed);
        let mirrors = schedule::mirrors(&config);
        Self {
            config,
            keys: None,
            key_bytes: Arc::default(),
            floor,
            current: None,
            proven: Proven::NOTHING,
            alarm: None,
            lagging: 0,
            must_rewrite: false,
            task: Task::Idle,
            mirrors,
            at: 0,
            next_poll: Duration::ZERO,
            asked: Duration::ZERO,
            next_probe: Duration::ZERO,
        }
    }

    /// The set in force, whatever its age; `None` while nothing was ever loaded.
    #[must_use]
    pub fn set(&self) -> Option<&RevocationSet> {
        self.current.as_ref().map(|current| &current.set)
    }

    /// How long the set in force may be decided by.
    #[must_use]
    pub fn validity(&self) -> Option<Validity> {
        self.current.as_ref().map(|current| current.validity)
    }

    /// The bytes of the head in force.
    #[must_use]
    pub fn head_bytes(&self) -> Option<&[u8]> {
        self.current.as_ref().map(|current| current.bytes.as_slice())
    }

    /// Where the set in force stands.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.current.as_ref().map(|current| current.head.position)
    }

    /// The least that will ever be believed again.
    #[must_use]
    pub const fn floor(&self) -> &Floor {
        &self.floor
    }

    /// The newest key list.
    #[must_use]
    pub const fn key_list(&self) -> Option<&KeyList> {
        self.keys.as_ref()
    }

    /// Everything a health page shows.
    #[must_use]
    pub fn health(&self, moment: Moment) -> Health {
        let validity = self.validity();
        Health {
            freshness: validity.map_or(Freshness::Empty, |validity| validity.freshness(moment)),
            age: validity.map(|validity| validity.age(moment)),
            position: self.position(),
            key_list: self.keys.as_ref().map_or(0, |keys| keys.version),
            alarm: self.alarm,
            lagging: self.lagging,
        }
    }

    /// A person has looked at the alarm.
    pub fn clear_alarm(&mut self) {
        self.alarm = None;
    }

    /// Asks at once, whatever was planned; but no place that asked for patience, until that is over.
    pub fn poll_now(&mut self) {
        self.next_poll = Duration::ZERO;
        for mirror in &mut self.mirrors {
            mirror.rest_until = mirror.asked_until;
        }
    }

    /// The place that would be asked now; `None` while all of them asked for patience.
    #[must_use]
    pub fn mirror(&self, moment: Moment) -> Option<usize> {
        self.pick(moment.monotonic).ok()
    }

    /// The head as one place has it now, beside whatever [`Machine::next`] would ask for; `None`
    /// while that place asked for patience.
    #[must_use]
    pub fn head_of(&self, mirror: usize, moment: Moment) -> Option<Fetch> {
        let known = self.mirrors.get(mirror).filter(|known| known.rest_until <= moment.monotonic)?;
        Some(Fetch {
            mirror,
            path: FeedPath::Head,
            limit: u64::try_from(HEAD_BYTES).unwrap_or(0),
            hold: Duration::ZERO,
            conditional: known.is_settled,
        })
    }

    /// The state in force was replaced from elsewhere: what was being fetched led on from another one.
    pub(super) fn drop_task(&mut self) {
        self.task = Task::Idle;
    }

    /// A write failed: the folder lacks something, so the next state is written whole.
    pub fn write_failed(&mut self) {
        self.must_rewrite = true;
    }

    /// What to do now.
    pub fn next(&mut self, moment: Moment) -> Next {
        let now = moment.monotonic;
        let mirror = match self.pick(now) {
            Ok(mirror) => mirror,
            Err(rest) => return Next::Sleep(rest),
        };
        let fetch = |path, limit| {
            Next::Fetch(Fetch { mirror, path, limit, hold: Duration::ZERO, conditional: false })
        };
        let lists = u64::try_from(KEY_LIST_BYTES).unwrap_or(0);
        match &self.task {
            Task::Keys(waiting) => return fetch(FeedPath::KeyList { version: waiting.version }, lists),
            Task::Data(target) => {
                if let Some((path, limit)) = target.want(&self.config) {
                    return fetch(path, limit);
                }
            }
            Task::Idle => {}
        }
        if let Some(version) = self.keys.as_ref().map(|keys| keys.version) {
            if now >= self.next_probe {
                self.search_keys_now();
            }
            let is_open = |known: &Mirror| known.is_unprobed && known.rest_until <= now;
            if let Some(mirror) = self.mirrors.iter().rposition(is_open) {
                let path = FeedPath::KeyList { version: version.saturating_add(1) };
                let hold = Duration::ZERO;
                return Next::Fetch(Fetch { mirror, path, limit: lists, hold, conditional: false });
            }
        }
        if now < self.next_poll {
            let until = self.next_poll.min(self.next_probe_at());
            return Next::Sleep(until.saturating_sub(now));
        }
        self.asked = now;
        let known = self.mirrors.get(mirror).copied().unwrap_or_default();
        // After a failure the head is asked for as it is: that answers at once, so a server that is
        // back renews the state now and not with its next heartbeat.
        let wait = self.position().filter(|_| known.failures == 0 && self.may_hold(&known, now));
        Next::Fetch(Fetch {
            mirror,
            path: wait.map_or(FeedPath::Head, |after| FeedPath::Wait { after }),
            limit: u64::try_from(HEAD_BYTES).unwrap_or(0),
            hold: if wait.is_some() { self.config.long_poll } else { Duration::ZERO },
            conditional: known.is_settled,
        })
    }

    /// Takes the answer to a fetch. `random` spreads the waits: any uniform 64 bits.
    pub fn receive(&mut self, fetch: &Fetch, response: Response, moment: Moment, random: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        let turn = Turn { mirror: fetch.mirror, moment, random };
        match fetch.path {
            FeedPath::Head | FeedPath::Wait { .. } => self.on_head(fetch, response, turn, &mut out),
            FeedPath::KeyList { version } => self.on_key_list(version, response, turn, &mut out),
            FeedPath::Delta { .. } | FeedPath::Snapshot { .. } => {
                self.on_data(fetch.path, response, turn, &mut out);
            }
        }
        out
    }

    fn on_head(&mut self, fetch: &Fetch, response: Response, turn: Turn, out: &mut Vec<Effect>) {
        let is_wait = fetch.path != FeedPath::Head;
        let waited = turn.moment.monotonic.saturating_sub(self.asked);
        // A held request that ended without news may be asked again at once; one that came
        // straight back says that nobody holds requests here.
        let was_held = is_wait && waited.saturating_mul(2) >= fetch.hold;
        match response {
            Response::Body(bytes) => {
                let before = self.floor;
                // Asked to wait while this was held: what it brings must be fetched all the same, once.
                if let Some(mirror) = self.mirrors.get_mut(turn.mirror).filter(|_| is_wait) {
                    (mirror.rest_until, mirror.asked_until) = (Duration::ZERO, Duration::ZERO);
                }
                self.consider(bytes, turn, Search::Allowed, out);
                if is_wait && (self.floor != before || was_held) {
                    self.next_poll = turn.moment.monotonic;
                }
                self.hold_again(is_wait, turn);
            }
            Response::NotModified => {
                self.answered(turn.mirror);
                self.plan_poll(turn);
                if was_held {
                    self.next_poll = turn.moment.monotonic;
                }
                self.hold_again(is_wait, turn);
                self.leave_if_frozen(turn);
            }
            Response::NotFound if is_wait => {
                let until = turn.moment.monotonic.saturating_add(self.config.key_list_poll);
                if let Some(mirror) = self.mirrors.get_mut(turn.mirror) {
                    mirror.plain_until = until;
                }
            }
            Response::NotFound | Response::Failed => self.failed(turn, None, out),
            Response::Refused { retry_after } => self.failed(turn, retry_after, out),
            Response::TooLarge => {
                out.push(Effect::Report(Event::Refused(Refusal::TooLarge)));
                self.failed(turn, None, out);
            }
        }
    }

    /// Judges a head and begins whatever follows from it.
    fn consider(&mut self, bytes: Vec<u8>, turn: Turn, search: Search, out: &mut Vec<Effect>) {
        self.task = Task::Idle;
        if self.current.as_ref().is_some_and(|current| current.bytes == bytes) {
            self.settled(turn.mirror);
            self.plan_poll(turn);
            self.leave_if_frozen(turn);
            return;
        }
        match self.judge(&bytes, turn.moment, Source::Network, &[]) {
            Verdict::NeedKeys(version) => {
                self.task = Task::Keys(Waiting { head: bytes, version, misses: 0, is_search: false });
            }
            Verdict::Refused(Refusal::NoListedKey, _) if search == Search::Allowed => {
                let version = self.keys.as_ref().map_or(1, |keys| keys.version.saturating_add(1));
                self.task = Task::Keys(Waiting { head: bytes, version, misses: 0, is_search: true });
            }
            Verdict::Refused(refusal, alarm) => self.refused(refusal, alarm, &bytes, turn, out),
            Verdict::Good(head) => {
                let head = *head;
                self.plan_poll(turn);
                let from = self.current.as_ref().map(|current| (&current.head, &current.set));
                if from.is_some_and(|(current, _)| current.position == head.position) {
                    self.settled(turn.mirror);
                    self.renew(head, bytes, turn.moment, out);
                } else {
                    let mut target = Target::new(head, bytes, from);
                    if !target.is_linked && target.head.base.length > self.config.snapshot_bytes {
                        self.refused(Refusal::TooLarge, None, &target.bytes, turn, out);
                        return;
                    }
                    match target.finish() {
                        Ok(Progress::More) => self.task = Task::Data(Box::new(target)),
                        Ok(Progress::Reached(set)) => self.reached(target, set, turn, out),
                        Err(refusal) => self.refused(refusal, None, &target.bytes, turn, out),
                    }
                }
            }
        }
    }

    fn on_key_list(&mut self, version: u64, response: Response, turn: Turn, out: &mut Vec<Effect>) {
        let task = core::mem::replace(&mut self.task, Task::Idle);
        let is_gone = response == Response::NotFound;
        let taken = match response {
            Response::Body(bytes) => match self.take_key_list(&bytes, Some(version)) {
                Ok(()) => {
                    self.answered(turn.mirror);
                    self.wrote_key_list(out);
                    true
                }
                Err(refusal) => {
                    out.push(Effect::Report(Event::Refused(refusal)));
                    self.failed(turn, None, out);
                    false
                }
            },
            Response::NotFound => {
                self.answered(turn.mirror);
                false
            }
            Response::TooLarge => {
                out.push(Effect::Report(Event::Refused(Refusal::TooLarge)));
                self.failed(turn, None, out);
                false
            }
            Response::Failed | Response::NotModified => {
                self.failed(turn, None, out);
                false
            }
            Response::Refused { retry_after } => {
                self.failed(turn, retry_after, out);
                false
            }
        };
        match task {
            Task::Keys(waiting) if taken => {
                let search = if waiting.is_search { Search::Done } else { Search::Allowed };
                self.consider(waiting.head, turn, search, out);
            }
            Task::Keys(mut waiting) => {
                waiting.misses = waiting.misses.saturating_add(1);
                if waiting.misses < self.mirrors.len() {
                    if is_gone {
                        self.rotate(turn.mirror);
                    }
                    self.task = Task::Keys(waiting);
                } else {
                    let refusal = if waiting.is_search { Refusal::NoListedKey } else { Refusal::Missing };
                    self.refused(refusal, None, &waiting.head, turn, out);
                }
            }
            Task::Idle | Task::Data(_) => {
                self.task = task;
                if taken {
                    self.search_keys_now();
                } else if let Some(mirror) = self.mirrors.get_mut(turn.mirror) {
                    mirror.is_unprobed = false;
                }
                if turn.moment.monotonic >= self.next_probe {
                    let wait = schedule::jitter(self.config.key_list_poll, turn.random);
                    self.next_probe = turn.moment.monotonic.saturating_add(wait);
                }
            }
        }
    }

    fn on_data(&mut self, path: FeedPath, response: Response, turn: Turn, out: &mut Vec<Effect>) {
        let Task::Data(mut target) = core::mem::replace(&mut self.task, Task::Idle) else { return };
        if target.want(&self.config).map(|(wanted, _)| wanted) != Some(path) {
            self.task = Task::Data(target);
            return;
        }
        let is_merged = matches!(path, FeedPath::Delta { span, .. } if span.steps() > 1);
        match response {
            Response::Body(bytes) => {
                self.answered(turn.mirror);
                match target.take(path, bytes, &self.config) {
                    Ok(Progress::More) => self.task = Task::Data(target),
                    Ok(Progress::Reached(set)) => self.reached(*target, set, turn, out),
                    Err(refusal) => {
                        out.push(Effect::Report(Event::Refused(refusal)));
                        self.rotate(turn.mirror);
                        self.fall_back(target, turn, out);
                    }
                }
            }
            Response::NotFound if is_merged => {
                target.is_single = true;
                out.push(Effect::Report(Event::NotMerged));
                self.task = Task::Data(target);
            }
            Response::NotFound
            | Response::Failed
            | Response::NotModified
            | Response::TooLarge
            | Response::Refused { .. } => {
                let retry_after = match response {
                    Response::Refused { retry_after } => retry_after,
                    Response::TooLarge => {
                        out.push(Effect::Report(Event::Refused(Refusal::TooLarge)));
                        None
                    }
                    Response::Body(_) | Response::NotFound | Response::Failed | Response::NotModified => None,
                };
                self.failed(turn, retry_after, out);
                target.misses = target.misses.saturating_add(1);
                if target.misses < self.mirrors.len().saturating_mul(2) {
                    self.task = Task::Data(target);
                } else {
                    self.fall_back(target, turn, out);
                }
            }
        }
    }

    /// Steps that are not to be had, or lead elsewhere: the snapshot, if that was not it.
    fn fall_back(&mut self, mut target: Box<Target>, turn: Turn, out: &mut Vec<Effect>) {
        if target.fall_back() && target.head.base.length <= self.config.snapshot_bytes {
            self.task = Task::Data(target);
        } else {
            self.refused(Refusal::Missing, None, &[], turn, out);
        }
    }

    fn reached(&mut self, target: Target, set: RevocationSet, turn: Turn, out: &mut Vec<Effect>) {
        let bytes = target.bytes.clone();
        match self.commit(target, set, turn.moment, out) {
            Ok(()) => {
                self.settled(turn.mirror);
                let known = self.mirrors.get(turn.mirror).copied().unwrap_or_default();
                if self.may_hold(&known, turn.moment.monotonic) {
                    self.next_poll = turn.moment.monotonic;
                }
            }
            Err(refusal) => self.refused(refusal, Some(Alarm::Unrevokes), &bytes, turn, out),
        }
    }

    /// Nothing changes but the counters, the plan and perhaps the alarm.
    fn refused(
        &mut self,
        refusal: Refusal,
        alarm: Option<Alarm>,
        head: &[u8],
        turn: Turn,
        out: &mut Vec<Effect>,
    ) {
        self.task = Task::Idle;
        out.push(Effect::Report(Event::Refused(refusal)));
        self.plan_poll(turn);
        if refusal == Refusal::Lagging {
            self.lagging = self.lagging.saturating_add(1);
            self.settled(turn.mirror);
            self.rotate(turn.mirror);
            if self.is_frozen(turn.moment) {
                self.raise(Alarm::Lagging, out);
            }
            return;
        }
        if let Some(alarm) = alarm {
            self.keep_evidence(alarm, head, out);
            self.raise(alarm, out);
        }
        self.failed(turn, None, out);
        // Whatever a place gave must be looked at again, so no 304 is asked for.
        for mirror in &mut self.mirrors {
            mirror.is_settled = false;
        }
    }

    fn raise(&mut self, alarm: Alarm, out: &mut Vec<Effect>) {
        let is_new = match self.alarm {
            None | Some(Alarm::Lagging) => self.alarm != Some(alarm),
            Some(Alarm::RolledBack | Alarm::Equivocation | Alarm::Unrevokes) => false,
        };
        if is_new {
            self.alarm = Some(alarm);
            out.push(Effect::Report(Event::Alarm(alarm)));
        }
    }

    /// Both heads, once: an enemy with a key may sign many.
    fn keep_evidence(&self, alarm: Alarm, head: &[u8], out: &mut Vec<Effect>) {
        if self.alarm == Some(alarm) {
            return;
        }
        let current = self.current.as_ref().map(|current| current.bytes.clone());
        for bytes in current.into_iter().chain(core::iter::once(head.to_vec())) {
            let name = crate::revocation::digest::digest(EVIDENCE, &[&bytes]);
            out.push(Effect::Write { file: StoreFile::Evidence(name), bytes: Arc::new(bytes) });
        }
    }

    pub(super) fn judge(&self, bytes: &[u8], moment: Moment, source: Source, older: &[KeyList]) -> Verdict {
        Judge {
            config: &self.config,
            keys: self.keys.as_ref(),
            older,
            floor: &self.floor,
            current: self.current.as_ref().map(|current| &current.head),
            now: self.now(moment),
            source,
        }
        .judge(bytes)
    }

    /// The larger of the clock and what the heads of this epoch have proven.
    pub(super) fn now(&self, moment: Moment) -> Timestamp {
        let epoch = self.keys.as_ref().map(|keys| keys.epoch);
        if epoch != Some(self.floor.position.epoch) {
            return moment.wall;
        }
        self.proven.now(moment).max(moment.wall)
    }

    /// Nothing newer for three times the signed poll interval, or three heartbeats where that
    /// is longer: between two heartbeats there is nothing newer to be had.
    fn is_frozen(&self, moment: Moment) -> bool {
        self.current.as_ref().is_some_and(|current| {
            current.unrenewed(moment) > current.head.poll_after.max(HEARTBEAT).saturating_mul(3)
        })
    }

    fn leave_if_frozen(&mut self, turn: Turn) {
        if self.is_frozen(turn.moment) {
            self.rotate(turn.mirror);
        }
    }

    /// Whether a request may be held back there until something is new.
    fn may_hold(&self, mirror: &Mirror, now: Duration) -> bool {
        now >= mirror.plain_until && !self.config.long_poll.is_zero()
    }

    /// A plain request that was answered well is followed by one that is held, at once.
    fn hold_again(&mut self, was_wait: bool, turn: Turn) {
        let known = self.mirrors.get(turn.mirror).copied().unwrap_or_default();
        let now = turn.moment.monotonic;
        if !was_wait && known.failures == 0 && self.position().is_some() && self.may_hold(&known, now) {
            self.next_poll = now;
        }
    }

    fn plan_poll(&mut self, turn: Turn) {
        let signed = self.current.as_ref().map_or(Duration::ZERO, |current| current.head.poll_after);
        let wait = schedule::jitter(self.config.poll.max(signed), turn.random);
        self.next_poll = turn.moment.monotonic.saturating_add(wait);
    }

    fn pick(&self, now: Duration) -> Result<usize, Duration> {
        let count = self.mirrors.len();
        let order = (self.at..count).chain(0..self.at.min(count));
        let mut rest = Duration::MAX;
        for index in order {
            let until = self.mirrors.get(index).map_or(Duration::ZERO, |mirror| mirror.rest_until);
            if until <= now {
                return Ok(index);
            }
            rest = rest.min(until.saturating_sub(now));
        }
        Err(rest)
    }

    fn rotate(&mut self, from: usize) {
        let next = from.saturating_add(1);
        self.at = if next < self.mirrors.len() { next } else { 0 };
    }

    fn answered(&mut self, mirror: usize) {
        if let Some(mirror) = self.mirrors.get_mut(mirror) {
            mirror.failures = 0;
        }
    }

    fn settled(&mut self, mirror: usize) {
        if let Some(mirror) = self.mirrors.get_mut(mirror) {
            mirror.failures = 0;
            mirror.is_settled = true;
        }
    }

    fn failed(&mut self, turn: Turn, retry_after: Option<Duration>, out: &mut Vec<Effect>) {
        if let Some(mirror) = self.mirrors.get_mut(turn.mirror) {
            mirror.failures = mirror.failures.saturating_add(1);
            let wait = schedule::backoff(&self.config, mirror.failures, turn.random);
            let asked = retry_after.map_or(Duration::ZERO, |wait| wait.min(self.config.retry_after_cap));
            // A request that was under way meanwhile may fail without a word of it.
            mirror.asked_until = mirror.asked_until.max(turn.moment.monotonic.saturating_add(asked));
            mirror.rest_until = turn.moment.monotonic.saturating_add(wait).max(mirror.asked_until);
        }
        out.push(Effect::Report(Event::Unavailable { mirror: turn.mirror }));
        self.rotate(turn.mirror);
    }

    pub(super) fn search_keys_now(&mut self) {
        for mirror in &mut self.mirrors {
            mirror.is_unprobed = true;
        }
    }

    /// When the next key list is looked for; never while there is none to come after. A mirror that asked
    /// for patience is asked when that is over.
    fn next_probe_at(&self) -> Duration {
        if self.keys.is_none() {
            return Duration::MAX;
        }
        let unprobed = self.mirrors.iter().filter(|mirror| mirror.is_unprobed);
        unprobed
            .map(|mirror| mirror.rest_until)
            .min()
            .map_or(self.next_probe, |rest| rest.min(self.next_probe))
    }
}

/// What goes with one answer.
#[derive(Clone, Copy)]
struct Turn {
    mirror: usize,
    moment: Moment,
    random: u64,
}

/// Whether a head that no listed key verifies may still send for the next key list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    Allowed,
    Done,
}

const EVIDENCE: &crate::revocation::digest::Tag = b"tk-evidence-v1\0\0";
