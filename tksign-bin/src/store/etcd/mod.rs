//! The store of several signers: an etcd cluster, reached over its JSON gateway.
//!
//! Each process has a *mirror*: the small tables as etcd had them at one revision, brought forward
//! by a watch and only between two decisions, so that a decision sees one moment. Registry, kept
//! answers and audit lines are read from etcd when they are asked for.
//!
//! Every transaction compares, besides what its changes expect, three rows and writes the first:
//! - `~signer/NAME`, this process's own: a second process of that name, or a transaction whose
//!   answer was lost, is found out by it. It holds the end of the signer's audit chain.
//! - `~guard`, which changes with keys, clients, key lists and the secret: nothing is decided by a
//!   client that was removed or a key that was retired at another signer.
//! - `~leader`, if it writes the feed: only the process that holds the lease under that row, at
//!   the revision at which it got it, closes steps and signs heads. The lease itself fences nothing.
//!
//! etcd takes 128 operations and 1.5 MiB in one transaction. Operations nest, which lifts the first
//! bound for writes; a group of changes with too many comparisons or bytes becomes several
//! transactions, each whole changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tkcore::FeedDigest;
use tkcore::protocol::AuditHead;

use super::{Change, Op, Order, Refusal, Row, Scan, Store, StoreError, Table};
use crate::random;

mod base64;
mod gateway;
mod mirror;
mod space;
mod stream;
mod txn;

use gateway::Gateway;
pub use gateway::{Cluster, Login};
use mirror::{Batch, Mirror};
pub use space::Space;
use space::{LEADER, MIGRATING, SCHEMA, at, field, number};
pub use stream::Tls;
use txn::{Group, Pending};

/// How long a group waits for the cluster before it is read-only: above an election (some 2 s).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a transaction whose answer is outstanding is asked for.
const COMMIT: Duration = Duration::from_secs(10);
/// Rows in one answer.
const PAGE: usize = 2000;
/// The layout in etcd.
const LAYOUT: u32 = 1;
/// In the marker of a store that has moved elsewhere.
const OUT: &[u8] = b"out";

/// One signer's view of the cluster.
pub struct Etcd {
    gateway: RefCell<Gateway>,
    space: Space,
    mirror: Arc<Mirror>,
    /// The mirrored rows by key below `m/`, with the revision of each.
    rows: mirror::Rows,
    /// What was taken into `rows` and not yet told.
    fresh: Vec<Op>,
    group: Option<Group>,
    fence: Fence,
    /// Transactions that this process has sent, whatever became of them.
    sent: u64,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Etcd({:?})", self.space)
    }
}

/// What this process writes into its own row: who it is, which of its transactions that was, its audit
/// chain's end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fence {
    process: [u8; 16],
    writes: u64,
    audit: AuditHead,
}

impl Fence {
    fn encode(&self) -> Vec<u8> {
        let lines = self.audit.lines.to_be_bytes();
        [&self.process[..], &self.writes.to_be_bytes(), &lines, &self.audit.hash].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (process, rest) = bytes.split_first_chunk()?;
        let (writes, rest) = rest.split_first_chunk()?;
        let (lines, rest) = rest.split_first_chunk()?;
        let audit = AuditHead { lines: u64::from_be_bytes(*lines), hash: rest.try_into().ok()? };
        Some(Self { process: *process, writes: u64::from_be_bytes(*writes), audit })
    }
}

impl Etcd {
    /// Opens the store under a prefix, in the name of one signer. Another process of that name
    /// can write no more from here on.
    ///
    /// # Errors
    /// [`StoreError`]: no store there, a newer one, a migration that was not finished, or no answer.
    pub fn open(cluster: &Cluster, space: Space) -> Result<Self, StoreError> {
        Self::open_for(cluster, space, false)
    }

