use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::ids::FeedDigest;
use crate::ids::{BranchId, KeyId, LineageId, Row};
use crate::revocation::changes::Changes;
use crate::revocation::digest::{self, digest};
use crate::revocation::expiry::ExpiryDay;
use crate::revocation::filter::{Filter, FilterBuilder};
use crate::revocation::kind::{EVERYTHING, Item, Kind, Place, key_id, revocation, wide};
use crate::revocation::query::{Gap, Query, Revocations, Status};
use crate::revocation::rule::{Revocation, Rule};
use crate::revocation::section::Section;
use crate::time::Timestamp;

/// Everything that is revoked at one sequence of a feed, and nothing else: exact.
///
/// Immutable and cheap to clone: applying a delta makes another set that shares all untouched
/// shards. Searched in place in the bytes it was read from.
#[derive(Clone)]
pub struct RevocationSet {
    /// By kind in the order of [`Kind::ALL`], within a kind by day.
    sections: [Vec<Arc<Section>>; 5],
    floor: u64,
    digest: FeedDigest,
    filter: Filter,
    /// Whether there is any floor at all; mostly there is none.
    has_floors: bool,
}

/// More rows of one kind and day than 32 bits can count, or more sections than 16 bits can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetFull;

impl fmt::Display for SetFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the revocation set cannot hold more rows of this kind and day")
    }
}

impl core::error::Error for SetFull {}

