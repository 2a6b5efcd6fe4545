//! Measures waiting long polls against the real server: memory of each, and how long until all
//! of them hear of a revocation.
//!
//! `cargo run --release -p tksign-bin --example long_polls -- [COUNT]` (default 1,000; 10,000
//! need 10,000 open files on both sides).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring tool stops at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::signer::Running;

fn main() {
    let count: usize = std::env::args().nth(1).map_or(1000, |text| text.parse().expect("a count"));
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).expect("the limit on files");
    let signer = Running::start();
    signer.must("keys create", &["--tenant", "acme"]);
    let status: serde_json::Value = serde_json::from_str(&signer.must("status", &["--json"])).unwrap();
    let (feed, position) = (status["feed"].as_str().unwrap(), status["position"].as_str().unwrap());
    let request = format!("GET /v1/feed/{feed}/wait?after={position} HTTP/1.1\r\nhost: x\r\n\r\n");
    // Warm: what is allocated once is not the polls'.
    drop(connect(&signer, &request));

    let before = resident(signer.id());
    let mut polls: Vec<_> = (0..count).map(|_| connect(&signer, &request)).collect();
    // A heartbeat answers all that wait; those ask again.
    while waiting(&signer) < count {
        polls.iter_mut().for_each(|poll| again(poll, &request));
    }
    let after = resident(signer.id());
    let each = (after - before) as f64 / count as f64;
    println!("{count} waiting long polls: {before} KiB -> {after} KiB resident, {each:.1} KiB each");

    let lineage = "000102030405060708090193a4d2f800";
    signer.must("revoke token", &[lineage]);
    // Acknowledged: from here on every poll should hear of it.
    let acknowledged = now();
    let mut slowest = Duration::ZERO;
    for poll in &mut polls {
        let mut first = [0; 12];
        poll.read_exact(&mut first).expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        slowest = slowest.max(now().saturating_sub(acknowledged));
    }
    println!("all of them answered {} ms after the revocation was acknowledged", slowest.as_millis());
}

fn connect(signer: &Running, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(signer.public()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    stream
}

/// Asks again if there is an answer.
fn again(poll: &mut TcpStream, request: &str) {
    let mut answer = [0; 8192];
    poll.set_nonblocking(true).expect("a socket");
    let read = poll.read(&mut answer);
    poll.set_nonblocking(false).expect("a socket");
    match read {
        Ok(0) => panic!("the server closed a poll"),
        Ok(_) => poll.write_all(request.as_bytes()).expect("a request"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
    }
}

fn waiting(signer: &Running) -> usize {
    let mut stream = TcpStream::connect(signer.metrics()).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("the metrics");
    let line = page.lines().find_map(|line| line.strip_prefix("tksign_long_polls_waiting "));
    line.expect("the metric").parse().expect("a number")
}

/// Resident memory in KiB.
fn resident(process: u32) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a running server");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[allow(clippy::disallowed_methods, reason = "a measuring tool measures time")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970")
}
