//! tkcore beside the bare MAC chain and the crates that others use, in one run.
//!
//! ```text
//! cargo run --release                prints the tables
//! cargo run --release -- --write     and writes them to ../docs/benchmarks.md
//! cargo run --release -- --smoke     runs every case once or twice; the figures mean nothing
//! cargo run --release -- --only TEXT  only groups and cases whose name has TEXT, for a profiler
//! ```

use std::fmt::Write as _;
use std::hint::black_box;
use std::rc::Rc;

use tkcore::revocation::RevocationSet;

mod floor;
mod harness;
mod machine;
mod ours;
mod peers;
mod work;

use floor::{Current, Next};
use harness::{Effort, Group, measure};
use ours::{Clearing, Holder, Lookup, Minter, Service};

fn main() {
    let (mut smoke, mut write, mut only) = (false, false, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--smoke" => smoke = true,
            "--write" => write = true,
            "--only" => only = args.next(),
            unknown => {
                eprintln!("no option {unknown}; there are --smoke, --write and --only TEXT");
                std::process::exit(2);
            }
        }
    }
    let effort = if smoke { Effort::SMOKE } else { Effort::FULL };
    let set = ours::revoked(if smoke { 10_000 } else { 1_000_000 });

    let mut report = String::new();
    for mut group in groups(&set) {
        if let Some(only) = only.as_ref().filter(|only| !group.title.contains(*only)) {
            // The yardstick stays: without it there is no ratio.
            let mut first = true;
            group.cases.retain(|case| std::mem::take(&mut first) || case.name.contains(only));
            if group.cases.len() == 1 {
                continue;
            }
        }
        let best = measure(&mut group, effort);
        let table = table(&group, &best);
        print!("{table}");
        report.push_str(&table);
    }
    if write {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
        std::fs::write(path, machine::page(&report)).expect("docs/benchmarks.md can be written");
        println!("written to docs/benchmarks.md");
    }
}

fn table(group: &Group, best: &[f64]) -> String {
    let mut text =
        format!("## {}\n{}\n\n| | ns | ratio |\n| --- | ---: | ---: |\n", group.title, group.about);
    for (case, ns) in group.cases.iter().zip(best) {
        writeln!(text, "| {} | {ns:.0} | {:.2} |", case.name, ns / best[0]).expect("a string takes all");
    }
    text.push('\n');
    text
}

