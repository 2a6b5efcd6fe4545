use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::ids::{FeedDigest, FeedId};
use crate::revocation::changes::Changes;
use crate::revocation::delta::{self, Delta, Span};
use crate::revocation::expiry::ExpiryDay;
use crate::revocation::head::{Audit, Base, Head};
use crate::revocation::kind::Place;
use crate::revocation::object::ObjectError;
use crate::revocation::path::FeedPath;
use crate::revocation::position::Position;
use crate::revocation::publish::revoked::RevocationRow;
use crate::revocation::rule::Revocation;
use crate::revocation::set::{RevocationSet, SetFull};
use crate::revocation::snapshot::Snapshot;
use crate::time::Timestamp;

/// Days of expiry that share a section. A row may stay up to nine days longer than it must; in
/// return a delta over 90 days of expiries has 10 groups and not 90, and the sections of a
/// million rows are large enough to take 14.3 bytes a row (docs/decisions/0040).
pub const DAY_GRAIN: u32 = 10;

/// How long after the end of its day a section is dropped. Clients refuse a drop that comes
/// before the day's end plus their own skew, which a service may have set above the default
/// minute.
pub const DROP_MARGIN: Duration = Duration::from_secs(3600);

/// A base older than this is replaced, so that a new client never fetches more than a day of
/// deltas.
pub const REBASE_AGE: Duration = Duration::from_secs(86_400);

/// A base is replaced when the deltas since are more than one part in this many of it.
const REBASE_PART: u64 = 10;

/// The least that deltas must be before their size alone asks for a new base.
const REBASE_BYTES: u64 = 16 * 1024;

/// What expires later than this from now is kept for good. Whoever holds a delegated key writes
/// expiries himself: without a bound he could open a section for every ten days up to the year 9999.
/// A year's tokens, and five weeks for those that were minted ahead of their use, still leave.
pub const KEPT_AT_MOST: Duration = Duration::from_secs(400 * 86_400);

/// Most sections of known days; what would open one more is kept for good. At a clock that goes on
/// evenly there are at most 42 days ([`kept_day`]) of tokens and as many of branches, so this is met
/// only when the clock has jumped by years. Far below the 65,535 of the format, and few enough to search.
pub const MOST_SECTIONS: usize = 256;

/// The day to keep a row for, from the latest expiry of anything it can name: at least today's, and
/// [`ExpiryDay::UNKNOWN`] for what expires after [`KEPT_AT_MOST`]. The signer stores the result with
/// the row: it is part of the state.
#[must_use]
pub fn kept_day(expiry: Option<Timestamp>, now: Timestamp) -> ExpiryDay {
    let near = expiry.filter(|expiry| expiry.saturating_since(now) <= KEPT_AT_MOST);
    ExpiryDay::of(near.map(|expiry| expiry.max(now))).rounded_up(DAY_GRAIN)
}

/// The state of a feed at its latest step, and what a step does to it.
///
/// Cheap to clone. A step is first prepared, then stored by the caller, then taken over with
/// [`Publisher::advance`], so that nothing is published which was not stored.
#[derive(Debug, Clone)]
pub struct Publisher {
    feed: FeedId,
    position: Position,
    chain: FeedDigest,
    delta_bytes: u64,
    set: RevocationSet,
    base: Base,
    oldest_delta: u64,
}

/// One step, not yet taken.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its place.
    pub position: Position,
    /// The exact bytes to store and to serve under [`Step::path`].
    pub delta: Vec<u8>,
    /// `h` after it.
    pub chain: FeedDigest,
    set: RevocationSet,
    delta_bytes: u64,
}

impl Step {
    /// Where the delta is served.
    #[must_use]
    pub const fn path(&self) -> FeedPath {
        FeedPath::Delta { epoch: self.position.epoch, span: Span::One, number: self.position.sequence }
    }

    /// Everything revoked after it.
    #[must_use]
    pub const fn set(&self) -> &RevocationSet {
        &self.set
    }

    /// The state's digest after it.
    #[must_use]
    pub const fn state(&self) -> FeedDigest {
        self.set.digest()
    }
}

/// What a head says beyond the state.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Version of the newest key list.
    pub key_list: u64,
    /// When it is signed; never before the last one of this epoch.
    pub issued_at: Timestamp,
    /// How long it may be decided by.
    pub validity: Duration,
    /// When readers without a long poll ask again.
    pub poll_after: Duration,
    /// The audit chains.
    pub audit: Audit,
}

