//! The publishing side: closes steps, signs heads, keeps the served tree. Driven by the writer
//! thread, so that a step and what it covers are one transaction.
//!
//! An acknowledged revocation reaches the feed in three durable stages: its row; then the
//! transaction that closes the step, which gives every uncovered row its place and stores the
//! delta's bytes; then the head that names the step, signed only after that and served only
//! once it is stored. A crash between any two of them is made good at the next start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tkcore::revocation::publish::{Publisher as State, RevocationRow, Stamp, Step};
use tkcore::revocation::{Audit, FeedPath, Head, Position, RevocationSet};
use tkcore::{Timestamp, limits};

use crate::clock::monotonic;
use crate::codec;
use crate::feed_tree::FeedTree;
use crate::keys::Core;
use crate::memory::{self, Effect, Memory, SignerError};
use crate::revoked;
use crate::store::{Expect, Op, Store, Table};
use crate::writer::{Plan, View};

#[cfg(feature = "etcd")]
mod etcd;

/// How long the first uncovered revocation waits for others to share its step: half of the
/// 50 ms in which a step must be closed, so that the commit fits as well.
const STEP: Duration = Duration::from_millis(25);
/// A new head without a new step, so that clients see that nothing was held back.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long a head may be decided by: how long an outage may last, and a freeze could.
pub(crate) const VALIDITY: Duration = Duration::from_secs(3600);
/// When clients without a long poll ask again.
pub(crate) const POLL_AFTER: Duration = Duration::from_secs(10);
/// After a failure, until it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Single deltas served at most: at one a second more than an hour's, which is longer than any
/// client decides by what it has. One that lags further takes the snapshot.
const DELTAS: u64 = 4096;

/// Rows of the feed's table.
pub(crate) const CHAIN: &[u8] = b"chain";
pub(crate) const HEAD: &[u8] = b"head";

/// Whether a time lies further ahead of the clock than anybody believes.
pub(crate) fn ahead(at: Timestamp, now: Timestamp) -> bool {
    at.saturating_since(now) > Duration::from_secs(limits::CLOCK_SKEW_SECONDS)
}

/// The step closer.
pub(crate) struct Publisher {
    state: State,
    /// What is served.
    pub(crate) tree: FeedTree,
    based: Timestamp,
    /// Bases that heads have named and that are served, the latest last.
    bases: Vec<FeedPath>,
    /// Deltas that the next head no longer promises, and how many of these it removes from the store.
    stale: Vec<Position>,
    forgetting: usize,
    /// Rows that a step has dropped or put higher floors in the place of: deleted with the head that
    /// says so, not before, since until then they must add up to the head before.
    dropped: Vec<Vec<u8>>,
    /// How many of these the head that is being stored removes.
    deleting: usize,
    waiting_since: Option<Instant>,
    /// When a heartbeat is due.
    next_head: Instant,
    retry: Option<Instant>,
}

