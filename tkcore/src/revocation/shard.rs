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

    fn bucket_of(&self, id: u128) -> usize {
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
    /// they are not, or as soon as `each` says so.
    pub(crate) fn walk(
        &self,
        shard: usize,
        rows: u32,
        bytes: &[u8],
        mut each: impl FnMut(Item) -> bool,
    ) -> bool {
        let Some((index, body)) = self.split(rows, bytes) else { return false };
        let mut body = body.chunks_exact(self.row_len());
        let mut last = None;
        let mut row = |bucket: usize| {
            let Some(item) = body.next().and_then(|row| self.item(shard, bucket, row)) else { return false };
            if last.is_some_and(|last| last >= item.id) || !self.kind.admits(item.value) {
                return false;
            }
            last = Some(item.id);
            each(item)
        };
        if self.drop == 0 {
            (0..rows).all(|_| row(0)) && body.next().is_none()
        } else {
            let buckets = self.buckets();
            let mut seen = 0usize;
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
            body.next().is_none() && body.remainder().is_empty()
        }
    }

    /// The value of `id`'s row; rows without one answer [`EVERYTHING`].
    pub(crate) fn find(&self, rows: u32, bytes: &[u8], id: u128) -> Option<u64> {
        let (index, body) = self.split(rows, bytes)?;
        let mut start = 0;
        let mut len = usize::try_from(rows).ok()?;
        if self.drop > 0 {
            (start, len) = bucket(index, self.bucket_of(id))?;
        }
        let wanted = id.to_be_bytes();
        let wanted = wanted.get(self.drop..self.kind.width())?;
        let row_len = self.row_len();
        let from = start.checked_mul(row_len)?;
        let rows = body.get(from..from.checked_add(len.checked_mul(row_len)?)?)?;
        let row = rows.chunks_exact(row_len).find(|row| row.starts_with(wanted))?;
        if self.kind.is_floor() {
            row.last_chunk().map(|value| u64::from_be_bytes(*value))
        } else {
            Some(EVERYTHING)
        }
    }

    fn item(&self, shard: usize, bucket: usize, row: &[u8]) -> Option<Item> {
        let mut id = [0u8; 16];
        let (rest, value) = row.split_at_checked(self.rest_len())?;
        id.get_mut(self.drop..self.kind.width())?.copy_from_slice(rest);
        let value = if self.kind.is_floor() { u64::from_be_bytes(*value.first_chunk()?) } else { EVERYTHING };
        let id = u128::from_be_bytes(id);
        let top = u128::try_from(shard).ok()?.checked_mul(u128::try_from(self.buckets()).ok()?)?;
        let top = top.checked_add(u128::try_from(bucket).ok()?)?;
        let top = top.checked_shl(128u32.checked_sub(self.index_bits())?).unwrap_or(0);
        Some(Item { id: id | top, value })
    }
}

/// The `bits` top bits as a number; at most 24 are asked for.
fn top(id: u128, bits: u32) -> usize {
    let top = id.checked_shr(128u32.saturating_sub(bits)).unwrap_or(0);
    usize::try_from(top).unwrap_or(0)
}

/// First row and number of rows of a bucket. In the index each row is a one, and each bucket
/// ends with a zero.
fn bucket(index: &[u8], bucket: usize) -> Option<(usize, usize)> {
    let mut zeros = bucket;
    let mut position = 0usize;
    let mut words = index.chunks(8);
    let mut word = next(&mut words)?;
    if zeros > 0 {
        loop {
            let here = usize::try_from(word.count_zeros()).ok()?;
            if here >= zeros {
                break;
            }
            zeros = zeros.saturating_sub(here);
            position = position.saturating_add(64);
            word = next(&mut words)?;
        }
        let mut open = !word;
        for _ in 1..zeros {
            open &= !(1u64 << 63).checked_shr(open.leading_zeros())?;
        }
        let used = open.leading_zeros().saturating_add(1);
        position = position.saturating_add(usize::try_from(used).ok()?);
        word = match word.checked_shl(used) {
            Some(rest) => rest,
            None => next(&mut words)?,
        };
    }
    let start = position.checked_sub(bucket)?;
    let mut len = 0usize;
    loop {
        let left = 64usize.saturating_sub(position % 64);
        let ones = usize::try_from(word.leading_ones()).ok()?.min(left);
        len = len.saturating_add(ones);
        if ones < left {
            return Some((start, len));
        }
        position = position.saturating_add(ones);
        word = next(&mut words)?;
    }
}

/// Bits past the end read as zero: they end the last bucket, as the real ones do.
fn next(words: &mut core::slice::Chunks<'_, u8>) -> Option<u64> {
    let chunk = words.next()?;
    let mut word = [0u8; 8];
    word.get_mut(..chunk.len())?.copy_from_slice(chunk);
    Some(u64::from_be_bytes(word))
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
                    assert!(geometry.walk(shard, n, &bytes, |item| {
                        read.push(item);
                        true
                    }));
                    for item in &own {
                        assert_eq!(geometry.find(n, &bytes, item.id), Some(item.value));
                        let near = item.id ^ (1 << 64);
                        let there = all.binary_search_by_key(&near, |item| item.id).ok();
                        if geometry.shard_of(near) == shard {
                            assert_eq!(geometry.find(n, &bytes, near), there.map(|i| all[i].value));
                        }
                    }
                    for _ in 0..50 {
                        let id = ((u128::from(random(&mut state)) << 64) & (u128::MAX >> geometry.bits))
                            | (u128::try_from(shard).unwrap().checked_shl(128 - geometry.bits).unwrap_or(0));
                        assert_eq!(geometry.find(n, &bytes, id), None);
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
        for item in &items {
            assert_eq!(geometry.find(401, &bytes, item.id), Some(EVERYTHING));
        }
        assert_eq!(geometry.find(401, &bytes, (7 << 120) | 400), None);
        assert_eq!(geometry.find(401, &bytes, 8 << 120), None);
        assert!(geometry.walk(0, 401, &bytes, |_| true));
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
                let good = geometry.walk(0, rows, &bytes, |item| {
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
