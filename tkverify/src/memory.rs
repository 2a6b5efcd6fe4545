//! What the signer vouched for, kept for the next request: prefixes by lineage, bounded in
//! number and in bytes. What a remembered prefix proves is decided in `tkcore`; here is only
//! which ones are kept.
//!
//! Nothing but an answer of the signer is ever put in, so a stranger can neither fill the
//! memory nor push anything out of it. A hit takes a read lock and allocates nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tkcore::LineageId;

/// Most prefixes kept of one lineage. A lineage is one minted token; a client that attenuates
/// afresh for every request would otherwise fill the memory with tokens never seen again,
/// while the prefix that all of them share is the one worth keeping.
pub(crate) const PREFIXES_A_LINEAGE: usize = 16;

/// What a lineage costs beside its prefixes: its slot, its entry in the map at the map's worst
/// filling, the vector of prefixes.
const LINEAGE_OVERHEAD: usize = 256;
/// What a prefix costs beside what it says of itself: the two counters of its `Arc`, its
/// pointer, weight and time of use, with the vector at its worst filling.
const PREFIX_OVERHEAD: usize = 96;

/// Locks of their own for parts of the memory, so that an insertion stops few readers.
const SHARDS: usize = 16;
/// A shard smaller than this could not hold one lineage of large tokens.
const SHARD_BYTES: usize = 64 * 1024;

/// Prefixes by lineage.
#[derive(Debug)]
pub(crate) struct Memory<T> {
    shards: Vec<RwLock<Shard<T>>>,
}

#[derive(Debug)]
struct Shard<T> {
    /// Where in `slots` a lineage is.
    places: HashMap<LineageId, usize>,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<usize>,
    /// The next slot that eviction looks at.
    hand: usize,
    bytes: usize,
    bound: usize,
}

#[derive(Debug)]
struct Slot<T> {
    lineage: LineageId,
    /// Set by every hit, cleared by the hand that goes round: the CLOCK approximation of
    /// least-recently-used, chosen because a hit then needs no write lock.
    used: AtomicBool,
    uses: AtomicU32,
    prefixes: Vec<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    value: Arc<T>,
    bytes: usize,
    /// The lineage's `uses` at the last hit.
    last: AtomicU32,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lineages: usize,
    pub(crate) bytes: usize,
}

impl<T> Memory<T> {
    /// Keeps at most about `bound` bytes; 0 remembers nothing.
    pub(crate) fn new(bound: usize) -> Self {
        let shards = (bound / SHARD_BYTES).clamp(1, SHARDS);
        let shard = || RwLock::new(Shard::new(bound / shards));
        Self { shards: std::iter::repeat_with(shard).take(shards).collect() }
    }

    /// The prefix of `lineage` that `rank` gives the highest number; it gives `None` to one
    /// that is of no use. What is found counts as used.
    pub(crate) fn best(&self, lineage: LineageId, rank: impl Fn(&T) -> Option<usize>) -> Option<Arc<T>> {
        let shard = read(self.shard(lineage)?);
        let (slot, kept) = shard.best(lineage, rank)?;
        slot.used.store(true, Ordering::Relaxed);
        let now = slot.uses.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        kept.last.store(now, Ordering::Relaxed);
        Some(Arc::clone(&kept.value))
    }

    /// The same, for whoever has not shown yet that he holds a token of it: leaves no trace.
    pub(crate) fn peek(&self, lineage: LineageId, rank: impl Fn(&T) -> Option<usize>) -> Option<Arc<T>> {
        let shard = read(self.shard(lineage)?);
        shard.best(lineage, rank).map(|(_, kept)| Arc::clone(&kept.value))
    }

    #[cfg(test)]
    fn knows(&self, lineage: LineageId) -> bool {
        self.shard(lineage).is_some_and(|shard| read(shard).places.contains_key(&lineage))
    }

    /// Remembers what the signer vouched for. `bytes` is what `value` holds in memory. `same`
    /// finds an entry that `value` replaces.
    pub(crate) fn remember(
        &self,
        lineage: LineageId,
        value: Arc<T>,
        bytes: usize,
        same: impl Fn(&T) -> bool,
    ) {
        if let Some(shard) = self.shard(lineage) {
            write(shard).insert(lineage, value, bytes, same);
        }
    }

