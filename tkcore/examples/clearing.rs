//! Judges caveats against requests and compares with what a file expects.
//!
//! `cargo run --release -p tkcore --all-features --example clearing -- FILE.jsonl`
//!
//! One JSON object a line: `name`; `dialect` (`native`, `lnd`, `pypi`, `dcache`, `bakery`, `l402`);
//! `caveats`, a list of texts; `request` with `tenant`, `actions`, `now` (RFC 3339) and `facts`
//! (`{"name": {"text"|"int"|"ip"|"path"|"time"|"set": value}}`); `expect`: `admit` or `refuse`.
//! Other members are ignored. A request that cannot be stated is refused. Prints a line for each
//! surprise and closes with `N passed, N failed`; exits with 1 when anything failed, with 2 when
//! the file cannot be read. A line that is no case is reported and counts as failed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

#[path = "../tests/common/case.rs"]
mod case;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [path] = arguments.as_slice() else {
        eprintln!("usage: clearing FILE.jsonl");
        return ExitCode::from(2);
    };
    match run(path) {
        Ok((_, 0)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("clearing: {}: {error}", path.display());
            ExitCode::from(2)
        }
    }
}

fn run(path: &std::ffi::OsStr) -> std::io::Result<(u64, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut passed, mut failed, mut number) = (0u64, 0u64, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match case::check(&line) {
            Ok(()) => passed += 1,
            Err(what) => {
                failed += 1;
                println!("line {number}: {what}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok((passed, failed))
}
