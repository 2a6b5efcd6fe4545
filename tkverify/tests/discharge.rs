//! The discharge protocol over real sockets: what an authority may answer, and what a client
//! must not do whatever it answers (docs/spec/third-party.md, TP-60 and following).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly on their own"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::http::{Reply as HttpReply, Request as HttpRequest, Server};
use tkcore::danger::NoRevocations;
use tkcore::plain::Macaroon;
use tkcore::{
    AuthorityId, AuthorityKeys, Budget, CaveatKey, DischargeFault, Error, OpenTicket, Request, RootKey,
    SealTo, SharedKey, TextKind, Timestamp, TokenBuf, Vocabulary, attenuate_third_party, seal_ticket,
};
use tkverify::discharge::{
    Authority, Desk, DeskError, DischargeClient, DischargeError, Pause, PollId, Reply, Wallet,
};
use tkverify::{Clock, Reading};

const START: u64 = 1_795_435_200;

fn authority() -> AuthorityId {
    AuthorityId::from_bytes([0xa1; 16])
}

fn shared() -> SharedKey {
    SharedKey::from_bytes([0x51; 32])
}

fn ticket(seed: u8) -> (Vec<u8>, CaveatKey) {
    let key = CaveatKey::from_bytes([seed; 32]);
    let to = SealTo::Shared { key: &shared(), nonce: &[seed; 24] };
    (seal_ticket(authority(), &to, &key, &["subject = ann"]).unwrap(), key)
}

fn root_key() -> RootKey {
    RootKey::derive(b"root")
}

/// A token with one third-party caveat.
fn token(seed: u8) -> TokenBuf {
    let macaroon = Macaroon::create(&root_key(), b"the token", None).unwrap();
    let plain = TokenBuf::from_v2(macaroon.to_v2().to_vec()).unwrap();
    let (ticket, key) = ticket(seed);
    let said = Some("https://auth.example");
    attenuate_third_party(&plain.as_token(), said, &ticket, &key, &[seed; 24]).unwrap()
}

/// Time that passes only when somebody waits.
#[derive(Debug, Default)]
struct Time {
    millis: AtomicU64,
}

impl Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(START * 1000 + self.millis.load(Ordering::SeqCst)).unwrap()
    }

    fn pass(&self, duration: Duration) {
        self.millis.fetch_add(u64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Time {
    fn read(&self) -> Reading {
        Reading { wall: self.now(), monotonic: Duration::from_millis(self.millis.load(Ordering::SeqCst)) }
    }
}

struct Waiting(Arc<Time>, Arc<Mutex<Vec<Duration>>>);

impl Pause for Waiting {
    fn pause(&self, duration: Duration) {
        self.0.pass(duration);
        self.1.lock().unwrap().push(duration);
    }
}

struct Bench {
    time: Arc<Time>,
    pauses: Arc<Mutex<Vec<Duration>>>,
}

impl Bench {
    fn new() -> Self {
        Self { time: Arc::default(), pauses: Arc::default() }
    }

    fn client(&self, url: &str) -> DischargeClient {
        DischargeClient::new()
            .with_authority(authority(), Authority::new(url).unwrap())
            .with_time(self.time.clone(), Waiting(self.time.clone(), self.pauses.clone()))
    }
}

fn desk() -> Desk {
    Desk::new(AuthorityKeys::new(authority()).with_shared(shared()))
}

fn clear(ticket: OpenTicket, subject: &str, now: Timestamp) -> Result<tkcore::ClearedTicket, Error> {
    let request = Request::builder("login", now).action("discharge").build().unwrap();
    ticket.clear(&request, Some(subject), &Vocabulary::native(), &mut Budget::default())
}

fn http(reply: Reply) -> HttpReply {
    let seconds = reply.retry_after.map(|seconds| seconds.to_string());
    let answer = HttpReply::Answer(reply.status, Vec::new(), reply.body.into_bytes());
    match seconds {
        None => answer,
        Some(seconds) => answer.with("Retry-After", &seconds),
    }
}

fn answer(desk: &Desk, request: &HttpRequest, now: Timestamp) -> HttpReply {
    let reply = desk.open(&request.body).and_then(|ticket| {
        let cleared = clear(ticket, "ann", now).map_err(DeskError::NotCleared)?;
        desk.immediate(&cleared, Duration::from_secs(100), &[])
    });
    http(reply.unwrap_or_else(|error| error.reply()))
}

fn accepted(token: &TokenBuf, authorization: &str) {
    let mut texts = authorization.strip_prefix("Bearer ").unwrap().split(',');
    let (kind, sent) = TokenBuf::from_text(texts.next().unwrap()).unwrap();
    assert_eq!((kind, sent.as_token().as_v2()), (TextKind::Root, token.as_token().as_v2()));
    let root = Macaroon::from_bytes_lenient(sent.as_token().as_v2()).unwrap();
    let discharges: Vec<_> = texts
        .map(|text| {
            let (kind, discharge) = TokenBuf::from_text(text).unwrap();
            assert_eq!(kind, TextKind::Discharge);
            Macaroon::from_bytes_lenient(discharge.as_token().as_v2()).unwrap()
        })
        .collect();
    let verified = root.verify(&root_key(), &discharges, &mut Budget::default()).unwrap();
    verified.clear_each(&NoRevocations, None, |_| tkcore::plain::Verdict::Admits).unwrap();
}

fn body(seed: u8) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (bytes, _) = ticket(seed);
    let mut bits =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1))).peekable();
    let mut text = String::new();
    while bits.peek().is_some() {
        let index = (0..6).fold(0, |sum, _| sum << 1 | bits.next().unwrap_or(0));
        text.push(char::from(LETTERS[index]));
    }
    serde_json::json!({ "ticket": text }).to_string()
}