    fn open_for(cluster: &Cluster, space: Space, is_migrating: bool) -> Result<Self, StoreError> {
        let mut gateway = connect(cluster, &space)?;
        let (_, rows) = mirror::load(&mut gateway, &space)?;
        let (missing, damaged) = (StoreError::Missing(place(cluster, &space)), StoreError::Damaged);
        if rows.contains_key(MIGRATING) != is_migrating {
            let what = if is_migrating {
                "no migration is under way"
            } else {
                "it has moved, or a migration into it was not finished: see `tksign migrate`"
            };
            return Err(damaged(what.to_owned()));
        }
        let (_, layout) = rows.get(SCHEMA).ok_or(missing)?;
        match layout.as_slice().try_into().map(u32::from_be_bytes) {
            Ok(LAYOUT) => {}
            Ok(newer) => return Err(StoreError::Newer(newer, LAYOUT)),
            Err(_) => return Err(damaged("its layout's number does not read".to_owned())),
        }
        let own = space.fence();
        let audit = match rows.get(&own) {
            Some((_, value)) => {
                Fence::decode(value).ok_or_else(|| damaged("a signer's row".to_owned()))?.audit
            }
            None => AuditHead { lines: 0, hash: [0; 32] },
        };
        let fence = Fence { process: random::bytes(), writes: 0, audit };
        let free = space.compare(&own, revision(&rows, &own));
        if !transact(&mut gateway, &[free], &[space.put(&own, &fence.encode())])? {
            return Err(StoreError::Held(place(cluster, &space)));
        }
        let (revision, rows) = mirror::load(&mut gateway, &space)?;
        let mirror = Mirror::start(cluster, &space, fence.process, revision)?;
        let gateway = RefCell::new(gateway);
        Ok(Self { gateway, space, mirror, rows, fresh: Vec::new(), group: None, fence, sent: 0 })
    }

    /// Makes an empty store.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is one under the prefix.
    pub fn create(cluster: &Cluster, space: Space) -> Result<Self, StoreError> {
        let (none, layout) = (space.compare(SCHEMA, 0), space.put(SCHEMA, &LAYOUT.to_be_bytes()));
        if !transact(&mut connect(cluster, &space)?, &[none], &[layout])? {
            return Err(StoreError::Exists(place(cluster, &space)));
        }
        Self::open(cluster, space)
    }

    /// An empty store that nobody can open before [`Etcd::imported`]. What an import that was cut off
    /// has left is removed first.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is a store that is no such rest.
    pub fn import(cluster: &Cluster, space: Space) -> Result<Self, StoreError> {
        let mut gateway = connect(cluster, &space)?;
        let (_, rows) = mirror::load(&mut gateway, &space)?;
        let is_rest = rows.get(MIGRATING).is_some_and(|(_, value)| value != OUT);
        if !is_rest && rows.contains_key(SCHEMA) {
            return Err(StoreError::Exists(place(cluster, &space)));
        }
        let all = space::range(&space.prefix, &space::successor(&space.prefix), []);
        transact(&mut gateway, &[], &[json!({"request_delete_range": all})])?;
        let made = [space.put(SCHEMA, &LAYOUT.to_be_bytes()), space.put(MIGRATING, b"in")];
        transact(&mut gateway, &[space.compare(SCHEMA, 0)], &made)?;
        Self::open_for(cluster, space, true)
    }