fn groups(set: &Rc<RevocationSet>) -> Vec<Group> {
    let mut groups = Vec::new();
    for size in work::SIZES {
        let title = format!("Verify, {size} caveat{}", if size == 1 { "" } else { "s" });
        let mut group = Group::new(title, "Text in, verdict out. Divided by SAFE FLOOR.");
        floors(&mut group, size);
        let mut service = Service::new(size, set);
        group.case("**tkcore**: parsed, verified, cleared, revocation looked up", move || service.verify());
        let mut service = Service::new(size, set).with_branch_ids();
        group.case("**tkcore**, with the branch id of every chain point", move || service.verify());
        peers::add_verify(&mut group, &ours::identifier_bytes(size), size);
        groups.push(group);
    }

    for size in work::SIZES {
        let title = format!("Verify, {size} plain caveat{}", if size == 1 { "" } else { "s" });
        let mut group = Group::new(title, "As above, each caveat a comparison of one short text or number.");
        let caveats = work::plain_caveats(size);
        let identifier = ours::identifier_bytes(size);
        safe_floor(&mut group, size, &caveats);
        let mut service = Service::of(&caveats, set);
        group.case("**tkcore**: parsed, verified, cleared, revocation looked up", move || service.verify());
        let peer = peers::Libmacaroon::new(&identifier, &caveats);
        group.case("`libmacaroon` 0.3.0", move || peer.verify());
        let peer = peers::Jwt::hs256(&caveats);
        group.case("`jsonwebtoken` 11.1.0, HS256", move || peer.verify());
        groups.push(group);
    }

    let mut group = Group::new(
        "Clearing one caveat",
        "Read and judged, without a token around it. Divided by the first.",
    );
    for kind in work::KINDS {
        let clearing = Clearing::new(vec![kind.to_owned()]);
        group.case(format!("`{kind}`"), move || clearing.clear());
    }
    groups.push(group);

    let mut group = Group::new(
        "A known lineage, 5 caveats",
        "The service remembers the prefix that the signer vouched for. Divided by the cold verification.",
    );
    let mut service = Service::new(5, set);
    group.case("cold", move || service.verify());
    let mut service = Service::new(5, set).with_prefix(&[]);
    group.case("the same token again", move || service.verify());
    let mut service = Service::new(5, set).with_prefix(&["size <= 1048576"]);
    group.case("with one caveat more", move || service.verify());
    groups.push(group);

    for size in work::SIZES {
        let mut group = Group::new(
            format!("Parse, {size} caveat{}", if size == 1 { "" } else { "s" }),
            "Text in, parsed token out. Divided by the whole verification.",
        );
        let mut service = Service::new(size, set);
        group.case("**tkcore**, the whole verification", move || service.verify());
        let mut service = Service::new(size, set);
        group.case("**tkcore**", move || service.parse());
        let (identifier, caveats) = (ours::identifier_bytes(size), work::caveats(size));
        let peer = peers::Libmacaroon::new(&identifier, &caveats);
        group.case("`libmacaroon` 0.3.0", move || peer.parse());
        let peer = peers::Macaroon::new(&identifier, &caveats);
        group.case("`macaroon` 0.3.0", move || peer.parse());
        groups.push(group);
    }

    let mut group =
        Group::new("Attenuate, 5 caveats", "One caveat appended. Divided by one HMAC over that caveat.");
    let tail = [9; 32];
    group.case("one HMAC-SHA256", move || {
        black_box(floor::link::<Current>(black_box(&tail), black_box(b"size <= 1048576")));
    });
    let holder = Holder::new(5);
    group.case("**tkcore**, parsed token to token", move || holder.attenuate());
    let service = Service::new(5, set);
    group.case("**tkcore**, text to text", move || service.attenuate_text());
    let (identifier, caveats) = (ours::identifier_bytes(5), work::caveats(5));
    let peer = peers::Libmacaroon::new(&identifier, &caveats);
    group.case("`libmacaroon` 0.3.0, text to text", move || peer.attenuate());
    let peer = peers::Macaroon::new(&identifier, &caveats);
    group.case("`macaroon` 0.3.0, text to text", move || peer.attenuate());
    groups.push(group);

    for size in work::SIZES {
        let mut group = Group::new(
            format!("Mint, {size} caveat{}", if size == 1 { "" } else { "s" }),
            "The pure part. Divided by SAFE FLOOR.",
        );
        floors(&mut group, size);
        let minter = Minter::new(size);
        group.case("**tkcore**", move || minter.mint());
        let (identifier, caveats) = (ours::identifier_bytes(size), work::caveats(size));
        let peer = peers::Libmacaroon::new(&identifier, &caveats);
        group.case("`libmacaroon` 0.3.0", move || peer.mint(&identifier, &caveats));
        groups.push(group);
    }

    let title = format!("Revocation lookup, {} revoked tokens", set.len());
    let mut group = Group::new(
        title,
        "A token that is not revoked: lineage, key, tenant, subject and floors are all asked.",
    );
    let mut lookup = Lookup::new(set);
    group.case("**tkcore**", move || lookup.live());
    groups.push(group);
    groups
}

/// What is MACed: an identifier and caveats.
type Input = Rc<(Vec<u8>, Vec<Vec<u8>>)>;

/// The first yardstick, over these caveats.
fn safe_floor(group: &mut Group, size: usize, caveats: &[String]) -> Input {
    let caveats: Vec<Vec<u8>> = caveats.iter().map(|text| text.clone().into_bytes()).collect();
    let input = Rc::new((ours::identifier_bytes(size), caveats));
    let (root, work) = (floor::midstates::<Current>(&floor::derived(work::KEY)), Rc::clone(&input));
    group.case("SAFE FLOOR: the bare chain by hand over `sha2` 0.10", move || {
        black_box(floor::by_hand::<Current>(&root, black_box(&work.0), black_box(&work.1)));
    });
    input
}

/// The yardsticks of one size.
fn floors(group: &mut Group, size: usize) {
    let key = floor::derived(work::KEY);
    let input = safe_floor(group, size, &work::caveats(size));
    let (root, work) = (floor::midstates::<Next>(&key), Rc::clone(&input));
    group.case("the bare chain by hand over `sha2` 0.11", move || {
        black_box(floor::by_hand::<Next>(&root, black_box(&work.0), black_box(&work.1)));
    });
    let (root, work) = (floor::hmac_root(&key), Rc::clone(&input));
    group.case("the bare chain by `hmac` 0.12 over `sha2` 0.10", move || {
        black_box(floor::by_hmac(&root, black_box(&work.0), black_box(&work.1)));
    });
    let (root, work) = (floor::hmac_next_root(&key), Rc::clone(&input));
    group.case("the bare chain by `hmac` 0.13 over `sha2` 0.11", move || {
        black_box(floor::by_hmac_next(&root, black_box(&work.0), black_box(&work.1)));
    });
}