impl Publisher {
    /// Takes up the feed where the store left it: the rows are compared with the digest that
    /// the last head was signed for, deltas that no head has named are taken in again.
    pub(crate) fn resume(
        store: &dyn Store,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        let feed = |error: &dyn std::fmt::Display| SignerError::Feed(error.to_string());
        let (mut rows, mut later, mut uncovered) = (Vec::new(), Vec::new(), Vec::new());
        let head = store.get(Table::Feed, HEAD)?;
        let signed = head.as_deref().map(Head::parse_unverified).transpose().map_err(|error| feed(&error))?;
        let until = signed.as_ref().map_or(Position::default(), |head| head.position);
        let core = Arc::clone(&memory.core);
        memory::each(store, Table::Revocations, |key, value| {
            let row = revoked::decode(&core, key, value).map_err(memory::bad(Table::Revocations))?;
            memory.revoked.floor(&row.revocation);
            match row.covered {
                Some(position) if position <= until => rows.push((row.revocation, row.day)),
                Some(_) => later.push(row),
                None => uncovered.push(row),
            }
            Ok(())
        })?;
        let all = rows.len();
        let mut state = match &signed {
            Some(head) => State::resume_from_rows(head, rows).map_err(|error| feed(&error))?,
            None => {
                let set = RevocationSet::build(rows).map_err(|error| feed(&error))?;
                State::begin(core.feed, memory.key_list.list.epoch, set)
            }
        };
        let tree = FeedTree::new(core.feed);
        let (mut stale, begun, oldest) = (Vec::new(), state.position(), state.oldest_delta());
        memory::each(store, Table::Deltas, |key, value| {
            let at = Position::from_bytes(key).ok_or(SignerError::Record(Table::Deltas, "position"))?;
            // Of an epoch before, or what heads have let go of and a crash has left.
            if at.epoch != begun.epoch || at.sequence < oldest {
                stale.push(at);
                return Ok(());
            }
            if at > state.position() {
                state.replay(value).map_err(|error| feed(&error))?;
            }
            tree.put(&FeedPath::delta(at), value.to_vec());
            Ok(())
        })?;
        // Rows of a step that was stored are in the set by now, by way of its delta.
        if let Some(row) = later.iter().find(|row| row.covered.is_none_or(|at| at > state.position())) {
            return Err(SignerError::Feed(format!("a {} row's delta is missing", row.revocation.rule())));
        }
        memory::each(store, Table::KeyLists, |key, value| {
            let version = key.try_into().map(u64::from_be_bytes);
            let version = version.map_err(|_| SignerError::Record(Table::KeyLists, "version"))?;
            tree.put(&FeedPath::KeyList { version }, value.to_vec());
            Ok(())
        })?;
        memory.apply(&Effect::Step(state.position(), Arc::new(state.set().clone())));
        memory.revocations = codec::count(all.saturating_add(later.len()));
        // Every row of the set has one in the store; what steps have done without may lie there still.
        let needed = state.set().global_floor().map_or(0, |_| 1u64).saturating_add(state.set().len());
        let has_rest = memory.revocations > needed;
        uncovered.iter().for_each(|row| memory.apply(&Effect::Revoked(*row)));
        if let Some((head, bytes)) = signed.zip(head) {
            memory.apply(&Effect::Head(Box::new(head), bytes));
        }
        let dropped = if has_rest { undeleted(store, &state, &core)? } else { Vec::new() };
        let mut publisher = Self {
            state,
            tree,
            based: now,
            bases: Vec::new(),
            stale,
            forgetting: 0,
            dropped,
            deleting: 0,
            waiting_since: None,
            next_head: monotonic(),
            retry: None,
        };
        publisher.rebase(now);
        Ok(publisher)
    }

    /// How long nothing is due.
    pub(crate) fn due(&mut self, memory: &Memory, now: Instant) -> Duration {
        if memory.uncovered.is_empty() {
            self.waiting_since = None;
        } else {
            self.waiting_since.get_or_insert(now);
        }
        let step = self.waiting_since.map(|since| since.checked_add(STEP).unwrap_or(since));
        let version = memory.key_list.list.version;
        let list_is_new = memory.head.as_ref().is_none_or(|head| head.key_list != version);
        // A key list that was just accepted is announced at once, as it may be an emergency.
        let at = if list_is_new { now } else { step.unwrap_or(self.next_head).min(self.next_head) };
        self.retry.unwrap_or(at).max(at).saturating_duration_since(now)
    }

