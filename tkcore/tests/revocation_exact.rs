//! The set against a plain map over random histories: deltas, merges, expiry, reload.
//! `cargo test --release -p tkcore --features publish --test revocation_exact -- --ignored
//! --nocapture` runs ten million rows (`EXACT_ROWS` changes it).
#![cfg(feature = "publish")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail loudly on their own; a long run says how long it took"
)]

mod feed_support;

use std::time::Instant;

use feed_support::plain::{DAY, Plain, random_query, random_row};
use feed_support::{FEED, Random, START, at};
use tkcore::revocation::publish::{Publisher, Stamp, kept_day};
use tkcore::revocation::{
    Audit, ExpiryDay, Gap, Query, Revocation, RevocationSet, Revocations, Rule, Snapshot, Status,
};
use tkcore::{BranchId, FeedDigest, LineageId, Row};

fn stamp() -> Stamp {
    Stamp {
        key_list: 1,
        issued_at: at(START),
        validity: std::time::Duration::from_secs(3600),
        poll_after: std::time::Duration::from_secs(10),
        audit: Audit { lines: 0, digest: FeedDigest::from_bytes([0; 32]) },
    }
}

// RV-1, RV-5, RV-6, RV-20, RV-25
#[test]
fn random_histories_agree_with_a_plain_map() {
    for seed in 0..10 {
        let mut random = Random(seed);
        let mut now = START;
        let mut plain = Plain::default();
        let mut publisher = Publisher::begin(FEED, 1, RevocationSet::empty());
        let mut follower = publisher.clone();
        let mut loaded = RevocationSet::empty();
        let mut known = vec![];
        for _ in 0..60 {
            now += random.below(DAY);
            let count = if random.one_in(10) { random.below(3000) } else { random.below(20) };
            let rows: Vec<_> = (0..count).map(|_| random_row(&mut random, now, 5)).collect();
            let drop = publisher.due_drop(at(now)).filter(|_| random.one_in(3));
            if let Some(day) = drop {
                plain.drop_through(day);
            }
            for (revocation, day) in &rows {
                plain.add(revocation, *day);
                known.push(*revocation);
            }
            let Some(step) = publisher.prepare(&rows, drop).unwrap() else { continue };
            follower.replay(&step.delta).unwrap();
            assert!(publisher.advance(step.clone()));
            assert!(!publisher.advance(step), "a step is taken once");
            assert_eq!(follower.set().digest(), publisher.set().digest());
            assert_eq!(follower.head(&stamp()), publisher.head(&stamp()));
            if random.one_in(5) {
                let snapshot = publisher.snapshot();
                let read = Snapshot::parse(snapshot.to_bytes()).unwrap();
                assert_eq!(read.digest, snapshot.digest);
                loaded = read.set;
                let mut rebuilt = vec![];
                loaded.for_each(|row, day| rebuilt.push((row, day)));
                if let Some(before) = publisher.set().global_floor() {
                    rebuilt.push((Revocation::Global { before }, ExpiryDay::UNKNOWN));
                }
                let rebuilt = RevocationSet::build(rebuilt).unwrap();
                let resumed = Publisher::resume(&publisher.head(&stamp()), rebuilt).unwrap();
                assert_eq!(resumed.set().digest(), publisher.set().digest());
                assert!(loaded.covers(publisher.set(), at(now), std::time::Duration::ZERO));
            }
            let mut branches = vec![];
            for _ in 0..100 {
                let query = random_query(&mut random, &known, &mut branches);
                let expected = plain.status(&query);
                assert_eq!(publisher.set().status(&query), expected, "seed {seed} {query:?}");
                assert_eq!(follower.set().status(&query), expected);
                if loaded.digest() == publisher.set().digest() {
                    assert_eq!(loaded.status(&query), expected);
                }
            }
        }
    }
}

// RV-24
#[test]
fn a_state_has_one_digest_whatever_way_it_was_reached() {
    let mut random = Random(77);
    for count in [1usize, 31, 32, 33, 2048, 2049, 8191, 8192, 9000] {
        let rows: Vec<_> = (0..count)
            .map(|_| (Revocation::Token { lineage: random.lineage(START) }, ExpiryDay::UNKNOWN))
            .collect();
        let at_once = RevocationSet::build(rows.iter().copied()).unwrap();
        let mut publisher = Publisher::begin(FEED, 1, RevocationSet::empty());
        for part in rows.chunks(count.div_ceil(7)) {
            let step = publisher.prepare(part, None).unwrap().unwrap();
            publisher.advance(step);
        }
        assert_eq!(publisher.set().digest(), at_once.digest(), "{count}");
        assert_eq!(at_once.len(), count as u64);
    }
}

// RV-5
#[test]
fn floors_are_strict_combine_by_maximum_and_reach_a_childs_parent() {
    let floor = at(START);
    let (low, high) = (at(START - 1), at(START));
    let row = Row::from_bytes([4; 16]);
    let token = |minted| LineageId::new([1; 10], minted);
    let set = RevocationSet::build([
        (Revocation::Subject { row, before: floor }, kept_day(Some(at(START + DAY)), at(START))),
        (Revocation::Subject { row, before: at(START - DAY) }, ExpiryDay::UNKNOWN),
    ])
    .unwrap();
    let query = |minted, parent| Query {
        parent,
        subject: Some(row),
        ..Query::foreign(token(minted), Some(minted), &[])
    };
    assert_eq!(set.status(&query(low, None)), Status::Revoked(Rule::Subject));
    assert_eq!(set.status(&query(high, None)), Status::Live);
    assert_eq!(set.status(&query(high, Some(token(low)))), Status::Revoked(Rule::Subject));
    assert_eq!(set.status(&query(high, Some(token(high)))), Status::Live);
    let unknown = Query { issued_at: None, ..query(high, None) };
    assert_eq!(set.status(&unknown), Status::Unknown(Gap::NoIssueTime));
    assert_eq!(set.status(&Query { subject: None, ..unknown }), Status::Live);
}

