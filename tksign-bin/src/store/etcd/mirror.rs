//! What keeps a signer's mirror up to date and its lease alive: two threads beside the writer.
//!
//! The watch hands over what others and we have written, in order, whole revisions at a time. It
//! resumes after the last revision that it has seen; where etcd has compacted that away, everything
//! is read anew. The other thread asks the cluster once a second how far it is: an answer is the
//! mirror's contact, which says how old it is, and the occasion to keep or to seek the lease.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use serde_json::{Value, json};
use tkcore::Timestamp;

use super::gateway::{Cluster, Gateway, Trouble};
use super::space::{self, LEADER, SIGNERS, Space, at, field, number};
use super::{PAGE, base64};
use crate::clock::{Clock as _, SystemClock, monotonic};
use crate::random;
use crate::store::StoreError;

/// How often the cluster is asked for its revision and the lease is kept.
const TICK: Duration = Duration::from_secs(1);
/// How long the watch listens before it looks whether it is to stop.
const LISTEN: Duration = Duration::from_millis(500);
/// How long a broken watch waits before it is begun again.
const AGAIN: Duration = Duration::from_millis(100);
/// The publisher's lease, in seconds: how long publishing pauses when its process is gone. Above
/// several ticks; etcd gives no less than about two.
const LEASE: &str = "5";
/// Without an answer for so long the signer is cut off: at once for callers who would otherwise
/// wait, and longer than an election takes.
const CUT_OFF: Duration = Duration::from_secs(4);
/// Without one for so long it ends: heads that are so old are not decided by any more either.
const END: Duration = Duration::from_secs(3600);
/// When the mirror is behind for so long, its watch hangs at a member that is itself cut off.
const BEHIND: Duration = Duration::from_secs(2);
/// How far a clock may be from that of the member which answers: whoever is further off writes
/// nothing and leads nobody, since what it mints would lie ahead of everybody's floors.
pub(super) const SKEW: Duration = Duration::from_secs(5);
/// What is said when the cluster has become an older one.
pub(super) const WENT_BACK: &str = "etcd holds less than this signer has seen: an older copy was restored; start the signers again, and see `tksign restore-check`";
/// How long reading everything may take, or a write while a store is opened or moved.
pub(super) const LOAD: Duration = Duration::from_secs(60);

/// Mirrored rows by key below `m/`, with the revision of each.
pub(super) type Rows = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

/// What came from etcd.
pub(super) enum Batch {
    /// Changes of whole revisions: key below `m/`, revision, value or deletion.
    Events(Vec<(Vec<u8>, i64, Option<Vec<u8>>)>),
    /// Everything, after a gap.
    Whole(Rows),
}

