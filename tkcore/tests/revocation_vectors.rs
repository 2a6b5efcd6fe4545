//! `vectors/revocation.json`: known answers by a second implementation
//! (`vectors/revocation.py`). Each case names the rules it proves.
#![cfg(feature = "publish")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail loudly on their own; a long run says how long it took"
)]

use std::time::Duration;

use serde_json::Value;
use tkcore::revocation::publish::{FeedSigningKey, KeyListDraft, Publisher};
use tkcore::revocation::{
    Audit, Base, ExpiryDay, FeedKey, FeedPath, Head, KeyList, Position, PublicationKey, Revocation,
    RevocationSet, RootKeys, RowKey, Snapshot, Span,
    feed::{Config, Freshness, Machine, Moment, Next, Response},
    foreign_lineage,
};
use tkcore::{BranchId, FeedDigest, FeedId, KeyId, LineageId, Name, Row, Timestamp};

const VECTORS: &str = include_str!("../../vectors/revocation.json");

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn text<'v>(case: &'v Value, name: &str) -> &'v str {
    case[name].as_str().unwrap_or_else(|| panic!("{name} of {case}"))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{name} of {case}"))
}

fn list<'v>(case: &'v Value, name: &str) -> &'v Vec<Value> {
    case[name].as_array().unwrap_or_else(|| panic!("{name} of {case}"))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn digest(case: &Value, name: &str) -> FeedDigest {
    FeedDigest::from_hex(text(case, name)).unwrap()
}

fn feed(vectors: &Value) -> FeedId {
    FeedId::from_hex(text(vectors, "feed")).unwrap()
}

fn row(kind: &str, id: &[u8], before: Option<u64>) -> Revocation {
    let time = before.map(|at| Timestamp::from_millis(at).unwrap());
    match kind {
        "token" => Revocation::Token { lineage: LineageId::from_bytes(id.try_into().unwrap()) },
        "branch" => Revocation::Branch { branch: BranchId::from_bytes(id.try_into().unwrap()) },
        "key" => Revocation::Key { key: KeyId::from_bytes(id.try_into().unwrap()), before: time },
        "subject" => {
            Revocation::Subject { row: Row::from_bytes(id.try_into().unwrap()), before: time.unwrap() }
        }
        "tenant" => {
            Revocation::Tenant { row: Row::from_bytes(id.try_into().unwrap()), before: time.unwrap() }
        }
        "global" => Revocation::Global { before: time.unwrap() },
        other => panic!("{other}"),
    }
}

/// The ids of a large case: the first bytes of `SHA-256("<kind> <i>")`, as the page of the
/// vectors makes them.
fn many(case: &Value) -> Vec<(Revocation, ExpiryDay)> {
    use sha2::{Digest as _, Sha256};
    let kind = text(case, "kind");
    let width = if kind == "key" { 8 } else { 16 };
    let day = ExpiryDay::from_number(u32::try_from(number(case, "day")).unwrap());
    (0..number(case, "count"))
        .map(|i| {
            let id = Sha256::digest(format!("{kind} {i}").as_bytes());
            (row(kind, &id[..width], case["before"].as_u64()), day)
        })
        .collect()
}

fn rows(case: &Value) -> Vec<(Revocation, ExpiryDay)> {
    if case["many"].is_object() {
        return many(&case["many"]);
    }
    list(case, "rows")
        .iter()
        .map(|found| {
            let id = found["id"].as_str().map(hex).unwrap_or_default();
            let day = found["day"].as_u64().map_or(u32::MAX, |day| u32::try_from(day).unwrap());
            (row(text(found, "kind"), &id, found["before"].as_u64()), ExpiryDay::from_number(day))
        })
        .collect()
}

// RV-2, RV-3
#[test]
fn rows_of_tenants_subjects_and_foreign_tokens() {
    let vectors = vectors();
    let key: [u8; 32] = hex(text(&vectors["rows"], "row_key")).try_into().unwrap();
    let key = RowKey::from_bytes(key);
    for case in list(&vectors["rows"], "names") {
        let tenant = key.tenant(&Name::new(text(case, "tenant")).unwrap());
        let subject = Name::new(text(case, "subject")).unwrap();
        assert_eq!(tenant.expose()[..], hex(text(case, "tenant_key")));
        assert_eq!(tenant.tenant_row().to_string(), text(case, "tenant_row"));
        assert_eq!(tenant.subject_row(&subject).to_string(), text(case, "subject_row"));
    }
    for case in list(&vectors, "foreign") {
        let lineage = foreign_lineage(&hex(text(case, "identifier")));
        assert_eq!(lineage.to_string(), text(case, "lineage"));
    }
}