    /// The transaction that closes the step, and what to give to [`Publisher::closed`] once it
    /// is durable.
    pub(crate) fn close(&mut self, view: &View<'_>) -> Result<Option<(Plan, Closed)>, SignerError> {
        let memory = view.memory;
        let key_list = &memory.key_list.list;
        let (epoch, chain) = (self.state.position().epoch, view.store.get(Table::Feed, CHAIN)?);
        if key_list.epoch > epoch {
            // The set goes on as it is; only its place in the feed begins anew.
            let next = State::begin(memory.core.feed, key_list.epoch, self.state.set().clone());
            let mut plan = replacing(CHAIN, chain, next.position().to_bytes());
            plan.effects.push(Effect::Position(next.position()));
            return Ok(Some((plan, Closed::Epoch(Box::new(next)))));
        }
        // A new epoch's first head comes before its first step.
        if memory.head.as_ref().is_some_and(|head| head.position.epoch < epoch) {
            return Ok(None);
        }
        // Only days that were over by the last head: heads of an epoch never go back in time, so the one
        // that says so can be believed whatever the clock does next, and one that is never signed drops nothing.
        let drop = memory.head.as_ref().and_then(|head| self.state.due_drop(head.issued_at.min(view.now)));
        // What the store does not take in one change is left to the next step.
        let mut covered: Vec<_> = memory.uncovered.values().take(view.store.room()).copied().collect();
        self.state.settle(&mut covered);
        let rows: Vec<_> = covered.iter().map(|row| (row.revocation, row.day)).collect();
        if rows.is_empty() && drop.is_none() {
            return Ok(None);
        }
        let step = self.state.prepare(&rows, drop).map_err(|full| SignerError::Feed(full.to_string()))?;
        let position = step.as_ref().map_or(self.state.position(), |step| step.position);
        let set = step.as_ref().map_or(self.state.set(), Step::set);
        let mut plan = replacing(CHAIN, chain, position.to_bytes());
        plan.effects.push(Effect::Step(position, Arc::new(set.clone())));
        let superseded = RevocationRow::superseded(&covered, self.state.set());
        for row in covered {
            let row = RevocationRow { covered: Some(position), ..row };
            plan.ops.push(Op::Put(Table::Revocations, row.key(), revoked::value(&memory.core, &row)));
        }
        if let Some(step) = &step {
            plan.ops.push(Op::Create(Table::Deltas, position.to_bytes(), step.delta.clone()));
        }
        let mut dropped = drop.map_or(Vec::new(), |last| RevocationRow::keys_through(last, self.state.set()));
        // What is revoked anew in this very step stays.
        dropped.retain(|key| !memory.uncovered.contains_key(key));
        dropped.extend(superseded);
        Ok(Some((plan, Closed::Step(step.map(Box::new), dropped))))
    }

    /// The step is durable.
    pub(crate) fn closed(&mut self, closed: Closed, now: Timestamp) {
        match closed {
            Closed::Epoch(next) => {
                self.stale.extend(self.state.served_deltas());
                self.state = *next;
                self.rebase(now);
            }
            Closed::Step(None, dropped) => self.dropped.extend(dropped),
            Closed::Step(Some(step), dropped) => {
                self.dropped.extend(dropped);
                let (position, delta) = (step.position, step.delta.clone());
                if self.state.advance(*step) {
                    self.tree.put(&FeedPath::delta(position), delta);
                    // Those of before a restart are not made again: a client that lags so far finds the
                    // single ones, or takes the snapshot.
                    let single = |path: &FeedPath| Some(self.tree.get(&path.to_string())?.bytes);
                    let merged = self.state.merged_now(single);
                    merged.into_iter().for_each(|(path, bytes)| self.tree.put(&path, bytes));
                }
                if self.state.needs_rebase(now.saturating_since(self.based)) {
                    self.rebase(now);
                }
            }
        }
    }

    /// The next head, signed, and the transaction that stores it.
    pub(crate) fn sign(&mut self, view: &View<'_>) -> Result<(Plan, Vec<u8>), SignerError> {
        let memory = view.memory;
        let feed = |error: &dyn std::fmt::Display| SignerError::Feed(error.to_string());
        let oldest = self.state.position().sequence.saturating_sub(DELTAS).saturating_add(1);
        self.stale.extend(self.state.retire_deltas_before(oldest));
        // Never before the last one of this epoch, whatever the clock says; a raised epoch is the
        // cure of a head that was signed ahead of time.
        let epoch = self.state.position().epoch;
        let last = memory.head.as_ref().filter(|head| head.position.epoch == epoch);
        let issued_at = last.map_or(view.now, |head| head.issued_at.max(view.now));
        if ahead(issued_at, view.now) {
            return Err(SignerError::HeadAhead(issued_at));
        }
        let keys = memory.publication_keys(issued_at);
        let (end, _) = keys.first().ok_or(SignerError::Publication)?;
        let (lines, digest) = view.store.audit(&memory.audit);
        let head = self.state.head(&Stamp {
            key_list: memory.key_list.list.version,
            issued_at,
            validity: VALIDITY.min(end.saturating_since(issued_at)),
            poll_after: POLL_AFTER,
            audit: Audit { lines, digest },
        });
        let signing: Vec<_> = keys.iter().map(|(_, key)| key).collect();
        let bytes = head.sign(&signing).map_err(|error| feed(&error))?;
        let mut plan = replacing(HEAD, memory.head_bytes.clone(), bytes.clone());
        plan.effects.push(Effect::Head(Box::new(head), bytes.clone()));
        // With the head that no longer needs them, old deltas and dropped rows leave the store.
        self.forgetting = self.stale.len().min(view.store.room());
        let stale = self.stale.iter().take(self.forgetting);
        plan.ops.extend(stale.map(|at| Op::Delete(Table::Deltas, at.to_bytes())));
        self.deleting = self.dropped.len().min(view.store.room().saturating_sub(self.forgetting));
        let gone = self.dropped.iter().take(self.deleting);
        plan.ops.extend(gone.map(|key| Op::Delete(Table::Revocations, key.clone())));
        plan.effects.push(Effect::RevocationsGone(codec::count(self.deleting)));
        Ok((plan, bytes))
    }