/// The part of a store that its threads share.
pub(super) struct Mirror {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    batches: Vec<Batch>,
    revision: i64,
    contact: Instant,
    /// Since when the mirror has been behind the cluster.
    behind: Option<Instant>,
    /// What etcd's clock said last.
    told: Option<Told>,
    /// The revision at which this process got to lead; 0 when it does not.
    leads: i64,
    /// Whether it wants to: it has somebody who uses the turn, and is not frozen.
    may_lead: bool,
    /// What the lease's thread has last acted on of that.
    could_lead: bool,
    /// Why nothing is written any more, if so.
    frozen: Option<String>,
    stop: bool,
    wake: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Mirror {
    pub(super) fn start(
        cluster: &Cluster,
        space: &Space,
        process: [u8; 16],
        revision: i64,
    ) -> Result<Arc<Self>, StoreError> {
        let state = State {
            batches: Vec::new(),
            revision,
            contact: monotonic(),
            behind: None,
            told: None,
            leads: 0,
            may_lead: false,
            could_lead: false,
            frozen: None,
            stop: false,
            wake: None,
        };
        let mirror = Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() });
        let gateway = || Gateway::new(cluster.clone());
        let mut turn = Turn { gateway: gateway()?, space: space.clone(), process, lease: None };
        // What etcd's clock says is known before anything is decided.
        turn.tick(&mirror);
        let (watched, spaced, watching) = (Arc::clone(&mirror), space.clone(), gateway()?);
        let ticked = Arc::clone(&mirror);
        let spawned = thread::Builder::new()
            .name("etcd-watch".to_owned())
            .spawn(move || watch(&watched, &spaced, watching))
            .and_then(|_| {
                thread::Builder::new().name("etcd-lease".to_owned()).spawn(move || turn.run(&ticked))
            });
        spawned.map_err(|error| StoreError::Io("threads of the mirror".into(), error))?;
        Ok(mirror)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.lock().batches)
    }

    pub(super) fn revision(&self) -> i64 {
        self.lock().revision
    }

    pub(super) fn age(&self) -> Duration {
        monotonic().saturating_duration_since(self.lock().contact)
    }

    pub(super) fn leads(&self) -> i64 {
        let state = self.lock();
        if state.may_lead { state.leads } else { 0 }
    }

    /// Writes no more, for this reason, and leaves the lease to others.
    pub(super) fn freeze(&self, why: &str) {
        let mut state = self.lock();
        state.may_lead = false;
        state.frozen.get_or_insert_with(|| why.to_owned());
    }

    /// Whoever wants news is ready to publish: from here on this process leads where nobody does, at
    /// once if etcd answers.
    pub(super) fn on_news(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let mut state = self.lock();
        state.wake = Some(wake);
        state.may_lead = state.frozen.is_none();
        self.changed.notify_all();
        let sought = |state: &mut State| state.may_lead != state.could_lead && !state.stop;
        drop(self.changed.wait_timeout_while(state, BEHIND, sought));
    }

    /// Nothing was heard for too long.
    pub(super) fn unheard(&self) -> Option<String> {
        let age = self.age();
        (age > CUT_OFF).then(|| format!("cut off from etcd: what is known here is {} s old", age.as_secs()))
    }

    /// Why nothing may be written.
    pub(super) fn cut_off(&self) -> Option<String> {
        let is_apart = |by: Duration| {
            format!("the clock of this machine is {} s apart from etcd's: set it right", by.as_secs())
        };
        let unheard = self.unheard();
        let state = self.lock();
        let apart = state.told.and_then(|told| told.apart(SystemClock.now(), monotonic()));
        state.frozen.clone().or(unheard).or_else(|| apart.map(is_apart))
    }

    /// Waits until the mirror has reached a revision.
    pub(super) fn reach(&self, revision: i64, patience: Duration) -> Result<(), String> {
        let late = |state: &mut State| state.revision < revision && !state.stop;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, late);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.revision >= revision { Ok(()) } else { Err("the watch of etcd is behind".to_owned()) }
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    fn add(&self, batch: Batch, revision: i64) {
        let mut state = self.lock();
        state.batches.push(batch);
        state.revision = state.revision.max(revision);
        state.behind = None;
        if let Some(wake) = &state.wake {
            wake();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Asks how the cluster stands. Its revisions only rise, unless an older copy was put in its place.
    pub(super) fn ask(
        &self,
        gateway: &mut Gateway,
        space: &Space,
        patience: Duration,
    ) -> Result<Standing, Trouble> {
        let seen = self.revision();
        let standing = Standing::ask(gateway, space, patience)?;
        if standing.now < seen {
            self.freeze(WENT_BACK);
        }
        Ok(standing)
    }

    /// The cluster has answered: so far is it.
    fn heard(&self, standing: &Standing, told: Option<Told>, leads: i64) {
        let mut state = self.lock();
        state.contact = monotonic();
        state.told = told;
        let since = state.behind.unwrap_or(state.contact);
        state.behind = (standing.latest() > state.revision).then_some(since);
        if state.leads != leads {
            state.leads = leads;
            if let Some(wake) = &state.wake {
                wake();
            }
        }
    }

    fn is_behind(&self) -> bool {
        let state = self.lock();
        state.behind.is_some_and(|since| monotonic().saturating_duration_since(since) > BEHIND)
    }
}

/// Everything below `m/` at one revision.
pub(super) fn load(gateway: &mut Gateway, space: &Space) -> Result<(i64, Rows), Trouble> {
    let prefix = space.whole(b"");
    let (mut rows, mut from, mut revision) = (Rows::new(), prefix.clone(), 0);
    loop {
        let more = [("limit", PAGE.to_string().into()), ("revision", revision.to_string().into())];
        let asked = space::range(&from, &space::successor(&prefix), more);
        let answer = gateway.call("/v3/kv/range", &asked, LOAD)?;
        if revision == 0 {
            revision = number(at(&answer, "/header/revision"));
        }
        for row in at(&answer, "/kvs").as_array().map_or(&[][..], Vec::as_slice) {
            let (key, at, value) = entry(&prefix, row)?;
            from = [&prefix[..], &key, &[0]].concat();
            rows.insert(key, (at, value));
        }
        if at(&answer, "/more") != true {
            return Ok((revision, rows));
        }
    }
}

/// What belongs to no table, as most members have it.
pub(super) struct Standing {
    /// The cluster's revision.
    now: i64,
    /// Who publishes, and since which revision.
    leader: Option<(i64, Vec<u8>)>,
    /// Each signer's row and the revision of its last transaction.
    pub(super) signers: Vec<(Vec<u8>, i64)>,
}

impl Standing {
    pub(super) fn ask(gateway: &mut Gateway, space: &Space, patience: Duration) -> Result<Self, Trouble> {
        let asked = space::range(&space.whole(LEADER), &space::successor(&space.whole(SIGNERS)), []);
        let answer = gateway.call("/v3/kv/range", &asked, patience)?;
        let now = number(at(&answer, "/header/revision"));
        let mut standing = Self { now, leader: None, signers: Vec::new() };
        for row in at(&answer, "/kvs").as_array().map_or(&[][..], Vec::as_slice) {
            match entry(&space.whole(b""), row)? {
                (key, at, value) if key == LEADER => standing.leader = Some((at, value)),
                (key, at, _) if key.starts_with(SIGNERS) => standing.signers.push((key, at)),
                _ => {}
            }
        }
        Ok(standing)
    }

    /// The revision of the last transaction of any signer.
    pub(super) fn latest(&self) -> i64 {
        self.signers.iter().map(|(_, at)| *at).max().unwrap_or(0)
    }
}

pub(super) fn entry(prefix: &[u8], row: &Value) -> Result<(Vec<u8>, i64, Vec<u8>), Trouble> {
    let wrong = || Trouble::Silent("a row that does not read".to_owned());
    let key = field(at(row, "/key")).ok_or_else(wrong)?;
    let key = key.strip_prefix(prefix).ok_or_else(wrong)?.to_vec();
    Ok((key, number(at(row, "/mod_revision")), field(at(row, "/value")).ok_or_else(wrong)?))
}

/// The watch's thread.
fn watch(mirror: &Mirror, space: &Space, mut gateway: Gateway) {
    while !mirror.is_stopped() {
        let prefix = space.whole(b"");
        let next = mirror.revision().saturating_add(1).to_string();
        let more = [("start_revision", next.into()), ("fragment", true.into())];
        let asked = json!({"create_request": space::range(&prefix, &space::successor(&prefix), more)});
        let is_compacted = match gateway.open("/v3/watch", &asked) {
            Ok(mut stream) => follow(mirror, &prefix, &mut gateway, &mut stream),
            Err(_) => false,
        };
        if is_compacted && let Ok((revision, rows)) = load(&mut gateway, space) {
            eprintln!("tksign: etcd has compacted what this signer had not seen; everything is read anew");
            mirror.add(Batch::Whole(rows), revision);
        } else {
            gateway.turn();
            drop(mirror.changed.wait_timeout(mirror.lock(), AGAIN));
        }
    }
}

/// Takes in what a watch brings until it ends; whether it did because its beginning is gone.
fn follow(mirror: &Mirror, prefix: &[u8], gateway: &mut Gateway, stream: &mut Incoming) -> bool {
    let (mut text, mut events, mut reached) = (Vec::new(), Vec::new(), 0);
    // How far behind the watch before it was says nothing of this one.
    mirror.lock().behind = None;
    while !mirror.is_stopped() && !mirror.is_behind() {
        match gateway.next(stream, LISTEN) {
            Ok(Some(bytes)) => text.extend_from_slice(&bytes),
            Ok(None) => continue,
            Err(_) => return false,
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let Ok(mut message) = serde_json::from_slice::<Value>(&line) else { return false };
            let result = message.get_mut("result").map(Value::take).unwrap_or_default();
            if number(at(&result, "/compact_revision")) > 0 {
                return true;
            }
            if result.is_null() || at(&result, "/canceled") == true {
                return false;
            }
            for event in at(&result, "/events").as_array().map_or(&[][..], Vec::as_slice) {
                let Ok((key, revision, value)) = entry(prefix, at(event, "/kv")) else {
                    return false;
                };
                reached = reached.max(revision);
                events.push((key, revision, (at(event, "/type") != "DELETE").then_some(value)));
            }
            // A revision in several messages is taken when its last one is there.
            if at(&result, "/fragment") != true && !events.is_empty() {
                mirror.add(Batch::Events(std::mem::take(&mut events)), reached);
            }
        }
    }
    false
}

/// The lease's thread.
struct Turn {
    gateway: Gateway,
    space: Space,
    process: [u8; 16],
    lease: Option<String>,
}

impl Turn {
    fn run(mut self, mirror: &Mirror) {
        while !mirror.is_stopped() {
            let idle = |state: &mut State| !state.stop && state.may_lead == state.could_lead;
            drop(mirror.changed.wait_timeout_while(mirror.lock(), TICK, idle));
            let may_lead = mirror.lock().may_lead;
            self.tick(mirror);
            mirror.lock().could_lead = may_lead;
            mirror.changed.notify_all();
            if mirror.age() > END {
                random::stop("nothing was heard of etcd for an hour");
            }
        }
        self.give_back();
    }

    fn tick(&mut self, mirror: &Mirror) {
        if mirror.is_stopped() || !mirror.lock().may_lead {
            self.give_back();
        }
        // Twice: the second look finds what the first one took.
        for _ in 0..2 {
            let asked = monotonic();
            let Ok(standing) = mirror.ask(&mut self.gateway, &self.space, TICK) else { return };
            let told = self.gateway.date().map(|date| Told { date, asked, answered: monotonic() });
            let is_apart = told.is_some_and(|told| told.apart(SystemClock.now(), monotonic()).is_some());
            if is_apart {
                self.give_back();
            }
            let ours = standing.leader.as_ref().filter(|(_, process)| *process == self.process);
            let leads = ours.map_or(0, |(at, _)| if self.keep() { *at } else { 0 });
            mirror.heard(&standing, told, leads);
            let may_not = is_apart || standing.leader.is_some() || !mirror.lock().may_lead;
            if may_not || mirror.is_stopped() || !self.seek() {
                return;
            }
        }
    }

    /// Whether the lease lives, as far as is known. Silence says nothing of it: the row is there, so
    /// nobody else can lead, and the next tick asks again.
    fn keep(&mut self) -> bool {
        let Some(lease) = &self.lease else { return false };
        let kept = self.gateway.call("/v3/lease/keepalive", &json!({"ID": lease}), TICK);
        if kept.is_ok_and(|answer| number(at(&answer, "/result/TTL")) <= 0) {
            self.lease = None;
        }
        self.lease.is_some()
    }

    /// Tries to lead where nobody does.
    fn seek(&mut self) -> bool {
        let granted = self.gateway.call("/v3/lease/grant", &json!({"TTL": LEASE}), TICK);
        let lease = granted.ok().and_then(|answer| at(&answer, "/ID").as_str().map(str::to_owned));
        let Some(lease) = lease else { return false };
        let (key, process) = (base64::encode(&self.space.whole(LEADER)), base64::encode(&self.process));
        let put = json!({"request_put": {"key": key, "value": process, "lease": lease}});
        let seek = json!({"compare": [self.space.compare(LEADER, 0)], "success": [put]});
        self.lease = Some(lease);
        self.gateway.call("/v3/kv/txn", &seek, TICK).is_ok_and(|answer| at(&answer, "/succeeded") == true)
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            // Ends by itself otherwise.
            let _ = self.gateway.call("/v3/lease/revoke", &json!({"ID": lease}), TICK);
        }
    }
}