// RV-5, RV-20: sections are searched side by side, a few at a time; the strictest row may stand in any.
#[test]
fn the_highest_floor_counts_whichever_of_many_days_it_stands_in() {
    let mut random = Random(11);
    let rows: Vec<Row> = (0..2000).map(|_| Row::from_bytes(random.bytes())).collect();
    let days = 40;
    for highest in [0, 11, 12, 23, 24, 39] {
        let floors = (0..days).flat_map(|day| {
            let before = at(START + if day == highest { 100 } else { 1 + u64::from(day) });
            let kept = ExpiryDay::from_number(30_000 + day);
            rows.iter().map(move |row| (Revocation::Subject { row: *row, before }, kept))
        });
        let lonely = random.lineage(START);
        let token = (Revocation::Token { lineage: lonely }, ExpiryDay::from_number(30_000 + highest));
        let others = (0..days).map(|day| {
            (Revocation::Token { lineage: random.lineage(START) }, ExpiryDay::from_number(30_000 + day))
        });
        let others: Vec<_> = others.collect();
        let set = RevocationSet::build(floors.chain(others).chain([token])).unwrap();
        for row in &rows {
            let query = |minted| {
                let lineage = LineageId::new([1; 10], at(minted));
                Query { subject: Some(*row), ..Query::foreign(lineage, lineage.minted(), &[]) }
            };
            assert_eq!(set.status(&query(START + 99)), Status::Revoked(Rule::Subject));
            assert_eq!(set.status(&query(START + 100)), Status::Live);
        }
        assert_eq!(set.status(&Query::foreign(lonely, lonely.minted(), &[])), Status::Revoked(Rule::Token));
    }
}

// RV-1
#[test]
fn a_revoked_parent_kills_its_service_token_and_says_so() {
    let (parent, child) = (LineageId::new([1; 10], at(START)), LineageId::new([2; 10], at(START)));
    let set = RevocationSet::build([(Revocation::Token { lineage: parent }, ExpiryDay::UNKNOWN)]).unwrap();
    let query = Query { parent: Some(parent), ..Query::foreign(child, child.minted(), &[]) };
    assert_eq!(set.status(&query), Status::Revoked(Rule::Parent));
    assert_eq!(set.status(&Query { parent: None, ..query }), Status::Live);
    let set = RevocationSet::build([(
        Revocation::Branch { branch: BranchId::from_bytes([0; 16]) },
        ExpiryDay::UNKNOWN,
    )])
    .unwrap();
    assert_eq!(set.status(&query), Status::Unknown(Gap::BranchesNotCollected));
}

// RV-6, RV-30
#[test]
fn a_delta_over_ninety_days_of_expiries_stays_small() {
    let mut random = Random(5);
    let publisher = Publisher::begin(FEED, 1, RevocationSet::empty());
    for count in [1, 10, 100, 1000] {
        let rows: Vec<_> = (0..count)
            .map(|i| {
                let day = kept_day(Some(at(START + (i % 90) * DAY)), at(START));
                (Revocation::Token { lineage: random.lineage(START) }, day)
            })
            .collect();
        let step = publisher.prepare(&rows, None).unwrap().unwrap();
        assert!(step.delta.len() as u64 <= 16 * count + 160, "{} for {count}", step.delta.len());
    }
}

fn exact(rows: u64) {
    let started = Instant::now();
    let minted = |i: u64| START + (i % 90) * DAY + i % DAY;
    let id = |i: u64, salt: u64| {
        let mut random = Random(i.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ salt);
        random.lineage(minted(i))
    };
    let revoked = (0..rows).map(|i| {
        let expiry = at(minted(i) + 30 * DAY);
        (Revocation::Token { lineage: id(i, 0) }, kept_day(Some(expiry), at(minted(i))))
    });
    let set = RevocationSet::build(revoked).unwrap();
    assert_eq!(set.len(), rows);
    println!("{rows} rows built after {:?}", started.elapsed());
    let snapshot = Publisher::begin(FEED, 1, set).snapshot();
    let bytes = snapshot.to_bytes();
    println!(
        "snapshot {} bytes, {:.3} a row; {:.3} in memory",
        bytes.len(),
        bytes.len() as f64 / rows as f64,
        snapshot.set.memory_bytes() as f64 / rows as f64
    );
    let set = Snapshot::parse(bytes).unwrap().set;
    assert_eq!(set.digest(), snapshot.set.digest());
    let status = |lineage: LineageId| set.status(&Query::foreign(lineage, lineage.minted(), &[]));
    for i in 0..rows {
        assert_eq!(status(id(i, 0)), Status::Revoked(Rule::Token), "row {i} was lost");
        assert_eq!(status(id(i, 1 << 63)), Status::Live, "id {i} was called revoked");
    }
    println!("{rows} revoked found, {rows} live spared, after {:?}", started.elapsed());
}

// RV-20
#[test]
fn a_slice_of_ninety_days_is_exact() {
    exact(20_000);
}

#[test]
#[ignore = "a minute in release; run it with --ignored"]
fn ten_million_over_ninety_days_are_exact() {
    let rows = std::env::var("EXACT_ROWS").ok().and_then(|text| text.parse().ok());
    exact(rows.unwrap_or(10_000_000));
}