    /// The head is durable: serves it.
    pub(crate) fn serve(&mut self, head: Vec<u8>, memory: &Memory) {
        let version = memory.key_list.list.version;
        self.tree.put(&FeedPath::KeyList { version }, memory.key_list.bytes.clone());
        self.tree.announce(self.state.position(), head);
        // The base before stays while clients may be fetching it.
        let base = self.state.base_path();
        if self.bases.last() != Some(&base) {
            self.bases.push(base);
            if self.bases.len() > 2 {
                self.tree.remove(&self.bases.remove(0));
            }
        }
        for at in self.stale.drain(..std::mem::take(&mut self.forgetting)) {
            FeedPath::deltas_ending_at(at).for_each(|path| self.tree.remove(&path));
        }
        self.dropped.drain(..std::mem::take(&mut self.deleting));
        let now = monotonic();
        let pause = if self.dropped.is_empty() && self.stale.is_empty() { HEARTBEAT } else { STEP };
        self.next_head = now.checked_add(pause).unwrap_or(now);
        self.retry = None;
    }

    /// Something did not work; it is tried again shortly, and said aloud.
    pub(crate) fn failed(&mut self, error: &SignerError) {
        eprintln!("tksign: publishing: {error}");
        self.retry = monotonic().checked_add(RETRY);
    }

    /// Makes the latest state the base that new clients start from. One that no head has named is
    /// gone at once; one that was named stays until [`Publisher::serve`] removes it.
    fn rebase(&mut self, now: Timestamp) {
        let (snapshot, before) = (self.state.snapshot(), self.state.base_path());
        if self.state.rebase(&snapshot) {
            if !self.bases.contains(&before) {
                self.tree.remove(&before);
            }
            self.tree.put(&self.state.base_path(), snapshot.to_bytes());
            self.based = now;
        }
    }
}

/// Puts a row of the feed in the place of what must still stand there.
fn replacing(key: &[u8], was: Option<Vec<u8>>, is: Vec<u8>) -> Plan {
    Plan {
        expects: vec![Expect { table: Table::Feed, key: key.to_vec(), value: was }],
        ops: vec![Op::Put(Table::Feed, key.to_vec(), is)],
        ..Plan::default()
    }
}

/// Rows that steps have done without and that still lie in the store.
fn undeleted(store: &dyn Store, state: &State, core: &Core) -> Result<Vec<Vec<u8>>, SignerError> {
    let mut dropped = Vec::new();
    memory::each(store, Table::Revocations, |key, value| {
        let row = revoked::decode(core, key, value).map_err(memory::bad(Table::Revocations))?;
        if row.covered.is_some() && row.is_spent(state.set()) {
            dropped.push(key.to_vec());
        }
        Ok(())
    })?;
    Ok(dropped)
}

/// What was closed.
pub(crate) enum Closed {
    Epoch(Box<State>),
    Step(Option<Box<Step>>, Vec<Vec<u8>>),
}

#[cfg(test)]
mod tests;
