//! What the trail says, line by line: what leaves one, what it holds, and what is only summed up.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use serde_json::Value;
use tkcore::protocol::*;
use tkcore::{KeyClass, Timestamp};
use tksign::{AuditNames, Options, Peer};

const TRACE: TraceContext = TraceContext { trace: [0x0a; 16], parent: [0x0b; 8], flags: 1 };
const TRACEPARENT: &str = "00-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a-0b0b0b0b0b0b0b0b-01";

/// Lines from this one on, each checked to have its number.
fn lines_from(world: &World, first: u64) -> Vec<Value> {
    let (mut lines, mut from) = (Vec::new(), Cursor::default());
    loop {
        let page = world.operate(&AuditTail { line: first, from });
        for line in page.items {
            let value: Value = serde_json::from_slice(&line.bytes.0).unwrap();
            assert_eq!((value["n"].as_u64(), line.line), (Some(line.line), first + lines.len() as u64));
            lines.push(value);
        }
        match page.next {
            Some(next) => from = next,
            None => return lines,
        }
    }
}

/// The lines that something leaves, as they are when it was answered.
fn left_by<T>(world: &World, act: impl FnOnce() -> T) -> Vec<Value> {
    let before = world.operate(&Status {}).audit_lines;
    let _ = act();
    let mut lines = lines_from(world, before + 1);
    // Sums of verifies come when they come.
    lines.retain(|line| line["op"] != "verify" || line["refused"].is_string());
    lines
}

/// The one line that something leaves: operation and, if it was refused, the code.
#[track_caller]
fn leaves<T>(world: &World, operation: &str, refused: Option<Code>, act: impl FnOnce() -> T) -> Value {
    let lines = left_by(world, act);
    let [line] = &lines[..] else { panic!("{operation} left {lines:?}") };
    assert_eq!(line["op"], operation);
    let expected = refused.map(|code| format!("{:#06x}", code.code()));
    assert_eq!(line["refused"].as_str(), expected.as_deref(), "{line}");
    line.clone()
}

