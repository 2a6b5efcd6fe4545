//! Who is no client, and what is no message: constant answers, and nobody else is disturbed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use testkit::signer::Running;
use tkcore::Timestamp;
use tkcore::protocol::*;

use super::wire::{Connection, Key, Line, PATIENCE, pinned};
use super::{mint_params, name, signer, verify_params};

/// A verifier in the middle of its work, and what it asks.
fn client(signer: &Running) -> (Line, Verify) {
    let mut minter = Line::open(signer, &Key::allowed(signer, &["mint"])).unwrap();
    let token = minter.call(&mint_params("acme")).unwrap();
    let line = Line::open(signer, &Key::allowed(signer, &["verify"])).unwrap();
    (line, verify_params(&token))
}

/// PR-52: not who has the wrong key, nor who asks for another signer's, learns which it was.
#[test]
fn a_wrong_client_key_and_a_wrong_server_key_get_the_same_answer() {
    let signer = signer();
    let known = Key::allowed(&signer, &["verify"]);
    Line::open(&signer, &known).unwrap();
    let refused = Some((403, vec![1, 2]));
    assert_eq!(Line::open(&signer, &Key::generate()).err(), refused, "a key that is no client's");
    let other = *Key::generate().public.as_bytes();
    assert_eq!(Line::at(signer.rpc(), &other, &known).err(), refused, "another signer's key is pinned");
    let second = super::signer();
    assert_eq!(Line::at(second.rpc(), &pinned(&signer), &known).err(), refused, "the other signer itself");
    assert_eq!(Line::open(&second, &known).err(), refused, "a client of another signer");
}

/// The key of an expired client opens a session that is good for nothing.
#[test]
fn an_expired_client_is_refused_in_its_live_session_and_in_a_new_one() {
    let signer = signer();
    let (_, verify) = client(&signer);
    let mut operator = Line::open(&signer, &Key::allowed(&signer, &["operator"])).unwrap();
    let key = Key::generate();
    // Where the machine stood still until after that end, a later one is asked for.
    let expiry = loop {
        let now = operator.call(&Status {}).unwrap().now;
        let expiry = Timestamp::from_millis(now.millis() + 2_000).unwrap();
        let role = Role::Verify(None);
        let add = ClientAdd { key: key.public, name: name("short"), role, expiry: Some(expiry) };
        match operator.call(&add) {
            Ok(_) => break expiry,
            Err(error) => assert_eq!(error.code, Code::BadTime),
        }
    };
    let mut line = Line::open(&signer, &key).unwrap();
    let code = loop {
        let now = operator.call(&Status {}).unwrap().now;
        match line.call(&verify) {
            Ok(_) => assert!(now < expiry, "verified after its end"),
            Err(error) => break error.code,
        }
    };
    assert!(operator.call(&Status {}).unwrap().now >= expiry);
    assert_eq!(code, Code::ClientSuspended);
    for line in [&mut line, &mut Line::open(&signer, &key).unwrap()] {
        for operation in Operation::ALL {
            let mut payload = operation.code().to_be_bytes().to_vec();
            payload.push(0);
            payload.extend_from_slice(line.id().as_bytes());
            let constant = Response::error(&Code::ClientSuspended.error());
            assert_eq!(line.ask(&payload).unwrap(), constant, "{operation}");
        }
    }
}

/// Bytes that look like nothing, the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(byte).collect()
}

/// PR-2, PR-3, PR-8, PR-57, PR-61.
#[test]
fn garbage_gets_constant_answers_and_hurts_no_session() {
    let signer = signer();
    let (mut line, verify) = client(&signer);
    let mut connection = Connection::to(signer.rpc());
    let (body, version) = ((400, vec![1, 5]), (400, vec![1, 4, 1, 1]));
    for round in 0..40 {
        for length in [0, 1, 2, 16, 24, 40, 41, 96, 97, 98, 128, 1000, 65_560] {
            let mut bytes = noise(length, round * 1000 + length as u64 + 1);
            if let Some(first) = bytes.first_mut() {
                *first = if round % 4 == 0 { 2 } else { 1 };
            }
            let wrong_version = length > 0 && round % 4 == 0;
            if length <= SESSION_BODY_BYTES {
                let expected = match length {
                    _ if wrong_version => version.clone(),
                    97 => (403, vec![1, 2]),
                    _ => body.clone(),
                };
                let got = connection.post(SESSION_PATH, &bytes).unwrap();
                // Past the rate of handshakes of this address the answer is another constant.
                assert!(got == expected || got == (503, vec![1, 3]), "session {length}: {got:?}");
            }
            let expected = match length {
                _ if wrong_version => version.clone(),
                0..=40 => body.clone(),
                _ => (409, vec![1, 1]),
            };
            assert_eq!(connection.post(RPC_PATH, &bytes).unwrap(), expected, "rpc {length}");
        }
        // In the session of somebody else: a changed message, and a number taken from it.
        let mut changed = line.seal(b"\0\x01 no request");
        let at = 1 + (round as usize * 7) % (changed.len() - 1);
        changed[at] ^= 0x20;
        assert_eq!(connection.post(RPC_PATH, &changed).unwrap(), (409, vec![1, 1]), "byte {at}");
        line.call(&verify).unwrap();
    }
    // Authentic nonsense is answered inside the session, which goes on.
    for length in [0, 1, 2, 18, 19, 20, 1000, PAYLOAD_BYTES] {
        let answer = line.ask(&noise(length, length as u64 + 5)).unwrap();
        let Ok(Response::Error(error)) = Response::decode(&answer) else { panic!("{length}") };
        assert!(matches!(error.code, Code::BadParameters | Code::UnknownOperation), "{length}: {error}");
    }
    line.call(&verify).unwrap();
}

