//! Is this store what was last published, or an older copy of it? Pure; the evidence is
//! gathered by its callers.

use std::collections::BTreeMap;
use std::fmt;

use tkcore::FeedDigest;
use tkcore::protocol::AuditHead;
use tkcore::revocation::{Audit, Position};

use super::high_water::{Found, Mark};
use super::published::Published;

/// What the store itself says.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) position: Position,
    /// The chain's hash there.
    pub(crate) chain: Option<FeedDigest>,
    pub(crate) key_list: u64,
    pub(crate) epoch: u64,
    pub(crate) audit: AuditHead,
    /// What is said of the audit, by whom, in which epoch.
    pub(crate) told: Vec<(Witness, u64, Audit)>,
    /// The chain's digest at the lines that are told of, while they are kept.
    pub(crate) kept: BTreeMap<u64, FeedDigest>,
    /// A high-water file was written for this store.
    pub(crate) is_guarded: bool,
}

/// Who knows better than the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Witness {
    HighWater,
    Feed,
    /// The last head that the store itself has signed: what was changed behind its back.
    Head,
}

/// One way in which the store is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// There was a high-water file for this store, and it is gone.
    NoHighWater,
    /// Something lies in its place that does not read.
    BadHighWater,
    Position(Witness, Position, Position),
    /// The newest key list.
    KeyList(Witness, u64, u64),
    /// Lines of the audit chain.
    AuditLines(Witness, u64, u64),
    /// At this line of the audit, or this position of the feed, two histories part.
    AuditParts(u64),
    FeedParts(Position),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |witness: &Witness| match witness {
            Witness::HighWater => "the high-water file",
            Witness::Feed => "the feed folder",
            Witness::Head => "the last signed head",
        };
        match self {
            Self::NoHighWater => {
                f.write_str("the high-water file is gone: nothing says how far this signer had come")
            }
            Self::BadHighWater => f.write_str("the high-water file does not read, or is another store's"),
            Self::Position(witness, own, seen) => {
                let steps = seen.sequence.saturating_sub(own.sequence);
                write!(f, "the store ends at {own}, {} at {seen}", who(witness))?;
                if own.epoch == seen.epoch { write!(f, ": {steps} steps are missing") } else { Ok(()) }
            }
            Self::KeyList(witness, own, seen) => {
                write!(f, "the store's newest key list is {own}, {} has {seen}", who(witness))
            }
            Self::AuditLines(witness, own, seen) => {
                let (who, lost) = (who(witness), seen.saturating_sub(*own));
                write!(f, "the audit ends at line {own}, {who} at {seen}: {lost} lines are lost")
            }
            Self::AuditParts(line) => {
                write!(
                    f,
                    "audit line {line} is not the one that was there: it was changed, or two copies of the store went on"
                )
            }
            Self::FeedParts(at) => {
                write!(f, "the step {at} is not the one that was published: two copies of the store went on")
            }
        }
    }
}

/// Everything in which the store is behind; empty when it may go on.
pub(crate) fn compare(own: &Own, high_water: &Found, published: Option<&Published>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    match high_water {
        Found::Absent if own.is_guarded => gaps.push(Gap::NoHighWater),
        Found::Absent => {}
        Found::Unreadable => gaps.push(Gap::BadHighWater),
        Found::Mark(mark) => with_mark(own, mark, &mut gaps),
    }
    if let Some(published) = published {
        let (version, epoch) = published.newest_list();
        if published.position > own.position {
            gaps.push(Gap::Position(Witness::Feed, own.position, published.position));
        } else if published.position == own.position
            && own.chain.is_some_and(|chain| chain != published.head.chain)
        {
            gaps.push(Gap::FeedParts(own.position));
        }
        if version > own.key_list || epoch > own.epoch {
            gaps.push(Gap::KeyList(Witness::Feed, own.key_list, version));
        }
    }
    // An epoch above is the root keys' word that all before it was looked at: a merge that was cut off
    // before it wrote the file.
    for (witness, _, audit) in own.told.iter().filter(|(_, epoch, _)| *epoch >= own.epoch) {
        if audit.lines > own.audit.lines {
            gaps.push(Gap::AuditLines(*witness, own.audit.lines, audit.lines));
        } else if own.kept.get(&audit.lines).is_some_and(|digest| *digest != audit.digest) {
            gaps.push(Gap::AuditParts(audit.lines));
        }
    }
    gaps
}

fn with_mark(own: &Own, mark: &Mark, gaps: &mut Vec<Gap>) {
    if mark.position > own.position {
        gaps.push(Gap::Position(Witness::HighWater, own.position, mark.position));
    }
    if mark.key_list > own.key_list {
        gaps.push(Gap::KeyList(Witness::HighWater, own.key_list, mark.key_list));
    }
}