/// The stored rows do not give the state that the last head was signed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeError {
    /// The digest differs: rows were lost, added or changed since, or the store is older.
    State {
        /// In the last signed head.
        signed: FeedDigest,
        /// Of the rows.
        stored: FeedDigest,
    },
    /// A stored delta is not the one that follows.
    Delta(ObjectError),
    /// A row more than the set can hold.
    Full,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { signed, stored } => {
                write!(f, "the last head was signed for state {signed}, the stored rows give {stored}")
            }
            Self::Delta(what) => write!(f, "stored delta: {what}"),
            Self::Full => SetFull.fmt(f),
        }
    }
}

impl core::error::Error for ResumeError {}

impl Publisher {
    /// Begins an epoch with `set`: empty for a new feed, everything known after a restore.
    /// Sequences count from zero again and the base is the set itself; publish
    /// [`Publisher::snapshot`] before the first head.
    #[must_use]
    pub fn begin(feed: FeedId, epoch: u64, set: RevocationSet) -> Self {
        let position = Position { epoch, sequence: 0 };
        let chain = delta::chain_start(feed, epoch, set.digest());
        let base = base(&Snapshot::new(feed, position, chain, set.clone()), 0);
        Self { feed, position, chain, delta_bytes: 0, set, base, oldest_delta: 1 }
    }

    /// Goes on from the last head that was signed, with the stored rows up to its sequence.
    ///
    /// # Errors
    /// [`ResumeError::State`] when the rows are not those the head was signed for.
    pub fn resume(head: &Head, set: RevocationSet) -> Result<Self, ResumeError> {
        if set.digest() != head.state {
            return Err(ResumeError::State { signed: head.state, stored: set.digest() });
        }
        Ok(Self {
            feed: head.feed,
            position: head.position,
            chain: head.chain,
            delta_bytes: head.delta_bytes,
            set,
            base: head.base,
            oldest_delta: head.oldest_delta,
        })
    }

    /// The same from all rows that are stored up to the head's sequence: among them may be those that
    /// steps before it have dropped and that are not deleted yet.
    ///
    /// # Errors
    /// [`ResumeError::State`] and [`ResumeError::Full`].
    pub fn resume_from_rows(
        head: &Head,
        mut rows: Vec<(Revocation, ExpiryDay)>,
    ) -> Result<Self, ResumeError> {
        loop {
            let set = RevocationSet::build(rows.iter().copied()).map_err(|_| ResumeError::Full)?;
            let is_over = |day: &ExpiryDay| day.is_over(head.issued_at, DROP_MARGIN);
            let over = rows.iter().map(|(_, day)| *day).filter(is_over).min();
            match (Self::resume(head, set), over) {
                (Err(_), Some(over)) => rows.retain(|(_, day)| *day != over),
                (resumed, _) => return resumed,
            }
        }
    }

    /// Takes a delta that was stored but perhaps never announced.
    ///
    /// # Errors
    /// [`ResumeError::Delta`] when it is not the next step of this state.
    pub fn replay(&mut self, delta: &[u8]) -> Result<(), ResumeError> {
        let position = self.next().ok_or(ResumeError::Full)?;
        let mut changes = Changes::default();
        Delta::parse(delta, self.feed, position)
            .and_then(|delta| delta.add_to(&mut changes))
            .map_err(ResumeError::Delta)?;
        let set = self.set.with(&mut changes).map_err(|_| ResumeError::Full)?;
        let step = self.step(position, delta.to_vec(), set).ok_or(ResumeError::Full)?;
        self.advance(step);
        Ok(())
    }

    /// Makes room: rows whose day would open a section above [`MOST_SECTIONS`] are kept for good. Call
    /// it before [`Publisher::prepare`] and store what it says, so that no choice of days fills the set.
    pub fn settle(&self, rows: &mut [RevocationRow]) {
        let sections = self.set.all().map(|section| (section.kind, section.day));
        let mut sections: BTreeSet<_> = sections.filter(|(_, day)| *day != ExpiryDay::UNKNOWN).collect();
        for row in rows.iter_mut().filter(|row| row.day != ExpiryDay::UNKNOWN) {
            if let Place::Row(kind, _) = Place::of(&row.revocation) {
                if sections.len() >= MOST_SECTIONS && !sections.contains(&(kind, row.day)) {
                    row.day = ExpiryDay::UNKNOWN;
                } else {
                    sections.insert((kind, row.day));
                }
            }
        }
    }