// RV-10, RV-20 to RV-24
#[test]
fn states_and_snapshots() {
    let vectors = vectors();
    for case in list(&vectors, "states") {
        let name = text(case, "name");
        let set = RevocationSet::build(rows(case)).unwrap();
        assert_eq!(set.digest(), digest(case, "state"), "{name}");
        let position = Position { epoch: 1, sequence: 7 };
        let snapshot = Snapshot::new(feed(&vectors), position, digest(case, "chain"), set);
        assert_eq!(snapshot.digest, digest(case, "digest"), "{name}");
        let bytes = snapshot.to_bytes();
        match case["snapshot"].as_str() {
            Some(expected) => assert_eq!(bytes, hex(expected), "{name}"),
            None => assert_eq!(bytes.len() as u64, number(case, "length"), "{name}"),
        }
        let read = Snapshot::parse(bytes).unwrap();
        assert_eq!((read.digest, read.set.digest()), (snapshot.digest, snapshot.set.digest()), "{name}");
    }
}

fn keys(story: &Value, name: &str) -> Vec<FeedSigningKey> {
    list(story, name)
        .iter()
        .map(|seed| FeedSigningKey::from_seed(&hex(seed.as_str().unwrap()).try_into().unwrap()).unwrap())
        .collect()
}

fn roots(story: &Value) -> RootKeys {
    let keys: Vec<FeedKey> =
        list(story, "roots").iter().map(|key| FeedKey::from_hex(key.as_str().unwrap()).unwrap()).collect();
    RootKeys::new(u8::try_from(number(story, "threshold")).unwrap(), &keys).unwrap()
}

fn bytes(story: &Value, name: &str, at: usize) -> Vec<u8> {
    hex(story[name][at].as_str().unwrap())
}

// RV-30, RV-31, RV-32
#[test]
fn steps_lead_where_the_second_implementation_says() {
    let vectors = vectors();
    let story = &vectors["history"];
    let mut publisher = Publisher::begin(feed(&vectors), 1, RevocationSet::empty());
    assert_eq!(publisher.snapshot().to_bytes(), hex(text(story, "base")));
    let mut parts = vec![];
    for case in list(story, "steps") {
        let delta = hex(text(case, "delta"));
        // Our own writer makes the same bytes of the rows that are new.
        let before = publisher.clone();
        publisher.replay(&delta).unwrap();
        assert_eq!(publisher.position().sequence, number(case, "sequence"));
        assert_eq!(publisher.snapshot().chain, digest(case, "chain"));
        assert_eq!(publisher.set().digest(), digest(case, "state"));
        let mut rows = vec![];
        publisher.set().for_each(|row, day| {
            if !before.set().has(&row, day) {
                rows.push((row, day));
            }
        });
        if let Some(floor) = publisher.set().global_floor() {
            rows.push((Revocation::Global { before: floor }, ExpiryDay::UNKNOWN));
        }
        let drop = (number(case, "sequence") == 12).then(|| ExpiryDay::from_number(20_752));
        let step = before.prepare(&rows, drop).unwrap().unwrap();
        assert_eq!(step.delta, delta, "{case}");
        parts.push(delta);
    }
    let merged = publisher.merged(Span::Sixteen, 0, parts[..16].iter().map(Vec::as_slice)).unwrap();
    assert_eq!(merged, hex(text(story, "merged16")));
    assert!(publisher.merged(Span::Sixteen, 0, parts.iter().map(Vec::as_slice)).is_none());
}

fn head(story: &Value, feed: FeedId) -> Vec<u8> {
    // Read from the second implementation's bytes, written again by ours.
    let fields = &story["head"];
    let head = Head::parse_unverified(&bytes(story, "heads", 0)).unwrap();
    let base = Base {
        sequence: number(fields, "base_sequence"),
        length: number(fields, "base_length"),
        digest: digest(fields, "base_digest"),
        delta_bytes: number(fields, "base_delta_bytes"),
    };
    let audit = Audit { lines: number(fields, "audit_lines"), digest: digest(fields, "audit_digest") };
    assert_eq!((head.feed, head.base, head.audit), (feed, base, audit));
    assert_eq!(head.key_list, number(fields, "key_list"));
    assert_eq!(head.position, Position { epoch: 1, sequence: number(fields, "sequence") });
    assert_eq!(head.oldest_delta, number(fields, "oldest_delta"));
    assert_eq!(head.issued_at.millis(), number(fields, "issued_at"));
    assert_eq!(head.valid_until.millis(), number(fields, "valid_until"));
    assert_eq!(head.poll_after, Duration::from_millis(number(fields, "poll_after")));
    assert_eq!(head.global_floor().map_or(0, Timestamp::millis), number(fields, "floor"));
    assert_eq!((head.state, head.chain), (digest(fields, "state"), digest(fields, "chain")));
    assert_eq!(head.delta_bytes, number(fields, "delta_bytes"));
    head.sign(&[&keys(story, "key_seeds")[0]]).unwrap()
}