/// TP-61: the discharge at once.
#[test]
fn an_immediate_answer() {
    let bench = Bench::new();
    let (desk, time) = (desk(), bench.time.clone());
    let server = Server::start(move |request| {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/discharge"));
        answer(&desk, request, time.now())
    });
    let mut wallet = Wallet::new(token(1));
    let missing = wallet.authorization(bench.time.now()).unwrap_err();
    assert!(matches!(missing, Error::Discharge(DischargeFault::Missing(_))));
    assert!(missing.to_string().contains("https://auth.example"), "{missing}");
    let client = bench.client(&format!("{}/v1/discharge", server.url()));
    assert_eq!(wallet.refresh(&client).unwrap().fetched, 1);
    accepted(wallet.token(), &wallet.authorization(bench.time.now()).unwrap());
    assert_eq!(wallet.refresh(&client).unwrap().fetched, 0);
    assert_eq!(server.requests(), 1);
}

/// TP-62, TP-66: a relative address to poll; an answer that was lost on the way comes again.
#[test]
fn a_poll_and_an_answer_that_was_lost() {
    let bench = Bench::new();
    let (desk, time) = (desk(), bench.time.clone());
    let polls = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let polls = polls.clone();
        move |request| {
            let now = time.now();
            if request.method == "POST" {
                let ticket = desk.open(&request.body).unwrap();
                return http(desk.defer(ticket, now, |id| format!("poll/{}", id.to_text()), None).unwrap().1);
            }
            let id = PollId::from_text(request.path.strip_prefix("/v1/poll/").unwrap()).unwrap();
            match polls.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => http(desk.poll(&id, now)),
                2 => {
                    let life = Duration::from_secs(60);
                    desk.decide(&id, now, life, &[], |ticket| clear(ticket, "ann", now)).unwrap();
                    assert_eq!(desk.poll(&id, now).status, 200);
                    HttpReply::Close
                }
                _ => http(desk.poll(&id, now)),
            }
        }
    });
    let client = bench.client(&format!("{}/v1/discharge", server.url()));
    let (ticket, _) = ticket(1);
    let discharge = client.discharge(&ticket, None).unwrap();
    assert_eq!(discharge.as_token().describe_untrusted().identifier_bytes(), ticket);
    assert!(polls.load(Ordering::SeqCst) >= 4);
    let pauses = bench.pauses.lock().unwrap();
    assert!(pauses[..2].iter().all(|pause| *pause >= Duration::from_secs(1)), "Retry-After: {pauses:?}");
}

/// TP-66: what was decided stays the same until it expires, and is gone afterwards.
#[test]
fn delivery_is_idempotent_until_it_expires() {
    let (desk, time) = (desk(), Time::default());
    let open = desk.open(body(1).as_bytes()).unwrap();
    let (id, reply) = desk.defer(open, time.now(), |_| "/p".to_owned(), None).unwrap();
    assert_eq!(reply.status, 202);
    assert_eq!(desk.poll(&id, time.now()).status, 202);
    assert_eq!(desk.describe(&id, time.now()).unwrap(), ["subject = ann"]);
    let decide = |desk: &Desk| {
        desk.decide(&id, time.now(), Duration::from_secs(60), &[], |ticket| clear(ticket, "ann", time.now()))
    };
    decide(&desk).unwrap();
    let first = desk.poll(&id, time.now());
    assert_eq!((first.status, desk.poll(&id, time.now())), (200, first.clone()));
    assert_eq!(decide(&desk), Err(DeskError::Decided));
    assert_eq!(desk.refuse(&id, time.now(), "x", "y"), Err(DeskError::Decided));
    time.pass(Duration::from_secs(600));
    assert_eq!(desk.poll(&id, time.now()).status, 410);
    assert_eq!(decide(&desk), Err(DeskError::Unknown));
}

