//! A restore un-revokes: a database from an hour ago has forgotten what was revoked since, and
//! remembers clients and keys that were removed. So no store is served before it was compared with
//! what lies outside of it: the high-water file, and a folder with the newest published feed.
//!
//! Behind either, the signer only reads ([`ReadOnly`]) until `restore-check --merge` has united
//! what is known and the offline root keys have signed the next epoch ([`merge`]).

mod compare;
mod high_water;
mod merge;
mod published;
mod read_only;

use std::path::Path;
use std::sync::Arc;

use tkcore::Timestamp;
use tkcore::protocol::FeedPosition;
use tkcore::revocation::{Position, Revocation};

pub(crate) use compare::{Gap, Own, compare, left_out};
pub(crate) use high_water::{Found, HighWater, Mark};
pub(crate) use merge::{draft, merge};
pub(crate) use published::{Published, read as read_published};
pub(crate) use read_only::ReadOnly;

use crate::audit;
use crate::memory::{Memory, SignerError};
use crate::publish::Publisher;
use crate::secret::Secret;
use crate::store::{Change, Op, Refusal, Sqlite, Store, Table};

/// The row that says that a high-water file was written for this store.
const GUARDED: &[u8] = b"high-water";

/// How a signer may go on.
pub(crate) enum Guard {
    /// As any signer; what it does is noted, if there is where.
    Open(Option<HighWater>),
    /// It answers what needs no change.
    ReadOnly(Arc<ReadOnly>),
}

impl Guard {
    /// What keeps it from changing anything, if something does.
    pub(crate) fn read_only(&self) -> Option<Arc<ReadOnly>> {
        match self {
            Self::Open(_) => None,
            Self::ReadOnly(held) => Some(Arc::clone(held)),
        }
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
        let high_water = HighWater::find(folder, &memory.core)?;
        let published = match feed {
            None => None,
            Some(feed) => read_published(feed, memory.core.feed, &memory.roots, now)
                .map_err(|why| SignerError::Feed(format!("the feed folder cannot be believed: {why}")))?,
        };
        let FeedPosition { epoch, sequence } = memory.position;
        let position = Position { epoch, sequence };
        let head = memory.head.as_ref().filter(|head| head.position == position);
        let hash_then = match &high_water {
            Found::Mark(mark) => {
                let key = mark.audit.lines.to_be_bytes();
                let row = store.get(Table::Audit, &key)?;
                row.and_then(|row| audit::parse(&key, &row).map(|(_, hash, _)| hash))
            }
            Found::Absent | Found::Unreadable => None,
        };
        let own = Own {
            position,
            chain: head.map(|head| head.chain),
            key_list: memory.key_list.list.version,
            epoch: memory.key_list.list.epoch,
            audit: memory.audit,
            hash_then,
            is_guarded: store.get(Table::Meta, GUARDED)?.is_some(),
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
    /// Opens the store of a folder and compares it; writes nothing.
    pub(crate) fn open(
        folder: &Path,
        feed: Option<&Path>,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Self, SignerError> {
        let store: Box<dyn Store> = Box::new(Sqlite::open(folder)?);
        let mut memory = Memory::load(&*store, secret)?;
        Publisher::resume(&*store, &mut memory, Arc::default(), now)?;
        let evidence = Evidence::gather(&*store, &memory, folder, feed, now)?;
        Ok(Self { store, memory, evidence })
    }
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
        let high_water = HighWater::open(folder, memory)?;
        if !evidence.own.is_guarded {
            write(store, vec![memory.put(Table::Meta, GUARDED, &[1])])?;
        }
        return Ok(Guard::Open(Some(high_water)));
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
    Ok(Guard::ReadOnly(Arc::new(ReadOnly::behind(&gaps, verifiers.unwrap_or_default()))))
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
    match store.apply(&Change { ops, ..Change::default() }) {
        Ok(()) => Ok(store.commit()?),
        Err(Refusal::Conflict) => Err(SignerError::Feed("another process changed the store".to_owned())),
        Err(Refusal::Failed(error)) => Err(error.into()),
    }
}
