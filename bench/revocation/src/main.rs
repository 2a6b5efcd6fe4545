//! The revoked set beside a hash set and a fuse filter: lookups, opening, applying a delta.
//!
//! ```text
//! cargo run --release -p tk-bench-revocation               1 million and 10 million rows
//! cargo run --release -p tk-bench-revocation -- --smoke    10,000 rows; the figures mean nothing
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock; that is its work")]

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tkcore::revocation::publish::{Publisher, kept_day};
use tkcore::revocation::{ExpiryDay, Query, Revocation, RevocationSet, Revocations, Snapshot, Status};
use tkcore::{FeedId, LineageId, Timestamp};
use xorf::{BinaryFuse8, Filter};

#[allow(dead_code, reason = "the other program uses all of it")]
#[path = "../../src/harness.rs"]
mod harness;

use harness::{Effort, Group, measure};

const START: u64 = 1_795_000_000_000;
const FEED: FeedId = FeedId::from_bytes([7; 16]);

/// Ids are random already: their top half is their hash.
#[derive(Default, Clone)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(top) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*top);
        }
    }
}

/// Hashed by eight random bytes and nothing else.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Id([u8; 16]);

impl std::hash::Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn lineage(i: u64, salt: u64) -> LineageId {
    let (a, b) = (mix(i ^ salt), mix(!i ^ salt));
    let mut random = [0; 10];
    random[..8].copy_from_slice(&a.to_be_bytes());
    random[8..].copy_from_slice(&b.to_be_bytes()[..2]);
    LineageId::new(random, Timestamp::from_millis(START + i % 7_776_000_000).expect("in range"))
}

/// Time on the processor where the system says it, so that a busy machine does not count.
fn processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn timed<T>(rounds: usize, mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut best = Duration::MAX;
    let mut last = None;
    for _ in 0..rounds {
        let (started, on) = (Instant::now(), processor());
        last = Some(run());
        let wall = started.elapsed();
        best = best.min(processor().zip(on).map_or(wall, |(off, on)| off - on));
    }
    (best, last.expect("at least one round"))
}

fn bench(rows: u64, effort: Effort) {
    let day = |i: u64| kept_day(Timestamp::from_millis(START + (i % 90) * 86_400_000));
    let set = RevocationSet::build((0..rows).map(|i| (Revocation::Token { lineage: lineage(i, 0) }, day(i))))
        .expect("room");
    let publisher = Publisher::begin(FEED, 1, set);
    let bytes = publisher.snapshot().to_bytes();
    let length = bytes.len();
    let (open, snapshot) = timed(5, || {
        let read = black_box(&bytes).clone();
        Snapshot::parse(read).expect("our own snapshot")
    });
    drop(bytes);
    drop(publisher);
    let set = Rc::new(snapshot.set);
    let publisher = Publisher::begin(FEED, 1, (*set).clone());
    let fresh: Vec<_> =
        (0..100).map(|i| (Revocation::Token { lineage: lineage(i, 1 << 60) }, day(i))).collect();
    let step = publisher.prepare(&fresh, None).expect("room").expect("new rows");
    let (apply, _) = timed(7, || {
        let mut follower = publisher.clone();
        follower.replay(&step.delta).expect("our own step");
        follower
    });
    println!("## {rows} rows over 90 days of expiry\n");
    println!(
        "- on disk and wire {:.3} bytes a row, in memory {:.3}",
        length as f64 / rows as f64,
        set.memory_bytes() as f64 / rows as f64
    );
    println!(
        "- verified open {:.1} ms a million (copy, digest, order, filter)",
        open.as_secs_f64() * 1e9 / rows as f64
    );
    println!("- a delta of 100: {} bytes; applied in {:.2} ms", step.delta.len(), apply.as_secs_f64() * 1e3);
    let one_day: Vec<_> = fresh.iter().map(|(row, _)| (*row, ExpiryDay::UNKNOWN)).collect();
    let step = publisher.prepare(&one_day, None).expect("room").expect("new rows");
    println!("- a delta of 100 of one day: {} bytes\n", step.delta.len());

    let strangers: Rc<Vec<LineageId>> = Rc::new((0..1 << 16).map(|i| lineage(i, 1 << 61)).collect());
    let members: Rc<Vec<LineageId>> = Rc::new((0..1u64 << 16).map(|i| lineage(mix(i) % rows, 0)).collect());
    let all = || (0..rows).map(|i| Id(*lineage(i, 0).as_bytes()));
    let quick: Rc<hashbrown::HashSet<Id, BuildHasherDefault<Identity>>> = Rc::new(all().collect());
    let plain: Rc<HashSet<Id>> = Rc::new(all().collect());
    let mut sorted: Vec<u128> = all().map(|id| u128::from_be_bytes(id.0)).collect();
    sorted.sort_unstable();
    let tops: Vec<u64> = sorted.iter().map(|id| (id >> 64) as u64).collect();
    let fuse = Rc::new((BinaryFuse8::try_from(tops.as_slice()).expect("distinct"), sorted));
    drop(tops);

    for (what, ids) in [("live", &strangers), ("revoked", &members)] {
        let mut group = Group::new(
            format!("Lookup of {what} tokens, {rows} rows"),
            "Divided by hashbrown, identity hasher.",
        );
        let next = |ids: &Rc<Vec<LineageId>>| {
            let (ids, mut at) = (Rc::clone(ids), 0usize);
            move || {
                at = (at + 40_503) & 0xffff;
                ids[at]
            }
        };
        let (mut id, other) = (next(ids), Rc::clone(&quick));
        group.case("hashbrown, identity hasher", move || {
            black_box(other.contains(&Id(*id().as_bytes())));
        });
        let (mut id, own) = (next(ids), Rc::clone(&set));
        group.case("ours: status of a token", move || {
            let lineage = id();
            let status = own.status(&Query::foreign(lineage, None, &[]));
            black_box(status == Status::Live);
        });
        let (mut id, other) = (next(ids), Rc::clone(&plain));
        group.case("std, SipHash", move || {
            black_box(other.contains(&Id(*id().as_bytes())));
        });
        let (mut id, other) = (next(ids), Rc::clone(&fuse));
        group.case("binary fuse filter, sorted array", move || {
            let id = u128::from_be_bytes(*id().as_bytes());
            black_box(other.0.contains(&((id >> 64) as u64)) && other.1.binary_search(&id).is_ok());
        });
        let best = measure(&mut group, effort);
        println!("### {}\n{}\n\n| | ns | ratio |\n| --- | ---: | ---: |", group.title, group.about);
        for (case, ns) in group.cases.iter().zip(&best) {
            println!("| {} | {ns:.1} | {:.2} |", case.name, ns / best[0]);
        }
        println!();
    }
}

fn main() {
    let is_smoke = std::env::args().any(|arg| arg == "--smoke");
    if is_smoke {
        bench(10_000, Effort::SMOKE);
    } else {
        bench(1_000_000, Effort::FULL);
        bench(10_000_000, Effort::FULL);
    }
}