/// TP-65: a ticket that does not clear discharges nothing, at once or later.
#[test]
fn what_is_not_cleared_is_not_discharged() {
    let (desk, time) = (desk(), Time::default());
    let open = || desk.open(body(1).as_bytes()).unwrap();
    assert!(matches!(clear(open(), "bob", time.now()), Err(Error::Refused(_))));
    let (id, _) = desk.defer(open(), time.now(), |_| "/p".to_owned(), None).unwrap();
    let life = Duration::from_secs(60);
    let decided = desk.decide(&id, time.now(), life, &[], |ticket| clear(ticket, "bob", time.now()));
    assert!(matches!(decided, Err(DeskError::NotCleared(_))));
    assert_eq!(desk.poll(&id, time.now()).status, 403);
    for body in ["", "{}", r#"{"ticket":"!"}"#, r#"{"ticket":"AAAA"}"#] {
        assert_eq!(desk.open(body.as_bytes()).unwrap_err().reply().status, 400, "{body}");
    }
}

/// An authority that wants a person, whose page is at `user_url`.
fn with_person(bench: &Bench, user_url: &'static str) -> (Server, Arc<Desk>) {
    let (desk, time) = (Arc::new(desk()), bench.time.clone());
    let kept = desk.clone();
    let server = Server::start(move |request| {
        if request.method == "POST" {
            let ticket = desk.open(&request.body).unwrap();
            let user = |id: &PollId| format!("{user_url}?id={}", id.to_text());
            let poll = |id: &PollId| format!("/poll/{}", id.to_text());
            return http(desk.defer(ticket, time.now(), poll, Some(&user)).unwrap().1);
        }
        let id = PollId::from_text(request.path.strip_prefix("/poll/").unwrap()).unwrap();
        http(desk.poll(&id, time.now()))
    });
    (server, kept)
}

/// TP-63: a person is shown a checked address, once, and the poll ends with the discharge.
#[test]
fn a_person_in_the_loop() {
    let bench = Bench::new();
    let (server, desk) = with_person(&bench, "/login");
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (seen, time) = (shown.clone(), bench.time.clone());
    let client = bench.client(&server.url()).with_person(move |id, url| {
        assert_eq!(id, authority());
        seen.lock().unwrap().push(url.to_owned());
        let poll = PollId::from_text(url.split_once("?id=").unwrap().1).unwrap();
        let now = time.now();
        desk.decide(&poll, now, Duration::from_secs(60), &[], |ticket| clear(ticket, "ann", now)).unwrap();
    });
    client.discharge(&ticket(1).0, None).unwrap();
    let shown = shown.lock().unwrap();
    assert_eq!(shown.len(), 1);
    assert!(shown[0].starts_with(&format!("{}/login?id=", server.url())), "{shown:?}");
}

/// TP-64: with nobody there, nothing is shown and nothing waits.
#[test]
fn without_a_person_it_fails_at_once() {
    let bench = Bench::new();
    let (server, _) = with_person(&bench, "/login");
    let error = bench.client(&server.url()).discharge(&ticket(1).0, None).unwrap_err();
    assert_eq!(error, DischargeError::NeedsPerson { authority: authority() });
    assert_eq!((server.requests(), bench.pauses.lock().unwrap().len()), (1, 0));
}

/// TP-67: a person is never sent to an origin that was not configured.
#[test]
fn a_page_of_another_origin_is_not_shown() {
    let bench = Bench::new();
    let (server, _) = with_person(&bench, "https://evil.example/login");
    let client = bench.client(&server.url()).with_person(|_, url| panic!("shown: {url}"));
    let error = client.discharge(&ticket(1).0, None).unwrap_err();
    assert!(matches!(error, DischargeError::OtherOrigin { .. }), "{error}");
    assert!(error.to_string().contains("https://evil.example"), "{error}");

    let (server, desk) = with_person(&bench, "https://login.example/page");
    let configured =
        Authority::new(&server.url()).unwrap().with_user_origin("https://login.example").unwrap();
    let time = bench.time.clone();
    let client =
        bench.client(&server.url()).with_authority(authority(), configured).with_person(move |_, url| {
            let poll = PollId::from_text(url.split_once("?id=").unwrap().1).unwrap();
            desk.refuse(&poll, time.now(), "denied", "ann said no").unwrap();
        });
    let error = client.discharge(&ticket(1).0, None).unwrap_err();
    let (code, message) = ("denied".to_owned(), "ann said no".to_owned());
    assert_eq!(error, DischargeError::Refused { authority: authority(), code, message });
}