    /// The step that adds `revocations`, each with the day it is kept for ([`kept_day`],
    /// [`Publisher::settle`]), and first drops all days up to `drop` ([`Publisher::due_drop`]). `None` when it would change
    /// nothing. Work and memory follow the rows that change, not the rows there are.
    ///
    /// # Errors
    /// [`SetFull`].
    pub fn prepare(
        &self,
        revocations: &[(Revocation, ExpiryDay)],
        drop: Option<ExpiryDay>,
    ) -> Result<Option<Step>, SetFull> {
        let mut changes = Changes::default();
        if let Some(day) = drop.filter(|day| *day != ExpiryDay::UNKNOWN) {
            changes.drop_through(day);
        }
        for (revocation, day) in revocations {
            let is_dropped = drop.is_some_and(|drop| *day <= drop);
            let is_there = match Place::of(revocation) {
                Place::Floor(floor) => floor <= self.set.floor(),
                Place::Row(kind, item) => !is_dropped && self.set.has_row(kind, *day, item),
            };
            if !is_there {
                changes.add(revocation, *day);
            }
        }
        if changes.is_empty() {
            return Ok(None);
        }
        let position = self.next().ok_or(SetFull)?;
        let delta = delta::write(self.feed, position, &mut changes).ok_or(SetFull)?;
        let set = self.set.with(&mut changes)?;
        self.step(position, delta, set).ok_or(SetFull).map(Some)
    }

    fn next(&self) -> Option<Position> {
        let sequence = self.position.sequence.checked_add(1)?;
        Some(Position { sequence, ..self.position })
    }

    fn step(&self, position: Position, delta: Vec<u8>, set: RevocationSet) -> Option<Step> {
        let delta_bytes = self.delta_bytes.checked_add(u64::try_from(delta.len()).ok()?)?;
        let chain = delta::chain_next(self.chain, &delta);
        Some(Step { position, delta, chain, set, delta_bytes })
    }

    /// Takes a prepared step over, once it is stored. A step that was prepared from another
    /// state than this one is ignored, and `false` says so.
    pub fn advance(&mut self, step: Step) -> bool {
        if self.next() != Some(step.position) || step.chain != delta::chain_next(self.chain, &step.delta) {
            return false;
        }
        self.position = step.position;
        self.chain = step.chain;
        self.set = step.set;
        self.delta_bytes = step.delta_bytes;
        true
    }

    /// The latest day that a step may drop at `now`, if a section of it or before is there.
    #[must_use]
    pub fn due_drop(&self, now: Timestamp) -> Option<ExpiryDay> {
        self.set.all().map(|section| section.day).filter(|day| day.is_over(now, DROP_MARGIN)).max()
    }

    /// The merged delta of this number, from its steps' exact bytes, first to last; `None`
    /// when it is not complete.
    #[must_use]
    pub fn merged<'a>(
        &self,
        span: Span,
        number: u64,
        steps: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Vec<u8>> {
        let first = Position { sequence: span.first(number)?, ..self.position };
        delta::merge(span, self.feed, first, steps)
    }

    /// The merged deltas that the latest step completed, narrow first: what to write next.
    pub fn completed(&self) -> impl Iterator<Item = (Span, u64)> {
        let sequence = self.position.sequence;
        [Span::Sixteen, Span::TwoHundredFiftySix].into_iter().filter_map(move |span| {
            let before = sequence.checked_sub(span.steps())?;
            Some((span, span.number(before.checked_add(1)?)?))
        })
    }

    /// The merged deltas that the latest step completed, narrow first: what to serve next, and where.
    /// `single` gives a step's exact bytes; one that lacks a step is not made.
    pub fn merged_now<B: AsRef<[u8]>>(
        &self,
        single: impl Fn(&FeedPath) -> Option<B>,
    ) -> Vec<(FeedPath, Vec<u8>)> {
        let epoch = self.position.epoch;
        let merge = |(span, number): (Span, u64)| {
            let first = span.first(number)?;
            let steps = (first..first.saturating_add(span.steps()))
                .map(|sequence| single(&FeedPath::delta(Position { epoch, sequence })));
            let steps = steps.collect::<Option<Vec<_>>>()?;
            let bytes = self.merged(span, number, steps.iter().map(AsRef::as_ref))?;
            Some((FeedPath::Delta { epoch, span, number }, bytes))
        };
        self.completed().filter_map(merge).collect()
    }

