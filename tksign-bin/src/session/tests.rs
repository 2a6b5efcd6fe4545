use std::time::{Duration, Instant};

use snow::{Builder, StatelessTransportState};
use tkcore::protocol::{
    ClientKey, Frame, NOISE, Rate, Refused, RpcAnswer, RpcRequest, SessionId, SessionRequest, prologue,
};
use zeroize::Zeroizing;

use super::{ServerKey, Sessions};
use crate::clock::monotonic;

const RATE: Rate = Rate { per_second: 100, burst: 100 };

struct Keys {
    secret: [u8; 32],
    public: [u8; 32],
}

fn keys() -> Keys {
    let pair = Builder::new(NOISE.parse().unwrap()).generate_keypair().unwrap();
    Keys { secret: pair.private.try_into().unwrap(), public: pair.public.try_into().unwrap() }
}

fn sessions(server: &Keys) -> Sessions {
    let secret = server.secret;
    Sessions::new(ServerKey::new(move || (Zeroizing::new(secret), None)), RATE)
}

/// A client written against `snow` and the specification, not against our own client.
struct Client {
    id: SessionId,
    transport: StatelessTransportState,
}

fn handshake(client: &Keys, server: &[u8; 32]) -> (snow::HandshakeState, SessionRequest) {
    let mut state = Builder::new(NOISE.parse().unwrap())
        .local_private_key(&client.secret)
        .unwrap()
        .remote_public_key(server)
        .unwrap()
        .prologue(&prologue(1))
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut message = [0; 96];
    assert_eq!(state.write_message(&[], &mut message).unwrap(), 96);
    (state, SessionRequest { version: 1, handshake: message })
}

fn client_key(keys: &Keys) -> ClientKey {
    ClientKey::from_bytes(keys.public)
}

fn open(sessions: &Sessions, client: &Keys, server: &Keys, now: Instant) -> Client {
    let (mut state, request) = handshake(client, &server.public);
    let answer = sessions.open(&request, now, |key| *key == client_key(client)).unwrap();
    assert_eq!(state.read_message(&answer.handshake, &mut []).unwrap(), 0);
    Client { id: answer.session, transport: state.into_stateless_transport_mode().unwrap() }
}

/// PR-13: during an overlap both keys are answered, and no third one.
#[test]
fn an_old_static_key_is_accepted_until_it_is_retired() {
    let (current, before, other, client) = (keys(), keys(), keys(), keys());
    let old = std::sync::Arc::new(std::sync::Mutex::new(Some(Zeroizing::new(before.secret))));
    let (secret, held) = (current.secret, std::sync::Arc::clone(&old));
    let now = monotonic();
    let statics = move || (Zeroizing::new(secret), held.lock().unwrap().clone());
    let sessions = Sessions::new(ServerKey::new(statics), RATE);
    let refused = |server: &Keys| {
        let (_, request) = handshake(&client, &server.public);
        sessions.open(&request, now, |_| true).err()
    };
    for server in [&current, &before] {
        let opened = open(&sessions, &client, server, now);
        assert!(sessions.request(&opened.say(0, b"x"), now).is_ok());
    }
    let kept = open(&sessions, &client, &before, now);
    *old.lock().unwrap() = None;
    assert_eq!(refused(&before), Some(Refused::Handshake));
    assert_eq!(refused(&other), Some(Refused::Handshake));
    assert_eq!(refused(&current), None);
    // What was opened before goes on, and ends as every session does.
    assert!(sessions.request(&kept.say(0, b"x"), now).is_ok());
}

impl Client {
    fn say(&self, number: u64, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; payload.len() + 16];
        self.transport.write_message(number, payload, &mut message).unwrap();
        RpcRequest { version: 1, session: self.id, number, message: &message }.encode()
    }

    fn hear(&self, number: u64, body: &[u8]) -> Vec<u8> {
        let Frame::Accepted(RpcAnswer { number: answered, message }) =
            Frame::<RpcAnswer<'_>>::decode(body).unwrap()
        else {
            panic!("refused")
        };
        assert_eq!(answered, number);
        let mut payload = vec![0; message.len()];
        let len = self.transport.read_message(number, message, &mut payload).unwrap();
        payload.truncate(len);
        payload
    }
}