/// TP-67: no redirect is followed and no other origin is polled, whatever the authority says.
#[test]
fn one_origin_is_never_left_for_another() {
    let elsewhere = Server::start(|request| panic!("contacted: {request:?}"));
    let bench = Bench::new();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/v1", elsewhere.url());
        let server = Server::start(move |_| HttpReply::status(status).with("Location", &location));
        let error = bench.client(&server.url()).discharge(&ticket(1).0, None).unwrap_err();
        assert_eq!(error, DischargeError::Redirect(status));
    }
    for reference in
        [elsewhere.url(), elsewhere.url().replace("http:", ""), "https://evil.example/p".to_owned()]
    {
        let body = serde_json::json!({ "poll_url": reference }).to_string();
        let server = Server::start(move |_| HttpReply::Answer(202, Vec::new(), body.clone().into_bytes()));
        let error = bench.client(&server.url()).discharge(&ticket(1).0, None).unwrap_err();
        assert!(matches!(error, DischargeError::OtherOrigin { .. }), "{error}");
    }
    assert_eq!(elsewhere.requests(), 0);
}

/// TP-60: an address in a caveat is never contacted; the error says whose discharge it would be.
#[test]
fn only_configured_authorities_are_asked() {
    let bench = Bench::new();
    let client =
        DischargeClient::new().with_time(bench.time.clone(), Waiting(bench.time.clone(), bench.pauses));
    let mut wallet = Wallet::new(token(1));
    let error = wallet.refresh(&client).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DischargeError::UnknownParty(_)));
    assert!(text.contains(&authority().to_string()) && text.contains("https://auth.example"), "{text}");
    for url in ["http://auth.example/", "ftp://auth.example/", "https://u@auth.example/"] {
        assert!(Authority::new(url).is_err(), "{url}");
    }
}

/// Without https an authority on the net is unreachable, and the error says what to do.
#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_https_says_so_at_once() {
    let bench = Bench::new();
    let error = bench.client("https://auth.example/").discharge(&ticket(1).0, None).unwrap_err();
    assert!(error.to_string().contains("feature `tls`"), "{error}");
    assert!(bench.pauses.lock().unwrap().is_empty());
}

/// TP-68: a credential goes to its own authority, with every request there, and shows nowhere.
#[test]
fn credentials_are_per_origin() {
    let bench = Bench::new();
    let (desk, time) = (desk(), bench.time.clone());
    let server = Server::start(move |request| {
        assert_eq!(request.header("authorization"), Some("Bearer secret-1"));
        answer(&desk, request, time.now())
    });
    let with = Authority::new(&server.url()).unwrap().with_credential("Bearer secret-1".to_owned());
    let client = bench.client(&server.url()).with_authority(authority(), with);
    client.discharge(&ticket(1).0, None).unwrap();
    assert!(!format!("{client:?}").contains("secret-1"));
}

