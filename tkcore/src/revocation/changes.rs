use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::revocation::expiry::ExpiryDay;
use crate::revocation::kind::{Item, Kind, Place};
use crate::revocation::rule::Revocation;
use crate::revocation::section;

/// What one or more steps do to a set, taken together, so that a shard that several of them
/// touch is written once.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    floor: u64,
    dropped: Option<ExpiryDay>,
    groups: BTreeMap<(Kind, ExpiryDay), Vec<Item>>,
}

impl Changes {
    pub(crate) fn add(&mut self, revocation: &Revocation, day: ExpiryDay) {
        match Place::of(revocation) {
            Place::Floor(floor) => self.raise(floor),
            Place::Row(kind, item) => self.push(kind, day, item),
        }
    }

    pub(crate) fn push(&mut self, kind: Kind, day: ExpiryDay, item: Item) {
        self.groups.entry((kind, day)).or_default().push(item);
    }

    pub(crate) fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Drops what is there so far of every day up to `last`; rows added later stay.
    pub(crate) fn drop_through(&mut self, last: ExpiryDay) {
        self.groups.retain(|(_, day), _| *day > last);
        self.dropped = self.dropped.max(Some(last));
    }

    pub(crate) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(crate) const fn dropped(&self) -> Option<ExpiryDay> {
        self.dropped
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floor == 0 && self.dropped.is_none() && self.groups.is_empty()
    }

    /// Rows by kind and day, in order, each id once.
    pub(crate) fn groups(&mut self) -> impl Iterator<Item = (Kind, ExpiryDay, &[Item])> {
        self.groups.iter_mut().map(|((kind, day), items)| {
            section::order(items);
            (*kind, *day, items.as_slice())
        })
    }
}
