//! Instructions that each step of verification takes: unlike time, the same on a busy machine.
//!
//! ```text
//! cargo run --release -p tk-bench-counts                  a table; needs valgrind
//! cargo run --release -p tk-bench-counts -- --run CASE N  runs one case so often, for a profiler
//! ```
//!
//! Valgrind knows no SHA instructions, so a hash block counts as some 3,000 instructions of the portable code: read the
//! steps without hashing as they are, and the others by their differences.

use std::process::{Command, ExitCode};

#[allow(dead_code, reason = "the other program uses all of it")]
#[path = "../../src/ours.rs"]
mod ours;
#[allow(dead_code, reason = "the other program uses all of it")]
#[path = "../../src/work.rs"]
mod work;

use ours::{Clearing, Holder, Lookup, Service};

/// Rows of the revoked set: a lookup takes the same instructions among a million.
const ROWS: u64 = 1000;

fn cases() -> Vec<(String, Box<dyn FnMut()>)> {
    let set = ours::revoked(ROWS);
    let mut cases: Vec<(String, Box<dyn FnMut()>)> = Vec::new();
    for size in work::SIZES {
        let mut service = Service::new(size, &set);
        cases.push((format!("parse {size}"), Box::new(move || service.parse())));
        let mut service = Service::new(size, &set);
        cases.push((format!("all {size}"), Box::new(move || service.verify())));
        let clearing = Clearing::new(work::caveats(size));
        cases.push((format!("clear {size}"), Box::new(move || clearing.clear())));
    }
    for kind in work::KINDS {
        let clearing = Clearing::new(vec![kind.to_owned()]);
        cases.push((format!("clear: {kind}"), Box::new(move || clearing.clear())));
    }
    let mut lookup = Lookup::new(&set);
    cases.push(("lookup".to_owned(), Box::new(move || lookup.live())));
    let holder = Holder::new(5);
    cases.push(("attenuate 5".to_owned(), Box::new(move || holder.attenuate())));
    let service = Service::new(5, &set);
    cases.push(("attenuate 5, text to text".to_owned(), Box::new(move || service.attenuate_text())));
    cases
}

/// Instructions of this program with the case run so often.
fn counted(case: &str, runs: u64) -> Option<u64> {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().ok()?)
        .args(["--run", case, &runs.to_string()])
        .output()
        .ok()?;
    let report = String::from_utf8(done.stderr).ok()?;
    let line = report.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [run, name, count] = args.as_slice()
        && run == "--run"
    {
        let count: u64 = count.parse().expect("a number of runs");
        let mut all = cases();
        let (_, case) = all.iter_mut().find(|(known, _)| known == name).expect("a case of the table");
        (0..count).for_each(|_| case());
        return ExitCode::SUCCESS;
    }
    println!("| step | instructions |\n| --- | ---: |");
    for (name, _) in cases() {
        const RUNS: u64 = 200;
        let (Some(few), Some(many)) = (counted(&name, RUNS), counted(&name, 2 * RUNS)) else {
            eprintln!("valgrind did not run; install it (apt-get install valgrind)");
            return ExitCode::FAILURE;
        };
        println!("| {name} | {} |", (many - few) / RUNS);
    }
    ExitCode::SUCCESS
}