    /// Marks an import as complete and checked by `digest`, its source not yet given up.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn checked(&mut self, digest: &[u8; 32]) -> Result<(), StoreError> {
        transact(self.gateway.get_mut(), &[], &[self.space.put(MIGRATING, digest)]).map(drop)
    }

    /// Ends an import: from here on signers can open it. `false` when there is none that was
    /// [`Etcd::checked`].
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn imported(cluster: &Cluster, space: &Space) -> Result<bool, StoreError> {
        let mut gateway = connect(cluster, space)?;
        let (_, rows) = mirror::load(&mut gateway, space)?;
        if rows.get(MIGRATING).is_none_or(|(_, value)| value.len() != 32) {
            return Ok(false);
        }
        transact(&mut gateway, &[], &[space::delete(&space.whole(MIGRATING))])
    }

    /// Closes a store for good, to be copied elsewhere: in every signer's name, whose processes can
    /// write no more. By name.
    ///
    /// # Errors
    /// As [`Etcd::open`].
    pub fn export(cluster: &Cluster, prefix: &str) -> Result<BTreeMap<String, Self>, StoreError> {
        let at = |name: &str| Space::new(prefix, name).ok_or_else(|| damaged("a signer's name"));
        let space = at("export")?;
        let mut gateway = connect(cluster, &space)?;
        let (_, rows) = mirror::load(&mut gateway, &space)?;
        if !rows.contains_key(SCHEMA) {
            return Err(StoreError::Missing(place(cluster, &space)));
        }
        if rows.get(MIGRATING).is_some_and(|(_, value)| value != OUT) {
            return Err(damaged("a migration into it was not finished: run it again"));
        }
        transact(&mut gateway, &[], &[space.put(MIGRATING, OUT)])?;
        // A signer that came in between is among these.
        let (_, rows) = mirror::load(&mut gateway, &space)?;
        let names = rows.keys().filter_map(|key| key.strip_prefix(space::SIGNERS));
        let names = names.filter_map(|name| String::from_utf8(name.to_vec()).ok());
        let opened = names.map(|name| Ok((name.clone(), Self::open_for(cluster, at(&name)?, true)?)));
        let mut opened = opened.collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        // Who was opened later could write until then, which those before it have not seen.
        for store in opened.values_mut() {
            store.begin()?;
            let cut_off = store.group.as_ref().and_then(|group| group.read_only.clone());
            cut_off.map_or(Ok(()), |why| Err(StoreError::CutOff(why)))?;
        }
        Ok(opened)
    }

    /// Tells, from beside the writer, the revision that the mirror has reached, how long ago the
    /// cluster was last heard of, and whether this signer closes steps and signs heads.
    pub fn gauges(&self) -> impl Fn() -> (i64, Duration, bool) + Send + Sync + use<> {
        let mirror = Arc::clone(&self.mirror);
        move || (mirror.revision(), mirror.age(), mirror.leads() != 0)
    }

    /// Takes what the watch has brought into the rows.
    fn drain(&mut self) {
        for batch in self.mirror.take() {
            match batch {
                Batch::Events(events) => events.into_iter().for_each(|(key, revision, value)| {
                    self.take(key, revision, value);
                }),
                // Signers' rows stay, and only rise. Nothing of an older copy is taken in.
                Batch::Whole(rows) if self.signers().any(|(key, was)| revision(&rows, key) < was) => {
                    self.mirror.freeze(mirror::WENT_BACK);
                }
                Batch::Whole(rows) => {
                    let gone: Vec<_> =
                        self.rows.keys().filter(|key| !rows.contains_key(*key)).cloned().collect();
                    gone.into_iter().for_each(|key| self.take(key, 0, None));
                    for (key, (revision, value)) in rows {
                        if self.rows.get(&key).is_none_or(|(known, _)| *known != revision) {
                            self.take(key, revision, Some(value));
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, key: Vec<u8>, revision: i64, value: Option<Vec<u8>>) {
        if let Some((table, row)) = Space::row(&key) {
            self.fresh.push(match &value {
                Some(value) => Op::Put(table, row.to_vec(), value.clone()),
                None => Op::Delete(table, row.to_vec()),
            });
        }
        match value {
            Some(value) => self.rows.insert(key, (revision, value)),
            None => self.rows.remove(&key),
        };
    }

    /// A row as it was before the open group, with its revision; 0 when it is not there.
    fn stored(&self, table: Table, key: &[u8]) -> Result<(i64, Option<Vec<u8>>), StoreError> {
        if Space::is_mirrored(table) {
            let row = self.rows.get(&Space::mirrored(table, key));
            return Ok(row.map_or((0, None), |(revision, value)| (*revision, Some(value.clone()))));
        }
        let asked = json!({"key": base64::encode(&self.space.path(table, key))});
        let answer = self.ask("/v3/kv/range", &asked)?;
        let row = at(&answer, "/kvs/0");
        self.see(row);
        let value = if row.is_null() { None } else { field(at(row, "/value")) };
        Ok((number(at(row, "/mod_revision")), value))
    }

    /// What was read is later than the group's moment: what is mirrored belongs to an earlier one, so
    /// the group is decided again.
    fn see(&self, row: &Value) {
        if let Some(group) = &self.group
            && number(at(row, "/mod_revision")) > group.moment
        {
            group.is_late.set(true);
        }
    }

    /// The rows of all signers, each of which changes with whatever its signer writes.
    fn signers(&self) -> impl Iterator<Item = (&Vec<u8>, i64)> {
        let rows = self.rows.iter().filter(|(key, _)| key.starts_with(space::SIGNERS));
        rows.map(|(key, (revision, _))| (key, *revision))
    }

    /// Those of the others.
    fn others(&self) -> impl Iterator<Item = (Vec<u8>, i64)> {
        let others = self.signers().filter(|(key, _)| **key != self.space.fence());
        others.map(|(key, revision)| (self.space.whole(key), revision))
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value, StoreError> {
        // Waited for by the first, not by every caller in turn.
        if let Some(why) = self.mirror.unheard() {
            return Err(StoreError::CutOff(why));
        }
        Ok(self.gateway.borrow_mut().call(path, body, PATIENCE)?)
    }

    /// Rows of a table as they were before the open group.
    fn base(&self, scan: &Scan<'_>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        if Space::is_mirrored(scan.table) {
            let prefix = Space::mirrored(scan.table, &[]);
            let (low, high) = Space::window(scan);
            let from = [&prefix[..], &low].concat();
            let upto = high.map_or_else(|| space::successor(&prefix), |high| [&prefix[..], &high].concat());
            let strip = |(key, (_, value)): (&Vec<u8>, &(i64, Vec<u8>))| {
                Some((key.strip_prefix(&prefix[..])?.to_vec(), value.clone()))
            };
            if from < upto {
                let range = self.rows.range(from..upto);
                match scan.order {
                    Order::Forward => rows.extend(range.filter_map(strip).take(limit)),
                    Order::Backward => rows.extend(range.rev().filter_map(strip).take(limit)),
                }
            }
            return Ok(rows);
        }
        let prefix = self.space.path(scan.table, &[]);
        let mut after = scan.after.map(<[u8]>::to_vec);
        while rows.len() < limit {
            let page = PAGE.min(limit.saturating_sub(rows.len()));
            let (low, high) = Space::window(&Scan { after: after.as_deref(), ..*scan });
            let upto = high.map_or_else(|| space::successor(&prefix), |high| [&prefix[..], &high].concat());
            let order = if scan.order == Order::Forward { "NONE" } else { "DESCEND" };
            let limit = ("limit", page.to_string().into());
            let more = [limit, ("sort_order", order.into()), ("sort_target", "KEY".into())];
            let asked = space::range(&[&prefix[..], &low].concat(), &upto, more);
            let answer = self.ask("/v3/kv/range", &asked)?;
            let found = at(&answer, "/kvs").as_array().map_or(&[][..], Vec::as_slice);
            for row in found {
                self.see(row);
                let (key, _, value) = mirror::entry(&prefix, row)?;
                rows.push((key, value));
            }
            after = rows.last().map(|(key, _)| key.clone());
            if found.len() < page {
                break;
            }
        }
        Ok(rows)
    }
}

impl Store for Etcd {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.group.as_ref().and_then(|group| group.written(table, key)) {
            Some(value) => Ok(value.clone()),
            None => self.stored(table, key).map(|(_, value)| value),
        }
    }

    fn scan(&self, scan: Scan<'_>) -> Result<Vec<Row>, StoreError> {
        let written = self.group.as_ref().map_or_else(Vec::new, |group| group.in_table(&scan));
        let base = self.base(&scan, scan.limit.saturating_add(written.len()))?;
        if written.is_empty() {
            return Ok(base);
        }
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().collect();
        for (key, value) in written {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(match scan.order {
            Order::Forward => rows.into_iter().take(scan.limit).collect(),
            Order::Backward => rows.into_iter().rev().take(scan.limit).collect(),
        })
    }

    fn count(&self, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        let whole = Scan { table, prefix, after: None, order: Order::Forward, limit: usize::MAX };
        let written = self.group.as_ref().map_or_else(Vec::new, |group| group.in_table(&whole));
        if Space::is_mirrored(table) || !written.is_empty() {
            return self.scan(whole).map(|rows| crate::codec::count(rows.len()));
        }
        let prefix = self.space.path(table, prefix);
        let only = [("count_only", true.into())];
        let asked = space::range(&prefix, &space::successor(&prefix), only);
        let answer = self.ask("/v3/kv/range", &asked)?;
        Ok(u64::try_from(number(at(&answer, "/count"))).unwrap_or(0))
    }

    /// Catches up with the cluster first: what anybody was told before this call is seen by what
    /// is decided after it. Cut off from the cluster, the group is read-only.
    fn begin(&mut self) -> Result<(), StoreError> {
        self.group = None;
        let mut group = Group::default();
        let reached = match self.cut_off() {
            Some(why) => Err(why),
            None => {
                let asked = self.mirror.ask(&mut self.gateway.borrow_mut(), &self.space, PATIENCE);
                asked.map_err(|trouble| StoreError::from(trouble).to_string()).and_then(|standing| {
                    // A signer's row that is older than it was is an older copy's as well.
                    if standing.signers.iter().any(|(key, at)| revision(&self.rows, key) > *at) {
                        self.mirror.freeze(mirror::WENT_BACK);
                    }
                    self.mirror.cut_off().map_or(Ok(()), Err)?;
                    self.mirror.reach(standing.latest(), PATIENCE)
                })
            }
        };
        group.moment = self.mirror.revision();
        self.drain();
        match reached {
            Err(why) => group.read_only = Some(why),
            Ok(()) => {
                let own = self.rows.get(&self.space.fence()).and_then(|(_, value)| Fence::decode(value));
                match own {
                    Some(fence) if fence.process == self.fence.process => self.fence = fence,
                    // Two that extend one audit chain: the later one goes on.
                    _ => random::stop("another process has taken this signer's name in the cluster"),
                }
            }
        }
        self.group = Some(group);
        Ok(())
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        let closed = || Refusal::Failed(StoreError::Database("no group is open".to_owned()));
        let mut group = self.group.take().ok_or_else(closed)?;
        // What was learned since the group began counts as well.
        let result = match group.read_only.clone().or_else(|| self.cut_off()) {
            Some(why) => Err(Refusal::Failed(StoreError::CutOff(why))),
            None => Pending::new(self, &group, change),
        };
        let result = result.and_then(|pending| group.add(pending));
        self.group = Some(group);
        result
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let Some(group) = self.group.take() else { return Ok(()) };
        if group.is_late.get() {
            return Err(StoreError::Raced);
        }
        let latest = txn::commit(self, group)?;
        // So that what was just written is read back. When the watch lags, the next group waits.
        let _ = self.mirror.reach(latest, PATIENCE);
        self.drain();
        Ok(())
    }

    fn room(&self) -> usize {
        txn::ROOM
    }

    fn schema(&self) -> u32 {
        LAYOUT
    }

    fn check(&self) -> Result<(), StoreError> {
        let all = |table| Scan { table, prefix: &[], after: None, order: Order::Forward, limit: usize::MAX };
        Table::ALL.into_iter().try_for_each(|table| self.scan(all(table)).map(drop))
    }

    fn name(&self) -> &[u8] {
        self.space.signer.as_bytes()
    }

    fn news(&mut self) -> Vec<Op> {
        self.drain();
        std::mem::take(&mut self.fresh)
    }

    fn on_news(&mut self, wake: Box<dyn Fn() + Send + Sync>) {
        self.mirror.on_news(wake);
    }

    fn term(&self) -> Option<u64> {
        let (led, _) = self.rows.get(LEADER)?;
        if self.mirror.leads() != *led || self.mirror.cut_off().is_some() {
            return None;
        }
        // Anew when a signer joins: it waits for a snapshot that it can make itself.
        let joined =
            self.rows.range(space::SIGNERS.to_vec()..).take_while(|(key, _)| key.starts_with(space::SIGNERS));
        let joined = joined.filter_map(|(_, (_, value))| Fence::decode(value));
        let process = |fence: Fence| fence.process.first_chunk().map_or(0, |part| u64::from_be_bytes(*part));
        Some(joined.fold(u64::try_from(*led).unwrap_or(0), |term, fence| term ^ process(fence)))
    }

    fn cut_off(&self) -> Option<String> {
        self.mirror.cut_off()
    }

    fn skew(&self) -> Duration {
        mirror::SKEW
    }

    fn freeze(&mut self, why: &str) {
        self.mirror.freeze(why);
    }

    fn chain(&self) -> Option<AuditHead> {
        Some(self.fence.audit).filter(|chain| chain.lines > 0)
    }

    fn audit(&self, own: &AuditHead) -> (u64, FeedDigest) {
        let mut ends = BTreeMap::from([(self.space.signer.as_bytes(), *own)]);
        for (key, (_, value)) in self.rows.range(space::SIGNERS.to_vec()..) {
            let name = key.strip_prefix(space::SIGNERS).filter(|name| *name != self.space.signer.as_bytes());
            if let Some((name, fence)) = name.zip(Fence::decode(value)) {
                ends.insert(name, fence.audit);
            }
        }
        // A signer that joins has written nothing: until it does, heads say of the chains what they said.
        ends.retain(|_, end| end.lines > 0);
        space::audit_digest(&ends)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.mirror.stop();
    }
}

/// A way to the cluster that was tried: what follows may take long, a refusal does not.
fn connect(cluster: &Cluster, space: &Space) -> Result<Gateway, StoreError> {
    let mut gateway = Gateway::new(cluster.clone())?;
    mirror::Standing::ask(&mut gateway, space, COMMIT)?;
    Ok(gateway)
}

/// Writes when the comparisons hold; whether they did. Of what opens and moves stores: nobody waits.
fn transact(gateway: &mut Gateway, compare: &[Value], success: &[Value]) -> Result<bool, StoreError> {
    let done = gateway.call("/v3/kv/txn", &json!({"compare": compare, "success": success}), mirror::LOAD)?;
    Ok(at(&done, "/succeeded") == true)
}

/// The revision of a mirrored row; 0 when it is not there.
fn revision(rows: &mirror::Rows, key: &[u8]) -> i64 {
    rows.get(key).map_or(0, |(revision, _)| *revision)
}

fn place(cluster: &Cluster, space: &Space) -> PathBuf {
    format!("etcd at {}, {space:?}", cluster.urls.join(", ")).into()
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(what.to_owned())
}
