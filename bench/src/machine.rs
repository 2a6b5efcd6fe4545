//! What the figures were measured on.

use std::fs;
use std::process::Command;

fn first_line(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .ok()
        .and_then(|done| String::from_utf8(done.stdout).ok())
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| info.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    let model =
        line("model name").split_once(':').map(|(_, name)| name.trim().to_owned()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let sha = if line("flags").contains("sha_ni") { "with" } else { "without" };
    format!(
        "{}, {cores} cores, {sha} SHA instructions, {}",
        if model.is_empty() { "unknown" } else { &model },
        std::env::consts::ARCH
    )
}

/// `docs/benchmarks.md`.
pub fn page(tables: &str) -> String {
    format!(
        "# Benchmarks

Written by `cd bench && cargo run --release -- --write`; run it to get your own figures. In each table all cases take turns in
short batches over 250 rounds in one process on one thread, and the best batch of each counts: read ratios, not nanoseconds. SAFE
FLOOR is the bare HMAC-SHA256 chain and nothing else, written by hand over the block function of `sha2` without `unsafe`, with the
root key prepared. tkcore's rows do everything a service does for a request: limits, typed caveats cleared, revocation looked up among
a million revoked tokens. The macaroon crates compare each caveat as a whole text, the least that a service can do with them, and
look up no revocation; the JWT rows carry the same caveats as claims and compare them; the Biscuit rows carry as many checks in Datalog. So every row has the
same caveats, but not the same work: tkcore reads them by type, and the first tables hold a list of networks, a path and a time among five;
the tables of plain caveats are nearer to what the others do. Instructions, which a busy machine does not change: `cargo run --release -p
tk-bench-counts` (needs valgrind). The revoked set beside a hash set: `cargo run --release -p tk-bench-revocation`.
Every crate in its newest version, as its documentation says.

- date: {}
- commit: {}
- machine: {}
- compiler: {}

{tables}",
        first_line("date", &["-u", "+%F"]),
        first_line("git", &["rev-parse", "--short", "HEAD"]),
        processor(),
        first_line("rustc", &["--version"]),
    )
}
