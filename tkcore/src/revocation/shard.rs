//! The bytes of a shard: what is hashed, sent, stored and searched (RV-22, RV-23).

use alloc::vec::Vec;

use crate::revocation::kind::{EVERYTHING, Item, Kind};
use crate::revocation::search::{Bits, FIRST, Search};

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
    pub(super) kind: Kind,
    /// The section has `1 << bits` shards.
    bits: u32,
    /// Leading bytes of an id that the index says.
    pub(super) drop: usize,
    /// Of every `1 << shift` buckets, the first is marked.
    shift: u32,
}

impl Geometry {
    pub(crate) fn of(kind: Kind, rows: u32) -> Self {
        let rows = u64::from(rows);
        let full = rows.div_ceil(SHARD_ROWS).max(1);
        let bits = full.next_power_of_two().trailing_zeros();
        let drop = DROP.iter().take_while(|least| rows >= **least).count();
        let mut geometry = Self { kind, bits, drop, shift: 0 };
        let buckets = u64::try_from(geometry.buckets()).unwrap_or(u64::MAX);
        // A section's shards hold between half as many rows and all of them.
        let bits = buckets.saturating_add(SHARD_ROWS / 4 * 3);
        let step = buckets.saturating_mul(MARK_BITS).checked_div(bits).unwrap_or(1);
        geometry.shift = step.max(1).ilog2();
        geometry
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

    pub(super) fn row_len(&self) -> usize {
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
        let join = self.join();
        let mut end = index.len().saturating_add(self.rest_len());
        let (mut seen, mut last) = (0usize, 0u128);
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        // A word of the index, without the rows that were read, and where it stands.
        let (mut word, mut start, mut next) = (0u64, 0usize, 0usize);
        // One loop for sections with and without an index: a second place that calls `each` would keep
        // both from becoming a part of it, and every row of a download comes through here.
        loop {
            let mut bucket = 0;
            if self.drop == 0 {
                if seen == rows {
                    break;
                }
            } else {
                while word == 0 && next < index.len() {
                    word = Bits::at(index, next.saturating_mul(8)).word;
                    start = next.saturating_mul(8);
                    next = next.saturating_add(8);
                }
                if word == 0 {
                    break;
                }
                let bit = word.leading_zeros();
                word &= !FIRST.checked_shr(bit).unwrap_or(0);
                bucket = start.saturating_add(usize::try_from(bit).unwrap_or(0)).saturating_sub(seen);
            }
            let Some(item) = join.item(first.saturating_add(bucket), bytes, end) else { return false };
            let is_in_order = seen == 0 || last < item.id;
            if bucket >= buckets || !is_in_order || !self.kind.admits(item.value) || !each(bucket, item) {
                return false;
            }
            last = item.id;
            seen = seen.saturating_add(1);
            end = end.saturating_add(row_len);
        }
        body.len() == seen.saturating_mul(row_len)
    }

    /// Marks of one shard.
    pub(crate) fn marks(&self) -> usize {
        if self.drop == 0 { 0 } else { self.buckets().checked_shr(self.shift).unwrap_or(0) }
    }

    /// Writes the marks of the shard that comes next to `list`.
    pub(crate) const fn marker<'a>(&self, list: &'a mut Vec<u32>) -> Marker<'a> {
        Marker { shift: self.shift, base: list.len(), rows: 0, list }
    }

    /// The mark to begin at, counted from the section's first.
    pub(crate) fn mark_of(&self, id: u128) -> usize {
        top(id, self.index_bits().saturating_sub(self.shift))
    }

    /// Begins to look for `id` in its shard. `mark` is the one of [`Geometry::mark_of`].
    #[inline]
    pub(crate) fn search<'a>(
        &'a self,
        rows: u32,
        bytes: &'a [u8],
        mark: u32,
        id: u128,
    ) -> Option<Search<'a>> {
        let (index, body) = self.split(rows, bytes)?;
        let (bucket, count) =
            if self.drop == 0 { (0, usize::try_from(rows).ok()?) } else { (self.bucket_of(id), 0) };
        let skipped = bucket & (1usize.checked_shl(self.shift)?.saturating_sub(1));
        let position = usize::try_from(mark).ok()?.checked_add(bucket.checked_sub(skipped)?)?;
        Some(Search::new(self, [index, body], bucket, skipped, position, count))
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

/// About so many bits of an index lie between two marks. A mark says how many rows of the shard
/// stand before it. In memory only, 0.07 to 0.2 bytes a row in large sections, up to 1 just past a
/// threshold of the layout; without it a lookup that passes the
/// filter would count half the index of one shard in every section.
const MARK_BITS: u64 = 64;

/// Told each row's bucket in order, it marks a shard.
pub(crate) struct Marker<'a> {
    shift: u32,
    base: usize,
    rows: u32,
    list: &'a mut Vec<u32>,
}

