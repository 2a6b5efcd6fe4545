//! Looking for one id in the bytes of a shard, in steps that several look-ups take together.

use core::cmp::Ordering;

use crate::revocation::kind::EVERYTHING;
use crate::revocation::shard::Geometry;

/// Rows of a bucket that are compared one by one. Random ids make buckets of 32 at most on average
/// (RV-22); one in a million is twice as long.
const LONG: usize = 64;

/// A look-up in one shard: [`read`](Self::read), [`narrow`](Self::narrow), [`reach`](Self::reach),
/// [`value`](Self::value). Each step reads in another place what the step before it found, and the
/// processor has to wait for it: whoever looks into many shards takes a step in all of them before
/// the next step in any, and waits for all of them together.
#[derive(Clone, Copy)]
pub(crate) struct Search<'a> {
    geometry: &'a Geometry,
    index: &'a [u8],
    body: &'a [u8],
    bucket: usize,
    /// Buckets between the mark and the wanted one.
    skipped: usize,
    /// Where in the index the mark is.
    position: usize,
    bits: Bits,
    /// First row of the bucket, and how many there are.
    start: usize,
    count: usize,
    /// The first bytes of that row.
    first: u32,
}

impl<'a> Search<'a> {
    #[inline]
    pub(super) const fn new(
        geometry: &'a Geometry,
        [index, body]: [&'a [u8]; 2],
        bucket: usize,
        skipped: usize,
        position: usize,
        count: usize,
    ) -> Self {
        let bits = Bits { word: 0, valid: 0 };
        Self { geometry, index, body, bucket, skipped, position, bits, start: 0, count, first: 0 }
    }

    /// Reads the index where the mark says.
    #[inline]
    pub(crate) fn read(&mut self) {
        self.bits = Bits::at(self.index, self.position);
    }

    /// Finds the bucket's rows.
    #[inline]
    pub(crate) fn narrow(&mut self) {
        if !self.index.is_empty() {
            (self.start, self.count) = self.bucket().unwrap_or((0, 0));
        }
    }

    /// Reads the bucket's first row.
    #[inline]
    pub(crate) fn reach(&mut self) {
        let from = self.start.saturating_mul(self.geometry.row_len());
        self.body = self.body.get(from..).unwrap_or(&[]);
        self.first = first_bytes(self.body);
    }

    /// The value of `id`'s row; rows without one answer [`EVERYTHING`].
    #[inline]
    pub(crate) fn value(&self, id: u128) -> Option<u64> {
        let kind = self.geometry.kind;
        let row_len = self.geometry.row_len();
        let wanted = id.to_be_bytes();
        let wanted = wanted.get(self.geometry.drop..kind.width())?;
        if self.count > LONG {
            return self.halve(wanted);
        }
        // Nearly every row differs in its first bytes: those are compared as a number.
        let (mut first, mut rest) = (self.first, self.body);
        for _ in 0..self.count {
            #[cfg(test)]
            tests::row_is_read();
            if first == first_bytes(wanted) && rest.starts_with(wanted) {
                return self.value_of(rest.get(..row_len)?);
            }
            rest = rest.get(row_len..)?;
            first = first_bytes(rest);
        }
        None
    }

    #[inline]
    fn value_of(&self, row: &[u8]) -> Option<u64> {
        if !self.geometry.kind.is_floor() {
            return Some(EVERYTHING);
        }
        row.last_chunk().map(|value| u64::from_be_bytes(*value))
    }

    /// The same in a bucket that chance does not make so long: who may revoke by id can choose ids that
    /// all lie in one. Its rows are in order.
    #[cold]
    #[inline(never)]
    fn halve(&self, wanted: &[u8]) -> Option<u64> {
        let row_len = self.geometry.row_len();
        let (mut from, mut to) = (0usize, self.count);
        while from < to {
            #[cfg(test)]
            tests::row_is_read();
            let middle = from.midpoint(to);
            let row = self.body.get(middle.checked_mul(row_len)?..)?.get(..row_len)?;
            match row.get(..wanted.len())?.cmp(wanted) {
                Ordering::Less => from = middle.checked_add(1)?,
                Ordering::Greater => to = middle,
                Ordering::Equal => return self.value_of(row),
            }
        }
        None
    }

    /// First row and number of rows of the bucket. In the index each row is a one, and each
    /// bucket ends with a zero.
    #[inline]
    fn bucket(&self) -> Option<(usize, usize)> {
        let (mut bits, mut position, mut zeros) = (self.bits, self.position, self.skipped);
        if zeros > 0 {
            while bits.zeros() < zeros {
                zeros = zeros.checked_sub(bits.zeros())?;
                position = position.checked_add(bits.len())?;
                bits = Bits::at(self.index, position);
            }
            let past = bits.past_zero(zeros);
            position = position.checked_add(past)?;
            bits = bits.without(past);
        }
        let start = position.checked_sub(self.bucket)?;
        let mut count = 0usize;
        loop {
            let ones = bits.ones();
            count = count.checked_add(ones)?;
            if ones < bits.len() {
                return Some((start, count));
            }
            position = position.checked_add(ones)?;
            bits = Bits::at(self.index, position);
        }
    }
}

/// Some bits of an index, left-aligned, and how many. Bits past the index' end read as zero: they
/// end the last bucket, as the real ones do.
#[derive(Clone, Copy)]
pub(super) struct Bits {
    pub(super) word: u64,
    valid: u32,
}

impl Bits {
    #[inline]
    pub(super) fn at(index: &[u8], position: usize) -> Self {
        let rest = index.get(position / 8..).unwrap_or(&[]);
        let word = match rest.first_chunk::<8>() {
            Some(whole) => u64::from_be_bytes(*whole),
            None => last_bytes(rest),
        };
        let offset = u32::try_from(position % 8).unwrap_or(0);
        Self { word, valid: 64 }.without(usize::try_from(offset).unwrap_or(0))
    }

