//! Every role × every operation × every door of a running signer: allowed, or the one constant
//! answer (PR-30, PR-62).

use testkit::TempDir;
use testkit::signer::{Running, With};
use tkcore::protocol::*;
use tkcore::{KeyClass, KeyId};

use super::wire::{Key, Line, pinned};
use super::{mint_params, name, verify_params};

const ROLES: [&[&str]; 7] = [
    &["verify"],
    &["mint"],
    &["revoke"],
    &["revoke-presented"],
    &["exchange"],
    &["keys", "--audience", "billing"],
    &["operator"],
];

/// The one role that an operation belongs to.
fn owner(operation: Operation) -> &'static str {
    match operation.name() {
        "verify" => "verify",
        "mint" => "mint",
        "revoke" | "revoke-preview" => "revoke",
        "revoke-presented" => "revoke-presented",
        "exchange" => "exchange",
        "fetch-keys" => "keys",
        _ => "operator",
    }
}

/// What stands in the requests of one round.
struct Given {
    token: MintAnswer,
    other: MintAnswer,
    key: KeyId,
    client: ClientKey,
    tenant: String,
    /// The static key of the signer, which ends in this round.
    pinned: [u8; 32],
}

impl Given {
    fn new(operator: &mut Line, minter: &mut Line, round: usize, pinned: [u8; 32]) -> Self {
        let tenant = format!("tenant {round}");
        let create =
            |tenant: &str| KeyCreate { tenant: name(tenant), audience: None, class: KeyClass::Ordinary };
        let key = operator.call(&create(&tenant)).unwrap().key;
        let mut token = || minter.call(&mint_params("acme")).unwrap();
        Self { token: token(), other: token(), key, client: Key::generate().public, tenant, pinned }
    }
}

/// A request that its owner may make, and what it is then answered: `None` is success.
fn request(line: &mut Line, operation: Operation, given: &Given) -> (Vec<u8>, Option<Code>) {
    fn of<C: Call>(line: &mut Line, params: &C) -> Vec<u8> {
        params.request(line.id(), None).unwrap()
    }
    let from = Cursor::default;
    let token = || SecretBytes::from(given.token.token.expose());
    let payload = match operation {
        Operation::Verify => of(line, &verify_params(&given.token)),
        Operation::Mint => of(line, &mint_params("acme")),
        Operation::Revoke => {
            let target = RevokeTarget::Token(given.other.lineage);
            of(line, &Revoke { target, reason: Text::default() })
        }
        Operation::RevokePreview => {
            of(line, &RevokePreview { target: RevokeTarget::Token(given.token.lineage) })
        }
        Operation::RevokePresented => {
            let token = SecretBytes::from(given.other.token.expose());
            of(line, &RevokePresented { token, reason: Text::default() })
        }
        Operation::Exchange => {
            let workload = vec![Bytes(b"host = h".to_vec())];
            let expiry = Expiry::After(60);
            of(line, &Exchange { root: token(), discharges: vec![], workload, expiry, label: None })
        }
        Operation::FetchKeys => of(line, &FetchKeys { from: from() }),
        Operation::Status => of(line, &Status {}),
        Operation::KeyCreate => {
            let tenant = name(&format!("{} too", given.tenant));
            of(line, &KeyCreate { tenant, audience: None, class: KeyClass::Ordinary })
        }
        Operation::KeyList => of(line, &KeyList { tenant: None, from: from() }),
        Operation::KeyRotate => of(line, &KeyRotate { key: given.key }),
        Operation::KeyRetire => of(line, &KeyRetire { key: given.key }),
        Operation::StaticRotate => of(line, &StaticRotate {}),
        Operation::StaticRetire => of(line, &StaticRetire { key: given.pinned }),
        Operation::PublicationPrepare => of(line, &PublicationPrepare { draft: PublicationDraft::SameEpoch }),
        Operation::PublicationRotate => of(line, &PublicationRotate { key_list: Bytes(b"none".to_vec()) }),
        Operation::ClientAdd => {
            of(line, &ClientAdd { key: given.client, name: name("new"), role: Role::Revoke, expiry: None })
        }
        Operation::ClientList => of(line, &ClientList { from: from() }),
        Operation::ClientConfirm => of(line, &ClientConfirm { key: given.client }),
        Operation::ClientRemove => of(line, &ClientRemove { key: given.client }),
        Operation::TokenList => {
            of(line, &TokenList { tenant: None, subject: None, parent: None, from: from() })
        }
        Operation::TokenShow => of(line, &TokenShow { lineage: given.token.lineage }),
        Operation::AuditTail => of(line, &AuditTail { line: 1, from: from() }),
        Operation::AuditPrune => of(line, &AuditPrune { before: 1 }),
        Operation::Rewrap => of(line, &Rewrap { secret: SecretBytes::from(&b"short"[..]) }),
        other => panic!("{other} is not in this table"),
    };
    let expected = match operation {
        // The token carries no authentication caveat that could be exchanged away.
        Operation::Exchange => Some(Code::NotExchangeable),
        // It was removed just before.
        Operation::ClientConfirm => Some(Code::NotFound),
        Operation::PublicationRotate | Operation::Rewrap => Some(Code::BadParameters),
        _ => None,
    };
    (payload, expected)
}