/// PR-50, PR-56: a call and its answer; calls out of order and interleaved.
#[test]
fn calls_are_answered_in_any_order() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let session = open(&sessions, &client, &server, now);
    let mut opened = Vec::new();
    for number in [2, 0, 900, 1] {
        let request = sessions.request(&session.say(number, b"hello"), now).unwrap();
        assert_eq!(request.client, client_key(&client));
        assert_eq!(request.payload.as_slice(), b"hello");
        opened.push((number, request));
    }
    for (number, request) in opened.into_iter().rev() {
        let payload = number.to_be_bytes();
        assert_eq!(session.hear(number, &request.answer(&payload)), payload);
    }
}

/// PR-58: what was said once is never heard again.
#[test]
fn a_recorded_request_is_refused() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let first = sessions(&server);
    let session = open(&first, &client, &server, now);
    let recorded = session.say(0, b"mint");
    first.request(&recorded, now).unwrap();
    assert_eq!(first.request(&recorded, now).err(), Some(Refused::Session));
    // PR-59: nor by the same signer after a restart.
    let second = sessions(&server);
    assert_eq!(second.request(&recorded, now).err(), Some(Refused::Session));
}

/// PR-57: garbage marks nothing and ends nothing.
#[test]
fn garbage_does_not_hurt_a_session() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let session = open(&sessions, &client, &server, now);
    sessions.request(&session.say(0, b"a"), now).unwrap();
    let good = session.say(1, b"b");
    for at in 25..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(sessions.request(&bad, now).err(), Some(Refused::Session), "byte {at}");
    }
    let mut renumbered = good.clone();
    renumbered[24] ^= 2;
    assert_eq!(sessions.request(&renumbered, now).err(), Some(Refused::Session));
    assert_eq!(sessions.request(&good[..40], now).err(), Some(Refused::Body));
    sessions.request(&good, now).unwrap();
}

/// PR-52, PR-53: one constant answer, whatever is wrong with a handshake.
#[test]
fn strangers_and_wrong_keys_are_refused_alike() {
    let (server, client, other, now) = (keys(), keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let (_, good) = handshake(&client, &server.public);
    assert_eq!(sessions.open(&good, now, |_| false).err(), Some(Refused::Handshake));
    let (_, wrong_server) = handshake(&client, &other.public);
    assert_eq!(sessions.open(&wrong_server, now, |_| true).err(), Some(Refused::Handshake));
    let garbage = SessionRequest { version: 1, handshake: [7; 96] };
    assert_eq!(sessions.open(&garbage, now, |_| true).err(), Some(Refused::Handshake));
    let mut other_version = good;
    other_version.version = 2;
    assert_eq!(sessions.open(&other_version, now, |_| true).err(), Some(Refused::Handshake));
    assert_eq!(sessions.counts(), (0, 0));
}

/// PR-2, PR-8: the version in clear is judged first.
#[test]
fn another_version_is_told_ours() {
    let sessions = sessions(&keys());
    let refused = Refused::Version { lowest: 1, highest: 1 };
    assert_eq!(Sessions::read_handshake(&[2]).err(), Some(refused));
    assert_eq!(Sessions::read_handshake(&[]).err(), Some(Refused::Body));
    assert_eq!(Sessions::read_handshake(&[1; 96]).err(), Some(Refused::Body));
    assert!(Sessions::read_handshake(&[1; 97]).is_ok());
    assert_eq!(sessions.request(&[2, 0], monotonic()).err(), Some(refused));
    assert_eq!(sessions.request(&[1, 0], monotonic()).err(), Some(Refused::Body));
}

/// PR-54, PR-55: replayed handshakes fill a small table of their own, in their own client's
/// share, for ten seconds.
#[test]
fn replayed_handshakes_evict_nobody() {
    let (server, client, victim, now) = (keys(), keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let in_use = open(&sessions, &client, &server, now);
    sessions.request(&in_use.say(0, b"x"), now).unwrap();
    let others = open(&sessions, &victim, &server, now);

    // The same client's own, on its way to the first request, while one recording comes again and again.
    let (_, recorded) = handshake(&client, &server.public);
    sessions.open(&recorded, now, |_| true).unwrap();
    let waiting = open(&sessions, &client, &server, now);
    for _ in 0..100 {
        assert_eq!(sessions.open(&recorded, now, |_| true).err(), Some(Refused::Busy));
    }
    assert_eq!(sessions.counts(), (1 + 1 + 1, 1));
    sessions.request(&waiting.say(0, b"x"), now).unwrap();
    // Many recordings have their own client's share and no more.
    for _ in 0..100 {
        let (_, recorded) = handshake(&client, &server.public);
        sessions.open(&recorded, now, |_| true).unwrap();
    }
    assert_eq!(sessions.counts(), (16 + 1, 2));
    sessions.request(&in_use.say(1, b"x"), now).unwrap();
    sessions.request(&others.say(0, b"x"), now).unwrap();
    assert_eq!(sessions.counts(), (16, 3));

    let later = now + Duration::from_secs(10);
    sessions.sweep(later);
    assert_eq!(sessions.counts(), (0, 3));
    sessions.open(&recorded, later, |_| true).unwrap();
}

#[test]
fn an_unconfirmed_session_ends_after_ten_seconds_even_unswept() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let session = open(&sessions, &client, &server, now);
    let just = now + Duration::from_millis(9_999);
    let late = now + Duration::from_secs(10);
    assert_eq!(sessions.request(&session.say(0, b"x"), late).err(), Some(Refused::Session));
    sessions.request(&session.say(0, b"x"), just).unwrap();
    sessions.request(&session.say(1, b"x"), late).unwrap();
}

/// PR-60: keys are replaced every hour, idle sessions end after 15 minutes.
#[test]
fn sessions_end() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let busy = open(&sessions, &client, &server, now);
    let idle = open(&sessions, &client, &server, now);
    sessions.request(&idle.say(0, b"x"), now).unwrap();
    for minute in 0..60 {
        let at = now + Duration::from_secs(60 * minute);
        let result = sessions.request(&busy.say(minute, b"x"), at);
        // Never used within ten seconds of its opening, had minute 0 been left out.
        assert!(result.is_ok(), "minute {minute}");
    }
    let quarter = now + Duration::from_secs(900);
    assert_eq!(sessions.request(&idle.say(1, b"x"), quarter).err(), Some(Refused::Session));
    let hour = now + Duration::from_secs(3600);
    assert_eq!(sessions.request(&busy.say(60, b"x"), hour).err(), Some(Refused::Session));
    assert_eq!(sessions.counts(), (0, 0));
}

