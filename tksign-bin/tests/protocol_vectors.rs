//! Messages, a handshake and calls made by a second implementation (`vectors/protocol.py`),
//! against ours, byte for byte, both ways.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

use snow::Builder;
use tkcore::protocol::*;
use tkcore::revocation::Rule;
use tkcore::{BranchId, FeedId, KeyClass, KeyId, LineageFacts, LineageId, Name, Row, Timestamp};

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../../vectors/protocol.json")).unwrap()
}

fn bytes(hex: &serde_json::Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

const ID: RequestId = RequestId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const LINEAGE: LineageId = LineageId::from_bytes([0x11; 16]);
const PARENT: LineageId = LineageId::from_bytes([0x12; 16]);
const KEY: KeyId = KeyId::from_bytes([0x22; 8]);
const BRANCH: BranchId = BranchId::from_bytes([0x33; 16]);
const CLIENT: ClientKey = ClientKey::from_bytes([0x66; 32]);
const POSITION: FeedPosition = FeedPosition { epoch: 3, sequence: 70 };

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}
fn time() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_123).unwrap()
}
fn token() -> SecretBytes {
    SecretBytes::from(&b"root token"[..])
}
fn data(bytes: &[u8]) -> Bytes {
    Bytes(bytes.to_vec())
}
fn page<T>(item: T, next: Option<&[u8]>) -> Page<T>
where
    Page<T>: Default,
{
    let mut page = Page::default();
    page.items.push(item);
    page.next = next.map(|next| Cursor::new(next).unwrap());
    page
}