impl RevocationSet {
    /// Nothing is revoked. Where a feed exists this is a lie until the feed says so; start
    /// from what [`crate::revocation::feed::Machine`] gives.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Default::default(), 0, Filter::new(0))
    }

    /// From revocations in any order, with the day each may be dropped after.
    ///
    /// # Errors
    /// [`SetFull`].
    pub fn build(rows: impl IntoIterator<Item = (Revocation, ExpiryDay)>) -> Result<Self, SetFull> {
        let mut changes = Changes::default();
        for (revocation, day) in rows {
            changes.add(&revocation, day);
        }
        Self::empty().with(&mut changes)
    }

    pub(crate) fn of(sections: [Vec<Arc<Section>>; 5], floor: u64, filter: Filter) -> Self {
        let digest = state_digest(&sections, floor);
        let has_floors = floor != 0 || sections.iter().flatten().any(|section| section.kind.is_floor());
        Self { sections, floor, digest, filter, has_floors }
    }

    /// This set after some steps.
    pub(crate) fn with(&self, changes: &mut Changes) -> Result<Self, SetFull> {
        let mut sections = self.sections.clone();
        if let Some(last) = changes.dropped() {
            for list in &mut sections {
                list.retain(|section| section.day > last);
            }
        }
        let floor = self.floor.max(changes.floor());
        let mut fresh = Vec::new();
        let mut count = 0usize;
        for (kind, day, items) in changes.groups() {
            let Some(list) = sections.iter_mut().zip(Kind::ALL).find(|(_, k)| *k == kind) else { continue };
            let list = list.0;
            match list.binary_search_by_key(&day, |section| section.day) {
                Ok(at) => {
                    if let Some(section) = list.get_mut(at) {
                        *section = Arc::new(section.with(items).map_err(|_| SetFull)?);
                    }
                }
                Err(at) => {
                    let section = Section::build(kind, day, items).map_err(|_| SetFull)?;
                    list.insert(at.min(list.len()), Arc::new(section));
                }
            }
            if is_filtered(kind) {
                count = count.saturating_add(items.len());
                fresh.push(items);
            }
        }
        if sections.iter().fold(0usize, |sum, list| sum.saturating_add(list.len())) > usize::from(u16::MAX) {
            return Err(SetFull);
        }
        if self.filter.has_room(count) {
            let mut filter = self.filter.clone();
            fresh.into_iter().flatten().for_each(|item| filter.insert(item.id));
            Ok(Self::of(sections, floor, filter))
        } else {
            let filter = filter_of(&sections);
            Ok(Self::of(sections, floor, filter))
        }
    }

    /// The digest that the signer's head names for this state: over the global floor and the
    /// table of section digests, each of them over the table of its shards' digests (RV-24).
    #[must_use]
    pub const fn digest(&self) -> FeedDigest {
        self.digest
    }

    /// The global floor, if one is set.
    #[must_use]
    pub fn global_floor(&self) -> Option<Timestamp> {
        if self.floor == 0 { None } else { Timestamp::from_millis(self.floor) }
    }

    pub(crate) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Rows, of all kinds; the global floor is none.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.all().fold(0, |sum, section| sum.saturating_add(u64::from(section.rows)))
    }

    /// Whether nothing at all is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floor == 0 && self.all().next().is_none()
    }

    /// Bytes of rows and filter in memory, without what superseded sets may still hold.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.all().fold(self.filter.bytes(), |sum, section| {
            sum.saturating_add(section.bytes()).saturating_add(section.overhead())
        })
    }

    /// Every row with its day, by kind, then day, then id. For the signer and for people.
    pub fn for_each(&self, mut each: impl FnMut(Revocation, ExpiryDay)) {
        for section in self.all() {
            section.for_each(|item| {
                if let Some(revocation) = revocation(section.kind, item) {
                    each(revocation, section.day);
                }
            });
        }
    }

    /// Whether this set refuses all that `older` refuses, save what may have been dropped by
    /// `at`: rows whose day, and `skew` after it, are over.
    ///
    /// This is what keeps a snapshot from un-revoking (RV-46). Shards that are the same in
    /// both are not walked.
    #[must_use]
    pub fn covers(&self, older: &Self, at: Timestamp, skew: Duration) -> bool {
        self.floor >= older.floor
            && older.all().filter(|section| !section.day.is_over(at, skew)).all(|section| {
                let same = self.list(section.kind).iter().find(|own| own.day == section.day);
                section.for_each_unlike(same.map(Arc::as_ref), |item| {
                    self.has_at_least(section.kind, section.day, item)
                })
            })
    }

    /// Whether the revocation would change nothing: a row as strict, to be kept as long, is
    /// there.
    #[must_use]
    pub fn has(&self, revocation: &Revocation, day: ExpiryDay) -> bool {
        match Place::of(revocation) {
            Place::Floor(floor) => floor <= self.floor,
            Place::Row(kind, item) => self.has_at_least(kind, day, item),
        }
    }

    fn has_at_least(&self, kind: Kind, day: ExpiryDay, item: Item) -> bool {
        let list = self.list(kind);
        let has = |section: &Arc<Section>| section.find(item.id).is_some_and(|value| value >= item.value);
        // Asked for each row of a step or a snapshot: it stands in its own day, or else most likely in
        // the last one, for good.
        let later = list.get(list.partition_point(|section| section.day < day)..).unwrap_or(&[]);
        later.split_first().is_some_and(|(own, rest)| has(own) || rest.iter().rev().any(has))
    }

    /// Whether this very row, or a higher floor in its place, is there.
    #[cfg(feature = "publish")]
    pub(crate) fn has_row(&self, kind: Kind, day: ExpiryDay, item: Item) -> bool {
        self.value(kind, day, item.id).is_some_and(|value| value >= item.value)
    }

    /// The value of the row of this very kind, day and id.
    #[cfg(feature = "publish")]
    pub(crate) fn value(&self, kind: Kind, day: ExpiryDay, id: u128) -> Option<u64> {
        let list = self.list(kind);
        list.get(list.binary_search_by_key(&day, |section| section.day).ok()?)?.find(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().flatten().map(Arc::as_ref)
    }

    #[inline]
    fn list(&self, kind: Kind) -> &[Arc<Section>] {
        let [token, branch, key, subject, tenant] = &self.sections;
        match kind {
            Kind::Token => token,
            Kind::Branch => branch,
            Kind::Key => key,
            Kind::Subject => subject,
            Kind::Tenant => tenant,
        }
    }

    /// The highest floor of an id, over all days: two floors never mask each other.
    #[inline]
    fn highest(&self, kind: Kind, id: u128) -> Option<u64> {
        let list = self.list(kind);
        if list.is_empty() || (is_filtered(kind) && !self.filter.may_hold(id)) {
            return None;
        }
        Section::highest(list, id)
    }

    #[inline]
    fn lineage(&self, lineage: &LineageId) -> bool {
        self.highest(Kind::Token, wide(*lineage.as_bytes())).is_some()
    }

    #[inline]
    fn branch(&self, branch: &BranchId) -> bool {
        self.highest(Kind::Branch, wide(*branch.as_bytes())).is_some()
    }

    fn key(&self, key: Option<KeyId>) -> Option<u64> {
        if self.list(Kind::Key).is_empty() { None } else { self.highest(Kind::Key, key_id(key?)) }
    }

    fn row(&self, kind: Kind, row: Option<Row>) -> Option<u64> {
        if self.list(kind).is_empty() { None } else { self.highest(kind, wide(*row?.as_bytes())) }
    }
}

impl Default for RevocationSet {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for RevocationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationSet").field("rows", &self.len()).field("digest", &self.digest).finish()
    }
}

