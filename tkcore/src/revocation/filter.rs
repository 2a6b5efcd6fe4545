//! A split-block Bloom filter in memory, in front of the exact rows. Nearly every token is
//! live, so nearly every lookup ends here after one cache line; a hit decides nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bits a row: about 0.3 % of live ids go on to the exact lookup.
const BITS: usize = 12;
/// A row sets one bit of each.
const LANES: usize = 8;

/// A block, which is one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Block<T>([T; LANES]);

/// Shared by the sets that follow one another. Adding to it can only send more ids to the
/// exact lookup, never fewer, so an older set that still reads it stays right; that makes
/// relaxed order enough, and the swap of the set orders the rest.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    blocks: Arc<Vec<Block<AtomicU64>>>,
    left: usize,
}

/// A filter that nobody shares yet: filled without atomic operations.
pub(crate) struct FilterBuilder {
    blocks: Vec<Block<u64>>,
    left: usize,
}

impl FilterBuilder {
    /// For `rows` rows and a sixteenth more.
    pub(crate) fn new(rows: usize) -> Self {
        let capacity = rows.saturating_add(rows / 16).saturating_add(1024);
        let blocks = capacity.saturating_mul(BITS).div_ceil(64 * LANES);
        let mut list = Vec::with_capacity(blocks);
        list.resize_with(blocks, || Block([0; LANES]));
        Self { blocks: list, left: capacity }
    }

    #[inline]
    pub(crate) fn insert(&mut self, id: u128) {
        let (block, mut hash) = place(self.blocks.len(), id);
        if let Some(Block(lanes)) = self.blocks.get_mut(block) {
            for lane in lanes {
                *lane |= mask(hash);
                hash >>= 6;
            }
        }
        self.left = self.left.saturating_sub(1);
    }

    pub(crate) fn finish(self) -> Filter {
        let blocks = self.blocks.into_iter().map(|Block(lanes)| Block(lanes.map(AtomicU64::new))).collect();
        Filter { blocks: Arc::new(blocks), left: self.left }
    }
}

impl Filter {
    /// For `rows` rows and a sixteenth more, empty.
    pub(crate) fn new(rows: usize) -> Self {
        FilterBuilder::new(rows).finish()
    }

    /// Whether `rows` more keep the promised rate of false alarms.
    pub(crate) const fn has_room(&self, rows: usize) -> bool {
        rows <= self.left
    }

    pub(crate) fn insert(&mut self, id: u128) {
        let (block, mut hash) = place(self.blocks.len(), id);
        if let Some(Block(lanes)) = self.blocks.get(block) {
            for lane in lanes {
                lane.fetch_or(mask(hash), Ordering::Relaxed);
                hash >>= 6;
            }
        }
        self.left = self.left.saturating_sub(1);
    }

    #[inline]
    pub(crate) fn may_hold(&self, id: u128) -> bool {
        let (block, hash) = place(self.blocks.len(), id);
        let Some(Block([a, b, c, d, e, f, g, h])) = self.blocks.get(block) else { return true };
        // Every bit that is wanted, as the lowest.
        let bit = |lane: &AtomicU64, at: u32| lane.load(Ordering::Relaxed) >> ((hash >> at) & 63);
        // Half of the lanes already turn 19 of 20 strangers away: a branch that is foreseen.
        if bit(a, 0) & bit(b, 6) & bit(c, 12) & bit(d, 18) & 1 == 0 {
            return false;
        }
        bit(e, 24) & bit(f, 30) & bit(g, 36) & bit(h, 42) & 1 == 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.blocks.len().saturating_mul(8 * LANES)
    }
}

#[inline]
fn place(blocks: usize, id: u128) -> (usize, u64) {
    let [high, low] = halves(id);
    let blocks = u128::try_from(blocks).unwrap_or(0);
    let block = u128::from(high).wrapping_mul(blocks) >> 64;
    // The low half of a lineage id is mostly its mint time: mixed with the high half, and the
    // product's upper bits, which all of it reaches.
    let hash = (high.rotate_left(32) ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (usize::try_from(block).unwrap_or(usize::MAX), hash >> 16)
}

#[inline]
const fn mask(hash: u64) -> u64 {
    1 << (hash & 63)
}

#[inline]
fn halves(id: u128) -> [u64; 2] {
    let low = u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0);
    [u64::try_from(id >> 64).unwrap_or(0), low]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(from: u64, count: u64) -> impl Iterator<Item = u128> {
        (from..from + count).map(|i| {
            let mut hash =
                u128::from(i).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            hash ^= hash >> 61;
            hash.wrapping_mul(0xd129_0ca6_2b1a_9f3d_94d0_49bb_1331_11eb)
        })
    }

    #[test]
    fn it_never_hides_a_row_and_seldom_calls_a_stranger() {
        let mut filter = Filter::new(20_000);
        for id in ids(0, 20_000) {
            filter.insert(id);
        }
        assert!(ids(0, 20_000).all(|id| filter.may_hold(id)));
        let called = ids(1 << 32, 100_000).filter(|id| filter.may_hold(*id)).count();
        assert!(called < 1500, "{called} of 100000");
    }

    #[test]
    fn ids_that_differ_only_in_time_spread_too() {
        let id = |i: u128| (0xdead_beef_0123_4567_89abu128 << 48) | (1_790_000_000_000 + i);
        let mut filter = Filter::new(10);
        filter.insert(id(0));
        assert!(filter.may_hold(id(0)));
        let called = (1..1000).filter(|i| filter.may_hold(id(*i))).count();
        assert!(called < 20, "{called}");
    }

    #[test]
    fn room_runs_out() {
        let mut filter = Filter::new(0);
        assert!(filter.has_room(1024) && !filter.has_room(1025));
        filter.insert(1);
        assert!(!filter.has_room(1024));
    }
}
