//! What a hundred million tokens and ten million revocations weigh: bytes as they were measured, multiplied. Where each
//! figure is from stands in docs/scaling.md.

use std::fmt::Write as _;

use crate::{DAY, SERVICES};

const TOKENS: f64 = 100e6;
const REVOKED: f64 = 10e6;
/// Days that a token lives, and that a revocation is kept.
const LIFE: f64 = 30.0;
const KEPT: f64 = 20.0;
/// Services that are shown each token.
const SHOWN: f64 = 3.0;
/// Revocations a second that keep ten million of them there.
pub(crate) const HELD: f64 = 6.0;

/// Bytes of a row on the wire and in memory; seconds to check it.
const WIRE: f64 = 14.14;
const MEMORY: f64 = 15.9;
const CHECK: f64 = 40e-9;
/// Bytes in SQLite: of a revocation; of a token of nobody, and of a subject, with its look-ups.
const SQLITE: [f64; 3] = [65.8, 250.1, 308.1];
/// In etcd: of a revocation, of a token of a subject. One of nobody leaves nothing there.
const ETCD: [f64; 2] = [266.6, 716.8];
/// A revocation in a signer's memory: over SQLite, over etcd.
const RESIDENT: [f64; 2] = [67.0, 534.0];
/// Seconds of a signer's start for a revocation, over SQLite.
const START: f64 = 4.2e-6;
/// In SQLite, of a revocation and of a mint: the audit's lines, and answers, which are kept for a day.
const AUDIT: [f64; 2] = [260.7, 428.9];
const ANSWERS: [f64; 2] = [218.5, 347.3];
/// A folder may have a delta for so many bytes of its snapshot before it is written anew.
const FILE_BYTES: f64 = 16_384.0;

/// `feed`: bytes of deltas a day. `files`: deltas that a folder gets in a day, by who is asked.
pub(crate) fn sizes(feed: f64, files: &[(&str, f64)]) -> String {
    let snapshot = REVOKED * WIRE;
    let (mints, revoked) = (TOKENS / LIFE / DAY, REVOKED / KEPT / DAY);
    let a_day = |[revocation, mint]: [f64; 2]| bytes((revocation * revoked + mint * mints) * DAY);
    let [row, nobody, subject] = SQLITE;
    let mut text = String::from("\n| what | in all |\n| --- | ---: |\n");
    let mut row_of = |what: &str, all: &str| {
        let _ = writeln!(text, "| {what} | {all} |");
    };
    row_of("mints a second", &format!("{mints:.0}"));
    row_of("revocations a second", &format!("{revoked:.1}"));
    row_of("questions about tokens that a service sees first, a second", &format!("{:.0}", mints * SHOWN));
    row_of("feed: deltas a day", &bytes(feed));
    row_of("feed: a new base every", &format!("{:.1} h", (snapshot / 10.0 / feed * 24.0).min(24.0)));
    row_of("a service: the revoked set in memory", &bytes(REVOKED * MEMORY));
    row_of("a service: its folder on disk", &bytes(2.0 * snapshot));
    // The last base, and what a new one is not made for yet.
    row_of("a service: first start, fetched at most", &bytes(snapshot * 1.1));
    row_of("the same at 1 Gbit/s", &format!("{:.1} s", snapshot * 1.1 * 8.0 / 1e9));
    row_of("a service: every start, checked in", &format!("{:.1} s", REVOKED * CHECK));
    for (place, deltas) in files {
        let times = deltas * FILE_BYTES / snapshot;
        let all = format!("{times:.0} times, {}", bytes(times * 2.0 * snapshot));
        row_of(&format!("a service: its folder written anew a day; {place}"), &all);
    }
    row_of("a region: 1,000 first starts, from its cache", &bytes(snapshot * SERVICES as f64));
    row_of("a region: the same, from the signer", &bytes(snapshot));
    row_of("SQLite: 10 million revocations", &bytes(row * REVOKED));
    row_of("SQLite: 100 million tokens of nobody", &bytes(nobody * TOKENS));
    row_of("SQLite: 100 million tokens of subjects", &bytes(subject * TOKENS));
    row_of("SQLite: audit lines a day", &a_day(AUDIT));
    row_of("SQLite: answers kept for a day", &a_day(ANSWERS));
    row_of("a signer over SQLite: memory", &bytes(RESIDENT[0] * REVOKED));
    row_of("a signer over SQLite: start", &format!("{:.0} s", START * REVOKED));
    row_of("etcd, each member: 10 million revocations", &bytes(ETCD[0] * REVOKED));
    row_of("etcd, each member: 100 million tokens of subjects", &bytes(ETCD[1] * TOKENS));
    row_of("a signer over etcd: memory", &bytes(RESIDENT[1] * REVOKED));
    text
}

fn bytes(count: f64) -> String {
    let (unit, name) = if count >= 1e9 { (1e9, "GB") } else { (1e6, "MB") };
    format!("{:.1} {name}", count / unit)
}
