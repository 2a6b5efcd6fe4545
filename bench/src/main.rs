//! tkcore beside the bare MAC chain and the crates that others use, in one run.
//!
//!     cargo run --release                prints the tables
//!     cargo run --release -- --write     and writes them to ../docs/benchmarks.md
//!     cargo run --release -- --smoke     runs every case once or twice; figures mean nothing

use std::hint::black_box;

mod floor;
mod harness;
mod peers;
mod work;

use floor::{Current, Next};
use harness::{Effort, Group, measure};

fn main() {
    let effort = if std::env::args().any(|arg| arg == "--smoke") { Effort::SMOKE } else { Effort::FULL };
    let identifier = [7u8; 43].to_vec();
    let key = *work::KEY;
    for size in work::SIZES {
        let caveats: Vec<Vec<u8>> = work::caveats(size).into_iter().map(String::into_bytes).collect();
        let mut group = Group::new(format!("verify, {size} caveats"));
        let root = floor::midstates::<Current>(&key);
        let (id, list) = (identifier.clone(), caveats.clone());
        group.case("SAFE FLOOR sha2 0.10", move || {
            black_box(floor::by_hand::<Current>(&root, black_box(&id), black_box(&list)));
        });
        let (id, list) = (identifier.clone(), caveats.clone());
        group.case("by hand sha2 0.11", move || {
            black_box(floor::by_hand::<Next>(&root, black_box(&id), black_box(&list)));
        });
        let root = floor::hmac_root(&key);
        let (id, list) = (identifier.clone(), caveats.clone());
        group.case("hmac 0.12", move || {
            black_box(floor::by_hmac(&root, black_box(&id), black_box(&list)));
        });
        let root = floor::hmac_next_root(&key);
        let (id, list) = (identifier.clone(), caveats.clone());
        group.case("hmac 0.13", move || {
            black_box(floor::by_hmac_next(&root, black_box(&id), black_box(&list)));
        });
        peers::add_verify(&mut group, &identifier, size);
        let best = measure(&mut group, effort);
        println!("{}", group.title);
        for (case, ns) in group.cases.iter().zip(&best) {
            println!("  {:45} {:10.0} ns  x{:.2}", case.name, ns, ns / best[0]);
        }
    }
}
