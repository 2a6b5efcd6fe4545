use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::FeedDigest;
use crate::revocation::digest::{self, digest};
use crate::revocation::expiry::ExpiryDay;
use crate::revocation::kind::{Item, Kind};
use crate::revocation::search::Search;
use crate::revocation::shard::Geometry;

/// All rows of one kind that expire on one day, in shards. Immutable: adding rows makes
/// another one that shares the untouched shards.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) kind: Kind,
    pub(crate) day: ExpiryDay,
    pub(crate) rows: u32,
    pub(crate) digest: FeedDigest,
    geometry: Geometry,
    shards: Vec<Shard>,
    /// Into the indexes of all shards, the same number each.
    marks: Vec<u32>,
}

/// A shard's bytes, a part of a snapshot or written anew by a step.
#[derive(Debug, Clone)]
struct Shard {
    rows: u32,
    digest: FeedDigest,
    store: Arc<Vec<u8>>,
    at: usize,
    len: usize,
}

impl Shard {
    /// Checks and takes `len` bytes at `at`; every row goes through `each`.
    fn read(
        geometry: &Geometry,
        index: usize,
        rows: u32,
        store: &Arc<Vec<u8>>,
        at: usize,
        marks: &mut Vec<u32>,
        mut each: impl FnMut(Item),
    ) -> Option<Self> {
        let len = geometry.len(rows)?;
        let bytes = store.get(at..at.checked_add(len)?)?;
        let mut marker = geometry.marker(marks);
        let is_good = geometry.walk(index, rows, bytes, |bucket, item| {
            marker.push(bucket);
            each(item);
            true
        });
        if !is_good {
            return None;
        }
        marker.finish(geometry.marks());
        let digest = digest(digest::SHARD, &[bytes]);
        Some(Self { rows, digest, store: Arc::clone(store), at, len })
    }

    fn written(geometry: &Geometry, items: &[Item], marks: &mut Vec<u32>) -> Option<Self> {
        let store = Arc::new(geometry.encode(items));
        let rows = u32::try_from(items.len()).ok()?;
        let mut marker = geometry.marker(marks);
        for item in items {
            marker.push(geometry.bucket_of(item.id));
        }
        marker.finish(geometry.marks());
        let (digest, len) = (digest(digest::SHARD, &[&store]), store.len());
        Some(Self { rows, digest, store, at: 0, len })
    }

    fn bytes(&self) -> &[u8] {
        self.store.get(self.at..self.at.saturating_add(self.len)).unwrap_or(&[])
    }
}

/// How many sections are searched side by side: the publisher's days of one kind, and a few.
const SIDE_BY_SIDE: usize = 12;

/// The largest value of `id`'s rows in at most [`SIDE_BY_SIDE`] sections.
fn highest<'a>(sections: impl Iterator<Item = &'a Section>, id: u128) -> Option<u64> {
    let mut searches = [const { None }; SIDE_BY_SIDE];
    for (search, section) in searches.iter_mut().zip(sections) {
        *search = section.search(id);
    }
    searches.iter_mut().flatten().for_each(Search::read);
    searches.iter_mut().flatten().for_each(Search::narrow);
    searches.iter_mut().flatten().for_each(Search::reach);
    searches.iter().flatten().filter_map(|search| search.value(id)).max()
}

