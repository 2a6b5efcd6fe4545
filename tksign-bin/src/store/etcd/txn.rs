//! Changes on their way into transactions.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::gateway::{PAUSE, Trouble};
use super::space::{self, GUARD, LEADER, at, number};
use super::{COMMIT, Etcd, Fence, Space, revision};
use crate::clock::monotonic;
use crate::memory::CHECK;
use crate::store::{Change, Op, Refusal, Scan, StoreError, Table};

/// Comparisons in one transaction besides our four. etcd takes 128 operations on every path into
/// nested transactions, and counts a level's comparisons or writes, whichever are more: 64 here,
/// then [`NESTS`], then [`NEST`].
const COMPARES: usize = 60;
/// Writes in the innermost transactions.
const NEST: usize = 40;
/// Transactions in one that nests them; two such levels hold 16,000 writes, more than fit into
/// [`BYTES`].
const NESTS: usize = 20;
/// Bytes of keys and values in one transaction: etcd takes 1.5 MiB with what stands around them.
const BYTES: usize = 1_200_000;
/// Rows of the feed in one change: some 250 bytes each and their part of a delta, in [`BYTES`].
pub(super) const ROOM: usize = 3000;
/// What stands around one key and value.
const AROUND: usize = 48;

/// A value to write, or `None` to delete; by whole key.
type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The open group: changes in order, and all that they write together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) read_only: Option<String>,
    /// The revision that it is decided at, and whether something later was read.
    pub(super) moment: i64,
    pub(super) is_late: Cell<bool>,
    written: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    pending: Vec<Pending>,
}

/// One change, or a part of one that may stand alone.
#[derive(Default)]
pub(super) struct Pending {
    /// Whole keys and the revision that each must have.
    compares: BTreeMap<Vec<u8>, i64>,
    writes: Writes,
    rows: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    audit: Option<(Vec<u8>, Vec<u8>)>,
    /// The whole key of the first audit line: where none may be, nor then any of those after it.
    line: Option<Vec<u8>>,
    guard: bool,
    feed: bool,
}

impl Pending {
    /// Checks a change against what is there and what the group has written.
    pub(super) fn new(store: &Etcd, group: &Group, change: &Change) -> Result<Self, Refusal> {
        let mut pending = Self::default();
        let failed = Refusal::Failed;
        for expect in &change.expects {
            let key = store.space.path(expect.table, &expect.key);
            let value = match group.written(expect.table, &expect.key) {
                Some(value) => value.clone(),
                None => {
                    let (revision, value) = store.stored(expect.table, &expect.key).map_err(failed)?;
                    pending.compares.insert(key, revision);
                    value
                }
            };
            if value != expect.value {
                return Err(Refusal::Conflict);
            }
        }
        for op in &change.ops {
            let (Op::Create(table, key, _) | Op::Put(table, key, _) | Op::Delete(table, key)) = op;
            let (table, path) = (*table, store.space.path(*table, key));
            let value = match op {
                Op::Create(_, _, value) | Op::Put(_, _, value) => Some(value.clone()),
                Op::Delete(..) => None,
            };
            if matches!(op, Op::Create(..)) {
                let own = pending.writes.get(&path).or_else(|| group.written(table, key));
                let there = match own {
                    Some(value) => value.is_some(),
                    None if Space::is_mirrored(table) => store.stored(table, key).map_err(failed)?.0 != 0,
                    // Not asked for: the comparison finds it, and the decision is made again.
                    None => false,
                };
                if there {
                    return Err(Refusal::Conflict);
                }
                if table == Table::Audit {
                    pending.line.get_or_insert_with(|| path.clone());
                } else if own.is_none() {
                    pending.compares.insert(path.clone(), 0);
                }
            }
            match table {
                Table::Audit => pending.audit = value.clone().map(|value| (key.clone(), value)),
                Table::Feed => pending.feed = true,
                Table::Keys | Table::PublicationKeys | Table::KeyLists | Table::Clients => {
                    pending.guard = true
                }
                // Mint times are each signer's own; the rest of this table is everybody's.
                Table::Meta => pending.guard |= !key.starts_with(crate::memory::LAST_MINT),
                Table::Tokens | Table::Seen | Table::Index | Table::Idempotency => {}
                Table::Revocations | Table::Deltas => {}
            }
            // A new secret: what another signer wrote meanwhile would stay sealed under the old one.
            if table == Table::Meta && key == CHECK {
                pending.compares.extend(store.others());
            }
            pending.rows.push((table, key.clone(), value.clone()));
            pending.writes.insert(path, value);
        }
        if pending.feed && store.mirror.leads() == 0 {
            return Err(Refusal::Conflict);
        }
        Ok(pending)
    }