    /// Forgets a lineage. Not for revoked ones: whoever presents one again and again is refused
    /// from memory, and would otherwise cost an ask each time.
    #[cfg(test)]
    fn forget(&self, lineage: LineageId) {
        if let Some(shard) = self.shard(lineage) {
            write(shard).remove(lineage);
        }
    }

    pub(crate) fn held(&self) -> Held {
        self.shards.iter().map(read).fold(Held { lineages: 0, bytes: 0 }, |sum, shard| Held {
            lineages: sum.lineages.saturating_add(shard.places.len()),
            bytes: sum.bytes.saturating_add(shard.bytes),
        })
    }

    fn shard(&self, lineage: LineageId) -> Option<&RwLock<Shard<T>>> {
        // The first byte of an id is random.
        let first = lineage.as_bytes().first().copied().map_or(0, usize::from);
        self.shards.get(first.checked_rem(self.shards.len())?)
    }
}

impl<T> Shard<T> {
    fn new(bound: usize) -> Self {
        Self { places: HashMap::new(), slots: Vec::new(), free: Vec::new(), hand: 0, bytes: 0, bound }
    }

    fn insert(&mut self, lineage: LineageId, value: Arc<T>, bytes: usize, same: impl Fn(&T) -> bool) {
        let bytes = bytes.saturating_add(PREFIX_OVERHEAD);
        if bytes.saturating_add(LINEAGE_OVERHEAD) > self.bound {
            return;
        }
        let place = match self.places.get(&lineage) {
            Some(place) => *place,
            None => self.place(lineage),
        };
        let Some(slot) = self.slots.get_mut(place).and_then(Option::as_mut) else { return };
        let now = slot.uses.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut freed = 0usize;
        slot.prefixes.retain(|kept| {
            let goes = same(&kept.value);
            if goes {
                freed = freed.saturating_add(kept.bytes);
            }
            !goes
        });
        if slot.prefixes.len() >= PREFIXES_A_LINEAGE {
            let oldest = slot.prefixes.iter().enumerate().max_by_key(|(_, kept)| {
                // Age, so that the counter may wrap.
                now.wrapping_sub(kept.last.load(Ordering::Relaxed))
            });
            if let Some((at, _)) = oldest {
                freed = freed.saturating_add(slot.prefixes.swap_remove(at).bytes);
            }
        }
        slot.prefixes.push(Kept { value, bytes, last: AtomicU32::new(now) });
        self.bytes = self.bytes.saturating_add(bytes).saturating_sub(freed);
        self.evict(place);
    }

    fn best(&self, lineage: LineageId, rank: impl Fn(&T) -> Option<usize>) -> Option<(&Slot<T>, &Kept<T>)> {
        let slot = self.slots.get(*self.places.get(&lineage)?)?.as_ref()?;
        let ranked = slot.prefixes.iter().filter_map(|kept| rank(&kept.value).map(|rank| (rank, kept)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, kept)| (slot, kept))
    }

    fn place(&mut self, lineage: LineageId) -> usize {
        let slot = Slot {
            lineage,
            // Only a hit marks it: a token seen once is the first to go.
            used: AtomicBool::new(false),
            uses: AtomicU32::new(0),
            prefixes: Vec::with_capacity(1),
        };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.slots.push(None);
                self.slots.len().saturating_sub(1)
            }
        };
        if let Some(free) = self.slots.get_mut(place) {
            *free = Some(slot);
        }
        self.places.insert(lineage, place);
        self.bytes = self.bytes.saturating_add(LINEAGE_OVERHEAD);
        place
    }

    /// Goes round until the bound holds: a lineage that was used since the last round gets
    /// another one, any other goes. `keep` is the one just put in.
    fn evict(&mut self, keep: usize) {
        // Twice round clears every mark; the third can only find slots to free.
        let mut steps = self.slots.len().saturating_mul(3);
        while self.bytes > self.bound && steps > 0 {
            steps = steps.saturating_sub(1);
            let at = self.hand;
            self.hand = if at.saturating_add(1) >= self.slots.len() { 0 } else { at.saturating_add(1) };
            let Some(slot) = self.slots.get(at).and_then(Option::as_ref) else { continue };
            if at == keep || slot.used.swap(false, Ordering::Relaxed) {
                continue;
            }
            self.remove(slot.lineage);
        }
        // One lineage alone outgrew the shard.
        if self.bytes > self.bound
            && let Some(lineage) = self.slots.get(keep).and_then(Option::as_ref).map(|slot| slot.lineage)
        {
            self.remove(lineage);
        }
    }

    fn remove(&mut self, lineage: LineageId) {
        let Some(place) = self.places.remove(&lineage) else { return };
        if let Some(slot) = self.slots.get_mut(place).and_then(Option::take) {
            let prefixes: usize = slot.prefixes.iter().map(|kept| kept.bytes).sum();
            self.bytes = self.bytes.saturating_sub(prefixes.saturating_add(LINEAGE_OVERHEAD));
            self.free.push(place);
        }
    }
}

