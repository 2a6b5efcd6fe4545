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

fn timed<T>(rounds: usize, mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut best = Duration::MAX;
    let mut last = None;
    for _ in 0..rounds {
        // What the last round made is dropped before the clock starts.
        drop(last.take());
        let started = Instant::now();
        last = Some(run());
        best = best.min(started.elapsed());
    }
    (best, last.expect("at least one round"))
}

/// The processor's time of this process until now, user's and system's, in steps of 10 ms: what a
/// busy machine does not change much, where it is long enough to be read.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// How much to do: with how many rows, ids to look up, and rounds.
struct Size {
    rows: u64,
    ids: u64,
    rounds: usize,
    effort: Effort,
}

/// One column of the tables: the set's figures, then two look-ups by case.
struct Column {
    title: String,
    set: Vec<String>,
    lookups: [Vec<f64>; 2],
}

/// What the rows of the first table say.
const SET: [&str; 7] = [
    "bytes a row on disk and wire",
    "bytes a row in memory, filter included",
    "verified open (copy, digests, order, filter), ms a million",
    "the processor's time for it, mean, freeing included, ms a million",
    "a delta of 100, one expiry day, bytes",
    "a delta of 100, ninety days, bytes",
    "applying it, ms",
];

/// The rows of the look-ups; the first is the yardstick.
const CASES: [&str; 5] = [
    "`hashbrown`, identity hasher: 28–36 bytes a row",
    "**ours**: all rules asked, in the published bytes",
    "`std`, SipHash",
    "binary fuse filter before a sorted array",
    "reading the next id and nothing else, a part of each row above",
];

fn bench(size: &Size) -> Column {
    let rows = size.rows;
    let start = Timestamp::from_millis(START).expect("a time");
    let day = |i: u64| kept_day(Timestamp::from_millis(START + (i % 90) * 86_400_000), start);
    let set = RevocationSet::build((0..rows).map(|i| (Revocation::Token { lineage: lineage(i, 0) }, day(i))))
        .expect("room");
    let publisher = Publisher::begin(FEED, 1, set);
    let bytes = publisher.snapshot().to_bytes();
    let length = bytes.len();
    drop(publisher);
    let before = processor();
    let (open, snapshot) = timed(size.rounds, || {
        let read = black_box(&bytes).clone();
        Snapshot::parse(read).expect("our own snapshot")
    });
    let busy = (processor() - before) / u32::try_from(size.rounds).expect("a few");
    drop(bytes);
    let set = Rc::new(snapshot.set);
    let publisher = Publisher::begin(FEED, 1, (*set).clone());
    let fresh: Vec<_> =
        (0..100).map(|i| (Revocation::Token { lineage: lineage(i, 1 << 60) }, day(i))).collect();
    let step = publisher.prepare(&fresh, None).expect("room").expect("new rows");
    let (apply, _) = timed(size.rounds * 8, || {
        let mut follower = publisher.clone();
        follower.replay(&step.delta).expect("our own step");
        follower
    });
    let one_day: Vec<_> = fresh.iter().map(|(row, _)| (*row, ExpiryDay::UNKNOWN)).collect();
    let narrow = publisher.prepare(&one_day, None).expect("room").expect("new rows");
    let figures = vec![
        format!("{:.2}", length as f64 / rows as f64),
        format!("{:.2}", set.memory_bytes() as f64 / rows as f64),
        format!("{:.1}", open.as_secs_f64() * 1e9 / rows as f64),
        format!("{:.1}", busy.as_secs_f64() * 1e9 / rows as f64),
        grouped(narrow.delta.len()),
        grouped(step.delta.len()),
        format!("{:.2}", apply.as_secs_f64() * 1e3),
    ];
    let title =
        if rows.is_multiple_of(1_000_000) { format!("{} million", rows / 1_000_000) } else { grouped(rows) };
    Column { title, set: figures, lookups: lookups(size, &set) }
}

