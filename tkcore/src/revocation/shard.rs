//! The bytes of a shard: what is hashed, sent, stored and searched (RV-22, RV-23).

use alloc::vec::Vec;

use crate::revocation::kind::{EVERYTHING, Item, Kind};

/// Rows that a shard holds on average, at most: 2,048 rows of 14 bytes are 28 KiB, so a step
/// that touches 100 shards re-hashes less than 3 MiB (2 ms with SHA instructions).
const SHARD_ROWS: u64 = 2048;

/// From that many rows on, one, two or three leading bytes of an id are said by the index
/// instead of the row: the index costs `(rows + 256^n) / 8` bytes and saves `n` bytes a row.
const DROP: [u64; 3] = [1 << 5, 1 << 13, 1 << 21];

/// How the rows of a section are laid out: a function of its kind and row count alone, so that
/// one set has one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    kind: Kind,
    /// The section has `1 << bits` shards.
    bits: u32,
    /// Leading bytes of an id that the index says.
    drop: usize,
}

impl Geometry {
    pub(crate) fn of(kind: Kind, rows: u32) -> Self {
        let rows = u64::from(rows);
        let full = rows.div_ceil(SHARD_ROWS).max(1);
        let bits = full.next_power_of_two().trailing_zeros();
        let drop = DROP.iter().take_while(|least| rows >= **least).count();
        Self { kind, bits, drop }
    }

    pub(crate) fn shards(&self) -> usize {
        1usize.checked_shl(self.bits).unwrap_or(0)
    }

    /// Which shard an id belongs to.
    pub(crate) fn shard_of(&self, id: u128) -> usize {
        top(id, self.bits)
    }

    /// Bytes of a shard of `rows` rows; `None` when that is no number of bytes.
    pub(crate) fn len(&self, rows: u32) -> Option<usize> {
        let rows = usize::try_from(rows).ok()?;
        self.index_len(rows).checked_add(rows.checked_mul(self.row_len())?)
    }

    fn index_bits(&self) -> u32 {
        u32::try_from(self.drop).unwrap_or(0).saturating_mul(8)
    }

    fn buckets(&self) -> usize {
        1usize.checked_shl(self.index_bits().saturating_sub(self.bits)).unwrap_or(0)
    }

    fn index_len(&self, rows: usize) -> usize {
        if self.drop == 0 { 0 } else { rows.saturating_add(self.buckets()).div_ceil(8) }
    }

    fn rest_len(&self) -> usize {
        self.kind.width().saturating_sub(self.drop)
    }

    fn row_len(&self) -> usize {
        self.rest_len().saturating_add(if self.kind.is_floor() { 8 } else { 0 })
    }

    pub(crate) fn bucket_of(&self, id: u128) -> usize {
        top(id, self.index_bits()) & self.buckets().saturating_sub(1)
    }

