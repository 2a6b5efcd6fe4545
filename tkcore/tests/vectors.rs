//! `vectors/token.json`: known answers by a second implementation (`vectors/token.py`). Each case
//! names the rules it proves. Run with and without third-party caveats.
#![cfg(feature = "mint")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly on their own")]

mod common;

use std::collections::BTreeMap;

use common::facts;
use serde_json::Value;
use tkcore::{
    Authorization, Basis, BranchIds, Budget, Error, HeaderBuf, LineageFacts, Presented, RootKey, Scratch,
    TextForms, TextKind, TokenBuf, verify,
};

const VECTORS: &str = include_str!("../../vectors/token.json");

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn text<'v>(case: &'v Value, name: &str) -> &'v str {
    case[name].as_str().unwrap_or_else(|| panic!("{name} of {case}"))
}

fn list<'v>(case: &'v Value, name: &str) -> Vec<&'v str> {
    case[name].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The verdict's code and, when accepted, the branch ids.
fn judge(case: &Value) -> Result<Vec<String>, Error> {
    let root = TokenBuf::from_v2(hex(text(case, "v2")))?;
    let mut discharges = Vec::new();
    for discharge in list(case, "discharges") {
        let (kind, token) = TokenBuf::from_text(discharge)?;
        assert_eq!(kind, TextKind::Discharge);
        discharges.push(token);
    }
    let discharges: Vec<_> = discharges.iter().map(TokenBuf::as_token).collect();
    let presented = Presented::new(root.as_token(), &discharges)?;
    let facts = facts();
    let row = facts.subject_row.filter(|_| case["subject"].as_bool().unwrap());
    let facts = LineageFacts { subject_row: row, ..facts };
    let key = RootKey::derive(&hex(text(case, "root_key")));
    let (mut scratch, mut budget) = (Scratch::new(), Budget::default());
    let verified =
        verify(presented, Basis::Root(&key), &facts, BranchIds::Collect, &mut scratch, &mut budget)?;
    Ok(verified.branch_ids().unwrap().iter().map(ToString::to_string).collect())
}

#[test]
fn tokens() {
    let vectors = vectors();
    let mut counted = BTreeMap::new();
    for case in vectors["tokens"].as_array().unwrap() {
        let (name, mut expect) = (text(case, "name"), text(case, "expect"));
        let third_party = !list(case, "discharges").is_empty() || expect.starts_with("discharge-");
        if third_party && cfg!(not(feature = "third-party")) {
            expect = "discharge-not-supported"; // TK-73
        }
        match judge(case) {
            Ok(branches) => {
                assert_eq!(expect, "accept", "{name}");
                if case.get("branches").is_some() {
                    assert_eq!(branches, list(case, "branches"), "{name}");
                }
            }
            Err(error) => assert_eq!(error.code(), expect, "{name}: {error}"),
        }
        if let Some(coded) = case.get("text") {
            let token = TokenBuf::from_v2(hex(text(case, "v2"))).unwrap();
            assert_eq!(token.to_text().as_str(), coded.as_str().unwrap(), "{name}");
        }
        *counted.entry(expect.to_owned()).or_insert(0) += 1;
    }
    assert!(counted["accept"] >= 6 && counted["malformed"] >= 10, "{counted:?}");
}

#[test]
fn headers() {
    let vectors = vectors();
    let cases = vectors["headers"].as_array().unwrap();
    assert!(cases.len() >= 19);
    for case in cases {
        let (name, expect) = (text(case, "name"), text(case, "expect"));
        let mut buf = HeaderBuf::new();
        match Authorization::parse(text(case, "value").as_bytes(), TextForms::OursOnly, &mut buf) {
            Ok(read) => {
                assert_eq!(expect, "accept", "{name}");
                let counts: Vec<_> =
                    read.candidates().map(|candidate| Value::from(candidate.discharge_count())).collect();
                assert_eq!(Value::from(counts), case["discharges_of_each"], "{name}");
            }
            Err(error) => assert_eq!(Error::from(error).code(), expect, "{name}: {error}"),
        }
    }
}