/// What a merge with this feed would still leave out: revocations that were published and lie
/// neither in the store nor in the folder.
pub(crate) fn left_out(own: &Own, high_water: &Found, published: Option<&Published>) -> Vec<Gap> {
    let seen = published.map_or(own.position, |published| published.position.max(own.position));
    let lists = published.map_or(own.key_list, |published| published.newest_list().0.max(own.key_list));
    let mut gaps = Vec::new();
    match (high_water, published) {
        (Found::Mark(mark), _) => {
            if mark.position > seen {
                gaps.push(Gap::Position(Witness::HighWater, seen, mark.position));
            }
            if mark.key_list > lists {
                gaps.push(Gap::KeyList(Witness::HighWater, lists, mark.key_list));
            }
        }
        (Found::Absent, None) => gaps.push(Gap::NoHighWater),
        (Found::Unreadable, None) => gaps.push(Gap::BadHighWater),
        // Without the file the folder is the only witness, and its head is authentic.
        (Found::Absent | Found::Unreadable, Some(_)) => {}
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u8; 32] = [3; 32];

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch, sequence }
    }

    fn own(position: Position, lines: u64) -> Own {
        let audit = AuditHead { lines, hash: HASH };
        let (told, kept) = (vec![(Witness::HighWater, 1, said(9))], BTreeMap::from([(9, said(9).digest)]));
        Own { position, chain: None, key_list: 1, epoch: 1, audit, told, kept, is_guarded: true }
    }

    fn said(lines: u64) -> Audit {
        Audit { lines, digest: AuditHead { lines, hash: HASH }.digest() }
    }

    fn mark(position: Position, lines: u64) -> Found {
        let audit = AuditHead { lines, hash: HASH };
        Found::Mark(Mark { position, key_list: 1, epoch: 1, audit, clients: BTreeMap::new() })
    }

    #[test]
    fn a_store_that_is_as_far_as_its_mark_or_further_goes_on() {
        for (position, lines) in [(at(1, 5), 9), (at(1, 6), 9), (at(1, 5), 12), (at(1, 60), 120)] {
            assert_eq!(compare(&own(position, lines), &mark(at(1, 5), 9), None), []);
        }
        // A new store, or one from before there was such a file.
        let fresh = Own { told: vec![], is_guarded: false, ..own(at(1, 0), 1) };
        assert_eq!(compare(&fresh, &Found::Absent, None), []);
    }

    #[test]
    fn every_way_to_be_behind_is_named() {
        let mark_of = |change: fn(&mut Mark)| match mark(at(1, 5), 9) {
            Found::Mark(mut mark) => {
                change(&mut mark);
                Found::Mark(mark)
            }
            Found::Absent | Found::Unreadable => unreachable!(),
        };
        let store = || own(at(1, 5), 9);
        let gap = |store: &Own, found: &Found| {
            let gaps = compare(store, found, None);
            assert_eq!(gaps.len(), 1, "{gaps:?}");
            gaps[0]
        };
        assert_eq!(gap(&store(), &Found::Absent), Gap::NoHighWater);
        assert_eq!(gap(&store(), &Found::Unreadable), Gap::BadHighWater);
        let fresh = Own { is_guarded: false, ..store() };
        assert_eq!(gap(&fresh, &Found::Unreadable), Gap::BadHighWater, "another store's file");
        let later = mark_of(|mark| mark.position.sequence = 6);
        assert_eq!(gap(&store(), &later), Gap::Position(Witness::HighWater, at(1, 5), at(1, 6)));
        assert_eq!(gap(&store(), &mark_of(|mark| mark.key_list = 2)), Gap::KeyList(Witness::HighWater, 1, 2));
        for witness in [Witness::HighWater, Witness::Head, Witness::Feed] {
            let told = |audit| Own { told: vec![(witness, 1, audit)], ..store() };
            let good = mark(at(1, 5), 9);
            assert_eq!(compare(&told(said(9)), &good, None), []);
            assert_eq!(gap(&told(said(10)), &good), Gap::AuditLines(witness, 9, 10));
            let other = Audit { digest: said(8).digest, ..said(9) };
            assert_eq!(gap(&told(other), &good), Gap::AuditParts(9), "two copies went on");
            let pruned = Own { kept: BTreeMap::new(), ..told(other) };
            assert_eq!(compare(&pruned, &good, None), []);
        }
        let lines = Gap::AuditLines(Witness::Head, 9, 10);
        for gap in [gap(&store(), &later), lines, Gap::FeedParts(at(1, 5))] {
            assert!(!gap.to_string().is_empty());
        }
    }

    #[test]
    fn an_epoch_above_the_mark_is_a_merge_that_was_cut_off_before_it_wrote_the_file() {
        let told = vec![(Witness::HighWater, 1, said(90)), (Witness::Feed, 1, said(90))];
        let merged = Own { key_list: 2, epoch: 2, told, ..own(at(2, 0), 4) };
        assert_eq!(compare(&merged, &mark(at(1, 50), 90), None), []);
        // And no licence for a mark of a later epoch.
        let older = Own { key_list: 2, epoch: 2, ..own(at(2, 0), 4) };
        let later = Mark {
            position: at(3, 1),
            key_list: 3,
            epoch: 3,
            ..match mark(at(3, 1), 4) {
                Found::Mark(mark) => mark,
                Found::Absent | Found::Unreadable => unreachable!(),
            }
        };
        assert_eq!(compare(&older, &Found::Mark(later), None).len(), 2);
    }

    #[test]
    fn what_a_merge_leaves_out_is_what_nobody_has() {
        let store = own(at(1, 5), 9);
        assert_eq!(
            left_out(&store, &mark(at(1, 5), 20), None),
            [],
            "audit lines are lost in any case, and told"
        );
        let gaps = left_out(&store, &mark(at(1, 8), 20), None);
        assert_eq!(gaps, [Gap::Position(Witness::HighWater, at(1, 5), at(1, 8))]);
        assert_eq!(left_out(&store, &Found::Absent, None), [Gap::NoHighWater]);
        assert_eq!(left_out(&store, &Found::Unreadable, None), [Gap::BadHighWater]);
    }
}