impl Marker<'_> {
    #[inline]
    pub(crate) fn push(&mut self, bucket: usize) {
        let wanted = bucket.checked_shr(self.shift).unwrap_or(0).saturating_add(self.base);
        while self.list.len() <= wanted {
            self.list.push(self.rows);
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// Nothing follows in this shard, which has so many marks.
    pub(crate) fn finish(self, marks: usize) {
        self.list.resize(self.base.saturating_add(marks), self.rows);
    }
}

/// The `bits` top bits as a number; at most 24 are asked for.
#[inline]
fn top(id: u128, bits: u32) -> usize {
    let high = u64::try_from(id >> 64).unwrap_or(0);
    let top = high.checked_shr(64u32.saturating_sub(bits)).unwrap_or(0);
    usize::try_from(top).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::search::tests::rows_read;

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

    /// `marks` are those of this shard alone.
    fn find(geometry: &Geometry, shard: usize, n: u32, bytes: &[u8], marks: &[u32], id: u128) -> Option<u64> {
        let mark = match geometry.marks() {
            0 => 0,
            count => marks[geometry.mark_of(id) - shard * count],
        };
        let mut search = geometry.search(n, bytes, mark, id)?;
        search.read();
        search.narrow();
        search.reach();
        search.value(id)
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
                    let mut marks = Vec::new();
                    let mut marker = geometry.marker(&mut marks);
                    assert!(geometry.walk(shard, n, &bytes, |bucket, item| {
                        marker.push(bucket);
                        read.push(item);
                        true
                    }));
                    marker.finish(geometry.marks());
                    let find = |id| find(&geometry, shard, n, &bytes, &marks, id);
                    for item in &own {
                        assert_eq!(find(item.id), Some(item.value));
                        let near = item.id ^ (1 << 64);
                        let there = all.binary_search_by_key(&near, |item| item.id).ok();
                        if geometry.shard_of(near) == shard {
                            assert_eq!(find(near), there.map(|i| all[i].value));
                        }
                    }
                    for _ in 0..50 {
                        let id = ((u128::from(random(&mut state)) << 64) & (u128::MAX >> geometry.bits))
                            | (u128::try_from(shard).unwrap().checked_shl(128 - geometry.bits).unwrap_or(0));
                        assert_eq!(find(id), None);
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
        let mut marks = Vec::new();
        let mut marker = geometry.marker(&mut marks);
        assert!(geometry.walk(0, 401, &bytes, |bucket, _| {
            marker.push(bucket);
            true
        }));
        marker.finish(geometry.marks());
        let find = |id| find(&geometry, 0, 401, &bytes, &marks, id);
        for item in &items {
            assert_eq!(find(item.id), Some(EVERYTHING));
        }
        assert_eq!(find((7 << 120) | 400), None);
        assert_eq!(find(8 << 120), None);
    }

    /// A row's id is 16 bytes of a client's choice. That makes its own look-ups no slower than a
    /// search in order, and nobody else's wrong.
    #[test]
    fn chosen_ids_in_one_bucket_are_found_without_reading_all_of_them() {
        for (kind, count) in
            [(Kind::Token, 100_000u32), (Kind::Subject, 100_000), (Kind::Branch, 65), (Kind::Branch, 64)]
        {
            let id = |i: u128| (0x0707_0707_0707_0707u128 << 64) | (3 * i + 1);
            let value = |i: u128| if kind.is_floor() { 1 + u64::try_from(i).unwrap() } else { EVERYTHING };
            let items: Vec<Item> =
                (0..u128::from(count)).map(|i| Item { id: id(i), value: value(i) }).collect();
            let geometry = Geometry::of(kind, count);
            let shard = geometry.shard_of(id(0));
            let bytes = geometry.encode(&items);
            let mut marks = Vec::new();
            let mut marker = geometry.marker(&mut marks);
            assert!(geometry.walk(shard, count, &bytes, |bucket, _| {
                marker.push(bucket);
                true
            }));
            marker.finish(geometry.marks());
            let most = if count > 64 { count.ilog2() + 1 } else { count };
            let find = |id| {
                let found = find(&geometry, shard, count, &bytes, &marks, id);
                let read = rows_read();
                assert!(read <= usize::try_from(most).unwrap(), "{read} rows of {count}");
                found
            };
            for item in items.iter().step_by(if count > 1000 { 101 } else { 1 }).chain(items.last()) {
                assert_eq!(find(item.id), Some(item.value));
                assert_eq!(find(item.id + 1), None);
            }
            for beside in [items[0].id - 1, id(u128::from(count)), id(0) ^ (1 << 64), id(0) ^ (1 << 100)] {
                assert_eq!(find(beside), None);
            }
        }
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
