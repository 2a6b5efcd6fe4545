//! A restore un-revokes: a database from an hour ago has forgotten what was revoked since, and
//! remembers clients and keys that were removed. So no store is served before it was compared with
//! what lies outside of it: the high-water file, and a folder with the newest published feed.
//!
//! Behind either, the signer only reads ([`ReadOnly`]) until `restore-check --merge` has united
//! what is known and the offline root keys have signed the next epoch ([`merge`]).

mod chain;
mod clock;
mod compare;
mod follow;
mod gauges;
mod high_water;
mod merge;
mod published;
mod read_only;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tkcore::Timestamp;
use tkcore::protocol::{AuditHead, Code, FeedPosition, RpcError};
use tkcore::revocation::{Audit, Position, Revocation};

pub(crate) use chain::verify_chain;
pub(crate) use compare::{Gap, Own, Witness, compare, left_out};
pub(crate) use follow::{Follower, INTERVAL};
pub(crate) use gauges::gauges;
pub(crate) use high_water::{FILE, Found, HighWater, Mark, of};
pub(crate) use merge::{draft, merge};
pub(crate) use published::{Published, head as published_head, read as read_published};
pub(crate) use read_only::ReadOnly;

use crate::audit;
use crate::clock::Clock;
use crate::memory::{Effect, Memory, SignerError};
use crate::publish::Publisher;
use crate::secret::Secret;
use crate::service::{No, Options};
use crate::signer::Signer;
use crate::store::{Change, Op, Order, Scan, Sqlite, Store, StoreError, Table};

/// The row that says that a high-water file was written for this store, by this signer.
pub(crate) const GUARDED: &[u8] = b"high-water";
/// How the line ends that `tksign migrate` writes into a chain which comes out of a cluster.
const MOVED: &[u8] = br#","op":"migrate","by":"signer","to":"sqlite"}"#;
/// Lines after a head that are looked at for it: more than come between two heads.
const LOOK: usize = 100_000;

fn guarded(store: &dyn Store) -> Vec<u8> {
    [GUARDED, store.name()].concat()
}

/// How a signer may go on: freely, noting how far it has come, or only reading.
#[derive(Default)]
pub(crate) struct Guard {
    high_water: Option<HighWater>,
    /// A client was changed, and the file does not say so yet.
    is_behind: bool,
    pub(crate) read_only: Option<Arc<ReadOnly>>,
}

impl Guard {
    /// Writes nothing and publishes nothing, and notes nothing.
    pub(crate) fn held(read_only: ReadOnly) -> Self {
        Self { read_only: Some(Arc::new(read_only)), ..Self::default() }
    }

    pub(crate) const fn is_held(&self) -> bool {
        self.read_only.is_some()
    }

    /// How long nothing is to be published, if otherwise it were this long.
    pub(crate) const fn wait(&self, otherwise: Duration) -> Duration {
        if self.is_held() { Duration::MAX } else { otherwise }
    }

    /// Says outside of the database how far this is, before anybody hears of it.
    pub(crate) fn note(&mut self, memory: &Memory) -> Result<(), SignerError> {
        if let Some(high_water) = &mut self.high_water {
            high_water.note(memory)?;
        }
        self.is_behind = false;
        Ok(())
    }

    /// After a commit: a change of a client is noted before it is acknowledged, since a restore
    /// would undo it unseen. The error is every waiter's; the next commit tries again.
    pub(crate) fn committed(&mut self, effects: &[Effect], memory: &Memory) -> Result<(), RpcError> {
        // A head is another signer's: before our own is stored, it is noted by itself.
        let is_noted =
            |effect: &Effect| matches!(effect, Effect::Client(_) | Effect::ClientGone(_) | Effect::Head(..));
        self.is_behind |= effects.iter().any(is_noted);
        let noted = if self.is_behind { self.note(memory) } else { Ok(()) };
        noted.map_err(|error| {
            let why = No::from(error).error.detail;
            Code::StoreFailed.detail(&format!("it is done, and not noted: {why}"))
        })
    }
}