    fn split<'a>(&self, rows: u32, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        bytes.split_at_checked(self.index_len(usize::try_from(rows).ok()?))
    }

    /// Writes one shard's rows, which are in strictly ascending order.
    pub(crate) fn encode(&self, items: &[Item]) -> Vec<u8> {
        let index_len = self.index_len(items.len());
        let len = items.len().saturating_mul(self.row_len()).saturating_add(index_len);
        let mut bytes = Vec::with_capacity(len);
        bytes.resize(index_len, 0);
        if self.drop > 0 {
            for (i, item) in items.iter().enumerate() {
                let position = i.saturating_add(self.bucket_of(item.id));
                if let Some(byte) = bytes.get_mut(position / 8) {
                    *byte |= 0x80 >> (position % 8);
                }
            }
        }
        for item in items {
            let id = item.id.to_be_bytes();
            bytes.extend_from_slice(id.get(self.drop..self.kind.width()).unwrap_or(&[]));
            if self.kind.is_floor() {
                bytes.extend_from_slice(&item.value.to_be_bytes());
            }
        }
        bytes
    }

    /// Walks a shard's rows in order and checks that they are in the one form. `false` when
    /// they are not, or as soon as `each` says so. `each` also gets the row's bucket.
    pub(crate) fn walk(
        &self,
        shard: usize,
        rows: u32,
        bytes: &[u8],
        mut each: impl FnMut(usize, Item) -> bool,
    ) -> bool {
        let Some((index, body)) = self.split(rows, bytes) else { return false };
        let buckets = self.buckets();
        let first = shard.saturating_mul(buckets);
        let row_len = self.row_len();
        let mut end = index.len().saturating_add(self.rest_len());
        let mut last = None;
        let join = self.join();
        let mut row = |bucket: usize| {
            let Some(item) = join.item(first.saturating_add(bucket), bytes, end) else { return false };
            end = end.saturating_add(row_len);
            if last.is_some_and(|last| last >= item.id) || !self.kind.admits(item.value) {
                return false;
            }
            last = Some(item.id);
            each(bucket, item)
        };
        let mut seen = 0usize;
        if self.drop == 0 {
            seen = usize::try_from(rows).unwrap_or(usize::MAX);
            if !(0..rows).all(|_| row(0)) {
                return false;
            }
        } else {
            for (at, byte) in index.iter().enumerate() {
                let mut left = *byte;
                while left != 0 {
                    let bit = left.leading_zeros();
                    left &= !(0x80u8 >> bit);
                    let position = at.saturating_mul(8).saturating_add(usize::try_from(bit).unwrap_or(0));
                    let bucket = position.saturating_sub(seen);
                    if bucket >= buckets || !row(bucket) {
                        return false;
                    }
                    seen = seen.saturating_add(1);
                }
            }
        }
        body.len() == seen.saturating_mul(row_len)
    }

    /// The value of `id`'s row; rows without one answer [`EVERYTHING`]. `marks` are those of
    /// the shard.
    pub(crate) fn find(&self, rows: u32, bytes: &[u8], marks: &Marks, id: u128) -> Option<u64> {
        let (index, body) = self.split(rows, bytes)?;
        let mut start = 0;
        let mut len = usize::try_from(rows).ok()?;
        if self.drop > 0 {
            (start, len) = marks.bucket(index, self.bucket_of(id))?;
        }
        let wanted = id.to_be_bytes();
        let wanted = wanted.get(self.drop..self.kind.width())?;
        let row_len = self.row_len();
        let from = start.checked_mul(row_len)?;
        let rows = body.get(from..from.checked_add(len.checked_mul(row_len)?)?)?;
        // Nearly every row differs in its first bytes: those are compared as a number.
        let first = first_bytes(wanted);
        let row =
            rows.chunks_exact(row_len).find(|row| first_bytes(row) == first && row.starts_with(wanted))?;
        if self.kind.is_floor() {
            row.last_chunk().map(|value| u64::from_be_bytes(*value))
        } else {
            Some(EVERYTHING)
        }
    }

    /// Marks for a shard of that many rows, to be told each row's bucket in order.
    pub(crate) fn marks(&self, rows: u32) -> Marks {
        let buckets = if self.drop == 0 { 0 } else { self.buckets() };
        let bits = usize::try_from(rows).unwrap_or(usize::MAX).saturating_add(buckets);
        let step = buckets.saturating_mul(MARK_BITS).checked_div(bits).unwrap_or(0).max(1);
        let shift = step.ilog2();
        let count = buckets.checked_shr(shift).unwrap_or(0);
        Marks { shift, rows: 0, before: Vec::with_capacity(count) }
    }

    /// What joins the two parts of an id.
    fn join(&self) -> Join {
        let said = self.index_bits();
        Join {
            own: u64::MAX.checked_shr(said).unwrap_or(0),
            up: 64u32.saturating_sub(said),
            is_narrow: self.kind.width() == 8,
            is_floor: self.kind.is_floor(),
        }
    }
}

/// Joins the bits of an id that the index says and those that stand in the row; at most 24 are said,
/// so all of this concerns the upper half. Worked out once a shard: this is done for every row of a
/// download.
struct Join {
    /// The bits of the upper half that stand in the row.
    own: u64,
    /// Where the bucket goes.
    up: u32,
    is_narrow: bool,
    is_floor: bool,
}