/// What a message is compared by: made by us, read by us, made again.
struct Checked {
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// Our bytes for a call and its answer, after reading theirs and writing them again.
fn check<C: Call>(theirs: (&[u8], &[u8]), params: C, answer: Result<C::Answer, RpcError>) -> Checked {
    let trace = (C::OPERATION == Operation::Verify).then(|| TraceContext {
        trace: core::array::from_fn(|at| at as u8),
        parent: core::array::from_fn(|at| at as u8 + 16),
        flags: 24,
    });
    let request = Request::decode(theirs.0).unwrap();
    assert_eq!(Operation::from_code(request.operation), Some(C::OPERATION));
    assert_eq!((request.id, request.trace), (ID, trace));
    let again = C::params(request.params).unwrap().request(ID, trace).unwrap();
    assert_eq!(again, theirs.0, "{}: reading and writing", C::OPERATION);
    let write = |answer: &Result<C::Answer, RpcError>| match answer {
        Ok(answer) => C::answer(answer).unwrap(),
        Err(error) => Response::error(error),
    };
    assert_eq!(write(&C::read_answer(theirs.1).unwrap()), theirs.1, "{}: answer", C::OPERATION);
    for cut in 0..request.params.len() {
        assert!(C::params(&request.params[..cut]).is_err(), "{} cut at {cut}", C::OPERATION);
    }
    for cut in 0..theirs.1.len() {
        assert!(C::read_answer(&theirs.1[..cut]).is_err(), "{} answer cut at {cut}", C::OPERATION);
    }
    assert!(C::params(&[request.params, &[0]].concat()).is_err());
    assert!(C::read_answer(&[theirs.1, &[0]].concat()).is_err());
    Checked { request: params.request(ID, trace).unwrap(), answer: write(&answer) }
}

fn mint_role() -> Role {
    Role::Mint(MintPower {
        narrowing: Narrowing {
            tenants: Some(vec![name("acme"), name("umbrella")]),
            max_lifetime: Some(28_800),
            required_caveats: vec![data(b"action in read")],
        },
        unrestricted: Permit::Withheld,
        never_expires: Permit::Given,
    })
}

fn key_info() -> KeyInfo {
    KeyInfo {
        key: KEY,
        tenant: name("acme"),
        audience: Some(name("billing")),
        class: KeyClass::Delegable,
        generation: 4,
        state: KeyState::Verifying,
        created: time(),
        ended: Some(time()),
        live_tokens: 9,
    }
}

fn client_info() -> ClientInfo {
    ClientInfo {
        key: CLIENT,
        name: name("issuer"),
        role: mint_role(),
        state: ClientState::Suspended,
        added: time(),
        expiry: None,
    }
}

fn entry() -> TokenInfo {
    TokenInfo {
        lineage: LINEAGE,
        key: KEY,
        tenant: name("acme"),
        subject: Some(name("user:17")),
        label: None,
        expiry: Some(time()),
        parent: Some(PARENT),
        revoked: Some(Rule::Parent),
        last_seen: None,
    }
}

fn revoke(theirs: (&[u8], &[u8]), target: RevokeTarget, reason: &str) -> Checked {
    let answer = RevokeAnswer { effect: RevokeEffect::Already, before: Some(time()), after: POSITION };
    check(theirs, Revoke { target, reason: text(reason) }, Ok(answer))
}

fn ours(message: &str, theirs: (&[u8], &[u8])) -> Checked {
    let revoked = RevokeAnswer { effect: RevokeEffect::Already, before: Some(time()), after: POSITION };
    let discharges = || vec![SecretBytes::from(&b"discharge"[..])];
    match message {
        "verify" => check(
            theirs,
            Verify { root: token(), discharges: discharges() },
            Ok(VerifyAnswer {
                key: KEY,
                facts: LineageFacts {
                    tenant: name("acme"),
                    audience: Some(name("billing")),
                    class: KeyClass::Ordinary,
                    tenant_row: Row::from_bytes([0x44; 16]),
                    subject_row: Some(Row::from_bytes([0x45; 16])),
                },
                branches: vec![BRANCH, BranchId::from_bytes([0x44; 16])],
                position: POSITION,
            }),
        ),
        "mint" => check(
            theirs,
            Mint {
                tenant: name("acme"),
                audience: None,
                class: KeyClass::Ordinary,
                subject: Some(name("user:17")),
                label: Some(name("ci")),
                expiry: Expiry::After(3600),
                caveats: vec![
                    MintCaveat::FirstParty(data(b"action in read")),
                    MintCaveat::ThirdParty {
                        location: text("https://login.example"),
                        ticket: data(b"ticket"),
                        key: SecretKey::new([0x77; 32]),
                    },
                ],
                unrestricted: Permit::Withheld,
                never_expires: Permit::Given,
            },
            Ok(MintAnswer { token: token(), lineage: LINEAGE, key: KEY, expiry: Some(time()) }),
        ),
        "revoke token" => revoke(theirs, RevokeTarget::Token(LINEAGE), "leaked"),
        "revoke branch" => revoke(theirs, RevokeTarget::Branch(BRANCH), ""),
        "revoke key" => revoke(theirs, RevokeTarget::Key(KEY, KeyFloor::Before(Floor::At(time()))), ""),
        "revoke subject" => {
            revoke(theirs, RevokeTarget::Subject(name("acme"), name("user:17"), Floor::Now), "")
        }
        "revoke tenant" => revoke(theirs, RevokeTarget::Tenant(name("acme"), Floor::At(time())), ""),
        "revoke global" => revoke(theirs, RevokeTarget::Global(Floor::Now), ""),
        "revoke given" => revoke(theirs, RevokeTarget::Presented(token(), RevokeScope::Branch), ""),
        "revoke-presented" => check(
            theirs,
            RevokePresented { token: token(), reason: text("found by the scanner") },
            Ok(revoked),
        ),
        "exchange" => check(
            theirs,
            Exchange {
                root: token(),
                discharges: discharges(),
                workload: vec![data(b"host = \"h\"")],
                expiry: Expiry::At(time()),
                label: Some(name("job")),
            },
            Ok(ExchangeAnswer { token: token(), lineage: LINEAGE, parent: PARENT, key: KEY, expiry: time() }),
        ),
        "revoke-preview" => check(
            theirs,
            RevokePreview { target: RevokeTarget::Subject(name("acme"), name("user:17"), Floor::Now) },
            Ok(RevokePreviewAnswer {
                rule: Rule::Subject,
                id: data(&[0x44; 16]),
                effect: RevokeEffect::New,
                before: Some(time()),
                standing: Some(time()),
                kept: None,
                counted: Counted::AtLeast,
                hit: 10,
                labelled: 4,
                service: 3,
                already: 2,
                spared: 1,
            }),
        ),
        "revoke-preview token" => check(
            theirs,
            RevokePreview { target: RevokeTarget::Token(LINEAGE) },
            Ok(RevokePreviewAnswer {
                rule: Rule::Token,
                id: data(LINEAGE.as_bytes()),
                effect: RevokeEffect::Already,
                before: None,
                standing: None,
                kept: Some(time()),
                counted: Counted::All,
                hit: 0,
                labelled: 0,
                service: 0,
                already: 1,
                spared: 0,
            }),
        ),
        "revoke-preview everything" => check(
            theirs,
            RevokePreview { target: RevokeTarget::Global(Floor::At(time())) },
            Err(Code::BadTime.detail("a floor may not lie in the future")),
        ),
        "fetch-keys" => {
            let key = DelegatedKey {
                key: KEY,
                tenant: name("acme"),
                audience: name("billing"),
                generation: 4,
                state: KeyState::Current,
                root: SecretKey::new([0x77; 32]),
                rows: SecretKey::new([0x78; 32]),
            };
            check(theirs, FetchKeys { from: Cursor::default() }, Ok(page(key, Some(b"go on"))))
        }
        "status" => check(
            theirs,
            Status {},
            Ok(StatusAnswer {
                version: text("0.1.0"),
                feed: FeedId::from_bytes([0x55; 16]),
                static_key: [0x66; 32],
                static_before: Some([0x78; 32]),
                mode: Mode::Serving,
                started: time(),
                now: time(),
                position: POSITION,
                head_issued: time(),
                head_valid_until: time(),
                key_list: 2,
                publication_until: time(),
                keys: 1,
                clients: 2,
                tokens: 3,
                revocations: 4,
                audit_lines: 5,
                audit_hash: [0x77; 32],
                schema: 1,
                secret: [0x22; 8],
                sandbox: text("dumps: off"),
                notice: text(""),
            }),
        ),
        "key-create" => check(
            theirs,
            KeyCreate { tenant: name("acme"), audience: Some(name("billing")), class: KeyClass::Delegable },
            Ok(key_info()),
        ),
        "key-list" => check(
            theirs,
            KeyList { tenant: Some(name("acme")), from: Cursor::new(b"go on").unwrap() },
            Ok(page(key_info(), None)),
        ),
        "key-rotate" => check(theirs, KeyRotate { key: KEY }, Ok(key_info())),
        "key-retire" => check(theirs, KeyRetire { key: KEY }, Err(Code::NotFound.detail("no such key"))),
        "static-rotate" => {
            check(theirs, StaticRotate {}, Ok(StaticKeys { current: [0x66; 32], before: Some([0x78; 32]) }))
        }
        "static-retire" => {
            let keys = StaticKeys { current: [0x66; 32], before: None };
            check(theirs, StaticRetire { key: [0x78; 32] }, Ok(keys))
        }
        "audit-prune" => {
            check(theirs, AuditPrune { before: 700 }, Ok(AuditPruned { removed: 420, first: 512 }))
        }
        "publication-prepare" => check(
            theirs,
            PublicationPrepare { draft: PublicationDraft::NextEpoch },
            Ok(PublicationAnswer { version: 3, to_sign: data(b"to sign") }),
        ),
        "publication-rotate" => {
            let done = PublicationRotate::read_answer(&[0]).unwrap();
            check(theirs, PublicationRotate { key_list: data(b"signed") }, done)
        }
        "client-add" => check(
            theirs,
            ClientAdd { key: CLIENT, name: name("issuer"), role: mint_role(), expiry: Some(time()) },
            Ok(client_info()),
        ),
        "client-list" => check(theirs, ClientList { from: Cursor::default() }, Ok(page(client_info(), None))),
        "client-remove" => {
            let done = ClientRemove::read_answer(&[0]).unwrap();
            check(theirs, ClientRemove { key: CLIENT }, done)
        }
        "client-confirm" => {
            check(theirs, ClientConfirm { key: CLIENT }, Err(Code::RateLimited.error().retry_after(250)))
        }
        "token-list" => check(
            theirs,
            TokenList {
                tenant: Some(name("acme")),
                subject: None,
                parent: Some(PARENT),
                from: Cursor::default(),
            },
            Ok(page(entry(), None)),
        ),
        "token-show" => check(theirs, TokenShow { lineage: LINEAGE }, Ok(entry())),
        "audit-tail" => {
            let line = AuditLine { line: 7, bytes: data(b"{}"), hash: [0x77; 32] };
            check(theirs, AuditTail { line: 7, from: Cursor::default() }, Ok(page(line, None)))
        }
        "rewrap" => check(
            theirs,
            Rewrap { secret: SecretBytes::from(&[0x77; 32][..]) },
            Ok(RewrapAnswer { secret: [0x22; 8], records: 12 }),
        ),
        other => panic!("no message {other}"),
    }
}

/// PR-20 to PR-43: every operation, both ways, every cut and a surplus byte.
#[test]
fn every_message_is_byte_for_byte_the_same() {
    let vectors = vectors();
    let mut seen = std::collections::BTreeSet::new();
    for message in vectors["messages"].as_array().unwrap() {
        let (request, answer) = (bytes(&message["request"]), bytes(&message["answer"]));
        let title = message["name"].as_str().unwrap();
        let checked = ours(title, (&request, &answer));
        assert_eq!(checked.request, request, "{title}: request");
        assert_eq!(checked.answer, answer, "{title}: answer");
        seen.insert(u16::from_be_bytes([request[0], request[1]]));
    }
    for operation in Operation::ALL {
        assert!(seen.contains(&operation.code()), "no vector for {operation}");
    }
}

/// PR-10, PR-11, PR-7: their handshake and calls, read and made again with `snow`.
#[test]
fn the_handshake_and_the_calls_are_byte_for_byte_the_same() {
    let vectors = vectors();
    let handshake = &vectors["handshake"];
    let key = |name: &str| bytes(&handshake[name]);
    let prologue = prologue(VERSION);
    let keys =
        [key("client_private"), key("client_ephemeral"), key("server_private"), key("server_ephemeral")];
    let server_public = key("server_public");
    let [client_key, client_ephemeral, server_key, server_ephemeral] = &keys;
    let mut client = Builder::new(NOISE.parse().unwrap())
        .local_private_key(client_key)
        .unwrap()
        .remote_public_key(&server_public)
        .unwrap()
        .prologue(&prologue)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(client_ephemeral)
        .build_initiator()
        .unwrap();
    let mut server = Builder::new(NOISE.parse().unwrap())
        .local_private_key(server_key)
        .unwrap()
        .prologue(&prologue)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(server_ephemeral)
        .build_responder()
        .unwrap();
    let mut first = [0; HANDSHAKE_REQUEST_BYTES];
    client.write_message(&[], &mut first).unwrap();
    assert_eq!(SessionRequest { version: 1, handshake: first }.encode(), key("request_body"));
    server.read_message(&first, &mut [0; 16]).unwrap();
    let mut second = [0; HANDSHAKE_ANSWER_BYTES];
    server.write_message(&[], &mut second).unwrap();
    let session = SessionId::from_bytes(key("session").try_into().unwrap());
    let answer = Frame::Accepted(SessionAnswer { session, handshake: second });
    assert_eq!(answer.encode(), key("answer_body"));
    assert_eq!(Frame::<SessionAnswer>::decode(&key("answer_body")), Ok(answer));
    client.read_message(&second, &mut [0; 16]).unwrap();
    let client = client.into_stateless_transport_mode().unwrap();
    let server = server.into_stateless_transport_mode().unwrap();

    let messages = vectors["messages"].as_array().unwrap();
    for call in vectors["calls"].as_array().unwrap() {
        let message = messages.iter().find(|message| message["name"] == call["operation"]).unwrap();
        let number = call["number"].as_u64().unwrap();
        let body = bytes(&call["request_body"]);
        let request = RpcRequest::decode(&body).unwrap();
        assert_eq!((request.session, request.number), (session, number));
        let mut payload = vec![0; request.message.len()];
        let len = server.read_message(number, request.message, &mut payload).unwrap();
        assert_eq!(payload[..len], bytes(&message["request"]));
        let body = bytes(&call["answer_body"]);
        let Frame::Accepted(answer) = Frame::<RpcAnswer<'_>>::decode(&body).unwrap() else { panic!() };
        assert_eq!(answer.number, number);
        let mut payload = vec![0; answer.message.len()];
        let len = client.read_message(number, answer.message, &mut payload).unwrap();
        assert_eq!(payload[..len], bytes(&message["answer"]));
    }
}

/// PR-8.
#[test]
fn refusals_are_the_same_constants() {
    let vectors = vectors();
    for (name, refused) in [
        ("session", Refused::Session),
        ("handshake", Refused::Handshake),
        ("busy", Refused::Busy),
        ("version", Refused::Version { lowest: 1, highest: 1 }),
        ("body", Refused::Body),
    ] {
        let theirs = bytes(&vectors["refusals"][name]);
        assert_eq!(Frame::<SessionAnswer>::Refused(refused).encode(), theirs);
        assert_eq!(Frame::<RpcAnswer<'_>>::decode(&theirs), Ok(Frame::Refused(refused)));
    }
}