#[test]
fn one_client_has_64_sessions_and_the_idlest_makes_room() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let at = |index: u64| now + Duration::from_millis(index);
    let mut open_ones = Vec::new();
    for index in 0..65 {
        let session = open(&sessions, &client, &server, at(index));
        sessions.request(&session.say(0, b"x"), at(index)).unwrap();
        open_ones.push(session);
    }
    assert_eq!(sessions.counts(), (0, 64));
    assert_eq!(sessions.request(&open_ones[0].say(1, b"x"), at(70)).err(), Some(Refused::Session));
    sessions.request(&open_ones[1].say(1, b"x"), at(70)).unwrap();
}

/// PR-61: a number the session will never live to see.
#[test]
fn numbers_at_the_limit_and_one_past_it() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let session = open(&sessions, &client, &server, now);
    sessions.request(&session.say((1 << 48) - 1, b"x"), now).unwrap();
    assert_eq!(sessions.request(&session.say(1 << 48, b"x"), now).err(), Some(Refused::Session));
}

/// PR-62: removing a client ends its sessions.
#[test]
fn a_forgotten_client_has_no_session() {
    let (server, client, other, now) = (keys(), keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let session = open(&sessions, &client, &server, now);
    let others = open(&sessions, &other, &server, now);
    sessions.request(&session.say(0, b"x"), now).unwrap();
    sessions.forget(&client_key(&client));
    assert_eq!(sessions.request(&session.say(1, b"x"), now).err(), Some(Refused::Session));
    sessions.request(&others.say(0, b"x"), now).unwrap();
}

/// PR-63.
#[test]
fn a_client_is_allowed_its_rate() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    for _ in 0..100 {
        assert!(sessions.allow(&client_key(&client), now).is_ok());
    }
    assert!(sessions.allow(&client_key(&client), now).is_err());
    assert!(sessions.allow(&client_key(&keys()), now).is_ok());
}

/// PR-35: an answer past a payload is not sent cut.
#[test]
fn an_answer_too_long_for_a_message_is_refused_whole() {
    let (server, client, now) = (keys(), keys(), monotonic());
    let sessions = sessions(&server);
    let session = open(&sessions, &client, &server, now);
    let fits = sessions.request(&session.say(0, b"x"), now).unwrap().answer(&vec![1; 65_519]);
    assert_eq!(session.hear(0, &fits).len(), 65_519);
    let past = sessions.request(&session.say(1, b"x"), now).unwrap().answer(&vec![1; 65_520]);
    assert_eq!(Frame::<RpcAnswer<'_>>::decode(&past), Ok(Frame::Refused(Refused::Session)));
}