    #[inline]
    fn without(self, bits: usize) -> Self {
        let bits = u32::try_from(bits).unwrap_or(u32::MAX);
        Self { word: self.word.checked_shl(bits).unwrap_or(0), valid: self.valid.saturating_sub(bits) }
    }

    #[inline]
    fn len(self) -> usize {
        usize::try_from(self.valid).unwrap_or(0)
    }

    #[inline]
    fn ones(self) -> usize {
        usize::try_from(self.word.leading_ones().min(self.valid)).unwrap_or(0)
    }

    /// Those bits that are zero, as ones.
    #[inline]
    fn inverted(self) -> u64 {
        !self.word & !u64::MAX.checked_shr(self.valid).unwrap_or(0)
    }

    #[inline]
    fn zeros(self) -> usize {
        usize::try_from(self.inverted().count_ones()).unwrap_or(0)
    }

    /// How many bits there are up to the `n`-th zero and with it; `n` is at least one and at most
    /// [`Bits::zeros`].
    #[inline]
    fn past_zero(self, n: usize) -> usize {
        let mut open = self.inverted();
        for _ in 1..n {
            open &= !FIRST.checked_shr(open.leading_zeros()).unwrap_or(0);
        }
        usize::try_from(open.leading_zeros()).unwrap_or(0).saturating_add(1)
    }
}

pub(super) const FIRST: u64 = 1 << 63;

/// The last bytes of an index as a word's first.
#[cold]
fn last_bytes(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold((0u64, 56u32), |(word, shift), byte| {
            (word | u64::from(*byte).checked_shl(shift).unwrap_or(0), shift.saturating_sub(8))
        })
        .0
}

#[inline]
fn first_bytes(row: &[u8]) -> u32 {
    row.first_chunk::<4>().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    std::thread_local! {
        static READ: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn row_is_read() {
        READ.set(READ.get() + 1);
    }

    /// Rows that this thread's look-ups have compared since it was asked last.
    pub(in crate::revocation) fn rows_read() -> usize {
        READ.take()
    }
}