impl Revocations for RevocationSet {
    #[inline]
    fn has_branches(&self) -> bool {
        !self.list(Kind::Branch).is_empty()
    }

    #[inline]
    fn status(&self, query: &Query<'_>) -> Status {
        if self.is_surely_live(query) { Status::Live } else { self.decide(query) }
    }
}

impl RevocationSet {
    /// What is true of nearly every token: there are no floors, and the filter knows none of its
    /// ids. Small, so that it becomes a part of whatever asks.
    #[inline]
    fn is_surely_live(&self, query: &Query<'_>) -> bool {
        let is_known = |id: &[u8; 16]| self.filter.may_hold(wide(*id));
        !self.has_floors
            && !self.has_branches()
            && !is_known(query.lineage.as_bytes())
            && !query.parent.is_some_and(|parent| is_known(parent.as_bytes()))
    }

    #[inline(never)]
    fn decide(&self, query: &Query<'_>) -> Status {
        let gap = if self.has_floors {
            match self.floors(query) {
                Ok(gap) => gap,
                Err(rule) => return Status::Revoked(rule),
            }
        } else {
            None
        };
        self.rows(query, gap)
    }

    /// The floors in a token's scope: the widest that kills it, or what cannot be told.
    fn floors(&self, query: &Query<'_>) -> Result<Option<Gap>, Rule> {
        let floors = [
            (Rule::Global, if self.floor == 0 { None } else { Some(self.floor) }),
            (Rule::Tenant, self.row(Kind::Tenant, query.tenant)),
            (Rule::Key, self.key(query.key)),
            (Rule::Subject, self.row(Kind::Subject, query.subject)),
        ];
        let mut gap = None;
        for (rule, floor) in floors {
            match floor.map(|floor| reach(floor, query)) {
                Some(Reach::Kills) => return Err(rule),
                Some(Reach::Unknown) => gap = Some(Gap::NoIssueTime),
                Some(Reach::Spares) | None => {}
            }
        }
        Ok(gap)
    }

    #[inline]
    fn rows(&self, query: &Query<'_>, mut gap: Option<Gap>) -> Status {
        if !self.list(Kind::Token).is_empty() {
            if self.lineage(&query.lineage) {
                return Status::Revoked(Rule::Token);
            }
            if query.parent.is_some_and(|parent| self.lineage(&parent)) {
                return Status::Revoked(Rule::Parent);
            }
        }
        if self.has_branches() {
            if query.branches.is_empty() {
                gap = Some(Gap::BranchesNotCollected);
            }
            if query.branches.iter().any(|branch| self.branch(branch)) {
                return Status::Revoked(Rule::Branch);
            }
        }
        gap.map_or(Status::Live, Status::Unknown)
    }
}

enum Reach {
    Kills,
    Spares,
    Unknown,
}

/// What a floor does to a token: its own mint time and its parent's are both tested.
fn reach(floor: u64, query: &Query<'_>) -> Reach {
    if floor == EVERYTHING {
        return Reach::Kills;
    }
    let own = query.issued_at.map(|at| at.millis() < floor);
    let parent = query.parent.map(|parent| parent.minted().map(|at| at.millis() < floor));
    match (own, parent) {
        (Some(true), _) | (_, Some(Some(true))) => Reach::Kills,
        (None, _) | (_, Some(None)) => Reach::Unknown,
        (Some(false), None | Some(Some(false))) => Reach::Spares,
    }
}

/// Kinds with many rows, whose ids are random: their lookups go through the filter.
pub(crate) const fn is_filtered(kind: Kind) -> bool {
    match kind {
        Kind::Token | Kind::Branch | Kind::Subject | Kind::Tenant => true,
        Kind::Key => false,
    }
}

fn filter_of(sections: &[Vec<Arc<Section>>; 5]) -> Filter {
    let filtered = || sections.iter().flatten().filter(|section| is_filtered(section.kind));
    let rows = filtered().fold(0u64, |sum, section| sum.saturating_add(u64::from(section.rows)));
    let mut filter = FilterBuilder::new(usize::try_from(rows).unwrap_or(usize::MAX));
    filtered().for_each(|section| section.for_each(|item| filter.insert(item.id)));
    filter.finish()
}

fn state_digest(sections: &[Vec<Arc<Section>>; 5], floor: u64) -> FeedDigest {
    let mut table = Vec::new();
    for section in sections.iter().flatten() {
        table.push(section.kind.number());
        table.extend_from_slice(&section.day.number().to_be_bytes());
        table.extend_from_slice(section.digest.as_bytes());
    }
    digest(digest::STATE, &[&floor.to_be_bytes(), &table])
}