/// TP-69: answers that are none, too long or of something else.
#[test]
fn bad_answers_are_refused() {
    let bench = Bench::new();
    let now = bench.time.now();
    let other = {
        let desk = desk();
        let cleared = clear(desk.open(body(2).as_bytes()).unwrap(), "ann", now).unwrap();
        desk.immediate(&cleared, Duration::from_secs(60), &[]).unwrap().body
    };
    let root = serde_json::json!({ "discharge": token(1).to_text().as_str() }).to_string();
    let endless = {
        let key = ticket(1).1.discharge_key();
        let bare = Macaroon::create(&key, &ticket(1).0, None).unwrap();
        let bare = TokenBuf::from_v2(bare.to_v2().to_vec()).unwrap();
        serde_json::json!({ "discharge": bare.to_discharge_text().as_str() }).to_string()
    };
    for reply in [
        HttpReply::ok("<html>"),
        HttpReply::ok("{}"),
        HttpReply::ok(r#"{"poll_url":"/p"}"#),
        HttpReply::ok(r#"{"discharge":"td1_AAAA"}"#),
        HttpReply::ok(other),
        HttpReply::ok(root),
        HttpReply::ok(endless),
        HttpReply::ok(vec![b' '; 33 * 1024]),
        HttpReply::Endless(b" ".repeat(1024)),
        HttpReply::ok("{}").with("Content-Encoding", "gzip"),
        HttpReply::Answer(202, Vec::new(), b"{}".to_vec()),
        HttpReply::Answer(202, Vec::new(), br#"{"poll_url":"javascript:1"}"#.to_vec()),
        HttpReply::Answer(201, Vec::new(), b"{}".to_vec()),
    ] {
        let shown: String = format!("{reply:?}").chars().take(80).collect();
        let server = Server::start(move |_| reply.clone());
        let error = bench.client(&server.url()).discharge(&ticket(1).0, None).unwrap_err();
        let expected = matches!(
            error,
            DischargeError::BadAnswer(_)
                | DischargeError::WrongDischarge(_)
                | DischargeError::Malformed(_)
                | DischargeError::Address(_)
        );
        assert!(expected, "{shown}: {error}");
        assert_eq!(server.requests(), 1);
    }
}

/// TP-70: a busy authority is asked again, more and more slowly, and not for ever.
#[test]
fn back_off_is_capped_and_so_is_patience() {
    let bench = Bench::new();
    let server = Server::start(|_| HttpReply::status(503).with("Retry-After", "86400"));
    let client = bench.client(&server.url()).with_patience(Duration::from_secs(100));
    let error = client.discharge(&ticket(1).0, None).unwrap_err();
    assert_eq!(error, DischargeError::Unreachable("status 503".to_owned()));
    assert_eq!(*bench.pauses.lock().unwrap(), [Duration::from_secs(30); 3]);

    let bench = Bench::new();
    let server = Server::start(|_| HttpReply::status(503));
    let client = bench.client(&server.url()).with_patience(Duration::from_secs(60));
    client.discharge(&ticket(1).0, None).unwrap_err();
    let pauses = bench.pauses.lock().unwrap();
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(5)), "{pauses:?}");
    assert!(pauses.iter().sum::<Duration>() <= Duration::from_secs(60));
    assert!(pauses.len() > 10, "{pauses:?}");
}

/// TP-71: the new discharge is there before the old one ends, and an authority that is away for a
/// while takes nothing from the holder that still lives.
#[test]
fn discharges_are_renewed_before_they_end() {
    let bench = Bench::new();
    let (desk, time) = (desk(), bench.time.clone());
    let away = Arc::new(AtomicBool::new(false));
    let gone = away.clone();
    let server = Server::start(move |request| {
        if gone.load(Ordering::SeqCst) {
            return HttpReply::Answer(403, Vec::new(), br#"{"error":"away","message":""}"#.to_vec());
        }
        answer(&desk, request, time.now())
    });
    let client = bench.client(&server.url());
    let mut wallet = Wallet::new(token(1));
    // Discharges live 100 seconds and are renewed with 20 left.
    let next = wallet.refresh(&client).unwrap().next.unwrap();
    assert_eq!(next, bench.time.now().saturating_add(Duration::from_secs(80)));
    bench.time.pass(Duration::from_secs(79));
    assert_eq!(wallet.refresh(&client).unwrap().fetched, 0);
    away.store(true, Ordering::SeqCst);
    bench.time.pass(Duration::from_secs(1));
    assert_eq!(wallet.refresh(&client).unwrap().fetched, 0);
    accepted(wallet.token(), &wallet.authorization(bench.time.now()).unwrap());
    away.store(false, Ordering::SeqCst);
    let old = wallet.authorization(bench.time.now()).unwrap();
    assert_eq!(wallet.refresh(&client).unwrap().fetched, 1);
    let new = wallet.authorization(bench.time.now()).unwrap();
    assert_ne!(old, new);
    bench.time.pass(Duration::from_secs(30));
    assert!(wallet.authorization(bench.time.now()).is_ok());
    bench.time.pass(Duration::from_secs(71));
    let ended = wallet.authorization(bench.time.now());
    assert!(matches!(ended, Err(Error::Discharge(DischargeFault::Missing(_)))));
    away.store(true, Ordering::SeqCst);
    assert!(matches!(wallet.refresh(&client), Err(DischargeError::Refused { .. })));
}

/// TP-72: a holder attenuates after the discharge came; it serves the new token as well.
#[test]
fn discharges_serve_the_attenuated_token() {
    let bench = Bench::new();
    let (desk, time) = (desk(), bench.time.clone());
    let server = Server::start(move |request| answer(&desk, request, time.now()));
    let client = bench.client(&server.url());
    let mut wallet = Wallet::new(token(1));
    wallet.refresh(&client).unwrap();
    wallet.set_token(tkcore::attenuate(&wallet.token().as_token(), &["action = read"]).unwrap());
    assert_eq!(wallet.refresh(&client).unwrap().fetched, 0);
    accepted(wallet.token(), &wallet.authorization(bench.time.now()).unwrap());
}
