//! `vectors/caveats*.json`, made by the second implementation in `vectors/caveats.py`.
#![cfg(all(feature = "lnd", feature = "pypi", feature = "dcache", feature = "bakery", feature = "l402"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

use serde_json::Value;

#[path = "common/case.rs"]
mod case;

fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/../vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_vector_has_the_verdict_of_the_second_implementation() {
    let mut wrong = Vec::new();
    let (mut all, mut refusals) = (0usize, 0usize);
    for name in ["caveats.json", "caveats-dialects.json"] {
        for case in vectors(name) {
            all += 1;
            refusals += usize::from(case["expect"] == "refuse");
            if let Err(what) = case::check_case(&case) {
                wrong.push(format!("{} {}: {what}", case["rules"], case["caveats"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(all >= 600 && refusals * 2 >= all, "{refusals} refusals of {all}");
}

#[test]
fn a_case_that_is_wrong_is_noticed() {
    let mut case = vectors("caveats.json").remove(0);
    let other = if case["expect"] == "admit" { "refuse" } else { "admit" };
    case["expect"] = other.into();
    assert!(case::check_case(&case).is_err());
    assert!(case::check(b"not json").is_err());
    assert!(case::check(br#"{"expect":"refuse","caveats":[],"request":{},"dialect":"other"}"#).is_err());
}