impl Join {
    /// The row whose id ends at `end`; `bucket` counts from the first shard's first. The bytes
    /// before a row's own are another row's or the index', and are cut off.
    #[inline(always)]
    fn item(&self, bucket: usize, bytes: &[u8], end: usize) -> Option<Item> {
        let before = bytes.get(..end)?;
        let (high, low) = if self.is_narrow {
            (u64::from_be_bytes(*before.last_chunk()?), 0)
        } else {
            let id: &[u8; 16] = before.last_chunk()?;
            (u64::from_be_bytes(*id.first_chunk()?), u64::from_be_bytes(*id.last_chunk()?))
        };
        let top = u64::try_from(bucket).ok()?.checked_shl(self.up).unwrap_or(0);
        let value =
            if self.is_floor { u64::from_be_bytes(*bytes.get(end..)?.first_chunk()?) } else { EVERYTHING };
        let id = (u128::from((high & self.own) | top) << 64) | u128::from(low);
        Some(Item { id, value })
    }
}

#[inline]
fn first_bytes(row: &[u8]) -> u32 {
    row.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// So many bits of the index lie between two marks, or up to twice as many.
const MARK_BITS: usize = 64;

/// Where in a shard's index to begin: rows before every so many buckets. In memory only, some
/// 0.1 bytes a row; without it a lookup that passes the filter would count half the index of
/// one shard in every section.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    shift: u32,
    rows: u32,
    before: Vec<u32>,
}

impl Marks {
    pub(crate) fn push(&mut self, bucket: usize) {
        let wanted = bucket.checked_shr(self.shift).unwrap_or(0);
        while self.before.len() <= wanted {
            self.before.push(self.rows);
        }
        self.rows = self.rows.saturating_add(1);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.before.capacity().saturating_mul(4)
    }

    /// First row and number of rows of a bucket. In the index each row is a one, and each
    /// bucket ends with a zero.
    fn bucket(&self, index: &[u8], bucket: usize) -> Option<(usize, usize)> {
        let mark = bucket.checked_shr(self.shift)?;
        // Buckets after the last mark have no rows.
        let rows = usize::try_from(*self.before.get(mark)?).ok()?;
        let marked = mark.checked_shl(self.shift)?;
        let mut position = rows.checked_add(marked)?;
        let mut zeros = bucket.checked_sub(marked)?;
        while zeros > 0 {
            let (word, valid) = word(index, position);
            let mut open = !word & !u64::MAX.checked_shr(valid).unwrap_or(0);
            let here = usize::try_from(open.count_ones()).ok()?;
            if here < zeros {
                zeros = zeros.saturating_sub(here);
                position = position.checked_add(usize::try_from(valid).ok()?)?;
                continue;
            }
            for _ in 1..zeros {
                open &= !FIRST.checked_shr(open.leading_zeros())?;
            }
            position = position.checked_add(usize::try_from(open.leading_zeros()).ok()?)?.checked_add(1)?;
            break;
        }
        let start = position.checked_sub(bucket)?;
        loop {
            let (word, valid) = word(index, position);
            let ones = word.leading_ones().min(valid);
            position = position.checked_add(usize::try_from(ones).ok()?)?;
            if ones < valid {
                return Some((start, position.checked_sub(bucket)?.checked_sub(start)?));
            }
        }
    }
}

const FIRST: u64 = 1 << 63;

/// The bits from `position` on, left-aligned, and how many of them are the index'. Bits past
/// the end read as zero: they end the last bucket, as the real ones do.
fn word(index: &[u8], position: usize) -> (u64, u32) {
    let rest = index.get(position / 8..).unwrap_or(&[]);
    let word = match rest.first_chunk::<8>() {
        Some(whole) => u64::from_be_bytes(*whole),
        None => {
            rest.iter()
                .fold((0u64, 56u32), |(word, shift), byte| {
                    (word | u64::from(*byte).checked_shl(shift).unwrap_or(0), shift.saturating_sub(8))
                })
                .0
        }
    };
    let offset = u32::try_from(position % 8).unwrap_or(0);
    (word.checked_shl(offset).unwrap_or(0), 64u32.saturating_sub(offset))
}