    fn bytes(&self) -> usize {
        let sum = |key: &[u8], value: Option<&Vec<u8>>| {
            key.len().saturating_add(value.map_or(0, Vec::len)).saturating_add(AROUND)
        };
        let writes = self.writes.iter().map(|(key, value)| sum(key, value.as_ref()));
        writes.chain(self.compares.keys().map(|key| sum(key, None))).sum()
    }

    fn fits(&self, more: &Self) -> bool {
        self.compares.len().saturating_add(more.compares.len()) <= COMPARES
            && self.bytes().saturating_add(more.bytes()) <= BYTES
    }

    /// Joins a later change to this one.
    fn join(&mut self, more: Self) {
        for (key, revision) in more.compares {
            // What the earlier one writes is not as it was when the later one looked.
            if !self.writes.contains_key(&key) {
                self.compares.insert(key, revision);
            }
        }
        self.writes.extend(more.writes);
        self.audit = more.audit.or_else(|| self.audit.take());
        self.line = self.line.take().or(more.line);
        self.guard |= more.guard;
        self.feed |= more.feed;
    }
}

impl Group {
    /// What the group has written to a row.
    pub(super) fn written(&self, table: Table, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.written.get(&(table, key.to_vec()))
    }

    /// What it has written of what a scan looks at.
    pub(super) fn in_table(&self, scan: &Scan<'_>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let (low, high) = Space::window(scan);
        let from = self.written.range((scan.table, low)..).take_while(|((at, _), _)| *at == scan.table);
        from.filter(|((_, key), _)| high.as_ref().is_none_or(|high| key < high))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Adds a change. One with more comparisons than a transaction takes creates its revocations
    /// first, apart: they only ever revoke, and are found there when the rest is tried again.
    pub(super) fn add(&mut self, mut change: Pending) -> Result<(), Refusal> {
        let (mut apart, mut part) = (Vec::new(), Pending::default());
        if change.compares.len() > COMPARES {
            let revocations = format!("/m/{}/", Table::Revocations.name()).into_bytes();
            let is_one = |key: &[u8]| key.windows(revocations.len()).any(|part| part == revocations);
            for key in change.compares.keys().filter(|key| is_one(key)).cloned().collect::<Vec<_>>() {
                part.compares.extend(change.compares.remove_entry(&key));
                part.writes.extend(change.writes.remove_entry(&key));
                if part.compares.len() >= COMPARES {
                    apart.push(std::mem::take(&mut part));
                }
            }
            apart.push(part);
        }
        let bytes = change.bytes();
        if change.compares.len() > COMPARES || bytes > BYTES {
            return Err(Refusal::Failed(StoreError::TooLarge(format!(
                "a change of {bytes} bytes is more than etcd takes at once: move the store to SQLite with `tksign \
                 migrate`, do it there, and move it back"
            ))));
        }
        for (table, key, value) in change.rows.drain(..) {
            self.written.insert((table, key), value);
        }
        self.pending.extend(apart);
        self.pending.push(change);
        Ok(())
    }
}

/// Makes a group durable, in as few transactions as it fits in, and gives the last one's revision.
/// When one loses a race, those before it stay: a decision that is made again finds its answer.
pub(super) fn commit(store: &mut Etcd, group: Group) -> Result<i64, StoreError> {
    let mut known = Known {
        fence: revision(&store.rows, &store.space.fence()),
        guard: revision(&store.rows, GUARD),
        leader: store.mirror.leads(),
        written: BTreeMap::new(),
    };
    let mut latest = 0;
    let mut pending = group.pending.into_iter().peekable();
    while let Some(mut one) = pending.next() {
        while let Some(more) = pending.next_if(|more| one.fits(more)) {
            one.join(more);
        }
        if !one.writes.is_empty() {
            latest = send(store, one, &mut known)?;
        }
    }
    Ok(latest)
}

/// The revisions that rows must have, as this group moves them on.
struct Known {
    fence: i64,
    guard: i64,
    leader: i64,
    written: BTreeMap<Vec<u8>, i64>,
}

fn send(store: &mut Etcd, one: Pending, known: &mut Known) -> Result<i64, StoreError> {
    let own = store.space.fence();
    // Never one that was sent before: a copy of that may arrive at any time, and is not this one.
    store.sent = store.sent.saturating_add(1);
    let mut next = Fence { writes: store.sent, ..store.fence.clone() };
    if let Some((lines, hash)) = one
        .audit
        .as_ref()
        .and_then(|(key, line)| Some((key.as_slice().try_into().ok()?, line.first_chunk()?)))
    {
        next.audit = tkcore::protocol::AuditHead { lines: u64::from_be_bytes(lines), hash: *hash };
    }
    let fence = next.encode();
    let mut compares = vec![store.space.compare(&own, known.fence), store.space.compare(GUARD, known.guard)];
    if one.feed {
        compares.push(store.space.compare(LEADER, known.leader));
    }
    compares.extend(one.line.iter().map(|key| space::compare(key, 0)));
    compares.extend(
        one.compares
            .iter()
            .map(|(key, revision)| space::compare(key, known.written.get(key).copied().unwrap_or(*revision))),
    );
    let mut writes: Vec<Value> = one
        .writes
        .iter()
        .map(|(key, value)| value.as_ref().map_or_else(|| space::delete(key), |value| space::put(key, value)))
        .collect();
    writes.push(store.space.put(&own, &fence));
    if one.guard {
        writes.push(store.space.put(GUARD, &fence));
    }
    let failure = json!([{"request_range": {"key": super::base64::encode(&store.space.whole(&own))}}]);
    let body = json!({"compare": compares, "success": nested(writes), "failure": failure});
    let started = monotonic();
    let mut gateway = store.gateway.borrow_mut();
    let latest = loop {
        let left = COMMIT.saturating_sub(monotonic().saturating_duration_since(started));
        match gateway.call("/v3/kv/txn", &body, left) {
            Ok(answer) if at(&answer, "/succeeded") == true => break number(at(&answer, "/header/revision")),
            Ok(answer) => {
                // An earlier try may have been done whose answer was lost: then our row says so.
                let row = at(&answer, "/responses/0/response_range/kvs/0");
                if space::field(at(row, "/value")).as_ref() == Some(&fence) {
                    break number(at(row, "/mod_revision"));
                }
                return Err(StoreError::Raced);
            }
            Err(refused @ Trouble::Refused(_)) => return Err(refused.into()),
            Err(Trouble::Silent(why)) if left.is_zero() => {
                return Err(StoreError::Database(format!("etcd did not say whether it was done: {why}")));
            }
            Err(Trouble::Silent(_)) => std::thread::sleep(PAUSE),
        }
    };
    drop(gateway);
    store.fence = next;
    known.fence = latest;
    if one.guard {
        known.guard = latest;
    }
    known.written.extend(one.writes.into_keys().map(|key| (key, latest)));
    Ok(latest)
}

/// Writes in nested transactions, so that no level has more than etcd takes.
fn nested(writes: Vec<Value>) -> Vec<Value> {
    let mut level = writes;
    let mut width = NEST;
    while level.len() > width {
        level = level.chunks(width).map(|part| json!({"request_txn": {"success": part}})).collect();
        width = NESTS;
    }
    level
}
