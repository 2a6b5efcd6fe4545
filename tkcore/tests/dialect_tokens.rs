//! Whole macaroons of others, verified and cleared: made by pypitoken and macaroonbakery with the
//! verdicts these libraries give (`vectors/caveats-tokens.json`, by `peers/py/dialects.py`), and the
//! sample that dCache's User Guide prints.
#![cfg(all(feature = "pypi", feature = "bakery", feature = "dcache"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

use serde_json::Value;
use tkcore::danger::NoRevocations;
use tkcore::dialect::{Bakery, DCache, Dialect, PyPi};
use tkcore::plain::Macaroon;
use tkcore::{Budget, Request, RootKey, Timestamp};

/// Verifies with the maker's key and clears; the adapter sees the conditions in order.
fn clears(macaroon: &Macaroon, key: &[u8], dialect: &mut dyn Dialect) -> bool {
    let verified = macaroon.verify(&RootKey::derive(key), &[], &mut Budget::default()).unwrap();
    verified
        .clear_each(&NoRevocations, None, |condition| {
            dialect.verdict(condition.bytes, &mut Budget::default())
        })
        .is_ok()
}

#[test]
fn tokens_of_other_libraries_clear_as_these_say() {
    let path = format!("{}/../vectors/caveats-tokens.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut verdicts = [0, 0];
    for case in &cases {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let macaroon = Macaroon::from_text_lenient(&text(&case["token"])).unwrap();
        let key = text(&case["key"]);
        let facts: Vec<(String, String)> = case["request"]["facts"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, fact)| (name.clone(), text(&fact["text"])))
            .collect();
        let now = Timestamp::from_rfc3339(&text(&case["request"]["now"])).unwrap();
        let actions: Vec<String> = case["request"]["actions"].as_array().unwrap().iter().map(text).collect();
        let mut builder = Request::builder("peers", now);
        for action in &actions {
            builder = builder.action(action);
        }
        for (name, value) in &facts {
            builder = builder.text(name, value);
        }
        let request = builder.build().unwrap();
        let admits = match case["dialect"].as_str().unwrap() {
            "pypi" => clears(&macaroon, key.as_bytes(), &mut PyPi::new(&request)),
            "bakery" => clears(&macaroon, key.as_bytes(), &mut Bakery::new(&request)),
            other => panic!("{other}"),
        };
        assert_eq!(admits, case["expect"] == "admit", "{}: {}", case["name"], case["caveats"]);
        verdicts[usize::from(admits)] += 1;
        assert!(macaroon.verify(&RootKey::derive(b"another"), &[], &mut Budget::default()).is_err());
    }
    assert!(verdicts.iter().all(|count| *count >= 5), "{verdicts:?}");
}

/// Chapter "Macaroons" of the guide, "Basic structure of a macaroon"; its key was never published.
const DCACHE_SAMPLE: &str = "MDAxY2xvY2F0aW9uIE9wdGlvbmFsLmVtcHR5CjAwMThpZGVudGlmaWVyIGhsQ0kremlRCjAwMTVjaWQgaWlkOnBGTTA1MnJTCjAwMjFjaWQgaWQ6MjAwMjsxMDAxLDIwMDIsMDtwYXVsCjAwMjhjaWQgYmVmb3JlOjIwMTktMDQtMTdUMDk6NTE6MjIuODQwWgowMDE5Y2lkIGhvbWU6L1VzZXJzL3BhdWwKMDAyZnNpZ25hdHVyZSCT6Lea6oBIEpiF2KOsZ1FQvLeoXve_a3q38TZTBWhM1Qo";
const DCACHE_CONDITIONS: [&str; 4] =
    ["iid:pFM052rS", "id:2002;1001,2002,0;paul", "before:2019-04-17T09:51:22.840Z", "home:/Users/paul"];

#[test]
fn the_sample_of_the_dcache_guide_parses_and_its_conditions_clear() {
    let sample = Macaroon::from_text_lenient(DCACHE_SAMPLE).unwrap();
    assert_eq!(sample.identifier(), b"hlCI+ziQ");
    // The same conditions under a key of ours: all fields but the signature are the sample's.
    let mut ours = Macaroon::create(&RootKey::derive(b"ours"), b"hlCI+ziQ", Some("Optional.empty")).unwrap();
    for condition in DCACHE_CONDITIONS {
        ours.attenuate(condition.as_bytes()).unwrap();
    }
    let unsigned = |macaroon: &Macaroon| {
        let bytes = macaroon.to_v2();
        bytes[..bytes.len() - 32].to_vec()
    };
    assert_eq!(unsigned(&ours), unsigned(&sample));
    let request = |now: u64| {
        let now = Timestamp::from_millis(now).unwrap();
        Request::builder("dcache", now).action("DOWNLOAD").path("path", "/Users/paul/file").build().unwrap()
    };
    // `before` admits its own instant, 2019-04-17T09:51:22.840Z, and nothing later.
    let end = Timestamp::from_rfc3339("2019-04-17T09:51:22Z").unwrap().millis() + 840;
    for (now, expected) in [(end - 1, true), (end, true), (end + 1, false)] {
        let request = request(now);
        assert_eq!(clears(&ours, b"ours", &mut DCache::new(&request)), expected, "{now}");
    }
}