/// PR-1: at the limit, and one past it, announced or in pieces.
#[test]
fn a_body_past_its_limit_is_cut() {
    let signer = signer();
    let (mut line, verify) = client(&signer);
    for (path, limit) in [(SESSION_PATH, SESSION_BODY_BYTES), (RPC_PATH, RPC_BODY_BYTES)] {
        let post = |length: usize| Connection::to(signer.rpc()).post(path, &vec![1; length]).unwrap().0;
        assert_ne!(post(limit), 413, "{path}");
        // The server answers before it has read, so the client may find the connection closed;
        // what is announced is enough.
        let mut announced = Connection::to(signer.rpc());
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", limit + 1);
        announced.send(head.as_bytes()).unwrap();
        assert_eq!(announced.answer().unwrap().0, 413, "{path}");
        let huge = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1u64 << 40);
        let mut announced = Connection::to(signer.rpc());
        announced.send(huge.as_bytes()).unwrap();
        assert_eq!(announced.answer().unwrap().0, 413, "{path}");
        // In pieces, with no length announced.
        let mut chunked = Connection::to(signer.rpc());
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        chunked.send(head.as_bytes()).unwrap();
        let chunk = [format!("{:x}\r\n", limit + 1).as_bytes(), &vec![1; limit + 1], b"\r\n"].concat();
        chunked.send(&chunk).unwrap();
        assert_eq!(chunked.answer().unwrap().0, 413, "{path}");
    }
    line.call(&verify).unwrap();
}

/// Sends `head`, then a byte of `rest` every now and then, until the server has enough of it; what
/// it said.
fn slowly(address: &str, head: &str, rest: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let (mut said, mut rest) = (Vec::new(), rest.bytes());
    for _ in 0..2 * PATIENCE.as_secs() * 5 {
        if let Some(byte) = rest.next() {
            // A connection that is closed shows below.
            let _ = stream.write_all(&[byte]);
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return String::from_utf8(said).unwrap(),
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return String::from_utf8(said).unwrap(),
        }
    }
    panic!("a slow client is still connected; it was told {:?}", String::from_utf8(said));
}

/// A byte a while in the header, or in the body, ends by a time limit; so does saying nothing.
#[test]
fn slow_headers_and_slow_bodies_are_cut_while_sessions_go_on() {
    let signer = signer();
    let (mut line, verify) = client(&signer);
    let start = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: x\r\n");
    let body = |path: &str| format!("{}content-length: 97\r\n\r\n", start(path));
    let endless = format!("x: {}", "y".repeat(4000));
    // Where, what comes at once, what comes slowly, whether the server says why.
    let clients = [
        (signer.rpc(), start(RPC_PATH), endless.clone(), false),
        (signer.public(), start("/readyz"), endless.clone(), false),
        (signer.metrics(), start("/metrics"), endless, false),
        (signer.rpc(), String::new(), String::new(), false),
        (signer.rpc(), body(RPC_PATH), "\u{1}".repeat(96), true),
        (signer.rpc(), body(SESSION_PATH), "\u{1}".repeat(96), true),
    ];
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .map(|(to, head, rest, told)| (scope.spawn(move || slowly(to, head, rest)), *told))
            .collect();
        let mut done = 0;
        while !threads.iter().all(|(thread, _)| thread.is_finished()) {
            line.call(&verify).unwrap();
            done += 1;
        }
        assert!(done > 100, "the session was served meanwhile: {done}");
        for (at, (thread, told)) in threads.into_iter().enumerate() {
            let said = thread.join().unwrap();
            assert!(said.starts_with("HTTP/1.1 408") || (said.is_empty() && !told), "{at}: {said:?}");
        }
    });
    line.call(&verify).unwrap();
}