/// A poisoned lock is taken all the same: every change of a shard leaves it usable at each step,
/// and what it holds can only make a request slower, never allow one.
fn read<T>(shard: &RwLock<Shard<T>>) -> RwLockReadGuard<'_, Shard<T>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(shard: &RwLock<Shard<T>>) -> RwLockWriteGuard<'_, Shard<T>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(number: u32) -> LineageId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        LineageId::from_bytes(bytes)
    }

    fn put(memory: &Memory<u32>, number: u32, value: u32, bytes: usize) {
        memory.remember(lineage(number), Arc::new(value), bytes, |other| *other == value);
    }

    #[test]
    fn the_highest_rank_is_found_and_useless_ones_are_not() {
        let memory = Memory::new(1 << 20);
        for value in [3, 7, 5, 100] {
            put(&memory, 1, value, 100);
        }
        let rank = |value: &u32| (*value < 10).then_some(*value as usize);
        assert_eq!(memory.best(lineage(1), rank).as_deref(), Some(&7));
        assert_eq!(memory.best(lineage(2), rank), None);
        assert_eq!(memory.best(lineage(1), |_| None), None);
        assert!(memory.knows(lineage(1)) && !memory.knows(lineage(2)));
    }

    #[test]
    fn sixteen_prefixes_a_lineage_and_the_least_used_goes() {
        let memory = Memory::new(1 << 20);
        for value in 0..16 {
            put(&memory, 1, value, 100);
        }
        let has = |wanted: u32| memory.best(lineage(1), |value| (*value == wanted).then_some(0)).is_some();
        // 0 is used again, so that 1 is now the one used longest ago.
        assert!(has(0));
        put(&memory, 1, 16, 100);
        assert!(!has(1));
        assert!((2..=16).chain([0]).all(has));
    }

    #[test]
    fn the_same_prefix_is_kept_once() {
        let memory = Memory::new(1 << 20);
        put(&memory, 1, 5, 100);
        let once = memory.held();
        put(&memory, 1, 5, 100);
        assert_eq!(memory.held(), once);
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let memory = Memory::new(64 * 1024);
        put(&memory, 0, 0, 1000);
        for number in 1..2000 {
            put(&memory, number, number, 1000);
            assert!(memory.held().bytes <= 64 * 1024);
            assert!(memory.best(lineage(0), |_| Some(0)).is_some(), "used at every step, gone at {number}");
        }
        let held = memory.held();
        assert!(held.lineages > 30, "{held:?}");
        for number in 0..2000 {
            memory.forget(lineage(number));
        }
        assert_eq!(memory.held(), Held { lineages: 0, bytes: 0 });
    }

    #[test]
    fn what_is_only_looked_at_goes_as_if_it_were_not() {
        let memory = Memory::new(64 * 1024);
        put(&memory, 0, 0, 1000);
        for number in 1..2000 {
            if memory.peek(lineage(0), |_| Some(0)).is_none() {
                return;
            }
            put(&memory, number, number, 1000);
        }
        panic!("a look kept it");
    }

    #[test]
    fn what_is_larger_than_the_memory_is_not_kept() {
        let memory = Memory::new(64 * 1024);
        let fits = 64 * 1024 - LINEAGE_OVERHEAD - PREFIX_OVERHEAD;
        put(&memory, 1, 1, fits);
        assert!(memory.knows(lineage(1)));
        put(&memory, 2, 2, fits + 1);
        assert!(!memory.knows(lineage(2)));
        // Two that fit alone but not together: the older prefix's lineage outgrew the shard.
        put(&memory, 1, 3, 100);
        assert!(memory.held().bytes <= 64 * 1024);
        let nothing = Memory::new(0);
        put(&nothing, 1, 1, 10);
        assert!(!nothing.knows(lineage(1)));
    }
}
