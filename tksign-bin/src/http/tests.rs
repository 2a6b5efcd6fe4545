//! The doors over real sockets, with an authority that answers what it was asked. Timeouts are
//! short here so that their end can be awaited; nothing is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tkcore::FeedId;
use tkcore::protocol::{ClientKey, FeedPosition, Rate};
use tkcore::revocation::{FeedPath, Span};
use tokio::sync::oneshot;

use super::{Authority, Doors, Gate, Metrics, Public, Rpc, Timeouts};
use crate::clock::monotonic;
use crate::feed_tree::FeedTree;
use crate::host::{Address, Inherited, Listener};
use crate::peer::Peer;
use crate::session::{ServerKey, Sessions};
use crate::writer::Payload;

struct Echo;

impl Authority for Echo {
    fn knows(&self, _: &ClientKey) -> bool {
        true
    }
    async fn handle(&self, _: ClientKey, _: Peer, request: &[u8]) -> Payload {
        request.to_vec().into()
    }
}

const FEED: FeedId = FeedId::from_bytes([0xff; 16]);

/// Of `delta(7)`: the first half of its SHA-256.
const ETAG: &str = "\"84d89877f0d4041efb6bf91a16f0248f\"";

fn delta(number: u64) -> FeedPath {
    FeedPath::Delta { epoch: 1, span: Span::One, number }
}

/// A head whose text is its position, a small object, and one larger than any socket's buffer.
fn tree() -> FeedTree {
    let tree = FeedTree::new(FEED);
    tree.put(&delta(7), "0123456789");
    tree.put(&delta(8), vec![b'x'; 32 << 20]);
    announce(&tree, FeedPosition { epoch: 1, sequence: 7 });
    tree
}

fn announce(tree: &FeedTree, position: FeedPosition) {
    tree.announce(position, format!("head {}.{}", position.epoch, position.sequence).into_bytes());
}

struct Server {
    rpc: SocketAddr,
    public: SocketAddr,
    tree: FeedTree,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn short() -> Timeouts {
    Timeouts {
        header: Duration::from_millis(300),
        body: Duration::from_millis(300),
        stalled: Duration::from_millis(300),
        connection: Duration::from_secs(60),
        operation: Duration::from_secs(30),
        wait: Duration::from_millis(300),
    }
}

fn server(timeouts: Timeouts, most: usize) -> Server {
    let (tell, told) = channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let tree = tree();
    let feed = tree.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let metrics = Arc::new(Metrics::default());
            let key = ServerKey::new(|| (zeroize::Zeroizing::new([3; 32]), None));
            let sessions = Arc::new(Sessions::new(key, Rate { per_second: 1000, burst: 1000 }));
            let mut doors = Doors::new(timeouts);
            let rpc = Arc::new(Rpc::new(sessions, Arc::new(Echo), timeouts, Arc::clone(&metrics)));
            let public = Arc::new(Public::new(feed, doors.stopping(), timeouts.wait, Arc::clone(&metrics)));
            let any: Address = "127.0.0.1:0".parse().unwrap();
            let mut none = Inherited::default();
            let one = Listener::bind(&any, &mut none).await.unwrap();
            let other = Listener::bind(&any, &mut none).await.unwrap();
            let at = |listener: &Listener| match listener.address() {
                Some(Address::Tcp(address)) => address,
                _ => panic!("not TCP"),
            };
            tell.send((at(&one), at(&other))).unwrap();
            doors.open(vec![one], Gate::new(most, most), &rpc, &metrics);
            doors.open(vec![other], Gate::new(most, most), &public, &metrics);
            let _ = stopped.await;
            doors.close(Duration::from_secs(30)).await;
        });
    });
    let (rpc, public) = told.recv().unwrap();
    Server { rpc, public, tree, stop: Some(stop), thread: Some(thread) }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            if !std::thread::panicking() {
                joined.unwrap();
            }
        }
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends bytes, reads to the end.
fn talk(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(to);
    stream.write_all(bytes).unwrap();
    rest(&mut stream)
}

/// What comes until the other side closes; a reset counts as closed.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn get(to: SocketAddr, path: &str, headers: &str) -> String {
    talk(to, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").as_bytes())
}