/// The same operation with parameters that nobody can read.
fn garbage(line: &mut Line, operation: Operation) -> Vec<u8> {
    let mut payload = operation.code().to_be_bytes().to_vec();
    payload.push(0);
    payload.extend_from_slice(line.id().as_bytes());
    payload.extend_from_slice(b"\xff\xff garbage");
    payload
}

fn code(answer: &[u8]) -> Option<Code> {
    match Response::decode(answer).unwrap() {
        Response::Answer(_) => None,
        Response::Error(error) => Some(error.code),
    }
}

/// Has a session count, by the first authentic request: else it is gone after 10 s, and on a slow machine
/// its turn comes later. An unknown operation is anybody's to ask.
fn confirm(line: &mut Line) {
    let mut unknown = garbage(line, Operation::Verify);
    unknown[..2].copy_from_slice(&[0x7f, 0xff]);
    assert_eq!(code(&line.ask(&unknown).unwrap()), Some(Code::UnknownOperation));
}

/// What a refused request must leave as it was. The feed's position is none of it: the step that
/// covers the rows of the round before closes when it likes.
fn state(operator: &mut Line) -> [u64; 5] {
    let status = operator.call(&Status {}).unwrap();
    [status.keys, status.clients, status.tokens, status.revocations, status.key_list]
}

#[test]
fn every_role_at_every_operation_is_allowed_or_gets_the_one_constant_answer() {
    let dir = TempDir::new();
    let unix = format!("unix:{}", dir.join("rpc.sock").display());
    let with = With { arguments: vec!["--rpc".to_owned(), unix.clone()], ..With::default() };
    let signer = Running::start_with(with);
    signer.must("keys create", &["--tenant", "acme"]);
    let control = format!("unix:{}/control.sock", signer.state());
    let (mut pinned, constant) = (pinned(&signer), Response::error(&Code::NotAllowed.error()));
    let keys: Vec<Key> = ROLES.iter().map(|role| Key::allowed(&signer, role)).collect();
    let mut asked = 0;
    for (round, door) in [signer.rpc(), &unix, &control].into_iter().enumerate() {
        let open = |key: &Key| {
            let mut line = Line::at(door, &pinned, key).unwrap();
            confirm(&mut line);
            line
        };
        let mut lines: Vec<Line> = keys.iter().map(open).collect();
        let mut operator = Line::at(door, &pinned, &keys[6]).unwrap();
        let mut minter = Line::at(door, &pinned, &keys[1]).unwrap();
        let given = Given::new(&mut operator, &mut minter, round, pinned);
        let before = state(&mut operator);
        for (role, line) in ROLES.iter().zip(&mut lines) {
            for operation in Operation::ALL.iter().filter(|operation| owner(**operation) != role[0]) {
                let (good, _) = request(line, *operation, &given);
                for payload in [good, garbage(line, *operation)] {
                    let answer = line.ask(&payload).unwrap();
                    assert_eq!(answer, constant, "{} may not {operation} at {door}", role[0]);
                    asked += 1;
                }
            }
        }
        assert_eq!(state(&mut operator), before, "what was refused changed something");
        for (role, line) in ROLES.iter().zip(&mut lines) {
            for operation in Operation::ALL.iter().filter(|operation| owner(**operation) == role[0]) {
                let (good, mut expected) = request(line, *operation, &given);
                let answer = line.ask(&good).unwrap();
                if *operation == Operation::Rewrap && door != control {
                    // The role is right and the door is not: not the answer of a stranger.
                    expected = Some(Code::NotAllowed);
                    assert_ne!(answer, constant);
                }
                assert_eq!(code(&answer), expected, "{} may {operation} at {door}", role[0]);
                let unread = garbage(line, *operation);
                let answer = line.ask(&unread).unwrap();
                assert_eq!(code(&answer), Some(Code::BadParameters), "{} {operation} at {door}", role[0]);
                asked += 2;
            }
        }
        pinned = operator.call(&Status {}).unwrap().static_key;
    }
    assert_eq!(asked, 3 * ROLES.len() * Operation::ALL.len() * 2, "no cell of the table is left out");
}

#[test]
fn a_removed_client_of_any_role_ends_with_its_live_session() {
    let signer = super::signer();
    // So that the last operator is none of those below.
    let mut keeper = Line::open(&signer, &Key::allowed(&signer, &["operator"])).unwrap();
    for role in ROLES {
        let key = Key::allowed(&signer, role);
        let mut lines = [Line::open(&signer, &key).unwrap(), Line::open(&signer, &key).unwrap()];
        lines.iter_mut().for_each(confirm);
        keeper.call(&ClientRemove { key: key.public }).unwrap();
        for line in &mut lines {
            let request = garbage(line, Operation::Verify);
            assert_eq!(line.ask(&request), Err((409, vec![1, 1])), "{}: its session is over", role[0]);
        }
        let again = Line::open(&signer, &key).err();
        assert_eq!(again, Some((403, vec![1, 2])), "{}: and there is no other", role[0]);
    }
}