/// The `bits` top bits as a number; at most 24 are asked for.
fn top(id: u128, bits: u32) -> usize {
    let top = id.checked_shr(128u32.saturating_sub(bits)).unwrap_or(0);
    usize::try_from(top).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64, so that tests repeat.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn items(kind: Kind, count: usize, state: &mut u64) -> Vec<Item> {
        let mut items: Vec<Item> = (0..count)
            .map(|_| Item {
                id: if kind == Kind::Key {
                    u128::from(random(state)) << 64
                } else {
                    (u128::from(random(state)) << 64) | u128::from(random(state))
                },
                value: if kind.is_floor() { 1 + random(state) % 1_000_000 } else { EVERYTHING },
            })
            .collect();
        items.sort_unstable();
        items.dedup_by_key(|item| item.id);
        items
    }

    #[test]
    fn every_row_is_found_read_back_and_nothing_else() {
        let mut state = 1;
        for kind in Kind::ALL {
            for count in [0, 1, 31, 32, 33, 255, 2048, 2049, 8191, 8192, 20_000] {
                let all = items(kind, count, &mut state);
                let rows = u32::try_from(all.len()).unwrap();
                let geometry = Geometry::of(kind, rows);
                let mut read = Vec::new();
                for shard in 0..geometry.shards() {
                    let own: Vec<Item> =
                        all.iter().filter(|item| geometry.shard_of(item.id) == shard).copied().collect();
                    let n = u32::try_from(own.len()).unwrap();
                    let bytes = geometry.encode(&own);
                    assert_eq!(Some(bytes.len()), geometry.len(n));
                    let mut marks = geometry.marks(n);
                    assert!(geometry.walk(shard, n, &bytes, |bucket, item| {
                        marks.push(bucket);
                        read.push(item);
                        true
                    }));
                    for item in &own {
                        assert_eq!(geometry.find(n, &bytes, &marks, item.id), Some(item.value));
                        let near = item.id ^ (1 << 64);
                        let there = all.binary_search_by_key(&near, |item| item.id).ok();
                        if geometry.shard_of(near) == shard {
                            assert_eq!(geometry.find(n, &bytes, &marks, near), there.map(|i| all[i].value));
                        }
                    }
                    for _ in 0..50 {
                        let id = ((u128::from(random(&mut state)) << 64) & (u128::MAX >> geometry.bits))
                            | (u128::try_from(shard).unwrap().checked_shl(128 - geometry.bits).unwrap_or(0));
                        assert_eq!(geometry.find(n, &bytes, &marks, id), None);
                    }
                }
                assert_eq!(read, all, "{kind:?} {count}");
            }
        }
    }

    #[test]
    fn a_bucket_longer_than_a_word_is_found() {
        let mut items: Vec<Item> =
            (0..400u128).map(|i| Item { id: (7 << 120) | i, value: EVERYTHING }).collect();
        items.push(Item { id: 255 << 120, value: EVERYTHING });
        let geometry = Geometry::of(Kind::Token, 401);
        let bytes = geometry.encode(&items);
        let mut marks = geometry.marks(401);
        assert!(geometry.walk(0, 401, &bytes, |bucket, _| {
            marks.push(bucket);
            true
        }));
        for item in &items {
            assert_eq!(geometry.find(401, &bytes, &marks, item.id), Some(EVERYTHING));
        }
        assert_eq!(geometry.find(401, &bytes, &marks, (7 << 120) | 400), None);
        assert_eq!(geometry.find(401, &bytes, &marks, 8 << 120), None);
    }

    #[test]
    fn no_flipped_bit_keeps_the_rows() {
        let mut state = 3;
        for (kind, count) in [(Kind::Token, 20), (Kind::Subject, 40), (Kind::Key, 70), (Kind::Branch, 300)] {
            let all = items(kind, count, &mut state);
            let rows = u32::try_from(all.len()).unwrap();
            let geometry = Geometry::of(kind, rows);
            let bytes = geometry.encode(&all);
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                let mut read = Vec::new();
                let good = geometry.walk(0, rows, &bytes, |_, item| {
                    read.push(item);
                    true
                });
                // Either refused, or another set with another encoding: never two forms of one.
                assert!(!good || (read != all && geometry.encode(&read) == bytes));
            }
        }
    }

    #[test]
    fn the_layout_changes_at_its_thresholds_and_only_there() {
        let of = |rows| {
            let geometry = Geometry::of(Kind::Token, rows);
            (geometry.bits, geometry.drop)
        };
        assert_eq!(of(0), (0, 0));
        assert_eq!((of(31), of(32)), ((0, 0), (0, 1)));
        assert_eq!((of(2048), of(2049)), ((0, 1), (1, 1)));
        assert_eq!((of(8191), of(8192), of(8193)), ((2, 1), (2, 2), (3, 2)));
        assert_eq!((of((1 << 21) - 1), of(1 << 21)), ((10, 2), (10, 3)));
        assert_eq!(of(u32::MAX), (21, 3));
    }
}
