//! The client against the real signer: who may do what, and what lost, repeated, recorded and
//! broken traffic does (nothing).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::type_complexity,
    reason = "a test fails by panicking"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::http::{Reply, Request, Server};
use testkit::signer::Running;
use tkcore::protocol::{
    AuditPrune, AuditTail, Bytes, Call, ClientAdd, ClientConfirm, ClientKey as PublicKey, ClientList,
    ClientRemove, Code, Cursor, Exchange, Expiry, Fault, FetchKeys, Floor, KeyCreate, KeyList, KeyRetire,
    KeyRotate, Mint, MintAnswer, MintCaveat, Operation, Permit, PublicationDraft, PublicationPrepare,
    PublicationRotate, RequestId, Revoke, RevokeEffect, RevokePresented, RevokePreview, RevokeTarget, Rewrap,
    Role, SecretBytes, StaticRetire, StaticRotate, Status, Text, TokenList, TokenShow, Verify,
};
use tkcore::revocation::Rule;
use tkcore::{KeyClass, KeyId, LineageId, Name, Presented, Token};
use tkverify::remote::{Trouble, request_id};
use tkverify::{ClientKey, Clock as _, Remote, RemoteError, SignerAddress, SystemClock, Trust};

fn address(signer: &Running) -> SignerAddress {
    Trust::from_file(&signer.trust()).unwrap().signers[0].clone()
}

/// A new client of the signer with one role.
fn client(signer: &Running, role: &[&str]) -> ClientKey {
    let key = ClientKey::generate().unwrap();
    allow(signer, &key, role);
    key
}

fn allow(signer: &Running, key: &ClientKey, role: &[&str]) {
    let public = PublicKey::from_bytes(*key.public()).to_string();
    let args = [&["--key", &public, "--name", "test", "--role"], role].concat();
    signer.must("clients add", &args);
}