impl Signer {
    /// As [`Signer::open`], compared first with what lies outside of the store: the high-water
    /// file in its folder, and the newest published feed in `feed`. Behind either it only reads.
    ///
    /// # Errors
    /// As [`Signer::open`]; and when `feed` holds what no signature vouches for.
    pub fn open_guarded(
        folder: &Path,
        feed: Option<&Path>,
        secret: &Secret,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SignerError> {
        Self::start_guarded(Box::new(Sqlite::open(folder)?), (folder, feed), secret, options, clock)
    }

    /// The same over any store.
    pub(crate) fn start_guarded(
        store: Box<dyn Store>,
        (folder, feed): (&Path, Option<&Path>),
        secret: &Secret,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SignerError> {
        let now = clock.now();
        Self::begin(store, secret, options, clock, |store, memory| guard(store, memory, folder, feed, now))
    }
}

/// Everything that is known of what this store should hold.
pub(crate) struct Evidence {
    pub(crate) own: Own,
    pub(crate) high_water: Found,
    pub(crate) published: Option<Published>,
}

impl Evidence {
    /// Gathers it. The memory is that of the whole store, its feed resumed.
    pub(crate) fn gather(
        store: &dyn Store,
        memory: &Memory,
        folder: &Path,
        feed: Option<&Path>,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        let high_water = HighWater::find(&of(folder, store), &memory.core)?;
        let published = match feed {
            None => None,
            Some(feed) => read_published(feed, memory.core.feed, &memory.roots, now)
                .map_err(|why| SignerError::Feed(format!("the feed folder cannot be believed: {why}")))?,
        };
        let FeedPosition { epoch, sequence } = memory.position;
        let position = Position { epoch, sequence };
        let head = memory.head.as_ref().filter(|head| head.position == position);
        let mut told = Vec::new();
        if let Found::Mark(mark) = &high_water {
            let Mark { epoch, audit, .. } = mark;
            told.push((Witness::HighWater, *epoch, Audit { lines: audit.lines, digest: audit.digest() }));
        }
        // Heads of a cluster are about the chains of all its signers.
        if store.name().is_empty() {
            let signed = memory.head.iter().map(|head| (Witness::Head, &**head));
            let heads = signed.chain(published.iter().map(|published| (Witness::Feed, &published.head)));
            for (witness, head) in heads {
                if !has_moved_since(store, head.audit.lines)? {
                    told.push((witness, head.position.epoch, head.audit));
                }
            }
        }
        let mut kept = BTreeMap::new();
        for (_, _, Audit { lines, .. }) in &told {
            let key = lines.to_be_bytes();
            let row = store.get(Table::Audit, &key)?;
            if let Some((lines, hash, _)) = row.as_ref().and_then(|row| audit::parse(&key, row)) {
                kept.insert(lines, AuditHead { lines, hash }.digest());
            }
        }
        let own = Own {
            position,
            chain: head.map(|head| head.chain),
            key_list: memory.key_list.list.version,
            epoch: memory.key_list.list.epoch,
            audit: memory.audit,
            told,
            kept,
            is_guarded: store.get(Table::Meta, &guarded(store))?.is_some(),
        };
        Ok(Self { own, high_water, published })
    }

    /// In what the store is behind; empty when it may go on.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        compare(&self.own, &self.high_water, self.published.as_ref())
    }

    /// What a merge would still leave out.
    pub(crate) fn left_out(&self) -> Vec<Gap> {
        left_out(&self.own, &self.high_water, self.published.as_ref())
    }

    pub(crate) const fn mark(&self) -> Option<&Mark> {
        match &self.high_water {
            Found::Mark(mark) => Some(mark),
            Found::Absent | Found::Unreadable => None,
        }
    }
}

/// A store that no server has, with what is known of it.
pub(crate) struct Restored {
    pub(crate) store: Box<dyn Store>,
    pub(crate) memory: Memory,
    pub(crate) evidence: Evidence,
}

impl Restored {
    /// Compares an open store; writes nothing.
    pub(crate) fn open(
        store: Box<dyn Store>,
        folder: &Path,
        feed: Option<&Path>,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        let mut memory = Memory::load(&*store, secret)?;
        Publisher::resume(&*store, &mut memory, now)?;
        verify_chain(&*store, memory.authority)?;
        let evidence = Evidence::gather(&*store, &memory, folder, feed, now)?;
        Ok(Self { store, memory, evidence })
    }
}

/// Whether a line of the chain says that the store came out of a cluster.
pub(crate) fn has_moved(line: &[u8]) -> bool {
    line.ends_with(MOVED)
}

/// Whether the store came out of a cluster after a head that counts so many lines: that head is about the
/// chains of several signers, which the move has made one. The chain says so itself.
fn has_moved_since(store: &dyn Store, lines: u64) -> Result<bool, StoreError> {
    let after = lines.to_be_bytes();
    let scan =
        Scan { table: Table::Audit, prefix: &[], after: Some(&after), order: Order::Forward, limit: LOOK };
    // Of chains that were pruned fewer lines came than that head has counted.
    let last = store.end(Table::Audit, Order::Backward)?;
    Ok(store.scan(scan)?.iter().chain(&last).any(|(_, line)| has_moved(line)))
}

/// Decides how a store that was opened may be used. One that is behind answers verifies by what
/// it knows and by what the folder adds to it.
pub(crate) fn guard(
    store: &mut dyn Store,
    memory: &mut Memory,
    folder: &Path,
    feed: Option<&Path>,
    now: Timestamp,
) -> Result<Guard, SignerError> {
    let evidence = Evidence::gather(store, memory, folder, feed, now)?;
    let gaps = evidence.gaps();
    if gaps.is_empty() {
        let high_water = HighWater::open(of(folder, store), memory)?;
        if !evidence.own.is_guarded {
            let row = memory.put(Table::Meta, &guarded(store), &[1]);
            write(store, vec![row])?;
        }
        return Ok(Guard { high_water: Some(high_water), ..Guard::default() });
    }
    if let Some(published) = &evidence.published {
        for revocation in missing(memory, published) {
            memory.revoked.add(&revocation);
        }
    }
    let verifiers = evidence.mark().map(|mark| {
        let live = memory.clients.values().filter(|client| mark.lists(&memory.core, client));
        live.map(|client| client.key).collect()
    });
    let read_only = ReadOnly::behind(&gaps, verifiers.unwrap_or_default());
    store.freeze(read_only.why());
    Ok(Guard::held(read_only))
}

/// What the published set refuses and the store's own answers would not.
fn missing(memory: &Memory, published: &Published) -> Vec<Revocation> {
    let own = memory.revoked.set();
    let mut missing = Vec::new();
    published.set.for_each(|revocation, day| {
        if own.is_none_or(|own| !own.has(&revocation, day)) {
            missing.push(revocation);
        }
    });
    missing.extend(published.set.global_floor().map(|before| Revocation::Global { before }));
    missing
}

fn write(store: &mut dyn Store, ops: Vec<Op>) -> Result<(), SignerError> {
    store.begin()?;
    store.apply(&Change { ops, ..Change::default() }).map_err(StoreError::from)?;
    Ok(store.commit()?)
}