    /// The snapshot of the latest state. Serve it, then call [`Publisher::rebase`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.feed, self.position, self.chain, self.set.clone())
    }

    /// Whether it is time for a new base: the deltas since are more than a tenth of it, or it
    /// is a day old, and there is something new in it.
    #[must_use]
    pub fn needs_rebase(&self, base_age: Duration) -> bool {
        let since = self.delta_bytes.saturating_sub(self.base.delta_bytes);
        let is_large = since > (self.base.length / REBASE_PART).max(REBASE_BYTES);
        since > 0 && (is_large || base_age >= REBASE_AGE)
    }

    /// Makes the snapshot of the latest state the base that heads name. One of an earlier
    /// state is ignored, and `false` says so.
    pub fn rebase(&mut self, snapshot: &Snapshot) -> bool {
        if snapshot.position != self.position || snapshot.chain != self.chain || snapshot.feed != self.feed {
            return false;
        }
        self.base = base(snapshot, self.delta_bytes);
        true
    }

    /// Says that single steps before `oldest` are served no more, and which ones those are. Never
    /// goes back, and never past the step after the base, which a new client needs.
    pub fn retire_deltas_before(&mut self, oldest: u64) -> Vec<Position> {
        let before = self.oldest_delta;
        self.oldest_delta = oldest.min(self.base.sequence.saturating_add(1)).max(before);
        self.steps(before..self.oldest_delta)
    }

    /// The single steps that are still served: what ends with the epoch.
    #[must_use]
    pub fn served_deltas(&self) -> Vec<Position> {
        self.steps(self.oldest_delta..self.position.sequence.saturating_add(1))
    }

    fn steps(&self, sequences: core::ops::Range<u64>) -> Vec<Position> {
        let epoch = self.position.epoch;
        sequences.map(|sequence| Position { epoch, sequence }).collect()
    }

    /// The head of the latest state, to be signed with [`Head::sign`].
    #[must_use]
    pub fn head(&self, stamp: &Stamp) -> Head {
        Head {
            feed: self.feed,
            key_list: stamp.key_list,
            position: self.position,
            base: self.base,
            oldest_delta: self.oldest_delta,
            issued_at: stamp.issued_at,
            valid_until: stamp.issued_at.saturating_add(stamp.validity),
            poll_after: stamp.poll_after,
            floor: self.set.floor(),
            state: self.set.digest(),
            chain: self.chain,
            delta_bytes: self.delta_bytes,
            audit: stamp.audit,
        }
    }

    /// The latest step.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Everything revoked at the latest step.
    #[must_use]
    pub const fn set(&self) -> &RevocationSet {
        &self.set
    }

    /// The base that heads name.
    #[must_use]
    pub const fn base(&self) -> &Base {
        &self.base
    }

    /// Where the base is served.
    #[must_use]
    pub const fn base_path(&self) -> FeedPath {
        let position = Position { epoch: self.position.epoch, sequence: self.base.sequence };
        FeedPath::Snapshot { position, digest: self.base.digest }
    }

    /// The oldest single step that heads promise.
    #[must_use]
    pub const fn oldest_delta(&self) -> u64 {
        self.oldest_delta
    }
}