fn remote(signer: &Running, role: &[&str]) -> Remote {
    Remote::new(&[address(signer)], client(signer, role)).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn mint_params() -> Mint {
    Mint {
        tenant: name("acme"),
        audience: None,
        class: KeyClass::Ordinary,
        subject: Some(name("user:17")),
        label: None,
        expiry: Expiry::After(3600),
        caveats: vec![MintCaveat::FirstParty(Bytes(b"action in read,list".to_vec()))],
        unrestricted: Permit::Withheld,
        never_expires: Permit::Withheld,
    }
}

fn signer() -> Running {
    let signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    signer
}

fn minted(signer: &Running) -> MintAnswer {
    remote(signer, &["mint"]).mint(&mint_params(), request_id().unwrap()).unwrap()
}

fn verify(remote: &Remote, token: &MintAnswer) -> Result<tkcore::protocol::VerifyAnswer, RemoteError> {
    let root = Token::parse(token.token.expose()).unwrap();
    remote.verify(&Presented::new(root, &[]).unwrap())
}

fn revoke_params(lineage: LineageId) -> Revoke {
    Revoke { target: RevokeTarget::Token(lineage), reason: Text::default() }
}

fn code(error: &RemoteError) -> Option<Code> {
    match error {
        RemoteError::Refused(error) => Some(error.code),
        _ => None,
    }
}

#[test]
fn mint_verify_revoke_and_verify_again() {
    let signer = signer();
    let token = minted(&signer);
    let verifier = remote(&signer, &["verify"]);
    let answer = verify(&verifier, &token).unwrap();
    assert_eq!(answer.key, token.key);
    assert_eq!(answer.facts.tenant, name("acme"));
    assert_eq!((answer.facts.audience.is_none(), answer.facts.subject_row.is_some()), (true, true));
    // PR-43: one caveat, so one chain point before the tail.
    assert_eq!(answer.branches.len(), 1);

    let revoker = remote(&signer, &["revoke"]);
    let revoked = revoker.revoke(&revoke_params(token.lineage), request_id().unwrap()).unwrap();
    assert_eq!(revoked.effect, RevokeEffect::New);
    // PR-44: it binds the signer's own answers from the moment it is acknowledged.
    let RemoteError::Refused(error) = verify(&verifier, &token).unwrap_err() else { panic!() };
    assert_eq!((error.code, error.rule()), (Code::Revoked, Some(Rule::Token)));
    assert_eq!(error.fault(), Fault::Token);
    let again = revoker.revoke(&revoke_params(token.lineage), request_id().unwrap()).unwrap();
    assert_eq!(again.effect, RevokeEffect::Already);
}

/// PR-30: every role × every operation, deny by default.
#[test]
fn each_role_may_do_its_own_and_nothing_else() {
    let signer = signer();
    let roles: [&[&str]; 7] = [
        &["verify"],
        &["mint"],
        &["revoke"],
        &["revoke-presented"],
        &["exchange"],
        &["keys", "--audience", "billing"],
        &["operator"],
    ];
    let token = minted(&signer);
    for role in roles {
        let client = remote(&signer, role);
        for operation in Operation::ALL {
            let refused = attempt(&client, *operation, &token);
            let own = if operation.code() >= 0x0100 {
                "operator"
            } else if *operation == Operation::FetchKeys {
                "keys"
            } else if *operation == Operation::RevokePreview {
                "revoke"
            } else {
                operation.name()
            };
            if own == role[0] {
                assert_ne!(refused, Some(Code::NotAllowed), "{} may {operation}", role[0]);
            } else {
                assert_eq!(refused, Some(Code::NotAllowed), "{} may not {operation}", role[0]);
            }
        }
    }
}

/// Calls an operation in a way that changes nothing of use; the code it was refused with.
fn attempt(client: &Remote, operation: Operation, token: &MintAnswer) -> Option<Code> {
    fn call<C: Call>(client: &Remote, params: &C) -> Option<Code> {
        match client.call(params, request_id().unwrap(), None) {
            Ok(_) => None,
            Err(RemoteError::Refused(error)) => Some(error.code),
            Err(other) => panic!("{other}"),
        }
    }
    let bytes = || SecretBytes::from(token.token.expose());
    let nobody = PublicKey::from_bytes([9; 32]);
    let no_key = KeyId::from_bytes([9; 8]);
    let no_lineage = LineageId::from_bytes([0; 16]);
    let from = Cursor::default;
    match operation {
        Operation::Verify => call(client, &Verify { root: bytes(), discharges: vec![] }),
        Operation::Mint => call(client, &mint_params()),
        Operation::Revoke => call(client, &revoke_params(no_lineage)),
        Operation::RevokePresented => {
            let token = SecretBytes::from(&b"no token"[..]);
            call(client, &RevokePresented { token, reason: Text::default() })
        }
        Operation::Exchange => {
            let workload = vec![Bytes(b"host = h".to_vec())];
            let (expiry, label) = (Expiry::After(60), None);
            call(client, &Exchange { root: bytes(), discharges: vec![], workload, expiry, label })
        }
        Operation::RevokePreview => call(client, &RevokePreview { target: RevokeTarget::Token(no_lineage) }),
        Operation::FetchKeys => call(client, &FetchKeys { from: from() }),
        Operation::Status => call(client, &Status {}),
        Operation::KeyCreate => {
            let key = KeyCreate { tenant: name("acme"), audience: None, class: KeyClass::Ordinary };
            call(client, &key)
        }
        Operation::KeyList => call(client, &KeyList { tenant: None, from: from() }),
        Operation::KeyRotate => call(client, &KeyRotate { key: no_key }),
        Operation::KeyRetire => call(client, &KeyRetire { key: no_key }),
        Operation::StaticRotate => call(client, &StaticRotate {}),
        Operation::StaticRetire => call(client, &StaticRetire { key: [1; 32] }),
        Operation::AuditPrune => call(client, &AuditPrune { before: 1 }),
        Operation::PublicationPrepare => {
            call(client, &PublicationPrepare { draft: PublicationDraft::SameEpoch })
        }
        Operation::PublicationRotate => {
            call(client, &PublicationRotate { key_list: Bytes(b"none".to_vec()) })
        }
        Operation::ClientAdd => {
            let add = ClientAdd { key: nobody, name: name("nobody"), role: Role::Revoke, expiry: None };
            call(client, &add)
        }
        Operation::ClientList => call(client, &ClientList { from: from() }),
        Operation::ClientRemove => call(client, &ClientRemove { key: nobody }),
        Operation::ClientConfirm => call(client, &ClientConfirm { key: nobody }),
        Operation::TokenList => {
            call(client, &TokenList { tenant: None, subject: None, parent: None, from: from() })
        }
        Operation::TokenShow => call(client, &TokenShow { lineage: no_lineage }),
        Operation::AuditTail => call(client, &AuditTail { line: 1, from: from() }),
        // Over TCP the operator is refused as well: see the next test.
        Operation::Rewrap => match client.call(
            &Rewrap { secret: SecretBytes::from(&b"short"[..]) },
            request_id().unwrap(),
            None,
        ) {
            Err(RemoteError::Refused(error)) if error.detail.as_str().contains("control socket") => None,
            other => other.err().as_ref().and_then(code),
        },
        other => panic!("{other} is not in this table"),
    }
}

/// PR-52: strangers, a wrong pinned key and a removed client.
#[test]
fn only_the_clients_of_this_signer_get_a_session() {
    let signer = signer();
    let token = minted(&signer);
    let handshake = |error: RemoteError| match error {
        RemoteError::NotAllowed(troubles) => {
            troubles.into_iter().all(|(_, trouble)| trouble == Trouble::Handshake)
        }
        other => panic!("{other}"),
    };
    let stranger = Remote::new(&[address(&signer)], ClientKey::generate().unwrap()).unwrap();
    assert!(handshake(verify(&stranger, &token).unwrap_err()));

    let key = client(&signer, &["verify"]);
    let other = ClientKey::generate().unwrap();
    let pinned = SignerAddress { key: *other.public(), ..address(&signer) };
    let wrong_pin = Remote::new(&[pinned], key).unwrap();
    assert!(handshake(verify(&wrong_pin, &token).unwrap_err()));

    // PR-62: removing a client ends its live session with the next request.
    let key = client(&signer, &["verify"]);
    let public = PublicKey::from_bytes(*key.public()).to_string();
    let removed = Remote::new(&[address(&signer)], key).unwrap();
    verify(&removed, &token).unwrap();
    signer.must("clients remove", &[&public]);
    assert!(handshake(verify(&removed, &token).unwrap_err()));
}

/// PR-39: a restart is not noticed by who asks, from many threads at once.
#[test]
fn a_restarted_signer_is_not_noticed() {
    let mut signer = signer();
    let token = minted(&signer);
    let verifier = remote(&signer, &["verify"]);
    for kill in [false, true] {
        let ask = || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| verify(&verifier, &token))).collect();
                threads.into_iter().for_each(|thread| drop(thread.join().unwrap().unwrap()));
            });
        };
        ask();
        if kill {
            signer.kill()
        } else {
            signer.stop()
        }
        signer.serve();
        ask();
    }
}