/// Look-ups of live and of revoked tokens, nanoseconds by case.
fn lookups(size: &Size, set: &Rc<RevocationSet>) -> [Vec<f64>; 2] {
    let rows = size.rows;
    let all = || (0..rows).map(|i| Id(*lineage(i, 0).as_bytes()));
    let quick: Rc<hashbrown::HashSet<Id, BuildHasherDefault<Identity>>> = Rc::new(all().collect());
    let plain: Rc<HashSet<Id>> = Rc::new(all().collect());
    let mut sorted: Vec<u128> = all().map(|id| u128::from_be_bytes(id.0)).collect();
    sorted.sort_unstable();
    let tops: Vec<u64> = sorted.iter().map(|id| (id >> 64) as u64).collect();
    let fuse = Rc::new((BinaryFuse8::try_from(tops.as_slice()).expect("distinct"), sorted));
    drop(tops);

    // So many that no case finds in a cache what an earlier look-up of the same id brought there;
    // read one after the other, they cost every case the same and little.
    let live = (0..size.ids).map(|i| lineage(i, 1 << 61)).collect::<Rc<[_]>>();
    let revoked = (0..size.ids).map(|i| lineage(mix(i) % rows, 0)).collect::<Rc<[_]>>();
    [live, revoked].map(|ids| {
        let mut group = Group::new("", "");
        let next = || {
            let (ids, mut at) = (Rc::clone(&ids), 0usize);
            move || {
                at = if at + 1 < ids.len() { at + 1 } else { 0 };
                ids[at]
            }
        };
        let (mut id, other) = (next(), Rc::clone(&quick));
        group.case(CASES[0], move || {
            black_box(other.contains(&Id(*id().as_bytes())));
        });
        let (mut id, own) = (next(), Rc::clone(set));
        group.case(CASES[1], move || {
            let status = own.status(&Query::foreign(id(), None, &[]));
            black_box(status == Status::Live);
        });
        let (mut id, other) = (next(), Rc::clone(&plain));
        group.case(CASES[2], move || {
            black_box(other.contains(&Id(*id().as_bytes())));
        });
        let (mut id, other) = (next(), Rc::clone(&fuse));
        group.case(CASES[3], move || {
            let id = u128::from_be_bytes(*id().as_bytes());
            black_box(other.0.contains(&((id >> 64) as u64)) && other.1.binary_search(&id).is_ok());
        });
        let mut id = next();
        group.case(CASES[4], move || {
            black_box(id());
        });
        measure(&mut group, size.effort)
    })
}

fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let mut text = digits[..head].to_owned();
    for at in (head..digits.len()).step_by(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&digits[at..at + 3]);
    }
    text
}

fn row(first: &str, cells: impl Iterator<Item = String>) {
    println!("| {first} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// The tables of `docs/benchmarks-revocation.md`, without its column of targets.
fn print(columns: &[Column]) {
    let head = |first: &str| {
        row(first, columns.iter().map(|column| column.title.clone()));
        row("---", columns.iter().map(|_| "---:".to_owned()));
    };
    head("");
    for (at, what) in SET.iter().enumerate() {
        row(what, columns.iter().map(|column| column.set[at].clone()));
    }
    for (which, what) in ["live", "revoked"].iter().enumerate() {
        println!();
        head(&format!("look-up of a {what} token, ns (ratio)"));
        for (at, case) in CASES.iter().enumerate() {
            row(
                case,
                columns.iter().map(|column| {
                    let ns = &column.lookups[which];
                    format!("{:.1} ({:.2})", ns[at], ns[at] / ns[0])
                }),
            );
        }
    }
}

fn main() {
    let is_smoke = std::env::args().any(|arg| arg == "--smoke");
    let sizes = if is_smoke {
        vec![Size { rows: 10_000, ids: 1 << 12, rounds: 1, effort: Effort::SMOKE }]
    } else {
        // Four million ids are 64 MB, twice the largest cache here.
        let effort = Effort { rounds: 800, ..Effort::FULL };
        let size = |rows, rounds| Size { rows, ids: 1 << 22, rounds, effort };
        vec![size(1_000_000, 20), size(10_000_000, 8)]
    };
    print(&sizes.iter().map(bench).collect::<Vec<_>>());
}