/// What a member's clock said, in whole seconds, at some moment between the question and the answer.
#[derive(Clone, Copy)]
struct Told {
    date: Timestamp,
    asked: Instant,
    answered: Instant,
}

impl Told {
    /// How far this machine's clock is from that one by now; nothing within what is allowed. A clock
    /// that jumps is thus found out by the next decision.
    fn apart(self, clock: Timestamp, now: Instant) -> Option<Duration> {
        let since = |then| now.saturating_duration_since(then);
        let latest = self.date.saturating_add(Duration::from_secs(1)).saturating_add(since(self.asked));
        let earliest = self.date.saturating_add(since(self.answered));
        let by = clock.saturating_since(latest).max(earliest.saturating_since(clock));
        Some(by).filter(|by| *by > SKEW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_be_so_far_apart_and_no_further() {
        let at = |millis| Timestamp::from_millis(millis).unwrap_or(Timestamp::MAX);
        let answered = monotonic();
        let asked = answered.checked_sub(Duration::from_secs(1)).unwrap_or(answered);
        let told = Told { date: at(100_000), asked, answered };
        let apart = |later: u64, clock| {
            told.apart(at(clock), answered + Duration::from_millis(later)).map(|by| by.as_millis())
        };
        assert_eq!(apart(0, 107_000), None, "the second that the date leaves out, and the one it took");
        assert_eq!(apart(0, 107_001), Some(5001));
        assert_eq!(apart(0, 95_000), None);
        assert_eq!(apart(0, 94_999), Some(5001));
        // It runs on.
        assert_eq!(apart(60_000, 160_000), None);
        assert_eq!(apart(60_000, 107_000), Some(53_000));
    }
}