/// PR-98.
#[test]
fn what_changes_and_what_is_refused_has_its_line_before_its_answer() {
    let world = World::with(Options { exchange_cap: 60, ..Options::default() });
    let (minter, verifier) = (world.minter(), world.client(3, Role::Verify(None)));
    let (revoker, exchanger) = (world.client(4, Role::Revoke), world.client(5, Role::Exchange));
    let (presenter, billing) =
        (world.client(6, Role::RevokePresented), world.client(7, Role::Keys(name("billing"))));
    let by = |key: ClientKey| key.to_string();

    let key = std::cell::OnceCell::new();
    let line = leaves(&world, "key-create", None, || {
        key.set(world.key("acme", None, KeyClass::Ordinary).key).unwrap();
    });
    let key = *key.get().unwrap();
    assert_eq!((line["by"].as_str(), line["key"].as_str()), (Some(&*by(OPERATOR)), Some(&*key.to_string())));
    world.key("acme", Some("billing"), KeyClass::Delegable);

    let minted = std::cell::OnceCell::new();
    let id = world.id();
    let ask = |call: &Mint| world.call_as(minter, Peer::Unix, id, call);
    let line = leaves(&world, "mint", None, || minted.set(ask(&mint("acme")).unwrap()).unwrap());
    let minted = minted.into_inner().unwrap();
    for (field, value) in [
        ("by", by(minter)),
        ("lineage", minted.lineage.to_string()),
        ("key", key.to_string()),
        ("expiry", minted.expiry.unwrap().to_string()),
        ("caveats", "1".to_owned()),
    ] {
        assert_eq!(line[field].as_str(), Some(&*value), "{field}");
    }
    // A repetition does nothing, and so has nothing to say.
    assert!(left_by(&world, || ask(&mint("acme")).unwrap()).is_empty());

    let whole = |tenant| mint(tenant).request(world.id(), None).unwrap();
    let cut = |request: Vec<u8>| request[..request.len() - 1].to_vec();
    let bare = |code: u16| [&code.to_be_bytes()[..], &[0], world.id().as_bytes(), b"\xff"].concat();
    for (operation, client, request, refusal) in [
        ("mint", minter, whole("nobody"), Code::NotFound),
        ("mint", verifier, whole("acme"), Code::NotAllowed),
        ("status", minter, Status {}.request(world.id(), None).unwrap(), Code::NotAllowed),
        ("mint", minter, cut(whole("acme")), Code::BadParameters),
        ("verify", verifier, bare(Operation::Verify.code()), Code::BadParameters),
        ("unknown", verifier, bare(0x7fff), Code::UnknownOperation),
    ] {
        let line = leaves(&world, operation, Some(refusal), || {
            let answer = Response::code_of(&world.raw(client, Peer::Unix, &request));
            assert_eq!(answer, refusal.code());
        });
        assert_eq!(line["by"].as_str(), Some(&*by(client)));
    }

    let root = || SecretBytes::from(minted.token.expose());
    let asked = Exchange {
        root: root(),
        discharges: vec![],
        workload: vec![Bytes(b"host = a".to_vec())],
        expiry: Expiry::Never,
        label: None,
    };
    let line = leaves(&world, "exchange", Some(Code::NotExchangeable), || {
        world.call(exchanger, &asked).unwrap_err()
    });
    assert_eq!(line["parent"].as_str(), Some(&*minted.lineage.to_string()));
    leaves(&world, "fetch-keys", None, || {
        world.call(billing, &FetchKeys { from: Cursor::default() }).unwrap()
    });
    let line = leaves(&world, "revoke-presented", None, || {
        let asked = RevokePresented { token: root(), reason: Text::new("a \"reason\"").unwrap() };
        world.call(presenter, &asked).unwrap()
    });
    assert_eq!((line["rule"].as_str(), line["reason"].as_str()), (Some("branch"), Some("a \"reason\"")));
    let kill = || revoke(RevokeTarget::Token(minted.lineage));
    for _ in 0..2 {
        let line = leaves(&world, "revoke", None, || world.call(revoker, &kill()).unwrap());
        assert_eq!(line["rule"].as_str(), Some("token"));
    }
    leaves(&world, "key-rotate", None, || world.operate(&KeyRotate { key }));
    leaves(&world, "key-retire", None, || world.operate(&KeyRetire { key }));
    leaves(&world, "static-rotate", None, || world.operate(&StaticRotate {}));
    leaves(&world, "publication-prepare", None, || {
        world.operate(&PublicationPrepare { draft: PublicationDraft::SameEpoch })
    });
    leaves(&world, "client-add", None, || world.client(9, Role::Revoke));
    leaves(&world, "client-remove", None, || {
        world.operate(&ClientRemove { key: ClientKey::from_bytes([9; 32]) })
    });
    let line = leaves(&world, "audit-prune", None, || world.operate(&AuditPrune { before: 3 }));
    assert_eq!(line["first"].as_str(), Some("3"));

    // What only looks leaves none, nor does a stranger, whatever it asks.
    let lines = left_by(&world, || {
        let preview = RevokePreview { target: RevokeTarget::Token(minted.lineage) };
        let _ = world.call(revoker, &preview).unwrap();
        let _ = world.operate(&KeyList { tenant: None, from: Cursor::default() });
        let _ = world.verify(verifier, minted.token.expose()).unwrap_err();
        let stranger = ClientKey::from_bytes([77; 32]);
        assert_eq!(code(world.call(stranger, &mint("acme"))), Code::NotAllowed);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

/// PR-98: one line for each client and lineage; of what does not even hold there is no lineage.
#[test]
fn verifies_are_lines_of_sums() {
    let mut world = World::new();
    let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
    let (one, two) = (world.client(5, Role::Verify(None)), world.client(6, Role::Verify(None)));
    world.key("acme", None, KeyClass::Ordinary);
    let [dead, living] = [(); 2].map(|()| world.call(minter, &mint("acme")).unwrap());
    let mut forged = living.token.expose().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..3 {
        world.verify(one, dead.token.expose()).unwrap();
    }
    world.call(revoker, &revoke(RevokeTarget::Token(dead.lineage))).unwrap();
    world.clock.advance(1_500);
    for _ in 0..2 {
        assert_eq!(code(world.verify(one, dead.token.expose())), Code::Revoked);
        assert_eq!(code(world.verify(two, &forged)), Code::NotAuthentic);
    }
    world.clock.advance(1_500);
    world.verify(two, living.token.expose()).unwrap();
    // A stop writes down what was not yet written.
    world.restart();
    let mut sums = BTreeMap::<_, (u64, u64, String)>::new();
    for line in lines_from(&world, 1).iter().filter(|line| line["op"] == "verify") {
        let text = |field: &str| line[field].as_str().map(str::to_owned);
        let number = |field: &str| text(field).unwrap().parse::<u64>().unwrap();
        let sum = sums.entry((text("by").unwrap(), text("lineage"))).or_default();
        let last = text("last").unwrap().max(sum.2.clone());
        *sum = (sum.0 + number("good"), sum.1 + number("refused-tokens"), last);
    }
    let at = |millis| Timestamp::from_millis(NOW + millis).unwrap().to_string();
    let expected = [
        ((one.to_string(), Some(dead.lineage.to_string())), (3, 2, at(1_500))),
        ((two.to_string(), None), (0, 2, at(1_500))),
        ((two.to_string(), Some(living.lineage.to_string())), (1, 0, at(3_000))),
    ];
    assert_eq!(sums, BTreeMap::from(expected));
}

/// PR-33, PR-97: of what is done, of what is refused, and of what is no operation.
#[test]
fn a_trace_stands_in_the_line() {
    let world = World::new();
    let minter = world.minter();
    world.key("acme", None, KeyClass::Ordinary);
    let unknown = |trace: bool| {
        let head = [&[0x7f, 0xff, u8::from(trace)][..], world.id().as_bytes()].concat();
        let trace = [&TRACE.trace[..], &TRACE.parent, &[TRACE.flags]].concat().repeat(trace.into());
        [head, trace].concat()
    };
    for (trace, expected) in [(Some(TRACE), Some(TRACEPARENT)), (None, None)] {
        let requests = [
            mint("acme").request(world.id(), trace).unwrap(),
            mint("nobody").request(world.id(), trace).unwrap(),
            Status {}.request(world.id(), trace).unwrap(),
            unknown(trace.is_some()),
        ];
        for request in requests {
            let lines = left_by(&world, || world.raw(minter, Peer::Unix, &request));
            let traces: Vec<_> = lines.iter().map(|line| line["traceparent"].as_str()).collect();
            assert_eq!(traces, [expected], "{lines:?}");
        }
    }
}

/// Names are hashes of the same length and value for the same name, or as they are if the operator
/// says so; a token and a label stand in no line.
#[test]
fn names_are_keyed_hashes_unless_the_operator_asks() {
    for audit_names in [AuditNames::Hashed, AuditNames::Clear] {
        let world = World::with(Options { audit_names, ..Options::default() });
        let (minter, revoker) = (world.minter(), world.client(4, Role::Revoke));
        world.key("the tenant", Some("the audience"), KeyClass::Ordinary);
        let asked = Mint {
            audience: audience("the audience"),
            subject: Some(name("the subject")),
            label: Some(name("the label")),
            ..mint("the tenant")
        };
        let minted = world.call(minter, &asked).unwrap();
        let target = RevokeTarget::Subject(name("the tenant"), name("the subject"), Floor::Now);
        world.call(revoker, &revoke(target)).unwrap();
        let lines = lines_from(&world, 1);
        let of = |operation: &str, field: &str| {
            let line = lines.iter().find(|line| line["op"] == operation).unwrap();
            line[field].as_str().unwrap().to_owned()
        };
        let is_clear = audit_names == AuditNames::Clear;
        for (field, operations) in [
            ("tenant", &["key-create", "mint", "revoke"][..]),
            ("subject", &["mint", "revoke"]),
            ("audience", &["key-create"]),
        ] {
            let found: Vec<_> = operations.iter().map(|operation| of(operation, field)).collect();
            assert!(found.iter().all(|value| *value == found[0]), "{field}: {found:?}");
            assert_eq!(found[0] == format!("the {field}"), is_clear, "{found:?}");
            assert!(is_clear || found[0].bytes().all(|byte| byte.is_ascii_hexdigit()), "{found:?}");
        }
        let all = lines.iter().map(Value::to_string).collect::<String>();
        let names = ["the tenant", "the subject", "the audience"];
        assert!(names.iter().all(|name| all.contains(name) == is_clear), "{all}");
        assert!(!all.contains("the label"));
        let text = tkcore::TokenBuf::from_v2(minted.token.expose().to_vec()).unwrap().to_text();
        assert!(!all.contains(&text.as_str()[10..60]));
    }
}