#[test]
fn a_stopped_signer_is_unreachable_and_says_so() {
    let mut signer = signer();
    let token = minted(&signer);
    let verifier = remote(&signer, &["verify"]);
    verify(&verifier, &token).unwrap();
    signer.stop();
    match verify(&verifier, &token).unwrap_err() {
        RemoteError::Unreachable(troubles) => assert!(!troubles.is_empty()),
        other => panic!("{other}"),
    }
}

/// Between client and signer: forwards, records, and loses what a test wants lost.
struct Between {
    server: Server,
    bodies: Arc<Mutex<Vec<(String, Vec<u8>)>>>,
}

fn forward(to: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

impl Between {
    /// `fault` sees each request with its count from 0 and the honest reply.
    fn new(
        signer: &Running,
        fault: impl Fn(usize, &Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let (to, kept, count) = (signer.rpc().to_owned(), Arc::clone(&bodies), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            kept.lock().unwrap().push((request.path.clone(), request.body.clone()));
            let (status, body) = forward(&to, &request.path, &request.body);
            fault(count.fetch_add(1, Ordering::SeqCst), request, Reply::Answer(status, Vec::new(), body))
        });
        Self { server, bodies }
    }

    fn address(&self, signer: &Running) -> SignerAddress {
        SignerAddress { url: self.server.url(), ..address(signer) }
    }

    fn recorded(&self) -> Vec<(String, Vec<u8>)> {
        self.bodies.lock().unwrap().clone()
    }
}

/// All that was done, and which tokens there are. Sums of verifies are written now and then, so
/// they are left out.
fn done(signer: &Running) -> (Vec<String>, usize) {
    let audit = signer.must("audit export", &[]);
    let audit = audit.lines().filter(|line| !line.contains("\"op\":\"verify\"")).map(str::to_owned).collect();
    (audit, signer.must("tokens list", &["--json"]).lines().count())
}

/// PR-59: everything that was said, said again, to the same signer and to the restarted one.
#[test]
fn recorded_traffic_changes_nothing() {
    let mut signer = signer();
    let between = Between::new(&signer, |_, _, reply| reply);
    let via = |role: &[&str]| Remote::new(&[between.address(&signer)], client(&signer, role)).unwrap();
    let (minter, revoker, verifier) = (via(&["mint"]), via(&["revoke"]), via(&["verify"]));
    let token = minter.mint(&mint_params(), request_id().unwrap()).unwrap();
    verify(&verifier, &token).unwrap();
    revoker.revoke(&revoke_params(token.lineage), request_id().unwrap()).unwrap();
    let recorded = between.recorded();
    assert_eq!(recorded.len(), 6);
    let before = done(&signer);
    for round in 0..2 {
        for (path, body) in &recorded {
            let (status, answer) = forward(signer.rpc(), path, body);
            if path == "/v1/rpc" {
                assert_eq!((status, answer), (409, vec![1, 1]), "round {round}");
            } else {
                // A recorded handshake is answered, and leads nowhere without the keys.
                assert_eq!((status, answer.len()), (200, 66), "round {round}");
            }
        }
        assert_eq!(done(&signer), before, "round {round}");
        if round == 0 {
            signer.stop();
            signer.serve();
        }
    }
    // Those who spoke go on undisturbed (they open a new session after the restart).
    assert_eq!(code(&verify(&verifier, &token).unwrap_err()), Some(Code::Revoked));
}

/// PR-32, PR-37, PR-38: an answer that is lost on the way; asked again it is the same token.
#[test]
fn a_lost_answer_is_asked_for_again_and_nothing_is_done_twice() {
    let signer = signer();
    let between = Between::new(&signer, |count, request, reply| {
        // The handshake is request 0, the mint 1.
        if count == 1 && request.path == "/v1/rpc" { Reply::Silence } else { reply }
    });
    let before = signer.must("tokens list", &["--json"]).lines().count();
    let minter = Remote::new(&[between.address(&signer)], client(&signer, &["mint"])).unwrap();
    // Enough for a handshake with a busy signer; the lost answer is waited for as long.
    let minter = minter.with_deadline(Duration::from_secs(10));
    let id = request_id().unwrap();
    let first = minter.mint(&mint_params(), id);
    assert!(first.is_err(), "the answer was lost");
    let second = minter.mint(&mint_params(), id).unwrap();
    let third = minter.mint(&mint_params(), id).unwrap();
    assert!(second.token.ct_eq(&third.token));
    let listed = signer.must("tokens list", &["--json"]);
    assert_eq!(listed.lines().count(), before + 1, "{listed}");
    let other = Mint { tenant: name("other"), ..mint_params() };
    assert_eq!(code(&minter.mint(&other, id).unwrap_err()), Some(Code::IdempotencyConflict));
    // PR-12, PR-58: no two messages under one number.
    let bodies = between.recorded();
    let numbers: Vec<_> =
        bodies.iter().filter(|(path, _)| path == "/v1/rpc").map(|(_, body)| &body[1..25]).collect();
    let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
    assert_eq!(numbers.len(), distinct.len());
}

/// PR-72: a broken connection is tried again by the client itself, under the same request id.
#[test]
fn a_broken_connection_is_tried_again_by_itself() {
    let signer = signer();
    let between = Between::new(&signer, |count, _, reply| if count == 1 { Reply::Close } else { reply });
    let minter = Remote::new(&[between.address(&signer)], client(&signer, &["mint"])).unwrap();
    minter.mint(&mint_params(), request_id().unwrap()).unwrap();
    assert_eq!(between.recorded().len(), 3);
    assert_eq!(signer.must("tokens list", &["--json"]).lines().count(), 1);
}

/// PR-9: what is in between can refuse, and can neither speak for the signer nor mix answers up.
#[test]
fn what_is_in_between_cannot_speak_for_the_signer() {
    let signer = signer();
    let token = minted(&signer);
    let key = || client(&signer, &["verify"]);
    let spoil = |fault: fn(&Request, Vec<u8>) -> Reply| {
        let between = Between::new(&signer, move |_, request, reply| match reply {
            Reply::Answer(200, _, body) if request.path == "/v1/rpc" => fault(request, body),
            other => other,
        });
        let remote = Remote::new(&[between.address(&signer)], key()).unwrap();
        match verify(&remote, &token).unwrap_err() {
            RemoteError::Unreachable(troubles) => troubles[0].1.clone(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(spoil(|_, _| Reply::ok("<html>maintenance</html>")), Trouble::Foreign(200));
    assert_eq!(spoil(|_, _| Reply::status(502)), Trouble::Foreign(502));
    assert_eq!(spoil(|_, _| Reply::ok(vec![1; 70_000])), Trouble::Foreign(200));
    assert_eq!(
        spoil(|_, mut body| {
            body[20] ^= 1;
            Reply::ok(body)
        }),
        Trouble::NotAuthentic
    );
    assert_eq!(
        spoil(|_, mut body| {
            body[9] ^= 1;
            Reply::ok(body)
        }),
        Trouble::NotAuthentic
    );
    // A refusal that anybody could have written costs a session, and is no verdict.
    assert_eq!(spoil(|_, _| Reply::Answer(409, Vec::new(), vec![1, 1])), Trouble::Session);
}

/// PR-70, PR-71: several addresses, the dead ones first.
#[test]
fn the_nearest_address_that_answers_is_asked() {
    let signer = signer();
    let token = minted(&signer);
    let dead =
        SignerAddress { url: format!("http://127.0.0.1:{}", testkit::free_port()), ..address(&signer) };
    let silent_server = Server::start(|_| Reply::Silence);
    let silent = SignerAddress { url: silent_server.url(), ..address(&signer) };
    let remote = Remote::new(&[dead, silent, address(&signer)], client(&signer, &["verify"])).unwrap();
    let remote = remote.with_deadline(Duration::from_secs(20));
    verify(&remote, &token).unwrap();
    let asked = silent_server.requests();
    // It rests for half a second after the first failure and twice as long after each: for all of these
    // calls to ask it, they would have to take longer than they may.
    for _ in 0..8 {
        verify(&remote, &token).unwrap();
    }
    assert!(silent_server.requests() < asked + 8, "an address that failed is left alone for a while");
}

/// PR-70: of two that answer the nearer one is asked; when it is gone the other one, with nobody noticing, and the nearer
/// one again once it is back.
#[test]
fn of_two_that_answer_the_nearer_one_is_asked() {
    let signer = signer();
    let token = minted(&signer);
    let alone = Remote::new(&[address(&signer)], client(&signer, &["verify"])).unwrap();
    let clock = SystemClock::new();
    verify(&alone, &token).unwrap();
    // Far beyond what the near one takes on this machine, however busy it is.
    let far_away = Duration::from_secs(2) + clock.read().monotonic * 4;
    let far = Between::new(&signer, move |_, _, reply| {
        std::thread::sleep(far_away);
        reply
    });
    let gone = Arc::new(AtomicBool::new(false));
    let near = Between::new(&signer, {
        let gone = Arc::clone(&gone);
        move |_, _, reply| if gone.load(Ordering::SeqCst) { Reply::Close } else { reply }
    });
    let asked = |between: &Between| between.recorded().iter().filter(|(path, _)| path == "/v1/rpc").count();
    let remote =
        Remote::new(&[far.address(&signer), near.address(&signer)], client(&signer, &["verify"])).unwrap();
    let remote = remote.with_deadline(far_away * 4 + Duration::from_secs(60));
    // Each is measured once, whichever was named first.
    for _ in 0..2 {
        verify(&remote, &token).unwrap();
    }
    assert_eq!((asked(&far), asked(&near)), (1, 1));
    for _ in 0..10 {
        verify(&remote, &token).unwrap();
    }
    assert_eq!((asked(&far), asked(&near)), (1, 11));
    gone.store(true, Ordering::SeqCst);
    verify(&remote, &token).unwrap();
    assert_eq!(asked(&far), 2);
    gone.store(false, Ordering::SeqCst);
    let before = asked(&near);
    for calls in 0.. {
        verify(&remote, &token).unwrap();
        if asked(&near) > before {
            break;
        }
        assert!(calls < 100, "it rests for half a second, and each call took two");
    }
}

/// PR-70, PR-32: every address fails at first; after the pause they are asked again, and what was asked for is done once.
#[test]
fn all_addresses_are_tried_a_second_time_under_the_same_request_id() {
    let signer = signer();
    // The handshake goes through; of the calls a broken connection counts twice at its address.
    let failing = || {
        let calls = AtomicUsize::new(0);
        Between::new(&signer, move |_, request, reply| {
            if request.path == "/v1/rpc" && calls.fetch_add(1, Ordering::SeqCst) < 2 {
                return Reply::Close;
            }
            reply
        })
    };
    let between = [failing(), failing()];
    let addresses = between.each_ref().map(|between| between.address(&signer));
    let before = signer.must("tokens list", &["--json"]).lines().count();
    let minter = Remote::new(&addresses, client(&signer, &["mint"])).unwrap();
    minter.with_deadline(Duration::from_secs(60)).mint(&mint_params(), request_id().unwrap()).unwrap();
    let calls: usize = between
        .iter()
        .map(|between| between.recorded().iter().filter(|(path, _)| path == "/v1/rpc").count())
        .sum();
    assert_eq!(calls, 5, "two at each address, then one that is answered");
    // The signer got all five and answered the last with what it had done at the first.
    assert_eq!(signer.must("tokens list", &["--json"]).lines().count(), before + 1);
}

/// PR-71.
#[test]
fn a_signer_behind_a_unix_socket_is_asked_as_any_other() {
    let socket = testkit::TempDir::new();
    let address = format!("unix:{}", socket.join("rpc.sock").display());
    let arguments = vec!["--rpc".to_owned(), address.clone()];
    let mut signer = Running::start_with(testkit::signer::With { arguments, ..Default::default() });
    signer.must("keys create", &["--tenant", "acme"]);
    // The trust file that the signer writes names it.
    let trust = Trust::from_file(&signer.trust()).unwrap();
    let unix = trust.signers.iter().find(|signer| signer.url == address).unwrap().clone();
    let both = client(&signer, &["mint"]);
    let minter = Remote::new(std::slice::from_ref(&unix), both).unwrap();
    let token = minter.mint(&mint_params(), request_id().unwrap()).unwrap();
    let verifier = Remote::new(&[unix], client(&signer, &["verify"])).unwrap();
    // Many threads, over connections that are kept.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| drop(verify(&verifier, &token).unwrap())));
        }
    });
    signer.stop();
    let gone = verify(&verifier, &token).unwrap_err();
    assert!(matches!(gone, RemoteError::Unreachable(_)) && gone.to_string().contains(&address), "{gone}");
    // A restart is not noticed: a kept connection that has ended is replaced.
    signer.serve();
    verify(&verifier, &token).unwrap();
    signer.kill();
    signer.serve();
    verify(&verifier, &token).unwrap();
}

#[test]
fn a_call_ends_at_its_deadline() {
    let signer = signer();
    let token = minted(&signer);
    let silent_server = Server::start(|_| Reply::Silence);
    let silent = SignerAddress { url: silent_server.url(), ..address(&signer) };
    let remote = Remote::new(&[silent], client(&signer, &["verify"])).unwrap();
    let remote = remote.with_deadline(Duration::from_millis(300));
    assert!(matches!(verify(&remote, &token).unwrap_err(), RemoteError::Deadline(_)));
}

#[test]
fn revoking_by_a_floor_in_the_future_is_refused_by_its_owner() {
    let signer = signer();
    let revoker = remote(&signer, &["revoke"]);
    let at = tkcore::Timestamp::from_rfc3339("2999-01-01T00:00:00Z").unwrap();
    let params = Revoke { target: RevokeTarget::Global(Floor::At(at)), reason: Text::default() };
    let error = revoker.revoke(&params, RequestId::from_bytes([1; 16])).unwrap_err();
    assert_eq!(code(&error), Some(Code::BadTime));
}