/// More rows than a section can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Section {
    /// From rows in strictly ascending order.
    pub(crate) fn build(kind: Kind, day: ExpiryDay, items: &[Item]) -> Result<Self, TooMany> {
        let rows = u32::try_from(items.len()).map_err(|_| TooMany)?;
        let geometry = Geometry::of(kind, rows);
        let mut rest = items;
        let mut marks = Vec::with_capacity(geometry.shards().saturating_mul(geometry.marks()));
        let mut shards = Vec::with_capacity(geometry.shards());
        for shard in 0..geometry.shards() {
            let own = rest.partition_point(|item| geometry.shard_of(item.id) <= shard);
            let (own, later) = rest.split_at_checked(own).ok_or(TooMany)?;
            shards.push(Shard::written(&geometry, own, &mut marks).ok_or(TooMany)?);
            rest = later;
        }
        Ok(Self::of(kind, day, rows, geometry, shards, marks))
    }

    /// From a snapshot's bytes, starting at `at`; `counts` gives the rows of each shard. Every
    /// row goes through `each`. The section and where the next one starts; `None` when the
    /// bytes are not the one form of such a section.
    pub(crate) fn read(
        kind: Kind,
        day: ExpiryDay,
        counts: &[u32],
        store: &Arc<Vec<u8>>,
        mut at: usize,
        mut each: impl FnMut(Item),
    ) -> Option<(Self, usize)> {
        let rows = counts.iter().try_fold(0u32, |sum, count| sum.checked_add(*count))?;
        let geometry = Geometry::of(kind, rows);
        if rows == 0 || counts.len() != geometry.shards() {
            return None;
        }
        let mut marks = Vec::with_capacity(counts.len().saturating_mul(geometry.marks()));
        let mut shards = Vec::with_capacity(counts.len());
        for (index, count) in counts.iter().enumerate() {
            let shard = Shard::read(&geometry, index, *count, store, at, &mut marks, &mut each)?;
            at = at.checked_add(shard.len)?;
            shards.push(shard);
        }
        Some((Self::of(kind, day, rows, geometry, shards, marks), at))
    }

    fn of(
        kind: Kind,
        day: ExpiryDay,
        rows: u32,
        geometry: Geometry,
        shards: Vec<Shard>,
        marks: Vec<u32>,
    ) -> Self {
        let mut table = Vec::with_capacity(shards.len().saturating_mul(36));
        for shard in &shards {
            table.extend_from_slice(&shard.rows.to_be_bytes());
            table.extend_from_slice(shard.digest.as_bytes());
        }
        let head = [kind.number()];
        let parts: [&[u8]; 4] = [&head, &day.number().to_be_bytes(), &rows.to_be_bytes(), &table];
        Self { kind, day, rows, digest: digest(digest::SECTION, &parts), geometry, shards, marks }
    }

    /// This section and `items` (strictly ascending). Where an id is in both, the larger value
    /// stays. Only the shards that change are written and hashed, unless the row count passes
    /// a threshold of the layout.
    pub(crate) fn with(&self, items: &[Item]) -> Result<Self, TooMany> {
        let mut rest = items;
        let mut changed: Vec<(usize, Vec<Item>)> = Vec::new();
        let mut rows = self.rows;
        while let Some(first) = rest.first() {
            let shard = self.geometry.shard_of(first.id);
            let own = rest.partition_point(|item| self.geometry.shard_of(item.id) <= shard);
            let (own, later) = rest.split_at_checked(own).ok_or(TooMany)?;
            let merged = merge(&self.items_of(shard), own);
            let before = self.shards.get(shard).map_or(0, |shard| shard.rows);
            let after = u32::try_from(merged.len()).map_err(|_| TooMany)?;
            rows = rows.checked_add(after.saturating_sub(before)).ok_or(TooMany)?;
            changed.push((shard, merged));
            rest = later;
        }
        if Geometry::of(self.kind, rows) != self.geometry {
            let mut all = Vec::with_capacity(usize::try_from(rows).map_err(|_| TooMany)?);
            let mut changed = changed.into_iter().peekable();
            for shard in 0..self.shards.len() {
                match changed.next_if(|(at, _)| *at == shard) {
                    Some((_, items)) => all.extend(items),
                    None => all.extend(self.items_of(shard)),
                }
            }
            return Self::build(self.kind, self.day, &all);
        }
        let mut shards = self.shards.clone();
        let mut marks = self.marks.clone();
        let each = self.geometry.marks();
        let mut own = Vec::with_capacity(each);
        for (shard, items) in changed {
            let to = shards.get_mut(shard).ok_or(TooMany)?;
            own.clear();
            *to = Shard::written(&self.geometry, &items, &mut own).ok_or(TooMany)?;
            let of_shard = marks.get_mut(shard.saturating_mul(each)..).unwrap_or_default();
            for (to, from) in of_shard.iter_mut().zip(&own) {
                *to = *from;
            }
        }
        Ok(Self::of(self.kind, self.day, rows, self.geometry, shards, marks))
    }

    /// The value of `id`'s row.
    pub(crate) fn find(&self, id: u128) -> Option<u64> {
        highest([self].into_iter(), id)
    }

    /// The largest value of `id`'s rows in some sections, which are searched side by side.
    pub(crate) fn highest(sections: &[Arc<Self>], id: u128) -> Option<u64> {
        let some = |sections: &[Arc<Self>]| highest(sections.iter().map(Arc::as_ref), id);
        sections.chunks(SIDE_BY_SIDE).filter_map(some).max()
    }

    #[inline]
    fn search(&self, id: u128) -> Option<Search<'_>> {
        let shard = self.shards.get(self.geometry.shard_of(id))?;
        let mark = self.marks.get(self.geometry.mark_of(id)).copied().unwrap_or(0);
        self.geometry.search(shard.rows, shard.bytes(), mark, id)
    }

    /// Every row, in order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Item)) {
        for (index, shard) in self.shards.iter().enumerate() {
            self.geometry.walk(index, shard.rows, shard.bytes(), |_, item| {
                each(item);
                true
            });
        }
    }

    /// The rows of every shard that is not, byte for byte, a shard of `other`.
    pub(crate) fn for_each_unlike(&self, other: Option<&Self>, mut each: impl FnMut(Item) -> bool) -> bool {
        let other = other.filter(|other| other.geometry == self.geometry);
        self.shards.iter().enumerate().all(|(index, shard)| {
            let same = other.and_then(|other| other.shards.get(index));
            same.is_some_and(|same| same.digest == shard.digest && same.rows == shard.rows)
                || self.geometry.walk(index, shard.rows, shard.bytes(), |_, item| each(item))
        })
    }

    /// Rows of each shard and its bytes, as a snapshot has them.
    pub(crate) fn shards(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.shards.iter().map(|shard| (shard.rows, shard.bytes()))
    }

    /// Bytes of the marks and the list of shards, in memory only.
    pub(crate) fn overhead(&self) -> usize {
        let marks = self.marks.capacity().saturating_mul(size_of::<u32>());
        self.shards.capacity().saturating_mul(size_of::<Shard>()).saturating_add(marks)
    }

    /// Bytes that the shards hold, without what is shared with other sets.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.len))
    }

    fn items_of(&self, index: usize) -> Vec<Item> {
        let mut items = Vec::new();
        if let Some(shard) = self.shards.get(index) {
            items.reserve(usize::try_from(shard.rows).unwrap_or(0));
            self.geometry.walk(index, shard.rows, shard.bytes(), |_, item| {
                items.push(item);
                true
            });
        }
        items
    }
}

/// Two ascending lists as one; of equal ids the larger value stays.
fn merge(left: &[Item], right: &[Item]) -> Vec<Item> {
    let mut all = Vec::with_capacity(left.len().saturating_add(right.len()));
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    loop {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a.id == b.id => {
                let value = a.value.max(b.value);
                let item = Item { id: a.id, value };
                left.next();
                right.next();
                Some(item)
            }
            (Some(a), Some(b)) if a.id < b.id => left.next(),
            (Some(_), None) => left.next(),
            (_, Some(_)) => right.next(),
            (None, None) => None,
        };
        match next {
            Some(item) => all.push(item),
            None => return all,
        }
    }
}

/// Sorts rows and joins equal ids under the larger value.
pub(crate) fn order(items: &mut Vec<Item>) {
    items.sort_unstable_by(|a, b| a.id.cmp(&b.id).then(b.value.cmp(&a.value)));
    items.dedup_by_key(|item| item.id);
}