// RV-11, RV-13, RV-40, RV-41
#[test]
fn signed_objects_are_the_same_bytes() {
    let vectors = vectors();
    let (feed, story) = (feed(&vectors), &vectors["history"]);
    assert_eq!(head(story, feed), bytes(story, "heads", 0));
    let ids: Vec<String> = keys(story, "key_seeds").iter().map(|key| key.public().id().to_string()).collect();
    assert_eq!(ids, list(story, "key_ids").iter().map(|id| id.as_str().unwrap()).collect::<Vec<_>>());
    let start = number(story, "start");
    let time = |millis| Timestamp::from_millis(millis).unwrap();
    let listed = PublicationKey {
        key: keys(story, "key_seeds")[0].public(),
        not_before: time(start - 86_400_000),
        not_after: time(start + 80 * 86_400_000),
    };
    let first = KeyList { feed, version: 1, epoch: 1, keys: vec![listed] };
    let root_keys = keys(story, "root_seeds");
    let signed = KeyListDraft::sign_all(&first, &[&root_keys[0], &root_keys[1]], &roots(story)).unwrap();
    assert_eq!(signed, bytes(story, "key_lists", 0));
    for at in 0..2 {
        let list = KeyList::verify(&bytes(story, "key_lists", at), feed, &roots(story)).unwrap();
        assert_eq!(list.version, at as u64 + 1);
    }
}

/// A client that is served the history, with one object replaced.
fn client(vectors: &Value, replace: &dyn Fn(FeedPath) -> Option<Vec<u8>>) -> Machine {
    let story = &vectors["history"];
    let mut machine = Machine::new(Config::new(feed(vectors), roots(story)));
    let wall = Timestamp::from_millis(number(story, "start") + 6000).unwrap();
    let mut moment = Moment { wall, monotonic: Duration::ZERO };
    for _ in 0..12 {
        match machine.next(moment) {
            Next::Sleep(time) => moment.monotonic += time,
            Next::Fetch(fetch) => {
                let body = replace(fetch.path).or_else(|| match fetch.path {
                    FeedPath::Head | FeedPath::Wait { .. } => Some(bytes(story, "heads", 1)),
                    FeedPath::KeyList { version: version @ 1..=2 } => {
                        Some(bytes(story, "key_lists", usize::try_from(version).unwrap() - 1))
                    }
                    FeedPath::Snapshot { .. } => Some(hex(text(story, "base"))),
                    FeedPath::Delta { span: Span::Sixteen, number: 0, .. } => {
                        Some(hex(text(story, "merged16")))
                    }
                    FeedPath::Delta { span: Span::One, number, .. } => {
                        let at = usize::try_from(number).unwrap() - 1;
                        Some(hex(text(&story["steps"][at], "delta")))
                    }
                    FeedPath::KeyList { .. } | FeedPath::Delta { .. } => None,
                });
                let response = body.map_or(Response::NotFound, Response::Body);
                machine.receive(&fetch, response, moment, 1);
            }
        }
    }
    machine
}

// RV-42, RV-44
#[test]
fn a_client_follows_the_history_to_its_head() {
    let vectors = vectors();
    let machine = client(&vectors, &|_| None);
    let expected = digest(&vectors["history"]["head"], "state");
    assert_eq!(machine.set().unwrap().digest(), expected);
    assert_eq!(machine.key_list().unwrap().version, 2);
}

// RV-11, RV-12, RV-13, RV-20, RV-21, RV-23, RV-24, RV-30, RV-40, RV-41, RV-42
#[test]
fn what_breaks_a_rule_is_refused() {
    let vectors = vectors();
    let (feed, story) = (feed(&vectors), &vectors["history"]);
    for case in list(&vectors, "refused") {
        let name = text(case, "name");
        let object = hex(text(case, "bytes"));
        match text(case, "object") {
            "key_list" => assert!(KeyList::verify(&object, feed, &roots(story)).is_err(), "{name}"),
            "snapshot" => assert!(Snapshot::parse(object).is_err(), "{name}"),
            "delta" => {
                let mut publisher = Publisher::begin(feed, 1, RevocationSet::empty());
                assert!(publisher.replay(&object).is_err(), "{name}");
            }
            "head" => {
                let machine = client(&vectors, &|path| match path {
                    FeedPath::Head | FeedPath::Wait { .. } => Some(object.clone()),
                    _ => None,
                });
                let wall = Timestamp::from_millis(number(story, "start")).unwrap();
                let moment = Moment { wall, monotonic: Duration::ZERO };
                assert_eq!(machine.health(moment).freshness, Freshness::Empty, "{name}");
            }
            other => panic!("{other}"),
        }
    }
}