fn base(snapshot: &Snapshot, delta_bytes: u64) -> Base {
    Base {
        sequence: snapshot.position.sequence,
        length: snapshot.length(),
        digest: snapshot.digest,
        delta_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LineageId;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_000_000_123).unwrap()
    }

    // RV-6
    #[test]
    fn few_days_are_kept_and_none_is_earlier_than_it_must_be() {
        let mut days = BTreeSet::new();
        for hours in 0..401 * 24 {
            let expiry = now().saturating_add(Duration::from_secs(hours * 3600));
            let day = kept_day(Some(expiry), now());
            assert!(day >= ExpiryDay::of(Some(expiry)), "{expiry}");
            days.insert(day);
        }
        assert!(days.len() <= 42, "{} days", days.len());
        let last = now().saturating_add(KEPT_AT_MOST);
        assert_ne!(kept_day(Some(last), now()), ExpiryDay::UNKNOWN);
        let after = last.saturating_add(Duration::from_millis(1));
        for expiry in [Some(after), Some(Timestamp::MAX), None] {
            assert_eq!(kept_day(expiry, now()), ExpiryDay::UNKNOWN);
        }
        // What has expired already: today is one day more for all of it, not one for each.
        for ago in [1, 400, 20_000] {
            let expiry = Timestamp::from_millis(now().millis() - ago * 86_400_000);
            assert_eq!(kept_day(expiry, now()), kept_day(Some(now()), now()));
        }
    }

    fn rows(from: u32, many: u32, grain: u32) -> Vec<RevocationRow> {
        let row = |n: u32| {
            let mut id = [0; 10];
            id[..4].copy_from_slice(&n.to_le_bytes());
            let revocation = Revocation::Token { lineage: LineageId::new(id, now()) };
            RevocationRow { revocation, day: ExpiryDay::from_number(n * grain), covered: None }
        };
        (from..from + many).map(row).collect()
    }

    fn step(publisher: &Publisher, rows: &[RevocationRow]) -> Result<Option<Step>, SetFull> {
        let rows: Vec<_> = rows.iter().map(|row| (row.revocation, row.day)).collect();
        publisher.prepare(&rows, None)
    }

    // RV-7
    #[test]
    fn rows_that_were_dropped_and_not_deleted_yet_are_left_out_at_a_start() {
        let feed = FeedId::from_bytes([7; 16]);
        let rows: Vec<_> = rows(2075, 5, 10).iter().map(|row| (row.revocation, row.day)).collect();
        let mut publisher = Publisher::begin(feed, 1, RevocationSet::build(rows.iter().copied()).unwrap());
        let last = publisher.due_drop(now()).unwrap();
        let dropped = rows.iter().filter(|(_, day)| *day <= last).count();
        assert!(dropped > 1 && dropped < rows.len());
        let step = publisher.prepare(&[], Some(last)).unwrap().unwrap();
        publisher.advance(step);
        let head = publisher.head(&Stamp {
            key_list: 1,
            issued_at: now(),
            validity: DAY,
            poll_after: Duration::from_secs(1),
            audit: Audit { lines: 0, digest: FeedDigest::from_bytes([0; 32]) },
        });
        // All of them, some of them, none of them left.
        for from in 0..=dropped {
            let resumed = Publisher::resume_from_rows(&head, rows[from..].to_vec()).unwrap();
            assert_eq!(resumed.set().digest(), publisher.set().digest());
        }
        let lost = Publisher::resume_from_rows(&head, rows[dropped + 1..].to_vec());
        assert!(matches!(lost, Err(ResumeError::State { .. })), "a row that is still needed is missing");
        let lost = Publisher::resume_from_rows(&head, rows[..dropped].to_vec());
        assert!(matches!(lost, Err(ResumeError::State { .. })));
    }

    // RV-6
    #[test]
    fn no_choice_of_days_fills_the_set() {
        let feed = FeedId::from_bytes([7; 16]);
        let mut publisher = Publisher::begin(feed, 1, RevocationSet::empty());
        assert!(step(&publisher, &rows(1, 70_000, 10)).is_err(), "more sections than the format has");
        // What is kept for good already takes none of the known days' sections.
        let mut good = rows(0, 1, 10);
        good[0].day = ExpiryDay::UNKNOWN;
        let first = step(&publisher, &good).unwrap().unwrap();
        publisher.advance(first);
        for from in [1, 70_001] {
            let mut rows = rows(from, 70_000, 10);
            publisher.settle(&mut rows);
            let step = step(&publisher, &rows).unwrap().unwrap();
            publisher.advance(step);
            // What was settled is what is published: the rows that are stored give the same state.
            assert!(rows.iter().all(|row| publisher.set().has(&row.revocation, row.day)));
            assert_eq!(publisher.set().all().count(), MOST_SECTIONS + 1);
        }
        assert_eq!(publisher.set().len(), 140_001);
        // Days that are there take more rows, and so does what is kept for good.
        let mut more = rows(140_001, 10, 0);
        more.iter_mut().for_each(|row| row.day = ExpiryDay::from_number(10));
        let (before, mut good) = (more.clone(), rows(140_011, 10, 0));
        good.iter_mut().for_each(|row| row.day = ExpiryDay::UNKNOWN);
        publisher.settle(&mut more);
        assert_eq!(more, before);
        publisher.settle(&mut good);
        assert!(step(&publisher, &good).unwrap().is_some());
        assert!(DAY * 400 == KEPT_AT_MOST && MOST_SECTIONS > 2 * 43);
    }
}