fn feed(path: &str) -> String {
    format!("/v1/feed/{FEED}/{path}")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn has(answer: &str, line: &str) -> bool {
    answer.split("\r\n\r\n").next().unwrap().lines().any(|found| found.eq_ignore_ascii_case(line))
}

#[test]
fn objects_are_served_with_their_caching() {
    let server = server(Timeouts::default(), 10);
    let head = get(server.public, &feed("head"), "");
    assert_eq!(status(&head), "200");
    assert!(head.ends_with("head 1.7") && has(&head, "cache-control: public, max-age=1"), "{head}");
    let delta = get(server.public, &feed("1/delta/7"), "");
    assert!(has(&delta, "cache-control: public, max-age=31536000, immutable"), "{delta}");
    assert!(has(&delta, &format!("etag: {ETAG}")) && delta.ends_with("0123456789"));
    let same = get(server.public, &feed("1/delta/7"), &format!("if-none-match: {ETAG}\r\n"));
    assert_eq!(status(&same), "304");
    assert!(has(&same, &format!("etag: {ETAG}")) && same.ends_with("\r\n\r\n"));
    for absent in [&feed("keys/9"), "/", "/v1/feed/", "/v1/rpc", &feed("../head"), &feed(&"x".repeat(300))] {
        let answer = get(server.public, absent, "");
        assert_eq!(status(&answer), "404", "{absent}");
        assert!(has(&answer, "cache-control: no-store"));
    }
    let posted = talk(
        server.public,
        b"POST /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(status(&posted), "405");
    assert!(has(&posted, "allow: GET, HEAD"));
}

#[test]
fn ranges_resume_a_download() {
    let server = server(Timeouts::default(), 10);
    let part = get(server.public, &feed("1/delta/7"), "range: bytes=4-\r\n");
    assert_eq!(status(&part), "206");
    assert!(has(&part, "content-range: bytes 4-9/10") && part.ends_with("\r\n\r\n456789"), "{part}");
    let past = get(server.public, &feed("1/delta/7"), "range: bytes=10-\r\n");
    assert_eq!(status(&past), "416");
    assert!(has(&past, "content-range: bytes */10"));
    let other = get(server.public, &feed("1/delta/7"), "range: bytes=4-\r\nif-range: \"other\"\r\n");
    assert_eq!(status(&other), "200");
    let same = get(server.public, &feed("1/delta/7"), &format!("range: bytes=4-\r\nif-range: {ETAG}\r\n"));
    assert_eq!(status(&same), "206");
}

#[test]
fn health_and_readiness_are_two_things() {
    let server = server(Timeouts::default(), 10);
    assert_eq!(status(&get(server.public, "/healthz", "")), "200");
    assert_eq!(status(&get(server.public, "/readyz", "")), "200");
    let later = |seconds| server.tree.not_ready(monotonic() + Duration::from_secs(seconds));
    assert_eq!((later(80), later(120).is_some()), (None, true), "three heartbeats without a head");
    server.tree.forget_beat();
    assert_eq!(status(&get(server.public, "/healthz", "")), "200");
    let answer = get(server.public, "/readyz", "");
    assert_eq!(status(&answer), "503");
    assert!(has(&answer, "retry-after: 1"));
}

#[test]
fn a_wait_answers_when_the_head_moves_or_beats() {
    let server = server(Timeouts::default(), 10);
    let differs = get(server.public, &feed("wait?after=1.6"), "");
    assert!(differs.ends_with("head 1.7") && has(&differs, "cache-control: no-store"));
    for next in [FeedPosition { epoch: 1, sequence: 8 }, FeedPosition { epoch: 1, sequence: 8 }] {
        let before = *server.tree.head().borrow();
        let receivers = server.tree.waiting();
        let (to, after) = (server.public, format!("wait?after={}.{}", before.epoch, before.sequence));
        let waiting = std::thread::spawn(move || get(to, &feed(&after), ""));
        // The wait has begun when it watches the head.
        while server.tree.waiting() == receivers {
            std::thread::yield_now();
        }
        announce(&server.tree, next);
        assert!(waiting.join().unwrap().ends_with("head 1.8"));
    }
    for wrong in ["wait", "wait?after=", "wait?after=1", "wait?after=1.x", "wait?before=1.1"] {
        assert_eq!(status(&get(server.public, &feed(wrong), "")), "400", "{wrong}");
    }
}

#[test]
fn a_wait_without_news_ends_and_a_stop_ends_it_at_once() {
    let brief = server(short(), 10);
    assert_eq!(status(&get(brief.public, &feed("wait?after=1.7"), "")), "204");
    let long = server(Timeouts { wait: Duration::from_secs(600), ..Timeouts::default() }, 10);
    let to = long.public;
    let waiting = std::thread::spawn(move || get(to, &feed("wait?after=1.7"), ""));
    while long.tree.waiting() == 0 {
        std::thread::yield_now();
    }
    drop(long);
    let told = waiting.join().unwrap();
    assert_eq!(status(&told), "503");
    assert!(told.to_ascii_lowercase().contains("\r\nretry-after: 0\r\n"), "{told}");
}

/// PR-1: slow headers, slow bodies, oversized bodies, wrong methods and paths.
#[test]
fn slow_and_oversized_requests_are_cut() {
    let server = server(short(), 10);
    for to in [server.rpc, server.public] {
        let mut slow = connect(to);
        slow.write_all(b"POST /v1/rpc HTTP/1.1\r\nhost:").unwrap();
        let cut = rest(&mut slow);
        assert!(cut.is_empty() || status(&cut) == "408", "{cut}");
        // An idle connection is closed as well.
        assert_eq!(rest(&mut connect(to)), "");
    }
    let slow_body = |length: usize| {
        let mut slow = connect(server.rpc);
        let head = format!("POST /v1/rpc HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\nxx");
        slow.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 64];
        let read = slow.read(&mut first).unwrap();
        status(&String::from_utf8_lossy(&first[..read])).to_owned()
    };
    assert_eq!(slow_body(65_560), "408");
    assert_eq!(slow_body(65_561), "413");
    let chunk = format!("{:x}\r\n{}\r\n", 70_000, "x".repeat(70_000));
    let mut stream = connect(server.rpc);
    stream.write_all(b"POST /v1/rpc HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let _ = stream.write_all(chunk.as_bytes());
    let mut first = [0; 64];
    let read = stream.read(&mut first).unwrap();
    assert_eq!(status(&String::from_utf8_lossy(&first[..read])), "413");
    let big = format!("POST /v1/rpc HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(9000));
    assert_eq!(status(&talk(server.rpc, big.as_bytes())), "431");
    assert_eq!(status(&get(server.rpc, "/v1/rpc", "")), "405");
    assert_eq!(status(&get(server.rpc, "/healthz", "")), "404");
}

/// PR-8: whatever is said to the two endpoints without keys gets one of five bodies.
#[test]
fn garbage_gets_a_constant_answer() {
    let server = server(Timeouts::default(), 10);
    let post = |path: &str, body: &[u8]| {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let answer = talk(server.rpc, &request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (status(head).to_owned(), body.as_bytes().to_vec())
    };
    let expect = |status: &str, body: &[u8]| (status.to_owned(), body.to_vec());
    assert_eq!(post("/v1/session", &[1; 97]), expect("403", &[1, 2]));
    assert_eq!(post("/v1/session", &[1; 96]), expect("400", &[1, 5]));
    assert_eq!(post("/v1/session", &[2; 97]), expect("400", &[1, 4, 1, 1]));
    assert_eq!(post("/v1/session", &[]), expect("400", &[1, 5]));
    assert_eq!(post("/v1/rpc", &[1; 100]), expect("409", &[1, 1]));
    assert_eq!(post("/v1/rpc", &[1; 40]), expect("400", &[1, 5]));
    assert_eq!(post("/v1/rpc", &[9; 100]), expect("400", &[1, 4, 1, 1]));
}

#[test]
fn a_reader_that_takes_nothing_is_cut() {
    // One connection at a time, and no end for it but the one that is tested.
    let server = server(Timeouts { connection: Duration::from_secs(3600), ..short() }, 1);
    let mut stream = connect(server.public);
    let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", feed("1/delta/8"));
    stream.write_all(request.as_bytes()).unwrap();
    // The server gives up while we read nothing: then there is room for another one.
    let began = monotonic();
    let health = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    loop {
        let mut other = connect(server.public);
        // One that is turned away may be gone before it has said anything.
        let _ = other.write_all(health);
        if rest(&mut other).starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(monotonic() - began < Duration::from_secs(60), "it is not cut");
    }
    // What had been buffered is still there, the rest is not.
    assert!(rest(&mut stream).len() < 32 << 20);
}

#[test]
fn connections_past_the_cap_are_turned_away_and_the_others_work_on() {
    let server = server(Timeouts::default(), 2);
    let mut kept = [connect(server.public), connect(server.public)];
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).unwrap();
        status(&String::from_utf8_lossy(&answer[..read])).to_owned()
    };
    for stream in &mut kept {
        assert_eq!(ask(stream), "200");
    }
    for _ in 0..20 {
        let answer = rest(&mut connect(server.public));
        assert!(answer.is_empty() || status(&answer) == "503", "{answer}");
    }
    for stream in &mut kept {
        assert_eq!(ask(stream), "200");
    }
}
